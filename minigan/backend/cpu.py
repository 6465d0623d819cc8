"""The CPU's kernels: those of `reference.py`, under the same names, in blocks and on all cores.

A batch's column matrix is many times larger than the cache; that of a few images is not. So each
kernel here is the reference on a few images at a time, except where `filtering.py` has a better way,
or for images of few channels `planes.py`. (docs/performance.md tells the whole story.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

import numpy as np

from . import filtering, memory, planes, reference
from .reference import Window, cross_entropy, cross_entropy_gradient, scale_pixels  # noqa: F401
from .threads import empty, scratch, share

T = TypeVar("T")

BLOCK = 1 << 21  # bytes of columns in a block of work: they stay in the second-level cache
LANES = 4  # weight gradients are summed in so many lanes, whatever the number of threads
ELEMENTS = 1 << 18  # numbers in a block of elementwise work: a call on fewer ends too soon to share
BUFFERS = np.lib.NumpyVersion(np.__version__) < "2.3.0"  # its sums add one buffer after another
TERMS = 128  # of a sum, at the most, that are added one after another in float32
SEEN = 1e-5  # of a standard deviation: what a rounded mean leaves over is no more, as a rule
RUN = 2048  # numbers in a row of it, at least, where the shape allows: short runs are slow
FEW_CHANNELS = 8  # with fewer, the products are too narrow to be worth saving
FEW_TILES = 64  # below this, transforming the weight costs more than filtering saves


def _filtered(n: int, channels: tuple[int, int], window: Window) -> bool:
    """Whether minimal filtering pays: its products replace more work than its transforms add."""
    tiles = n * window.grid[0] * window.grid[1] // 4
    return filtering.applies(window) and tiles >= FEW_TILES and min(channels) >= FEW_CHANNELS


def _blocks(n: int, row_bytes: int, window: Window) -> list[slice]:
    """The batch in slices whose columns fill a block."""
    image = window.grid[0] * window.grid[1] * window.kernel[0] * window.kernel[1] * row_bytes
    step = max(1, BLOCK // max(1, image))
    return [slice(i, min(i + step, n)) for i in range(0, n, step)]


def _covers(window: Window) -> bool:
    """Whether the kernel is as large as the image: then columns are images, and nothing overlaps."""
    return window.kernel == window.image and window.pad == (0, 0)


def _columns(x: np.ndarray, window: Window) -> np.ndarray:
    """reference.columns, made in the best way for the shape."""
    if _covers(window):
        return x.transpose(0, 2, 3, 1).reshape(len(x), math.prod(x.shape[1:]))  # no copy
    if x.shape[1] < FEW_CHANNELS:
        return planes.columns(x, window).T
    return reference.columns(np, x, window)


def _if_finite(kernel: Callable[..., T], *arguments: Any, memo: dict | None = None) -> T | None:
    """What a kernel of filtering gives; None where it made an infinity or a NaN of its own.

    It subtracts what the formula only adds: infinity - infinity is NaN, and 2e38 - -2e38 infinite.
    The processor notes both, and NumPy asks it after each call anyway. So a look at the results is
    needed only where it has; the caller then computes as it does without filtering.
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
    if _filtered(len(x), w.shape[:2], window):
        y = _if_finite(filtering.conv, x, w, window, memo=memo)
        if y is not None:
            return y
    blocks = _blocks(len(x), x.shape[1] * x.itemsize, window)
    kernel = reference.kernel_rows(w)  # (kh*kw*C, O)
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
    if _filtered(len(y), w.shape[:2], window):
        x = _if_finite(filtering.conv_image, w, y, window, memo=memo)
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
        if c < FEW_CHANNELS:
            planes.fold(kernel, rows, window, block)
        else:
            block[...] = reference.fold(np, windows(rows @ kernel.T), window)

    def windows(columns: np.ndarray) -> np.ndarray:
        return columns.reshape(-1, *window.grid, kh, kw, c)

    if _covers(window):
        columns = _columns(x, window).reshape(len(y), kh, kw * c)  # x itself
        share(multiply, kh)
    elif len(blocks) == 1 and c >= FEW_CHANNELS:  # too little for blocks: share the kernel's rows
        columns = empty((y[:, 0].size, kh, kw * c), y.dtype)
        share(multiply, kh)
        x[...] = reference.fold(np, windows(columns), window)
    else:
        share(work, len(blocks))
    return x


