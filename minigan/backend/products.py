"""Matrix products on the CPU, cut into parts that the threads share, and the QR decomposition."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from .threads import share

SMALL = 1 << 13  # multiplications at most: OpenBLAS computes such a product on one thread by itself
PARTS = 4  # the most parts of a product: for each, BLAS copies the uncut factor again
PART_WORK = 1 << 24  # multiplications in a part: with fewer, waking a thread does not pay
PART_EDGE = 128  # a part's rows or columns are a multiple of this: BLAS is slow on narrow matrices


def matmul(xp: ModuleType, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """See reference.matmul. It is computed in parts, each by BLAS on one thread.

    The last bits of a product depend on how many threads BLAS uses, and on where the matrix is cut. So
    the cuts depend on the shapes alone, and a product too small to cut is a single part. One of at most
    SMALL multiplications needs no limit for BLAS, and `share` would take longer than the product.
    """
    return matmuls(xp, [(a, b)])[0]


def matmuls(xp: ModuleType, pairs: list[tuple[np.ndarray, np.ndarray]]) -> list[np.ndarray]:
    """See reference.matmuls. The parts of all products are shared at once.

    So two products that are too small to cut are computed side by side, if together they are not.
    """
    found, parts, work = [], [], 0
    for a, b in pairs:
        count = a.size * b.shape[-1]
        if a.shape[-1] == 1:  # (..., M, 1) * (..., 1, N): nothing to add up, and BLAS is slow at it
            found.append(a * b)
        elif count <= SMALL or a.dtype.char not in "fd":  # BLAS has only float32 and float64
            found.append(np.matmul(a, b))
        else:
            found.append(np.empty((*a.shape[:-1], b.shape[-1]), a.dtype))  # (..., M, N)
            parts += _parts(a, b, found[-1], min(PARTS, count // PART_WORK))
            work += count
    if work >= 2 * PART_WORK:
        share(lambda i: np.matmul(*parts[i][:2], out=parts[i][2]), len(parts))
    elif parts:
        share(lambda i: [np.matmul(a, b, out=y) for a, b, y in parts], 1)
    return found


def _parts(a: np.ndarray, b: np.ndarray, y: np.ndarray, count: int) -> list[tuple]:
    """The factors and the result of a product, cut into so many parts."""
    if count < 2:
        return [(a, b, y)]
    axis, cuts = _cuts(y.shape, count)
    parts = []
    for cut in cuts:
        part = (slice(None),) * axis + (cut,)
        rows = a if axis == y.ndim - 1 else a[part]
        columns = b if axis == y.ndim - 2 else b[part]
        parts.append((rows, columns, y[part]))
    return parts


def qr(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """np.linalg.qr by LAPACK on one thread, because its last bits also depend on that number."""
    factors: list[tuple[np.ndarray, np.ndarray]] = []
    share(lambda i: factors.append(np.linalg.qr(a)), 1)
    return factors[0]


def _cuts(shape: tuple[int, ...], parts: int) -> tuple[int, list[slice]]:
    """The axis along which a result (..., M, N) is cut, and the cuts, at most `parts`.

    The axis is the longest batch axis if it has at least `parts` matrices, else the longer of M and N.
    """
    batch = max(range(len(shape) - 2), key=shape.__getitem__, default=None)
    if batch is not None and shape[batch] >= parts:
        axis, step = batch, -(-shape[batch] // parts)
    else:
        axis = max(len(shape) - 2, len(shape) - 1, key=shape.__getitem__)
        step = -(-shape[axis] // (parts * PART_EDGE)) * PART_EDGE
    return axis, [slice(i, i + step) for i in range(0, shape[axis], step)]
