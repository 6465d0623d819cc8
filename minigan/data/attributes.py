"""CelebA's list of attributes: 40 for each image, such as Smiling or Eyeglasses, present or not.

    202599
    5_o_Clock_Shadow Arched_Eyebrows Attractive ... Young
    000001.jpg -1  1  1 ...

The file has the number of images, the names of the attributes, and a row for each image: 1 is yes,
-1 is no. Any line ending and any white space are accepted, because copies differ in both.
"""

from __future__ import annotations

import difflib
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import compress, product
from pathlib import Path
from typing import TextIO

import numpy as np

from ..errors import UserError
from ..options import short
from .source import cannot_read

FILE = "list_attr_celeba.txt"
# Anything beyond these limits is not a list of attributes.
MAX_BYTES = 64 * 2**20  # CelebA's has 26 million
MAX_ROWS = 1_000_000  # CelebA's has 202,599
MOST_CONDITIONS = 3  # attributes; each doubles the number of classes
MAX_LINE = 4_000  # characters: CelebA's names take 450, and an error message may list them
REMEDY = f"download CelebA's {FILE} again"


@dataclass(frozen=True)
class Attributes:
    """The contents of a list of attributes."""

    path: Path
    names: list[str]  # of the attributes
    table: np.ndarray  # (N, len(names)) bool: a row for each image, a column for each attribute
    row: dict[str, int]  # {file name: row} of each image, in the order of the list

    def having(self, wanted: str) -> frozenset[str]:
        """The file names of the images with these attributes.

        "Male,no-Eyeglasses" means with Male and without Eyeglasses. Raises UserError for an unknown
        attribute.
        """
        found = np.ones(len(self.table), bool)
        for word in wanted.split(","):
            name = word if word in self.names else word.removeprefix("no-")
            found &= self._column(name, f"--only {wanted}") == (name == word)
        return frozenset(compress(self.row, found))

    def classed(self, condition: str) -> dict[str, int]:
        """{file name: class} of each image; `class_names` gives the names of the classes.

        Raises UserError for an unknown attribute.
        """
        number = np.zeros(len(self.table), int)
        for name in condition.split(","):
            number = 2 * number + self._column(name, f"--condition {condition}")
        return dict(zip(self.row, number.tolist(), strict=True))

    def _column(self, name: str, said: str) -> np.ndarray:
        """Which images (N,) have an attribute. UserError: there is none of this name."""
        if name not in self.names:
            close = difflib.get_close_matches(name, self.names, 1)
            hint = f", did you mean {close[0]}?" if close else ""
            raise UserError(
                f"{said}: {self.path} has no attribute {name!r}{hint}; "
                f"choose from {', '.join(self.names)}"
            )
        return self.table[:, self.names.index(name)]


def class_names(condition: str) -> tuple[str, ...]:
    """The classes into which one to three attributes divide the images.

    "Male,Smiling" makes no-Male+no-Smiling, no-Male+Smiling, Male+no-Smiling and Male+Smiling. Raises
    UserError if there are more attributes, or if one is empty or named twice.
    """
    names = condition.split(",")
    if len(names) > MOST_CONDITIONS or len(set(names)) < len(names) or "" in names:
        raise UserError(
            f"--condition {short(condition)}: give one to {MOST_CONDITIONS} attributes of CelebA, each "
            "once, such as Male,Smiling"
        )
    return tuple("+".join(words) for words in product(*((f"no-{name}", name) for name in names)))


def find_attributes(folder: Path, option: str = "--only") -> Path:
    """The path of the list: next to the images in `folder`, or above them, as in CelebA.

    option  the one that needs the list, for the message

    Raises UserError if there is no list.
    """
    places = [folder, *folder.parents[:2]]
    for place in places:
        for path in (place / FILE, place / "Anno" / FILE):
            if path.exists():
                return path
    raise UserError(
        f"{option} needs {FILE}, which is not in {', '.join(map(str, places))} or a folder Anno in "
        "these; put it next to the images"
    )


def read_attributes(path: Path) -> Attributes:
    """Read the list in this file. Raises UserError if it is not a complete list of attributes."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for a writer
            raise _bad(path, "it is not a file")
        if status.st_size > MAX_BYTES:
            raise _bad(path, f"it has {status.st_size:,} bytes")
        with open(path, encoding="utf-8-sig") as file:
            return _parse(path, _lines(path, file))
    except UnicodeDecodeError:
        raise _bad(path, "it is not text in UTF-8") from None
    except OSError as error:
        raise cannot_read(path, error) from error


def _lines(path: Path, file: TextIO) -> Iterator[list[str]]:
    """The words of each line that has any."""
    while line := file.readline(MAX_LINE):
        if len(line) == MAX_LINE:
            raise _bad(path, f"it has a line of {MAX_LINE:,} characters or more")
        if words := line.split():
            yield words


def _parse(path: Path, lines: Iterator[list[str]]) -> Attributes:
    count, names = next(lines, []), next(lines, [])
    if len(count) != 1 or not (count[0].isascii() and count[0].isdigit()):
        raise _bad(path, f"it begins with {_shown(' '.join(count))}, not the number of images")
    if not names or not "".join(names).isprintable() or len(set(names)) < len(names):
        raise _bad(path, f"{_shown(' '.join(names))} are not names of attributes")
    row: dict[str, int] = {}
    table = bytearray()
    for image, *values in lines:
        if len(values) != len(names) or values.count("1") + values.count("-1") != len(values):
            raise _bad(path, f"{_shown(image)} does not have {len(names)} values of 1 or -1")
        if image in row:
            raise _bad(path, f"it lists {_shown(image)} twice")
        if len(row) == MAX_ROWS:
            raise _bad(path, f"it has more than {MAX_ROWS:,} rows")
        row[image] = len(row)
        table.extend(value == "1" for value in values)
    if (count[0].lstrip("0") or "0") != str(len(row)):
        raise _bad(path, f"it announces {_shown(count[0])} rows but has {len(row):,}")
    return Attributes(path, names, np.frombuffer(table, bool).reshape(len(row), len(names)), row)


def _shown(text: str) -> str:
    return repr(text[:40])


def _bad(path: Path, what: str) -> UserError:
    return UserError(f"{path} is not a complete list of attributes: {what}; {REMEDY}")
