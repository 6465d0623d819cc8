"""StyleGAN as a member: mixing, lazy R1, the mean of w, truncation, and runs that are stopped."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny
import walk

from minigan import tensor
from minigan.commands import main
from minigan.errors import UserError
from minigan.gans.penalties import r1_penalty
from minigan.gans.stylegan import Options, StyleGAN, _mixed
from minigan.keys import generator
from minigan.tensor import grad
from minigan.training import checkpoint
from minigan.training.plan import choose
from minigan.training.run import Run

rng = np.random.default_rng
kinds = pytest.mark.parametrize("style", ["adain", "modulate"])


def played(steps, **options):
    """A member and its Draw after some steps."""
    found, draw = walk.game("stylegan", "images", "cpu", **options)
    for _ in range(steps):
        found.step(draw)
        draw.next_step()
    return found, draw


def test_the_defaults_are_those_of_the_paper():
    """8 layers, with a hundredth of the rate; mixing in 90 %; R1 with 10; Adam(0, 0.99) at 0.001."""
    o = Options()
    assert (o.mapping_layers, o.mapping_lr, o.mixing) == (8, 0.01, 0.9)
    assert (o.lr, o.beta1, o.beta2, o.r1, o.r1_every) == (1e-3, 0.0, 0.99, 10, 16)
    assert (o.nz, o.ngf, o.ndf) == (512, 512, 512)
    assert o.ema == pytest.approx(0.5 ** (32 / 10_000), abs=1e-4)  # 32 images of 10,000


# -- mixing ---------------------------------------------------------------------------------------


def test_a_crossover_is_at_every_layer_but_the_first_equally_often():
    u = np.stack(np.meshgrid(np.linspace(0, 0.999, 50), np.linspace(0, 0.9999, 700)), -1)
    u = u.reshape(-1, 2).astype(np.float32)
    mixed = _mixed(tensor(u), 0.9, 8).numpy()[:, :, 0]
    assert (mixed.any(1) == (u[:, 0] < 0.9)).all()
    assert (np.diff(mixed.astype(int), axis=1) >= 0).all()  # all from the crossover on
    crossover = 8 - mixed.sum(1)[mixed.any(1)]
    counts = np.bincount(crossover, minlength=9)
    assert set(np.flatnonzero(counts)) == set(range(1, 8))
    np.testing.assert_allclose(counts[1:8] / len(crossover), 1 / 7, rtol=0.02)


@pytest.mark.parametrize("mixing", [0.0, 1.0])
def test_mixing_is_never_or_always(mixing, monkeypatch):
    found, draw = played(0, mixing=mixing, batch_size=16)
    seen, synthesis = [], found.G.net.synthesis
    forward = synthesis.forward
    synthesis.forward = lambda w, noise=None: seen.append(w.numpy()) or forward(w, noise)
    found.step(draw)
    assert len(seen) == 2  # of D's half, and of G's
    for w in seen:
        assert w.shape == (16, 6, 4)
        same = (w == w[:, :1]).all((1, 2))
        assert same.all() if mixing == 0 else not same.any()
    assert not (seen[0] == seen[1]).any()


def test_noise_is_new_for_each_half_of_a_step():
    found, draw = played(0)
    drawn, normal = [], draw.normal
    draw.normal = lambda name, *shape: drawn.append((name, normal(name, *shape))) or drawn[-1][1]
    found.step(draw)
    draw.next_step()
    found.step(draw)
    assert [(name, x.shape) for name, x in drawn] == [("noise images", (4, 672))] * 4
    assert len({x.numpy().tobytes() for _, x in drawn}) == 4


# -- lazy R1 --------------------------------------------------------------------------------------


def test_over_the_steps_the_penalty_has_its_weight():
    """Of six steps with r1_every 3, the first and the fourth have one, which counts three times."""
    found, draw = played(0, r1=2.0, r1_every=3, ema=0.0)
    descend, differences = found.D.descend, []

    def seen(loss):
        differences.append(loss.item())
        return descend(loss)

    found.D.descend = seen
    for step in range(6):
        first = [p.numpy().copy() for p in found.D.net.parameters()]
        reals = walk.game("stylegan", "images", "cpu")[1]
        reals.counts.update(step=step, batches=step)
        metrics = found.step(draw)
        draw.next_step()
        differences[-1] -= metrics["loss_d"].item()
        before = walk.game("stylegan", "images", "cpu")[0].D.net
        for p, value in zip(before.parameters(), first, strict=True):
            p.data[...] = value
        penalty = r1_penalty(before, reals.reals()).item()
        if step % 3 == 0:
            assert differences[-1] == pytest.approx(3 * 2.0 * penalty, rel=1e-4)
            assert metrics["penalty"].item() == pytest.approx(penalty, rel=1e-5)
        else:
            assert differences[-1] == 0
            assert "penalty" not in metrics


@kinds
def test_r1_has_the_gradient_of_differences_through_all_layers(style):
    """The slope of D at images, and that of D(G) at styles, whose penalty goes through G as well."""
    found, draw = played(0, style=style, batch_size=8)
    G, D = found.G.net.synthesis.double(), found.D.net.double()
    for net in (G, D):
        for p in net.parameters():
            p.data += 0.2 * rng(p.numel()).standard_normal(p.shape)  # off the kinks of zero biases
    styles = tensor(rng(1).standard_normal((8, G.styles, 4)))
    x = draw.reals().double()
    differences(lambda: r1_penalty(D, x), D)
    differences(lambda: r1_penalty(lambda w: D(G(w)), styles), D, G)


def differences(penalty, *nets):
    """Compare the gradient of penalty() with its differences along a direction of the weights."""
    weights = [p for net in nets for p in net.parameters()]
    gradients = grad(penalty(), weights, allow_unused=True)
    directions = [rng(i).standard_normal(p.shape) for i, p in enumerate(weights)]
    terms = [
        (g.numpy() * d).ravel() for g, d in zip(gradients, directions, strict=True) if g is not None
    ]
    expected, values, h = np.concatenate(terms), [], 1e-7  # so small that no kink is crossed
    first = [p.numpy().copy() for p in weights]
    for sign in (1, -1):
        for p, start, d in zip(weights, first, directions, strict=True):
            p.data[...] = start + sign * h * d
        values.append(penalty().item())
    for p, start in zip(weights, first, strict=True):
        p.data[...] = start
    numeric = (values[0] - values[1]) / (2 * h)
    assert abs(numeric - expected.sum()) <= 1e-5 * np.linalg.norm(expected)


# -- the mean of w, and truncation ----------------------------------------------------------------


def test_the_mean_of_a_constant_w_is_reached_with_the_papers_decay():
    """1 - 0.995^t of it, after t steps."""
    found, draw = played(0)
    for net in found.nets.values():
        net.mapping.forward = lambda z: tensor(np.full(z.shape, 2.0, np.float32))
    for t in range(1, 4):
        found.follow(draw.noise())
        for name in ("net", "average"):
            mean = found.extra[name]["mean_w"]
            np.testing.assert_allclose(mean, 2 * (1 - 0.995**t), rtol=1e-5)


def test_the_average_of_g_has_a_mean_of_its_own():
    """It maps z to other w, so the mean of G's would not be the middle of what it draws."""
    found, draw = played(3, ema=0.9)
    z = draw.noise()
    for raw, name in ((True, "net"), (False, "average")):
        mean = found.extra[name]["mean_w"]
        one = found.styles(z, 0.0, raw).numpy()
        np.testing.assert_array_equal(one, np.broadcast_to(mean, one.shape))
    assert (found.extra["net"]["mean_w"] != found.extra["average"]["mean_w"]).all()
    without, _ = played(0, ema=0.0)
    assert set(without.extra) == {"net"}


