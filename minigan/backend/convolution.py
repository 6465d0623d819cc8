"""Convolutions on the CPU, a few images at a time.

The column matrix of a batch is many times larger than the cache; that of a few images fits. So each
kernel here computes what the reference does, a few images at a time. Some cases are faster another way:
`filtering.py` has the kernel of the DCGAN, `winograd.py` that of residual networks, and `planes.py`
images of few channels. (docs/performance.md explains all three.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

import numpy as np

from . import filtering, planes, reference, winograd
from .products import matmul
from .reference import Window
from .rows import row_cuts
from .threads import empty, share

T = TypeVar("T")

BLOCK = 1 << 21  # bytes of columns in a block of work: they stay in the second-level cache
LANES = 4  # running sums of a weight gradient, for any number of threads
FEW_CHANNELS = 8  # below this, the products are too narrow to be worth saving
FEW_TILES = 64  # below this, transforming the weight costs more than filtering saves
MANY_CHANNELS = 64  # below this, the transforms of winograd.py cost more than filtering saves


def _filter(n: int, channels: tuple[int, int], window: Window) -> ModuleType | None:
    """The file whose minimal filtering pays: its products replace more work than its transforms add."""
    if n * window.grid[0] * window.grid[1] // 4 < FEW_TILES:
        return None
    if filtering.applies(window) and min(channels) >= FEW_CHANNELS:
        return filtering
    many = min(channels) >= MANY_CHANNELS
    return winograd if many and winograd.applies(window) else None


def _turned(x_channels: int, y_channels: int, window: Window) -> bool:
    """Whether a convolution is faster as its transpose, with the kernel turned round.

    With stride 1 each is the other's transpose. Columns are made of the image, so they are small if the
    image has few channels. So a convolution to few channels, like the last layer of a CycleGAN's G
    (64 to 3, kernel 7), is computed as one from few channels. Its weight does not meet the padding, so
    an infinite weight leaves numbers at the edge that are NaN in the reference.
    """
    return (
        window.stride == (1, 1)
        and y_channels < FEW_CHANNELS <= x_channels
        and all(p < k for p, k in zip(window.pad, window.kernel, strict=True))
        and not _covers(window)
        and not _single(window)
    )


def _turn(w: np.ndarray) -> np.ndarray:
    """The kernel turned round: (O, C, kh, kw) -> (C, O, kh, kw)."""
    return w[:, :, ::-1, ::-1].swapaxes(0, 1)


def _blocks(n: int, row_bytes: int, window: Window) -> list[slice]:
    """Slices of the batch whose columns each fill a block."""
    image = window.grid[0] * window.grid[1] * window.kernel[0] * window.kernel[1] * row_bytes
    step = max(1, BLOCK // max(1, image))
    return [slice(i, min(i + step, n)) for i in range(0, n, step)]


def _covers(window: Window) -> bool:
    """Whether the kernel covers the whole image. Then each row of columns is an image: no overlaps."""
    return window.kernel == window.image and window.pad == (0, 0)


def _single(window: Window) -> bool:
    """Whether each window is a single pixel, so that the pixels' rows are the columns."""
    return window.kernel == window.stride == (1, 1) and window.pad == (0, 0)


def _columns(x: np.ndarray, window: Window) -> np.ndarray:
    """reference.columns, computed the fastest way for the shape."""
    if _covers(window):
        return x.transpose(0, 2, 3, 1).reshape(len(x), math.prod(x.shape[1:]))  # no copy
    if _single(window):
        return reference.pixel_rows(x)
    if x.shape[1] < FEW_CHANNELS:
        return planes.columns(x, window).T
    return reference.columns(np, x, window)


def _if_finite(kernel: Callable[..., T], *arguments: Any, memo: dict | None = None) -> T | None:
    """The result of a fast kernel, or None if it may contain a false infinity or NaN.

    Filtering subtracts where the formula only adds: infinity - infinity is NaN, and 2e38 - -2e38 is
    infinite. The processor sets a flag for both, which NumPy checks after each call anyway. So the
    results are searched only if a flag was set. Given None, the caller computes without filtering.
    (A NaN sets no flag. `winograd.py` may spread one further than the formula: from a weight to the
    edges of an image's gradient, and from a pixel near the edge to all taps of a weight's gradient.)
    """
    noted: list[tuple] = []
    keeping = () if memo is None else (memo,)
    with np.errstate(over="call", invalid="call", call=lambda *error: noted.append(error)):
        result = kernel(*arguments, *keeping)
    if noted and not all(
        np.isfinite(a).all() for a in (result if type(result) is list else [result])
    ):
        if memo:
            memo.clear()
        return None
    return result


def conv(
    xp: ModuleType, x: np.ndarray, w: np.ndarray, window: Window, memo: dict | None = None
) -> np.ndarray:
    """See reference.conv."""
    if faster := _filter(len(x), w.shape[:2], window):
        y = _if_finite(faster.conv, x, w, window, memo=memo)
        if y is not None:
            return y
    if _turned(x.shape[1], len(w), window):
        return conv_image(xp, _turn(w), x, window.turned())
    blocks = _blocks(len(x), x.shape[1] * x.itemsize, window)
    kernel = reference.kernel_rows(w)  # (kh*kw*C, O)
    if len(blocks) == 1:  # a single block: share the columns' rows instead
        y = matmul(xp, _columns(x, window), kernel)  # (N*OH*OW, O)
        return y.reshape(len(x), *window.grid, -1).transpose(0, 3, 1, 2)  # (N, O, OH, OW)
    y = empty((len(x), *window.grid, len(w)), x.dtype)

    def work(i: int) -> None:
        block = y[blocks[i]].reshape(-1, len(w))  # (n*OH*OW, O)
        np.matmul(_columns(x[blocks[i]], window), kernel, out=block)

    share(work, len(blocks))
    return y.transpose(0, 3, 1, 2)  # (N, OH, OW, O) -> (N, O, OH, OW)


