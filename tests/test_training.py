"""The game, and the training around it: repeatable, resumable, and not disturbed by looking on."""

import io
import itertools
import json
import math
import signal
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
from minigan.losses import GENERATOR_LOSSES
from minigan.training.config import Config
from PIL import Image

import minigan.functional as F
from minigan import tensor
from minigan.backend import threads
from minigan.models.dcgan import Discriminator, Generator
from minigan.optim import Adam
from minigan.tensor import grad
from minigan.training import checkpoint, game, loop, pictures, terminal
from minigan.training.loop import draw_noise, random_stream, sample, to_tensor
from minigan.training.terminal import Progress

rng = np.random.default_rng


@pytest.fixture(autouse=True)
def somewhere_else(tmp_path, monkeypatch):
    """Work in an empty folder, and leave out the curves, which take longer than the training."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pictures, "save_curves", lambda folder, metrics: None)


# -- the round ----------------------------------------------------------------------------------


def networks(seed=0):
    """Both networks in float64, away from their first values, where D knows nothing."""
    G, D = Generator(3, 2, 1, 16, rng(seed)).double(), Discriminator(2, 1, 16, rng(seed)).double()
    for p in (*G.parameters(), *D.parameters()):
        p.data = p.data + 0.2 * rng(seed + 1).standard_normal(p.shape)
    return G, D


def noises(seed=5):
    """A function that gives other noise at each call, and always the same series."""
    values = rng(seed)
    return lambda: tensor(values.standard_normal((4, 3, 1, 1)))


def reals(seed):
    return tensor(rng(seed).uniform(-1, 1, (4, 1, 16, 16)))


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


def round_by_hand(G, D, adam_G, adam_D, x, noise, loss, fresh):
    """The tutorial's way: probabilities and logarithms, gradients that add up in `.grad`."""
    p_real = D(x)
    loss_real = -F.log(p_real).mean()
    loss_real.backward()
    fakes = G(noise())
    p_fake = D(fakes.detach())
    loss_fake = -F.log(1 - p_fake).mean()
    loss_fake.backward()
    adam_D.step()

    judged = D(G(noise()) if fresh else fakes)
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


@pytest.mark.parametrize("loss", GENERATOR_LOSSES)
@pytest.mark.parametrize("fresh", [True, False])
def test_three_rounds_equal_the_same_rounds_by_hand(fresh, loss):
    G, D = networks()
    opts = [Adam(n.parameters(), lr=0.01, betas=(0.5, 0.999)) for n in (G, D)]
    G2, D2 = networks()
    plain = [PlainAdam(n.parameters(), 0.01, 0.5, 0.999) for n in (G2, D2)]
    noise, noise2 = noises(), noises()
    for i in range(3):
        played = game.play_round(
            G, D, *opts, reals(i), noise, GENERATOR_LOSSES[loss], fresh_noise=fresh
        )
        by_hand = round_by_hand(G2, D2, *plain, reals(i), noise2, loss, fresh)
        assert played == pytest.approx(by_hand, rel=1e-9)
    for network, other in ((G, G2), (D, D2)):
        expected = other.state_dict()
        for key, value in network.state_dict().items():  # batch norm's buffers are among them
            np.testing.assert_allclose(value.numpy(), expected[key].numpy(), 1e-8, 1e-11, True, key)


def snapshot(network):
    return {key: value.numpy().copy() for key, value in network.state_dict().items()}


def changed(before, after):
    """The kinds of entries that differ: "weights" and "buffers" of batch norm."""
    names = [key for key in before if not np.array_equal(before[key], after[key])]
    return {"buffers" if "running" in n or "tracked" in n else "weights" for n in names}


