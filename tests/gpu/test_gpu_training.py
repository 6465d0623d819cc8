"""The training on the GPU: the CPU's losses, few launches, no copy to the host but for reports."""

import functools

import numpy as np
import pytest
import tiny
from minigan.losses import GENERATOR_LOSSES

from minigan import tensor
from minigan.models.dcgan import Discriminator, Generator
from minigan.optim import Adam
from minigan.training import game, loop, pictures
from minigan.training.loop import draw_noise, random_stream, to_tensor

rng = np.random.default_rng


@pytest.fixture(autouse=True)
def somewhere_else(tmp_path, monkeypatch):
    """Work in an empty folder, and leave out the curves, which take longer than the training."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pictures, "save_curves", lambda folder, metrics: None)


def training(device, dtype=np.float32, image_size=16, batch=4, **options):
    """A function that plays one round of a DCGAN with few channels, on one device."""
    G = Generator(8, 4, 3, image_size, rng(0)).to(dtype).to(device)
    D = Discriminator(4, 3, image_size, rng(1)).to(dtype).to(device)
    adam = functools.partial(Adam, lr=2e-3, betas=(0.5, 0.999))
    opt_G, opt_D = adam(G.parameters()), adam(D.parameters())
    noise, data = random_stream(0, "noise"), rng(3)

    def play(report=True):
        batch_ = data.integers(0, 256, (batch, image_size, image_size, 3), np.uint8)
        x = to_tensor(batch_.transpose(0, 3, 1, 2), 3, device).to(dtype)
        z = lambda: draw_noise(noise, batch, 8, "normal", device).to(dtype)
        loss = GENERATOR_LOSSES["non-saturating"]
        return game.play_round(G, D, opt_G, opt_D, x, z, loss, report=report, **options)

    return play


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize(("dtype", "bound"), [(np.float32, 1e-4), (np.float64, 1e-9)])
def test_the_losses_are_those_of_the_cpu(dtype, bound, fresh):
    plays = [training(device, dtype, fresh_noise=fresh) for device in ("cpu", "cuda:0")]
    for _ in range(4):
        expected, found = (play() for play in plays)
        for name, value in expected.items():
            assert found[name] == pytest.approx(value, rel=bound), name


def test_a_second_training_gives_the_same_bits():
    plays = [training("cuda:0") for _ in range(2)]
    for _ in range(3):
        first, second = (play() for play in plays)
        assert first == second


def test_memory_is_that_of_the_second_step_for_good():
    cupy = pytest.importorskip("cupy")
    pool = cupy.cuda.MemoryPool()
    with cupy.cuda.using_allocator(pool.malloc):
        play = training("cuda:0")
        for _ in range(2):
            play(report=False)
        held = pool.total_bytes()
        for _ in range(5):
            play(report=False)
        assert pool.total_bytes() == held > 0


# -- budgets, which the emulator counts ----------------------------------------------------------------


@pytest.fixture
def count():
    """The emulator's counters over a function's call."""
    emulator = pytest.importorskip("emulator")
    if not emulator.installed():
        pytest.skip("only the emulator counts launches and copies")

    def counted(function):
        emulator.reset_counters()
        function()
        return emulator.counters()

    return counted


def test_a_plain_step_of_the_documented_dcgan_stays_on_the_device(count):
    play = training("cuda:0", image_size=64, batch=2)
    play(report=False)  # Adam's moments are made
    plain, reported = count(lambda: play(report=False)), count(lambda: play())
    assert plain["device_to_host"] == 0
    assert plain["synchronisations"] == 0
    assert plain["host_to_device"] == 3  # a batch as bytes, and noise twice
    assert plain["launches"] + plain["products"] < 300
    assert reported["device_to_host"] == 7  # the seven figures


def test_the_public_api_stays_below_300_launches_as_well(count):
    G = Generator(8, 4, 3, 64, rng(0)).to("cuda")
    D = Discriminator(4, 3, 64, rng(1)).to("cuda")
    opt_G, opt_D = Adam(G.parameters()), Adam(D.parameters())
    x = tensor(rng(2).uniform(-1, 1, (2, 3, 64, 64)), dtype="f").to("cuda")
    z = tensor(rng(2).standard_normal((2, 8, 1, 1)), dtype="f").to("cuda")
    from minigan.functional import binary_cross_entropy_with_logits as bce

    def step():
        """The step of PyTorch's tutorial, on logits."""
        D.zero_grad()
        bce(D.logits(x), 1.0).backward()
        fake = G(z)
        bce(D.logits(fake.detach()), 0.0).backward()
        opt_D.step()
        G.zero_grad()
        bce(D.logits(fake), 1.0).backward()
        opt_G.step()

    step()
    counted = count(step)
    assert counted["launches"] + counted["products"] < 300
    assert counted["device_to_host"] == counted["synchronisations"] == 0


# -- the command line ----------------------------------------------------------------------------------

OPTIONS = ["--steps", 6, "--log-every", 2, "--sample-every", 3, "--checkpoint-every", 3]


def test_a_whole_run_has_the_cpu_s_losses_and_goes_on_there_and_back():
    on_gpu = tiny.train("gpu", *OPTIONS, "--device", "cuda", "--no-tf32")
    on_cpu = tiny.train("cpu", *OPTIONS)
    rows = tiny.metrics(on_gpu)
    assert [row["step"] for row in rows] == [2, 4, 6]
    for found, expected in zip(rows, tiny.metrics(on_cpu), strict=True):
        for name in expected:
            assert found[name] == pytest.approx(expected[name], rel=1e-4), name
    assert on_gpu.config["device"] == "cuda:0"
    # go on from the GPU's checkpoint on the CPU, and the other way
    tiny.train("gpu", "--resume", "auto", "--steps", 8, "--device", "cpu")
    tiny.train("cpu", "--resume", "auto", "--steps", 8, "--device", "cuda")
    for found, expected in zip(tiny.metrics(on_gpu), tiny.metrics(on_cpu), strict=True):
        for name in expected:
            assert found[name] == pytest.approx(expected[name], rel=1e-4), name
    pixels = [np.asarray(pictures.Image.open(run.samples / "step-00000006.png"), int)
              for run in (on_gpu, on_cpu)]  # fmt: skip
    assert np.abs(pixels[0] - pixels[1]).max() <= 1  # a rounding at the half of a grey level


def test_a_gpu_reports_every_tenth_step_and_the_last():
    run = tiny.train("runs", "--steps", 12, "--device", "cuda")
    assert [row["step"] for row in tiny.metrics(run)] == [10, 12]


def test_pictures_of_a_checkpoint_are_drawn_on_either_device():
    run = tiny.train("runs", "--steps", 2)
    for device in ("cpu", "cuda"):
        flags = ["--n", "3", "--out", device, "--device", device]
        assert tiny.generate.main(["--run", str(run.folder), *flags]) == 0
    grids = [np.asarray(pictures.Image.open(f"{d}/grid.png"), int) for d in ("cpu", "cuda")]
    assert np.abs(grids[0] - grids[1]).max() <= 1


def test_a_full_memory_is_one_sentence(monkeypatch, capsys):
    import cupy

    def full(*arguments):
        raise cupy.cuda.memory.OutOfMemoryError(10**9, 10**8)

    monkeypatch.setattr(loop, "play_round", full)
    assert tiny.train_celeba.main([*tiny.TINY, "--steps", "2", "--device", "cuda"]) == 1
    error = capsys.readouterr().err
    assert "error: no memory left: " in error
    assert "Out of memory allocating 1,000,000,000 bytes" in error
    assert "lower --batch-size, --ngf or --ndf" in error
    assert "Traceback" not in error
