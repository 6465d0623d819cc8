"""From a plan to a new or resumed run that trains, and from a run to its trained member.

The commands and `minigan.train` call these functions in this order: `check_machine`, `open_for`,
`expect`, `start` for a new run, `train`.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from .. import backend
from ..backend.threads import tell_blas_trouble
from ..data import Dataset
from ..data.opening import Root, open_data
from ..errors import UserError
from ..gans import MEMBERS
from ..gans.base import GAN
from ..version import __version__
from . import checkpoint, scoring, state
from .draw import Draw, check_batch
from .estimate import Estimate, check_memory, estimate, in_time
from .game import Game
from .loop import Loop
from .parallel import ALONE, Group
from .plan import Plan, resumed
from .run import Run, write_config
from .settings import check_folder, use_threads

Say = Callable[[str], None]


def build(plan: Plan, data: Dataset, device: str, group: Group = ALONE) -> tuple[GAN, Draw]:
    """The member of a plan, with its first weights, and its Draw."""
    o = plan.options
    draw = Draw(data, o.batch_size, o.nz, o.seed, o.noise, plan.data.flip, device, group)
    return plan.game.build(device, group), draw


def check_machine(plan: Plan, group: Group) -> None:
    """Raise UserError if the device, the threads or the folder in a plan cannot be used."""
    group.device(plan.run.device_name)
    use_threads(plan.run.threads)
    check_folder("--out", Path(plan.run.out))


def open_for(plan: Plan, group: Group, say: Say, progress: bool = True) -> tuple[Plan, Dataset]:
    """Open the data of a plan; the leader decodes it. `say` is told what was left out.

    Returns the plan, with the classes of the data if its member is conditional, and the data. Raises
    UserError if the data cannot be used.
    """
    seed, run = plan.options.seed, plan.run
    data = group.leader_first(
        lambda: open_data(plan.data, plan.dataroot, seed, Path(run.out), run.workers, progress)
    )
    plan = plan.on(data)
    translates = MEMBERS[plan.member].translates
    check_batch(data, plan.options.batch_size, each_class=translates)  # before a run exists
    if run.evaluate_every:
        scoring.check(plan.game, data)
    for note in data.notes:
        say(note)
    return plan, data


def start(plan: Plan, data: Dataset, name: str | None, group: Group = ALONE) -> Run:
    """Make a new run folder with its config.json."""
    config = {
        **plan.table(),
        "device": backend.resolve_device(plan.run.device_name),
        "versions": {
            "minigan": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "pillow": PIL.__version__,
        },
        "identity": data.identity,
    }
    name = name or f"{plan.member}-{data.name}"
    return group.from_leader(lambda: Run.create(Path(plan.run.out), name, config))


def reopen(run: Run, dataroot: Root, say: Say) -> Dataset:
    """Open the data with which a run was started. Raises UserError if it is no longer the same.

    dataroot  where the files are now; None if they have not moved
    """
    given = {} if dataroot is None else {"dataroot": dataroot}
    _, data = open_for(resumed(run, given), ALONE, say)
    _check_same_data(run, data)
    return data


def reals(run: Run, game: Game, dataroot: Root, say: Say) -> Dataset:
    """The data to compare a run's generator with.

    game      that of the generator
    dataroot  where other data of the same kind is, such as a test set; None for the run's own data

    Raises UserError if config.json describes another generator.
    """
    plan = resumed(run, {} if dataroot is None else {"dataroot": dataroot})
    if plan.game != game:
        raise UserError(
            f"{run.folder / 'config.json'} describes another generator than the run's checkpoint; "
            "restore it, or evaluate another run"
        )
    if dataroot is None:
        return reopen(run, None, say)
    seed, options = plan.options.seed, plan.run
    data = open_data(plan.data, plan.dataroot, seed, Path(options.out), options.workers)
    plan.on(data)  # raises UserError if its classes are others
    for note in data.notes:
        say(note)
    return data


def expect(plan: Plan, data: Dataset, say: Say, group: Group = ALONE) -> Estimate:
    """Choose the device, and estimate the time and memory of a step.

    Raises UserError if there is not enough memory.
    """
    device = group.use_device(plan.run.device_name, plan.run.tf32)
    use_threads(plan.run.threads)
    if device == "cpu":
        tell_blas_trouble(say)  # before the first kernel would warn about it
    # Checked before anything is built: weights, their gradients, and at least one moment of each.
    check_memory(3 * sum(weight.data.nbytes for weight in plan.game.outline().values()), device)
    expected = estimate(plan, data, device, group.size)
    check_memory(expected.bytes, device)
    return expected


def train(
    plan: Plan,
    data: Dataset,
    run: Run,
    new: bool,
    expected: Estimate,
    say: Say,
    group: Group = ALONE,
) -> tuple[Loop, int]:
    """Train in this run until the plan's last step or a signal. Returns the loop and the exit code.

    new       whether `start` has just made the run; otherwise it resumes from its newest checkpoint
    expected  the result of `expect`, which must be called first
    """
    device = group.device(plan.run.device_name)
    with ExitStack() as held:
        group.from_leader(lambda: held.enter_context(run.in_use()))
        if not new:
            group.from_leader(lambda: _check_same_data(run, data))
        member, draw = build(plan, data, device, group)
        loop = Loop(plan, member, data, draw, run, say, group)
        if not new:
            loop.load_newest()
            if draw.step >= loop.total:
                loop.finish()
                more = " and ".join(loop.limits())
                say(
                    f"{run.folder} is at step {draw.step} of {loop.total}: raise {more} to continue."
                )
                return loop, 0
        if group.leader:
            _note_start(plan, data, run, new, group)
        times = f"{group.size} x " if group.size > 1 else ""
        left = in_time(expected.seconds * member.workload(draw.step, loop.total))
        say(f"{run.folder}: step {draw.step} of {loop.total} on {times}{device}")
        say(f"  About {left}: {expected}.")
        fall = plan.options.lr_decay
        if fall and (last := plan.options.lr_decay_start + fall) < loop.total:
            say(f"  --lr-decay {fall}: nothing is learnt in the steps after {last}.")
        if member.complete > loop.total:
            more = " and ".join(loop.limits())
            say(f"  The schedule of {plan.member} takes {member.complete} steps; raise {more}.")
        return loop, loop.train()


def _note_start(plan: Plan, data: Dataset, run: Run, new: bool, group: Group) -> None:
    """Record in the run's files that it was started or resumed."""
    if new:
        run.event("start", samples=len(data))
    else:
        write_config(run.folder, {**run.config, **plan.table()})
    if data.skipped:
        run.write_skipped(data.skipped)
        run.event("skipped files", count=len(data.skipped), listing="skipped.txt")
    if group.size > 1:
        run.event("data parallel", processes=group.size)


