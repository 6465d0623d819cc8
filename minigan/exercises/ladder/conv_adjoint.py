"""The adjoint of a convolution: from result to image.

A convolution with a stride s slides a window w over an image x:

    y[i, j]  =  sum over p, q of  x[s i + p, s j + q] w[p, q]

Every pixel of x lies in several windows, so it collects a gradient from each of them. The same
function is the transposed convolution, with which a generator enlarges its images.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..differences import differences


def conv_image(g: np.ndarray, w: np.ndarray, size: tuple, stride: int) -> np.ndarray:
    """The gradient (H, W) of the image, given that of the result.

    g       the gradient of y, (h, v)
    w       the window, (P, Q)
    size    (H, W); pixels that no window reaches get 0
    stride  s
    """
    x = np.zeros(size)
    h, v = g.shape
    for p in range(w.shape[0]):
        for q in range(w.shape[1]):
            x[p : p + stride * h : stride, q : q + stride * v : stride] += w[p, q] * g
    return x


def _convolution(x: np.ndarray, w: np.ndarray, stride: int) -> np.ndarray:
    """y, by the formula above."""
    (P, Q), (H, W) = w.shape, x.shape
    h, v = (H - P) // stride + 1, (W - Q) // stride + 1
    windows = np.lib.stride_tricks.sliding_window_view(x, (P, Q))[::stride, ::stride]
    return np.einsum("ijpq,pq->ij", windows[:h, :v], w)


def measure(conv_image: Any) -> Iterator[tuple[str, Any, Any]]:
    rng = np.random.default_rng(1)
    for size, window, stride in (
        *(((3, 3), (1, 1), 1), ((1, 5), (1, 2), 1), ((5, 6), (3, 2), 1)),
        *(((6, 6), (2, 2), 2), ((7, 8), (3, 4), 2), ((9, 10), (3, 3), 3)),
    ):
        w = rng.standard_normal(window)
        g = rng.standard_normal([(n - k) // stride + 1 for n, k in zip(size, window, strict=True)])
        truth = differences(lambda x: _convolution(x, w, stride), np.zeros(size), g)
        what = f"image {size}, window {window}, stride {stride}"
        yield what, conv_image(g.copy(), w.copy(), size, stride), truth


def wrong_flipped(g: np.ndarray, w: np.ndarray, size: tuple, stride: int) -> np.ndarray:
    """Your window is turned by 180 degrees. The pixel x[s i + p, s j + q] was multiplied by w[p,
    q].
    """
    return conv_image(g, w[::-1, ::-1], size, stride)


def wrong_overwrites(g: np.ndarray, w: np.ndarray, size: tuple, stride: int) -> np.ndarray:
    """Windows overlap. Add the gradients of all windows in which a pixel lies: `+=`."""
    x = np.zeros(size)
    h, v = g.shape
    for p in range(w.shape[0]):
        for q in range(w.shape[1]):
            x[p : p + stride * h : stride, q : q + stride * v : stride] = w[p, q] * g
    return x


def wrong_without_stride(g: np.ndarray, w: np.ndarray, size: tuple, stride: int) -> np.ndarray:
    """The stride is missing: y[i, j] came from the pixels x[s i + p, s j + q]."""
    return conv_image(g, w, size, 1)


def wrong_forward(g: np.ndarray, w: np.ndarray, size: tuple, stride: int) -> np.ndarray:
    """This is a convolution of g, and smaller than g. The gradient of the image is larger than g."""
    return _convolution(g, w, stride)


HINTS = (
    "Which pixels did y[i, j] read, and with which weights? Give each of them its share of g[i, j].",
    "Begin with zeros, and go through p and q: x[p : p + s h : s, q : q + s v : s] += w[p, q] * g.",
)
OFF_LIMITS = ("minigan",)
