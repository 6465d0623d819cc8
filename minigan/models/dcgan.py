"""The documented DCGAN (Radford, Metz & Chintala 2016), with the layers of PyTorch's tutorial.

Its five rules: strided convolutions instead of pooling; batch norm in both networks, except at G's
output and at D's input; no hidden fully connected layers; ReLU in G, with tanh at its end; LeakyReLU in
D. The state dict's keys are the tutorial's (`main.0.weight`, `main.1.running_mean`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import nn
from ..tensor import Tensor
from .base import BaseDiscriminator, BaseGenerator
from .first_values import first_values

IMAGE_SIZES = (16, 28, 32, 64, 128, 256)


def stages(image_size: int) -> tuple[int, int]:
    """(pixels per side at the start, number of doublings): 64 = 4 * 2^4 gives (4, 4).

    28 = 7 * 2^2 starts from 7 x 7 pixels, all other sizes from 4 x 4. Raises ValueError for a size that
    is not one of IMAGE_SIZES.
    """
    if image_size not in IMAGE_SIZES:
        legal = ", ".join(map(str, IMAGE_SIZES))
        raise ValueError(f"image_size {image_size} is not one of {legal}")
    start = 7 if image_size == 28 else 4
    return start, (image_size // start).bit_length() - 1  # bit_length of 2^n is n + 1


class Generator(BaseGenerator):
    """Noise z (N, nz) or (N, nz, 1, 1) -> images (N, nc, image_size, image_size) in [-1, 1].

    The first layer makes 4 x 4 pixels (7 x 7 for images of 28 x 28) with ngf * 2^(n - 1) channels,
    where n is the number of doublings (512 for the defaults). Each further layer doubles the pixels per
    side and halves the channels, except that the last one makes nc. Labels and errors: see
    BaseGenerator.
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
        start, doublings = stages(image_size)
        width = ngf << (doublings - 1)
        layers = [nn.ConvTranspose2d(self._inputs(), width, start, 1, 0, bias=False)]  # from 1 x 1
        while width > ngf:
            layers += [self._norm(nn.BatchNorm2d, width), nn.ReLU()]
            layers += [nn.ConvTranspose2d(width, width // 2, 4, 2, 1, bias=False)]
            width //= 2
        layers += [self._norm(nn.BatchNorm2d, ngf), nn.ReLU()]
        layers += [nn.ConvTranspose2d(ngf, nc, 4, 2, 1, bias=False), nn.Tanh()]
        self.main = self._sequential(layers)
        first_values(self, "normal", rng)

    def _start(self, z: Tensor) -> Tensor:
        return z.reshape(*z.shape, 1, 1)  # (N, nz) -> (N, nz, 1, 1)


class Discriminator(BaseDiscriminator):
    """Images (N, nc, image_size, image_size) -> the probability (N, 1, 1, 1) that they are real.

    Each layer halves the pixels per side and doubles the channels; the last one covers all 4 x 4 (or
    7 x 7) pixels. Training uses `logits`, the score before the Sigmoid: see `minigan.gans.objectives`.
    """

    last = -2  # the Sigmoid comes after it

    def __init__(
        self,
        ndf: int = 64,
        nc: int = 3,
        image_size: int = 64,
        rng: np.random.Generator | None = None,
        norm: str = "batch",
        **options: Any,
    ):
        """norm: "batch", "layer" or "none"; not "batch" if D's slope is penalised: see gans/wgan_gp.py.

        options: those of BaseDiscriminator.
        """
        super().__init__(**options)
        if norm not in _NORMS:
            raise ValueError(f"Discriminator: norm {norm!r} is not one of {', '.join(_NORMS)}")
        start, doublings = stages(image_size)
        activation = lambda: self._activation(0.2, nn.Dropout2d)
        layers = [nn.Conv2d(self._inputs(nc), ndf, 4, 2, 1, bias=False), *activation()]
        width = ndf
        for _ in range(doublings - 1):
            layers += [nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False)]
            layers += [*_NORMS[norm](2 * width), *activation()]
            width *= 2
        minibatch, features = self._minibatch(width, start * start)
        layers += [*minibatch, nn.Conv2d(features, 1, start, 1, 0, bias=False)]  # 4 x 4 -> 1 x 1
        layers += [nn.Sigmoid()]
        self._finish(layers, features, "normal", rng)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.main[-1](self.logits(x, y))


# By name, the norm after a convolution with this number of channels. Layer norm is over all channels
# and pixels of an image, with a scale and a shift for each channel: group norm with one group.
_NORMS = {
    "batch": lambda channels: [nn.BatchNorm2d(channels)],
    "layer": lambda channels: [nn.GroupNorm(1, channels)],
    "none": lambda channels: [],
}
