"""Progressive growing as a member: its schedule, its steps, and runs that are stopped in a fade."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny
import walk

import minigan
from minigan.commands import main
from minigan.errors import UserError
from minigan.gans.penalties import slope_penalty
from minigan.gans.progressive import Options, Progressive
from minigan.keys import generator
from minigan.models.progressive import faded
from minigan.tensor import grad
from minigan.training import checkpoint, estimate, state
from minigan.training.plan import choose
from minigan.training.run import Run

rng = np.random.default_rng
SIZES = {"nz": 2, "ngf": 2, "ndf": 2, "batch_size": 4}


def member(size=16, **options) -> Progressive:
    return Progressive(Options(**{**SIZES, **options}), (3, size, size), generator("init"))


def contents(tree) -> dict[str, bytes]:
    return {
        path: leaf if isinstance(leaf, int) else np.asarray(state.host(leaf)).tobytes()
        for path, leaf in state.leaves(tree)
    }


# -- the schedule ---------------------------------------------------------------------------------


def test_the_levels_are_those_of_the_papers_schedule():
    """600,000 images for each size and for each fade; their code counts down, from 4 for 64 pixels."""
    found = member(64)
    lod = {
        0: 4,
        600: 4,
        900: 3.5,
        1200: 3,
        1800: 3,
        2100: 2.5,
        4500: 0.5,
        4800: 0,
        5400: 0,
        9999: 0,
    }
    assert {k: 4 - found.level(k * 1000) for k in lod} == lod
    assert found.level(600_001) == pytest.approx(1 / 600_000, rel=1e-12)


def test_a_level_never_falls_and_each_phase_has_its_images():
    found = member(16, phase_images=5)
    levels = [found.level(shown) for shown in range(40)]
    assert levels == sorted(levels)
    assert levels[:5] == [0] * 5
    assert levels[5:10] == [0, 0.2, 0.4, 0.6, 0.8]
    assert levels[10:15] == [1] * 5
    assert levels[15:20] == [1, 1.2, 1.4, 1.6, 1.8]
    assert levels[20:] == [2] * 20


def test_batches_are_halved_beyond_16_pixels():
    """As in the authors' code for one GPU; StyleGAN's has the same up to 64 pixels."""
    paper = {4: 128, 8: 128, 16: 128, 32: 64, 64: 32, 128: 16, 256: 8}
    found = member(256)
    assert {4 << k: 128 // found.batches_of(k, 128) for k in range(7)} == paper
    assert found.batches_of(1.5, 128) == 1
    assert found.batches_of(2.001, 128) == 2  # a fade to 32 pixels has images of 32 pixels
    # A batch stays a multiple of D's groups of four, or is not cut.
    assert [found.batches_of(6, n) for n in (2, 4, 8, 12, 16, 64)] == [1, 1, 2, 1, 4, 16]


# -- a step ---------------------------------------------------------------------------------------


def played(level_images, steps, size=16, **options):
    """A member and its Draw after some steps with phases of `level_images` images."""
    found, draw = walk.game(
        "progressive", "images", "cpu", size, **SIZES | options, phase_images=level_images
    )
    for _ in range(steps):
        found.step(draw)
        draw.next_step()
    return found, draw


@pytest.mark.parametrize("steps", range(9))
def test_a_step_moves_what_takes_part_and_nothing_else(steps):
    """Phases of 8 images are 2 steps: 4 pixels, a fade, 8 pixels, a fade, 16 pixels."""
    found, draw = played(8, steps)
    level = found.level(4 * steps)
    assert level == [0, 0, 0, 0.5, 1, 1, 1, 1.5, 2][steps]
    before = contents(state.tree_of(found, {}))
    metrics = found.step(draw)
    assert metrics["level"].item() == level
    after = contents(state.tree_of(found, {}))
    moved = {path for path in before if before[path] != after[path]}
    for name, player in found.players.items():
        for p, (key, _), kept in zip(
            player.optimizer.params,
            player.net.named_parameters(),
            player.optimizer.state,
            strict=True,
        ):
            takes_part = lambda level, net=player.net, p=p: any(p is q for q in net.used(level))
            assert (f"players.{name}.net.{key}" in moved) == takes_part(level), key
            # Adam begins anew with each phase, and does not count steps without a gradient.
            since = range(steps - steps % 2, steps + 1)
            assert kept["step"] == sum(takes_part(found.level(4 * step)) for step in since)
    assert found.extra == {"shown": 4 * (steps + 1)}


def test_a_step_beyond_16_pixels_is_several_updates():
    """A step of 16 reals at 32 pixels is two updates of 8, on the halves of what is drawn."""
    options = {"batch_size": 16, "penalty": 1.0}
    whole, draw = played(1, 0, 32, **options)
    draw.counts["step"] = 1  # 16 images shown, which is beyond all phases
    other, reals = played(1, 0, 32, **options)
    metrics = whole.step(draw)
    assert draw.counts["batches"] == 1
    reals.counts["step"] = 1
    x, z_D, z_G = reals.reals(), reals.noise(), reals.noise()
    u = reals.uniform("between", 1, 1, 1)
    each = [other.update(3.0, x[i], z_D[i], z_G[i], u[i]) for i in (slice(8), slice(8, 16))]
    other.extra["shown"] = 32
    assert contents(state.tree_of(other, {})) == contents(state.tree_of(whole, {}))
    assert metrics["distance"].item() == each[-1]["distance"].item()


@pytest.mark.parametrize("level", [0.25, 1, 1.75])
def test_the_losses_are_those_of_the_paper_and_so_are_their_gradients(level):
    """Each descended loss, and central differences of it in a random direction of what takes part."""

    def descended(mover="", h=0.0):
        """{player: (loss, gradients)} with one player's weights moved, the metrics, and the member."""
        found, draw = played(600, 0, drift=0.5)
        for name, player in found.players.items():
            used = player.net.double().used(level)
            for i, p in enumerate(used):
                p.data += 0.1 * rng(p.numel()).standard_normal(
                    p.shape
                )  # off the kinks of zero biases
                p.data += h * (name == mover) * rng(i).standard_normal(p.shape)

            def descend(loss, params, name=name):
                results[name] = loss.item(), [g.numpy() for g in grad(loss, params)]
                return loss.detach()

            player.descend = descend
        results = {}
        x = faded(draw.reals().double(), level)
        z, u = [draw.noise().double() for _ in "DG"], draw.uniform("between", 1, 1, 1).double()
        metrics = found.update(level, x, *z, u)
        return results, metrics, (found, x, *z, u)

    results, metrics, (found, x, z_D, z_G, u) = descended()
    D = lambda images: found.D.net(images, level)
    fakes = found.G.net(z_D, level).detach()
    distance = (D(x).mean() - D(fakes).mean()).item()
    penalty = slope_penalty(D, u * x + (1 - u) * fakes, 1.0).item()
    drift = 0.5 * (D(x).numpy() ** 2).mean()
    loss_G = -D(found.G.net(z_G, level)).numpy().mean()
    assert results["D"][0] == pytest.approx(-distance + 10 * penalty + drift, rel=1e-12)
    assert results["G"][0] == pytest.approx(loss_G, rel=1e-12)
    assert metrics["distance"].item() == pytest.approx(distance, rel=1e-12)
    assert metrics["penalty"].item() == pytest.approx(penalty, rel=1e-12)

    h = 1e-7  # so small that no kink is crossed
    for name, (_, gradients) in results.items():
        numeric = (descended(name, h)[0][name][0] - descended(name, -h)[0][name][0]) / (2 * h)
        terms = [(g * rng(i).standard_normal(g.shape)).ravel() for i, g in enumerate(gradients)]
        terms = np.concatenate(terms)
        # A loss of about 10 is accurate to 1e-15, so the quotient to 1e-8.
        assert abs(numeric - terms.sum()) <= 1e-6 * np.linalg.norm(terms)


