"""Are the gradients right? Compared with central differences, at first and second order.

For an input x, a random direction u and a random upstream gradient v, the number <v, J u> (J the
Jacobian of fn) is computed twice: by the engine, as <J^T v, u>, and from two evaluations of fn:

    <v, fn(x + h u) - fn(x - h u)> / 2h  =  <v, J u> + O(h^2)

One such number meets every element of J, whatever the shapes. The upstream gradient is random, for
with ones the true gradient of a batch norm is zero, and any wrong one that sums to zero would pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .tensor import Tensor, grad


class GradcheckError(AssertionError):
    """An analytic and a numerical derivative disagree; the message says where and by how much."""


def gradcheck(
    fn: Callable[..., Tensor | Sequence[Tensor]],
    inputs: Tensor | Sequence[Tensor],
    eps: float = 1e-5,
    rtol: float = 1e-6,
    directions: int = 3,
    seed: int = 0,
) -> bool:
    """True if the gradients of fn(*inputs) agree with central differences, else GradcheckError.

    fn      a function of Tensors that gives a Tensor or several, smooth within eps of the inputs
    inputs  float64 Tensors; those that require gradients are checked
    eps     the step h; the error of the difference is of the order h^2 + 1e-16 / h
    rtol    the largest deviation, relative to the numbers compared or, where their terms cancel,
            to the root of the sum of their squares
    """
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    checked = [i for i, x in enumerate(inputs) if x.requires_grad]
    if not checked:
        raise ValueError("gradcheck: none of the inputs requires a gradient")
    for i, x in enumerate(inputs):
        if x.dtype.kind == "f" and x.dtype != np.float64:
            raise ValueError(f"gradcheck: input {i} is {x.dtype}; differences need float64")
    rng = np.random.default_rng([seed, 1])  # not the numbers of a user's default_rng(seed)

    outputs = _outputs(fn, inputs)
    active = [k for k, y in enumerate(outputs) if y.requires_grad]
    if not active:
        raise GradcheckError("no output of fn depends on an input that requires a gradient")
    upstream = [_like(outputs[k], rng.standard_normal(outputs[k].shape)) for k in active]
    grads = grad(
        [outputs[k] for k in active], [inputs[i] for i in checked], upstream, allow_unused=True
    )

    for i, g in zip(checked, grads, strict=True):
        x = inputs[i]
        analytic_grad = np.zeros(x.shape) if g is None else g.numpy()
        for d in range(directions):
            # The right sum of many terms can be nearly 0; then its rounding is measured by the terms.
            u = rng.standard_normal(x.shape)
            numerical = 0.0
            for sign in (1, -1):
                moved = list(inputs)
                moved[i] = _like(x, x.numpy() + sign * eps * u).requires_grad_()
                ys = _outputs(fn, moved)
                # Summed per output first: the terms that do not move cancel to the last digit.
                numerical += sum(
                    sign * float(np.vdot(v.numpy(), ys[k].numpy() - outputs[k].numpy()))
                    for k, v in zip(active, upstream, strict=True)
                )
            numerical /= 2 * eps
            terms = analytic_grad * u
            analytic = float(terms.sum())
            scale = max(abs(analytic), abs(numerical), float(np.sqrt((terms**2).sum())))
            if not abs(analytic - numerical) <= rtol * scale:
                raise GradcheckError(
                    f"input {i} of shape {x.shape}, random direction {d}: the gradient gives "
                    f"{analytic:.12g}, central differences give {numerical:.12g} (relative "
                    f"deviation {abs(analytic - numerical) / (scale or 1):.3g}, allowed {rtol:g})"
                )
    return True


def gradgradcheck(
    fn: Callable[..., Tensor | Sequence[Tensor]],
    inputs: Tensor | Sequence[Tensor],
    eps: float = 1e-5,
    rtol: float = 1e-6,
    directions: int = 3,
    seed: int = 0,
) -> bool:
    """The same for second derivatives: gradcheck of the function (x, v) -> J(x)^T v.

    Both the inputs x and the upstream gradients v are varied; in a failure's message, the inputs
    after the last one of fn are the upstream gradients.
    """
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    rng = np.random.default_rng([seed, 2])
    outputs = [y for y in _outputs(fn, inputs) if y.requires_grad]
    upstream = [_like(y, rng.standard_normal(y.shape)).requires_grad_() for y in outputs]

    def gradients(*arguments: Tensor) -> list[Tensor]:
        xs, vs = arguments[: len(inputs)], arguments[len(inputs) :]
        ys = [y for y in _outputs(fn, xs) if y.requires_grad]
        targets = [x for x in xs if x.requires_grad]
        found = grad(ys, targets, list(vs), create_graph=True, allow_unused=True)
        found = [g for g in found if g is not None]
        if not all(g.requires_grad for g in found):  # each must depend on v at least
            raise GradcheckError("a backward rule gives a gradient without history")
        return found

    return gradcheck(gradients, [*inputs, *upstream], eps, rtol, directions, seed)


def _outputs(fn: Callable, inputs: Sequence[Tensor]) -> list[Tensor]:
    result = fn(*inputs)
    return [result] if isinstance(result, Tensor) else list(result)


def _like(t: Tensor, values: np.ndarray) -> Tensor:
    """A leaf with these values on t's device."""
    return Tensor(np.asarray(values, dtype=t.dtype)).to(t.device).detach()
