"""Change the size of images: pooling, which makes them smaller, and interpolation.

Pooling takes the mean or the maximum of each window. For the mean, the image is added up as each tap
of the kernel sees it; the transpose of that, and its rule, adds a number to all pixels of its window.
For the maximum, the rule cuts the windows out, as for a convolution, and looks for the largest pixel.

Everything here works with the channels last, (N, H, W, C), as the CPU's convolutions lay out their
images. Then the numbers that are copied or added together are contiguous in memory.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from . import backend
from .arguments import Pair, check_floats, pair
from .backend.reference import Window, columns, fold
from .ops import cast, where
from .pieces import pad
from .shapes import expand, matmul, permute, reshape
from .tensor import Tensor, op

# -- pooling ------------------------------------------------------------------------------------


@op(lambda g, y, x, *, window: _fold(g, window=window))
def _unfold(xp, x, *, window):
    """The pixels of each window: (N, C, H, W) -> (N*OH*OW, kh*kw, C)"""
    return columns(xp, x, window).reshape(-1, math.prod(window.kernel), x.shape[1])


@op(lambda g, y, x, *, window: _unfold(g, window=window))
def _fold(xp, x, *, window):
    """The transpose of unfold, which adds windows up: (N*OH*OW, kh*kw, C) -> (N, C, H, W)"""
    return fold(xp, x.reshape(-1, *window.grid, *window.kernel, x.shape[2]), window)


def _taps(x: backend.Array, window: Window) -> Iterator[backend.Array]:
    """For each tap of a kernel without padding, a view of what it sees: (N, C, OH, OW)."""
    (oh, ow), (sh, sw) = window.grid, window.stride
    for i, j in itertools.product(*map(range, window.kernel)):
        yield x[:, :, i : i + sh * (oh - 1) + 1 : sh, j : j + sw * (ow - 1) + 1 : sw]


@op(lambda g, y, x, *, window: _repeat_windows(g, window=window))
def _add_windows(xp, x, *, window):
    """The sum of each window: (N, C, H, W) -> (N, C, OH, OW)"""
    first, *others = _taps(x, window)
    y = first.copy(order="K")
    for tap in others:
        y += tap
    return y


@op(lambda g, y, x, *, window: _add_windows(g, window=window))
def _repeat_windows(xp, x, *, window):
    """The transpose of `_add_windows`: each number added to the pixels of its window, (N, C, H, W)"""
    y = backend.empty_like(x, (*x.shape[:2], *window.image))
    (oh, ow), (kh, kw) = window.grid, window.kernel
    if window.stride == (kh, kw) and window.image == (oh * kh, ow * kw):  # they tile the image
        # (N, C, H, W) -> (N, C, OH, kh, OW, kw), a view
        y.reshape(*x.shape[:2], oh, kh, ow, kw)[...] = x[:, :, :, None, :, None]
        return y
    y[...] = 0
    for tap in _taps(y, window):
        tap += x
    return y


def _max_rule(g: Tensor, y: Tensor, x: Tensor, *, window: Window) -> Tensor:
    """Each number of g at the first largest pixel of its window: (N, C, OH, OW) -> (N, C, H, W)"""
    rows = reshape(permute(g, 0, 2, 3, 1), -1, 1, g.shape[1])  # (N*OH*OW, 1, C)
    chosen = _first_largest(_unfold(x.detach(), window=window).data)  # (N*OH*OW, kh*kw, C)
    return _fold(where(chosen, rows, 0.0), window=window)


@op(_max_rule)
def _max_windows(xp, x, *, window):
    """The largest number of each window, or NaN: (N, C, H, W) -> (N, C, OH, OW)"""
    first, *others = _taps(x, window)
    y = first.copy(order="K")
    for tap in others:
        xp.maximum(y, tap, out=y)
    return y


def _windows(name: str, input: Tensor, kernel: Pair, stride: Pair | None, padding: Pair) -> Window:
    """The windows of a pooling. Raises TypeError or ValueError if there are none."""
    _check_images(name, input)
    size, pads = pair("kernel_size", kernel), pair("padding", padding)
    steps = size if stride is None else pair("stride", stride)
    window = Window(input.shape[2:], size, steps, pads)
    if any(2 * p > k for p, k in zip(pads, size, strict=True)):
        raise ValueError(f"{name}: padding {pads} must be at most half of kernel_size {size}")
    if min(window.grid) < 1:
        raise ValueError(
            f"{name}: kernel_size {size} is larger than the padded image: {window.image} with padding "
            f"{pads}"
        )
    return window


def _with_padding(input: Tensor, window: Window, value: float) -> tuple[Tensor, Window]:
    """The padded images, and the windows of an image of that size."""
    (ph, pw), (h, w) = window.pad, window.image
    padded = pad(input, (pw, pw, ph, ph), value=value) if ph or pw else input
    return padded, Window((h + 2 * ph, w + 2 * pw), window.kernel, window.stride, (0, 0))


def _images(rows: Tensor, n: int, height: int, width: int) -> Tensor:
    """A row of channels per pixel as images: (N*H*W, C) -> (N, C, H, W)"""
    return permute(reshape(rows, n, height, width, rows.shape[-1]), 0, 3, 1, 2)


def avg_pool2d(
    input: Tensor,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    *,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of each window, PyTorch's avg_pool2d: (N, C, H, W) -> (N, C, OH, OW).

    OH = floor((H + 2*padding - kh) / stride) + 1; by default the stride is kernel_size. The padding is
    zeros, which count towards the mean, unless count_include_pad is False. Raises TypeError or
    ValueError if an argument does not fit.
    """
    window = _windows("avg_pool2d", input, kernel_size, stride, padding)
    if input.dtype == np.float16:  # the sum of a window could overflow
        wide = cast(input, np.float32)
        found = avg_pool2d(wide, kernel_size, stride, padding, count_include_pad=count_include_pad)
        return cast(found, np.float16)
    padded, within = _with_padding(input, window, 0.0)
    count: Any = math.prod(window.kernel)
    if not count_include_pad:
        ones = backend.array_module(input.data).ones((1, 1, *window.image), input.dtype)
        count = _add_windows(_with_padding(Tensor(ones), window, 0.0)[0], window=within)
    return _add_windows(padded, window=within) / count


