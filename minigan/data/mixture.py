"""Mixtures of Gaussians in the plane: data on which a GAN's game can be watched.

    ring  8 Gaussians on a circle of radius 2, standard deviation 0.02 (Metz et al. 2017, appendix)
    grid  25 Gaussians on a 5 x 5 grid, 2 apart, standard deviation 0.05 (Srivastava et al. 2017)

All modes have the same share of the points. Each mode is a class, named by its number. A collapsed
generator covers only a few modes, which is visible at a glance.
"""

from __future__ import annotations

import hashlib

import numpy as np

from ..errors import UserError
from ..keys import generator
from ..tensor import Tensor, tensor
from . import Dataset

SIDE = 256  # pixels of a picture
EDGE = 0.25  # margin around the data, as a fraction of its extent
REAL, FAKE = (200, 200, 200), (200, 30, 30)  # colours of the modes and of the samples


def ring(modes: int = 8, radius: float = 2.0) -> np.ndarray:
    """Centres (modes, 2) on a circle; the first is at (radius, 0)."""
    angle = 2 * np.pi * np.arange(modes) / modes  # without 2 pi, which would be the same mode as 0
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def grid(side: int = 5, spacing: float = 2.0) -> np.ndarray:
    """Centres (side^2, 2) of a square lattice around the origin."""
    line = spacing * (np.arange(side) - (side - 1) / 2)
    centers = np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1)  # (side, side, 2)
    return centers.reshape(-1, 2)  # (side^2, 2)


CENTERS = {"ring": (ring, 0.02), "grid": (grid, 0.05)}  # and the standard deviation of each


class Mixture(Dataset):
    """`count` points of a mixture, which depend only on its name and the seed."""

    shape = (2,)
    shown = 2500  # the number of samples for which the papers count modes

    def __init__(self, name: str, count: int = 100_000, seed: int = 0):
        centers, self.std = CENTERS[name]
        self.name, self.centers = name, centers()
        rng = generator(seed, name)
        modes = rng.integers(len(self.centers), size=count)
        points = self.centers[modes] + self.std * rng.standard_normal((count, 2))
        self.points = points.astype(np.float32)
        self.labels, self.classes = modes, tuple(map(str, range(len(self.centers))))
        # This identifies the labels too, because each point is nearest to its own mode.
        digest = hashlib.sha256(self.points.tobytes()).hexdigest()
        self.identity = {"kind": name, "count": count, "std": self.std, "fingerprint": digest}
        self.identity["classes"] = list(self.classes)

    def __len__(self) -> int:
        return len(self.points)

    def batch(self, indices: np.ndarray, device: str, mirrored: np.ndarray | None = None) -> Tensor:
        if mirrored is not None:
            raise UserError(f"--flip: points of a {self.name} have no left and right; leave it out")
        return tensor(self.points[indices], device=device)

    def picture(self, samples: np.ndarray) -> np.ndarray:
        """A scatter plot: the modes as grey discs of three standard deviations, the samples in red."""
        extent = np.abs(self.centers).max() * (1 + EDGE)
        axis = np.linspace(-extent, extent, SIDE)
        x, y = np.meshgrid(axis, -axis)  # the second coordinate grows upwards
        near = np.min([np.hypot(x - cx, y - cy) for cx, cy in self.centers], axis=0)
        pixels = np.full((SIDE, SIDE, 3), 255, np.uint8)
        pixels[near < np.maximum(3 * self.std, 1.5 * extent / SIDE)] = REAL
        at = np.rint((samples * (1, -1) / extent + 1) / 2 * (SIDE - 1))  # (N, 2): column, row
        column, row = at[((at >= 0) & (at < SIDE)).all(1)].astype(int).T
        pixels[row, column] = FAKE
        return pixels

    def modes(self, samples: np.ndarray) -> tuple[int, float]:
        """The number of modes that the samples (N, 2) cover, and the fraction of samples on a mode.

        A sample is on the nearest mode if it is within 3 standard deviations of the mode's centre, as
        1 - e^-4.5 = 98.9 % of true samples are. A mode is covered if it has at least a quarter of its
        fair share of the samples.
        """
        on = self.mode_of(samples)
        counts = np.bincount(on[on >= 0], minlength=len(self.centers))
        covered = counts >= len(samples) / len(self.centers) / 4
        return int(covered.sum()), int(counts.sum()) / len(samples)

    def mode_of(self, samples: np.ndarray) -> np.ndarray:
        """The mode that each of the samples (N, 2) is on, (N,) int64; -1 for a sample on none."""
        distance = np.linalg.norm(samples[:, None] - self.centers, axis=2)  # (N, modes)
        return np.where(distance.min(1) <= 3 * self.std, distance.argmin(1), -1)
