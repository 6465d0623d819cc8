"""Check a learner's file in another process, limited in time and, on Linux, in memory.

This guards against mistakes such as an endless loop. It is not a sandbox: the file may do whatever
its owner may do.
"""

from __future__ import annotations

import dataclasses
import faulthandler
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from .exercise import Exercise
from .judge import Verdict, check_file
from .ladder import LADDER

if sys.platform != "win32":
    import resource

SECONDS = 30  # for a check; the slowest solution takes two
MARGIN = 30  # seconds in which the process has to start and to end
MEMORY = 2**31  # bytes, beyond what the process has after its imports
ROOT = Path(__file__).parents[2]  # the folder from which minigan is imported


def check(exercise: Exercise, path: Path, seconds: float = SECONDS) -> Verdict:
    """The verdict on the learner's file. What the file prints appears on the terminal."""
    path = Path(os.path.abspath(path))
    with tempfile.TemporaryDirectory() as folder:
        words = ["-m", __name__, exercise.name, str(path), folder, str(seconds)]
        try:
            # In ROOT, because `-m` puts the working folder first on the path: in the learner's, a file
            # such as random.py would hide a module of Python.
            code = subprocess.run(
                [sys.executable, *words],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                timeout=seconds + MARGIN,
            ).returncode
        except subprocess.TimeoutExpired:
            code = None
        verdict, stack = Path(folder, "verdict.json"), Path(folder, "stack.txt")
        if verdict.is_file():
            return Verdict(**json.loads(verdict.read_text("utf-8")))
        text = stack.read_text("utf-8", "replace") if stack.is_file() else ""
        lines = re.findall(r'File "(.*)", line (\d+)', text)
    own = [line for file, line in lines if os.path.basename(file) == path.name]
    if own or code is None:
        where = f"; it was in line {own[0]}" if own else ""
        return Verdict(False, message=f"it has not ended after {seconds:g} seconds{where}")
    return Verdict(
        False, message=f"the process has ended with code {code} before the check was done"
    )


def _limit_memory() -> None:
    """Let this process have MEMORY more bytes, if the system can limit it."""
    if sys.platform != "linux":
        return
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    if most == resource.RLIM_INFINITY or limit < most:
        resource.setrlimit(resource.RLIMIT_AS, (limit, most))


def _main(name: str, path: str, folder: str, seconds: str) -> None:
    """What the other process does: it writes the verdict, or the stack when the time is up."""
    os.chdir(os.path.dirname(path))
    _limit_memory()
    with open(Path(folder, "stack.txt"), "w", encoding="utf-8") as stack:
        faulthandler.dump_traceback_later(float(seconds), exit=True, file=stack)
        verdict = check_file(LADDER[name], Path(path))
        faulthandler.cancel_dump_traceback_later()
    text = json.dumps(dataclasses.asdict(verdict))
    Path(folder, "verdict.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    _main(*sys.argv[1:])
