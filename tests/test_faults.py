"""A disk that is full, read-only or gone: any operation of a run may fail, and nothing is lost."""

import contextlib
import errno
import functools
import io
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import celeba_factory as factory
import numpy as np
import pytest
import tiny
from PIL import Image

from minigan.commands import sample
from minigan.data import cache, workers
from minigan.errors import UserError
from minigan.training import checkpoint, pictures, session
from minigan.training.estimate import Estimate
from minigan.training.run import Run, numbered_runs

pytest.importorskip("fcntl", reason="the faults are POSIX faults")
from faults import KINDS, Faults, Kind

DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
RUN = ["--steps", 2, "--checkpoint-every", 1, "--sample-every", 1, "--keep", 1, "--threads", 1]
RUN += ["--max-images", 4, "--resume", "auto"]
REMEDIES = {
    "full": "make room there",
    "full after a half": "make room there",
    "read-only": "make it writable",
    "forbidden": "make it writable",
    "broken": "its disk works",
    "stale": "its disk works",
    "gone": "check that the folder exists",
    "no handles": "raise the limit on open files (ulimit -n)",
}
WAYS = (  # how to continue: with a run, before there is one, and before its images exist
    f"-m minigan resume runs/{tiny.FIRST} (or start again, if the run has no checkpoint yet)",
    "then start again, or use another --out",
    "then start again, or use another run",
    "or give the path of another run instead of auto",
    "or choose another folder for the cache",
)
MISSING = (  # messages that do not depend on the fault
    "is not a run folder: it has no config.json",
    "cannot be read as a checkpoint",
    "has no checkpoint to ",
    ".npy was changed while it was being built; run again",
    "File exists; move it away",  # by mkdir, but then there is no folder
)
CURVES = pictures.save_curves
every_kind = pytest.mark.parametrize("kind", KINDS)


def short(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Work in this folder, and skip what takes longer than training."""
    patch.chdir(folder)
    tiny.hurry(patch)
    patch.setattr(session, "estimate", lambda *arguments: Estimate(1.0, 1.0))
    patch.setattr(tiny.train_celeba, "explain", lambda plan, given: None)


@pytest.fixture(autouse=True)
def somewhere_else(tmp_path, monkeypatch):
    short(monkeypatch, tmp_path)


def indices(log: list[tuple[str, str]], kind: str, step: int) -> range:
    """Every `step`-th of the operations that can fail, different ones for each kind; in `deep`, all."""
    count = sum(operation in KINDS[kind].operations for operation, _ in log)
    step = 1 if DEEP else step
    return range(list(KINDS).index(kind) % step, count, step)


@dataclass
class Ended:
    code: int
    lines: list[str]  # of stderr


def call(main, *words) -> Ended:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in words])
    return Ended(code, err.getvalue().splitlines())


def train(*words) -> Ended:
    return call(tiny.train_celeba.main, *tiny.TINY, *RUN, *words)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file's bytes, except for times and traces of earlier starts."""
    found = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}
    kept = {name: path.read_bytes() for name, path in found.items() if path.name != "events.jsonl"}
    if "metrics.jsonl" in kept:
        kept["metrics.jsonl"] = tiny.metrics(Run(folder))
    return kept


def whole(folder: Path) -> None:
    """Assert that each file with a final name can be read to its end."""
    for path in folder.rglob("*"):
        if path.suffix == ".safetensors":
            checkpoint.read_file(path)
        elif path.suffix in (".png", ".gif"):
            with Image.open(path) as image:
                for frame in range(getattr(image, "n_frames", 1)):
                    image.seek(frame)
                    image.load()
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".jsonl":
            lines = path.read_text().splitlines(keepends=True)
            assert all(json.loads(line) for line in lines[:-1])
        elif path.suffix == ".npy":
            np.load(path)
    for run in numbered_runs(folder):
        assert {"config.json", "samples", "checkpoints"} <= set(os.listdir(run))


def final(path: str) -> str:
    """The final name of a file that is being written."""
    path = re.sub(r"/\.([^/]+)\.\d+\.partial$", r"/\1", path).removesuffix(".new")
    return re.sub(r"\.partial$", ".npy", path)  # of the cache


