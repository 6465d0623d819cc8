"""What the doctor checks: all public operations, as functions whose results can be compared."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .. import backend, nn, optim
from .. import functional as F
from ..gans.objectives import discriminator_loss, minimax, non_saturating
from ..keys import generator
from ..models.dcgan import Discriminator, Generator
from ..normalize import batch_norm_activated
from ..tensor import Tensor, grad, tensor

GAP = 0.1  # minimal distance from 0 of every value drawn


class Case(NamedTuple):
    """A function of Tensors, and the shapes of the inputs at which to differentiate it."""

    fn: Callable[..., Tensor]
    shapes: tuple[tuple[int, ...], ...]


def draw(name: str, shape: tuple[int, ...], dtype: Any = np.float64) -> np.ndarray:
    """Random normal values, moved away from 0; the same numbers in float32 and float64."""
    x = np.asarray(generator(name).standard_normal(shape))
    return (x + np.copysign(GAP, x)).astype(np.float32).astype(dtype)


def leaves(name: str, case: Case, device: str, dtype: Any = np.float64) -> list[Tensor]:
    """A case's inputs."""
    values = (draw(f"{name}/{i}", shape, dtype) for i, shape in enumerate(case.shapes))
    return [tensor(x, device=device, requires_grad=True) for x in values]


def network(make: Callable[..., nn.Module], x: tuple[int, ...]) -> Case:
    """A tiny network without its last activation, as a function of its input and parameters."""

    def parts(net: nn.Module) -> list[tuple[nn.Module, str]]:
        return [
            (m, k) for m in net.modules() for k, p in vars(m).items() if type(p) is nn.Parameter
        ]

    def fn(x: Tensor, *parameters: Tensor) -> Tensor:
        net = make(rng=generator("network")).to(x.dtype).to(x.device)
        for (module, name), p in zip(parts(net), parameters, strict=True):
            fan = math.prod(p.shape[1:])
            # vars() avoids the check that only a Parameter may replace a Parameter. Dividing by the
            # root keeps the outputs of all layers near 1.
            vars(module)[name] = p / math.sqrt(fan)
        return net.main[:-1](x)

    return Case(fn, (x, *(getattr(module, name).shape for module, name in parts(make()))))


def norm(slope: float, training: bool = True) -> Callable[..., Tensor]:
    """Batch norm followed by a leaky ReLU, as a function of Tensors.

    With a scale of at least 1 and a small shift, values away from 0 stay away from the ReLU's kink.
    """

    def fn(x: Tensor, w: Tensor, b: Tensor, mean: Any = None, var: Any = None) -> Tensor:
        var = None if var is None else var * var + 0.5
        w, b = w * w + 1.0, b * 0.02
        return batch_norm_activated(x, mean, var, w, b, training, 0.1, 1e-5, slope)

    return fn


def convolution(transposed: bool, x: tuple, w: tuple, *geometry: Any) -> Case:
    """A convolution with a bias; geometry is stride, padding and, if transposed, output padding."""
    conv = F.conv_transpose2d if transposed else F.conv2d
    bias = (w[1 if transposed else 0],)
    return Case(lambda x, w, b: conv(x, w, b, *geometry), (x, w, bias))


