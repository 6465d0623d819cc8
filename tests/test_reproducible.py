"""The same run again: from another process, after any interruption, beside fifteen others."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import fields
from itertools import product
from pathlib import Path

import celeba_factory as factory
import pytest
import tiny
from hypothesis import example, given, settings
from hypothesis import strategies as st
from minigan.training.config import Config

from minigan.backend import threads
from minigan.training import checkpoint, loop, pictures
from minigan.training.run import Run, numbered_runs

DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
SCRIPT = Path(__file__).with_name("reproducible.py")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="forks, or reads /proc")


@pytest.fixture(autouse=True)
def without_a_gpu(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)


def contents(folder: Path) -> dict[str, object]:
    """What is in each file of a run, but for what tells of the clock and of its interruptions."""
    found = {str(p.relative_to(folder)): p for p in Path(folder).rglob("*") if p.is_file()}
    del found["events.jsonl"]
    kept = {name: path.read_bytes() for name, path in found.items()}
    return kept | {"metrics.jsonl": tiny.metrics(Run(folder))}


def differing(one: dict, other: dict) -> list:
    """The names of what is not in both alike."""
    return sorted(n for n in one.keys() | other.keys() if one.get(n) != other.get(n))


# -- in another process, of other threads, workers and surroundings ---------------------------------

# At 64 x 64 pixels and these widths D's second layer has 64 tiles an image for minimal filtering, the
# third 16, the fourth 4: of 40 images blocks of the second and of the third are shared by the threads,
# and the fourth is done at once; of 12, the third is done at once, and the fourth by columns.
SIZES = ["--image-size", 64, "--ngf", 16, "--ndf", 16, "--nz", 8, "--steps", 2, "--device", "cpu"]
PICTURES = 1030  # three chunks of the cache, for the workers to share

plain = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
other = {"PYTHONHASHSEED": "7", "LC_ALL": "C", "TZ": "Asia/Tokyo"}


@pytest.fixture(scope="module")
def celeba(tmp_path_factory):
    """Small pictures in a folder like CelebA's, one with a name that is not ASCII, and in a zip."""
    root = tmp_path_factory.mktemp("celeba")
    data = {f"{i:06d}.jpg": factory.encoded(factory.image(i, (66, 80))) for i in range(PICTURES)}
    data["ü.jpg"] = data.pop("000003.jpg")
    factory.write_files(root / "folder" / "img_align_celeba", data)
    factory.write_zip(root / "a.zip", {f"img_align_celeba/{name}": data[name] for name in data})
    return root


def fresh(
    out: Path, options: list, count: int, blas: int, workers: int, around: dict
) -> dict[str, object]:
    """Train in a new process, of so many threads and workers, in an `out` of its own; the contents.

    Of an odd number of threads the option tells, of an even one the environment. `blas` is the number
    that BLAS would have on its own.
    """
    out.mkdir(parents=True)
    environment = {key: os.environ[key] for key in os.environ if not key.startswith("MINIGAN")}
    environment |= around | {"OPENBLAS_NUM_THREADS": str(blas)}
    flags = [*SIZES, *options, "--workers", workers, "--out", out.name]
    if count % 2:
        flags += ["--threads", count]
    else:
        environment["MINIGAN_NUM_THREADS"] = str(count)
    done = subprocess.run(
        [sys.executable, str(tiny.EXAMPLES / "train_celeba.py"), *map(str, flags)],
        cwd=out.parent,
        env=environment,
        umask=0o077 if around is other else 0o022,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    (run,) = numbered_runs(out)
    found = contents(run) | {f"cache/{p.name}": p.read_bytes() for p in (out / "cache").iterdir()}
    config = json.loads(found["config.json"])
    for name in ("threads", "workers", "out", "dataroot"):
        del config["options"][name]
    rows = tiny.events(Run(run))
    assert all(row.pop("time") for row in rows)
    return found | {"config.json": config, "events.jsonl": rows}


@pytest.mark.parametrize(
    ("kind", "batch"),
    list(product(("drawn", "folder", "zip"), (12, 40)))
    if DEEP
    else [("drawn", 12), ("folder", 40), ("zip", 40)],
)
def test_another_process_gives_the_same_bytes(tmp_path, celeba, kind, batch, thread_counts):
    """Whatever the threads, the workers, the seed of hashes, locale, time zone, folder and umask."""
    options = ["--batch-size", batch, "--flip", "--sample-every", 1, "--checkpoint-every", 1]
    if kind == "drawn":
        options += ["--max-images", 600 if DEEP else 64]
    name = {"drawn": "nowhere", "folder": "folder", "zip": "a.zip"}[kind]
    chosen = [(3, 2), (2, 3)] if kind == "folder" else [(5, 1), (1, 2)]
    machines = list(product((1, 2, 3, 5), (0, 1, 2, 3))) if DEEP else chosen
    counts, blas = thread_counts(*(count for count, _ in machines)), thread_counts(1, 3)
    expected = None
    for i, (count, (_, workers)) in enumerate(zip(counts, machines, strict=True)):
        out = tmp_path / str(i) / "runs"
        if kind != "drawn":  # every other time by a path that begins elsewhere
            root = os.path.relpath(celeba / name, out.parent) if i % 2 else celeba / name
            options = [*options, "--dataroot", root]
        around = other if i % 2 else plain
        found = fresh(out, options, count, blas[i % 2], workers, around)
        expected = expected or found
        assert differing(found, expected) == [], (count, workers)
    assert len([name for name in expected if name.startswith("cache/")]) == 3
    assert len([name for name in expected if name.endswith(".safetensors")]) == 2


# -- interrupted, and gone on with ------------------------------------------------------------------


class Crash(Exception):
    pass


@contextmanager
def stopped(how: str, at: int):
    """Let the `at`-th step from now on be hit by a signal or by a crash."""
    play_round, steps = loop.play_round, iter(range(1, 1000))

    def played(*arguments):
        if next(steps) == at:
            if how == "crash":
                raise Crash
            signal.raise_signal(getattr(signal, how))
        return play_round(*arguments)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # pytest may ignore it
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "play_round", played)
            yield
    finally:
        signal.signal(signal.SIGINT, before)


