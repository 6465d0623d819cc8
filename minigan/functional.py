"""The functions that networks use, under PyTorch's names: `import minigan.functional as F`.

Most are defined in the engine's other files and only collected here. `linear` and the losses are
defined below.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from . import backend
from .arguments import check_alike, check_indices
from .conv import conv2d, conv_transpose2d
from .dropout import dropout, dropout2d
from .image_norm import group_norm, instance_norm, layer_norm
from .labels import embedding, one_hot
from .normalize import batch_norm
from .ops import (
    abs,
    clamp,
    exp,
    floats,
    leaky_relu,
    log,
    maximum,
    minimum,
    pow,
    relu,
    sigmoid,
    softplus,
    sqrt,
    tanh,
    to,
    where,
)
from .pieces import cat, chunk, gather, pad, split, stack
from .probabilities import log_softmax, logsumexp, softmax
from .reductions import amax, amin, argmax, max, min, norm, normalize, prod, std
from .resizing import avg_pool2d, interpolate, max_pool2d
from .shapes import (
    expand,
    flatten,
    matmul,
    mean,
    permute,
    reshape,
    squeeze,
    sum,
    transpose,
    unflatten,
    unsqueeze,
    var,
)
from .tensor import Tensor, op, operand


def _linear_fused(xp, asked, g, y, x, w, b=None):
    kernels, factors = backend.kernels(xp), ((g, w), (g.T, x))
    found = kernels.matmuls(xp, [factors[i] for i in asked if i < 2])
    return [*found, kernels.total(xp, g, (0,), False)] if 2 in asked else found


@op(
    lambda g, y, x, w, *b: matmul(g, w),
    lambda g, y, x, w, *b: matmul(transpose(g, 0, 1), x),
    lambda g, y, x, w, b: sum(g, 0),
    fused=_linear_fused,
)
def _linear(xp, x, w, b=None):
    """x W^T + b for a matrix x.

    It is one operation, because the rule of x @ W^T would compute the gradient of W^T. That lies in
    memory by columns, and Adam would have to copy it into W's order.
    """
    y = backend.kernels(xp).matmul(xp, x, w.T)  # (N, out)
    return y if b is None else xp.add(y, b, out=y)


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b: input (..., in), weight (out, in), bias (out,) -> (..., out)."""
    check_alike("linear", input=input, weight=weight, bias=bias)
    if input.ndim == 0 or weight.ndim != 2 or input.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"linear: an input {input.shape} and a weight {weight.shape} do not fit together; "
            "expected (..., in_features) and (out_features, in_features)"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"linear: the bias has shape {bias.shape}, expected {weight.shape[:1]}")
    rest = () if bias is None else (bias,)
    if input.ndim == 2:
        return _linear(input, weight, *rest)
    rows = math.prod(input.shape[:-1])
    y = _linear(reshape(input, rows, input.shape[-1]), weight, *rest)  # (..., in) -> (rows, in)
    return reshape(y, *input.shape[:-1], len(weight))  # (rows, out) -> (..., out)


# -- losses -------------------------------------------------------------------------------------


def mse_loss(input: Tensor, target: Tensor | float, *, reduction: str = "mean") -> Tensor:
    """(input - target)^2, the squared error; a number as target applies to all elements."""
    input, target = _alike("mse_loss", input, target)
    return _reduced((input - target) ** 2, reduction)


def l1_loss(input: Tensor, target: Tensor | float, *, reduction: str = "mean") -> Tensor:
    """|input - target|, the absolute error; a number as target applies to all elements."""
    input, target = _alike("l1_loss", input, target)
    return _reduced(abs(input - target), reduction)