@kinds
def test_psi_of_one_is_no_truncation_and_psi_of_zero_is_one_face(style):
    found, draw = played(3, style=style, ema=0.9)
    z = draw.noise()
    for raw, sample in ((False, found.sample), (True, found.sample_raw)):
        untouched = found.draw_styles(found.styles(z, 1.0, raw), raw=raw).numpy()
        assert untouched.tobytes() == sample(z).numpy().tobytes()
        faces = found.draw_styles(found.styles(z, 0.0, raw), raw=raw).numpy()
        np.testing.assert_allclose(faces, faces[:1].repeat(4, 0), rtol=0, atol=1e-6)
        half = found.styles(z, 0.5, raw).numpy()
        whole, mean = found.styles(z, 1.0, raw).numpy(), found.styles(z, 0.0, raw).numpy()
        np.testing.assert_allclose(half, (whole + mean) / 2, rtol=1e-5, atol=1e-7)
        assert np.abs(whole - mean).max() > 1e-4


def test_samples_are_deterministic_and_depend_on_z():
    """Their noise is fixed, so what differs between two samples is z alone."""
    found, draw = played(2)
    for layer in (*found.G.net.synthesis.layers, *found.G.average.synthesis.layers):
        layer.strength.data[...] = 0.5
    z = draw.noise()
    x = found.sample(z).numpy()
    assert (np.abs(x) <= 1).all()
    assert x.tobytes() == found.sample(z).numpy().tobytes()
    same = found.sample(tensor(z.numpy()[:1].repeat(4, 0))).numpy()
    np.testing.assert_allclose(same, same[:1].repeat(4, 0), rtol=0, atol=1e-6)
    assert (np.abs(x[1:] - x[:1]).max((1, 2, 3)) > 1e-4).all()


