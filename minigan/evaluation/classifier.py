"""Small classifiers of the drawn data sets, shipped with the package.

    digits   which digit it is
    shapes   which shape it is
    faces    the ten attributes of a face (a bald person shows the colour of hair only in the brows)

FID takes its features from a network that has seen millions of photographs, which is not at hand
everywhere. These networks have learnt from drawn images alone, so a distance of their features is not
FID and has a name of its own: `frechet_digits`. It says something about digits like the drawn ones, and
nothing about photographs. `train_classifier.py` trains them.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .. import tensorfile
from ..data import digits, faces, shapes
from ..data.images import GREY
from ..errors import UserError
from ..keys import generator
from ..models.first_values import first_values
from ..nn import Conv2d, Flatten, Linear, Module, ReLU, Sequential
from ..tensor import Tensor, no_grad

FEATURES = 64
WIDEST = 64  # channels
BATCH = 100  # images at a time, always: the last bits of a product depend on the number of rows

# What each classifier answers: {question: its possible answers}, and the shape (C, S, S) that it sees.
QUESTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "digits": {"digit": digits.CLASSES},
    "shapes": {"shape": shapes.CLASSES},
    "faces": {name: tuple(dict.fromkeys(values)) for name, values in faces.CATEGORIES.items()},
}
SHAPES = {"digits": (1, 28, 28), "shapes": (3, 32, 32), "faces": (3, 64, 64)}


class Classifier(Module):
    """Images (N, C, S, S) in [-1, 1] -> features (N, 64) -> scores (N, number of answers).

    Each convolution halves the image, until it has fewer than 8 pixels a side.
    """

    def __init__(self, shape: tuple[int, int, int], answers: int):
        super().__init__()
        self.shape = shape
        channels, side, _ = shape
        layers: list[Module] = []
        while side >= 8:
            width = min(2 * channels if layers else 16, WIDEST)
            layers += [Conv2d(channels, width, 4, 2, 1), ReLU()]
            channels, side = width, side // 2
        self.features = Sequential(
            *layers, Flatten(), Linear(channels * side * side, FEATURES), ReLU()
        )
        self.scores = Linear(FEATURES, answers)

    def forward(self, x: Tensor) -> Tensor:
        return self.scores(self.features(x))

    def describe(self, images: np.ndarray) -> np.ndarray:
        """The features (N, 64) float32 of images (N, c, s, s) of any size: see `fit`."""
        images, found = fit(images, self.shape), []
        with no_grad():
            for i in range(0, len(images), BATCH):
                part = images[i : i + BATCH]
                rest = np.zeros((BATCH - len(part), *self.shape), np.float32)
                full = Tensor(np.concatenate([part, rest]))
                found.append(self.features(full).numpy()[: len(part)])
        return np.concatenate(found)

    def answer(self, features: np.ndarray) -> np.ndarray:
        """The scores (N, number of answers) float32 of features (N, 64)."""
        with no_grad():
            return self.scores(Tensor(features)).numpy()

    @property
    def digest(self) -> str:
        """Twelve digits that stand for the weights."""
        return digest_of(self.state_dict_numpy())[:12]


def digest_of(arrays: Mapping[str, np.ndarray]) -> str:
    """A SHA-256, in hexadecimal, of the names, the shapes and the numbers of arrays in float32."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.shape} ".encode() + array.astype("<f4").tobytes())
    return digest.hexdigest()


def fit(images: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Images (N, c, s, s) as images (N, *shape) float32.

    Colour becomes grey by its luma, and grey becomes three equal channels. Another size is reached by
    Pillow's bilinear filter, which averages over all source pixels when it shrinks an image.
    """
    images = images.astype(np.float32, copy=False)
    if images.shape[1] > shape[0]:
        red, green, blue = (weight * images[:, i] for i, weight in enumerate(GREY))
        images = (red + green + blue)[:, None]  # (N, 1, s, s)
    if images.shape[2:] != shape[1:]:
        images = np.stack([[_resize(plane, shape[1]) for plane in image] for image in images])
    return np.broadcast_to(images, (len(images), *shape))


def _resize(plane: np.ndarray, side: int) -> np.ndarray:
    resized = Image.fromarray(plane).resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(resized, np.float32)


def random_classifier(shape: tuple[int, int, int]) -> Classifier:
    """A classifier that has learnt nothing, for images of this shape: the same weights each time.

    Its features are random projections of patches. They see differences of texture and form in any
    kind of image, but do not know what matters to people.
    """
    net = Classifier(shape, 1)
    first_values(net, "he", generator("random features", *shape))
    return net


def path_of(name: str) -> Path:
    """The file of a shipped classifier."""
    return Path(__file__).with_name(f"{name}.safetensors")


@functools.cache
def load(name: str) -> Classifier:
    """The shipped classifier `name`: "digits", "shapes" or "faces". UserError: it is damaged."""
    path, net = path_of(name), untrained(name)
    try:
        net.load_state_dict(tensorfile.read(path))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: {error}; install minigan again") from error
    return net


def recipe(name: str) -> dict[str, Any]:
    """How a shipped classifier was trained, and its error for each question."""
    return json.loads(tensorfile.read_text(path_of(name))[tensorfile.KEY])


def untrained(name: str) -> Classifier:
    """The classifier `name` with first weights."""
    net = Classifier(SHAPES[name], sum(map(len, QUESTIONS[name].values())))
    first_values(net, "he", generator("classifier", name))
    return net


def read(name: str, features: np.ndarray) -> np.ndarray:
    """What the shipped classifier `name` says about its features (N, 64): (N, questions) int64.

    An answer is its number in QUESTIONS.
    """
    return choices(name, load(name).answer(features))


def choices(name: str, scores: np.ndarray) -> np.ndarray:
    """The best answer to each question: (N, number of answers) -> (N, questions) int64."""
    ends = np.cumsum([len(answers) for answers in QUESTIONS[name].values()])[:-1]
    return np.stack([part.argmax(1) for part in np.split(scores, ends, axis=1)], axis=1)
