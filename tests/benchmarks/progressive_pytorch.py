"""Progressive growing's networks, fully grown, and its step in PyTorch, for family_engines.py.

Images have 32 x 32 pixels and are judged in two batches, as minigan's `progressive` does. The layers
from and to RGB of the smaller sizes exist but take no part. The order of the parameters is minigan's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from stylegan_pytorch import Equal, MinibatchStdDev
from torch import Tensor, nn
from torch.nn import functional as F

PENALTY, DRIFT = 10.0, 1e-3
LEVELS = 4  # 4, 8, 16 and 32 pixels a side
BATCHES = 2


class PixelNorm(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * ((x * x).mean(1, keepdim=True) + 1e-8).rsqrt()


class First(nn.Module):
    """From 1 x 1 to 4 x 4 pixels."""

    def __init__(self, nz: int, width: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(width))
        self.weight = nn.Parameter(torch.empty(nz, width, 4, 4))
        self.scale = (2 / nz) ** 0.5 / 4

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, self.weight * self.scale, self.bias)


class Generator(nn.Module):
    """z (N, nz) -> images of 32 x 32 pixels."""

    def __init__(self, width: int, nz: int) -> None:
        super().__init__()
        act = lambda layer: [layer, nn.LeakyReLU(0.2), PixelNorm()]
        conv = lambda: act(Equal(width, width, 3))
        blocks = [nn.Sequential(*act(First(nz, width)), *conv())]
        blocks += [
            nn.Sequential(nn.Upsample(scale_factor=2), *conv(), *conv()) for _ in range(LEVELS - 1)
        ]
        self.norm, self.blocks = PixelNorm(), nn.ModuleList(blocks)
        self.rgb = nn.ModuleList([Equal(width, 3, 1, 1.0) for _ in range(LEVELS)])

    def forward(self, z: Tensor) -> Tensor:
        x = self.norm(z)[:, :, None, None]
        for block in self.blocks:
            x = block(x)
        return self.rgb[-1](x)


class Discriminator(nn.Module):
    """Images of 32 x 32 pixels -> scores (N, 1, 1, 1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        act = lambda inside, size: [Equal(inside, width, size), nn.LeakyReLU(0.2)]
        last = [MinibatchStdDev(), *act(width + 1, 3), *act(width, 4), Equal(width, 1, 1, 1.0)]
        halves = [[*act(width, 3), *act(width, 3), nn.AvgPool2d(2)] for _ in range(LEVELS - 1)]
        self.blocks = nn.ModuleList([nn.Sequential(*layers) for layers in (last, *halves)])
        self.rgb = nn.ModuleList([nn.Sequential(*act(3, 1)) for _ in range(LEVELS)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.rgb[-1](x)
        for block in reversed(self.blocks):
            x = block(x)
        return x


def networks(width: int, nz: int) -> tuple[nn.Module, nn.Module]:
    return Generator(width, nz), Discriminator(width)


def steps(G: nn.Module, D: nn.Module, optimizers: list) -> Callable[[Any], list[Tensor]]:
    """A function that plays a step, an update for each batch, and returns the last losses."""
    opt_G, opt_D = optimizers

    def update(x: Tensor, z: Tensor, u: Tensor) -> list[Tensor]:
        with torch.no_grad():
            fakes = G(z)
        opt_D.zero_grad()
        real = D(x)
        loss_D = D(fakes).mean() - real.mean()
        between = (u * x + (1 - u) * fakes).requires_grad_()
        (slope,) = torch.autograd.grad(D(between).sum(), between, create_graph=True)
        penalty = ((slope.flatten(1).norm(2, dim=1) - 1) ** 2).mean()
        (loss_D + PENALTY * penalty + DRIFT * (real**2).mean()).backward()
        opt_D.step()
        D.requires_grad_(False)
        opt_G.zero_grad()
        loss_G = -D(G(z)).mean()
        loss_G.backward()
        opt_G.step()
        D.requires_grad_(True)
        return [loss_D.detach(), loss_G.detach()]

    def step(given: Any) -> list[Tensor]:
        for drawn in zip(*(each.chunk(BATCHES) for each in given[:3]), strict=True):
            losses = update(*drawn)
        return losses

    return step
