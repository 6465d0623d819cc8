"""The stable loss: cross-entropy of logits, without a sigmoid.

D gives a logit x; the probability that it means is p = 1 / (1 + e^-x). The loss of a sample with
the label t is

    loss  =  -t log(p) - (1 - t) log(1 - p)

In floating point this formula fails where it matters most, when D is sure and wrong: p becomes
exactly 0 or 1, and its logarithm infinite. But log(p) = -log(1 + e^-x) and log(1 - p) = log(p) - x,
so the loss can be computed from x alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import exp, log1p
from typing import Any

import numpy as np


def bce_with_logits(x: np.ndarray, t: np.ndarray) -> np.ndarray:
    """The loss of each logit x with the label t: (N,) and (N,) to (N,), for labels from 0 to 1.

    It is correct to 6 digits for every x from -1e308 to 1e308, even where the loss is nearly 0.
    """
    return np.maximum(-x, 0) + (1 - t) * x + np.log1p(np.exp(-np.abs(x)))


CASES = (  # (logit, label, loss)
    (0.0, 1.0, log1p(1.0)),
    (2.0, 1.0, log1p(exp(-2))),
    (2.0, 0.0, 2 + log1p(exp(-2))),
    (-1.0, 0.9, 0.9 + log1p(exp(-1))),
    (-40.0, 1.0, 40.0),
    (-800.0, 1.0, 800.0),
    (800.0, 0.0, 800.0),
    (-1e308, 1.0, 1e308),
    (40.0, 1.0, exp(-40)),
    (-40.0, 0.0, exp(-40)),
)


def measure(bce_with_logits: Any) -> Iterator[tuple[str, Any, Any]]:
    for x, t, loss in CASES:
        what = f"the losses of two equal logits {x:g}, label {t:g}"
        yield what, bce_with_logits(np.array([x, x]), np.array([t, t])), np.array([loss, loss])


def wrong_formula(x: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Where p rounds to 0 or 1, a logarithm is infinite, and 0 * infinity is nan. Do not compute p."""
    p = 1 / (1 + np.exp(-x))
    return -t * np.log(p) - (1 - t) * np.log(1 - p)


def wrong_clipped_probability(x: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Your loss ends at 16.1 because p is clipped at 1e-7. Beyond, the gradient is 0, and a D that
    is sure and wrong learns nothing.
    """
    p = np.clip(1 / (1 + np.exp(-x)), 1e-7, 1 - 1e-7)
    return -t * np.log(p) - (1 - t) * np.log(1 - p)


def wrong_clipped_logarithm(x: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Your loss ends at 100: this is binary_cross_entropy of probabilities, which clips its
    logarithms at -100. A Loss_G of exactly 100 in somebody's log has the same cause.
    """
    p = 1 / (1 + np.exp(-x))
    return -t * np.maximum(np.log(p), -100) - (1 - t) * np.maximum(np.log(1 - p), -100)


def wrong_labels(x: np.ndarray, t: np.ndarray) -> np.ndarray:
    """The labels are swapped: t belongs to log(p), and 1 - t to log(1 - p)."""
    return bce_with_logits(x, 1 - t)


def wrong_mean(x: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Give the loss of each sample, not their mean."""
    return bce_with_logits(x, t).mean()


def wrong_overflow(x: np.ndarray, t: np.ndarray) -> np.ndarray:
    """e^800 is too large for a float. Take the exponential of -|x| only, which is at most 1."""
    return np.log1p(np.exp(x)) - t * x


def wrong_logarithm(x: np.ndarray, t: np.ndarray) -> np.ndarray:
    """The loss is about 4e-18 here, and yours is 0: 1 + 4e-18 rounds to 1. Use np.log1p, and add
    its result to a number that is exactly 0 for a sample judged correctly.
    """
    return np.maximum(-x, 0) + (1 - t) * x + np.log(1 + np.exp(-np.abs(x)))


HINTS = (
    "Insert both logarithms: the loss is (1 - t) x + log(1 + e^-x).",
    "For a negative x, e^-x overflows; but log(1 + e^-x) = -x + log(1 + e^x).",
    "Both cases in one formula: log(1 + e^-x) = max(-x, 0) + log1p(e^-|x|).",
)
OFF_LIMITS = ("minigan",)
