"""CycleGAN's networks and step in PyTorch, as a careful user writes them, for family_engines.py.

The generators have instance norm and residual blocks; D is frozen in the half of the generators. There
is no pool of earlier fakes, in minigan neither, so that a step needs no random numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import l1_loss

CYCLE, IDENTITY = 10.0, 0.5  # minigan's defaults


def generator(width: int, blocks: int) -> nn.Module:
    """Images (N, 3, H, W) -> the same shape: Zhu et al. 2017, appendix 7.2."""
    norm = lambda channels: (nn.InstanceNorm2d(channels), nn.ReLU(True))
    wide = 4 * width
    return nn.Sequential(
        *(nn.ReflectionPad2d(3), nn.Conv2d(3, width, 7), *norm(width)),
        *(nn.Conv2d(width, 2 * width, 3, 2, 1), *norm(2 * width)),
        *(nn.Conv2d(2 * width, wide, 3, 2, 1), *norm(wide)),
        *(Block(wide) for _ in range(blocks)),
        *(nn.ConvTranspose2d(wide, 2 * width, 3, 2, 1, 1), *norm(2 * width)),
        *(nn.ConvTranspose2d(2 * width, width, 3, 2, 1, 1), *norm(width)),
        *(nn.ReflectionPad2d(3), nn.Conv2d(width, 3, 7), nn.Tanh()),
    )


class Block(nn.Module):
    """x + F(x)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = lambda: (
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
        )
        self.main = nn.Sequential(*half(), nn.ReLU(True), *half())

    def forward(self, x: Tensor) -> Tensor:
        return x + self.main(x)


def discriminator(width: int) -> nn.Module:
    """Images (N, 3, H, W) -> a score for each patch of 70 x 70 pixels."""
    layers = [nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2, True)]
    for n in range(3):
        layers += [nn.Conv2d(width << n, width << (n + 1), 4, 1 if n == 2 else 2, 1)]
        layers += [nn.InstanceNorm2d(width << (n + 1)), nn.LeakyReLU(0.2, True)]
    return nn.Sequential(*layers, nn.Conv2d(8 * width, 1, 4, 1, 1))


def networks(width: int, blocks: int) -> tuple[nn.Module, nn.Module]:
    """Both generators, to domains A and B, and both discriminators."""
    pair = lambda make: nn.ModuleList([make() for _ in "AB"])
    return pair(lambda: generator(width, blocks)), pair(lambda: discriminator(width))


def steps(G: nn.Module, D: nn.Module, optimizers: list) -> Callable[[Any], list[Tensor]]:
    """A function that plays a step on images of both domains, and returns D's loss and G's."""
    (to_A, to_B), (of_A, of_B), (opt_G, opt_D) = G, D, optimizers
    square = lambda scores, label: ((scores - label) ** 2).mean()

    def step(given: Any) -> list[Tensor]:
        a, b = given.each_class()
        D.requires_grad_(False)
        opt_G.zero_grad()
        fake_b, fake_a = to_B(a), to_A(b)
        loss_G = square(of_B(fake_b), 1) + square(of_A(fake_a), 1)
        cycle = l1_loss(to_A(fake_b), a) + l1_loss(to_B(fake_a), b)
        identity = l1_loss(to_B(b), b) + l1_loss(to_A(a), a)
        (loss_G + CYCLE * cycle + CYCLE * IDENTITY * identity).backward()
        opt_G.step()
        D.requires_grad_(True)
        opt_D.zero_grad()
        loss_D = square(of_B(b), 1) + square(of_B(fake_b.detach()), 0)
        loss_D = (loss_D + square(of_A(a), 1) + square(of_A(fake_a.detach()), 0)) / 2
        loss_D.backward()
        opt_D.step()
        return [loss_D.detach(), loss_G.detach()]

    return step
