"""Draw images with a trained generator: a grid, single images, and walks between noise vectors.

    python examples/generate.py --run runs/00000-dcgan-faces64 --n 64 --seed 0

They are saved in the run's folder generated/, where they replace those of the last call. With --out
they are saved there instead, and nothing is deleted.
"""

from __future__ import annotations

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback from the imports; see `console.run`

from minigan import console
from minigan.commands import ending
from minigan.commands.sample import add_flags, sample
from minigan.options import Parser


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=(__doc__ or "").split("\n")[0])  # python -OO drops it
    parser.add_argument(
        "--run",
        required=True,
        help="a run folder, one of its checkpoints, or auto: the newest in runs/ (no default)",
    )
    add_flags(parser)
    return ending.run(sample, vars(parser.parse_args(argv)))


if __name__ == "__main__":
    console.run(main)
