"""Threads for the CPU's kernels: blocks of work shared out, BLAS kept to one thread meanwhile.

NumPy releases the interpreter's lock in copies, ufuncs and matrix products, so plain threads over
blocks use all cores, for the copies as well as for the products. How work is cut into blocks depends
on shapes alone, and sums over blocks are taken in a fixed order: the same bytes come out for any
number of threads, provided that BLAS can be kept to one (see `blas_trouble`).

Run every product inside `share`, even a single one. Outside, its bytes depend on how many threads BLAS
uses, and those threads keep spinning for some 30 ms on the cores that the helpers need.

Python runs signal handlers on the main thread, between any two instructions, and a handler may raise
(Ctrl-C, a timeout) or use the engine itself. So each call of `share` is an object of its own. Its
helpers, which no handler interrupts, keep the record of who is at work, and all that has to happen
at its end may be interrupted and done again.
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

LINE = 64  # bytes: an array that begins with a line of the cache is read twice as fast
BUFFER = 1024  # numbers: NumPy gathers shorter runs in a buffer before it computes on them
UNUSED = 2  # references to memory that nobody uses: ours, and the argument of sys.getrefcount
MOST_THREADS = 1024  # that --threads and MINIGAN_NUM_THREADS may ask for
_threads: int | None = None  # until somebody asks or sets it
_scratch = threading.local()


class ThreadsError(ValueError):
    """MINIGAN_NUM_THREADS is not a number of threads; the first kernel to call `share` raises this."""


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
    """How many threads the kernels use: as set, or MINIGAN_NUM_THREADS, or the cores there are.

    Raises ThreadsError if it is MINIGAN_NUM_THREADS, and no number of threads.
    """
    global _threads
    if _threads is None:
        _threads = _available()
    return _threads


def set_num_threads(count: int) -> None:
    """How many threads the kernels use from now on."""
    global _threads
    if not isinstance(count, Integral) or isinstance(count, bool):
        raise TypeError(f"set_num_threads: {count!r} threads; give a whole number")
    if count < 1:
        raise ValueError(f"set_num_threads: {count} threads; give at least 1")
    _threads = int(count)


# -- blocks of work, shared out ------------------------------------------------------------------------

_turn: dict[str, _Call] = {}  # "call": that whose turn it is, as BLAS has one setting for all
_joinable: queue.SimpleQueue[_Call] = queue.SimpleQueue()  # calls that helpers may join
_helpers: list[_Helper] = []


def share(work: Callable[[int], None], count: int) -> None:
    """Call work(0) ... work(count - 1), each once, on this thread and its helpers.

    When it returns or raises, no block is being worked on any more. After an error no further block
    is begun, and those under way are finished first. A call from within another one on the same
    thread, by a block or by a signal handler, uses this thread alone; other threads wait their turn.

    Each thread works in a copy of the caller's context, so np.errstate holds on all of them.
    """
    tell_blas_trouble()
    if isinstance(threading.current_thread(), _Helper):  # within a block: BLAS is limited already
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
    finally:  # a handler may have raised within the first end, outside of its own guard
        call.end()
    if call.errors:
        raise call.errors.pop(0)


def _within_share(frame: FrameType | None) -> bool:
    """Whether `share` is on the stack whose top is this frame, or may be.

    The thread may be running meanwhile, and a generator that it leaves no longer knows its caller.
    """
    code = None
    while frame is not None:
        code, frame = frame.f_code, frame.f_back
        if code is share.__code__:
            return True
    return code is not None and bool(code.co_flags & inspect.CO_GENERATOR)


class _Call:
    """A call of `share`: its blocks, the helpers at work on them, and the threads that wait for it."""

    def __init__(self, work: Callable[[int], None], count: int) -> None:
        self.work: Callable[[int], None] | None = work
        self.context = contextvars.copy_context()  # never entered, only copied
        self.numbers = iter(range(count))
        self.busy: set[threading.Lock] = set()  # a lock for each helper at work, which it releases
        self.errors: list[BaseException] = []  # of helpers
        self.waiting: list[threading.Lock] = []  # a lock for each thread whose turn is after this
        self.thread = threading.get_ident()
        self.lent: int | None = None  # that part of _lent is for calls around this one to give back

    def take_turn(self, caller: FrameType) -> bool:
        """Wait for the turn; False if there is none, within another call on this thread."""
        # setdefault takes the turn and notes whose it is in one step: nothing can come in between.
        while (other := _turn.setdefault("call", self)) is not self:
            mine = other.thread == self.thread
            if not _within_share(caller if mine else sys._current_frames().get(other.thread)):
                other.end()  # which its own thread could not, being interrupted again and again
            elif mine:
                break
            else:
                other.wait()
        self.lent = 0 if other is self else len(_lent)
        return other is self

    def run(self, helpers: int) -> None:
        """Take blocks on this thread and on this many helpers, if the system has them."""
        _limit_blas()
        for _ in range(_hire(helpers)):
            _joinable.put(self)
        self.context.copy().run(self._take)  # the size of NumPy's buffer is part of it

    def help(self) -> None:
        """Take blocks on a helper. One that comes when the call is over finds none left."""
        ended = threading.Lock()
        ended.acquire()
        self.busy.add(ended)  # before a block is taken, so that `end` misses none
        try:
            self.context.copy().run(self._take)
        except BaseException as error:
            self.errors.append(error)
            self._drop_the_rest()
        self.busy.discard(ended)  # first the truth, then the bell: whoever has heard it finds it so
        ended.release()

    def _take(self) -> None:
        np.setbufsize(BUFFER)
        for i in self.numbers:  # whose next() is atomic: whoever is free takes the next block
            self.work(i)

    def _drop_the_rest(self) -> None:
        for _ in self.numbers:
            pass

    def end(self) -> None:
        """Wait for the helpers at work, give BLAS its threads back, and give the turn away.

        Each part can be interrupted and done again. What a handler raises while we wait is raised
        when the wait is over.
        """
        self._drop_the_rest()
        interrupt = None
        while self.busy:
            try:
                for ended in tuple(self.busy):
                    ended.acquire()
            except BaseException as error:
                interrupt = error
        self.work = None  # and with it its arrays: a helper that comes late may still hold the call
        if self.lent is not None:
            _restore_blas(self.lent)
            self.lent = None  # done again when the turn is another's, it would restore for that one
        if _turn.get("call") is self:
            del _turn["call"]
        while self.waiting:
            self.waiting.pop().release()
        if interrupt is not None:
            raise interrupt

    def wait(self) -> None:
        """Wait, on another thread, until this call has given its turn away."""
        ended = threading.Lock()
        ended.acquire()
        self.waiting.append(ended)
        if _turn.get("call") is self:
            ended.acquire(timeout=1)  # then the caller looks whether there is anybody to wait for


class _Helper(threading.Thread):
    """A thread that waits for calls to join. A queue in C wakes it as soon as a bare lock does."""

    def __init__(self) -> None:
        super().__init__(name="minigan", daemon=True)

    def run(self) -> None:
        while True:
            _joinable.get().help()


def _hire(wanted: int) -> int:
    """Start helpers up to `wanted`, or until the system refuses; return how many may join a call."""
    while len(_helpers) < wanted:
        helper = _Helper()
        try:
            helper.start()
        except RuntimeError:  # `ulimit -u`: the threads that there are take its blocks
            break
        _helpers.append(helper)
    return min(wanted, len(_helpers))


def _forget_helpers() -> None:
    global _joinable
    _helpers.clear()  # they did not come along into the forked process
    _joinable = queue.SimpleQueue()
    call = _turn.pop("call", None)
    while call and call.busy:  # if this thread goes on with it, the blocks they had are missing
        call.errors.append(RuntimeError("forked within a kernel, without its helpers"))
        call.busy.pop().release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_helpers)


# -- BLAS, kept to one thread --------------------------------------------------------------------------

NAMES = [
    (start, end) for start in ("", "scipy_") for end in ("", "64_", "_64")
]  # of OpenBLAS's builds
OWN = ("pthreads", "disabled")  # OpenBLAS's own threads, or none: OpenMP's limit is one caller's
_lent: list[tuple[Callable[[int], None], int]] = []  # setters, and the threads to give back by them
_told = False  # the trouble with BLAS


@functools.cache
def _blas() -> list[tuple[threadpoolctl.LibController, Callable[[int], None]]]:
    """Each BLAS of this process, and what sets its number of threads."""
    libraries = threadpoolctl.ThreadpoolController().lib_controllers
    return [(library, _setter(library)) for library in libraries if library.user_api == "blas"]


def _setter(library: threadpoolctl.LibController) -> Callable[[int], None]:
    """OpenBLAS's own function, where there is one.

    threadpoolctl ignores, since 3.8, all but the first thread that has set a limit, and takes a lock
    for it, which a signal handler would wait for without end.
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
    """Give back all but the first `lent`."""
    while len(_lent) > lent:
        set_num_threads, count = _lent[-1]
        set_num_threads(count)
        _lent.pop()


