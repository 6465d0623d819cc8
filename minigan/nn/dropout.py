"""Dropout layers, and the source of their random numbers."""

from __future__ import annotations

from .. import functional as F
from ..dropout import Uniform, check_probability
from ..tensor import Tensor
from .checks import check_bool
from .module import Module


class Dropout(Module):
    """F.dropout in training mode; in evaluation mode its input, unchanged

    uniform  maps a shape to random numbers from U(0, 1) on the input's device. None takes them from
             the generator that `manual_seed` seeds. Assign a function to control the random numbers.

    `inplace` is accepted for compatibility with PyTorch, but never changes the input.
    """

    uniform: Uniform | None = None

    def __init__(self, p: float = 0.5, inplace: bool = False):
        layer = type(self).__name__
        check_probability(layer, p)
        check_bool(f"{layer}: inplace", inplace)
        self.p = float(p)

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout(input, self.p, self.training, uniform=self.uniform)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class Dropout2d(Dropout):
    """F.dropout2d, which drops whole channels of (N, C, H, W); otherwise like Dropout"""

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout2d(input, self.p, self.training, uniform=self.uniform)
