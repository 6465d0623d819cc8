"""A collapsed generator is noticed, a healthy one is not, and measuring changes nothing."""

import math
import os
import re
from pathlib import Path

import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from minigan.data import Dataset
from minigan.data.digits import Digits
from minigan.data.mixture import Mixture
from minigan.errors import UserError
from minigan.evaluation.diversity import CROWD, spacing
from minigan.evaluation.samples import Samples
from minigan.evaluation.table import evaluate
from minigan.gans import MEMBERS
from minigan.gans.signs import SATURATED, frozen_generator
from minigan.gans.standard import DCGAN
from minigan.keys import generator
from minigan.tensor import Tensor, tensor
from minigan.training import collapse, watch
from minigan.training.collapse import COLLAPSED, COUNT, EVERY, LOW, Diversity
from minigan.training.run import Run, numbered_runs
from minigan.training.watch import SHARE, WINDOW, Watch

DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
SHORT = 40  # steps of a window: two measurements
REPEATS = 1000 if DEEP else 100
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(autouse=True)
def somewhere_else(tmp_path, monkeypatch):
    """Work in an empty folder, without pictures."""
    monkeypatch.chdir(tmp_path)
    tiny.hurry(monkeypatch)


@pytest.fixture
def short_window(monkeypatch):
    monkeypatch.setattr(watch, "WINDOW", SHORT)


# -- spacing -----------------------------------------------------------------------------------------