def cases() -> dict[str, Case]:
    """All public operations on a few numbers each, for central differences and for comparison."""
    a, b, c = (3, 4), (4,), (2, 3, 4)
    square = lambda x: x * x + 1.0
    table: dict[str, tuple] = {
        "add": (lambda x, y: x + y, a, b),
        "sub": (lambda x, y: 1.0 - x - y, a, b),
        "mul": (lambda x, y: 2.0 * x * y, a, b),
        "div": (lambda x, y: x / y, a, (3, 1)),
        "neg": (lambda x: -x * x, a),
        "pow": (lambda x: x**3 + square(x) ** -1.5, a),
        "power of 2": (lambda x: 2.0**x, a),
        "exp": (lambda x: x.exp(), a),
        "log": (lambda x: square(x).log(), a),
        "sqrt": (lambda x: square(x).sqrt(), a),
        "abs": (lambda x: x.abs() * x, a),
        "clamp": (lambda x: x.clamp(-0.5, 0.5) * x, a),
        "maximum": (lambda x, y: F.maximum(x * y, y), a, b),
        "minimum": (lambda x, y: F.minimum(x * y, y), a, b),
        "amax": (lambda x: (x * x).amax((0, 2)), c),
        "amin": (lambda x: (x * x).amin(1, keepdim=True), c),
        "where": (lambda x, y: F.where(x > 0, x * y, y), a, a),
        "relu": (lambda x: F.relu(x) * x, a),
        "leaky_relu": (lambda x: F.leaky_relu(x, 0.2) * x, a),
        "tanh": (F.tanh, a),
        "sigmoid": (F.sigmoid, a),
        "softplus": (F.softplus, a),
        "to": (lambda x: x.to("cpu") * x.to("cpu"), a),
        "clone": (lambda x: (x * x).clone() * x.T.contiguous().T, a),
        "sum": (lambda x: (x * x).sum((0, 2)), c),
        "mean": (lambda x: (x * x).mean(1, keepdim=True), c),
        "var": (lambda x: x.var(), c),
        "reshape": (lambda x: (x * x).reshape(4, -1), c),
        "flatten": (lambda x: (x * x).flatten(1), c),
        "permute": (lambda x: (x * x).permute(2, 0, 1), c),
        "transpose": (lambda x: (x * x).transpose(0, -1), c),
        "expand": (lambda x: (x * x).expand(2, 3, 4), (3, 1)),
        "squeeze": (lambda x: (x * x).squeeze(1).unsqueeze(0), (3, 1, 2)),
        "pad": (lambda x: F.pad(x * x, (1, 2, -1, 1), value=1.5), a),
        "pad, reflected": (lambda x: F.pad(x * x, (1, 2, 1, 0), mode="reflect"), a),
        "cat": (lambda x, y: F.cat([x * x, y * x, x], 0), a, b),
        "stack": (lambda x, y: F.stack([x * y, x], 1), a, a),
        "slices": (lambda x: (x * x)[1:, None, ::-2], a),
        "repeated indices": (lambda x: (x * x)[[0, 2, 0]], a),
        "mask": (lambda x: (x * x)[x > 0], a),
        "avg_pool2d": (lambda x: F.avg_pool2d(x * x, 2, 1, 1), (2, 2, 3, 4)),
        "avg_pool2d without padding": (
            lambda x: F.avg_pool2d(x * x, 3, 1, 1, count_include_pad=False), (2, 2, 3, 4),
        ),
        "max_pool2d": (lambda x: F.max_pool2d(x * x, 2), (2, 2, 4, 6)),
        "max_pool2d's gradient": (
            lambda x, g: grad(F.max_pool2d(x * x, 2), x, g, create_graph=True)[0],
            (2, 2, 4, 6), (2, 2, 2, 3),
        ),
        "matmul": (lambda x, y: x @ y, a, (4, 5)),
        "matmul, batches": (lambda x, y: x @ y, c, (2, 1, 4, 2)),
        "linear": (F.linear, c, (5, 4), (5,)),
        "binary_cross_entropy": (
            lambda x, t: F.binary_cross_entropy(x.sigmoid(), t.sigmoid()), a, a,
        ),
        "cross entropy of logits": (
            lambda x, t: F.binary_cross_entropy_with_logits(x, t.sigmoid(), "none"), a, a,
        ),
        "discriminator_loss": (discriminator_loss, (8, 1), (8, 1)),
        "non_saturating": (non_saturating, (8, 1)),
        "minimax": (minimax, (8, 1)),
        "batch_norm (N, C)": (norm(1.0), (6, 3), (3,), (3,)),
        "batch_norm": (norm(1.0), (2, 3, 4, 2), (3,), (3,)),
        "batch_norm, ReLU": (norm(0.0), (2, 3, 4, 2), (3,), (3,)),
        "batch_norm, leaky ReLU": (norm(0.2), (2, 3, 4, 2), (3,), (3,)),
        "batch_norm, evaluation": (norm(0.2, False), (2, 3, 4, 2), (3,), (3,), (3,), (3,)),
        "instance_norm": (lambda x: F.instance_norm(x * x), (2, 3, 4, 2)),
        "group_norm": (lambda x, w, b: F.group_norm(x, 2, w, b), (2, 4, 3, 2), (4,), (4,)),
    }  # fmt: skip
    found = {name: Case(fn, shapes) for name, (fn, *shapes) in table.items()}
    for name, *case in (
        ("conv2d 4x4/2", False, (2, 3, 8, 8), (2, 3, 4, 4), 2, 1),
        ("conv2d 4x4 to 1x1", False, (2, 3, 4, 4), (2, 3, 4, 4)),
        ("conv2d 3x3", False, (2, 2, 4, 5), (3, 2, 3, 3), 1, 1),
        ("conv2d 1x1", False, (3, 4, 4), (2, 3, 1, 1)),
        ("conv2d 5x3/3,2 inexact", False, (2, 2, 9, 6), (2, 2, 5, 3), (3, 2), (1, 0)),
        ("conv2d 2x2/3 gaps", False, (2, 2, 7, 7), (1, 2, 2, 2), 3, 2),
        ("conv_transpose2d 4x4/2", True, (2, 3, 4, 4), (3, 2, 4, 4), 2, 1),
        ("conv_transpose2d from 1x1", True, (2, 3, 1, 1), (3, 2, 4, 4)),
        ("conv_transpose2d 3x3", True, (2, 3, 4, 5), (3, 2, 3, 3), 1, 1),
        ("conv_transpose2d 3x2/2,3 wider", True, (3, 3, 2), (3, 2, 3, 2), (2, 3), (1, 0), (1, 2)),
    ):
        found[name] = convolution(*case)
    found["tiny G"] = network(partial(Generator, 3, 2, 1, 16), (3, 3, 1, 1))
    found["tiny D"] = network(partial(Discriminator, 2, 1, 16), (3, 1, 16, 16))
    return found


