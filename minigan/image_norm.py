"""Layer, instance and group norm: the normalisation of `normalize.py`, within each image.

All three are group norm: they normalise a group of channels of one image, over its pixels. Instance
norm has a group for each channel, and layer norm a single group. Adaptive instance norm (AdaIN) is
instance norm with a scale and a shift for each image. As with batch norm, the scale, the shift and the
activation that follows belong to the operation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .arguments import all_sizes, check_alike, check_floats, is_whole
from .backend import kernels
from .normalize import (
    Statistics,
    batch_axes,
    channel_row,
    check_eps,
    normalize_over,
    normalize_rule,
)
from .ops import cast, leaky_relu_gradient
from .shapes import reshape
from .shapes import sum as sum_over
from .tensor import Tensor, op


def _grouped(x: Tensor, groups: int) -> Tensor:
    """(N, C, ...) -> (N, G, C/G, ...), a view in any memory order"""
    n, c, *pixels = x.shape
    return reshape(x, n, groups, c // groups, *pixels)


def _over(x: Tensor, groups: int, stats: Statistics) -> tuple[Tensor, dict[str, Any]]:
    """The grouped images, and the options that normalise them."""
    grouped = _grouped(x, groups)
    return grouped, {"axes": tuple(range(2, grouped.ndim)), "stats": stats}


def _affine(v: Any, x: Any) -> Any:
    """A value per channel (C,) or per image and channel (N, C), in a shape that broadcasts to x."""
    if isinstance(v, (int, float)) or v.ndim == 1:
        return channel_row(v, x)
    return v.reshape(*v.shape, *[1] * (x.ndim - 2))  # (N, C) -> (N, C, 1, 1)


def _sum_like(v: Tensor, x: Tensor) -> Tensor:
    """The sum of x (N, C, ...) over the values that share an element of v, (C,) or (N, C)."""
    return sum_over(x, batch_axes(x) if v.ndim == 1 else tuple(range(2, x.ndim)))


def _rule_x(g, y, x, w, b, *, groups, stats, slope) -> Tensor:
    grouped, options = _over(x, groups, stats)
    g_xhat = _grouped(leaky_relu_gradient(g, y, slope) * _affine(w, x), groups)
    dx = normalize_rule(g_xhat, normalize_over(grouped, **options), grouped, **options)
    return reshape(dx, x.shape)


def _rule_w(g, y, x, w, b, *, groups, stats, slope) -> Tensor:
    grouped, options = _over(x, groups, stats)
    xhat = reshape(normalize_over(grouped, **options), x.shape)
    return _sum_like(w, leaky_relu_gradient(g, y, slope) * xhat)


def _rule_b(g, y, x, w, b, *, groups, stats, slope) -> Tensor:
    return _sum_like(b, leaky_relu_gradient(g, y, slope))


def _fitted(found: Any, like: Any) -> Any:
    """A kernel's gradient in the shape of its input. For w and b, it has a value for each image."""
    found = found.sum(0) if like.ndim == 1 else found
    return found.astype(like.dtype, copy=False).reshape(like.shape)


def _fused(xp, asked, g, y, x, w, b, *, groups, stats, slope):
    gradients = kernels(xp).group_norm_gradients(
        xp, asked, g, y, x, stats.mean, stats.inv_std, _affine(w, x), slope
    )
    return [_fitted(found, (x, w, b)[i]) for i, found in zip(asked, gradients, strict=True)]


@op(_rule_x, _rule_w, _rule_b, fused=_fused)
def _group_norm(xp, x, w, b, *, groups, stats, slope):
    """leaky_relu(w * xhat + b, slope), where xhat is x normalised by groups; slope 1 means no ReLU."""
    y, stats.mean, stats.inv_std = kernels(xp).group_norm(
        xp, x, groups, stats.eps, _affine(w, x), _affine(b, x), slope
    )
    return y


def _normalized(
    x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float, slope: float
) -> Tensor:
    """Group norm of checked arguments, followed by a leaky ReLU of that slope (0: ReLU, 1: none)."""
    if x.dtype == np.float16:  # 1 / sqrt(eps) and sums would overflow
        single = [t if t is None else cast(t, np.float32) for t in (x, weight, bias)]
        return cast(_normalized(single[0], groups, *single[1:], eps, slope), np.float16)
    w, b = (1.0 if weight is None else weight), (0.0 if bias is None else bias)
    return _group_norm(x, w, b, groups=groups, stats=Statistics(float(eps)), slope=float(slope))


