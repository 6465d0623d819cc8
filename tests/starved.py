"""A run without memory at its second checkpoint: `python tests/starved.py`, in an empty folder.

First, with 20 MB left, it draws curves, which needs matplotlib to be loaded. Then comes the run: it
limits the address space to what is in use, as clusters do, and fills the memory that the process holds
in reserve. Last, with 8 MB left, it writes arrays of 64 MB. Prints [the number of the error that the
curves raised, exit code and stderr of the run, exit code of its resume, bytes written].
"""

import contextlib
import io
import json
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tiny

from minigan import tensorfile
from minigan.training import checkpoint, pictures, state

RUN = ["--steps", "3", "--checkpoint-every", "1", "--threads", "1", "--resume", "auto"]
METRICS = ("step", "loss_d", "loss_g", "d_x", "d_gz_before", "d_gz_after")
UNIT = 2**18  # bytes: a write needs more than this at once


@contextlib.contextmanager
def left(room: int) -> Iterator[None]:
    """Allow `room` more bytes than are in use."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def train() -> tuple[int, str]:
    err = io.StringIO()
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
        return tiny.train_celeba.main([*tiny.TINY, *RUN]), err.getvalue()


def starved(path: Path, *arguments: object) -> None:
    """state.write, without memory from the second step on."""
    if checkpoint.step_of(path) < 2:
        write(path, *arguments)
        return
    with left(0):
        eaten = []
        with contextlib.suppress(MemoryError):
            while True:
                eaten.append(bytearray(UNIT))
        write(path, *arguments)


if __name__ == "__main__":
    tiny.train_celeba.explain = lambda plan, given: None
    with left(20 * 2**20):
        try:
            pictures.save_curves(Path(), [dict.fromkeys(METRICS, 1)])
        except OSError as error:
            ended = error.errno

    write, state.write = state.write, starved
    code, err = train()
    state.write = write
    code_after, _ = train()

    arrays = {f"{i}": np.full((4, 4, 512, 512), i, "f").transpose(3, 2, 0, 1) for i in range(4)}
    with left(8 * 2**20):
        tensorfile.write(Path("large"), arrays, "")
    print(json.dumps([ended, code, err, code_after, os.path.getsize("large")]))
