"""How good are translations of images whose true translation is known, as that of drawn seasons?

All errors are L1: the mean absolute difference of all pixels and channels, where images are in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .checks import seeded

Translate = Callable[[np.ndarray], np.ndarray]  # (N, C, H, W) -> (N, C, H, W)

NOISE = 0.1  # standard deviation: 13 of the 256 levels of a byte


def l1(a: np.ndarray, b: np.ndarray) -> float:
    """mean |a - b|, in float64."""
    return float(np.abs(a.astype(np.float64) - b).mean())


def colour_maps(x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """What maps that look only at the colour of a pixel make of x: (N, C, H, W) float64 each.

    x, y  images and their true translations, (N, C, H, W) each, from which the maps learn

    identity     x
    mean colour  x, shifted by the difference between the mean colours of y and x
    affine       A c + b for each colour c, where A and b are the least squares fit
    """
    colours = lambda images: np.moveaxis(images, 1, -1).astype(np.float64)  # (N, H, W, C)
    a, b = colours(x), colours(y)
    rows = np.concatenate([a, np.ones_like(a[..., :1])], axis=-1)  # (N, H, W, C + 1)
    flat = lambda each: each.reshape(-1, each.shape[-1])  # (N H W, C)
    fit, *_ = np.linalg.lstsq(flat(rows), flat(b), rcond=None)  # (C + 1, C)
    found = {"identity": a, "mean colour": a + (b - a).mean((0, 1, 2)), "affine": rows @ fit}
    return {name: np.moveaxis(each, -1, 1) for name, each in found.items()}  # (N, C, H, W)


def translation_errors(found: np.ndarray, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """L1 to y of the translations `found` of x, and beside it that of each of the `colour_maps`.

    These have learnt from the very pairs by which they are judged.
    """
    maps = {name: l1(each, y) for name, each in colour_maps(x, y).items()}
    return {"translation": l1(found, y), **maps}


def cycle_errors(there: Translate, back: Translate, x: np.ndarray) -> dict[str, float]:
    """The error of x after a translation there and back, with the translation itself or a copy of it.

    as it is  L1(back(there(x)), x)
    8 bits    the same, with there(x) rounded to 256 levels, as in a file
    noise     the same, with there(x) + N(0, NOISE^2), cut off at -1 and 1

    If the later errors are much larger than the first, a translation hides the original in differences
    that nobody sees (Chu, Zhmoginov & Sandler 2017, "CycleGAN, a Master of Steganography").
    """
    fake = there(x)
    noise = NOISE * seeded("cycle", 0).standard_normal(fake.shape, np.float32)
    seen = {
        "as it is": fake,
        "8 bits": np.rint((fake + 1) * 127.5) / np.float32(127.5) - 1,
        "noise": (fake + noise).clip(-1, 1),
    }
    return {name: l1(back(each), x) for name, each in seen.items()}
