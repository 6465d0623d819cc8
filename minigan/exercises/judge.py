"""Compare an answer with its exercise: the first number that differs, and the hint for that
mistake.
"""

from __future__ import annotations

import importlib.util
import linecache
import os
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, NamedTuple

import numpy as np

from ..console import plain
from ..tensor import Tensor
from .exercise import Answer, Exercise

# A number may deviate by this fraction of the largest one beside it. Central differences of float64 err
# by about 1e-10, and every wrong answer in the catalogue by more than 1e-4.
RTOL = 1e-6
ATOL = 1e-9  # where all should be 0


@dataclass(frozen=True)
class Verdict:
    """What the learner is told.

    passed   whether all measured numbers are correct
    checks   what has been measured and is correct
    message  the first thing that is wrong, one sentence
    hint     the hint for this mistake; empty if the catalogue does not have it
    """

    passed: bool
    checks: list[str] = field(default_factory=list)
    message: str = ""
    hint: str = ""


class _Outcome(NamedTuple):
    what: str
    got: Any
    truth: Any
    error: BaseException | None = None


def check_file(exercise: Exercise, path: Path) -> Verdict:
    """Import the learner's file into this process, and judge its function."""
    path = Path(os.path.abspath(path))  # as tracebacks name it
    try:
        module = _imported(path)
    except (Exception, SystemExit) as error:
        return Verdict(False, message=_described(error, path))
    answer = getattr(module, exercise.function, None)
    if not callable(answer):
        text = f"{path.name} has no function {exercise.function}; add it under this name"
        return Verdict(False, message=text)
    return judge(exercise, answer, path)


def judge(exercise: Exercise, answer: Answer, path: Path | None = None) -> Verdict:
    """Measure the answer until the first number that is wrong.

    path  the file that the answer comes from, whose lines are named if it raises an error
    """
    guard = _Guard(answer, exercise)
    checks: list[str] = []
    with np.errstate(all="ignore"):  # an overflow shows in the numbers
        for outcome in _outcomes(exercise.page, guard):
            if not _is_right(outcome):
                hint = _hint(exercise, outcome, len(checks))
                return Verdict(False, checks, _message(exercise, outcome, path), hint)
            checks.append(outcome.what)
    if guard.borrowed:
        text = f"all numbers are correct, but {guard.borrowed} computed them; write it yourself"
        return Verdict(False, checks, text)
    return Verdict(True, checks)


class _Guard:
    """The answer; a call of it notes the first function that it calls but should not.

    Python's profiler reports every call, so it does not matter how the answer has got the function.
    It makes Python several times slower, so only the first WATCHED calls of the answer are watched.
    """

    WATCHED = 20

    def __init__(self, answer: Answer, exercise: Exercise):
        self.answer, self.borrowed, self.calls = answer, "", 0
        self._solution = exercise.solution.__code__
        self._modules = tuple(f"{module}." for module in exercise.page.OFF_LIMITS)

    def __call__(self, *inputs: Any) -> Any:
        self.calls += 1
        if self.calls > self.WATCHED:
            return self.answer(*inputs)
        before = sys.getprofile()
        sys.setprofile(self._note)
        try:
            return self.answer(*inputs)
        finally:
            sys.setprofile(before)

    def _note(self, frame: FrameType, event: str, argument: Any) -> None:
        if event != "call" or self.borrowed:
            return
        code, module = frame.f_code, frame.f_globals.get("__name__", "")
        # A page may hand its own functions to the answer, and the answer has to call them.
        own = module.startswith(__package__)
        if code is self._solution or (not own and f"{module}.".startswith(self._modules)):
            self.borrowed = f"{module}.{code.co_name}"


def _outcomes(page: ModuleType, answer: Answer) -> Iterator[_Outcome]:
    """What the page measures; the last outcome may be an error."""
    measured = page.measure(answer)
    while True:
        try:
            yield _Outcome(*next(measured))
        except StopIteration:
            return
        except (Exception, SystemExit) as error:
            yield _Outcome("", None, None, error)
            return


