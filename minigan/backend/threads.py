"""Threads for the CPU's kernels: they share blocks of work, while BLAS is limited to one thread.

NumPy releases the interpreter's lock in copies, ufuncs and matrix products. So plain threads that share
blocks use all cores, for the copies as well as the products. What a call computes depends on shapes
alone, and sums over blocks are taken in a fixed order. So the bytes of a result are the same for
any number of threads, provided that BLAS can be limited to one (see `blas_trouble`).

Run every product inside `share`, even a single one. Outside, its bytes depend on how many threads BLAS
uses, and those threads keep spinning for some 30 ms on the cores that the helpers need.

Python runs signal handlers on the main thread, between any two instructions. A handler may raise
(Ctrl-C, a timeout) or use the engine itself. So each call of `share` has its own `_Call` object. The
helpers, which no handler interrupts, record which of them are at work. Everything that must happen at
the end of a call can be interrupted and repeated.
"""

from __future__ import annotations

import contextvars
import ctypes
import functools
import inspect
import math
import os
import queue
import re
import sys
import threading
import warnings
from collections.abc import Callable
from numbers import Integral
from pathlib import Path
from types import FrameType

import numpy as np
import threadpoolctl

LINE = 64  # bytes: an array that starts on a cache line is read twice as fast
BUFFER = 1024  # numbers: NumPy gathers shorter runs in a buffer before it computes on them
UNUSED = 2  # references to memory not in use: ours, and the argument of sys.getrefcount
MOST_THREADS = 1024  # the limit for --threads and MINIGAN_NUM_THREADS
_threads: int | None = None  # None until it is set or first needed
_scratch = threading.local()


class ThreadsError(ValueError):
    """MINIGAN_NUM_THREADS is not a number of threads. The first call of `share` raises this."""


def _available() -> int:
    """MINIGAN_NUM_THREADS, or the cores that this process may use."""
    if wanted := os.environ.get("MINIGAN_NUM_THREADS"):
        if not re.fullmatch("0*[1-9][0-9]{0,3}", wanted) or int(wanted) > MOST_THREADS:
            raise ThreadsError(
                f"MINIGAN_NUM_THREADS is {wanted[:40]!r}: it must be a number from 1 to {MOST_THREADS}"
            )
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def get_num_threads() -> int:
    """The number of threads that the kernels use.

    It is the number that `set_num_threads` set, else MINIGAN_NUM_THREADS, else the available cores.
    Raises ThreadsError if MINIGAN_NUM_THREADS is needed and is not a number of threads.
    """
    global _threads
    if _threads is None:
        _threads = _available()
    return _threads


def set_num_threads(count: int) -> None:
    """Set the number of threads that the kernels use from now on."""
    global _threads
    if not isinstance(count, Integral) or isinstance(count, bool):
        raise TypeError(f"set_num_threads: the number of threads must be an int, not {count!r}")
    if count < 1:
        raise ValueError(f"set_num_threads: the number of threads must be at least 1, not {count}")
    _threads = int(count)


# -- blocks of work, shared out ------------------------------------------------------------------------

_turn: dict[str, _Call] = {}  # "call": the one that has the turn; BLAS has one global setting
_joinable: queue.SimpleQueue[_Call] = queue.SimpleQueue()  # calls that helpers may join
_helpers: list[_Helper] = []


def share(work: Callable[[int], None], count: int) -> None:
    """Call work(0) ... work(count - 1), each once, on this thread and its helpers.

    When `share` returns or raises, no thread is still working on a block. After an error no further
    block is started, and the started ones are finished first. A call inside another one on the same
    thread, from a block or a signal handler, uses this thread alone. Other threads wait their turn.

    Each thread works in a copy of the caller's context, so np.errstate applies on all of them.
    """
    tell_blas_trouble()
    if isinstance(threading.current_thread(), _Helper):  # inside a block: BLAS is already limited
        for i in range(count):
            work(i)
        return
    helpers = min(get_num_threads(), count) - 1
    call = _Call(work, count)
    try:
        try:
            call.run(helpers if call.take_turn(sys._getframe(1)) else 0)
        finally:
            call.end()
    finally:  # a handler may have raised inside the first `end`, where nothing catches it
        call.end()
    if call.errors:
        raise call.errors.pop(0)


def _within_share(frame: FrameType | None) -> bool:
    """Whether `share` is, or may be, on the stack whose top is this frame.

    A generator that a running thread has just left no longer knows its caller. If the walk ends at a
    generator, `share` may be on the stack.
    """
    code = None
    while frame is not None:
        code, frame = frame.f_code, frame.f_back
        if code is share.__code__:
            return True
    return code is not None and bool(code.co_flags & inspect.CO_GENERATOR)


