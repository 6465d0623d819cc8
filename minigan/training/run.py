"""The run folder: `<out>/NNNNN-<name>/` and the files written while it trains.

config.json    every resolved option, versions, the identity of the data
metrics.jsonl  one object a reported step, and nothing else
events.jsonl   start, resume, skipped files, interrupt, done, diverged
samples/       pictures at fixed noise, reals, real beside fake, raw G beside its average
checkpoints/   see checkpoint.py
losses.png, scores.png, gradients.png, others.png, progress.gif, skipped.txt
metrics.jsonl.damaged  what metrics.jsonl was, if there were wrong lines among the others

A run folder may come from a stranger. Its parts are files and folders of its own: a run with a link
among them is refused, because what is written there would be written elsewhere. And where a run lies,
not its config.json, says where the image cache is.
"""

from __future__ import annotations

import errno
import functools
import io
import itertools
import json
import math
import os
import re
import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Any

from ..console import quote
from ..errors import UserError
from ..files import (
    FOLDER,
    cautiously,
    hold,
    is_own,
    naming,
    sync,
    sync_names,
    trouble,
    write_atomically,
)
from .checkpoint import DIGITS, newest_first
from .metrics import COUNTS, PANELS

# The files of a run, by folder. Whatever else is there is somebody else's and left alone.
FILES = {
    "": (
        *(".lock", "config.json", "metrics.jsonl", "events.jsonl", "skipped.txt"),
        *(f"{panel}.png" for panel in PANELS),
        "progress.gif",
    ),
    "samples": ("step-*.png", "reals.png", "real-beside-fake.png", "raw-beside-average.png"),
    "checkpoints": ("step-*.safetensors",),
    "generated": (),  # files in these are never read, and replaced as a whole
    "generated/single": (),
}

LARGEST = 3.5e38  # of a metric: they are computed in float32
LINE = 2**16  # letters of a line of metrics at the most; one has about 250
TAIL = 2**20  # bytes of an event at the most
FAULTS = 10_000  # lines without metrics, after which the rest of a file is not read
CONFIG = 2**20  # bytes of config.json at the most
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)  # as FAT answers to os.link


class RunError(UserError):
    """A run folder that is missing or cannot be used."""


def numbered_runs(out: Path) -> list[Path]:
    """The run folders in `out`, oldest first."""
    if not out.is_dir():
        return []
    runs = [p for p in out.iterdir() if p.is_dir() and re.match("[0-9]{5,}-", p.name)]
    return sorted(runs, key=lambda p: (_number(p), p.name))


