"""CycleGAN: its formulas, its two directions, its data, and what `sample` makes of it.

What every member must do is tested in test_members.py, 20 steps against PyTorch in
test_parity_games.py, the networks in test_cyclegan_networks.py, and the pool in test_pool.py.
"""

import shutil
from pathlib import Path

import celeba_factory as factory
import numpy as np
import pytest
import test_classes
import test_members
import tiny
import walk
from PIL import Image

import minigan
from minigan import tensor
from minigan.commands import main
from minigan.errors import UserError
from minigan.gans import MEMBERS
from minigan.keys import generator
from minigan.tensor import no_grad
from minigan.training import session
from minigan.training.parallel import Group
from minigan.training.plan import choose
from minigan.training.run import Run

CycleGAN = MEMBERS["cyclegan"]


def images(seed, n=4, size=16):
    pixels = np.random.default_rng(seed).uniform(-1, 1, (n, 3, size, size))
    return tensor(pixels.astype("f"))


class Given:
    """The same two batches at each step."""

    def __init__(self, a, b):
        self.batches, self.step = (a, b), 0

    def each_class(self):
        return self.batches

    def uniform(self, name, *shape):
        return tensor(generator(name, self.step).random((len(self.batches[0]), *shape), np.float32))


def game(size=16, **options) -> CycleGAN:
    o = CycleGAN.Options(**{"ngf": 2, "ndf": 2, "blocks": 1, "batch_size": 4, **options})
    return CycleGAN(o, (3, size, size), generator("init"), classes=2)


def mean(values) -> float:
    return float(values.numpy().mean())


# -- the formulas -------------------------------------------------------------------------------------


def test_the_losses_are_those_of_the_paper():
    member, a, b = game(cycle=7.0, identity=0.25), images(0), images(1)
    G, D, descended = member.G.net, member.D.net, {}
    before = {}

    def descend(loss, who):
        descended[who] = loss.item()
        return loss.detach()

    with no_grad():
        fake_b, fake_a = G.to_B(a), G.to_A(b)
        before["adversarial"] = mean((D.of_B(fake_b) - 1) ** 2) + mean((D.of_A(fake_a) - 1) ** 2)
        before["cycle"] = mean((G.to_A(fake_b) - a).abs()) + mean((G.to_B(fake_a) - b).abs())
        # fed with images of the target domain; elsewhere often the other way round
        before["identity"] = mean((G.to_B(b) - b).abs()) + mean((G.to_A(a) - a).abs())
        before["D"] = 0.5 * (
            mean((D.of_B(b) - 1) ** 2)
            + mean(D.of_B(fake_b) ** 2)
            + mean((D.of_A(a) - 1) ** 2)
            + mean(D.of_A(fake_a) ** 2)
        )
    member.G.descend = lambda loss: descend(loss, "G")
    member.D.descend = lambda loss: descend(loss, "D")
    found = {name: value.item() for name, value in member.step(Given(a, b)).items()}
    close = lambda value: pytest.approx(value, rel=1e-5)  # float32
    assert found["loss_g"] == close(before["adversarial"])
    assert (found["cycle"], found["identity"]) == (
        close(before["cycle"]),
        close(before["identity"]),
    )
    assert found["loss_d"] == descended["D"] == close(before["D"])
    total = before["adversarial"] + 7 * before["cycle"] + 7 * 0.25 * before["identity"]
    assert descended["G"] == close(total)


def test_between_equal_domains_the_identity_has_only_the_adversarial_loss(monkeypatch):
    member, a = game(), images(0)
    member.G.descend = lambda loss: loss
    for net in (member.G.net.to_A, member.G.net.to_B):
        monkeypatch.setattr(type(net), "forward", lambda net, x: x)
    metrics = member.step(Given(a, a))
    assert metrics["cycle"].item() == metrics["identity"].item() == 0
    assert metrics["loss_g"].item() > 0


