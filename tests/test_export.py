"""`minigan export`: which images are written, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image

import minigan
from minigan import commands
from minigan.commands import export as page
from minigan.data.images import to_pixels
from minigan.keys import generator, noise
from minigan.training.run import Run, numbered_runs

RUNS = {"ring": "dcgan", "faces": "dcgan", "digits": "conditional", "seasons": "cyclegan"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """{kind of data: a tiny run}"""
    folder = tmp_path_factory.mktemp("base")
    with pytest.MonkeyPatch.context() as patch:
        tiny.hurry(patch)
        for data, member in RUNS.items():
            assert tiny.start(folder, member, data, "--steps", 1, "--ema", 0.5) == 0
    return dict(zip(RUNS, map(Run, numbered_runs(folder)), strict=True))


@pytest.fixture(autouse=True)
def somewhere_empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def export(run, *flags, code=0):
    words = ["export", str(run.folder), "--device", "cpu", *map(str, flags)]
    assert commands.main(words) == code


def images(folder):
    paths = sorted(Path(folder).iterdir())
    assert [path.name for path in paths] == [f"{i:06d}.png" for i in range(len(paths))]
    return np.stack([np.asarray(Image.open(path)) for path in paths])


@pytest.mark.parametrize("raw", [False, True])
def test_each_sample_has_its_own_noise_and_the_first_ones_stay_the_same(runs, raw, monkeypatch):
    monkeypatch.setattr(page, "PART", 4)
    flags = ["--seed", 3, *["--raw"] * raw]
    export(runs["faces"], "--pngs", 6, "--out", "six", *flags)
    export(runs["faces"], "--pngs", 3, "--out", "three", *flags)
    assert [path.name for path in Path("six").iterdir()] == ["fakes"]
    six, trained = images("six/fakes"), minigan.load(runs["faces"].folder)
    o = trained.game.options
    z = noise(generator(3, "export"), (6, o.nz), o.noise)
    G = trained.member.players["G"]
    with minigan.no_grad():
        drawn = (G.net if raw else G.average).eval()(minigan.Tensor(z)).numpy()
    np.testing.assert_allclose(six, [to_pixels(x[None])[0] for x in drawn], atol=1)  # rounding
    assert len(np.unique(six, axis=0)) == 6
    np.testing.assert_array_equal(images("three/fakes"), six[:3])


def test_reals_are_images_of_the_data_and_the_folder_belongs_to_the_run(runs, capsys):
    run = runs["digits"]
    export(run, "--pngs", 12, "--reals")
    folder = run.folder / "export"
    assert capsys.readouterr().out.endswith(f"12 samples and 12 reals in {folder}\n")
    data = minigan.training.session.reopen(run, None, print)
    each = (data.batch(np.array([i]), "cpu").numpy() for i in range(len(data)))
    known = {to_pixels(x)[0].tobytes() for x in each}
    reals = [real.tobytes() for real in images(folder / "reals")]
    assert len(set(reals)) == 12
    assert set(reals) <= known
    export(run, "--pngs", 12, code=1)
    said = capsys.readouterr().err
    assert said.startswith(f"error: {folder} exists, and images that are already there would be")
    assert len(images(folder / "fakes")) == 12


def test_the_classes_of_a_conditional_member_take_turns(runs, monkeypatch):
    asked = []
    real = page.draw_samples
    monkeypatch.setattr(
        page, "draw_samples", lambda *given: asked.append(given[-1]) or real(*given)
    )
    export(runs["digits"], "--pngs", 12, "--out", "out")
    assert np.concatenate(asked).tolist() == [*range(10), 0, 1]


@pytest.mark.parametrize(
    ("data", "flags", "words"),
    [
        ("ring", ["--pngs", 1], "a ring has no images to export; use minigan sample"),
        ("seasons", ["--pngs", 1], "member cyclegan translates images instead of making samples"),
        ("faces", ["--pngs", 0], "--pngs 0: must be from 1 to 100000"),
        ("faces", ["--pngs", 100_001], "--pngs 100001: must be from 1 to 100000"),
        ("faces", ["--pngs", 1, "--seed", -1], "--seed -1: must be from 0 to "),
        ("faces", ["--pngs", 1, "--dataroot", "x"], "only --reals reads the data; add it"),
        ("faces", ["--pngs", 99_999, "--reals"], "images for --reals; give fewer"),
        ("faces", ["--pngs", 1, "--out", ""], "--out '': must be a path"),
        ("faces", ["--pngs", 1, "--out", "file/x"], "file is not a folder; give another path"),
        ("faces", ["--pngs", 1, "--out", "there"], "there exists, and images that are already"),
    ],
)
def test_what_cannot_be_exported_is_refused(runs, data, flags, words, capsys):
    Path("file").write_text("")
    Path("there").mkdir()
    export(runs[data], *flags, code=1)
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert {path.name for path in Path().iterdir()} == {"file", "there"}


def test_a_checkpoint_outside_a_run_needs_a_folder_and_has_no_reals(runs, capsys):
    path = next(runs["faces"].checkpoints.iterdir()).rename("alone.safetensors")
    for flags in (["--pngs", 1], ["--pngs", 1, "--out", "out", "--reals"]):
        assert commands.main(["export", str(path), *map(str, flags)]) == 1
        assert "is not in a run; give --out, and leave out --reals" in capsys.readouterr().err
    assert commands.main(["export", str(path), "--pngs", "2", "--out", "out"]) == 0
    assert len(images("out/fakes")) == 2