@pytest.mark.parametrize("fresh", [True, False])
def test_each_half_of_a_round_updates_its_own_network_only(fresh, monkeypatch):
    G, D = networks()
    seen, reached = [], []

    def watched(network):
        """An Adam that notes both networks right before and right after its step."""
        opt = Adam(network.parameters(), lr=0.01)
        step = opt.step

        def noted(grads):
            seen.append((snapshot(G), snapshot(D)))
            step(grads)
            seen.append((snapshot(G), snapshot(D)))

        opt.step = noted
        return opt

    def loss_of_d(*logits):
        loss = discriminator_loss(*logits)
        reached.extend(grad(loss, list(G.parameters()), allow_unused=True))
        return loss

    discriminator_loss = game.discriminator_loss
    monkeypatch.setattr(game, "discriminator_loss", loss_of_d)
    loss_g = GENERATOR_LOSSES["non-saturating"]
    calls = []
    noise = lambda: calls.append(1) or tensor(rng(len(calls)).standard_normal((4, 3, 1, 1)))
    game.play_round(G, D, watched(G), watched(D), reals(0), noise, loss_g, fresh)

    (g0, d0), (g1, d1), (g2, d2), (g3, d3) = seen  # around D's step, around G's step
    assert len(calls) == (2 if fresh else 1)
    assert reached
    assert all(g is None for g in reached)  # D's loss does not depend on G
    assert (changed(g0, g1), changed(d0, d1)) == (set(), {"weights"})
    assert changed(g1, g2) == ({"buffers"} if fresh else set())
    assert changed(d1, d2) == {"buffers"}  # G's half calls D, and that is all
    assert (changed(g2, g3), changed(d2, d3)) == ({"weights"}, set())
    assert changed(g3, snapshot(G)) == changed(d3, snapshot(D)) == set()
    assert all(p.grad is None for p in (*G.parameters(), *D.parameters()))


# -- noise and pictures that do not disturb --------------------------------------------------------


def test_streams_of_different_names_or_seeds_are_independent_and_repeat():
    first = lambda seed, name: random_stream(seed, name).standard_normal(4).tolist()
    drawn = [first(s, n) for s in (0, 1) for n in ("init", "noise", "order", "flips", "pictures")]
    assert len({tuple(d) for d in drawn}) == 10
    assert first(0, "noise") == drawn[1]


def test_noise_is_normal_or_uniform_float32_of_the_generators_shape():
    normal = draw_noise(rng(0), 500, 20, "normal", "cpu").numpy()
    uniform = draw_noise(rng(0), 500, 20, "uniform", "cpu").numpy()
    for z, deviation in ((normal, 1), (uniform, 1 / math.sqrt(3))):
        assert (z.shape, z.dtype) == ((500, 20, 1, 1), np.float32)
        assert abs(z.mean()) < 0.04
        assert z.std() == pytest.approx(deviation, rel=0.03)
    assert -1 <= uniform.min() < -0.99 < 0.99 < uniform.max() <= 1
    assert np.abs(normal).max() > 2


def test_noise_is_drawn_on_the_host_and_then_moved(monkeypatch):
    moved = []
    monkeypatch.setattr(loop.backend, "move", lambda a, device: moved.append((a, device)) or a)
    draw_noise(rng(0), 2, 3, "normal", "cuda:0")
    ((array, device),) = moved
    assert isinstance(array, np.ndarray)
    assert device == "cuda:0"


def test_pixels_become_values_from_minus_one_to_one():
    batch = np.zeros((1, 3, 1, 3), np.uint8)
    batch[0, :, 0] = [[0, 255, 255], [0, 255, 0], [0, 255, 0]]  # black, white, red
    colour, grey = to_tensor(batch, 3, "cpu").numpy(), to_tensor(batch, 1, "cpu").numpy()
    assert (colour.shape, colour.dtype) == ((1, 3, 1, 3), np.float32)
    assert colour[0, :, 0].T.tolist() == [[-1, -1, -1], [1, 1, 1], [1, -1, -1]]
    assert (grey.shape, grey.dtype) == ((1, 1, 1, 3), np.float32)
    np.testing.assert_allclose(grey[0, 0, 0], [-1, 1, 2 * 0.299 - 1], atol=1e-6)


