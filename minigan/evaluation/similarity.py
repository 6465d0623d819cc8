"""How alike two images are, by structure: with it, how alike the images of a set are to each other."""

from __future__ import annotations

import numpy as np

from ..errors import UserError
from .checks import as_images, check_positive
from .distances import blocks
from .filters import blur, halve

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, the finest first
WINDOW, SIGMA = 11, 1.5  # pixels across the Gaussian window, and its deviation
K1, K2 = 0.01, 0.03


def ms_ssim(a: np.ndarray, b: np.ndarray, span: float = 2.0) -> float:
    """The mean multi-scale structural similarity of the pairs (a_i, b_i): 1 where they are equal.

        l_5^w5  prod of cs_s^ws over s = 1 to 5,  the scale s having 2^(1-s) as many pixels a side
        l  = (2 m_a m_b + C1) / (m_a^2 + m_b^2 + C1)        C1 = (0.01 span)^2
        cs = (2 v_ab + C2) / (v_a + v_b + C2)               C2 = (0.03 span)^2

    a, b  (N, C, H, W), at least 16 x 16; computed in float64
    span  the range of the pixels: 2 for -1 to 1, 255 for bytes

    m and v are means and covariances under a Gaussian window of 11 pixels, which shrinks with images
    that are smaller. The factor of a scale is the mean over its pixels and channels, or 0 if that is
    negative; at the last scale it is the mean of l cs. See Wang, Simoncelli & Bovik 2003, equation 7.

    To measure diversity, pair the images of one set: 5,000 pairs of 10,000 fakes (Karras et al. 2018,
    section 5). High means alike. Faces are more alike than digits, so the number says nothing unless
    that for pairs of reals stands beside it.

    Time is O(N C H W), memory that of some ten blocks.
    """
    a, b = as_images("ms_ssim", 2 ** (len(WEIGHTS) - 1), a=a, b=b)
    check_positive("ms_ssim", "span", span)
    wide = float(max(a.max(), b.max())) - float(min(a.min(), b.min()))
    if wide > span * (1 + 1e-6):
        raise UserError(
            f"ms_ssim: the pixels span {wide:g}, but span is {span!r}; "
            "give 2 for images from -1 to 1, 255 for bytes"
        )
    total = 0.0
    for part in blocks(len(a), a[0].size):
        total += _similarity(a[part].astype(np.float64), b[part].astype(np.float64), span).sum()
    return float(total / len(a))


def _similarity(a: np.ndarray, b: np.ndarray, span: float) -> np.ndarray:
    """(n, C, H, W) twice -> (n,)."""
    found = np.ones(len(a))
    for scale, weight in enumerate(WEIGHTS, 1):
        luminance, structure = _parts(a, b, span)
        factor = luminance * structure if scale == len(WEIGHTS) else structure
        found *= np.maximum(factor.mean((1, 2, 3)), 0) ** weight
        a, b = halve(a), halve(b)
    return found


def _parts(a: np.ndarray, b: np.ndarray, span: float) -> tuple[np.ndarray, np.ndarray]:
    """l and cs at each place where the window fits."""
    size = min(WINDOW, *a.shape[-2:])
    at = (np.arange(size) - (size - 1) / 2) * WINDOW / (SIGMA * size)  # in deviations
    taps = np.exp(-(at**2) / 2)
    taps /= taps.sum()
    mean_a, mean_b = blur(a, taps), blur(b, taps)
    both = blur(a * b, taps) - mean_a * mean_b
    each = blur(a * a + b * b, taps) - mean_a**2 - mean_b**2
    c1, c2 = (K1 * span) ** 2, (K2 * span) ** 2
    return (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1), (2 * both + c2) / (each + c2)
