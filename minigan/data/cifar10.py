"""The binary version of CIFAR-10 (Krizhevsky, 2009): 50,000 colour images of 32 x 32 pixels.

A sample has 3,073 bytes: the label, then the red, green and blue planes, row by row. Five files have
10,000 samples each. They are read from the folder cifar-10-batches-bin, or from the archive
cifar-10-binary.tar.gz without extracting it. The archive may come from a stranger: its members are
found by their exact names, and nothing in it is used as a path on disk.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import stat
import tarfile
from pathlib import Path
from typing import IO

import numpy as np

from ..console import plain
from ..errors import UserError
from .memory import Arrays, check_labels
from .source import Unreadable, cannot_read, contents

CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
ARCHIVE, FOLDER = "cifar-10-binary.tar.gz", "cifar-10-batches-bin"
PICKLES = ("cifar-10-python.tar.gz", "cifar-10-batches-py")
SHA256 = {  # of the published files
    "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
}
SIDE, CHANNELS = 32, 3
SAMPLE = 1 + CHANNELS * SIDE * SIDE  # bytes
MOST_BYTES = 10_000 * SAMPLE  # of a file
MOST_UNPACKED = 2**28  # bytes of the archive, which has 184 million
REMEDY = f"give {ARCHIVE}, from https://www.cs.toronto.edu/~kriz/cifar.html, or its folder {FOLDER}"


def open_cifar10(root: str | Path, image_size: int, max_images: int | None) -> Arrays:
    """The first `max_images` samples of the training set.

    root  the archive, the folder cifar-10-batches-bin, or a folder that contains one of the two

    Raises UserError if a file is missing or damaged, or if the files are the pickles of CIFAR-10's
    Python version.
    """
    path = _find(Path(root))
    try:
        files = _from_folder(path) if path.is_dir() else _from_archive(path)
    except OSError as error:
        raise cannot_read(error.filename or path, error) from error
    if missing := [name for name in SHA256 if name not in files]:
        raise UserError(f"{path} lacks {', '.join(missing)}; {REMEDY}")
    samples = np.concatenate([_samples(path / name, files[name]) for name in SHA256])
    labels, planes = samples[:max_images, 0].astype(np.int64), samples[:max_images, 1:]
    planes = planes.reshape(-1, CHANNELS, SIDE, SIDE)  # (N, 3072) -> (N, 3, 32, 32)
    pixels = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))  # (N, 32, 32, 3)
    others = [name for name in SHA256 if hashlib.sha256(files[name]).hexdigest() != SHA256[name]]
    notes = [f"not the published CIFAR-10: {', '.join(others)} in {path}."] if others else []
    return Arrays("cifar10", pixels, labels, CLASSES, image_size, notes)


def _find(root: Path) -> Path:
    """The archive or the folder with the files: `root` itself, or one of them in it."""
    try:
        kind = stat.S_IFMT(os.stat(root).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{root} does not exist; {REMEDY}") from None
    except OSError as error:
        raise cannot_read(root, error) from error
    inside = (root / name for name in (FOLDER, ARCHIVE))
    for path in inside if kind == stat.S_IFDIR else ():
        if path.exists():
            return path
    for path in (root, *(root / name for name in PICKLES)):
        if path.name in PICKLES and path.exists():
            raise _pickles(path)
    if kind not in (stat.S_IFDIR, stat.S_IFREG):
        raise UserError(f"{root} is neither a file nor a folder; {REMEDY}")
    return root


def _pickles(path: Path) -> UserError:
    return UserError(
        f"{path} holds pickles, and loading a pickle runs any code that is in it; {REMEDY}"
    )


def _from_folder(folder: Path) -> dict[str, bytes]:
    """{name: contents} of the data files that exist."""
    files = {}
    for name in SHA256:
        if os.path.lexists(folder / name):
            try:
                files[name] = contents(folder / name, MOST_BYTES)
            except Unreadable as error:
                raise UserError(f"{folder / name} cannot be used: {error}; {REMEDY}") from None
    return files


def _from_archive(path: Path) -> dict[str, bytes]:
    """{name: contents} of the data files in the archive, read in one pass."""
    with open(path, "rb") as file:
        head = file.read(8)
    if head.lstrip()[:1] == b"<":
        raise UserError(f"{path} is a web page, probably the server's notice of an error; {REMEDY}")
    if head[:2] != b"\x1f\x8b":
        raise UserError(f"{path} is not gzipped, as {ARCHIVE} is; {REMEDY}")
    files = {}
    try:
        with gzip.open(path) as unpacked, tarfile.open(fileobj=_Capped(unpacked), mode="r|") as tar:
            for member in tar:
                folder, _, name = member.name.rpartition("/")
                if folder == PICKLES[1]:
                    raise _pickles(path)
                if folder != FOLDER or name not in SHA256:
                    continue
                if not member.isreg() or member.size > MOST_BYTES or name in files:
                    raise tarfile.ReadError(
                        f"{member.name} is not one file of at most {MOST_BYTES} bytes"
                    )
                files[name] = tar.extractfile(member).read(member.size)
    except gzip.BadGzipFile as error:
        raise _damaged(path, error) from error
    except (UserError, OSError):
        raise
    except Exception as error:  # on damaged data, tarfile and zlib raise nearly anything
        raise _damaged(path, error) from error
    return files


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(f"{path} is a damaged or incomplete archive ({plain(error)}); {REMEDY}")


class _Capped:
    """The unpacked bytes of an archive. Raises ReadError beyond MOST_UNPACKED, as for a bomb."""

    def __init__(self, file: IO[bytes]):
        self.file, self.left = file, MOST_UNPACKED

    def read(self, size: int) -> bytes:
        self.left -= size
        if self.left < 0:
            raise tarfile.ReadError(f"more than {MOST_UNPACKED} bytes when unpacked")
        return self.file.read(size)


def _samples(path: Path, data: bytes) -> np.ndarray:
    """The samples (N, 3073) in the contents of a file."""
    count, rest = divmod(len(data), SAMPLE)
    if rest or not count:
        raise UserError(
            f"{path} has {len(data)} bytes, not a multiple of the {SAMPLE} bytes of a sample, so it is "
            f"cut off or another file; {REMEDY}"
        )
    samples = np.frombuffer(data, np.uint8).reshape(count, SAMPLE)  # (N*3073,) -> (N, 3073)
    check_labels(path, samples[:, 0], CLASSES)
    return samples
