"""What D and G descend: two losses for each objective, computed from D's scores before any sigmoid.

With D(x) = sigmoid(score), -log D(x) is softplus(-score) and -log(1 - D(x)) is softplus(score): the
cross-entropy of the score with the label 1, and with the label 0. In this form a loss stays finite and
keeps its gradient where D is certain.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ..functional import binary_cross_entropy_with_logits as cross_entropy
from ..tensor import Tensor

REAL, FAKE = 1.0, 0.0  # the labels


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """-mean log D(x) - mean log(1 - D(G(z))): D maximises equation 1 of Goodfellow et al. 2014."""
    return cross_entropy(real, REAL) + cross_entropy(fake, FAKE)


def non_saturating(fake: Tensor) -> Tensor:
    """-mean log D(G(z)): G's loss in practice (section 3 there), strong where D rejects the fakes."""
    return cross_entropy(fake, REAL)


def minimax(fake: Tensor) -> Tensor:
    """mean log(1 - D(G(z))): G's loss in equation 1; its gradient vanishes as D rejects the fakes."""
    return -cross_entropy(fake, FAKE)


def critic_loss(real: Tensor, fake: Tensor) -> Tensor:
    """mean D(G(z)) - mean D(x): minus the estimate of the earth mover's distance.

    See Arjovsky, Chintala & Bottou 2017, equation 3 and algorithm 1.
    """
    return fake.mean() - real.mean()


def critic_score(fake: Tensor) -> Tensor:
    """-mean D(G(z)): the part of that estimate that G can change."""
    return -fake.mean()


class Objective(NamedTuple):
    """Two losses: D's, a function of the real and the fake scores, and G's, of the fake scores."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]


OBJECTIVES = {
    "non-saturating": Objective(discriminator_loss, non_saturating),
    "minimax": Objective(discriminator_loss, minimax),
    "wasserstein": Objective(critic_loss, critic_score),
}
