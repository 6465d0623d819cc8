"""What is drawn for a step: data and random numbers, each a function of a key (see keys.py)."""

from __future__ import annotations

from collections import Counter

import numpy as np

from .. import backend
from ..data import Dataset
from ..errors import UserError
from ..keys import generator, noise
from ..options import short
from ..tensor import Tensor
from .parallel import ALONE, Group


class Draw:
    """The `gans.draw.Draw` of a run: a member asks it for data and noise, the loop counts its steps.

    Random numbers are drawn for the whole batch, and each process of a group takes its share of them,
    so a step uses the same numbers with any number of processes.

    counts  the whole state, which is saved in a checkpoint:
        step     completed steps
        batches  batches of reals drawn so far
        again    rollbacks so far; after each one, different numbers are drawn
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
        """kind: that of keys.noise. Raises UserError if the data cannot fill a batch."""
        check_batch(data, batch_size)
        self.data, self.batch_size, self.nz, self.seed = data, batch_size, nz, seed
        self.kind, self.flip, self.device, self.group = kind, flip, device, group
        self.per_epoch = len(data) // batch_size
        self.counts = dict(self.START)
        self._calls: Counter[str] = Counter()  # of each name, in this step
        self._orders: dict[int | None, tuple[int, np.ndarray]] = {}  # of the epochs in use

    @property
    def step(self) -> int:
        """The number of completed steps."""
        return self.counts["step"]

    def next_step(self) -> None:
        """Count the step as completed; the loop calls this after each step."""
        self.counts["step"] += 1
        self._calls.clear()

    @property
    def epoch(self) -> int:
        """The epoch of the last batch of reals, from 0."""
        return max(0, self.counts["batches"] - 1) // self.per_epoch

    def reals(self) -> Tensor:
        """The next batch of data, (N, *shape)."""
        return self._next_batch()[1]

    def labelled(self) -> tuple[Tensor, Tensor]:
        """The next batch of data, (N, *shape), and its classes, (N,) int64.

        Raises UserError if the data has no labels.
        """
        known = self._labels()
        indices, x = self._next_batch()
        return x, Tensor(backend.move(known[indices], self.device))

    def each_class(self) -> tuple[Tensor, ...]:
        """The next batch of each class of the data, in the order of the classes: (N, *shape) each.

        The batches do not belong together: each class is shuffled on its own. A class with fewer
        samples is repeated more often.

        Raises UserError if the data has no labels.
        """
        self._labels()
        return tuple(self._next_batch(k)[1] for k in range(len(self.data.classes)))

    def labels(self) -> Tensor:
        """Classes for fakes, (N,) int64: the class of a random sample of the data for each fake.

        Raises UserError if the data has no labels.
        """
        known = self._labels()
        return self._tensor(known[self._rng("labels").integers(len(known), size=self.batch_size)])

    def _labels(self) -> np.ndarray:
        if self.data.labels is None:
            raise UserError(f"{self.data.name} has no labels; use labelled data, such as digits")
        return self.data.labels

    def _next_batch(self, k: int | None = None) -> tuple[np.ndarray, Tensor]:
        """The next batch of data: the indices of its samples, (N,), and the samples, (N, *shape).

        An epoch is a permutation of the data, cut into full batches, so that batch statistics are
        always over the same number of samples. Samples that are left over are not used in this epoch;
        the next epoch has another permutation.

        k  the class, if only its samples are wanted. It has epochs of its own, and every K-th batch
        """
        batch = self.counts["batches"]
        turn = batch if k is None else batch // len(self.data.classes)
        order, first = self._place(turn, k)
        indices = order[first : first + self.batch_size]
        mirrored = None
        if self.flip:
            rng = generator(self.seed, "flip", batch)
            mirrored = self.group.share(rng.random(self.batch_size) < 0.5)
        self.counts["batches"] += 1
        mine = self.group.share(indices)
        return mine, self.data.batch(mine, self.device, mirrored)

    def _place(self, turn: int, k: int | None) -> tuple[np.ndarray, int]:
        """The permutation of an epoch, and where batch `turn` of the data, or of class k, begins."""
        count = len(self.data) if k is None else int((self._labels() == k).sum())
        epoch, position = divmod(turn, count // self.batch_size)
        if self._orders.get(k, (-1,))[0] != epoch:
            samples = np.arange(count) if k is None else np.flatnonzero(self._labels() == k)
            key = () if k is None else (k,)
            order = generator(self.seed, "order", epoch, *key).permutation(samples)
            self._orders[k] = epoch, order
        return self._orders[k][1], position * self.batch_size

    def noise(self) -> Tensor:
        """z (N, nz)."""
        return self._tensor(noise(self._rng("noise"), (self.batch_size, self.nz), self.kind))

    def uniform(self, name: str, *shape: int) -> Tensor:
        """U(0, 1), (N, *shape), under a name that the member chooses."""
        return self._tensor(self._rng(name).random((self.batch_size, *shape), np.float32))

    def normal(self, name: str, *shape: int) -> Tensor:
        """N(0, 1), (N, *shape), under a name that the member chooses."""
        return self._tensor(self._rng(name).standard_normal((self.batch_size, *shape), np.float32))

    def _rng(self, name: str) -> np.random.Generator:
        self._calls[name] += 1
        return generator(self.seed, name, self.counts["again"], self.step, self._calls[name])

    def _tensor(self, whole: np.ndarray) -> Tensor:
        return Tensor(backend.move(self.group.share(whole), self.device))


def check_batch(data: Dataset, batch_size: int, each_class: bool = False) -> None:
    """Raise UserError if the data cannot fill a batch.

    each_class  whether each class must fill a batch, for members that ask for `each_class`
    """
    counts = {data.name: len(data)}
    if each_class:
        sizes = np.bincount(data.labels, minlength=len(data.classes)).tolist()
        counts |= {f"class {k} of {data.name}": n for k, n in zip(data.classes, sizes, strict=True)}
    for name, count in counts.items():
        if batch_size > count:
            raise UserError(
                f"--batch-size {batch_size}: {short(name)} has {count} samples; lower it, or use more "
                "data"
            )
