"""The sliced Wasserstein distance between the small patches of two sets of images, at each scale.

Two sets of patches are compared in a random direction, where the earth mover's distance needs nothing
but sorting, and this is averaged over many directions. The scales are the bands of a Laplacian pyramid:
the finest shows noise and sharpness, the coarsest the large forms.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..errors import UserError
from .checks import as_images, seeded
from .distances import blocks
from .filters import blur

PATCHES, SIDE = 128, 7  # patches of an image, and the pixels of a side
DIRECTIONS = 512
COARSEST = 16  # pixels of a side: the last scale of the pyramid
TAPS = np.array([1, 4, 6, 4, 1]) / 16
PROJECTIONS = 2**24  # numbers that are sorted at once: 128 MB of float64
FLAT = 1e-10  # of the largest pixel: a band with less than this deviation is rounding


def sliced_wasserstein(real: np.ndarray, fake: np.ndarray, seed: int = 0) -> dict[int, float]:
    """1000 mean |sorted projections of real patches - those of fake ones|, for each scale.

    real, fake  (N, C, S, S), equally many in each, at least 7 x 7; computed in float64
    ->          for each side S, S/2, ... down to 16: the distance; the paper also gives their mean

    See Karras, Aila, Laine & Lehtinen 2018, "Progressive Growing of GANs", section 5. From each scale
    128 patches of 7 x 7 are taken of each image, at the same places in both sets. Each channel is
    normalised over the whole set, so the distance does not see a channel's gain or offset: a cast of
    colour, or pixels from 0 to 1 instead of -1 to 1, pass unnoticed. The usual N is 16,384.

    Time is O(128 * 512 N (log N + 49 C)) a scale; memory is that of one and a quarter copies of both
    sets in float64, and of a few blocks.
    """
    real, fake = as_images("sliced_wasserstein", SIDE, real=real, fake=fake)
    side = real.shape[-1]
    if real.shape[-2] != side or side % 2 ** _halvings(side):
        raise UserError(
            f"sliced_wasserstein: images of {real.shape[-2]} x {side} cannot be halved down to "
            f"{COARSEST}; crop or resize them to squares of 16, 32, 64, ... pixels"
        )
    rng = seeded("sliced_wasserstein", seed)
    found = {}
    for bands in zip(pyramid(real), pyramid(fake), strict=True):
        found[bands[0].shape[-1]] = 1e3 * _distance(*bands, rng)
    return found


def _halvings(side: int) -> int:
    """How often a side can be halved without going below COARSEST."""
    return max(0, int(np.log2(side / COARSEST)))


def pyramid(images: np.ndarray) -> Iterator[np.ndarray]:
    """The Laplacian pyramid (Burt & Adelson 1983): what each halving loses, then what is left.

    (N, C, S, S) -> (N, C, S, S), (N, C, S/2, S/2), ..., float64
    """
    images = images.astype(np.float64)
    flat = FLAT * np.abs(images).max()
    for _ in range(_halvings(images.shape[-1])):
        parts = list(blocks(len(images), images[0].size))
        coarser = np.concatenate([shrink(images[part]) for part in parts])
        for part in parts:
            images[part] -= grow(coarser[part])
        images[np.abs(images) < flat] = 0
        yield images
        images = coarser
    yield images


def shrink(images: np.ndarray) -> np.ndarray:
    """(n, C, S, S) -> (n, C, S/2, S/2): blurred, and every second pixel."""
    return blur(_mirrored(images), TAPS)[..., ::2, ::2]


def grow(images: np.ndarray) -> np.ndarray:
    """(n, C, S, S) -> (n, C, 2S, 2S): zeros between the pixels, blurred."""
    n, c, height, width = images.shape
    wide = np.zeros((n, c, 2 * height, 2 * width))
    wide[..., ::2, ::2] = images
    return blur(_mirrored(wide), 2 * TAPS)


def _mirrored(images: np.ndarray) -> np.ndarray:
    """Two more pixels on each side, for five taps."""
    return np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2)), "reflect")


def _distance(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> float:
    """The mean distance of two bands (N, C, S, S) over DIRECTIONS."""
    n, channels, side, _ = x.shape
    corners = rng.integers(side - SIDE + 1, size=(2, n, PATCHES))
    directions = rng.standard_normal((channels * SIDE**2, DIRECTIONS))
    directions /= np.linalg.norm(directions, axis=0)
    _normalise(x, corners)
    _normalise(y, corners)
    total, at_once = 0.0, max(1, PROJECTIONS // (n * PATCHES))
    for start in range(0, DIRECTIONS, at_once):
        some = directions[:, start : start + at_once]
        p, q = (_sorted_projections(band, corners, some) for band in (x, y))
        total += np.abs(p - q).mean(1).sum()
    return float(total / DIRECTIONS)


def _patches(band: np.ndarray, corners: np.ndarray) -> Iterator[np.ndarray]:
    """The patches at these corners (2, N, PATCHES): (n, PATCHES, C, 7, 7), a block at a time."""
    for part in blocks(len(band), PATCHES * band.shape[1] * SIDE**2):
        # (n, C, S, S) -> (n, C, S-6, S-6, 7, 7), a view
        windows = np.lib.stride_tricks.sliding_window_view(band[part], (SIDE, SIDE), axis=(2, 3))
        row, column = corners[:, part]  # (n, PATCHES) each
        yield windows[np.arange(len(row))[:, None], :, row, column]


def _normalise(band: np.ndarray, corners: np.ndarray) -> None:
    """Bring the band's patches to mean 0 and deviation 1 in each channel, in place."""
    sums = [(p.sum((0, 1, 3, 4)), (p**2).sum((0, 1, 3, 4))) for p in _patches(band, corners)]
    mean, square = np.sum(sums, axis=0) / (corners[0].size * SIDE**2)  # (C,) each
    deviation = np.sqrt(np.maximum(square - mean**2, 0))
    band -= mean[:, None, None]
    band /= np.where(deviation > 0, deviation, 1)[:, None, None]


def _sorted_projections(
    band: np.ndarray, corners: np.ndarray, directions: np.ndarray
) -> np.ndarray:
    """(C 49, D) directions -> (D, N PATCHES), each row in ascending order."""
    found = []
    for patches in _patches(band, corners):
        rows = patches.reshape(-1, len(directions))  # (n, PATCHES, C, 7, 7) -> (n PATCHES, C 49)
        found.append(directions.T @ rows.T)
    projections = np.concatenate(found, axis=1)
    projections.sort(axis=1)
    return projections