def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias over the last dimensions; PyTorch's layer_norm.

    normalized_shape is the shape of these dimensions, and of weight and bias: each element has its own
    scale and shift (Ba, Kiros & Hinton 2016, "Layer Normalization").

    Raises TypeError or ValueError if an argument does not fit.
    """
    shape = all_sizes((normalized_shape,))
    _check_affine("layer_norm", input, shape, eps, weight=weight, bias=bias)
    if not shape:
        raise ValueError("layer_norm: normalized_shape () must have at least one dimension")
    if input.shape[-len(shape) :] != shape:
        raise ValueError(
            f"layer_norm: an input {input.shape} does not end in normalized_shape {shape}"
        )
    rows = math.prod(input.shape[: -len(shape)])
    if len(shape) == 1:  # a scale and a shift for each channel of (rows, C)
        y = _normalized(reshape(input, rows, *shape), 1, weight, bias, eps, 1.0)
        return reshape(y, input.shape)
    # (..., *shape) -> (rows, *shape)
    y = reshape(_normalized(reshape(input, rows, *shape), 1, None, None, eps, 1.0), input.shape)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def instance_norm(
    input: Tensor, *, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias, for each image and channel.

    input (N, C, ...) with more than one value per image and channel, weight and bias (C,). (Ulyanov,
    Vedaldi & Lempitsky 2016, "Instance Normalization". Running statistics are not supported.) A weight
    and a bias (N, C) belong to an image each, as in AdaIN (Huang & Belongie 2017, equation 8).

    Raises TypeError or ValueError if an argument does not fit.
    """
    return instance_norm_activated(input, weight, bias, eps, slope=1.0)


def instance_norm_activated(
    input: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, slope: float
) -> Tensor:
    """instance_norm followed by a leaky ReLU of that slope (0: ReLU, 1: none), in one pass."""
    shape = getattr(input, "shape", ())
    adaptive = any(getattr(t, "ndim", 1) == 2 for t in (weight, bias))
    expected = shape[:2] if adaptive else shape[1:2]
    _check_affine("instance_norm", input, expected, eps, weight=weight, bias=bias)
    if len(shape) < 3 or shape[1] < 1 or math.prod(shape[2:]) < 2:
        raise ValueError(
            f"instance_norm: expected (N, C, ...) with more than one value per channel, not {shape}"
        )
    return _normalized(input, shape[1], weight, bias, eps, slope)


def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias, for each image and group of channels.

    input (N, C, ...), where C is a multiple of num_groups; weight and bias (C,). A group is C /
    num_groups consecutive channels. (Wu & He 2018, "Group Normalization".)

    Raises TypeError or ValueError if an argument does not fit.
    """
    return group_norm_activated(input, num_groups, weight, bias, eps, slope=1.0)


def group_norm_activated(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    slope: float,
) -> Tensor:
    """group_norm followed by a leaky ReLU of that slope (0: ReLU, 1: none), in one pass."""
    shape = getattr(input, "shape", ())
    _check_affine("group_norm", input, shape[1:2], eps, weight=weight, bias=bias)
    fits = is_whole(num_groups) and num_groups >= 1 and len(shape) > 1 and shape[1] > 0
    if not fits or shape[1] % num_groups:
        raise ValueError(
            f"group_norm: an input {shape} cannot be divided into {num_groups!r} groups; expected "
            "(N, C, ...) with C a multiple of num_groups"
        )
    return _normalized(input, int(num_groups), weight, bias, eps, slope)


def _check_affine(name: str, input: Any, shape: Any, eps: float, **affine: Tensor | None) -> None:
    """Raise TypeError or ValueError unless the input holds floats and the others have this shape."""
    check_eps(name, eps)
    check_alike(name, input=input, **affine)
    check_floats(name, input)
    for key, t in affine.items():
        if t is not None and t.shape != shape:
            raise ValueError(f"{name}: the {key} has shape {t.shape}, expected {shape}")
