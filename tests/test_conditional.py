"""Conditional members: labels in draws, games, pictures and samples; the nearest image of the data."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny
import walk
from PIL import Image

import minigan
from minigan import tensor
from minigan.commands import main
from minigan.commands import sample as command
from minigan.data import digits, nearest
from minigan.data.cache import Images
from minigan.data.images import ImageSet, to_pixels
from minigan.data.mixture import Mixture
from minigan.errors import UserError
from minigan.gans import MEMBERS
from minigan.gans.conditional import Conditional, Options
from minigan.gans.player import Player
from minigan.keys import generator
from minigan.tensor import no_grad
from minigan.training import looks, pictures, state
from minigan.training.draw import Draw
from minigan.training.game import Game
from minigan.training.plan import choose
from minigan.training.run import Run, write_config

SEED = 5
WAYS = ["planes", "projection"]


def image_set(count: int, labels, classes, size: int = 16) -> ImageSet:
    """Drawn digits with these labels, in memory."""
    pixels = np.stack([digits.draw(0, i, size)[0] for i in range(count)])
    images = Images(pixels, [str(i) for i in range(count)], [], {}, "digest")
    return ImageSet(images, 1, "digits", labels=np.asarray(labels), classes=classes)


def game(data, **options) -> tuple[Conditional, Draw]:
    """The member with its initial weights on this data, and its Draw."""
    o = Options(**{"nz": 4, "ngf": 8, "ndf": 8, "batch_size": 8, "seed": SEED, **options})
    member = Conditional(o, data.shape, generator(SEED, "init"), classes=len(data.classes))
    return member, Draw(data, o.batch_size, o.nz, SEED)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of the member on digits."""
    out = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "save_curves", lambda folder, metrics: None)
        assert tiny.start(out, "conditional", "digits", "--steps", 4, "--sample-every", 99) == 0
    return Run(out / "00000-conditional-digits16")


def sample(run, *flags, code: int = 0) -> int:
    assert main(["sample", str(run.folder), "--device", "cpu", *map(str, flags)]) == code


# -- draws --------------------------------------------------------------------------------------------


def few(count: int, size: int = 2) -> ImageSet:
    """Images that are their own labels: all pixels of image i are i, and so is its class."""
    pixels = np.zeros((count, size, size, 3), np.uint8)
    pixels += np.arange(count, dtype=np.uint8)[:, None, None, None]
    images = Images(pixels, [str(i) for i in range(count)], [], {}, "digest")
    return ImageSet(
        images, 3, "few", labels=np.arange(count), classes=[f"n{i}" for i in range(count)]
    )


def value(x) -> list[int]:
    return np.rint((x.numpy()[:, 0, 0, 0] + 1) * 127.5).astype(int).tolist()


def test_each_image_comes_with_its_own_label():
    labelled, plain = Draw(few(23), 5, 3, 0, flip=True), Draw(few(23), 5, 3, 0, flip=True)
    for _ in range(9):  # beyond the ends of epochs
        x, y = labelled.labelled()
        assert (y.dtype, y.shape) == (np.int64, (5,))
        assert value(x) == y.tolist()
        np.testing.assert_array_equal(plain.reals().numpy(), x.numpy())  # the same order
        assert plain.counts == labelled.counts


def test_labels_of_fakes_have_the_frequencies_of_the_data_and_never_a_class_without_samples():
    data = few(10)
    data.labels = np.array([0] * 7 + [2] * 3)
    of = Draw(data, 10, 3, 0)
    counts = np.zeros(10, int)
    for _ in range(200):
        counts += np.bincount(of.labels().numpy(), minlength=10)
        of.next_step()
    assert counts.sum() == 2000
    # 1400 expected, within 5 standard deviations; a binomial with p = 0.7 has 20.5
    assert abs(counts[0] - 1400) < 103
    assert counts[0] + counts[2] == 2000


