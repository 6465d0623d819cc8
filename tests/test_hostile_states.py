"""Checkpoints with a correct checksum, which anyone can compute, and wrong contents.

Each is refused in one sentence, by the programs that draw samples and by a resumed run, which then uses
the previous checkpoint. A refused checkpoint changes nothing.
"""

import copy
import json
import shutil
from pathlib import Path

import hostile
import numpy as np
import pytest
import tiny
from hostile import fuzz, sentence
from hypothesis import given
from hypothesis import strategies as st

from minigan import init
from minigan.commands import main
from minigan.training import checkpoint, session, state
from minigan.training.checkpoint import CheckpointError
from minigan.training.loop import Loop
from minigan.training.parallel import ALONE
from minigan.training.plan import Plan
from minigan.training.run import Run


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A run with checkpoints at the steps 2 and 4."""
    with pytest.MonkeyPatch.context() as patch:
        tiny.hurry(patch)
        folder = tmp_path_factory.mktemp("base")
        run = tiny.train(folder / "out", "--steps", 4, "--checkpoint-every", 2, "--flip")
    return run


@pytest.fixture(scope="module")
def original(base):
    """The arrays and the table of its newest checkpoint."""
    return checkpoint.read_file(checkpoint.path_of(base.checkpoints, 4))


@pytest.fixture(scope="module")
def loop(base, original, tmp_path_factory):
    """A run in its own folder, whose checkpoints the tests write. It also holds the original, because a
    failing test prints its arguments, and arrays are long."""
    run = Run(shutil.copytree(base.folder, tmp_path_factory.mktemp("copy") / "run"))
    plan = Plan.read(run.config, "config.json")
    plan, data = session.open_for(plan, ALONE, print, progress=False)
    member, draw = session.build(plan, data, "cpu")
    loop = Loop(plan, member, data, draw, run, [].append, ALONE)
    loop.original = original
    return loop


def offer(loop, arrays, table):
    """Make the run load a checkpoint of these arrays and this table, the only one there is."""
    for path in checkpoint.newest_first(loop.run.checkpoints):
        path.unlink()
    path = checkpoint.path_of(loop.run.checkpoints, 4)
    path.write_bytes(hostile.signed(json.dumps(table), arrays))
    loop.load_newest()


def held(loop):
    """Everything that loading may change."""
    return {
        path: leaf if isinstance(leaf, int) else np.asarray(leaf).tobytes()
        for path, leaf in state.leaves(loop.tree)
    }


def refused(loop, arrays, table):
    """The sentence that refuses these, with the run unchanged; None if they are loaded."""
    before = held(loop)
    try:
        offer(loop, arrays, table)
    except CheckpointError as error:
        said = sentence(error)
        assert held(loop) == before
        assert "4.safetensors" in said
        return said
    return None


def changed(table, path, value):
    """A copy with this value in this place; `...` removes the place."""
    table = copy.deepcopy(table)
    *way, last = path
    inner = table
    for key in way:
        inner = inner[key]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return table


# -- the table ----------------------------------------------------------------------------------------


def test_what_is_whole_is_taken(loop, original):
    arrays, table = original
    assert refused(loop, arrays, table) is None
    assert loop.draw.counts == {"step": 4, "batches": 4, "again": 0}
    assert loop.member.players["D"].optimizer.state[0]["step"] == 4
    leaves = held(loop)
    assert {name: a.tobytes() for name, a in arrays.items()}.items() <= leaves.items()


BAD = ["x", -1, 1.0, True, None, [], {}, 10**13, 10**400, float("nan"), ...]
COUNTERS = ("draw.step", "draw.batches", "draw.again", "players.G.optimizer.0.step")
WRONG = [
    *((("numbers", name), value) for name in COUNTERS for value in BAD),
    *((("numbers", name), 4) for name in
      ("x", "", "draw", "players.G.optimizer.99.step", "players.G.optimizer.00.step", "draw.\x1b[2J")),
    *((("numbers",), value) for value in ("x", None, [], {}, ...)),
    (("numbers", "draw.step"), 3),  # not the step in the name
    *((("game",), value) for value in ("x", None, [], {}, ...)),
    *((("game", "member"), value) for value in ("x", "wgan-gp", None, [], {}, ...)),
    *((("game", part), value) for part in ("options", "data") for value in ("x", None, [], {}, ...)),
    *((("game", "options", name), value)
      for name in ("nz", "ngf", "batch_size") for value in (*BAD, 0, 10**12)),
    *((("game", "data", "image_size"), value) for value in (*BAD, 0, 10**12)),
    *((("game", "options", "noise"), value) for value in ("pink", "", "\x1b[2J", 1, None)),
    (("game", "options", "more"), 1),
]  # fmt: skip


@pytest.mark.parametrize(("place", "value"), WRONG, ids=lambda part: str(part)[:40])
def test_a_wrong_part_of_the_table_is_named(loop, original, place, value):
    arrays, table = original
    said = refused(loop, arrays, changed(table, place, value))
    assert said is not None
    if place == ("game",):
        assert "member" in said
    elif (place, value) in ((("game", "member"), "wgan-gp"), (("game", "data"), {})):
        assert "unknown options ['fresh_noise', 'loss'" in said or "--max-images None -> 20" in said
    elif place[-1]:  # except for the empty name
        name = place[-1].replace("\x1b", r"\x1b")
        words = (
            name,
            name.replace("_", "-"),
            "its numbers are",
            "its step is",
            "draw.step is missing",
        )
        assert any(word in said for word in words)


numbers = st.sampled_from([-1, 0, 1, 2, 3, 4, 5, 8, 16, 20, 100, 2**31, 2**63, 10**30, 10**400])
values = st.one_of(hostile.anything, numbers, st.just(...))


def places(value, path=()):
    """The paths of all parts of a table."""
    for key, inner in value.items():
        yield (*path, key)
        if isinstance(inner, dict):
            yield from places(inner, (*path, key))


@fuzz
@given(st.lists(st.tuples(st.integers(0, 1000), values), min_size=1, max_size=2))
def test_any_part_of_the_table(loop, changes):
    arrays, table = loop.original
    for which, value in changes:
        parts = [*places(table)]
        table = changed(table, parts[which % len(parts)], value)
    if refused(loop, arrays, table) is None:
        assert table["numbers"].items() <= held(loop).items()
        assert loop.draw.reals().shape == (4, 3, 16, 16)
        loop.draw.noise()
    loop.draw.counts["again"] = 0  # a count, which never decreases by itself


# -- the arrays ---------------------------------------------------------------------------------------

NAME = "players.G.net.main.0.weight"
MOMENTS = "players.D.optimizer.0"


def renamed(old, new):
    return lambda arrays: {new if key == old else key: a for key, a in arrays.items()}


def with_array(name, make):
    return lambda arrays: {**arrays, name: make(arrays.get(name))}


def without(*ends):
    return lambda arrays: {key: a for key, a in arrays.items() if not key.endswith(ends)}


def spoiled(array):
    return np.where(np.arange(array.size).reshape(array.shape) == 3, np.nan, array).astype("f")


ARRAYS = {
    "a weight less": (without(NAME), f"{NAME} is missing, expected float32"),
    "a buffer less": (without("D.net.main.3.running_mean"), "D.net.main.3.running_mean is missing"),
    "an average less": (without("G.average.main.0.weight"), "average.main.0.weight is missing"),
    "no average": (lambda arrays: {k: a for k, a in arrays.items() if ".average." not in k},
                   "average.main.0.weight is missing"),
    "a moment less": (without("G.optimizer.0.exp_avg"), "G.optimizer.0.exp_avg is missing"),
    "no first moments": (without("exp_avg"), "exp_avg is missing, expected float32"),
    "no optimisers": (without("exp_avg", "exp_avg_sq"), "optimizer.0.exp_avg is missing"),
    "nothing": (lambda arrays: {}, "weight is missing|cannot be read"),
    "another name": (renamed(NAME, f"{NAME}s"), f"{NAME} is missing"),
    "a name of control codes": (with_array("\x1b[2J", lambda a: np.ones(2, "f")),
                                r"\\x1b\[2J is float32 \(2,\), expected missing"),
    "a name like a network": (with_array("players.G", lambda a: np.ones(2, "f")), "players.G is"),
    "a network more": (with_array("players.E.net.w", lambda a: np.ones(2, "f")), "players.E.net.w"),
    "a parameter more": (with_array(f"{MOMENTS}9.exp_avg", lambda a: np.ones(2, "f")), "optimizer.09"),
    "a moment more": (with_array(f"{MOMENTS}.momentum", lambda a: np.ones(2, "f")), "0.momentum is"),
    "a counter that is an array": (with_array("draw.step", lambda a: np.ones(1, "i8")), "draw.step"),
    "a shape": (with_array(NAME, lambda a: a.reshape(4, 16, 4, 4)), r"expected float32 \(8, 8, 4, 4\)"),
    "a shape that would spread": (with_array(NAME, lambda a: a[:1]), r"float32 \(1, 8, 4, 4\)"),
    "no shape": (with_array(NAME, lambda a: np.array(0, "f")), r"is float32 \(\), expected"),
    "a moment's shape": (with_array(f"{MOMENTS}.exp_avg", lambda a: a[0]), r"float32 \(3, 4, 4\)"),
    "float64": (with_array(NAME, lambda a: a.astype("d")), "is float64"),
    "int32": (with_array(NAME, lambda a: a.astype("i4")), "is int32"),
    "float16": (with_array(NAME, lambda a: a.astype("e")), "is float16"),
    "a counter of floats": (
        with_array("players.G.net.main.1.num_batches_tracked", lambda a: a.astype("f")), "is float32",
    ),
    "a weight that is not finite": (with_array(NAME, spoiled), f"{NAME} holds values that are not"),
    "an average that is not finite": (
        with_array(NAME.replace("net", "average"), spoiled), "average.main.0.weight holds values",
    ),
    "a moment that is not finite": (with_array(f"{MOMENTS}.exp_avg_sq", spoiled), "holds values"),
    "a negative mean of squares": (
        with_array(f"{MOMENTS}.exp_avg_sq", lambda a: a - 1), "exp_avg_sq holds negative values",
    ),
    "a negative variance": (
        with_array("players.D.net.main.3.running_var", lambda a: -a), "running_var holds negative",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_that_do_not_fit_are_named(loop, original, name):
    change, words = ARRAYS[name]
    arrays, table = original
    before = held(loop)
    with pytest.raises(CheckpointError, match=words) as caught:
        offer(loop, change(arrays), table)
    sentence(caught.value)
    assert held(loop) == before


@fuzz
@given(st.data())
def test_any_of_the_arrays(loop, data):
    """A checkpoint is refused unless it has exactly the live tree's arrays, with their form."""
    arrays, table = loop.original
    key = data.draw(st.sampled_from(sorted(arrays)))
    array = arrays[key]
    made = dict(arrays)
    what = data.draw(st.sampled_from(["drop", "rename", "add", "reshape", "retype", "swap"]))
    if what in ("drop", "rename"):
        del made[key]
    if what in ("rename", "add"):
        parts = st.sampled_from(
            [*key.split("."), "players", "G", "D", "net", "0", "exp_avg", "x", ""]
        )
        made[".".join(data.draw(st.lists(parts, min_size=1, max_size=6)))] = array
    if what == "reshape":
        shape = data.draw(st.permutations([*array.shape, 1]))
        made[key] = array.reshape(shape)
    if what == "retype":
        made[key] = array.astype(data.draw(st.sampled_from(["f2", "f4", "f8", "i8", "u1", "?"])))
    if what == "swap":
        other = data.draw(st.sampled_from(sorted(arrays)))
        made[key], made[other] = made[other], made[key]
    form = lambda arrays: {key: (array.shape, array.dtype) for key, array in arrays.items()}
    said = refused(loop, made, table)
    squares = [a for key, a in made.items() if key.endswith(state.SQUARES)]
    fits = form(made) == form(arrays) and not any((a < 0).any() for a in squares)
    assert (said is None) == fits
    if said is None:
        assert {key: a.tobytes() for key, a in made.items()}.items() <= held(loop).items()


