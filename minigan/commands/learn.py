"""`minigan learn`: exercises with a check."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..console import nearby, say
from ..errors import UserError
from ..exercises import process
from ..exercises.exercise import Exercise
from ..exercises.ladder import LADDER
from ..exercises.progress import FOLDER, Progress, find
from ..files import trouble
from ..training.parallel import Group

FAILED = 1  # the exit code if an answer is wrong

Action = Callable[[Progress, "str | None"], int]


def add(commands: Any) -> None:
    """Add the command, with its actions."""
    about = "exercises, from the chain rule to the FID: write one function, and have it checked"
    parser = commands.add_parser("learn", help=about, description=about)
    actions = parser.add_subparsers(metavar="action")
    _add_folder(parser, str(FOLDER))
    parser.set_defaults(command=functools.partial(_run, show), name=None)
    for action, about, name in (
        (start, "copy the file of an exercise to your folder", "the exercise (default: the next)"),
        (check, "check your answer", "the exercise (default: the next)"),
        (hint, "give a hint; each call gives a further one", "the exercise (default: the next)"),
        (reset, "restore the file of an exercise, and keep yours as .old", "the exercise"),
    ):
        sub = actions.add_parser(action.__name__, help=about, description=about)
        sub.add_argument("name", metavar="NAME", nargs=None if action is reset else "?", help=name)
        _add_folder(sub, argparse.SUPPRESS)  # or it would hide one that stands before the action
        sub.set_defaults(command=functools.partial(_run, action))


def _add_folder(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--folder", default=default, help=f"your folder, for your answers (default: {FOLDER})"
    )


def _run(action: Action, given: dict[str, Any], group: Group) -> int:
    """Do what is asked for in the learner's folder. Returns the exit code."""
    folder = given["folder"]
    if not folder or "\0" in folder:
        raise UserError(f"--folder {folder!r}: must be a path")
    try:
        return action(Progress(nearby(Path(folder))), given["name"])
    except OSError as error:
        raise UserError(trouble(error)) from error


def show(progress: Progress, name: str | None) -> int:
    """List the exercises: which are done, and which come next."""
    for i, exercise in enumerate(LADDER.values(), 1):
        started = "started" if progress.path(exercise).exists() else ""
        state = "done" if exercise.name in progress.done else started
        say(f"{i:3}  {state:8} {exercise.name:20} {exercise.title}")
    _say_next(progress)
    return 0


def start(progress: Progress, name: str | None) -> int:
    """Copy the stub of an exercise to the learner's folder, and print its text."""
    exercise = _chosen(progress, name)
    path = progress.start(exercise)
    for line in exercise.text.splitlines():
        say(line or " ")
    say(" ")
    say(f"Write {exercise.function} in {path}, then run: {progress.command('check', exercise)}")
    return 0


def check(progress: Progress, name: str | None) -> int:
    """Check the learner's file, and say what is wrong with it."""
    exercise = _chosen(progress, name)
    path = progress.path(exercise)
    if not path.is_file():
        command = progress.command("start", exercise)
        raise UserError(f"{path} does not exist; run {command} first")
    verdict = process.check(exercise, path)
    for what in verdict.checks:
        say(f"  correct: {what}")
    if verdict.passed:
        progress.finish(exercise)
        say(f"{exercise.name}: done")
        _say_next(progress)
        return 0
    progress.reopen(exercise)
    say(f"  wrong: {verdict.message}")
    if verdict.hint:
        say(f"Hint: {verdict.hint}")
    else:
        say(f"For a hint, run: {progress.command('hint', exercise)}")
    return FAILED


def hint(progress: Progress, name: str | None) -> int:
    """Give the exercise's next hint."""
    exercise = _chosen(progress, name)
    number, text = progress.hint(exercise)
    say(f"{exercise.name}, hint {number} of {len(exercise.hints)}: {text}")
    return 0


def reset(progress: Progress, name: str | None) -> int:
    """Restore the stub of an exercise."""
    exercise = _chosen(progress, name)
    kept = progress.reset(exercise)
    say(f"{progress.path(exercise)} is as at the start{f'; yours is now {kept}' if kept else ''}")
    return 0


def _chosen(progress: Progress, name: str | None) -> Exercise:
    """The exercise of this name, or the next one that is not done."""
    exercise = find(name) if name is not None else progress.next()
    if exercise is None:
        raise UserError("all exercises are done; name one to see it again")
    return exercise


def _say_next(progress: Progress) -> None:
    done = sum(name in progress.done for name in LADDER)
    exercise = progress.next()
    if exercise is None:
        say(f"All {len(LADDER)} exercises are done")
        return
    action = "check" if progress.path(exercise).exists() else "start"
    say(f"{done} of {len(LADDER)} done; next: {progress.command(action, exercise)}")
