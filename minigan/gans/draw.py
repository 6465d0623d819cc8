"""What a step may ask for, and what it returns."""

from __future__ import annotations

from typing import Protocol

from ..tensor import Tensor


class Scalar(Protocol):
    """A number that is computed, or fetched from a GPU, only when it is read."""

    def item(self) -> float: ...


class Draw(Protocol):
    """What a member may ask for within a step; `training.draw.Draw` provides it.

    Each call returns something new, in float32 unless it says otherwise. N is the batch size, or this
    process's share of it. Only a conditional member may ask for labels, because the data of other
    members may have none.

    step  the number of completed steps
    """

    step: int

    def reals(self) -> Tensor:
        """The next batch of data, (N, *shape)."""

    def labelled(self) -> tuple[Tensor, Tensor]:
        """The next batch of data, (N, *shape), and its classes, (N,) int64."""

    def each_class(self) -> tuple[Tensor, ...]:
        """The next batch of each class, (N, *shape) each; they do not belong together."""

    def labels(self) -> Tensor:
        """Classes for fakes, (N,) int64, distributed as those of the data."""

    def noise(self) -> Tensor:
        """z (N, nz)."""

    def uniform(self, name: str, *shape: int) -> Tensor:
        """U(0, 1), (N, *shape), under a name that the member chooses."""

    def normal(self, name: str, *shape: int) -> Tensor:
        """N(0, 1), (N, *shape), likewise."""
