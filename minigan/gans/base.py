"""What every member of the family has: options, players, a step, and samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import numpy as np

from .. import init
from ..keys import NOISES, generator
from ..models import dcgan, mlp
from ..nn import Module
from ..options import MOST_SEED, Table, option
from ..tensor import Tensor, no_grad
from .player import ALONE, Group, Player
from .signs import Sign


class Scalar(Protocol):
    """A number that is computed, or fetched from a GPU, when it is read."""

    def item(self) -> float: ...


class Draw(Protocol):
    """What a member may ask for within a step. Each call gives something new; N is the batch."""

    def reals(self) -> Tensor:
        """The next batch of data, (N, *shape)."""

    def noise(self) -> Tensor:
        """z (N, nz)."""

    def uniform(self, name: str, *shape: int) -> Tensor:
        """U(0, 1), (N, *shape), under a name of the member's own."""


@dataclass(frozen=True)
class Options(Table):
    """The options that every member has. All of a member's options determine its weights."""

    batch_size: int = option(128, "samples a batch", least=2, most=10**9, flags=["--batchSize"])
    nz: int = option(100, "length of the noise vector z", least=1, most=10_000)
    noise: str = option("normal", "distribution of z", choices=NOISES)
    ngf: int = option(64, "width of G: channels of its last hidden layer", least=1, most=1024)
    ndf: int = option(64, "width of D: channels of its first layer", least=1, most=1024)
    ema: float = option(
        0.99,
        "decay of the average of G that samples are drawn from; 0 keeps none",
        least=0,
        below=1,
    )
    seed: int = option(
        999, "seed of everything random", least=0, most=MOST_SEED, flags=["--manualSeed"]
    )


class GAN(ABC):
    """A member. `step` plays one step of its game, which may be several updates of D.

    Options  a Table; each of its fields determines the weights
    players  all networks that are trained, under the names that their weights are saved under;
             samples are drawn from the one that is called "G"
    extra    whatever else a step changes, as a tree of arrays and whole numbers for checkpoints
    signs    what trouble looks like in this member's metrics
    batches  of reals that a step uses
    """

    Options: ClassVar[type[Options]]
    players: dict[str, Player]
    extra: dict[str, Any]
    signs: Sequence[Sign] = ()
    batches: int = 1

    def __init__(
        self,
        options: Any,
        shape: tuple[int, ...],
        rng: np.random.Generator,
        device: str = "cpu",
        group: Group = ALONE,
    ):
        """Make the players for samples of this shape, their first weights drawn from rng."""
        self.options, self.shape = options, shape
        self.players, self.extra = {}, {}
        self.build(rng, device, group)

    @classmethod
    def outline(cls, options: Any, shape: tuple[int, ...]) -> dict[str, Tensor]:
        """The weights that these options give, by the path of a checkpoint, without their memory.

        Each has its shape, dtype and `data.nbytes`, and no values: the largest networks are outlined in
        a moment. Averages and the state of optimisers, which have the same shapes, are left out.
        """
        with init.shapes_only():
            member = cls(replace(options, ema=0.0), shape, generator("outline"))
        return {
            f"players.{name}.net.{key}": weight
            for name, player in member.players.items()
            for key, weight in player.net.state_dict().items()
        }

    @abstractmethod
    def build(self, rng: np.random.Generator, device: str, group: Group) -> None:
        """Fill `players`."""

    @abstractmethod
    def step(self, draw: Draw) -> dict[str, Scalar]:
        """Play one step; its metrics by name, of which only those of reported steps are read."""

    def sample(self, z: Tensor) -> Tensor:
        """What G makes of z (N, nz): its average, if there is one."""
        G = self.players["G"]
        return _generate(G.average or G.net, z)

    def sample_raw(self, z: Tensor) -> Tensor:
        """What G itself makes of z (N, nz)."""
        return _generate(self.players["G"].net, z)


def _generate(G: Module, z: Tensor) -> Tensor:
    """G(z) in evaluation mode, so that looking changes nothing."""
    training = G.training
    G.eval()
    try:
        with no_grad():
            return G(z)
    finally:
        G.train(training)


def networks(
    shape: tuple[int, ...], options: Options, rng: np.random.Generator, norm: str
) -> tuple[Module, Module, Callable[[Tensor], Tensor]]:
    """G, D and D's scores (N,) for samples of this shape: the DCGAN's for images, else an MLP's.

    norm  "batch" or "none": that of the DCGAN's discriminator
    """
    if len(shape) == 3:
        channels, _, size = shape
        G: Module = dcgan.Generator(options.nz, options.ngf, channels, size, rng)
        D: Any = dcgan.Discriminator(options.ndf, channels, size, rng, norm)
    else:
        G = mlp.Generator(options.nz, options.ngf, shape[0], rng)
        D = mlp.Discriminator(options.ndf, shape[0], rng)
    return G, D, lambda x: D.logits(x).reshape(-1)  # (N, 1, ...) -> (N,)
