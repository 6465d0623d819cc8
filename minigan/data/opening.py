"""Open a data set from its options."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..console import plain
from ..errors import UserError
from ..models.dcgan import IMAGE_SIZES
from ..options import Table, option, short
from . import Dataset, cache, celeba, mixture
from .attributes import class_names
from .cifar10 import open_cifar10
from .digits import Digits
from .faces import Faces
from .images import ImageSet, grid, to_pixels
from .kinds import KINDS, Kind
from .memory import Arrays
from .mnist import open_mnist
from .seasons import Seasons
from .shapes import Shapes
from .source import Labelled, Source
from .subfolders import open_subfolders

Root = str | tuple[str, str] | None  # --dataroot: a path, or one for each of two classes


@dataclass(frozen=True)
class DataOptions(Table):
    """The choice of data. Every field affects the weights; the location of the files does not."""

    data: str = option(
        "faces",
        "the data set: celeba stands for any folder or zip of images, and folder for one in which each "
        "subfolder is a class; the program draws faces, digits, shapes and seasons itself",
        choices=tuple(KINDS),
    )
    image_size: int | None = option(
        None,
        "pixels per side; by default 28 for digits, mnist and fashion-mnist, 32 for shapes and "
        "cifar10, else 64",
        choices=IMAGE_SIZES,
        flags=["--imageSize"],
        images=True,
    )
    nc: int | None = option(
        None,
        "channels of an image: 3 for colour, 1 for grey; by default 1 for digits, mnist and "
        "fashion-mnist, else 3",
        choices=(1, 3),
        images=True,
    )
    max_images: int | None = option(
        None,
        "use at most the first N images; by default all, or 6400 faces (also in seasons), 10000 digits "
        "or 10000 shapes",
        least=1,
        most=10**7,
        images=True,
    )
    only: str | None = option(
        None,
        "use only images with these CelebA attributes, such as Male,no-Eyeglasses",
        images=True,
    )
    condition: str | None = option(
        None,
        "divide CelebA's images into classes by one to three attributes, such as Male,Smiling",
        images=True,
    )
    flip: bool = option(
        False, "mirror each image with probability 1/2", off_help="do not mirror", images=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("image_size", "nc"):  # the defaults that depend on the data
            if getattr(self, name) is None:
                object.__setattr__(self, name, getattr(self.kind, name))
        if self.only is not None and self.data != "celeba":
            raise UserError(
                f"--only {short(self.only)}: --data {self.data} has no list of attributes; "
                "give --dataroot"
            )
        if self.condition is not None:
            class_names(self.condition)
            if self.data != "celeba":
                own = "classes of its own; leave it out"
                has = own if self.kind.classes else "no list of attributes; give --dataroot"
                raise UserError(
                    f"--condition {short(self.condition)}: --data {self.data} has {has}"
                )
        if self.flip and self.kind.points:
            raise UserError(f"--flip: a {self.data} has no images; leave it out")
        if self.flip and self.kind.unmirrored:
            raise UserError(f"--flip: {self.kind.unmirrored}; leave it out for --data {self.data}")

    @property
    def kind(self) -> Kind:
        """What is known about the data before it is opened."""
        return KINDS[self.data]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a sample: (C, H, W), or (2,) for points."""
        return (2,) if self.kind.points else (self.nc, self.image_size, self.image_size)

    @property
    def has_classes(self) -> bool:
        """Whether the data set has labels and classes."""
        return self.kind.classes or self.condition is not None

    @property
    def has_domains(self) -> bool:
        """Whether the data set may have two classes; a folder is known only when it is opened."""
        condition = self.condition
        return self.kind.domains or (condition is not None and len(class_names(condition)) == 2)

    def picture(self, samples: np.ndarray, columns: int = 8) -> np.ndarray:
        """Samples (N, *shape) as one picture (H, W, 3) uint8, without opening the data."""
        if self.kind.points:
            return mixture.Mixture(self.data, count=1).picture(samples)
        return grid(to_pixels(samples), columns)

    def image(self, sample: np.ndarray) -> np.ndarray:
        """One image (C, H, W) as pixels (H, W, 3) uint8."""
        return to_pixels(sample[None])[0]


