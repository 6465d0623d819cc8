"""Fidelity and diversity apart, by the balls that reach from each sample to its k-th neighbour.

A distance such as FID is one number, in which bad images and missing images look alike. Here a set
covers what lies in the balls around its samples. How much of the fakes lies in the balls of the reals
tells about fidelity; how much of the reals the fakes reach tells about diversity.
"""

from __future__ import annotations

import numpy as np

from .checks import as_rows, check_counts, check_whole
from .distances import ROUNDING, squared_distances, squares


def precision_recall(real: np.ndarray, fake: np.ndarray, k: int = 3) -> tuple[float, float]:
    """Precision: the fraction of the fakes in a real's ball. Recall: of the reals in a fake's ball.

    real, fake  (N, d) and (M, d), more than k rows each; computed in float64
    k           a ball's radius is the distance to the k-th nearest other sample of the same set

    See Kynkäänniemi, Karras, Laine, Lehtinen & Aila 2019, "Improved Precision and Recall Metric for
    Assessing Generative Models", equations 1 and 2. A sample on the edge of a ball is inside. Recall is
    low after a collapse, precision is low for bad images. One outlier among the reals has a huge
    ball, which forgives any fake in it: see `density_coverage`. The usual N and M are 50,000.

    Time is O((N + M)^2 d), memory that of one more copy of both sets and of a block.
    """
    real, fake = _prepared("precision_recall", real, fake, k)
    check_counts("precision_recall", k + 1, fake=fake)
    around_real, around_fake = _radii(real, k), _radii(fake, k)
    precise, recalled = np.zeros(len(fake), bool), np.zeros(len(real), bool)
    for part, d in squared_distances(real, fake):
        precise |= (d <= around_real[part, None]).any(0)
        recalled[part] = (d <= around_fake).any(1)
    return float(precise.mean()), float(recalled.mean())


def density_coverage(real: np.ndarray, fake: np.ndarray, k: int = 5) -> tuple[float, float]:
    """Density: in how many reals' balls a fake lies, over k. Coverage: the reals whose ball has a fake.

    real, fake  (N, d), more than k rows, and (M, d); computed in float64
    ->          density, the mean over the fakes, and coverage, a fraction of the reals

    See Naeem, Oh, Uh, Choi & Yoo 2020, "Reliable Fidelity and Diversity Metrics for Generative
    Models", section 3. Only the reals have balls, so outliers among the fakes reach nothing.
    For equal distributions density is 1 on average and coverage 1 - prod (N - i) / (2N - i) over i = 1
    to k, if N = M; density has no upper limit. A sample on the edge of a ball is inside, which differs
    from the authors' program only for ties: there, constant sets score 0.

    Time is O(N (N + M) d), memory that of one more copy of both sets and of a block.
    """
    real, fake = _prepared("density_coverage", real, fake, k)
    around_real = _radii(real, k)
    inside, covered = 0, np.zeros(len(real), bool)
    for part, d in squared_distances(real, fake):
        reached = d <= around_real[part, None]
        inside += int(reached.sum())
        covered[part] = reached.any(1)
    return inside / (k * len(fake)), float(covered.mean())


def _prepared(name: str, real: np.ndarray, fake: np.ndarray, k: int) -> list[np.ndarray]:
    """The two sets, checked, and measured from the reals' mean, so that an offset costs no digits."""
    check_whole(name, "k", k, 1)
    real, fake = as_rows(name, real=real, fake=fake)
    check_counts(name, k + 1, real=real)  # k neighbours, and itself
    centre = real.mean(0)
    return [real - centre, fake - centre]


def _radii(a: np.ndarray, k: int) -> np.ndarray:
    """The squared distance (N,) of each row to its k-th nearest other row.

    It is widened by what rounding can amount to, so that copies and ties count as inside.
    """
    found = np.empty(len(a))
    for part, d in squared_distances(a, a):
        np.fill_diagonal(d[:, part], np.inf)  # no row is its own neighbour, but its copy is
        d.partition(k - 1, axis=1)
        found[part] = d[:, k - 1]
    return found + ROUNDING * (found + squares(a))
