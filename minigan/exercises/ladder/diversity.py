"""Diversity: a number that falls when G collapses.

The losses do not show a collapse. If G draws the same image for every noise, and a good one, they
may look as they do in a healthy game. What gives it away is how much the fakes differ from each
other. Compare that with how much the reals do:

    diversity  =  (mean distance of two different fakes)  /  (mean distance of two different reals)

It is near 1 in a healthy game, and near 0 after a collapse.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np


def diversity(fakes: np.ndarray, reals: np.ndarray) -> float:
    """The quotient above, of Euclidean distances; fakes (N, d), reals (M, d), at least two of each."""

    def spread(x: np.ndarray) -> float:
        apart = np.sqrt(((x[:, None] - x) ** 2).sum(2))  # (N, N); 0 on the diagonal
        return apart.sum() / (len(x) * (len(x) - 1))

    return spread(fakes) / spread(reals)


def _spread(x: np.ndarray) -> float:
    """The definition, pair by pair."""
    pairs = [(i, j) for i in range(len(x)) for j in range(i)]
    return float(np.mean([np.linalg.norm(x[i] - x[j]) for i, j in pairs]))


def measure(diversity: Any) -> Iterator[tuple[str, Any, Any]]:
    rng = np.random.default_rng(9)
    reals = rng.standard_normal((12, 5))
    few = reals[rng.integers(3, size=8)]
    shifted = 0.9 * rng.standard_normal((9, 5)) + 4
    for case, fakes in (
        ("fakes that are the reals", reals),
        ("eight copies of one real", np.repeat(reals[:1], 8, axis=0)),
        ("eight copies of three reals", few),
        ("varied but bad fakes, which are far from the reals", shifted),
        ("two fakes at the distance 5", np.array([[0.0, 0, 0, 0, 0], [3, 4, 0, 0, 0]])),
    ):
        truth = _spread(fakes) / _spread(reals)
        yield case, diversity(fakes.copy(), reals.copy()), truth


def wrong_with_itself(fakes: np.ndarray, reals: np.ndarray) -> float:
    """Your mean counts the distance of each sample from itself, which is 0. Divide by N (N - 1),
    the number of pairs of different samples.
    """
    mean = lambda x: np.linalg.norm(x[:, None] - x, axis=2).mean()
    return mean(fakes) / mean(reals)


def wrong_to_the_reals(fakes: np.ndarray, reals: np.ndarray) -> float:
    """You measure how far the fakes are from the reals. That is quality; a collapsed G may be good
    at it.
    """
    return np.linalg.norm(fakes[:, None] - reals, axis=2).mean() / _spread(reals)


def wrong_squares(fakes: np.ndarray, reals: np.ndarray) -> float:
    """You average squared distances. Take the root of each one first."""
    mean = lambda x: ((x[:, None] - x) ** 2).sum(2).sum() / (len(x) * (len(x) - 1))
    return mean(fakes) / mean(reals)


def wrong_spread_of_the_pixels(fakes: np.ndarray, reals: np.ndarray) -> float:
    """This is the spread of all numbers, within a sample too. Even copies of one image have it."""
    return fakes.std() / reals.std()


def wrong_upside_down(fakes: np.ndarray, reals: np.ndarray) -> float:
    """The quotient is upside down. Divide the number of the fakes by that of the reals: then a
    collapse gives 0."""
    return _spread(reals) / max(_spread(fakes), 1e-300)


def wrong_without_the_reals(fakes: np.ndarray, reals: np.ndarray) -> float:
    """Divide by the same number of the reals: a distance alone says nothing."""
    return _spread(fakes)


HINTS = (
    "x[:, None] - x holds all differences of two samples, (N, N, d).",
    "The N distances of a sample from itself are 0: leave them out of the mean.",
)
OFF_LIMITS = ("minigan",)
