"""Metrics against closed forms and naive formulas; the known traps; bad input."""

import itertools
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigan.errors import UserError
from minigan.evaluation import distances, sliced
from minigan.evaluation.metrics import (
    density_coverage,
    different_bins,
    earth_mover,
    earth_mover_1d,
    frechet_distance,
    inception_score,
    kernel_distance,
    mode_coverage,
    ms_ssim,
    parzen_log_likelihood,
    precision_recall,
    sliced_wasserstein,
    standard_error,
)

seeds = st.integers(0, 2**32 - 1)


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


# Each metric of two sets, in a form that sets of 12 rows allow. The one subset of the kernel distance
# has all rows, so that nothing is drawn.
OF_ROWS = {
    "frechet_distance": frechet_distance,
    "kernel_distance": lambda a, b: kernel_distance(a, b, subsets=1, size=12),
    "precision_recall": precision_recall,
    "density_coverage": density_coverage,
    "parzen_log_likelihood": lambda a, b: parzen_log_likelihood(a, b, sigma=0.5),
    "earth_mover": earth_mover,
    "different_bins": lambda a, b: different_bins(a, b, k=4),
}
OF_IMAGES = {
    "ms_ssim": lambda a, b: ms_ssim(a, b, span=30),
    "sliced_wasserstein": sliced_wasserstein,
}
SETS = {name: ((12, 3), f) for name, f in OF_ROWS.items()}
SETS |= {name: ((3, 2, 16, 16), f) for name, f in OF_IMAGES.items()}
every_metric = pytest.mark.parametrize(("shape", "metric"), SETS.values(), ids=SETS)


def numbers(found):
    """A number, several, or a dict of them, as a list."""
    return list(found.values()) if isinstance(found, dict) else np.atleast_1d(found).tolist()


# -- all metrics ----------------------------------------------------------------------------------


@every_metric
def test_numbers_are_python_s_and_the_arrays_stay_as_they_are(shape, metric):
    a, b = normal(0, *shape), normal(1, *shape)
    a.flags.writeable = b.flags.writeable = False
    found = metric(a, b)
    parts = found.values() if isinstance(found, dict) else np.atleast_1d(np.array(found, object))
    assert {type(x) for x in parts} <= {float, int}
    assert numbers(metric(a.copy(), b.copy())) == numbers(found)  # bit for bit


@every_metric
def test_float32_is_computed_in_float64(shape, metric):
    # with this offset, float32 statistics would keep no more than three digits
    a, b = (normal(seed, *shape).astype(np.float32) + np.float32(1e4) for seed in (0, 1))
    if metric is OF_IMAGES["ms_ssim"]:
        a, b = a - np.float32(1e4), b - np.float32(1e4)
    assert numbers(metric(a, b)) == numbers(metric(a.astype(float), b.astype(float)))


@every_metric
def test_blocks_change_nothing(shape, metric, monkeypatch):
    a, b = normal(0, *shape), normal(1, *shape)
    whole = numbers(metric(a, b))
    for block in (1, 30, 700):
        monkeypatch.setattr(distances, "BLOCK", block)
        monkeypatch.setattr(sliced, "PROJECTIONS", 20_000 * block)
        np.testing.assert_allclose(numbers(metric(a, b)), whole, rtol=1e-12)


@pytest.mark.parametrize(
    "name", [n for n in OF_ROWS if n != "different_bins"]
)  # its first centres are drawn
@given(seed=seeds)
def test_the_order_of_the_rows_does_not_matter(name, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, 12, 3))
    found = OF_ROWS[name](rng.permutation(a), rng.permutation(b))
    np.testing.assert_allclose(found, OF_ROWS[name](a, b), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["frechet_distance", "kernel_distance", "earth_mover"])
@given(seed=seeds)
def test_distances_are_symmetric(name, seed):
    a, b = np.random.default_rng(seed).standard_normal((2, 12, 3))
    assert OF_ROWS[name](a, b) == pytest.approx(OF_ROWS[name](b, a), rel=1e-9)


