"""Open a data set from its options."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..models.dcgan import IMAGE_SIZES
from ..options import Table, option, short
from . import Dataset, cache, celeba, mixture
from .faces import Faces
from .images import ImageSet, grid, to_pixels

KINDS = ("faces", "celeba", *mixture.CENTERS)
DRAWN = 6400  # faces, unless --max-images gives another number


@dataclass(frozen=True)
class DataOptions(Table):
    """The choice of data. Every field determines the weights; the location of the files does not."""

    data: str = option(
        "faces",
        "the data set: celeba stands for any folder or zip of images; faces are drawn by the program",
        choices=KINDS,
    )
    image_size: int = option(
        64, "pixels per side", choices=IMAGE_SIZES, flags=["--imageSize"], images=True
    )
    nc: int = option(
        3, "channels of an image: 3 for colour, 1 for grey", choices=(1, 3), images=True
    )
    max_images: int | None = option(
        None,
        f"use at most the first N images; by default all, or {DRAWN} faces",
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
        if self.only is not None and self.data != "celeba":
            raise UserError(
                f"--only {short(self.only)}: --data {self.data} has no list of attributes; "
                "give --dataroot"
            )
        if self.data in mixture.CENTERS and self.flip:
            raise UserError(f"--flip: a {self.data} has no images; leave it out")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a sample: (C, H, W), or (2,) for points."""
        return (2,) if self.data in mixture.CENTERS else (self.nc, self.image_size, self.image_size)

    def picture(self, samples: np.ndarray, columns: int = 8) -> np.ndarray:
        """Samples (N, *shape) as one picture (H, W, 3) uint8. This does not open the data."""
        if self.data in mixture.CENTERS:
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

    dataroot  where the files of celeba are
    seed      of the faces or points that are drawn
    workers   processes that decode images
    """
    if options.data in mixture.CENTERS:
        return mixture.Mixture(options.data, seed=seed)
    notes: list[str] = []
    if options.data == "faces":
        source: Any = Faces(options.max_images or DRAWN, seed, options.image_size)
    elif dataroot is None:
        raise UserError(
            "--data celeba needs --dataroot: img_align_celeba.zip, or a folder or zip of images"
        )
    else:
        if os.path.realpath(dataroot) == os.path.realpath(out):
            raise UserError(
                f"--out {out} is also the folder of --dataroot, so the run's own pictures would "
                "count as data; give another --out"
            )
        source = celeba.open_source(
            dataroot, options.image_size, options.max_images, options.only, str(out)
        )
        notes += [source.left_out] if source.left_out else []
    images = cache.build(source, out / "cache", workers, progress)
    if unlisted := images.identity.get("unlisted"):
        notes.append(
            f"left out {unlisted} files that are not in the list of attributes that --only needs."
        )
    # Named after its kind, because a folder need not be CelebA's.
    name = f"{images.identity['kind']}{options.image_size}"
    return ImageSet(images, options.nc, name, notes)