def conv_weight(xp: ModuleType, x: np.ndarray, y: np.ndarray, window: Window) -> np.ndarray:
    """See reference.conv_weight."""
    c, o = x.shape[1], y.shape[1]
    if _filtered(len(x), (o, c), window):
        w = _if_finite(filtering.conv_weight, x, y, window)
        if w is not None:
            return w
    w = empty((*window.kernel, c, o), x.dtype)
    kernel = w.reshape(-1, o)  # (kh*kw*C, O)
    if _covers(window):
        columns, rows = _columns(x, window).T, reference.pixel_rows(y)
        cuts = _cuts(kernel)
        share(lambda i: np.matmul(columns[cuts[i]], rows, out=kernel[cuts[i]]), len(cuts))
        return w.transpose(3, 2, 0, 1)  # (kh, kw, C, O) -> (O, C, kh, kw)

    blocks = _blocks(len(x), c * x.itemsize, window)
    lanes = max(1, min(LANES, len(blocks)))
    sums = np.zeros((lanes, *kernel.shape), x.dtype)

    def work(lane: int) -> None:
        for block in blocks[lane::lanes]:
            sums[lane] += _columns(x[block], window).T @ reference.pixel_rows(y[block])

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
    if asked == [0, 1] and _filtered(len(x), w.shape[:2], window):
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
    if asked == [0, 1] and _filtered(len(x), w.shape[:2], window):
        both = _if_finite(filtering.conv_image_gradients, w, y, x, window, memo=memo)
        if both is not None:
            return both
    kernels = (lambda: conv_weight(xp, x, y, window), lambda: conv(xp, x, w, window, memo))
    return [kernels[i]() for i in asked]


# -- sums ---------------------------------------------------------------------------------------------


def _added_in_turn(x: np.ndarray, axes: tuple[int, ...]) -> list[int]:
    """The axes along which NumPy adds one number after another.

    Along the innermost run of memory it adds in a tree, which loses few digits. Where the run has a
    hole, begins at an odd byte or is of float16, it adds one buffer after another; before release 2.3
    it always does. (Whether a number repeated, of stride 0, is a run depends on the other axes; it is
    taken for none.)
    """
    order = sorted((a for a in range(x.ndim) if x.shape[a] > 1), key=lambda a: abs(x.strides[a]))
    copied = BUFFERS or not x.flags.aligned or x.dtype == np.float16
    run = 0 if copied or not order else x.strides[order[0]]  # in bytes
    while run and order and order[0] in axes and x.strides[order[0]] == run:
        run *= x.shape[order.pop(0)]
    return [a for a in order if a in axes]