# How the metric of scaled sets follows from that of the sets.
LAWS = {
    "frechet_distance": lambda found, s: found * s**2,
    "earth_mover": lambda found, s: found * s,
    "precision_recall": lambda found, s: found,
    "density_coverage": lambda found, s: found,
    "different_bins": lambda found, s: found,
}


@pytest.mark.parametrize("name", LAWS)
@given(seed=seeds, scale=st.floats(1e-3, 1e3), offset=st.floats(-100, 100))
def test_scales_and_offsets(name, seed, scale, offset):
    a, b = np.random.default_rng(seed).standard_normal((2, 12, 3))
    moved = OF_ROWS[name](scale * (a + offset), scale * (b + offset))
    expected = LAWS[name](np.array(OF_ROWS[name](a, b)), scale)
    np.testing.assert_allclose(moved, expected, rtol=1e-9)  # 100 costs two of 15 digits, squared


@pytest.mark.parametrize(
    "name", [n for n in LAWS if n != "earth_mover"]
)  # it subtracts rows before it squares
def test_a_large_offset_costs_few_digits(name):
    a, b = (np.round(normal(seed, 12, 3) * 2**20) / 2**20 for seed in (0, 1))
    moved = OF_ROWS[name](a + 2**28, b + 2**28)  # exact, but the squares would need 96 bits
    np.testing.assert_allclose(moved, OF_ROWS[name](a, b), rtol=1e-6)


@pytest.mark.parametrize("metric", OF_ROWS.values(), ids=OF_ROWS)
def test_images_are_flattened(metric):
    a, b = normal(0, 12, 1, 2, 2), normal(1, 12, 1, 2, 2)
    assert metric(a, b) == metric(a.reshape(12, 4), b.reshape(12, 4))


@every_metric
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e31])
def test_values_that_are_not_finite_are_refused(shape, metric, bad):
    for which in (0, 1):
        sets = [normal(0, *shape), normal(1, *shape)]
        sets[which].flat[5] = bad
        with pytest.raises(UserError, match=r"\w+: \w+ holds values that are not finite"):
            metric(*sets)


@every_metric
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda shape: normal(0, *shape[:-1], shape[-1] + 1), "the shapes differ, .* and .*; give"),
        (lambda shape: np.full(shape, "a"), "holds <U1; give a NumPy array of real numbers"),
        (lambda shape: np.ones(shape, complex), "holds complex128; give"),
        (lambda shape: np.ones(shape, bool), "holds bool; give"),
        (lambda shape: None, "holds object; give"),
        (lambda shape: 0.5, "is a single number; give an array"),
        (lambda shape: np.empty((0, *shape[1:])), "needs at least 1 samples, has 0; give more"),
        (lambda shape: np.ones(12), r"has shape \(12,\); give"),
        (lambda shape: np.empty((12, 0)), r"has shape \(12, 0\); give"),
    ],
)
def test_sets_that_cannot_be_compared_are_refused(shape, metric, make, words):
    for sets in [(normal(0, *shape), make(shape)), (make(shape), normal(0, *shape))]:
        with pytest.raises(UserError, match=words):
            metric(*sets)


