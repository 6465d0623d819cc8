"""Matrix products on the CPU, cut into parts that the threads share, and the QR decomposition."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from .threads import share

SMALL = 1 << 13  # multiplications at most: OpenBLAS computes such a product on one thread by itself
PARTS = 4  # of a product, at most: for each part, BLAS copies the uncut factor again
PART_WORK = 1 << 24  # multiplications in a part: with fewer, waking a thread does not pay
PART_EDGE = 128  # a part's rows or columns are a multiple of this: BLAS is slow on narrow matrices


def matmul(xp: ModuleType, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """See reference.matmul. It is computed in parts, each by BLAS on one thread.

    The last bits of a product depend on how many threads BLAS uses, and on where the matrix is cut. So
    the cuts depend on the shapes alone, and a product too small to cut is a single part. One of at most
    SMALL multiplications needs no limit for BLAS, and `share` would take longer than the product.
    """
    if a.dtype.char not in "fd":  # BLAS has only float32 and float64
        return np.matmul(a, b)
    if a.shape[-1] == 1:
        return (
            a * b
        )  # (..., M, 1) * (..., 1, N): there is nothing to add up, and BLAS is slow at it
    work = a.size * b.shape[-1]
    if work <= SMALL:
        return np.matmul(a, b)
    y = np.empty((*a.shape[:-1], b.shape[-1]), a.dtype)  # (..., M, N)
    parts = min(PARTS, work // PART_WORK)
    if parts < 2:
        share(lambda i: np.matmul(a, b, out=y), 1)
        return y
    axis, cuts = _cuts(y.shape, parts)

    def multiply(i: int) -> None:
        part = (slice(None),) * axis + (cuts[i],)
        rows = a if axis == y.ndim - 1 else a[part]
        columns = b if axis == y.ndim - 2 else b[part]
        np.matmul(rows, columns, out=y[part])

    share(multiply, len(cuts))
    return y


def qr(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """np.linalg.qr by LAPACK on one thread, because its last bits, too, depend on the number."""
    factors: list[tuple[np.ndarray, np.ndarray]] = []
    share(lambda i: factors.append(np.linalg.qr(a)), 1)
    return factors[0]


def _cuts(shape: tuple[int, ...], parts: int) -> tuple[int, list[slice]]:
    """The axis along which a result (..., M, N) is cut, and the cuts, at most `parts`.

    It is the longest batch axis if that has at least `parts` matrices, else the longer of M and N.
    """
    batch = max(range(len(shape) - 2), key=shape.__getitem__, default=None)
    if batch is not None and shape[batch] >= parts:
        axis, step = batch, -(-shape[batch] // parts)
    else:
        axis = max(len(shape) - 2, len(shape) - 1, key=shape.__getitem__)
        step = -(-shape[axis] // (parts * PART_EDGE)) * PART_EDGE
    return axis, [slice(i, i + step) for i in range(0, shape[axis], step)]
