"""A set of samples to evaluate, and the features by which sets are compared."""

from __future__ import annotations

import numpy as np

from . import classifier

# What a distance of images can be taken of. `random` and `pixels` suit any images.
FEATURES = ("digits", "shapes", "faces", "random", "pixels")


class Samples:
    """Samples of one kind of data. Their features are computed once, when they are first asked for.

    kind    the kind of the data: a name in KINDS
    values  (N, *shape) float32: images in [-1, 1], or points
    labels  (N,) int64: the class of each real, or the class that G was asked for; None without classes
    """

    def __init__(self, kind: str, values: np.ndarray, labels: np.ndarray | None = None):
        self.kind, self.values, self.labels = kind, values, labels
        self._features: dict[str, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.values)

    def take(self, at: np.ndarray | slice) -> Samples:
        """The samples at these indices, with the features that are already computed."""
        taken = Samples(
            self.kind, self.values[at], None if self.labels is None else self.labels[at]
        )
        taken._features = {name: rows[at] for name, rows in self._features.items()}
        return taken

    def features(self, name: str) -> np.ndarray:
        """The features (N, d) of images, by a name in FEATURES."""
        if name not in self._features:
            self._features[name] = (
                self.values.reshape(len(self), -1)  # (N, C, S, S) -> (N, d)
                if name == "pixels"
                else _net(name, self.values.shape[1:]).describe(self.values)
            )
        return self._features[name]

    def answers(self) -> np.ndarray:
        """What the classifier of this kind of data says: (N, questions) int64."""
        return classifier.read(self.kind, self.features(self.kind))


def digest(name: str, shape: tuple[int, ...]) -> str:
    """Twelve digits that stand for the network of these features; "" for pixels, which need none."""
    return "" if name == "pixels" else _net(name, shape).digest


def _net(name: str, shape: tuple[int, ...]) -> classifier.Classifier:
    return classifier.random_classifier(shape) if name == "random" else classifier.load(name)
