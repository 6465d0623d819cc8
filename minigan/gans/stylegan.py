"""StyleGAN (Karras, Laine & Aila 2019): a G whose layers are told what to draw by styles.

D descends  -mean log D(x) - mean log(1 - D(G(z))) + r1 1/2 mean |grad D(x)|^2
G descends  -mean log D(G(z))

The networks are in models/stylegan.py: z is mapped to w, and w is the style of each layer of G. The
networks have their full size from the first step, as in StyleGAN2; the paper lets them grow.

*Style mixing*: with probability `mixing` an image takes the styles of a second z from some layer on,
the crossover. So a layer cannot rely on the others having the same w. The authors draw one crossover
for the whole batch; here each image has its own, so that a share of the batch needs no knowledge of the
rest.

*Lazy R1* (StyleGAN2, section 3.1): the penalty is computed in every `r1_every`-th step only, and
counts that many times there, so that over the steps its weight is still `r1`. It is added to the loss
of that step. StyleGAN2 gives it an update of its own, of the same Adam, and so it changes the rate and
the betas by 16/17 to make up for 17 updates instead of 16. Here the number of updates is the same.

*The mean of w*, a running one with a decay of 0.995, is where styles are pulled for better images with
less variety (*truncation*): mean + psi (w - mean). It has no influence on the weights. The average of G
maps z to other w than G, so each has a mean of its own.

All random numbers of a step are drawn by name: z, mixing, and the noise images of all layers. D
compares samples with each other (MinibatchStdDev), so its score has no slope that belongs to one sample
alone. As the authors do, the penalty takes the gradient of the sum of all scores all the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .. import backend, init
from ..arrays import DEFAULT_DTYPE
from ..functional import where
from ..models.stylegan import STYLES, Discriminator, Generator
from ..nn import Module
from ..optim import Adam
from ..options import option, with_default
from ..tensor import Tensor, no_grad
from . import base, equalized, standard
from .base import GAN
from .draw import Draw, Scalar
from .objectives import OBJECTIVES
from .penalties import r1_penalty
from .player import Group, Player, Probability
from .signs import SATURATED, frozen_generator

MEAN_DECAY = 0.995  # of the running mean of w


@dataclass(frozen=True)
class Options(equalized.Options):
    member: ClassVar[str] = "stylegan"

    batch_size: int = with_default(32, base.Common, "batch_size")
    ema: float = with_default(0.9978, base.Common, "ema")  # half of it is 10,000 images old
    style: str = option(
        "adain",
        "how a style enters a layer: by the statistics of its output (StyleGAN) or by the scale of its "
        "weight (StyleGAN2)",
        choices=STYLES,
    )
    mapping_layers: int = option(8, "layers from z to w", least=1, most=50)
    mapping_lr: float = option(
        0.01, "learning rate of these layers, relative to that of G", above=0, most=100
    )
    mixing: float = option(
        0.9, "probability that an image mixes the styles of two z", least=0, most=1
    )
    r1: float = with_default(10.0, standard.Options, "r1")
    r1_every: int = option(
        16,
        "steps from one R1 penalty to the next, which counts that many times",
        least=1,
        most=10**6,
    )


class StyleGAN(GAN):
    """Karras et al. 2019: styles for each layer of G, which can be mixed and truncated."""

    Options = Options
    only_images = styled = True

    def build(self, rng: np.random.Generator, device: str, group: Group) -> None:
        o, (nc, size) = self.options, self.options.check_shape(self.shape)
        G = Generator(o.nz, o.ngf, nc, size, o.style, o.mapping_layers, o.mapping_lr, rng)
        D = Discriminator(o.ndf, nc, size, rng)
        betas, (G_lr, D_lr) = (o.beta1, o.beta2), o.rates
        self.style_count, self.noise_pixels = G.synthesis.styles, G.synthesis.noise.shape[1]
        G, D, self.group = G.to(device), D.to(device), group
        self.G = Player(G, Adam(G.parameters(), G_lr, betas), group, o.ema)
        self.D = Player(D, Adam(D.parameters(), D_lr, betas), group)
        self.players = {"G": self.G, "D": self.D}
        zeros = lambda: backend.move(init.memory((o.nz,), DEFAULT_DTYPE), device)
        self.nets = {"net": G} | ({"average": self.G.average} if self.G.average else {})
        self.extra = {name: {"mean_w": zeros()} for name in self.nets}
        weights = sum(p.numel() for p in G.parameters())
        self.signs = (SATURATED, frozen_generator(weights, o.beta2))

    def step(self, draw: Draw) -> dict[str, Scalar]:
        o, loss, D = self.options, OBJECTIVES["non-saturating"], self.D
        with no_grad():
            fakes, _ = self.fakes(draw)
        x = draw.reals()
        real, fake = D(x), D(fakes)
        loss_D = descended = loss.discriminator(real, fake)
        metrics: dict[str, Scalar] = {"loss_d": loss_D.detach()}
        if o.r1 and draw.step % o.r1_every == 0:
            penalty = r1_penalty(D, x)
            descended = loss_D + o.r1 * o.r1_every * penalty
            metrics["penalty"] = penalty.detach()
        metrics |= {"d_x": Probability(real), "d_gz_before": Probability(fake)}
        metrics["grad_d"] = D.descend(descended)

        fakes, z = self.fakes(draw)
        judged = D(fakes)
        loss_G = loss.generator(None, judged)
        metrics |= {"loss_g": loss_G.detach(), "d_gz_after": Probability(judged)}
        metrics["grad_g"] = self.G.descend(loss_G)
        self.follow(z)
        return metrics

    def fakes(self, draw: Draw) -> tuple[Tensor, Tensor]:
        """Images (N, *shape) of mixed styles and new noise, and the first z of each, (N, nz)."""
        G, z = self.G.net, draw.noise()
        styles = G.styles(G.mapping(z))
        if self.options.mixing:
            others = G.styles(G.mapping(draw.noise()))
            mixed = _mixed(draw.uniform("mixing", 2), self.options.mixing, self.style_count)
            styles = where(mixed, others, styles)
        return G.synthesis(styles, draw.normal("noise images", self.noise_pixels)), z

    def follow(self, z: Tensor) -> None:
        """Move the running means of w towards those of this z (N, nz), of all processes together."""
        with no_grad():
            for name, net in self.nets.items():
                w = self.group.gather(net.mapping(z).data)
                xp = backend.array_module(w)
                pairs = [(self.extra[name]["mean_w"], w.mean(0))]
                backend.kernels(xp).lerp(xp, pairs, 1 - MEAN_DECAY)

    def styles(self, z: Tensor, psi: float = 1.0, raw: bool = False) -> Tensor:
        """The styles of z, pulled towards their mean: (N, nz) -> (N, styles, nz).

        psi  1 leaves them as they are, 0 gives the mean, and below 0 is the opposite of each
        raw  those of G itself instead of its average
        """
        name = self._drawn_by(raw)
        G, mean = self.nets[name], self.extra[name]["mean_w"]
        with no_grad():
            w = G.mapping(z)
            if psi != 1:
                mean = Tensor(backend.move(mean, w.device))  # the networks may have been moved
                w = mean + psi * (w - mean)
            return G.styles(w)

    def draw_styles(self, styles: Tensor, noise: Tensor | None = None, raw: bool = False) -> Tensor:
        """Images (N, *shape) of styles (N, styles, nz).

        noise  (N, pixels) or (1, pixels): see models.stylegan.Synthesis. By default the fixed one
        raw    drawn by G itself instead of its average
        """
        with no_grad():
            return self.nets[self._drawn_by(raw)].synthesis(styles, noise).clamp(-1, 1)

    def _drawn_by(self, raw: bool) -> str:
        """The name of the network that draws."""
        return "net" if raw or self.G.average is None else "average"

    def _draw(self, G: Module, *inputs: Tensor) -> Tensor:
        return G(*inputs).clamp(-1, 1)


def _mixed(u: Tensor, probability: float, styles: int) -> Tensor:
    """Which styles are those of the second z: (N, styles, 1), bool.

    With this probability all from a crossover on, which is one of 1, ..., styles - 1; otherwise none.

    u  two numbers from U(0, 1) for each image, (N, 2)
    """
    xp = backend.array_module(u.data)
    place = u.data[:, 1:] * (styles - 1)  # (N, 1): the crossover is 1 + floor(place)
    mixed = (u.data[:, :1] < probability) & (place < xp.arange(styles))  # (N, styles)
    return Tensor(mixed[:, :, None])
