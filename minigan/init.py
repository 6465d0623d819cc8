"""Random initial values, drawn on the host so that every device starts from the same numbers."""

from __future__ import annotations

import math

import numpy as np

from . import backend
from .tensor import Tensor

_default = np.random.default_rng()


def manual_seed(seed: int) -> None:
    """Seed the generator that layers draw their first weights from, and `randn` and its kin."""
    global _default
    _default = np.random.default_rng(seed)


def generator() -> np.random.Generator:
    """The generator that `manual_seed` seeds."""
    return _default


def _fill(t: Tensor, values: np.ndarray) -> None:
    t.data = backend.copy_like(t.data, values)


def uniform_(t: Tensor, low: float, high: float, rng: np.random.Generator | None = None) -> None:
    """t ~ U(low, high), in place."""
    _fill(t, (rng or _default).uniform(low, high, t.shape))


def normal_(t: Tensor, mean: float, std: float, rng: np.random.Generator | None = None) -> None:
    """t ~ N(mean, std^2), in place."""
    _fill(t, (rng or _default).normal(mean, std, t.shape))


def default_(weight: Tensor, bias: Tensor | None) -> None:
    """PyTorch's first values of linear and convolution layers: U(-1/sqrt(fan_in), 1/sqrt(fan_in)).

    fan_in is the size of weight[0]. (PyTorch calls it kaiming_uniform_ with a = sqrt(5); for a
    transposed convolution its weight[0] is a fan of outputs, and minigan follows.)
    """
    bound = 1 / math.sqrt(max(1, math.prod(weight.shape[1:])))
    uniform_(weight, -bound, bound)
    if bias is not None:
        uniform_(bias, -bound, bound)
