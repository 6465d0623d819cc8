"""Normalising layers: batch, layer, instance and group norm, each from `normalize.py`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import functional as F
from .. import init
from ..arguments import all_sizes, is_whole
from ..arrays import DEFAULT_DTYPE
from ..image_norm import group_norm_activated, instance_norm_activated
from ..normalize import batch_norm_activated, check_constants, check_eps
from ..tensor import Tensor
from .checks import check_bool, check_only, shown, sizes
from .module import Buffer, Module, Parameter


def _full(value: int, *shape: int) -> np.ndarray:
    return init.memory(shape, DEFAULT_DTYPE) + np.float32(value)


class _BatchNorm(Module):
    """F.batch_norm with learned scale and shift, and running statistics as buffers.

    num_batches_tracked counts the batches seen in training mode, as PyTorch's does.
    """

    dims: tuple[int, ...]

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ):
        layer = type(self).__name__
        (num_features,) = sizes(layer, num_features=num_features)
        check_constants(eps, momentum)
        check_only(layer, affine=affine, track_running_stats=track_running_stats)
        self.eps, self.momentum = float(eps), float(momentum)
        self.weight = Parameter(_full(1, num_features))
        self.bias = Parameter(_full(0, num_features))
        self.running_mean = Buffer(_full(0, num_features))
        self.running_var = Buffer(_full(1, num_features))
        self.num_batches_tracked = Buffer(np.zeros((), np.int64))

    def forward(self, input: Tensor) -> Tensor:
        return self.activated(input, slope=1.0)

    def activated(self, input: Tensor, slope: float) -> Tensor:
        """The norm followed by a leaky ReLU of that slope (1: none), in one operation."""
        if isinstance(input, Tensor) and input.ndim not in self.dims:
            raise ValueError(
                f"{type(self).__name__}: expected {self.dims} dimensions, not {input.shape}"
            )
        y = batch_norm_activated(
            input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training,
            self.momentum,
            self.eps,
            slope,
        )
        if self.training:  # counted only now, because the batch might have been refused
            self.num_batches_tracked.data += 1
        return y

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, eps={self.eps}, momentum={self.momentum}"


class BatchNorm1d(_BatchNorm):
    """Batch norm of (N, C) or (N, C, L)."""

    dims = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Batch norm of (N, C, H, W)."""

    dims = (4,)


class _Affine(Module):
    """What the other norms share: a scale and a shift, which may be left out, and eps."""

    def _set(self, shape: tuple[int, ...], eps: float, weight: bool, bias: bool) -> None:
        check_eps(type(self).__name__, eps)
        self.eps = float(eps)
        self.register_parameter("weight", Parameter(_full(1, *shape)) if weight else None)
        self.register_parameter("bias", Parameter(_full(0, *shape)) if bias else None)


class LayerNorm(_Affine):
    """F.layer_norm over the last dimensions, whose shape is normalized_shape"""

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
    ):
        shape = normalized_shape if isinstance(normalized_shape, Sequence) else (normalized_shape,)
        if not shape or not all(is_whole(n) and n >= 1 for n in shape):
            raise ValueError(
                "LayerNorm: normalized_shape must be an int >= 1 or a tuple of them, not "
                f"{shown(normalized_shape)}"
            )
        check_bool("LayerNorm: elementwise_affine", elementwise_affine)
        check_bool("LayerNorm: bias", bias)
        self.normalized_shape = all_sizes((shape,))
        self._set(self.normalized_shape, eps, elementwise_affine, elementwise_affine and bias)

    def forward(self, input: Tensor) -> Tensor:
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, affine={self.weight is not None}"


class InstanceNorm2d(_Affine):
    """F.instance_norm of (N, C, H, W); like PyTorch's, without scale and shift by default

    Running statistics are not supported, so `momentum`, which only they use, must keep its default.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
    ):
        (num_features,) = sizes("InstanceNorm2d", num_features=num_features)
        check_only("InstanceNorm2d", momentum=momentum)
        check_bool("InstanceNorm2d: affine", affine)
        if track_running_stats is not False:
            raise ValueError(
                f"InstanceNorm2d: track_running_stats={shown(track_running_stats)} is not supported, "
                "only False (the arguments are in PyTorch's order)"
            )
        self.num_features = num_features
        self._set((num_features,), eps, affine, affine)

    def forward(self, input: Tensor) -> Tensor:
        return self.activated(input, slope=1.0)

    def activated(self, input: Tensor, slope: float) -> Tensor:
        """The norm followed by a leaky ReLU of that slope (1: none), in one operation."""
        if isinstance(input, Tensor) and (input.ndim != 4 or input.shape[1] != self.num_features):
            raise ValueError(
                f"InstanceNorm2d: expected (N, {self.num_features}, H, W), not {input.shape}"
            )
        return instance_norm_activated(input, self.weight, self.bias, self.eps, slope)

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}, affine={self.weight is not None}"


class GroupNorm(_Affine):
    """F.group_norm with a scale and a shift per channel"""

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True):
        groups, channels = sizes("GroupNorm", num_groups=num_groups, num_channels=num_channels)
        check_bool("GroupNorm: affine", affine)
        if channels % groups:
            raise ValueError(
                f"GroupNorm: num_channels {channels} is not a multiple of num_groups {groups}"
            )
        self.num_groups, self.num_channels = groups, channels
        self._set((channels,), eps, affine, affine)

    def forward(self, input: Tensor) -> Tensor:
        return self.activated(input, slope=1.0)

    def activated(self, input: Tensor, slope: float) -> Tensor:
        """The norm followed by a leaky ReLU of that slope (1: none), in one operation."""
        return group_norm_activated(input, self.num_groups, self.weight, self.bias, self.eps, slope)

    def extra_repr(self) -> str:
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, "
            f"affine={self.weight is not None}"
        )
