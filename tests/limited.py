"""Runs under real limits of the system: `python tests/limited.py`, in an empty folder.

For each limit and value, a run starts under the limit and is then resumed without it, in a folder named
after both. Prints {folder: [exit code and stderr of the first, exit code of the second]}.
"""

import contextlib
import io
import json
import os
import resource
from collections.abc import Iterator

import pytest
import tiny

RUN = ["--steps", "2", "--checkpoint-every", "1", "--threads", "1", "--resume", "auto"]
# (limit, value, further words). NOFILE: this many open files besides those that the process starts
# with, too few for a lock, a cache, its memory map, a checkpoint, and workers, in this order.
LIMITS = [("NOFILE", count, ()) for count in (0, 1, 3, 5)] + [("NOFILE", 9, ("--workers", "2"))]
# FSIZE: bytes in a file, too few for a cache, too few for a checkpoint, and enough.
LIMITS += [("FSIZE", size, ()) for size in (1_000, 20_000, 10**9)]


def train(*words: str) -> tuple[int, str]:
    err = io.StringIO()
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
        return tiny.train_celeba.main([*tiny.TINY, *RUN, *words]), err.getvalue()


@contextlib.contextmanager
def limited(name: str, value: int) -> Iterator[None]:
    limit = getattr(resource, f"RLIMIT_{name}")
    before = resource.getrlimit(limit)
    if name == "NOFILE":
        lowest = os.open(os.devnull, os.O_RDONLY)  # the number of the next file to be opened
        os.close(lowest)
        value += lowest
    resource.setrlimit(limit, (value, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(limit, before)


if __name__ == "__main__":
    tiny.hurry(pytest.MonkeyPatch())  # so that no picture is larger than a checkpoint
    tiny.train_celeba.explain = lambda plan, given: None
    found = {}
    for name, value, words in LIMITS:
        os.mkdir(f"{name}-{value}")
        os.chdir(f"{name}-{value}")
        with limited(name, value):
            first = train(*words)
        found[f"{name}-{value}"] = [*first, train()[0]]
        os.chdir("..")
    print(json.dumps(found))
