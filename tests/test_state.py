"""State trees: saved values are restored into the live tree, and no other form is accepted."""

import copy
import json

import numpy as np
import pytest
import walk
from hostile import sentence, signed
from hypothesis import given
from hypothesis import strategies as st

from minigan import nn, tensor
from minigan.gans import MEMBERS
from minigan.keys import generator
from minigan.optim import Adam, RMSprop
from minigan.tensor import grad
from minigan.training import checkpoint, state
from minigan.training.checkpoint import CheckpointError
from minigan.training.draw import Draw
from minigan.training.plan import choose

GAME = choose("dcgan", {"data": "faces"}).game
COUNTS = {"step": 3, "batches": 6, "again": 1}
rng = np.random.default_rng


def pair(seed=0, optimizer=Adam):
    """A network with two kinds of parameters and buffers, and its optimiser after two steps."""
    network = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2))
    for p in network.parameters():
        p.data[...] = rng(seed).standard_normal(p.shape).astype("f")
    opt = optimizer(network.parameters(), lr=0.1)
    for i in range(2):
        x = tensor(rng(i).standard_normal((4, 1, 5, 5)).astype("f"))
        opt.step(grad((network(x) ** 3).sum(), opt.params))
    return network, opt


def tree(seed=0, optimizer=Adam):
    network, opt = pair(seed, optimizer)
    extra = {"mean": rng(seed).standard_normal(3).astype("f"), "pool": {"used": 5 + seed}}
    counts = {name: n + seed for name, n in COUNTS.items()}
    return {"draw": counts, "net": network.state_dict(), "opt": opt.tree(), "extra": extra}


def contents(of):
    """All leaves by path: numbers, and arrays as dtype, shape and bytes."""
    return {
        path: leaf if isinstance(leaf, int) else form(np.asarray(state.host(leaf)))
        for path, leaf in state.leaves(of)
    }


def form(array):
    return array.dtype, array.shape, array.tobytes()


# -- saving and restoring -----------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [Adam, RMSprop])
def test_what_was_written_comes_back_into_another_tree(tmp_path, optimizer):
    one, other = tree(0, optimizer), tree(1, optimizer)
    expected = contents(one)
    assert all(contents(other)[path] != leaf for path, leaf in expected.items() if leaf != 2
               and "num_batches" not in path)  # fmt: skip
    state.write(tmp_path / "c", one, GAME)
    state.restore(state.read(tmp_path / "c", other, GAME), other)
    assert contents(other) == expected


def test_the_live_tree_is_filled_and_not_replaced(tmp_path):
    """Networks, optimisers and the Draw refer to these arrays and dicts, so they see the new values."""
    network, opt = pair(1)
    of = Draw(Points(), 4, 2, 0)
    live = {
        "draw": of.counts,
        "net": network.state_dict(),
        "opt": opt.tree(),
        "extra": tree(1)["extra"],
    }
    before = {path: id(leaf) for path, leaf in state.leaves(live) if not isinstance(leaf, int)}
    state.write(tmp_path / "c", tree(0), GAME)
    state.restore(state.read(tmp_path / "c", live, GAME), live)
    assert before == {p: id(leaf) for p, leaf in state.leaves(live) if not isinstance(leaf, int)}
    expected, _ = pair(0)
    assert network[0].weight.numpy().tobytes() == expected[0].weight.numpy().tobytes()
    assert (of.step, opt.state[0]["step"]) == (3, 2)


@pytest.mark.parametrize(
    ("leaf", "kind"), [(0.5, "float"), (np.float32(1), "float32"), (np.int64(3), "int64"),
                       (True, "bool"), ("x", "str"), (None, "NoneType")],
)  # fmt: skip
def test_a_leaf_that_cannot_be_saved_is_named(tmp_path, leaf, kind):
    of = tree(0)
    of["extra"]["pool"]["decay"] = leaf
    for call in (lambda: state.write(tmp_path / "c", of, GAME), lambda: state.spoiled(of)):
        with pytest.raises(TypeError, match=f"^extra.pool.decay is a {kind}: a checkpoint holds "):
            call()
    assert not (tmp_path / "c").exists()
    of["extra"]["pool"]["decay"] = np.array(0.5)  # as the message advises
    state.write(tmp_path / "c", of, GAME)
    assert state.read(tmp_path / "c", of, GAME)["extra.pool.decay"] == 0.5


class Points:
    """The parts of a data set that a Draw needs when it is made."""

    name, shape = "points", (2,)

    def __len__(self):
        return 8


def test_an_optimiser_that_has_not_stepped_yet_is_saved_in_the_same_form(tmp_path):
    network, _ = pair(0)
    fresh = {"net": network.state_dict(), "opt": Adam(network.parameters()).tree()}
    other, stepped = pair(1)
    like = {"net": other.state_dict(), "opt": stepped.tree()}
    state.write(tmp_path / "c", fresh, GAME)
    state.restore(state.read(tmp_path / "c", like, GAME), like)
    assert contents(like) == contents(fresh)
    assert stepped.state[0]["step"] == 0


