"""Normalisation is one operation: y = (x - mean) / sqrt(var + eps), over given axes.

Batch norm is this over (N, H, W), then a scale and a shift (Ioffe & Szegedy 2015, "Batch
Normalization"). Layer, instance and group norm are the same over other axes: see `image_norm.py`. The
mean and the variance depend on x, and the rule says so. Engines that treat them as constants get wrong
gradients.

Here batch norm's operation includes the scale, the shift and the activation that follows. As separate
operations, each would be a pass over memory that costs more than its arithmetic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .arguments import check_alike, is_real
from .backend import Array, array_module, kernels
from .ops import cast, leaky_relu_gradient
from .shapes import mean as mean_over
from .shapes import reshape
from .shapes import sum as sum_over
from .tensor import Tensor, op


@dataclass(eq=False)
class Statistics:
    """What normalises a batch x: computed once by the forward, used again by the rules.

    eps      the number added to the variance
    mean     the mean of x over the axes, kept with length 1
    inv_std  1 / sqrt(var + eps), in the same shape
    """

    eps: float
    mean: Array = None
    inv_std: Array = None


@op(
    lambda g, r, x, *, axes, stats: (
        -(g * r**3) * (x - _mean(x, axes)) / math.prod(x.shape[a] for a in axes)
    )
)
def _inv_std(xp, x, *, axes, stats):
    """1 / sqrt(var(x) + eps) over the axes, kept with length 1.

    Only backward rules use it, after the forward pass has computed its value. So it computes nothing
    itself: it makes that value a node of the graph, which the second derivative needs.
    """
    return stats.inv_std


def _mean(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    return mean_over(x, axes, keepdim=True)


def normalize_rule(g: Tensor, y: Tensor, x: Tensor, *, axes, stats) -> Tensor:
    """dx = inv_std * (g - mean(g) - y * mean(g * y)): g without its components along 1 and along y.

    Moving x along 1 or along y changes the statistics but not the output.
    """
    r = _inv_std(x, axes=axes, stats=stats)
    return r * (g - _mean(g, axes) - y * _mean(g * y, axes))


@op(normalize_rule)
def normalize_over(xp, x, *, axes, stats):
    """(x - mean) * inv_std. The statistics depend on x, so the rule differentiates them too.

    It is a separate operation so that this rule can be read and tested; batch norm's rules use it.
    """
    return (x - stats.mean) * stats.inv_std


# -- batch norm ---------------------------------------------------------------------------------


def channel_row(v: Any, x: Any) -> Any:
    """A value per channel in a shape that broadcasts to x: (C,) -> (1, C, 1, 1).

    Numbers and None are returned unchanged.
    """
    return v if v is None or isinstance(v, (int, float)) else v.reshape(row_shape(x))


def row_shape(x: Any) -> tuple[int, ...]:
    return (1, x.shape[1], *[1] * (x.ndim - 2))


def batch_axes(x: Any) -> tuple[int, ...]:
    """All dimensions except the channels."""
    return (0, *range(2, x.ndim))


def _batch_norm_rule_x(g, y, x, w, b, *, stats, slope) -> Tensor:
    options = {"axes": batch_axes(x), "stats": stats}
    g_xhat = leaky_relu_gradient(g, y, slope) * channel_row(w, x)
    return normalize_rule(g_xhat, normalize_over(x, **options), x, **options)


def _batch_norm_rule_w(g, y, x, w, b, *, stats, slope) -> Tensor:
    xhat = normalize_over(x, axes=batch_axes(x), stats=stats)
    return sum_over(leaky_relu_gradient(g, y, slope) * xhat, batch_axes(x))


def _batch_norm_rule_b(g, y, x, w, b, *, stats, slope) -> Tensor:
    return sum_over(leaky_relu_gradient(g, y, slope), batch_axes(x))


def _batch_norm_fused(xp, asked, g, y, x, w, b, *, stats, slope):
    gradients = kernels(xp).batch_norm_gradients(
        xp, g, y, x, stats.mean, stats.inv_std, channel_row(w, x), slope
    )
    return [gradients[i].reshape((x, w, b)[i].shape) for i in asked]


@op(_batch_norm_rule_x, _batch_norm_rule_w, _batch_norm_rule_b, fused=_batch_norm_fused)
def _batch_norm(xp, x, w, b, *, stats, slope):
    """leaky_relu(w * xhat + b, slope), where xhat = (x - mean) * inv_std; slope 1 means no ReLU."""
    return kernels(xp).scale_shift(
        xp, x, stats.mean, stats.inv_std, channel_row(w, x), channel_row(b, x), slope
    )


@op(
    lambda g, y, x, center, scale, shift, *, slope: leaky_relu_gradient(g, y, slope) * scale,
    lambda g, y, x, center, scale, shift, *, slope: (
        -sum_over(leaky_relu_gradient(g, y, slope) * scale, batch_axes(x), keepdim=True)
    ),
    lambda g, y, x, center, scale, shift, *, slope: sum_over(
        leaky_relu_gradient(g, y, slope) * (x - center), batch_axes(x), keepdim=True
    ),
    lambda g, y, x, center, scale, shift, *, slope: sum_over(
        leaky_relu_gradient(g, y, slope), batch_axes(x), keepdim=True
    ),
)
def _scale_shift(xp, x, center, scale, shift, *, slope):
    """leaky_relu((x - center) * scale + shift, slope); center, scale and shift are per channel."""
    return kernels(xp).scale_shift(xp, x, center, scale, 1.0, shift, slope)


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias, for each channel; PyTorch's batch_norm.

    input (N, C) or (N, C, ...), everything else (C,). In training mode (or without running statistics)
    mean and var are the batch's, and the running statistics, if given, move towards them in place:
    running = (1 - momentum) * running + momentum * batch, with the unbiased variance n / (n - 1) var.
    Otherwise mean and var are the running ones.

    Raises TypeError or ValueError if an argument does not fit, before the running statistics move.
    """
    return batch_norm_activated(
        input, running_mean, running_var, weight, bias, training, momentum, eps, slope=1.0
    )


