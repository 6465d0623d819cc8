"""StyleGAN's networks and step in PyTorch, as a careful user writes them, for family_engines.py.

The layers are those of minigan's `stylegan` with AdaIN, without style mixing. Fakes of D's half are
made without a graph, and D is frozen in G's half. The order of the parameters is minigan's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

R1 = 10.0
LAYERS, RATE = 8, 0.01  # of the mapping network
GROUP = 4


class Equal(nn.Module):
    """A layer with an equalised learning rate: a convolution, or with size 0 a linear layer."""

    def __init__(self, inside: int, out: int, size: int, gain: float = 2**0.5) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(out))
        self.weight = nn.Parameter(torch.empty(out, inside, *[size, size] * (size > 0)))
        self.scale = gain / (inside * max(1, size) ** 2) ** 0.5
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        if not self.size:
            return F.linear(x, self.weight * self.scale, self.bias)
        padding = 1 if self.size == 3 else 0
        return F.conv2d(x, self.weight * self.scale, self.bias, padding=padding)


class Slow(nn.Module):
    """A layer of the mapping network."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.scale = RATE * (2 / width) ** 0.5

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(F.linear(x, self.weight * self.scale, self.bias * RATE), 0.2)


class Layer(nn.Module):
    """Convolution, noise, leaky ReLU, AdaIN."""

    def __init__(self, inside: int, out: int, nz: int, doubles: bool) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.empty(out, 1, 1))
        self.conv = Equal(inside, out, 3) if inside else None
        self.style, self.doubles = Equal(nz, 2 * out, 0, 1.0), doubles

    def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        if self.doubles:
            x = F.interpolate(x, scale_factor=2, mode="bilinear")
        x = x if self.conv is None else self.conv(x)
        scale, shift = self.style(w)[:, :, None, None].chunk(2, 1)
        x = F.leaky_relu(x + noise * self.strength, 0.2)
        return F.instance_norm(x, eps=1e-8) * (1 + scale) + shift


class Generator(nn.Module):
    """z (N, nz) and noise (N, pixels) -> images of 32 x 32 pixels."""

    def __init__(self, width: int, nz: int) -> None:
        super().__init__()
        self.mapping = nn.ModuleList([Slow(nz) for _ in range(LAYERS)])
        self.constant = nn.Parameter(torch.empty(1, width, 4, 4))
        self.sizes = [4, 4, 8, 8, 16, 16, 32, 32]
        self.layers = nn.ModuleList(
            [Layer(width * (i > 0), width, nz, i in (2, 4, 6)) for i in range(8)]
        )
        self.rgb = Equal(width, 3, 1, 1.0)

    def parameters(self, recurse: bool = True) -> Any:
        yield from self.mapping.parameters()
        yield self.constant
        yield from self.layers.parameters()
        yield from self.rgb.parameters()

    def forward(self, z: Tensor, noise: Tensor) -> Tensor:
        w = z * ((z * z).mean(1, keepdim=True) + 1e-8).rsqrt()
        for layer in self.mapping:
            w = layer(w)
        x, planes = (
            self.constant.expand(len(z), -1, -1, -1),
            noise.split([n * n for n in self.sizes], 1),
        )
        for layer, plane, n in zip(self.layers, planes, self.sizes, strict=True):
            x = layer(x, w, plane.reshape(-1, 1, n, n))
        return self.rgb(x)


class MinibatchStdDev(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        groups = x.reshape(GROUP, len(x) // GROUP, -1)
        std = (groups.var(0, correction=0) + 1e-8).sqrt().mean(1)
        plane = std.repeat(GROUP)[:, None, None, None].expand(-1, 1, *x.shape[2:])
        return torch.cat([x, plane], 1)


def discriminator(width: int) -> nn.Module:
    """Images of 32 x 32 pixels -> scores (N, 1, 1, 1)."""
    act = lambda inside, out, size: [Equal(inside, out, size), nn.LeakyReLU(0.2)]
    half = lambda: [*act(width, width, 3), *act(width, width, 3), nn.AvgPool2d(2)]
    last = [MinibatchStdDev(), *act(width + 1, width, 3), *act(width, width, 4)]
    layers = [*act(3, width, 1), *half(), *half(), *half(), *last, Equal(width, 1, 1, 1.0)]
    return nn.Sequential(*layers)


def networks(width: int, nz: int) -> tuple[nn.Module, nn.Module]:
    return Generator(width, nz), discriminator(width)


def steps(
    G: nn.Module, D: nn.Module, optimizers: list, penalised: bool
) -> Callable[[Any], list[Tensor]]:
    """A function that plays a step, and returns D's loss and G's; with R1 in each if `penalised`."""
    opt_G, opt_D = optimizers

    def step(given: Any) -> list[Tensor]:
        with torch.no_grad():
            fakes = G(given.z, given.planes)
        opt_D.zero_grad()
        loss_D = F.softplus(-D(given.x)).mean() + F.softplus(D(fakes)).mean()
        descended = loss_D
        if penalised:
            x = given.x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(D(x).sum(), x, create_graph=True)
            descended = loss_D + R1 / 2 * slope.square().flatten(1).sum(1).mean()
        descended.backward()
        opt_D.step()
        D.requires_grad_(False)
        opt_G.zero_grad()
        loss_G = F.softplus(-D(G(given.z, given.planes))).mean()
        loss_G.backward()
        opt_G.step()
        D.requires_grad_(True)
        return [loss_D.detach(), loss_G.detach()]

    return step
