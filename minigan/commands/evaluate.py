"""`minigan evaluate RUN`: measure how good the samples of a generator are."""

from __future__ import annotations

import argparse
import functools
from typing import Any

from .. import backend
from ..console import say
from ..errors import UserError
from ..evaluation import inception_file, report, table
from ..evaluation.inception_input import RESIZES, STANDARD
from ..options import MOST_SEED
from ..training import checkpoint, evaluation, session
from ..training.evaluation import MOST, USUAL
from ..training.looks import draw_samples
from ..training.parallel import Group
from ..training.run import Run
from ..training.settings import DEVICE, LIMITED_THREADS, use_threads
from . import dataroot
from .sample import home_of, load

WIDTH, CELL = 36, 14  # of the columns in the terminal


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
    dataroot.add(parser, "where the reals are (default: the data that the run was trained on)")
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
    parser.add_argument(
        "--errors",
        action="store_true",
        help="estimate the standard error of each number too, which takes several times as long",
    )
    parser.add_argument(
        "--inception",
        metavar="PATH",
        help=f"the weights of InceptionV3, {inception_file.NAME} or the copy made from it, for fid, "
        "kid, is and others (default: without them)",
    )
    parser.add_argument(
        "--inception-resize",
        choices=RESIZES,
        help=f"how images are enlarged or shrunk for InceptionV3 (default: {STANDARD})",
    )
    parser.add_argument("--device", default="auto", help=f"{DEVICE} (default: auto)")
    parser.add_argument("--threads", type=int, help=LIMITED_THREADS)


def evaluate(given: dict[str, Any], group: Group) -> int:
    """Measure, print the metrics, and write evaluation.json. Returns the exit code."""
    evaluation.check_numbers(given["n"], given["seed"])
    names = None if given["metrics"] is None else given["metrics"].split(",")
    use_threads(given["threads"])
    device = backend.use_device(given["device"], tf32=False)
    member, game, path = load(given["run"], device)
    kind, asked, at_hand = game.data.data, bool(game.classes), given["inception"] is not None
    chosen = table.usual(kind, asked, at_hand) if names is None else names
    table.check(chosen, kind, asked, given["n"] or MOST, given["errors"], at_hand)
    home = home_of(path)
    if home is None or not checkpoint.is_named(path):
        raise UserError(
            f"{path} is not a checkpoint in a run, so its data is unknown; give one that is in its run"
        )
    run = Run(home)
    earlier = run.evaluation
    average = not given["raw"] and member.players["G"].average is not None
    inception = inception_file.load_if_given(given["inception"], given["inception_resize"], say)
    if inception is not None:
        inception.to(device)
    data = session.reals(run, game, given["dataroot"], say)
    found = evaluation.evaluate(
        game,
        data,
        functools.partial(draw_samples, member, path, not average, device),
        names,
        given["n"],
        given["seed"],
        given["errors"],
        average,
        inception,
    )
    step = checkpoint.step_of(path)
    whose = "the average of G" if average else "G itself"
    own = "" if session.is_own_data(run, data) else ", which it was not trained on"
    say(f"{path.name}: {whose} beside {len(data)} samples of {data.name}{own}")
    _print(step, found, earlier)
    run.write_evaluation(step, found)
    say(f"{run.folder / report.FILE} has the protocol of each number")
    return 0


def _print(
    step: int,
    found: dict[str, report.Entry],
    earlier: tuple[int, dict[str, report.Entry]] | None,
) -> None:
    """A line for each number, and what may not be compared with an earlier evaluation."""
    before, old = earlier or (0, {})
    titles = ("fakes", "+-", "reals", f"at step {before}" if earlier else "")
    tables, notes = [], []
    for name, entry in found.items():
        differ = report.differences(old[name], entry) if name in old else []
        if differ:
            notes.append(f"{name} cannot be compared with that of step {before}: {differ[0]}")
        comparable = old[name]["values"] if name in old and not differ else {}
        for key in entry["values"]:
            cells = (entry["values"], entry["errors"], entry["reals"], comparable)
            numbers = ("" if key not in cell else f"{cell[key]:.4g}" for cell in cells)
            tables.append((f"{name} {key}", *numbers))
    shown = [i for i, title in enumerate(titles, 1) if any(row[i] for row in tables)]
    for row in [(f"step {step}", *titles), *tables]:
        say(row[0].ljust(WIDTH) + "".join(row[i].rjust(CELL) for i in shown))
    for note in notes:
        say(note)
