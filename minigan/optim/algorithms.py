"""SGD, RMSprop and Adam, each with its formula, options and `update`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from .. import backend
from ..tensor import Tensor
from .optimizer import Optimizer


class SGD(Optimizer):
    """b <- momentum b + (1 - dampening) g;  p <- p - lr b  (nesterov: p - lr (g + momentum b)).

    The first b is g itself, as in PyTorch. With weight_decay, g is g + weight_decay p.
    """

    # "step" distinguishes the first step from later ones. PyTorch's SGD does not keep it, because there
    # a buffer exists only after the first step.
    ENTRIES: ClassVar = {"step": "momentum", "momentum_buffer": "momentum"}
    IMPLIED: ClassVar = {"step": 1}

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ):
        super().__init__(
            params,
            lr=lr,
            momentum=momentum,
            dampening=dampening,
            weight_decay=weight_decay,
            nesterov=nesterov,
        )

    def checked(self, options):
        options = super().checked(options)
        if options["nesterov"] and (options["momentum"] == 0 or options["dampening"] != 0):
            raise ValueError("SGD: nesterov needs a momentum above 0 and no dampening")
        return options

    def update(self, moved, *, lr, momentum, dampening, nesterov):
        for p, g, state in moved:
            if momentum:
                b = state["momentum_buffer"]
                if state["step"] == 0:
                    b[...] = g
                else:
                    b *= momentum
                    b += (1 - dampening) * g
                state["step"] += 1
                g = g + momentum * b if nesterov else b
            p -= lr * g


class RMSprop(Optimizer):
    """v <- alpha v + (1 - alpha) g^2;  p <- p - lr g / (sqrt(v) + eps).

    centered uses v - mean(g)^2 instead of v. momentum keeps b <- momentum b + g / (...) and moves by b.
    (Hinton, lecture 6e of "Neural Networks for Machine Learning".)
    """

    ENTRIES: ClassVar = {
        **dict.fromkeys(("step", "square_avg")),
        "grad_avg": "centered",
        "momentum_buffer": "momentum",
    }

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
            state["step"] += 1
            v = state["square_avg"]
            v *= alpha
            v += (1 - alpha) * g * g
            if centered:
                state["grad_avg"] *= alpha
                state["grad_avg"] += (1 - alpha) * g
                # A difference below v's last digit is only rounding, and may be negative.
                v = xp.maximum(v - state["grad_avg"] ** 2, float(np.finfo(v.dtype).eps) * v)
            move = g / (xp.sqrt(v) + eps)
            if momentum:
                state["momentum_buffer"] *= momentum
                state["momentum_buffer"] += move
                move = state["momentum_buffer"]
            p -= lr * move


class Adam(Optimizer):
    """m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;  p <- p - lr m' / (sqrt(v') + eps),

    with m' = m / (1 - b1^t) and v' = v / (1 - b2^t). (Kingma & Ba 2015, algorithm 1.)

    v holds squares. In float32, a gradient beyond 5.8e20 (at b2 = 0.999) makes v infinite, after which
    the weight never moves again. Clip gradients that may be that large.
    """

    ENTRIES: ClassVar = dict.fromkeys(("step", "exp_avg", "exp_avg_sq"))

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def update(self, moved, *, lr, betas, eps):
        arrays = []
        for p, g, state in moved:
            state["step"] += 1
            arrays.append((p, g, state["exp_avg"], state["exp_avg_sq"], state["step"]))
        if arrays:
            xp = backend.array_module(arrays[0][0])
            backend.kernels(xp).adam(xp, arrays, lr, betas, eps)