def one_sentence(text: str, kind: str, faults: Faults) -> None:
    """Assert that the text names the remedy, and a failed operation's path or a folder above it."""
    assert text.startswith("error: ")
    assert text.isprintable()
    # Usually the first failed one, but the cache's journal may already be gone, which does no harm.
    named = (each for each in faults.failed if final(each[1]) in text or each[1] in text)
    operation, path = next(named, faults.failed[-1])
    reads_checkpoint = operation == "read" and path.endswith(".safetensors")
    if reads_checkpoint:
        assert f"{path} cannot be read as a checkpoint: {os.strerror(faults.kind.errno)}; " in text
    if (operation in ("look", "open") or reads_checkpoint) and any(m in text for m in MISSING):
        return
    assert "Errno" not in text
    assert os.strerror(faults.kind.errno) in text
    assert REMEDIES[kind] in text
    named = re.split(r":? ", text.rpartition("locked: ")[2].removeprefix("error: "))[0] + "/"
    paths = {path for _, failed in faults.failed for path in (failed, final(failed))}
    assert any(f"{path}/".startswith(named) for path in paths), named
    assert sum(way in text for way in WAYS) == 1
    if operation in ("create", "read", "write", "fsync", "rename", "unlink"):
        assert named[:-1] in paths
        assert WAYS[0] in text or tiny.FIRST not in path or operation == "read"


# -- a run ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def starts(tmp_path_factory):
    """Folders to start from: with only a cache, and with a run that stopped after a step."""
    folder = tmp_path_factory.mktemp("starts")
    with pytest.MonkeyPatch.context() as patch:
        short(patch, folder)
        assert train("--steps", 1).code == 0
    shutil.copytree(folder, folder / "resumed")
    with open(folder / "resumed" / "runs" / tiny.FIRST / "events.jsonl", "a") as file:
        file.write('{"time": "2')  # a line cut short by a crash
    for path in ("checkpoints/.step-00000004.safetensors.1.partial", ".config.json.1.partial"):
        (folder / "resumed" / "runs" / tiny.FIRST / path).touch()
    shutil.copytree(folder / "runs" / "cache", folder / "new" / "runs" / "cache")
    return folder


@pytest.fixture(scope="module")
def undisturbed(starts, tmp_path_factory):
    """For both starts: the final contents of the run, and all operations on files until then."""
    found = {}
    for start in ("new", "resumed"):
        with pytest.MonkeyPatch.context() as patch:
            short(patch, tmp_path_factory.mktemp("undisturbed"))
            shutil.copytree(starts / start / "runs", "runs")
            with Faults("runs") as faults:
                assert train().code == 0
            found[start] = contents(Path("runs", tiny.FIRST)), faults.log
    assert found["new"][0] == found["resumed"][0]
    return found


def disturb(start: Path, kind: str, first: int, once: bool, live=train) -> Ended:
    """Train, or call `live`, from this start with this fault; assert what must be true afterwards."""
    shutil.rmtree("runs", ignore_errors=True)
    shutil.copytree(start / "runs", "runs")
    with Faults("runs", KINDS[kind], first, once) as faults:
        ended = live()
    print(kind, first, faults.failed[:1], ended)  # shown if an assertion fails
    assert faults.failed
    whole(Path("runs"))
    assert ended.code in (0, 1)
    *said, error = ended.lines or [""]
    assert all(line.startswith("skipped: ") for line in said)
    if ended.code == 1:
        one_sentence(error, kind, faults)
    else:
        assert error == ""
    return ended


def trained(expected: dict[str, bytes]) -> None:
    """Assert that the newest run has the expected final contents."""
    run = Run(numbered_runs(Path("runs"))[-1])
    assert contents(run.folder) == expected
    assert tiny.events(run)  # each line is JSON


def survives(start: Path, expected: dict[str, bytes], kind: str, first: int, once: bool) -> None:
    """Assert that a run with this fault succeeds, or that the next one does when the fault is gone."""
    if disturb(start, kind, first, once).code == 0:
        trained(expected)
        return
    before = Run.find("auto", Path("runs"))
    assert before or not Run.find("auto", start / "runs")  # there is always a checkpoint
    assert train().code == 0
    trained(expected)
    assert before is None or before.folder == numbered_runs(Path("runs"))[-1]