def large_cases() -> dict[str, Case]:
    """Cases that need many blocks of threads, including the DCGAN's layers; only for comparison."""
    wide = (300, 1000)
    found = {
        "sum of many": Case(lambda x: (x * x).sum(), (wide,)),
        "sum of many rows": Case(lambda x: (x * x).sum(0), (wide,)),
        "sum of many columns": Case(lambda x: (x * x).sum(1), (wide,)),
        "leaky_relu of many": Case(lambda x: F.leaky_relu(x, 0.2), (wide,)),
        "large matmul": Case(lambda x, y: x @ y, ((300, 500), (500, 400))),
        "float32 and back": Case(lambda x: x.to("float32").to(x.dtype), (wide,)),
        "norm and leaky ReLU of D2": Case(norm(0.2), ((8, 128, 16, 16), (128,), (128,))),
        "norm and ReLU of G4": Case(norm(0.0), ((8, 64, 32, 32), (64,), (64,))),
    }
    for net, widths in ("G", (100, 512, 256, 128, 64, 3)), ("D", (3, 64, 128, 256, 512, 1)):
        for i in range(5):
            big = 4 << i if net == "G" else 64 >> i  # pixels a side of the larger image
            small, *geometry = (big // 2, 2, 1) if big > 4 else (1, 1, 0)
            x = (16, widths[i], *[small if net == "G" else big] * 2)
            w = (*(widths[i : i + 2] if net == "G" else widths[i : i + 2][::-1]), 4, 4)
            found[f"convolution of {net}{i + 1}"] = convolution(net == "G", x, w, *geometry)
    return found


def derivatives(name: str, case: Case, device: str, dtype: Any) -> list[np.ndarray]:
    """The output of a case, and the gradients of <output, v> for a random v, by the fused kernels."""
    inputs = leaves(name, case, device, dtype)
    y = case.fn(*inputs)
    v = tensor(draw(f"{name}/v", y.shape, dtype), device=y.device)
    found = [t.numpy() for t in (y, *grad(y, inputs, v))]
    if any(a.dtype != dtype for a in found):
        raise TypeError(f"{dtype.__name__} became {', '.join(str(a.dtype) for a in found)}")
    return found


def moved(kind: type[optim.Optimizer], options: dict, device: str, dtype: Any) -> list[np.ndarray]:
    """Some weights after three steps of an optimiser; one of them has another memory order."""
    shapes = ((64, 32, 4, 4), (500,), (3, 1))
    ps = [tensor(draw(f"p{i}", s, dtype), device=device) for i, s in enumerate(shapes)]
    ps[0] = ps[0].permute(3, 2, 1, 0)
    optimiser = kind([p.requires_grad_() for p in ps], lr=0.1, **options)
    for step in range(3):
        gs = [draw(f"g{i}/{step}", p.shape, dtype) for i, p in enumerate(ps)]
        optimiser.step([tensor(g, device=device) for g in gs])
    return [p.numpy() for p in ps]


def running(device: str, dtype: Any) -> list[np.ndarray]:
    """The running statistics of a batch norm after one batch."""
    layer = nn.BatchNorm2d(64).to(dtype).to(device)
    layer(tensor(draw("batch", (8, 64, 8, 8), dtype), device=device))
    return [t.numpy() for t in layer.buffers()]


def scaled(pixels: np.ndarray, device: str, dtype: Any) -> Tensor:
    """Pixels 0..255 as values in [-1, 1] on the device, scaled by its kernel.

    For float64 the host scales them, because the kernels compute float32 and round differently.
    """
    pixels = backend.move(pixels, device if dtype == np.float32 else "cpu")
    xp = backend.array_module(pixels)
    return Tensor(backend.kernels(xp).scale_pixels(xp, pixels)).to(dtype).to(device)


def every_byte(device: str, dtype: Any) -> list[np.ndarray]:
    """All 256 values of a pixel, scaled."""
    batch = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16).repeat(3, 1)
    return [scaled(batch, device, dtype).numpy()]


def computations() -> dict[str, Callable[[str, Any], list[np.ndarray]]]:
    """Everything that is compared: {name: function of a device and a dtype that returns arrays}."""
    found = {}
    for name, case in (cases() | large_cases()).items():
        found[name] = partial(derivatives, name, case)
    for kind, options in (
        (optim.SGD, {"momentum": 0.9, "weight_decay": 0.1}),
        (optim.RMSprop, {"momentum": 0.5, "centered": True}),
        (optim.Adam, {"betas": (0.5, 0.999)}),
    ):
        found[kind.__name__] = partial(moved, kind, options)
    return found | {"running statistics": running, "pixels": every_byte}
