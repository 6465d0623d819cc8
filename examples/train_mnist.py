"""Train a DCGAN or fully connected networks on MNIST if it is there, else on drawn digits.

    python examples/train_mnist.py                        # drawn digits, minutes
    python examples/train_mnist.py --dataroot MNIST/raw   # MNIST; also found in data/mnist
    python examples/train_mnist.py --network mlp          # networks without convolutions
    python examples/train_mnist.py --data fashion-mnist   # clothes

With --network mlp, each pixel is learnt by itself, and the digits have specks around them. Convolutions
share what they learn between all positions, so the DCGAN draws smooth strokes.
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

# The recipe for digits suits convolutions. Linear layers can be wider, because they cost less.
MLP = {"ngf": 128, "ndf": 128, "lr": 2e-4, "epochs": 20}


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=(__doc__ or "").split("\n")[0])  # python -OO drops it
    add_flags(parser, "dcgan")
    given = vars(parser.parse_args(argv))

    if "data" not in given:
        given["data"] = "mnist" if "dataroot" in given or usual_place("mnist") else "digits"
        if given["data"] == "digits":
            say("MNIST is not in data/mnist: training on digits that the program draws itself.")
    if given.get("network") == "mlp":
        given = {**MLP, **given}
    return ending.run(train, {"member": "dcgan", **given})


if __name__ == "__main__":
    console.run(main)
