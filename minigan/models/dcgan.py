"""The documented DCGAN (Radford, Metz & Chintala 2016), with the layers of PyTorch's tutorial.

Its five rules: strided convolutions instead of pooling; batch norm in both networks, but neither at
G's output nor at D's input; no hidden fully connected layers; ReLU in G with tanh at its end;
LeakyReLU in D. The state dict's keys are the tutorial's (`main.0.weight`, `main.1.running_mean`).
"""

from __future__ import annotations

import numpy as np

from .. import init, nn
from ..tensor import Tensor

IMAGE_SIZES = (16, 28, 32, 64, 128, 256)


def _stages(image_size: int) -> tuple[int, int]:
    """The smallest number of pixels per side, and its doublings to the image size: (4, 4) for 64."""
    if image_size not in IMAGE_SIZES:
        legal = ", ".join(map(str, IMAGE_SIZES))
        raise ValueError(f"image_size {image_size} is not one of {legal}")
    smallest = 7 if image_size == 28 else 4  # 28 = 7 * 2^2
    return smallest, (image_size // smallest).bit_length() - 1  # 16 = 2^4 has 5 binary digits


def _initialize(network: nn.Module, rng: np.random.Generator | None) -> None:
    """Convolutions N(0, 0.02), batch norm's scale N(1, 0.02) and shift 0 (section 4 of the paper)."""

    def first_values(module: nn.Module) -> None:
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            init.normal_(module.weight, 0.0, 0.02, rng)
        elif isinstance(module, nn.BatchNorm2d):
            init.normal_(module.weight, 1.0, 0.02, rng)

    network.apply(first_values)


class Generator(nn.Module):
    """Noise z (N, nz, 1, 1) -> images (N, nc, image_size, image_size) in [-1, 1].

    The first layer makes 4 x 4 pixels with ngf * image_size/8 channels (512 for the defaults); for
    MNIST's 28 pixels, 7 x 7 with 2 ngf. Each further layer doubles the pixels per side and halves the
    channels.
    """

    def __init__(
        self,
        nz: int = 100,
        ngf: int = 64,
        nc: int = 3,
        image_size: int = 64,
        rng: np.random.Generator | None = None,
    ):
        self.nz = nz
        smallest, doublings = _stages(image_size)
        width = ngf << (doublings - 1)
        layers = [nn.ConvTranspose2d(nz, width, smallest, 1, 0, bias=False)]  # 1 x 1 -> 4 x 4
        while width > ngf:
            layers += [nn.BatchNorm2d(width), nn.ReLU()]
            layers += [nn.ConvTranspose2d(width, width // 2, 4, 2, 1, bias=False)]
            width //= 2
        layers += [nn.BatchNorm2d(ngf), nn.ReLU()]
        layers += [nn.ConvTranspose2d(ngf, nc, 4, 2, 1, bias=False), nn.Tanh()]
        self.main = nn.Sequential(*layers)
        _initialize(self, rng)

    def forward(self, z: Tensor) -> Tensor:
        return self.main(z.reshape(*z.shape[:2], 1, 1))  # (N, nz) or (N, nz, 1, 1)


class Discriminator(nn.Module):
    """Images (N, nc, image_size, image_size) -> the probability (N, 1, 1, 1) that they are real.

    Each layer halves the pixels per side and doubles the channels; the last one covers all 4 x 4
    pixels (7 x 7 for images of 28). Training uses `logits`, the value before the Sigmoid: see
    `minigan.gans.objectives`.
    """

    def __init__(
        self,
        ndf: int = 64,
        nc: int = 3,
        image_size: int = 64,
        rng: np.random.Generator | None = None,
        norm: str = "batch",
    ):
        """norm is "batch", or "none" for a critic whose slope is penalised: see gans/wgan_gp.py."""
        if norm not in ("batch", "none"):
            raise ValueError(f"Discriminator: norm {norm!r} is not one of batch, none")
        smallest, doublings = _stages(image_size)
        width, last = ndf, ndf << (doublings - 1)
        layers = [nn.Conv2d(nc, ndf, 4, 2, 1, bias=False), nn.LeakyReLU(0.2)]
        while width < last:
            layers += [nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False)]
            layers += [nn.BatchNorm2d(2 * width)] if norm == "batch" else []
            layers += [nn.LeakyReLU(0.2)]
            width *= 2
        layers += [nn.Conv2d(width, 1, smallest, 1, 0, bias=False), nn.Sigmoid()]  # 4 x 4 -> 1 x 1
        self.main = nn.Sequential(*layers)
        _initialize(self, rng)

    def logits(self, x: Tensor) -> Tensor:
        return self.main[:-1](x)

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x)