# -- runs -----------------------------------------------------------------------------------------

FLAGS = ["--r1-every", 4, "--mapping-layers", 2, "--mapping-lr", 0.5, "--steps", 7]
FLAGS += ["--checkpoint-every", 1, "--keep", 20]


@kinds
def test_a_run_that_is_stopped_anywhere_goes_on_exactly(style, tmp_path, monkeypatch):
    """At a penalty, and within the period to the next one."""
    tiny.hurry(monkeypatch)
    tiny.start(tmp_path / "whole", "stylegan", "faces", "--style", style, *FLAGS)
    (whole,) = (tmp_path / "whole").glob("0*")
    expected = tiny.newest(Run(whole)), tiny.metrics(Run(whole))
    arrays = expected[0][0]
    assert any(arrays["extra.average.mean_w"])
    for stop in (2, 4):
        parts = Path(shutil.copytree(whole, tmp_path / f"{stop}" / whole.name))
        for path in checkpoint.newest_first(parts / "checkpoints")[: 7 - stop]:
            path.unlink()
        assert main(["resume", str(parts)]) == 0
        assert (tiny.newest(Run(parts)), tiny.metrics(Run(parts))) == expected, stop
        assert tiny.grids(Run(parts)) == tiny.grids(Run(whole)), stop


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"init": "he"}, "--init he: the layers of stylegan scale weights from N(0, 1); leave it"),
        (
            {"batch_size": 6},
            "--batch-size 6: D compares samples in groups of 4; make it a multiple",
        ),
        ({"style": "spade"}, "--style spade: choose one of adain, modulate"),
        ({"mixing": 1.1}, "--mixing 1.1: must be at least 0 and at most 1"),
        ({"mapping_lr": 0.0}, "--mapping-lr 0.0: must be above 0"),
        ({"r1_every": 0}, "--r1-every 0: must be at least 1"),
    ],
)
def test_what_cannot_be_played_is_refused(given, sentence):
    with pytest.raises(UserError) as caught:
        Options(**given)
    assert str(caught.value).startswith(sentence)


def test_data_that_cannot_be_drawn_is_refused():
    with pytest.raises(UserError, match=r"^--data ring: member stylegan makes images, not points"):
        choose("stylegan", {"data": "ring"})
    with pytest.raises(UserError, match="member stylegan makes images, not points"):
        StyleGAN.outline(Options(), (2,))
    with pytest.raises(UserError, match=r"^--image-size 28: images grow from 4 pixels by doubling"):
        StyleGAN(Options(ngf=2, ndf=2, nz=2), (3, 28, 28), generator("init"))
