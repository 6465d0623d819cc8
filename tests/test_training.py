"""The game and its run: repeatable, resumable, and unaffected by pictures and logs."""

import io
import itertools
import json
import math
import signal
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
from PIL import Image

import minigan.functional as F
from minigan import tensor
from minigan.backend import threads
from minigan.data import images, mixture
from minigan.gans.objectives import OBJECTIVES, discriminator_loss
from minigan.gans.standard import DCGAN
from minigan.keys import generator, noise
from minigan.models.dcgan import Generator
from minigan.tensor import grad
from minigan.training import checkpoint, looks, loop, pictures, state, terminal
from minigan.training.draw import Draw
from minigan.training.terminal import Progress

rng = np.random.default_rng


@pytest.fixture(autouse=True)
def somewhere_else(tmp_path, monkeypatch):
    """Work in an empty folder, and skip the curves, which take longer than the run."""
    monkeypatch.chdir(tmp_path)
    tiny.hurry(monkeypatch)


# -- the step ------------------------------------------------------------------------------------


class Drawn:
    """The batches of three steps of a game, and new noise at each call; always the same sequence."""

    def __init__(self):
        self.batches, self.noises, self.asked = 0, rng(5), 0

    def reals(self):
        self.batches += 1
        return tensor(rng(self.batches).uniform(-1, 1, (4, 1, 16, 16)))

    def noise(self):
        self.asked += 1
        return tensor(self.noises.standard_normal((4, 3)))


def game(**options):
    """A DCGAN in float64, away from its initial values, at which D knows nothing."""
    options = {"batch_size": 4, "nz": 3, "ngf": 2, "ndf": 2, "lr": 0.01, "ema": 0.0, **options}
    member = DCGAN(DCGAN.Options(**options), (1, 16, 16), rng(0))
    for seed, name in enumerate("GD"):
        net = member.players[name].net.double()
        for p in net.parameters():
            p.data += 0.2 * rng(seed + 1).standard_normal(p.shape)
    return member


class PlainAdam:
    """Algorithm 1 of Kingma & Ba, line by line, on `.grad`."""

    def __init__(self, params, lr, b1, b2):
        self.params, self.lr, self.b1, self.b2, self.t = list(params), lr, b1, b2, 0
        self.m = [0.0 for _ in self.params]
        self.v = [0.0 for _ in self.params]

    def step(self):
        self.t += 1
        self.norm = math.sqrt(sum((p.grad.numpy() ** 2).sum() for p in self.params))
        for i, p in enumerate(self.params):
            g, p.grad = p.grad.numpy(), None
            self.m[i] = self.b1 * self.m[i] + (1 - self.b1) * g
            self.v[i] = self.b2 * self.v[i] + (1 - self.b2) * g**2
            m, v = self.m[i] / (1 - self.b1**self.t), self.v[i] / (1 - self.b2**self.t)
            p.data = p.data - self.lr * m / (np.sqrt(v) + 1e-8)


def step_by_hand(G, D, adam_G, adam_D, draw, loss, fresh):
    """The tutorial's way: probabilities and logarithms, gradients that add up in `.grad`."""
    p_real = D(draw.reals())
    loss_real = -F.log(p_real).mean()
    loss_real.backward()
    fakes = G(draw.noise())
    p_fake = D(fakes.detach())
    loss_fake = -F.log(1 - p_fake).mean()
    loss_fake.backward()
    adam_D.step()

    judged = D(G(draw.noise()) if fresh else fakes)
    loss_G = -F.log(judged).mean() if loss == "non-saturating" else F.log(1 - judged).mean()
    loss_G.backward()
    for p in D.parameters():
        p.grad = None
    adam_G.step()
    return {
        "loss_d": loss_real.item() + loss_fake.item(),
        "loss_g": loss_G.item(),
        "grad_d": adam_D.norm,
        "grad_g": adam_G.norm,
        "d_x": p_real.mean().item(),
        "d_gz_before": p_fake.mean().item(),
        "d_gz_after": judged.mean().item(),
    }


