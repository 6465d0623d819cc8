"""Every member on each kind of data, in tiny sizes on any device, for the tests of devices."""

import os
from itertools import pairwise
from typing import Any

import numpy as np

from minigan import nn
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
GAME = {"nz": 4, "ngf": 4, "ndf": 4, "blocks": 1, "batch_size": 4, "seed": SEED}
GAME["r1_every"] = 1  # a penalty in each step
GAME["phase_images"] = 3  # a step is a phase and a third: 4 pixels, a fade to 8, 8, 16
KINDS = ("points", "images")
ON_POINTS = [name for name, member in MEMBERS.items() if not member.only_images]
WALK = [(name, kind) for name in MEMBERS for kind in KINDS if kind == "images" or name in ON_POINTS]
# Promises of the loop, which do not depend on the member, are tested with these. In CI they are one
# that updates D once per step, and one that updates D several times and differentiates twice.
SOME = list(MEMBERS) if os.environ.get("HYPOTHESIS_PROFILE") == "deep" else ["dcgan", "wgan-gp"]

# The cost of a step of each member on a GPU, including the average of G: the largest number of kernel
# launches (a tenth above the number when this was written) and of matrix products, and the exact number
# of copies to the GPU, which are the batches and everything drawn on the host. A new member needs its
# own rows.
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
    ("cyclegan", "images"): (1860, 132, 4),
    ("progressive", "images"): (1120, 108, 5),
    ("stylegan", "images"): (1920, 240, 9),
}


def d_steps(name: str, count: int = 2) -> dict[str, int]:
    """The option for `count` updates of D per step, if the member has it; 2 shows what 5 would."""
    return {"d_steps": count} if "d_steps" in MEMBERS[name].Options.names() else {}


def own(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options without those that the member lacks: a member that translates has no noise."""
    return {key: value for key, value in options.items() if key in MEMBERS[name].Options.names()}


def classes(name: str) -> int:
    """A number of classes that suits the member; 0 if it is not conditional."""
    return (2 if MEMBERS[name].translates else 3) if MEMBERS[name].conditional else 0


def dataset(kind: str, image_size: int = 16, classes: int = 3) -> Dataset:
    """64 points of a ring, or 22 images of random pixels; both have labels."""
    if kind == "points":
        return Mixture("ring", count=64)
    rng = generator("pixels")
    pixels = rng.integers(0, 256, (22, image_size, image_size, 3), np.uint8)
    images = Images(pixels, [str(i) for i in range(22)], [], {}, "")
    return ImageSet(
        images, 3, "pixels", labels=rng.integers(classes, size=22), classes="abc"[:classes]
    )


def classes_of(name: str, data: Dataset) -> int:
    """The number of classes of this data that the member is told; 0 if it is not conditional."""
    return len(data.classes) if MEMBERS[name].conditional else 0


def game(name: str, kind: str, device: str, image_size: int = 16, **options) -> tuple[GAN, Draw]:
    """A member with its initial weights on the device, and its Draw."""
    data = dataset(kind, image_size, classes(name) or 3)
    o = MEMBERS[name].Options(**{**own(name, GAME), **options})
    rng, K = generator(o.seed, "init"), classes_of(name, data)
    member = MEMBERS[name](o, data.shape, rng, device, classes=K)
    flip = kind == "images"
    return member, Draw(data, o.batch_size, o.nz, o.seed, o.noise, flip, device)


def inputs(member: GAN, draw: Draw) -> tuple[Tensor, ...]:
    """The inputs of a sample: z, and y if the member is conditional; or images and their targets."""
    if member.translates:
        return draw.each_class()[0], draw.labels()
    return (draw.noise(), draw.labels()) if member.conditional else (draw.noise(),)


def double(member: GAN, draw: Draw) -> tuple[GAN, "Doubled"]:
    """The member and its Draw in float64."""
    for player in member.players.values():
        for net in filter(None, (player.net, player.average)):
            net.double()
    widen(member)
    return member, Doubled(draw)


def widen(member: GAN) -> None:
    """Keep what a member remembers, such as earlier fakes or a running mean, in float64."""

    def widen_tree(tree: dict[str, Any]) -> None:
        for key, leaf in tree.items():
            if isinstance(leaf, dict):
                widen_tree(leaf)
            elif not isinstance(leaf, int):
                tree[key] = leaf.astype(np.float64)

    widen_tree(member.extra)


def idle(net: nn.Module) -> list[str]:
    """The biases that an instance norm subtracts again: their gradients are rounding errors.

    Adam enlarges such errors, up to where its eps bounds them, but no output depends on these biases.
    """
    found = []
    for name, module in net.named_modules():
        layers = list(module) if isinstance(module, nn.Sequential) else []
        for i, (layer, behind) in enumerate(pairwise(layers)):
            if isinstance(behind, nn.InstanceNorm2d) and layer.bias is not None:
                found.append(f"{name}.{i}.bias")
    return found


def idle_leaves(member: GAN) -> set[str]:
    """The paths of these biases in a checkpoint."""
    return {
        f"players.{player}.{kept}.{key}"
        for player, p in member.players.items()
        for kept in ("net", "average")
        for key in idle(p.net)
    }


class Doubled:
    """A Draw whose numbers are converted to float64."""

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

    def each_class(self) -> tuple[Tensor, ...]:
        return tuple(x.double() for x in self._draw.each_class())

    def labels(self) -> Tensor:
        return self._draw.labels()

    def noise(self) -> Tensor:
        return self._draw.noise().double()

    def uniform(self, name: str, *shape: int) -> Tensor:
        return self._draw.uniform(name, *shape).double()

    def normal(self, name: str, *shape: int) -> Tensor:
        return self._draw.normal(name, *shape).double()
