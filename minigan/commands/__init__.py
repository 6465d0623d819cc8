"""The program `minigan COMMAND`, or `python -m minigan COMMAND`. Each command has a file."""

from __future__ import annotations

from collections.abc import Sequence

from ..options import Parser
from . import doctor, evaluate, export, learn, resume, sample, train
from .ending import run


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command in `argv`, by default the program's arguments. Returns the exit code."""
    parser = Parser(prog="minigan", description="Train GANs and look at them.")
    commands = parser.add_subparsers(required=True, metavar="command")
    for command in (train, resume, sample, evaluate, export, learn, doctor):
        command.add(commands)
    given = vars(parser.parse_args(argv))
    return run(given.pop("command"), given)
