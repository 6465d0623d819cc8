"""WGAN-GP (Gulrajani et al. 2017, algorithm 1): a critic whose slope is held at 1 by a penalty.

D descends  mean D(G(z)) - mean D(x) + penalty * mean (|grad D(x^)| - 1)^2
G descends  -mean D(G(z))

x^ = u x + (1 - u) G(z), with one u ~ U(0, 1) for each sample.

If D is the best critic whose slope is at most 1, the difference of the means estimates the earth
mover's distance between the data and G's samples (Arjovsky, Chintala & Bottou 2017). The slope at one
sample must not depend on the other samples, so D has no batch norm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..optim import Adam
from ..options import option, with_default
from . import base, networks
from .base import GAN
from .draw import Draw, Scalar
from .objectives import OBJECTIVES
from .penalties import slope_penalty
from .player import Group, Player


@dataclass(frozen=True)
class Options(base.Options):
    batch_size: int = with_default(64, base.Options, "batch_size")
    lr: float = with_default(1e-4, base.Options, "lr")
    beta1: float = option(0.0, "first beta of both Adams", least=0, below=1)
    beta2: float = option(0.9, "second beta of both Adams", least=0, below=1)
    d_steps: int = option(5, "updates of D per step", least=1, most=1000)
    penalty: float = option(10.0, "weight of the penalty on D's slope", least=0, most=1e6)

    @property
    def penalty_flag(self) -> str:
        return "--penalty"


class WGANGP(GAN):
    """Gulrajani et al. 2017: a Wasserstein critic with a gradient penalty."""

    Options = Options

    def build(self, rng: np.random.Generator, device: str, group: Group) -> None:
        o = self.options
        G, D, scores = networks.make(self.shape, o, rng, device)
        betas, (G_lr, D_lr) = (o.beta1, o.beta2), o.rates
        self.G = Player(G, Adam(G.parameters(), G_lr, betas), group, o.ema)
        self.D = Player(D, Adam(D.parameters(), D_lr, betas), group, forward=scores)
        self.players = {"G": self.G, "D": self.D}
        self.batches = o.d_steps

    def step(self, draw: Draw) -> dict[str, Scalar]:
        loss = OBJECTIVES["wasserstein"]
        for _ in range(self.options.d_steps):
            x, fakes = draw.reals(), self.G(draw.noise()).detach()
            u = draw.uniform("between", *[1] * (x.ndim - 1))  # (N, 1, ...)
            loss_D = loss.discriminator(self.D(x, draw), self.D(fakes, draw))
            penalty = slope_penalty(lambda x: self.D(x, draw), u * x + (1 - u) * fakes, 1.0)
            grad_d = self.D.descend(loss_D + self.options.penalty * penalty)
        loss_G = loss.generator(None, self.D(self.G(draw.noise()), draw))
        grad_g = self.G.descend(loss_G)
        return {
            "distance": -loss_D.detach(),
            "penalty": penalty.detach(),
            "loss_g": loss_G.detach(),
            "grad_d": grad_d,
            "grad_g": grad_g,
        }