def test_sampling_uses_the_running_statistics_and_changes_nothing():
    G = Generator(8, 4, 3, 16, rng(0))
    G(tensor(rng(1).standard_normal((16, 8, 1, 1)).astype("f")))  # moves the statistics
    before, z = snapshot(G), tensor(rng(2).standard_normal((5, 8, 1, 1)).astype("f"))
    images = sample(G, z)
    assert (images.shape, images.dtype) == ((5, 16, 16, 3), np.uint8)
    assert changed(before, snapshot(G)) == set()
    assert all(module.training for module in G.modules())
    alone = np.concatenate([sample(G, z[i : i + 1]) for i in range(5)])
    assert np.abs(alone.astype(int) - images).max() <= 1  # no image depends on its neighbours


def test_a_grid_shows_the_generator_at_noise_from_a_stream_of_its_own():
    run = tiny.train("out", "--steps", 3, "--seed", 7)
    arrays, _ = checkpoint.read(checkpoint.path_of(run.checkpoints, 3))
    z = draw_noise(random_stream(7, "pictures"), 64, 8, "normal", "cpu")
    G = Generator(8, 4, 3, 16, random_stream(7, "init"))
    for step in (0, 3):
        expected = pictures.grid(sample(G, z))
        with Image.open(run.samples / f"step-{step:08d}.png") as image:
            np.testing.assert_array_equal(np.asarray(image), expected)
        G.load_state_dict({k[2:]: v for k, v in arrays.items() if k.startswith("G.")})


def test_with_grids_at_every_step_or_none_at_all_the_training_is_the_same(monkeypatch):
    often = tiny.train("often", "--steps", 7, "--sample-every", 1, "--flip")
    seldom = tiny.train("seldom", "--steps", 7, "--sample-every", 1000, "--flip")
    monkeypatch.setattr(loop.Trainer, "draw_samples", lambda trainer: None)
    never = tiny.train("never", "--steps", 7, "--flip")
    assert [len(tiny.grids(r)) for r in (often, seldom, never)] == [10, 4, 1]
    assert tiny.newest(often) == tiny.newest(seldom) == tiny.newest(never)
    assert tiny.metrics(often) == tiny.metrics(seldom) == tiny.metrics(never)