def _warn(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=4)  # where `share` is called


def tell_blas_trouble(say: Callable[[str], None] = _warn) -> None:
    """Say once in a process why results may depend on the number of threads, where they may."""
    if not _told and (trouble := blas_trouble()):
        say(trouble)


def blas_trouble() -> str | None:
    """Why results may depend on the number of threads, in a sentence; None where they do not.

    Whoever asks has been told.
    """
    global _told
    _told = True
    if why := _why_not_limited():
        return (
            f"NumPy's BLAS cannot be kept to one thread ({why}): the last bits of results may depend "
            "on the number of threads, and training may be slower; start Python with "
            "OPENBLAS_NUM_THREADS=1 (or OMP_, MKL_, BLIS_ or VECLIB_MAXIMUM_THREADS=1)"
        )
    return None


@functools.cache
def _why_not_limited() -> str | None:
    """What is seen of the BLAS that NumPy uses, if it is not an OpenBLAS that obeys."""
    found = next((library for library, _ in _blas() if _multiplies_for_numpy(library)), None)
    if found is None:
        return f"threadpoolctl {threadpoolctl.__version__} does not find it"
    kind = f"{found.internal_api} {found.version or 'of unknown version'}"
    if found.internal_api != "openblas":
        return f"it is {kind}; only OpenBLAS is known to obey"
    if found.threading_layer not in OWN:
        return (
            f"it is {kind} with {found.threading_layer} threads, where a limit holds for one caller"
        )
    counts: list[int] = []
    share(lambda i: counts.append(found.num_threads), 1)
    return None if counts == [1] else f"{kind} has {counts[0]} threads after it was told to have 1"


