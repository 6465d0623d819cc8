"""Layers: Linear, convolutions, batch norm, activations. Each calls one function of `functional`."""

from __future__ import annotations

import numpy as np

from .. import functional as F
from .. import init
from ..arguments import Pair, is_real, is_whole, pair
from ..arrays import DEFAULT_DTYPE
from ..normalize import batch_norm_activated, check_constants
from ..tensor import Tensor
from .checks import check_bool, check_only, shown, sizes
from .module import Buffer, Module, Parameter


def _zeros(*shape: int) -> np.ndarray:
    return init.memory(shape, DEFAULT_DTYPE)


def _kernel(o: int, c: int, kh: int, kw: int) -> np.ndarray:
    """Zeros (O, C, kh, kw), in memory (kh, kw, C, O), the matrix by which the kernels multiply."""
    return _zeros(kh, kw, c, o).transpose(3, 2, 0, 1)


class Linear(Module):
    """y = x W^T + b; weight (out_features, in_features), bias (out_features,)."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True):
        inside, out = sizes("Linear", in_features=in_features, out_features=out_features)
        check_bool("Linear: bias", bias)
        self.weight = Parameter(_zeros(out, inside))
        self.register_parameter("bias", Parameter(_zeros(out)) if bias else None)
        init.default_(self.weight, self.bias)

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        out, inside = self.weight.shape
        return f"in_features={inside}, out_features={out}, bias={self.bias is not None}"


class _Conv(Module):
    """What the two convolutions share: geometry, weight, bias and the printed form."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair,
        padding: Pair,
        bias: bool,
        transposed: bool,
    ):
        layer = type(self).__name__
        channels = sizes(layer, in_channels=in_channels, out_channels=out_channels)
        check_bool(f"{layer}: bias", bias)
        self.stride, self.padding = pair("stride", stride), pair("padding", padding)
        shape = channels if transposed else channels[::-1]
        self.weight = Parameter(_kernel(*shape, *pair("kernel_size", kernel_size)))
        self.register_parameter("bias", Parameter(_zeros(channels[1])) if bias else None)
        init.default_(self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"weight={self.weight.shape}, stride={self.stride}, padding={self.padding}, "
            f"bias={self.bias is not None}"
        )


class Conv2d(_Conv):
    """F.conv2d with a weight (out_channels, in_channels, kh, kw)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
    ):
        check_only("Conv2d", dilation=dilation, groups=groups, padding_mode=padding_mode)
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, bias, transposed=False
        )

    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(input, self.weight, self.bias, self.stride, self.padding)


class ConvTranspose2d(_Conv):
    """F.conv_transpose2d with a weight (in_channels, out_channels, kh, kw)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        output_padding: Pair = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Pair = 1,
        padding_mode: str = "zeros",
    ):
        check_only("ConvTranspose2d", dilation=dilation, groups=groups, padding_mode=padding_mode)
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, bias, transposed=True
        )
        self.output_padding = pair("output_padding", output_padding)

    def forward(self, input: Tensor) -> Tensor:
        return F.conv_transpose2d(
            input, self.weight, self.bias, self.stride, self.padding, self.output_padding
        )


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
        self.weight = Parameter(_zeros(num_features) + 1)
        self.bias = Parameter(_zeros(num_features))
        self.running_mean = Buffer(_zeros(num_features))
        self.running_var = Buffer(_zeros(num_features) + 1)
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


class LeakyReLU(Module):
    """x where x > 0, else negative_slope * x

    `inplace` is accepted for compatibility with PyTorch, but never changes the input.
    """

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False):
        layer = type(self).__name__
        if not is_real(negative_slope) or negative_slope < 0:
            raise ValueError(
                f"{layer}: negative_slope must be a number of at least 0, not {shown(negative_slope)}"
            )
        check_bool(f"{layer}: inplace", inplace)
        self.negative_slope = float(negative_slope)

    def forward(self, input: Tensor) -> Tensor:
        return F.leaky_relu(input, self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"


class ReLU(LeakyReLU):
    """max(x, 0); for `inplace` see LeakyReLU"""

    def __init__(self, inplace: bool = False):
        super().__init__(0.0, inplace)

    def extra_repr(self) -> str:
        return ""


class Tanh(Module):
    """The hyperbolic tangent"""

    def forward(self, input: Tensor) -> Tensor:
        return F.tanh(input)


class Sigmoid(Module):
    """1 / (1 + e^-x)"""

    def forward(self, input: Tensor) -> Tensor:
        return F.sigmoid(input)


class Flatten(Module):
    """The dimensions from start_dim to end_dim as one"""

    def __init__(self, start_dim: int = 1, end_dim: int = -1):
        for name, dim in (("start_dim", start_dim), ("end_dim", end_dim)):
            if not is_whole(dim):
                raise ValueError(f"Flatten: {name} must be an int, not {shown(dim)}")
        self.start_dim, self.end_dim = int(start_dim), int(end_dim)

    def forward(self, input: Tensor) -> Tensor:
        return F.flatten(input, self.start_dim, self.end_dim)


class Identity(Module):
    """Its input, unchanged"""

    def forward(self, input: Tensor) -> Tensor:
        return input
