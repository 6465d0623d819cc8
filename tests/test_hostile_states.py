"""Checkpoints with a checksum that fits and a state or arrays that do not: anyone can sign one.

Each is one sentence, in a training that goes on (which takes the one before) and in generate.py; and
whatever is refused has changed nothing.
"""

import copy
import json
import shutil
from functools import reduce

import hostile
import numpy as np
import pytest
import tiny
from hostile import fuzz, sentence
from hypothesis import given
from hypothesis import strategies as st
from minigan.training.config import Config

from minigan.errors import UserError
from minigan.training import checkpoint, pictures
from minigan.training.checkpoint import CheckpointError
from minigan.training.loop import Trainer, open_images
from minigan.training.run import Run


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A run with checkpoints at the steps 2 and 4."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "save_curves", lambda folder, metrics: None)
        folder = tmp_path_factory.mktemp("base")
        run = tiny.train(folder / "out", "--steps", 4, "--checkpoint-every", 2, "--flip")
    return run


@pytest.fixture(scope="module")
def original(base):
    """The arrays and the state of its newest checkpoint."""
    return checkpoint.read(checkpoint.path_of(base.checkpoints, 4))


@pytest.fixture(scope="module")
def trainer(base, original, tmp_path_factory):
    """One in a folder of its own, whose checkpoints the tests write. It holds the original too: a
    test that fails prints its arguments, and arrays are long."""
    run = Run(shutil.copytree(base.folder, tmp_path_factory.mktemp("copy") / "run"))
    config = Config(**run.config["options"])
    said = []
    trainer = Trainer(config, open_images(config, progress=False), run, said.append)
    trainer.original = original
    return trainer


def offer(trainer, arrays, state):
    """Let it load the only checkpoint there is, of these."""
    for path in checkpoint.newest_first(trainer.run.checkpoints):
        path.unlink()
    path = checkpoint.path_of(trainer.run.checkpoints, 4)
    path.write_bytes(hostile.signed(json.dumps(state), arrays))
    trainer.load_newest()


def held(trainer):
    """All that loading may change."""
    networks = {f"{n}.{key}": value.numpy().tobytes() for n, network in trainer.networks.items()
                for key, value in network.state_dict().items()}  # fmt: skip
    moments = {
        f"{name}.{i}.{key}": value if key == "step" else np.asarray(value).tobytes()
        for name, optimizer in trainer.optimizers.items()
        for i, entries in enumerate(optimizer.state)
        for key, value in entries.items()
    }
    streams = trainer.loader.state_dict(), trainer.noise.bit_generator.state
    return networks, moments, streams, trainer.step, trainer.rollbacks


def refused(trainer, arrays, state):
    """The sentence with which it refuses these, and holds what it held; or None."""
    before = held(trainer)
    try:
        offer(trainer, arrays, state)
    except CheckpointError as error:
        said = sentence(error)
        assert held(trainer) == before
        assert "4.safetensors" in said
        return said
    return None


def at(value, path):
    return reduce(lambda inner, key: inner[key], path, value)


def changed(state, path, value):
    """A copy with that in this place; `...` takes the place away."""
    state = copy.deepcopy(state)
    *way, last = path
    if value is ...:
        del at(state, way)[last]
    else:
        at(state, way)[last] = value
    return state


def places(value, path=()):
    """The paths of all parts of a state, of counters and of the options those that are used."""
    for key, inner in value.items():
        if path in (("optimizer_steps", "opt_G"), ("optimizer_steps", "opt_D")) and key != "0":
            continue
        if path == ("options",) and key not in checkpoint.STATE["options"]:
            continue
        yield (*path, key)
        if isinstance(inner, dict):
            yield from places(inner, (*path, key))


# -- the state ----------------------------------------------------------------------------------------


def test_what_is_whole_is_taken(trainer, original):
    arrays, state = original
    assert refused(trainer, arrays, state) is None
    assert trainer.step == 4
    assert trainer.loader.state_dict() == state["loader"]
    assert trainer.noise.bit_generator.state == state["noise"]
    assert trainer.optimizers["opt_D"].state[0]["step"] == 4


