"""What all networks share: labels, and the parts of a discriminator that do not depend on its layers.

The other files (`dcgan.py`, `mlp.py`, ...) define the layers, in subclasses of these two classes.
"""

from __future__ import annotations

import numpy as np

from .. import nn
from ..arguments import is_whole
from ..functional import cat
from ..nn.checks import check_bool, shown, sizes
from ..nn.utils import spectral_norm
from ..tensor import Tensor
from .conditional import ConditionalBatchNorm, ConditionalSequential, one_hot_rows
from .first_values import first_values
from .layers import MinibatchDiscrimination, MinibatchStdDev, with_planes


class BaseGenerator(nn.Module):
    """Noise z (N, nz), and labels y (N,) if there are classes -> samples.

    main  the Sequential that maps the output of `_start` to samples

    classes    the number K of classes; 0 for a network without labels
    condition  how the label enters. "one-hot": beside z (Mirza & Osindero 2014). "batch-norm": by the
               scale and shift of each batch norm (Miyato & Koyama 2018)

    Raises ValueError for arguments that cannot be used, and in `forward` for missing or needless
    labels.
    """

    main: nn.Sequential

    def __init__(self, nz: int, classes: int = 0, condition: str = "one-hot"):
        name = type(self).__name__
        (self.nz,) = sizes(name, nz=nz)
        self.classes = _classes(name, classes)
        self.condition = _condition(name, condition, ("one-hot", "batch-norm"), self.classes)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        z = z.reshape(len(z), -1)  # (N, nz) or (N, nz, 1, 1) -> (N, nz)
        rows = one_hot_rows(self, y, self.classes, z)
        if rows is not None and self.condition == "one-hot":
            z = cat([z, rows], 1)  # (N, nz + K)
        x = self._start(z)
        return self.main(x, rows) if self._in_norms() else self.main(x)

    def _start(self, z: Tensor) -> Tensor:
        """The input of `main`, made from z (N, nz) or (N, nz + K)."""
        return z

    def _in_norms(self) -> bool:
        """Whether the label enters through the batch norms."""
        return self.classes > 0 and self.condition == "batch-norm"

    def _inputs(self) -> int:
        """The length of the vectors that enter `_start`."""
        return self.nz + (0 if self._in_norms() else self.classes)

    def _norm(self, plain: type[nn.Module], num_features: int) -> nn.Module:
        """A batch norm of the class `plain`, or one with a scale and shift for each class."""
        if self._in_norms():
            return ConditionalBatchNorm(num_features, self.classes)
        return plain(num_features)

    def _sequential(self, layers: list[nn.Module]) -> nn.Sequential:
        return (ConditionalSequential if self._in_norms() else nn.Sequential)(*layers)


