"""Distances between all pairs of two sets, block by block: never all of them at once in memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

BLOCK = 2**22  # numbers in a block: 32 MB of float64

# Two copies of a row x are at distance 0, yet a matrix product leaves about sqrt(d) 1e-16 |x|^2. A
# squared distance below this fraction of |x|^2 may be nothing but rounding.
ROUNDING = 2.0**-40


def blocks(count: int, width: int) -> Iterator[slice]:
    """Slices that divide `count` rows of `width` numbers into blocks of at least one row."""
    rows = max(1, BLOCK // width)
    for start in range(0, count, rows):
        yield slice(start, min(start + rows, count))


def squares(a: np.ndarray) -> np.ndarray:
    """|a_i|^2: (N, d) -> (N,)."""
    return np.einsum("nd,nd->n", a, a)


def squared_distances(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """|a_i - b_j|^2 = |a_i|^2 - 2 a_i.b_j + |b_j|^2, by blocks of a's rows.

    a, b  (N, d) and (M, d), float64
    ->    slice of the rows i, and their squared distances (rows, M), which the caller may overwrite

    One matrix product does the work: N M d operations, and a block at a time in memory. The terms
    cancel where two rows are nearly equal, which may even leave a number below 0: see ROUNDING.
    """
    squares_b = squares(b)
    for part in blocks(len(a), len(b)):
        d = a[part] @ b.T  # (rows, M)
        d *= -2
        d += squares(a[part])[:, None]
        d += squares_b
        yield part, d
