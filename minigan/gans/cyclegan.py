"""CycleGAN (Zhu, Park, Isola & Efros 2017): translating between two domains without pairs.

G = to_B maps images a of domain A to B, and F = to_A maps images b of B to A. D_A and D_B judge
patches.

G and F descend together
    mean (D_B(G(a)) - 1)^2 + mean (D_A(F(b)) - 1)^2            each fake should pass for real
    + cycle (mean |F(G(a)) - a| + mean |G(F(b)) - b|)          there and back again (equation 2)
    + cycle identity (mean |G(b) - b| + mean |F(a) - a|)       leave alone what is there already

D_A and D_B descend
    1/2 mean (D_B(b) - 1)^2 + 1/2 mean D_B(g)^2,  likewise for D_A

where g is an earlier fake from a pool (see pool.py). The first line is the least squares game of
section 4, with the factors of the authors' code: 1 for G and F, 1/2 for D. The identity term (section
5.2) feeds each generator with images of its *target* domain; without it colours may wander. The
generators move first.

One Adam moves both generators, and one both discriminators. The authors keep the rate of 2e-4 for 100
epochs and let it fall to 0 in 100 more: with n steps in an epoch, this is --lr-decay-start 99n and
--lr-decay 101n.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import UserError
from ..functional import l1_loss
from ..models import cyclegan, first_values
from ..nn import Module
from ..optim import Adam
from ..options import option
from ..pieces import cat
from ..tensor import Tensor
from . import base
from .base import GAN
from .draw import Draw, Scalar
from .objectives import FAKE, REAL
from .player import Group, Player
from .pool import Pool
from .signs import SATURATED, frozen_generator

NAMES = ("A", "B")  # of the domains
LARGE = 256  # pixels per side from which the paper uses 9 blocks, and below it 6
LAYERS = 3  # of the discriminators, unless the images are too small


@dataclass(frozen=True)
class Options(base.Common):
    batch_size: int = option(
        1, "samples of each domain per batch", least=1, most=10**9, flags=["--batchSize"]
    )
    beta1: float = option(0.5, "first beta of both Adams", least=0, below=1)
    beta2: float = option(0.999, "second beta of both Adams", least=0, below=1)
    cycle: float = option(10.0, "weight of the cycle error", least=0, most=1e6)
    identity: float = option(
        0.5, "weight of the identity error, relative to --cycle", least=0, most=1e6
    )
    pool_size: int = option(50, "earlier fakes of each domain, for D", least=0, most=10_000)
    blocks: int | None = option(
        None,
        f"residual blocks in G; by default 9, or 6 for images of less than {LARGE} pixels",
        least=1,
        most=50,
    )
    d_layers: int | None = option(
        None,
        f"layers of D that halve the image; by default {LAYERS}, or as many as fit a small image",
        least=1,
        most=6,
    )


class CycleGAN(GAN):
    """Zhu et al. 2017: translates images between two domains, from data without pairs."""

    Options = Options
    conditional = translates = only_images = True

    def build(self, rng: np.random.Generator, device: str, group: Group) -> None:
        o, (nc, size) = self.options, _checked(self.shape, self.classes)
        layers = o.d_layers or min(LAYERS, cyclegan.most_layers(size))
        if layers > cyclegan.most_layers(size):
            raise UserError(
                f"--d-layers {layers}: an image of {size} pixels is halved to nothing; lower it, or "
                "raise --image-size"
            )
        G = cyclegan.Generators(o.ngf, nc, o.blocks or (9 if size >= LARGE else 6), rng)
        D = cyclegan.Discriminators(o.ndf, nc, layers, rng)
        for net in (G, D):
            if o.init != "auto":
                first_values.first_values(net, o.init, rng)
            net.to(device)
        betas, (G_lr, D_lr) = (o.beta1, o.beta2), o.rates
        self.G = Player(G, Adam(G.parameters(), G_lr, betas), group, o.ema)
        self.D = Player(D, Adam(D.parameters(), D_lr, betas), group)
        self.players = {"G": self.G, "D": self.D}
        self.pools = {
            name: Pool(f"pool {name}", o.pool_size, self.shape, device, group) for name in NAMES
        }
        self.extra = {f"pool_{name}": pool.tree for name, pool in self.pools.items()}
        self.batches = len(NAMES)
        weights = sum(p.numel() for p in G.parameters())
        self.signs = (SATURATED, frozen_generator(weights, o.beta2))

    def step(self, draw: Draw) -> dict[str, Scalar]:
        o, (a, b) = self.options, draw.each_class()
        to_A, to_B = self.G.net.to_A, self.G.net.to_B
        of_A, of_B = self.D.net.of_A, self.D.net.of_B

        weight = o.cycle * o.identity
        if weight:
            fake_b, same_b = together(to_B, a, b)
            fake_a, same_a = together(to_A, b, a)
        else:
            fake_b, fake_a = to_B(a), to_A(b)
        judged = square(of_B(fake_b), REAL) + square(of_A(fake_a), REAL)
        cycle = l1_loss(to_A(fake_b), a) + l1_loss(to_B(fake_a), b)
        loss_G = judged + o.cycle * cycle
        metrics: dict[str, Scalar] = {"loss_g": judged.detach(), "cycle": cycle.detach()}
        if weight:
            identity = l1_loss(same_b, b) + l1_loss(same_a, a)
            loss_G = loss_G + weight * identity
            metrics["identity"] = identity.detach()
        metrics["grad_g"] = self.G.descend(loss_G)

        real_b, old_b = together(of_B, b, self.pools["B"].exchange(fake_b, draw))
        real_a, old_a = together(of_A, a, self.pools["A"].exchange(fake_a, draw))
        loss_D = 0.5 * (square(real_b, REAL) + square(old_b, FAKE))
        loss_D = loss_D + 0.5 * (square(real_a, REAL) + square(old_a, FAKE))
        return metrics | {"loss_d": loss_D.detach(), "grad_d": self.D.descend(loss_D)}


def together(net: Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """net(x) and net(y) in one call: they are the same up to rounding, as no norm joins two images."""
    of_x, of_y = net(cat([x, y])).split([len(x), len(y)])
    return of_x, of_y


def square(scores: Tensor, label: float) -> Tensor:
    """mean (scores - label)^2, over all patches of all images."""
    return ((scores - label) ** 2).mean()


def _checked(shape: tuple[int, ...], classes: int) -> tuple[int, int]:
    """(channels, pixels per side) of the images. UserError: the data does not suit the member."""
    if len(shape) != 3:
        raise UserError("cyclegan translates images, not points; use --data seasons")
    if classes != len(NAMES):
        raise UserError(f"cyclegan translates between 2 classes, not {classes}; use --data seasons")
    return shape[0], shape[2]
