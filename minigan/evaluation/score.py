"""The inception score, of a classifier's probabilities for the fakes."""

from __future__ import annotations

import numpy as np

from ..errors import UserError
from .checks import as_rows, check_whole, seeded

SUM = 1e-3  # how far a row may be from a sum of 1: float16's rounding, but no logits


def inception_score(
    probabilities: np.ndarray, splits: int = 10, seed: int = 0
) -> tuple[float, float]:
    """exp(mean of KL(p(y|x) || p(y))): its mean and standard deviation over `splits` chunks.

    probabilities  (N, K): each row is p(y|x) of one fake and sums to 1; computed in float64
    splits         chunks into which the rows are divided, each with a p(y) of its own

    See Salimans et al. 2016, "Improved Techniques for Training GANs", section 4. It is between 1 (all
    rows are alike) and K (each row is certain, and the classes are equally frequent), and at most the
    number of rows in a chunk. The rows are shuffled, because fakes that come sorted by class would make
    each chunk look uniform. It knows nothing of the reals, and does not notice that each class is
    always the same image. The usual N is 50,000.

    Time and memory are O(N K).
    """
    (p,) = as_rows("inception_score", probabilities=probabilities)
    check_whole("inception_score", "splits", splits, 1, len(p))
    if p.min() < 0 or np.abs(p.sum(1) - 1).max() > SUM:
        raise UserError(
            "inception_score: each row must be probabilities that sum to 1; apply a softmax to logits"
        )
    p = seeded("inception_score", seed).permutation(p)
    scores = [np.exp(_divergence(chunk)) for chunk in np.array_split(p, splits)]
    return float(np.mean(scores)), float(np.std(scores))


def _divergence(p: np.ndarray) -> float:
    """mean KL(p(y|x) || p(y)) = H(mean of p(y|x)) - mean H(p(y|x)) of rows (n, K)."""
    return _entropy(p.mean(0)) - _entropy(p).mean()


def _entropy(p: np.ndarray) -> np.ndarray:
    """-sum of p log p along the last axis, where 0 log 0 = 0."""
    return -(p * np.log(np.where(p > 0, p, 1))).sum(-1)
