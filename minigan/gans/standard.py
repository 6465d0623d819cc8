"""Algorithm 1 of Goodfellow et al. 2014, with k = 1: the game of the documented DCGAN.

D descends  -mean log D(x) - mean log(1 - D(G(z)))
G descends  -mean log D(G(z))                        non-saturating
        or   mean log(1 - D(G(z)))                   minimax
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..optim import Adam
from ..options import option
from . import base
from .base import GAN, Draw, Scalar
from .objectives import OBJECTIVES
from .player import Group, Player, Probability
from .signs import SATURATED, frozen_generator

BETA2 = 0.999  # of both Adams


@dataclass(frozen=True)
class Options(base.Options):
    lr: float = option(2e-4, "learning rate of both Adams", above=0)
    beta1: float = option(0.5, "first beta of both Adams (the second is 0.999)", least=0, below=1)
    loss: str = option("non-saturating", "G's objective", choices=("non-saturating", "minimax"))
    fresh_noise: bool = option(
        True,
        "draw new noise for G's half of a step",
        off="--reuse-fakes",
        off_help="in G's half of a step, use the fakes from D's half",
    )


class DCGAN(GAN):
    """Radford, Metz & Chintala 2016: Adam at 2e-4 with a first beta of 0.5, for G and for D."""

    Options = Options

    def build(self, rng: np.random.Generator, device: str, group: Group) -> None:
        o = self.options
        G, D, scores = base.networks(self.shape, o, rng, device)
        betas = (o.beta1, BETA2)
        self.G = Player(G, Adam(G.parameters(), o.lr, betas), group, o.ema)
        self.D = Player(D, Adam(D.parameters(), o.lr, betas), group, forward=scores)
        self.players = {"G": self.G, "D": self.D}
        size = sum(p.numel() for p in G.parameters())
        self.signs = (SATURATED, frozen_generator(size, BETA2))

    def step(self, draw: Draw) -> dict[str, Scalar]:
        loss = OBJECTIVES[self.options.loss]

        # D's half. The fakes are detached, so no gradient reaches G.
        x, fakes = draw.reals(), self.G(draw.noise())
        real, fake = self.D(x), self.D(fakes.detach())
        loss_D = loss.discriminator(real, fake)
        metrics: dict[str, Scalar] = {
            "loss_d": loss_D.detach(),
            "grad_d": self.D.descend(loss_D),
            "d_x": Probability(real),
            "d_gz_before": Probability(fake),
        }
        del loss_D, real, fake  # frees the graph of this half

        # G's half, through the updated D. Only G's gradients are asked for, so D's cost nothing.
        if self.options.fresh_noise:
            fakes = self.G(draw.noise())
        judged = self.D(fakes)
        loss_G = loss.generator(judged)
        metrics |= {
            "loss_g": loss_G.detach(),
            "grad_g": self.G.descend(loss_G),
            "d_gz_after": Probability(judged),
        }
        return metrics
