"""A folder, with all folders below it, as a source of images."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError
from .archive import open_zip
from .decoding import MAX_BYTES, SUFFIXES
from .imagefiles import ImageFiles, keep, members_of, version
from .listing import (
    REMEDY,
    ZIP,
    celeba_among,
    choose,
    depth,
    images_among,
    is_hidden,
    kind_of,
    left_out,
)
from .source import SKIPPED, Unreadable, cannot_read, changed, contents

Version = tuple[int, int, int]


def open_folder(
    path: Path,
    image_size: int,
    max_images: int | None,
    only: str | None,
    condition: str | None,
    leave_out: str | Path | None,
) -> ImageFiles:
    """The images below this folder, or those in CelebA's zip below it. UserError: there are none."""
    files, closed = _walk(path, leave_out)
    if closed and not images_among(files):
        inner, error = next(iter(closed.items()))
        raise cannot_read(path / inner, error)
    if not files:
        raise UserError(f"{path} is an empty folder; {REMEDY}")
    zips = [inner for inner in files if inner.rpartition("/")[2] == ZIP]
    if zips and not celeba_among(images_among(files), path.name):
        return open_zip(path / min(zips, key=depth), image_size, max_images, only, condition)
    chosen = choose(path, files)
    first = next(iter(chosen.values()))
    kind = kind_of(path / first)
    beside = (path / first).parent if kind == "celeba" else path
    kept, stamp = keep(only, condition, beside, chosen)
    members = members_of(chosen, kept, max_images)
    if kind != "celeba":  # CelebA's images are all in one folder
        members += [(inner, inner) for inner in closed]
    versions = {**files, **{inner: version(_status(path / inner)) for inner in closed}}
    digest = _digest((inner, versions[inner]) for _, inner in members)
    stamp |= {"kind": kind, "count": len(members), "digest": digest}
    ignored = left_out(path, files, chosen)
    return FolderImages(path, stamp, image_size, max_images, kept, ignored, members)


@dataclass
class FolderImages(ImageFiles):
    """The images of a folder.

    A subfolder that cannot be read counts as an image, so that it is skipped and listed with the
    reason, like an unreadable image.
    """

    members: list[tuple[str, str]]  # place: path below the folder; a subfolder's ends in "/"

    def read(self, place: str) -> bytes:
        """The bytes of a file. Raises Unreadable or UserError."""
        try:
            if place.endswith("/"):
                os.scandir(self.path / place).close()  # raises the same error again
                raise changed(self.path)
            return contents(self.path / place, MAX_BYTES)
        except OSError as error:
            if error.errno in SKIPPED:
                raise Unreadable(f"cannot be read: {error.strerror}") from error
            raise cannot_read(self.path / place, error) from error

    def check(self) -> None:
        """Raise Changed unless the files are still the ones that `stamp` describes."""
        try:
            paths = ((inner, os.path.join(self.path, inner)) for _, inner in self.members)
            digest = _digest((inner, version(_status(path))) for inner, path in paths)
        except OSError as error:
            raise cannot_read(error.filename or self.path, error) from error
        if digest != self.stamp["digest"]:
            raise changed(self.path)


def _walk(
    root: Path, leave_out: str | Path | None
) -> tuple[dict[str, Version], dict[str, OSError]]:
    """{path below root: version} of all files, and {path: error} of the folders that cannot be read.

    Hidden files are ignored. Anything else with an image's suffix, even a broken link, counts as a
    file, so that it is skipped with a reason.
    """
    found: dict[str, Version] = {}
    closed: dict[str, OSError] = {}
    folders = [""]
    seen = set() if leave_out is None else {os.path.realpath(leave_out)}
    while folders:
        inner = folders.pop()
        real = os.path.realpath(root / inner)
        if real in seen:  # a link back to a folder already searched, or to `leave_out`
            continue
        seen.add(real)
        below = []
        try:
            with os.scandir(real) as entries:
                for entry in entries:
                    if is_hidden(entry.name):
                        continue
                    status = _status(entry)
                    kind = stat.S_IFMT(status.st_mode) if status else 0
                    if kind == stat.S_IFDIR:
                        below.append(f"{inner}{entry.name}/")
                    elif kind == stat.S_IFREG or entry.name.lower().endswith(SUFFIXES):
                        found[inner + entry.name] = version(status)
        except OSError as error:
            if inner == "" or error.errno not in SKIPPED:
                raise
            closed[inner] = error
        folders += sorted(below)
    return found, closed


def _status(entry: str | Path | os.DirEntry) -> os.stat_result | None:
    """The status of a file, or None if it cannot be reached."""
    try:
        return entry.stat() if isinstance(entry, os.DirEntry) else os.stat(entry)
    except OSError as error:
        if error.errno not in SKIPPED:
            raise
        return None


def _digest(versions: Iterable[tuple[str, Version]]) -> str:
    """SHA-256 of the paths and versions of files."""
    digest = hashlib.sha256()
    for inner, found in versions:
        digest.update(os.fsencode(f"{inner}\0{found}\n"))
    return digest.hexdigest()
