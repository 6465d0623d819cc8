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

from ..console import python
from ..errors import UserError
from ..files import (
    FOLDER,
    cautiously,
    hold,
    is_own,
    naming,
    sync_names,
    trouble,
    write_atomically,
)
from .checkpoint import newest_first
from .metrics import PANELS
from .record import MetricsFile, as_line, keep, read

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

TAIL = 2**20  # bytes of an event at the most
CONFIG = 2**20  # bytes of config.json at the most


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
                f"{trouble(error, self.folder)}, then go on with "
                f"{python('-m', 'minigan', 'resume', self.folder)} "
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
            file.write(as_line(line))

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
            kept = keep(path)
            self.event("damaged metrics", fault=fault, kept=kept.name)
            say(f"{fault}; the usable lines are kept in order, and the old file is now {kept.name}")
        write_atomically(path, b"".join(map(as_line, lines)))
        return lines

    def open_metrics(self) -> MetricsFile:
        """metrics.jsonl, open for further lines."""
        path = self.folder / "metrics.jsonl"
        is_own(path)
        return MetricsFile(path)

    def _read_metrics(self, steps: float, torn_after: int) -> tuple[list[dict[str, float]], str]:
        """See `record.read`; nothing where there is no file yet."""
        path = self.folder / "metrics.jsonl"
        if not is_own(path):
            return [], ""
        with naming(path), self._open("metrics.jsonl", "rb") as file:
            return read(file, path, steps, torn_after)

    def write_skipped(self, skipped: Iterable[tuple[str, str]]) -> None:
        """skipped.txt: name and reason of each image that was left out."""
        text = "".join(f"{name}\t{reason}\n" for name, reason in skipped)
        write_atomically(self.folder / "skipped.txt", text.encode())


def _drop_partials(folder: Path, patterns: tuple[str, ...]) -> None:
    """Delete what killed processes were writing: `.NAME.PID.partial` of these names, and no others."""
    for path in folder.iterdir():
        name = re.fullmatch(r"\.(.+)\.[0-9]+\.partial", path.name)
        ours = name and any(fnmatchcase(name[1], pattern) for pattern in patterns)
        if ours and path.is_file() and not path.is_symlink():
            path.unlink(missing_ok=True)


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