@pytest.mark.parametrize("loss", ["non-saturating", "minimax"])
@pytest.mark.parametrize("fresh", [True, False])
def test_three_steps_equal_the_same_steps_by_hand(fresh, loss):
    member, other = (game(loss=loss, fresh_noise=fresh) for _ in range(2))
    G, D = (other.players[name].net for name in "GD")
    adams = [PlainAdam(net.parameters(), 0.01, 0.5, 0.999) for net in (G, D)]
    draw, draw2 = Drawn(), Drawn()
    for _ in range(3):
        played = {name: value.item() for name, value in member.step(draw).items()}
        by_hand = step_by_hand(G, D, *adams, draw2, loss, fresh)
        assert played == pytest.approx(by_hand, rel=1e-9)
    for name, player in member.players.items():
        expected = other.players[name].net.state_dict()
        for key, value in player.net.state_dict().items():  # batch norm's buffers included
            np.testing.assert_allclose(value.numpy(), expected[key].numpy(), 1e-8, 1e-11, True, key)


def snapshot(network):
    return {key: value.numpy().copy() for key, value in network.state_dict().items()}


def changed(before, after):
    """The kinds of entries that differ: "weights", and "buffers" of batch norm."""
    names = [key for key in before if not np.array_equal(before[key], after[key])]
    return {"buffers" if "running" in n or "tracked" in n else "weights" for n in names}


@pytest.mark.parametrize("fresh", [True, False])
def test_each_half_of_a_step_updates_its_own_network_only(fresh, monkeypatch):
    member, draw = game(fresh_noise=fresh), Drawn()
    G, D = (member.players[name].net for name in "GD")
    seen, reached = [], []

    for player in member.players.values():  # record both networks right before and after the step
        step = player.optimizer.step

        def noted(grads, step=step):
            seen.append((snapshot(G), snapshot(D)))
            step(grads)
            seen.append((snapshot(G), snapshot(D)))

        player.optimizer.step = noted

    def loss_of_d(*scores):
        loss = discriminator_loss(*scores)
        reached.extend(grad(loss, list(G.parameters()), allow_unused=True))
        return loss

    row = OBJECTIVES["non-saturating"]._replace(discriminator=loss_of_d)
    monkeypatch.setitem(OBJECTIVES, "non-saturating", row)
    member.step(draw)

    (g0, d0), (g1, d1), (g2, d2), (g3, d3) = seen  # around D's step, around G's step
    assert draw.asked == (2 if fresh else 1)
    assert reached
    assert all(g is None for g in reached)  # D's loss does not depend on G
    assert (changed(g0, g1), changed(d0, d1)) == (set(), {"weights"})
    assert changed(g1, g2) == ({"buffers"} if fresh else set())
    assert changed(d1, d2) == {"buffers"}  # G's half calls D, but does not train it
    assert (changed(g2, g3), changed(d2, d3)) == ({"weights"}, set())
    assert changed(g3, snapshot(G)) == changed(d3, snapshot(D)) == set()
    assert all(p.grad is None for p in (*G.parameters(), *D.parameters()))


# -- noise and pictures do not affect training ---------------------------------------------------


def test_numbers_of_different_keys_are_independent_and_repeat():
    first = lambda *key: tuple(generator(*key).standard_normal(4).tolist())
    names = ("init", "noise", "order", "flip", "pictures", "sample")
    keys = [(s, n, *more) for s in (0, 1) for n in names for more in ((), (0,), (0, 1), (1, 0))]
    drawn = [first(*key) for key in keys]
    assert len(set(drawn)) == len(keys)
    assert [first(*key) for key in reversed(keys)] == drawn[::-1]  # no state is carried along
    assert first("1") != first(1)


