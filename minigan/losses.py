"""The adversarial objectives of Goodfellow et al. 2014, on D's logits.

With D(x) = sigmoid(logit), -log D = softplus(-logit) and -log(1 - D) = softplus(logit): written so,
the losses stay finite, and keep a gradient, where D is certain.
"""

from __future__ import annotations

from . import functional as F
from .tensor import Tensor


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-mean log D(x) - mean log(1 - D(G(z))): D maximises equation 1 of the paper."""
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def non_saturating(fake_logits: Tensor) -> Tensor:
    """-mean log D(G(z)): G's loss in practice (section 3), strong where D rejects the fakes."""
    return F.softplus(-fake_logits).mean()


def minimax(fake_logits: Tensor) -> Tensor:
    """mean log(1 - D(G(z))): G's loss in equation 1, whose gradient vanishes as D rejects the fakes."""
    return -F.softplus(fake_logits).mean()


GENERATOR_LOSSES = {"non-saturating": non_saturating, "minimax": minimax}
