"""What `minigan sample` draws with a member whose G has styles: what each style does, and the noise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..gans.base import GAN
from ..keys import generator, noise
from ..training import pictures
from ..training.game import Game
from ..training.looks import COLUMNS, drawn

ROWS = 5  # of faces in each picture
PSIS = (-1.0, -0.5, 0.0, 0.3, 0.5, 0.7, 1.0, 1.5)  # the columns of truncation.png
NOISES = 32  # over which the standard deviation is taken


def check(given: dict[str, Any], game: Game, member: GAN) -> None:
    """Raise UserError for options of `minigan sample` that are wrong or do not suit the member."""
    game.check_psi("--psi", given["psi"])
    crossover = given["crossover"]
    if crossover is not None and not member.styled:
        raise UserError(
            f"--crossover {crossover}: member {game.member} has no styles; leave it out"
        )
    if crossover is not None and not 1 <= crossover < member.style_count:
        raise UserError(
            f"--crossover {crossover}: G has {member.style_count} styles; give a number from 1 to "
            f"{member.style_count - 1}"
        )


class Styled:
    """A member with styles, of which pictures are made: by its average, or by G itself if `raw`."""

    def __init__(self, member: GAN, game: Game, path: Path, device: str, given: dict[str, Any]):
        self.member, self.game, self.path, self.device = member, game, path, device
        self.raw, self.seed = given["raw"], given["seed"]
        self.psi = 1.0 if given["psi"] is None else given["psi"]
        self.crossover = given["crossover"] or member.style_count - 2  # full size

    def samples(self, z: np.ndarray, y: None = None) -> np.ndarray:
        """Samples (N, *shape) of z (N, nz), truncated."""
        return self.images(self.styles(z, self.psi))

    def styles(self, z: np.ndarray, psi: float) -> np.ndarray:
        """z (N, nz) -> (N, styles, nz)"""
        make = lambda z: self.member.styles(z, psi, self.raw)
        return self._drawn(make, z)

    def images(self, styles: np.ndarray, planes: np.ndarray | None = None) -> np.ndarray:
        """(N, styles, nz), with noise (N, pixels) or the fixed one -> (N, *shape)"""
        make = lambda styles, planes=None: self.member.draw_styles(styles, planes, self.raw)
        return self._drawn(make, styles, *[] if planes is None else [planes])

    def save(self, out: Path) -> None:
        """Write mixing.png, truncation.png and noise.png, of the first samples of grid.png."""
        o = self.game.options
        z = noise(generator(self.seed, "sample"), (COLUMNS + ROWS, o.nz), o.noise)
        for name, images, columns in (
            ("mixing", self.mixing(z[COLUMNS:], z[: COLUMNS - 1]), COLUMNS),
            ("truncation", self.truncation(z[:COLUMNS]), len(PSIS)),
            ("noise", self.noise(z[:ROWS]), COLUMNS),
        ):
            pictures.save_png(out / f"{name}.png", self.game.data.picture(images, columns))

    def mixing(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """A table: row r and column c have the styles of rows[r], and of columns[c] from the crossover.

        rows (R, nz), columns (C, nz) -> ((1 + R) * (1 + C), *shape). The first row and the first column
        show the faces themselves, and their corner is white.
        """
        a, b = self.styles(rows, self.psi), self.styles(columns, self.psi)
        R, C, at = len(a), len(b), self.crossover
        mixed = a.repeat(C, 0)  # (R * C, styles, nz)
        mixed[:, at:] = np.tile(b[:, at:], (R, 1, 1))
        across, down, inner = map(self.images, (b, a, mixed))
        shape = self.member.shape
        table = np.ones((1 + R, 1 + C, *shape), np.float32)
        table[0, 1:], table[1:, 0] = across, down
        table[1:, 1:] = inner.reshape(R, C, *shape)  # (R * C, *shape) -> (R, C, *shape)
        return table.reshape(-1, *shape)

    def truncation(self, z: np.ndarray) -> np.ndarray:
        """A row of each z, with a psi of PSIS in each column: (N, nz) -> (N * len(PSIS), *shape)"""
        columns = [self.images(self.styles(z, psi)) for psi in PSIS]
        return np.stack(columns, 1).reshape(-1, *self.member.shape)  # (N, P, ...) -> (N * P, ...)

    def noise(self, z: np.ndarray) -> np.ndarray:
        """A row of each z: without noise, with different noises, and what they change.

        (N, nz) -> (N * COLUMNS, *shape). What they change is the standard deviation of each pixel over
        NOISES noises. The largest one of the picture is white, if it can be seen at all.
        """
        N, pixels, shape = len(z), self.member.noise_pixels, self.member.shape
        planes = generator(self.seed, "noises").standard_normal((NOISES, pixels), np.float32)
        styles = self.styles(z, self.psi)
        silent = self.images(styles, np.zeros((N, pixels), np.float32))
        # (N * NOISES, *shape) -> (N, NOISES, *shape)
        noisy = self.images(styles.repeat(NOISES, 0), np.tile(planes, (N, 1)))
        noisy = noisy.reshape(N, NOISES, *shape)
        deviation = noisy.std(1).mean(1, keepdims=True)  # (N, 1, H, W)
        grey = 2 * deviation / max(deviation.max(), 1 / 255) - 1
        last = np.broadcast_to(grey, (N, *shape))
        rows = [silent[:, None], noisy[:, : COLUMNS - 2], last[:, None]]
        # (N, COLUMNS, *shape) -> (N * COLUMNS, *shape)
        return np.concatenate(rows, 1).reshape(-1, *shape)

    def interpolation(self, z: np.ndarray, steps: int) -> np.ndarray:
        """Rows of `steps` samples, and below each a row from its first to its last one in w.

        z (R * steps, nz) -> (2 * R * steps, *shape)
        """
        rows = z.reshape(-1, steps, z.shape[1])
        ends = self.styles(rows[:, [0, -1]].reshape(-1, z.shape[1]), self.psi)
        a, b = ends[::2, None], ends[1::2, None]  # (R, 1, styles, nz)
        t = np.linspace(0, 1, steps, dtype=np.float32)[:, None, None]  # (steps, 1, 1)
        w = (1 - t) * a + t * b  # (R, steps, styles, nz)
        shape = (len(rows), steps, *self.member.shape)
        along_z = self.samples(z).reshape(shape)
        along_w = self.images(w.reshape(-1, *w.shape[2:])).reshape(shape)
        return np.stack([along_z, along_w], 1).reshape(-1, *self.member.shape)

    def _drawn(self, make: Callable[..., Any], *inputs: np.ndarray) -> np.ndarray:
        return drawn(make, self.path, self.device, inputs, self.member.shape)
