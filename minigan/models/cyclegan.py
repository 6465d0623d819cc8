"""The networks of CycleGAN (Zhu, Park, Isola & Efros 2017, appendix 7.2), from images to images.

    G   c7s1-64, d128, d256, then 9 residual blocks (6 for images of 128 pixels), u128, u64, c7s1-3
    D   C64, C128, C256, C512, and a last convolution: a score for each of many overlapping patches

c7s1-k is a 7 x 7 convolution with k channels, dk and uk are 3 x 3 convolutions that halve and double
the pixels per side, and Ck is a 4 x 4 convolution with stride 2 (1 in the last Ck). Each is followed by
instance norm, without scale and shift, and by ReLU, or in D by LeakyReLU of slope 0.2. Three layers
have no norm: D's first, G's last, which ends in tanh, and D's last, which ends in nothing. The 7 x 7
convolutions and the blocks of G mirror images at their edges, because zeros would leave traces there.

The state dicts have the keys of the authors' code, pytorch-CycleGAN-and-pix2pix (`model.1.weight`,
`model.10.conv_block.1.weight`), and their files load: see `from_reference`. As there, convolutions have
biases even where the norm behind them subtracts the bias again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import nn
from ..nn.checks import sizes
from ..ops import where
from ..tensor import Tensor
from .first_values import first_values

DOUBLINGS = 2  # of the channels in G, on the way to its blocks
SMALLEST = 3  # pixels per side that D's halvings must leave
MOST_WIDER = 8  # D's layers have at most this many times the channels of its first


class Block(nn.Module):
    """x + F(x), where F is two 3 x 3 convolutions: (N, C, H, W) -> the same shape.

    He, Zhang, Ren & Sun 2016, without a ReLU behind the sum (Johnson, Alahi & Fei-Fei 2016).
    """

    def __init__(self, channels: int):
        self.conv_block = nn.Sequential(
            *(nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3)),
            *(nn.InstanceNorm2d(channels), nn.ReLU()),
            *(nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3)),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


class Generator(nn.Module):
    """Images (N, nc, H, W) of one domain -> images of the other, of the same shape, in [-1, 1].

    ngf     channels of the first layer; the blocks have 4 ngf
    blocks  number of residual blocks: 9 in the paper, 6 for images of 128 pixels

    Raises ValueError in `forward` unless H and W are multiples of 4 and at least 8, because the other
    sizes cannot be halved twice and doubled again, or mirrored in a block.
    """

    def __init__(
        self,
        ngf: int = 64,
        nc: int = 3,
        blocks: int = 9,
        rng: np.random.Generator | None = None,
    ):
        width, nc, blocks = sizes("Generator", ngf=ngf, nc=nc, blocks=blocks)
        behind = lambda channels: [nn.InstanceNorm2d(channels), nn.ReLU()]
        layers = [nn.ReflectionPad2d(3), nn.Conv2d(nc, width, 7), *behind(width)]
        for _ in range(DOUBLINGS):
            layers += [nn.Conv2d(width, 2 * width, 3, 2, 1), *behind(2 * width)]
            width *= 2
        layers += [Block(width) for _ in range(blocks)]
        for _ in range(DOUBLINGS):
            layers += [nn.ConvTranspose2d(width, width // 2, 3, 2, 1, output_padding=1)]
            layers += behind(width // 2)
            width //= 2
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(width, nc, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)
        first_values(self, "normal", rng)

    def forward(self, x: Tensor) -> Tensor:
        if any(size % 4 or size < 8 for size in x.shape[2:]):
            raise ValueError(
                f"Generator: images {x.shape[2:]} must have sides that are multiples of 4, at least 8"
            )
        return self.model(x)


class Discriminator(nn.Module):
    """Images (N, nc, H, W) -> scores (N, 1, h, w), one for each patch (PatchGAN: Isola et al. 2017).

    ndf     channels of the first layer; each further layer has twice as many, up to 8 ndf
    layers  number of layers with stride 2, n

    h = H / 2^n - 2, rounded down, and so is w: 256 pixels give 30 x 30 scores. The convolutions behind
    a score see (9 * 2^n - 2) x (9 * 2^n - 2) pixels: 16, 34 or 70 a side for n = 1, 2 or 3. The rest
    of the image affects a score only by the statistics of the instance norms. Part of an outer patch
    is zeros, which the convolutions add at the edges.

    Raises ValueError in `forward` for images of less than 3 * 2^n pixels a side, because the last norm
    would see single pixels and return 0.
    """

    def __init__(
        self,
        ndf: int = 64,
        nc: int = 3,
        layers: int = 3,
        rng: np.random.Generator | None = None,
    ):
        ndf, nc, self.layers = sizes("Discriminator", ndf=ndf, nc=nc, layers=layers)
        model = [nn.Conv2d(nc, ndf, 4, 2, 1), nn.LeakyReLU(0.2)]
        width = ndf
        for n in range(1, self.layers + 1):
            wider, stride = ndf * min(2**n, MOST_WIDER), 1 if n == self.layers else 2
            model += [nn.Conv2d(width, wider, 4, stride, 1)]
            model += [nn.InstanceNorm2d(wider), nn.LeakyReLU(0.2)]
            width = wider
        self.model = nn.Sequential(*model, nn.Conv2d(width, 1, 4, 1, 1))
        first_values(self, "normal", rng)

    def forward(self, x: Tensor) -> Tensor:
        least = SMALLEST << self.layers
        if any(size < least for size in x.shape[2:]):
            raise ValueError(
                f"Discriminator: images {x.shape[2:]} must be at least {least} pixels a side with "
                f"layers={self.layers}; use fewer layers"
            )
        return self.model(x)


class Generators(nn.Module):
    """A generator for each direction: `to_A` maps images of domain B to A, and `to_B` those of A to B.

    Calling it with images x (N, nc, H, W) and target domains y (N,), 0 for A and 1 for B, translates
    each image into its target domain: (N, nc, H, W).
    """

    def __init__(self, ngf: int, nc: int, blocks: int, rng: np.random.Generator | None = None):
        self.to_A = Generator(ngf, nc, blocks, rng)
        self.to_B = Generator(ngf, nc, blocks, rng)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        is_B = y.reshape(-1, 1, 1, 1)  # (N,) -> (N, 1, 1, 1)
        return where(is_B, self.to_B(x), self.to_A(x))


class Discriminators(nn.Module):
    """A discriminator for each domain: `of_A` tells images of A from fakes, and `of_B` those of B."""

    def __init__(self, ndf: int, nc: int, layers: int, rng: np.random.Generator | None = None):
        self.of_A = Discriminator(ndf, nc, layers, rng)
        self.of_B = Discriminator(ndf, nc, layers, rng)


def most_layers(size: int) -> int:
    """The largest number of layers with stride 2 that D may have for images of this size."""
    return (size // SMALLEST).bit_length() - 1  # bit_length of 2^n is n + 1


def from_reference(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """A state dict of the authors' code, ready for `load_state_dict` of these networks.

    Their first models were saved with running statistics of the instance norms. Their code deletes
    these when it loads such a file, and so does this function.
    """
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    return {name: t for name, t in state_dict.items() if not name.endswith(statistics)}
