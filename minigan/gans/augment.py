"""Random changes of the images that D sees, reals and fakes alike (Zhao et al. 2020, "DiffAugment").

D memorises a small data set. Changed images are harder to memorise, and because the fakes are changed
in the same way, G does not learn to draw the changes. Each change is differentiable, so that G's
gradient passes through it. u ~ U(0, 1) is drawn anew for each number and each image.

    color        brightness + u - 1/2; saturation * 2 u; contrast * (u + 1/2)
    translation  by up to 1/8 of each side, filled with 0
    cutout       a square of half the side, at a random place, is set to 0
"""

from __future__ import annotations

import numpy as np

from ..tensor import Tensor, tensor
from .draw import Draw


def color(x: Tensor, draw: Draw) -> Tensor:
    """Images (N, C, H, W), each with its own change of brightness, saturation and contrast."""
    u = draw.uniform("augment", 3, 1, 1, 1)[: len(x)]  # (N, 3, 1, 1, 1)
    x = x + (u[:, 0] - 0.5)
    grey = x.mean(1, keepdim=True)  # (N, 1, H, W)
    x = (x - grey) * (2 * u[:, 1]) + grey
    level = x.mean((1, 2, 3), keepdim=True)  # (N, 1, 1, 1)
    return (x - level) * (u[:, 2] + 0.5) + level


def translation(x: Tensor, draw: Draw) -> Tensor:
    """Images (N, C, H, W), each moved vertically and horizontally by a whole number of pixels."""
    n, _, h, w = x.shape
    u = draw.uniform("augment", 2, 1, 1)[:n]  # (N, 2, 1, 1)
    down, right = _shift(h, u[:, :1]), _shift(w, u[:, 1:])  # (N, 1, H, H) and (N, 1, W, W)
    return down @ x @ right.transpose(2, 3)


def _shift(size: int, u: Tensor) -> Tensor:
    """Matrices (N, 1, size, size) that move a column by a whole number of elements, from -m to m.

    The move is floor(v) with v = (2 m + 1) u - m and m = size // 8, so that all moves are equally
    likely.
    """
    most = size // 8
    v = (2 * most + 1) * u - most  # (N, 1, 1, 1)
    distance = np.arange(size)[:, None] - np.arange(size)  # (size, size)
    distance = tensor(distance.astype(u.dtype), device=u.device)
    return ((distance <= v) & (v < distance + 1)).to(u.dtype)


def cutout(x: Tensor, draw: Draw) -> Tensor:
    """Images (N, C, H, W), each with a square of half its side, at a random place, set to 0."""
    n, _, h, w = x.shape
    u = draw.uniform("augment", 2, 1, 1)[:n]  # the centre (N, 2, 1, 1), in sides of the image
    outside = _far(h, u[:, :1]).transpose(2, 3) | _far(w, u[:, 1:])  # (N, 1, H, W)
    return x * outside.to(x.dtype)


def _far(size: int, center: Tensor) -> Tensor:
    """Which pixels are further from the centre than a quarter of the side: bool (N, 1, 1, size)."""
    at = tensor((np.arange(size) / size).astype(center.dtype), device=center.device)
    return abs(at - center) > 0.25


CHANGES = {"color": color, "translation": translation, "cutout": cutout}