def test_labels_are_drawn_by_key():
    of, again, later = (Draw(few(20), 8, 3, 0) for _ in range(3))
    first, second = of.labels().tolist(), of.labels().tolist()
    assert first != second
    assert again.labels().tolist() == first
    later.counts["step"] = 7
    assert later.labels().tolist() != first
    later.counts.update(again.counts)
    later._calls.clear()
    again.noise()  # does not shift other draws
    assert later.labels().tolist() == first
    assert again.labels().tolist() == second


class Second:
    """The second of two processes."""

    size = 2

    def share(self, whole):
        return whole[len(whole) // 2 :]


def test_a_process_takes_its_share_of_the_labels():
    one, second = Draw(few(23), 6, 3, 0), Draw(few(23), 6, 3, 0, group=Second())
    for _ in range(5):
        whole, part = one.labelled(), second.labelled()
        assert part[1].tolist() == whole[1].tolist()[3:] == value(part[0])
        assert second.labels().tolist() == one.labels().tolist()[3:]


def test_data_without_labels_give_none():
    data = few(8)
    data.labels = None
    of = Draw(data, 4, 3, 0)
    for ask in (of.labelled, of.labels):
        with pytest.raises(UserError, match="few has no labels; use labelled data, such as digits"):
            ask()
    assert of.counts == Draw.START


# -- the game -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("d_labels", WAYS)
def test_a_pair_of_image_and_wrong_label_is_scored_lower_after_training(d_labels):
    """Before training it is not. The bound is a margin of eight standard errors."""
    count = 200
    labels = np.arange(count) % 10
    data = image_set(count, labels, "0123456789")
    member, draw = game(data, d_labels=d_labels, batch_size=20, lr=1e-3, beta1=0.5)

    def margin() -> float:
        """How much lower D scores wrong pairs, in standard errors of the mean."""
        x = data.batch(np.arange(count), "cpu")
        with no_grad():
            right, wrong = (
                member.D(x, draw, tensor((labels + shift) % 10)).numpy() for shift in (0, 1)
            )
        return (right - wrong).mean() / ((right - wrong).std() / count**0.5)

    assert abs(margin()) < 8
    for _ in range(120):
        member.step(draw)
        draw.next_step()
    assert margin() > 8


@pytest.mark.parametrize("d_labels", WAYS)
@pytest.mark.parametrize(
    ("labels", "classes"),
    [([0] * 16, "a"), ([0] * 8 + [2] * 8, "abc"), ([1] + [0] * 15, "ab")],
    ids=["one class", "a class without samples", "batches without some class"],
)
def test_any_labels_can_be_trained_on(labels, classes, d_labels):
    data = image_set(16, labels, classes)
    member, draw = game(data, d_labels=d_labels)
    for _ in range(3):
        metrics = member.step(draw)
        draw.next_step()
    assert all(np.isfinite(each.item()) for each in metrics.values())
    z = draw.noise()
    for k in range(len(classes)):
        assert np.isfinite(member.sample(z, tensor(np.full(8, k))).numpy()).all()


@pytest.mark.parametrize("fresh_noise", [True, False])
def test_d_is_told_the_class_of_each_real_and_the_one_that_g_was_asked_for(
    fresh_noise, monkeypatch
):
    member, draw = game(few(20, 16), fresh_noise=fresh_noise)
    made, judged, call = [], [], Player.__call__

    def noted(player, *inputs):
        output = call(player, *inputs)
        if player is member.G:
            made.append((output, inputs[1]))
        else:
            judged.append((inputs[0], inputs[-1]))
        return output

    monkeypatch.setattr(Player, "__call__", noted)
    member.step(draw)
    (real, y), *fakes = judged
    assert value(real) == y.tolist()
    assert (len(made), len(fakes)) == (1 + fresh_noise, 2)
    for (x, told), (output, asked) in zip(fakes, [made[0], made[-1]], strict=True):
        assert np.shares_memory(x.data, output.data)
        assert told is asked or told.tolist() == asked.tolist()
    assert not fresh_noise or made[0][1].tolist() != made[1][1].tolist()


def test_the_class_enters_g_by_its_one_hot_block_alone():
    member, draw = game(Mixture("ring", count=64))
    z, ys = draw.noise(), [tensor(np.full(8, k)) for k in (0, 3)]
    before = [member.sample_raw(z, y).numpy() for y in ys]
    assert (before[0] != before[1]).any(1).all()
    member.G.net.main[0].weight.data[:, 4:] = 0  # (width, nz + K)
    after = [member.sample_raw(z, y).numpy() for y in ys]
    np.testing.assert_array_equal(after[0], after[1])


def test_a_mixture_of_classes_lies_between_them():
    member, draw = game(Mixture("ring", count=64))
    z, rows = draw.noise(), np.eye(8, dtype=np.float32)[np.arange(8) % 8]
    pure = member.sample_raw(z, tensor(rows)).numpy()
    np.testing.assert_array_equal(pure, member.sample_raw(z, tensor(np.arange(8) % 8)).numpy())
    half = member.sample_raw(z, tensor((rows + rows[::-1]) / 2)).numpy()
    assert (half != pure).any(1).all()


@pytest.mark.parametrize("name", ["dcgan", "conditional"])
def test_classes_are_given_to_conditional_members_and_to_no_others(name):
    member, (x, y) = MEMBERS[name], (tensor(np.zeros((2, 4), "f")), tensor(np.zeros(2, int)))
    o = member.Options(nz=4, ngf=4, ndf=4)
    right, wrong = (3, 0) if member.conditional else (0, 3)
    with pytest.raises(
        ValueError, match=f"{member.__name__} needs (at least one class|no classes)"
    ):
        member(o, (2,), generator("init"), classes=wrong)
    made = member(o, (2,), generator("init"), classes=right)
    for make in (made.sample, made.sample_raw):
        with pytest.raises(ValueError, match="draws samples from z and"):
            make(x) if member.conditional else make(x, y)


def test_a_pack_has_no_one_class():
    with pytest.raises(UserError, match="--pack 2: the samples of a pack have different classes"):
        Options(pack=2)


# -- plans and files ----------------------------------------------------------------------------------


def test_the_data_must_have_classes_and_are_digits_by_default():
    assert choose("conditional", {}).data.data == "digits"
    for given in ({"data": "faces"}, {"dataroot": "somewhere"}):
        with pytest.raises(UserError, match="has no classes, and member conditional needs them"):
            choose("conditional", given)
    with pytest.raises(
        UserError, match="needs them; give --condition, or use one of folder, digits"
    ):
        choose("conditional", {"data": "celeba"})


def test_attributes_are_those_of_celeba_in_its_usual_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UserError, match=r"--condition Male: --data faces has no list .*; give --datar"
    ):
        choose("conditional", {"condition": "Male"})
    Path("data/celeba").mkdir(parents=True)
    plan = choose("conditional", {"condition": "Male"})
    assert (plan.data.data, plan.dataroot) == ("celeba", "data/celeba")
    assert choose("conditional", {}).data.data == "digits"


