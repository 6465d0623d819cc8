"""Checks of the arrays and numbers that metrics are given; each raises a UserError of one sentence."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np

from ..errors import UserError

LARGEST = 1e30  # beyond any feature; the cube of a product of two such numbers is still finite


def check_whole(name: str, what: str, value: Any, low: int, high: float = np.inf) -> None:
    """Raise UserError unless the value is an integer, and not a bool, from `low` to `high`."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or not low <= value <= high:
        limits = f"of at least {low}" if high == np.inf else f"from {low} to {high}"
        raise UserError(f"{name}: {what} must be a whole number {limits}, not {value!r}")


def check_positive(name: str, what: str, value: Any) -> None:
    """Raise UserError unless the value is a number above 0 whose square is one too."""
    real = isinstance(value, Real) and not isinstance(value, bool)
    if not real or not 1 / LARGEST <= value <= LARGEST:
        raise UserError(f"{name}: {what} must be a positive number, not {value!r}")


def seeded(name: str, seed: int) -> np.random.Generator:
    """The random numbers of a metric, which depend on nothing but the seed."""
    check_whole(name, "seed", seed, 0)
    return np.random.default_rng(seed)


def check_counts(name: str, least: int, **sets: np.ndarray) -> None:
    """Raise UserError unless each set has at least this many samples."""
    for key, samples in sets.items():
        if len(samples) < least:
            raise UserError(
                f"{name}: {key} needs at least {least} samples, has {len(samples)}; give more"
            )


def as_rows(name: str, **sets: Any) -> list[np.ndarray]:
    """The sets (N, ...) as float64 matrices (N, d), one sample a row, all of one width."""
    found = []
    for key, given in sets.items():
        rows = _numbers(name, key, given)
        if rows.ndim < 2 or rows[0].size == 0:
            raise UserError(
                f"{name}: {key} has shape {rows.shape}; give one sample a row, of shape (N, d)"
            )
        rows = rows.reshape(len(rows), -1)  # (N, ...) -> (N, d)
        found.append(rows.astype(np.float64, copy=False))
    _check_alike(name, {key: rows.shape[1:] for key, rows in zip(sets, found, strict=True)})
    return found


def as_images(name: str, side: int, **sets: Any) -> list[np.ndarray]:
    """The sets as they are, checked to be images (N, C, H, W), equally many in each set.

    They keep their dtype, because bytes take an eighth of the memory of float64.

    side  the least height and width that the metric can use
    """
    found = []
    for key, given in sets.items():
        images = _numbers(name, key, given)
        if images.ndim != 4 or images.shape[1] == 0 or min(images.shape[2:]) < side:
            raise UserError(
                f"{name}: {key} has shape {images.shape}; "
                f"give images (N, C, H, W) of at least {side} x {side} pixels"
            )
        found.append(images)
    _check_alike(name, {key: images.shape for key, images in zip(sets, found, strict=True)})
    return found


def _numbers(name: str, key: str, given: Any) -> np.ndarray:
    """An array of finite real numbers, with at least one along its first axis."""
    array = np.asarray(given)
    if array.dtype.kind not in "fiu":
        raise UserError(f"{name}: {key} holds {array.dtype}; give a NumPy array of real numbers")
    if array.ndim == 0:
        raise UserError(f"{name}: {key} is a single number; give an array of samples")
    check_counts(name, 1, **{key: array})
    if array.size and not max(-float(array.min()), float(array.max())) <= LARGEST:
        raise UserError(
            f"{name}: {key} holds values that are not finite or beyond {LARGEST:g}; "
            "look for what diverged where it was computed"
        )
    return array


def _check_alike(name: str, shapes: dict[str, tuple[int, ...]]) -> None:
    if len(set(shapes.values())) > 1:
        words = " and ".join(f"{key} is {shape}" for key, shape in shapes.items())
        raise UserError(f"{name}: the shapes differ, {words}; give sets that can be compared")