def _number(folder: Path) -> int:
    return int(folder.name.partition("-")[0])


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Write config.json, or replace it when a resumed run has been given other options."""
    write_atomically(folder / "config.json", (json.dumps(config, indent=2) + "\n").encode())


class Run:
    """An existing run folder, and how to write to it."""

    def __init__(self, folder: Path):
        """The folder may be given by a link. Raises RunError if anything that is used in it is one."""
        self.folder = folder
        if not (folder / "config.json").is_file():
            raise RunError(
                f"{folder} is no run folder: it has no config.json; give the path of a run, or auto"
            )
        try:
            for name, patterns in FILES.items():
                if name and not is_own(folder / name, FOLDER):
                    continue
                for part in (folder / name).iterdir():
                    if any(fnmatchcase(part.name, pattern) for pattern in patterns):
                        is_own(part)
        except OSError as error:
            raise RunError(
                f"{trouble(error, folder)}, then start again, or use another run"
            ) from error

    @property
    def samples(self) -> Path:
        return self._folder("samples")

    @property
    def checkpoints(self) -> Path:
        return self._folder("checkpoints")

    def _folder(self, name: str) -> Path:
        """The path of one of its folders, in which it is safe to write."""
        is_own(self.folder / name, FOLDER)
        return self.folder / name

    def _open(self, name: str, mode: str) -> IO[bytes]:
        """One of its files, open. All files that are not replaced as a whole are opened here."""
        path = self.folder / name
        with naming(path):
            is_own(path)
            file = open(path, mode, opener=cautiously)  # noqa: SIM115, the caller closes it
            if "r" not in mode and os.fstat(file.fileno()).st_nlink > 1:
                file.close()
                raise OSError(errno.EMLINK, "it has another name as well, by a hard link")
        return file

    @property
    def out(self) -> Path:
        """The folder that holds it, and the image cache."""
        named = self.folder.name not in ("", "..")
        return (self.folder if named else self.folder.resolve()).parent

    @classmethod
    def create(cls, out: Path, name: str, config: dict[str, Any]) -> Run:
        """The next number in `out`; of those that start at once, one after another.

        The folder gets its name when all is in it: so there are no half-made runs.
        """
        with hold(out / ".lock"):
            number = max(map(_number, numbered_runs(out)), default=-1) + 1
            folder, partial = out / f"{number:05d}-{name}", out / ".new.partial"
            shutil.rmtree(partial, ignore_errors=True)  # of one that was killed here
            for part in (partial, partial / "samples", partial / "checkpoints"):
                part.mkdir()
            write_config(partial, config)
            partial.rename(folder)
            sync_names(out)
        return cls(folder)

    @classmethod
    def find(cls, where: str, out: Path) -> Run | None:
        """The run that `--resume` names: a folder, or "auto" for the newest one with a checkpoint.

        None if it is "auto" and there is nothing to resume. A link to a run must be named.
        """
        if where != "auto":
            return cls(Path(where))
        for folder in reversed(numbered_runs(out)):
            try:
                found = newest_first(folder / "checkpoints")
            except OSError as error:
                raise RunError(
                    f"{trouble(error, folder)}, then start again, or use another run"
                ) from error
            if found:
                if folder.is_symlink():
                    raise RunError(
                        f"{folder}, the newest run, is a link to another folder; "
                        "give its path instead of auto"
                    )
                if not (folder / "config.json").is_file():
                    raise RunError(
                        f"{folder}, the newest run, has no config.json; restore it, or give the path "
                        "of another run instead of auto"
                    )
                return cls(folder)
        return None

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep other processes from writing to this run; first, tidy up after one that was killed.

        Raises RunError if another process has it in use, and for each OSError inside.
        """
        try:
            lock = hold(self.folder / ".lock", wait=False)
            if lock is None:
                raise RunError(
                    f"{self.folder} is in use by another process; "
                    "wait for its end, or start a new run"
                )
            with lock:
                for name, patterns in FILES.items():
                    folder = self._folder(name) if name else self.folder
                    if patterns and folder.is_dir():
                        _drop_partials(folder, patterns)
                yield
        except OSError as error:
            raise RunError(
                f"{trouble(error, self.folder)}, then go on with --resume {quote(self.folder)} "
                "(or anew, if it has no checkpoint yet)"
            ) from error

    @property
    def config(self) -> dict[str, Any]:
        """What config.json holds."""
        path = self.folder / "config.json"
        try:
            with naming(path), self._open("config.json", "rb") as file:
                content = file.read(CONFIG + 1)
            if len(content) > CONFIG:
                raise ValueError(f"it has more than {CONFIG:,} bytes")
            found = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise RunError(
                f"{path} is not JSON: {error}; restore it, or start a new run"
            ) from error
        if not isinstance(found, dict):
            raise RunError(f"{path} holds no table of options; restore it, or start a new run")
        return found

    def event(self, kind: str, **details: Any) -> None:
        """Add a line to events.jsonl, instead of a last one that was cut short."""
        line = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "event": kind, **details}
        with naming(self.folder / "events.jsonl"), self._open("events.jsonl", "ab+") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - TAIL))
            last = file.read(TAIL).replace(b"\r", b"\n").rpartition(b"\n")[2]
            if last and len(last) < TAIL and not _is_json(last):
                file.truncate(end - len(last))
            elif last:  # whole, and has lost its line end to an editor
                file.write(b"\n")
            file.write(_line(line))

    def metrics(self, say: Callable[[str], None] = warnings.warn) -> list[dict[str, float]]:
        """The lines of metrics.jsonl: of each step one, in order. `say` is told of wrong ones.

        A last line that is cut short is left out without a word: a process is writing it, or was
        killed there.
        """
        lines, fault = self._read_metrics(math.inf, torn_after=0)
        if fault:
            say(f"{fault}; only the usable lines are read, in order")
        return lines

    def cut_metrics(
        self, steps: int, say: Callable[[str], None] = warnings.warn, every: int = 1
    ) -> list[dict[str, float]]:
        """Cut metrics.jsonl back to the first `steps` steps; returns their lines.

        The lines of later steps will be written again. If one before them is wrong, the old file is
        kept beside the new one, and `say` is told. There is a line each `every` steps.
        """
        path = self.folder / "metrics.jsonl"
        lines, fault = self._read_metrics(steps, torn_after=steps - every + 1)
        if fault:
            kept = _keep(path)
            self.event("damaged metrics", fault=fault, kept=kept.name)
            say(f"{fault}; the usable lines are kept in order, and the old file is now {kept.name}")
        write_atomically(path, b"".join(map(_line, lines)))
        return lines

    def open_metrics(self) -> Metrics:
        """metrics.jsonl, open for further lines."""
        path = self.folder / "metrics.jsonl"
        is_own(path)
        return Metrics(path)

    def _read_metrics(self, steps: float, torn_after: int) -> tuple[list[dict[str, float]], str]:
        """The lines up to a step, and a sentence about those that are wrong, or "".

        A line is wrong if it holds no metrics or is out of order. After the line of the last step a
        wrong one does no harm, because the lines there will be written again; and a last line that is
        cut short does none once the step `torn_after` was reached.
        """
        path, lines = self.folder / "metrics.jsonl", {}
        newest, unusable, count, first = 0, 0, 0, ""
        if not is_own(path):
            return [], ""
        with naming(path), self._open("metrics.jsonl", "rb") as file:
            # Any line end is one, of which it makes "\n"; what is not UTF-8 stays as it is.
            reader = io.TextIOWrapper(file, "utf-8", "surrogateescape")
            for number, text in enumerate(iter(functools.partial(reader.readline, LINE), ""), 1):
                line, reason = _parse(text.removeprefix("\ufeff") if number == 1 else text)
                if line:
                    step = line["step"]
                    if step <= steps:
                        reason = f"step {step} stands after step {newest}" if step <= newest else ""
                        lines[step] = line  # of two lines of a step the later one
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
        fault = f"{path}: {first}" if count else ""
        if count > 1:
            fault += f", and {count - 1:,} more"
        if unusable == FAULTS:
            fault += ", and what follows was not read"
        return [lines[step] for step in sorted(lines)], fault

    def write_skipped(self, skipped: Iterable[tuple[str, str]]) -> None:
        """skipped.txt: name and reason of each image that was left out."""
        text = "".join(f"{name}\t{reason}\n" for name, reason in skipped)
        write_atomically(self.folder / "skipped.txt", text.encode())