def test_noise_is_normal_or_uniform_float32():
    normal, uniform = (noise(rng(0), (500, 20), kind) for kind in ("normal", "uniform"))
    for z, deviation in ((normal, 1), (uniform, 1 / math.sqrt(3))):
        assert (z.shape, z.dtype) == ((500, 20), np.float32)
        assert abs(z.mean()) < 0.04
        assert z.std() == pytest.approx(deviation, rel=0.03)
    assert -1 <= uniform.min() < -0.99 < 0.99 < uniform.max() <= 1
    assert np.abs(normal).max() > 2


POINTS = mixture.Mixture("ring", count=50)


def drawing(**options):
    return Draw(POINTS, 4, 3, **{"seed": 7, **options})


def drawn(draw, steps):
    """The draws of a member in these steps."""
    found = []
    for _ in range(steps):
        values = (draw.reals(), draw.noise(), draw.uniform("u", 1), draw.noise())
        found += [t.numpy().tobytes() for t in values]
        draw.next_step()
    return found


def test_what_is_drawn_in_a_step_is_a_function_of_the_seed_and_the_step():
    """So a checkpoint needs only three numbers for them, and resumed runs draw as if never stopped."""
    whole, first = drawing(), drawing()
    expected = drawn(whole, 20)
    assert len(set(expected)) == len(expected)
    before = drawn(first, 7)
    resumed = drawing()
    resumed.counts.update(first.counts)
    assert before + drawn(resumed, 13) == expected
    assert resumed.counts == whole.counts == {"step": 20, "batches": 20, "again": 0}
    assert not set(drawn(drawing(seed=8), 20)) & set(expected)


def test_what_one_name_draws_does_not_shift_what_another_draws():
    plain, busy = drawing(), drawing()
    for i in range(3):
        for _ in range(i):
            busy.uniform("something else", 5, 5)
        assert busy.noise().numpy().tobytes() == plain.noise().numpy().tobytes()
        for draw in (plain, busy):
            draw.next_step()
    # and an extra call in one step changes no later step
    busy.noise()
    for draw in (plain, busy):
        draw.next_step()
    assert busy.noise().numpy().tobytes() == plain.noise().numpy().tobytes()


def test_after_a_rollback_the_noise_is_another_and_the_data_the_same():
    first, again = drawing(), drawing()
    again.counts["again"] = 1
    pairs = list(zip(drawn(first, 3), drawn(again, 3), strict=True))
    assert [a == b for a, b in pairs] == [True, False, False, False] * 3


def test_what_is_random_is_drawn_on_the_host_and_then_moved(monkeypatch):
    moved = []
    monkeypatch.setattr(state.backend, "move", lambda a, device: moved.append(device) or a)
    draw = drawing(device="cuda:0")
    for value in (draw.noise(), draw.uniform("u")):
        assert isinstance(value.data, np.ndarray)
    assert moved == ["cuda:0", "cuda:0"]


def test_pixels_become_values_from_minus_one_to_one():
    batch = np.zeros((1, 3, 1, 3), np.uint8)
    batch[0, :, 0] = [[0, 255, 255], [0, 255, 0], [0, 255, 0]]  # black, white, red
    colour, grey = (images.to_tensor(batch, nc, "cpu").numpy() for nc in (3, 1))
    assert (colour.shape, colour.dtype) == ((1, 3, 1, 3), np.float32)
    assert colour[0, :, 0].T.tolist() == [[-1, -1, -1], [1, 1, 1], [1, -1, -1]]
    assert (grey.shape, grey.dtype) == ((1, 1, 1, 3), np.float32)
    np.testing.assert_allclose(grey[0, 0, 0], [-1, 1, 2 * 0.299 - 1], atol=1e-6)


def test_sampling_uses_the_running_statistics_and_changes_nothing():
    member = game()
    G = member.players["G"].net
    G(tensor(rng(1).standard_normal((16, 3))))  # changes the statistics
    before, z = snapshot(G), tensor(rng(2).standard_normal((5, 3)))
    samples = member.sample(z).numpy()
    assert samples.shape == (5, 1, 16, 16)
    assert changed(before, snapshot(G)) == set()
    assert all(module.training for module in G.modules())
    alone = np.concatenate([member.sample(z[i : i + 1]).numpy() for i in range(5)])
    np.testing.assert_allclose(alone, samples, atol=1e-12)  # no sample depends on its neighbours


