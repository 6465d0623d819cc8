"""Checkpoint files: arrays, a text and a digest of both, in the safetensors format.

The file holds named arrays and, in its metadata, a text of three lines: the format, a digest, and JSON.
Nothing is pickled, so reading a file never executes code from it. The digest covers everything that is
read, because the safetensors format itself does not notice a flipped bit. state.py defines what the
names and the JSON mean; only it calls `write_file` and the functions that read.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from .. import tensorfile
from ..console import plain
from ..errors import UserError
from ..files import reason

T = TypeVar("T")

FORMAT = "minigan checkpoint 3"
EARLIER = re.compile("minigan checkpoint [12]")
REMEDY = "use another checkpoint"
DIGITS = 8  # of the step in a file's name; a run has fewer than a hundred million steps


class CheckpointError(UserError):
    """A checkpoint that is missing or cannot be read."""


def path_of(folder: Path, step: int) -> Path:
    """The path of a step's checkpoint. Its leading zeros make names sort like numbers."""
    return folder / f"step-{step:0{DIGITS}d}.safetensors"


def step_of(path: Path) -> int:
    """The step in a checkpoint's name."""
    return int(path.stem.removeprefix("step-"))


def is_named(path: Path) -> bool:
    """Whether the path has the name of a checkpoint."""
    return re.fullmatch(rf"step-[0-9]{{{DIGITS}}}\.safetensors", path.name) is not None


def newest_first(folder: Path) -> list[Path]:
    """The checkpoints in a folder, newest first; files with other names are ignored.

    The list is empty if the folder does not exist. Raises OSError if the folder cannot be listed.
    """
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if is_named(path)), reverse=True)


def newest(
    folder: Path, purpose: str, use: Callable[[Path], T], say: Callable[[str], None]
) -> tuple[Path, T, list[str]]:
    """(path, result of `use`, what is wrong with newer ones) of the newest checkpoint that can be used.

    purpose  "resume" or "sample", for the message
    use      raises CheckpointError for a checkpoint that it cannot use
    say      is told of each checkpoint that is skipped

    Raises CheckpointError if none can be used.
    """
    troubles: list[str] = []
    for path in newest_first(folder):
        try:
            return path, use(path), troubles
        except CheckpointError as error:
            troubles.append(str(error))
            say(f"skipped: {error}")
    raise CheckpointError(
        "; ".join((f"{folder.parent} has no checkpoint to {purpose} from", *troubles))
    )


def write_file(path: Path, arrays: Mapping[str, np.ndarray], table: dict[str, Any]) -> None:
    """Write arrays, a JSON table and their digest, completely or not at all."""
    text = json.dumps(table)
    tensorfile.write(path, arrays, "\n".join((FORMAT, _digest(arrays, text), text)))


def read_table(path: Path) -> dict[str, Any]:
    """The JSON table of a checkpoint. Raises CheckpointError; only `read_file` checks the digest."""
    return _table(path, _read_text(path)[1])


def read_forms(path: Path) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
    """{name: (dtype, shape)} of the arrays, from the header alone. Raises CheckpointError."""
    with _reading(path):
        return tensorfile.read_forms(path)


def read_file(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and the table. Raises CheckpointError unless they match the digest in the file."""
    digest, text = _read_text(path)
    with _reading(path):
        arrays = tensorfile.read(path)
    if digest != _digest(arrays, text):
        raise CheckpointError(
            f"{path} is damaged: its contents do not match its checksum; {REMEDY}"
        )
    return arrays, _table(path, text)


def _read_text(path: Path) -> tuple[str, str]:
    """The digest and the JSON of a checkpoint of this format."""
    with _reading(path):
        words = tensorfile.read_text(path)
    first = words.get("format", "none")  # where format 1 put its name
    lines = words.get(tensorfile.KEY, first).split("\n", 2)
    found, digest, text = (*lines, "", "")[:3]
    if EARLIER.fullmatch(found):
        raise CheckpointError(
            f"{path}: its format is {found!r}, of minigan 0.1, but this version reads {FORMAT!r}; "
            "start a new run, or continue with minigan 0.1"
        )
    if found != FORMAT:
        raise CheckpointError(
            f"{path}: its format is {found[:80]!r}, but this version reads {FORMAT!r}; {REMEDY}"
        )
    return digest, text


def _table(path: Path, text: str) -> dict[str, Any]:
    try:
        table = json.loads(text)
    except (ValueError, RecursionError):
        table = None
    if not isinstance(table, dict):
        raise CheckpointError(f"{path}: its state is not a table; {REMEDY}")
    return table


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn an OSError or ValueError raised inside into a CheckpointError about this file."""
    unread = f"{path} cannot be read as a checkpoint"
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"{unread}: {reason(error)}, or {REMEDY}") from error
    except ValueError as error:
        raise CheckpointError(f"{unread}: {plain(error)[:200]}; {REMEDY}") from error


def _digest(arrays: Mapping[str, np.ndarray], text: str) -> str:
    """SHA-256 of everything that `read_file` returns."""
    digest = hashlib.sha256(text.encode())
    for key, array in sorted(arrays.items()):
        digest.update(f"{key} {array.dtype} {array.shape}".encode())
        for piece in tensorfile.pieces(array):
            digest.update(piece)
    return digest.hexdigest()
