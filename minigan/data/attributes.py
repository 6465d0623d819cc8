"""CelebA's list of attributes: of every picture 40 times yes or no, such as Smiling or Eyeglasses.

    202599
    5_o_Clock_Shadow Arched_Eyebrows Attractive ... Young
    000001.jpg -1  1  1 ...

The number of pictures, the names of the attributes, and a row for each picture: 1 is yes, -1 is no.
Lines end as they like, and between words is any white space, for copies differ in both.
"""

from __future__ import annotations

import difflib
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import TextIO

import numpy as np

from .cache import DataError

FILE = "list_attr_celeba.txt"
MAX_BYTES = 64 * 2**20  # CelebA's has 26 million; twice that many, and
MAX_ROWS = 1_000_000  # five times its rows, are taken for something else
MAX_LINE = 4_000  # characters: its names take 450, and an error may have to list them
REMEDY = f"download CelebA's {FILE} again"


@dataclass(frozen=True)
class Attributes:
    """A list that has been read."""

    path: Path
    names: list[str]  # of the attributes, the columns of
    table: np.ndarray  # (N, len(names)) bool
    row: dict[str, int]  # of each picture in it, by its file name and in its order

    def having(self, wanted: str) -> frozenset[str]:
        """The pictures with all of "Male,no-Eyeglasses": with the one and without the other."""
        found = np.ones(len(self.table), bool)
        for word in wanted.split(","):
            name = word if word in self.names else word.removeprefix("no-")
            if name not in self.names:
                close = difflib.get_close_matches(name, self.names, 1)
                hint = f", did you mean {close[0]}?" if close else ""
                raise DataError(
                    f"--only {wanted}: {self.path} has no attribute {name!r}{hint}; "
                    f"choose of {', '.join(self.names)}"
                )
            found &= self.table[:, self.names.index(name)] == (name == word)
        return frozenset(compress(self.row, found))


def find_attributes(folder: Path) -> Path:
    """The list that lies with the pictures in `folder`, or above them as CelebA has it."""
    places = [folder, *folder.parents[:2]]
    for place in places:
        for path in (place / FILE, place / "Anno" / FILE):
            if path.exists():
                return path
    raise DataError(
        f"--only needs {FILE}, which is not in {', '.join(map(str, places))} nor in a folder Anno "
        "there; put it beside the pictures"
    )


def read_attributes(path: Path) -> Attributes:
    """The list in this file. Raises DataError if it is not whole, or is no such list."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for
            raise _bad(path, "it is not a file")
        if status.st_size > MAX_BYTES:
            raise _bad(path, f"it has {status.st_size:,} bytes")
        with open(path, encoding="utf-8-sig") as file:
            return _parse(path, _lines(path, file))
    except UnicodeDecodeError:
        raise _bad(path, "it is not text in UTF-8") from None
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror or error}); check that it may be read"
        ) from error


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
        raise _bad(path, f"it begins with {_shown(' '.join(count))}, not with a number of pictures")
    if not names or not "".join(names).isprintable() or len(set(names)) < len(names):
        raise _bad(path, f"{_shown(' '.join(names))} are no names of attributes")
    row: dict[str, int] = {}
    table = bytearray()
    for picture, *values in lines:
        if len(values) != len(names) or values.count("1") + values.count("-1") != len(values):
            raise _bad(path, f"{_shown(picture)} has not {len(names)} values of 1 or -1")
        if picture in row:
            raise _bad(path, f"it has {_shown(picture)} twice")
        if len(row) == MAX_ROWS:
            raise _bad(path, f"it has more than {MAX_ROWS:,} rows")
        row[picture] = len(row)
        table.extend(value == "1" for value in values)
    if (count[0].lstrip("0") or "0") != str(len(row)):
        raise _bad(path, f"it announces {_shown(count[0])} rows and has {len(row):,}")
    return Attributes(path, names, np.frombuffer(table, bool).reshape(len(row), len(names)), row)


def _shown(text: str) -> str:
    return repr(text[:40])


def _bad(path: Path, what: str) -> DataError:
    return DataError(f"{path} is no list of attributes, or not a whole one: {what}; {REMEDY}")
