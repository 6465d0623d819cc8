"""A run in runs/ that is killed repeatedly: `python tests/killed.py MEMBER STEPS KILLS SEED`.

This process imports everything that a run needs, and forks a child for each life of the run. That takes
milliseconds instead of a second. The children die in three ways, in turn:

before   the child sends itself SIGKILL just before a random one of its operations on files
within   a limit on the file's size makes the system end the child in the middle of a write
outside  this process kills the child at a random moment

After KILLS kills, the run may finish. Prints as JSON how often it was killed in each way, and what was
left half-written.
"""

import json
import os
import random
import resource
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path

os.environ["MINIGAN_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = (
    "1"  # a fork has one thread
)

import matplotlib.figure  # noqa: F401, as much as can be imported before the lives begin
import tiny

from minigan.data import workers
from minigan.gans import MEMBERS
from minigan.training import session
from minigan.training.estimate import Estimate

FILE_EVENTS = ("open", "os.rename", "os.remove", "os.mkdir")  # os.replace is audited as os.rename
LONGEST = 0.25  # the most seconds until the kill from outside
OUT = "runs"
WAYS = ("before", "within", "outside")
PLACES = ("cache", "checkpoints", "metrics.jsonl", "samples", "")  # "": anywhere
RUN = {"--checkpoint-every": 5, "--sample-every": 10, "--epochs": 9999}
session.estimate = lambda *arguments: Estimate(1.0, 1.0)  # the real one takes as long as a life
workers.CHUNK = 3  # of 20 pictures: seven chunks


def kill_before(operation: int) -> None:
    """End this process by SIGKILL before its n-th operation on files in OUT."""
    left = [operation]

    def look(event: str, arguments: tuple) -> None:
        if event in FILE_EVENTS and str(arguments[0]).startswith(OUT):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(look)


def kill_within(place: str, number: int, size: int) -> None:
    """End this process in the n-th write to this place, or a later one, after `size` bytes of it.

    The system does it with SIGXFSZ, as if the file had reached the limit on file sizes.
    """
    left = [number]
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python would ignore it

    def look(event: str, arguments: tuple) -> None:
        path = str(arguments[0]) if event == "open" else ""
        if path.startswith(OUT) and place in path and set(arguments[1] or "") & set("wax+"):
            left[0] -= 1
            if left[0] < 0:
                limit = size + (os.path.getsize(path) if os.path.exists(path) else 0)
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    sys.addaudithook(look)


def live(member: str, steps: int) -> None:
    """One life, in a child: resume the run, or start it."""
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    run = [word for pair in {**RUN, "--steps": steps}.items() for word in pair]
    once = ["--d-steps", 1] if "d_steps" in MEMBERS[member].Options.names() else []
    os._exit(tiny.go_on(OUT, member, tiny.images(member), [*tiny.flip(member), *once], run))


def half_written(child: int) -> list[str]:
    """What this dead child left half-written: the folder of a file, "cache", or "line"."""
    left = [path.parent.name for path in Path(OUT).glob(f"*/*/.*.{child}.partial")]
    left += ["cache"] * any(Path(OUT, "cache").glob("*.partial"))
    texts = [path.read_bytes() for path in sorted(Path(OUT).glob("*/metrics.jsonl"))[-1:]]
    return left + ["line"] * any(text and not text.endswith(b"\n") for text in texts)


def main(member: str, steps: int, kills: int, seed: int) -> int:
    rng, found = random.Random(seed), Counter(killed=0)
    while True:
        last = found["killed"] >= kills
        turn, way = divmod(found["killed"], len(WAYS))
        way, place = "none" if last else WAYS[way], PLACES[turn % len(PLACES)]
        operation, number, size = rng.randrange(40), rng.randrange(2), int(2 ** rng.uniform(0, 15))
        if place == "cache" and any(Path(OUT, "cache").glob("*.npy")) and not last:
            shutil.rmtree(Path(OUT, "cache"))  # allowed whenever no run is using it
        child = os.fork()
        if child == 0:
            if way == "before":
                kill_before(operation)
            elif way == "within":
                kill_within(place, number, size)
            live(member, steps)
        if way == "outside":
            time.sleep(rng.uniform(0, LONGEST))
            os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status in (-signal.SIGKILL, -signal.SIGXFSZ):
            found.update(["killed", way, *half_written(child)])
        else:
            print(json.dumps(found))
            return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], *map(int, sys.argv[2:])))
