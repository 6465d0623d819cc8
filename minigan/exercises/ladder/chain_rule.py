"""The chain rule: the slope of one neuron.

A neuron with the weight w sees the number x and should answer t. Its error is

    loss  =  (tanh(w x) - t)^2

Training asks how the loss changes when w does. Three functions are nested here: a product inside a
tanh inside a square. The chain rule multiplies their slopes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..differences import differences


def slope(w: float, x: float, t: float) -> float:
    """d loss / dw at this w, a number. (The slope of tanh at a is 1 - tanh(a)^2.)"""
    y = np.tanh(w * x)
    return 2 * (y - t) * (1 - y**2) * x


def measure(slope: Any) -> Iterator[tuple[str, Any, Any]]:
    for w, x, t in ((0.5, 1.5, 0.2), (-1.0, 0.3, 0.9), (0.7, -2.0, -0.4)):
        truth = differences(lambda w: (np.tanh(w * x) - t) ** 2, w)
        yield f"d loss / dw for w = {w}, x = {x}, t = {t}", slope(w, x, t), truth
    yield "d loss / dw where the answer is already right", slope(1.0, 0.5, np.tanh(0.5)), 0.0


def wrong_without_the_product(w: float, x: float, t: float) -> float:
    """The innermost function is w x, and its slope in w is x. Your result lacks this factor."""
    y = np.tanh(w * x)
    return 2 * (y - t) * (1 - y**2)


def wrong_without_the_tanh(w: float, x: float, t: float) -> float:
    """The tanh has a slope too, 1 - tanh(w x)^2. Your result lacks this factor."""
    return 2 * (np.tanh(w * x) - t) * x


def wrong_without_the_square(w: float, x: float, t: float) -> float:
    """The outermost function is a square, whose slope is 2 (tanh(w x) - t)."""
    return (1 - np.tanh(w * x) ** 2) * x


def wrong_without_the_2(w: float, x: float, t: float) -> float:
    """Your result is half of what it should be: the slope of a square has a factor 2."""
    y = np.tanh(w * x)
    return (y - t) * (1 - y**2) * x


def wrong_place(w: float, x: float, t: float) -> float:
    """Take the slope of tanh at its own input, w x, not at its output."""
    y = np.tanh(w * x)
    return 2 * (y - t) * (1 - np.tanh(y) ** 2) * x


HINTS = (
    "Name the parts: a = w x, y = tanh(a), loss = (y - t)^2. What are da/dw, dy/da and dloss/dy?",
    "The answer is the product dloss/dy * dy/da * da/dw.",
)
OFF_LIMITS = ("minigan",)
