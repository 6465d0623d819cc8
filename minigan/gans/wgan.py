"""The first WGAN (Arjovsky, Chintala & Bottou 2017, algorithm 1): a critic with clipped weights.

D descends  mean D(G(z)) - mean D(x), then each of its weights is clipped to [-clip, clip]
G descends  -mean D(G(z))

Clipped weights keep D's slope below some bound K, so the difference of the means estimates K times the
earth mover's distance between the data and G's samples. K is unknown but constant. The optimiser is
RMSprop, because the paper found training with momentum unstable.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import UserError
from ..nn import Module
from ..optim import RMSprop
from ..options import option, with_default
from ..tensor import no_grad
from . import base, networks
from .base import GAN
from .draw import Draw, Scalar
from .objectives import OBJECTIVES
from .player import Group, Player


@dataclass(frozen=True)
class Options(base.Options):
    batch_size: int = with_default(64, base.Options, "batch_size")
    lr: float = with_default(5e-5, base.Options, "lr")
    d_steps: int = option(5, "updates of D per step", least=1, most=1000)
    clip: float = option(0.01, "largest absolute value of a weight of D", above=0, most=1e6)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.spectral_norm or self.network == "sngan":
            said = "--spectral-norm" if self.spectral_norm else "--network sngan"
            raise UserError(
                f"{said}: clipping changes the weights that spectral norm divides; leave it out, or "
                "use wgan-gp"
            )


class WGAN(GAN):
    """Arjovsky, Chintala & Bottou 2017: a Wasserstein critic with clipped weights."""

    Options = Options

    def build(self, rng: np.random.Generator, device: str, group: Group) -> None:
        o = self.options
        G, D, scores = networks.make(self.shape, o, rng, device)
        G_lr, D_lr = o.rates
        self.G = Player(G, RMSprop(G.parameters(), G_lr), group, o.ema)
        self.D = Player(D, RMSprop(D.parameters(), D_lr), group, forward=scores, project=self._clip)
        self.players = {"G": self.G, "D": self.D}
        self.batches = o.d_steps

    def _clip(self, D: Module) -> None:
        with no_grad():
            for p in D.parameters():
                p.clamp_(-self.options.clip, self.options.clip)

    def step(self, draw: Draw) -> dict[str, Scalar]:
        loss = OBJECTIVES["wasserstein"]
        for _ in range(self.options.d_steps):
            x, fakes = draw.reals(), self.G(draw.noise()).detach()
            loss_D = loss.discriminator(self.D(x, draw), self.D(fakes, draw))
            grad_d = self.D.descend(loss_D)
        loss_G = loss.generator(None, self.D(self.G(draw.noise()), draw))
        grad_g = self.G.descend(loss_G)
        return {
            "distance": -loss_D.detach(),
            "loss_g": loss_G.detach(),
            "grad_d": grad_d,
            "grad_g": grad_g,
        }