def test_an_average_keeps_to_the_paper():
    """Gs of the paper: a decay of 0.999; Adam with a first beta of 0 and a second of 0.99."""
    o = Options()
    assert (o.ema, o.beta1, o.beta2, o.lr) == (0.999, 0.0, 0.99, 1e-3)
    assert (o.nz, o.ngf, o.ndf, o.penalty, o.drift) == (512, 512, 512, 10, 1e-3)


# -- samples --------------------------------------------------------------------------------------


def test_samples_have_the_full_size_and_the_level_of_the_weights():
    for steps, blocks in ((0, 4), (2, 4), (3, 8), (6, 8), (7, 16), (9, 16)):
        found, draw = played(8, steps)
        x = found.sample(draw.noise()).numpy()
        assert x.shape == (4, 3, 16, 16)
        assert (np.abs(x) <= 1).all()
        n = 16 // blocks
        pixels = x.reshape(4, 3, blocks, n, blocks, n)
        np.testing.assert_array_equal(pixels, pixels[:, :, :, :1, :, :1].repeat(n, 3).repeat(n, 5))
        if blocks > 4:
            assert (x[..., ::2, ::2] != x[..., 1::2, ::2]).any() or blocks == 8


def test_samples_are_cut_to_the_range_of_images():
    found, draw = played(8, 1, ema=0.0)
    found.G.net.rgb[0].bias.data[...] = [-5, 0, 5]
    x = found.sample(draw.noise()).numpy()
    assert (x[:, 0] == -1).all()
    assert (x[:, 2] == 1).all()
    assert (np.abs(x[:, 1]) < 1).any()