@pytest.mark.parametrize("options", [{"identity": 0.0}, {"cycle": 0.0}])
def test_without_its_weight_the_identity_is_not_computed(options, monkeypatch):
    member = game(**options)
    calls, forward = [], type(member.G.net.to_A).forward
    monkeypatch.setattr(
        type(member.G.net.to_A), "forward", lambda net, x: calls.append(1) or forward(net, x)
    )
    assert "identity" not in member.step(Given(images(0), images(1)))
    assert len(calls) == 4


def test_d_sees_earlier_fakes_once_its_pool_is_full():
    member = game(pool_size=4, ema=0.0)
    member.G.descend = member.D.descend = lambda loss: loss.detach()  # nothing moves
    seen, of_B = [], member.D.net.of_B
    of_B.forward = lambda x: seen.append(x.numpy()) or of_B.model(x)
    first, second = Given(images(0), images(1)), Given(images(2), images(3))
    second.step = 1
    for draw in (first, second):
        member.step(draw)
    new, shown = seen[2:]  # in the second step: judged for G, then reals and old fakes for D
    old = shown[len(new) :]
    known = {image.tobytes() for image in (*seen[0], *new)}
    assert {image.tobytes() for image in old} <= known
    assert 0 < sum(image.tobytes() in {i.tobytes() for i in seen[0]} for image in old) < 4
    assert member.extra["pool_B"]["count"] == 4


# -- the two directions -------------------------------------------------------------------------------


def test_a_sample_is_an_image_in_its_target_domain():
    member, x = game(), images(0)
    for _ in range(2):
        member.step(Given(images(1), images(2)))
    for sample, net in ((member.sample, member.G.average), (member.sample_raw, member.G.net)):
        with no_grad():
            a, b = net.to_A(x).numpy(), net.to_B(x).numpy()
        found = sample(x, tensor(np.array([0, 1, 1, 0]))).numpy()
        np.testing.assert_array_equal(found, np.stack([a[0], b[1], b[2], a[3]]))
        assert (a != b).any()


def test_it_starts_from_the_weights_of_the_reference_implementation():
    """netG_A there maps A to B. One Adam has the weights of both generators, in this order."""
    member, other = game(), game(seed=7)
    weights = {key: value.numpy() for key, value in other.G.net.to_B.state_dict().items()}
    member.G.net.to_B.load_state_dict(weights)
    x = images(0)
    with no_grad():
        np.testing.assert_array_equal(member.G.net.to_B(x).numpy(), other.G.net.to_B(x).numpy())
    both = [*member.G.net.to_A.parameters(), *member.G.net.to_B.parameters()]
    assert [id(p) for p in member.G.optimizer.params] == [id(p) for p in both]


# -- options ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "blocks", "layers"), [(256, 9, 3), (128, 6, 3), (32, 6, 3), (28, 6, 3), (16, 6, 2)]
)
def test_the_networks_suit_the_size_of_the_images(size, blocks, layers):
    o = CycleGAN.Options(ngf=1, ndf=1)
    names = CycleGAN.outline(o, (3, size, size), classes=2)
    inside = {name.split(".")[5] for name in names if "to_A" in name and "conv_block" in name}
    assert len(inside) == blocks
    assert sum("of_B" in name and "weight" in name for name in names) == layers + 2


def test_layers_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="--d-layers 3: an image of 16 pixels is halved to nothing"):
        game(d_layers=3)


def test_a_process_may_have_one_image_of_each_domain():
    plan = choose("cyclegan", {"batch_size": 2, "ngpu": 2, "device": "cpu"})
    assert plan.options.batch_size == 2
    with pytest.raises(UserError, match="--batch-size 2: must be at least 4, because batch norm"):
        choose("dcgan", {"batch_size": 2, "ngpu": 2, "device": "cpu"})


# -- data ---------------------------------------------------------------------------------------------


def test_seasons_are_its_default_data():
    assert choose("cyclegan", {}).data.data == "seasons"


@pytest.mark.parametrize(
    "given",
    [
        {"data": "faces"},
        {"data": "digits"},
        {"data": "ring"},
        {"data": "celeba"},
        {"data": "celeba", "condition": "Male,Smiling"},
    ],
)
def test_data_without_two_classes_are_refused(given):
    with pytest.raises(UserError, match="member cyclegan translates between two classes; use "):
        choose("cyclegan", given)


