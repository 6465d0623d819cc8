"""Layers that change the size of images. Each calls one function of `functional`."""

from __future__ import annotations

from collections.abc import Sequence

from .. import functional as F
from ..arguments import Pair, is_whole, pair
from ..resizing import check_interpolation
from ..tensor import Tensor
from .checks import shown
from .module import Module


class _Pool2d(Module):
    """What the two poolings share."""

    def __init__(self, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0):
        self.kernel_size = pair("kernel_size", kernel_size)
        self.stride = self.kernel_size if stride is None else pair("stride", stride)
        self.padding = pair("padding", padding)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool2d(_Pool2d):
    """F.avg_pool2d, the mean of each window"""

    def forward(self, input: Tensor) -> Tensor:
        return F.avg_pool2d(input, self.kernel_size, self.stride, self.padding)


class MaxPool2d(_Pool2d):
    """F.max_pool2d, the largest number of each window"""

    def forward(self, input: Tensor) -> Tensor:
        return F.max_pool2d(input, self.kernel_size, self.stride, self.padding)


class Upsample(Module):
    """F.interpolate to a size, or by a scale factor"""

    def __init__(
        self,
        size: Pair | None = None,
        scale_factor: Pair | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
    ):
        check_interpolation("Upsample", size, scale_factor, mode, align_corners)
        self.size, self.scale_factor, self.mode = size, scale_factor, mode

    def forward(self, input: Tensor) -> Tensor:
        return F.interpolate(input, self.size, self.scale_factor, self.mode)

    def extra_repr(self) -> str:
        name = "scale_factor" if self.size is None else "size"
        return f"{name}={getattr(self, name)}, mode={self.mode}"


class ReflectionPad2d(Module):
    """F.pad in mode "reflect"; padding is (left, right, top, bottom), or one int for all four"""

    def __init__(self, padding: int | Sequence[int]):
        four = padding if isinstance(padding, Sequence) else (padding,) * 4
        if len(four) != 4 or not all(is_whole(n) and n >= 0 for n in four):
            raise ValueError(
                f"ReflectionPad2d: padding must be an int >= 0 or four of them, not {shown(padding)}"
            )
        self.padding = tuple(map(int, four))

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, mode="reflect")

    def extra_repr(self) -> str:
        return f"{self.padding}"
