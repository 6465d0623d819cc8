"""A set of samples to evaluate, and the features by which sets are compared."""

from __future__ import annotations

import numpy as np

from ..data.images import to_pixels
from . import classifier
from .inception import InceptionV3

# What a distance of images can be taken of. `random` and `pixels` suit any images.
FEATURES = ("digits", "shapes", "faces", "random", "pixels")
INCEPTION = "inception"  # and of these, if the user has the weights


class Samples:
    """Samples of one kind of data. Their features are computed once, when they are first asked for.

    kind       the kind of the data: a name in KINDS
    values     (N, *shape) float32: images in [-1, 1], or points
    labels     (N,) int64: the class of each real, or that G was asked for; None without classes
    inception  the network of the features INCEPTION; None if nobody asks for them
    """

    def __init__(
        self,
        kind: str,
        values: np.ndarray,
        labels: np.ndarray | None = None,
        inception: InceptionV3 | None = None,
    ):
        self.kind, self.values, self.labels, self.inception = kind, values, labels, inception
        self._features: dict[str, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.values)

    def take(self, at: np.ndarray | slice) -> Samples:
        """The samples at these indices, with the features that are already computed."""
        labels = None if self.labels is None else self.labels[at]
        taken = Samples(self.kind, self.values[at], labels, self.inception)
        taken._features = {name: rows[at] for name, rows in self._features.items()}
        return taken

    def features(self, name: str) -> np.ndarray:
        """The features (N, d) of images, by a name in FEATURES, or INCEPTION."""
        if name not in self._features:
            self._features[name] = self._described(name)
        return self._features[name]

    def _described(self, name: str) -> np.ndarray:
        if name == "pixels":
            return self.values.reshape(len(self), -1)  # (N, C, S, S) -> (N, d)
        if name == INCEPTION:
            pixels = to_pixels(self.values).transpose(0, 3, 1, 2)  # (N, 3, S, S) uint8
            return self.inception.describe(pixels)
        return _net(name, self.values.shape[1:]).describe(self.values)

    def probabilities(self) -> np.ndarray:
        """What InceptionV3 believes each image to show, in float64: (N, 1008)."""
        logits = self.inception.logits_unbiased(self.features(INCEPTION))
        powers = np.exp(logits - logits.max(1, keepdims=True))
        return powers / powers.sum(1, keepdims=True)

    def protocol(self, name: str) -> dict[str, str]:
        """On what the features of this name depend, besides the samples."""
        if name == INCEPTION:
            return {"digest": self.inception.digest, "inception_resize": self.inception.resize}
        return {"digest": digest(name, self.values.shape[1:])}

    def answers(self) -> np.ndarray:
        """What the classifier of this kind of data says: (N, questions) int64."""
        return classifier.read(self.kind, self.features(self.kind))


def digest(name: str, shape: tuple[int, ...]) -> str:
    """Twelve digits that stand for the network of these features; "" for pixels, which need none."""
    return "" if name == "pixels" else _net(name, shape).digest


def _net(name: str, shape: tuple[int, ...]) -> classifier.Classifier:
    return classifier.random_classifier(shape) if name == "random" else classifier.load(name)
