"""Any folder or zip of images, in which each subfolder is a class.

    pets/cats/1.jpg
    pets/cats/more/2.png
    pets/dogs/1.webp

A folder of two domains for translation, as CycleGAN's authors publish them, has the classes A and B:

    horse2zebra/trainA/1.jpg    testA/1.jpg
    horse2zebra/trainB/1.jpg    testB/1.jpg

Two folders or zips, given one after the other, are the classes A and B as well.

celeba.py reads the images; this file names their classes.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import UserError
from . import celeba
from .imagefiles import ImageFiles
from .listing import is_hidden

REMEDY = "give a folder whose subfolders are the classes"
DOMAINS = {"trainA": "A", "trainB": "B"}  # by subfolder
HELD_OUT = {"testA", "testB"}  # for `minigan sample`, not for training


def open_subfolders(
    root: str | tuple[str, str], image_size: int, max_images: int | None, leave_out: str
) -> Subfolders:
    """The images in the subfolders of a folder, in the folders of a zip, or in two folders or zips.

    max_images  use at most this many images: the first of each class, and the same number of each until
                a class runs out
    leave_out   a folder that is not searched

    Raises UserError if there is nothing to use, an image has no class, or there is only one class.
    """
    if isinstance(root, tuple):
        if os.path.realpath(root[0]) == os.path.realpath(root[1]):
            raise UserError(
                f"--dataroot {root[0]} {root[1]}: both are the same place, so the two classes would be "
                "the same; give two"
            )
        files = Two(*(celeba.open_source(one, image_size, leave_out=leave_out) for one in root))
    else:
        files = celeba.open_source(root, image_size, leave_out=leave_out)
    names = [files.name(i) for i in range(len(files))]
    if outside := next((name for name in names if "/" not in name), None):
        raise UserError(
            f"{root} has images outside its subfolders, such as {outside}, which have no class; "
            f"{REMEDY}, or --data celeba to use all images without classes"
        )
    each = [name.partition("/")[0] for name in names]
    notes = [files.left_out] if files.left_out else []
    if {*DOMAINS} <= {*each} <= {*DOMAINS, *HELD_OUT}:
        if held_out := sorted({*each} & HELD_OUT):
            notes.append(f"left out {' and '.join(held_out)}, which are not for training.")
        each = [DOMAINS.get(name, "") for name in each]
    classes = sorted({*each} - {""})
    if len(classes) == 1:
        raise UserError(
            f"all images in {root} are in its subfolder {classes[0]}, so there is only one class; "
            f"{REMEDY}, or --data celeba to use all images without classes"
        )
    ranks: Counter[str] = Counter()  # number of images so far, by class
    order = []
    for i, name in enumerate(each):
        if name:
            order.append((ranks[name], i))
            ranks[name] += 1
    chosen = sorted(i for _, i in sorted(order)[:max_images])
    full = {name.partition("/")[0] for name in names}
    if isinstance(root, str) and (empty := _empty(Path(root), full, leave_out)):
        notes.append(f"left out subfolders without images: {', '.join(empty)}.")
    number = {name: k for k, name in enumerate(classes)}
    return Subfolders(files, chosen, [number.get(name, -1) for name in each], classes, notes)


def _empty(root: Path, full: set[str], leave_out: str) -> list[str]:
    """The names of the subfolders that are not in `full`, which have no images; none for a zip."""
    if not root.is_dir():
        return []
    return sorted(
        entry.name
        for entry in os.scandir(root)
        if entry.is_dir()
        and not is_hidden(entry.name)
        and entry.name not in full
        and os.path.realpath(entry) != os.path.realpath(leave_out)
    )


@dataclass
class Two:
    """Two sources of image files as one, in which their images lie in the folders A and B."""

    a: ImageFiles
    b: ImageFiles

    def _of(self, i: int) -> tuple[str, ImageFiles, int]:
        """The folder of image i, its source, and its number there."""
        return ("A", self.a, i) if i < len(self.a) else ("B", self.b, i - len(self.a))

    @property
    def left_out(self) -> str:
        """A sentence for each source that has other files."""
        return " ".join(one.left_out for one in (self.a, self.b) if one.left_out)

    def __len__(self) -> int:
        return len(self.a) + len(self.b)

    def identity(self) -> dict:
        """Everything that determines the bytes, as JSON values."""
        return {**self.a.identity(), "second": self.b.identity()}

    def check(self) -> None:
        """Raise Changed unless the files are still the ones that `identity` describes."""
        self.a.check()
        self.b.check()

    def name(self, i: int) -> str:
        """The name of image i: A or B, and its path below that folder or in that zip."""
        folder, source, number = self._of(i)
        return f"{folder}/{source.name(number)}"

    def load(self, i: int) -> np.ndarray:
        """Image i, uint8 RGB (S, S, 3). Raises Unreadable if it cannot be used."""
        _, source, number = self._of(i)
        return source.load(number)


@dataclass
class Subfolders:
    """Some images of a source of image files, each with its class."""

    files: ImageFiles | Two
    chosen: list[int]  # the numbers of the images in `files`
    labels: list[int]  # the class of each image in `files`; -1 if it is held out
    classes: Sequence[str]
    notes: Sequence[str]

    def __len__(self) -> int:
        return len(self.chosen)

    def identity(self) -> dict:
        """Everything that determines the bytes, as JSON values."""
        limit = {"max_images": len(self) if len(self) < len(self.files) else None}
        return {**self.files.identity(), "kind": "folder", **limit}

    def check(self) -> None:
        """Raise Changed unless the files are still the ones that `identity` describes."""
        self.files.check()

    def name(self, i: int) -> str:
        """The name of image i: its path below the folder or in the zip."""
        return self.files.name(self.chosen[i])

    def load(self, i: int) -> np.ndarray:
        """Image i, uint8 RGB (S, S, 3). Raises Unreadable if it cannot be used."""
        return self.files.load(self.chosen[i])

    def label(self, i: int) -> int:
        """The class of image i."""
        return self.labels[self.chosen[i]]
