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


@pytest.mark.parametrize("name", set(OF_ROWS) - {"different_bins"})  # its first centres are drawn
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
        (lambda: earth_mover(A, A[:5]), "a has 12 rows and b 5; give as many of both"),
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
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-12)
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
        assert inception_score(certain, splits=1) == (pytest.approx(classes), 0)
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
    a = np.full((20, 7), 0.1)  # with "<" instead of "<=", or with rounding, all were 0
    assert precision_recall(a, a) == (1, 1)
    assert density_coverage(a, a)[1] == 1
    three = np.repeat(normal(0, 3, 700), 10, axis=0)  # each row has copies, at distance 0
    assert precision_recall(three, three[:25]) == (1, 1)
    assert density_coverage(three, three[:15])[1] == 2 / 3


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


# -- images -------------------------------------------------------------------------------------------


def naive_ssim(x, y, span):
    """l and cs of two pictures (H, W), averaged, by the definition of Wang et al. 2004."""
    size = min(11, *x.shape)
    sigma = 1.5 * size / 11
    at = np.arange(size) - (size - 1) / 2
    window = np.exp(-(at[:, None] ** 2 + at**2) / (2 * sigma**2))
    window /= window.sum()
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    both, structures = [], []
    for i, j in itertools.product(*(range(side - size + 1) for side in x.shape)):
        p, q = x[i : i + size, j : j + size], y[i : i + size, j : j + size]
        mp, mq = (window * p).sum(), (window * q).sum()
        vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
        structure = (2 * (window * (p - mp) * (q - mq)).sum() + c2) / (vp + vq + c2)
        structures.append(structure)
        both.append(structure * (2 * mp * mq + c1) / (mp**2 + mq**2 + c1))
    return np.mean(both), np.mean(structures)


@pytest.mark.parametrize("side", [16, 22])
def test_ms_ssim_is_its_definition(side):
    rng = np.random.default_rng(side)
    a = rng.uniform(-1, 1, (2, 2, side, side))
    b = np.clip(a + 0.5 * rng.standard_normal(a.shape), -1, 1)
    expected = []
    for x, y in zip(a, b, strict=True):
        factors = []
        for scale in range(5):
            parts = [naive_ssim(p, q, 2) for p, q in zip(x, y, strict=True)]
            factors.append(np.mean([both if scale == 4 else s for both, s in parts]))
            half = x.shape[-1] // 2
            x, y = (
                z[:, : 2 * half, : 2 * half].reshape(2, half, 2, half, 2).mean((2, 4))
                for z in (x, y)
            )
        weights = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333]
        expected.append(np.prod(np.maximum(factors, 0) ** weights))
    assert 0.3 < np.mean(expected) < 0.95
    assert ms_ssim(a, b) == pytest.approx(np.mean(expected), rel=1e-9)


def test_ms_ssim_of_equal_and_of_opposite_images():
    x = np.random.default_rng(0).uniform(-1, 1, (3, 3, 32, 32))
    assert ms_ssim(x, x) == pytest.approx(1, abs=1e-12)
    assert ms_ssim(x, -x) == 0  # negative similarities count as 0
    y = np.random.default_rng(1).uniform(-1, 1, x.shape)
    assert 0 < ms_ssim(x, y) < 0.3
    assert ms_ssim(x, y) == pytest.approx(ms_ssim(y, x), rel=1e-12)
    bytes_ = np.rint(127.5 * (x + 1)).astype(np.uint8), np.rint(127.5 * (y + 1)).astype(np.uint8)
    assert 0 < ms_ssim(*bytes_, span=255) < 0.3


def test_the_pyramid_adds_up_to_the_images():
    x = normal(0, 2, 3, 64, 64)
    bands = list(sliced.pyramid(x))
    assert [band.shape[-1] for band in bands] == [64, 32, 16]
    total = bands[-1]
    for band in bands[-2::-1]:
        total = band + sliced.grow(total)
    np.testing.assert_allclose(total, x, atol=1e-12)
    smooth = np.full((1, 1, 32, 32), 0.7)
    finest, coarsest = sliced.pyramid(smooth)
    assert (finest == 0).all()  # and not rounding, which would be normalised to 1
    np.testing.assert_allclose(coarsest, 0.7, rtol=1e-12)


@pytest.fixture
def few_directions(monkeypatch):
    monkeypatch.setattr(sliced, "DIRECTIONS", 64)


def test_sliced_wasserstein_sees_no_gain_and_no_offset(few_directions):
    x, y = normal(0, 6, 3, 32, 32), normal(1, 6, 3, 32, 32)
    assert sliced_wasserstein(x, x) == {32: 0, 16: 0}
    found = sliced_wasserstein(x, y)
    gain, offset = np.array([2, 0.5, 3]), np.array([1, -2, 5])
    tinted = y * gain[:, None, None] + offset[:, None, None]
    assert sliced_wasserstein(x, tinted) == pytest.approx(found, rel=1e-6)
    assert sliced_wasserstein(x, y, seed=1) != found


def test_sliced_wasserstein_sees_a_blur_at_the_finest_scale_only(few_directions):
    real, sharp = normal(0, 40, 1, 32, 32), normal(1, 40, 1, 32, 32)
    frequency = abs(np.fft.fftfreq(32))  # cycles a pixel; the coarser scale has those up to 0.25
    kept = np.maximum(frequency[:, None], frequency) < 0.375
    blurred = np.fft.ifft2(np.fft.fft2(sharp) * kept).real
    before, after = sliced_wasserstein(real, sharp), sliced_wasserstein(real, blurred)
    assert after[32] > 2 * before[32]
    assert after[16] == pytest.approx(before[16], rel=0.02)


def test_sliced_wasserstein_of_one_image_repeated_is_large(few_directions):
    real, fake = normal(0, 40, 1, 16, 16), normal(1, 40, 1, 16, 16)
    healthy, collapsed = (sliced_wasserstein(real, f)[16] for f in (fake, fake[[0] * 40]))
    assert collapsed > 3 * healthy


# -- bins and modes -----------------------------------------------------------------------------------


def test_bins_of_two_clusters_are_a_two_proportion_test():
    place = lambda left, right: (
        np.array([[-9.0]] * left + [[9.0]] * right) + np.linspace(0, 1, left + right).reshape(-1, 1)
    )
    real, fake = place(50, 50), place(60, 40)
    m = 0.55
    z = 0.1 / np.sqrt(m * (1 - m) * 2 / 100)  # 1.42
    assert different_bins(real, fake, k=2, z=z - 0.01)[0] == 2
    assert different_bins(real, fake, k=2, z=z + 0.01)[0] == 0
    kl = lambda p, q: sum(x * np.log(x / y) for x, y in zip(p, q, strict=True))
    p, q, mixed = (0.5, 0.5), (0.6, 0.4), (0.55, 0.45)
    expected = (kl(p, mixed) + kl(q, mixed)) / 2
    assert different_bins(real, fake, k=2)[1] == pytest.approx(expected, rel=1e-12)
    assert different_bins(real, place(100, 0), k=2)[0] == 2
    assert different_bins(real, real, k=2) == (0, 0)


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
