"""What D and G descend: two losses for each objective, computed from D's scores before any sigmoid.

With D(x) = sigmoid(score), -log D(x) is softplus(-score) and -log(1 - D(x)) is softplus(score): the
cross-entropy of the score with the label 1, and with the label 0. In this form a loss stays finite and
keeps its gradient where D is certain. Scores are (N,), and every loss is a single number, ().
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ..functional import binary_cross_entropy_with_logits as cross_entropy
from ..functional import relu
from ..tensor import Tensor

REAL, FAKE = 1.0, 0.0  # the labels


def discriminator_loss(real: Tensor, fake: Tensor, label: float = REAL) -> Tensor:
    """-mean log D(x) - mean log(1 - D(G(z))): D maximises equation 1 of Goodfellow et al. 2014.

    label  of the reals: below 1 for one-sided label smoothing (Salimans et al. 2016, section 3.4)
    """
    return cross_entropy(real, label) + cross_entropy(fake, FAKE)


def non_saturating(fake: Tensor) -> Tensor:
    """-mean log D(G(z)): G's loss in practice (section 3 there), strong where D rejects the fakes."""
    return cross_entropy(fake, REAL)


def minimax(fake: Tensor) -> Tensor:
    """mean log(1 - D(G(z))): G's loss in equation 1; its gradient vanishes as D rejects the fakes."""
    return -cross_entropy(fake, FAKE)


def squares(real: Tensor, fake: Tensor) -> Tensor:
    """1/2 mean (D(x) - 1)^2 + 1/2 mean D(G(z))^2 (Mao et al. 2017, equation 2 with a = 0, b = 1)."""
    return 0.5 * ((real - REAL) ** 2).mean() + 0.5 * ((fake - FAKE) ** 2).mean()


def square(fake: Tensor) -> Tensor:
    """1/2 mean (D(G(z)) - 1)^2: G's half of the same equation, with c = 1."""
    return 0.5 * ((fake - REAL) ** 2).mean()


def hinge(real: Tensor, fake: Tensor) -> Tensor:
    """mean max(0, 1 - D(x)) + mean max(0, 1 + D(G(z))) (Miyato et al. 2018, equation 16).

    A score beyond its margin of 1 has no gradient, so D does not become ever more certain.
    """
    return relu(1 - real).mean() + relu(1 + fake).mean()


def critic_loss(real: Tensor, fake: Tensor) -> Tensor:
    """mean D(G(z)) - mean D(x): minus the estimate of the earth mover's distance.

    See Arjovsky, Chintala & Bottou 2017, equation 3 and algorithm 1.
    """
    return fake.mean() - real.mean()


def critic_score(fake: Tensor) -> Tensor:
    """-mean D(G(z)): the part of that estimate that G can change."""
    return -fake.mean()


def less_real(real: Tensor, fake: Tensor) -> Tensor:
    """mean softplus(D(G(z)) - D(x)): each real should score above the fake that it is paired with.

    See Jolicoeur-Martineau 2019, "The relativistic discriminator", section 3.1.
    """
    return cross_entropy(real - fake, REAL)


def more_real(real: Tensor, fake: Tensor) -> Tensor:
    """mean softplus(D(x) - D(G(z))): G's side: each fake should score above its real."""
    return cross_entropy(fake - real, REAL)


def of_fakes(loss: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """A loss of the fake scores alone, as a function of the real and the fake scores."""
    return lambda real, fake: loss(fake)


class Objective(NamedTuple):
    """Two losses, D's and G's, each a function of the real and the fake scores (N,).

    probability  whether sigmoid(score) is a probability, so that D(x) and D(G(z)) can be shown
    paired       whether G's loss depends on the real scores
    saturates    whether a loss of D near 0 means that D is certain and teaches G nothing
    """

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor, Tensor], Tensor]
    probability: bool = False
    paired: bool = False
    saturates: bool = True


OBJECTIVES = {
    "non-saturating": Objective(discriminator_loss, of_fakes(non_saturating), probability=True),
    "minimax": Objective(discriminator_loss, of_fakes(minimax), probability=True),
    "least-squares": Objective(squares, of_fakes(square)),
    "hinge": Objective(hinge, of_fakes(critic_score), saturates=False),
    "wasserstein": Objective(critic_loss, of_fakes(critic_score), saturates=False),
    "relativistic": Objective(less_real, more_real, paired=True),
}