def max_pool2d(
    input: Tensor, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0
) -> Tensor:
    """The largest number of each window, PyTorch's max_pool2d; the shapes are those of `avg_pool2d`.

    Of equal numbers, the first gets the gradient. The padding is never chosen. Raises TypeError or
    ValueError if an argument does not fit.
    """
    window = _windows("max_pool2d", input, kernel_size, stride, padding)
    padded, window = _with_padding(input, window, -math.inf)
    return _max_windows(padded, window=window)


def _first_largest(taps: backend.Array) -> backend.Array:
    """True at the first of the largest numbers (or NaN) of each window: (N*OH*OW, kh*kw, C).

    A loop over the taps, because argmax along an inner dimension is much slower.
    """
    first = (taps == taps.max(axis=1, keepdims=True)) | (taps != taps)  # NaN counts as largest
    found = first[:, 0]
    for k in range(1, taps.shape[1]):
        first[:, k] &= ~found
        found = found | first[:, k]
    return first


# -- interpolation ------------------------------------------------------------------------------


def interpolate(
    input: Tensor,
    size: Pair | None = None,
    scale_factor: Pair | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """Images of another size, PyTorch's interpolate: (N, C, H, W) -> (N, C, OH, OW).

    size, scale_factor  one of them: (OH, OW), or the whole numbers (OH / H, OW / W); an int stands for
                        a pair
    mode                "nearest" repeats each pixel, and only enlarges by whole factors. "bilinear"
                        weights the two nearest pixels in each direction by their distance.
    align_corners       only None and False are supported: pixels are squares, not points

    Raises TypeError or ValueError if an argument does not fit.
    """
    h, w = check_interpolation("interpolate", size, scale_factor, mode, align_corners)
    _check_images("interpolate", input)
    if size is None:
        h, w = h * input.shape[2], w * input.shape[3]
    return _nearest(input, h, w) if mode == "nearest" else _bilinear(input, h, w)


def check_interpolation(
    name: str, size: Any, scale_factor: Any, mode: Any, align_corners: Any
) -> tuple[int, int]:
    """The size or the scale factor as a pair. Raises ValueError if the options do not fit."""
    if mode not in ("nearest", "bilinear"):
        raise ValueError(f"{name}: mode must be nearest or bilinear, not {mode!r}")
    if align_corners not in (None, False):
        raise ValueError(f"{name}: align_corners={align_corners!r} is not supported, only False")
    if (size is None) == (scale_factor is None):
        raise ValueError(f"{name}: give either size or scale_factor")
    return pair("size", size) if scale_factor is None else pair("scale_factor", scale_factor)


def _nearest(x: Tensor, oh: int, ow: int) -> Tensor:
    """Each pixel repeated: (N, C, H, W) -> (N, C, OH, OW)"""
    n, c, h, w = x.shape
    if oh % h or ow % w:
        raise ValueError(
            f"interpolate: nearest enlarges by whole factors, not {(h, w)} to {(oh, ow)}; use bilinear"
        )
    pixels = reshape(permute(x, 0, 2, 3, 1), n, h, 1, w, 1, c)  # (N, H, 1, W, 1, C)
    repeated = expand(pixels, n, h, oh // h, w, ow // w, c)  # (N, H, OH/H, W, OW/W, C)
    return _images(reshape(repeated, -1, c), n, oh, ow)


def _weights(like: Tensor, old: int, new: int) -> Tensor:
    """The matrix (new, old) that interpolates a line of pixels.

    The centre of new pixel i is at (i + 1/2) old / new - 1/2, counted in old pixels and kept within the
    line. Old pixel j has the weight 1 - distance, if that is above 0.
    """
    xp = backend.array_module(like.data)
    centres = ((xp.arange(new) + 0.5) * (old / new) - 0.5).clip(0.0, old - 1.0)
    weights = 1 - xp.abs(centres[:, None] - xp.arange(old))
    return Tensor(weights.clip(0.0, 1.0).astype(like.dtype))


def _bilinear(x: Tensor, oh: int, ow: int) -> Tensor:
    """Two matrix products, along the height and the width: (N, C, H, W) -> (N, C, OH, OW)"""
    if x.dtype == np.float16:  # to round once
        return cast(_bilinear(cast(x, np.float32), oh, ow), np.float16)
    n, c, h, w = x.shape
    rows = reshape(permute(x, 0, 2, 3, 1), n, h, w * c)  # (N, H, W*C)
    y = matmul(_weights(x, h, oh), rows)  # (N, OH, W*C)
    y = matmul(_weights(x, w, ow), reshape(y, n * oh, w, c))  # (N*OH, OW, C)
    return _images(y, n, oh, ow)


def _check_images(name: str, input: Any) -> None:
    """Raise TypeError or ValueError unless the input is a batch of images in floats."""
    check_floats(name, input)
    if input.ndim != 4 or 0 in input.shape[1:]:
        raise ValueError(f"{name}: expected images (N, C, H, W), not {input.shape}")
