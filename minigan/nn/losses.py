"""Losses as modules: binary cross-entropy of probabilities and of logits."""

from __future__ import annotations

from .. import functional as F
from ..tensor import Tensor
from .module import Module


class BCELoss(Module):
    """F.binary_cross_entropy of probabilities"""

    def __init__(self, *, reduction: str = "mean"):
        self.reduction = reduction

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy(input, target, self.reduction)


class BCEWithLogitsLoss(BCELoss):
    """F.binary_cross_entropy_with_logits"""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(input, target, self.reduction)
