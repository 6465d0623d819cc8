"""MNIST (LeCun et al., 1998) and Fashion-MNIST (Xiao et al., 2017): 60,000 grey images of 28 x 28 each.

Both come as files in LeCun's idx format, gzipped or not: two bytes of 0, the type (8 for bytes), the
number of dimensions, the sizes as big-endian 32-bit integers, and the values. The files of both sets
have the same names and headers, so only a digest of their contents tells them apart.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import stat
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np

from ..errors import UserError
from .memory import Arrays, check_labels
from .source import cannot_read

CLASSES = {
    "mnist": tuple("0123456789"),
    "fashion-mnist": (
        *("T-shirt", "trouser", "pullover", "dress", "coat"),
        *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
    ),
}
TITLES = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST"}
# Where torchvision keeps the files, below its root folder.
LAYOUT = {"mnist": "MNIST/raw", "fashion-mnist": "FashionMNIST/raw"}
NAMES = {  # some programs that unpack gzip write a dot before idx
    "images": ("train-images-idx3-ubyte", "train-images.idx3-ubyte"),
    "labels": ("train-labels-idx1-ubyte", "train-labels.idx1-ubyte"),
}
MD5 = {  # of the published files, unpacked, because they have been compressed more than once
    "6bbc9ace898e44ae57da46a324031adb": "mnist",
    "a25bea736e30d166cdddb491f175f624": "mnist",
    "f4a8712d7a061bf5bd6d2ca38dc4d50a": "fashion-mnist",
    "9018921c3c673c538a1fc5bad174d6f9": "fashion-mnist",
}
SIDE = 28
MAGIC = {"images": 0x00000803, "labels": 0x00000801}
MOST = 60_000  # samples; a file that announces more is not from these sets
EMNIST = " (EMNIST's labels go up to 61, and its images are transposed)"


def open_mnist(root: str | Path, kind: str, image_size: int, max_images: int | None) -> Arrays:
    """The first `max_images` samples of the training set in a folder or torchvision's folder below it.

    kind  "mnist" or "fashion-mnist"

    Raises UserError if a file is missing or damaged, or belongs to the other set.
    """
    folder = _folder(Path(root), kind)
    paths = {part: _find(folder, part, kind) for part in NAMES}
    found = {part: _read(path, part, TITLES[kind]) for part, path in paths.items()}
    for part, (_, name) in found.items():
        if name not in (None, kind):
            raise UserError(
                f"{paths[part]} is a file of {TITLES[name]}, not of {TITLES[kind]}; "
                f"give --data {name}, or another --dataroot"
            )
    pixels, labels = found["images"][0], found["labels"][0]
    if len(pixels) != len(labels):
        raise UserError(
            f"{folder} has {len(pixels)} images but {len(labels)} labels; "
            f"get both files of {TITLES[kind]} again"
        )
    check_labels(paths["labels"], labels, CLASSES[kind], EMNIST)
    others = [str(paths[part]) for part, (_, name) in found.items() if name is None]
    notes = [f"not the published {TITLES[kind]}: {', '.join(others)}."] if others else []
    pixels, labels = pixels[:max_images], labels[:max_images].astype(np.int64)
    return Arrays(kind, pixels, labels, CLASSES[kind], image_size, notes)


def _folder(root: Path, kind: str) -> Path:
    """The folder with the files: `root`, or torchvision's folder below it."""
    try:
        if stat.S_ISDIR(os.stat(root).st_mode):
            inner = root / LAYOUT[kind]
            return inner if inner.is_dir() else root
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{root} does not exist; {_remedy(kind)}") from None
    except OSError as error:
        raise cannot_read(root, error) from error
    raise UserError(f"{root} is not a folder; {_remedy(kind)}")


def _remedy(kind: str) -> str:
    return (
        f"give the folder of {TITLES[kind]}'s {NAMES['images'][0]}.gz and {NAMES['labels'][0]}.gz"
    )


def _find(folder: Path, part: str, kind: str) -> Path:
    """The file of the images or of the labels. UserError: there is none."""
    for name in NAMES[part]:
        for path in (folder / name, folder / f"{name}.gz"):
            if os.path.lexists(path):
                return path
    try:
        emnist = any(name.startswith("emnist") for name in os.listdir(folder))
    except OSError as error:
        raise cannot_read(folder, error) from error
    hint = " (EMNIST is another set, whose images are transposed)" if emnist else ""
    raise UserError(
        f"{folder} has no {NAMES[part][0]} or {NAMES[part][0]}.gz{hint}; {_remedy(kind)}"
    )


def _read(path: Path, part: str, title: str) -> tuple[np.ndarray, str | None]:
    """The array in a file, and its kind by MD5, or None. UserError: the file is not complete."""
    bad = lambda what: UserError(
        f"{path} is not {title}'s file of {part}: {what}; download it again"
    )
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for a writer
            raise bad("it is not a regular file")
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"  # browsers unpack files and keep the suffix .gz
            file.seek(0)
            if packed:
                with gzip.open(file) as unpacked:
                    data, shape = _values(unpacked, part, bad)
            else:
                data, shape = _values(file, part, bad)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise bad(f"its gzip data is damaged or cut off ({error})") from error
    except OSError as error:
        raise cannot_read(path, error) from error
    digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
    values = np.frombuffer(data, np.uint8, offset=4 * (len(shape) + 1))
    return values.reshape(shape), MD5.get(digest)  # (N*28*28,) -> (N, 28, 28); labels: (N,)


def _values(
    file: IO[bytes], part: str, bad: Callable[[str], UserError]
) -> tuple[bytes, tuple[int, ...]]:
    """The whole contents, and the shape of the array. Reads one byte more than announced, at most."""
    head = file.read(4)
    magic = int.from_bytes(head, "big")
    if head.lstrip()[:1] == b"<":
        raise bad("it is a web page, probably the server's notice of an error")
    if magic == int.from_bytes(MAGIC[part].to_bytes(4, "little"), "big"):
        raise bad("the bytes of its header are in reverse order")
    if magic in MAGIC.values() and magic != MAGIC[part]:
        raise bad(f"it holds {'labels' if part == 'images' else 'images'}")
    if magic != MAGIC[part]:
        raise bad(f"it starts with {head.hex() or 'nothing'} instead of {MAGIC[part]:08x}")
    ndim = MAGIC[part] & 255
    head += file.read(4 * ndim)
    if len(head) < 4 * (ndim + 1):
        raise bad(f"it ends within its header, after {len(head)} bytes")
    shape = tuple(np.frombuffer(head, ">u4", offset=4).tolist())
    if shape[1:] not in ((), (SIDE, SIDE)):
        raise bad(f"its images have {shape[1]} x {shape[2]} pixels instead of {SIDE} x {SIDE}")
    if not 1 <= shape[0] <= MOST:
        raise bad(f"it announces {shape[0]} samples instead of {MOST}")
    size = int(np.prod(shape))
    body = file.read(size + 1)
    if len(body) < size:
        raise bad(f"it is cut off after {len(body)} of {size} values")
    if len(body) > size:
        raise bad(f"it continues after the {size} values that its header announces")
    return head + body, shape