def test_attributes_are_refused_by_a_member_that_is_told_no_classes():
    with pytest.raises(
        UserError,
        match=r"member dcgan is told no classes; leave it out, or train conditional, cyclegan$",
    ):
        choose("dcgan", {"data": "celeba", "condition": "Male"})


def test_a_checkpoint_and_the_config_name_the_classes(run):
    path = run.checkpoints / "step-00000004.safetensors"
    names = tuple("0123456789")
    assert state.game_of(path).classes == names
    assert run.config["classes"] == list(names)
    assert "classes" not in choose("dcgan", {"data": "digits"}).on(few(3)).table()


@pytest.mark.parametrize(
    ("member", "classes", "words"),
    [
        ("conditional", "abc", "classes 'abc' is not a list of different names"),
        ("conditional", [1, 2], "classes [1, 2] is not a list of different names"),
        ("conditional", ["a", "a"], "classes ['a', 'a'] is not a list of different names"),
        ("conditional", [], "member conditional needs a list of classes, but 0 are listed"),
        ("conditional", None, "classes None is not a list of different names"),
        ("dcgan", ["a"], "member dcgan needs no classes, but 1 are listed"),
    ],
)
def test_classes_that_cannot_be_are_refused(member, classes, words):
    table = choose(member, {"data": "ring"}).game.table()
    with pytest.raises(UserError) as caught:
        Game.read({**table, "classes": classes}, "there")
    assert str(caught.value) == f"there: {words}; restore it, or start a new run"