A = normal(0, 12, 3)
IMAGES = normal(0, 2, 1, 16, 16)
P = np.full((4, 2), 0.5)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: frechet_distance(A[:1], A), "frechet_distance: a needs at least 2 samples, has 1"),
        (lambda: kernel_distance(A, A), "a has 12 samples, too few for subsets of 1000; give more"),
        (lambda: kernel_distance(A, A[:9], size=10), "b has 9 samples, .* a size of at most 9"),
        (lambda: kernel_distance(A, A, size=1), "size must be a whole number of at least 2, not 1"),
        (lambda: kernel_distance(A, A, subsets=0), "subsets must be a whole number of at least 1"),
        (lambda: kernel_distance(A, A, size=8, seed=-1), "seed must be .* at least 0, not -1"),
        (lambda: precision_recall(A, A, k=12), "real needs at least 13 samples, has 12"),
        (lambda: precision_recall(A, A[:3]), "fake needs at least 4 samples, has 3"),
        (lambda: precision_recall(A, A, k=0), "precision_recall: k must be .* at least 1, not 0"),
        (lambda: precision_recall(A, A, k=True), "k must be a whole number .*, not True"),
        (lambda: density_coverage(A[:5], A), "real needs at least 6 samples, has 5"),
        (lambda: density_coverage(A, A, k=2.5), "k must be a whole number .*, not 2.5"),
        (lambda: different_bins(A, A), "real has 12 different rows, too few for 100 bins"),
        (lambda: different_bins(0 * A + 0.1, A, k=2), "real has 1 different rows, too few for 2"),
        (lambda: different_bins(A, A, k=1), "k must be a whole number of at least 2, not 1"),
        (lambda: different_bins(A, A, k=3, z=0), "z must be a positive number, not 0"),
        (lambda: parzen_log_likelihood(A, A, 0.0), "sigma must be a positive number, not 0.0"),
        (lambda: parzen_log_likelihood(A, A, math.nan), "sigma must be a positive number, not nan"),
        (lambda: earth_mover(A, A[:5]), "a has 12 rows but b has 5, .*; give sets of one size"),
        (lambda: earth_mover_1d(A, A), r"a must be numbers \(N,\), not \(12, 3\)"),
        (lambda: earth_mover_1d(A[0], []), "b needs at least 1 samples, has 0"),
        (lambda: earth_mover_1d(A[0], [math.nan]), "b holds values that are not finite"),
        (lambda: inception_score(normal(0, 20, 3)), "must be probabilities .* a softmax to logits"),
        (lambda: inception_score(2 * P, 1), "must be probabilities that sum to 1"),
        (lambda: inception_score(P), "splits must be a whole number from 1 to 4, not 10"),
        (lambda: mode_coverage([0, 3], 3), "the labels run from 0 to 3, but must be from 0 to 2"),
        (lambda: mode_coverage([-1, 1], 3), "the labels run from -1 to 1, but must be from 0 to 2"),
        (lambda: mode_coverage([0.5], 3), r"must be integers \(N,\).* not float64 of shape \(1,\)"),
        (lambda: mode_coverage([], 3), r"must be integers .* of shape \(0,\)"),
        (lambda: mode_coverage([0], 0), "modes must be a whole number of at least 1, not 0"),
        (lambda: ms_ssim(IMAGES[..., :8], IMAGES[..., :8]), "of at least 16 x 16 pixels"),
        (lambda: ms_ssim(255 * abs(IMAGES), IMAGES), "span [0-9.]+, but span is 2.0; give 2 for"),
        (lambda: ms_ssim(IMAGES, IMAGES, span=-1), "span must be a positive number, not -1"),
        (lambda: sliced_wasserstein(IMAGES[..., :4], IMAGES[..., :4]), "of at least 7 x 7 pixels"),
        (lambda: sliced_wasserstein(IMAGES[:1], IMAGES), r"the shapes differ, real is \(1, 1, 16"),
        (lambda: sliced_wasserstein(normal(0, 1, 1, 33, 33), normal(0, 1, 1, 33, 33)), "33 x 33"),
        (lambda: sliced_wasserstein(IMAGES[..., :8], IMAGES[..., :8]), "images of 16 x 8 cannot"),
        (
            lambda: standard_error(frechet_distance, A, A, repeats=1),
            "repeats must be .* at least 2",
        ),
        (lambda: standard_error(frechet_distance, A, A[:1]), "b needs at least 2 samples, has 1"),
        (lambda: standard_error(frechet_distance, 3.0, A), "a needs at least 2 samples, has 1"),
    ],
)
def test_bad_arguments_are_refused(call, words):
    with pytest.raises(UserError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


# -- the Fréchet distance -----------------------------------------------------------------------------


def with_moments(mean, root, n, seed=0):
    """n rows whose mean is exactly this, and whose covariance is root' root."""
    rows = normal(seed, n, len(root))
    q, _ = np.linalg.qr(rows - rows.mean(0))  # orthonormal, and still of mean 0
    return np.asarray(mean) + np.sqrt(n - 1) * q @ root


def rotated(angle, variances):
    c, s = np.cos(angle), np.sin(angle)
    return np.diag(np.sqrt(variances)) @ np.array([[c, s], [-s, c]])


def test_frechet_of_gaussians_that_commute_is_the_closed_form():
    s, t = np.array([1.0, 2, 3, 0.5]), np.array([4.0, 1, 0.1, 0.5])
    a = with_moments([0, 0, 0, 0], np.diag(s), 30)
    b = with_moments([1, 2, 0, -1], np.diag(t), 50, seed=1)
    assert frechet_distance(a, b) == pytest.approx(6 + ((s - t) ** 2).sum(), abs=1e-9)


def test_frechet_of_rotated_gaussians_is_the_closed_form():
    for angle in (0.3, 1.2):
        r, s = rotated(0.1, [4, 0.5]), rotated(0.1 + angle, [1, 9])
        product = r.T @ r @ s.T @ s
        trace = np.sqrt(
            np.trace(product) + 2 * np.sqrt(np.linalg.det(product))
        )  # of its root, 2 x 2
        a, b = with_moments([0, 0], r, 30), with_moments([3, 4], s, 40, seed=1)
        assert frechet_distance(a, b) == pytest.approx(25 + 14.5 - 2 * trace, abs=1e-9)
        # the trap: this product is not symmetric
        assert abs(np.sqrt(abs(np.linalg.eigvalsh(product))).sum() - trace) > 0.1


def test_frechet_of_singular_gaussians_is_the_closed_form():
    planes = [np.diag(np.sqrt(v)) for v in ([4.0, 1, 0], [9.0, 0, 0], [0, 0, 25.0])]
    a, b, c = (with_moments([0, 0, 0], root, 20, seed) for seed, root in enumerate(planes))
    assert frechet_distance(a, b) == pytest.approx(5 + 9 - 2 * 6, abs=1e-9)
    assert frechet_distance(a, c) == pytest.approx(5 + 25, abs=1e-9)


@given(seed=seeds)
def test_frechet_of_a_shifted_copy_is_the_squared_shift(seed):
    rng = np.random.default_rng(seed)
    a, shift = rng.standard_normal((20, 5)), rng.standard_normal(5)
    assert 0 <= frechet_distance(a, a) < 1e-12
    assert frechet_distance(a, a + shift) == pytest.approx((shift**2).sum(), rel=1e-12)


@pytest.mark.parametrize(("n", "m"), [(60, 80), (60, 15), (12, 15), (2, 3)])
def test_frechet_is_the_formula_with_the_root_by_eigenvectors(n, m):
    a, b = normal(0, n, 30) @ normal(1, 30, 30), 1 + 2 * normal(2, m, 30)

    def root(s):
        values, vectors = np.linalg.eigh(s)
        values[values < 1e-12 * values.max()] = 0  # else square roots of rounding noise
        return (vectors * np.sqrt(values)) @ vectors.T

    s, t = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    cross = np.linalg.eigvalsh(root(s) @ t @ root(s))
    cross = np.sqrt(cross[cross > 1e-12 * cross.max()]).sum()
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s + t) - 2 * cross
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-8)
    if min(n, m) > 30:  # the usual formula, which needs covariances of full rank
        cross = np.sqrt(np.linalg.eigvals(s @ t).astype(complex)).real.sum()
        usual = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s + t) - 2 * cross
        assert frechet_distance(a, b) == pytest.approx(usual, rel=1e-7)