def open_data(
    options: DataOptions,
    dataroot: Root,
    seed: int,
    out: Path,
    workers: int = 1,
    progress: bool = True,
) -> Dataset:
    """The data set. Raises UserError if it is missing, damaged, or does not suit the options.

    Images are decoded into the cache in the folder `out`/cache, unless they are already there.

    dataroot  where the files are, for the kinds of data that have files; two folders or zips for the
              two classes of --data folder
    seed      seed of drawn images or points
    workers   number of processes that decode images
    progress  whether to show progress bars on a terminal
    """
    if options.kind.points:
        return mixture.Mixture(options.data, seed=seed)
    source, notes = _open_source(options, dataroot, seed, out)
    if isinstance(source, Arrays):
        workers = 1  # nothing to decode, and each worker would get a copy of the pixels
    images = cache.build(source, out / "cache", workers, progress)
    if unlisted := images.identity.get("unlisted"):
        asked = "--condition" if options.only is None else "--only"
        notes.append(
            f"left out {unlisted} files that are not in the list of attributes that {asked} needs."
        )
    # Named after the kind of the images: with --data celeba, a folder need not be CelebA's.
    kind = images.identity["kind"]
    name = f"{kind}{'-' if kind[-1].isdigit() else ''}{options.image_size}"
    if not options.has_classes:
        return ImageSet(images, options.nc, name, notes)
    classes = class_names(options.condition) if options.condition else source.classes
    labels = _labels(source, images)
    notes += _about_classes(options, labels, classes)
    return ImageSet(images, options.nc, name, notes, labels, classes)


def _open_source(
    options: DataOptions, dataroot: Root, seed: int, out: Path
) -> tuple[Source, list[str]]:
    """The source of the images, and sentences for the user about it."""
    data, size, most = options.data, options.image_size, options.max_images
    drawn = {"faces": Faces, "digits": Digits, "shapes": Shapes, "seasons": Seasons}
    if data in drawn:
        return drawn[data](most or options.kind.count, seed, size), []
    if dataroot is None:
        raise UserError(_not_found(data, options.kind))
    if data in ("mnist", "fashion-mnist"):
        source = open_mnist(dataroot, data, size, most)
        return source, list(source.notes)
    if data == "cifar10":
        source = open_cifar10(dataroot, size, most)
        return source, list(source.notes)
    roots = dataroot if isinstance(dataroot, tuple) else (dataroot,)
    if os.path.realpath(out) in map(os.path.realpath, roots):
        raise UserError(
            f"--out {out} is also the folder of --dataroot, so the run's own pictures would count as "
            "data; give another --out"
        )
    if data == "folder":
        source = open_subfolders(dataroot, size, most, str(out))
        return source, list(source.notes)
    source = celeba.open_source(dataroot, size, most, options.only, str(out), options.condition)
    return source, [source.left_out] if source.left_out else []


def _not_found(data: str, kind: Kind) -> str:
    """The message if --dataroot is missing and the files are in none of the usual places."""
    looked = f" (looked for in {', '.join(kind.places)})" if kind.places else ""
    return f"--data {data} needs --dataroot: {kind.files}{looked}"


def _labels(source: Labelled, images: cache.Images) -> np.ndarray:
    """The class of each image in the cache, (N,) int64: those of the source that were not skipped."""
    skipped = {name for name, _ in images.skipped}
    kept = [i for i in range(len(source)) if plain(source.name(i)) not in skipped]
    if len(kept) != len(images.names):
        raise UserError("two images have names that look the same; rename them")
    return np.array([source.label(i) for i in kept], np.int64)


def _about_classes(options: DataOptions, labels: np.ndarray, classes: Sequence[str]) -> list[str]:
    """Sentences for the user: how common the classes are. UserError: there is only one."""
    counts = np.bincount(labels, minlength=len(classes))
    if counts.max() == len(labels):
        only = classes[int(counts.argmax())]
        raise UserError(
            f"all {len(labels)} images of --data {options.data} are of class {only}, so there are no "
            "classes to tell apart; use more images, or data without classes"
        )
    notes = []
    if options.condition:
        shares = (100 * counts / len(labels)).tolist()
        said = ", ".join(
            f"{name} {share:.1f} %" for name, share in zip(classes, shares, strict=True)
        )
        notes.append(f"classes by --condition: {said}.")
    if absent := [name for name, count in zip(classes, counts, strict=True) if not count]:
        notes.append(f"classes without an image: {short(', '.join(absent))}.")
    return notes
