"""Everything random in a step, as a function of (seed, name, step, call)."""

from __future__ import annotations

from collections import Counter

import numpy as np

from .. import backend
from ..data import Dataset
from ..errors import UserError
from ..keys import generator, noise
from ..tensor import Tensor
from .parallel import ALONE, Group


class Draw:
    """What a member may ask for in a step: see gans/base.py.

    Whatever is random is drawn for the whole batch, of which each process of a group takes its share.
    So the weights are the same, but for rounding, for any number of processes.

    counts  all that a checkpoint has to hold:
        step     steps that are complete
        batches  batches of reals given so far
        again    how often the run has gone back; other numbers are drawn after each time
    """

    START = {"step": 0, "batches": 0, "again": 0}  # noqa: RUF012, copied by each

    def __init__(
        self,
        data: Dataset,
        batch_size: int,
        nz: int,
        seed: int,
        kind: str = "normal",
        flip: bool = False,
        device: str = "cpu",
        group: Group = ALONE,
    ):
        """kind is that of the noise: see keys.noise. Raises UserError if no batch can be filled."""
        check_batch(data, batch_size)
        self.data, self.batch_size, self.nz, self.seed = data, batch_size, nz, seed
        self.kind, self.flip, self.device, self.group = kind, flip, device, group
        self.per_epoch = len(data) // batch_size
        self.counts = dict(self.START)
        self._calls: Counter[str] = Counter()  # of each name, in this step
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, int))  # of the epoch in use

    @property
    def step(self) -> int:
        """Steps that are complete."""
        return self.counts["step"]

    def next_step(self) -> None:
        """The step is complete."""
        self.counts["step"] += 1
        self._calls.clear()

    @property
    def epoch(self) -> int:
        """The epoch of the batch given last, from 0."""
        return max(0, self.counts["batches"] - 1) // self.per_epoch

    def reals(self) -> Tensor:
        """The next batch of data, (N, *shape).

        An epoch is a permutation of the data, cut into full batches, so that batch statistics are
        always over the same number of samples. What is left over is in other batches of the next epoch.
        """
        batch = self.counts["batches"]
        epoch, position = divmod(batch, self.per_epoch)
        if self._order[0] != epoch:
            order = generator(self.seed, "order", epoch).permutation(len(self.data))
            self._order = (epoch, order)
        first = position * self.batch_size
        indices = self._order[1][first : first + self.batch_size]
        mirrored = None
        if self.flip:
            rng = generator(self.seed, "flip", batch)
            mirrored = self.group.share(rng.random(self.batch_size) < 0.5)
        self.counts["batches"] += 1
        return self.data.batch(self.group.share(indices), self.device, mirrored)

    def noise(self) -> Tensor:
        """z (N, nz)."""
        return self._tensor(noise(self._rng("noise"), (self.batch_size, self.nz), self.kind))

    def uniform(self, name: str, *shape: int) -> Tensor:
        """U(0, 1), (N, *shape), under a name of the member's own."""
        return self._tensor(self._rng(name).random((self.batch_size, *shape), np.float32))

    def _rng(self, name: str) -> np.random.Generator:
        self._calls[name] += 1
        return generator(self.seed, name, self.counts["again"], self.step, self._calls[name])

    def _tensor(self, whole: np.ndarray) -> Tensor:
        return Tensor(backend.move(self.group.share(whole), self.device))


def check_batch(data: Dataset, batch_size: int) -> None:
    """Raise UserError if the data cannot fill a batch."""
    if batch_size > len(data):
        raise UserError(
            f"--batch-size {batch_size}: {data.name} has {len(data)} samples; lower it, or use more"
        )
