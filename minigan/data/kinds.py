"""The kinds of data, and what is known about each before it is opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Kind:
    """A kind of data. Only the kinds with `files` read --dataroot.

    image_size  pixels per side, unless --image-size is given
    nc          channels, unless --nc is given
    count       images drawn, unless --max-images is given; 0 for data from files
    points      whether the samples are points in the plane instead of images
    classes     whether each sample has a class, even without --condition
    domains     whether there may be two classes, so that images can be translated between them
    unmirrored  why mirrored images would be wrong; "" if they may be mirrored
    files       what --dataroot must give; "" for data that is drawn
    places      where the files are looked for without --dataroot, in this order
    """

    image_size: int = 64
    nc: int = 3
    count: int = 0
    points: bool = False
    classes: bool = True
    domains: bool = False
    unmirrored: str = ""
    files: str = ""
    places: tuple[str, ...] = ()


NO_MIRROR = "a mirrored 2 is not a 2"
NO_OTHER_SUN = "a mirrored face has the sun of the other season"
IDX = "the folder of train-images-idx3-ubyte.gz and train-labels-idx1-ubyte.gz"

KINDS = {
    "faces": Kind(count=6400, classes=False),
    "celeba": Kind(
        classes=False,
        files="img_align_celeba.zip, or a folder or zip of images",
        places=("data/img_align_celeba.zip", "data/img_align_celeba", "data/celeba"),
    ),
    "folder": Kind(
        domains=True, files="a folder or zip of images in which each subfolder is a class"
    ),
    "digits": Kind(28, 1, count=10_000, unmirrored=NO_MIRROR),
    "shapes": Kind(32, count=10_000),
    "seasons": Kind(count=6400, domains=True, unmirrored=NO_OTHER_SUN),
    "mnist": Kind(
        *(28, 1),
        unmirrored=NO_MIRROR,
        files=f"{IDX}, from https://ossci-datasets.s3.amazonaws.com/mnist/",
        places=("data/mnist", "data/MNIST/raw"),
    ),
    "fashion-mnist": Kind(
        *(28, 1),
        files=f"{IDX}, from https://github.com/zalandoresearch/fashion-mnist or Debian's package "
        "dataset-fashion-mnist",
        places=(
            *("data/fashion-mnist", "data/FashionMNIST/raw"),
            "/usr/share/datasets/fashion-mnist",  # of Debian's package
        ),
    ),
    "cifar10": Kind(
        32,
        files="cifar-10-binary.tar.gz, from https://www.cs.toronto.edu/~kriz/cifar.html",
        places=("data/cifar-10-binary.tar.gz", "data/cifar-10-batches-bin", "data/cifar10"),
    ),
    "ring": Kind(points=True),
    "grid": Kind(points=True),
}


def usual_place(data: str) -> str | None:
    """Where the files of this kind of data are, if they are in one of the usual places."""
    kind = KINDS.get(data, KINDS["faces"])
    return next((place for place in kind.places if Path(place).exists()), None)