def test_a_game_is_read_again_from_its_table():
    game = choose("conditional", {"data": "ring"}).on(Mixture("ring", count=8)).game
    assert Game.read(json.loads(json.dumps(game.table())), "there") == game
    plain = choose("dcgan", {"data": "ring"}).game
    assert Game.read(plain.table(), "there") == plain  # as in checkpoints older than classes


@pytest.mark.parametrize("classes", [["x", *"123456789"], list("012345678")])
def test_a_run_whose_config_names_other_classes_is_refused(run, tmp_path, capsys, classes):
    copy = Run(shutil.copytree(run.folder, tmp_path / run.folder.name))
    write_config(copy.folder, {**run.config, "classes": classes})
    assert main(["resume", str(copy.folder), "--steps", "6"]) == 1
    assert "it was written with other options: --classes ['0', '1'" in capsys.readouterr().err


def test_data_with_other_classes_than_the_runs_are_refused():
    plan = choose("conditional", {"data": "ring"}).on(Mixture("ring", count=8))
    assert plan.on(Mixture("ring", count=8)) == plan
    with pytest.raises(
        UserError, match=r"the classes of grid are 0, 1, .* started with 0, 1, 2, 3"
    ):
        plan.on(Mixture("grid", count=8))


# -- samples ------------------------------------------------------------------------------------------


def opened(path: Path) -> np.ndarray:
    """The pixels of a picture, (H, W, 3)."""
    with Image.open(path) as image:
        return np.asarray(image)


def single(folder: Path) -> np.ndarray:
    """The single images in a folder, (n, 16, 16, 3)."""
    return np.stack([opened(path) for path in sorted(folder.glob("single/*.png"))])


def test_a_class_is_sampled_by_number_or_name_as_from_python(run, tmp_path):
    trained = minigan.load(run.folder)
    for i, wanted in enumerate(("7", 7)):
        sample(run, "--class", wanted, "--n", 5, "--out", tmp_path / str(i))
        expected = trained.sample(5, y=7)
        np.testing.assert_array_equal(single(tmp_path / str(i)), to_pixels(expected))
    assert (trained.sample(5, y="7") == trained.sample(5, y=7)).all()
    mixed = trained.sample(3, y=np.array([7, 1, 7], np.uint8))
    assert (mixed[[0, 2]] == expected[[0, 2]]).all()
    assert (mixed[1] != expected[1]).any()
    assert (trained.sample(12)[[3, 10]] == trained.sample(12, y=np.arange(12) % 10)[[3, 10]]).all()


def test_by_default_each_row_is_a_class_and_each_column_a_noise(run, tmp_path):
    sample(run, "--out", tmp_path)
    assert len(single(tmp_path)) == 80
    member = minigan.load(run.folder).member
    z = generator(0, "sample").standard_normal((8, 8), np.float32)  # (columns, nz)
    for row in (0, 9):
        expected = to_pixels(member.sample(tensor(z), tensor(np.full(8, row))).numpy()).astype(int)
        # rounded to pixels from sums over other batches
        assert abs(single(tmp_path)[8 * row : 8 * row + 8] - expected).max() <= 1
    sizes = {name: opened(tmp_path / f"{name}.png").shape for name in ("classes", "interpolation")}
    assert set(sizes.values()) == {(8 * 18 + 2, 10 * 18 + 2, 3)}


@pytest.mark.parametrize("only", [None, 2])
def test_between_classes_a_row_begins_and_ends_at_a_class_with_one_noise(run, only):
    game = Game("conditional", Options(nz=3), choose("conditional", {}).data, ("a", "b", "c"))
    z, y = command._between_classes(game, 0, only)
    z, y = z.reshape(8, 10, 3), y.reshape(8, 10, 3)
    assert (z == z[:, :1]).all()
    np.testing.assert_allclose(y.sum(2), 1, rtol=1e-6)
    starts, ends = y[:, 0], y[:, -1]
    assert set(np.unique([starts, ends])) == {0, 1}
    assert (starts != ends).any(1).all()
    if only is not None:
        assert (starts[:, only] == 1).all()
    assert set(ends.argmax(1)) == ({0, 1, 2} - {only})


