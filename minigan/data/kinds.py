"""The kinds of data and what is known of each before it is opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Kind:
    """A kind of data. Only the kinds with `files` read --dataroot.

    image_size  pixels per side, unless --image-size gives another number
    nc          channels, unless --nc gives another number
    points      whether the samples are points in the plane instead of images
    classes     whether each sample has a class, even without --condition
    unmirrored  why mirrored images would be wrong; "" if they may be mirrored
    files       the file or folder that --dataroot may give; "" for data that is drawn
    places      where that is looked for without --dataroot, in this order
    """

    image_size: int = 64
    nc: int = 3
    points: bool = False
    classes: bool = True
    unmirrored: str = ""
    files: str = ""
    places: tuple[str, ...] = ()


NO_MIRROR = "a mirrored 2 is not a 2"

KINDS = {
    "faces": Kind(classes=False),
    "celeba": Kind(
        classes=False,
        files="img_align_celeba.zip, or a folder or zip of images",
        places=("data/img_align_celeba.zip", "data/img_align_celeba", "data/celeba"),
    ),
    "digits": Kind(28, 1, unmirrored=NO_MIRROR),
    "ring": Kind(points=True),
    "grid": Kind(points=True),
}


def usual_place(data: str) -> str | None:
    """Where the files of this kind of data are, if they are in one of the usual places."""
    kind = KINDS.get(data, KINDS["faces"])
    return next((place for place in kind.places if Path(place).exists()), None)