def test_each_array_keeps_its_order_in_memory(tmp_path):
    """The bytes of a sum depend on the order of its terms, so a resumed run needs the same order."""
    shape = (2, 3, 4)
    ordered = lambda axes: np.zeros([shape[a] for a in axes], "f").transpose(np.argsort(axes))
    values = np.arange(24, dtype="f").reshape(shape)
    for axes in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
        saved, live = {"x": ordered((0, 1, 2))}, {"x": ordered(axes)}
        saved["x"][...] = values
        array, strides = live["x"], live["x"].strides
        state.write(tmp_path / "c", saved, GAME)
        state.restore(state.read(tmp_path / "c", live, GAME), live)
        assert live["x"] is array
        assert array.strides == strides
        np.testing.assert_array_equal(array, values)


@pytest.mark.parametrize("name", MEMBERS)
def test_a_members_weights_keep_the_order_of_the_kernels(name, tmp_path):
    member = MEMBERS[name]
    options = member.Options(**walk.own(name, {"nz": 4, "ngf": 4, "ndf": 4}))
    one, other = (
        member(options, (3, 16, 16), generator(seed, "init"), classes=walk.classes(name))
        for seed in (0, 1)
    )
    trees = [state.tree_of(each, dict(Draw.START)) for each in (one, other)]
    strides = lambda of: {p: state.host(leaf).strides for p, leaf in state.leaves(of)
                          if not isinstance(leaf, int)}  # fmt: skip
    before = strides(trees[1])
    state.write(tmp_path / "c", trees[0], GAME)
    state.restore(state.read(tmp_path / "c", trees[1], GAME), trees[1])
    assert contents(trees[1]) == contents(trees[0])
    assert strides(trees[1]) == before == strides(trees[0])


@given(
    st.recursive(
        st.integers(0, state.MOST) | st.lists(st.integers(0, 3), max_size=3).map(tuple),
        lambda inner: st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=3),
        max_leaves=8,
    ),
    st.sampled_from(["f4", "f8", "i8", "u1"]),
)
def test_any_tree_comes_back(tmp_path_factory, made, dtype):
    """A tree of numbers and arrays. Hypothesis draws the arrays' shapes; the test fills them."""
    folder = tmp_path_factory.mktemp("any")

    def grown(part, fill):
        if isinstance(part, dict):
            return {key: grown(inner, fill) for key, inner in part.items()}
        if isinstance(part, tuple):
            return np.asarray(rng(len(part)).integers(0, 100, part) * fill, dtype)
        return part * fill

    live = {"root": grown(made, 1)}
    other = {"root": grown(made, 0)}
    state.write(folder / "c", live, GAME)
    state.restore(state.read(folder / "c", other, GAME), other)
    assert contents(other) == contents(live)


# -- other forms are refused, with the leaf's name ----------------------------------------------------


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """The arrays and the table of a checkpoint of `tree(0)`, and a folder to work in."""
    folder = tmp_path_factory.mktemp("state")
    state.write(folder / "c", tree(0), GAME)
    return *checkpoint.read_file(folder / "c"), folder


def refused(original, arrays, table):
    """The error for a checkpoint of these, or None if it is accepted; the live state never changes."""
    path, live = original[2] / "other", tree(1)
    before = contents(live)
    path.write_bytes(signed(json.dumps(table), arrays))
    said = None
    try:
        state.read(path, live, GAME)
    except CheckpointError as error:
        said = sentence(error)
        assert str(path) in said
    assert contents(live) == before
    return said


@given(st.data())
def test_any_leaf_that_is_missing_extra_or_of_another_form_is_refused_by_its_name(original, data):
    arrays, table = dict(original[0]), copy.deepcopy(original[1])
    numbers, leaves = table["numbers"], [*original[0], *original[1]["numbers"]]
    name = data.draw(st.sampled_from(leaves))
    what = data.draw(st.sampled_from(["missing", "extra", "kind", "value", "shape", "dtype"]))
    of, array = (arrays, arrays[name]) if name in arrays else (numbers, None)
    if what == "missing":
        del of[name]
    elif what == "extra":
        name = data.draw(
            st.text("abc.\x1b", min_size=1, max_size=9).filter(lambda n: n not in leaves)
        )
        of[name] = of[data.draw(st.sampled_from(sorted(of)))]
    elif what == "kind" and array is not None:
        del arrays[name]
        numbers[name] = 0
    elif what == "kind":
        del numbers[name]
        arrays[name] = np.zeros(2, "f")
    elif array is None:
        wrong = st.sampled_from([-1, 10**12 + 1, 10**400, 1.0, True, None, "1", [], {}])
        numbers[name] = data.draw(wrong)
    elif what == "value" and array.dtype.kind == "f" and array.size:
        arrays[name] = array.copy()
        arrays[name].flat[0] = data.draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    elif what == "shape":
        shape = (*array.shape, 1) if data.draw(st.booleans()) else (2 * array.size, 1)
        arrays[name] = np.resize(array, shape)
    else:
        others = [
            d for d in ("f2", "f4", "f8", "i8", "i4", "u1", "?") if np.dtype(d) != array.dtype
        ]
        arrays[name] = np.abs(array).astype(data.draw(st.sampled_from(others)))
    said = refused(original, arrays, table)
    assert said is not None
    assert repr(name)[1:-1].replace("\\\\", "\\")[:40] in said


