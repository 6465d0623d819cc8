"""Runs in separate processes, for test_reproducible.py: `python tests/reproducible.py WHAT`.

start             16 processes each start a run in runs/ at the same moment, and finish it
resume            16 processes resume the newest run in runs/ at the same moment
images MEMBER...  a run of each member on images; what the process holds after 40, 80 and 120 steps
points MEMBER...  the same on points, after 40, 70 and 100 steps

The 16 are forked from this process, which has imported everything that they need. The output of the
i-th is written to i.txt. Prints the list of their exit codes.
"""

import gc
import json
import multiprocessing
import os
import sys
import threading
from contextlib import contextmanager

os.environ["MINIGAN_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = (
    "1"  # a fork has one thread
)

import pytest
import tiny

from minigan.data import cache
from minigan.data.faces import Faces
from minigan.gans import MEMBERS
from minigan.training import session, watch
from minigan.training.estimate import Estimate
from minigan.training.loop import Loop
from minigan.training.run import Run, RunError

COUNT = 16
PATIENCE = 60  # seconds in which all must reach the same point, or the test fails
WARM, STEPS = 40, {"images": 40, "points": 30}


def train(*flags) -> int:
    return tiny.train_celeba.main([*tiny.TINY, "--out", "runs", *map(str, flags)])


# -- sixteen at once ----------------------------------------------------------------------------------


def together(*flags) -> list[int]:
    """Train in 16 processes, which wait for each other at each point that only one may pass."""
    everyone = multiprocessing.get_context("fork").Barrier(COUNT)
    in_use, load = Run.in_use, Faces.load

    def at_once(function):
        def called(*arguments):
            everyone.wait(PATIENCE)
            return function(*arguments)

        return called

    @contextmanager
    def in_use_at_once(run):
        try:
            everyone.wait(PATIENCE)
            with in_use(run):
                everyone.wait(PATIENCE)  # the winner keeps it until all others have tried
                yield
        except RunError:
            everyone.wait(PATIENCE)
            raise

    def noted(faces, i):
        with open("loads", "a") as file:
            file.write(f"{i}\n")
        return load(faces, i)

    cache.build, Run.create = at_once(cache.build), at_once(Run.create)
    Run.in_use, Faces.load = in_use_at_once, noted
    tiny.hurry(pytest.MonkeyPatch())
    children = []
    for i in range(COUNT):
        children.append(os.fork())
        if children[-1] == 0:
            said = os.open(f"{i}.txt", os.O_WRONLY | os.O_CREAT)
            os.dup2(said, 1)
            os.dup2(said, 2)
            code = train(*flags)
            sys.stdout.flush()
            os._exit(code)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


# -- what a long run holds ----------------------------------------------------------------------------


def holdings() -> dict:
    """What this process holds: memory in MB, numbers of open files and threads, tracked objects."""
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    return {
        "memory": pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        "files": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "objects": len(gc.get_objects()),
    }


def steady(kind: str, members: list[str]) -> dict[str, list[dict]]:
    """The holdings during a run of each member that writes logs, grids and checkpoints."""
    gc.disable()  # so that graphs that only the collector would free add up
    watch.WINDOW = WARM  # the watch records each step up to this number
    session.estimate = lambda *plan: Estimate(1.0, 1.0)
    tiny.hurry(pytest.MonkeyPatch())
    looks = [WARM, WARM + STEPS[kind], WARM + 2 * STEPS[kind]]
    play, found = Loop.play, {member: [] for member in members}

    def noted(loop):
        line = play(loop)
        if loop.draw.step in looks:
            found[member].append({"step": loop.draw.step, **holdings()})
        return line

    Loop.play = noted
    flags = ["--ngf", 16, "--ndf", 16, "--batch-size", 8, "--threads", 2]
    flags += ["--checkpoint-every", 20, "--sample-every", 20, "--steps", looks[-1]]
    for member in members:
        data, *own = ("ring",)
        if kind == "images":
            data, *own = (tiny.images(member), *tiny.flip(member), "--epochs", 9999)
        twice = ["--d-steps", 2] if "d_steps" in MEMBERS[member].Options.names() else []
        tiny.start("runs", member, data, *flags, *own, *twice)
    return found


if __name__ == "__main__":
    what = sys.argv[1]
    if what in STEPS:
        found = steady(what, sys.argv[2:])
    else:
        steps = {"start": 2, "resume": 6}[what]
        found = together("--steps", steps, *(["--resume", "auto"] if what == "resume" else []))
    print(json.dumps(found))
