"""The run folder `<out>/NNNNN-<name>/`, and the files in it.

config.json    every resolved option, versions, the identity of the data
metrics.jsonl  one object for each reported step, and nothing else
events.jsonl   start, resume, rollback, interrupt, done, diverged, skipped files and other events
samples/       pictures at fixed noise; reals; reals beside fakes; G itself beside its average
checkpoints/   see checkpoint.py
generated/     what `minigan sample` draws
evaluation.json  what `minigan evaluate` measures
losses.png, scores.png, critic.png, gradients.png, diversity.png, evaluation.png, others.png
progress.gif
skipped.txt    which images were left out, and why
metrics.jsonl.damaged  the old metrics.jsonl, if some of its lines were wrong

A run folder may come from a stranger. A run with links among its files and folders is refused, because
writing through a link would change files elsewhere. The image cache is found by the location of the run
folder, never by its config.json.
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
from ..evaluation import report
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

# The files of a run, by folder. All other files are left alone.
FILES = {
    "": (
        *(".lock", "config.json", "metrics.jsonl", "events.jsonl", "skipped.txt"),
        *(f"{panel}.png" for panel in PANELS),
        *("progress.gif", "evaluation.json"),
    ),
    "samples": ("step-*.png", "reals.png", "real-beside-fake.png", "raw-beside-average.png"),
    "checkpoints": ("step-*.safetensors",),
    "generated": (),  # files in these two are never read, and are only replaced as a whole
    "generated/single": (),
}

TAIL = 2**20  # bytes of an event, at most
MOST_JSON = 2**20  # bytes of config.json, and of evaluation.json, at most


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
    """Write config.json, or replace it when a run is resumed with other options."""
    write_atomically(folder / "config.json", (json.dumps(config, indent=2) + "\n").encode())


class Run:
    """An existing run folder: reads and writes its files, except checkpoints and pictures."""

    def __init__(self, folder: Path):
        """The folder itself may be a link. Raises RunError if it is not a run or contains links."""
        self.folder = folder
        if not (folder / "config.json").is_file():
            raise RunError(
                f"{folder} is not a run folder: it has no config.json; give the path of a run, or auto"
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
        """The folder of the pictures."""
        return self._folder("samples")

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self._folder("checkpoints")

    def _folder(self, name: str) -> Path:
        """The path of one of the run's folders, after checking that it is not a link."""
        is_own(self.folder / name, FOLDER)
        return self.folder / name

    def _open(self, name: str, mode: str) -> IO[bytes]:
        """Open one of the run's files, for reading or appending."""
        path = self.folder / name
        with naming(path):
            is_own(path)
            file = open(path, mode, opener=cautiously)  # noqa: SIM115, the caller closes it
            if "r" not in mode and os.fstat(file.fileno()).st_nlink > 1:
                file.close()
                raise OSError(errno.EMLINK, "a hard link gives it another name")
        return file

    @property
    def out(self) -> Path:
        """The folder that holds the run and the image cache."""
        named = self.folder.name not in ("", "..")
        return (self.folder if named else self.folder.resolve()).parent

    @classmethod
    def create(cls, out: Path, name: str, config: dict[str, Any]) -> Run:
        """Make a run folder in `out` with the next number. Concurrent calls wait for each other.

        The folder is made under a temporary name and renamed when it is complete, so a run is never
        half-made.
        """
        with hold(out / ".lock"):
            number = max(map(_number, numbered_runs(out)), default=-1) + 1
            folder, partial = out / f"{number:05d}-{name}", out / ".new.partial"
            shutil.rmtree(partial, ignore_errors=True)  # left by a process that was killed here
            for part in (partial, partial / "samples", partial / "checkpoints"):
                part.mkdir()
            write_config(partial, config)
            partial.rename(folder)
            sync_names(out)
        return cls(folder)

    @classmethod
    def find(cls, where: str, out: Path) -> Run | None:
        """The run that the user names: a folder, or "auto" for the newest in `out` with a checkpoint.

        None for "auto" if there is none. Raises RunError if the folder is not a run, or if "auto" finds
        a link to a run.
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
        """Lock the run against other processes, and delete partial files that killed processes left.

        Raises RunError if another process has locked the run. An OSError raised inside becomes a
        RunError that says how to resume.
        """
        try:
            lock = hold(self.folder / ".lock", wait=False)
            if lock is None:
                raise RunError(
                    f"{self.folder} is in use by another process; "
                    "wait until it ends, or start a new run"
                )
            with lock:
                for name, patterns in FILES.items():
                    folder = self._folder(name) if name else self.folder
                    if patterns and folder.is_dir():
                        _drop_partials(folder, patterns)
                yield
        except OSError as error:
            raise RunError(
                f"{trouble(error, self.folder)}, then resume with "
                f"{python('-m', 'minigan', 'resume', self.folder)} "
                "(or start again, if the run has no checkpoint yet)"
            ) from error

    @property
    def config(self) -> dict[str, Any]:
        """The content of config.json. Raises RunError if it is not a JSON object."""
        found = self._json("config.json", "restore it, or start a new run")
        if not isinstance(found, dict):
            path = self.folder / "config.json"
            raise RunError(f"{path} is not a table of options; restore it, or start a new run")
        return found

    def _json(self, name: str, remedy: str) -> Any:
        """The value in one of the run's files. Raises RunError if it is not JSON."""
        path = self.folder / name
        try:
            with naming(path), self._open(name, "rb") as file:
                content = file.read(MOST_JSON + 1)
            if len(content) > MOST_JSON:
                raise ValueError(f"it has more than {MOST_JSON:,} bytes")
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            raise RunError(f"{path} is not JSON: {error}; {remedy}") from error

    @property
    def evaluation(self) -> tuple[int, dict[str, report.Entry]] | None:
        """The step and the metrics of evaluation.json; None if there is none. Raises UserError."""
        path = self.folder / report.FILE
        if not is_own(path):
            return None
        return report.read(self._json(report.FILE, report.REMEDY), path)

    def write_evaluation(self, step: int, metrics: dict[str, report.Entry]) -> None:
        """Write evaluation.json, or replace it."""
        content = json.dumps(report.table(step, metrics), indent=2, allow_nan=False) + "\n"
        write_atomically(self.folder / report.FILE, content.encode())

    def event(self, kind: str, **details: Any) -> None:
        """Add a line to events.jsonl. It replaces a last line that is cut short."""
        line = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "event": kind, **details}
        with naming(self.folder / "events.jsonl"), self._open("events.jsonl", "ab+") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - TAIL))
            last = file.read(TAIL).replace(b"\r", b"\n").rpartition(b"\n")[2]
            if last and len(last) < TAIL and not _is_json(last):
                file.truncate(end - len(last))
            elif last:  # complete, but an editor has removed its line end
                file.write(b"\n")
            file.write(as_line(line))

    def metrics(self, say: Callable[[str], None] = warnings.warn) -> list[dict[str, float]]:
        """The lines of metrics.jsonl in order, one per reported step. `say` is told of wrong lines.

        A last line that is cut short is silently left out, because a process is still writing it or was
        killed while writing.
        """
        lines, fault = self._read_metrics(math.inf, torn_after=0)
        if fault:
            say(f"{fault}; only the usable lines are read, in order")
        return lines

    def cut_metrics(
        self, steps: int, say: Callable[[str], None] = warnings.warn, every: int = 1
    ) -> list[dict[str, float]]:
        """Cut metrics.jsonl back to the first `steps` steps, and return their lines.

        The lines of later steps will be written again. If an earlier line is wrong, the old file is
        kept under another name, and `say` is told.

        every  number of steps between lines
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
        """Open metrics.jsonl to append lines."""
        path = self.folder / "metrics.jsonl"
        is_own(path)
        return MetricsFile(path)

    def _read_metrics(self, steps: float, torn_after: int) -> tuple[list[dict[str, float]], str]:
        """See `record.read`; no lines if there is no file yet."""
        path = self.folder / "metrics.jsonl"
        if not is_own(path):
            return [], ""
        with naming(path), self._open("metrics.jsonl", "rb") as file:
            return read(file, path, steps, torn_after)

    def write_skipped(self, skipped: Iterable[tuple[str, str]]) -> None:
        """Write skipped.txt: the name of each image that was left out, and the reason."""
        text = "".join(f"{name}\t{reason}\n" for name, reason in skipped)
        write_atomically(self.folder / "skipped.txt", text.encode())


def _drop_partials(folder: Path, patterns: tuple[str, ...]) -> None:
    """Delete the partial files of killed processes: `.NAME.PID.partial` for the names in `patterns`."""
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
