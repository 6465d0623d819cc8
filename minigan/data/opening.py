"""Open a data set from its options."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..console import plain
from ..errors import UserError
from ..models.dcgan import IMAGE_SIZES
from ..options import Table, option, short
from . import Dataset, cache, celeba, mixture
from .digits import Digits
from .faces import Faces
from .images import ImageSet, grid, to_pixels
from .kinds import KINDS, Kind
from .source import Source

COUNTS = {"faces": 6400, "digits": 10_000}  # images drawn, unless --max-images gives another number


@dataclass(frozen=True)
class DataOptions(Table):
    """The choice of data. Every field determines the weights; the location of the files does not."""

    data: str = option(
        "faces",
        "the data set: celeba stands for any folder or zip of images; the program draws faces and "
        "digits itself",
        choices=tuple(KINDS),
    )
    image_size: int | None = option(
        None,
        "pixels per side; by default 28 for digits, 64 for faces and CelebA",
        choices=IMAGE_SIZES,
        flags=["--imageSize"],
        images=True,
    )
    nc: int | None = option(
        None,
        "channels of an image: 3 for colour, 1 for grey; by default 1 for digits, else 3",
        choices=(1, 3),
        images=True,
    )
    max_images: int | None = option(
        None,
        "use at most the first N images; by default all, or 6400 faces or 10000 digits",
        least=1,
        most=10**7,
        images=True,
    )
    only: str | None = option(
        None,
        "use only images with these attributes of CelebA, such as Male,no-Eyeglasses",
        images=True,
    )
    flip: bool = option(
        False, "mirror each image with probability 1/2", off_help="mirror no image", images=True
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
        if self.flip and self.kind.points:
            raise UserError(f"--flip: a {self.data} has no images; leave it out")
        if self.flip and self.kind.unmirrored:
            raise UserError(f"--flip: {self.kind.unmirrored}; leave it out for --data {self.data}")

    @property
    def kind(self) -> Kind:
        """What is known of the data before it is opened."""
        return KINDS[self.data]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a sample: (C, H, W), or (2,) for points."""
        return (2,) if self.kind.points else (self.nc, self.image_size, self.image_size)

    @property
    def has_classes(self) -> bool:
        """Whether the data set has labels and classes."""
        return self.kind.classes

    def picture(self, samples: np.ndarray, columns: int = 8) -> np.ndarray:
        """Samples (N, *shape) as one picture (H, W, 3) uint8. This does not open the data."""
        if self.kind.points:
            return mixture.Mixture(self.data, count=1).picture(samples)
        return grid(to_pixels(samples), columns)

    def image(self, sample: np.ndarray) -> np.ndarray:
        """One image (C, H, W) as pixels (H, W, 3) uint8."""
        return to_pixels(sample[None])[0]


def open_data(
    options: DataOptions,
    dataroot: str | None,
    seed: int,
    out: Path,
    workers: int = 1,
    progress: bool = True,
) -> Dataset:
    """The data set. Raises UserError.

    Images are decoded into the cache, the folder `out`/cache, unless it holds them already.

    dataroot  where the files are, for the kinds of data that have files
    seed      of the images or points that are drawn
    workers   processes that decode images
    """
    if options.kind.points:
        return mixture.Mixture(options.data, seed=seed)
    notes: list[str] = []
    count, size = options.max_images or COUNTS.get(options.data), options.image_size
    if options.data == "faces":
        source: Source = Faces(count, seed, size)
    elif options.data == "digits":
        source = Digits(count, seed, size)
    elif dataroot is None:
        raise UserError(f"--data {options.data} needs --dataroot: {options.kind.files}")
    else:
        if os.path.realpath(dataroot) == os.path.realpath(out):
            raise UserError(
                f"--out {out} is also the folder of --dataroot, so the run's own pictures would "
                "count as data; give another --out"
            )
        source = celeba.open_source(dataroot, size, options.max_images, options.only, str(out))
        notes += [source.left_out] if source.left_out else []
    images = cache.build(source, out / "cache", workers, progress)
    if unlisted := images.identity.get("unlisted"):
        notes.append(
            f"left out {unlisted} files that are not in the list of attributes that --only needs."
        )
    labels, classes = None, ()
    if options.has_classes:
        labels, classes = _labels(source, images), source.classes
    # Named after its kind, because a folder need not be CelebA's.
    name = f"{images.identity['kind']}{size}"
    return ImageSet(images, options.nc, name, notes, labels, classes)


def _labels(source: Source, images: cache.Images) -> np.ndarray:
    """The class of each image of the cache, (N,) int64: of all images of the source but the skipped."""
    skipped = {name for name, _ in images.skipped}
    kept = [i for i in range(len(source)) if plain(source.name(i)) not in skipped]
    return np.array([source.label(i) for i in kept], np.int64)