# -- the same again --------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [[], ["--reuse-fakes", "--flip", "--noise", "uniform"]])
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(flags):
    runs = [
        tiny.train(out, "--steps", 6, "--sample-every", 2, "--seed", seed, *flags)
        for out, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    (first, again, other) = [(*tiny.newest(r), tiny.metrics(r), tiny.grids(r)) for r in runs]
    assert first == again
    assert all(mine != its for mine, its in zip(first, other, strict=True))
    differing = [key for key in first[0] if first[0][key] != other[0][key]]
    assert {"G.main.0.weight", "D.main.0.weight", "opt_G.0.exp_avg"} <= set(differing)


# At 64 x 64 pixels D's second layer has 64 tiles an image for minimal filtering, the third 16, the
# fourth 4. So 12 images fill several blocks of the second, do the third at once, and leave the
# fourth to columns; 40 fill blocks of the third and do the fourth at once. Ends are of few channels.
@pytest.mark.parametrize("batch", [12, 40])
def test_the_number_of_threads_changes_no_byte_of_a_training(batch, monkeypatch, thread_counts):
    def trained(count):
        threads.set_num_threads(count)
        G, D = Generator(8, 16, 3, 64, rng(0)), Discriminator(16, 3, 64, rng(1))
        opts = [Adam(n.parameters(), lr=2e-4, betas=(0.5, 0.999)) for n in (G, D)]
        draw, loss = rng(2), GENERATOR_LOSSES["non-saturating"]
        for _ in range(3):
            x = to_tensor(draw.integers(0, 256, (batch, 3, 64, 64), np.uint8), 3, "cpu")
            noise = lambda: draw_noise(draw, batch, 8, "normal", "cpu")
            game.play_round(G, D, *opts, x, noise, loss)
        found = {}
        for name, network, opt in zip("GD", (G, D), opts, strict=True):
            found |= {f"{name}.{key}": value for key, value in network.state_dict().items()}
            for i, state in enumerate(opt.state):
                found |= {f"opt_{name}.{i}.{key}": value for key, value in state.items()}
        return {key: np.asarray(value).tobytes() for key, value in found.items()}

    monkeypatch.setattr(threads, "_threads", None)
    one, *others = (trained(count) for count in thread_counts(1, 2, 4))
    assert len(one) == 24 + 21 + 3 * 24  # parameters, buffers, and Adam's step and two moments
    for other in others:
        assert [key for key in one if one[key] != other[key]] == []


OPTIONS = ["--flip", "--checkpoint-every", 2, "--sample-every", 2]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """Twelve steps in one go: two epochs of five, and two steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("straight"))
        patch.setattr(pictures, "save_curves", lambda folder, metrics: None)
        run = tiny.train("out", "--steps", 12, *OPTIONS)
        yield tiny.newest(run), tiny.metrics(run), tiny.grids(run)


@pytest.mark.parametrize("stops", [[1], [3], [5], [7], [10], [2, 4, 11]])
def test_a_resumed_training_equals_one_that_was_never_stopped(straight, stops, capsys):
    tiny.train("out", "--steps", stops[0], *OPTIONS)
    for total in [*stops[1:], 12]:
        run = tiny.train("out", "--steps", total, "--resume", "auto")
    assert run.folder.name == tiny.FIRST
    arrays, figures, grids = straight
    assert tiny.newest(run) == arrays
    assert tiny.metrics(run) == figures
    assert [row["step"] for row in figures] == list(range(1, 13))
    assert grids.items() <= tiny.grids(run).items()  # one more for each stop
    resumes = [(e["step"], e["checkpoint"]) for e in tiny.events(run) if e["event"] == "resume"]
    assert resumes == [(k, f"step-{k:08d}.safetensors") for k in stops]
    assert "skipped" not in capsys.readouterr().out


def test_a_training_resumed_on_another_number_of_threads_is_the_same(straight, monkeypatch):
    monkeypatch.setattr(threads, "_threads", None)  # what is set here is forgotten afterwards
    tiny.train("out", "--steps", 5, *OPTIONS, "--threads", 1)
    assert threads.get_num_threads() == 1
    run = tiny.train("out", "--steps", 12, "--resume", "auto", "--threads", 3)
    assert threads.get_num_threads() == run.config["options"]["threads"] == 3
    assert (tiny.newest(run), tiny.metrics(run)) == straight[:2]


def test_a_trainer_uses_the_threads_that_its_options_say(monkeypatch):
    monkeypatch.setattr(threads, "_threads", 1)
    config = Config(threads=3, image_size=16, ngf=4, ndf=4, batch_size=4, max_images=8, workers=1)
    images = loop.open_images(config, progress=False)
    loop.Trainer(config, images, loop.Run.create(Path("out"), "x", {}), print)
    assert threads.get_num_threads() == 3


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
        file.write('{"step": 7, "epo')  # as a process killed in the middle of a line leaves it
    run = tiny.train("out", "--resume", "auto")
    assert [e["step"] for e in tiny.events(run) if e["event"] == "resume"] == [6]
    assert (tiny.newest(run), tiny.metrics(run)) == straight[:2]


# -- Ctrl-C, in the process itself (the signal to a process of its own is in test_examples) ---------


def press_ctrl_c(monkeypatch, at_step, numbers=(signal.SIGINT,)):
    """Send SIGINT, or other signals, while that step is being played."""
    play_round = loop.play_round
    steps = iter(range(1, 1000))

    def played(*arguments):
        if next(steps) == at_step:
            for number in numbers:
                signal.raise_signal(number)
        return play_round(*arguments)

    monkeypatch.setattr(loop, "play_round", played)


def test_ctrl_c_finishes_the_step_and_saves_it(straight, monkeypatch, capsys, sigint):
    with monkeypatch.context() as patch:
        press_ctrl_c(patch, at_step=3)
        run = tiny.train("out", "--steps", 12, *OPTIONS, code=130)
    assert tiny.saved(run) == [2, 3]
    assert [row["step"] for row in tiny.metrics(run)] == [1, 2, 3]
    assert tiny.events(run)[-1].items() >= {"event": "interrupt", "step": 3}.items()
    assert (run.folder / "progress.gif").is_file()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert f"--resume {run.folder}" in capsys.readouterr().out
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
    """By a signal that no training has listened to; it would have been the end of pytest."""


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
        ([HANGUP, HANGUP], 129),  # of the system, and of the shell that ends
        ([HANGUP, signal.SIGTERM], 129),  # as when the machine is shut down
        ([signal.SIGTERM, HANGUP], 143),
    ],
)
def test_a_terminal_that_is_closed_ends_the_training_and_saves_it(
    monkeypatch, deadly, numbers, code
):
    handlers = [signal.getsignal(number) for number in terminal.SIGNALS]
    press_ctrl_c(monkeypatch, 3, numbers=numbers)
    run = tiny.train("out", "--steps", 12, *OPTIONS, code=code)
    assert tiny.saved(run) == [2, 3]
    assert tiny.events(run)[-1].items() >= {"event": "interrupt", "step": 3}.items()
    assert [signal.getsignal(number) for number in terminal.SIGNALS] == handlers


@has_hangup
@pytest.mark.parametrize("while_doing", ["save", "draw_figures"])
def test_a_second_hangup_does_not_end_what_the_first_has_begun(monkeypatch, deadly, while_doing):
    doing = getattr(loop.Trainer, while_doing)

    def hung_up(trainer):
        signal.raise_signal(HANGUP)
        return doing(trainer)

    monkeypatch.setattr(loop.Trainer, while_doing, hung_up)
    press_ctrl_c(monkeypatch, 3, numbers=[HANGUP])
    run = tiny.train("out", "--steps", 12, code=129)
    assert tiny.saved(run) == [3]
    assert (run.folder / "progress.gif").is_file()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_after_the_last_step_finds_the_run_done(monkeypatch, capsys, sigint, number):
    draw_figures = loop.Trainer.draw_figures

    def interrupted(trainer):
        signal.raise_signal(number)
        draw_figures(trainer)

    monkeypatch.setattr(loop.Trainer, "draw_figures", interrupted)
    run = tiny.train("out", "--steps", 3)
    assert tiny.events(run)[-1].items() >= {"event": "done", "step": 3}.items()
    assert (run.folder / "progress.gif").is_file()
    out = capsys.readouterr().out
    assert "Done: look at" in out
    assert "go on:" not in out


@pytest.mark.parametrize("number", terminal.SIGNALS)
def test_a_signal_that_was_ignored_at_the_start_stays_ignored(monkeypatch, number):
    """As by nohup, and by a shell for what runs in its background."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        press_ctrl_c(monkeypatch, 3, numbers=[number])
        run = tiny.train("out", "--steps", 4)
        assert signal.getsignal(number) == signal.SIG_IGN
    finally:
        signal.signal(number, before)
    assert tiny.saved(run) == [4]


def test_outside_of_the_main_thread_a_training_is_the_same_and_listens_to_no_signal(straight):
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
    assert told.startswith("interrupted; to go on from its checkpoint: ")
    assert told.endswith(f"train_celeba.py --resume {run.folder}")


# -- what the user sees meanwhile --------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


def trainer(step, total):
    """As much of a Trainer as Progress looks at, and the lines that it says."""
    said = []
    loader = SimpleNamespace(batches_per_epoch=5)
    return SimpleNamespace(step=step, total=total, loader=loader, say=said.append), said


def scores(step):
    values = {"loss_d": 1.2345, "loss_g": 0.5, "d_x": 0.7, "d_gz_before": 0.25, "d_gz_after": 0.5}
    return {"step": step, "epoch": (step - 1) // 5, **values, "images_per_second": 321.4}


FIGURES = "Loss_D 1.234  Loss_G 0.500  D(x) 0.70  D(G(z)) 0.25/0.50  321 img/s"


@pytest.mark.parametrize(
    ("first", "total", "lines"),
    [
        (
            0,
            9,
            [
                f"step 1/9  epoch 1/2  {FIGURES}  00:32 left",
                f"step 4/9  epoch 1/2  {FIGURES}  00:20 left",
                f"step 7/9  epoch 2/2  {FIGURES}  00:08 left",
                f"step 9/9  epoch 2/2  {FIGURES}  00:00 left",
            ],
        ),
        (
            7,
            11,
            [
                f"step 8/11  epoch 2/3  {FIGURES}  00:12 left",
                f"step 11/11  epoch 3/3  {FIGURES}  00:00 left",
            ],
        ),
    ],
)
def test_without_a_terminal_there_is_a_plain_line_now_and_then(monkeypatch, first, total, lines):
    """Every ten seconds, for the first and for the last step; a step takes four seconds here."""
    clock = [100.0]
    monkeypatch.setattr(terminal, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    stub, said = trainer(first, total)
    with Progress(stub) as progress:
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


def test_on_a_terminal_there_is_a_bar(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "stderr", Terminal())
    stub, said = trainer(0, 10)
    with Progress(stub) as progress:
        for step in range(1, 11):
            progress.show(scores(step))
    last = sys.stderr.getvalue().rstrip().rpartition("\r")[2]
    assert "100%" in last
    assert "10/10" in last
    assert f"epoch 2/2  {FIGURES}" in last
    assert said == []


def test_the_lines_of_a_training_count_from_the_step_it_went_on_from(monkeypatch, capsys):
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


# -- variants ----------------------------------------------------------------------------------------


def test_grey_pictures_are_learnt_and_drawn():
    run = tiny.train("out", "--nc", 1, "--steps", 3)
    arrays, _ = checkpoint.read(checkpoint.path_of(run.checkpoints, 3))
    assert arrays["G.main.6.weight"].shape == (4, 1, 4, 4)
    assert arrays["D.main.0.weight"].shape == (4, 1, 4, 4)
    for name in ("step-00000003.png", "reals.png"):
        with Image.open(run.samples / name) as image:
            pixels = np.asarray(image)
        assert pixels.shape == (146, 146, 3)
        assert (pixels == pixels[..., :1]).all()
        assert pixels.std() > 0


@pytest.mark.parametrize(
    "flags", [["--loss", "minimax"], ["--reuse-fakes"], ["--noise", "uniform"]]
)
def test_an_option_that_alters_the_training_does_so(straight, flags):
    run = tiny.train("out", "--steps", 12, *OPTIONS, *flags)
    assert tiny.newest(run)[0]["G.main.0.weight"] != straight[0][0]["G.main.0.weight"]
    assert tiny.metrics(run)[-1] != straight[1][-1]


def test_the_epoch_is_counted_from_zero_in_the_metrics(straight):
    assert [row["epoch"] for row in straight[1]] == [0] * 5 + [1] * 5 + [2] * 2


def test_a_training_ends_after_its_epochs_or_its_steps_whichever_is_first():
    assert tiny.saved(tiny.train("a", "--epochs", 2)) == [10]
    assert tiny.saved(tiny.train("b", "--epochs", 1, "--steps", 8)) == [5]
    assert sorted(tiny.grids(tiny.train("c", "--epochs", 2))) == [
        "real-beside-fake.png",
        "reals.png",
        "step-00000000.png",
        "step-00000005.png",
        "step-00000010.png",
    ]


def test_figures_are_reported_as_often_as_asked_and_reporting_changes_nothing(tmp_path):
    seldom = tiny.train(tmp_path / "seldom", "--steps", 7, "--log-every", 3)
    always = tiny.train(tmp_path / "always", "--steps", 7)
    rows = tiny.metrics(always)
    assert tiny.metrics(seldom) == [rows[2], rows[5], rows[6]]  # and the last one
    assert tiny.newest(seldom) == tiny.newest(always)
