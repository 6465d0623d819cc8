"""How D looks at a batch: what is done to the samples before D's first layer.

Each part is random or joins several samples, so it belongs neither to the network nor to the data.
Reals and fakes must be treated alike, in G's half of a step too, because otherwise the treatment itself
would give the fakes away.
"""

from __future__ import annotations

from .. import nn
from ..models.base import BaseDiscriminator
from ..tensor import Tensor
from .augment import CHANGES
from .base import Options
from .draw import Draw


class Judge:
    """D's scores of samples: augmentation, instance noise, packing, then D's logits.

    It also supplies the random numbers of D's dropout layers, so that they have keys: see keys.py.
    """

    def __init__(self, D: BaseDiscriminator, options: Options):
        self.D, self.options = D, options
        self._dropouts = [m for m in D.modules() if isinstance(m, nn.Dropout)]

    def __call__(self, x: Tensor, draw: Draw, y: Tensor | None = None) -> Tensor:
        """The scores (N / pack,), before any sigmoid, of samples (N, *shape).

        y  the classes (N,) for the D of a conditional member, which never packs samples
        """
        seen = self._seen(x, draw)
        logits = self.D.logits(seen) if y is None else self.D.logits(seen, y)
        return logits.reshape(-1)  # (N / pack, 1, ...) -> (N / pack,)

    def features(self, x: Tensor, draw: Draw) -> Tensor:
        """The outputs of D's last hidden layer, (N / pack, F)."""
        return self.D.features(self._seen(x, draw)).flatten(1)

    def _seen(self, x: Tensor, draw: Draw) -> Tensor:
        """The samples as D sees them, (N / pack, pack * C, ...)."""
        o = self.options
        for name, change in CHANGES.items():
            if o.augment in (name, "all"):
                x = change(x, draw)
        if o.instance_noise:
            sigma = noise_level(o.instance_noise, o.noise_steps, draw.step)
            x = x + sigma * draw.normal("instance noise", *x.shape[1:])[: len(x)]
        if o.pack > 1:
            x = x.reshape(len(x) // o.pack, o.pack * x.shape[1], *x.shape[2:])
        for layer in self._dropouts:
            layer.uniform = lambda shape: draw.uniform("dropout", *shape[1:])[: shape[0]]
        return x


def noise_level(sigma: float, steps: int, step: int) -> float:
    """The standard deviation at this step: sigma max(0, 1 - step / steps), or sigma if `steps` is 0.

    Without noise, reals and fakes lie on thin sets that D separates perfectly, and G learns nothing.
    With noise, both fill the space (Sonderby et al. 2017; Arjovsky & Bottou 2017).
    """
    return sigma * max(0.0, 1 - step / steps) if steps else sigma
