"""Spectral normalisation: a layer that stretches nothing by more than 1.

A matrix W stretches a vector at most by its largest singular value sigma. Divided by sigma, it
keeps D from becoming steep. Finding sigma exactly is expensive, but W changes little from one step
to the next. So a vector u is kept, and each step improves it once (power iteration):

    v  =  W^T u / |W^T u|        u  =  W v / |W v|        sigma  =  u^T W v

For the gradient, u and v are constants; sigma is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ...tensor import Tensor, tensor
from ..differences import differences


def spectral_norm(W: Tensor, u: Tensor) -> tuple:
    """(W / sigma, the new u) after one iteration. W is (out, in), and u is (out,).

    A gradient flows to W, through W itself and through sigma, but not through u and v.
    """
    M = W.detach()
    v = M.T @ u
    v = v / (v * v).sum().sqrt()
    u = M @ v
    u = u / (u * u).sum().sqrt()
    return W / (u * (W @ v)).sum(), u


def _iterated(W: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The new u and v."""
    v = W.T @ u / np.linalg.norm(W.T @ u)
    return W @ v / np.linalg.norm(W @ v), v


def measure(spectral_norm: Any) -> Iterator[tuple[str, Any, Any]]:
    rng = np.random.default_rng(8)
    W, u, g = rng.standard_normal((3, 4)), rng.standard_normal(3), rng.standard_normal((3, 4))
    u /= np.linalg.norm(u)
    new, v = _iterated(W, u)
    leaf = tensor(W, requires_grad=True)
    normal, found = spectral_norm(leaf, tensor(u))
    yield "W / sigma after one iteration", normal, W / (new @ W @ v)
    yield "the new u", found, new
    (normal * tensor(g)).sum().backward()
    truth = differences(lambda W: W / (new @ W @ v), W, g)
    yield "the gradient of W", np.zeros(W.shape) if leaf.grad is None else leaf.grad.numpy(), truth

    u = tensor(u)
    for _ in range(200):
        normal, u = spectral_norm(tensor(W), u)
    sigma = np.linalg.svd(normal.numpy(), compute_uv=False)[0]
    yield "the largest singular value of W / sigma after 200 iterations", sigma, 1.0


def _unit(x: Tensor) -> Tensor:
    return x / (x * x).sum().sqrt()


def wrong_frobenius(W: Tensor, u: Tensor) -> tuple:
    """This is the root of the sum of all squares, which is larger than sigma. Use u^T W v."""
    v = _unit(W.detach().T @ u)
    return W / (W * W).sum().sqrt(), _unit(W.detach() @ v)


def wrong_exact(W: Tensor, u: Tensor) -> tuple:
    """You compute sigma exactly, by a decomposition. Improve u once instead: that is cheaper by
    far.
    """
    a, _, b = np.linalg.svd(W.numpy())
    return W / (tensor(a[:, 0]) * (W @ tensor(b[0]))).sum(), tensor(a[:, 0])


def wrong_old_u(W: Tensor, u: Tensor) -> tuple:
    """You give back the u that you got, so it never improves. Give the new one."""
    return spectral_norm(W, u)[0], u


def wrong_sigma_of_the_old_u(W: Tensor, u: Tensor) -> tuple:
    """Compute sigma with the new u, not with the old one."""
    v = _unit(W.detach().T @ u)
    return W / (u * (W @ v)).sum(), _unit(W.detach() @ v)


def wrong_constant_sigma(W: Tensor, u: Tensor) -> tuple:
    """Your sigma has no history, so the gradient lacks its part. Use W, not W.detach(), in u^T W v."""
    new = spectral_norm(W, u)[1]
    v = _unit(W.detach().T @ u)
    return W / (new * (W.detach() @ v)).sum(), new


def wrong_through_u(W: Tensor, u: Tensor) -> tuple:
    """The gradient flows through u and v as well. Compute them from W.detach()."""
    v = _unit(W.T @ u)
    u = _unit(W @ v)
    return W / (u * (W @ v)).sum(), u


def wrong_times_sigma(W: Tensor, u: Tensor) -> tuple:
    """Divide W by sigma. You multiply."""
    new = spectral_norm(W, u)[1]
    v = _unit(W.detach().T @ u)
    return W * (new * (W @ v)).sum(), new


def wrong_unscaled(W: Tensor, u: Tensor) -> tuple:
    """v and u must have the length 1: divide each by its length."""
    v = W.detach().T @ u
    u = W.detach() @ v
    return W / (u * (W @ v)).sum(), u


HINTS = (
    "The length of a vector v is (v * v).sum().sqrt().",
    "Take M = W.detach() for u and v, and W itself for sigma = (u * (W @ v)).sum().",
)
OFF_LIMITS = ("minigan.nn",)
