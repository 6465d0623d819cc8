"""How far a metric would move if other samples had been drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .checks import check_counts, check_whole, seeded


def standard_error(
    metric: Callable[[np.ndarray, np.ndarray], Any],
    a: np.ndarray,
    b: np.ndarray,
    repeats: int = 50,
    seed: int = 0,
) -> np.ndarray:
    """The standard error of metric(a, b): its deviation over random halves of a and b.

    metric  a function of two sets that returns a number or a tuple of them; of `sliced_wasserstein`,
            which returns a dict, take the values
    a, b    (N, ...) and (M, ...), at least 2 samples each
    ->      (), or (n,) if the metric returns n numbers

    The delete-half jackknife (Shao & Wu 1989, "A General Theory for Jackknife Variance Estimation"): a
    half, drawn without replacement, varies around the whole as much as the whole does around the truth,
    because (1/(N/2)) (1 - 1/2) = 1/N. A bootstrap draws with replacement, which fills the sets with
    copies: neighbours at distance 0 to `precision_recall`, fewer samples to `frechet_distance`.

    The error does not include a bias: for halves, the metric varies around its value at N/2, and for
    `frechet_distance` that is higher. With 50 repeats the error itself is known to within 10 %. For
    precision and density it may be half too large, because the balls change with N.
    """
    check_whole("standard_error", "repeats", repeats, 2)
    a, b = np.atleast_1d(a), np.atleast_1d(b)
    check_counts("standard_error", 2, a=a, b=b)
    rng = seeded("standard_error", seed)
    half = lambda rows: rows[rng.permutation(len(rows))[: len(rows) // 2]]
    found = [metric(half(a), half(b)) for _ in range(repeats)]
    return np.std(found, axis=0, ddof=1)
