"""`python -m minigan COMMAND`, and the console script `minigan`."""

from __future__ import annotations

import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback from the imports; see `console.run`

from typing import NoReturn

from . import console
from .commands import main


def program() -> NoReturn:
    """Run the program and exit."""
    console.run(main)


if __name__ == "__main__":
    program()
