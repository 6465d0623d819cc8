"""Feature matching (Salimans et al. 2016, section 3.1): G matches what D looks at, not D's verdict.

D descends  the loss of `--loss`, as in the standard game
G descends  |mean f(x) - mean f(G(z))|^2

f is D's last hidden layer, and the means are over the batch. D's verdict on a sample can be certain,
and then teaches G nothing. Means of features change slowly, which gives G a steadier goal, and their
gradient does not vanish when D is certain. But means alone do not tell G that two samples must differ.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import UserError
from . import standard
from .draw import Draw, Scalar
from .standard import DCGAN


@dataclass(frozen=True)
class Options(standard.Options):
    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loss == "minimax":
            raise UserError(
                "--loss minimax differs from non-saturating in G's loss only, but G matches features; "
                "use --loss non-saturating"
            )


class FeatureMatching(DCGAN):
    """Salimans et al. 2016: G matches the mean of D's features instead of raising its scores."""

    Options = Options

    def step(self, draw: Draw) -> dict[str, Scalar]:
        for _ in range(self.options.d_steps):
            x, fakes, metrics = self.train_D(draw)
        if self.options.fresh_noise:
            fakes = self.G(draw.noise())
        real = self.judge.features(x, draw).detach().mean(0)  # (N, F) -> (F,)
        fake = self.judge.features(fakes, draw).mean(0)
        # The square of a mean is not the mean of squares, so each process of a group needs the means of
        # the whole batch. They replace the values of its own means; the gradient is that of its share.
        real, whole = self.D.group.average([real, fake.detach()])
        fake = fake + (whole - fake.detach())
        loss_G = ((real - fake) ** 2).sum()
        return metrics | {"loss_g": loss_G.detach(), "grad_g": self.G.descend(loss_G)}
