"""The pool of earlier fakes: what it returns, how often, how old; exact in a group and when resumed."""

import numpy as np
import pytest
import strict_cupy
from strict_cupy.state import counters
from test_parallel import together

from minigan import backend, tensor
from minigan.gans.player import ALONE
from minigan.gans.pool import Pool
from minigan.keys import generator
from minigan.tensor import Tensor
from minigan.training import state

SEED = 5


class Drawn:
    """The part of a Draw that a pool uses: U(0, 1) by key, a share of it in each process."""

    def __init__(self, batch=1, group=ALONE, device="cpu"):
        self.batch, self.group, self.device, self.step = batch, group, device, 0

    def uniform(self, name, *shape):
        whole = generator(SEED, name, self.step).random((self.batch, *shape), np.float32)
        return Tensor(backend.move(self.group.share(whole), self.device))


def fakes(step, batch=1, shape=(1,)):
    """New fakes whose every number is their own number, counted from 0."""
    numbers = np.arange(batch * step, batch * (step + 1), dtype=np.float32)
    return np.ones((batch, *shape), np.float32) * numbers.reshape(-1, *[1] * len(shape))


def play(pool, steps, batch=1, first=0, draw=None):
    """The numbers of the fakes that the pool returns in these steps, (steps, batch)."""
    draw, found = draw or Drawn(batch), []
    for step in range(first, first + steps):
        draw.step = step
        new = draw.group.share(fakes(step, batch, pool.tree["images"].shape[1:]))
        found.append(pool.exchange(Tensor(backend.move(new, draw.device)), draw))
    return np.stack([each.numpy()[:, 0] for each in found])


def pool_of(size, shape=(1,), device="cpu", group=ALONE):
    return Pool("pool", size, shape, device, group)


def test_while_it_fills_the_new_fakes_come_back():
    pool = pool_of(5)
    assert play(pool, 5).ravel().tolist() == [0, 1, 2, 3, 4]
    assert pool.tree["images"].ravel().tolist() == [0, 1, 2, 3, 4]
    assert pool.tree["count"] == 5


def test_once_full_it_returns_half_new_ones_and_half_old_ones_of_the_right_age():
    """Pools of 50, as in the paper; the bounds are four standard errors of these 20,000 draws."""
    size, steps = 50, 20_000
    pool = pool_of(size)
    found = play(pool, size + steps).ravel()[size:]
    now = np.arange(size, size + steps)
    old = found != now
    assert abs(old.mean() - 0.5) < 4 * 0.5 / steps**0.5
    # Each stored fake leaves at each step with probability 1 / (2 size), so ages are geometric, with a
    # mean and a standard deviation of 2 size = 100. The first ones cannot be that old yet.
    ages = (now - found)[old][500:]
    assert abs(ages.mean() - 2 * size) < 4 * 2 * size / len(ages) ** 0.5
    assert abs(np.median(ages) - 2 * size * np.log(2)) < 5
    # No fake comes back twice, except that a new one may be returned once: it is then not stored.
    assert len(set(found)) == len(found)
    assert pool.tree["count"] == size


def test_every_place_is_used_alike():
    pool, size, steps = pool_of(8), 8, 8000
    play(pool, size)
    counts, before = np.zeros(size), pool.tree["images"].copy()
    for step in range(size, size + steps):
        play(pool, 1, first=step)
        counts += (pool.tree["images"] != before).ravel()
        before = pool.tree["images"].copy()
    expected = counts.sum() / size
    chi2 = ((counts - expected) ** 2 / expected).sum()
    assert chi2 < 24.3  # of 7 degrees of freedom: exceeded once in 1000 seeds; this seed is fixed


def test_the_stored_fakes_are_copies():
    """A trap of other implementations: a pool of views changes with what it was given."""
    pool, draw = pool_of(2, (1, 2, 2)), Drawn()
    new = fakes(7, shape=(1, 2, 2))
    back = pool.exchange(Tensor(new), draw)
    new[...] = -1
    assert (pool.tree["images"][0] == 7).all()
    pool = pool_of(1)
    play(pool, 1)
    returned = [play(pool, 1, first=step) for step in range(1, 20)]
    before = [each.copy() for each in returned]
    play(pool, 50, first=20)
    for one, other in zip(returned, before, strict=True):
        np.testing.assert_array_equal(one, other)
    assert back.shape == (1, 1, 2, 2)


