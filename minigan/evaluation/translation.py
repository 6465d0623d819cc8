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


def against_colour_maps(found: np.ndarray, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """The error of translations, and those of maps that look at the colour of a pixel only.

    found  the translations of x; x the images; y their true translations: (N, C, H, W) each

    translation  L1(found, y)
    identity     L1(x, y)
    mean colour  of x, shifted by the difference between the mean colours of y and x
    affine       of A c + b for each colour c, where A and b are the least squares fit to these pairs

    The last two have learnt from the pairs that they are judged by, which no translation has seen.
    """
    colours = lambda images: np.moveaxis(images, 1, -1).astype(np.float64)  # (N, H, W, C)
    a, b = colours(x), colours(y)
    rows = np.concatenate([a, np.ones_like(a[..., :1])], axis=-1)  # (N, H, W, C + 1)
    flat = lambda each: each.reshape(-1, each.shape[-1])  # (N H W, C)
    fit, *_ = np.linalg.lstsq(flat(rows), flat(b), rcond=None)  # (C + 1, C)
    return {
        "translation": l1(found, y),
        "identity": l1(x, y),
        "mean colour": l1(a + (b - a).mean((0, 1, 2)), b),
        "affine": l1(rows @ fit, b),
    }


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
