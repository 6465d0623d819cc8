"""Layer, instance and group norm on the CPU: a few images at a time, which stay in the cache.

Unlike a batch norm, an image needs no number of another image. So a block of images is read once, and
its statistics and its result are computed while it is in the cache. As in `rows.py`, k pixels of C
channels are joined into one row of k*C numbers, because a ufunc is fastest on long runs of memory.
"""

from __future__ import annotations

import math
from types import ModuleType

import numpy as np

from . import reference
from .reference import Array
from .rows import empty_like, leak, mask
from .sums import RUN, TERMS, sum_over
from .threads import empty, scratch, share

# Numbers in a block of images, if an image is not larger. With half as many, two threads wait for
# Python's lock so often that one is as fast.
BLOCK = 1 << 18


def _rows(x: np.ndarray) -> np.ndarray:
    """(N, C, ...) -> (N, rows, k*C): a view if the channels are last in memory, else a copy."""
    n, c, *pixels = x.shape
    count = math.prod(pixels)
    k = max(1, RUN // max(1, c))
    while count % k:
        k //= 2
    return np.moveaxis(x, 1, -1).reshape(n, count // k, k * c)


def _small(x: np.ndarray) -> bool:
    """Whether x holds so few numbers, without pixels, that the reference's few calls are faster."""
    return x.ndim == 2 and x.size <= BLOCK


def _blocks(x: np.ndarray) -> list[slice]:
    """The images in slices."""
    step = max(1, BLOCK // max(1, math.prod(x.shape[1:])))
    return [slice(i, i + step) for i in range(0, len(x), step)]


def _sums(rows: np.ndarray, c: int) -> np.ndarray:
    """The sums over the pixels: (n, rows, k*C) -> (n, C), in float64."""
    n, count, _ = rows.shape
    few = 1 < count <= TERMS  # then a product with ones is twice as fast as a sum
    columns = np.ones(count, rows.dtype) @ rows if few else sum_over(rows, (1,))
    return sum_over(columns.reshape(n, -1, c), (1,))[:, 0].astype(np.float64)


def _pool(v: np.ndarray, groups: int) -> np.ndarray:
    """The sums over the channels of each group: (n, C) -> (n, G)"""
    return v.reshape(len(v), groups, -1).sum(2)


def _along(v: np.ndarray, rows: np.ndarray, c: int) -> np.ndarray:
    """A value per group or channel, repeated along a row: (n, G) or (n, C) -> (n, 1, k*C)."""
    n, groups = v.shape
    out = empty((n, 1, rows.shape[2]), rows.dtype)
    out.reshape(n, -1, groups, c // groups)[...] = v[:, None, :, None]  # (n, k, G, C/G)
    return out


def _channels(v: Array | float, images: slice) -> np.ndarray | float:
    """The values of these images: (N, C, 1, 1) -> (n, C), or (1, C) for all. Numbers are unchanged."""
    if not isinstance(v, np.ndarray):
        return v
    v = v.reshape(v.shape[:2])
    return v[images] if len(v) > 1 else v


def group_norm(
    xp: ModuleType,
    x: np.ndarray,
    groups: int,
    eps: float,
    w: np.ndarray | float,
    b: np.ndarray | float,
    slope: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """See reference.group_norm."""
    if _small(x):
        return reference.group_norm(xp, x, groups, eps, w, b, slope)
    n, c, *pixels = x.shape
    rows, y = _rows(x), empty_like(x)
    out = _rows(y)
    count = max(1, math.prod(pixels) * c // groups)
    means, inv_stds = np.empty((2, n, groups), x.dtype)
    blocks = _blocks(x)

    def work(i: int) -> None:
        block, images = out[blocks[i]], rows[blocks[i]]
        near = (_pool(_sums(images, c), groups) / count).astype(x.dtype)
        off = np.subtract(images, _along(near, images, c), out=block)
        rest = _pool(_sums(off, c), groups) / count  # the rounding error of the mean
        square = np.square(off, out=scratch("square", off.shape, x.dtype))
        var = _pool(_sums(square, c), groups) / count - rest**2
        inv_std = (np.maximum(var, 0) + eps) ** -0.5
        means[blocks[i]], inv_stds[blocks[i]] = near + rest, inv_std
        rest, scale = (np.repeat(v, c // groups, axis=1) for v in (rest, inv_std))  # (n, C)
        scale = scale * _channels(w, blocks[i])
        off *= _along(scale, images, c)
        off += _along(_channels(b, blocks[i]) - rest * scale, images, c)
        leak(off, slope, out=off)

    share(work, len(blocks))
    shape = (n, groups, *[1] * (x.ndim - 1))
    return y, means.reshape(shape), inv_stds.reshape(shape)


def group_norm_gradients(
    xp: ModuleType,
    asked: list[int],
    g: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    mean: np.ndarray,
    inv_std: np.ndarray,
    w: np.ndarray | float,
    slope: float,
) -> list[np.ndarray]:
    """See reference.group_norm_gradients. Here dw and db are (N, C) in float64."""
    if _small(x):
        return reference.group_norm_gradients(xp, asked, g, y, x, mean, inv_std, w, slope)
    n, c, *pixels = x.shape
    groups = mean.shape[1]
    rows, g_rows, y_rows = _rows(x), _rows(g), _rows(y)
    dx = empty_like(x)
    out = _rows(dx)
    count = max(1, math.prod(pixels) * c // groups)
    means, inv_stds = mean.reshape(n, groups), inv_std.reshape(n, groups)
    dw, db = np.empty((2, n, c))
    blocks = _blocks(x)

    def work(i: int) -> None:
        scale = _channels(w, blocks[i])
        block, images, inv = out[blocks[i]], rows[blocks[i]], inv_stds[blocks[i]]
        mask(g_rows[blocks[i]], y_rows[blocks[i]], slope, out=block)
        off = scratch("off", block.shape, x.dtype)
        np.subtract(images, _along(means[blocks[i]], images, c), out=off)
        product = np.multiply(block, off, out=scratch("product", block.shape, x.dtype))
        along_x, along_1 = _sums(product, c), _sums(block, c)
        dw[blocks[i]] = along_x * np.repeat(inv, c // groups, axis=1)
        db[blocks[i]] = along_1
        # dx = inv_std * (w g - mean(w g) - (x - mean) * inv_std^2 * mean(w g (x - mean)))
        off *= _along(
            inv.astype(np.float64) ** 3 * _pool(along_x * scale, groups) / count, images, c
        )
        off += _along(inv * _pool(along_1 * scale, groups) / count, images, c)
        block *= _along(np.repeat(inv, c // groups, axis=1) * scale, images, c)
        block -= off

    share(work, len(blocks))
    gradients = dx, dw, db
    return [gradients[i] for i in asked]
