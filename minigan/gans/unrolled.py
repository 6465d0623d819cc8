"""Unrolled GANs (Metz, Poole, Pfau & Sohl-Dickstein 2017): G sees how D will answer.

w_0 = D's weights,  w_(k+1) = w_k - the update of D's optimiser by the gradient of L_D(w_k)

D descends  L_D(w_0), one step, as in the standard game
G descends  L_G(w_K), the gradient passing through all K updates (equations 8 to 10)

A G that puts all its samples where D is weakest does well against w_0 but badly against w_K, which has
adapted to them. So G does better by spreading its samples out. With K = 0 this is the standard game.

Here D takes its step first, as in the standard game, and the K updates continue from there, on the same
reals. They are discarded afterwards. In a group of processes, each unrolls D on its own share of the
batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..nn.replaced import replaced
from ..optim import Adam
from ..options import option
from ..tensor import Tensor, grad
from . import standard
from .draw import Draw, Scalar
from .standard import DCGAN

TINY = 1e-20  # added under Adam's root, whose slope at 0 is infinite; far below eps^2 = 1e-16


@dataclass(frozen=True)
class Options(standard.Options):
    unroll: int = option(5, "updates of D that G looks ahead (K)", least=0, most=100)
    inner: str = option(
        "adam", "optimiser of these K updates: D's Adam, or SGD", choices=("adam", "sgd")
    )


class Unrolled(DCGAN):
    """Metz et al. 2017: G's gradient passes through K further updates of D."""

    Options = Options

    def step(self, draw: Draw) -> dict[str, Scalar]:
        for _ in range(self.options.d_steps):
            x, fakes, metrics = self.train_D(draw)
        if self.options.fresh_noise:
            fakes = self.G(draw.noise())

        def loss_D(weights: Sequence[Tensor]) -> Tensor:
            with replaced(self.D.net, weights):
                return self.loss.discriminator(self.D(x, draw), self.D(fakes, draw))

        weights = list(self.D.net.parameters())
        update = adam_update(self.D.optimizer) if self.options.inner == "adam" else self._sgd_update
        weights = unrolled(loss_D, weights, update, self.options.unroll)
        with replaced(self.D.net, weights):
            judged = self.D(fakes, draw)
            real = self.D(x, draw).detach() if self.loss.paired else None
        loss_G = self.loss.generator(real, judged)
        metrics |= {"loss_g": loss_G.detach(), "grad_g": self.G.descend(loss_G)}
        return metrics | self.seen(d_gz_after=judged)

    def _sgd_update(self, weights: Sequence[Tensor], gradients: Sequence[Tensor]) -> list[Tensor]:
        lr = self.D.optimizer.options["lr"]
        return [w - lr * g for w, g in zip(weights, gradients, strict=True)]


Update = Callable[[Sequence[Tensor], Sequence[Tensor]], list[Tensor]]


def unrolled(
    loss: Callable[[Sequence[Tensor]], Tensor],
    weights: Sequence[Tensor],
    update: Update,
    steps: int,
) -> Sequence[Tensor]:
    """The weights after `steps` updates down the loss. Gradients pass through all updates."""
    for _ in range(steps):
        weights = update(weights, grad(loss(weights), weights, create_graph=True))
    return weights


def adam_update(optimizer: Adam) -> Update:
    """A function (weights, gradients) -> new weights that continues Adam; the optimiser stays as it is.

    Each call is the next step from Adam's present state: see `optim.Adam` for the formula.
    """
    o = optimizer.options
    (b1, b2), state = o["betas"], list(optimizer.tree().values())
    m = [Tensor(each["exp_avg"]) for each in state]
    v = [Tensor(each["exp_avg_sq"]) for each in state]
    t = [each["step"] for each in state]

    def update(weights: Sequence[Tensor], gradients: Sequence[Tensor]) -> list[Tensor]:
        moved = []
        for i, (w, g) in enumerate(zip(weights, gradients, strict=True)):
            t[i] += 1
            m[i] = b1 * m[i] + (1 - b1) * g
            v[i] = b2 * v[i] + (1 - b2) * g**2
            root = (v[i] / (1 - b2 ** t[i]) + TINY).sqrt() + o["eps"]
            moved.append(w - o["lr"] / (1 - b1 ** t[i]) * m[i] / root)
        return moved

    return update
