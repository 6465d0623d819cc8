"""Mode collapse, noticed while a run trains: are G's samples as far apart as those of the data?

Every EVERY steps the loop adds `diversity` to the metrics of a step:

    spacing of 64 fakes from fixed noise / mean spacing of sets of 64 reals    (evaluation/diversity.py)

The watch judges it by the sign COLLAPSED, as it does a member's own signs. Measuring changes nothing:
the noise and the choice of reals have a key of their own, and samples are drawn in evaluation mode.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import cached_property

import numpy as np

from .. import backend
from ..data import Dataset
from ..evaluation.diversity import spacing
from ..gans.base import GAN
from ..gans.signs import Metrics, Sign
from ..keys import generator, noise
from ..tensor import Tensor

EVERY = 20  # steps
COUNT = 64  # samples in a set
SETS = 8  # of reals, at most, because the spacing of a single set varies
CLASSES = 4  # of a conditional member that are measured, at most: COUNT / CLASSES are two crowds
# Reals are at 1. Healthy runs are above 0.3 after their first 100 steps; the default run begins at
# 0.17. A ring that has lost half of its modes is at 0.05.
LOW = 0.1


class Diversity:
    """Measures G itself, and not its average, which lags behind.

    The samples of a conditional member are of the same few classes as the reals. So a G that draws one
    image for each class is noticed too.
    """

    def __init__(self, member: GAN, data: Dataset, device: str):
        self._member, self._data, self._device = member, data, device

    def measure(self) -> dict[str, float]:
        """{"diversity": ...}; {} for a member that translates, which is given no noise, or if the data
        has too few samples of a class, or too many copies."""
        if self._member.translates or not self._spacing:
            return {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of overflow, which the watch reports
            samples = self._member.sample_raw(*self._inputs).numpy()
        finite = np.isfinite(samples).all()
        return {"diversity": spacing(samples) / self._spacing if finite else math.nan}

    @cached_property
    def _inputs(self) -> list[Tensor]:
        """z (n, nz), and for a conditional member the classes (n,), where n is the size of a set."""
        o = self._member.options
        z = noise(generator(o.seed, "diversity of fakes"), (len(self._sets[0]), o.nz), o.noise)
        y = [self._data.labels[self._sets[0]]] if self._member.conditional else []
        return [Tensor(backend.move(each, self._device)) for each in (z, *y)]

    @cached_property
    def _spacing(self) -> float:
        """The mean spacing of the sets of reals; 0 if there are none."""
        found = [spacing(self._data.batch(at, "cpu").numpy()) for at in self._sets]
        return float(np.mean(found)) if found else 0.0

    @cached_property
    def _sets(self) -> list[np.ndarray]:
        """The indices of sets of reals, (64,) each ((63,) for 3 classes); no sample is in two of them.

        For a conditional member, all sets have the same classes: the most frequent ones, equally often.
        """
        order = generator(self._member.options.seed, "diversity of reals").permutation(
            len(self._data)
        )
        parts = [order]
        if self._member.conditional:
            counts = np.bincount(self._data.labels)
            most = np.argsort(-counts, kind="stable")[:CLASSES]
            most = most[counts[most] >= COUNT // CLASSES]
            if not len(most):
                return []
            parts = [order[self._data.labels[order] == k] for k in most]
        each = COUNT // len(parts)
        sets = min(SETS, min(map(len, parts)) // each)
        return [np.concatenate([p[i * each : (i + 1) * each] for p in parts]) for i in range(sets)]


def _start() -> Callable[[Metrics], bool]:
    last = math.inf  # most reported steps have no measurement

    def is_low(metrics: Metrics) -> bool:
        nonlocal last
        last = metrics.get("diversity", last)
        return last < LOW

    return is_low


COLLAPSED = Sign(
    "collapsed generator",
    f"for {{}} steps G's samples have been {1 / LOW:.0f} times as close together as those of the data "
    "(mode collapse, unless samples/reals.png shows that the data or its classes are wrong)",
    "try a new run with a tenth of --lr",
    _start,
)
