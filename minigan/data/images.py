"""A data set of images: decoded pixels from a cache, scaled to the range of G's tanh."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from .. import backend
from ..tensor import Tensor
from . import Dataset, cache

GREY = (0.299, 0.587, 0.114)  # luma of ITU-R BT.601, as in Pillow
GAP = 2  # pixels between the images of a grid


class ImageSet(Dataset):
    """The images of a cache, in colour (nc 3) or grey (nc 1)."""

    shown = 64

    def __init__(
        self,
        images: cache.Images,
        nc: int,
        name: str,
        notes: Sequence[str] = (),
        labels: np.ndarray | None = None,
        classes: Sequence[str] = (),
    ):
        self.pixels, self.name, self.skipped = images.pixels, name, images.skipped
        self.shape = (nc, *images.pixels.shape[1:3])
        self.labels, self.classes = labels, tuple(classes)
        digest = fingerprint(images, labels, classes)
        counts = {"count": len(images.pixels), "skipped": len(images.skipped)}
        self.identity = {**images.identity, **counts, "fingerprint": digest}
        if labels is not None:
            self.identity["classes"] = list(classes)
        self.notes = list(notes)
        if self.skipped:
            count = len(self.skipped)
            self.notes.append(
                f"{count} files could not be used; skipped.txt in the run names them."
            )

    def __len__(self) -> int:
        return len(self.pixels)

    def batch(self, indices: np.ndarray, device: str, mirrored: np.ndarray | None = None) -> Tensor:
        pixels = self.pixels[indices]  # (N, H, W, 3), a copy
        if mirrored is not None:
            pixels[mirrored] = pixels[mirrored, :, ::-1]
        return to_tensor(pixels.transpose(0, 3, 1, 2), self.shape[0], device)  # (N, 3, H, W)

    def picture(self, samples: np.ndarray) -> np.ndarray:
        return grid(to_pixels(samples))


def fingerprint(
    images: cache.Images, labels: np.ndarray | None = None, classes: Sequence[str] = ()
) -> str:
    """A digest of all pixels, names and labels. It does not depend on where the data is stored."""
    digest = hashlib.sha256("\n".join([images.digest, *images.names]).encode())
    if labels is not None:
        digest.update("\n".join(["", *classes, ""]).encode())
        digest.update(labels.astype("<i8").tobytes())
    return digest.hexdigest()


def to_tensor(batch: np.ndarray, nc: int, device: str) -> Tensor:
    """Scale pixels 0..255 to [-1, 1]: uint8 (N, 3, H, W) -> float32 (N, nc, H, W)."""
    batch = backend.move(batch, device)  # moved as bytes, a quarter of the size of float32
    xp = backend.array_module(batch)
    x = backend.kernels(xp).scale_pixels(xp, batch)
    if nc == 1:
        red, green, blue = (weight * x[:, i : i + 1] for i, weight in enumerate(GREY))
        x = red + green + blue  # (N, 1, H, W)
    return Tensor(x)


def to_pixels(images: np.ndarray) -> np.ndarray:
    """Scale values in [-1, 1] to pixels 0..255: (N, C, H, W) -> uint8 (N, H, W, 3).

    Every image has the same scale: grids stretched to their own minimum and maximum would not be
    comparable.
    """
    pixels = np.rint((images.clip(-1, 1) + 1) * 127.5).astype(np.uint8)
    pixels = pixels.transpose(0, 2, 3, 1)  # (N, H, W, C)
    return np.repeat(pixels, 3, axis=3) if pixels.shape[3] == 1 else pixels


def grid(pixels: np.ndarray, columns: int = 8) -> np.ndarray:
    """uint8 images in a grid with white gaps: (N, H, W, 3) -> (rows*H + ..., columns*W + ..., 3)."""
    n, h, w, c = pixels.shape
    columns = min(columns, n)
    rows = -(-n // columns)
    canvas = np.full((rows * (h + GAP) + GAP, columns * (w + GAP) + GAP, c), 255, np.uint8)
    for i, picture in enumerate(pixels):
        top, left = GAP + i // columns * (h + GAP), GAP + i % columns * (w + GAP)
        canvas[top : top + h, left : left + w] = picture
    return canvas
