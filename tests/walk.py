"""Every member on each kind of data, tiny and on any device, for the tests of devices."""

import os

import numpy as np

from minigan.data import Dataset
from minigan.data.cache import Images
from minigan.data.images import ImageSet
from minigan.data.mixture import Mixture
from minigan.gans import MEMBERS
from minigan.gans.base import GAN
from minigan.keys import generator
from minigan.tensor import Tensor
from minigan.training.draw import Draw

SEED = 3
GAME = {"nz": 4, "ngf": 4, "ndf": 4, "batch_size": 4, "seed": SEED}
KINDS = ("points", "images")
WALK = [(name, kind) for name in MEMBERS for kind in KINDS]
# What the loop promises, and not the member, is tested with these: in CI with one that updates D once a
# step, and one that does so several times and differentiates twice.
SOME = list(MEMBERS) if os.environ.get("HYPOTHESIS_PROFILE") == "deep" else ["dcgan", "wgan-gp"]

# What a step of each member may cost on a GPU, the average of G included: at most so many launches of
# kernels (when this was written, a tenth fewer) and matrix products, and exactly so many copies to the
# GPU, which are the batches and whatever is drawn on the host. A new member needs rows of its own.
BUDGETS = {
    ("dcgan", "points"): (100, 33, 3),
    ("dcgan", "images"): (120, 33, 3),
    ("lsgan", "points"): (120, 33, 3),
    ("lsgan", "images"): (140, 33, 3),
    ("hinge", "points"): (100, 33, 3),
    ("hinge", "images"): (120, 33, 3),
    ("feature-matching", "points"): (130, 35, 3),
    ("feature-matching", "images"): (150, 35, 3),
    ("ensemble", "points"): (300, 85, 3),
    ("ensemble", "images"): (420, 85, 3),
    ("unrolled", "points"): (2260, 272, 3),
    ("unrolled", "images"): (3170, 272, 3),
    ("wgan", "points"): (750, 109, 11),
    ("wgan", "images"): (740, 109, 11),
    ("wgan-gp", "points"): (640, 164, 16),
    ("wgan-gp", "images"): (700, 164, 16),
    ("conditional", "points"): (137, 33, 6),
    ("conditional", "images"): (157, 33, 6),
}


def d_steps(name: str, count: int = 2) -> dict[str, int]:
    """The option to update D so often a step, if the member has it: twice shows what five times do."""
    return {"d_steps": count} if "d_steps" in MEMBERS[name].Options.names() else {}


def dataset(kind: str, image_size: int = 16) -> Dataset:
    """64 points of a ring, or 22 images of random pixels; both have labels."""
    if kind == "points":
        return Mixture("ring", count=64)
    rng = generator("pixels")
    pixels = rng.integers(0, 256, (22, image_size, image_size, 3), np.uint8)
    images = Images(pixels, [str(i) for i in range(22)], [], {}, "")
    return ImageSet(images, 3, "pixels", labels=rng.integers(3, size=22), classes="abc")


def classes_of(name: str, data: Dataset) -> int:
    """How many classes of this data the member is told apart."""
    return len(data.classes) if MEMBERS[name].conditional else 0


def game(name: str, kind: str, device: str, image_size: int = 16, **options) -> tuple[GAN, Draw]:
    """A member with its first weights on the device, and what is drawn for it."""
    data, o = dataset(kind, image_size), MEMBERS[name].Options(**{**GAME, **options})
    rng, K = generator(o.seed, "init"), classes_of(name, data)
    member = MEMBERS[name](o, data.shape, rng, device, classes=K)
    flip = kind == "images"
    return member, Draw(data, o.batch_size, o.nz, o.seed, o.noise, flip, device)


def inputs(member: GAN, draw: Draw) -> tuple[Tensor, ...]:
    """What samples are drawn from: z, and y if the member is conditional."""
    return (draw.noise(), draw.labels()) if member.conditional else (draw.noise(),)


def double(member: GAN, draw: Draw) -> tuple[GAN, "Doubled"]:
    """Both in float64."""
    for player in member.players.values():
        for net in filter(None, (player.net, player.average)):
            net.double()
    return member, Doubled(draw)


class Doubled:
    """What is drawn, in float64."""

    def __init__(self, draw: Draw):
        self._draw, self.next_step = draw, draw.next_step

    @property
    def step(self) -> int:
        return self._draw.step

    def reals(self) -> Tensor:
        return self._draw.reals().double()

    def labelled(self) -> tuple[Tensor, Tensor]:
        x, y = self._draw.labelled()
        return x.double(), y

    def labels(self) -> Tensor:
        return self._draw.labels()

    def noise(self) -> Tensor:
        return self._draw.noise().double()

    def uniform(self, name: str, *shape: int) -> Tensor:
        return self._draw.uniform(name, *shape).double()

    def normal(self, name: str, *shape: int) -> Tensor:
        return self._draw.normal(name, *shape).double()
