"""Fully connected networks, for points and for images.

For points, each network has two hidden layers, as is usual for mixtures. For images, the layers are
those of a widespread implementation of Goodfellow et al. 2014 (PyTorch-GAN's gan.py, here for 28 x 28
pixels):

    G   100 - 128 - 256 - 512 - 1024 - 784, leaky ReLU, batch norm on the last three hidden layers, tanh
    D   784 - 512 - 256 - 1, leaky ReLU

(That implementation passes 0.8 to its batch norms as the second argument, meant as the momentum, but
the second argument is eps. Here both have their usual values.)
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import nn
from ..tensor import Tensor
from .base import BaseDiscriminator, BaseGenerator
from .first_values import first_values


class Generator(BaseGenerator):
    """Noise z (N, nz) -> points (N, features), unbounded, or images (N, C, H, W) in [-1, 1].

    width  for points, the width of both hidden layers; for images, that of the first, and each further
           one is twice as wide, so that 128 gives the table above
    shape  the shape of a sample: (features,) or (C, H, W)

    First weights are N(0, 2 / fan_in), which keeps the variance through ReLUs; see `first_values`.
    Labels and errors: see BaseGenerator. Networks for points have no batch norm to condition.
    """

    def __init__(
        self,
        nz: int = 100,
        width: int = 128,
        shape: tuple[int, ...] = (2,),
        rng: np.random.Generator | None = None,
        *,
        classes: int = 0,
        condition: str = "one-hot",
    ):
        super().__init__(nz, classes, condition)
        self.shape = tuple(shape)
        if len(self.shape) == 3:
            layers = [nn.Linear(self._inputs(), width), nn.LeakyReLU(0.2)]
            for _ in range(3):
                layers += [nn.Linear(width, 2 * width), self._norm(nn.BatchNorm1d, 2 * width)]
                layers += [nn.LeakyReLU(0.2)]
                width *= 2
            layers += [nn.Linear(width, math.prod(shape)), nn.Tanh()]
        elif self._in_norms():
            raise ValueError(
                'Generator: condition "batch-norm" needs batch norms, which networks for points do not '
                'have; use "one-hot"'
            )
        else:
            layers = [
                nn.Linear(self._inputs(), width), nn.ReLU(),
                nn.Linear(width, width), nn.ReLU(),
                nn.Linear(width, math.prod(shape)),
            ]  # fmt: skip
        self.main = self._sequential(layers)
        first_values(self, "he", rng)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return super().forward(z, y).reshape(len(z), *self.shape)


class Discriminator(BaseDiscriminator):
    """Points (N, features) or images (N, C, H, W) -> scores (N, 1), before any sigmoid.

    width  for points, the width of both hidden layers; for images, they are 4 and 2 times as wide, so
           that 128 gives the table above
    shape  the shape of a sample: (features,) or (C, H, W)
    """

    def __init__(
        self,
        width: int = 128,
        shape: tuple[int, ...] = (2,),
        rng: np.random.Generator | None = None,
        **options: Any,
    ):
        """options: those of BaseDiscriminator."""
        super().__init__(**options)
        first, second = (4 * width, 2 * width) if len(shape) == 3 else (width, width)
        activation = lambda: self._activation(0.2, nn.Dropout)
        layers = [nn.Linear(self._inputs(math.prod(shape)), first), *activation()]
        layers += [nn.Linear(first, second), *activation()]
        minibatch, features = self._minibatch(second, 1)
        layers += [*minibatch, nn.Linear(features, 1)]
        self._finish(layers, features, "he", rng)

    def _features(self, x: Tensor, rows: Tensor | None) -> Tensor:
        return super()._features(x.reshape(len(x), -1), rows)  # (N, C, H, W) -> (N, C H W)
