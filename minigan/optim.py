"""Optimisers: from parameters and gradients to new parameters, under PyTorch's names.

`step()` uses each parameter's `.grad`; `step(grads)` uses the gradients given, so that with
`grads = minigan.grad(loss, parameters)` nothing has to be zeroed or frozen. State dicts have
PyTorch's form with one parameter group.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from . import backend
from .backend import Array
from .tensor import Tensor


class Optimizer:
    """The base: parameters, options by name, and per parameter a dict of state."""

    def __init__(self, params: Iterable[Tensor], **options: Any):
        self.params = list(params)
        if not self.params:
            raise ValueError(f"{type(self).__name__}: got no parameters")
        options = {name: _plain(value) for name, value in options.items()}
        for name, value in options.items():
            low = min(value) if isinstance(value, tuple) else value
            if low < 0:
                raise ValueError(f"{type(self).__name__}: {name} must not be negative, is {value}")
        self.options = options
        self.state: list[dict[str, Any]] = [{} for _ in self.params]

    def update(self, moved: list[tuple[Array, Array, dict[str, Any]]], **options: Any) -> None:
        """Change arrays in place: for each the array p, its gradient g and the state kept for it."""
        raise NotImplementedError

    def step(self, grads: Sequence[Tensor | None] | None = None) -> None:
        """One update; a parameter whose gradient is None stays as it is."""
        grads = [p.grad for p in self.params] if grads is None else list(grads)
        if len(grads) != len(self.params):
            raise ValueError(f"step: {len(grads)} gradients for {len(self.params)} parameters")
        options = dict(self.options)
        weight_decay = options.pop("weight_decay")
        moved = []
        for p, grad, state in zip(self.params, grads, self.state, strict=True):
            if grad is None:
                continue
            if grad.shape != p.shape:
                raise ValueError(f"step: a gradient {grad.shape} for a parameter {p.shape}")
            g = grad.data + weight_decay * p.data if weight_decay else grad.data
            moved.append((p.data, g, state))
            p.data = p.data  # counts as a change in place: graphs that have read p are stale now
        self.update(moved, **options)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for p in self.params:
            p.grad = None

    def state_dict(self) -> dict[str, Any]:
        """{"state": {i: {name: Tensor or number}}, "param_groups": [options]}, as in PyTorch."""
        wrapped = [
            {k: Tensor(v) if hasattr(v, "dtype") else v for k, v in s.items()} for s in self.state
        ]
        group = {**self.options, "params": list(range(len(self.params)))}
        return {"state": {i: s for i, s in enumerate(wrapped) if s}, "param_groups": [group]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state dict of the same optimiser, minigan's or PyTorch's."""
        (group,) = state_dict["param_groups"]
        if len(group["params"]) != len(self.params):
            raise ValueError(
                f"{type(self).__name__}: the state is of {len(group['params'])} parameters, "
                f"the optimiser has {len(self.params)}"
            )
        self.options = {k: _plain(group.get(k, v)) for k, v in self.options.items()}
        for i, p in enumerate(self.params):
            entries = state_dict["state"].get(i, {})
            self.state[i] = {
                name: int(value) if name == "step" else backend.copy_like(p.data, np.asarray(value))
                for name, value in entries.items()
                if value is not None
            }


def _plain(option: Any) -> Any:
    """A Python number, or a tuple of them: a stray np.float64 would widen float32 parameters."""
    if isinstance(option, (tuple, list)):
        return tuple(_plain(value) for value in option)
    return option.item() if hasattr(option, "item") else option


class SGD(Optimizer):
    """b <- momentum b + (1 - dampening) g;  p <- p - lr b  (nesterov: p - lr (g + momentum b)).

    The first b is g itself, as in PyTorch. With weight_decay, g is g + weight_decay p.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ):
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("SGD: nesterov needs a momentum above 0 and no dampening")
        super().__init__(
            params,
            lr=lr,
            momentum=momentum,
            dampening=dampening,
            weight_decay=weight_decay,
            nesterov=nesterov,
        )

    def update(self, moved, *, lr, momentum, dampening, nesterov):
        for p, g, state in moved:
            if momentum:
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = g.copy()
                else:
                    state["momentum_buffer"] *= momentum
                    state["momentum_buffer"] += (1 - dampening) * g
                b = state["momentum_buffer"]
                g = g + momentum * b if nesterov else b
            p -= lr * g


class RMSprop(Optimizer):
    """v <- alpha v + (1 - alpha) g^2;  p <- p - lr g / (sqrt(v) + eps).

    centered takes v - mean(g)^2 in the place of v; momentum keeps b <- momentum b + g / (...).
    (Hinton, lecture 6e of "Neural Networks for Machine Learning".)
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ):
        super().__init__(
            params,
            lr=lr,
            alpha=alpha,
            eps=eps,
            weight_decay=weight_decay,
            momentum=momentum,
            centered=centered,
        )

    def update(self, moved, *, lr, alpha, eps, momentum, centered):
        for p, g, state in moved:
            xp = backend.array_module(p)
            if not state:
                state.update(step=0, square_avg=xp.zeros_like(p))
                state.update({"grad_avg": xp.zeros_like(p)} if centered else {})
                state.update({"momentum_buffer": xp.zeros_like(p)} if momentum else {})
            state["step"] += 1
            v = state["square_avg"]
            v *= alpha
            v += (1 - alpha) * g * g
            if centered:
                state["grad_avg"] *= alpha
                state["grad_avg"] += (1 - alpha) * g
                v = v - state["grad_avg"] ** 2
            move = g / (xp.sqrt(v) + eps)
            if momentum:
                state["momentum_buffer"] *= momentum
                state["momentum_buffer"] += move
                move = state["momentum_buffer"]
            p -= lr * move


class Adam(Optimizer):
    """m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;  p <- p - lr m' / (sqrt(v') + eps),

    with m' = m / (1 - b1^t) and v' = v / (1 - b2^t). (Kingma & Ba 2015, algorithm 1.)
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        if max(betas) >= 1:
            raise ValueError(f"Adam: betas must be below 1, are {betas}")
        super().__init__(params, lr=lr, betas=tuple(betas), eps=eps, weight_decay=weight_decay)

    def update(self, moved, *, lr, betas, eps):
        arrays = []
        for p, g, state in moved:
            xp = backend.array_module(p)
            if not state:
                state.update(step=0, exp_avg=xp.zeros_like(p), exp_avg_sq=xp.zeros_like(p))
            state["step"] += 1
            arrays.append((p, g, state["exp_avg"], state["exp_avg_sq"], state["step"]))
        if arrays:
            xp = backend.array_module(arrays[0][0])
            backend.kernels(xp).adam(xp, arrays, lr, betas, eps)
