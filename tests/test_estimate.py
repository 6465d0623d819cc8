"""What a run announces before its first step: the time it will take, and the memory it needs."""

import tracemalloc

import pytest
import walk

from minigan.commands import main
from minigan.data.mixture import Mixture
from minigan.errors import UserError
from minigan.training import estimate as page
from minigan.training import session
from minigan.training.estimate import check_memory, estimate, free_memory, in_bytes, in_time
from minigan.training.plan import choose

TINY = ["--ngf", "4", "--ndf", "4", "--nz", "4", "--batch-size", "4", "--device", "cpu"]


@pytest.fixture(autouse=True)
def real_estimate(monkeypatch):
    monkeypatch.setattr(session, "estimate", page.estimate)


def plan(name, batch):
    given = {"data": "ring", "batch_size": batch, "ngf": 256, "ndf": 256}
    return choose(name, given | walk.d_steps(name))


@pytest.mark.parametrize(
    ("batch", "name"),
    [*((16, name) for name in walk.ON_POINTS), *((400, name) for name in walk.SOME)],
)
def test_the_memory_of_any_batch_is_known_from_small_ones(name, batch):
    """To within a quarter: where activations outgrow gradients, memory is not linear in the batch."""
    data = Mixture("ring", count=500)
    game = plan(name, batch).on(data)
    page._play(game, data, "cpu", batch)  # fills Python's own caches
    direct = page._play(game, data, "cpu", batch).bytes
    assert estimate(game, data, "cpu").bytes == pytest.approx(direct, rel=0.25)


def test_the_time_grows_with_the_batch_from_the_small_steps(monkeypatch):
    played = []

    def play(plan, data, device, batch):
        played.append(batch)
        return page.Estimate(1.0 + 0.5 * batch, 1000.0 + 10 * batch)

    monkeypatch.setattr(page, "_play", play)
    found = estimate(plan("dcgan", 128), None, "cpu")
    assert (found.seconds, found.bytes) == (1.0 + 64, 1000.0 + 1280)
    assert played == [16, 32]
    assert estimate(plan("dcgan", 128), None, "cpu", processes=16).seconds == 1.0 + 4
    assert played == [16, 32, 8]


def test_small_batches_are_whole_packs_and_groups(monkeypatch):
    played = []

    def play(plan, data, device, batch):
        played.append(batch)
        return page.Estimate(float(batch), 0.0)

    monkeypatch.setattr(page, "_play", play)
    for batch, pack, expected in (
        (128, 8, [32, 32]),
        (256, 8, [32, 64]),
        (96, 3, [12, 24]),
        (12, 3, [12]),
    ):
        played.clear()
        options = {"data": "ring", "batch_size": batch, "pack": pack, "minibatch_std": True}
        assert estimate(choose("dcgan", options), None, "cpu").seconds == batch
        assert played == (expected if len(set(expected)) == len(expected) else [batch])
    with pytest.raises(
        UserError, match=r"--batch-size 24: D judges 8 samples together in each of 2"
    ):
        choose("dcgan", {"data": "ring", "batch_size": 24, "pack": 8}).check_processes(2)


def test_who_traces_memory_already_goes_on_doing_so():
    tracemalloc.start()
    try:
        estimate(plan("dcgan", 4), Mixture("ring", count=500), "cpu")
        assert tracemalloc.is_tracing()
    finally:
        tracemalloc.stop()
    estimate(plan("dcgan", 4), Mixture("ring", count=500), "cpu")
    assert not tracemalloc.is_tracing()


def test_a_run_says_what_it_will_take(tmp_path, capsys):
    words = ["train", "dcgan", "--data", "ring", "--steps", "1", *TINY, "--out", str(tmp_path)]
    assert main(words) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "About" in line]
    assert "of memory" in line


def test_a_run_that_cannot_fit_is_refused_before_it_exists(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(page, "free_memory", lambda device: 1000)
    words = ["train", "dcgan", "--data", "ring", "--steps", "1", *TINY, "--out", str(tmp_path)]
    assert main(words) == 1
    told = capsys.readouterr().err
    assert "and 1 KB are free; lower --batch-size" in told
    assert list(tmp_path.iterdir()) == []


def test_memory_is_refused_only_where_the_system_says_what_is_free(monkeypatch):
    monkeypatch.setattr(page, "free_memory", lambda device: None)
    check_memory(1e30, "cpu")
    monkeypatch.setattr(page, "free_memory", lambda device: 10**9)
    check_memory(10**9, "cpu")
    with pytest.raises(UserError, match=r"about 1\.1 GB of memory, and 1\.0 GB are free"):
        check_memory(1.1e9, "cpu")


def test_free_memory_is_that_of_the_system_or_of_its_control_group(monkeypatch, tmp_path):
    whole = free_memory("cpu")
    assert whole is None or whole > 10**7
    (tmp_path / "memory.max").write_text("5000\n")
    (tmp_path / "memory.current").write_text("3000\n")
    monkeypatch.setattr(page, "CGROUP", tmp_path)
    assert free_memory("cpu") == 2000
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory("cpu") != 2000


@pytest.mark.parametrize(
    ("count", "words"), [(12, "12 bytes"), (1500, "1.5 KB"), (93.1e6, "93.1 MB"), (2.5e9, "2.5 GB")]
)
def test_bytes_in_words(count, words):
    assert in_bytes(count) == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.01, "1 s"), (99, "99 s"), (430, "7 min"), (7200, "2.0 h")]
)
def test_times_in_words(seconds, words):
    assert in_time(seconds) == words