def test_before_a_checkpoint_its_metrics_are_on_the_disk_and_after_it_its_name(undisturbed):
    _, log = undisturbed["new"]
    checkpoints = 0
    for i, (operation, path) in enumerate(log):
        if operation == "rename" and path.endswith(".partial") and "/checkpoints/" in path:
            metrics = [what for what, which in log[:i] if which.endswith("/metrics.jsonl")]
            assert metrics[-2:] == ["write", "fsync"]
            assert ("fsync", os.path.dirname(path)) in log[i:]
            checkpoints += 1
    assert checkpoints == 2


@pytest.mark.parametrize("start", ["new", "resumed"])
@every_kind
def test_a_training_survives_a_fault_from_any_operation_on(starts, undisturbed, start, kind):
    expected, log = undisturbed[start]
    for first in indices(log, kind, step=6 if kind == "full" else 30):
        survives(starts / start, expected, kind, first, once=False)


@pytest.mark.parametrize("start", ["new", "resumed"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "gone"])  # which is permanent
def test_a_training_survives_a_single_fault(starts, undisturbed, start, kind):
    expected, log = undisturbed[start]
    for first in indices(log, kind, step=40):
        survives(starts / start, expected, kind, first, once=True)


def test_without_room_for_the_figures_the_next_start_draws_them(starts, monkeypatch):
    monkeypatch.setattr(pictures, "save_curves", CURVES)
    finished = functools.partial(train, "--steps", 1)  # so only the drawing is left
    shutil.copytree(starts / "runs", "runs")
    with Faults("runs", KINDS["full"]) as faults:
        assert finished().code == 0
    writes = {final(path): i for i, (what, path) in enumerate(faults.log) if what == "write"}
    for name in ("losses.png", "scores.png"):
        path = Path("runs", tiny.FIRST, name)
        ended = disturb(starts, "full after a half", writes[str(path)], once=False, live=finished)
        assert ended.code == 1
        assert not path.exists()
        assert finished().code == 0
        whole(path.parent)
        assert path.exists()


def test_a_frame_of_the_film_that_cannot_be_read_is_named(starts):
    finished = functools.partial(train, "--steps", 1)
    shutil.copytree(starts / "runs", "runs")
    with Faults("runs", KINDS["broken"]) as faults:
        assert finished().code == 0
    frame = ("read", f"runs/{tiny.FIRST}/samples/step-00000001.png")
    ended = disturb(starts, "broken", faults.log.index(frame), once=True, live=finished)
    assert frame[1] in ended.lines[0]


# -- pictures of a trained generator --------------------------------------------------------------


def generate() -> Ended:
    words = ["--run", f"runs/{tiny.FIRST}", "--n", 2, "--threads", 1, "--device", "cpu"]
    return call(tiny.generate.main, *words, "--out", "runs/pictures")


@every_kind
def test_generated_pictures_are_whole_or_not_there(starts, monkeypatch, kind):
    monkeypatch.setattr(sample, "WALK_ROWS", 1)
    shutil.copytree(starts / "resumed" / "runs", "runs")
    with Faults("runs") as faults:
        assert generate().code == 0
    expected = contents(Path("runs", "pictures"))
    assert sorted(expected) == ["grid.png", "interpolation.png", "single/0.png", "single/1.png"]
    for first in indices(faults.log, kind, step=2 if kind == "full" else 6):
        disturb(starts / "resumed", kind, first, once=False, live=generate)
        assert generate().code == 0
        assert contents(Path("runs", "pictures")) == expected


# -- the cache of images --------------------------------------------------------------------------


def build() -> None:
    images = cache.build(factory.Squares(20, "log", bad=(3,)), Path("cache"), progress=False)
    assert images.pixels[:, 0, 0, 0].tolist() == [i for i in range(20) if i != 3]


def decoded() -> list[int]:
    """The pictures decoded since the last call."""
    indices = factory.Squares(20, "log").loaded()
    Path("log").unlink(missing_ok=True)
    return indices


