"""Penalties on the slope of D, each by differentiating a gradient."""

from __future__ import annotations

from collections.abc import Callable

from ..tensor import Tensor, grad

# Added under the root: without it, a sample whose gradient is exactly 0 would give 0 * infinity.
TINY = 1e-12


def slope_penalty(D: Callable[[Tensor], Tensor], x: Tensor, target: float) -> Tensor:
    """mean over the samples of (|grad of D at x| - target)^2, one number ().

    D maps samples (N, ...) to scores (N,), each of which may depend only on its own sample. The norm is
    over all but the first dimension. `x` (N, ...) is detached, so no gradient flows back to what it was
    made from. With target 1 and x between reals and fakes, this is the penalty of WGAN-GP (Gulrajani
    et al. 2017, equation 3).
    """
    return ((_squared_slope(D, x) + TINY).sqrt() - target).pow(2).mean()


def r1_penalty(D: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """1/2 mean |grad of D at x|^2 at reals x (Mescheder, Geiger & Nowozin 2018, equation 9).

    D and x are as in `slope_penalty`. When G's samples match the data, D's slope there should be 0.
    With this penalty the game comes to rest at its solution; without the penalty it circles around.
    """
    return 0.5 * _squared_slope(D, x).mean()


def _squared_slope(D: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """|grad of D at x|^2 for each sample, (N,), with a graph for the second derivative."""
    x = x.detach().requires_grad_()
    (slope,) = grad(D(x).sum(), x, create_graph=True)  # samples do not mix: one row each
    return (slope**2).flatten(1).sum(1)  # (N, ...) -> (N,)