class BaseDiscriminator(nn.Module):
    """Samples (N, ...), and labels y (N,) if there are classes -> scores (N, 1, ...).

    main  the Sequential of all layers
    last  the position in `main` of the layer that makes the scores

    dropout         probability of dropping a channel after each activation
    spectral_norm   divide each weight by its largest singular value: see `nn.utils.spectral_norm`
    minibatch_std, minibatch_discrimination
                    put these layers of `layers.py` before the last layer
    pack            number of samples that D judges together, stacked as channels (PacGAN: Lin, Khetan,
                    Fanti & Oh 2018); only the first layer becomes wider
    classes         the number K of classes; 0 for a network without labels
    condition       how the label enters. "planes": as K further channels of the input (Mirza & Osindero
                    2014). "projection": <V_y, features> is added to the score, with the features summed
                    over all pixels (Miyato & Koyama 2018, equation 3)

    Raises ValueError for options that cannot be used, and in `forward` for missing or needless labels.
    """

    main: nn.Sequential
    last = -1

    def __init__(
        self,
        *,
        dropout: float = 0.0,
        spectral_norm: bool = False,
        minibatch_std: bool = False,
        minibatch_discrimination: bool = False,
        pack: int = 1,
        classes: int = 0,
        condition: str = "planes",
    ):
        name = type(self).__name__
        check_bool(f"{name}: spectral_norm", spectral_norm)
        check_bool(f"{name}: minibatch_std", minibatch_std)
        check_bool(f"{name}: minibatch_discrimination", minibatch_discrimination)
        self.dropout = nn.Dropout(dropout).p  # checked
        self.spectral_norm = spectral_norm
        self.minibatch_std = minibatch_std
        self.minibatch_discrimination = minibatch_discrimination
        (self.pack,) = sizes(name, pack=pack)
        self.classes = _classes(name, classes)
        self.condition = _condition(name, condition, ("planes", "projection"), self.classes)
        if self.pack > 1 and self.classes:
            raise ValueError(
                f"{name}: pack={pack} and classes={classes} cannot be combined, because the samples of "
                "a pack may have different classes"
            )

    def features(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """The input of the last layer, (N, F) or (N, F, H, W). It depends on y only with "planes"."""
        return self._features(x, one_hot_rows(self, y, self.classes, x))

    def logits(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """The scores (N, 1, ...), before any sigmoid: the last layer applied to the features."""
        rows = one_hot_rows(self, y, self.classes, x)
        features = self._features(x, rows)
        scores = self.main[self.last](features)  # (N, 1, ...)
        if rows is None or self.condition == "planes":
            return scores
        pooled = features.flatten(2).sum(2) if features.ndim > 2 else features  # (N, F)
        products = self.projection(pooled)  # (N, K): <V_k, features> for every class k
        return scores + (products * rows).sum(1).reshape(scores.shape)  # that of y

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.logits(x, y)

    def _features(self, x: Tensor, rows: Tensor | None) -> Tensor:
        if rows is not None and self.condition == "planes":
            x = with_planes(x, rows)
        return self.main[: self.last](x)

    # -- for the constructors of subclasses -------------------------------------------------------

    def _inputs(self, channels: int) -> int:
        """The number of input channels, including those of packs and planes."""
        planes = self.classes if self.condition == "planes" else 0
        return channels * self.pack + planes

    def _activation(self, slope: float, dropout: type[nn.Module]) -> list[nn.Module]:
        """A leaky ReLU, followed by the dropout layer if there is dropout."""
        return [nn.LeakyReLU(slope), *([dropout(self.dropout)] if self.dropout else [])]

    def _minibatch(self, channels: int, pixels: int) -> tuple[list[nn.Module], int]:
        """The minibatch layers for features (N, channels, ...), and the channel count after them."""
        layers: list[nn.Module] = []
        if self.minibatch_std:
            layers.append(MinibatchStdDev())
            channels += 1
        if self.minibatch_discrimination:
            found = MinibatchDiscrimination(channels * pixels)
            layers.append(found)
            channels += found.kernels
        return layers, channels

    def _finish(
        self, layers: list[nn.Module], features: int, kind: str, rng: np.random.Generator | None
    ) -> None:
        """Make `main`, and V if it is needed; draw the first values, then u and v of spectral norm.

        features  the number of channels that enter the last layer
        kind      the type of first values: see `first_values`
        """
        self.main = nn.Sequential(*layers)
        if self.classes and self.condition == "projection":
            self.projection = nn.Linear(features, self.classes, bias=False)  # V, with rows V_k
        first_values(self, kind, rng)
        if self.spectral_norm:
            for module in self.modules():
                if isinstance(module, (nn.Linear, nn.Conv2d)):
                    spectral_norm(module, generator=rng)


def _classes(name: str, classes: int) -> int:
    if not is_whole(classes) or classes < 0:
        raise ValueError(f"{name}: classes must be an int >= 0, not {shown(classes)}")
    return int(classes)


def _condition(name: str, condition: str, choices: tuple[str, ...], classes: int) -> str:
    """The condition, checked: one of the choices; without classes only the first, the default."""
    if condition not in choices:
        raise ValueError(f"{name}: condition {condition!r} is not one of {', '.join(choices)}")
    if not classes and condition != choices[0]:
        raise ValueError(f"{name}: condition {condition!r} needs labels; give classes=K too")
    return condition
