"""The CPU's kernels: those of `reference.py`, under the same names, in blocks and on all cores.

A batch's column matrix is many times larger than the cache; that of a few images is not. So each
kernel here is the reference on a few images at a time, except where `filtering.py` has a better way.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from . import filtering, memory, reference
from .reference import Window
from .threads import share

BLOCK = 1 << 20  # bytes of columns in a block of work: they stay in the second-level cache
LANES = 4  # weight gradients are summed in so many lanes, whatever the number of threads
FEW_TILES = 64  # below this, transforming the weight costs more than filtering saves


def _filtered(n: int, window: Window) -> bool:
    return filtering.applies(window) and n * window.grid[0] * window.grid[1] >= 4 * FEW_TILES


def _blocks(n: int, row_bytes: int, window: Window) -> list[slice]:
    """The batch in slices whose columns fill a block."""
    image = window.grid[0] * window.grid[1] * window.kernel[0] * window.kernel[1] * row_bytes
    step = max(1, BLOCK // max(1, image))
    return [slice(i, min(i + step, n)) for i in range(0, n, step)]


def conv(xp: ModuleType, x: np.ndarray, w: np.ndarray, window: Window) -> np.ndarray:
    """See reference.conv."""
    if _filtered(len(x), window):
        return filtering.conv(x, w, window)
    blocks = _blocks(len(x), x.shape[1] * x.itemsize, window)
    y = np.empty((len(x), *window.grid, w.shape[0]), x.dtype).transpose(0, 3, 1, 2)

    def work(i: int) -> None:
        y[blocks[i]] = reference.conv(xp, x[blocks[i]], w, window)

    share(work, len(blocks))
    return y


def conv_image(xp: ModuleType, w: np.ndarray, y: np.ndarray, window: Window) -> np.ndarray:
    """See reference.conv_image."""
    if _filtered(len(y), window):
        return filtering.conv_image(w, y, window)
    blocks = _blocks(len(y), w.shape[1] * y.itemsize, window)
    x = np.empty((len(y), *window.image, w.shape[1]), y.dtype).transpose(0, 3, 1, 2)

    def work(i: int) -> None:
        x[blocks[i]] = reference.conv_image(xp, w, y[blocks[i]], window)

    share(work, len(blocks))
    return x


def conv_weight(xp: ModuleType, x: np.ndarray, y: np.ndarray, window: Window) -> np.ndarray:
    """See reference.conv_weight."""
    if _filtered(len(x), window):
        return filtering.conv_weight(x, y, window)
    blocks = _blocks(len(x), x.shape[1] * x.itemsize, window)
    lanes = max(1, min(LANES, len(blocks)))
    sums = np.zeros((lanes, y.shape[1], x.shape[1], *window.kernel), x.dtype)

    def work(lane: int) -> None:
        for block in blocks[lane::lanes]:
            sums[lane] += reference.conv_weight(xp, x[block], y[block], window)

    share(work, lanes)
    return sums.sum(axis=0)


moments = reference.moments

memory.keep_freed_memory()