def batch_norm_activated(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    slope: float,
) -> Tensor:
    """batch_norm followed by a leaky ReLU of that slope (0: ReLU, 1: none), in one pass over memory."""
    check_constants(eps, momentum)
    if slope < 0:
        raise ValueError(f"batch_norm: the slope {slope} of the activation must be at least 0")
    _check(input, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    if training and input.numel() < 2 * input.shape[1]:
        raise ValueError(
            f"batch_norm: training needs more than one value per channel, the input is {input.shape}"
        )
    if input.dtype == np.float16:  # 1 / sqrt(eps) and sums over a batch would overflow
        own = (input, running_mean, running_var, weight, bias)
        single = [t if t is None else cast(t, np.float32) for t in own]
        y = batch_norm_activated(*single, training, momentum, eps, slope)
        if training and running_mean is not None:
            for r, moved in zip(own[1:3], single[1:3], strict=True):
                r.data[...] = moved.data
                r.data = r.data  # counts as a change in place
        return cast(y, np.float16)
    # a stray np.float64 would widen a float32 network
    eps, momentum, slope = float(eps), float(momentum), float(slope)
    w, b = (1.0 if weight is None else weight), (0.0 if bias is None else bias)
    if not training and running_mean is not None:
        center = reshape(running_mean, row_shape(input))  # (C,) -> (1, C, 1, 1)
        var = reshape(running_var, row_shape(input))
        scale, shift = (var + eps) ** -0.5 * channel_row(w, input), channel_row(b, input)
        return _scale_shift(input, center, scale, shift, slope=slope)

    xp = array_module(input.data)
    running = None
    if training and running_mean is not None:
        running = (running_mean.data, running_var.data)
        running_mean.data, running_var.data = running  # counts as a change in place
    mean, inv_std = kernels(xp).batch_statistics(xp, input.data, eps, momentum, running)
    return _batch_norm(input, w, b, stats=Statistics(eps, mean, inv_std), slope=slope)


# -- checks -------------------------------------------------------------------------------------


def check_eps(name: str, eps: float) -> None:
    """Raise ValueError unless eps can be added to a variance."""
    if not is_real(eps) or eps < 0:
        raise ValueError(f"{name}: eps must be a finite number >= 0, not {eps!r}")


def check_constants(eps: float, momentum: float) -> None:
    """Raise ValueError unless a batch norm can use eps and momentum."""
    check_eps("batch_norm", eps)
    if not is_real(momentum) or not 0 <= momentum <= 1:
        raise ValueError(
            f"batch_norm: momentum must be a number from 0 to 1, not {momentum!r} "
            "(PyTorch's None, for a cumulative average, is not supported)"
        )


def _check(input: Tensor, **per_channel: Tensor | None) -> None:
    """Raise TypeError or ValueError unless the tensors fit together."""
    for name, t in {"input": input, **per_channel}.items():
        if not isinstance(t, Tensor) and (t is not None or name == "input"):
            raise TypeError(
                f"batch_norm: the {name} is a {type(t).__name__}, not a Tensor; make it a tensor with "
                "minigan.tensor"
            )
    if input.ndim < 2 or input.dtype.kind != "f":
        raise ValueError(
            f"batch_norm: expected floats (N, C, ...), not {input.dtype} {input.shape}"
        )
    if (per_channel["running_mean"] is None) != (per_channel["running_var"] is None):
        raise ValueError("batch_norm: give both running_mean and running_var, or neither")
    for name, t in per_channel.items():
        if t is not None and t.shape != input.shape[1:2]:
            raise ValueError(
                f"batch_norm: {name} has shape {t.shape}, expected {input.shape[1:2]} "
                f"for an input {input.shape}"
            )
    check_alike("batch_norm", input=input, **per_channel)
