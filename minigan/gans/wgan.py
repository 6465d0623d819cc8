"""The first WGAN (Arjovsky, Chintala & Bottou 2017, algorithm 1): a critic of clipped weights.

D descends  mean D(G(z)) - mean D(x), and each of its weights is then clipped to [-clip, clip]
G descends  -mean D(G(z))

Weights in a box keep D's slope below some bound K. The difference of the means then estimates K times
the earth mover's distance between the data and G's samples; nobody knows K, but it is the same in all
steps. D may keep its batch norm, whose scale and shift are clipped as all weights are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import backend
from ..optim import RMSprop
from ..options import option
from ..tensor import Tensor
from . import base
from .base import GAN, Draw, Scalar
from .objectives import OBJECTIVES
from .player import Group, Player


@dataclass(frozen=True)
class Options(base.Options):
    batch_size: int = option(64, "samples a batch", least=2, most=10**9, flags=["--batchSize"])
    lr: float = option(5e-5, "learning rate of both RMSprops", above=0)
    d_steps: int = option(5, "updates of D a step", least=1, most=1000)
    clip: float = option(0.01, "largest size of a weight of D", above=0, most=1e6)
    norm: str = option("batch", "normalisation in D", choices=("batch", "none"))


class ClippedRMSprop(RMSprop):
    """RMSprop, and after each update p <- min(max(p, -clip), clip)."""

    def __init__(self, params: Iterable[Tensor], lr: float, clip: float):
        super().__init__(params, lr)
        self.clip = clip

    def update(self, moved: list, **options: Any) -> None:
        super().update(moved, **options)
        for p, _, _ in moved:
            backend.array_module(p).clip(p, -self.clip, self.clip, out=p)


class WGAN(GAN):
    """Arjovsky, Chintala & Bottou 2017: a Wasserstein critic with clipped weights."""

    Options = Options

    def build(self, rng: np.random.Generator, device: str, group: Group) -> None:
        o = self.options
        G, D, scores = base.networks(self.shape, o, rng, o.norm)
        G.to(device), D.to(device)
        self.G = Player(G, RMSprop(G.parameters(), o.lr), group, o.ema)
        self.D = Player(D, ClippedRMSprop(D.parameters(), o.lr, o.clip), group, forward=scores)
        self.players = {"G": self.G, "D": self.D}
        self.batches = o.d_steps

    def step(self, draw: Draw) -> dict[str, Scalar]:
        loss = OBJECTIVES["wasserstein"]
        for _ in range(self.options.d_steps):
            fakes = self.G(draw.noise()).detach()
            loss_D = loss.discriminator(self.D(draw.reals()), self.D(fakes))
            grad_d = self.D.descend(loss_D)
        loss_G = loss.generator(self.D(self.G(draw.noise())))
        grad_g = self.G.descend(loss_G)
        return {
            "distance": -loss_D.detach(),
            "loss_g": loss_G.detach(),
            "grad_d": grad_d,
            "grad_g": grad_g,
        }
