"""Killed at any instant, a training goes on and ends with the same bytes as one that was left alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny

from minigan.training.run import Run, numbered_runs

DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
SCRIPT = Path(__file__).with_name("killed.py")
posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")


def contents(run):
    """Every file's bytes, without what tells of the lives and of the clock."""
    found = {str(p.relative_to(run.folder)): p for p in run.folder.rglob("*") if p.is_file()}
    del found["events.jsonl"]
    kept = {name: path.read_bytes() for name, path in found.items()}
    return kept | {"metrics.jsonl": tiny.figures(run)}


def train(folder, steps, kills):
    folder.mkdir()
    command = [sys.executable, str(SCRIPT), str(steps), str(kills), "7"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"killed {kills} times" in done.stdout
    return Run(numbered_runs(folder / "runs")[-1])


@posix
def test_killed_again_and_again_it_ends_with_the_same_bytes(tmp_path):
    steps, kills = (2000, 250) if DEEP else (200, 25)
    alone, killed = train(tmp_path / "a", steps, 0), train(tmp_path / "b", steps, kills)
    expected, found = contents(alone), contents(killed)
    assert sorted(found) == sorted(expected)  # and no half-written file is left
    assert [name for name in found if found[name] != expected[name]] == []
