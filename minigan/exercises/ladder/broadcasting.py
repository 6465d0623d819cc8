"""Broadcasting: what was copied forwards is summed backwards.

In `x + b` with x of shape (3, 4) and b of shape (4,), NumPy uses each element of b three times. The
gradient g of the result has the shape (3, 4), but that of b has to have the shape (4,). By exercise
"two-ways", each element of b collects the gradients of all its uses.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..differences import differences


def unbroadcast(g: np.ndarray, shape: tuple) -> np.ndarray:
    """The gradient of an array of this shape that was broadcast to g's shape; g is the result's
    gradient.

    Broadcasting adds dimensions in front, and stretches dimensions of size 1.
    """
    g = g.sum(axis=tuple(range(g.ndim - len(shape))))
    stretched = [i for i, n in enumerate(shape) if n == 1]
    return g.sum(axis=tuple(stretched), keepdims=True)


def measure(unbroadcast: Any) -> Iterator[tuple[str, Any, Any]]:
    rng = np.random.default_rng(0)
    for shape, result in (
        *(((3, 4), (3, 4)), ((4,), (3, 4)), ((3, 1), (3, 4)), ((1, 4), (2, 3, 4))),
        *(((), (2, 3)), ((1,), (5, 1)), ((2, 1, 3, 1), (2, 4, 3, 2))),
    ):
        g = rng.standard_normal(result)
        truth = differences(lambda b: np.broadcast_to(b, result), np.zeros(shape), g)
        yield f"from {result} to {shape}", unbroadcast(g.copy(), shape), truth


def wrong_mean(g: np.ndarray, shape: tuple) -> np.ndarray:
    """Gradients of several uses add up; do not average them."""
    g = g.mean(axis=tuple(range(g.ndim - len(shape))))
    return g.mean(axis=tuple(i for i, n in enumerate(shape) if n == 1), keepdims=True)


def wrong_first_use(g: np.ndarray, shape: tuple) -> np.ndarray:
    """You keep the gradient of the first use only. Sum over all uses."""
    while g.ndim > len(shape):
        g = g[0]
    return g[tuple(slice(0, 1) if n == 1 else slice(None) for n in shape)]


def wrong_only_in_front(g: np.ndarray, shape: tuple) -> np.ndarray:
    """Dimensions of size 1 are stretched too: sum over these, and keep them."""
    return g.sum(axis=tuple(range(g.ndim - len(shape))))


def wrong_without_keeping(g: np.ndarray, shape: tuple) -> np.ndarray:
    """The gradient has exactly the shape asked for: keep the dimensions of size 1, by
    keepdims=True.
    """
    g = g.sum(axis=tuple(range(g.ndim - len(shape))))
    return g.sum(axis=tuple(i for i, n in enumerate(shape) if n == 1))


def wrong_unchanged(g: np.ndarray, shape: tuple) -> np.ndarray:
    """The gradient of an array has the array's shape. Sum g over the dimensions that were added."""
    return g


HINTS = (
    "Do it in two steps: sum away the dimensions that were added in front, then those of size 1.",
    "g.sum(axis=(), keepdims=True) changes nothing, so no special case is needed.",
)
OFF_LIMITS = ("minigan",)
