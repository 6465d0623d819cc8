"""Columns of images with few channels, as planes: the first layer of D and the last of G.

A window's row of pixels is kw*C numbers; with the three channels of a picture these are 12, and to
copy, or to add up, runs of 12 numbers takes longer than the product. So the loops are turned round.
What all windows see of channel c through the tap (i, j) is a plane of n*OH*OW numbers: the pixels of
the phase (i mod sh, j mod sw), shifted by (i // sh, j // sw). A plane's rows are long runs.

The matrices are those of `reference.py`, transposed: (kh*kw*C, n*OH*OW), for n images of a block.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .reference import Window
from .threads import scratch


def columns(x: np.ndarray, window: Window) -> np.ndarray:
    """What the windows see: (n, C, H, W) -> (kh*kw*C, n*OH*OW), overwritten by the next call."""
    n, c = x.shape[:2]
    padded, inner, phases = _padded(n, c, window, x.dtype)
    padded[...] = 0
    image = padded[inner]  # (n, H, W, C), or less where windows do not reach the image's end
    image[...] = x.transpose(0, 2, 3, 1)[:, : image.shape[1], : image.shape[2]]
    planes = scratch("phases", phases.shape, x.dtype)
    planes[...] = phases
    out = scratch("planes", (*window.kernel, c, n, *window.grid), x.dtype)
    for taps, seen in _shifts(window):
        out[taps] = planes[seen]
    return out.reshape(-1, n * window.grid[0] * window.grid[1])


def fold(kernel_rows: np.ndarray, y_rows: np.ndarray, window: Window, x: np.ndarray) -> None:
    """The transpose: (kh*kw*C, O) and (n*OH*OW, O) -> the image x (n, C, H, W), added up."""
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
    x[...] = 0  # an inexact stride leaves pixels that no window sees
    x.transpose(0, 2, 3, 1)[:, : image.shape[1], : image.shape[2]] = image


def _padded(
    n: int, c: int, window: Window, dtype: np.dtype
) -> tuple[np.ndarray, tuple, np.ndarray]:
    """Scratch for the padded image as far as windows reach, where the image lies in it, and a view
    of it by phases: (n, qh*sh, qw*sw, C) seen as (sh, sw, C, n, qh, qw)."""
    (sh, sw), (ph, pw) = window.stride, window.pad
    qh, qw = (
        g + (k - 1) // s for g, k, s in zip(window.grid, window.kernel, window.stride, strict=True)
    )
    padded = scratch("padded picture", (n, qh * sh, qw * sw, c), dtype)
    h, w = window.image
    phases = padded.reshape(n, qh, sh, qw, sw, c).transpose(2, 4, 5, 0, 1, 3)
    return padded, (slice(None), slice(ph, ph + h), slice(pw, pw + w)), phases


def _shifts(window: Window) -> Iterator[tuple[tuple, tuple]]:
    """For each shift: the taps that share it, one for each phase, and the pixels seen through them."""
    (oh, ow), (kh, kw), (sh, sw) = window.grid, window.kernel, window.stride
    for i in range(-(-kh // sh)):
        for j in range(-(-kw // sw)):
            rows, cols = min(sh, kh - i * sh), min(sw, kw - j * sw)
            taps = slice(i * sh, i * sh + rows), slice(j * sw, j * sw + cols)
            windows = slice(i, i + oh), slice(j, j + ow)
            yield taps, (slice(rows), slice(cols), slice(None), slice(None), *windows)