def live(how: str, at: int, flags: list) -> None:
    """Go on, or begin, until the `at`-th step from now or the end, whichever is first."""
    flags = [*tiny.TINY, *map(str, flags), "--out", "runs", "--resume", "auto"]
    with stopped(how, at):
        try:
            code = tiny.train_celeba.main(flags)
        except Crash:
            return
    assert code in (0, 128 + getattr(signal, how, 0))


FLAGS = {
    "--batch-size": st.integers(2, 7),
    "--log-every": st.integers(1, 7),
    "--sample-every": st.integers(1, 7),
    "--checkpoint-every": st.integers(1, 7),
    "--keep": st.integers(1, 4),
    "--noise": st.sampled_from(["normal", "uniform"]),
    "--loss": st.sampled_from(["non-saturating", "minimax"]),
    "--nc": st.sampled_from([1, 3]),
    "--steps": st.integers(1, 14),
}
options = st.builds(
    lambda pairs, switches: [*(word for pair in pairs.items() for word in pair), *switches],
    st.fixed_dictionaries(FLAGS),
    st.lists(st.sampled_from(["--flip", "--reuse-fakes"]), unique=True),
)
stops = st.lists(
    st.tuples(st.sampled_from(["SIGINT", "SIGTERM", "crash"]), st.integers(1, 14)), max_size=6
)


