"""The examples of single papers and data sets, in tiny runs; and how well a conditional G obeys."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image

import minigan
from minigan.commands import main
from minigan.data import seasons
from minigan.data.mixture import SIDE
from minigan.evaluation.samples import Samples
from minigan.evaluation.table import METRICS
from minigan.training import checkpoint, pictures
from minigan.training.run import Run, numbered_runs

DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
# What each example trains if it finds no files.
WITHOUT = {
    "train_mnist": ("dcgan", "digits"),
    "train_cifar10": ("dcgan", "shapes"),
    "wgan_gp": ("wgan-gp", "digits"),
    "conditional_gan": ("conditional", "digits"),
    "cyclegan": ("cyclegan", "seasons"),
    "progressive": ("progressive", "faces"),
    "stylegan_simple": ("stylegan", "faces"),
}


@pytest.fixture(autouse=True)
def somewhere_empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pictures, "save_curves", lambda folder, metrics: None)


def play(name: str, *flags, code: int = 0) -> Run:
    """Run an example in a tiny size; return its last run if it succeeds."""
    member = WITHOUT[name][0]
    words = [*tiny.without_noise(member, tiny.TINY), "--steps", "3", *flags]
    words += ["--blocks", "1"] if member == "cyclegan" else []
    assert tiny.example(name).main(words) == code
    return None if code else Run(numbered_runs(Path("runs"))[-1])


def size(path) -> tuple[int, int]:
    with Image.open(path) as image:
        image.load()
        return image.size


# -- what each one trains -------------------------------------------------------------------


@pytest.mark.parametrize("name", WITHOUT)
def test_without_files_it_trains_on_what_the_program_draws(name, capsys):
    run = play(name)
    assert (run.config["member"], run.config["data"]["data"]) == WITHOUT[name]
    assert len(tiny.metrics(run)) == 3
    assert capsys.readouterr().err.splitlines()[1:] == []  # at most a line about the recipe


@pytest.mark.parametrize("name", WITHOUT)
def test_with_files_it_trains_on_the_real_set(name, capsys):
    """The files do not exist, so the error names what the example looked for."""
    play(name, "--dataroot", "nowhere", code=1)
    *recipe, error = capsys.readouterr().err.splitlines()
    assert re.match(r"error: (\S+/)?nowhere does not exist; give ", error)
    assert len(recipe) <= 1
    assert not Path("runs").exists() or not numbered_runs(Path("runs"))


@pytest.mark.parametrize("name", ["train_mnist", "wgan_gp", "conditional_gan"])
def test_mnist_is_found_where_it_usually_is(name, capsys):
    Path("data/mnist").mkdir(parents=True)
    play(name, code=1)
    assert "MNIST" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("name", [name for name in WITHOUT if name != "cyclegan"])
def test_another_data_set_is_the_users_choice(name):
    assert play(name, "--data", "shapes").config["data"]["data"] == "shapes"


def test_linear_layers_have_sizes_of_their_own():
    """tiny.TINY sets the widths, so the learning rate shows that the example's options are used."""
    assert play("train_mnist", "--network", "mlp").config["options"]["lr"] == 2e-4
    options = play("train_mnist", "--network", "mlp", "--lr", "0.1").config["options"]
    assert (options["lr"], options["network"]) == (0.1, "mlp")
    assert play("train_mnist").config["options"]["lr"] == 5e-4


# -- what each one leaves -------------------------------------------------------------------


def test_wgan_gp_prints_the_distance_of_each_epoch(capsys):
    run = play("wgan_gp")  # an epoch has one step: 5 batches of 4
    rows = [row["distance"] for row in tiny.metrics(run)]
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch ")]
    assert said == [f"epoch {i + 1}: distance {each:.2f}" for i, each in enumerate(rows)]


def test_progressive_prints_the_distance_at_each_size(capsys):
    run = play("progressive", "--phase-images", "4", "--steps", "5")
    rows = tiny.metrics(run)
    assert [row["level"] for row in rows] == [0, 0, 1, 1, 2]  # no step lies within a fade
    medians = {4: rows[:2], 8: rows[2:4], 16: rows[4:]}
    expected = [
        f"{n} x {n} pixels: distance {np.median([row['distance'] for row in of]):.2f}"
        for n, of in medians.items()
    ]
    assert [line for line in capsys.readouterr().out.splitlines() if "pixels:" in line] == expected


