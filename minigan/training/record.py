"""metrics.jsonl: writing one line for each reported step, and reading it even if it is damaged.

A line is a JSON object with `step`, `epoch` and the metrics of the step. These are numbers, or null if
they were not finite.
"""

from __future__ import annotations

import errno
import functools
import io
import itertools
import json
import math
import os
from pathlib import Path
from typing import IO, Any

from ..files import cautiously, naming, sync
from .checkpoint import DIGITS
from .metrics import COUNTS

LARGEST = 3.5e38  # no metric is larger, because metrics are computed in float32
LINE = 2**16  # characters of a line, at most; a usual line has about 250
FAULTS = 10_000  # lines without metrics; after this number, the rest of a file is not read
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)  # from os.link, as on FAT


class MetricsFile:
    """metrics.jsonl, open for writing. Each line is flushed to the operating system at once."""

    def __init__(self, path: Path | str):
        self._path = Path(path)
        self._file = open(path, "ab", opener=cautiously)  # noqa: SIM115, closed by close()

    def write(self, metrics: dict[str, float]) -> None:
        """Add a line. Values that are not finite become null, because JSON cannot hold them."""
        line = {key: value if math.isfinite(value) else None for key, value in metrics.items()}
        with naming(self._path):
            self._file.write(as_line(line))
            self._file.flush()

    def sync(self) -> None:
        """Flush to disk, so that a power cut cannot lose the lines."""
        with naming(self._path):
            sync(self._file)

    def close(self) -> None:
        with naming(self._path):
            self._file.close()


def as_line(entry: dict[str, Any]) -> bytes:
    """A JSON object as a line of a file."""
    return json.dumps(entry).encode() + b"\n"


def read(
    file: IO[bytes], path: Path, steps: float, torn_after: int
) -> tuple[list[dict[str, float]], str]:
    """The lines of the steps up to `steps`, and a sentence about wrong lines, or "".

    A line is wrong if it holds no metrics or is out of order. Wrong lines after the line of step
    `steps` are not reported, because they will be written again. A last line that is cut short is not
    reported either, if it follows the line of the step `torn_after` or of a later step.
    """
    lines: dict[int, dict[str, float]] = {}
    newest, unusable, count, first = 0, 0, 0, ""
    # Every type of line end becomes "\n", and bytes that are not UTF-8 are kept as surrogates.
    reader = io.TextIOWrapper(file, "utf-8", "surrogateescape")
    for number, text in enumerate(iter(functools.partial(reader.readline, LINE), ""), 1):
        line, reason = _parse(text.removeprefix("\ufeff") if number == 1 else text)
        if line:
            step = line["step"]
            if step <= steps:
                reason = f"step {step} stands after step {newest}" if step <= newest else ""
                lines[step] = line  # the later one of two lines for the same step
            newest = max(newest, step)
        elif reason:
            unusable += 1
            torn = text[0] == "{" and text[-1] != "\n" and len(text) < LINE
            excused = newest >= torn_after if torn else newest >= steps
            if excused and unusable < FAULTS:
                reason = ""
        if reason:
            count, first = count + 1, first or f"line {number} is wrong ({reason})"
        if unusable == FAULTS:
            break
    reader.detach()  # the caller closes the file
    fault = f"{path}: {first}" if count else ""
    if count > 1:
        fault += f", and {count - 1:,} more"
    if unusable == FAULTS:
        fault += ", and what follows was not read"
    return [lines[step] for step in sorted(lines)], fault


def _parse(text: str) -> tuple[dict[str, Any] | None, str]:
    """A line of metrics, or None and what is wrong with it; "" if it is blank."""
    if not text.strip():
        return None, ""
    try:
        text.encode()  # UnicodeEncodeError, a ValueError, if it has surrogates
        line = json.loads(text)
        reason = _misfit(line)
    except (ValueError, RecursionError):
        return None, "not JSON"
    return (None, reason) if reason else (line, "")


def _misfit(line: Any) -> str:
    if not isinstance(line, dict):
        return "not a table"
    for key in COUNTS:
        if key not in line:
            return f"it has no {key}"
    for key, value in line.items():
        if key in COUNTS:
            fits = type(value) is int and (key == "step") <= value < 10**DIGITS
        else:
            fits = value is None or (type(value) in (int, float) and abs(value) <= LARGEST)
        if not fits:
            return f"its {key!a:.20} is {value!a:.40}"
    return ""


def keep(path: Path) -> Path:
    """Give a file a second name, NAME.damaged or the first free NAME.damagedN. Returns that name.

    Where possible the file also keeps its first name until a new file replaces it, so a process that is
    killed in between loses nothing.
    """
    names = (path.with_name(f"{path.name}.damaged{i or ''}") for i in itertools.count())
    kept = next(name for name in names if not os.path.lexists(name))
    try:
        os.link(path, kept)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        path.rename(kept)
    return kept
