"""Metrics that look at single samples: neighbours, bins, pairings, windows; and resampling.

What they share with all metrics, and what they refuse, is in test_metrics.py.
"""

import itertools
import math
import os
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigan.data.digits import Digits
from minigan.errors import UserError
from minigan.evaluation import distances
from minigan.evaluation.metrics import (
    density_coverage,
    different_bins,
    earth_mover,
    earth_mover_1d,
    frechet_distance,
    mode_coverage,
    parzen_log_likelihood,
    precision_recall,
    standard_error,
    support_size,
)
from minigan.evaluation.stacked import stacked_modes

DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"

seeds = st.integers(0, 2**32 - 1)


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


# -- duplicates ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("planted", [1, 10, 100, 1000])
@pytest.mark.parametrize("seed", range(3))
def test_a_planted_number_of_samples_is_found_within_a_factor_of_2(planted, seed):
    """With 500 samples of 1000 some 125 pairs are equal, so the error is some 9 %."""
    rng = np.random.default_rng(seed)
    chosen = rng.standard_normal((planted, 8))[rng.integers(planted, size=500)]
    blurred = chosen + 1e-3 * rng.standard_normal(chosen.shape)
    assert planted / 2 < support_size(blurred, radius=0.02) < 2 * planted


def test_without_duplicates_the_support_has_no_bound():
    assert support_size(normal(0, 200, 8), radius=0.01) == math.inf
    assert support_size(np.ones((9, 2, 2)), radius=0.01) == 1
    assert support_size([[0.0], [0.0], [1.0], [5.0]], radius=0.5) == 6  # one pair of six


@pytest.mark.parametrize(
    ("fake", "radius", "word"),
    [
        (np.zeros((1, 2)), 1.0, "at least 2"),
        (np.full((3, 2), np.nan), 1.0, "not finite"),
        (np.zeros((3, 2)), 0.0, "radius"),
        (np.zeros((3, 2)), -1.0, "radius"),
    ],
)
def test_what_has_no_duplicates_is_refused(fake, radius, word):
    with pytest.raises(UserError, match=word):
        support_size(fake, radius)


# -- neighbours ---------------------------------------------------------------------------------------


def naive_neighbours(real, fake, k):
    """Precision, recall, density and coverage, a pair at a time."""
    distance = lambda p, q: np.sqrt(((p - q) ** 2).sum())
    radius = lambda rows, i: sorted(
        distance(rows[i], q) for j, q in enumerate(rows) if j != i
    )[k - 1]  # fmt: skip
    inside = np.array(
        [[distance(x, f) <= radius(real, i) for f in fake] for i, x in enumerate(real)]
    )
    back = np.array([[distance(x, f) <= radius(fake, j) for x in real] for j, f in enumerate(fake)])
    return (
        inside.any(0).mean(),
        back.any(0).mean(),
        inside.sum() / (k * len(fake)),
        inside.any(1).mean(),
    )


@pytest.mark.parametrize("k", [1, 3, 5])
@given(seed=seeds)
def test_neighbours_are_as_by_naive_loops(k, seed):
    rng = np.random.default_rng(seed)
    real, fake = rng.standard_normal((14, 3)), 0.5 + rng.standard_normal((9, 3))
    found = (*precision_recall(real, fake, k), *density_coverage(real, fake, k))
    np.testing.assert_allclose(found, naive_neighbours(real, fake, k), rtol=1e-12)


def test_a_set_covers_itself():
    # ties: each ball reaches its k-th neighbour exactly, at whatever offset and scale
    for scale, offset in [(1, 0), (0.1, 1e3), (1e-3, 1 / 3)]:
        a = scale * normal(0, 80, 40) + offset
        copy = np.random.default_rng(0).permutation(a)
        assert precision_recall(a, copy) == (1, 1)
        density, coverage = density_coverage(a, copy, k=4)
        assert coverage == 1
        assert density == 5 / 4  # itself and four neighbours


def test_constant_sets_cover_each_other():
    for value in (0, 0.1):  # with "<" instead of "<=" all were 0
        a = np.full((20, 7), value)
        assert precision_recall(a, a) == (1, 1)
        assert density_coverage(a, a)[1] == 1
    # Each row has copies, at distance 0. In sets of other sizes their products are rounded otherwise.
    real, fake = (np.repeat(normal(0, 7, 1000), copies, axis=0) for copies in (5, 4))
    assert precision_recall(real, fake[:27]) == (1, 1)
    assert density_coverage(real, fake[:12], k=4)[1] == 3 / 7


def test_the_edge_of_a_ball_is_inside_and_no_row_is_its_own_neighbour():
    real = np.arange(5.0)[:, None]
    assert precision_recall(real, np.array([[-1.0], [5.0], [5.001], [9.0]]), k=1)[0] == 0.5
    assert density_coverage(real, np.array([[5.0]]), k=1) == (1, 0.2)


