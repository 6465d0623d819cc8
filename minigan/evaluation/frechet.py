"""The Fréchet distance of two sets of features, called FID if they are the Inception network's."""

from __future__ import annotations

import numpy as np

from .checks import as_rows, check_counts


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """|m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^1/2), of the means and covariances of two sets.

    a, b  (N, d) and (M, d), at least 2 rows each; computed in float64

    The squared Wasserstein distance of order 2 between the Gaussians with these moments (Dowson &
    Landau 1982, equation 4; Heusel et al. 2017, equation 6). The covariances divide by N - 1, as
    the usual programs do.

    The root itself is not needed. If S_a = A'A and S_b = B'B, then the eigenvalues of S_a S_b are the
    squared singular values of A B', so the trace of the root is the sum of those singular values. A is
    the R of a QR decomposition of the centred rows, divided by sqrt(N - 1). It has min(N, d) rows: with
    fewer samples than features, A B' is N x M, and no d x d matrix arises. No covariance is ever
    formed, so a singular one costs no digits. The error is about 1e-14 (tr S_a + tr S_b). The usual
    ways are worse: S_a S_b is not symmetric, so `eigvalsh` of it is wrong, a Newton iteration stops
    early, and `scipy.linalg.sqrtm` takes roots of rounding noise where a covariance is singular.

    The distance is biased: it falls as N grows, roughly by a term in 1/N whose size depends on the
    generator (Chong & Forsyth 2020, "Effectively Unbiased FID and Inception Score"). Compare only
    values of equal N, and distrust small differences even then. The usual N is 50,000 fakes against all
    reals, and at least 10,000.

    Time is O((N + M) d^2 + d^3), memory that of four copies of the larger set.
    """
    a, b = as_rows("frechet_distance", a=a, b=b)
    check_counts("frechet_distance", 2, a=a, b=b)
    mean_a, root_a = _moments(a)
    mean_b, root_b = _moments(b)
    overlap = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    spread = (root_a**2).sum() + (root_b**2).sum() - 2 * overlap
    return float(((mean_a - mean_b) ** 2).sum() + max(spread, 0.0))  # rounding may go below 0


def _moments(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean (d,), and R (min(N, d), d) with R'R the covariance."""
    mean = rows.mean(0)
    centred = rows - mean
    return mean, np.linalg.qr(centred, mode="r") / np.sqrt(len(rows) - 1)
