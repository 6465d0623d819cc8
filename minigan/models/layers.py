"""Layers that only GANs have: two that show D the whole batch, and the pixel norm of G.

Both minibatch layers append what they find to their input, as further features or as further planes of
constant value, so only the layer after them becomes wider. They help D against mode collapse: fakes
that are all alike may look real one by one, but not side by side.
"""

from __future__ import annotations

import math

import numpy as np

from .. import init, nn
from ..arrays import DEFAULT_DTYPE
from ..functional import cat
from ..nn.checks import sizes
from ..tensor import Tensor


def with_planes(x: Tensor, values: Tensor) -> Tensor:
    """x (N, C, ...) with values (N, K) appended as K channels that are constant: (N, C + K, ...)."""
    planes = values.reshape(*values.shape, *[1] * (x.ndim - 2))  # (N, K) -> (N, K, 1, 1)
    return cat([x, planes.expand(*values.shape, *x.shape[2:])], 1)


GROUP = 4  # samples over which the standard deviation is taken


class MinibatchStdDev(nn.Module):
    """Append the mean standard deviation of a group of samples, as one feature or one plane.

    x (N, C, ...) -> (N, C + 1, ...). With G = min(group, N), sample i is in group i mod (N / G). For
    each feature (c, h, w) the standard deviation over the group's samples is sqrt(var + 1e-8), where
    var is the population variance, and 1e-8 makes the slope finite where all samples are equal. The
    mean over all features is appended to each sample of the group.

    Karras, Aila, Laine & Lehtinen 2018, "Progressive Growing of GANs", section 3. Call D once for reals
    and once for fakes, because in a joint batch the groups would mix them.

    Raises ValueError if N is not a multiple of G.
    """

    def __init__(self, group: int = GROUP):
        (self.group,) = sizes("MinibatchStdDev", group=group)

    def forward(self, x: Tensor) -> Tensor:
        size = min(self.group, len(x))
        if len(x) % size:
            raise ValueError(
                f"MinibatchStdDev: a batch of {len(x)} does not divide into groups of {size}"
            )
        groups = x.reshape(size, len(x) // size, -1)  # (N, C, ...) -> (G, M, features)
        std = (groups.var(0, unbiased=False) + 1e-8).sqrt().mean(1)  # (M,)
        return with_planes(x, std.expand(size, -1).reshape(len(x), 1))  # (M,) -> (G, M) -> (N, 1)

    def extra_repr(self) -> str:
        return f"group={self.group}"


class MinibatchDiscrimination(nn.Module):
    """Append how close each sample is to all others in the batch, by each of several kernels.

    x (N, C, ...) -> (N, C + kernels, ...). The flattened features f(i) of sample i are mapped to rows
    M_ib = f(i) T_b of length `dim`, one for each kernel b. The appended values are

        o_b(i) = sum over j != i of exp(-|M_ib - M_jb|_1)

    in_features  length of the flattened features
    kernels      number of values that are appended
    dim          length of the rows

    `weight` (in_features, kernels * dim) holds the T_b. Its first values are N(0, s^2) with
    s = 1 / (dim sqrt(in_features)), so that distances are about 1 for features of size 1. With much
    larger values every exp would be 0 in float32, and with it the gradient. The layer takes memory in
    proportion to N^2 kernels dim.

    Salimans, Goodfellow, Zaremba, Cheung, Radford & Chen 2016, "Improved Techniques for Training GANs",
    section 3.2. As there, call D once for reals and once for fakes.
    """

    def __init__(self, in_features: int, kernels: int = 100, dim: int = 5):
        layer = type(self).__name__
        in_features, self.kernels, self.dim = sizes(
            layer, in_features=in_features, kernels=kernels, dim=dim
        )
        self.weight = nn.Parameter(init.memory((in_features, kernels * dim), DEFAULT_DTYPE))
        self.reset_parameters()

    def reset_parameters(self, generator: np.random.Generator | None = None) -> None:
        """Draw the first values, by default from the generator that `manual_seed` seeds."""
        std = 1 / (self.dim * math.sqrt(self.weight.shape[0]))
        init.normal_(self.weight, 0.0, std, generator)

    def forward(self, x: Tensor) -> Tensor:
        n = len(x)
        rows = x.flatten(1) @ self.weight  # (N, kernels dim)
        rows = rows.reshape(n, 1, self.kernels, self.dim)  # (N, 1, kernels, dim)
        distances = (rows - rows.transpose(0, 1)).abs().sum(3)  # (N, N, kernels)
        return with_planes(x, (-distances).exp().sum(1) - 1.0)  # without j = i, whose exp is 1

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, kernels={self.kernels}, dim={self.dim}"


class PixelNorm(nn.Module):
    """x / sqrt(mean over the channels of x^2 + 1e-8), at each pixel: (N, C, ...) -> the same shape.

    Karras et al. 2018, section 4.2. It belongs after the activations of G.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x * ((x * x).mean(1, keepdim=True) + 1e-8) ** -0.5
