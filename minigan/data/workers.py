"""Decode a source's images in several processes, in order.

cache.py calls `chunks`. The chunks do not depend on the number of workers. If a worker dies, that is an
error; if the parent dies, its workers end too. Only the parent handles Ctrl-C.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

import numpy as np

from ..errors import UserError
from ..files import reason
from .source import Source, Unreadable

CHUNK = 512  # images decoded at a time
MOST_PROCESSES = 61 if sys.platform == "win32" else 4096  # a limit of Windows' wait function

# (index after the chunk's last image, its usable images or None, (index, reason) of its other images)
Chunk = tuple[int, np.ndarray | None, list[tuple[int, str]]]


def chunks(source: Source, start: int, workers: int) -> Iterator[Chunk]:
    """Decode the images from `start` to the last, in order; in this process if `workers` <= 1.

    Raises UserError if the workers cannot start, and BrokenProcessPool if one of them dies.
    """
    total = len(source)
    bounds = [(i, min(i + CHUNK, total)) for i in range(start, total, CHUNK)]
    workers = min(workers, MOST_PROCESSES)
    if workers <= 1:
        yield from (_decode(source, *pair) for pair in bounds)
        return
    main = sys.modules["__main__"]
    script = getattr(main, "__file__", None)
    if script and not getattr(main, "__spec__", None) and not os.path.isfile(script):
        raise UserError(
            f"the script {script} is not a file, so workers cannot import it; "
            "save it to a file, or run with workers=1"
        )
    spawn = multiprocessing.get_context("spawn")  # the only way that works on every system
    with _starting(workers):
        executor = ProcessPoolExecutor(workers, spawn, _start_worker, (source,))
    with executor as pool:
        pending = deque()  # bounded, so that slow writing does not fill the memory
        for pair in bounds:
            with _starting(workers), _ctrl_c_blocked():  # submit may start a worker
                pending.append(pool.submit(_decode_in_worker, *pair))
            if len(pending) > 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def is_importing_main() -> bool:
    """Whether this process is a worker that is still importing the main script of its parent."""
    return getattr(multiprocessing.current_process(), "_inheriting", False)


def _decode(source: Source, start: int, stop: int) -> Chunk:
    """The chunk of images start..stop-1."""
    kept, skipped = [], []
    for i in range(start, stop):
        try:
            kept.append(source.load(i))
        except Unreadable as error:
            skipped.append((i, str(error)))
    return stop, np.stack(kept) if kept else None, skipped


@contextmanager
def _starting(workers: int) -> Iterator[None]:
    """Attribute an OSError raised inside to starting workers, not to the files of the cache."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{workers} worker processes cannot be started: {reason(error)}, or run with --workers 1"
        ) from error


@contextmanager
def _ctrl_c_blocked() -> Iterator[None]:
    """Hide Ctrl-C from processes started inside; this one receives it afterwards. (Not on Windows.)"""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker(source: Source) -> None:
    global _worker_source
    _worker_source = source
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and ends the pool
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()  # because a killed parent cannot end the pool
    os._exit(1)


def _decode_in_worker(start: int, stop: int) -> Chunk:
    return _decode(_worker_source, start, stop)