def test_the_layout_of_grids():
    which, y = looks.arrange(40, (3, 16, 16), 2)
    assert y.tolist() == [0] * 8 + [1] * 8 + [0] * 8 + [1] * 8 + [0] * 8
    assert which.tolist() == [*range(8), *range(8), *range(8, 16), *range(8, 16), *range(16, 24)]
    which, y = looks.arrange(5, (2,), 3)
    assert (which.tolist(), y.tolist()) == ([0, 1, 2, 3, 4], [0, 1, 2, 0, 1])
    which, y = looks.arrange(5, (3, 16, 16), 0)
    assert (which.tolist(), y) == ([0, 1, 2, 3, 4], None)


def test_reals_are_shown_by_class_and_a_class_without_any_is_white(tmp_path):
    labels = [0] * 3 + [2] * 9
    data = image_set(12, labels, "abc")
    member, _ = game(data)
    Run.create(tmp_path, "x", {})
    view = looks.Looks(member, data, Run(tmp_path / "00000-x"), "cpu", print)
    view.reals()
    shown = opened(tmp_path / "00000-x/samples/reals.png")
    assert shown.shape == (3 * 18 + 2, 8 * 18 + 2, 3)
    tile = lambda row, column: shown[2 + 18 * row :, 2 + 18 * column :][:16, :16]
    for column in range(8):
        np.testing.assert_array_equal(tile(0, column), data.pixels[column % 3])
        assert (tile(1, column) == 255).all()
        np.testing.assert_array_equal(tile(2, column), data.pixels[3 + column])


@pytest.mark.parametrize("wanted", ["10", "-1", "seven", "", "7.0", "07"])
def test_a_class_that_there_is_not_is_refused(run, wanted, capsys):
    sample(run, f"--class={wanted}", code=1)
    assert capsys.readouterr().err == (
        f"error: --class {wanted}: the classes are 0, 1, 2, 3, 4, 5, 6, 7, 8, 9; give a name, or a "
        "number from 0 to 9\n"
    )


def test_a_name_goes_before_a_number():
    game = Game("conditional", Options(), choose("conditional", {}).data, ("2", "b", "a"))
    assert [game.class_number("y", each) for each in ("2", 2, "a", "0", "1")] == [0, 2, 2, 0, 1]


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (10, "y 10: the classes are 0, 1"),
        (-1, "y -1: the classes are 0, 1"),
        (True, "y True: the classes are 0, 1"),
        ("x", "y x: the classes are 0, 1"),
        ([0, 1, 10], "y 10: the classes are 0, 1"),
        ([0, 1], r"y int64 \(2,\): give one class, or an array of 3 whole numbers"),
        ([0.0, 1.0, 2.0], r"y float64 \(3,\): give one class"),
        (np.zeros((3, 1), int), r"y int64 \(3, 1\): give one class"),
        ([[0], [1, 2], [3]], r"y object \(3,\): give one class"),
        (np.array([True, False, True]), r"y bool \(3,\): give one class"),
    ],
)
def test_classes_of_another_type_or_range_are_refused(run, y, words):
    with pytest.raises(UserError, match=words):
        minigan.load(run.folder).sample(3, y=y)


def test_a_checkpoint_is_sampled_without_its_run_and_its_data(run, tmp_path):
    path = shutil.copy(run.checkpoints / "step-00000004.safetensors", tmp_path / "x.safetensors")
    out = ["--out", str(tmp_path / "out"), "--device", "cpu"]
    assert main(["sample", str(path), "--class", "3", "--n", "2", *out]) == 0
    assert len(single(tmp_path / "out")) == 2
    assert main(["sample", str(path), "--neighbours", *out]) == 1