@given(seeds, st.integers(CROWD, 40), st.integers(1, 5))
def test_spacing_is_that_of_a_naive_loop(seed, n, width):
    x = np.random.default_rng(seed).standard_normal((n, width))
    expected = 0.0
    for i in range(n):
        others = sorted(np.sqrt(((x[i] - x[j]) ** 2).sum()) for j in range(n) if j != i)
        expected += others[n // CROWD - 1] / n
    # |a|^2 - 2 a.b + |b|^2 loses digits where a and b are near
    assert spacing(x) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_spacing_of_few_different_samples_is_nothing_and_of_many_is_not():
    rows = np.random.default_rng(0).standard_normal((7, 3, 4, 4))
    for count in (1, 2, 3, 7):
        # each has at least 8 copies besides itself; what is left is rounding, 1e-7 of a sample
        assert spacing(np.resize(rows[:count], (COUNT, 3, 4, 4))) < 1e-6
    assert spacing(np.random.default_rng(1).standard_normal((COUNT, 3, 4, 4))) > 5


@pytest.mark.parametrize(
    ("x", "word"),
    [
        (np.zeros((7, 2)), "at least 8"),
        (np.zeros(9), "one sample a row"),
        (np.full((9, 2), np.nan), "not finite"),
        (np.zeros((9, 2), bool), "real numbers"),
    ],
)
def test_what_has_no_spacing_is_refused(x, word):
    with pytest.raises(UserError, match=word):
        spacing(x)


# -- what is noticed ---------------------------------------------------------------------------------


class Data(Dataset):
    """Given samples, and perhaps their classes."""

    def __init__(self, samples, labels=None):
        self.samples, self.labels = np.asarray(samples, np.float32), labels
        self.shape = self.samples.shape[1:]

    def __len__(self):
        return len(self.samples)

    def batch(self, indices, device, mirrored=None):
        return Tensor(self.samples[indices])

    def picture(self, samples):
        raise NotImplementedError


RING = Mixture("ring", count=20_000)
POINTS = Data(RING.points)  # without classes


@pytest.fixture(scope="module")
def drawn():
    """256 drawn digits in [-1, 1], (256, 3, 28, 28), and their classes."""
    source = Digits(256, seed=0, image_size=28)
    pixels = np.array([source.load(i) for i in range(256)], np.float32) / 127.5 - 1
    return pixels.transpose(0, 3, 1, 2), np.arange(256) % 10


def measured(fakes, data):
    """The metrics if G draws these fakes, or fakes(z, y)."""

    class Fixed:
        options, translates = DCGAN.Options(nz=2), False
        conditional = data.labels is not None

        def sample_raw(self, *inputs):
            return tensor(fakes(*inputs) if callable(fakes) else fakes)

    return Diversity(Fixed(), data, "cpu").measure()


def diversity(fakes, data):
    return measured(fakes, data)["diversity"]


def some(samples, seed, count=COUNT):
    """A random choice of different samples."""
    return samples[generator("test", seed).permutation(len(samples))[:count]]


@pytest.mark.parametrize("modes", [1, 2, 3])
def test_a_few_modes_of_eight_are_noticed(modes):
    points = RING.points[RING.labels < modes]
    assert max(diversity(some(points, i), POINTS) for i in range(REPEATS)) < LOW


def test_points_of_the_data_are_never_called_collapsed():
    """The extreme of 1000 sets is 0.3: by chance, a ring of 64 points has half its modes crowded."""
    assert min(diversity(some(RING.points, i), POINTS) for i in range(REPEATS)) > 2 * LOW


def test_images_of_the_data_are_as_diverse_as_the_data(drawn):
    data = Data(drawn[0])
    found = [diversity(some(data.samples, i), data) for i in range(REPEATS)]
    assert 0.9 < min(found) < 1 < max(found) < 1.1


@pytest.mark.parametrize("count", [1, 3, 7])
def test_copies_of_a_few_images_are_noticed(drawn, count):
    data = Data(drawn[0])
    copies = np.resize(data.samples[:count], (COUNT, 3, 28, 28))
    assert diversity(copies, data) < 1e-6
    blurred = copies + np.random.default_rng(0).normal(0, 0.01, copies.shape).astype(np.float32)
    assert diversity(blurred, data) < LOW


def test_a_missing_class_and_many_copies_are_not_noticed(drawn):
    """What the chapter says about the limits: these are for `minigan evaluate`."""
    samples, labels = drawn
    data = Data(samples)
    assert 0.4 < diversity(np.resize(samples[labels == 1], (COUNT, 3, 28, 28)), data) < 0.9
    assert diversity(np.resize(samples[:10], (COUNT, 3, 28, 28)), data) > 0.9


@pytest.mark.parametrize(("kept", "covered"), [(1, 1), (3, 3)])
def test_a_few_classes_are_named_by_the_evaluation(drawn, kept, covered):
    """What the alarm does not notice, `minigan evaluate` does: reals of one class, or of three."""
    samples, labels = drawn
    as_grey = lambda rows: Samples("digits", rows[:, :1])
    half, other, few = samples[:128], samples[128:], samples[labels < kept]
    fakes = as_grey(few[np.arange(128) % len(few)])
    found = evaluate(["classes"], as_grey(half), as_grey(other), fakes)["classes"]
    assert found["values"]["covered"] == covered
    assert found["reals"]["covered"] == 10


def test_one_image_for_each_class_is_noticed(drawn):
    """The classes differ, but the images of a class must too."""
    samples, labels = drawn
    data = Data(samples, labels)
    assert diversity(lambda z, y: samples[y.numpy()], data) < 1e-6
    of_class = [np.flatnonzero(labels == k) for k in range(10)]
    assert 0.8 < diversity(lambda z, y: samples[deal(of_class, y.numpy())], data) < 1.2


def deal(columns, y):
    """For each class in y, the next index of its column."""
    hands = [iter(column) for column in columns]
    return [next(hands[k]) for k in y]


def test_a_conditional_generator_is_measured_in_frequent_classes_only(drawn):
    samples, labels = drawn
    asked = []
    data = Data(samples, np.where(labels < 4, 7, labels))
    diversity(lambda z, y: asked.append(y.numpy()) or samples[:COUNT], data)
    assert np.bincount(asked[0])[[7, 4, 5, 6]].tolist() == [16] * 4


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_classes_among_which_one_is_rare_are_measured(drawn, count):
    """With 3 classes, sets have 63 samples."""
    samples, labels = drawn
    labels = labels % count + 1  # so class 0 is absent
    labels[:5] = 5
    assert 0.8 < diversity(lambda z, y: samples[: len(z)], Data(samples, labels)) < 1.2


@pytest.mark.parametrize("count", [1, 7, COUNT - 1])
def test_too_little_data_is_not_compared_with(drawn, count):
    assert measured(drawn[0][:COUNT], Data(drawn[0][:count])) == {}
    assert measured(drawn[0][:COUNT], Data(drawn[0][:count], drawn[1][:count])) == {}


def test_data_that_is_all_copies_is_not_compared_with(drawn):
    assert measured(drawn[0][:COUNT], Data(np.zeros((99, 1, 2, 2)))) == {}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_not_finite_have_no_diversity(value):
    assert math.isnan(diversity(np.full((COUNT, 2), value, np.float32), POINTS))


# -- the sign ----------------------------------------------------------------------------------------


def noticed(values):
    """The steps at which trouble is seen, given the diversity measured at every EVERY-th step."""
    seen = Watch([COLLAPSED])
    lines = []
    for step in range(1, EVERY * len(values) + 1):
        found = {} if step % EVERY else {"diversity": values[step // EVERY - 1]}
        lines.append({"step": step, "epoch": 0, "loss_d": 1.0, **found})
    return [line["step"] for line in lines if seen.look(line)]


def test_the_sign_holds_between_the_measurements():
    assert noticed([0.0] * 50) == [2 * WINDOW]
    assert noticed([1.0] * 30 + [LOW / 2] * 20) == [31 * EVERY - 1 + round(SHARE * WINDOW)]
    assert noticed([LOW] * 50) == []
    few = [0.0] * 8 + [1.0] * 2  # of the ten measurements in a window
    assert noticed(few * 5) == []
    assert noticed([1.0] * 10 + [0.0] * 5 + [1.0] * 10) == []  # it has recovered by itself


@pytest.mark.parametrize("member", MEMBERS)
def test_every_member_has_the_options_that_its_alarms_name(member):
    signs = (COLLAPSED, SATURATED, frozen_generator(1, 0.999))
    named = {word for sign in signs for word in re.findall(r"--([a-z-]+)", sign.remedy)}
    assert named == {"lr", "ndf"}
    assert named <= set(MEMBERS[member].Options.names())


# -- runs --------------------------------------------------------------------------------------------


class Deaf(DCGAN):
    """A G that does not hear its noise: the weights of its first layer are 0."""

    def step(self, draw):
        metrics = super().step(draw)
        for p in self.players["G"].net.parameters():
            p.data[...] = 0
            break
        return metrics


def collapses(run):
    return [e for e in tiny.events(run) if e["event"] == "diverged" and "collapsed" in e["name"]]


def played(out, *flags, member="dcgan", data="ring"):
    assert tiny.start(out, member, data, *flags) == 0
    return Run(numbered_runs(Path(out))[-1])


def test_a_generator_that_ignores_its_noise_is_warned_of(monkeypatch, short_window, capsys):
    monkeypatch.setitem(MEMBERS, "dcgan", Deaf)
    run = played("out", "--steps", 3 * SHORT)
    (event,) = collapses(run)
    assert (event["does"], event["step"]) == ("warn", 2 * SHORT)
    out = capsys.readouterr().out
    assert f"warning: step {2 * SHORT}: for {SHORT} steps G's samples have been 10 times" in out
    assert COLLAPSED.remedy in out
    assert all(row["diversity"] < 1e-6 for row in tiny.metrics(run) if row["step"] % EVERY == 0)


def test_it_stops_or_rolls_back_like_any_trouble(monkeypatch, short_window, capsys):
    monkeypatch.setitem(MEMBERS, "dcgan", Deaf)
    flags = ("--steps", 3 * SHORT, "--on-divergence", "stop")
    assert tiny.start("out", "dcgan", "ring", *flags) == 1
    assert "G's samples have been" in capsys.readouterr().err


def test_a_healthy_generator_is_not_warned_of(short_window):
    run = played("out", "--steps", 3 * SHORT, "--lr", 1e-3)
    assert collapses(run) == []
    found = [row["diversity"] for row in tiny.metrics(run) if "diversity" in row]
    assert len(found) == 3 * SHORT // EVERY
    assert min(found) > LOW


@pytest.mark.parametrize("member", MEMBERS)
def test_every_member_that_is_given_noise_is_measured(member, monkeypatch):
    monkeypatch.setattr(collapse, "EVERY", 2)
    data = tiny.images(member)
    run = played("out", "--steps", 4, "--max-images", 240, member=member, data=data)
    measured = ["diversity" in row for row in tiny.metrics(run)]
    assert measured == [False, not MEMBERS[member].translates] * 2


def test_measuring_changes_no_byte_of_the_run(monkeypatch):
    flags = ("--steps", EVERY + 3, "--d-dropout", 0.3)
    run = played("with", *flags)
    monkeypatch.setattr(collapse, "EVERY", 10**6)
    plain = played("without", *flags)
    assert tiny.newest(run) == tiny.newest(plain)
    rows = tiny.metrics(run)
    assert rows[EVERY - 1].pop("diversity") > 0
    assert rows == tiny.metrics(plain)


def test_a_resumed_run_measures_and_notices_the_same(monkeypatch, short_window):
    monkeypatch.setitem(MEMBERS, "dcgan", Deaf)
    whole = played("whole", "--steps", 3 * SHORT)
    played("parts", "--steps", SHORT + 7)
    tiny.go_on("parts", "dcgan", "ring", run=("--steps", 3 * SHORT))
    (parts,) = map(Run, numbered_runs(Path("parts")))
    assert tiny.metrics(parts) == tiny.metrics(whole)
    assert [e["step"] for e in collapses(parts)] == [e["step"] for e in collapses(whole)]
    assert tiny.newest(parts) == tiny.newest(whole)


@pytest.mark.parametrize(
    ("every", "steps"), [(1, [20, 40]), (7, [21, 42]), (10, [20, 40]), (30, [30, 56])]
)
def test_it_is_measured_in_the_first_reported_step_of_every_twenty(every, steps):
    run = played("out", "--steps", 56, "--log-every", every)
    assert [row["step"] for row in tiny.metrics(run) if "diversity" in row] == steps
