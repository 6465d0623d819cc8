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
import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..locks import hold


class RunError(Exception):
    """A run folder that is missing or cannot be used; the message is for the user."""


def write_atomically(path: Path, content: bytes) -> None:
    """Write a whole file or nothing: under another name, flushed to the disk, then renamed."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


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
            raise RunError(f"{folder} is no run folder: it has no config.json")

    @classmethod
    def create(cls, out: Path, name: str, config: dict[str, Any]) -> Run:
        """The next number in `out`; of those that start at once, one after another."""
        with hold(out / ".lock"):
            number = max(map(_number, numbered_runs(out)), default=-1) + 1
            folder = out / f"{number:05d}-{name}"
            folder.mkdir()
        (folder / "samples").mkdir()
        (folder / "checkpoints").mkdir()
        write_config(folder, config)
        return cls(folder)

    @classmethod
    def find(cls, where: str, out: Path) -> Run | None:
        """The run that `--resume` names: a folder, or "auto" for the newest one with a checkpoint.

        None if it is "auto" and there is nothing to resume.
        """
        if where != "auto":
            return cls(Path(where))
        for folder in reversed(numbered_runs(out)):
            if any((folder / "checkpoints").glob("step-*.safetensors")):
                return cls(folder)
        return None

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep other processes from writing to this run; first, tidy up after one that was killed.

        Raises RunError if another process has it in use.
        """
        lock = hold(self.folder / ".lock", wait=False)
        if lock is None:
            raise RunError(
                f"{self.folder} is in use by another process; wait for its end, or start a new run"
            )
        with lock:
            for partial in self.folder.rglob(".*.partial"):
                partial.unlink(missing_ok=True)
            yield

    @property
    def config(self) -> dict[str, Any]:
        """What config.json holds."""
        path = self.folder / "config.json"
        try:
            found = json.loads(path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise RunError(
                f"{path} is not JSON: {error}; restore it, or start a new run"
            ) from error
        if not isinstance(found, dict):
            raise RunError(f"{path} holds no table of options; restore it, or start a new run")
        return found

    def event(self, kind: str, **details: Any) -> None:
        """Add a line to events.jsonl."""
        line = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "event": kind, **details}
        with open(self.folder / "events.jsonl", "a") as file:
            file.write(json.dumps(line) + "\n")

    def metrics(self) -> list[dict[str, float]]:
        """The lines of metrics.jsonl; a last line cut short by a crash is left out."""
        path = self.folder / "metrics.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.is_file() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def open_metrics(self, steps: int) -> Metrics:
        """metrics.jsonl, cut back to the first `steps` steps and open for those that follow."""
        kept = [m for m in self.metrics() if m["step"] <= steps]
        content = "".join(json.dumps(m) + "\n" for m in kept)
        write_atomically(self.folder / "metrics.jsonl", content.encode())
        return Metrics(self.folder / "metrics.jsonl")

    def write_skipped(self, skipped: Iterable[tuple[str, str]]) -> None:
        """skipped.txt: name and reason of each image that was left out."""
        text = "".join(f"{name}\t{reason}\n" for name, reason in skipped)
        write_atomically(self.folder / "skipped.txt", text.encode())


class Metrics:
    """metrics.jsonl while it grows: each step's line is handed to the system at once."""

    def __init__(self, path: Path | str):
        self._file = open(path, "a")  # noqa: SIM115, closed by close()

    def write(self, metrics: dict[str, float]) -> None:
        self._file.write(json.dumps(metrics) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()