def picture_of(run, prefix, seed=7):
    """The output of a network of a run's newest checkpoint for the noise of the run's pictures."""
    arrays, _ = checkpoint.read_file(checkpoint.newest_first(run.checkpoints)[0])
    G = Generator(8, 4, 3, 16, generator(seed, "init"))
    own = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
    G.load_state_dict(own)
    G.eval()
    z = tensor(noise(generator(seed, "pictures"), (images.ImageSet.shown, 8), "normal"))
    return images.grid(images.to_pixels(G(z).numpy()))


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_a_picture_shows_the_average_and_the_raw_generator_beside_it():
    """Both use the same noise, which has its own key."""
    run = tiny.train("out", "--steps", 3, "--seed", 7)
    average = picture_of(run, "players.G.average.")
    raw = picture_of(run, "players.G.net.")
    assert (average != raw).any()
    np.testing.assert_array_equal(pixels(run.samples / "step-00000003.png"), average)
    np.testing.assert_array_equal(
        pixels(run.samples / "raw-beside-average.png"), pictures.beside(raw, average)
    )
    reals = pixels(run.samples / "reals.png")
    np.testing.assert_array_equal(
        pixels(run.samples / "real-beside-fake.png"), pictures.beside(reals, average)
    )


def test_without_an_average_a_picture_shows_the_generator_and_nothing_is_beside_it():
    run = tiny.train("out", "--steps", 3, "--seed", 7, "--ema", 0)
    raw = picture_of(run, "players.G.net.")
    np.testing.assert_array_equal(pixels(run.samples / "step-00000003.png"), raw)
    assert "raw-beside-average.png" not in tiny.grids(run)
    arrays, _ = checkpoint.read_file(checkpoint.newest_first(run.checkpoints)[0])
    assert not [name for name in arrays if "average" in name]


def test_the_average_changes_no_byte_of_what_is_learnt():
    with_it, without = (tiny.train(f"ema{e}", "--steps", 5, "--ema", e) for e in (0.9, 0))
    (arrays, _), (bare, _) = tiny.newest(with_it), tiny.newest(without)
    assert {k: v for k, v in arrays.items() if ".average." not in k} == bare
    assert tiny.metrics(with_it) == tiny.metrics(without)


def test_with_grids_at_every_step_or_none_at_all_the_run_is_the_same(monkeypatch):
    often = tiny.train("often", "--steps", 7, "--sample-every", 1, "--flip")
    seldom = tiny.train("seldom", "--steps", 7, "--sample-every", 1000, "--flip")
    monkeypatch.setattr(looks.Looks, "samples", lambda self, step: None)
    never = tiny.train("never", "--steps", 7, "--flip")
    assert [len(tiny.grids(r)) for r in (often, seldom, never)] == [11, 5, 1]
    assert tiny.newest(often) == tiny.newest(seldom) == tiny.newest(never)
    assert tiny.metrics(often) == tiny.metrics(seldom) == tiny.metrics(never)


