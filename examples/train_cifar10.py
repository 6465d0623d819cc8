"""Train the DCGAN on CIFAR-10 if it is there, else on coloured shapes that the program draws.

    python examples/train_cifar10.py                                      # drawn shapes, minutes
    python examples/train_cifar10.py --dataroot cifar-10-binary.tar.gz    # also found in data/
    python examples/train_cifar10.py --network sngan --loss hinge         # another game, see --help

Photographs of ten classes of objects are much harder than faces or digits. After some epochs the
samples have the colours and outlines of animals and vehicles, but do not expect to recognise many of
them.
"""

from __future__ import annotations

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback from the imports; see `console.run`

from minigan import console
from minigan.commands import ending
from minigan.commands.train import add_flags, train
from minigan.console import say
from minigan.data.kinds import usual_place
from minigan.options import Parser


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=(__doc__ or "").split("\n")[0])  # python -OO drops it
    add_flags(parser, "dcgan")
    given = vars(parser.parse_args(argv))

    if "data" not in given:
        given["data"] = "cifar10" if "dataroot" in given or usual_place("cifar10") else "shapes"
        if given["data"] == "shapes":
            say("CIFAR-10 is not in data/: training on shapes that the program draws itself.")
    return ending.run(train, {"member": "dcgan", **given})


if __name__ == "__main__":
    console.run(main)
