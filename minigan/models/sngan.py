"""The convolutional SNGAN (Miyato, Kataoka, Koyama & Yoshida 2018), as in chainer-gan-lib.

    G   a linear layer to (image_size/8)^2 pixels with 512 channels; transposed convolutions to 256, 128
        and 64 channels, each of which doubles the pixels per side; a convolution to the colours; batch
        norm, ReLU, tanh
    D   a 3 x 3 convolution to 64 channels and a 4 x 4 one with stride 2 to 128; two more such pairs, to
        256 and 512; a last 3 x 3 convolution and a linear layer; leaky ReLU of slope 0.1; spectral norm
        in every layer

D has no batch norm, because it would undo what spectral norm does to the scale.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import nn
from ..tensor import Tensor
from .base import BaseDiscriminator, BaseGenerator
from .first_values import first_values

IMAGE_SIZES = (16, 32, 64)
DOUBLINGS = 3  # of the pixels per side in G: 32 = 4 * 2^3


def _start(image_size: int) -> int:
    """The pixels per side at G's start and at D's end: 4 for 32."""
    if image_size not in IMAGE_SIZES:
        legal = ", ".join(map(str, IMAGE_SIZES))
        raise ValueError(f"image_size {image_size} is not one of {legal}")
    return image_size >> DOUBLINGS


class Generator(BaseGenerator):
    """Noise z (N, nz) -> images (N, nc, image_size, image_size) in [-1, 1].

    ngf  channels before the last layer; the first has 8 ngf. Labels and errors: see BaseGenerator.
    """

    def __init__(
        self,
        nz: int = 128,
        ngf: int = 64,
        nc: int = 3,
        image_size: int = 32,
        rng: np.random.Generator | None = None,
        *,
        classes: int = 0,
        condition: str = "one-hot",
    ):
        super().__init__(nz, classes, condition)
        self.start = _start(image_size)
        width = ngf << DOUBLINGS
        self.dense = nn.Linear(self._inputs(), width * self.start**2)
        layers: list[nn.Module] = []
        for _ in range(DOUBLINGS):
            layers += [self._norm(nn.BatchNorm2d, width), nn.ReLU()]
            layers += [nn.ConvTranspose2d(width, width // 2, 4, 2, 1)]
            width //= 2
        layers += [self._norm(nn.BatchNorm2d, ngf), nn.ReLU()]
        self.main = self._sequential([*layers, nn.Conv2d(ngf, nc, 3, 1, 1), nn.Tanh()])
        first_values(self, "normal", rng)

    def _start(self, z: Tensor) -> Tensor:
        x = self.dense(z)
        return x.reshape(len(x), -1, self.start, self.start)  # (N, C s s) -> (N, C, s, s)


class Discriminator(BaseDiscriminator):
    """Images (N, nc, image_size, image_size) -> scores (N, 1, 1, 1), before any sigmoid.

    ndf  channels of the first layer; the last has 8 ndf. Spectral norm is on by default.
    """

    def __init__(
        self,
        ndf: int = 64,
        nc: int = 3,
        image_size: int = 32,
        rng: np.random.Generator | None = None,
        *,
        spectral_norm: bool = True,
        **options: Any,
    ):
        """options: the other options of BaseDiscriminator."""
        super().__init__(spectral_norm=spectral_norm, **options)
        end, width, channels = _start(image_size), ndf, self._inputs(nc)
        layers: list[nn.Module] = []
        for _ in range(DOUBLINGS):
            layers += [nn.Conv2d(channels, width, 3, 1, 1), *self._behind()]
            layers += [nn.Conv2d(width, 2 * width, 4, 2, 1), *self._behind()]
            width *= 2
            channels = width
        layers += [nn.Conv2d(width, width, 3, 1, 1), *self._behind()]
        minibatch, features = self._minibatch(width, end * end)
        # The linear layer is a convolution that covers all pixels, so that features stay images.
        self._finish([*layers, *minibatch, nn.Conv2d(features, 1, end)], features, "normal", rng)

    def _behind(self) -> list[nn.Module]:
        return self._activation(0.1, nn.Dropout2d)
