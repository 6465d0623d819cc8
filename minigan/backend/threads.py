"""Threads for the CPU's kernels: blocks of work shared out, BLAS kept to one thread meanwhile.

NumPy releases the interpreter's lock in copies, ufuncs and matrix products, so plain threads over
blocks use all cores, for the copies as well as for the products. How work is cut into blocks depends
on shapes alone, and sums over blocks are taken in a fixed order: the same bytes come out for any
number of threads.

Products belong into `share` even where there is only one: outside, BLAS wakes threads of its own, and
these go on turning for some 30 ms after it, on the cores that the helpers need.
"""

from __future__ import annotations

import functools
import math
import os
import threading
from collections.abc import Callable

import numpy as np
from threadpoolctl import ThreadpoolController

LINE = 64  # bytes: an array that begins with a line of the cache is read twice as fast
BUFFER = 1024  # numbers: NumPy gathers shorter runs in a buffer before it computes on them
_threads: int | None = None  # until somebody asks or sets it
_helpers: list[_Helper] = []
_turn = threading.Lock()  # BLAS has one setting for all: of two callers, one waits
_scratch = threading.local()


def _available() -> int:
    """MINIGAN_NUM_THREADS, or the cores that this process may use."""
    if wanted := os.environ.get("MINIGAN_NUM_THREADS"):
        if not wanted.isdecimal() or int(wanted) < 1:
            raise ValueError(f"MINIGAN_NUM_THREADS is {wanted!r}: it must be a number from 1 on")
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def get_num_threads() -> int:
    """How many threads the kernels use: as set, or MINIGAN_NUM_THREADS, or the cores there are.

    Raises ValueError if it is MINIGAN_NUM_THREADS, and no number of threads.
    """
    global _threads
    if _threads is None:
        _threads = _available()
    return _threads


def set_num_threads(count: int) -> None:
    """How many threads the kernels use from now on."""
    global _threads
    if count < 1:
        raise ValueError(f"set_num_threads: {count} threads; give at least 1")
    _threads = count


def _forget_helpers() -> None:
    global _turn
    _helpers.clear()  # they did not come along into the forked process
    _turn = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_helpers)


@functools.cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


class _Helper:
    """A thread that waits for work: on bare locks, which wake it sooner than a queue or a future."""

    def __init__(self) -> None:
        self.work: Callable[[], None] | None = None
        self.error: BaseException | None = None
        self.go, self.done = threading.Lock(), threading.Lock()
        self.go.acquire()
        self.done.acquire()
        threading.Thread(target=self._run, name="minigan", daemon=True).start()

    def _run(self) -> None:
        np.setbufsize(BUFFER)
        while True:
            self.go.acquire()
            try:
                self.work()
            except BaseException as error:
                self.error = error
            self.work = None  # and with it the arrays it refers to
            self.done.release()

    def start(self, work: Callable[[], None]) -> None:
        self.work = work
        self.go.release()

    def finish(self) -> BaseException | None:
        """Wait for the end of the work, through a Ctrl-C too; the error that ended it, if one did."""
        interrupt = None
        while True:
            try:
                self.done.acquire()
                break
            except KeyboardInterrupt as error:
                interrupt = error
        error, self.error = self.error or interrupt, None
        return error


def share(work: Callable[[int], None], count: int) -> None:
    """Call work(0) ... work(count - 1), each once, on this thread and its helpers."""
    with _turn, _blas().limit(limits=1, user_api="blas"):
        numbers = iter(range(count))  # next() is atomic: whoever is free takes the next block

        def take() -> None:
            for i in numbers:
                work(i)

        wanted = max(0, min(get_num_threads(), count) - 1)
        while len(_helpers) < wanted:
            _helpers.append(_Helper())
        buffer, started = np.setbufsize(BUFFER), []
        try:
            for helper in _helpers[:wanted]:
                helper.start(take)
                started.append(helper)
            take()
        finally:
            errors = [helper.finish() for helper in started]
            np.setbufsize(buffer)
    for error in errors:
        if error is not None:
            raise error


def empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """numpy.empty, beginning with a line of the cache."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    return memory[start : start + size].view(dtype).reshape(shape)


def scratch(name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """This thread's memory of that name, with undefined content; it is overwritten at the next call.

    Fresh memory costs a page fault for every 4 KB, which is more than filling it.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    held = getattr(_scratch, name, None)
    if held is None or held.nbytes < size:
        held = empty((size,), np.uint8)
        setattr(_scratch, name, held)
    return held[:size].view(dtype).reshape(shape)