def _multiplies_for_numpy(library: threadpoolctl.LibController) -> bool:
    """Whether NumPy's products are made by this library: SciPy, or PyTorch, may bring another."""
    if Path(library.filepath).parent.name == "numpy.libs":  # Windows has no more to go by
        return True
    numpys = ctypes.CDLL(sys.modules["numpy._core._multiarray_umath"].__file__)
    names = [f"{start}cblas_sgemm{end}" for start, end in NAMES]  # what NumPy calls for a product
    addresses = [(_address(numpys, name), _address(library.dynlib, name)) for name in names]
    return any(mine == its is not None for mine, its in addresses)


def _address(library: ctypes.CDLL, name: str) -> int | None:
    """Where the function of that name lies that the library, or what it was linked with, has."""
    function = getattr(library, name, None)
    return function and ctypes.cast(function, ctypes.c_void_p).value


# -- memory --------------------------------------------------------------------------------------------


def empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """numpy.empty, beginning with a line of the cache."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    return memory[start : start + size].view(dtype).reshape(shape)


def scratch(name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """This thread's memory of that name, with undefined content.

    It is the memory of the last call, unless somebody still holds that: a kernel that a signal handler
    has stopped to run another, say. So let go of it before you ask again, or new memory is taken, where
    each 4 KB cost a page fault, which is more than filling them.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    held = getattr(_scratch, name, None)
    if held is None or held.nbytes < size or sys.getrefcount(held.base) > UNUSED:
        held = empty((size,), np.uint8)
        setattr(_scratch, name, held)
    return held[:size].view(dtype).reshape(shape)
