"""Layers: Linear, Embedding, convolutions, activations. Each calls one function of `functional`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import functional as F
from .. import init
from ..arguments import Pair, all_sizes, is_real, pair
from ..arrays import DEFAULT_DTYPE
from ..tensor import Tensor
from .checks import check_bool, check_dims, check_only, shown, sizes
from .module import Module, Parameter


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


class Embedding(Module):
    """F.embedding: a row of the weight (num_embeddings, embedding_dim) for each label."""

    def __init__(self, num_embeddings: int, embedding_dim: int):
        shape = sizes("Embedding", num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        self.weight = Parameter(_zeros(*shape))
        init.normal_(self.weight)  # N(0, 1), as in PyTorch

    def forward(self, input: Tensor) -> Tensor:
        return F.embedding(input, self.weight)

    def extra_repr(self) -> str:
        return "{}, {}".format(*self.weight.shape)


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


class Softplus(Module):
    """log(1 + e^x)"""

    def forward(self, input: Tensor) -> Tensor:
        return F.softplus(input)


class Softmax(Module):
    """F.softmax over the dimension `dim`"""

    def __init__(self, dim: int):
        check_dims(type(self).__name__, dim=dim)
        self.dim = int(dim)

    def forward(self, input: Tensor) -> Tensor:
        return F.softmax(input, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class LogSoftmax(Softmax):
    """F.log_softmax over the dimension `dim`"""

    def forward(self, input: Tensor) -> Tensor:
        return F.log_softmax(input, self.dim)


class Flatten(Module):
    """The dimensions from start_dim to end_dim as one"""

    def __init__(self, start_dim: int = 1, end_dim: int = -1):
        check_dims("Flatten", start_dim=start_dim, end_dim=end_dim)
        self.start_dim, self.end_dim = int(start_dim), int(end_dim)

    def forward(self, input: Tensor) -> Tensor:
        return F.flatten(input, self.start_dim, self.end_dim)


class Unflatten(Module):
    """The dimension `dim` as several, of the sizes unflattened_size"""

    def __init__(self, dim: int, unflattened_size: Sequence[int]):
        check_dims("Unflatten", dim=dim)
        self.dim, self.unflattened_size = int(dim), all_sizes((unflattened_size,))

    def forward(self, input: Tensor) -> Tensor:
        return F.unflatten(input, self.dim, self.unflattened_size)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"


class Identity(Module):
    """Its input, unchanged"""

    def forward(self, input: Tensor) -> Tensor:
        return input
