"""Convolution is one thing: the trilinear form

    T(x, w, y) = sum over n,o,c,p,k of  x[n, c, p*stride + k - pad] * w[o, c, k] * y[n, o, p]

of an image x (N, C, H, W), a kernel w (O, C, kh, kw) and a grid y (N, O, OH, OW). Its three partial
derivatives are the three operations of this file:

    conv2d            dT/dy,  from x and w
    conv_transpose2d  dT/dx,  from w and y
    weight gradient   dT/dw,  from x and y

A backward rule computes a derivative of <g, operation>, which is T again, with g as the missing factor.
So the two rules of each operation are the other two operations: three kernels, six one-line rules, and
gradients of any order. (Dumoulin & Visin 2016, "A guide to convolution arithmetic for deep learning",
draw the geometry.)

Two features serve speed alone. `fused`: if both gradients of an operation are needed and neither is
recorded, one kernel computes both and shares their common work. `memo`: a dict per convolution, in
which a kernel may keep what it computed from the weight, because the gradients need it again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .arguments import Pair, check_alike, pair
from .backend import kernels
from .backend.reference import Window
from .ops import cast
from .shapes import reshape, squeeze, unsqueeze
from .tensor import Tensor, op


@op(
    lambda g, y, x, w, *, window, memo: _conv_image(w, g, window=window, memo=memo),
    lambda g, y, x, w, *, window, memo: _conv_weight(x, g, window=window),
    fused=lambda xp, asked, g, y, x, w, *, window, memo: kernels(xp).conv_gradients(
        xp, asked, x, w, g, window, memo
    ),
)
def _conv(xp, x, w, *, window, memo):
    """dT/dy: (N, C, H, W), (O, C, kh, kw) -> (N, O, OH, OW)"""
    return kernels(xp).conv(xp, x, w, window, memo)


@op(
    lambda g, y, w, grid, *, window, memo: _conv_weight(g, grid, window=window),
    lambda g, y, w, grid, *, window, memo: _conv(g, w, window=window, memo=memo),
    fused=lambda xp, asked, g, y, w, grid, *, window, memo: kernels(xp).conv_image_gradients(
        xp, asked, w, grid, g, window, memo
    ),
)
def _conv_image(xp, w, grid, *, window, memo):
    """dT/dx: (O, C, kh, kw), (N, O, OH, OW) -> (N, C, H, W)"""
    return kernels(xp).conv_image(xp, w, grid, window, memo)


@op(
    lambda g, y, x, grid, *, window: _conv_image(g, grid, window=window, memo={}),
    lambda g, y, x, grid, *, window: _conv(x, g, window=window, memo={}),
)
def _conv_weight(xp, x, grid, *, window):
    """dT/dw: (N, C, H, W), (N, O, OH, OW) -> (O, C, kh, kw)"""
    return kernels(xp).conv_weight(xp, x, grid, window)


def conv2d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Pair = 1, padding: Pair = 0
) -> Tensor:
    """The cross-correlation of a batch of images with a kernel, PyTorch's conv2d.

    input (N, C, H, W) or (C, H, W), weight (O, C, kh, kw), bias (O,) -> (N, O, OH, OW), where
    OH = floor((H + 2*padding - kh) / stride) + 1. An int stands for a pair (vertical, horizontal).
    """
    check_alike("conv2d", input=input, weight=weight, bias=bias)
    if input.ndim == 3:
        return squeeze(conv2d(unsqueeze(input, 0), weight, bias, stride, padding), 0)
    _check("conv2d", input, weight, input_dim=1, bias=bias, bias_length=weight.shape[:1])
    if input.dtype == np.float16:
        return _half(conv2d, input, weight, bias, stride, padding)
    window = Window(
        input.shape[2:], weight.shape[2:], pair("stride", stride), pair("padding", padding)
    )
    if min(window.grid) < 1:
        raise ValueError(
            f"conv2d: the kernel {window.kernel} is larger than the padded image: "
            f"{window.image} with padding {window.pad}"
        )
    return _with_bias(_conv(input, weight, window=window, memo={}), bias)


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    output_padding: Pair = 0,
) -> Tensor:
    """The transpose of conv2d as a linear map, PyTorch's conv_transpose2d.

    input (N, O, OH, OW) or (O, OH, OW), weight (O, C, kh, kw), bias (C,) -> (N, C, H, W), where
    H = (OH - 1) * stride - 2*padding + kh + output_padding. conv2d gives images of
    `stride` different sizes the same grid; output_padding chooses one of these sizes.
    """
    check_alike("conv_transpose2d", input=input, weight=weight, bias=bias)
    if input.ndim == 3:
        image = conv_transpose2d(unsqueeze(input, 0), weight, bias, stride, padding, output_padding)
        return squeeze(image, 0)
    _check("conv_transpose2d", input, weight, input_dim=0, bias=bias, bias_length=weight.shape[1:2])
    if input.dtype == np.float16:
        return _half(conv_transpose2d, input, weight, bias, stride, padding, output_padding)
    stride, padding = pair("stride", stride), pair("padding", padding)
    extra = pair("output_padding", output_padding)
    if any(e >= s for e, s in zip(extra, stride, strict=True)):
        raise ValueError(f"conv_transpose2d: output_padding {extra} must be below stride {stride}")
    image = tuple(
        (o - 1) * s - 2 * p + k + e
        for o, s, p, k, e in zip(
            input.shape[2:], stride, padding, weight.shape[2:], extra, strict=True
        )
    )
    if min(image) < 1:
        raise ValueError(f"conv_transpose2d: the output would have the size {image}")
    window = Window(image, weight.shape[2:], stride, padding)
    return _with_bias(_conv_image(weight, input, window=window, memo={}), bias)


def _half(
    convolve: Callable[..., Tensor], input: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any
) -> Tensor:
    """The convolution of float16, rounded once.

    In float64 each product of two float16 numbers is exact, and no partial sum overflows.
    """
    wide = [t if t is None else cast(t, np.float64) for t in (input, weight, bias)]
    return cast(convolve(*wide, *rest), np.float16)


def _with_bias(y: Tensor, bias: Tensor | None) -> Tensor:
    return y if bias is None else y + reshape(bias, 1, -1, 1, 1)  # (C,) -> (1, C, 1, 1)


def _check(
    name: str, x: Tensor, w: Tensor, input_dim: int, bias: Tensor | None, bias_length: tuple
) -> None:
    if x.ndim != 4 or w.ndim != 4 or x.shape[1] != w.shape[input_dim]:
        expected = ("(C_in, C_out, kh, kw)", "(C_out, C_in, kh, kw)")[input_dim]
        raise ValueError(
            f"{name}: an input {x.shape} and a weight {w.shape} do not fit together; "
            f"expected (N, C_in, H, W) and {expected}"
        )
    if 0 in w.shape:
        raise ValueError(f"{name}: the weight {w.shape} has no elements")
    if bias is not None and bias.shape != bias_length:
        raise ValueError(f"{name}: the bias has shape {bias.shape}, expected {bias_length}")
    if x.dtype.kind != "f":
        raise TypeError(f"{name}: expected floats, not {x.dtype}; use .to('float32')")
