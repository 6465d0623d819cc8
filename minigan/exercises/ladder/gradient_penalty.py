"""The gradient penalty: a loss made of a gradient.

The critic of a WGAN-GP must not be steeper than 1. Between reals and fakes, at points

    m  =  u x + (1 - u) fakes,        one u for each sample,

the length of its slope should be 1 for each sample, and the penalty is

    mean over the samples of  (|grad of D at m| - 1)^2

D descends this penalty, so the gradient itself has to be differentiated: grad(...,
create_graph=True).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ...tensor import Tensor, grad, tensor
from ..differences import differences


def gradient_penalty(D: Callable, x: Tensor, fakes: Tensor, u: Tensor) -> Tensor:
    """The penalty, a number. Its backward() must reach D's weights, but not what the fakes were
    made from.

    D         maps samples (N, d) to scores (N,); each score depends on its own sample only
    x, fakes  (N, d)
    u         numbers from 0 to 1, (N, 1)
    """
    m = (u * x + (1 - u) * fakes).detach().requires_grad_()
    (slope,) = grad(D(m).sum(), m, create_graph=True)
    length = (slope**2).sum(1).sqrt()  # (N, d) -> (N,)
    return ((length - 1) ** 2).mean()


def _score(x: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """D(x) = tanh(x b) c."""
    return np.tanh(x @ b) @ c


def _penalty(x: np.ndarray, b: np.ndarray, c: np.ndarray) -> float:
    """The penalty at these points, by the formula of D's slope."""
    slope = ((1 - np.tanh(x @ b) ** 2) * c) @ b.T  # (N, d)
    return ((np.linalg.norm(slope, axis=1) - 1) ** 2).mean()


def measure(gradient_penalty: Any) -> Iterator[tuple[str, Any, Any]]:
    rng = np.random.default_rng(7)
    x, w, z = (rng.standard_normal(shape) for shape in ((4, 3), (2, 3), (4, 2)))
    u, b, c = rng.random((4, 1)), rng.standard_normal((3, 5)), rng.standard_normal(5)
    linear = np.array([0.0, 3.0, 4.0])
    D = lambda x: x @ tensor(linear)
    found = gradient_penalty(D, tensor(x), tensor(z @ w), tensor(u))
    yield "the penalty of D(x) = 3 x_1 + 4 x_2, whose slope is 5", found, 16.0

    weight, made = tensor(b, requires_grad=True), tensor(w, requires_grad=True)
    D = lambda x: (x @ weight).tanh() @ tensor(c)
    found = gradient_penalty(D, tensor(x), tensor(z) @ made, tensor(u))
    between = u * x + (1 - u) * (z @ w)
    yield "the penalty of D(x) = tanh(x b) c", found, _penalty(between, b, c)
    if found.requires_grad:
        found.backward()
    seen = np.zeros(b.shape) if weight.grad is None else weight.grad.numpy()
    truth = differences(lambda b: _penalty(between, b, c), b)
    yield "the gradient of the penalty in D's weights b", seen, truth
    seen = np.zeros(w.shape) if made.grad is None else made.grad.numpy()
    yield "the gradient of the penalty in G's weights", seen, np.zeros(w.shape)


def _length(D: Callable, m: Tensor, create_graph: bool = True) -> Tensor:
    """The length of D's slope at each m, (N,)."""
    (slope,) = grad(D(m).sum(), m, create_graph=create_graph)
    return (slope**2).sum(1).sqrt()


def wrong_without_graph(D: Callable, x: Tensor, fakes: Tensor, u: Tensor) -> Tensor:
    """The penalty is correct, but it has no history, so D cannot descend it. Pass
    create_graph=True.
    """
    m = (u * x + (1 - u) * fakes).detach().requires_grad_()
    return ((_length(D, m, create_graph=False) - 1) ** 2).mean()


def wrong_without_detach(D: Callable, x: Tensor, fakes: Tensor, u: Tensor) -> Tensor:
    """The penalty reaches G's weights through the fakes. Detach the points, then switch their
    gradient on.
    """
    m = u * x + (1 - u) * fakes
    m = m if m.requires_grad else m.requires_grad_()
    return ((_length(D, m) - 1) ** 2).mean()


def wrong_at_the_reals(D: Callable, x: Tensor, fakes: Tensor, u: Tensor) -> Tensor:
    """You measure the slope at the reals. The points are between reals and fakes, u of the way."""
    return ((_length(D, x.detach().requires_grad_()) - 1) ** 2).mean()


def wrong_way_round(D: Callable, x: Tensor, fakes: Tensor, u: Tensor) -> Tensor:
    """Here u is the part of the reals: m = u x + (1 - u) fakes."""
    m = (u * fakes + (1 - u) * x).detach().requires_grad_()
    return ((_length(D, m) - 1) ** 2).mean()


def wrong_norm_of_all(D: Callable, x: Tensor, fakes: Tensor, u: Tensor) -> Tensor:
    """You take one length for the whole batch. Each sample has a length of its own: sum over
    dimension 1.
    """
    m = (u * x + (1 - u) * fakes).detach().requires_grad_()
    (slope,) = grad(D(m).sum(), m, create_graph=True)
    return ((slope**2).sum().sqrt() - 1) ** 2


def wrong_gradient_of_the_mean(D: Callable, x: Tensor, fakes: Tensor, u: Tensor) -> Tensor:
    """Your slopes are too small by a factor N: differentiate the sum of the scores, not their mean."""
    m = (u * x + (1 - u) * fakes).detach().requires_grad_()
    (slope,) = grad(D(m).mean(), m, create_graph=True)
    return (((slope**2).sum(1).sqrt() - 1) ** 2).mean()


def wrong_without_root(D: Callable, x: Tensor, fakes: Tensor, u: Tensor) -> Tensor:
    """You compare the squared length with 1. Take the root first."""
    m = (u * x + (1 - u) * fakes).detach().requires_grad_()
    return ((_length(D, m) ** 2 - 1) ** 2).mean()


def wrong_zero_centred(D: Callable, x: Tensor, fakes: Tensor, u: Tensor) -> Tensor:
    """This pulls the slope to 0, as R1 does. The WGAN-GP pulls its length to 1."""
    m = (u * x + (1 - u) * fakes).detach().requires_grad_()
    return (_length(D, m) ** 2).mean()


HINTS = (
    "The points are a new leaf: (...).detach().requires_grad_().",
    "Because each score depends on its own sample only, the gradient of D(m).sum() holds the slope of "
    "each sample in its row.",
    "grad gives a tuple: (slope,) = grad(D(m).sum(), m, create_graph=True).",
)
OFF_LIMITS = ("minigan.gans",)
