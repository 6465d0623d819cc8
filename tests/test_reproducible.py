"""The same run again: in another process, after any interruption, alongside fifteen others."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from itertools import pairwise, product
from pathlib import Path

import celeba_factory as factory
import pytest
import tiny
import walk
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minigan.backend import threads
from minigan.commands import main
from minigan.data.opening import DataOptions
from minigan.errors import UserError
from minigan.gans import MEMBERS
from minigan.gans.player import Player
from minigan.training import checkpoint, session
from minigan.training.estimate import Estimate
from minigan.training.loop import Loop
from minigan.training.plan import resumed
from minigan.training.run import Run, numbered_runs
from minigan.training.settings import RunOptions

DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
SCRIPT = Path(__file__).with_name("reproducible.py")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="forks, or reads /proc")


@pytest.fixture(autouse=True)
def without_a_gpu(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)


def contents(folder: Path) -> dict[str, object]:
    """The contents of each file of a run, without times and traces of interruptions."""
    found = {str(p.relative_to(folder)): p for p in Path(folder).rglob("*") if p.is_file()}
    del found["events.jsonl"]
    kept = {name: path.read_bytes() for name, path in found.items()}
    return kept | {"metrics.jsonl": tiny.metrics(Run(folder))}


def differing(one: dict, other: dict) -> list:
    """The names of entries that differ or are in only one."""
    return sorted(n for n in one.keys() | other.keys() if one.get(n) != other.get(n))


# -- in another process, with other threads, workers and environments -------------------------------

# At 64 x 64 pixels and these widths, minimal filtering has 64 tiles per image in D's second layer, 16
# in the third, 4 in the fourth. With 40 images, the threads share blocks of the second and the third
# layer, and the fourth is done at once. With 12, the third is done at once, and the fourth by columns.
SIZES = ["--image-size", "64", "--ngf", "16", "--ndf", "16", "--nz", "8", "--flip"]
PICTURES = 1030  # three chunks of the cache, for the workers to share

AROUND = (  # an even and an odd process
    {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "TZ": "UTC"},
    {"PYTHONHASHSEED": "7", "LC_ALL": "C", "TZ": "Asia/Tokyo"},
)


@pytest.fixture(scope="module")
def celeba(tmp_path_factory):
    """Small pictures in a folder like CelebA's, one with a name that is not ASCII, and in a zip."""
    root = tmp_path_factory.mktemp("celeba")
    data = {f"{i:06d}.jpg": factory.encoded(factory.image(i, (66, 80))) for i in range(PICTURES)}
    data["ü.jpg"] = data.pop("000003.jpg")
    factory.write_files(root / "folder" / "img_align_celeba", data)
    factory.write_zip(root / "a.zip", {f"img_align_celeba/{name}": data[name] for name in data})
    return root


# The first game is played in full; in later ones, what takes longer than the game is left out.
PLAY = """
import json, sys
from minigan.commands import main
from minigan.training import pictures, session
from minigan.training.estimate import Estimate
for words in json.load(sys.stdin):
    if main(words):
        sys.exit(1)
    session.estimate = lambda *plan: Estimate(1.0, 1.0)
    pictures.save_curves = lambda folder, metrics: None
"""