@contextmanager
def folder(curves: bool = False):
    """Work in an empty folder; the curves, which take longer than the training, are left out."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as empty, pytest.MonkeyPatch.context() as patch:
        if not curves:
            patch.setattr(pictures, "save_curves", lambda folder, metrics: None)
        os.chdir(empty)
        try:
            yield
        finally:
            os.chdir(before)


def straight(options: list, curves: bool = False) -> dict[str, object]:
    """What a training leaves that nothing interrupts."""
    with folder(curves):
        return contents(tiny.train("runs", *options).folder)


NO_CURVES = st.just(False)
EXAMPLE = ["--steps", 9, "--sample-every", 4, "--checkpoint-every", 2, "--keep", 9, "--flip"]


@settings(max_examples=settings.default.max_examples * 2 // 3)
@given(options, stops, NO_CURVES)
@example(EXAMPLE, [("SIGINT", 3), ("crash", 2), ("SIGTERM", 2), ("crash", 1)], True)
def test_whatever_interrupts_a_training_it_leaves_the_same_folder(options, stops, curves):
    expected = straight(options, curves)
    with folder(curves):
        for how, at in stops:
            live(how, at, options)
        run = tiny.train("runs", *options, "--resume", "auto")
        assert differing(contents(run.folder), expected) == []


@settings(max_examples=settings.default.max_examples // 3)
@given(options, st.lists(st.integers(1, 14), min_size=1, max_size=4, unique=True), stops)
def test_a_training_prolonged_is_the_same_but_for_a_line_and_a_grid_at_each_end(
    options, ends, stops
):
    """What has such a line and grid already has no other."""
    *ends, last = sorted(ends)
    expected = straight([*options, "--steps", last])
    each = straight([*options, "--steps", last, "--log-every", 1, "--sample-every", 1])
    with folder():
        for end in [*ends, last]:
            for how, at in stops:
                live(how, at, [*options, "--steps", end])
            run = tiny.train("runs", *options, "--steps", end, "--resume", "auto")
        found = contents(run.folder)
    grids = {f"samples/step-{step:08d}.png": step for step in ends}
    more = {name for name in found if name not in expected}
    assert more == grids.keys() - expected.keys()
    assert all(found[name] == each[name] for name in more)
    lines = each["metrics.jsonl"]
    steps = {line["step"] for line in expected["metrics.jsonl"]} | set(ends)
    assert found["metrics.jsonl"] == [line for line in lines if line["step"] in steps]
    different = {"metrics.jsonl", *more} | ({"progress.gif"} if more else set())
    assert set(differing(found, expected)) <= different


def test_of_the_checkpoints_those_that_stops_left_go_first():
    flags = ["--steps", 99, "--checkpoint-every", 4, "--keep", 3]
    seen = []
    with folder():
        for at in (1, 2, 4, 2, 1):  # at steps 1, 3, 7, 9, 10
            live("SIGINT", at, flags)
            seen.append(tiny.saved(Run(Path("runs") / tiny.FIRST)))
        live("SIGINT", 2, [*flags, "--checkpoint-every", 9])  # 12, with another rhythm
        seen.append(tiny.saved(Run(Path("runs") / tiny.FIRST)))
        run = tiny.train("runs", *flags, "--steps", 14, "--keep", 9, "--resume", "auto")
        seen.append(tiny.saved(run))
    assert seen == [[1], [1, 3], [3, 4, 7], [4, 8, 9], [4, 8, 10], [8, 10, 12], [8, 12, 14]]


def test_what_a_kill_right_after_the_last_checkpoint_left_is_dropped_later(monkeypatch):
    flags = ["--steps", 6, "--checkpoint-every", 4]
    expected, drop = straight(flags), loop.Trainer._drop_old

    def crash_at_the_end(trainer):
        if trainer.step == 6:
            raise Crash
        drop(trainer)

    with folder():
        live("SIGINT", 3, flags)
        with monkeypatch.context() as patch:
            patch.setattr(loop.Trainer, "_drop_old", crash_at_the_end)
            live("crash", 9, flags)
        run = Run(Path("runs") / tiny.FIRST)
        assert tiny.saved(run) == [3, 4, 6]
        tiny.train("runs", *flags, "--resume", "auto")
        assert differing(contents(run.folder), expected) == []


# -- sixteen at once --------------------------------------------------------------------------------


def script(what: str):
    """What tests/reproducible.py prints, run in this folder."""
    command = [sys.executable, str(SCRIPT), what]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@LINUX
def test_sixteen_that_start_at_once_train_sixteen_runs_with_one_cache():
    expected = straight(["--steps", 6])
    with folder():
        codes = script("start")
        assert codes == [0] * 16, [Path(f"{i}.txt").read_text() for i in range(16)]
        runs = numbered_runs(Path("runs"))
        assert [run.name[:5] for run in runs] == [f"{i:05d}" for i in range(16)]
        for run in runs:
            assert differing(contents(run), expected) == []
        drawn = [int(line) for line in Path("loads").read_text().split()]
        assert drawn == list(range(20))  # by one of them, once


@LINUX
def test_of_sixteen_that_resume_a_run_at_once_one_trains_and_the_others_are_told():
    expected = straight(["--steps", 6])
    with folder():
        live("SIGINT", 3, ["--steps", 6])
        codes = script("resume")
        assert sorted(codes) == [0] + [1] * 15
        run = Path("runs") / tiny.FIRST
        for i in range(16):
            if codes[i]:
                assert Path(f"{i}.txt").read_text() == (
                    f"error: {run} is in use by another process; "
                    "wait for its end, or start a new run\n"
                )
        assert numbered_runs(Path("runs")) == [run]
        assert differing(contents(run), expected) == []


# -- other options ----------------------------------------------------------------------------------

# Another value for each option than the runs below have.
OTHERS = {
    "dataroot": ["--dataroot", "moved"],  # the same pictures in another place
    "image_size": ["--image-size", 32],
    "max_images": ["--max-images", 19],
    "only": ["--only", "Smiling"],
    "flip": ["--flip"],
    "workers": ["--workers", 0],
    "nc": ["--nc", 1],
    "nz": ["--nz", 9],
    "ngf": ["--ngf", 5],
    "ndf": ["--ndf", 5],
    "noise": ["--noise", "uniform"],
    "batch_size": ["--batch-size", 5],
    "epochs": ["--epochs", 30],
    "steps": ["--steps", 7],
    "lr": ["--lr", 1e-3],
    "beta1": ["--beta1", 0.9],
    "loss": ["--loss", "minimax"],
    "fresh_noise": ["--reuse-fakes"],
    "seed": ["--seed", 1],
    "device": ["--device", "auto"],
    "ngpu": ["--ngpu", 0],
    "threads": ["--threads", 3],
    "tf32": ["--no-tf32"],
    "out": ["--out", "elsewhere"],
    "log_every": ["--log-every", 2],
    "on_divergence": ["--on-divergence", "stop"],
    "checkpoint_every": ["--checkpoint-every", 2],
    "keep": ["--keep", 1],
    "sample_every": ["--sample-every", 1],
}
LEARNED = {field.name for field in fields(Config) if field.metadata["trains"]}
START = ["--dataroot", "data", "--steps", 6, "--checkpoint-every", 1, "--keep", 9]


@pytest.fixture(scope="module")
def stopped_run(tmp_path_factory):
    """A folder with data/, the same in moved/, and a run that was stopped at step 3; and each
    checkpoint's bytes up to step 7, of a run that was not."""
    root = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr(pictures, "save_curves", lambda folder, metrics: None)
        factory.make(Path("data"), 20)
        Path("data/list_attr_celeba.txt").write_bytes(factory.attribute_list(20))
        shutil.copytree("data", "moved")
        whole = tiny.train("whole", *START, "--steps", 7)
        live("SIGINT", 3, START)
        return root, {path.name: path.read_bytes() for path in whole.checkpoints.iterdir()}


