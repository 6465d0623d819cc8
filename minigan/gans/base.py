"""What every member of the family has: options, players, a step, and samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from .. import init
from ..errors import UserError
from ..keys import NOISES, generator
from ..models import FOR_IMAGES, WITHOUT_NORM, first_values
from ..models.layers import GROUP
from ..nn import Module
from ..options import MOST_SEED, Table, option
from ..tensor import Tensor, no_grad
from .augment import CHANGES
from .draw import Draw, Scalar
from .player import ALONE, Group, Player
from .signs import Sign


@dataclass(frozen=True)
class Common(Table):
    """The options that every member has. Each of a member's options affects its weights.

    nz, noise  length and distribution of the noise z; nz is 0 for a member that translates images
    unit       the number of samples that D must see together: batches and shares are multiples of it
    """

    nz: ClassVar[int] = 0
    noise: ClassVar[str] = "normal"
    unit: ClassVar[int] = 1

    batch_size: int = option(128, "samples per batch", least=2, most=10**9, flags=["--batchSize"])
    ngf: int = option(64, "width of G: channels of its last hidden layer", least=1, most=1024)
    ndf: int = option(64, "width of D: channels of its first layer", least=1, most=1024)
    lr: float = option(2e-4, "learning rate of both optimisers", above=0)
    g_lr: float | None = option(None, "learning rate of G; by default --lr", above=0)
    d_lr: float | None = option(None, "learning rate of D; by default --lr", above=0)
    lr_decay: int = option(
        0,
        "steps over which the learning rates fall linearly to 0; 0 keeps them constant",
        least=0,
        most=10**9,
    )
    lr_decay_start: int = option(
        0, "steps before the learning rates begin to fall", least=0, most=10**9
    )
    init: str = option(
        "auto",
        "distribution of the first weights; auto is the network's default",
        choices=("auto", *first_values.KINDS),
    )
    ema: float = option(
        0.99,
        "decay of the average of G's weights, used to draw samples; 0 keeps no average",
        least=0,
        below=1,
    )
    seed: int = option(
        999, "seed of all random numbers", least=0, most=MOST_SEED, flags=["--manualSeed"]
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lr_decay_start and not self.lr_decay:
            raise UserError(
                f"--lr-decay-start {self.lr_decay_start}: the rates never fall; give --lr-decay too"
            )

    @property
    def rates(self) -> tuple[float, float]:
        """The learning rates of G and of D."""
        return self.g_lr or self.lr, self.d_lr or self.lr

    def check_share(self, size: int) -> None:
        """Raise UserError if D cannot judge so few samples at a time; any number will do here.

        size  the number of samples in a batch, or in a process's share of it
        """


@dataclass(frozen=True)
class Options(Common):
    """The options of every member that makes samples from noise."""

    nz: int = option(100, "length of the noise vector z", least=1, most=10_000)
    noise: str = option("normal", "distribution of z", choices=NOISES)
    network: str = option(
        "auto",
        "networks for images; auto is dcgan (points always use mlp)",
        choices=("auto", "mlp", *FOR_IMAGES),
        images=True,
    )
    norm: str = option(
        "auto",
        "normalisation in D of dcgan and projected; auto is batch, or none where D's slope is "
        "penalised or its weights are normalised",
        choices=("auto", "batch", "layer", "none"),
        images=True,
    )
    spectral_norm: bool = option(False, "divide each weight of D by its largest singular value")
    d_dropout: float = option(0.0, "probability of dropping an activation in D", least=0, below=1)
    minibatch_std: bool = option(False, "show D the standard deviation over the batch")
    minibatch_discrimination: bool = option(False, "show D how near each sample is to the others")
    pack: int = option(1, "samples that D judges together (PacGAN)", least=1, most=64)
    augment: str = option(
        "none",
        "random changes to all images that D sees",
        choices=("none", *CHANGES, "all"),
        images=True,
    )
    instance_noise: float = option(
        0.0, "standard deviation of noise on all samples that D sees", least=0, most=10
    )
    noise_steps: int = option(
        0,
        "steps over which the instance noise falls linearly to 0; 0 keeps it constant",
        least=0,
        most=10**9,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size % self.pack:
            raise UserError(
                f"--pack {self.pack}: a batch of {self.batch_size} cannot be cut into packs; make "
                "--batch-size a multiple of it"
            )
        if self.batch_size % self.unit and self.batch_size > self.unit:
            raise UserError(
                f"--minibatch-std: D compares samples in groups of {GROUP}; make --batch-size a "
                f"multiple of {self.unit}, not {self.batch_size}"
            )
        self.check_share(self.batch_size)
        self._check_penalty()
        if self.spectral_norm and self.norm == "batch":
            raise UserError(
                "--spectral-norm: batch norm scales what spectral norm has bounded; use --norm none"
            )
        if self.norm in ("batch", "layer") and self.network in WITHOUT_NORM:
            raise UserError(
                f"--norm {self.norm}: D of --network {self.network} has no norm; leave it out, or use "
                "--network dcgan"
            )
        if self.noise_steps and not self.instance_noise:
            raise UserError(
                f"--noise-steps {self.noise_steps}: there is no noise; give --instance-noise"
            )

    @property
    def unit(self) -> int:
        """The number of samples that D must see together: a pack, or a group of packs."""
        return self.pack * (GROUP if self.minibatch_std else 1)

    @property
    def penalty_flag(self) -> str:
        """The flag of the option that penalises D's slope; "" if there is none."""
        return ""

    @property
    def norm_of_D(self) -> str:
        """The normalisation in D: `norm`, with `auto` resolved."""
        if self.norm != "auto":
            return self.norm
        return "none" if self.penalty_flag or self.spectral_norm else "batch"

    def check_share(self, size: int) -> None:
        """Raise UserError if D compares packs of samples but would be shown only one at a time.

        size  the number of samples in a batch, or in a process's share of it
        """
        layers = {
            "--minibatch-std": self.minibatch_std,
            "--minibatch-discrimination": self.minibatch_discrimination,
        }
        for said, compares in layers.items():
            if compares and size == self.pack:
                judged = f"packs of {self.pack}" if self.pack > 1 else "samples"
                raise UserError(
                    f"{said}: D compares {judged}, but would be shown one at a time; raise "
                    f"--batch-size above {self.batch_size}"
                )

    def _check_penalty(self) -> None:
        """Raise UserError if D's slope is penalised but its score of a sample depends on others."""
        mixing = {
            "--norm batch": self.norm_of_D == "batch",
            f"--pack {self.pack}": self.pack > 1,
            "--minibatch-std": self.minibatch_std,
            "--minibatch-discrimination": self.minibatch_discrimination,
        }
        for said, mixes in mixing.items():
            if mixes and self.penalty_flag:
                remedy = "use --norm none" if said == "--norm batch" else "leave it out"
                raise UserError(
                    f"{said}: D's score of one sample then depends on the others, so it has no slope "
                    f"of its own for {self.penalty_flag} to penalise; {remedy}"
                )


