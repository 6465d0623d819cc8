"""What a run leaves to look at: pictures of samples at fixed noise, curves and a film.

Drawing pictures never changes the run: their noise has its own key, and samples are drawn in evaluation
mode. So the weights are the same with or without pictures.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from .. import backend
from ..data import Dataset
from ..gans.base import GAN
from ..keys import generator, noise
from ..pieces import cat
from ..tensor import Tensor
from . import pictures
from .checkpoint import REMEDY, CheckpointError
from .run import Run

IMAGES, POINTS = 64, 4096  # samples drawn at a time, to bound the memory
COLUMNS = 8  # of a grid of images
ROWS = 10  # classes in a run's pictures, at most: the first ones


def at_once(shape: tuple[int, ...]) -> int:
    """The number of samples of this shape to draw at a time."""
    return IMAGES if len(shape) == 3 else POINTS


def in_parts(
    make: Callable[..., Tensor], inputs: Sequence[Tensor], shape: tuple[int, ...]
) -> np.ndarray:
    """Samples (N, *shape) from inputs (N, ...), drawn in parts to bound the memory.

    make  `sample` or `sample_raw` of a member

    The last part is filled up to the size of the others with copies of its first row, because the last
    bits of a row of a matrix product may depend on the number of rows. So the first samples are the
    same no matter how many follow.
    """
    count, found = at_once(shape), []
    for i in range(0, len(inputs[0]), count):
        part = [whole[i : i + count] for whole in inputs]
        if missing := count - len(part[0]):
            part = [cat([p, p[:1].expand(missing, *p.shape[1:])]) for p in part]
        found.append(make(*part).numpy()[: count - missing])
    return np.concatenate(found)


def draw_samples(
    member: GAN, path: Path, raw: bool, device: str, z: np.ndarray, y: np.ndarray | None
) -> np.ndarray:
    """The samples from z (N, nz) and their classes, drawn in parts to bound the memory.

    path  of the member's checkpoint, for the message

    Raises CheckpointError if the weights are so large that samples are not finite.
    """
    make = member.sample_raw if raw else member.sample
    return drawn(make, path, device, [z] if y is None else [z, y], member.shape)


def drawn(
    make: Callable[..., Tensor],
    path: Path,
    device: str,
    inputs: Sequence[np.ndarray],
    shape: tuple[int, ...],
) -> np.ndarray:
    """make(*inputs), drawn in parts as in `in_parts`; path, device and errors as in `draw_samples`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # about overflow, which is checked below
        samples = in_parts(make, [Tensor(backend.move(each, device)) for each in inputs], shape)
    if not np.isfinite(samples).all():
        raise CheckpointError(f"{path}: its generator draws values that are not finite; {REMEDY}")
    return samples


class Looks:
    """The pictures of one run; only the leader of a group draws them."""

    def __init__(
        self, member: GAN, data: Dataset, run: Run, device: str, say: Callable[[str], None]
    ):
        self.member, self.data, self.run, self.say = member, data, run, say
        self.rows = min(member.classes, ROWS) if len(data.shape) == 3 else 0  # one class each
        inputs = self._images() if member.translates else self._noise()
        self.inputs = [Tensor(backend.move(each, device)) for each in inputs if each is not None]

    def reals(self) -> None:
        """reals.png: the first samples of the data, as the networks see them."""
        self._save("reals.png", self._reals())

    def samples(self, step: int) -> None:
        """The picture of a step, drawn by the average of G if there is one.

        Two more pictures show these samples next to reals and, if there is an average, next to samples
        of G itself.
        """
        fakes = self._picture(self.member.sample)
        self._save(f"step-{step:08d}.png", fakes)
        self._save("real-beside-fake.png", pictures.beside(self._reals(), fakes))
        if self.member.players["G"].average is not None:
            raw = self._picture(self.member.sample_raw)
            self._save("raw-beside-average.png", pictures.beside(raw, fakes))

    def figures(self) -> None:
        """Draw the curves and the film from the files in the run folder."""
        if metrics := self.run.metrics(self.say):
            pictures.save_curves(self.run.folder, metrics)
        if frames := sorted(self.run.samples.glob("step-*.png")):
            pictures.save_film(self.run.folder / "progress.gif", frames, self.say)

    def _noise(self) -> tuple[np.ndarray, np.ndarray | None]:
        """z (n, nz) and the classes (n,) of the samples in a picture."""
        o, n = self.member.options, COLUMNS * self.rows or self.data.shown
        which, y = arrange(n, self.data.shape, self.member.classes)
        return noise(generator(o.seed, "pictures"), (1 + which.max(), o.nz), o.noise)[which], y

    def _images(self) -> tuple[np.ndarray, np.ndarray]:
        """The reals of a picture, (n, *shape), and the classes (n,) into which they are translated."""
        rows = [self._real_row(k) for k in range(self.rows)]
        return np.concatenate(rows), np.repeat([1, 0], COLUMNS)

    def _reals(self) -> np.ndarray:
        data = self.data
        if self.rows:
            return data.picture(np.concatenate([self._real_row(k) for k in range(self.rows)]))
        indices = np.arange(data.shown) % len(data)  # repeats a small data set
        return data.picture(data.batch(indices, "cpu").numpy())

    def _real_row(self, k: int) -> np.ndarray:
        """The first samples of class k, (COLUMNS, *shape); white images if it has none."""
        indices = np.flatnonzero(self.data.labels == k)[:COLUMNS]
        if not len(indices):
            return np.ones((COLUMNS, *self.data.shape), np.float32)
        return self.data.batch(np.resize(indices, COLUMNS), "cpu").numpy()  # repeated if too few

    def _picture(self, sample: Callable[..., Tensor]) -> np.ndarray:
        return self.data.picture(in_parts(sample, self.inputs, self.data.shape))

    def _save(self, name: str, pixels: np.ndarray) -> None:
        pictures.save_png(self.run.samples / name, pixels)


def originals(data: Dataset, y: np.ndarray, seed: int, name: str) -> np.ndarray:
    """Images to translate into classes y (N,): random ones of the other class, (N, *shape) float32.

    They are repeated if the data has too few.

    seed, name  of the random numbers
    """
    indices = np.empty(len(y), int)
    for k in (0, 1):
        mine = generator(seed, name, k).permutation(np.flatnonzero(data.labels == k))
        indices[y != k] = np.resize(mine, int((y != k).sum()))
    return data.batch(indices, "cpu").numpy()


def arrange(n: int, shape: tuple[int, ...], classes: int) -> tuple[np.ndarray, np.ndarray | None]:
    """The numbers of the noise and of the class of each of n samples in a picture: (n,) int64 each.

    In a grid of images, each row shows one class, and consecutive rows of different classes share their
    noise, so that a column shows what the class alone changes. Points take the classes in turn, each
    with its own noise. If `classes` is 0, each sample has its own noise, and the class numbers are
    None.
    """
    i = np.arange(n)
    if not classes:
        return i, None
    if len(shape) < 3:
        return i, i % classes
    row, column = np.divmod(i, COLUMNS)
    return row // classes * COLUMNS + column, row % classes
