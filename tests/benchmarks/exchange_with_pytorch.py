"""Exchange weights with PyTorch through safetensors files, and run the DCGAN tutorial in PyTorch.

    python tests/benchmarks/exchange_with_pytorch.py

Prints one line for each of: the file that minigan writes and PyTorch reads, with the same outputs; the
file that PyTorch writes and minigan reads; the frozen file of `tests/test_nn.py`, written anew; a
bfloat16 state dict; `tests/dcgan_tutorial.py` with PyTorch's own imports. Fails with an AssertionError.

Needs PyTorch, which minigan does not. Without it the script says so and exits with 0.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
import tempfile
from pathlib import Path

import numpy as np
import safetensors.numpy

try:
    import safetensors.torch
    import torch
except ImportError:
    print("exchange_with_pytorch: PyTorch is not installed, so there is nothing to exchange with")
    sys.exit(0)

import minigan
import minigan.models.dcgan

TESTS = Path(__file__).parents[1]


def network(library):
    """The same network in minigan or PyTorch, made by the same calls."""
    nn = library.nn
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1, 1, 1, False),
        nn.BatchNorm2d(8),
        nn.LeakyReLU(0.2, inplace=True),
        nn.ConvTranspose2d(8, 4, 4, 2, 1, 0, 1, True, 1),
        nn.ReLU(True),
        nn.Flatten(),
        nn.Linear(4 * 8 * 8, 5),
    )


def same_outputs(ours, theirs) -> None:
    """In evaluation mode both give the same outputs, except for float32 rounding."""
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype("f")
    ours, theirs = ours.eval(), theirs.eval()
    expected = theirs(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(ours(minigan.tensor(x)).numpy(), expected, rtol=1e-4, atol=1e-5)


def to_pytorch(path: Path) -> None:
    ours, theirs = network(minigan), network(torch)
    ours(minigan.tensor(np.random.default_rng(1).standard_normal((4, 3, 8, 8)).astype("f")))
    safetensors.numpy.save_file(ours.state_dict_numpy(), path)
    theirs.load_state_dict(safetensors.torch.load_file(path))
    same_outputs(ours, theirs)


def from_pytorch(path: Path) -> None:
    ours, theirs = network(minigan), network(torch)
    theirs(torch.randn(4, 3, 8, 8))
    safetensors.torch.save_file(theirs.state_dict(), path)
    ours.load_state_dict(safetensors.numpy.load_file(path))
    same_outputs(ours, theirs)
    ours = network(minigan)
    ours.load_state_dict(theirs.state_dict())  # without a file
    same_outputs(ours, theirs)


def frozen() -> None:
    conv = torch.nn.Conv2d(2, 3, (1, 2))
    numbers = torch.arange(15.0)
    conv.load_state_dict({"weight": numbers[:12].reshape(3, 2, 1, 2), "bias": numbers[12:]})
    text = (TESTS / "test_nn.py").read_text(encoding="utf-8")
    found = eval(re.search(r"^OF_PYTORCH = (\(.*?^\))", text, re.M | re.S)[1])
    assert safetensors.torch.save(conv.state_dict()) == found


def bfloat16() -> None:
    theirs = network(torch)
    state = {name: t.bfloat16() for name, t in theirs.state_dict().items()}
    theirs.load_state_dict(state)  # rounded
    ours = network(minigan)
    said = ""
    try:
        ours.load_state_dict(state)
    except TypeError as error:
        said = str(error)
    assert ".float()" in said, "a bfloat16 state dict was accepted, or refused without a remedy"
    ours.load_state_dict({name: t.float() for name, t in state.items()})
    same_outputs(ours, theirs)


def tutorial() -> None:
    script = (TESTS / "dcgan_tutorial.py").read_text(encoding="utf-8")
    script, count = re.subn(r"^# PyTorch: (import .*)\n.*$", r"\1", script, flags=re.M)
    assert count == 3
    assert "import minigan" not in script
    names: dict = {"__name__": "tutorial"}
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(compile(script, "dcgan_tutorial.py", "exec"), names)
    assert said.getvalue().count("Loss_D: ") == 2
    assert np.isfinite(names["D_losses"] + names["G_losses"]).all()
    G = minigan.models.dcgan.Generator(8, 4)
    G.load_state_dict(names["netG"].state_dict())  # trained in PyTorch, used here
    noise = names["fixed_noise"]
    found = G.eval()(minigan.tensor(noise.numpy())).numpy()
    np.testing.assert_allclose(found, names["netG"].eval()(noise).detach().numpy(), atol=1e-4)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.safetensors"
        to_pytorch(path)
        print("minigan -> safetensors -> PyTorch: the same outputs")
        from_pytorch(path)
        print("PyTorch -> safetensors -> minigan: the same outputs")
    frozen()
    print("the frozen file of tests/test_nn.py: the same bytes")
    bfloat16()
    print("a bfloat16 state dict: refused, but accepted after .float()")
    tutorial()
    print("tests/dcgan_tutorial.py: runs in PyTorch, and its G in minigan")


if __name__ == "__main__":
    main()
