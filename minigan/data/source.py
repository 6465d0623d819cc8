"""What a source of images is, which errors skip an image, and which errors stop the build.

Drawn sets (drawn.py), image files (imagefiles.py, subfolders.py) and arrays of pixels (memory.py) are
sources; cache.py decodes any of them.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Protocol

import numpy as np

from ..errors import UserError
from ..files import naming

# These errors concern one file, so its image is skipped. Any other error stops the build: a failing
# disk (EIO), for example, must not silently shrink the data set.
SKIPPED = {errno.EACCES, errno.EPERM, errno.ENOENT, errno.ELOOP, errno.ENOTDIR}


class Unreadable(Exception):
    """One image cannot be used; the message is the reason. The build skips the image."""


class Changed(UserError):
    """The source was changed or replaced after its identity was read."""


class Source(Protocol):
    """Images that are decoded one at a time. It can be pickled, because each worker gets a copy."""

    def __len__(self) -> int: ...

    def identity(self) -> dict:
        """Everything that determines the bytes, as JSON values. It is fast: nothing is decoded."""

    def check(self) -> None:
        """Raise Changed unless the files are still the ones that `identity` describes."""

    def name(self, i: int) -> str:
        """The name of image i."""

    def load(self, i: int) -> np.ndarray:
        """Image i, uint8 RGB (S, S, 3). Raises Unreadable if it cannot be used."""


class Labelled(Source, Protocol):
    """A source whose images have classes."""

    def label(self, i: int) -> int:
        """The class of image i, from 0."""


def contents(path: str | Path, most: int) -> bytes:
    """The bytes of a file. Raises Unreadable if it has more than `most`, or is not a regular file."""
    if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for a writer
        raise Unreadable("not a regular file")
    with naming(path), open(path, "rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise Unreadable(f"more than {most:,} bytes")
    return data


def changed(path: Path) -> Changed:
    """The error for a source that is no longer what its identity describes."""
    return Changed(f"{path} was changed or replaced while it was being read; run again")


def cannot_read(path: str | Path, error: OSError) -> UserError:
    """The error for a path that cannot be read."""
    reason = error.strerror or error
    return UserError(f"{path} cannot be read ({reason}); check that it exists and is readable")