class GAN(ABC):
    """A member of the family: its options, its players, and `step`, which plays its game.

    The first line of a member's docstring describes it in `--help`.

    Options  a Table; each of its fields affects the weights
    players  all networks that are trained; their weights are saved under these names, and the player
             "G" draws the samples
    extra    whatever else a step changes, as a tree of arrays and whole numbers for checkpoints
    signs    what trouble looks like in this member's metrics; a metric that is not finite is always
             trouble
    batches  the number of batches of reals that each step uses, by which epochs are counted; set by
             `build`
    costliest  the number of a step that needs as much time and memory as any; likewise
    complete   the number of steps that its schedule takes, 0 if it has none; likewise

    conditional  whether its networks are told the class of each sample; if so, it needs labelled data
    translates   whether G maps images of one class to another, instead of noise to samples; such a
                 member is conditional, its data has two classes, and wherever this class says z, it
                 gets images (N, *shape), whose target classes are y
    styled       whether G's layers have styles, which can be mixed and truncated: such a member has the
                 methods `styles` and `draw_styles` of gans/stylegan.py, and the numbers
                 `style_count` and `noise_pixels` that their arrays have
    only_images  whether it can make images only, not points in the plane
    """

    Options: ClassVar[type[Options]]
    conditional: ClassVar[bool] = False
    translates: ClassVar[bool] = False
    styled: ClassVar[bool] = False
    only_images: ClassVar[bool] = False
    players: dict[str, Player]
    extra: dict[str, Any]
    signs: Sequence[Sign] = ()
    batches: int = 1
    costliest: int = 0
    complete: int = 0

    def __init__(
        self,
        options: Any,
        shape: tuple[int, ...],
        rng: np.random.Generator,
        device: str = "cpu",
        group: Group = ALONE,
        classes: int = 0,
    ):
        """Make the players for samples of this shape; rng draws their first weights.

        classes  the number of classes for a conditional member; 0 for any other member

        Raises ValueError if `classes` does not suit the member, UserError if its networks cannot make
        samples of this shape.
        """
        if self.conditional != (classes > 0):
            needs = "at least one class" if self.conditional else "no classes"
            raise ValueError(f"{type(self).__name__} needs {needs}, not {classes}")
        self.options, self.shape, self.classes = options, shape, classes
        self.players, self.extra = {}, {}
        self.build(rng, device, group)

    @classmethod
    def outline(cls, options: Any, shape: tuple[int, ...], classes: int = 0) -> dict[str, Tensor]:
        """The weights that these options give, by their paths in a checkpoint, without allocating them.

        Each has its shape, dtype and `data.nbytes` but no values, so that even the largest networks
        take only a moment. Averages and optimiser state have the same shapes and are left out.
        """
        with init.shapes_only():
            o, rng = replace(options, ema=0.0), generator("outline")
            member = cls(o, shape, rng, classes=classes)
        return {
            f"players.{name}.net.{key}": weight
            for name, player in member.players.items()
            for key, weight in player.net.state_dict().items()
        }

    @abstractmethod
    def build(self, rng: np.random.Generator, device: str, group: Group) -> None:
        """Make the networks and fill `players`; may also set what has a default above."""

    def schedule(self, step: int) -> None:
        """Set the learning rates for the next step, after `step` completed steps. The loop calls this.

        Each is lr max(0, 1 - max(0, step - lr_decay_start) / lr_decay); always lr if `lr_decay` is 0.
        """
        o = self.options
        if o.lr_decay:
            G_lr, D_lr = o.rates
            left = max(0.0, 1 - max(0, step - o.lr_decay_start) / o.lr_decay)
            for name, player in self.players.items():
                player.optimizer.options["lr"] = (G_lr if name == "G" else D_lr) * left

    def workload(self, first: int, end: int) -> float:
        """The time of the steps from `first` to before `end`, in units of the costliest step."""
        return end - first

    @abstractmethod
    def step(self, draw: Draw) -> dict[str, Scalar]:
        """Play one step, which may update D several times. Returns its metrics by name.

        The loop reads the metrics of reported steps only. A step changes weights only through
        `Player.descend`, and whatever else it changes must be in `extra`.
        """

    def sample(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Samples (N, *shape) from z (N, nz), drawn by the average of G if there is one, else by G.

        y  their classes, (N,) int64, or mixtures of classes, (N, K) float32, for a conditional member;
           None for any other

        Raises ValueError if a conditional member gets no y, or another member gets one.
        """
        G = self.players["G"]
        return self._generate(G.average or G.net, z, y)

    def sample_raw(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """The same as `sample`, but drawn by G itself, never by its average."""
        return self._generate(self.players["G"].net, z, y)

    def _generate(self, G: Module, z: Tensor, y: Tensor | None) -> Tensor:
        """G(z) or G(z, y) in evaluation mode, so that drawing samples changes nothing."""
        if self.conditional != (y is not None):
            needs = "the classes y" if self.conditional else "no classes"
            raise ValueError(f"{type(self).__name__} draws samples from z and {needs}")
        training = G.training
        G.eval()
        try:
            with no_grad():
                return self._draw(G, *[z] if y is None else [z, y])
        finally:
            G.train(training)

    def _draw(self, G: Module, *inputs: Tensor) -> Tensor:
        """Samples (N, *shape) from z, or from z and y; for a member whose G does more than that."""
        return G(*inputs)
