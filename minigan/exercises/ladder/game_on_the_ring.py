"""The game on the ring: one step of algorithm 1.

A step has two halves. D moves first: it descends its loss on reals x and on fakes G(z), which are
detached. Then G descends its loss, judged by the D that has just moved, on the same fakes. On
logits, with softplus(s) = log(1 + e^s):

    loss_D  =  mean softplus(-D(x))  +  mean softplus(D(fakes))
    loss_G  =  mean softplus(-D(fakes))

If your step is correct, the check plays it 700 times on eight Gaussians on a ring, and counts how
many of them G has found.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ...functional import softplus
from ...nn import LeakyReLU, Linear, Module, ReLU, Sequential
from ...optim import SGD, Adam, Optimizer
from ...tensor import Tensor, tensor


def step(G: Module, D: Module, opt_G: Optimizer, opt_D: Optimizer, x: Tensor, z: Tensor) -> None:
    """Let D make one step on the reals x and the noise z, then G.

    A gradient stays in its weight until zero_grad() is called, and the next one is added to it.
    """
    fakes = G(z)
    opt_D.zero_grad()
    (softplus(-D(x)).mean() + softplus(D(fakes.detach())).mean()).backward()
    opt_D.step()
    opt_G.zero_grad()
    softplus(-D(fakes)).mean().backward()
    opt_G.step()


MODES, STEPS, BATCH, WIDTH = 8, 700, 128, 64
FOUND = 4  # modes that G has to find; with six seeds it found 5 to 8


def _linear(inputs: int, outputs: int, rng: np.random.Generator) -> Linear:
    """A layer with first values of its own, so that the check needs no global seed."""
    layer = Linear(inputs, outputs)
    weight = (2 / inputs) ** 0.5 * rng.standard_normal((outputs, inputs))
    layer.weight.data = weight.astype(np.float32)
    layer.bias.data = np.zeros(outputs, np.float32)
    return layer


def _networks(width: int, rng: np.random.Generator) -> tuple[Module, Module]:
    """G: (N, 2) -> (N, 2), and D: (N, 2) -> (N, 1)."""
    G, D = (
        Sequential(
            *(_linear(inputs, width, rng), activation()),
            *(_linear(width, width, rng), activation()),
            _linear(width, outputs, rng),
        )
        for inputs, activation, outputs in ((2, ReLU, 2), (2, lambda: LeakyReLU(0.2), 1))
    )
    return G, D


def _reals(count: int, rng: np.random.Generator) -> np.ndarray:
    """Points (count, 2) of eight Gaussians on a circle of radius 2, with a standard deviation of
    0.05.
    """
    angle = 2 * np.pi * rng.integers(MODES, size=count) / MODES
    centers = 2 * np.stack([np.cos(angle), np.sin(angle)], axis=1)  # (count, 2)
    return centers + 0.05 * rng.standard_normal((count, 2))


def _weights(steps: int, step: Any) -> list[np.ndarray]:
    """The weights of D and G, as vectors, after this many steps of a tiny game in float64."""
    rng = np.random.default_rng(4)
    G, D = (net.double() for net in _networks(3, rng))
    opt_G, opt_D = SGD(G.parameters(), lr=0.3), SGD(D.parameters(), lr=0.2)
    for _ in range(steps):
        x, z = tensor(_reals(6, rng)), tensor(rng.standard_normal((6, 2)))
        step(G, D, opt_G, opt_D, x, z)
    return [np.concatenate([p.numpy().ravel() for p in net.parameters()]) for net in (D, G)]


def _modes(step: Any) -> int:
    """The number of modes with at least a quarter of their share of G's samples within 0.5."""
    rng = np.random.default_rng(1)
    G, D = _networks(WIDTH, rng)
    opt_G, opt_D = (Adam(net.parameters(), lr=2e-3, betas=(0.5, 0.999)) for net in (G, D))
    for _ in range(STEPS):
        x, z = (a.astype(np.float32) for a in (_reals(BATCH, rng), rng.standard_normal((BATCH, 2))))
        step(G, D, opt_G, opt_D, tensor(x), tensor(z))
    points = G(tensor(rng.standard_normal((1000, 2), np.float32))).numpy()
    angle = 2 * np.pi * np.arange(MODES) / MODES
    centers = 2 * np.stack([np.cos(angle), np.sin(angle)], axis=1)  # (MODES, 2)
    near = np.linalg.norm(points[:, None] - centers, axis=2) < 0.5  # (1000, MODES)
    return int((near.sum(0) >= len(points) / MODES / 4).sum())


