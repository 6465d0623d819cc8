"""Drawn portraits in two seasons: data for translating images, whose true translation is known.

In summer the sun is on the left of the image, and its light is warm; in winter it is on the right, and
colours are cold and dull. The set is not paired: each face is in it in one season only. `pair` draws a
face in both, so a translation of one can be compared with the other; `pairs` draws several.

A map of colours can turn the warm light into the cold, but cannot move the sun: for that one has to
see the form of a face.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np

from . import faces
from .drawn import DrawnClasses, generator
from .images import GREY, to_tensor

VERSION = 1  # part of the cache's key: raise it whenever the bytes change

CLASSES = ("summer", "winter")
SUN = {"summer": "left", "winter": "right"}  # the light of faces.py
DULL = 0.45  # the share of the grey in a colour in winter
COLD = (0.72, 0.86, 1.0)  # winter's light, red, green, blue


def pair(seed: int, index: int, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Face `index` of the endless set `seed` in summer and in winter: uint8 (size, size, 3) each, RGB.

    Raises ValueError for a negative seed or index, or a size that is not in `Seasons.sizes`.
    """
    summer, winter = (_draw(seed, index, size, season) for season in CLASSES)
    return summer, winter


def pairs(seed: int, indices: Iterable[int], size: int, nc: int = 3) -> np.ndarray:
    """Faces of a seed in summer and in winter, as data: float32 (2, N, nc, size, size) in [-1, 1].

    Faces that are not in a data set: indices from its length on. Raises ValueError as `pair` does.
    """
    drawn = np.stack([pair(seed, i, size) for i in indices], axis=1)  # (2, N, size, size, 3)
    return np.stack([to_tensor(x.transpose(0, 3, 1, 2), nc, "cpu").numpy() for x in drawn])


def _draw(seed: int, index: int, size: int, season: str) -> np.ndarray:
    """A face in one season, uint8 (size, size, 3)."""
    Seasons.check_size(size)
    person = faces.sample_attributes(generator(seed, index))
    pixels = faces.render({**person, "light": SUN[season]}, size)
    return _cold(pixels) if season == "winter" else pixels


def _cold(pixels: np.ndarray) -> np.ndarray:
    """The colours in winter: COLD (DULL grey + (1 - DULL) colour); uint8 (H, W, 3) -> the same."""
    colours = pixels.astype(np.float32)
    red, green, blue = (np.float32(w) * colours[..., i] for i, w in enumerate(GREY))
    grey = (red + green + blue)[..., None]  # (H, W, 1)
    dull = np.float32(DULL) * grey + np.float32(1 - DULL) * colours
    return (dull * np.array(COLD, np.float32) + np.float32(0.5)).astype(np.uint8)


@dataclass(frozen=True)
class Seasons(DrawnClasses):
    """The first `count` faces of a seed, in summer and in winter in turn, for the data cache."""

    noun, sizes = "face", faces.Faces.sizes
    classes = CLASSES

    def identity(self) -> dict[str, str | int]:
        """Everything that determines the bytes, as JSON values."""
        versions = {"version": VERSION, "faces": faces.VERSION}
        return {"kind": "seasons", **versions, **asdict(self)}

    def load(self, index: int) -> np.ndarray:
        """Image `index`: uint8 (image_size, image_size, 3), RGB. IndexError: there is none."""
        season = CLASSES[self.label(index)]
        return _draw(self.seed, index, self.image_size, season)
