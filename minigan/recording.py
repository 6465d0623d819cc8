"""Whether operations are recorded: `no_grad`, and the per-thread switch that it sets.

This file knows nothing of Tensors. `tensor.py` and others read `thread.recording`; `walk.py` uses
`recording(on)`.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any

from .arrays import type_name


class _Thread(threading.local):
    """One per thread: `no_grad` on one thread must not switch off recording on another."""

    recording = True
    before: tuple | None = None  # (recording, before) as the innermost open block found them


thread = _Thread()


class recording:
    """Switches recording on or off on this thread until the block is left.

    Each block has a generator (`_switches_back`) that restores the switch when it is closed. So if a
    signal handler raises before `__exit__` begins, the switch is restored when this object dies.
    """

    blocks: tuple | None = None  # blocks entered and not yet left: (the innermost, the others)

    def __init__(self, on: bool):
        self.on = on

    def __enter__(self) -> None:
        switched = [False]
        block = _switches_back(switched)
        next(block)
        self.blocks = block, self.blocks
        switched[0] = True  # no call may follow, because a handler may raise after one
        thread.before, thread.recording = (thread.recording, thread.before), self.on

    def __exit__(self, *error: Any) -> None:
        block, self.blocks = self.blocks
        next(block, None)


def _switches_back(switched: list[bool]) -> Iterator[None]:
    """Restores the switch at its end.

    The previous values belong to the thread and not to the block, because blocks in generators may be
    left in any order. The last one to be left restores what the first one found.
    """
    try:
        yield
    finally:
        if switched[0]:  # `before` is None if another thread entered this block, in a generator
            thread.recording, thread.before = thread.before or (True, None)


class no_grad(recording):
    """Operations inside `with no_grad():`, or in a function under `@no_grad()`, are not recorded.

    A generator under `@no_grad()` runs unrecorded from each yield to the next; the code that iterates
    over it records as before. Only functions and methods can be decorated, because it is unknown when
    any other object runs its code.

    Everything that the thread does inside the block is unrecorded, signal handlers included. If a
    handler raises (Ctrl-C) just as the block is left, recording may stay off as long as something
    refers to the `no_grad()` object: the exception's traceback, or a variable.
    """

    def __new__(cls, function: Callable | None = None) -> Any:
        self = super().__new__(cls)
        return self if function is None else self(function)  # so `@no_grad` works too

    def __init__(self, function: None = None):
        super().__init__(False)

    def __call__(self, function: Callable) -> Callable:
        if not (inspect.isfunction(function) or inspect.ismethod(function)):
            raise TypeError(
                f"no_grad: expected a function or a method, not a {type_name(function)}; put `with "
                "no_grad():` around its calls"
            )
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"no_grad: {function.__name__} is asynchronous, and other tasks run while it waits; "
                "put `with no_grad():` around its operations"
            )
        if inspect.isgeneratorfunction(function):
            return functools.wraps(function)(lambda *a, **k: _unrecorded(function(*a, **k)))

        @functools.wraps(function)
        def unrecorded(*args: Any, **kwargs: Any) -> Any:
            with no_grad():
                return function(*args, **kwargs)

        return unrecorded


def _unrecorded(generator: Generator) -> Generator:
    """The same generator, run without recording. Passes on what is sent or thrown into it."""
    step, value = generator.send, None
    while True:
        try:
            with no_grad():
                result = step(value)
        except StopIteration as end:
            return end.value
        try:
            step, value = generator.send, (yield result)
        except (
            BaseException
        ) as error:  # GeneratorExit too, so that close() closes the inner generator
            step, value = generator.throw, error
