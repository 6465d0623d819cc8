"""What the two sources of image files, folder.py and archive.py, share."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from .attributes import find_attributes, read_attributes
from .decoding import RECIPE, decode


@dataclass
class ImageFiles(ABC):
    """A source of image files. Subclasses have `members`, the (name, place) of each image."""

    path: Path
    stamp: dict  # which files these are, together with the path; "kind" is from listing.kind_of
    image_size: int
    max_images: int | None
    kept: dict[str, int] | None  # {file name to use: class}, see `keep`; None for all files
    left_out: str  # a sentence about ignored files, or ""; see listing.left_out

    @abstractmethod
    def read(self, place: Any) -> bytes:
        """The bytes of the file at a member's place. Raises Unreadable or UserError."""

    @abstractmethod
    def check(self) -> None:
        """Raise Changed unless the files are still the ones that `stamp` describes."""

    def __len__(self) -> int:
        return len(self.members)

    def identity(self) -> dict:
        """Everything that determines the bytes, as JSON values."""
        limits = {"image_size": self.image_size, "max_images": self.max_images}
        return {"path": str(self.path), **self.stamp, **limits, **RECIPE}

    def name(self, i: int) -> str:
        """The name of image i: its path below the folder or in the zip, or CelebA's file name."""
        return self.members[i][0]

    def label(self, i: int) -> int:
        """The class of image i by --condition."""
        return self.kept[_file_name(self.name(i))]

    def load(self, i: int) -> np.ndarray:
        """Image i, uint8 RGB (S, S, 3). Unreadable: the image is at fault; UserError: the disk is."""
        return decode(self.read(self.members[i][1]), self.image_size)


VERSION = ("bytes", "mtime_ns", "ctime_ns")  # the names of what `version` returns


def version(status: os.stat_result | None) -> tuple[int, int, int]:
    """Numbers that identify a file's contents without reading them; zeros if it cannot be reached.

    Programs cannot set the time of the last status change (ctime). So a file that was replaced, or that
    was changed and given its old modification time, has another version. (On Windows, ctime is the time
    of creation.)
    """
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns) if status else (0, 0, 0)


def keep(
    only: str | None, condition: str | None, folder: Path, images: Iterable[str]
) -> tuple[dict[str, int] | None, dict]:
    """{file name: class} of the images that --only keeps, and the entries that this adds to the stamp.

    The classes are those of --condition, which keeps the images in the list of attributes; without it,
    all classes are 0. The list is searched for in and above `folder`. Raises UserError if there is no
    list, or no image is left.
    """
    if only is None and condition is None:
        return None, {}
    option, given = ("--condition", condition) if only is None else ("--only", only)
    attributes = read_attributes(find_attributes(folder, option))
    number = attributes.row if condition is None else attributes.classed(condition)
    having = number if only is None else attributes.having(only)
    files = [_file_name(name) for name in images]
    kept = [file for file in files if file in having]
    unlisted = sum(file not in attributes.row for file in files)
    if not kept:
        raise UserError(
            f"{option} {given}: none of the {len(files):,} images matches, and {unlisted:,} are not in "
            f"{attributes.path}; choose other attributes"
        )
    classes = {file: number[file] if condition else 0 for file in kept}
    if only is None and not unlisted:  # the same images as without --condition
        return classes, {}
    digest = hashlib.sha256("\n".join(kept).encode("utf-8", "surrogateescape")).hexdigest()
    return classes, {"only": digest, "unlisted": unlisted}


def members_of(
    images: dict[str, Any], kept: Collection[str] | None, max_images: int | None
) -> list[tuple[str, Any]]:
    """The (name, place) of the first `max_images` images that are kept."""
    members = [pair for pair in images.items() if kept is None or _file_name(pair[0]) in kept]
    return members[:max_images]


def _file_name(name: str) -> str:
    """The name of an image in the list of attributes: without its folder."""
    return name.rpartition("/")[2]