def test_stylegan_draws_what_styles_do():
    run = play("stylegan_simple", "--mapping-layers", "2")
    generated = {path.name for path in (run.folder / "generated").glob("*.png")}
    assert {"mixing.png", "truncation.png", "noise.png", "interpolation.png"} < generated
    assert size(run.folder / "generated" / "mixing.png") == (8 * 18 + 2, 6 * 18 + 2)


def test_conditional_gan_draws_every_class_and_the_one_asked_for():
    run = play("conditional_gan", "--class", "7")
    assert size(run.folder / "classes.png") == (10 * 18 + 2, 8 * 18 + 2)
    assert size(run.folder / "class-7.png") == (8 * 18 + 2, 8 * 18 + 2)
    trained = minigan.load(run.folder)
    expected = trained.game.data.picture(trained.sample(64, y=7))
    with Image.open(run.folder / "class-7.png") as image:
        np.testing.assert_array_equal(np.asarray(image), expected)
    columns = trained.game.data.picture(trained.sample(80, y=np.arange(80) % 10), 10)
    with Image.open(run.folder / "classes.png") as image:
        np.testing.assert_array_equal(np.asarray(image), columns)


def test_cyclegan_compares_new_faces_with_their_true_translations(capsys):
    run = play("cyclegan", "--max-images", "8", "--seed", "5")
    assert size(run.folder / "translations.png") == (8 * 18 + 2, 6 * 18 + 2)
    trained = minigan.load(run.folder)
    summer, winter = seasons.pairs(5, range(8, 108), 16)  # the faces behind the eight of the data
    rows = [
        summer,
        trained.translate(summer, 1),
        winter,
        winter,
        trained.translate(winter, 0),
        summer,
    ]
    expected = trained.game.data.picture(np.concatenate([each[:8] for each in rows]))
    with Image.open(run.folder / "translations.png") as image:
        np.testing.assert_array_equal(np.asarray(image), expected)

    out = capsys.readouterr().out.splitlines()
    for name, x, y in (("winter", summer, winter), ("summer", winter, summer)):
        at = out.index(f"to {name}:")
        error = np.abs(trained.translate(x, name) - y).mean()
        identity = np.abs(x - y).mean()
        start = "  L1 to the true translation   "
        assert out[at + 1].startswith(f"{start}translation {error:.3f}, identity {identity:.3f}, ")
        assert out[at + 2].startswith("  L1 after the way back        as it is ")
    assert out[-1].endswith(f"sample {run.folder} --images PATH --class winter")


