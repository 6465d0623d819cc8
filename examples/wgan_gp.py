"""WGAN-GP on digits: its loss means something, because it falls as the samples improve.

    python examples/wgan_gp.py                          # drawn digits, minutes
    python examples/wgan_gp.py --dataroot MNIST/raw     # MNIST; also found in data/mnist
    python examples/wgan_gp.py --penalty 0              # what happens without the penalty?

At the end it prints the distance of each epoch, an estimate of how far G's samples are from the data.
Compare it with the pictures in the run's folder samples/: Gulrajani et al. 2017, figure 5.
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
from minigan.data.kinds import usual_place
from minigan.options import Parser
from minigan.training.parallel import Group
from minigan.training.run import Run


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=(__doc__ or "").split("\n")[0])  # python -OO drops it
    add_options(parser, "wgan-gp")
    return ending.run(play, vars(parser.parse_args(argv)))


def play(given: dict, group: Group) -> int:
    if "data" not in given:
        given["data"] = "mnist" if "dataroot" in given or usual_place("mnist") else "digits"
    run = minigan.train("wgan-gp", say=say, **given)

    rows = Run(run.folder).metrics(say)
    for epoch, steps in groupby(rows, lambda row: row["epoch"]):
        say(f"epoch {epoch + 1}: distance {median(step['distance'] for step in steps):.2f}")
    say(f"Look at {run.folder / 'samples'} and {run.folder / 'losses.png'}")
    return 0


if __name__ == "__main__":
    console.run(main)