# -- the same again ------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [[], ["--reuse-fakes", "--flip", "--noise", "uniform"]])
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(flags):
    runs = [
        tiny.train(out, "--steps", 6, "--sample-every", 2, "--seed", seed, *flags)
        for out, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    (first, again, other) = [(*tiny.newest(r), tiny.metrics(r), tiny.grids(r)) for r in runs]
    assert first == again
    assert first[1] == other[1]  # the numbers count
    assert all(first[i] != other[i] for i in (0, 2, 3))
    differing = [key for key in first[0] if first[0][key] != other[0][key]]
    expected = {"G.net.main.0.weight", "D.net.main.0.weight", "G.optimizer.0.exp_avg"}
    assert {f"players.{name}" for name in expected} <= set(differing)


# At 64 x 64 pixels, minimal filtering has 64 tiles per image in D's second layer, 16 in the third, 4 in
# the fourth. So 12 images fill several blocks of the second, do the third at once, and leave the fourth
# to columns; 40 fill blocks of the third and do the fourth at once. The outer layers have few channels.
@pytest.mark.parametrize("batch", [12, 40])
def test_the_number_of_threads_changes_no_byte_of_a_run(batch, monkeypatch, thread_counts):
    class Pixels:
        def __init__(self):
            self.rng = rng(2)

        def reals(self):
            x = self.rng.integers(0, 256, (batch, 3, 64, 64), np.uint8)
            return images.to_tensor(x, 3, "cpu")

        def noise(self):
            return tensor(noise(self.rng, (batch, 8), "normal"))

    def trained(count):
        threads.set_num_threads(count)
        options = DCGAN.Options(batch_size=batch, nz=8, ngf=16, ndf=16)
        member, draw = DCGAN(options, (3, 64, 64), rng(0)), Pixels()
        for _ in range(3):
            member.step(draw)
        leaves = state.leaves(state.tree_of(member, {}))
        return {
            name: np.asarray(state.host(leaf)).tobytes()
            for name, leaf in leaves
            if not isinstance(leaf, int)
        }

    monkeypatch.setattr(threads, "_threads", None)
    one, *others = (trained(count) for count in thread_counts(1, 2, 4))
    # parameters, buffers, the average of G, and the two moments of each parameter
    assert len(one) == 24 + 21 + 25 + 2 * 24
    for other in others:
        assert [key for key in one if one[key] != other[key]] == []


OPTIONS = ["--flip", "--checkpoint-every", 2, "--sample-every", 2]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """Twelve steps in one go: two epochs of five, and two steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("straight"))
        tiny.hurry(patch)
        run = tiny.train("out", "--steps", 12, *OPTIONS)
        yield tiny.newest(run), tiny.metrics(run), tiny.grids(run)


@pytest.mark.parametrize("stops", [[1], [3], [5], [7], [10], [2, 4, 11]])
def test_a_resumed_run_equals_one_that_was_never_stopped(straight, stops, capsys):
    tiny.train("out", "--steps", stops[0], *OPTIONS)
    for total in [*stops[1:], 12]:
        run = tiny.train("out", "--steps", total, "--resume", "auto")
    assert run.folder.name == tiny.FIRST
    arrays, rows, grids = straight
    assert tiny.newest(run) == arrays
    assert tiny.metrics(run) == rows
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert grids.items() <= tiny.grids(run).items()  # one more grid for each stop
    resumes = [(e["step"], e["checkpoint"]) for e in tiny.events(run) if e["event"] == "resume"]
    assert resumes == [(k, f"step-{k:08d}.safetensors") for k in stops]
    assert "skipped" not in capsys.readouterr().out


def test_a_run_resumed_on_another_number_of_threads_is_the_same(straight, monkeypatch):
    monkeypatch.setattr(threads, "_threads", None)  # undoes the setting afterwards
    tiny.train("out", "--steps", 5, *OPTIONS, "--threads", 1)
    assert threads.get_num_threads() == 1
    run = tiny.train("out", "--steps", 12, "--resume", "auto", "--threads", 3)
    assert threads.get_num_threads() == run.config["run"]["threads"] == 3
    assert (tiny.newest(run), tiny.metrics(run)) == straight[:2]


def test_a_crash_between_two_checkpoints_costs_only_the_steps_since_the_last(straight, monkeypatch):
    write = loop.Run.open_metrics

    def crash_at_step_7(run):
        metrics = write(run)
        line = metrics.write
        metrics.write = lambda m: line(m) if m["step"] < 7 else 1 / 0
        return metrics

    with monkeypatch.context() as patch:
        patch.setattr(loop.Run, "open_metrics", crash_at_step_7)
        with pytest.raises(ZeroDivisionError):
            tiny.train("out", "--steps", 12, *OPTIONS)
    with open(f"out/{tiny.FIRST}/metrics.jsonl", "a") as file:
        file.write('{"step": 7, "epo')  # as left by a process killed in the middle of a line
    run = tiny.train("out", "--resume", "auto")
    assert [e["step"] for e in tiny.events(run) if e["event"] == "resume"] == [6]
    assert (tiny.newest(run), tiny.metrics(run)) == straight[:2]


# -- Ctrl-C, in the process itself (the signal to a process of its own is in test_examples) ------


def press_ctrl_c(monkeypatch, at_step, numbers=(signal.SIGINT,)):
    """Send SIGINT, or other signals, while this step is being played."""
    steps = iter(range(1, 1000))

    def played(step, member, draw):
        if next(steps) == at_step:
            for number in numbers:
                signal.raise_signal(number)
        return step(member, draw)

    tiny.wrap_steps(monkeypatch, played)


def test_ctrl_c_finishes_the_step_and_saves_it(straight, monkeypatch, capsys, sigint):
    with monkeypatch.context() as patch:
        press_ctrl_c(patch, at_step=3)
        run = tiny.train("out", "--steps", 12, *OPTIONS, code=130)
    assert tiny.saved(run) == [2, 3]
    assert [row["step"] for row in tiny.metrics(run)] == [1, 2, 3]
    assert tiny.events(run)[-1].items() >= {"event": "interrupt", "step": 3}.items()
    assert (run.folder / "progress.gif").is_file()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert f"-m minigan resume {run.folder}" in capsys.readouterr().out
    tiny.train("out", "--resume", run.folder)
    assert (tiny.newest(run), tiny.metrics(run)) == straight[:2]


def test_sigterm_saves_as_well_and_says_so_by_its_exit_code(straight, monkeypatch, sigint):
    with monkeypatch.context() as patch:
        press_ctrl_c(patch, at_step=3, numbers=[signal.SIGTERM])
        run = tiny.train("out", "--steps", 12, *OPTIONS, code=128 + signal.SIGTERM)
    assert tiny.saved(run) == [2, 3]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    tiny.train("out", "--resume", run.folder)
    assert (tiny.newest(run), tiny.metrics(run)) == straight[:2]


HANGUP = getattr(signal, "SIGHUP", None)
has_hangup = pytest.mark.skipif(HANGUP is None, reason="Windows has no SIGHUP")


class Ended(BaseException):
    """A signal that no run handled has ended the process: here, pytest."""


@pytest.fixture
def deadly():
    def end(number, frame):
        raise Ended(number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, HANGUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@has_hangup
@pytest.mark.parametrize(
    ("numbers", "code"),
    [
        ([HANGUP], 129),
        ([HANGUP, HANGUP], 129),  # from the system, and from the ending shell
        ([HANGUP, signal.SIGTERM], 129),  # as when the machine is shut down
        ([signal.SIGTERM, HANGUP], 143),
    ],
)
def test_a_terminal_that_is_closed_ends_the_run_and_saves_it(monkeypatch, deadly, numbers, code):
    handlers = [signal.getsignal(number) for number in terminal.SIGNALS]
    press_ctrl_c(monkeypatch, 3, numbers=numbers)
    run = tiny.train("out", "--steps", 12, *OPTIONS, code=code)
    assert tiny.saved(run) == [2, 3]
    assert tiny.events(run)[-1].items() >= {"event": "interrupt", "step": 3}.items()
    assert [signal.getsignal(number) for number in terminal.SIGNALS] == handlers


@has_hangup
@pytest.mark.parametrize("while_doing", ["save", "_draw_figures"])
def test_a_second_hangup_does_not_end_what_the_first_has_begun(monkeypatch, deadly, while_doing):
    doing = getattr(loop.Loop, while_doing)

    def hung_up(self):
        signal.raise_signal(HANGUP)
        return doing(self)

    monkeypatch.setattr(loop.Loop, while_doing, hung_up)
    press_ctrl_c(monkeypatch, 3, numbers=[HANGUP])
    run = tiny.train("out", "--steps", 12, code=129)
    assert tiny.saved(run) == [3]
    assert (run.folder / "progress.gif").is_file()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_after_the_last_step_finds_the_run_done(monkeypatch, capsys, sigint, number):
    draw_figures = loop.Loop._draw_figures

    def interrupted(self):
        signal.raise_signal(number)
        draw_figures(self)

    monkeypatch.setattr(loop.Loop, "_draw_figures", interrupted)
    run = tiny.train("out", "--steps", 3)
    assert tiny.events(run)[-1].items() >= {"event": "done", "step": 3}.items()
    assert (run.folder / "progress.gif").is_file()
    out = capsys.readouterr().out
    assert "Done: look at" in out
    assert "resume it:" not in out


@pytest.mark.parametrize("number", terminal.SIGNALS)
def test_a_signal_that_was_ignored_at_the_start_stays_ignored(monkeypatch, number):
    """nohup ignores signals, and so do shells for programs in the background."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        press_ctrl_c(monkeypatch, 3, numbers=[number])
        run = tiny.train("out", "--steps", 4)
        assert signal.getsignal(number) == signal.SIG_IGN
    finally:
        signal.signal(number, before)
    assert tiny.saved(run) == [4]


def test_outside_of_the_main_thread_a_run_is_the_same_and_listens_to_no_signal(straight):
    before = [signal.getsignal(number) for number in terminal.SIGNALS]
    during = []

    def train():
        with terminal.interrupt_flag():
            during.extend(signal.getsignal(number) for number in terminal.SIGNALS)
        runs.append(tiny.train("out", "--steps", 12, *OPTIONS))

    runs = []
    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert during == before
    assert (tiny.newest(runs[0]), tiny.metrics(runs[0])) == straight[:2]


def test_a_second_ctrl_c_ends_at_once(monkeypatch, capsys, sigint):
    press_ctrl_c(monkeypatch, at_step=3, numbers=[signal.SIGINT] * 2)
    run = tiny.train("out", "--steps", 12, "--checkpoint-every", 2, code=130)
    assert tiny.saved(run) == [2]
    assert [row["step"] for row in tiny.metrics(run)] == [1, 2]
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("interrupted; to resume from its checkpoint: ")
    assert told.endswith(f"-m minigan resume {run.folder}")


# -- progress reports ----------------------------------------------------------------------------


def scores(step):
    values = {"loss_d": 1.2345, "loss_g": 0.5, "d_x": 0.7, "d_gz_before": 0.25, "d_gz_after": 0.5}
    return {"step": step, "epoch": (step - 1) // 5, **values, "images_per_second": 321.4}


METRICS = "Loss_D 1.23  Loss_G 0.500  D(x) 0.70  D(G(z)) before 0.25  D(G(z)) after 0.50  321 img/s"


@pytest.mark.parametrize(
    ("first", "total", "lines"),
    [
        (
            0,
            9,
            [
                f"step 1/9  epoch 1/2  {METRICS}  00:32 left",
                f"step 4/9  epoch 1/2  {METRICS}  00:20 left",
                f"step 7/9  epoch 2/2  {METRICS}  00:08 left",
                f"step 9/9  epoch 2/2  {METRICS}  00:00 left",
            ],
        ),
        (
            7,
            11,
            [
                f"step 8/11  epoch 2/3  {METRICS}  00:12 left",
                f"step 11/11  epoch 3/3  {METRICS}  00:00 left",
            ],
        ),
    ],
)
def test_without_a_terminal_there_is_a_plain_line_now_and_then(monkeypatch, first, total, lines):
    """At the first step, every ten seconds, and at the last step; a step takes four seconds here."""
    clock = [100.0]
    monkeypatch.setattr(terminal, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    said = []
    with Progress(total, first, -(-total // 5), said.append) as progress:
        for step in range(first + 1, total + 1):
            clock[0] += 4
            progress.show(scores(step))
    assert said == lines
    assert sys.stderr.getvalue() == ""


CLOCKS = {"stands still": 0.0, "goes backwards": -1.0}


@pytest.mark.parametrize("tick", CLOCKS.values(), ids=CLOCKS)
def test_a_clock_that_stands_still_or_goes_backwards_costs_nothing_but_the_rates(
    straight, monkeypatch, capsys, tick
):
    now = itertools.count(100.0, tick)
    clock = SimpleNamespace(perf_counter=lambda: next(now), monotonic=lambda: next(now))
    for module in (loop, terminal):
        monkeypatch.setattr(module, "time", clock)
    run = tiny.train("out", "--steps", 12, *OPTIONS)
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line.pop("images_per_second") for line in lines] == [None] * 12
    assert (tiny.newest(run), lines) == straight[:2]
    lines = [s for s in capsys.readouterr().out.splitlines() if s.startswith("step ")]
    assert [lines[0].split()[1], lines[-1].split()[1]] == ["1/12", "12/12"]
    assert all(line.endswith(" nan img/s  00:00 left") for line in lines)


def test_the_lines_of_a_run_count_from_the_step_it_went_on_from(monkeypatch, capsys):
    monkeypatch.setattr(terminal, "PLAIN_LINE_SECONDS", 0)
    tiny.train("out", "--steps", 2)
    tiny.train("out", "--steps", 6, "--resume", "auto")
    lines = [s for s in capsys.readouterr().out.splitlines() if s.startswith("step ")]
    assert [s.split("  ")[:2] for s in lines] == [
        ["step 1/2", "epoch 1/1"],
        ["step 2/2", "epoch 1/1"],
        ["step 3/6", "epoch 1/2"],
        ["step 4/6", "epoch 1/2"],
        ["step 5/6", "epoch 1/2"],
        ["step 6/6", "epoch 2/2"],
    ]


# -- variants ------------------------------------------------------------------------------------


def test_grey_pictures_are_learnt_and_drawn():
    run = tiny.train("out", "--nc", 1, "--steps", 3)
    arrays, _ = checkpoint.read_file(checkpoint.path_of(run.checkpoints, 3))
    assert arrays["players.G.net.main.6.weight"].shape == (4, 1, 4, 4)
    assert arrays["players.D.net.main.0.weight"].shape == (4, 1, 4, 4)
    for name in ("step-00000003.png", "reals.png"):
        with Image.open(run.samples / name) as image:
            pixels = np.asarray(image)
        assert pixels.shape == (20, 74, 3)  # four side by side
        assert (pixels == pixels[..., :1]).all()
        assert pixels.std() > 0


@pytest.mark.parametrize(
    "flags", [["--loss", "minimax"], ["--reuse-fakes"], ["--noise", "uniform"]]
)
def test_an_option_that_determines_the_weights_does_so(straight, flags):
    run = tiny.train("out", "--steps", 12, *OPTIONS, *flags)
    assert tiny.newest(run)[0] != straight[0][0]
    assert tiny.metrics(run)[-1] != straight[1][-1]


def test_the_epoch_is_counted_from_zero_in_the_metrics(straight):
    assert [row["epoch"] for row in straight[1]] == [0] * 5 + [1] * 5 + [2] * 2


def test_a_run_ends_after_its_epochs_or_its_steps_whichever_is_first():
    assert tiny.saved(tiny.train("a", "--epochs", 2)) == [10]
    assert tiny.saved(tiny.train("b", "--epochs", 1, "--steps", 8)) == [5]
    assert sorted(tiny.grids(tiny.train("c", "--epochs", 2))) == [
        "raw-beside-average.png",
        "real-beside-fake.png",
        "reals.png",
        "step-00000000.png",
        "step-00000005.png",
        "step-00000010.png",
    ]


def test_metrics_are_reported_as_often_as_asked_and_reporting_changes_nothing(tmp_path):
    seldom = tiny.train(tmp_path / "seldom", "--steps", 7, "--log-every", 3)
    always = tiny.train(tmp_path / "always", "--steps", 7)
    rows = tiny.metrics(always)
    assert tiny.metrics(seldom) == [rows[2], rows[5], rows[6]]  # and the last one
    assert tiny.newest(seldom) == tiny.newest(always)
