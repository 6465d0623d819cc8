"""Progressive growing: images that grow from 4 x 4 pixels, and networks that grow with them.

    python examples/progressive.py                              # drawn faces, 20 minutes at most
    python examples/progressive.py --dataroot CelebA.zip        # the paper's schedule; needs a GPU
    python examples/progressive.py --phase-images 100           # what if it grows too fast?

At the end it prints the distance at each size. The run's film, progress.gif, shows the same noise all
the time, so one sees faces come into focus: Karras et al. 2018, figure 1.
"""

from __future__ import annotations

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback from the imports; see `console.run`

from itertools import groupby
from statistics import median

import minigan
from minigan import console
from minigan.commands import ending
from minigan.commands.train import add_options
from minigan.console import say
from minigan.options import Parser
from minigan.training.parallel import Group
from minigan.training.run import Run


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=(__doc__ or "").split("\n")[0])  # python -OO drops it
    add_options(parser, "progressive")
    return ending.run(play, vars(parser.parse_args(argv)))


def play(given: dict, group: Group) -> int:
    if "data" not in given:
        given["data"] = "celeba" if "dataroot" in given else "faces"
    run = minigan.train("progressive", say=say, **given)

    rows = Run(run.folder).metrics(say)
    for level, steps in groupby(rows, lambda row: row["level"]):
        if level == int(level):
            distance = median(step["distance"] for step in steps)
            say(f"{4 << int(level)} x {4 << int(level)} pixels: distance {distance:.2f}")
    say(f"Look at {run.folder / 'samples'} and {run.folder / 'progress.gif'}")
    return 0


if __name__ == "__main__":
    console.run(main)
