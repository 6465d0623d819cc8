"""Sums over axes on the CPU that lose few digits, for any number of terms."""

from __future__ import annotations

import math
from types import ModuleType

import numpy as np

from . import reference

BUFFERS = np.lib.NumpyVersion(np.__version__) < "2.3.0"  # releases that sum buffer by buffer
TERMS = 128  # the most terms of a sum that are added one after another in float32
RUN = 2048  # the least length of runs to add, if the shape allows: short runs are slow


def _added_in_turn(x: np.ndarray, axes: tuple[int, ...]) -> list[int]:
    """The axes along which NumPy adds one number after another.

    Along the innermost contiguous run of memory, NumPy adds in a tree, which loses few digits. If the
    run has gaps, is not aligned or is float16, it adds one buffer after another; before release 2.3 it
    always does. (Whether NumPy treats an axis of stride 0 as a run depends on the other axes; here it
    does not count as a run.)
    """
    order = sorted((a for a in range(x.ndim) if x.shape[a] > 1), key=lambda a: abs(x.strides[a]))
    copied = BUFFERS or not x.flags.aligned or x.dtype == np.float16
    run = 0 if copied or not order else x.strides[order[0]]  # in bytes
    while run and order and order[0] in axes and x.strides[order[0]] == run:
        run *= x.shape[order.pop(0)]
    return [a for a in order if a in axes]


def sum_over(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """The sum over the axes, which are kept with length 1. The result is float64 for many terms.

    Along an outer axis NumPy adds one row after another to the result. After n rows this is off by up
    to n units in the last place, and in float32 a sum of ones stops at 2^24. So only TERMS rows at a
    time are added like that, and their sums are added in float64. In float32 the error is below 1.1e-5
    times the sum of the absolute values, for any number of terms: 128 roundings of 2^-24, and 50 along
    the innermost run.
    """
    dtype = np.float32 if x.dtype == np.float16 else x.dtype
    terms = lambda axes: math.prod([x.shape[a] for a in axes])
    if (
        x.size <= TERMS
        or terms(axes) <= TERMS
        or terms(in_turn := _added_in_turn(x, axes)) <= TERMS
    ):
        return x.sum(axis=axes, keepdims=True, dtype=dtype)
    axis = max(in_turn, key=lambda a: x.shape[a])
    n = x.shape[axis]

    def part(a: np.ndarray, start: int, stop: int) -> np.ndarray:
        return a[(slice(None),) * axis + (slice(start, stop),)]

    k = max(1, min(RUN * n // x.size, n // TERMS))  # short rows are slow, so k of them make one
    whole = n // k * k
    rows = part(x, 0, whole).reshape(*x.shape[:axis], n // k, k, *x.shape[axis + 1 :])
    added = np.float64(0)
    for i in range(0, n // k, TERMS):
        block = part(rows, i, i + TERMS).sum(axis=axis, dtype=dtype)
        added = np.add(added, block, dtype=np.float64)
    y = sum_over(added, axes)
    return y + sum_over(part(x, whole, n), axes) if whole < n else y


def total(xp: ModuleType, x: np.ndarray, axes: tuple[int, ...], keepdims: bool) -> np.ndarray:
    """See reference.total."""
    if x.dtype.kind != "f":
        return reference.total(xp, x, axes, keepdims)
    y = sum_over(x, axes).astype(x.dtype, copy=False)
    return y if keepdims else y.squeeze(axes)


def average(xp: ModuleType, x: np.ndarray, axes: tuple[int, ...], keepdims: bool) -> np.ndarray:
    """See reference.average."""
    y = (sum_over(x, axes) / math.prod([x.shape[a] for a in axes])).astype(x.dtype, copy=False)
    return y if keepdims else y.squeeze(axes)


def norm(xp: ModuleType, arrays: list[np.ndarray]) -> np.ndarray:
    """See reference.norm. BLAS squares and adds up RUN numbers at a time, in one pass."""
    added = 0.0
    for a in arrays:
        a = a.ravel(order="K")
        whole = a.size // RUN * RUN
        for rows in (a[:whole].reshape(-1, RUN), a[None, whole:]):
            added += np.vecdot(rows, rows).sum(dtype=np.float64)
    return np.asarray(math.sqrt(added), arrays[0].dtype)
