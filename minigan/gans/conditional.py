"""The conditional GAN (Mirza & Osindero 2014): the standard game, with the class told to both players.

D descends  -mean log D(x | y) - mean log(1 - D(G(z | y') | y'))      equation 2 of the paper
G descends  -mean log D(G(z | y') | y')                               or another objective

y is the class of the real x. y' is drawn with the class frequencies of the data, because otherwise D
could tell reals from fakes by the class alone. G gets the class as a one-hot vector beside z, or
through batch norms with a scale and a shift for each class. D gets it as one plane for each class
beside the image, or by a projection (Miyato & Koyama 2018, equation 3), which adds to the score the
inner product of D's features with a vector for the class.

D judges whether a sample and its class belong together, so a good sample of another class does not
satisfy it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import UserError
from ..nn import Module
from ..options import option
from . import networks, standard
from .draw import Draw, Scalar
from .judge import Judge


@dataclass(frozen=True)
class Options(standard.Options):
    g_labels: str = option(
        "one-hot",
        "how G is told the class: one-hot beside z, or by its batch norms",
        choices=("one-hot", "batch-norm"),
        images=True,
    )
    d_labels: str = option(
        "planes",
        "how D is told the class: planes beside its input, or a projection of its features",
        choices=("planes", "projection"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pack > 1:
            raise UserError(
                f"--pack {self.pack}: the samples of a pack have different classes, but D is told only "
                "one; leave it out"
            )


class Conditional(standard.DCGAN):
    """Mirza & Osindero 2014: G draws the class that it is asked for; it needs labelled data."""

    Options = Options
    conditional = True

    def networks(self, rng: np.random.Generator, device: str) -> tuple[Module, Module, Judge]:
        """G, D and D's scores; both networks are told the class: see `networks.make`."""
        o = self.options
        return networks.make(self.shape, o, rng, device, self.classes, o.g_labels, o.d_labels)

    def step(self, draw: Draw) -> dict[str, Scalar]:
        for _ in range(self.options.d_steps):
            (x, y), asked = draw.labelled(), draw.labels()
            fakes = self.G(draw.noise(), asked)
            metrics = self.update(self.D, x, fakes, draw, y, asked)
        if self.options.fresh_noise:
            asked = draw.labels()
            fakes = self.G(draw.noise(), asked)
        judged = self.D(fakes, draw, asked)
        real = self.D(x, draw, y).detach() if self.loss.paired else None
        loss_G = self.loss.generator(real, judged)
        metrics |= {"loss_g": loss_G.detach(), "grad_g": self.G.descend(loss_G)}
        return metrics | self.seen(d_gz_after=judged)
