"""Compare InceptionV3 with PyTorch's at its full size, with random weights: files, numbers and speed.

    python tests/benchmarks/inception.py [--images 8] [--repeats 5]

Prints the sizes of the files that PyTorch writes in both forms, and how long reading them takes; for
each block the largest deviation from PyTorch in float64, as a share of the largest number, of ours and
of PyTorch's own float32; the same for the features of the whole way from bytes; and images per second.
Fails with an AssertionError if a file is not read exactly, or a deviation exceeds 1e-4.

Needs PyTorch, which minigan does not. Without it the script says so and exits with 0.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np

try:
    import torch
except ImportError:
    print("inception: PyTorch is not installed, so there is nothing to compare with")
    sys.exit(0)

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

import inception_numbers as numbers
from torch_inception import blocks

from minigan import tensorfile
from minigan.evaluation import torchfile
from minigan.evaluation.inception import InceptionV3
from minigan.evaluation.inception_input import RESIZES, SIDE, prepared
from minigan.evaluation.metrics import frechet_distance
from minigan.nn import Module
from minigan.tensor import Tensor, no_grad

ALLOWED = 1e-4


def timed(work: Callable, repeats: int = 1) -> tuple[float, object]:
    """The shortest time in seconds, and the last result."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        found = work()
        times.append(time.perf_counter() - started)
    return min(times), found


def files(state: OrderedDict) -> None:
    """Both forms are read exactly, and so is the copy."""
    with tempfile.TemporaryDirectory() as folder:
        for form, zipped in (("stream", False), ("zip", True)):
            path = Path(folder) / f"{form}.pth"
            torch.save(state, path, _use_new_zipfile_serialization=zipped)
            seconds, found = timed(lambda path=path: torchfile.read(path))
            assert list(found) == list(state)
            assert all(found[name].tobytes() == t.numpy().tobytes() for name, t in state.items())
            print(f"{form}.pth: {path.stat().st_size:,} bytes, read in {seconds:.2f} s, equal")
        path = Path(folder) / "copy.safetensors"
        seconds, _ = timed(lambda: tensorfile.write(path, found, ""))
        print(f"{path.name}: {path.stat().st_size:,} bytes, written in {seconds:.2f} s")


def our_blocks(net: InceptionV3, x: np.ndarray) -> dict[str, np.ndarray]:
    """What each block of ours makes of prepared images, under the oracle's names."""
    found, inner = {}, dict(vars(net))

    def kept(name: str) -> Callable:
        def call(x: Tensor) -> Tensor:
            found[name] = inner[name](x)
            return found[name]

        return call

    parts = [name for name, part in inner.items() if isinstance(part, Module) and name != "fc"]
    try:
        vars(net).update({name: kept(name) for name in parts})
        with no_grad():
            found["pool3"] = net(Tensor(x))
    finally:
        vars(net).update(inner)
    arrays = {name: t.numpy() for name, t in found.items()}
    return arrays | {"logits_unbiased": net.logits_unbiased(arrays["pool3"])}


def their_blocks(
    state: OrderedDict, x: np.ndarray, dtype: torch.dtype = torch.float32
) -> dict[str, np.ndarray]:
    """What PyTorch makes of prepared images, block by block, in this dtype."""
    with torch.no_grad():
        get = lambda name, shape: state[name].reshape(shape).to(dtype)
        return {name: y.numpy() for name, y in blocks(torch.tensor(x).to(dtype), get).items()}


def deviation(found: np.ndarray, exact: np.ndarray) -> float:
    return float(np.abs(found - exact).max() / np.abs(exact).max())


def by_block(net: InceptionV3, state: OrderedDict) -> None:
    x = numbers.images(2, SIDE)
    exact = their_blocks(state, x, torch.float64)
    ours, theirs = our_blocks(net, x), their_blocks(state, x)
    print(f"\n{'block':<18}{'shape':<20}{'ours':>10}{'PyTorch':>10}")
    for name, y in exact.items():
        own = deviation(ours[name], y)
        print(f"{name:<18}{y.shape!s:<20}{own:>10.1e}{deviation(theirs[name], y):>10.1e}")
        assert own < ALLOWED, name


def from_bytes(net: InceptionV3, state: OrderedDict) -> None:
    """From uint8 images of 64 x 64 to a distance: all ways to resize, PyTorch's with its own filter."""
    rng = np.random.default_rng(0)
    dark, bright = (rng.integers(low, low + 128, (16, 3, 64, 64), np.uint8) for low in (0, 128))
    print()
    for resize in RESIZES:
        net.resize = resize
        ours = [net.describe(images) for images in (dark, bright)]
        theirs = []
        for images in (dark, bright):
            x = prepared(images, resize)
            if resize == "pytorch-fid":
                scaled = torch.tensor(images).double() / 255
                x = torch.nn.functional.interpolate(scaled, size=(SIDE, SIDE), mode="bilinear")
                x = (2 * x - 1).float().numpy()
            theirs.append(their_blocks(state, x)["pool3"])
        a, b = frechet_distance(*ours), frechet_distance(*theirs)
        print(
            f"{resize:<12} distance {a:.6g}, with PyTorch's features {b:.6g}: {abs(a / b - 1):.1e}"
        )
        assert abs(a / b - 1) < ALLOWED, resize


def speed(net: InceptionV3, state: OrderedDict, count: int, repeats: int) -> None:
    x = numbers.images(count, SIDE)
    with no_grad():
        ours, _ = timed(lambda: net(Tensor(x)), repeats)
    theirs, _ = timed(lambda: their_blocks(state, x), repeats)
    print(f"\n{count / ours:.1f} images/s, PyTorch {count / theirs:.1f}, of {count} at a time")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=8, help="at a time, for the speed")
    parser.add_argument("--repeats", type=int, default=5, help="of which the fastest counts")
    given = parser.parse_args()
    net = InceptionV3()
    weights = {
        name: numbers.weight(name, t.shape)
        for name, t in net.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    net.load_state_dict(weights, strict=False)
    state = OrderedDict((name, torch.tensor(array)) for name, array in weights.items())
    print(f"PyTorch {torch.__version__}, {sum(p.numel() for p in net.parameters()):,} parameters")
    files(state)
    by_block(net, state)
    from_bytes(net, state)
    speed(net, state, given.images, given.repeats)


if __name__ == "__main__":
    main()
