"""A conditional GAN on digits: it draws the digit that you ask for.

    python examples/conditional_gan.py                          # drawn digits, minutes
    python examples/conditional_gan.py --class 7                # and a page of sevens
    python examples/conditional_gan.py --dataroot MNIST/raw     # MNIST; also found in data/mnist

At the end it draws classes.png in the run's folder. Each column shows one digit.
"""

from __future__ import annotations

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback from the imports; see `console.run`

import minigan
from minigan import console
from minigan.commands import ending
from minigan.commands.train import add_options
from minigan.console import python, say
from minigan.data.kinds import usual_place
from minigan.options import Parser
from minigan.training.parallel import Group
from minigan.training.pictures import save_png


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=(__doc__ or "").split("\n")[0])  # python -OO drops it
    add_options(parser, "conditional")
    parser.add_argument(
        "--class", type=int, choices=range(10), help="also draw a page of this class"
    )
    return ending.run(play, vars(parser.parse_args(argv)))


def play(given: dict, group: Group) -> int:
    digit = given.pop("class")
    if "data" not in given:
        given["data"] = "mnist" if "dataroot" in given or usual_place("mnist") else "digits"
    run = minigan.train("conditional", say=say, **given)

    draw = run.game.data.picture
    columns = len(run.game.classes)
    save_png(run.folder / "classes.png", draw(run.sample(8 * columns), columns))  # classes in turn
    if digit is not None:
        save_png(run.folder / f"class-{digit}.png", draw(run.sample(64, y=digit)))
    say(f"Look at {run.folder / 'classes.png'}")
    say(f"  draw sevens:  {python('-m', 'minigan', 'sample', run.folder, '--class', 7)}")
    return 0


if __name__ == "__main__":
    console.run(main)