class _Call:
    """A call of `share`: its blocks, the helpers working on them, and the threads waiting for it."""

    def __init__(self, work: Callable[[int], None], count: int) -> None:
        self.work: Callable[[int], None] | None = work
        self.context = contextvars.copy_context()  # never entered, only copied
        self.numbers = iter(range(count))
        self.busy: set[threading.Lock] = set()  # a lock per working helper, released by it
        self.errors: list[BaseException] = []  # raised on helpers
        self.waiting: list[threading.Lock] = []  # a lock for each thread that waits for this call
        self.thread = threading.get_ident()
        self.lent: int | None = None  # entries of _lent that belong to enclosing calls

    def take_turn(self, caller: FrameType) -> bool:
        """Wait for this call's turn. False if it gets none, because its thread is already in a call."""
        # setdefault is atomic: it takes the turn and records whose it is in one step.
        while (other := _turn.setdefault("call", self)) is not self:
            mine = other.thread == self.thread
            if not _within_share(caller if mine else sys._current_frames().get(other.thread)):
                other.end()  # its own thread left it without ending it: handlers kept raising
            elif mine:
                break
            else:
                other.wait()
        self.lent = 0 if other is self else len(_lent)
        return other is self

    def run(self, helpers: int) -> None:
        """Take blocks on this thread and on up to this many helpers."""
        _limit_blas()
        for _ in range(_hire(helpers)):
            _joinable.put(self)
        self.context.copy().run(self._take)  # a copy, because NumPy's buffer size belongs to it

    def help(self) -> None:
        """Take blocks on a helper. If the call is already over, there are none left."""
        ended = threading.Lock()
        ended.acquire()
        self.busy.add(ended)  # before a block is taken, so that `end` misses none
        try:
            self.context.copy().run(self._take)
        except BaseException as error:
            self.errors.append(error)
            self._drop_the_rest()
        self.busy.discard(ended)  # before the release, so that a woken `end` sees it gone
        ended.release()

    def _take(self) -> None:
        np.setbufsize(BUFFER)
        for i in self.numbers:  # next() is atomic, so each block goes to the next free thread
            self.work(i)

    def _drop_the_rest(self) -> None:
        for _ in self.numbers:
            pass

    def end(self) -> None:
        """Wait for the working helpers, give BLAS its threads back, and pass the turn on.

        Each part can be interrupted and repeated. An exception that a handler raises during the wait is
        raised after it.
        """
        self._drop_the_rest()
        interrupt = None
        while self.busy:
            try:
                for ended in tuple(self.busy):
                    ended.acquire()
            except BaseException as error:
                interrupt = error
        self.work = None  # frees its arrays, although a late helper may still hold the call
        if self.lent is not None:
            _restore_blas(self.lent)
            self.lent = None  # otherwise a repeated `end` could lift the limit during the next call
        if _turn.get("call") is self:
            del _turn["call"]
        while self.waiting:
            self.waiting.pop().release()
        if interrupt is not None:
            raise interrupt

    def wait(self) -> None:
        """Wait, on another thread, until this call has passed its turn on, or for a second."""
        ended = threading.Lock()
        ended.acquire()
        self.waiting.append(ended)
        if _turn.get("call") is self:
            ended.acquire(timeout=1)  # then the caller checks whether the call is still running


class _Helper(threading.Thread):
    """A thread that waits for calls to join. Its queue is in C and wakes it as fast as a lock."""

    def __init__(self) -> None:
        super().__init__(name="minigan", daemon=True)

    def run(self) -> None:
        while True:
            _joinable.get().help()


def _hire(wanted: int) -> int:
    """Start helpers up to `wanted`, or until the system refuses. Returns how many may join a call."""
    while len(_helpers) < wanted:
        helper = _Helper()
        try:
            helper.start()
        except RuntimeError:  # `ulimit -u` is reached; the existing threads take all blocks
            break
        _helpers.append(helper)
    return min(wanted, len(_helpers))


def _forget_helpers() -> None:
    global _joinable
    _helpers.clear()  # a forked process has only the thread that forked
    _joinable = queue.SimpleQueue()
    call = _turn.pop("call", None)
    while call and call.busy:  # if this thread finishes the call, the helpers' blocks are missing
        call.errors.append(RuntimeError("forked inside a kernel, without its helpers"))
        call.busy.pop().release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_helpers)


# -- BLAS, limited to one thread -----------------------------------------------------------------------

# What the builds of OpenBLAS put before and after the names of their functions.
NAMES = [(start, end) for start in ("", "scipy_") for end in ("", "64_", "_64")]
OWN = ("pthreads", "disabled")  # OpenBLAS's own threads, or none; OpenMP limits only one caller
_lent: list[tuple[Callable[[int], None], int]] = []  # (setter, number of threads to restore)
_told = False  # whether the user has been told about trouble with BLAS