@given(st.data())
def test_whatever_number_stands_there_it_is_taken_or_refused_by_its_name(original, data):
    arrays, table = original[0], copy.deepcopy(original[1])
    name = data.draw(st.sampled_from(sorted(table["numbers"])))
    value = data.draw(st.integers() | st.floats() | st.none() | st.booleans() | st.text(max_size=3))
    table["numbers"][name] = value
    said = refused(original, arrays, table)
    if type(value) is int and 0 <= value <= state.MOST:
        assert said is None
    else:
        assert name in said


def test_what_is_whole_is_taken(original):
    assert refused(original, *original[:2]) is None


NAME = "net.0.weight"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a.pop(NAME), f"{NAME} is missing, expected float32 (2, 1, 3, 3); "),
        (lambda a: a.update(more=np.ones(2, "f")), "more is float32 (2,), expected missing; "),
        (
            lambda a: a.update({NAME: a[NAME].astype("d")}),
            f"{NAME} is float64 (2, 1, 3, 3), expected float32 (2, 1, 3, 3); ",
        ),
        (
            lambda a: a.update({NAME: a[NAME][:1]}),  # NumPy would broadcast it
            f"{NAME} is float32 (1, 1, 3, 3), expected float32 (2, 1, 3, 3); ",
        ),
        (
            lambda a: a.update({NAME: np.full((2, 1, 3, 3), np.nan, "f")}),
            f"{NAME} holds values that are not finite; ",
        ),
        (
            lambda a: a.update({"opt.0.exp_avg_sq": -np.ones((2, 1, 3, 3), "f")}),
            "opt.0.exp_avg_sq holds negative values; ",
        ),
        (
            lambda a: a.update({"net.1.running_var": -np.ones(2, "f")}),
            "net.1.running_var holds negative values; ",
        ),
    ],
)
def test_the_sentence_says_what_the_leaf_is_and_what_was_expected(original, change, words):
    arrays = dict(original[0])
    change(arrays)
    said = refused(original, arrays, original[1])
    assert words in said
    assert said.endswith("; use another checkpoint")


@pytest.mark.parametrize("numbers", [None, [], "x", 1, ...])
def test_numbers_that_are_not_a_table_are_one_sentence(original, numbers):
    table = {**original[1], "numbers": numbers}
    if numbers is ...:
        del table["numbers"]
    assert "its numbers are not a table" in refused(original, original[0], table)


# -- the game -----------------------------------------------------------------------------------------


def changed(**options):
    game = GAME.table()
    for name, value in options.items():
        game["data" if name in game["data"] else "options"][name] = value
    return game


@pytest.mark.parametrize(
    ("game", "words"),
    [
        (changed(lr=0.1), "--lr 0.1 -> 0.0005"),
        (changed(flip=True), "--flip True -> False"),
        (changed(seed=5, nz=7), "--nz 7 -> 100, --seed 5 -> 999"),
    ],
)
def test_a_checkpoint_of_another_game_is_refused_and_each_difference_named(original, game, words):
    said = refused(original, original[0], {**original[1], "game": game})
    assert (
        f"it was written with other options: {words}; restore config.json, or use another" in said
    )


def test_a_checkpoint_of_another_member_is_refused(original):
    game = choose("wgan-gp", {"data": "faces"}).game.table()
    said = refused(original, original[0], {**original[1], "game": game})
    assert "other options: --member wgan-gp -> dcgan, " in said


def test_an_option_that_is_missing_in_a_checkpoint_is_newer_and_had_its_default(original):
    game = GAME.table()
    del game["options"]["noise"], game["data"]["flip"]
    assert refused(original, original[0], {**original[1], "game": game}) is None
    del game["options"]["lr"]  # set by the recipe, so not the default
    said = refused(original, original[0], {**original[1], "game": game})
    assert "--lr 0.0002 -> 0.0005" in said


@pytest.mark.parametrize("game", [None, [], "x", {}, {"member": "gan"}, changed(zeta=1), changed(nz=0)],
                         ids=lambda g: str(g)[:9])  # fmt: skip
def test_a_game_that_cannot_be_is_one_sentence(original, game):
    said = refused(original, original[0], {**original[1], "game": game})
    assert said.endswith(", or use another checkpoint")