def pets(names, folder="pets") -> Path:
    return factory.write_files(
        Path(folder), {name: test_classes.bmp(9 * i) for i, name in enumerate(names)}
    )


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (
            ["a/1.bmp", "b/1.bmp", "c/1.bmp"],
            "has 3 classes, and member cyclegan translates between",
        ),
        (["a/1.bmp", "a/2.bmp", "b/1.bmp"], "--batch-size 2: class b of folder16 has 1 samples"),
    ],
)
def test_folders_that_do_not_suit_it_are_refused(names, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {"data": "folder", "dataroot": str(pets(names)), "image_size": 16, "batch_size": 2}
    plan = choose("cyclegan", {**given, "workers": 1})
    with pytest.raises(UserError, match=words):
        session.open_for(plan, Group(), print, progress=False)


# -- a run --------------------------------------------------------------------------------------------

FLAGS = ["--steps", "9", "--checkpoint-every", "3", "--keep", "2", "--pool-size", "3"]
FLAGS += ["--lr-decay", "4", "--lr-decay-start", "4"]


def test_stopped_with_full_pools_and_in_mid_decay_it_goes_on_exactly(tmp_path, monkeypatch):
    tiny.hurry(monkeypatch)
    whole = test_members.train(tmp_path, "cyclegan", "seasons", *FLAGS)
    parts = Run(Path(shutil.copytree(whole.folder, tmp_path / "parts")))
    for path in parts.checkpoints.iterdir():  # as after a kill following step 6
        if path.name != "step-00000006.safetensors":
            path.unlink()
    assert main(["resume", str(parts.folder)]) == 0
    assert test_members.left(parts) == test_members.left(whole)
    _, numbers = tiny.newest(whole)
    assert numbers["extra.pool_A.count"] == numbers["extra.pool_B.count"] == 3


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Run:
    """A run of one step on the seasons."""
    with pytest.MonkeyPatch.context() as patch:
        tiny.hurry(patch)
        return test_members.train(
            tmp_path_factory.mktemp("runs"), "cyclegan", "seasons", "--steps", "1"
        )


def pixels(path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_its_pictures_show_inputs_beside_their_translations(trained):
    """Eight images of each season; a grid of 2 x 8 images of 16 pixels with gaps of 2."""
    member, _, _ = session.load(trained.folder, print)
    data = session.reopen(trained, None, print)
    rows = [data.batch(np.flatnonzero(data.labels == k)[:8], "cpu") for k in (0, 1)]
    made = [member.sample(x, tensor(np.full(8, 1 - k))).numpy() for k, x in enumerate(rows)]
    reals = data.picture(np.concatenate([x.numpy() for x in rows]))
    found = pixels(trained.samples / "real-beside-fake.png")
    assert reals.shape == (38, 146, 3)
    np.testing.assert_array_equal(found[:, :146], reals)
    # two ways to compute: a batch of 8, and a batch of 64; a pixel may be rounded another way
    differing = np.abs(found[:, -146:].astype(int) - data.picture(np.concatenate(made)))
    assert differing.max() <= 1


def sampled(*words, code=0):
    assert main(["sample", *map(str, words), "--device", "cpu"]) == code


def test_sample_translates_images_of_the_data_either_way(trained, tmp_path, capsys):
    data = session.reopen(trained, None, print)
    known = [{image.tobytes() for image in data.pixels[data.labels == k]} for k in (0, 1)]
    for words, sources in (([], [1, 0] * 3), (["--class", "winter"], [0] * 6)):
        sampled(trained.folder, "--n", 6, *words, "--out", tmp_path / "out")
        assert capsys.readouterr().out.endswith(f"6 translations in {tmp_path / 'out'}\n")
        grid = pixels(tmp_path / "out/grid.png")  # six pairs in a row
        assert grid.shape == (20, 218, 3)
        inputs = [grid[2:18, 2 + 36 * i : 18 + 36 * i].tobytes() for i in range(6)]
        assert [image in known[k] for image, k in zip(inputs, sources, strict=True)] == [True] * 6
        made = [grid[2:18, 20 + 36 * i : 36 + 36 * i] for i in range(6)]
        for i, image in enumerate(made):
            np.testing.assert_array_equal(pixels(tmp_path / f"out/single/{i}.png"), image)
    first = (tmp_path / "out/grid.png").read_bytes()
    sampled(trained.folder, "--n", 6, "--class", 1, "--seed", 1, "--out", tmp_path / "out")
    assert (tmp_path / "out/grid.png").read_bytes() != first


def test_sample_translates_a_folder(trained, tmp_path, capsys):
    names = [f"{i}.bmp" for i in range(5)]
    folder = pets(names, tmp_path / "images")
    sampled(trained.folder, "--images", folder, "--class", "summer", "--out", tmp_path / "out")
    assert "5 translations in" in capsys.readouterr().out
    sampled(trained.folder, "--images", folder, "--class", 0, "--n", 2, "--out", tmp_path / "two")
    assert "2 translations in" in capsys.readouterr().out
    made = np.stack([pixels(tmp_path / f"out/single/{i}.png") for i in range(5)])
    inputs = np.zeros((5, 3, 16, 16), np.float32)
    inputs[:, 0] += 9 * np.arange(5).reshape(5, 1, 1)
    found = minigan.load(trained.folder).translate(inputs / 127.5 - 1, "summer")
    expected = np.rint((found + 1) * 127.5).astype(int).transpose(0, 2, 3, 1)
    assert np.abs(made - expected).max() <= 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--images", "x"],
            "--images x: give --class, the class into which they are translated: summer or",
        ),
        (["--class", "spring"], "--class spring: the classes are summer, winter; give a name"),
        (
            ["--neighbours"],
            "--neighbours: member cyclegan translates images, which are shown beside",
        ),
        (["--images", "x", "--class", "0", "--dataroot", "y"], "leave out this or --images"),
        (["--images", "nowhere", "--class", "0"], "nowhere"),
        (["--images", "", "--class", "0"], "--images '': must be a path"),
    ],
)
def test_what_sample_cannot_do_is_refused(trained, words, message, capsys):
    sampled(trained.folder, *words, code=1)
    assert message in capsys.readouterr().err


