"""Detach: which player learns from which loss.

The fakes are used twice. D learns to tell them from the reals, and G learns to make D believe them.
Both losses are computed from G(z), but the loss of D must not move G, or G would learn to *help* D.
On logits, with softplus(s) = log(1 + e^s):

    loss_D  =  mean softplus(-D(x))  +  mean softplus(D(G(z)))
    loss_G  =  mean softplus(-D(G(z)))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ...functional import softplus
from ...tensor import Tensor, tensor
from ..differences import differences


def losses(G: Callable, D: Callable, x: Tensor, z: Tensor) -> tuple:
    """(loss_D, loss_G) for the reals x and the noise z; G runs only once.

    loss_D.backward() must leave no gradient in G's weights, and loss_G.backward() must leave one.
    (It leaves one in D's weights too, but nothing is done with it.)
    """
    fakes = G(z)
    loss_D = softplus(-D(x)).mean() + softplus(D(fakes.detach())).mean()
    loss_G = softplus(-D(fakes)).mean()
    return loss_D, loss_G


class _Game:
    """A linear G with the weight a, and D(x) = tanh(x b) c, in float64; G counts its calls."""

    def __init__(self) -> None:
        rng = np.random.default_rng(3)
        self.a, self.b, self.c = (
            tensor(rng.standard_normal(shape), requires_grad=True)
            for shape in ((2, 2), (2, 3), (3,))
        )
        self.x, self.z = (tensor(rng.standard_normal((5, 2))) for _ in range(2))
        self.calls = 0

    def G(self, z: Tensor) -> Tensor:
        self.calls += 1
        return z @ self.a

    def D(self, x: Tensor) -> Tensor:
        return (x @ self.b).tanh() @ self.c


def _gradient(t: Tensor) -> np.ndarray:
    """The gradient in a weight after a backward pass, zeros if there is none."""
    return np.zeros(t.shape) if t.grad is None else t.grad.numpy()


def measure(losses: Any) -> Iterator[tuple[str, Any, Any]]:
    n = _Game()
    a, b, c, x, z = (t.numpy() for t in (n.a, n.b, n.c, n.x, n.z))
    score = lambda x, b: np.tanh(x @ b) @ c
    of_D = lambda a, b: (np.logaddexp(0, -score(x, b)) + np.logaddexp(0, score(z @ a, b))).mean()
    of_G = lambda a: np.logaddexp(0, -score(z @ a, b)).mean()
    loss_D, loss_G = losses(n.G, n.D, n.x, n.z)
    yield "loss_D", loss_D, of_D(a, b)
    yield "loss_G", loss_G, of_G(a)
    loss_D.backward()
    yield (
        "the gradient of loss_D in D's weights",
        _gradient(n.b),
        differences(lambda b: of_D(a, b), b),
    )
    yield "the gradient of loss_D in G's weights", _gradient(n.a), np.zeros(a.shape)
    n.a.grad = None
    _, loss_G = losses(n.G, n.D, n.x, n.z)
    loss_G.backward()
    yield "the gradient of loss_G in G's weights", _gradient(n.a), differences(of_G, a)
    yield "how often G ran in two calls", n.calls, 2


def wrong_without_detach(G: Callable, D: Callable, x: Tensor, z: Tensor) -> tuple:
    """loss_D reaches G's weights through the fakes. Give D their detach(), so that gradients stop
    there.
    """
    fakes = G(z)
    loss_D = softplus(-D(x)).mean() + softplus(D(fakes)).mean()
    return loss_D, softplus(-D(fakes)).mean()


def wrong_detached_twice(G: Callable, D: Callable, x: Tensor, z: Tensor) -> tuple:
    """G gets no gradient from its own loss. Detach the fakes for loss_D only."""
    fakes = G(z).detach()
    loss_D = softplus(-D(x)).mean() + softplus(D(fakes)).mean()
    return loss_D, softplus(-D(fakes)).mean()


def wrong_detached_scores(G: Callable, D: Callable, x: Tensor, z: Tensor) -> tuple:
    """You detach D's score, so D does not learn from the fakes. Detach what goes into D instead."""
    fakes = G(z)
    loss_D = softplus(-D(x)).mean() + softplus(D(fakes).detach()).mean()
    return loss_D, softplus(-D(fakes)).mean()


def wrong_labels(G: Callable, D: Callable, x: Tensor, z: Tensor) -> tuple:
    """The labels are swapped: D's loss is small if reals have high scores and fakes low ones."""
    fakes = G(z)
    loss_D = softplus(D(x)).mean() + softplus(-D(fakes.detach())).mean()
    return loss_D, softplus(-D(fakes)).mean()


def wrong_minimax(G: Callable, D: Callable, x: Tensor, z: Tensor) -> tuple:
    """Your loss_G is -softplus(D(G(z))), the minimax loss, whose gradient vanishes while D wins.
    Here G descends softplus(-D(G(z))).
    """
    fakes = G(z)
    loss_D = softplus(-D(x)).mean() + softplus(D(fakes.detach())).mean()
    return loss_D, -softplus(D(fakes)).mean()


def wrong_half(G: Callable, D: Callable, x: Tensor, z: Tensor) -> tuple:
    """Your loss_D is half of what it should be: it is the sum of the two means."""
    loss_D, loss_G = losses(G, D, x, z)
    return loss_D / 2, loss_G


def wrong_runs_twice(G: Callable, D: Callable, x: Tensor, z: Tensor) -> tuple:
    """The gradients are correct, but G runs twice. Keep its fakes for both losses."""
    loss_D = softplus(-D(x)).mean() + softplus(D(G(z).detach())).mean()
    return loss_D, softplus(-D(G(z))).mean()


HINTS = (
    "Compute the fakes once, and give each loss what it needs of them.",
    "fakes.detach() has the same numbers but no history: gradients stop there.",
)
OFF_LIMITS = ("minigan.gans",)
