"""`minigan resume RUN`: continue a run exactly where it stopped."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..training import parallel
from ..training.plan import resumed
from ..training.run import Run
from ..training.settings import RunOptions
from . import dataroot
from .train import play, prepare


def add(commands: Any) -> None:
    """Add the command. It takes a run's options and --dataroot; the game and the data stay the same."""
    about = "continue a run; only options that do not affect the weights may change"
    kept = "an option that is not given keeps the run's value, whatever default is shown here"
    parser = commands.add_parser("resume", help=about, description=f"{about}; {kept}")
    parser.add_argument(
        "where", metavar="RUN", help="a run folder, or auto for the newest in --out"
    )
    dataroot.add(parser, dataroot.MOVED, argparse.SUPPRESS)
    RunOptions.add_flags(parser)
    parser.set_defaults(command=resume)


def resume(given: dict[str, Any], group: parallel.Group) -> int:
    """Continue the run that the user names. Returns the exit code."""
    where, out = given.pop("where"), Path(given.get("out", RunOptions.out))
    run = group.from_leader(lambda: Run.find(where, out))
    if run is None:
        raise UserError(f"{out} has no run with a checkpoint; start one with minigan train")
    plan = group.from_leader(lambda: resumed(run, given))
    prepare(plan, group, given)
    return play(plan, run, None, group)
