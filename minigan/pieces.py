"""Parts of tensors: indexing, padding, joining.

Written like `ops.py`: each operation is its forward, with one backward rule per input above it. Taking
a part out and putting it into zeros are each other's rule. Padding with negated widths is its own rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from . import backend
from .arguments import is_whole, one_dim, with_axis
from .shapes import unsqueeze
from .tensor import Tensor, op, raw

# -- indexing -----------------------------------------------------------------------------------


@op(lambda g, y, x, *, index: _put(g, index=index, shape=x.shape), view=True)
def _getitem(xp, x, *, index):
    y = x[index]
    return x[(*index, ...)] if isinstance(y, np.generic) else y  # one element: a view, not a number


@op(lambda g, y, x, *, index, shape: _getitem(g, index=index))
def _put(xp, x, *, index, shape):
    """Zeros of the given shape, with x added at the index (an index may occur more than once).

    Floats are added up in float64 and rounded once, because in float16 2048 + 1 is 2048.
    """
    if _is_basic(index):  # then no element occurs twice
        y = xp.zeros(shape, x.dtype)
        y[index] = x
        return y
    wide = np.dtype(np.float64) if x.dtype.kind == "f" else x.dtype
    y = xp.zeros(shape, wide)
    xp.add.at(y, index, x.astype(wide, copy=False))
    return y.astype(x.dtype, copy=False)


def _is_basic(index: Any) -> bool:
    """Whether NumPy answers this index with a view: it holds no lists and no arrays."""
    entries = index if isinstance(index, tuple) else (index,)
    return all(e is None or e is ... or isinstance(e, slice) or is_whole(e) for e in entries)


def getitem(input: Tensor, index: Any) -> Tensor:
    """input[index]: integers, slices, None, `...`, masks, lists and arrays of positions.

    The result is a view unless the index holds a mask, a list or an array.
    """
    return _getitem(input, index=numpy_index("getitem", index))


def numpy_index(name: str, index: Any) -> tuple:
    """The index as NumPy takes it. A final `...` makes a single element a view, of 0 dimensions."""
    entries = index if isinstance(index, tuple) else (index,)
    found = tuple(_entry(name, e) for e in entries)
    return found if not _is_basic(found) or any(e is ... for e in found) else (*found, ...)


def _entry(name: str, index: Any) -> Any:
    """One entry of an index. Arrays are copied, because the backward pass reads them again later."""
    index = raw(index)
    if isinstance(index, (list, np.ndarray)):
        index = np.array(index)
        if not index.size and index.dtype != bool:  # x[[]]
            index = index.astype(int)
    elif backend.is_array(index):  # CuPy's
        index = index.copy()
    else:
        return index
    if index.dtype == np.uint8:
        raise TypeError(
            f"{name}: a uint8 index may mean a mask or positions; convert it to bool or to int64"
        )
    return int(index) if index.ndim == 0 and index.dtype.kind in "iu" else index


# -- padding and joining --------------------------------------------------------------------------


@op(lambda g, y, x, *, widths, value: _pad(g, widths=tuple((-a, -b) for a, b in widths), value=0))
def _pad(xp, x, *, widths, value):
    # A negative width cuts off, which makes padding its own backward rule.
    x = x[
        tuple(slice(max(0, -a), n - max(0, -b)) for (a, b), n in zip(widths, x.shape, strict=True))
    ]
    return xp.pad(x, [(max(0, a), max(0, b)) for a, b in widths], constant_values=value)


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float = 0.0) -> Tensor:
    """Elements added at the edges: `pad` is (left, right, top, bottom, ...), last dimension first.

    Negative amounts cut off. Of PyTorch's modes only "constant" is supported.
    """
    if not isinstance(pad, Sequence) or not all(map(is_whole, pad)):
        raise TypeError(f"pad: expected a tuple of integers, not {pad!r:.80}")
    if mode != "constant" or len(pad) % 2 or len(pad) > 2 * input.ndim:
        raise ValueError(f"pad: {tuple(pad)} in mode {mode!r} does not fit {input.ndim} dimensions")
    pairs = [tuple(pad[i : i + 2]) for i in range(0, len(pad), 2)]
    pairs += [(0, 0)] * (input.ndim - len(pairs))
    pairs.reverse()
    if any(n + min(a, 0) + min(b, 0) < 0 for n, (a, b) in zip(input.shape, pairs, strict=True)):
        raise ValueError(f"pad: {tuple(pad)} cuts off more than {input.shape} has")
    return _pad(input, widths=tuple(pairs), value=value)


def _piece(i: int, g: Tensor, y: Tensor, *xs: Tensor, dim: int) -> Tensor:
    """The part of g that input i was copied to."""
    start = sum(x.shape[dim] for x in xs[:i])
    return g[(slice(None),) * dim + (slice(start, start + xs[i].shape[dim]),)]


@op(every=_piece)
def _cat(xp, *xs, dim):
    return xp.concatenate(xs, axis=dim)


@with_axis
def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors joined along an existing dimension."""
    tensors = list(tensors)
    if not tensors:
        raise ValueError("cat: there are no tensors to join; give at least one")
    return _cat(*tensors, dim=one_dim(dim, tensors[0].ndim))


@with_axis
def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors of one shape joined along a new dimension."""
    tensors = list(tensors)
    if not tensors:
        raise ValueError("stack: there are no tensors to join; give at least one")
    return cat([unsqueeze(t, dim) for t in tensors], one_dim(dim, tensors[0].ndim + 1))
