"""How many different samples can a generator make? Count its duplicates, by the birthday paradox."""

from __future__ import annotations

import numpy as np

from .checks import as_rows, check_counts, check_positive
from .distances import squared_distances


def support_size(fake: np.ndarray, radius: float) -> float:
    """The number of different samples among which a generator chooses: inf without any duplicate.

        N (N - 1) / 2 / (number of pairs i < j with |x_i - x_j| <= radius)

    fake    (N, d), or any (N, ...), which is flattened; at least 2 samples, computed in float64
    radius  two samples that are no further apart count as duplicates; take it from reals, among which
            no pair should be so near

    If all S samples are equally likely, a pair is equal with probability 1 / S. The relative error is
    about one over the root of the number of pairs, so N should be some multiple of the root of S. If
    they are not equally likely, the estimate is lower than their number. (Arora & Zhang 2017, "Do GANs
    actually learn the distribution?", look for duplicates by eye.) Time is O(N^2 d). Raises UserError
    for fewer than 2 samples, values that are not finite, or a radius that is not positive.
    """
    (x,) = as_rows("support_size", fake=fake)
    check_counts("support_size", 2, fake=x)
    check_positive("support_size", "radius", radius)
    near = 0  # ordered pairs, so each is counted twice, in both numbers
    for part, d in squared_distances(x, x):  # (rows, N)
        np.fill_diagonal(d[:, part], np.inf)  # a sample and itself
        near += int((d <= radius**2).sum())
    return len(x) * (len(x) - 1) / near if near else np.inf