@pytest.mark.parametrize("once", [False, True])
@every_kind
def test_a_build_of_the_cache_goes_on_where_it_stopped(monkeypatch, kind, once):
    monkeypatch.setattr(workers, "CHUNK", 8)
    with Faults("cache") as faults:
        build()
    expected = {path.name: path.read_bytes() for path in Path("cache").iterdir()}
    for first in indices(faults.log, kind, step=1):
        shutil.rmtree("cache")
        decoded()
        with Faults("cache", KINDS[kind], first, once) as faults:
            try:
                build()
            except UserError as error:
                one_sentence(f"error: {error}", kind, faults)
        whole(Path("cache"))
        journals = list(Path("cache").glob("*.partial.json"))
        safe = json.loads(journals[0].read_text())["done"] if journals else 0
        decoded()
        build()
        assert set(decoded()) <= set(range(safe, 20))
        found = {path.name: path.read_bytes() for path in Path("cache").iterdir()}
        assert expected.items() <= found.items()


# -- the real thing -------------------------------------------------------------------------------


def test_limits_of_the_system_on_files_are_told_and_nothing_is_lost():
    script = Path(__file__).with_name("limited.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    expected = contents(Path("FSIZE-1000000000", "runs", tiny.FIRST))
    remedies = {"NOFILE": "raise the limit on open files", "FSIZE": "raise the limit on file sizes"}
    failed = set()
    for folder, (code, err, code_without) in found.items():
        assert code_without == 0
        if code:
            assert code == 1
            assert re.fullmatch(r"error: (runs/|2 worker processes cannot be).*; .*, .*\n", err)
            assert remedies[folder.partition("-")[0]] in err
            failed.add(err.split(": ")[1].rpartition("/")[0])
        (run,) = [run for run in numbered_runs(Path(folder, "runs")) if saved(run)]
        assert contents(run) == expected
    assert {"runs/cache", f"runs/{tiny.FIRST}/checkpoints"} <= failed


def saved(folder: Path) -> list[int]:
    return tiny.saved(Run(folder))


# -- the faults themselves ------------------------------------------------------------------------


def test_a_disk_that_is_full_keeps_half_of_a_write_and_fails_again_at_the_close():
    Path("a").mkdir()
    with Faults("a", KINDS["full after a half"], first=1) as faults:
        file = open("a/b", "ab")  # noqa: SIM115, closing it is the point
        file.write(b"first")
        file.flush()
        file.write(b"second")
        for again in (file.flush, file.close):
            with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)) as caught:
                again()
            assert caught.value.filename is None
        assert file.closed
    assert Path("a/b").read_bytes() == b"firstsec"
    assert faults.failed == [("write", "a/b")] * 3


ATTEMPTS = {
    "look": lambda folder: (folder / "a").is_file(),
    "list": lambda folder: list(folder.iterdir()),
    "open": lambda folder: (folder / "a").read_bytes(),
    "read": lambda folder: (folder / "a").read_text(),
    "create": lambda folder: open(folder / "b", "xb").close(),
    "write": lambda folder: (folder / "a").write_text("new"),
    "mkdir": lambda folder: (folder / "b").mkdir(),
    "rename": lambda folder: (folder / "a").rename(folder / "b"),
    "unlink": lambda folder: (folder / "a").unlink(),
    "cut": lambda folder: os.truncate(folder / "a", 1),
}


@pytest.mark.parametrize("operation", ATTEMPTS)
def test_an_operation_fails_below_the_folder_and_nowhere_else(operation):
    attempt = ATTEMPTS[operation]
    for folder in map(Path, ("inside", "outside")):
        folder.mkdir()
        (folder / "a").write_text("old")
    with Faults("inside", Kind(errno.EIO, {operation}), first=0) as faults:
        attempt(Path("outside"))
        assert faults.log == []
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            attempt(Path("inside"))
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            attempt(Path("inside"))
    with Faults("inside", Kind(errno.EIO, {operation}), first=0, once=True):
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            attempt(Path("inside"))
        attempt(Path("inside"))
    shutil.rmtree("inside")