@functools.cache
def _blas() -> list[tuple[threadpoolctl.LibController, Callable[[int], None]]]:
    """Each BLAS library of this process, and the function that sets its number of threads."""
    libraries = threadpoolctl.ThreadpoolController().lib_controllers
    return [(library, _setter(library)) for library in libraries if library.user_api == "blas"]


def _setter(library: threadpoolctl.LibController) -> Callable[[int], None]:
    """The function that sets the library's number of threads: OpenBLAS's own if there is one.

    Since 3.8, threadpoolctl ignores all threads but the first that has set a limit. It also takes a
    lock, on which a signal handler would wait forever.
    """
    if library.internal_api == "openblas" and library.threading_layer in OWN:
        for start, end in NAMES:
            if function := getattr(library.dynlib, f"{start}openblas_set_num_threads{end}", None):
                return function
    return library.set_num_threads


def _limit_blas() -> None:
    for library, set_num_threads in _blas():
        count = library.num_threads
        if count not in (None, 1):
            _lent.append((set_num_threads, count))  # first, so that an interruption loses nothing
            set_num_threads(1)


def _restore_blas(lent: int) -> None:
    """Restore all entries of _lent but the first `lent`."""
    while len(_lent) > lent:
        set_num_threads, count = _lent[-1]
        set_num_threads(count)
        _lent.pop()


def _warn(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=4)  # where `share` is called


def tell_blas_trouble(say: Callable[[str], None] = _warn) -> None:
    """If results may depend on the number of threads, say why, once per process."""
    if not _told and (trouble := blas_trouble()):
        say(trouble)


def blas_trouble() -> str | None:
    """Why results may depend on the number of threads, in a sentence; None if they do not.

    The caller must show it: after this call, `tell_blas_trouble` stays silent.
    """
    global _told
    _told = True
    if why := _why_not_limited():
        return (
            f"NumPy's BLAS cannot be limited to one thread ({why}): the last bits of results may "
            "depend on the number of threads, and training may be slower; start Python with "
            "OPENBLAS_NUM_THREADS=1 (or OMP_, MKL_, BLIS_ or VECLIB_MAXIMUM_THREADS=1)"
        )
    return None


@functools.cache
def _why_not_limited() -> str | None:
    """Why NumPy's BLAS cannot be limited to one thread; None for an OpenBLAS that obeys."""
    found = next((library for library, _ in _blas() if _multiplies_for_numpy(library)), None)
    if found is None:
        return f"threadpoolctl {threadpoolctl.__version__} does not find it"
    kind = f"{found.internal_api} {found.version or 'of unknown version'}"
    if found.internal_api != "openblas":
        return f"it is {kind}; only OpenBLAS is known to obey"
    if found.threading_layer not in OWN:
        return f"it is {kind} with {found.threading_layer} threads, which limits one caller only"
    counts: list[int] = []
    share(lambda i: counts.append(found.num_threads), 1)
    return None if counts == [1] else f"{kind} has {counts[0]} threads although it was limited to 1"


def _multiplies_for_numpy(library: threadpoolctl.LibController) -> bool:
    """Whether NumPy's products use this library. SciPy or PyTorch may load another."""
    if Path(library.filepath).parent.name == "numpy.libs":  # the only clue on Windows
        return True
    numpys = ctypes.CDLL(sys.modules["numpy._core._multiarray_umath"].__file__)
    names = [f"{start}cblas_sgemm{end}" for start, end in NAMES]  # NumPy's call for a product
    addresses = [(_address(numpys, name), _address(library.dynlib, name)) for name in names]
    return any(mine == its is not None for mine, its in addresses)


def _address(library: ctypes.CDLL, name: str) -> int | None:
    """The address of the named function in the library or what it was linked with, or None."""
    function = getattr(library, name, None)
    return function and ctypes.cast(function, ctypes.c_void_p).value


# -- memory --------------------------------------------------------------------------------------------


def empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """numpy.empty, starting on a cache line."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    return memory[start : start + size].view(dtype).reshape(shape)


def scratch(name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """This thread's scratch memory of that name, with undefined content.

    The last call's memory is reused unless it is still in use, for example by a kernel that a signal
    handler has interrupted to run another. So drop the array before the next call. Otherwise new memory
    is taken, with a page fault for every 4 KB, which costs more than filling it.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    held = getattr(_scratch, name, None)
    if held is None or held.nbytes < size or sys.getrefcount(held.base) > UNUSED:
        held = empty((size,), np.uint8)
        setattr(_scratch, name, held)
    return held[:size].view(dtype).reshape(shape)
