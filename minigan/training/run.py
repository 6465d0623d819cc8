"""The run folder: `<out>/NNNNN-<name>/` and the files written while a training goes on.

config.json    every resolved option, versions, the identity of the data
metrics.jsonl  one object a reported step, and nothing else
events.jsonl   start, resume, skipped files, interrupt, done, diverged
samples/       grids at fixed noise, reals, real beside fake
checkpoints/   see checkpoint.py
losses.png, scores.png, progress.gif, skipped.txt
"""

from __future__ import annotations

import json
import math
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..console import quote
from ..files import hold, naming, sync, sync_names, trouble, write_atomically
from .checkpoint import newest_first


class RunError(Exception):
    """A run folder that is missing or cannot be used; the message is for the user."""


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
        self.folder = folder
        self.samples = folder / "samples"
        self.checkpoints = folder / "checkpoints"
        if not (folder / "config.json").is_file():
            raise RunError(
                f"{folder} is no run folder: it has no config.json; give the path of a run, or auto"
            )

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

        None if it is "auto" and there is nothing to resume.
        """
        if where != "auto":
            return cls(Path(where))
        for folder in reversed(numbered_runs(out)):
            if newest_first(folder / "checkpoints"):
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
                for folder in (self.folder, self.samples, self.checkpoints):
                    for partial in folder.glob(".*.partial"):
                        partial.unlink(missing_ok=True)
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
            with naming(path):
                found = json.loads(path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise RunError(
                f"{path} is not JSON: {error}; restore it, or start a new run"
            ) from error
        if not isinstance(found, dict):
            raise RunError(f"{path} holds no table of options; restore it, or start a new run")
        return found

    def event(self, kind: str, **details: Any) -> None:
        """Add a line to events.jsonl, in the place of a last one that was cut short."""
        line = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "event": kind, **details}
        path = self.folder / "events.jsonl"
        with naming(path), open(path, "ab+") as file:
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
            file.write(_line(line))

    def metrics(self) -> list[dict[str, float]]:
        """The lines of metrics.jsonl, up to the first that a crash or a power cut has spoiled."""
        path, found = self.folder / "metrics.jsonl", []
        with naming(path):
            content = path.read_bytes() if path.is_file() else b""
        for line in content.splitlines(keepends=True):
            try:
                entry = json.loads(line) if line.endswith(b"\n") else None
            except (ValueError, RecursionError):
                break
            if not isinstance(entry, dict) or type(entry.get("step")) is not int:
                break
            found.append(entry)
        return found

    def open_metrics(self, steps: int) -> Metrics:
        """metrics.jsonl, cut back to the first `steps` steps and open for those that follow."""
        kept = [m for m in self.metrics() if m["step"] <= steps]
        write_atomically(self.folder / "metrics.jsonl", b"".join(map(_line, kept)))
        return Metrics(self.folder / "metrics.jsonl")

    def write_skipped(self, skipped: Iterable[tuple[str, str]]) -> None:
        """skipped.txt: name and reason of each image that was left out."""
        text = "".join(f"{name}\t{reason}\n" for name, reason in skipped)
        write_atomically(self.folder / "skipped.txt", text.encode())


class Metrics:
    """metrics.jsonl while it grows: each step's line is handed to the system at once."""

    def __init__(self, path: Path | str):
        self._path, self._file = Path(path), open(path, "ab")  # noqa: SIM115, closed by close()

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


def _line(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry).encode() + b"\n"
