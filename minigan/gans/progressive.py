"""Progressive growing (Karras, Aila, Laine & Lehtinen 2018): WGAN-GP with networks that grow.

D descends  mean D(G(z)) - mean D(x) + penalty * mean (|grad D(x^)| - 1)^2 + drift * mean D(x)^2
G descends  -mean D(G(z))

as in wgan_gp.py, with one update of D for each one of G. The drift term keeps D's scores near 0, which
the other terms would let wander off together.

The images grow from 4 x 4 pixels to their full size. The large shapes are learnt first, when images are
small and a step is cheap, and each doubling adds details to a G that can draw everything else. The
schedule is a function of the number of reals shown so far, in phases of `phase_images` each:

    0         4 x 4 pixels
    1, 3, ..  the next doubling is faded in, see models/progressive.py
    2, 4, ..  the new size alone; the last one lasts until the end of the run

So a run that was stopped anywhere knows where it was. Both optimisers start anew with each phase,
because what changes then is the function that they minimise.

A step always shows `batch_size` reals. Beyond 16 pixels a side they are cut into smaller batches, half
as large for each doubling, and each batch is an update of D and of G.

D compares samples with each other (MinibatchStdDev), so its score has no slope that belongs to one
sample alone. As the authors do, the penalty takes the gradient of the sum of all scores all the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .. import backend
from ..models.layers import GROUP
from ..models.progressive import START, Discriminator, Generator, doublings, faded, position, up
from ..nn import Module
from ..optim import Adam
from ..options import option, with_default
from ..tensor import Tensor
from . import base, equalized
from .base import GAN
from .draw import Draw, Scalar
from .objectives import OBJECTIVES
from .penalties import slope_penalty
from .player import Group, Player

WHOLE = 16  # pixels per side up to which a batch is not cut


@dataclass(frozen=True)
class Options(equalized.Options):
    member: ClassVar[str] = "progressive"

    ema: float = with_default(0.999, base.Options, "ema")
    phase_images: int = option(
        600_000, "reals shown in each phase: a size alone, or a fade", least=1, most=10**9
    )
    penalty: float = option(10.0, "weight of the penalty on D's slope", least=0, most=1e6)
    drift: float = option(1e-3, "weight of the mean squared score of reals", least=0, most=1e6)


class Progressive(GAN):
    """Karras et al. 2018: images grow from 4 x 4 pixels, with a Wasserstein critic."""

    Options = Options
    only_images = True

    def build(self, rng: np.random.Generator, device: str, group: Group) -> None:
        o, (nc, size) = self.options, self.options.check_shape(self.shape)
        self.doublings, self.device = doublings(size), device
        G = Generator(o.nz, o.ngf, nc, size, rng).to(device)
        D = Discriminator(o.ndf, nc, size, rng).to(device)
        betas, (G_lr, D_lr) = (o.beta1, o.beta2), o.rates
        self.G = Player(G, Adam(G.parameters(), G_lr, betas), group, o.ema)
        self.D = Player(D, Adam(D.parameters(), D_lr, betas), group)
        self.players = {"G": self.G, "D": self.D}
        self.extra = {"shown": 0}  # as of the weights, for samples; a step computes its own
        end = 2 * self.doublings * o.phase_images  # of the last fade
        self.complete = -(-end // o.batch_size)  # rounded up
        self.costliest = (end - o.phase_images) // o.batch_size + 1

    def phase(self, shown: int) -> tuple[int, int]:
        """The number of the phase after so many reals, and how many of them belong to it."""
        phase, within = divmod(shown, self.options.phase_images)
        last = 2 * self.doublings
        return (phase, within) if phase < last else (last, 0)

    def level(self, shown: int) -> float:
        """How far the networks have grown after so many reals: see models/progressive.py."""
        phase, within = self.phase(shown)
        return phase // 2 + phase % 2 * within / self.options.phase_images

    def workload(self, first: int, end: int) -> float:
        """As in GAN: a level has four times the pixels of the last one, and takes as much longer."""
        phase, last = self.options.phase_images / self.options.batch_size, 2 * self.doublings
        total = 0.0
        for i in range(last + 1):
            begins, ends = phase * i, phase * (i + 1) if i < last else math.inf
            steps = max(0.0, min(ends, end) - max(begins, first))
            total += steps / 4 ** ((last - i) // 2)  # a fade has the images of the larger size
        return total

    def step(self, draw: Draw) -> dict[str, Scalar]:
        shown = draw.step * self.options.batch_size
        level = self.level(shown)
        before = max(0, shown - self.options.batch_size)
        if self.phase(shown)[0] != self.phase(before)[0]:
            for player in self.players.values():
                player.optimizer.reset()
        x = faded(draw.reals(), level)
        drawn = [x, draw.noise(), draw.noise(), draw.uniform("between", 1, 1, 1)]
        size = len(x) // self.batches_of(level, len(x))
        for i in range(0, len(x), size):
            metrics = self.update(level, *(each[i : i + size] for each in drawn))
        self.extra["shown"] = shown + self.options.batch_size
        return metrics | {"level": Tensor(backend.move(np.array([level]), self.device))}

    def update(
        self, level: float, x: Tensor, z_D: Tensor, z_G: Tensor, u: Tensor
    ) -> dict[str, Scalar]:
        """An update of D and one of G, and their metrics.

        x         reals (N, C, 4 2^k, 4 2^k), faded
        z_D, z_G  noise (N, nz) for each of the two
        u         where between reals and fakes D's slope is penalised, (N, 1, 1, 1)
        """
        o, loss, D = self.options, OBJECTIVES["wasserstein"], lambda x: self.D(x, level)
        fakes = self.G(z_D, level).detach()
        real = D(x)
        loss_D = loss.discriminator(real, D(fakes))
        penalty = slope_penalty(D, u * x + (1 - u) * fakes, 1.0)
        descended = loss_D + o.penalty * penalty + o.drift * (real**2).mean()
        grad_d = self.D.descend(descended, self.D.net.used(level))
        loss_G = loss.generator(None, D(self.G(z_G, level)))
        grad_g = self.G.descend(loss_G, self.G.net.used(level))
        return {
            "distance": -loss_D.detach(),
            "penalty": penalty.detach(),
            "loss_g": loss_G.detach(),
            "grad_d": grad_d,
            "grad_g": grad_g,
        }

    def _draw(self, G: Module, *inputs: Tensor) -> Tensor:
        """Images of the full size: small ones are enlarged, and all are cut to [-1, 1]."""
        images = G(*inputs, self.level(self.extra["shown"]))
        while images.shape[3] < self.shape[2]:
            images = up(images)
        return images.clamp(-1, 1)

    def batches_of(self, level: float, samples: int) -> int:
        """The number of batches into which so many samples are cut, in whole groups of D's layer."""
        size = START << position(level)[0]
        return math.gcd(max(1, size // WHOLE), max(1, samples // GROUP))