def test_frechet_of_few_samples_builds_no_matrix_of_all_features():
    a, b = normal(0, 10, 2000), normal(1, 12, 2000)
    tracemalloc.start()
    frechet_distance(a, b)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * b.nbytes < 8 * 2000**2 / 20  # copies of the sets, not a twentieth of d x d


def test_frechet_rises_as_n_falls_though_the_distributions_are_equal():
    mean = lambda n: np.mean(
        [frechet_distance(normal(s, n, 8), normal(s + 99, n, 8)) for s in range(20)]
    )
    few, more, many = mean(50), mean(100), mean(200)
    # a term in 1/N; 20 draws leave 6 % of noise, the next term (in 1/N^2) a few per cent
    assert few / more == pytest.approx(2, rel=0.2)
    assert more / many == pytest.approx(2, rel=0.2)


# -- the kernel distance ------------------------------------------------------------------------------


def test_kernel_distance_is_its_formula():
    x, y = normal(0, 6, 4), normal(1, 6, 4)
    k = lambda a, b: (sum(p * q for p, q in zip(a, b, strict=True)) / 4 + 1) ** 3
    pairs = list(itertools.permutations(range(6), 2))
    within = sum(k(x[i], x[j]) + k(y[i], y[j]) for i, j in pairs) / 30
    between = sum(k(p, q) for p in x for q in y) / 36
    mean, deviation = kernel_distance(x, y, subsets=3, size=6)
    assert mean == pytest.approx(within - 2 * between, rel=1e-12)
    assert deviation == pytest.approx(0, abs=1e-12)  # all subsets are the whole


