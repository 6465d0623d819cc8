"""A learner's folder: the files of the exercises that are started, and what is done, in
progress.json.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ..console import plain, quote
from ..errors import UserError
from ..files import is_own, write_atomically
from .exercise import Exercise
from .ladder import LADDER

FOLDER = Path("learn")  # of the learner, by default
FILE = "progress.json"
MOST = 2**20  # bytes that are read of it


class Progress:
    """What a learner has done. Names that this version does not know are kept, for one that does.

    done   the names of the exercises whose check has passed
    hints  the number of hints that each exercise has given
    """

    def __init__(self, folder: Path):
        """Read the folder's file. Raises UserError if it is damaged, OSError if it cannot be read."""
        self.folder = folder
        self.done: list[str] = []
        self.hints: dict[str, int] = {}
        path = folder / FILE
        if not is_own(path):
            return
        with open(path, "rb") as file:
            saved = _parsed(file.read(MOST))
        if saved is None:
            raise UserError(f"{path} is damaged; remove it, and check your answers again")
        self.done, self.hints = saved["done"], saved["hints"]

    def path(self, exercise: Exercise) -> Path:
        """The learner's file of an exercise."""
        return self.folder / exercise.file

    def command(self, action: str, exercise: Exercise) -> str:
        """The command for this folder, to suggest to the learner."""
        elsewhere = () if self.folder == FOLDER else ("--folder", self.folder)
        return quote("minigan", "learn", action, exercise.name, *elsewhere)

    def next(self) -> Exercise | None:
        """The first exercise that is not done; None if all are."""
        return next((e for e in LADDER.values() if e.name not in self.done), None)

    def start(self, exercise: Exercise) -> Path:
        """Copy the stub, and the pictures, to the folder. Raises UserError if the stub is there."""
        path = self.path(exercise)
        if os.path.lexists(path):
            command = self.command("reset", exercise)
            raise UserError(f"{path} exists; edit it, or restore the stub by {command}")
        self.folder.mkdir(parents=True, exist_ok=True)
        for picture in exercise.pictures:
            write_atomically(self.folder / picture.name, picture.read_bytes())
        write_atomically(path, exercise.stub().encode())
        return path

    def reset(self, exercise: Exercise) -> Path | None:
        """Restore the stub, and forget that the exercise is done. Returns where the old file is
        kept.
        """
        path, kept = self.path(exercise), None
        if is_own(path):
            if path.read_bytes() == exercise.stub().encode():
                path.unlink()  # nothing to keep, and .old may hold an answer
            else:
                kept = path.with_suffix(".old")
                os.replace(path, kept)
        self.done = [name for name in self.done if name != exercise.name]
        self.hints.pop(exercise.name, None)
        self.start(exercise)
        self._save()
        return kept

    def hint(self, exercise: Exercise) -> tuple[int, str]:
        """The number and the text of the exercise's next hint; after the last one, the last again."""
        number = min(self.hints.get(exercise.name, 0) + 1, len(exercise.hints))
        self.hints[exercise.name] = number
        self._save()
        return number, exercise.hints[number - 1]

    def finish(self, exercise: Exercise) -> None:
        """Note that the check has passed."""
        if exercise.name not in self.done:
            self.done.append(exercise.name)
            self._save()

    def reopen(self, exercise: Exercise) -> None:
        """Note that the check, which had passed, passes no longer."""
        if exercise.name in self.done:
            self.done.remove(exercise.name)
            self._save()

    def _save(self) -> None:
        text = json.dumps({"done": self.done, "hints": self.hints}, indent=1)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / FILE, text.encode() + b"\n")


def find(name: str) -> Exercise:
    """The exercise of this name. Raises UserError if there is none."""
    if name not in LADDER:
        raise UserError(f"exercise {plain(name)!r} is not one of {', '.join(LADDER)}")
    return LADDER[name]


def _parsed(text: bytes) -> dict[str, Any] | None:
    """The table that `_save` wrote; None if this is something else."""
    try:
        saved = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(saved, dict) or set(saved) != {"done", "hints"}:
        return None
    done, hints = saved["done"], saved["hints"]
    if not (isinstance(done, list) and all(isinstance(name, str) for name in done)):
        return None
    if not (isinstance(hints, dict) and all(type(n) is int and n > 0 for n in hints.values())):
        return None
    return saved
