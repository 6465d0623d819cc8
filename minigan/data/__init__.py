"""What a data set is. Each kind has its own file in this folder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..tensor import Tensor


class Dataset(ABC):
    """A finite list of samples of one shape, and how such samples are shown.

    name      part of the name of a run's folder
    shape     the shape of a sample as the networks see it: (C, H, W) or (2,)
    identity  what config.json records about the data, as JSON values; "fingerprint" tells data sets
              apart, labels included, and "classes" lists the names of the classes, if there are any
    labels    (n,) int64, the class of each sample in [0, K); None for data without classes
    classes   the names of the K classes; empty for data without classes
    shown     the number of samples in a picture
    skipped   (name, reason) of each file that could not be used
    notes     sentences for the user about what was left out
    """

    name: str
    shape: tuple[int, ...]
    identity: dict[str, Any]
    shown: int
    labels: np.ndarray | None = None
    classes: Sequence[str] = ()
    skipped: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def batch(self, indices: np.ndarray, device: str, mirrored: np.ndarray | None = None) -> Tensor:
        """The samples at these indices: (N, *shape) float32 on the device.

        mirrored  (N,) bool: which samples to flip left to right; UserError for data that is not images
        """

    @abstractmethod
    def picture(self, samples: np.ndarray) -> np.ndarray:
        """Samples (N, *shape), real or generated, as one picture (H, W, 3) uint8."""