def test_kernel_distance_of_equal_distributions_is_0_within_its_error():
    found = [
        kernel_distance(normal(s, 60, 8), normal(s + 500, 60, 8), 1, 60)[0] for s in range(100)
    ]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(100)
    assert min(found) < 0
    # with i = j it would be off by about 2 * (mean k(x, x) - mean k(x, y)) / 60, many such errors
    shifted = kernel_distance(normal(0, 60, 8), normal(1, 60, 8) + 0.5, 1, 60)[0]
    assert shifted > 10 * np.std(found)


def test_kernel_distance_depends_on_the_seed_alone():
    a, b = normal(0, 50, 3), normal(1, 40, 3)
    first = kernel_distance(a, b, subsets=5, size=20)
    assert first == kernel_distance(a, b, subsets=5, size=20, seed=0)
    assert first != kernel_distance(a, b, subsets=5, size=20, seed=1)
    assert first[1] > 0


# -- the inception score ------------------------------------------------------------------------------


def test_inception_score_of_known_probabilities():
    for classes in (2, 10):
        certain = np.tile(np.eye(classes), (7, 1))
        assert inception_score(certain, splits=1) == (pytest.approx(classes, rel=1e-12), 0)
        flat = np.full((40, classes), 1 / classes)
        assert inception_score(flat) == (pytest.approx(1), pytest.approx(0, abs=1e-12))
        assert inception_score(certain[[1] * 40]) == (1, 0)  # one class only
    half = np.tile([[0.9, 0.1], [0.1, 0.9]], (5, 1))
    entropy = -(0.9 * np.log(0.9) + 0.1 * np.log(0.1))
    assert inception_score(half, splits=1)[0] == pytest.approx(2 * np.exp(-entropy))


def test_inception_score_shuffles_fakes_that_are_sorted_by_class():
    certain = np.repeat(np.eye(10), 200, axis=0)
    mean, deviation = inception_score(certain)  # unshuffled it would be 1
    # a chunk of 200 misses log 10 by about 9 / 400, its variance is a fraction of that
    assert 9.6 < mean < 10
    assert 0 < deviation < 0.2
    assert inception_score(certain) == (mean, deviation) != inception_score(certain, seed=1)
