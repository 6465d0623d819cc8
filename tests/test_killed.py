"""A run killed at any moment can be resumed, and ends with the same bytes as an undisturbed one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import walk

from minigan.training.run import Run, numbered_runs

DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
SCRIPT = Path(__file__).with_name("killed.py")
posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")


def contents(run):
    """Every file's bytes, and the cache's, without times and traces of earlier lives."""
    out = run.folder.parent
    places = (*run.folder.rglob("*"), *(out / "cache").iterdir())
    found = {p.relative_to(out): p for p in places if p.is_file()}
    kept = {"/".join(name.parts[1:]): path.read_bytes() for name, path in found.items()}
    del kept["events.jsonl"]
    return kept | {"metrics.jsonl": tiny.metrics(run)}


def train(folder, member, steps, kills):
    """The run, and the number of events of each kind until its end."""
    folder.mkdir()
    command = [sys.executable, str(SCRIPT), member, str(steps), str(kills), "7"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return Run(numbered_runs(folder / "runs")[-1]), json.loads(done.stdout.splitlines()[-1])


@posix
@pytest.mark.parametrize("member", walk.SOME)
def test_killed_again_and_again_it_ends_with_the_same_bytes(tmp_path, member):
    # in CI, each way once in each of the five places; for the other member, in some of them
    steps, kills = (2000, 252) if DEEP else (60, 15 if member == "dcgan" else 6)
    (alone, none), (killed, count) = (
        train(tmp_path / "a", member, steps, 0),
        train(tmp_path / "b", member, steps, kills),
    )
    print(count)
    assert none == {"killed": 0}
    assert count["killed"] == kills
    assert count["before"] == count["within"] == count["outside"] == kills // 3
    for place in ("checkpoints", "cache") if kills >= 15 else ():  # half-written at least once
        assert count[place] > 0
    expected, found = contents(alone), contents(killed)
    assert sorted(found) == sorted(expected)  # and no half-written file is left
    assert [name for name in found if found[name] != expected[name]] == []
