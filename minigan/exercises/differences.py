"""Central differences, by which the pages of the ladder know the gradient without a rule."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def differences(f: Callable, x: np.ndarray | float, g: np.ndarray | float = 1.0) -> np.ndarray:
    """The gradient of sum(g * f(x)) with respect to x, element by element, in float64.

    sum(g * (f(x + h e) - f(x - h e))) / 2h for each unit vector e, with h = 1e-5: the error is of
    the order h^2 + 1e-16 / h.

    f  maps an array of x's shape to an array or a number
    g  the upstream gradient, of the shape of f's result
    """
    x, h = np.asarray(x, np.float64), 1e-5
    found = np.zeros_like(x)
    for at in np.ndindex(x.shape):
        e = np.zeros_like(x)
        e[at] = h
        found[at] = (np.asarray(g) * (f(x + e) - f(x - e))).sum() / (2 * h)
    return found
