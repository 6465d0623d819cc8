"""Filters of images (..., H, W) that are the same along both axes."""

from __future__ import annotations

import numpy as np


def blur(images: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """Weighted sums of t x t pixels with the weights taps_i taps_j: (..., H, W) -> (..., H-t+1, W-t+1).

    Only where the window fits; whoever wants the same size pads first.
    """
    height, width = (side - len(taps) + 1 for side in images.shape[-2:])
    rows = sum(t * images[..., i : i + height, :] for i, t in enumerate(taps))
    return sum(t * rows[..., i : i + width] for i, t in enumerate(taps))


def halve(images: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 pixels: (..., H, W) -> (..., H // 2, W // 2)."""
    height, width = (side // 2 * 2 for side in images.shape[-2:])
    even = images[..., :height, :width]
    rows = even[..., ::2, :] + even[..., 1::2, :]
    return (rows[..., ::2] + rows[..., 1::2]) / 4
