"""The Fréchet distance: the FID, without a matrix root.

The FID compares the means m and the covariances S of two sets of features:

    |m_a - m_b|^2  +  tr(S_a) + tr(S_b) - 2 tr((S_a S_b)^1/2)

S_a S_b is not symmetric, so np.linalg.eigvalsh, which is exact and fast, cannot be applied to it.
But if H = S_a^1/2, then H S_b H is symmetric and has the same eigenvalues; and the trace of a root
is the sum of the roots of the eigenvalues. H itself comes from eigh: if S_a = V diag(e) V^T, then H
= V diag(sqrt(e)) V^T.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """The distance of two sets of features, (N, d) and (M, d); covariances divide by N - 1 and M -
    1.
    """
    S_a, S_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    e, V = np.linalg.eigh(S_a)
    H = V * np.sqrt(e.clip(0)) @ V.T
    root = np.sqrt(np.linalg.eigvalsh(H @ S_b @ H).clip(0)).sum()  # rounding may give -1e-16
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(S_a) + np.trace(S_b) - 2 * root


def _exactly(x: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """The rows, changed so that their mean is 0 and their covariance exactly this one."""
    x = x - x.mean(0)
    whitened = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T
    return whitened @ np.linalg.cholesky(covariance).T


def measure(frechet_distance: Any) -> Iterator[tuple[str, Any, Any]]:
    rng = np.random.default_rng(10)
    x, y = rng.standard_normal((9, 3)), rng.standard_normal((7, 3))
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    narrow, wide = np.diag([1.0, 4.0, 9.0]), np.diag([4.0, 16.0, 1.0])
    shift = np.array([1.0, 2.0, 3.0])
    a = _exactly(x, narrow)
    yield "a set and itself, moved by (1, 2, 3)", frechet_distance(a, a + shift), 14.0
    # Covariances that commute: the sum of the squared differences of their roots, 1 + 4 + 4.
    b = _exactly(y, wide)
    yield "variances (1, 4, 9) against (4, 16, 1)", frechet_distance(a, b), 9.0
    yield "both sets turned", frechet_distance(a @ turn, b @ turn + 1), 12.0
    # Covariances that do not commute: against S = A A^T, where A = [[1, 0], [1, 1]] ...
    a, b = _exactly(x[:, :2], np.diag([4.0, 1.0])), _exactly(y[:, :2], np.array([[2.0, 1], [1, 1]]))
    # ... tr((S_a S_b)^1/2) = sqrt(tr(S_a S_b) + 2 sqrt(det(S_a S_b))) for 2 x 2 matrices.
    truth = 5 + 3 - 2 * np.sqrt(9 + 2 * np.sqrt(4))
    yield "covariances that do not commute", frechet_distance(a, b), truth


def _parts(a: np.ndarray, b: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """The part of the means, and the covariances."""
    return ((a.mean(0) - b.mean(0)) ** 2).sum(), np.cov(a, rowvar=False), np.cov(b, rowvar=False)


def _roots(values: np.ndarray) -> float:
    return np.sqrt(values.clip(0)).sum()


def wrong_not_symmetric(a: np.ndarray, b: np.ndarray) -> float:
    """S_a S_b is not symmetric, and eigvalsh reads only half of it. Apply it to H S_b H."""
    means, S, T = _parts(a, b)
    return means + np.trace(S + T) - 2 * _roots(np.linalg.eigvalsh(S @ T))


def wrong_root_of_each_element(a: np.ndarray, b: np.ndarray) -> float:
    """np.sqrt of a matrix takes the root of each element. The root of a matrix has those of its
    eigenvalues.
    """
    means, S, T = _parts(a, b)
    return means + np.trace(S + T) - 2 * np.trace(np.sqrt((S @ T).clip(0)))


def wrong_without_root(a: np.ndarray, b: np.ndarray) -> float:
    """Your trace is that of S_a S_b. Take the root of each eigenvalue before you add them up."""
    means, S, T = _parts(a, b)
    return means + np.trace(S + T) - 2 * np.trace(S @ T)


def wrong_without_means(a: np.ndarray, b: np.ndarray) -> float:
    """The distance of the means is missing. A set that is only moved is not the same set."""
    return frechet_distance(a - a.mean(0), b - b.mean(0))


def wrong_length_of_the_means(a: np.ndarray, b: np.ndarray) -> float:
    """The distance of the means is squared."""
    means = _parts(a, b)[0]
    return frechet_distance(a, b) - means + np.sqrt(means)


def wrong_count(a: np.ndarray, b: np.ndarray) -> float:
    """Your covariances divide by N. Those of the usual programs divide by N - 1, as np.cov does."""
    means, S, T = _parts(a, b)
    S, T = S * (len(a) - 1) / len(a), T * (len(b) - 1) / len(b)
    e, V = np.linalg.eigh(S)
    H = V * np.sqrt(e) @ V.T
    return means + np.trace(S + T) - 2 * _roots(np.linalg.eigvalsh(H @ T @ H))


def wrong_factor(a: np.ndarray, b: np.ndarray) -> float:
    """The root counts twice: - 2 tr(...)."""
    means, S, T = _parts(a, b)
    return (frechet_distance(a, b) + means + np.trace(S + T)) / 2


HINTS = (
    "np.cov(a, rowvar=False) is the covariance if the rows are samples.",
    "e, V = np.linalg.eigh(S_a), then H = V * np.sqrt(e) @ V.T.",
    "The trace of the root is np.sqrt(np.linalg.eigvalsh(H @ S_b @ H).clip(0)).sum().",
)
OFF_LIMITS = ("minigan",)