def test_a_tight_cluster_is_precise_and_recalls_little():
    real, fake = normal(0, 300, 2), 0.05 * normal(1, 300, 2)
    precision, recall = precision_recall(real, fake)
    assert precision > 0.8
    assert recall < 0.3
    assert precision_recall(fake, real) == (recall, precision)
    assert density_coverage(real, fake)[1] < 0.3


def test_an_outlier_forgives_precision_but_not_density():
    real = np.concatenate([normal(0, 100, 5), np.full((1, 5), 50.0)])
    bad = 20 + normal(1, 100, 5)
    assert precision_recall(real, bad)[0] == 1
    density, coverage = density_coverage(real, bad)
    assert density == pytest.approx(1 / 5)
    assert coverage == 1 / 101


def test_density_and_coverage_of_equal_distributions_have_their_expectations():
    n, k = 200, 5
    draws = [density_coverage(normal(s, n, 16), normal(s + 99, n, 16), k) for s in range(20)]
    density, coverage = np.mean(draws, axis=0)
    error = np.std(draws, axis=0, ddof=1) / np.sqrt(20)
    expected = 1 - math.prod((n - i) / (2 * n - i) for i in range(1, k + 1))
    assert abs(coverage - expected) < 3 * error[1] < 0.01
    assert abs(density - 1) < 3 * error[0] < 0.1


def test_distances_never_stand_in_memory_at_once(monkeypatch):
    monkeypatch.setattr(distances, "BLOCK", 2**16)
    a, b = normal(0, 1500, 4), normal(1, 1500, 4)
    tracemalloc.start()
    precision_recall(a, b)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 8 * 2**16 < 8 * 1500**2 / 8  # four blocks, not an eighth of the matrix


@pytest.mark.skipif(not DEEP, reason="takes 10 s: deep; the test above checks smaller sets in CI")
def test_ten_thousand_samples_on_each_side_fit_into_memory():
    a, b = normal(0, 10_000, 64), normal(1, 10_000, 64)
    tracemalloc.start()
    precision_recall(a, b)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 10_000**2 / 4  # 200 MB, a quarter of the matrix; measured: 74 MB


# -- bins and modes -----------------------------------------------------------------------------------


def test_bins_of_clusters_are_two_proportion_tests():
    def place(*counts):
        centres = np.repeat([0.0, 1, 10], counts)[:, None]
        return centres + np.linspace(0, 0.01, len(centres))[:, None]

    real, fake = place(50, 30, 20), place(80, 48, 72)  # the first two shares fall to 0.8 of theirs
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.4, 0.24, 0.36])
    both = (100 * p + 200 * q) / 300
    z = abs(p - q) / np.sqrt(both * (1 - both) * (1 / 100 + 1 / 200))  # 1.64, 1.11, 2.84
    for threshold in (1, 1.5, 2, 3):
        found = different_bins(real, fake, k=3, z=threshold)
        assert found[0] == (z > threshold).sum()
    kl = lambda p, q: (p * np.log(p / q)).sum()
    assert found[1] == pytest.approx((kl(p, (p + q) / 2) + kl(q, (p + q) / 2)) / 2, rel=1e-12)
    assert different_bins(real, fake, k=3)[0] == 1
    assert different_bins(real, real, k=3) == (0, 0)
    gone, distance = different_bins(real, place(0, 0, 100), k=3)
    assert gone == 3
    assert distance == pytest.approx((0.8 * np.log(2) + kl(0.2, 0.6) + kl(1, 0.6)) / 2, rel=1e-12)


def test_bins_differ_by_chance_in_the_stated_fraction_and_where_a_class_is_missing():
    rng = np.random.default_rng(0)
    centres = 6 * rng.standard_normal((10, 5))
    labels = np.repeat(np.arange(10), 400)
    draw = lambda: centres[labels] + rng.standard_normal((4000, 5))
    real, held_out = draw(), draw()
    by_chance, near = different_bins(real, held_out, k=40)
    assert by_chance <= 6  # 2 expected, and 4 more is three deviations
    missing, far = different_bins(real, held_out[labels != 3], k=40)
    assert missing >= by_chance + 3  # the four or so bins of that class
    assert far > 4 * near


def test_stacked_digits_are_read_as_numbers_and_a_collapse_is_counted():
    source = Digits(400, 5, 28)
    digits = np.stack([source.load(i)[..., 0] for i in range(400)]) / np.float32(127.5) - 1
    labels = np.array([source.label(i) for i in range(400)])
    at = np.random.default_rng(0).integers(400, size=(700, 3))
    numbers = labels[at] @ [100, 10, 1]
    modes, divergence = stacked_modes(digits[at])
    met, expected = mode_coverage(numbers, 1000)
    assert abs(modes - met) <= 3  # of 2,100 digits about one is misread
    assert divergence == pytest.approx(expected, abs=0.02)
    without_nines = at[(labels[at] < 9).all(1)]
    assert stacked_modes(digits[without_nines])[0] <= 729
    one = digits[np.repeat(at[:1], 20, axis=0)]
    assert stacked_modes(one) == (1, pytest.approx(np.log(1000)))
    with pytest.raises(UserError, match="stacked_modes: images has 1 channels, but must have 3"):
        stacked_modes(digits[:5, None])


