"""What a data set is. Each data set has a file of its own in this folder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..tensor import Tensor


class Dataset(ABC):
    """A finite list of samples of one shape, and how samples of that shape are shown.

    name      part of the name of a run's folder
    shape     of a sample as the networks see it: (C, H, W) or (2,)
    identity  what config.json says about the data, in JSON's types; its "fingerprint" is equal for
              equal data only
    shown     how many samples a picture shows
    skipped   (name, reason) of each file that could not be used
    notes     sentences for the user about what was left out
    """

    name: str
    shape: tuple[int, ...]
    identity: dict[str, Any]
    shown: int
    skipped: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def batch(self, indices: np.ndarray, device: str, mirrored: np.ndarray | None = None) -> Tensor:
        """The samples at these indices: (N, *shape) float32 on the device.

        mirrored  (N,) bool: which of them to mirror left to right; UserError for data without sides
        """

    @abstractmethod
    def picture(self, samples: np.ndarray) -> np.ndarray:
        """Samples (N, *shape), real or generated, as one picture (H, W, 3) uint8."""
