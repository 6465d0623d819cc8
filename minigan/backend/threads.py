"""Threads for the CPU's kernels: blocks of work shared out, BLAS kept to one thread meanwhile.

NumPy releases the interpreter's lock in copies, ufuncs and matrix products, so plain threads over
blocks use all cores, for the copies as well as for the products. How work is cut into blocks depends
on shapes alone, and sums over blocks are taken in a fixed order: the same bytes come out for any
number of threads.
"""

from __future__ import annotations

import functools
import math
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from threadpoolctl import ThreadpoolController

_pool: ThreadPoolExecutor | None = None
_turn = threading.Lock()  # BLAS has one setting for all: of two callers, one waits
_scratch = threading.local()


def _available() -> int:
    """MINIGAN_NUM_THREADS, or the cores that this process may use."""
    if wanted := os.environ.get("MINIGAN_NUM_THREADS"):
        if not wanted.isdigit() or int(wanted) < 1:
            raise ValueError(f"MINIGAN_NUM_THREADS is {wanted!r}: it must be a number from 1 on")
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_threads = _available()


def set_num_threads(count: int) -> None:
    """How many threads the kernels use from now on."""
    global _threads, _pool
    if count < 1:
        raise ValueError(f"set_num_threads: {count} threads; give at least 1")
    _threads, _pool = count, None


def _forget_pool() -> None:
    global _pool, _turn
    _pool, _turn = None, threading.Lock()  # its threads did not come along into a forked process


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


@functools.cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def share(work: Callable[[int], None], count: int) -> None:
    """Call work(0) ... work(count - 1), each once, on this thread and those of the pool."""
    global _pool
    with _turn, _blas().limit(limits=1, user_api="blas"):
        helpers = min(_threads, count) - 1
        if helpers < 1:
            for i in range(count):
                work(i)
            return
        if _pool is None:
            _pool = ThreadPoolExecutor(_threads - 1, "minigan")
        numbers = iter(range(count))  # next() is atomic: whoever is free takes the next block

        def take() -> None:
            for i in numbers:
                work(i)

        futures = [_pool.submit(take) for _ in range(helpers)]
        try:
            take()
        finally:
            for future in futures:
                future.result()


def scratch(name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """This thread's memory of that name, with undefined content; it is overwritten at the next call.

    Fresh memory costs a page fault for every 4 KB, which is more than filling it.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    held = getattr(_scratch, name, None)
    if held is None or held.nbytes < size:
        held = np.empty(size, np.uint8)
        setattr(_scratch, name, held)
    return held[:size].view(dtype).reshape(shape)
