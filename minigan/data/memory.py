"""Data sets that are distributed as arrays of pixels, which mnist.py and cifar10.py read."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import UserError


@dataclass
class Arrays:
    """A data set that is in memory, as a source of the data cache.

    kind        names the data set
    pixels      (N, H, H) uint8 grey, or (N, H, H, 3) RGB
    labels      (N,) int64, the class of each image
    classes     the names of the classes
    image_size  pixels per side of the resulting images, resized by Pillow's bilinear filter
    notes       sentences for the user about the files
    """

    kind: str
    pixels: np.ndarray
    labels: np.ndarray
    classes: Sequence[str]
    image_size: int
    notes: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.pixels)

    def identity(self) -> dict[str, str | int]:
        """Everything that determines the bytes, as JSON values."""
        digest = hashlib.sha256(self.pixels).hexdigest()
        return {
            "kind": self.kind,
            "digest": digest,
            "count": len(self),
            "image_size": self.image_size,
        }

    def check(self) -> None:
        """Do nothing: the pixels are in memory, so the files may change."""

    def name(self, i: int) -> str:
        """The name of image i."""
        return f"{self.kind}-{i:05d}"

    def load(self, i: int) -> np.ndarray:
        """Image i, uint8 RGB (image_size, image_size, 3)."""
        pixels, side = self.pixels[i], self.image_size
        if side != len(pixels):
            image = Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR)
            pixels = np.asarray(image)
        if pixels.ndim == 2:
            pixels = np.repeat(pixels[:, :, None], 3, axis=2)  # (S, S) -> (S, S, 3)
        return pixels

    def label(self, i: int) -> int:
        """The class of image i."""
        return int(self.labels[i])


def check_labels(path: Path, labels: np.ndarray, classes: Sequence[str], hint: str = "") -> None:
    """Raise UserError if a label is not the number of a class. `hint` names a likely reason."""
    if labels.size and labels.max() >= len(classes):
        at = int(labels.argmax())
        raise UserError(
            f"{path} has the label {labels[at]} at sample {at}, but there are {len(classes)} classes, "
            f"from 0 to {len(classes) - 1}{hint}; get the published file"
        )