def fresh(
    folder: Path, games: list[list[str]], number: int, count: int, blas: int, workers: int
) -> list[dict[str, object]]:
    """The contents that the games leave. A new process plays them one after another in this folder.

    number   of the process: an even one gets its threads by an option, an odd one by the environment
    count    of threads
    blas     the number of threads that BLAS would use by itself
    workers  of the data
    """
    environment = {key: os.environ[key] for key in os.environ if not key.startswith("MINIGAN")}
    environment |= AROUND[number % 2] | {"OPENBLAS_NUM_THREADS": str(blas)}
    flags = ["--steps", "2", "--device", "cpu", "--workers", str(workers)]
    if number % 2:
        environment["MINIGAN_NUM_THREADS"] = str(count)
    else:
        flags += ["--threads", str(count)]
    places = [Path(f"{i:02d}") for i in range(len(games))]
    words = [[*g, *flags, "--out", str(out)] for g, out in zip(games, places, strict=True)]
    done = subprocess.run(
        [sys.executable, "-c", PLAY],
        cwd=folder,
        env=environment,
        umask=(0o022, 0o077)[number % 2],
        input=json.dumps(words),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return [played(folder / out) for out in places]


def played(out: Path) -> dict[str, object]:
    """The contents of the only run in `out` and of its cache, without what depends on its place."""
    (run,) = numbered_runs(out)
    found = contents(run) | {f"cache/{p.name}": p.read_bytes() for p in out.glob("cache/*")}
    config = json.loads(found["config.json"])
    del config["dataroot"]
    for name in ("threads", "workers", "out"):
        del config["run"][name]
    rows = tiny.events(Run(run))
    assert all(row.pop("time") for row in rows)
    return found | {"config.json": config, "events.jsonl": rows}


# A member, its data and its batch size.
SOME_GAMES = [("dcgan", "folder", 40), ("wgan-gp", "faces", 12)]
SOME_GAMES += product(walk.ON_POINTS, ("ring", "tiny"), (12,))
SOME_GAMES += [("cyclegan", "tiny", 4), ("progressive", "tiny", 12), ("stylegan", "tiny", 12)]
EVERY_GAME = list(product(walk.ON_POINTS, ("ring", "faces", "folder", "zip"), (12, 40)))
EVERY_GAME += [("cyclegan", "tiny", batch) for batch in (1, 4)]
EVERY_GAME += product(("progressive", "stylegan"), ("tiny", "faces", "folder", "zip"), (12,))


def command(member: str, data: str, batch: int, root: Path) -> list[str]:
    """The command line of a game, with its pictures below `root`."""
    words = ["train", member]
    if "d_steps" in MEMBERS[member].Options.names():
        words += ["--d-steps", "2"]
    if data == "ring":
        words += ["--data", "ring", "--ngf", "64", "--ndf", "64"]
    elif data == "tiny":
        words += ["--data", tiny.images(member), *tiny.without_noise(member, tiny.TINY)]
        words += tiny.flip(member)
    elif data == "faces":
        words += ["--data", "faces", *SIZES, "--max-images", "600" if DEEP else "24"]
    else:
        words += [*SIZES, "--dataroot", str(root / {"folder": "folder", "zip": "a.zip"}[data])]
    return [*words, "--batch-size", str(batch), "--checkpoint-every", "1", "--sample-every", "2"]


def test_another_process_gives_the_same_bytes(tmp_path, celeba, thread_counts):
    """For any number of threads and workers, hash seed, locale, time zone, folder and umask."""
    games = EVERY_GAME if DEEP else SOME_GAMES
    machines = list(product((1, 2, 3, 5), (0, 1, 2, 3))) if DEEP else [(1, 2), (5, 3)]
    counts = thread_counts(*(count for count, _ in machines))
    blas, expected = thread_counts(1, 3), None
    for i, (count, (_, workers)) in enumerate(zip(counts, machines, strict=True)):
        folder = tmp_path / str(i)
        folder.mkdir()
        # Every other process gets its pictures through a path in another place.
        root = Path(os.path.relpath(celeba, folder)) if i % 2 else celeba
        words = [command(*game, root) for game in games]
        found = fresh(folder, words, i, count, blas[i % 2], workers)
        expected = expected or found
        for game, one, another in zip(games, found, expected, strict=True):
            assert differing(one, another) == [], (game, count, workers)
    for (_, data, _), left in zip(games, expected, strict=True):
        cached = [name for name in left if name.startswith("cache/")]
        assert len(cached) == (0 if data == "ring" else 3)
        assert len([name for name in left if name.endswith(".safetensors")]) == 2


# -- interrupted and resumed ------------------------------------------------------------------------


class Crash(Exception):
    pass


PLACES = {"step": (Loop, "play"), "update": (Player, "descend")}  # of G or D; a step has several


@contextmanager
def stopped(place: str, how: str, at: int):
    """Make a signal or a crash hit the `at`-th step or update from now on."""
    owner, name = PLACES[place]
    go, calls = getattr(owner, name), iter(range(1, 1000))

    def gone(*arguments):
        if next(calls) == at:
            if how == "crash":
                raise Crash
            signal.raise_signal(getattr(signal, how))
        return go(*arguments)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # pytest may ignore it
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(owner, name, gone)
            # The estimate plays steps too, before the run.
            patch.setattr(session, "estimate", lambda *arguments: Estimate(1.0, 1.0))
            yield
    finally:
        signal.signal(signal.SIGINT, before)


Game = tuple[str, str, list]  # a member, its data, and its other flags
FACES: Game = ("dcgan", "faces", [])


def live(place: str, how: str, at: int, game: Game, run: list) -> None:
    """Resume or start the run, up to its end or the `at`-th step or update from now."""
    with stopped(place, how, at):
        try:
            code = tiny.go_on("runs", *game, run)
        except Crash:
            return
    assert code in (0, 128 + getattr(signal, how, 0))


def whole(game: Game, run: list, out: str = "runs") -> Run:
    """Resume or start the run, up to its end; return it."""
    assert tiny.go_on(out, *game, run) == 0
    return Run(numbered_runs(Path(out))[-1])


def flags(values: dict[str, st.SearchStrategy]) -> st.SearchStrategy[list]:
    """Flags and their values as words of a command line; True means a flag without a value."""
    return st.fixed_dictionaries(values).map(
        lambda chosen: [w for pair in chosen.items() if pair[1] for w in pair if w is not True]
    )


EVERY = {
    "--batch-size": st.integers(2, 7),
    "--ema": st.sampled_from(["0", "0.9"]),
}
NOISE = {"--noise": st.sampled_from(["normal", "uniform"])}
OWN = {
    "dcgan": {
        "--loss": st.sampled_from(["non-saturating", "minimax"]),
        "--reuse-fakes": st.booleans(),
    },
    "wgan-gp": {"--d-steps": st.integers(1, 3)},
    "cyclegan": {"--blocks": st.just(1), "--pool-size": st.integers(0, 9)},
    "progressive": {
        "--batch-size": st.sampled_from([2, 3, 4, 8]),
        "--phase-images": st.integers(1, 40),
    },
    "stylegan": {
        "--batch-size": st.sampled_from([2, 3, 4, 8]),
        "--r1-every": st.integers(1, 5),
        "--style": st.sampled_from(["adain", "modulate"]),
    },
}
DATA = {"faces": {"--nc": st.sampled_from([1, 3]), "--flip": st.booleans()}, "ring": {}}
DATA["digits"] = DATA["seasons"] = {"--nc": DATA["faces"]["--nc"]}
WHO = [(m, "ring" if kind == "points" else tiny.images(m)) for m, kind in walk.WALK]


def choices(member: str, data: str) -> dict[str, st.SearchStrategy]:
    """The flags that a game of this member on this data may have."""
    noise = {} if MEMBERS[member].translates else NOISE
    return EVERY | noise | OWN.get(member, {}) | DATA[data]


games = st.sampled_from(WHO).flatmap(
    lambda who: st.tuples(*map(st.just, who), flags(choices(*who)))
)
runs = flags(
    {
        "--log-every": st.integers(1, 7),
        "--sample-every": st.integers(1, 7),
        "--checkpoint-every": st.integers(1, 7),
        "--keep": st.integers(1, 4),
        "--steps": st.integers(1, 14),
        "--epochs": st.just(99),
    }
)
stops = st.lists(
    st.tuples(
        st.sampled_from(list(PLACES)),
        st.sampled_from(["SIGINT", "SIGTERM", "crash"]),
        st.integers(1, 24),
    ),
    max_size=6,
)


@contextmanager
def folder(curves: bool = False):
    """Work in an empty folder, in a hurry or with the curves."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as empty, pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "estimate", lambda *arguments: Estimate(1.0, 1.0))
        if not curves:
            tiny.hurry(patch)
        os.chdir(empty)
        try:
            yield
        finally:
            os.chdir(before)


def straight(game: Game, run: list, curves: bool = False) -> dict[str, object]:
    """The contents left by a run that nothing interrupts."""
    with folder(curves):
        return contents(whole(game, run).folder)


NO_CURVES = st.just(False)
OFTEN_ENOUGH = ["--steps", 9, "--sample-every", 4, "--checkpoint-every", 2, "--keep", 9]


@settings(max_examples=settings.default.max_examples * 2 // 3 if DEEP else 5)
@given(games, runs, stops, NO_CURVES)
@example(
    ("dcgan", "faces", ["--flip"]),
    OFTEN_ENOUGH,
    [("step", "SIGINT", 3), ("update", "crash", 4), ("step", "SIGTERM", 2), ("step", "crash", 1)],
    True,
)
@example(
    ("wgan-gp", "faces", ["--flip"]),  # six updates per step: within the second, third and fifth
    OFTEN_ENOUGH,
    [("update", "SIGINT", 9), ("update", "crash", 4), ("update", "crash", 15)],
    False,
)
@example(
    ("cyclegan", "seasons", ["--blocks", 1, "--pool-size", 3]),  # between G's update and the pools
    OFTEN_ENOUGH,
    [("update", "SIGINT", 8), ("update", "crash", 6), ("update", "crash", 5)],
    False,
)
@example(
    # Within the fade to 8 pixels, which steps 4 to 6 are, and between the updates of D and of G.
    ("progressive", "faces", ["--batch-size", 4, "--phase-images", 11]),
    OFTEN_ENOUGH,
    [("update", "SIGINT", 8), ("update", "crash", 5), ("update", "crash", 3)],
    False,
)
def test_whatever_interrupts_a_run_it_leaves_the_same_folder(game, run, stops, curves):
    expected = straight(game, run, curves)
    with folder(curves):
        for stop in stops:
            live(*stop, game, run)
        assert differing(contents(whole(game, run).folder), expected) == []


@settings(max_examples=settings.default.max_examples // 3 if DEEP else 3)
@given(games, runs, st.lists(st.integers(1, 14), min_size=1, max_size=4, unique=True), stops)
def test_a_run_prolonged_is_the_same_but_for_a_line_and_a_grid_at_each_end(game, run, ends, stops):
    """Each earlier end leaves a line of metrics and a grid, unless its step has them anyway."""
    *ends, last = sorted(ends)
    expected = straight(game, [*run, "--steps", last])
    each = straight(game, [*run, "--steps", last, "--log-every", 1, "--sample-every", 1])
    with folder():
        for end in [*ends, last]:
            for stop in stops:
                live(*stop, game, [*run, "--steps", end])
            prolonged = whole(game, [*run, "--steps", end])
        found = contents(prolonged.folder)
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
    flags = ["--steps", 40, "--checkpoint-every", 4, "--keep", 3]
    seen = []
    with folder():
        for at in (1, 2, 4, 2, 1):  # at steps 1, 3, 7, 9, 10
            live("step", "SIGINT", at, FACES, flags)
            seen.append(tiny.saved(Run(Path("runs") / tiny.FIRST)))
        live(
            "step", "SIGINT", 2, FACES, [*flags, "--checkpoint-every", 9]
        )  # 12, at other intervals
        seen.append(tiny.saved(Run(Path("runs") / tiny.FIRST)))
        seen.append(tiny.saved(whole(FACES, [*flags, "--steps", 14, "--keep", 9])))
    assert seen == [[1], [1, 3], [3, 4, 7], [4, 8, 9], [4, 8, 10], [8, 10, 12], [8, 12, 14]]


def test_what_a_kill_right_after_the_last_checkpoint_left_is_dropped_later(monkeypatch):
    flags = ["--steps", 6, "--checkpoint-every", 4]
    expected, drop = straight(FACES, flags), Loop._drop_old

    def crash_at_the_end(loop):
        if loop.draw.step == 6:
            raise Crash
        drop(loop)

    with folder():
        live("step", "SIGINT", 3, FACES, flags)
        with monkeypatch.context() as patch:
            patch.setattr(Loop, "_drop_old", crash_at_the_end)
            live("step", "crash", 9, FACES, flags)
        run = Run(Path("runs") / tiny.FIRST)
        assert tiny.saved(run) == [3, 4, 6]
        assert differing(contents(whole(FACES, flags).folder), expected) == []


# -- sixteen at once --------------------------------------------------------------------------------


def script(*words: str):
    """What tests/reproducible.py prints, run in this folder."""
    command = [sys.executable, str(SCRIPT), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@LINUX
def test_sixteen_that_start_at_once_train_sixteen_runs_with_one_cache():
    expected = straight(FACES, ["--steps", 2])
    with folder():
        codes = script("start")
        assert codes == [0] * 16, [Path(f"{i}.txt").read_text() for i in range(16)]
        runs = numbered_runs(Path("runs"))
        assert [run.name[:5] for run in runs] == [f"{i:05d}" for i in range(16)]
        for run in runs:
            assert differing(contents(run), expected) == []
        drawn = [int(line) for line in Path("loads").read_text().split()]
        assert drawn == list(range(20))  # by one process, once


@LINUX
def test_of_sixteen_that_resume_a_run_at_once_one_trains_and_the_others_are_told():
    expected = straight(FACES, ["--steps", 6])
    with folder():
        live("step", "SIGINT", 3, FACES, ["--steps", 6])
        codes = script("resume")
        assert sorted(codes) == [0] + [1] * 15
        run = Path("runs") / tiny.FIRST
        for i in range(16):
            if codes[i]:
                assert Path(f"{i}.txt").read_text() == (
                    f"error: {run} is in use by another process; "
                    "wait until it ends, or start a new run\n"
                )
        assert numbered_runs(Path("runs")) == [run]
        assert differing(contents(run), expected) == []


# -- other options ----------------------------------------------------------------------------------

# No run is started with these: the reason.
NEVER = {("wgan-gp", n): "a ring has no images" for n in ("norm", "network", "augment")}
for _name in ("pack", "minibatch_std", "minibatch_discrimination"):
    NEVER["wgan-gp", _name] = "no slope of its own for --penalty to penalise"
NEVER["dcgan", "condition"] = "member dcgan is told no classes"
# The other options that a run with this option needs.
NEEDS = {"noise_steps": ["--instance-noise", "0.1"], "sharpness": ["--combine", "softmax"]}
NEEDS["lr_decay_start"] = ["--lr-decay", "3"]
OFF = {"fresh_noise": "--reuse-fakes", "tf32": "--no-tf32"}
START = ["--steps", 6, "--checkpoint-every", 1, "--keep", 9]
# One member on images, and others on points; test_members.py and test_plan.py have the options of all.
DATA_OF = dict.fromkeys(walk.ON_POINTS, "ring") | {"dcgan": "celeba"}
SMALL = tiny.DATA | {"celeba": [*tiny.TINY, "--dataroot", "data"]}
FIXED = {
    member: MEMBERS[member].Options.names()
    + ([n for n in DataOptions.names() if n != "data"] if DATA_OF[member] == "celeba" else [])
    for member in walk.SOME
}
# The options that other members share with the first behave the same.
ALTERED = [("dcgan", name) for name in FIXED["dcgan"]]
ALTERED += [(m, n) for m in walk.SOME[1:] for n in FIXED[m] if DEEP or n not in FIXED["dcgan"]]


def words_of(name: str) -> list[str]:
    value = tiny.OTHERS[name]
    if isinstance(value, bool):
        return ["--" + name.replace("_", "-") if value else OFF[name]]
    return ["--" + name.replace("_", "-"), str(value)]


def begin(out: str, member: str, *flags) -> Run:
    data = DATA_OF[member]
    words = ["train", member, "--data", data, *SMALL[data], *START, "--out", out, *flags]
    assert main([str(word) for word in words]) == 0
    return Run(numbered_runs(Path(out))[-1])


@pytest.fixture(scope="module")
def stopped_runs(tmp_path_factory):
    """A folder with data/, a copy in moved/, and a run of each member that was stopped at step 3.

    Also the bytes of each checkpoint up to step 7, of a run that was not stopped.
    """
    root = tmp_path_factory.mktemp("stopped")
    saved = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        tiny.hurry(patch)
        factory.make(Path("data"), 20)
        Path("data/list_attr_celeba.txt").write_bytes(factory.attribute_list(20))
        shutil.copytree("data", "moved")
        for member in walk.SOME:
            whole = begin(f"whole-{member}", member, "--steps", 7)
            saved[member] = {path.name: path.read_bytes() for path in whole.checkpoints.iterdir()}
            shutil.rmtree(f"whole-{member}")
            with stopped("step", "SIGINT", 3), pytest.raises(AssertionError):
                begin(member, member)
        return root, saved


@pytest.fixture
def stopped_run(stopped_runs, tmp_path, monkeypatch):
    """A copy of a member's stopped run, in the working folder."""
    tiny.hurry(monkeypatch)
    monkeypatch.setattr(threads, "_threads", None)  # undoes the setting afterwards
    shutil.copytree(stopped_runs[0], tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return lambda member: Run(numbered_runs(Path(member))[-1])


def resume(run: Run, *flags) -> int:
    return main(["resume", str(run.folder), *map(str, flags)])


def test_no_option_is_forgotten_here():
    tables = [DataOptions, RunOptions, *(member.Options for member in MEMBERS.values())]
    names = {name for table in tables for name in table.names()}
    assert {*tiny.OTHERS, "data"} == names


@pytest.mark.parametrize(("member", "name"), ALTERED)
def test_an_option_that_the_weights_depend_on_is_refused_on_resuming(
    stopped_run, member, name, capsys
):
    run = stopped_run(member)
    before = contents(run.folder)
    with pytest.raises(UserError) as caught:
        resumed(run, {name: tiny.OTHERS[name]})
    told = f"{run.folder} was started with other options: --{name.replace('_', '-')} "
    assert str(caught.value).startswith(told)
    assert str(caught.value).count(" -> ") == 1
    assert differing(contents(run.folder), before) == []
    if reason := NEVER.get((member, name)):
        with pytest.raises((AssertionError, SystemExit)):
            begin("altered", member, *words_of(name))
        assert reason in capsys.readouterr().err
        return
    needs = NEEDS.get(name, [])
    plain = begin("plain", member, *needs, "--steps", 3) if needs else run
    altered = begin("altered", member, *needs, *words_of(name), "--steps", 3)
    assert tiny.newest(altered)[0] != tiny.newest(plain)[0]


@pytest.mark.parametrize(("member", "name"), list(product(walk.SOME, RunOptions.names())))
def test_an_option_that_no_weight_depends_on_may_change_on_resuming(
    stopped_run, stopped_runs, member, name
):
    run, expected = stopped_run(member), stopped_runs[1][member]
    assert resume(run, *words_of(name)) == 0
    assert run.config["run"][name] == tiny.OTHERS[name]
    newest = checkpoint.newest_first(run.checkpoints)[0]
    assert checkpoint.step_of(newest) == (7 if name == "steps" else 6)
    assert newest.read_bytes() == expected[newest.name]


def test_the_same_data_may_lie_elsewhere_on_resuming(stopped_run, stopped_runs):
    run = stopped_run("dcgan")
    assert resume(run, "--dataroot", "moved") == 0
    newest = checkpoint.newest_first(run.checkpoints)[0]
    assert newest.read_bytes() == stopped_runs[1]["dcgan"][newest.name]
    assert run.config["dataroot"] == "moved"


def test_all_options_that_differ_are_listed(stopped_run, capsys):
    run = stopped_run("dcgan")
    names = [*FIXED["dcgan"], *RunOptions.names()]
    flags = [word for name in names for word in words_of(name)]
    assert tiny.train_celeba.main(["--resume", str(run.folder), *flags]) == 1
    told = capsys.readouterr().err
    listed = told.removeprefix(f"error: {run.folder} was started with other options: ")
    assert sorted(part.split()[0][2:] for part in listed.split(", ")) == sorted(
        name.replace("_", "-") for name in FIXED["dcgan"]
    )


def test_other_images_are_refused(stopped_run, capsys):
    run = stopped_run("dcgan")
    (Path("moved") / "000001.jpg").write_bytes(factory.jpeg(99))
    before = contents(run.folder)
    assert resume(run, "--dataroot", "moved") == 1
    told = f"error: these 20 samples are not the 20 with which {run.folder} was started; give their"
    assert capsys.readouterr().err.startswith(told)
    assert differing(contents(run.folder), before) == []


# -- many steps -------------------------------------------------------------------------------------


@LINUX
@pytest.mark.parametrize("kind", ["images", "points"])
def test_a_long_run_grows_by_nothing_and_needs_no_garbage_collector(kind):
    """A leak at each step would show: a tensor is one object, an image's activations are 16 kB."""
    with folder():
        grown = script(kind, *(walk.ON_POINTS if kind == "points" else walk.SOME))
    for member, found in grown.items():
        assert len({(each["files"], each["threads"]) for each in found}) == 1, member
        # A leak at each step shows between the first two looks and between the last two. An object made
        # once, such as for the first printing of a line, shows in at most one of them.
        steps = found[1]["step"] - found[0]["step"]
        memory, objects = (
            min(b[what] - a[what] for a, b in pairwise(found)) for what in ("memory", "objects")
        )
        assert memory < steps / 64, member
        assert objects < 0.9 * steps, member