def test_cyclegan_translates_between_two_folders_of_the_user(capsys):
    pixels = np.zeros((20, 20, 3), np.uint8)
    for name in ("trainA/1.png", "trainA/2.png", "trainB/1.png", "trainB/2.png", "testA/3.png"):
        Path("zoo", name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(Path("zoo", name))
    run = play("cyclegan", "--dataroot", "zoo", "--batch-size", "1")
    assert run.config["data"]["data"] == "folder"
    assert not (run.folder / "translations.png").exists()
    assert capsys.readouterr().out.endswith("--images PATH --class B\n")


def test_the_two_folders_may_be_given_one_by_one_and_be_moved(capsys):
    for name in ("summer/1.png", "summer/2.png", "winter/1.png", "winter/2.png"):
        Path(name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(name)
    run = play("cyclegan", "--dataroot", "summer", "winter", "--batch-size", "1")
    assert (run.config["dataroot"], run.config["classes"]) == (["summer", "winter"], ["A", "B"])
    for name in ("summer", "winter"):
        Path(name).rename(f"old-{name}")
    moved = ["--dataroot", "old-summer", "--dataroot", "old-winter"]
    assert main(["resume", str(run.folder), "--steps", "2"]) == 1
    assert "summer does not exist" in capsys.readouterr().err
    assert main(["resume", str(run.folder), "--steps", "2", *moved]) == 0
    assert main(["sample", *moved, str(run.folder)]) == 0
    assert main(["train", "dcgan", "--data", "celeba", "--dataroot", "a", "b"]) == 1
    assert main(["train", "cyclegan", "--dataroot", "a", "b", "c"]) == 1
    said = capsys.readouterr().err
    assert "--dataroot a b: two paths are the two classes of --data folder" in said
    assert "--dataroot ('a', 'b', 'c'): must be a path, or two" in said


@pytest.mark.parametrize("wrong", ["10", "-1", "seven"])
def test_a_class_that_there_is_not_is_refused_before_training(wrong, capsys):
    with pytest.raises(SystemExit) as stop:
        play("conditional_gan", f"--class={wrong}")
    assert stop.value.code == 2
    assert "argument --class: invalid " in capsys.readouterr().err
    assert not Path("runs").exists()


@pytest.mark.parametrize("flags", [[], ["--spectral-norm"]])
def test_objectives_shows_each_on_both_data_sets_in_a_picture_and_a_film(
    monkeypatch, capsys, flags
):
    objectives = tiny.example("objectives")
    rows = {name: objectives.OBJECTIVES[name] for name in ("hinge", "wasserstein")}
    monkeypatch.setattr(objectives, "OBJECTIVES", rows)
    monkeypatch.setattr(objectives, "FRAMES", 2)
    assert objectives.main(["--steps", "4", *flags]) == 0
    width, height = 2 * SIDE, 2 * (SIDE + 2 * objectives.LINE)
    assert size("runs/objectives.png") == (width, height)
    with Image.open("runs/objectives.gif") as film:
        assert (film.size, film.n_frames) == ((width, height), 2)
    runs = [Run(folder) for folder in numbered_runs(Path("runs"))]
    played = [(run.config["data"]["data"], run.config["options"]["loss"]) for run in runs]
    assert played == [(data, loss) for data in ("ring", "grid") for loss in rows]
    bounded = [run.config["options"]["spectral_norm"] for run in runs]
    assert bounded == [bool(flags), True, bool(flags), True]  # Wasserstein is refused without

    differ = {"loss": "any", "spectral_norm": "any"}
    options = [{**run.config["options"], **differ} for run in runs]
    assert all(each == options[0] for each in options)

    # Each tile shows the last checkpoint of its run.
    with Image.open("runs/objectives.png") as image:
        sheet = np.asarray(image)
    for i, (run, (data, loss)) in enumerate(zip(runs, played, strict=True)):
        y, x = height // 2 * (i // 2), width // 2 * (i % 2)
        expected = objectives.tile(data, loss, checkpoint.newest_first(run.checkpoints)[0])
        np.testing.assert_array_equal(sheet[y : y + height // 2, x : x + width // 2], expected)
    out = capsys.readouterr().out.splitlines()
    assert out[-1] == "Look at runs/objectives.png and runs/objectives.gif"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--steps", "0"], "error: --steps 0: must be at least 1"),
        (["--out", "file"], "error: --out file: file is not a folder; give another path"),
    ],
)
def test_objectives_tells_in_a_sentence_what_is_wrong(flags, message, capsys):
    Path("file").write_text("")
    assert tiny.example("objectives").main(flags) == 1
    assert capsys.readouterr().err.startswith(message)


def test_objectives_stops_when_a_run_is_interrupted(monkeypatch, capsys):
    """After Ctrl-C, `minigan.train` returns a run that has not ended."""
    train, begun = minigan.train, []

    def interrupted(member, data, say, **options):
        begun.append(options["loss"])
        options["steps"] -= len(begun) == 2
        return train(member, data, say, **options)

    monkeypatch.setattr(minigan, "train", interrupted)
    assert tiny.example("objectives").main(["--steps", "2"]) == 130
    assert begun == ["non-saturating", "minimax"]
    assert capsys.readouterr().err == "interrupted\n"
    assert not Path("runs/objectives.png").exists()


# -- how well a conditional G obeys ---------------------------------------------------------


@pytest.mark.skipif(not DEEP, reason="three runs of several minutes")
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_of_the_digits_asked_for_95_percent_are_drawn(seed):
    run = minigan.train("conditional", "digits", seed=seed, device="cpu")
    asked = np.arange(2000) % 10
    fakes = Samples("digits", run.sample(2000, y=asked), asked)
    share = METRICS["asked"].measure(fakes, fakes)["share"]
    print(f"seed {seed}: {share:.2%}")
    assert share >= 0.95
