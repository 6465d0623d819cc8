"""The kernel distance of two sets of features, called KID if they are the Inception network's."""

from __future__ import annotations

import numpy as np

from ..errors import UserError
from .checks import as_rows, check_whole, seeded


def kernel_distance(
    a: np.ndarray, b: np.ndarray, subsets: int = 100, size: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """The squared maximum mean discrepancy under k(x, y) = (x.y / d + 1)^3: its mean and deviation.

        mean of k(a_i, a_j) over i != j  +  mean of k(b_i, b_j) over i != j  -  2 mean of k(a_i, b_j)

    a, b     (N, d) and (M, d), at least `size` rows each; computed in float64
    subsets  for each, `size` rows of a and as many of b are drawn without replacement
    ->       mean and standard deviation over the subsets

    See Bińkowski, Sutherland, Arbel & Gretton 2018, "Demystifying MMD GANs", section 4. Because i != j
    the estimate is unbiased: for equal distributions its expectation is 0 at any N, and it is often
    negative. Subsets of one set share rows, so the deviation is not the standard error of the mean:
    that is what `standard_error` estimates.

    Time is O(subsets size^2 d), memory 8 size^2 bytes.
    """
    check_whole("kernel_distance", "subsets", subsets, 1)
    check_whole("kernel_distance", "size", size, 2)
    a, b = as_rows("kernel_distance", a=a, b=b)
    for key, rows in (("a", a), ("b", b)):
        if len(rows) < size:
            raise UserError(
                f"kernel_distance: {key} has {len(rows)} samples, too few for subsets of {size}; "
                f"give more samples, or a size of at most {min(len(a), len(b))}"
            )
    rng = seeded("kernel_distance", seed)
    found = [
        _discrepancy(*(rows[rng.choice(len(rows), size, replace=False)] for rows in (a, b)))
        for _ in range(subsets)
    ]
    return float(np.mean(found)), float(np.std(found))


def _discrepancy(x: np.ndarray, y: np.ndarray) -> float:
    """The unbiased estimate from two sets of n rows (Gretton et al. 2012, equation 3)."""
    n = len(x)
    within = sum(k.sum() - k.trace() for k in (_kernel(x, x), _kernel(y, y)))
    return within / (n * (n - 1)) - 2 * _kernel(x, y).mean()


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(n, d) and (n, d) -> (n, n)."""
    return (x @ y.T / x.shape[1] + 1) ** 3