def cross_entropy(input: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """-log softmax(input)[target] for logits (N, K) and labels (N,): one loss per row, or their mean.

    The target may also hold probabilities (N, K); then the loss is -sum(target * log softmax(input)).

    Raises TypeError, ValueError or IndexError if input and target do not fit together.
    """
    if not isinstance(input, Tensor) or input.ndim != 2:
        found = input.shape if isinstance(input, Tensor) else f"a {type(input).__name__}"
        raise ValueError(f"cross_entropy: expected logits (N, K), not {found}")
    log_p = log_softmax(input, 1)  # (N, K)
    if isinstance(target, Tensor) and target.dtype.kind == "f":
        _alike("cross_entropy", input, target)
        return _reduced(-sum(target * log_p, 1), reduction)
    check_indices("cross_entropy", "label", target, input.shape[1])
    if target.shape != input.shape[:1]:
        raise ValueError(
            f"cross_entropy: labels {target.shape} for logits {input.shape}; expected {input.shape[:1]}"
        )
    # Selected instead of multiplied, because 0 * log 0 is NaN.
    return _reduced(-sum(where(one_hot(target, input.shape[1]), log_p, 0.0), 1), reduction)


def _log(p: Tensor) -> Tensor:
    """log p, never below -100: PyTorch's guard against the infinity of log 0."""
    zero = p.data <= 0
    return maximum(where(zero, -100.0, log(where(zero, 1.0, p))), -100.0)


def _guard(p: Tensor) -> float:
    """The smallest p (1 - p) to divide by: PyTorch's 1e-12, which float16 would round to 0."""
    return float(np.finfo(p.dtype).tiny) if p.dtype == np.float16 else 1e-12


@op(
    lambda g, y, p, t: g * (p - t) / clamp(p * (1.0 - p), min=_guard(p)),
    lambda g, y, p, t: g * (_log(1.0 - p) - _log(p)),
    elementwise=True,
)
def _cross_entropy(xp, p, t):
    p, t = floats(p), floats(t)
    # 1e-44 is close to float32's smallest number above 0, and its logarithm is below -100.
    log_p, log_q = (xp.maximum(xp.log(xp.maximum(v, 1e-44)), -100) for v in (p, 1 - p))
    return -(t * log_p + (1 - t) * log_q)


def binary_cross_entropy(input: Tensor, target: Tensor | float, reduction: str = "mean") -> Tensor:
    """-(t log p + (1 - t) log(1 - p)) for probabilities p = input; PyTorch's BCELoss.

    The logarithms are clamped at -100, so that the loss stays finite, and in the gradient p (1 - p) is
    clamped at 1e-12 (6e-5 in float16). After a saturated Sigmoid no gradient is left, which is the
    cause of "Loss_G: 100" in many logs. `binary_cross_entropy_with_logits` has no such limit. If the
    target is a number, it is the label of all elements.

    Raises TypeError or ValueError if the shapes differ or p lies outside [0, 1].
    """
    input, target = _alike("binary_cross_entropy", input, target)
    if not bool(((input.data >= 0) & (input.data <= 1)).all()):
        raise ValueError("binary_cross_entropy: probabilities must lie between 0 and 1")
    return _reduced(_cross_entropy(input, target), reduction)


def _bce_with_logits_fused(xp, asked, g, y, x, t):
    gradients = (
        lambda: backend.kernels(xp).cross_entropy_gradient(xp, g, x, t),
        lambda: -g * x,
    )
    return [gradients[i]() for i in asked]


@op(
    lambda g, y, x, t: g * ((1.0 - t) * sigmoid(x) - t * sigmoid(-x)),
    lambda g, y, x, t: -g * x,
    elementwise=True,
    fused=_bce_with_logits_fused,
)
def _bce_with_logits(xp, x, t):
    """t softplus(-x) + (1 - t) softplus(x)"""
    return backend.kernels(xp).cross_entropy(xp, floats(x), floats(t))


def binary_cross_entropy_with_logits(
    input: Tensor, target: Tensor | float, reduction: str = "mean"
) -> Tensor:
    """binary_cross_entropy of p = sigmoid(x), for logits x: t softplus(-x) + (1 - t) softplus(x).

    This follows from -log sigmoid(x) = log(1 + e^-x) = softplus(-x). It is finite for every x, and its
    gradient sigmoid(x) - t is computed so that it keeps its digits on both tails. If the target is a
    number, it is the label of all elements.
    """
    input, target = _alike("binary_cross_entropy_with_logits", input, target)
    return _reduced(_bce_with_logits(input, target), reduction)


def _alike(name: str, input: Any, target: Any) -> tuple[Tensor, Tensor | float]:
    """Input and target as operands: two tensors of one shape, or a tensor and a number."""
    input, target = operand(input, name), operand(target, name)
    if not isinstance(input, Tensor):
        raise TypeError(f"{name}: the input must be a tensor, not the number {input}")
    if isinstance(target, Tensor) and input.shape != target.shape:
        raise ValueError(
            f"{name}: input {input.shape} and target {target.shape} must have the same shape"
        )
    return input, target


def _reduced(loss: Tensor, reduction: str) -> Tensor:
    """The mean or the sum of the elements, or the elements themselves."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction must be mean, sum or none, not {reduction!r}")
    return loss if reduction == "none" else mean(loss) if reduction == "mean" else sum(loss)
