"""The conditional GAN (Mirza & Osindero 2014): the standard game, with the class told to both players.

D descends  -mean log D(x | y) - mean log(1 - D(G(z | y') | y'))      equation 2 of the paper
G descends  -mean log D(G(z | y') | y')                               or another objective

y is the class of the real x. y' is drawn as often as the data has it, because D would otherwise tell
reals from fakes by the class alone. G gets it one-hot beside z. D gets it as one plane for each class
beside the image, or by a projection (Miyato & Koyama 2018, equation 3), which adds <V_y, features>.

Since D judges whether a sample and its class belong together, G cannot satisfy it with samples of
another class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..nn import Module
from ..options import option
from ..tensor import Tensor
from . import base, standard
from .base import Draw


@dataclass(frozen=True)
class Options(standard.Options):
    d_labels: str = option(
        "planes",
        "how D is told the class: planes beside its input, or a projection of its features",
        choices=("planes", "projection"),
    )


class Conditional(standard.DCGAN):
    """Mirza & Osindero 2014: G draws the class that it is asked for; needs labelled data."""

    Options = Options
    conditional = True

    def networks(
        self, rng: np.random.Generator, device: str
    ) -> tuple[Module, Module, Callable[..., Tensor]]:
        o = self.options
        return base.networks(self.shape, o, rng, device, classes=self.classes, condition=o.d_labels)

    def reals(self, draw: Draw) -> tuple[Tensor, ...]:
        """A batch of the data, (N, *shape), and its classes, (N,)."""
        return draw.labelled()

    def fakes(self, draw: Draw) -> tuple[Tensor, ...]:
        """Fakes, (N, *shape), and the classes that were asked for, (N,)."""
        y = draw.labels()
        return self.G(draw.noise(), y), y
