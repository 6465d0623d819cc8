"""`minigan train MEMBER`: start a run."""

from __future__ import annotations

import argparse
import errno
import json
import sys
from importlib.util import find_spec
from typing import Any

from ..backend import gpu_trouble
from ..console import INTERRUPTED, STDERR, plain, python, say
from ..data.opening import DataOptions
from ..errors import UserError
from ..gans import MEMBERS
from ..options import flag
from ..training import parallel, session
from ..training.checkpoint import newest_first
from ..training.loop import Loop
from ..training.plan import Plan, choose
from ..training.recipes import recipe
from ..training.run import Run
from ..training.settings import RunOptions, check_name
from . import dataroot

NO_DATA = """\
No --dataroot and no data/img_align_celeba.zip: training on faces that the program draws itself.
  To get CelebA: download img_align_celeba.zip from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html
  To train on it: put it in the folder data/, or give --dataroot path/to/img_align_celeba.zip"""


def add(commands: Any) -> None:
    """Add the command, with a subcommand for each member that shows only that member's options."""
    about = "train a member of the family"
    parser = commands.add_parser("train", help=about, description=about)
    members = parser.add_subparsers(required=True, metavar="member")
    for name, member in MEMBERS.items():
        about = (member.__doc__ or name).splitlines()[0]  # python -OO drops docstrings
        one = members.add_parser(name, help=about, description=about)
        add_flags(one, name)
        one.set_defaults(command=train, member=name)


def add_flags(parser: argparse.ArgumentParser, member: str) -> None:
    """Add all flags for starting a run of this member."""
    add_options(parser, member)
    parser.add_argument(
        "--name",
        help="name of the run's folder, after its number (default: the member and the data)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the options as JSON, and stop"
    )


def add_options(parser: argparse.ArgumentParser, member: str) -> None:
    """Add the flags of the options that `minigan.train` takes for this member."""
    MEMBERS[member].Options.add_flags(parser.add_argument_group("the game"))
    data, run = parser.add_argument_group("the data"), parser.add_argument_group("the run")
    DataOptions.add_flags(data)
    dataroot.add(data, dataroot.KINDS, argparse.SUPPRESS, several=True)
    RunOptions.add_flags(run)


def train(given: dict[str, Any], group: parallel.Group) -> int:
    """Start a run with the given options. Returns the exit code."""
    member, name, dry_run = (given.pop(key) for key in ("member", "name", "dry_run"))
    plan = group.from_leader(lambda: choose(member, given))
    check_name(name)
    if dry_run:
        return show(plan)
    prepare(plan, group, given)
    explain(plan, given)
    return play(plan, None, name, group)


def show(plan: Plan) -> int:
    """Print the options as JSON. Returns the exit code; raises UserError if they cannot be printed."""
    session.check_machine(plan, parallel.ALONE)
    try:
        if sys.stdout is None:
            raise OSError(errno.EBADF, "it is closed")
        print(json.dumps(plan.table(), indent=2), flush=True)
    except OSError as error:
        why = error.strerror or error
        raise UserError(
            f"--dry-run: the options cannot be printed to stdout ({why}); redirect it to a file"
        ) from error
    return 0


def prepare(plan: Plan, group: parallel.Group, given: dict[str, Any]) -> None:
    """Start the other processes. Raises UserError if this machine cannot carry out the plan."""
    parallel.arrange(group, plan.run.ngpu, given.get("ngpu"))
    plan.check_processes(group.size)
    session.check_machine(plan, group)
    on_cpu = group.device(plan.run.device_name) == "cpu"
    if on_cpu and plan.run.device_name == "auto" and find_spec("cupy"):
        say(f"Training on the CPU although CuPy is installed: {gpu_trouble(0)}.")


def explain(plan: Plan, given: dict[str, Any]) -> None:
    """Say on stderr which data is used if the user named none, and which options the recipe sets."""
    if plan.data.data == "faces" and "data" not in given:
        for line in NO_DATA.splitlines():
            say(line, STDERR)
    if chosen := {k: v for k, v in recipe(plan.member, plan.data.data).items() if k not in given}:
        words = " ".join(f"{flag(name)} {value}" for name, value in chosen.items())
        say(f"  The recipe for {plan.member} on {plan.data.data} sets {words}.", STDERR)


def play(plan: Plan, run: Run | None, name: str | None, group: parallel.Group) -> int:
    """Train a plan in `run`, or in a new run if that is None. Say where to look and how to resume.

    Returns the exit code.
    """
    if run:  # before memory of the plan's sizes is allocated
        group.from_leader(lambda: session.check_size(plan, run))
    plan, data = session.open_for(plan, group, say)
    expected = session.expect(plan, data, say, group)  # if it fails, no run is made
    new = run is None
    run = run or session.start(plan, data, name, group)
    try:
        loop, code = session.train(plan, data, run, new, expected, say, group)
    except KeyboardInterrupt:
        if not newest_first(run.checkpoints):
            raise
        text = f"interrupted; to resume from its checkpoint: {_resume_command(run)}"
        return group.fail(plain(text), INTERRUPTED)
    if loop.metrics:  # otherwise the run was complete, and `session.train` has said so
        _tell_end(loop, run, code)
    loop.note_lost_output()
    return code


def _tell_end(loop: Loop, run: Run, code: int) -> None:
    """Say where to look and how to resume."""
    say(f"{'Interrupted' if code else 'Done'}: look at {run.samples}")
    say(f"  sample from it:    {python('-m', 'minigan', 'sample', run.folder)}")
    if code:
        say(f"  resume it:         {_resume_command(run)}")
    else:
        longer = [word for flag, n in loop.limits().items() for word in (flag, 2 * n)]
        say(f"  train for longer:  {_resume_command(run, *longer)}")


def _resume_command(run: Run, *words: object) -> str:
    """The command that resumes a run, as the user would type it."""
    return python("-m", "minigan", "resume", run.folder, *words)