def test_no_gradient_flows_through_it():
    x = tensor(np.ones((1, 1), "f"), requires_grad=True)
    for size in (0, 2):
        assert not pool_of(size).exchange(2 * x, Drawn()).requires_grad


def test_a_pool_of_none_returns_the_fakes_and_has_no_state():
    pool = pool_of(0)
    x = Tensor(fakes(3, 4))
    assert pool.exchange(x, None).numpy().tobytes() == x.numpy().tobytes()
    assert pool.tree == {}


def test_a_batch_is_exchanged_one_fake_after_the_other():
    """The same fakes in batches of 4 see the same pool as one by one, given the same numbers."""

    class One(Drawn):
        def uniform(self, name, *shape):
            step, i = divmod(self.step, 4)
            whole = generator(SEED, name, step).random((4, *shape), np.float32)
            return Tensor(whole[i : i + 1])

    batches, singles = pool_of(6), pool_of(6)
    found = play(batches, 20, batch=4)
    assert play(singles, 80, draw=One()).ravel().tolist() == found.ravel().tolist()
    np.testing.assert_array_equal(batches.tree["images"], singles.tree["images"])


@pytest.mark.parametrize("stop", [3, 30])
def test_stopped_while_it_fills_or_later_it_goes_on_exactly(stop):
    whole, parts, resumed = pool_of(10), pool_of(10), pool_of(10)
    expected = play(whole, 60)
    play(parts, stop)
    saved = {path: np.copy(leaf) for path, leaf in state.leaves(parts.tree) if path == "images"}
    state.restore({**saved, "count": parts.tree["count"]}, resumed.tree)
    assert play(resumed, 60 - stop, first=stop).tolist() == expected[stop:].tolist()
    assert resumed.tree["images"].tobytes() == whole.tree["images"].tobytes()
    assert resumed.tree["count"] == whole.tree["count"]


@pytest.mark.parametrize("size", [2, 3])
def test_each_process_of_a_group_has_the_same_pool_as_one_alone(size):
    alone = pool_of(7)
    expected = play(alone, 30, batch=6)

    def work(group):
        pool = pool_of(7, group=group)
        return play(pool, 30, 6, draw=Drawn(6, group)), pool.tree

    results, _ = together(size, work)
    found = np.concatenate([each for each, _ in results], axis=1)
    np.testing.assert_array_equal(found, expected)
    for _, tree in results:
        assert tree["images"].tobytes() == alone.tree["images"].tobytes()
        assert tree["count"] == 7


def test_it_is_the_same_on_a_gpu_and_never_waits_for_it(monkeypatch):
    backend.gpu_trouble.cache_clear()
    strict_cupy.install(monkeypatch, devices=1)
    try:
        here, there = pool_of(5), pool_of(5, device="cuda:0")
        draw = Drawn(2, device="cuda:0")
        new = [Tensor(backend.move(fakes(step, 2), "cuda:0")) for step in range(20)]
        counters.reset()
        found = []
        for step, each in enumerate(new):
            draw.step = step
            found.append(there.exchange(each, draw))
        assert counters.device_to_host == counters.synchronisations == 0
        answers = np.stack([each.numpy()[:, 0] for each in found])
        np.testing.assert_array_equal(answers, play(here, 20, 2))
        np.testing.assert_array_equal(state.host(there.tree["images"]), here.tree["images"])
    finally:
        monkeypatch.undo()
        backend.gpu_trouble.cache_clear()


@pytest.mark.parametrize("size", [1, 2, 33, 50, 64, 1000])
def test_the_largest_random_number_is_the_last_place(size):
    """1 - 2^-24 in float32: its product with the size is rounded, but never up to the size."""

    class Largest(Drawn):
        def uniform(self, name, *shape):
            return Tensor(np.array([[0.9, 1 - 2.0**-24]], np.float32))

    pool = pool_of(size)
    play(pool, size)
    assert play(pool, 1, first=size, draw=Largest()).item() == size - 1