def test_a_member_that_makes_samples_from_noise_translates_nothing(tmp_path, monkeypatch, capsys):
    tiny.hurry(monkeypatch)
    run = test_members.train(tmp_path, "dcgan", "ring", "--steps", "1")
    sampled(run.folder, "--images", "x", code=1)
    assert (
        "--images x: member dcgan makes samples from noise; leave it out" in capsys.readouterr().err
    )
    with pytest.raises(UserError, match="member dcgan makes samples from noise; use sample"):
        minigan.load(run.folder).translate(np.zeros((1, 2)), 0)


def test_translations_from_python(trained):
    found, x = minigan.load(trained.folder), images(3).numpy()
    member, _, _ = session.load(trained.folder, print)
    for y, name in enumerate(("summer", "winter")):
        expected = member.sample(tensor(x), tensor(np.full(4, y))).numpy()
        # float32, and a batch of 64 instead of 4
        np.testing.assert_allclose(found.translate(x, name), expected, atol=1e-5)
        np.testing.assert_array_equal(found.translate(x, y), found.translate(x, name))
    assert (found.translate(x, 0, raw=True) != found.translate(x, 0)).any()
    with pytest.raises(UserError, match="member cyclegan translates images; use translate"):
        found.sample(3)
    with pytest.raises(UserError, match="y spring: the classes are summer, winter"):
        found.translate(x, "spring")
    for wrong in (x[0], x[:0], x[:, :1]):
        with pytest.raises(UserError, match="give at least one image of shape"):
            found.translate(wrong, 0)


def test_classes_of_a_checkpoint_must_be_two(trained):
    game = session.load(trained.folder, print)[1]
    table = game.table()
    with pytest.raises(UserError, match="member cyclegan needs two classes, but 3 are listed"):
        type(game).read({**table, "classes": ["a", "b", "c"]}, "file")


def test_every_walk_has_it():
    assert ("cyclegan", "images") in walk.WALK
    assert ("cyclegan", "points") not in walk.WALK
