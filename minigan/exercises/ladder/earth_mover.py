"""The earth mover's distance on a line: sort, then compare.

How far must earth be carried to turn one heap into another? For two sets of N numbers, each of the
same weight, that is the smallest mean distance over all ways to pair them up. On a line nothing has
to be tried: the best way pairs the smallest with the smallest, the second with the second, and so
on. In more dimensions there is no such order, and the critic of a WGAN has to estimate the
distance.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from typing import Any

import numpy as np


def earth_mover(a: np.ndarray, b: np.ndarray) -> float:
    """The earth mover's distance of order 1 of two sets of numbers, (N,) and (N,)."""
    return np.abs(np.sort(a) - np.sort(b)).mean()


def measure(earth_mover: Any) -> Iterator[tuple[str, Any, Any]]:
    rng = np.random.default_rng(6)
    for case, a, b in (
        ("a set and itself in another order", np.array([3.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0])),
        ("0 and 4 against 1 and 3", np.array([0.0, 4.0]), np.array([1.0, 3.0])),
        ("six numbers, unsorted", rng.standard_normal(6), 1 + 2 * rng.standard_normal(6)),
    ):
        # the definition: all ways to pair them up
        truth = min(np.abs(a - np.array(way)).mean() for way in permutations(b))
        yield case, earth_mover(a.copy(), b.copy()), truth
    a = rng.standard_normal(1000)
    yield "1000 numbers against the same plus 2", earth_mover(a, a[::-1] + 2), 2.0


def wrong_unsorted(a: np.ndarray, b: np.ndarray) -> float:
    """You pair the numbers as they stand. The order of a set means nothing: sort both."""
    return np.abs(a - b).mean()


def wrong_means(a: np.ndarray, b: np.ndarray) -> float:
    """The difference of the means misses that one set is wider. Take distances of pairs, then their
    mean.
    """
    return np.abs(a.mean() - b.mean())


def wrong_sum(a: np.ndarray, b: np.ndarray) -> float:
    """Take the mean over the pairs, not the sum: the whole heap has the weight 1."""
    return np.abs(np.sort(a) - np.sort(b)).sum()


def wrong_squares(a: np.ndarray, b: np.ndarray) -> float:
    """The distance of order 1 is the mean of |a - b|. Yours is of order 2, of squares."""
    return np.sqrt(((np.sort(a) - np.sort(b)) ** 2).mean())


def wrong_nearest(a: np.ndarray, b: np.ndarray) -> float:
    """You carry each number to the nearest one, and may use one of b several times. Each has one
    partner.
    """
    return np.abs(a[:, None] - b).min(1).mean()


HINTS = ("np.sort both sets, subtract, and take the mean of the absolute values.",)
OFF_LIMITS = ("minigan",)
