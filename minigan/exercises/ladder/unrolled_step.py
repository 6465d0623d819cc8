"""The unrolled step: a gradient through the steps of somebody else.

G usually descends its loss against D as it is now. In an unrolled GAN, G descends its loss against
D as D will be after K further steps:

    w_0  =  D's weights        w_(k+1)  =  w_k - lr * gradient of loss_D at w_k
    G descends loss_G(w_K)

The fakes are in loss_D too, so w_K depends on them. G's gradient has a part that comes through all
K steps: it says how D will answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ...tensor import Tensor, grad, tensor
from ..differences import differences


def unrolled_loss(loss_D: Callable, loss_G: Callable, w: Tensor, lr: float, K: int) -> Tensor:
    """loss_G at the weights after K steps of D, with gradients through all steps.

    loss_D, loss_G  map D's weights to a loss, a number; both know the fakes
    w               D's weights, one Tensor that requires a gradient; it must not change
    lr, K           the size and the number of the steps down loss_D
    """
    for _ in range(K):
        (slope,) = grad(loss_D(w), w, create_graph=True)
        w = w - lr * slope
    return loss_G(w)


class _Game:
    """Fakes f (2,) and weights w (2,): loss_D = sum(f w + w^3 / 3), and loss_G = sum(-f w)."""

    f = np.array([0.5, -1.0])
    w = np.array([1.0, 0.3])

    def unrolled(self, f: np.ndarray, lr: float, K: int) -> float:
        w = self.w
        for _ in range(K):
            w = w - lr * (f + w**2)
        return -(f * w).sum()


def measure(unrolled_loss: Any) -> Iterator[tuple[str, Any, Any]]:
    game = _Game()
    for lr, K in ((0.1, 0), (0.1, 1), (0.2, 3)):
        f, w = (tensor(a, requires_grad=True) for a in (game.f, game.w))
        loss_D = lambda w: (f * w + w**3 / 3).sum()
        loss_G = lambda w: -(f * w).sum()
        loss = unrolled_loss(loss_D, loss_G, w, lr, K)
        yield f"the loss for lr = {lr}, K = {K}", loss, game.unrolled(game.f, lr, K)
        yield f"D's weights afterwards, lr = {lr}, K = {K}", w, game.w
        loss.backward()
        truth = differences(lambda f: game.unrolled(f, lr, K), game.f)
        yield f"the gradient of the fakes for lr = {lr}, K = {K}", f.grad, truth


def wrong_without_graph(loss_D: Callable, loss_G: Callable, w: Tensor, lr: float, K: int) -> Tensor:
    """The loss is correct, but the gradient does not pass through D's steps, so G does not see how
    D will answer. Pass create_graph=True.
    """
    for _ in range(K):
        (slope,) = grad(loss_D(w), w)
        w = w - lr * slope
    return loss_G(w)


def wrong_ascent(loss_D: Callable, loss_G: Callable, w: Tensor, lr: float, K: int) -> Tensor:
    """D descends its loss: subtract lr times the gradient."""
    return unrolled_loss(loss_D, loss_G, w, -lr, K)


def wrong_one_long_step(loss_D: Callable, loss_G: Callable, w: Tensor, lr: float, K: int) -> Tensor:
    """K steps are not one step of K times the size: compute the gradient anew at each w_k."""
    return unrolled_loss(loss_D, loss_G, w, K * lr, 1)


def wrong_one_too_many(loss_D: Callable, loss_G: Callable, w: Tensor, lr: float, K: int) -> Tensor:
    """You make K + 1 steps. With K = 0, the loss is that of the standard game."""
    return unrolled_loss(loss_D, loss_G, w, lr, K + 1)


def wrong_in_place(loss_D: Callable, loss_G: Callable, w: Tensor, lr: float, K: int) -> Tensor:
    """D's real weights have changed, but these steps only look ahead. Make a new Tensor: w = w - lr
    * slope.
    """
    for _ in range(K):
        (slope,) = grad(loss_D(w), w)
        w.data = w.data - lr * slope.data
    return loss_G(w)


def wrong_player(loss_D: Callable, loss_G: Callable, w: Tensor, lr: float, K: int) -> Tensor:
    """D's steps go down loss_D. You let D descend loss_G."""
    return unrolled_loss(loss_G, loss_G, w, lr, K)


HINTS = (
    "grad gives a tuple: (slope,) = grad(loss_D(w), w, create_graph=True).",
    "Then w = w - lr * slope makes new weights that remember how they were made.",
)
OFF_LIMITS = ("minigan.gans",)
