"""A training in runs/ that is killed again and again: `python tests/killed.py STEPS KILLS SEED`.

This process imports all that a training needs and forks one child for each life of it, which costs
milliseconds instead of a second. Half of the children end themselves by SIGKILL just before one of
their operations on files, drawn at random; the others are killed from here at a random moment. When
the training has survived so many kills, it is let through to its end. Prints how often it was killed.
"""

import os
import random
import signal
import sys
import time

os.environ["MINIGAN_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # none survive a fork

import matplotlib.figure  # noqa: F401, as much as can be imported before the lives begin
import tiny

FILE_EVENTS = ("open", "os.rename", "os.remove", "os.mkdir")  # os.replace is audited as os.rename
LONGEST = 0.25  # seconds until the kill from outside, at the most
OUT = "runs"


def kill_before(operation: int) -> None:
    """End this process by SIGKILL before its n-th operation on files in OUT."""
    left = [operation]

    def look(event: str, arguments: tuple) -> None:
        if event in FILE_EVENTS and str(arguments[0]).startswith(OUT):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(look)


def live(steps: int, operation: int | None) -> None:
    """One life, in a child: go on with the training, or begin it."""
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    if operation is not None:
        kill_before(operation)
    flags = [
        "--steps",
        steps,
        "--checkpoint-every",
        5,
        "--sample-every",
        10,
        "--flip",
        "--epochs",
        9999,
    ]
    arguments = [*tiny.TINY, *flags, "--out", OUT, "--resume", "auto"]
    os._exit(tiny.train_celeba.main([str(a) for a in arguments]))


def main(steps: int, kills: int, seed: int) -> int:
    rng, killed = random.Random(seed), 0
    while True:
        last, by_itself = killed >= kills, rng.random() < 0.5
        operation = rng.randrange(40) if by_itself and not last else None
        child = os.fork()
        if child == 0:
            live(steps, operation)
        if not (by_itself or last):
            time.sleep(rng.uniform(0, LONGEST))
            os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status == -signal.SIGKILL:
            killed += 1
        elif status != 0 or last:
            print(f"killed {killed} times")
            return status


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
