"""What a run leaves to look at: pictures of samples at fixed noise, curves and a film.

Drawing them never changes the run: their noise has its own key, and samples are drawn in evaluation
mode. So the weights are the same with pictures and without.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .. import backend
from ..data import Dataset
from ..gans.base import GAN
from ..keys import generator, noise
from ..tensor import Tensor
from . import pictures
from .run import Run

IMAGES, POINTS = 64, 4096  # samples drawn at a time, to bound the memory


def at_once(shape: tuple[int, ...]) -> int:
    """How many samples of this shape to draw at a time."""
    return IMAGES if len(shape) == 3 else POINTS


class Looks:
    """The pictures of one run; only the leader of a group draws them."""

    def __init__(
        self, member: GAN, data: Dataset, run: Run, device: str, say: Callable[[str], None]
    ):
        self.member, self.data, self.run, self.say = member, data, run, say
        o = member.options
        z = noise(generator(o.seed, "pictures"), (data.shown, o.nz), o.noise)
        self.z = Tensor(backend.move(z, device))

    def reals(self) -> None:
        """reals.png: the first samples of the data, as the networks see them."""
        self._save("reals.png", self._reals())

    def samples(self, step: int) -> None:
        """The picture of a step, from G's average if there is one, and its comparisons.

        These show it next to reals and, if there is an average, next to samples of G itself.
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

    def _reals(self) -> np.ndarray:
        indices = np.arange(self.data.shown) % len(self.data)  # a small data set is repeated
        return self.data.picture(self.data.batch(indices, "cpu").numpy())

    def _picture(self, sample: Callable[[Tensor], Tensor]) -> np.ndarray:
        n = at_once(self.data.shape)
        parts = [self.z[i : i + n] for i in range(0, len(self.z), n)]
        return self.data.picture(np.concatenate([sample(z).numpy() for z in parts]))

    def _save(self, name: str, pixels: np.ndarray) -> None:
        pictures.save_png(self.run.samples / name, pixels)
