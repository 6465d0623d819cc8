"""What the drawn data sets share: faces.py, digits.py, shapes.py and seasons.py.

A drawn set needs no files. An image depends only on the seed and its index, so the set is endless, and
any part of it can be drawn alone. Pixels are computed only with + - * / and square roots, which every
processor rounds in the same way, so an image has the same bytes on every machine.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np


def generator(seed: int, index: int) -> np.random.Generator:
    """The random numbers of image `index` of a seed. ValueError: seed or index is negative."""
    if seed < 0 or index < 0:
        raise ValueError(f"seed {seed} and index {index} must not be negative; count from 0")
    # PCG64 by name: NumPy may change its default generator, but never the numbers of PCG64
    return np.random.Generator(np.random.PCG64([seed, index]))


def bell(rng: np.random.Generator, low: float, high: float) -> float:
    """A random number between low and high; numbers near the middle are the most common."""
    return low + (high - low) * ((rng.random() + rng.random() + rng.random()) / 3)


def distance(x: np.ndarray, y: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The distance (P,) of each point (x, y), (P,) each, to the nearest of M segments.

    starts, ends  of the segments, (M, 2) each
    """
    (ax, ay), (dx, dy) = starts.T, (ends - starts).T  # (M,) each
    px, py = x[:, None] - ax, y[:, None] - ay  # (P, M)
    along = np.clip((px * dx + py * dy) / (dx * dx + dy * dy), 0, 1)
    px -= along * dx
    py -= along * dy
    return np.sqrt((px * px + py * py).min(axis=1))


@dataclass(frozen=True)
class Drawn(ABC):
    """The first `count` images of a seed, as a source of the data cache."""

    count: int
    seed: int = 0
    image_size: int = 64

    noun: ClassVar[str]  # for a single image, as in messages
    sizes: ClassVar[range]  # the legal values of image_size

    def __post_init__(self) -> None:
        self.check_size(self.image_size)
        if self.count < 1 or self.seed < 0:
            given = f"count {self.count} and seed {self.seed}"
            raise ValueError(f"no set has {given}; give a count from 1 and a seed from 0")

    @classmethod
    def check_size(cls, size: int) -> None:
        """Raise ValueError unless an image of this size can be drawn."""
        if size not in cls.sizes:
            raise ValueError(
                f"a {cls.noun} of {size} pixels cannot be drawn; choose a size from "
                f"{cls.sizes[0]} to {cls.sizes[-1]}"
            )

    def __len__(self) -> int:
        return self.count

    @abstractmethod
    def identity(self) -> dict[str, str | int]:
        """Everything that determines the bytes, as JSON values."""

    def check(self) -> None:  # noqa: B027, complete for every drawn set
        """Do nothing, because a drawn set has no files that could change."""

    def name(self, index: int) -> str:
        """The name of image `index`. IndexError, here and below: there is no such image."""
        return f"{self.noun}-{self.checked(index):06d}"

    @abstractmethod
    def load(self, index: int) -> np.ndarray:
        """Image `index`: uint8 (image_size, image_size, 3), RGB."""

    def checked(self, index: int) -> int:
        """The index itself. Raises IndexError unless there is such an image."""
        if not 0 <= index < self.count:
            raise IndexError(
                f"there is no {self.noun} {index}; choose one from 0 to {self.count - 1}"
            )
        return index


class DrawnClasses(Drawn):
    """A drawn set with classes, which take turns: image i is of class i % K."""

    classes: ClassVar[tuple[str, ...]]

    def label(self, index: int) -> int:
        """The class of the image that `load` draws."""
        return self.checked(index) % len(self.classes)