def _is_right(outcome: _Outcome) -> bool:
    return outcome.error is None and _agree(outcome.got, outcome.truth)


def _hint(exercise: Exercise, outcome: _Outcome, position: int) -> str:
    """The hint of the wrong answer that errs first at the same position, and in the same way."""
    for hint, wrong in exercise.wrong_answers.items():
        for i, other in enumerate(_outcomes(exercise.page, wrong)):
            if i == position and _same(outcome, other):
                return hint
            if i == position or not _is_right(other):
                break
    return ""


def _same(a: _Outcome, b: _Outcome) -> bool:
    if a.error is not None or b.error is not None:
        return type(a.error) is type(b.error)
    return a.what == b.what and _agree(a.got, b.got)


def _agree(got: Any, truth: Any) -> bool:
    """Whether two results are equal; numbers may differ by rounding."""
    if isinstance(truth, (bool, str)) or isinstance(got, (bool, str)):
        return type(got) is type(truth) and got == truth
    a, b = _numbers(got), _numbers(truth)
    if a is None or b is None:
        return a is b is None and type(got) is type(truth)
    if a.shape != b.shape:
        return False
    scale = np.abs(b[np.isfinite(b)]).max(initial=0)
    return np.allclose(a, b, rtol=0, atol=RTOL * scale or ATOL, equal_nan=True)


def _numbers(value: Any) -> np.ndarray | None:
    """The value as an array of numbers, or None if it is something else."""
    try:
        array = np.asarray(value.numpy() if isinstance(value, Tensor) else value)
    except (ValueError, TypeError):  # a ragged list, or one of Tensors
        return None
    return array if array.dtype.kind in "biufc" else None


def _message(exercise: Exercise, outcome: _Outcome, path: Path | None) -> str:
    """What is wrong, as one sentence."""
    what, got, truth, error = outcome
    name = exercise.function
    if error is not None:
        return _described(error, path)
    if got is None:
        return f"{what}: {name} gives None; does it lack a return?"
    if isinstance(truth, bool):  # then `what` says what is wrong
        return what
    a, b = _numbers(got), _numbers(truth)
    if isinstance(truth, str) or a is None or b is None:
        kind = truth if isinstance(truth, str) else "numbers"
        return f"{what}: {plain(repr(got))[:80]}, but it should be {kind}"
    if a.shape != b.shape:
        return f"{what}: the shape is {a.shape}, but it should be {b.shape}"
    if a.ndim == 0:
        return f"{what}: {a:.9g}, but it should be {b:.9g}"
    differs = np.array([not _agree(x, y) for x, y in zip(a.flat, b.flat, strict=True)])
    first = int(np.argmax(differs)) if differs.any() else 0
    at = ", ".join(map(str, np.unravel_index(first, a.shape)))
    return (
        f"{what}: element [{at}] is {a.flat[first]:.9g}, but it should be {b.flat[first]:.9g} "
        f"({differs.sum()} of {a.size} differ)"
    )


def _imported(path: Path) -> ModuleType:
    """The learner's file as a module, which is not entered in sys.modules."""
    spec = importlib.util.spec_from_file_location("answer", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    return module


def _described(error: BaseException, path: Path | None) -> str:
    """The error, with the last line of the learner's file that it passed through."""
    if isinstance(error, NotImplementedError):
        return f"it is not written yet: {plain(error)}"
    what = f"{type(error).__name__}: {plain(error)[:200]}" if str(error) else type(error).__name__
    if isinstance(error, SyntaxError) and error.lineno:
        return f"line {error.lineno} is not Python: {plain(error.msg)}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    if not lines:
        return f"the check cannot use what the function gives: {what}"
    text = plain(linecache.getline(str(path), lines[-1] or 0).strip())
    if isinstance(error, SystemExit):
        return f"line {lines[-1]}, {text}, ends the program; leave it out"
    return f"line {lines[-1]}, {text}, raises {what}"
