"""Batch norm and the leaky ReLU on the CPU, computed on long rows.

A ufunc is fastest on long runs of memory. So here k rows of C numbers are joined into one of k*C, and
each per-channel value is repeated k times.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from . import reference, sums
from .threads import empty, scratch, share

# Numbers in a block of elementwise work: shorter calls are not worth sharing. An activation of at
# most one block takes the reference's few calls instead, because making rows and sharing them takes
# 20 us, as long as a ReLU of 50,000 numbers.
ELEMENTS = 1 << 18
SEEN = 1e-5  # of a standard deviation: the rounding error of a mean is normally smaller than this


def _rows(x: np.ndarray) -> np.ndarray:
    """(N, C, ...) -> (rows, k*C): a view if the channels are last in memory, else a copy."""
    c = max(1, x.shape[1])
    count = x.size // c
    k = max(1, sums.RUN // c)
    while count % k:
        k //= 2
    return np.moveaxis(x, 1, -1).reshape(count // k, k * c)


def empty_like(x: np.ndarray) -> np.ndarray:
    """A new array of x's shape with the channels last in memory."""
    n, c, *pixels = x.shape
    return np.moveaxis(empty((n, *pixels, c), x.dtype), -1, 1)


def row_cuts(rows: np.ndarray) -> list[slice]:
    """The rows of a matrix in slices of about ELEMENTS numbers."""
    step = max(1, ELEMENTS // max(1, rows.shape[1]))
    return [slice(i, i + step) for i in range(0, len(rows), step)]


def _column_sums(rows: np.ndarray) -> np.ndarray:
    """The sum of each column. For few rows, a product with ones is twice as fast as sum(axis=0)."""
    if len(rows) > sums.TERMS:
        return sums.sum_over(rows, (0,))[0]
    return np.ones(len(rows), rows.dtype) @ rows


def _channel_sums(rows: np.ndarray, c: int) -> np.ndarray:
    """(rows, k*C) -> (C,)"""
    return sums.sum_over(_column_sums(rows).reshape(-1, c), (0,))[0]


def leak(rows: np.ndarray, slope: float, out: np.ndarray) -> None:
    """The leaky ReLU; `out` may be `rows`."""
    if slope == 0:
        np.maximum(rows, 0, out=out)
    elif slope != 1:
        scaled = np.multiply(rows, slope, out=scratch("scaled", rows.shape, rows.dtype))
        (np.maximum if slope < 1 else np.minimum)(rows, scaled, out=out)


def mask(g: np.ndarray, y: np.ndarray, slope: float, out: np.ndarray) -> None:
    """g where y > 0, else slope * g."""
    if slope == 1:
        out[...] = g
        return
    # Arithmetic on zeros and ones, because a masked loop is ten times slower.
    positive = np.greater(y, 0, out=scratch("positive", y.shape, np.bool_))
    if slope == 0:  # multiply the bits, as `keep` does
        bits = np.dtype(f"i{g.itemsize}")
        ones = scratch("slopes", y.shape, bits)
        np.copyto(ones, positive)
        np.multiply(g.view(bits), ones, out=out.view(bits))
        return
    slopes = scratch("slopes", y.shape, y.dtype)
    np.copyto(slopes, positive)
    if slope < 1:
        _bend(slopes, slope)
    else:
        np.copyto(slopes, slope, where=np.logical_not(positive, out=positive))
    np.multiply(g, slopes, out=out)


def _bend(ones: np.ndarray, slope: float) -> np.ndarray:
    """1 to 1 and 0 to the slope, which is below 1, in place.

    1 - slope is rounded by half a unit of the numbers below 1, at most. So the sum is exactly 1 again.
    (The maximum of an array and a number takes three times as long.)
    """
    slope = ones.dtype.type(slope)
    ones *= 1 - slope
    ones += slope
    return ones


def moments(xp: ModuleType, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """See reference.moments. One pass over memory: the moments of the blocks are computed, then joined.

    If block i has n_i elements, mean m_i and sum of squared deviations M_i, the whole has
    M = sum M_i + sum n_i (m_i - m)^2 (Chan, Golub & LeVeque 1979). The rounding error of a block's mean
    is corrected if it is large enough to matter, so the mean of equal numbers is exactly that number.
    """
    rows, c = _rows(x), x.shape[1]
    cuts = row_cuts(rows)
    means = np.empty((len(cuts), c), np.float64)
    squares = np.empty_like(means)

    def work(i: int) -> None:
        block = rows[cuts[i]]
        n = block.size // c
        near = (_channel_sums(block, c) / n).astype(x.dtype)
        off = np.subtract(block, _along(near, rows), out=scratch("off", block.shape, x.dtype))
        rest = _channel_sums(off, c).astype(np.float64) / n
        sums = _channel_sums(np.square(off, out=off), c)
        rest[n * rest**2 < SEEN**2 * sums] = 0
        means[i] = near + rest
        squares[i] = np.maximum(sums - n * rest**2, 0)

    share(work, len(cuts))
    counts = np.array([rows[cut].size // c for cut in cuts], np.float64)[:, None]
    count = x.size // max(1, c)
    mean = (counts * means).sum(0) / count
    var = (squares + counts * (means - mean) ** 2).sum(0) / count
    shape = (1, -1, *[1] * (x.ndim - 2))
    return mean.astype(x.dtype).reshape(shape), var.astype(x.dtype).reshape(shape)


def _along(v: np.ndarray | float, rows: np.ndarray) -> np.ndarray | float:
    """A value per channel, repeated along a row: (1, C, 1, 1) -> (k*C,). Numbers are unchanged."""
    if not isinstance(v, np.ndarray):
        return v
    out = empty((rows.shape[1],), v.dtype)
    out.reshape(-1, v.size)[...] = v.reshape(-1)
    return out


def batch_statistics(xp, x, eps, momentum, running):
    """See reference.batch_statistics."""
    mean, var = moments(xp, x)
    reference.move_running(running, mean, var, x.size // max(1, x.shape[1]), momentum)
    return mean, (var + eps) ** -0.5


def scale_shift(xp, x, center, scale, w, b, slope):
    """See reference.scale_shift."""
    rows, y = _rows(x), empty_like(x)
    out = _rows(y)
    center, scale, shift = (_along(v, rows) for v in (center, scale * w, b))
    cuts = row_cuts(rows)

    def work(i: int) -> None:
        block = np.subtract(rows[cuts[i]], center, out=out[cuts[i]])
        block *= scale
        block += shift
        leak(block, slope, out=block)

    share(work, len(cuts))
    return y


def batch_norm_gradients(xp, g, y, x, mean, inv_std, w, slope):
    """See reference.batch_norm_gradients. One pass computes dw and db, a second one dx."""
    rows, g_rows, y_rows = _rows(x), _rows(g), _rows(y)
    dx = empty_like(x)
    out = _rows(dx)
    c = x.shape[1]
    count = x.size // max(1, c)
    means = _along(mean, rows)
    cuts = row_cuts(rows)
    sums = np.empty((2, len(cuts), c), x.dtype)

    def reduce(i: int) -> None:
        block = out[cuts[i]]
        mask(g_rows[cuts[i]], y_rows[cuts[i]], slope, out=block)
        off = np.subtract(rows[cuts[i]], means, out=scratch("off", block.shape, x.dtype))
        sums[0, i] = _channel_sums(np.multiply(block, off, out=off), c)
        sums[1, i] = _channel_sums(block, c)

    share(reduce, len(cuts))
    dw, db = sums.sum(axis=1, dtype=np.float64)
    inv_std, w = inv_std.reshape(-1), w.reshape(-1) if isinstance(w, np.ndarray) else w
    dw *= inv_std
    # dx = scale * (g - db / n - (x - mean) * inv_std * dw / n)
    scale = inv_std * w
    slant = (scale * inv_std * dw / count).astype(x.dtype)
    level = (scale * db / count).astype(x.dtype)
    scale, slant, level = (_along(v, rows) for v in (scale.astype(x.dtype), slant, level))

    def combine(i: int) -> None:
        block = out[cuts[i]]
        off = np.subtract(rows[cuts[i]], means, out=scratch("off", block.shape, x.dtype))
        off *= slant
        off += level
        block *= scale
        block -= off

    share(combine, len(cuts))
    return dx, dw.astype(x.dtype), db.astype(x.dtype)


def leaky_relu(xp: ModuleType, x: np.ndarray, slope: float) -> np.ndarray:
    """See reference.leaky_relu."""
    if x.size <= ELEMENTS or x.ndim < 2 or slope == 1 or x.dtype.kind != "f":
        return reference.leaky_relu(xp, x, slope)
    rows, y = _rows(x), empty_like(x)
    out = _rows(y)
    cuts = row_cuts(rows)
    share(lambda i: leak(rows[cuts[i]], slope, out=out[cuts[i]]), len(cuts))
    return y


def keep(xp: ModuleType, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """See reference.keep. The bits are multiplied by 0 or 1 as integers.

    So infinity and NaN are selected correctly too. This is as fast as a product of floats; `where` is
    ten times slower.
    """
    bits = np.dtype(f"i{x.itemsize}")
    return np.asarray(x.view(bits) * mask).view(x.dtype)


def leaky_relu_gradient(xp: ModuleType, g: np.ndarray, y: np.ndarray, slope: float) -> np.ndarray:
    """See reference.leaky_relu_gradient."""
    if slope < 1 and (y.size <= ELEMENTS or y.ndim < 2):
        return g * _bend((y > 0).astype(y.dtype), slope) if slope else keep(xp, g, y > 0)
    if y.ndim < 2:
        return reference.leaky_relu_gradient(xp, g, y, slope)
    g_rows, y_rows, dx = _rows(g), _rows(y), empty_like(y)
    out = _rows(dx)
    cuts = row_cuts(y_rows)
    share(lambda i: mask(g_rows[cuts[i]], y_rows[cuts[i]], slope, out=out[cuts[i]]), len(cuts))
    return dx
