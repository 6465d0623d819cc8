"""Training on the GPU: the CPU's losses, few launches, no copy to the host except for reports."""

import os

import numpy as np
import pytest
import tiny
import walk

from minigan import tensor
from minigan.gans.standard import DCGAN
from minigan.models.dcgan import Discriminator, Generator
from minigan.optim import Adam
from minigan.training import pictures

rng = np.random.default_rng
DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
STEPS = 8 if DEEP else 3


@pytest.fixture(autouse=True)
def somewhere_else(tmp_path, monkeypatch):
    """Work in an empty folder, and skip the curves, which take longer than the run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pictures, "save_curves", lambda folder, metrics: None)


def play(member, draw):
    """Play one step; return its metrics, still on the device."""
    metrics = member.step(draw)
    draw.next_step()
    return metrics


def read(metrics):
    return {name: value.item() for name, value in metrics.items()}


FLOAT32 = [(*pair, False, {}) for pair in walk.WALK]
FLOAT64 = [(*pair, True, {}) for pair in (walk.WALK if DEEP else [("dcgan", "images")])]
REUSED = [("dcgan", "images", double, {"fresh_noise": False}) for double in (False, True)]


@pytest.mark.parametrize(("name", "kind", "double", "options"), [*FLOAT32, *FLOAT64, *REUSED])
def test_the_metrics_are_those_of_the_cpu(name, kind, double, options):
    """In float64, samples of G and of its average are the CPU's too."""
    games = [walk.game(name, kind, device, **options) for device in ("cpu", "cuda:0")]
    if double:
        games = [walk.double(*game) for game in games]
    for _ in range(STEPS):
        expected, found = (read(play(*game)) for game in games)
        assert found == pytest.approx(expected, rel=1e-9 if double else 1e-4)
    if double:
        (here, draw), (there, there_draw) = games
        z, there_z = walk.inputs(here, draw), walk.inputs(there, there_draw)
        for a, b in ((here.sample, there.sample), (here.sample_raw, there.sample_raw)):
            np.testing.assert_allclose(b(*there_z).numpy(), a(*z).numpy(), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("name", "kind"), walk.WALK)
def test_a_second_run_gives_the_same_bits(name, kind):
    games = [walk.game(name, kind, "cuda:0") for _ in range(2)]
    for _ in range(STEPS):
        first, second = (read(play(*game)) for game in games)
        assert first == second


@pytest.mark.parametrize(("name", "kind"), walk.WALK)
def test_memory_is_that_of_the_second_step_for_good(name, kind):
    """The memory in use between steps stays the same, and so does the most in use within a step.

    The size of the pool itself is compared for the DCGAN alone. Among free pieces of one size the pool
    picks by address, so for other members its size varies by a quarter from run to run.
    """
    cupy = pytest.importorskip("cupy")

    class InUse(cupy.cuda.MemoryHook):
        now = most = 0

        def malloc_postprocess(self, **piece):
            self.now += piece["mem_size"]
            self.most = max(self.most, self.now)

        def free_postprocess(self, **piece):
            self.now -= piece["mem_size"]

    pool, found = cupy.cuda.MemoryPool(), []
    with cupy.cuda.using_allocator(pool.malloc), InUse() as memory:
        game = walk.game(name, kind, "cuda:0")
        game[1].counts["step"] = game[0].costliest  # later, a member that grows needs no more
        for _ in range(7):
            memory.most = memory.now
            play(*game)
            found.append((pool.used_bytes(), memory.most, pool.total_bytes() * (name == "dcgan")))
    assert found[1:] == [found[1]] * 6
    assert found[1][1] > found[1][0] > 0


# -- budgets, counted by the emulator ----------------------------------------------------------------


@pytest.fixture
def count():
    """The change of the emulator's counters during a function's call."""
    emulator = pytest.importorskip("emulator")
    if not emulator.installed():
        pytest.skip("only the emulator counts launches and copies")

    def counted(function):
        emulator.reset_counters()
        function()
        return emulator.counters()

    return counted


@pytest.mark.parametrize(("name", "kind"), walk.WALK)
def test_a_step_of_each_member_keeps_to_its_budget(name, kind, count):
    game = walk.game(name, kind, "cuda:0")
    play(*game)  # Adam's moments are made
    counted = count(lambda: play(*game))
    launches, products, copies = walk.BUDGETS[name, kind]
    assert counted["device_to_host"] == counted["synchronisations"] == 0
    assert counted["host_to_device"] == copies
    assert counted["products"] <= products
    assert counted["launches"] <= launches


def test_a_plain_step_of_the_documented_dcgan_stays_on_the_device(count):
    game = walk.game("dcgan", "images", "cuda:0", image_size=64)
    play(*game)  # Adam's moments are made
    plain, reported = count(lambda: play(*game)), count(lambda: read(play(*game)))
    assert plain["device_to_host"] == 0
    assert plain["synchronisations"] == 0
    assert plain["host_to_device"] == 3  # a batch as bytes, and noise twice
    assert plain["launches"] + plain["products"] < 300
    assert reported["device_to_host"] == 7  # the seven metrics


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


# -- the command line --------------------------------------------------------------------------------

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
    # resume the GPU's checkpoint on the CPU, and the other way round
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

    monkeypatch.setattr(DCGAN, "step", full)
    assert tiny.train_celeba.main([*tiny.TINY, "--steps", "2", "--device", "cuda"]) == 1
    error = capsys.readouterr().err
    assert "error: no memory left: " in error
    assert "Out of memory allocating 1,000,000,000 bytes" in error
    assert "lower --batch-size, --ngf or --ndf" in error
    assert "Traceback" not in error
