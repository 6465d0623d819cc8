"""The rule of batch norm: the mean and the variance depend on x too.

Batch norm makes the mean of each column 0 and its variance 1:

    m  =  mean of x over the rows          v  =  mean of (x - m)^2 over the rows
    y  =  (x - m) / sqrt(v + eps)

Raising one element of x by h raises m as well, and changes v. So every element of a column
influences every other one, and the gradient has three parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..differences import differences


def batch_norm_rule(g: np.ndarray, x: np.ndarray, eps: float) -> np.ndarray:
    """The gradient (N, C) of x, given the gradient g (N, C) of y. Each column is a set of its own."""
    std = np.sqrt(x.var(0) + eps)
    y = (x - x.mean(0)) / std
    return (g - g.mean(0) - y * (g * y).mean(0)) / std


def _batch_norm(x: np.ndarray, eps: float) -> np.ndarray:
    return (x - x.mean(0)) / np.sqrt(x.var(0) + eps)


def measure(batch_norm_rule: Any) -> Iterator[tuple[str, Any, Any]]:
    rng = np.random.default_rng(2)
    for shape, eps, spread in (((4, 1), 1e-5, 1.0), ((5, 3), 1e-5, 3.0), ((6, 2), 0.5, 0.7)):
        x = 2 + spread * rng.standard_normal(shape)
        g = rng.standard_normal(shape)
        truth = differences(lambda x: _batch_norm(x, eps), x, g)
        what = f"a gradient {shape}, eps = {eps}"
        yield what, batch_norm_rule(g.copy(), x.copy(), eps), truth
    yield "a constant gradient", batch_norm_rule(np.ones((5, 2)), x[:5], 1e-5), np.zeros((5, 2))


def wrong_both_constant(g: np.ndarray, x: np.ndarray, eps: float) -> np.ndarray:
    """You treat m and v as constants. If all of g is 1, the true gradient is 0, because a shift of
    x does not change y.
    """
    return g / np.sqrt(x.var(0) + eps)


def wrong_variance_constant(g: np.ndarray, x: np.ndarray, eps: float) -> np.ndarray:
    """You have the part of the mean, but treat v as a constant. It contributes a part along y."""
    return (g - g.mean(0)) / np.sqrt(x.var(0) + eps)


def wrong_mean_constant(g: np.ndarray, x: np.ndarray, eps: float) -> np.ndarray:
    """You have the part of the variance, but treat m as a constant. Subtract the mean of g as well."""
    y = _batch_norm(x, eps)
    return (g - y * (g * y).mean(0)) / np.sqrt(x.var(0) + eps)


def wrong_variance(g: np.ndarray, x: np.ndarray, eps: float) -> np.ndarray:
    """Here the variance divides by N. Yours divides by N - 1, as ddof=1 does."""
    std = np.sqrt(x.var(0, ddof=1) + eps)
    y = (x - x.mean(0)) / std
    return (g - g.mean(0) - y * (g * y).mean(0)) / std


def wrong_sums(g: np.ndarray, x: np.ndarray, eps: float) -> np.ndarray:
    """m and v are means, so their parts are means over the rows. Yours are sums."""
    y = _batch_norm(x, eps)
    return (g - g.sum(0) - y * (g * y).sum(0)) / np.sqrt(x.var(0) + eps)


def wrong_mean_of_all(g: np.ndarray, x: np.ndarray, eps: float) -> np.ndarray:
    """Each column has a mean and a variance of its own: take means over axis 0 only."""
    std = np.sqrt(x.var() + eps)
    y = (x - x.mean()) / std
    return (g - g.mean() - y * (g * y).mean()) / std


HINTS = (
    "Write y = (x - m) / s with s = sqrt(v + eps), and add up three gradients: through x itself, "
    "through m, and through s.",
    "Through x and m together: (g - mean of g) / s. Through s: -y * (mean of g y) / s.",
)
OFF_LIMITS = ("minigan",)
