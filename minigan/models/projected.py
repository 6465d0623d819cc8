"""The DCGAN of the paper's figure 1, whose generator begins with a projection of the noise.

Radford, Metz & Chintala 2016: a linear layer projects z to 4 x 4 pixels with 1024 channels, and each
further layer halves the channels: 1024 - 512 - 256 - 128 - 3 for 64 x 64 pixels. PyTorch's tutorial has
512 - 256 - 128 - 64 - 3. D is also twice as wide: 3 - 128 - 256 - 512 - 1024 - 1.

The projection computes the same as the first layer in `dcgan.py`, because a transposed convolution of a
single pixel is a linear layer. So only the widths and the names in G's state dict differ.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import nn
from ..tensor import Tensor
from . import dcgan
from .base import BaseGenerator
from .dcgan import IMAGE_SIZES as IMAGE_SIZES
from .dcgan import stages
from .first_values import first_values


class Generator(BaseGenerator):
    """Noise z (N, nz) -> images (N, nc, image_size, image_size) in [-1, 1].

    The projection has ngf * 2^n channels, where n is the number of doublings (1024 for the defaults).
    Labels and errors: see BaseGenerator.
    """

    def __init__(
        self,
        nz: int = 100,
        ngf: int = 64,
        nc: int = 3,
        image_size: int = 64,
        rng: np.random.Generator | None = None,
        *,
        classes: int = 0,
        condition: str = "one-hot",
    ):
        super().__init__(nz, classes, condition)
        self.start, doublings = stages(image_size)
        width = ngf << doublings
        self.projection = nn.Linear(self._inputs(), width * self.start**2, bias=False)
        layers: list[nn.Module] = []
        for i in range(doublings):
            out = nc if i == doublings - 1 else width // 2
            layers += [self._norm(nn.BatchNorm2d, width), nn.ReLU()]
            layers += [nn.ConvTranspose2d(width, out, 4, 2, 1, bias=False)]
            width //= 2
        self.main = self._sequential([*layers, nn.Tanh()])
        first_values(self, "normal", rng)

    def _start(self, z: Tensor) -> Tensor:
        x = self.projection(z)
        return x.reshape(len(x), -1, self.start, self.start)  # (N, C s s) -> (N, C, s, s)


class Discriminator(dcgan.Discriminator):
    """dcgan.Discriminator with layers twice as wide; the arguments are the same."""

    def __init__(
        self,
        ndf: int = 64,
        nc: int = 3,
        image_size: int = 64,
        rng: np.random.Generator | None = None,
        norm: str = "batch",
        **options: Any,
    ):
        super().__init__(2 * ndf, nc, image_size, rng, norm, **options)
