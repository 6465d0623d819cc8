"""Adam and lerp on the CPU: in place, in blocks, for arrays in any memory order."""

from __future__ import annotations

import numpy as np

from . import reference, rows
from .threads import scratch, share

STRIP = 32  # rows or columns copied at a time into another memory order


def adam(xp, moved, lr, betas, eps):
    """See reference.adam. All parameters are updated in one call of `share`, in blocks."""
    reference.refuse_half(moved)
    b1, b2 = betas
    blocks = [(*block, step) for *arrays, step in moved for block in _in_blocks(*arrays)]

    def work(i: int) -> None:
        p, g, m, v, step = blocks[i]
        if not g.flags.c_contiguous:
            g = _in_strips(g, out=scratch("gradient", g.shape, g.dtype))
        correction = (1 - b2**step) ** 0.5
        t = np.multiply(g, 1 - b1, out=scratch("adam", p.shape, p.dtype))
        m *= b1
        m += t
        np.multiply(g, 1 - b2, out=t)
        t *= g  # in this order, because g * g may overflow where (1 - b2) * g * g does not
        v *= b2
        v += t
        np.sqrt(v, out=t)
        t += eps * correction
        np.divide(m, t, out=t)
        t *= lr * correction / (1 - b1**step)
        p -= t

    share(work, len(blocks))


def lerp(xp, moved, weight):
    """See reference.lerp: all arrays in one go, in blocks."""
    blocks = [block for pair in moved for block in _in_blocks(*pair)]

    def work(i: int) -> None:
        slow, fast = blocks[i]
        t = np.subtract(fast, slow, out=scratch("lerp", slow.shape, slow.dtype))
        t *= weight
        slow += t

    share(work, len(blocks))


def _in_strips(source: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Copy `source`, which has another memory order, to `out`.

    This is three times as fast as `out[...] = source`. Neighbours in `out` are often a large power of
    two apart in the source, and such addresses compete for the same few cache lines. So each strip is
    first copied in the order of the source.
    """
    axis = max(range(out.ndim), key=out.shape.__getitem__)
    for i in range(0, out.shape[axis], STRIP):
        strip = (slice(None),) * axis + (slice(i, i + STRIP),)
        out[strip] = source[strip].copy(order="K")
    return out


def _in_blocks(p: np.ndarray, *others: np.ndarray) -> list[list[np.ndarray]]:
    """Views of p and the others, block by block, with the axes in p's memory order.

    If all arrays are contiguous in that order, a block is a run of numbers. Otherwise it is a slice
    along the longest of the other axes, so that p's rows along the last axis stay whole.
    """
    arrays, axis = [p, *others], 0
    if not p.flags.c_contiguous:
        order = sorted(range(p.ndim), key=lambda axis: -p.strides[axis])
        arrays = [a.transpose(order) for a in arrays]
    if all(a.flags.c_contiguous for a in arrays):
        if p.size <= rows.ELEMENTS:
            return [arrays]
        arrays = [a.reshape(-1) for a in arrays]
    else:
        axis = max(range(p.ndim - 1), key=arrays[0].shape.__getitem__, default=0)
    length = arrays[0].shape[axis]
    step = max(1, rows.ELEMENTS * length // max(1, p.size))
    cuts = [(slice(None),) * axis + (slice(i, i + step),) for i in range(0, length, step)]
    return [[a[cut] for a in arrays] for cut in cuts]
