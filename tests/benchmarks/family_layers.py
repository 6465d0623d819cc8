"""The layers of the family at the sizes that its members use, for family_engines.py.

Both engines are called by the names of PyTorch's functions, so one table serves both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Layer(NamedTuple):
    """A layer: a function of leaves with these shapes, in the order of its arguments."""

    kind: str  # which decides the ratio that is aimed at
    call: Callable[..., Any]  # of the functions F of an engine, then of the leaves
    shapes: tuple[tuple[int, ...], ...]


def _conv(n: int, c: int, size: int, o: int, k: int, stride: int = 1, pad: int = 0) -> Layer:
    call = lambda F, x, w: F.conv2d(x, w, None, stride, pad)
    return Layer("convolution", call, ((n, c, size, size), (o, c, k, k)))


def _linear(n: int, inside: int, out: int) -> Layer:
    return Layer(
        "linear", lambda F, x, w, b: F.linear(x, w, b), ((n, inside), (out, inside), (out,))
    )


def _adain(F: Any, x: Any, w: Any, b: Any) -> Any:
    """AdaIN (Huang & Belongie 2017): a scale and a shift for each image and channel."""
    if F.__name__.startswith("torch"):  # its instance_norm has one for each channel only
        return F.instance_norm(x) * w + b
    return F.instance_norm(x, weight=w.reshape(x.shape[:2]), bias=b.reshape(x.shape[:2]))


def _pixel_norm(F: Any, x: Any) -> Any:
    return x * ((x * x).mean(1, keepdim=True) + 1e-8) ** -0.5


def _up_and_conv(F: Any, x: Any, w: Any) -> Any:
    return F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest"), w, None, 1, 1)


X, ROW, ROWS = (16, 128, 32, 32), (128,), (16, 128, 1, 1)  # activations, and values per channel
LAYERS = {
    "conv k3 64 at 64, batch 4": _conv(4, 64, 64, 64, 3, 1, 1),
    "conv k3 128 at 32, batch 16": _conv(16, 128, 32, 128, 3, 1, 1),
    "conv k3 256 at 16, batch 4": _conv(4, 256, 16, 256, 3, 1, 1),
    "conv k3 256 at 16, batch 16": _conv(16, 256, 16, 256, 3, 1, 1),
    "conv k3 512 at 8, batch 16": _conv(16, 512, 8, 512, 3, 1, 1),
    "conv k3 s2 64 to 128 at 64, batch 4": _conv(4, 64, 64, 128, 3, 2, 1),
    "transposed k3 s2 128 to 64 at 32, batch 4": Layer(
        "convolution",
        lambda F, x, w: F.conv_transpose2d(x, w, None, 2, 1, 1),
        ((4, 128, 32, 32), (128, 64, 3, 3)),
    ),
    "conv k4 s2 128 to 256 at 32, batch 16": _conv(16, 128, 32, 256, 4, 2, 1),
    "conv k4 s1 256 to 512 at 8, batch 4": _conv(4, 256, 8, 512, 4, 1, 1),
    "conv k4 s1 512 to 1 at 7, batch 4": _conv(4, 512, 7, 1, 4, 1, 1),
    "conv k7 3 to 64 at 70, batch 4": _conv(4, 3, 70, 64, 7),
    "conv k7 64 to 3 at 70, batch 4": _conv(4, 64, 70, 3, 7),
    "conv k7 64 to 3 at 70, batch 1": _conv(1, 64, 70, 3, 7),
    "conv k1 128 to 3 at 32, batch 16": _conv(16, 128, 32, 3, 1),
    "nearest x2, conv k3 128 at 16, batch 16": Layer(
        "convolution", _up_and_conv, ((16, 128, 16, 16), (128, 128, 3, 3))
    ),
    "linear 128 to 128, batch 256": _linear(256, 128, 128),
    "linear 100 to 256, batch 64": _linear(64, 100, 256),
    "linear 512 to 512, batch 64": _linear(64, 512, 512),
    "linear 784 to 1024, batch 64": _linear(64, 784, 1024),
    "batch norm": Layer(
        "norm", lambda F, x, w, b: F.batch_norm(x, None, None, w, b, training=True), (X, ROW, ROW)
    ),
    "instance norm": Layer("norm", lambda F, x: F.instance_norm(x), (X,)),
    "instance norm, 4 x 256 x 16 x 16": Layer(
        "norm", lambda F, x: F.instance_norm(x), ((4, 256, 16, 16),)
    ),
    "AdaIN": Layer("norm", _adain, (X, ROWS, ROWS)),
    "group norm, 1 group": Layer("norm", lambda F, x, w, b: F.group_norm(x, 1, w, b), (X, ROW, ROW)),
    "group norm, 8 groups": Layer("norm", lambda F, x, w, b: F.group_norm(x, 8, w, b), (X, ROW, ROW)),
    "layer norm, 64 x 512": Layer(
        "norm", lambda F, x, w, b: F.layer_norm(x, (512,), w, b), ((64, 512), (512,), (512,))
    ),
    "pixel norm": Layer("norm", _pixel_norm, (X,)),
    "average pool 2": Layer("pool", lambda F, x: F.avg_pool2d(x, 2), (X,)),
    "max pool 2": Layer("pool", lambda F, x: F.max_pool2d(x, 2), (X,)),
    "ReLU": Layer("elementwise", lambda F, x: F.relu(x), (X,)),
    "leaky ReLU": Layer("elementwise", lambda F, x: F.leaky_relu(x, 0.2), (X,)),
    "tanh": Layer("elementwise", lambda F, x: F.tanh(x), (X,)),
    "sigmoid": Layer("elementwise", lambda F, x: F.sigmoid(x), (X,)),
    "softplus": Layer("elementwise", lambda F, x: F.softplus(x), (X,)),
    "sum of two": Layer("elementwise", lambda F, x, y: x + y, (X, X)),
    "scale and shift": Layer(
        "elementwise", lambda F, x, w, b: x * w + b, (X, (1, 128, 1, 1), (1, 128, 1, 1))
    ),
    "dropout": Layer("elementwise", lambda F, x: F.dropout(x, 0.5), (X,)),
    "zero padding 1": Layer("elementwise", lambda F, x: F.pad(x, (1, 1, 1, 1)), (X,)),
    "reflection padding 1, 4 x 256 x 16 x 16": Layer(
        "elementwise", lambda F, x: F.pad(x, (1, 1, 1, 1), mode="reflect"), ((4, 256, 16, 16),)
    ),
    "reflection padding 3, 4 x 64 x 64 x 64": Layer(
        "elementwise", lambda F, x: F.pad(x, (3, 3, 3, 3), mode="reflect"), ((4, 64, 64, 64),)
    ),
}  # fmt: skip
