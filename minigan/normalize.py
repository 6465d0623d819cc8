"""Normalisation is one operation: y = (x - mean) / sqrt(var + eps), over given axes.

Batch norm is this over (N, H, W) and then a scale and a shift, which are an ordinary multiply and
add (Ioffe & Szegedy 2015, "Batch Normalization"). The mean and the variance depend on x, and the
rule says so; engines that treat them as constants get wrong gradients, at the second order at the
latest.
"""

from __future__ import annotations

import math

from .backend import array_module, kernels
from .ops import mean, reshape
from .tensor import Tensor, op


@op(
    lambda g, r, x, *, axes, eps, value: (
        -(g * r**3) * (x - _mean(x, axes)) / math.prod(x.shape[a] for a in axes)
    )
)
def _inv_std(xp, x, *, axes, eps, value):
    """1 / sqrt(var(x) + eps) over the axes, kept as length 1.

    Only a backward rule asks for it, when the forward pass has computed the value already: `value`.
    What is new is its place in the graph, from which the second derivative comes.
    """
    return value


def _mean(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    return mean(x, axes, keepdim=True)


def _normalize_rule(g: Tensor, y: Tensor, x: Tensor, *, axes, eps, mean, inv_std) -> Tensor:
    """dx = inv_std * (g - mean(g) - y * mean(g * y)): g without its parts along 1 and along y.

    A shift of x along 1, or along y, moves the statistics and leaves the output as it is.
    """
    r = _inv_std(x, axes=axes, eps=eps, value=inv_std)
    return r * (g - _mean(g, axes) - y * _mean(g * y, axes))


@op(_normalize_rule)
def _normalize(xp, x, *, axes, eps, mean, inv_std):
    """(x - mean) * inv_std, the statistics being those of x: the rule differentiates them too."""
    return (x - mean) * inv_std


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

    input (N, C) or (N, C, ...), all else (C,). In training mode (or without running statistics) mean
    and var are the batch's, and the running statistics, if given, move towards them in place:
    running = (1 - momentum) * running + momentum * batch, with the unbiased variance n / (n - 1) var.
    Otherwise mean and var are the running ones.
    """
    if input.ndim < 2:
        raise ValueError(f"batch_norm: expected (N, C, ...), not {input.shape}")
    shape = (1, input.shape[1], *[1] * (input.ndim - 2))  # (C,) -> (1, C, 1, 1)
    if training or running_mean is None or running_var is None:
        axes = (0, *range(2, input.ndim))
        count = math.prod(input.shape[a] for a in axes)
        if training and count < 2:
            raise ValueError(
                f"batch_norm: one value per channel in {input.shape} has no variance to train on"
            )
        xp = array_module(input.data)
        mean, var = kernels(xp).moments(xp, input.data, axes)
        inv_std = (var + float(eps)) ** -0.5  # a stray np.float64 would widen a float32 network
        y = _normalize(input, axes=axes, eps=eps, mean=mean, inv_std=inv_std)
        if training and running_mean is not None and running_var is not None:
            for running, batch in (
                (running_mean, mean),
                (running_var, var * (count / (count - 1))),
            ):
                running.data *= 1 - momentum
                running.data += momentum * batch.reshape(-1)
    else:
        inv_std = (reshape(running_var, shape) + eps) ** -0.5
        y = (input - reshape(running_mean, shape)) * inv_std
    if weight is not None:
        y = y * reshape(weight, shape)
    return y if bias is None else y + reshape(bias, shape)
