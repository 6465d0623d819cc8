"""`minigan evaluate RUN`: measure how good the samples of a generator are."""

from __future__ import annotations

import argparse
import functools
from typing import Any

from .. import backend
from ..console import say
from ..data import Dataset
from ..errors import UserError
from ..evaluation import report, table
from ..options import MOST_SEED, short
from ..training import checkpoint, evaluation, session
from ..training.evaluation import MOST, USUAL
from ..training.looks import draw_samples
from ..training.parallel import ALONE, Group
from ..training.plan import resumed
from ..training.run import Run
from ..training.settings import DEVICE, LIMITED_THREADS, use_threads
from .sample import home_of, load

WIDTHS = (28, 12, 12)  # of the columns: metric, fakes, reals; then those of an earlier evaluation


def add(commands: Any) -> None:
    """Add the command."""
    about = "measure the samples of a run's generator against its data"
    parser = commands.add_parser("evaluate", help=about, description=about)
    parser.add_argument(
        "run",
        metavar="RUN",
        help="a run folder, one of its checkpoints, or auto: the newest in runs/",
    )
    add_flags(parser)
    parser.set_defaults(command=evaluate)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add all flags except the run."""
    parser.add_argument(
        "--metrics",
        metavar="A,B",
        help=f"the metrics to compute, of {', '.join(table.METRICS)} (default: all that make sense "
        "for the data)",
    )
    parser.add_argument(
        "--n",
        type=int,
        help=f"number of fakes, and of reals in each of two sets, 1 to {MOST} (default: {USUAL}, or "
        "half the data)",
    )
    parser.add_argument(
        "--dataroot",
        metavar="PATH",
        help="where the reals are (default: the data that the run was trained on)",
    )
    parser.add_argument(
        "--raw",
        action="store_true",
        help="measure G itself instead of the average of its weights",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help=f"seed of the noise and of the choice of reals, 0 to {MOST_SEED} (default: 0)",
    )
    parser.add_argument("--device", default="auto", help=f"{DEVICE} (default: auto)")
    parser.add_argument("--threads", type=int, help=LIMITED_THREADS)


def evaluate(given: dict[str, Any], group: Group) -> int:
    """Measure, print the metrics, and write evaluation.json. Returns the exit code."""
    names = _checked(given)
    use_threads(given["threads"])
    device = backend.use_device(given["device"], tf32=False)
    member, game, path = load(given["run"])
    if names is not None:
        table.check(names, game.data.data, bool(game.classes), given["n"] or MOST)
    home = home_of(path)
    if home is None or not checkpoint.is_named(path):
        raise UserError(
            f"{path} is not a checkpoint in a run, so its data is unknown; give one that is in its run"
        )
    run = Run(home)
    earlier = run.evaluation
    player = member.players["G"]
    for net in filter(None, (player.net, player.average)):
        net.to(device)
    average = not given["raw"] and player.average is not None
    data = _data(run, given["dataroot"])
    found = evaluation.evaluate(
        game,
        data,
        functools.partial(draw_samples, member, path, not average, device),
        names,
        given["n"],
        given["seed"],
        {"average": average},
    )
    step = checkpoint.step_of(path)
    whose = "the average of G" if average else "G itself"
    own = "" if session.is_own_data(run, data) else ", which it was not trained on"
    say(f"{path.name}: {whose} beside {len(data)} samples of {data.name}{own}")
    _print(step, found, earlier)
    run.write_evaluation(step, found)
    say(f"{run.folder / report.FILE} has the protocol of each number")
    return 0


def _checked(given: dict[str, Any]) -> list[str] | None:
    """The names in --metrics, after a check of the numbers. Raises UserError."""
    if given["n"] is not None and not 1 <= given["n"] <= MOST:
        raise UserError(f"--n {given['n']}: must be from 1 to {MOST}")
    if not 0 <= given["seed"] <= MOST_SEED:
        raise UserError(f"--seed {given['seed']}: must be from 0 to {MOST_SEED}")
    return None if given["metrics"] is None else given["metrics"].split(",")


def _data(run: Run, dataroot: str | None) -> Dataset:
    """The reals: the run's own data, or other data that the user names."""
    if dataroot is None:
        return session.reopen(run, None, say)
    _, data = session.open_for(resumed(run, {"dataroot": dataroot}), ALONE, say)
    return data


def _print(
    step: int,
    found: dict[str, report.Entry],
    earlier: tuple[int, dict[str, report.Entry]] | None,
) -> None:
    """A line for each number, and what may not be compared with an earlier evaluation."""
    before, old = earlier if earlier else (0, {})
    notes = []
    _row(f"step {step}", "fakes", "reals", f"at step {before}" if earlier else "")
    for name, entry in found.items():
        differ = report.differences(old[name], entry) if name in old else []
        if differ:
            notes.append(f"{name} cannot be compared with that of step {before}: {differ[0]}")
        comparable = old[name]["values"] if name in old and not differ else {}
        for key, value in entry["values"].items():
            cells = (value, entry["reals"][key], comparable.get(key))
            _row(f"{name} {key}", *("" if each is None else f"{each:.4g}" for each in cells))
    for note in notes:
        say(short(note) if len(note) > 400 else note)


def _row(name: str, *cells: str) -> None:
    line = name.ljust(WIDTHS[0]) + "".join(cell.rjust(14) for cell in cells)
    say(line.rstrip())
