"""The adversarial objectives of Goodfellow et al. 2014, on D's logits.

With D(x) = sigmoid(logit), -log D(x) is the cross-entropy of the logit with the label 1, and
-log(1 - D(x)) with the label 0: softplus(-logit) and softplus(logit). Written so, the losses stay
finite, and keep a gradient, where D is certain.
"""

from __future__ import annotations

from .functional import binary_cross_entropy_with_logits as cross_entropy
from .tensor import Tensor

REAL, FAKE = 1.0, 0.0  # the labels


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-mean log D(x) - mean log(1 - D(G(z))): D maximises equation 1 of the paper."""
    return cross_entropy(real_logits, REAL) + cross_entropy(fake_logits, FAKE)


def non_saturating(fake_logits: Tensor) -> Tensor:
    """-mean log D(G(z)): G's loss in practice (section 3), strong where D rejects the fakes."""
    return cross_entropy(fake_logits, REAL)


def minimax(fake_logits: Tensor) -> Tensor:
    """mean log(1 - D(G(z))): G's loss in equation 1, whose gradient vanishes as D rejects the fakes."""
    return -cross_entropy(fake_logits, FAKE)


GENERATOR_LOSSES = {"non-saturating": non_saturating, "minimax": minimax}
