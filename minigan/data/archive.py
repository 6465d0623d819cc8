"""A zip file as a source of images, read without extracting it.

The zip may come from a stranger, so the names in it are never used as paths on disk, and each number in
it is checked before it can cost memory or time.
"""

from __future__ import annotations

import os
import zipfile
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..console import plain
from ..errors import UserError
from .decoding import MAX_BYTES
from .imagefiles import VERSION, ImageFiles, keep, members_of, version
from .listing import REMEDY, ZIP, choose, kind_of, left_out
from .source import Changed, Unreadable, cannot_read, changed

ZIP_BYTES = 1_443_490_838  # of CelebA's zip as published: 202,599 JPEGs of 178 x 218 pixels

Place = tuple[zipfile.ZipInfo, int]  # an entry, and the offset where the next entry starts


def open_zip(
    path: Path, image_size: int, max_images: int | None, only: str | None, condition: str | None
) -> ZipImages:
    """The images of this zip. UserError: it is not a zip, is damaged, or has no image to use."""
    with open(path, "rb") as file:
        head = file.read(1024).lstrip(b"\xef\xbb\xbf \t\r\n")
        status = os.fstat(file.fileno())
    if head.lower().startswith((b"<!doctype html", b"<html")):
        raise UserError(
            f"{path} is a web page, probably the download site's notice that its quota is used up; "
            f"download {ZIP} ({ZIP_BYTES:,} bytes) again later"
        )
    if not head.startswith(b"PK") and path.suffix.lower() != ".zip":
        raise UserError(f"{path} is neither a zip nor a folder; {REMEDY}")
    stamp: dict[str, Any] = dict(zip(VERSION, version(status), strict=True))
    source = ZipImages(path, stamp, image_size, max_images, None, "")
    if only is not None or condition is not None:
        source.kept, added = keep(only, condition, path.parent, source.images)
        stamp |= added
    if path.name == ZIP or status.st_size == ZIP_BYTES:
        stamp["kind"] = "celeba"
    else:
        info, _ = next(iter(source.images.values()))
        stamp["kind"] = kind_of(Path(info.filename))
    if status.st_size != ZIP_BYTES:
        len(source)  # lists the zip, to fail early; not for CelebA's own, where it takes a second
    return source


class ZipImages(ImageFiles):
    """The images of a zip. Their names are read when they are first needed."""

    def __reduce__(self) -> tuple:
        """Pickle without the open zip; a copy in another process opens the zip at its first image."""
        fields = (self.path, self.stamp, self.image_size, self.max_images, self.kept, "")
        return ZipImages, fields

    def check(self) -> None:
        """Raise Changed unless the zip is still the one that `stamp` describes."""
        try:
            self._check(os.stat(self.path))
        except FileNotFoundError:
            raise changed(self.path) from None
        except OSError as error:
            raise cannot_read(self.path, error) from error

    def _check(self, status: os.stat_result) -> None:
        if version(status) != tuple(self.stamp[key] for key in VERSION):
            raise changed(self.path)

    @cached_property
    def archive(self) -> zipfile.ZipFile:
        """The open zip. Every process checks that it is the one that `stamp` describes.

        Raises Changed if it is not, UserError if the zip cannot be read or is damaged.
        """
        try:
            archive = zipfile.ZipFile(self.path)
            self._check(os.fstat(archive.fp.fileno()))
            return archive
        except Changed:
            raise
        except OSError as error:
            raise cannot_read(self.path, error) from error
        except Exception as error:  # a damaged directory: BadZipFile, struct.error and others
            self.check()
            raise UserError(
                f"{self.path} is a damaged or incomplete zip of {self.path.stat().st_size:,} bytes "
                f"(CelebA's has {ZIP_BYTES:,}); download it again"
            ) from error

    @cached_property
    def members(self) -> list[tuple[str, Place]]:
        """The (name, place) of each image."""
        return members_of(self.images, self.kept, self.max_images)

    @cached_property
    def images(self) -> dict[str, Place]:
        """{name: place} of all images, kept or not."""
        starts = sorted({info.header_offset for info in self.archive.infolist()})
        ends = dict(pairwise([*starts, self.stamp["bytes"]]))
        entries: dict[str, Place] = {}
        for info in self.archive.infolist():  # of two entries with one name, the first counts
            info.filename = info.filename.replace("\\", "/")  # some Windows programs write these
            entries.setdefault(info.filename, (info, ends[info.header_offset]))
        chosen = choose(self.path, entries)
        self.left_out = left_out(self.path, entries, chosen)
        return {name: entries[path] for name, path in chosen.items()}

    def read(self, place: Place) -> bytes:
        """The unpacked bytes of an entry. Raises Unreadable or UserError."""
        info, end = place
        if info.file_size > MAX_BYTES:
            raise Unreadable(f"more than {MAX_BYTES:,} bytes")
        # other methods can compress a millionfold, and zipfile cannot stop them early
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Unreadable(
                f"compressed with zip method {info.compress_type}; "
                "only 0 (stored) and 8 (deflated) are read"
            )
        if not 0 <= info.header_offset <= end - info.compress_size:  # in a bomb, entries share data
            raise Unreadable("overlaps the next file or lies outside the zip")
        try:
            with self.archive.open(info) as file:
                return file.read(info.file_size)  # read() without a size would unpack a whole bomb
        except OSError as error:
            raise cannot_read(self.path, error) from error
        except Exception as error:  # damaged or encrypted: zipfile, zlib, struct raise their own
            raise Unreadable(f"cannot be unpacked: {plain(error)}") from error
