"""Columns of images with few channels, as planes: the first layer of D and the last of G.

One row of a window has kw*C numbers: 12 for a kernel of 4 and the three channels of a picture. Copying
or adding runs of 12 numbers takes longer than the product itself, so here the loops are swapped. What
all windows see of channel c through the tap (i, j) is a plane of n*OH*OW numbers: the pixels of the
phase (i mod sh, j mod sw), shifted by (i // sh, j // sw). The rows of a plane are long runs.

The matrices are those of `reference.py`, transposed: (kh*kw*C, n*OH*OW) for a block of n images.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .reference import Window
from .threads import scratch


def columns(x: np.ndarray, window: Window) -> np.ndarray:
    """The windows' pixels: (n, C, H, W) -> (kh*kw*C, n*OH*OW). The next call overwrites them."""
    n, c = x.shape[:2]
    padded, inner, phases = _padded(n, c, window, x.dtype)
    padded[...] = 0
    image = padded[inner]  # (n, H, W, C), or smaller if the windows do not reach the image's edge
    image[...] = x.transpose(0, 2, 3, 1)[:, : image.shape[1], : image.shape[2]]
    planes = scratch("phases", phases.shape, x.dtype)
    planes[...] = phases
    out = scratch("planes", (*window.kernel, c, n, *window.grid), x.dtype)
    for taps, seen in _shifts(window):
        out[taps] = planes[seen]
    return out.reshape(-1, n * window.grid[0] * window.grid[1])


def fold(kernel_rows: np.ndarray, y_rows: np.ndarray, window: Window, x: np.ndarray) -> None:
    """Multiply (kh*kw*C, O) by (n*OH*OW, O), and add the windows up in the image x (n, C, H, W)."""
    n, c = x.shape[:2]
    padded, inner, phases = _padded(n, c, window, x.dtype)
    out = scratch("planes", (*window.kernel, c, n, *window.grid), x.dtype)
    np.matmul(kernel_rows, y_rows.T, out=out.reshape(len(kernel_rows), len(y_rows)))
    planes = scratch("phases", phases.shape, x.dtype)
    planes[...] = 0
    for taps, seen in _shifts(window):
        planes[seen] += out[taps]
    phases[...] = planes
    image = padded[inner]
    x[...] = 0  # if the stride is inexact, no window sees the last pixels
    x.transpose(0, 2, 3, 1)[:, : image.shape[1], : image.shape[2]] = image


def _padded(
    n: int, c: int, window: Window, dtype: np.dtype
) -> tuple[np.ndarray, tuple, np.ndarray]:
    """Scratch memory for the part of the padded image that windows reach, the index of the image in
    it, and a view of it by phases: (n, qh*sh, qw*sw, C) as (sh, sw, C, n, qh, qw)."""
    (sh, sw), (ph, pw) = window.stride, window.pad
    qh, qw = (
        g + (k - 1) // s for g, k, s in zip(window.grid, window.kernel, window.stride, strict=True)
    )
    padded = scratch("padded picture", (n, qh * sh, qw * sw, c), dtype)
    h, w = window.image
    phases = padded.reshape(n, qh, sh, qw, sw, c).transpose(2, 4, 5, 0, 1, 3)
    return padded, (slice(None), slice(ph, ph + h), slice(pw, pw + w)), phases


def _shifts(window: Window) -> Iterator[tuple[tuple, tuple]]:
    """For each shift: the taps that share it, one per phase, and the pixels that they see."""
    (oh, ow), (kh, kw), (sh, sw) = window.grid, window.kernel, window.stride
    for i in range(-(-kh // sh)):
        for j in range(-(-kw // sw)):
            rows, cols = min(sh, kh - i * sh), min(sw, kw - j * sw)
            taps = slice(i * sh, i * sh + rows), slice(j * sw, j * sw + cols)
            windows = slice(i, i + oh), slice(j, j + ow)
            yield taps, (slice(rows), slice(cols), slice(None), slice(None), *windows)