BAD = ["x", -1, 1.0, True, None, [], {}, 10**8, 10**400, float("nan"), ...]
STREAM = hostile.STREAM
WRONG = [
    *(((name,), value) for name in ("step", "rollbacks") for value in BAD),
    *((("loader", name), value)
      for name in ("images", "batch_size", "epoch", "position") for value in BAD),
    *((place, value)
      for place in (("noise",), ("loader", "rng"), ("loader", "flip_rng"))
      for value in ("x", 1, [], {}, ..., {**STREAM, "bit_generator": "MT19937"},
                    {**STREAM, "state": {}}, {**STREAM, "state": {"state": 2**128, "inc": 1}},
                    {**STREAM, "state": {"state": -1, "inc": 1}}, {**STREAM, "uinteger": 2**32},
                    {**STREAM, "has_uint32": "x"}, {**STREAM, "has_uint32": 0.5},
                    {**STREAM, "state": {"state": 1.5, "inc": 1}}, {"bit_generator": "PCG64"})),
    (("noise",), None),
    *((("loader",), value) for value in ("x", None, [], {}, ...)),
    *((("options",), value) for value in ("x", None, [], {}, ...)),
    *((("options", name), value)
      for name in ("nz", "ngf", "nc", "image_size") for value in (*BAD, 0, 10**12)),
    *((("options", "noise"), value) for value in ("pink", "", "\x1b[2J", 1, None, ...)),
    *((("optimizer_steps",), value) for value in ("x", None, [], {"opt_G": []}, ...)),
    *((("optimizer_steps", "opt_G", "0"), value) for value in BAD),
    *((("optimizer_steps", "opt_G", name), 4) for name in ("x", "", "-1", "00", "7", "9" * 30, "²")),
    (("step",), 3),  # one batch a step: this does not fit the position in the data
    (("step",), 5),
    (("loader", "position"), 6),  # of five batches
    (("loader", "batch_size"), 0),
    (("loader", "images"), 0),
]  # fmt: skip


@pytest.mark.parametrize(("place", "value"), WRONG, ids=lambda part: str(part)[:40])
def test_a_wrong_part_of_the_state_is_named(trainer, original, place, value):
    arrays, state = original
    said = refused(trainer, arrays, changed(state, place, value))
    assert said is not None
    if "optimizer_steps" not in place:  # there it may be the array that belongs to it
        assert "its state is not that of a training run" in said
        assert place[0] in said


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("loader", "images"), 21, "the saved order has images = 21, this run 20"),
        (("loader", "batch_size"), 3, "the saved order has batch_size = 3, this run 4"),
        (("loader", "flip_rng"), None, "must both flip pictures or both not"),
    ],
)
def test_another_order_of_the_data_is_the_users_to_mend(trainer, original, place, value, words):
    arrays, state = original
    with pytest.raises(UserError, match=words):
        offer(trainer, arrays, changed(state, place, value))


def test_a_step_that_no_name_can_hold_is_wrong_even_if_all_agrees(trainer, original):
    """What a training does with its steps, such as to list those that were saved, has a bound."""
    arrays, state = original
    epoch = 10**15
    state = changed(state, ("loader", "epoch"), epoch)
    said = refused(trainer, arrays, changed(state, ("step",), 5 * epoch + 4))
    assert "step is wrong" in said


streams = st.fixed_dictionaries(
    {},
    optional={
        "bit_generator": st.sampled_from(["PCG64", "PCG64DXSM", "MT19937", "Philox"])
        | hostile.anything,
        "state": st.dictionaries(
            st.sampled_from(["state", "inc", "key", "pos"]),
            st.integers(-1, 2**128) | hostile.anything,
        )
        | hostile.anything,
        "has_uint32": st.integers(-1, 2) | hostile.anything,
        "uinteger": st.integers(-1, 2**32) | hostile.anything,
    },
)
numbers = st.sampled_from([-1, 0, 1, 2, 3, 4, 5, 8, 16, 20, 100, 2**31, 2**63, 10**30, 10**400])
values = st.one_of(hostile.anything, numbers, streams, st.just(...))


@fuzz
@given(st.lists(st.tuples(st.integers(0, 1000), values), min_size=1, max_size=2))
def test_any_part_of_the_state(trainer, changes):
    arrays, state = trainer.original
    for which, value in changes:
        parts = [*places(state)]
        state = changed(state, parts[which % len(parts)], value)
    try:
        said = refused(trainer, arrays, state)
    except UserError:
        order = ("images", "batch_size", "flip_rng")
        loader = trainer.original[1]["loader"]
        assert any(state["loader"][k] != loader[k] for k in order)
        return
    if said is None:
        assert (trainer.step, trainer.rollbacks) == (state["step"], state["rollbacks"])
        assert trainer.loader.state_dict() == state["loader"]
        assert trainer.noise.bit_generator.state == state["noise"]
        trainer.loader.next_batch()
        trainer.noise.standard_normal()
    trainer.rollbacks = 0  # which never goes down by itself


