"""CycleGAN: faces in summer become faces in winter, and back, without a pair to learn from.

    python examples/cyclegan.py                           # drawn faces, 20 minutes
    python examples/cyclegan.py --dataroot horses zebras  # your images, in two folders
    python examples/cyclegan.py --dataroot horse2zebra    # or in its subfolders trainA and trainB

At the end it draws translations.png in the run's folder: faces that are not in the data, and under each
its translation and the true one. It also prints how far the translations are from the true ones, beside
what maps of colours achieve, and whether a translation hides its original in invisible differences.
"""

from __future__ import annotations

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback from the imports; see `console.run`

from functools import partial

import numpy as np

import minigan
from minigan import console
from minigan.commands import ending
from minigan.commands.train import add_options
from minigan.console import python, say
from minigan.data import seasons
from minigan.evaluation.translation import cycle_errors, translation_errors
from minigan.options import Parser
from minigan.training.looks import COLUMNS
from minigan.training.parallel import Group
from minigan.training.pictures import save_png

HELD_OUT = 100  # faces


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=(__doc__ or "").split("\n")[0])  # python -OO drops it
    add_options(parser, "cyclegan")
    return ending.run(play, vars(parser.parse_args(argv)))


def play(given: dict, group: Group) -> int:
    if "data" not in given:
        given["data"] = "folder" if "dataroot" in given else "seasons"
    run = minigan.train("cyclegan", say=say, **given)
    if run.game.data.data == "seasons":
        compare(run)
        say(f"Look at {run.folder / 'translations.png'}")
    B = run.game.classes[1]
    command = python("-m", "minigan", "sample", run.folder, "--images", "PATH", "--class", B)
    say(f"  translate a folder into {B}:  {command}")
    return 0


def compare(run: minigan.Trained) -> None:
    """Print the errors of the translations of new faces, and draw translations.png."""
    o = run.game.data
    first = o.max_images or o.kind.count  # the faces before it are in the data
    numbers = range(first, first + HELD_OUT)
    faces = seasons.pairs(run.game.options.seed, numbers, o.image_size, o.nc)

    rows = []
    for k, x, y in ((1, faces[0], faces[1]), (0, faces[1], faces[0])):
        there, back = partial(run.translate, y=k), partial(run.translate, y=1 - k)
        found = there(x)
        say(f"to {run.game.classes[k]}:")
        say(f"  L1 to the true translation   {listed(translation_errors(found, x, y))}")
        say(f"  L1 after the way back        {listed(cycle_errors(there, back, x))}")
        rows += [x[:COLUMNS], found[:COLUMNS], y[:COLUMNS]]
    save_png(run.folder / "translations.png", o.picture(np.concatenate(rows)))


def listed(errors: dict[str, float]) -> str:
    return ", ".join(f"{name} {error:.3f}" for name, error in errors.items())


if __name__ == "__main__":
    console.run(main)
