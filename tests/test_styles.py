"""`minigan sample` with a member that has styles: mixing, truncation, noise, interpolation in w."""

import numpy as np
import pytest
import tiny
from PIL import Image

import minigan
from minigan.commands import main, sample
from minigan.commands.styles import NOISES, PSIS, ROWS, Styled
from minigan.data.images import ImageSet
from minigan.errors import UserError
from minigan.keys import generator, noise
from minigan.training import pictures
from minigan.training.looks import COLUMNS


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of StyleGAN whose noise has some strength."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "save_curves", lambda folder, metrics: None)
        patch.setattr(ImageSet, "shown", 4)
        out = tmp_path_factory.mktemp("runs")
        flags = ["--steps", 3, "--mapping-layers", 2, "--lr", 0.05]
        assert tiny.start(out, "stylegan", "faces", *flags) == 0
    (folder,) = out.glob("0*")
    return folder


def styled(run, raw=False, seed=0, psi=None, crossover=None) -> Styled:
    trained = minigan.load(run)
    given = {"raw": raw, "seed": seed, "psi": psi, "crossover": crossover}
    return Styled(trained.member, trained.game, run, "cpu", given)


def z(n, seed=0):
    return noise(generator(seed, "sample"), (n, 8), "normal")


# With the BLAS of some releases (NumPy 2.0's) the last bits of a row of a product depend on its place
# among the others, so an image drawn elsewhere in a batch differs by rounding: 3.5e-6 were met.
ROUNDING = 3e-5


def alike(found, expected):
    """Assert that images in [-1, 1] are the same up to rounding."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=ROUNDING)


def test_sample_draws_four_pictures_of_styles(run, tmp_path):
    out = str(tmp_path)
    assert main(["sample", str(run), "--n", "9", "--out", out, "--device", "cpu"]) == 0
    names = {path.name for path in tmp_path.glob("*.png")}
    assert names == {"grid.png", "interpolation.png", "mixing.png", "truncation.png", "noise.png"}
    first = {path.name: path.read_bytes() for path in tmp_path.glob("*.png")}
    assert main(["sample", str(run), "--n", "9", "--out", out, "--device", "cpu"]) == 0
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.png")} == first
    flags = ["--psi", "0", "--n", "9", "--out", out, "--device", "cpu", "--raw"]
    assert main(["sample", str(run), *flags]) == 0
    faces = [np.array(Image.open(path)).astype(int) for path in (tmp_path / "single").iterdir()]
    assert len(faces) == 9
    assert max(np.abs(face - faces[0]).max() for face in faces) <= 1  # one face, up to rounding


@pytest.mark.parametrize("crossover", [1, 4])
def test_a_mixing_table_has_the_rows_styles_below_the_crossover(run, crossover):
    found = styled(run, crossover=crossover)
    rows, columns = z(5)[:2], z(5)[2:]
    table = found.mixing(rows, columns).reshape(3, 4, 3, 16, 16)
    assert (table[0, 0] == 1).all()
    a, b = found.styles(rows, 1.0), found.styles(columns, 1.0)
    alike(table[1:, 0], found.images(a))
    alike(table[0, 1:], found.images(b))
    for r in range(2):
        for c in range(3):
            mixed = np.concatenate([a[r, :crossover], b[c, crossover:]])[None]
            alike(table[1 + r, 1 + c], found.images(mixed)[0])
    assert np.abs(table[1, 1] - table[1, 0]).max() > 100 * ROUNDING


def test_a_truncation_row_goes_from_the_opposite_over_the_mean_to_the_sample(run):
    found = styled(run, psi=0.5)
    rows = found.truncation(z(3)).reshape(3, len(PSIS), 3, 16, 16)
    alike(rows[:, PSIS.index(0)], rows[:1, PSIS.index(0)].repeat(3, 0))
    samples = minigan.load(run).sample(3)
    alike(rows[:, PSIS.index(1)], samples)
    alike(rows[:, PSIS.index(0.5)], found.samples(z(3)))
    w, mean = (found.styles(z(3), psi) for psi in (1, 0))
    np.testing.assert_allclose(found.styles(z(3), -1), 2 * mean - w, atol=1e-6)


def test_noise_pictures_show_what_noise_alone_changes(run):
    found = styled(run)
    for layer in found.member.G.average.synthesis.layers:
        layer.strength.data[...] = 0.0
    rows = found.noise(z(ROWS)).reshape(ROWS, COLUMNS, 3, 16, 16)
    alike(rows[:, :-1], rows[:, :1].repeat(COLUMNS - 1, 1))
    assert (rows[:, -1] < -0.5).all()  # no deviation: black
    found.member.G.average.synthesis.layers[-1].strength.data[...] = 0.5
    rows = found.noise(z(ROWS)).reshape(ROWS, COLUMNS, 3, 16, 16)
    assert len({rows[0, i].tobytes() for i in range(COLUMNS - 1)}) == COLUMNS - 1
    assert rows[:, -1].max() == 1
    assert NOISES > COLUMNS


def test_interpolation_goes_along_z_and_below_it_along_w(run):
    found, steps = styled(run), 5
    walk = sample.interpolate(z(4)[:2], z(4)[2:], steps)
    rows = found.interpolation(walk, steps).reshape(2, 2, steps, 3, 16, 16)
    alike(rows[:, 0].reshape(-1, 3, 16, 16), found.samples(walk))
    alike(rows[:, 1, [0, -1]], rows[:, 0, [0, -1]])
    a, b = found.styles(z(4)[:2], 1.0), found.styles(z(4)[2:], 1.0)
    alike(rows[:, 1, 2], found.images((a + b) / 2))
    assert np.abs(rows[:, 1, 2] - rows[:, 0, 2]).max() > 1e-4


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--psi", "nan"], "--psi nan: must be a number from -10 to 10"),
        (["--psi", "11"], "--psi 11.0: must be a number from -10 to 10"),
        (["--crossover", "0"], "--crossover 0: G has 6 styles; give a number from 1 to 5"),
        (["--crossover", "6"], "--crossover 6: G has 6 styles; give a number from 1 to 5"),
    ],
)
def test_values_that_cannot_be_used_are_refused(run, flags, sentence, capsys):
    assert main(["sample", str(run), *flags]) == 1
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("flags", [["--psi", "0.5"], ["--crossover", "2"]])
def test_members_without_styles_refuse_their_options(flags, tmp_path, monkeypatch, capsys):
    tiny.hurry(monkeypatch)
    tiny.start(tmp_path, "dcgan", "faces", "--steps", 1)
    (folder,) = tmp_path.glob("0*")
    assert main(["sample", str(folder), *flags]) == 1
    sentence = f"{flags[0]} {flags[1]}: member dcgan has no styles; leave it out"
    assert sentence in capsys.readouterr().err


def test_from_python_samples_are_truncated_too(run):
    trained = minigan.load(run)
    for raw in (False, True):
        assert (trained.sample(3, psi=1, raw=raw) == trained.sample(3, raw=raw)).all()
        alike(trained.sample(3, psi=0.5, raw=raw), styled(run, raw, psi=0.5).samples(z(3)))
    for psi in (float("nan"), 11, "half", True):
        with pytest.raises(UserError, match=r"^psi .*: must be a number from -10 to 10$"):
            trained.sample(1, psi=psi)