# -- the arrays ---------------------------------------------------------------------------------------

NAME = "G.main.0.weight"


def renamed(old, new):
    return lambda arrays: {new if key == old else key: a for key, a in arrays.items()}


def with_array(name, make):
    return lambda arrays: {**arrays, name: make(arrays.get(name))}


def without(*ends):
    return lambda arrays: {key: a for key, a in arrays.items() if not key.endswith(ends)}


def spoiled(array):
    return np.where(np.arange(array.size).reshape(array.shape) == 3, np.nan, array).astype("f")


ARRAYS = {
    "a weight less": (without(NAME), f"{NAME} is nothing, not float32"),
    "a buffer less": (without("D.main.3.running_mean"), "D.main.3.running_mean is nothing"),
    "a moment less": (without("opt_G.0.exp_avg"), "opt_G.0.exp_avg is nothing"),
    "no first moments": (without("exp_avg"), "exp_avg is nothing, not float32"),
    "no optimisers": (without("exp_avg", "exp_avg_sq"), "opt_D.0.exp_avg is nothing"),
    "nothing": (lambda arrays: {}, "D.main.0.weight is nothing|cannot be read"),
    "another name": (renamed(NAME, "G.main.0.height"), "G.main.0.height is float32"),
    "a name of control codes": (renamed(NAME, "G.\x1b[2J"), r"G.\\x1b\[2J is float32"),
    "a name like a network": (with_array("G", lambda a: np.ones(2, "f")), "its G is float32"),
    "a parameter more": (with_array("opt_G.99.exp_avg", lambda a: np.ones(2, "f")), "opt_G.99"),
    "no parameter": (with_array("opt_G.x.exp_avg", lambda a: np.ones(2, "f")), "opt_G.x"),
    "a moment more": (with_array("opt_G.0.momentum", lambda a: np.ones(2, "f")), "0.momentum is"),
    "a shape": (with_array(NAME, lambda a: a.reshape(4, 16, 4, 4)), r"not float32 \(8, 8, 4, 4\)"),
    "a shape that would spread": (with_array(NAME, lambda a: a[:1]), r"float32 \(1, 8, 4, 4\)"),
    "no shape": (with_array(NAME, lambda a: np.array(0, "f")), r"is float32 \(\), not"),
    "a moment's shape": (with_array("opt_G.0.exp_avg", lambda a: a[0]), r"is float32 \(8, 4, 4\)"),
    "float64": (with_array(NAME, lambda a: a.astype("d")), "is float64"),
    "int32": (with_array(NAME, lambda a: a.astype("i4")), "is int32"),
    "float16": (with_array(NAME, lambda a: a.astype("e")), "is float16"),
    "a counter of floats": (
        with_array("G.main.1.num_batches_tracked", lambda a: a.astype("f")), "is float32",
    ),
    "a weight that is not finite": (with_array(NAME, spoiled), f"{NAME} holds values that are not"),
    "a moment that is not finite": (with_array("opt_D.0.exp_avg_sq", spoiled), "holds values"),
    "a negative mean of squares": (
        with_array("opt_D.0.exp_avg_sq", lambda a: a - 1), "opt_D.0.exp_avg_sq holds negative values",
    ),
    "a negative variance": (
        with_array("D.main.3.running_var", lambda a: -a), "running_var holds negative values",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_that_do_not_fit_are_named(trainer, original, name):
    change, words = ARRAYS[name]
    arrays, state = original
    before = held(trainer)
    with pytest.raises(CheckpointError, match=words) as caught:
        offer(trainer, change(arrays), state)
    sentence(caught.value)
    assert held(trainer) == before


@fuzz
@given(st.data())
def test_any_of_the_arrays(trainer, data):
    """Each network's and each optimiser's arrays are all there, in the form that is needed, or else."""
    arrays, state = trainer.original
    key = data.draw(st.sampled_from(sorted(arrays)))
    array = arrays[key]
    made = dict(arrays)
    what = data.draw(st.sampled_from(["drop", "rename", "add", "reshape", "retype", "swap"]))
    if what in ("drop", "rename"):
        del made[key]
    if what in ("rename", "add"):
        parts = st.sampled_from([*key.split("."), "G", "D", "opt_G", "0", "7", "exp_avg", "x", ""])
        made[".".join(data.draw(st.lists(parts, min_size=1, max_size=4)))] = array
    if what == "reshape":
        shape = data.draw(st.permutations([*array.shape, 1]))
        made[key] = array.reshape(shape)
    if what == "retype":
        made[key] = array.astype(data.draw(st.sampled_from(["f2", "f4", "f8", "i8", "u1", "?"])))
    if what == "swap":
        other = data.draw(st.sampled_from(sorted(arrays)))
        made[key], made[other] = made[other], made[key]
    form = lambda arrays: {
        key: (array.shape, array.dtype)
        for key, array in arrays.items()
        if key.partition(".")[0] in ("G", "D", "opt_G", "opt_D")
    }
    said = refused(trainer, made, state)
    squares = [a for key, a in made.items() if key.endswith(("exp_avg_sq", "running_var"))]
    fits = form(made) == form(arrays) and not any((a < 0).any() for a in squares)
    assert (said is None) == fits
    if said is None:
        found = held(trainer)
        assert found[0] == {key: made[key].tobytes() for key in found[0]}


# -- from end to end ----------------------------------------------------------------------------------

FAULTS = {
    "state": (lambda a, s: (a, changed(s, ("loader", "rng"), "x")), "loader.rng is wrong"),
    "step": (lambda a, s: (a, changed(s, ("step",), 3)), "step is wrong"),
    "options": (
        lambda a, s: (a, changed(s, ("options", "nz"), 10**12)),
        "options [(]--nz 1000000000",
    ),
    "arrays": (lambda a, s: (renamed(NAME, "G.x")(a), s), "is nothing, not float32|its generator"),
    "values": (lambda a, s: (with_array(NAME, spoiled)(a), s), "holds values that are not finite"),
}


@pytest.fixture
def run(base, tmp_path, monkeypatch):
    """A copy of the run, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pictures, "save_curves", lambda folder, metrics: None)
    return Run(shutil.copytree(base.folder, tiny.Path("run")))


def spoil(run, original, fault):
    path = checkpoint.path_of(run.checkpoints, 4)
    arrays, state = FAULTS[fault][0](*original)
    path.write_bytes(hostile.signed(json.dumps(state), arrays))
    return path


@pytest.mark.parametrize("fault", FAULTS)
def test_a_training_takes_the_one_before_says_so_and_ends_alike(run, base, original, capsys, fault):
    path = spoil(run, original, fault)
    assert tiny.train_celeba.main(["--resume", "run", "--out", str(base.folder.parent)]) == 0
    skipped = [s for s in capsys.readouterr().out.splitlines() if s.startswith("skipped: ")]
    assert [str(path) in s for s in skipped] == [True]
    (resume,) = [e for e in tiny.events(run) if e["event"] == "resume"]
    assert (resume["step"], ["skipped: " + s for s in resume["skipped"]]) == (2, skipped)
    arrays, state = checkpoint.read(path)
    assert state == original[1]
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
        assert tiny.Path("out", name).read_bytes() == tiny.Path("older", name).read_bytes()


@pytest.mark.parametrize("fault", FAULTS)
def test_generate_from_the_file_itself_is_one_sentence(run, original, capsys, fault):
    path = spoil(run, original, fault)
    assert tiny.generate.main(["--run", str(path), "--out", "out"]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"error: {path}")
    sentence(err.rstrip("\n"))
    assert not tiny.Path("out").exists()


@pytest.mark.parametrize(
    ("name", "value"), [("nz", 10_000), ("ngf", 1024), ("image_size", 256), ("ngf", 3)]
)
def test_options_that_lie_about_the_size_build_no_network(
    run, original, monkeypatch, capsys, name, value
):
    arrays, state = original
    path = checkpoint.path_of(run.checkpoints, 4)
    state = changed(state, ("options", name), value)
    path.write_bytes(hostile.signed(json.dumps(state), arrays))
    monkeypatch.setattr(tiny.generate, "Generator", lambda *sizes: 1 / 0)
    assert tiny.generate.main(["--run", str(path), "--out", "out"]) == 1
    assert "its generator is not of the size that its options name" in capsys.readouterr().err
