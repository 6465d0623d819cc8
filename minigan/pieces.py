"""Parts of tensors: indexing, padding, joining, splitting.

Written like `ops.py`: each operation is its forward, with one backward rule per input above it. Taking
a part out and putting it into zeros are each other's rule. The rule of padding is padding with negated
widths, and that of a mirrored frame adds the frame to what it mirrors.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from . import backend
from .arguments import check_indices, is_whole, one_dim, with_axis
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


def gather(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """input at the positions `index` along `dim`: for dim 0 of a matrix, input[index[i, j], j].

    The index has as many dimensions as the input, and the result has the index's shape. Along the other
    dimensions the index may be shorter than the input.

    Raises TypeError, ValueError or IndexError if the index does not fit.
    """
    dim = one_dim(dim, input.ndim)
    check_indices("gather", "index", index, input.shape[dim])
    limits = [n if i != dim else math.inf for i, n in enumerate(input.shape)]
    if index.ndim != input.ndim or any(
        n > limit for n, limit in zip(index.shape, limits, strict=True)
    ):
        raise ValueError(
            f"gather: an index {index.shape} does not fit an input {input.shape} and dim {dim}"
        )
    xp = backend.array_module(index.data)
    places = []
    for i, n in enumerate(index.shape):  # the index itself, and counters along the others
        counter = [-1 if j == i else 1 for j in range(index.ndim)]
        places.append(index.data.astype(int) if i == dim else xp.arange(n).reshape(counter))
    return getitem(input, tuple(places))


# -- padding, joining and splitting ---------------------------------------------------------------


def _framed(x: backend.Array, widths: tuple) -> tuple[backend.Array, backend.Array]:
    """An array with a frame of undefined numbers in x's memory order, and its part inside the frame.

    numpy.pad would put the channels first in memory, where the convolutions want them last.
    """
    shape = tuple([a + n + b for (a, b), n in zip(widths, x.shape, strict=True)])
    y = backend.empty_like(x, shape)
    return y, y[tuple([slice(a, a + n) for (a, b), n in zip(widths, x.shape, strict=True)])]


@op(lambda g, y, x, *, widths, value: _pad(g, widths=tuple((-a, -b) for a, b in widths), value=0))
def _pad(xp, x, *, widths, value):
    # A negative width cuts off, which makes padding its own backward rule.
    x = x[
        tuple(slice(max(0, -a), n - max(0, -b)) for (a, b), n in zip(widths, x.shape, strict=True))
    ]
    y, inner = _framed(x, tuple([(max(0, a), max(0, b)) for a, b in widths]))
    for dim, (n, (before, _)) in enumerate(zip(x.shape, widths, strict=True)):
        outer, start = (slice(None),) * dim, max(0, before)
        y[(*outer, slice(start))] = value
        y[(*outer, slice(start + n, None))] = value
    inner[...] = x
    return y


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float = 0.0) -> Tensor:
    """Elements added at the edges: `pad` is (left, right, top, bottom, ...), last dimension first.

    mode  "constant" adds elements of this value, and a negative amount cuts elements off.
          "reflect" mirrors the tensor, without repeating its edge: 3 2 [1 2 3] 2 1
    """
    if not isinstance(pad, Sequence) or not all(map(is_whole, pad)):
        raise TypeError(f"pad: expected a tuple of integers, not {pad!r:.80}")
    if mode not in ("constant", "reflect") or len(pad) % 2 or len(pad) > 2 * input.ndim:
        raise ValueError(f"pad: {tuple(pad)} in mode {mode!r} does not fit {input.ndim} dimensions")
    pairs = [tuple(pad[i : i + 2]) for i in range(0, len(pad), 2)]
    pairs += [(0, 0)] * (input.ndim - len(pairs))
    pairs.reverse()
    if mode == "reflect":
        return _reflected(input, pairs, value)
    if any(n + min(a, 0) + min(b, 0) < 0 for n, (a, b) in zip(input.shape, pairs, strict=True)):
        raise ValueError(f"pad: {tuple(pad)} cuts off more than {input.shape} has")
    return _pad(input, widths=tuple(pairs), value=value)


def _mirrors(widths: tuple, shape: tuple[int, ...]) -> Iterator[tuple[tuple, tuple, tuple]]:
    """The parts of a frame, dimension by dimension: each one's index, that of the numbers inside that
    it mirrors, and the index that turns them round.

    `shape` includes the frame. The part of a later dimension contains corners of the earlier frames.
    """
    for dim, ((before, after), n) in enumerate(zip(widths, shape, strict=True)):
        outer, last = (slice(None),) * dim, n - after - 1
        back = (*outer, slice(None, None, -1))
        if before:
            yield (*outer, slice(before)), (*outer, slice(before + 1, 2 * before + 1)), back
        if after:
            yield (*outer, slice(last + 1, n)), (*outer, slice(last - after, last)), back


@op(lambda g, y, x, *, widths: _unmirror(g, widths=widths))
def _mirror(xp, x, *, widths):
    """x in a frame of these widths, mirrored at its edges."""
    y, inner = _framed(x, widths)
    inner[...] = x
    for frame, inside, back in _mirrors(widths, y.shape):
        y[frame] = y[inside][back]
    return y


@op(lambda g, y, x, *, widths: _mirror(g, widths=widths))
def _unmirror(xp, x, *, widths):
    """The transpose of `_mirror`: adds the frame to what it mirrors, and cuts it off."""
    y = x.copy(order="K")
    for frame, inside, back in reversed([*_mirrors(widths, y.shape)]):
        y[inside] += y[frame][back]
    return y[tuple([slice(a, n - b) for (a, b), n in zip(widths, x.shape, strict=True)])]


def _reflected(x: Tensor, pairs: list[tuple[int, int]], value: float) -> Tensor:
    """x mirrored at its edges, by (before, after) elements of each dimension."""
    if value != 0:
        raise ValueError(f"pad: mode 'reflect' does not use a value; leave out value={value}")
    for dim, ((before, after), n) in enumerate(zip(pairs, x.shape, strict=True)):
        if not 0 <= before < max(n, 1) or not 0 <= after < max(n, 1):
            raise ValueError(
                f"pad: {n} elements in dimension {dim} can be mirrored by 0 to {max(n, 1) - 1}, not by "
                f"{(before, after)}"
            )
    return _mirror(x, widths=tuple(pairs))


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


@with_axis
def split(
    tensor: Tensor, split_size_or_sections: int | Sequence[int], dim: int = 0
) -> tuple[Tensor, ...]:
    """Parts along a dimension, as views of one size (the last may be smaller) or of the given sizes."""
    dim = one_dim(dim, tensor.ndim)
    n, sizes = tensor.shape[dim], split_size_or_sections
    if is_whole(sizes) and sizes > 0:
        sizes = [min(sizes, n - start) for start in range(0, n, sizes)] or [0]
    elif (
        not isinstance(sizes, Sequence)
        or not all(is_whole(size) and size >= 0 for size in sizes)
        or sum(sizes) != n
    ):
        raise ValueError(
            f"split: {n} elements cannot be split into {sizes!r}; expected a size of at least 1, or "
            f"sizes with the sum {n}"
        )
    ends = [*itertools.accumulate(sizes, initial=0)]
    return tuple(
        tensor[(slice(None),) * dim + (slice(start, end),)]
        for start, end in itertools.pairwise(ends)
    )


@with_axis
def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most `chunks` parts along a dimension, as views of one size; the last may be smaller."""
    if not is_whole(chunks) or chunks < 1:
        raise ValueError(f"chunk: the number of chunks must be an int >= 1, not {chunks!r}")
    length = input.shape[one_dim(dim, input.ndim)]
    return split(input, max(1, -(-length // int(chunks))), dim)
