"""StyleGAN, simplified: a face is drawn by styles, which can be mixed and truncated.

    python examples/stylegan_simple.py                            # drawn faces, 20 minutes at most
    python examples/stylegan_simple.py --dataroot CelebA.zip      # the paper's widths; needs a GPU
    python examples/stylegan_simple.py --style modulate           # the layers of StyleGAN2

At the end it draws what the styles do, in the run's folder generated/: mixing.png has the coarse styles
of its first column and the fine ones of its first row (Karras et al. 2019, figure 3). truncation.png
pulls faces to the mean face (figure 8), and noise.png changes the noise alone (figure 4).
"""

from __future__ import annotations

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback from the imports; see `console.run`

import minigan
from minigan import commands, console
from minigan.commands import ending
from minigan.commands.train import add_options
from minigan.console import say
from minigan.options import Parser
from minigan.training.parallel import Group


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=(__doc__ or "").split("\n")[0])  # python -OO drops it
    add_options(parser, "stylegan")
    return ending.run(play, vars(parser.parse_args(argv)))


def play(given: dict, group: Group) -> int:
    if "data" not in given:
        given["data"] = "celeba" if "dataroot" in given else "faces"
    run = minigan.train("stylegan", say=say, **given)
    return commands.main(["sample", str(run.folder)])


if __name__ == "__main__":
    console.run(main)
