"""Algorithm 1 of Goodfellow et al. 2014 with any objective: the game of the documented DCGAN.

D descends  -mean log D(x) - mean log(1 - D(G(z)))   k times (`d_steps`)
G descends  -mean log D(G(z))                        non-saturating
        or   mean log(1 - D(G(z)))                   minimax

or the losses of another row of `objectives.OBJECTIVES`. With `r1`, D also descends the R1 penalty.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from ..errors import UserError
from ..nn import Module
from ..optim import Adam
from ..options import option, with_default
from ..tensor import Tensor
from . import base, networks
from .base import GAN
from .draw import Draw, Scalar
from .judge import Judge
from .objectives import OBJECTIVES, REAL, Objective
from .penalties import r1_penalty
from .player import Group, Player, Probability
from .signs import SATURATED, frozen_generator


@dataclass(frozen=True)
class Options(base.Options):
    beta1: float = option(0.5, "first beta of both Adams", least=0, below=1)
    beta2: float = option(0.999, "second beta of both Adams", least=0, below=1)
    loss: str = option("non-saturating", "the objective", choices=tuple(OBJECTIVES))
    d_steps: int = option(1, "updates of D per step", least=1, most=1000)
    smoothing: float = option(
        0.0, "one-sided label smoothing: reals have the label 1 minus this", least=0, below=1
    )
    r1: float = option(0.0, "weight of the R1 penalty on D's slope at reals", least=0, most=1e6)
    fresh_noise: bool = option(
        True,
        "draw new noise for G's half of a step",
        off="--reuse-fakes",
        off_help="in G's half of a step, use the fakes from D's half",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loss == "wasserstein" and not self._slope_is_bounded:
            raise UserError(
                "--loss wasserstein: nothing bounds D's slope, so its scores would grow without limit; "
                "give --spectral-norm or --r1, or train wgan or wgan-gp"
            )
        if self.smoothing and not OBJECTIVES[self.loss].probability:
            raise UserError(
                f"--smoothing {self.smoothing}: --loss {self.loss} has no labels to smooth; leave it "
                "out, or use --loss non-saturating"
            )

    @property
    def penalty_flag(self) -> str:
        return "--r1" if self.r1 else ""

    @property
    def _slope_is_bounded(self) -> bool:
        return self.r1 > 0 or self.spectral_norm or self.network == "sngan"


class DCGAN(GAN):
    """Radford, Metz & Chintala 2016: the standard game, with Adam at 2e-4 and a first beta of 0.5."""

    Options = Options

    def build(self, rng: np.random.Generator, device: str, group: Group) -> None:
        o = self.options
        G, D, self.judge = self.networks(rng, device)
        betas, (G_lr, D_lr) = (o.beta1, o.beta2), o.rates
        self.G = Player(G, Adam(G.parameters(), G_lr, betas), group, o.ema)
        self.D = Player(D, Adam(D.parameters(), D_lr, betas), group, forward=self.judge)
        self.players = {"G": self.G, "D": self.D}
        self.batches = o.d_steps
        size = sum(p.numel() for p in G.parameters())
        self.signs = (*[SATURATED] * self.loss.saturates, frozen_generator(size, o.beta2))

    @property
    def loss(self) -> Objective:
        """The objective, with smoothed labels if `smoothing` is not 0."""
        row, smoothing = OBJECTIVES[self.options.loss], self.options.smoothing
        if smoothing:
            row = row._replace(discriminator=partial(row.discriminator, label=REAL - smoothing))
        return row

    def networks(self, rng: np.random.Generator, device: str) -> tuple[Module, Module, Judge]:
        """G, D and D's scores: see `networks.make`."""
        return networks.make(self.shape, self.options, rng, device)

    def step(self, draw: Draw) -> dict[str, Scalar]:
        for _ in range(self.options.d_steps):
            x, fakes, metrics = self.train_D(draw)

        # G's half, through the updated D. Only G's gradients are computed, so D's cost nothing.
        if self.options.fresh_noise:
            fakes = self.G(draw.noise())
        judged = self.D(fakes, draw)
        real = self.D(x, draw).detach() if self.loss.paired else None
        loss_G = self.loss.generator(real, judged)
        metrics |= {"loss_g": loss_G.detach(), "grad_g": self.G.descend(loss_G)}
        return metrics | self.seen(d_gz_after=judged)

    def train_D(self, draw: Draw) -> tuple[Tensor, Tensor, dict[str, Scalar]]:
        """D's half of a step. Returns the reals, the fakes and the metrics."""
        x, fakes = draw.reals(), self.G(draw.noise())
        return x, fakes, self.update(self.D, x, fakes, draw)

    def update(
        self,
        D: Player,
        x: Tensor,
        fakes: Tensor,
        draw: Draw,
        y: Tensor | None = None,
        asked: Tensor | None = None,
    ) -> dict[str, Scalar]:
        """One update of a discriminator, and its metrics.

        y, asked  for a conditional member, the classes of the reals and of the fakes
        """
        real, fake = D(x, draw, y), D(fakes.detach(), draw, asked)  # so no gradient reaches G
        loss_D = descended = self.loss.discriminator(real, fake)
        metrics: dict[str, Scalar] = {"loss_d": loss_D.detach()}
        if self.options.r1:
            penalty = r1_penalty(lambda x: D(x, draw, y), x)
            descended = loss_D + self.options.r1 * penalty
            metrics["penalty"] = penalty.detach()
        metrics["grad_d"] = D.descend(descended)
        return metrics | self.seen(d_x=real, d_gz_before=fake)

    def seen(self, **scores: Tensor) -> dict[str, Scalar]:
        """Scores as metrics: D's mean probabilities if the objective has any, else mean scores."""
        if self.loss.probability:
            return {name: Probability(each) for name, each in scores.items()}
        return {name.replace("d_", "score_"): each.detach().mean() for name, each in scores.items()}


@dataclass(frozen=True)
class LSGANOptions(Options):
    loss: str = with_default("least-squares", Options, "loss")


class LSGAN(DCGAN):
    """Mao et al. 2017: squared errors pull scores to 1 for reals and 0 for fakes."""

    Options = LSGANOptions


@dataclass(frozen=True)
class HingeOptions(Options):
    loss: str = with_default("hinge", Options, "loss")


class Hinge(DCGAN):
    """Lim & Ye 2017, Miyato et al. 2018: D stops at a margin of 1; G raises its mean score."""

    Options = HingeOptions