def measure(step: Any) -> Iterator[tuple[str, Any, Any]]:
    for steps in (1, 3):
        ours, truth = _weights(steps, step), _weights(steps, _step)
        for name, a, b in zip("DG", ours, truth, strict=True):
            yield f"{name}'s weights after {steps} step{'s' * (steps > 1)}", a, b
    modes = _modes(step)
    what = f"G finds {modes} of {MODES} modes in {STEPS} steps, and should find {FOUND} at least"
    yield what, modes >= FOUND, True


_step = step  # `measure` calls the learner's function `step`


def wrong_without_zero_grad(
    G: Module, D: Module, opt_G: Optimizer, opt_D: Optimizer, x: Tensor, z: Tensor
) -> None:
    """Gradients of earlier steps, and of G's half, are still in the weights. Call zero_grad()
    before each backward().
    """
    fakes = G(z)
    (softplus(-D(x)).mean() + softplus(D(fakes.detach())).mean()).backward()
    opt_D.step()
    softplus(-D(fakes)).mean().backward()
    opt_G.step()


def wrong_without_detach(
    G: Module, D: Module, opt_G: Optimizer, opt_D: Optimizer, x: Tensor, z: Tensor
) -> None:
    """D's loss has left a gradient in G's weights. Detach the fakes in D's half, or call
    opt_G.zero_grad() between the halves.
    """
    opt_D.zero_grad()
    opt_G.zero_grad()
    (softplus(-D(x)).mean() + softplus(D(G(z))).mean()).backward()
    opt_D.step()
    softplus(-D(G(z))).mean().backward()
    opt_G.step()


def wrong_order(
    G: Module, D: Module, opt_G: Optimizer, opt_D: Optimizer, x: Tensor, z: Tensor
) -> None:
    """G moves before D does. D makes the first step, and G is judged by the new D."""
    opt_G.zero_grad()
    softplus(-D(G(z))).mean().backward()
    opt_G.step()
    opt_D.zero_grad()
    (softplus(-D(x)).mean() + softplus(D(G(z).detach())).mean()).backward()
    opt_D.step()


def wrong_at_once(
    G: Module, D: Module, opt_G: Optimizer, opt_D: Optimizer, x: Tensor, z: Tensor
) -> None:
    """G is judged by D as it was before its step. Compute G's loss after opt_D.step()."""
    fakes = G(z)
    loss_D = softplus(-D(x)).mean() + softplus(D(fakes.detach())).mean()
    loss_G = softplus(-D(fakes)).mean()
    opt_G.zero_grad()
    loss_G.backward()
    opt_D.zero_grad()
    loss_D.backward()
    opt_D.step()
    opt_G.step()


def wrong_both_move(
    G: Module, D: Module, opt_G: Optimizer, opt_D: Optimizer, x: Tensor, z: Tensor
) -> None:
    """D moves in G's half too, towards believing the fakes. Only opt_G takes a step there."""
    step(G, D, opt_G, opt_D, x, z)
    opt_D.step()


def wrong_minimax(
    G: Module, D: Module, opt_G: Optimizer, opt_D: Optimizer, x: Tensor, z: Tensor
) -> None:
    """G descends -softplus(D(fakes)), the minimax loss. Here its loss is softplus(-D(fakes))."""
    fakes = G(z)
    opt_D.zero_grad()
    (softplus(-D(x)).mean() + softplus(D(fakes.detach())).mean()).backward()
    opt_D.step()
    opt_G.zero_grad()
    (-softplus(D(fakes)).mean()).backward()
    opt_G.step()


HINTS = (
    "Each half has the same three parts: zero_grad, the loss with its backward, the optimiser's step.",
    "D's half uses fakes.detach(), so that its loss leaves no gradient in G's weights.",
    "G's half calls D again on the same fakes, without detach, after opt_D.step().",
)
OFF_LIMITS = ("minigan.gans",)