# -- runs -----------------------------------------------------------------------------------------

FLAGS = ["--phase-images", 10, "--steps", 11, "--checkpoint-every", 1, "--keep", 20]


def test_a_run_that_is_stopped_anywhere_goes_on_exactly(tmp_path, monkeypatch):
    """Before a fade, within it, at its end, and within the second one."""
    tiny.hurry(monkeypatch)
    tiny.start(tmp_path / "whole", "progressive", "faces", *FLAGS)
    (whole,) = (tmp_path / "whole").glob("0*")
    expected = tiny.newest(Run(whole)), tiny.metrics(Run(whole))
    levels = [row["level"] for row in expected[1]]
    assert levels == [0, 0, 0, 0.2, 0.6, 1, 1, 1, 1.2, 1.6, 2]
    for stop in (3, 4, 5, 9):
        parts = Path(shutil.copytree(whole, tmp_path / f"{stop}" / whole.name))
        for path in checkpoint.newest_first(parts / "checkpoints")[: 11 - stop]:
            path.unlink()
        assert main(["resume", str(parts)]) == 0
        assert (tiny.newest(Run(parts)), tiny.metrics(Run(parts))) == expected, stop
        assert tiny.grids(Run(parts)) == tiny.grids(Run(whole)), stop


def test_samples_of_a_checkpoint_are_those_of_its_level(tmp_path, monkeypatch, capsys):
    """A checkpoint from the middle of a fade holds all that its samples depend on."""
    tiny.hurry(monkeypatch)
    tiny.start(tmp_path, "progressive", "faces", *FLAGS, "--steps", 4)
    told = capsys.readouterr().out
    assert "  The schedule of progressive takes 10 steps; raise --steps.\n" in told
    (folder,) = tmp_path.glob("0*")
    trained = minigan.load(folder)
    x = trained.sample(5)  # 16 images shown: the fade to 8 pixels
    assert trained.member.level(trained.member.extra["shown"]) == 0.6
    np.testing.assert_array_equal(x[..., ::2, ::2], x[..., 1::2, 1::2])
    assert (x[..., ::4, ::4] != x[..., 2::4, 2::4]).any()
    assert main(["sample", str(folder), "--n", "3", "--device", "cpu"]) == 0


def test_the_estimate_is_made_where_a_step_costs_most():
    """In the last fade, where both networks have all their blocks and two ways past the newest."""
    found = member(32, phase_images=100)
    level = found.level(found.costliest * found.options.batch_size)
    assert 2 < level < 3
    assert found.complete == 600 / 4
    assert found.level(600 - 1) < 3 == found.level(600)
    plan = choose("progressive", {"data": "faces", "image_size": 32, **SIZES, "phase_images": 100})
    seen = []

    def step(self, draw):
        seen.append(self.level(draw.step * self.options.batch_size))
        return {}

    data = walk.dataset("images", 32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Progressive, "step", step)
        estimate.estimate(plan, data, "cpu")
    assert len(seen) == 3
    assert all(2 < each < 3 for each in seen)


def test_the_time_that_is_left_counts_small_images_less():
    """At 16 pixels and in the fade to them a step counts 1, at 8 and in that fade 1/4, at 4 1/16."""
    found = member(16, phase_images=40)  # ten steps
    assert found.workload(0, 50) == 10 / 16 + 20 / 4 + 20
    assert found.workload(0, 15) + found.workload(15, 99) == found.workload(0, 99)
    assert found.workload(28, 31) == 2 / 4 + 1
    assert found.workload(60, 99) == 39


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"init": "he"}, "--init he: the layers of progressive scale weights from N(0, 1); "),
        (
            {"batch_size": 6},
            "--batch-size 6: D compares samples in groups of 4; make it a multiple",
        ),
        ({"phase_images": 0}, "--phase-images 0: must be at least 1"),
        ({"drift": -1.0}, "--drift -1.0: must be at least 0"),
    ],
)
def test_what_cannot_be_played_is_refused(given, sentence):
    with pytest.raises(UserError) as caught:
        Options(**given)
    assert str(caught.value).startswith(sentence)


def test_points_are_refused():
    with pytest.raises(
        UserError, match=r"^--data ring: member progressive makes images, not points; "
    ):
        choose("progressive", {"data": "ring"})
    with pytest.raises(UserError, match="makes images, not points"):  # as a checkpoint may say
        Progressive.outline(Options(), (2,))


def test_sizes_that_no_doubling_reaches_are_refused():
    with pytest.raises(
        UserError, match=r"^--image-size 28: images grow from 4 pixels by doubling; "
    ):
        member(28)
    with pytest.raises(UserError, match="one at a time; raise it"):
        Options(batch_size=2).check_share(1)