def test_mode_coverage_of_known_counts():
    assert mode_coverage(np.repeat(np.arange(8), 5), 8) == (8, 0)
    assert mode_coverage([3] * 9, 1000) == (1, pytest.approx(np.log(1000)))
    covered, divergence = mode_coverage([0, 0, 0, 2], 4)
    assert covered == 2
    assert divergence == pytest.approx(0.75 * np.log(3) + 0.25 * np.log(1))


# -- likelihood ---------------------------------------------------------------------------------------


def test_parzen_is_its_formula():
    samples, test = normal(0, 7, 3), normal(1, 5, 3)
    density = lambda x: np.mean(
        [np.exp(-((x - s) ** 2).sum() / (2 * 0.3)) / (2 * np.pi * 0.3) ** 1.5 for s in samples]
    )
    logs = np.log([density(x) for x in test])
    mean, error = parzen_log_likelihood(samples, test, np.sqrt(0.3))
    assert mean == pytest.approx(logs.mean(), rel=1e-12)
    assert error == pytest.approx(logs.std(ddof=1) / np.sqrt(5), rel=1e-9)
    far = parzen_log_likelihood(np.zeros((3, 1)), np.full((1, 1), 100.0), 1)  # exp(-5000) is 0
    assert far == (pytest.approx(-5000 - 0.5 * np.log(2 * np.pi)), 0)


def test_parzen_prefers_a_collapsed_generator_to_true_samples():
    test, validation, true = (normal(seed, 300, 30) for seed in range(3))
    sigmas = (0.5, 0.7, 1, 1.4)

    def score(samples):
        sigma = max(sigmas, key=lambda s: parzen_log_likelihood(samples, validation, s)[0])
        return parzen_log_likelihood(samples, test, sigma)

    (honest, error), (collapsed, _) = score(true), score(np.zeros((300, 30)))
    assert collapsed > honest + 3 * error


# -- the earth mover's distance -----------------------------------------------------------------------


@given(seed=seeds, n=st.integers(1, 6))
def test_earth_mover_is_the_best_of_all_pairings(seed, n):
    a, b = np.random.default_rng(seed).standard_normal((2, n, 2))
    every = (
        np.mean([math.dist(a[i], b[j]) for i, j in enumerate(order)])
        for order in itertools.permutations(range(n))
    )
    assert earth_mover(a, b) == pytest.approx(min(every), rel=1e-12)


@given(seed=seeds, n=st.integers(1, 60), m=st.integers(1, 60))
def test_earth_mover_on_a_line_is_by_sorting(seed, n, m):
    rng = np.random.default_rng(seed)
    a, b = np.round(rng.standard_normal(n), 1), np.round(rng.standard_normal(m), 1)  # with ties
    a_repeated, b_repeated = np.repeat(a, m), np.repeat(b, n)
    expected = np.abs(np.sort(a_repeated) - np.sort(b_repeated)).mean()
    assert earth_mover_1d(a, b) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    if n == m:
        assert earth_mover(a[:, None], b[:, None]) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_earth_mover_of_larger_sets():
    a, b = normal(0, 120, 1), normal(1, 120, 1)
    assert earth_mover(a, b) == pytest.approx(earth_mover_1d(a[:, 0], b[:, 0]), rel=1e-9)
    points = normal(2, 120, 2)
    moved = np.random.default_rng(0).permutation(points + np.array([3, 4]))
    assert earth_mover(points, moved) == pytest.approx(5, rel=1e-9)
    assert earth_mover(points, points) == 0
    assert earth_mover_1d([0.0], [0.0, 1.0]) == 0.5


# -- resampling ---------------------------------------------------------------------------------------


def test_standard_error_is_that_of_a_difference_of_means():
    a, b = normal(0, 400, 1), 3 * normal(1, 100, 1)
    found = standard_error(lambda x, y: (x.mean() - y.mean(), 7), a, b, repeats=400)
    expected = np.sqrt(a.var(ddof=1) / 400 + b.var(ddof=1) / 100)
    assert found.shape == (2,)
    assert found[0] == pytest.approx(expected, rel=0.11)  # three times 1 / sqrt(2 * 400)
    assert found[1] == 0
    values = []
    two = standard_error(lambda x, y: values.append(x.mean()) or values[-1], a, b, repeats=2)
    assert two == pytest.approx(abs(values[0] - values[1]) / np.sqrt(2))


def test_standard_error_is_the_spread_of_a_metric_over_fresh_draws():
    draw = lambda seed: (normal(seed, 100, 4), normal(seed + 999, 100, 4) + 1)
    fresh = np.std([frechet_distance(*draw(seed)) for seed in range(60)], ddof=1)
    found = standard_error(frechet_distance, *draw(0))
    assert found.shape == ()
    assert (
        0.6 * fresh < found < 1.6 * fresh
    )  # 60 and 50 draws: 9 % and 10 %, and the one pair of sets
    again = standard_error(frechet_distance, *draw(0))
    assert found == again != standard_error(frechet_distance, *draw(0), seed=1)
