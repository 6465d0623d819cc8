"""Several discriminators against one generator (Durugkar, Gemp & Mahadevan 2017, "GMAN").

each D_i descends  the loss of `--loss`, as in the standard game
G descends         F(L_1, ..., L_n), where L_i is G's loss against D_i

    mean     (L_1 + ... + L_n) / n
    max      the largest L_i: G plays against the D that is hardest to fool
    softmax  sum w_i L_i, w_i = e^(s L_i) / sum e^(s L_j): s = 0 gives the mean, a large s the max

A single D forgets what it has learnt, and G can then return to samples that D once rejected. Several
discriminators, each with its own first weights, err in different places.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import UserError
from ..optim import Adam
from ..options import option
from ..pieces import stack
from ..tensor import Tensor
from . import networks, standard
from .draw import Draw, Scalar
from .player import Group, Mean, Player
from .standard import DCGAN


@dataclass(frozen=True)
class Options(standard.Options):
    discriminators: int = option(3, "number of discriminators", least=1, most=64)
    combine: str = option("mean", "how G's losses are combined", choices=("mean", "max", "softmax"))
    sharpness: float = option(1.0, "s in the softmax of G's losses", least=0, most=1e3)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sharpness != type(self).sharpness and self.combine != "softmax":
            raise UserError(
                f"--sharpness {self.sharpness}: --combine {self.combine} has no softmax; leave it out, "
                "or use --combine softmax"
            )


class Ensemble(DCGAN):
    """Durugkar et al. 2017: several discriminators, each with its own first weights and optimiser."""

    Options = Options

    def build(self, rng: np.random.Generator, device: str, group: Group) -> None:
        super().build(rng, device, group)
        o = self.options
        self.Ds = [self.D]
        for _ in range(o.discriminators - 1):
            D, scores = networks.make_D(self.shape, o, rng, device)
            adam = Adam(D.parameters(), o.rates[1], (o.beta1, o.beta2))
            self.Ds.append(Player(D, adam, group, forward=scores))
        self.players = {"G": self.G} | {f"D{i}": D for i, D in enumerate(self.Ds)}

    def step(self, draw: Draw) -> dict[str, Scalar]:
        for _ in range(self.options.d_steps):
            x, fakes = draw.reals(), self.G(draw.noise())
            found = [self.update(D, x, fakes, draw) for D in self.Ds]
        metrics: dict[str, Scalar] = {k: Mean([each[k] for each in found]) for k in found[0]}
        if self.options.fresh_noise:
            fakes = self.G(draw.noise())
        judged = [D(fakes, draw) for D in self.Ds]
        reals = [D(x, draw).detach() if self.loss.paired else None for D in self.Ds]
        losses = [self.loss.generator(*both) for both in zip(reals, judged, strict=True)]
        loss_G = self.combined(stack(losses))
        metrics |= {"loss_g": loss_G.detach(), "grad_g": self.G.descend(loss_G)}
        return metrics | self.seen(d_gz_after=stack(judged))

    def combined(self, losses: Tensor) -> Tensor:
        """F of G's losses, (n,) -> ()."""
        how = self.options.combine
        if how == "max":
            return losses.max()
        if how == "softmax":
            return ((self.options.sharpness * losses).softmax(0) * losses).sum()
        return losses.mean()
