"""Are the gradients correct? This file compares them with central differences, to second order.

Take an input x, a random direction u and a random upstream gradient v, and let J be the Jacobian of fn.
The number <v, J u> is computed twice: by the engine, as <J^T v, u>, and from two evaluations of fn:

    <v, fn(x + h u) - fn(x - h u)> / 2h  =  <v, J u> + O(h^2)

One such number depends on every element of J, for any shapes. The upstream gradient is random. If it
were ones, the true gradient of a batch norm would be zero, and any wrong gradient that sums to zero
would pass.
"""

from __future__ import annotations

import math
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

    fn          a function of Tensors that returns one or several Tensors. It must be deterministic and
                smooth within eps of the inputs, and must not change its inputs
    inputs      float64 Tensors; those that require gradients are checked
    eps         the step h; the error of the difference is of the order h^2 + 1e-16 / h
    rtol        the largest deviation, relative to the numbers compared or, where their terms cancel,
                to the root of the sum of squares of the terms. It must be below 1, because a gradient
                of zeros deviates by 1
    directions  how many random directions are tried for each input

    Integer outputs are left out, because they are constant almost everywhere. An output without
    history claims that its derivatives are zero, and that is checked.
    """
    inputs = _checked(inputs, eps, rtol, directions)
    checked = [i for i, x in enumerate(inputs) if x.requires_grad]
    rng = np.random.default_rng([seed, 1])  # numbers that differ from the user's default_rng(seed)

    outputs = _outputs(fn, inputs)
    real = [k for k, y in enumerate(outputs) if y.dtype.kind == "f"]
    upstream = {k: _like(outputs[k], rng.standard_normal(outputs[k].shape)) for k in real}
    active = [k for k in real if outputs[k].requires_grad]
    grads = grad(
        [outputs[k] for k in active],
        [inputs[i] for i in checked],
        [upstream[k] for k in active],
        allow_unused=True,
    )
    if all(g is None for g in grads):
        raise GradcheckError("no output of fn depends on an input that requires a gradient")
    first = [y.numpy().copy() for y in outputs]
    for k, y in enumerate(_outputs(fn, inputs, first)):
        if y.numpy().tobytes() != first[k].tobytes():
            raise GradcheckError(
                f"fn is not deterministic: for the same inputs its output {k} differs between calls"
            )

    for i, g in zip(checked, grads, strict=True):
        x = inputs[i]
        analytic_grad = np.zeros(x.shape) if g is None else g.numpy()
        if not np.isfinite(analytic_grad).all():
            raise GradcheckError(f"the gradient of input {i} holds values that are not finite")
        for d in range(directions):
            # The true sum of many terms can be nearly 0; its rounding error is relative to the terms.
            u = rng.standard_normal(x.shape)
            numerical = 0.0
            for sign in (1, -1):
                values = x.numpy() + sign * eps * u
                if (values == x.numpy()).any():
                    raise ValueError(
                        f"gradcheck: input {i} holds values so large that a step of {eps:g} is lost "
                        "in their rounding; scale them, or raise eps"
                    )
                moved = list(inputs)
                moved[i] = _like(x, values).requires_grad_()
                ys = _outputs(fn, moved, first)
                # Subtracted first, per output, so that elements that do not move cancel exactly.
                numerical += sum(
                    sign * float(np.vdot(upstream[k].numpy(), ys[k].numpy() - first[k]))
                    for k in real
                )
            numerical /= 2 * eps
            terms = analytic_grad * u
            analytic = float(terms.sum())
            # hypot, because squares may overflow, and relative to infinity any deviation is small
            scale = max(abs(analytic), abs(numerical), math.hypot(*terms.ravel().tolist()))
            if not abs(analytic - numerical) <= rtol * scale < math.inf:
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
    """gradcheck for second derivatives: it checks the function (x, v) -> J(x)^T v.

    Both the inputs x and the upstream gradients v are varied. In error messages, inputs numbered beyond
    fn's own are the upstream gradients. Outputs without history are left out.
    """
    inputs = _checked(inputs, eps, rtol, directions)
    rng = np.random.default_rng([seed, 2])
    outputs = _outputs(fn, inputs)
    first = [y.numpy().copy() for y in outputs]
    active = [k for k, y in enumerate(outputs) if y.dtype.kind == "f" and y.requires_grad]
    upstream = [_like(outputs[k], rng.standard_normal(first[k].shape)) for k in active]
    upstream = [v.requires_grad_() for v in upstream]

    def gradients(*arguments: Tensor) -> list[Tensor]:
        xs, vs = arguments[: len(inputs)], arguments[len(inputs) :]
        ys = _outputs(fn, xs, first)
        ys = [ys[k] for k in active]
        targets = [x for x in xs if x.requires_grad]
        found = grad(ys, targets, list(vs), create_graph=True, allow_unused=True)
        found = [g for g in found if g is not None]
        if not all(g.requires_grad for g in found):  # each must depend at least on v
            raise GradcheckError("a backward rule gives a gradient without history")
        return found

    return gradcheck(gradients, [*inputs, *upstream], eps, rtol, directions, seed)


def _checked(
    inputs: Tensor | Sequence[Tensor], eps: float, rtol: float, directions: int
) -> list[Tensor]:
    """The inputs as a list. Raises TypeError or ValueError if checking them would prove nothing."""
    if not (_is_number(eps) and 0 < eps < math.inf):
        raise ValueError(f"gradcheck: eps must be a finite number above 0, not {eps!r}")
    if not (_is_number(rtol) and 0 < rtol < 1):
        raise ValueError(f"gradcheck: rtol must be a number above 0 and below 1, not {rtol!r}")
    if not (isinstance(directions, int) and directions is not True and directions > 0):
        raise ValueError(f"gradcheck: directions must be an integer above 0, not {directions!r}")
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    for i, x in enumerate(inputs):
        if not isinstance(x, Tensor):
            raise TypeError(f"gradcheck: input {i} is a {type(x).__name__}; make it a Tensor")
        if x.dtype.kind == "f" and x.dtype != np.float64:
            raise ValueError(f"gradcheck: input {i} is {x.dtype}; central differences need float64")
        if not np.isfinite(x.numpy()).all():
            raise ValueError(f"gradcheck: input {i} holds values that are not finite")
        if x.requires_grad and any(x is other for other in inputs[:i]):
            raise ValueError(f"gradcheck: input {i} is given twice; pass a copy")
    if not any(x.requires_grad for x in inputs):
        raise ValueError("gradcheck: none of the inputs requires a gradient")
    return inputs


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _outputs(
    fn: Callable, inputs: Sequence[Tensor], first: Sequence[np.ndarray] | None = None
) -> list[Tensor]:
    """The outputs of fn, checked. Their shapes must be those of `first`, its earlier outputs."""
    before = [x.numpy().copy() for x in inputs]
    result = fn(*inputs)
    for i, (x, values) in enumerate(zip(inputs, before, strict=True)):
        if not np.array_equal(x.numpy(), values):
            raise GradcheckError(f"fn changes its input {i} in place; make it work on a copy")
    outputs = [result] if isinstance(result, Tensor) else result
    if not isinstance(outputs, (list, tuple)):
        raise TypeError(
            f"gradcheck: fn returns a {type(result).__name__}, not a Tensor or a list of Tensors"
        )
    for k, y in enumerate(outputs):
        if not isinstance(y, Tensor):
            raise TypeError(f"gradcheck: output {k} of fn is a {type(y).__name__}, not a Tensor")
        if y.dtype.kind == "f" and y.dtype != np.float64:
            raise ValueError(
                f"gradcheck: output {k} of fn is {y.dtype}; central differences need float64"
            )
        if not np.isfinite(y.numpy()).all():
            raise GradcheckError(f"output {k} of fn holds values that are not finite")
    if first is not None and [y.shape for y in outputs] != [y.shape for y in first]:
        raise GradcheckError("fn returns outputs of different shapes at its second call")
    return list(outputs)


def _like(t: Tensor, values: np.ndarray) -> Tensor:
    """A leaf with these values on t's device."""
    return Tensor(np.asarray(values, dtype=t.dtype)).to(t.device).detach()