def conv_image(
    xp: ModuleType, w: np.ndarray, y: np.ndarray, window: Window, memo: dict | None = None
) -> np.ndarray:
    """See reference.conv_image."""
    if faster := _filter(len(y), w.shape[:2], window):
        x = _if_finite(faster.conv_image, w, y, window, memo=memo)
        if x is not None:
            return x
    if _turned(w.shape[1], len(w), window):
        # The grid's padding is multiplied too, and 0 times infinity would be NaN.
        x = _if_finite(conv, xp, y, _turn(w), window.turned())
        if x is not None:
            return x
    (kh, kw), c = window.kernel, w.shape[1]
    kernel = reference.kernel_rows(w)  # (kh*kw*C, O)
    slabs = kernel.reshape(kh, kw * c, len(w))
    blocks = _blocks(len(y), c * y.itemsize, window)
    x = empty((len(y), *window.image, c), y.dtype).transpose(0, 3, 1, 2)  # (N, C, H, W)

    def multiply(i: int) -> None:
        np.matmul(reference.pixel_rows(y), slabs[i].T, out=columns[:, i])

    def work(i: int) -> None:
        block, rows = x[blocks[i]], reference.pixel_rows(y[blocks[i]])
        if _single(window):
            np.matmul(rows, kernel.T, out=reference.pixel_rows(block))
        elif c < FEW_CHANNELS:
            planes.fold(kernel, rows, window, block)
        else:
            block[...] = reference.fold(np, windows(rows @ kernel.T), window)

    def windows(columns: np.ndarray) -> np.ndarray:
        return columns.reshape(-1, *window.grid, kh, kw, c)

    if _covers(window):
        columns = _columns(x, window).reshape(len(y), kh, kw * c)  # x itself
        share(multiply, kh)
    elif len(blocks) == 1 and c >= FEW_CHANNELS:  # a single block: share the kernel's rows instead
        columns = empty((y[:, 0].size, kh, kw * c), y.dtype)
        share(multiply, kh)
        x[...] = reference.fold(np, windows(columns), window)
    else:
        share(work, len(blocks))
    return x


def conv_weight(xp: ModuleType, x: np.ndarray, y: np.ndarray, window: Window) -> np.ndarray:
    """See reference.conv_weight."""
    c, o = x.shape[1], y.shape[1]
    if faster := _filter(len(x), (o, c), window):
        w = _if_finite(faster.conv_weight, x, y, window)
        if w is not None:
            return w
    if _turned(c, o, window):
        turned = _if_finite(conv_weight, xp, y, x, window.turned())  # as in conv_image
        if turned is not None:
            return _turn(turned)
    w = empty((*window.kernel, c, o), x.dtype)
    kernel = w.reshape(-1, o)  # (kh*kw*C, O)
    blocks = _blocks(len(x), c * x.itemsize, window)
    if _covers(window) or len(blocks) == 1:  # nothing to add up: share the kernel's rows
        columns, rows = _columns(x, window).T, reference.pixel_rows(y)
        cuts = row_cuts(kernel)
        share(lambda i: np.matmul(columns[cuts[i]], rows, out=kernel[cuts[i]]), len(cuts))
        return w.transpose(3, 2, 0, 1)  # (kh, kw, C, O) -> (O, C, kh, kw)

    lanes = min(LANES, len(blocks))
    sums = np.empty((lanes, *kernel.shape), x.dtype)  # of no lanes, if there are no images

    def work(lane: int) -> None:
        for block in blocks[lane::lanes]:
            columns, rows = _columns(x[block], window).T, reference.pixel_rows(y[block])
            if block is blocks[lane]:
                np.matmul(columns, rows, out=sums[lane])
            else:
                sums[lane] += columns @ rows

    share(work, lanes)
    np.sum(sums, axis=0, out=kernel)
    return w.transpose(3, 2, 0, 1)


def conv_gradients(
    xp: ModuleType,
    asked: list[int],
    x: np.ndarray,
    w: np.ndarray,
    y: np.ndarray,
    window: Window,
    memo: dict | None = None,
) -> list[np.ndarray]:
    """See reference.conv_gradients."""
    if asked == [0, 1] and _filter(len(x), w.shape[:2], window) is filtering:
        both = _if_finite(filtering.conv_gradients, x, w, y, window, memo=memo)
        if both is not None:
            return both
    kernels = (lambda: conv_image(xp, w, y, window, memo), lambda: conv_weight(xp, x, y, window))
    return [kernels[i]() for i in asked]


def conv_image_gradients(
    xp: ModuleType,
    asked: list[int],
    w: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    window: Window,
    memo: dict | None = None,
) -> list[np.ndarray]:
    """See reference.conv_image_gradients."""
    if asked == [0, 1] and _filter(len(x), w.shape[:2], window) is filtering:
        both = _if_finite(filtering.conv_image_gradients, w, y, x, window, memo=memo)
        if both is not None:
            return both
    kernels = (lambda: conv_weight(xp, x, y, window), lambda: conv(xp, x, w, window, memo))
    return [kernels[i]() for i in asked]