def _sum(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """The sum over the axes, which stay with length 1; float64 where there are many terms.

    Along an outer axis NumPy adds one row after another to the result. After n rows this is off by up
    to n units in the last place, and it stops at 2^24 in float32. So TERMS rows are added like that,
    and their sums in float64. In float32 the error is below 1.1e-5 times the sum of the absolute
    values, for any number of terms: 128 roundings of 2^-24, and 50 along the innermost run.
    """
    dtype = np.float32 if x.dtype == np.float16 else x.dtype
    terms = lambda axes: math.prod(x.shape[a] for a in axes)
    if not x.size or terms(axes) <= TERMS or terms(in_turn := _added_in_turn(x, axes)) <= TERMS:
        return x.sum(axis=axes, keepdims=True, dtype=dtype)
    axis = max(in_turn, key=lambda a: x.shape[a])
    n = x.shape[axis]

    def part(a: np.ndarray, start: int, stop: int) -> np.ndarray:
        return a[(slice(None),) * axis + (slice(start, stop),)]

    k = max(1, min(RUN * n // x.size, n // TERMS))  # short rows are slow: k of them are one
    whole = n // k * k
    rows = part(x, 0, whole).reshape(*x.shape[:axis], n // k, k, *x.shape[axis + 1 :])
    added = np.float64(0)
    for i in range(0, n // k, TERMS):
        block = part(rows, i, i + TERMS).sum(axis=axis, dtype=dtype)
        added = np.add(added, block, dtype=np.float64)
    y = _sum(added, axes)
    return y + _sum(part(x, whole, n), axes) if whole < n else y


def total(xp: ModuleType, x: np.ndarray, axes: tuple[int, ...], keepdims: bool) -> np.ndarray:
    """See reference.total."""
    if x.dtype.kind != "f":
        return reference.total(xp, x, axes, keepdims)
    y = _sum(x, axes).astype(x.dtype, copy=False)
    return y if keepdims else y.squeeze(axes)


def average(xp: ModuleType, x: np.ndarray, axes: tuple[int, ...], keepdims: bool) -> np.ndarray:
    """See reference.average."""
    y = (_sum(x, axes) / math.prod(x.shape[a] for a in axes)).astype(x.dtype, copy=False)
    return y if keepdims else y.squeeze(axes)


# -- per channel and elementwise ----------------------------------------------------------------------
#
# A ufunc is fastest on long runs of memory. So k rows of C numbers are one row of k*C here, and a value
# per channel is repeated k times.


def _rows(x: np.ndarray) -> np.ndarray:
    """(N, C, ...) -> (rows, k*C): a view, where the channels are last in memory."""
    c = max(1, x.shape[1])
    count = x.size // c
    k = max(1, RUN // c)
    while count % k:
        k //= 2
    return np.moveaxis(x, 1, -1).reshape(count // k, k * c)


def _empty_like(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A new array of x's shape with the channels last in memory, and its rows."""
    n, c, *pixels = x.shape
    y = np.moveaxis(empty((n, *pixels, c), x.dtype), -1, 1)
    return y, _rows(y)


def _cuts(rows: np.ndarray) -> list[slice]:
    step = max(1, ELEMENTS // max(1, rows.shape[1]))
    return [slice(i, i + step) for i in range(0, len(rows), step)]


def _column_sums(rows: np.ndarray) -> np.ndarray:
    """The sum of each column; of few rows as a product with ones, twice as fast as sum(axis=0)."""
    return _sum(rows, (0,))[0] if len(rows) > TERMS else np.ones(len(rows), rows.dtype) @ rows


def _channel_sums(rows: np.ndarray, c: int) -> np.ndarray:
    """(rows, k*C) -> (C,)"""
    return _sum(_column_sums(rows).reshape(-1, c), (0,))[0]


def _leak(rows: np.ndarray, slope: float, out: np.ndarray) -> None:
    """The leaky ReLU; `out` may be `rows`."""
    if slope == 0:
        np.maximum(rows, 0, out=out)
    elif slope != 1:
        scaled = np.multiply(rows, slope, out=scratch("scaled", rows.shape, rows.dtype))
        (np.maximum if slope < 1 else np.minimum)(rows, scaled, out=out)


def _mask(g: np.ndarray, y: np.ndarray, slope: float, out: np.ndarray) -> None:
    """g where y > 0, else slope * g."""
    if slope == 1:
        out[...] = g
        return
    # 0 and 1 from a comparison, then arithmetic: a masked loop is ten times slower.
    positive = np.greater(y, 0, out=scratch("positive", y.shape, np.bool_))
    if slope == 0:  # a product of the bits, see `keep`
        bits = np.dtype(f"i{g.itemsize}")
        ones = scratch("slopes", y.shape, bits)
        np.copyto(ones, positive)
        np.multiply(g.view(bits), ones, out=out.view(bits))
        return
    slopes = scratch("slopes", y.shape, y.dtype)
    np.copyto(slopes, positive)
    if 0 < slope < 1:
        np.maximum(slopes, slope, out=slopes)
    elif slope > 1:
        np.copyto(slopes, slope, where=np.logical_not(positive, out=positive))
    np.multiply(g, slopes, out=out)


def moments(xp: ModuleType, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """See reference.moments. One pass: blocks have moments of their own, which are then joined.

    With n_i elements, mean m_i and squared deviations M_i a block, the whole has
    M = sum M_i + sum n_i (m_i - m)^2 (Chan, Golub & LeVeque 1979). Of a block, what a rounded mean
    leaves over is added to it where it would be seen: of equal numbers the mean is that number.
    """
    rows, c = _rows(x), x.shape[1]
    cuts = _cuts(rows)
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
    """(1, C, 1, 1) -> (k*C,), to meet the rows; numbers as they are."""
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
    rows, (y, out) = _rows(x), _empty_like(x)
    center, scale, shift = (_along(v, rows) for v in (center, scale * w, b))
    cuts = _cuts(rows)

    def work(i: int) -> None:
        block = np.subtract(rows[cuts[i]], center, out=out[cuts[i]])
        block *= scale
        block += shift
        _leak(block, slope, out=block)

    share(work, len(cuts))
    return y


def batch_norm_gradients(xp, g, y, x, mean, inv_std, w, slope):
    """See reference.batch_norm_gradients: a pass for dw and db, and one for dx."""
    rows, g_rows, y_rows = _rows(x), _rows(g), _rows(y)
    dx, out = _empty_like(x)
    c = x.shape[1]
    count = x.size // max(1, c)
    means = _along(mean, rows)
    cuts = _cuts(rows)
    sums = np.empty((2, len(cuts), c), x.dtype)

    def reduce(i: int) -> None:
        block = out[cuts[i]]
        _mask(g_rows[cuts[i]], y_rows[cuts[i]], slope, out=block)
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
    if x.ndim < 2 or slope == 1 or x.dtype.kind != "f":
        return reference.leaky_relu(xp, x, slope)
    rows, (y, out) = _rows(x), _empty_like(x)
    cuts = _cuts(rows)
    share(lambda i: _leak(rows[cuts[i]], slope, out=out[cuts[i]]), len(cuts))
    return y


def keep(xp: ModuleType, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """See reference.keep. The bits are multiplied by 0 or 1: this selects, infinity and NaN too.

    As integers they are as fast as numbers, and `where` is ten times slower.
    """
    bits = np.dtype(f"i{x.itemsize}")
    return np.asarray(x.view(bits) * mask).view(x.dtype)


def leaky_relu_gradient(xp: ModuleType, g: np.ndarray, y: np.ndarray, slope: float) -> np.ndarray:
    """See reference.leaky_relu_gradient."""
    if y.ndim < 2:
        return keep(xp, g, y > 0) if slope == 0 else reference.leaky_relu_gradient(xp, g, y, slope)
    g_rows, y_rows, (dx, out) = _rows(g), _rows(y), _empty_like(y)
    cuts = _cuts(y_rows)
    share(lambda i: _mask(g_rows[cuts[i]], y_rows[cuts[i]], slope, out=out[cuts[i]]), len(cuts))
    return dx


def _pieces(moved: list[tuple]) -> tuple[list[tuple], list[tuple]]:
    """Tuples of arrays of one shape, with whatever follows them, as tuples of pieces of ELEMENTS.

    Also those tuples, unchanged, whose arrays have gaps in memory or lie in different orders.
    """
    pieces, left = [], []
    for entry in moved:
        arrays = [a for a in entry if isinstance(a, np.ndarray)]
        rest = entry[len(arrays) :]
        order = sorted(range(arrays[0].ndim), key=lambda axis: -arrays[0].strides[axis])
        arrays = [a.transpose(order) for a in arrays]  # in the order of memory
        if all(a.flags.c_contiguous for a in arrays):
            arrays = [a.reshape(-1) for a in arrays]
            starts = range(0, arrays[0].size, ELEMENTS)
            pieces += [(*(a[i : i + ELEMENTS] for a in arrays), *rest) for i in starts]
        else:
            left.append(entry)
    return pieces, left


def adam(xp, moved, lr, betas, eps):
    """See reference.adam: all parameters in one go, in pieces."""
    reference.refuse_half(moved)
    b1, b2 = betas
    pieces, left = _pieces(moved)

    def work(i: int) -> None:
        p, g, m, v, step = pieces[i]
        correction = (1 - b2**step) ** 0.5
        t = np.multiply(g, 1 - b1, out=scratch("adam", p.shape, p.dtype))
        m *= b1
        m += t
        np.multiply(g, 1 - b2, out=t)
        t *= g  # in this order, as g * g may overflow where the product does not
        v *= b2
        v += t
        np.sqrt(v, out=t)
        t += eps * correction
        np.divide(m, t, out=t)
        t *= lr * correction / (1 - b1**step)
        p -= t

    share(work, len(pieces))
    reference.adam(xp, left, lr, betas, eps)


def lerp(xp: ModuleType, moved: list[tuple[np.ndarray, np.ndarray]], weight: float) -> None:
    """See reference.lerp: all arrays in one go, in pieces."""
    pieces, left = _pieces(moved)

    def work(i: int) -> None:
        slow, fast = pieces[i]
        t = np.subtract(fast, slow, out=scratch("lerp", slow.shape, slow.dtype))
        t *= weight
        slow += t

    share(work, len(pieces))
    reference.lerp(xp, left, weight)


memory.keep_freed_memory()