def is_own_data(run: Run, data: Dataset) -> bool:
    """Whether this is the data that the run was started with."""
    return data.identity["fingerprint"] == _identity(run).get("fingerprint")


def _identity(run: Run) -> dict[str, Any]:
    """What config.json records about the data."""
    identity = run.config.get("identity")
    return identity if isinstance(identity, dict) else {}


def _check_same_data(run: Run, data: Dataset) -> None:
    """Raise UserError unless this is the data that the run was started with."""
    if not is_own_data(run, data):
        count = str(_identity(run).get("count", "samples"))[:20]
        raise UserError(
            f"these {len(data)} samples are not the {count} with which {run.folder} was started; "
            "give their --dataroot, or start a new run"
        )


def check_size(plan: Plan, run: Run) -> None:
    """Raise CheckpointError unless a checkpoint of the run has weights of the shapes in the plan.

    Call this before the data is opened or networks are built, so that a false size in config.json is
    refused before anything of that size is allocated. It reads only the headers of checkpoints.
    """
    game, outline = plan.game, plan.game.outline()
    fits = lambda path: state.check(path, game, outline)
    checkpoint.newest(run.checkpoints, "resume", fits, lambda text: None)


def load(where: Path, say: Say) -> tuple[GAN, Game, Path]:
    """A member with the weights of a checkpoint, its game, and the checkpoint's path.

    where  a checkpoint, or a run, whose newest readable checkpoint is used

    A checkpoint describes its game completely, so it need not be in a run. Raises UserError if there is
    no checkpoint that can be used.
    """
    if where.is_file():
        return *_load_checkpoint(where), where
    run = Run(where)
    path, (member, game), _ = checkpoint.newest(run.checkpoints, "sample", _load_checkpoint, say)
    return member, game, path


def _load_checkpoint(path: Path) -> tuple[GAN, Game]:
    """The member of one checkpoint, and its game. Raises CheckpointError."""
    game = state.game_of(path)
    state.check(path, game, game.outline())
    member = game.build()
    tree = state.tree_of(member, dict(Draw.START))
    state.restore(state.read(path, tree, game), tree)
    return member, game