# -- neighbours ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [1, 3 * 256, 10**9])
def test_the_nearest_is_the_nearest(monkeypatch, block):
    """For any blocks. Among equals, the first."""
    monkeypatch.setattr(nearest, "BLOCK", block)
    data = image_set(20, np.zeros(20, int), "a")
    data.pixels[15] = data.pixels[4]
    every = data.batch(np.arange(20), "cpu").numpy()
    rng = np.random.default_rng(0)
    samples = (every[[4, 19, 0, 7, 15]] + 0.2 * rng.standard_normal((5, 1, 16, 16))).astype("f")
    samples[0] = every[4]
    samples[3:] *= 0.3  # far from all images, where the term between a and b decides
    slow = ((samples[:, None].astype(float) - every) ** 2).sum((2, 3, 4)).argmin(1)
    np.testing.assert_array_equal(nearest.nearest(samples, data), slow)
    assert slow[0] == 4


def test_each_sample_is_shown_beside_its_neighbour(run, tmp_path):
    sample(run, "--neighbours", "--class", 3, "--n", 3, "--out", tmp_path)
    shown = opened(tmp_path / "neighbours.png")
    tile = lambda i: shown[2:18, 2 + 18 * i :][:, :16].astype(int)
    pixels = [digits.draw(999, i, 16)[0].astype(int) for i in range(20)]
    for i, made in enumerate(single(tmp_path).astype(int)):
        np.testing.assert_array_equal(tile(2 * i), made)
        distances = [((made - real) ** 2).sum() for real in pixels]
        chosen = [((tile(2 * i + 1) - real) ** 2).sum() for real in pixels].index(0)
        # samples are rounded to pixels in the picture, by up to half a grey level each
        assert distances[chosen] <= min(distances) * 1.01 + 16 * 16


def test_neighbours_need_the_data_of_the_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pictures, "save_curves", lambda folder, metrics: None)
    rng = np.random.default_rng(0)
    for root in ("data", "others"):
        Path(root).mkdir()
        for i in range(6):
            pixels = rng.integers(0, 256, (16, 16, 3), np.uint8)
            Image.fromarray(pixels).save(f"{root}/{i}.png")
    words = ["train", "dcgan", "--dataroot", "data", *tiny.TINY, "--out", "runs", "--steps", "1"]
    assert main(words) == 0
    run = Run(next(Path("runs").glob("00000-*")))
    sample(run, "--neighbours", "--n", 2)
    assert (run.folder / "generated/neighbours.png").is_file()
    sample(run, "--n", 2, "--out", "elsewhere")
    assert (run.folder / "generated/neighbours.png").is_file()
    sample(run, "--n", 2)  # a new grid, next to which the old neighbours must not remain
    assert not (run.folder / "generated/neighbours.png").exists()
    shutil.move("data", "moved")
    capsys.readouterr()
    sample(run, "--neighbours", "--n", 2, code=1)
    assert "data" in capsys.readouterr().err
    sample(run, "--neighbours", "--n", 2, "--dataroot", "moved")
    sample(run, "--neighbours", "--n", 2, "--dataroot", "others", code=1)
    assert "are not the 6 with which" in capsys.readouterr().err
    sample(run, "--n", 2, "--dataroot", "moved", code=1)
    assert "--dataroot: only --neighbours reads the data" in capsys.readouterr().err
    sample(run, "--class", 0, code=1)
    assert "--class 0: member dcgan has no classes; leave it out" in capsys.readouterr().err


def test_points_have_no_neighbours(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pictures, "save_curves", lambda folder, metrics: None)
    assert tiny.start(tmp_path, "conditional", "ring", "--steps", 1) == 0
    run = Run(tmp_path / "00000-conditional-ring")
    sample(run, "--class", "3")
    sample(run, "--neighbours", code=1)
    assert "--neighbours: a ring has no images; leave it out" in capsys.readouterr().err


def test_the_walk_of_devices_has_labels():
    for kind in walk.KINDS:
        data = walk.dataset(kind)
        assert walk.classes_of("conditional", data) == len(data.classes) > data.labels.max()
