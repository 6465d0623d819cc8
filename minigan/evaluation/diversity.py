"""How far apart the samples of a set are: a collapsed generator's samples lie close together."""

from __future__ import annotations

import numpy as np

from .checks import as_rows, check_counts
from .distances import squared_distances

CROWD = 8  # the set is this many times as large as the crowd around a sample


def spacing(x: np.ndarray) -> float:
    """The mean distance of a sample to its (N/8)-th nearest among the others: 0 for copies of one.

        1/N sum_i |x_i - x_i,N/8|,   where x_i,k is the k-th nearest of the others to x_i

    x  (N, d), or any (N, ...), which is flattened; at least 8 samples, computed in float64

    It is near 0 if the samples are copies of one sample or of a few, or if they lie at half of eight
    modes or fewer: a quarter of them or more then share a mode, so the (N/8)-th nearest is in it. A
    mean over all pairs would not notice a few samples that are far apart, each copied often. The
    nearest neighbour alone would not notice a single mode of eight, whose samples have the same near
    neighbours in the data.

    Time is O(N^2 d). The number depends on N, so compare only sets of the same size. Raises UserError
    if x has fewer than 8 rows, or values that are not finite.
    """
    (x,) = as_rows("spacing", x=x)
    check_counts("spacing", CROWD, x=x)
    k, total = len(x) // CROWD, 0.0
    for _, d in squared_distances(x, x):  # (rows, N), each row with the distance to itself
        d.partition(k, axis=1)
        total += np.sqrt(np.maximum(d[:, k], 0)).sum()  # rounding may leave a number below 0
    return float(total / len(x))