@pytest.fixture
def run(stopped_run, tmp_path, monkeypatch):
    """A copy of the run that was stopped, in the folder to work in."""
    monkeypatch.setattr(pictures, "save_curves", lambda folder, metrics: None)
    monkeypatch.setattr(threads, "_threads", None)  # what is set here is forgotten afterwards
    shutil.copytree(stopped_run[0], tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Run(Path("runs/00000-pictures16"))


def resume(run: Run, *flags) -> int:
    return tiny.train_celeba.main(["--resume", str(run.folder), *map(str, flags)])


def test_no_option_is_forgotten_here():
    # A run keeps its name: see test_a_run_that_goes_on_keeps_its_name.
    assert sorted([*OTHERS, "name"]) == sorted(field.name for field in fields(Config))


@pytest.mark.parametrize("name", OTHERS)
def test_a_resumed_run_takes_another_option_if_and_only_if_the_weights_do_not_depend_on_it(
    name, run, stopped_run, capsys
):
    _, expected = stopped_run
    if name in LEARNED:
        before = contents(run.folder)
        assert resume(run, *OTHERS[name]) == 1
        out, err = capsys.readouterr()
        told = "error: the run to resume was started with other options: "
        assert err.startswith(f"{told}--{name.replace('_', '-')} ")
        assert (out, err.count("\n"), err.count(" -> ")) == ("", 1, 1)
        assert differing(contents(run.folder), before) == []
        altered = tiny.train("altered", *START, *OTHERS[name], "--steps", 3)
        arrays, _ = tiny.newest(altered)
        assert arrays != tiny.newest(run)[0]
    else:
        assert resume(run, *OTHERS[name]) == 0
        assert str(run.config["options"][name]) in (str(OTHERS[name][-1]), "False")
        newest = checkpoint.newest_first(run.checkpoints)[0]
        assert newest.name == (
            "step-00000007.safetensors" if name == "steps" else "step-00000006.safetensors"
        )
        assert newest.read_bytes() == expected[newest.name]


def test_all_options_that_differ_are_listed(run, capsys):
    assert resume(run, *(word for words in OTHERS.values() for word in words)) == 1
    told = capsys.readouterr().err
    listed = told.removeprefix("error: the run to resume was started with other options: ")
    assert sorted(part.split()[0][2:] for part in listed.split(", ")) == sorted(
        name.replace("_", "-") for name in LEARNED
    )


def test_other_pictures_are_refused(run, capsys):
    (Path("moved") / "000001.jpg").write_bytes(factory.jpeg(99))
    before = contents(run.folder)
    assert resume(run, "--dataroot", "moved") == 1
    told = (
        "error: these 20 images are not the 20 that the run was started with; give their --dataroot"
    )
    assert capsys.readouterr().err.startswith(told)
    assert differing(contents(run.folder), before) == []


# -- three hundred steps ----------------------------------------------------------------------------


@LINUX
def test_a_long_training_grows_by_nothing_and_needs_no_garbage_collector():
    """Kept at each step, an image's activations would be 5 MB or more, and any tensor 300 objects."""
    with folder():
        before, after = script("steady")
    assert after["memory"] - before["memory"] < 5
    assert after["files"] == before["files"]
    assert after["threads"] == before["threads"]
    assert after["objects"] - before["objects"] < 300