# -- from end to end ----------------------------------------------------------------------------------

FAULTS = {
    "numbers": lambda a, t: (a, changed(t, ("numbers", "draw.batches"), "x")),
    "step": lambda a, t: (a, changed(t, ("numbers", "draw.step"), 3)),
    "options": lambda a, t: (a, changed(t, ("game", "options", "nz"), 10**12)),
    "arrays": lambda a, t: (renamed(NAME, "players.G.x")(a), t),
    "values": lambda a, t: (with_array(NAME, spoiled)(a), t),
}


@pytest.fixture
def run(base, tmp_path, monkeypatch):
    """A copy of the run, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    tiny.hurry(monkeypatch)
    return Run(shutil.copytree(base.folder, Path("run")))


def spoil(run, original, fault):
    path = checkpoint.path_of(run.checkpoints, 4)
    arrays, table = FAULTS[fault](*original)
    path.write_bytes(hostile.signed(json.dumps(table), arrays))
    return path


@pytest.mark.parametrize("fault", FAULTS)
def test_a_run_takes_the_one_before_says_so_and_ends_alike(run, base, original, capsys, fault):
    path = spoil(run, original, fault)
    assert tiny.train_celeba.main(["--resume", "run", "--out", str(base.folder.parent)]) == 0
    skipped = [s for s in capsys.readouterr().out.splitlines() if s.startswith("skipped: ")]
    assert [str(path) in s for s in skipped] == [True]
    (resume,) = [e for e in tiny.events(run) if e["event"] == "resume"]
    assert (resume["step"], ["skipped: " + s for s in resume["skipped"]]) == (2, skipped)
    arrays, table = checkpoint.read_file(path)
    assert table == original[1]
    assert {k: a.tobytes() for k, a in arrays.items()} == {
        k: a.tobytes() for k, a in original[0].items()
    }


@pytest.mark.parametrize("fault", FAULTS)
def test_generate_takes_the_one_before_and_says_so(run, original, capsys, fault):
    older = checkpoint.path_of(run.checkpoints, 2)
    assert tiny.generate.main(["--run", str(older), "--n", "2", "--out", "older"]) == 0
    path = spoil(run, original, fault)
    capsys.readouterr()
    assert tiny.generate.main(["--run", "run", "--n", "2", "--out", "out"]) == 0
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"skipped: {path}")
    for name in ("grid.png", "interpolation.png"):
        assert Path("out", name).read_bytes() == Path("older", name).read_bytes()


@pytest.mark.parametrize("fault", FAULTS)
def test_sampling_from_the_file_itself_is_one_sentence(run, original, capsys, fault):
    path = spoil(run, original, fault)
    for words in (["sample", str(path), "--out", "out"],):
        assert main(words) == 1
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert err.startswith(f"error: {path}")
        sentence(err.rstrip("\n"))
    assert not Path("out").exists()


# -- sizes --------------------------------------------------------------------------------------------

LIES = [
    {"nz": 10_000},
    {"ngf": 1024},
    {"ngf": 3},
    {"ndf": 1024},
    {"image_size": 256},
    {"nz": 10_000, "ngf": 1024, "ndf": 1024, "image_size": 256},  # of 112 GB
]


@pytest.fixture
def no_network_is_built(monkeypatch):
    """No layer may get memory, as they do whose shapes alone are counted."""
    memory = init.memory

    def outlined(shape, dtype):
        array = memory(shape, dtype)
        assert not any(array.strides), "a network is built"
        return array

    monkeypatch.setattr(init, "memory", outlined)


def lied(table, lie):
    for name, value in lie.items():
        part = "data" if name == "image_size" else "options"
        table = changed(table, (part, name), value)
    return table


@pytest.mark.parametrize("lie", LIES, ids=str)
def test_a_checkpoint_that_lies_about_sizes_builds_no_network(
    run, original, no_network_is_built, capsys, lie
):
    arrays, table = original
    path = checkpoint.path_of(run.checkpoints, 4)
    table = {**table, "game": lied(table["game"], lie)}
    path.write_bytes(hostile.signed(json.dumps(table), arrays))
    assert main(["sample", str(path), "--out", "out"]) == 1
    told = sentence(capsys.readouterr().err.rstrip("\n"))
    assert "does not fit: players." in told
    assert ", expected float32 (" in told


@pytest.mark.parametrize("signed_too", [False, True])
@pytest.mark.parametrize("lie", LIES, ids=str)
def test_a_config_json_that_lies_about_sizes_builds_no_network(
    run, base, original, no_network_is_built, monkeypatch, capsys, lie, signed_too
):
    """Alone, or with a checkpoint that tells the same lie. No data of that size are made either."""
    monkeypatch.setattr(session, "open_data", lambda *options: pytest.fail("data are opened"))
    (run.folder / "config.json").write_text(json.dumps(lied(run.config, lie)))
    arrays, table = original
    if signed_too:
        table = {**table, "game": lied(table["game"], lie)}
        path = checkpoint.path_of(run.checkpoints, 4)
        path.write_bytes(hostile.signed(json.dumps(table), arrays))
    assert main(["resume", "run", "--out", str(base.folder.parent), "--steps", "9"]) == 1
    told = sentence(capsys.readouterr().err.rstrip("\n"))
    assert told.startswith("error: run has no checkpoint to resume from; ")
    words = (
        "4.safetensors does not fit: players." if signed_too else "written with other options: --"
    )
    assert words in told
