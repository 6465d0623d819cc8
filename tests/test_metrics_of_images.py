"""Metrics of images: structural similarity, and the sliced distance at the scales of a pyramid.

What they share with all metrics, and what they refuse, is in test_metrics.py.
"""

import itertools

import numpy as np
import pytest

from minigan.evaluation import sliced
from minigan.evaluation.metrics import ms_ssim, sliced_wasserstein


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


# -- structural similarity -----------------------------------------------------------------------


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


# -- the sliced distance -------------------------------------------------------------------------


def test_the_pyramid_adds_up_to_the_images():
    x = normal(0, 2, 3, 64, 64)
    bands = list(sliced.pyramid(x))
    assert [band.shape[-1] for band in bands] == [64, 32, 16]
    total = bands[-1]
    for band in bands[-2::-1]:
        total = band + sliced.grow(total)
    np.testing.assert_allclose(total, x, atol=1e-12)


def test_the_pyramid_of_smooth_images():
    finest, coarsest = sliced.pyramid(np.full((1, 1, 32, 32), 1 / 3))
    assert (finest == 0).all()  # and not rounding, which would be normalised to 1
    np.testing.assert_allclose(coarsest, 1 / 3, rtol=1e-12)
    ramp = np.tile(np.arange(32.0), (1, 1, 32, 1))
    row = sliced.shrink(ramp)[0, 0, 5]
    # every second pixel; the mirrored edge has (6 * 0 + 2 * 4 * 1 + 2 * 2) / 16
    np.testing.assert_allclose(row[:-1], [0.75, *range(2, 30, 2)], atol=1e-12)
    np.testing.assert_allclose(
        sliced.grow(np.tile(row, (1, 1, 8, 1)))[0, 0, 0, 3:27], np.arange(3, 27)
    )


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


def test_sliced_wasserstein_of_noise_and_of_flat_images_is_the_closed_form():
    noise = normal(0, 40, 1, 16, 16)
    flat = np.repeat([3.0, 7.0], 20)[:, None, None, None] * np.ones((1, 16, 16))
    # A unit direction w projects noise to N(0, 1), and flat patches of -1 and 1 to -s and s, where s is
    # |sum of w|, about |N(0, 1)|. Sorted, the halves meet: the mean of ||Z| - |S|| for normal Z and S.
    expected = 1000 * 2 * (2 / np.sqrt(np.pi) - np.sqrt(2 / np.pi))
    assert sliced_wasserstein(noise, flat)[16] == pytest.approx(
        expected, rel=0.06
    )  # 512 directions


def test_sliced_wasserstein_of_one_image_repeated_is_large(few_directions):
    real, fake = normal(0, 40, 1, 16, 16), normal(1, 40, 1, 16, 16)
    healthy, collapsed = (sliced_wasserstein(real, f)[16] for f in (fake, fake[[0] * 40]))
    assert collapsed > 3 * healthy