class Metrics:
    """metrics.jsonl while it grows: each step's line is handed to the system at once."""

    def __init__(self, path: Path | str):
        self._path = Path(path)
        self._file = open(path, "ab", opener=cautiously)  # noqa: SIM115, closed by close()

    def write(self, metrics: dict[str, float]) -> None:
        """Add a line. What is not finite becomes null, as JSON has no other word for it."""
        line = {key: value if math.isfinite(value) else None for key, value in metrics.items()}
        with naming(self._path):
            self._file.write(_line(line))
            self._file.flush()

    def sync(self) -> None:
        """See to it that a power cut leaves the lines up to here."""
        with naming(self._path):
            sync(self._file)

    def close(self) -> None:
        with naming(self._path):
            self._file.close()


def _drop_partials(folder: Path, patterns: tuple[str, ...]) -> None:
    """Delete what killed processes were writing: `.NAME.PID.partial` of these names, and no others."""
    for path in folder.iterdir():
        name = re.fullmatch(r"\.(.+)\.[0-9]+\.partial", path.name)
        ours = name and any(fnmatchcase(name[1], pattern) for pattern in patterns)
        if ours and path.is_file() and not path.is_symlink():
            path.unlink(missing_ok=True)


def _line(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry).encode() + b"\n"


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _parse(text: str) -> tuple[dict[str, Any] | None, str]:
    """A line of metrics, or None and what is wrong with it; "" if it is blank."""
    if not text.strip():
        return None, ""
    try:
        text.encode()  # an error if there were bytes that are not UTF-8
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


def _keep(path: Path) -> Path:
    """Give a file a second name, of which the first free one is taken.

    The first name stays until the new file replaces it, so whoever is killed between has lost nothing.
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
