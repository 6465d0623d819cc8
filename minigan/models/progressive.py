"""The networks of progressive growing (Karras, Aila, Laine & Lehtinen 2018, table 2).

They grow from 4 x 4 pixels by doubling. All layers exist from the beginning, so a checkpoint always has
the same form, but only some of them take part. This depends on the `level`, a number that is given with
every call:

    k          the networks for 4 2^k pixels a side
    k - 1 + a  with 0 < a < 1, the fade from k - 1 to k

With up(x) as each pixel repeated, down(x) as the mean of each 2 x 2 pixels, and x as what the layers
before have made,

    G  (1 - a) up(to_rgb[k-1](x)) + a to_rgb[k](block[k](up(x)))
    D  (1 - a) from_rgb[k-1](down(image)) + a block[k](from_rgb[k](image)), then blocks k - 1, ..., 0

so at first the new block changes nothing, and at the end the old way past it is closed. Reals must be
faded too: see `faded`.

Every layer has an equalised learning rate. G has pixel norm behind each activation, and D shows its
last block the standard deviation over the batch. Neither network has batch norm, tanh or sigmoid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from .. import functional as F
from .. import nn
from ..tensor import Tensor
from .equalized import equalized
from .layers import MinibatchStdDev, PixelNorm

START = 4  # pixels per side at level 0
FULL_WIDTH = 32  # pixels per side up to which all blocks have the same number of channels


def doublings(image_size: int) -> int:
    """The last level: 64 = 4 * 2^4 gives 4. Raises ValueError for a size that is not 4 * 2^n."""
    n = (image_size // START).bit_length() - 1  # bit_length of 2^n is n + 1
    if image_size != START << max(n, 0):
        raise ValueError(f"image_size {image_size} is not {START} times a power of two")
    return n


def position(level: float) -> tuple[int, float]:
    """(k, a) of the docstring above; a = 1 if nothing fades."""
    k = math.ceil(level)
    return k, level - k + 1


def channels(width: int, k: int) -> int:
    """The channels behind block k: `width` up to 32 pixels a side, then half as many at each level.

    With a width of 512, this is the min(8192 / 2^stage, 512) of the authors' code.
    """
    return max(1, width >> max(0, k - doublings(FULL_WIDTH)))


def up(x: Tensor) -> Tensor:
    """Each pixel repeated: (N, C, H, W) -> (N, C, 2H, 2W)."""
    return F.interpolate(x, scale_factor=2)


def down(x: Tensor, times: int = 2) -> Tensor:
    """The mean of each `times` x `times` pixels: (N, C, H, W) -> (N, C, H / times, W / times)."""
    return F.avg_pool2d(x, times) if times > 1 else x


def faded(images: Tensor, level: float) -> Tensor:
    """Reals as D sees them at this level: (N, C, S, S) -> (N, C, 4 2^k, 4 2^k).

    They are made smaller, and in a fade their finest details appear as slowly as those of G. Otherwise
    D would tell reals from fakes by the details that G cannot draw yet.
    """
    k, a = position(level)
    x = down(images, images.shape[3] // (START << k))
    return x if a == 1 else _fade(up(down(x)), x, a)


def _fade(old: Tensor, new: Tensor, a: float) -> Tensor:
    return (1 - a) * old + a * new


class _Growing(nn.Module):
    """What both networks share: a block and a layer from or to RGB for each level.

    blocks, rgb  by level
    """

    blocks: nn.ModuleList
    rgb: nn.ModuleList

    def used(self, level: float) -> list[nn.Parameter]:
        """The parameters that take part at this level."""
        k, a = position(level)
        parts = [*list(self.blocks)[: k + 1], self.rgb[k], *([self.rgb[k - 1]] if a < 1 else [])]
        return [p for part in parts for p in part.parameters()]


class Generator(_Growing):
    """Noise z (N, nz) and a level -> images (N, nc, 4 2^k, 4 2^k), without bounds.

    ngf  the channels of all blocks up to 32 pixels a side; beyond, see `channels`

    z is divided by its root mean square, so only its direction counts. Raises ValueError for an
    image_size that is not 4 * 2^n.
    """

    def __init__(
        self,
        nz: int = 512,
        ngf: int = 512,
        nc: int = 3,
        image_size: int = 64,
        rng: np.random.Generator | None = None,
    ):
        widths = [channels(ngf, k) for k in range(doublings(image_size) + 1)]
        activated = lambda layer: [equalized(layer, rng), nn.LeakyReLU(0.2), PixelNorm()]
        conv = lambda inside, out: activated(nn.Conv2d(inside, out, 3, 1, 1))
        first = activated(nn.ConvTranspose2d(nz, widths[0], START))  # from 1 x 1 to 4 x 4 pixels
        self.norm = PixelNorm()
        self.blocks = nn.ModuleList([nn.Sequential(*first, *conv(widths[0], widths[0]))])
        for before, width in pairwise(widths):
            self.blocks.append(nn.Sequential(*conv(before, width), *conv(width, width)))
        to_rgb = [equalized(nn.Conv2d(width, nc, 1), rng, gain=1.0) for width in widths]
        self.rgb = nn.ModuleList(to_rgb)

    def forward(self, z: Tensor, level: float) -> Tensor:
        k, a = position(level)
        x = old = self.norm(z).reshape(*z.shape, 1, 1)  # (N, nz) -> (N, nz, 1, 1)
        for i in range(k + 1):
            old, x = x, self.blocks[i](up(x) if i else x)
        image = self.rgb[k](x)
        return image if a == 1 else _fade(up(self.rgb[k - 1](old)), image, a)


class Discriminator(_Growing):
    """Images (N, nc, 4 2^k, 4 2^k) and a level -> scores (N,), without bounds.

    ndf  the channels of all blocks up to 32 pixels a side; beyond, see `channels`

    N must be at most 4 or a multiple of 4: see MinibatchStdDev. Raises ValueError for an image_size
    that is not 4 * 2^n.
    """

    def __init__(
        self,
        ndf: int = 512,
        nc: int = 3,
        image_size: int = 64,
        rng: np.random.Generator | None = None,
    ):
        widths = [channels(ndf, k) for k in range(doublings(image_size) + 1)]
        self.blocks = nn.ModuleList(shrinking(widths, rng))
        activated = lambda layer: [equalized(layer, rng), nn.LeakyReLU(0.2)]
        from_rgb = [nn.Sequential(*activated(nn.Conv2d(nc, width, 1))) for width in widths]
        self.rgb = nn.ModuleList(from_rgb)

    def forward(self, image: Tensor, level: float) -> Tensor:
        k, a = position(level)
        x = self.rgb[k](image)
        for i in reversed(range(k + 1)):
            x = self.blocks[i](x)
            if i == k and a < 1:
                x = _fade(self.rgb[k - 1](down(image)), x, a)
        return x.reshape(-1)  # (N, 1, 1, 1) -> (N,)


def shrinking(widths: Sequence[int], rng: np.random.Generator | None) -> list[nn.Sequential]:
    """The blocks of D: the last one, 4 x 4 pixels -> scores, and those that halve the image before it.

    widths  the channels in front of each block: (N, widths[k], 4 2^k, 4 2^k) -> k - 1
    """
    activated = lambda layer: [equalized(layer, rng), nn.LeakyReLU(0.2)]
    conv = lambda inside, out: activated(nn.Conv2d(inside, out, 3, 1, 1))
    last = [MinibatchStdDev(), *conv(widths[0] + 1, widths[0])]
    last += activated(nn.Conv2d(widths[0], widths[0], START))  # covers all 4 x 4 pixels
    last += [equalized(nn.Conv2d(widths[0], 1, 1), rng, gain=1.0)]
    blocks = [nn.Sequential(*last)]
    for behind, width in pairwise(widths):
        layers = [*conv(width, width), *conv(width, behind), nn.AvgPool2d(2)]
        blocks.append(nn.Sequential(*layers))
    return blocks
