"""Read PyTorch's stored answers and compare results with them, for the tests of parity."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from inputs import summaries, summary_scale


@functools.cache
def frozen(file: str) -> dict[str, np.ndarray]:
    """All arrays of `fixtures/file.npz`."""
    with np.load(Path(__file__).parent / "fixtures" / f"{file}.npz") as arrays:
        return {key: arrays[key] for key in arrays.files if key != "torch"}


def deviation(actual: np.ndarray, expected: np.ndarray, scale: np.ndarray | None = None) -> float:
    """The largest error relative to `scale`, by default the largest element, because others may cancel.

    Where the scale is 0, only an exact 0 is accepted.
    """
    assert actual.shape == expected.shape
    error = np.abs(actual.astype(np.float64) - expected)
    scale = np.abs(expected).max() if scale is None else scale
    with np.errstate(divide="ignore"):
        return np.divide(error, scale, out=np.zeros_like(error), where=error != 0).max()


def summary_deviation(arrays: dict[str, np.ndarray], expected: np.ndarray) -> float:
    """The largest deviation of summarised arrays, each number relative to its natural scale."""
    sizes = [array.size for array in arrays.values()]
    scale = np.stack([summary_scale(row[1], n) for row, n in zip(expected, sizes, strict=True)])
    return deviation(summaries(arrays), expected, scale)


def check(found: dict[str, float], tolerance: float) -> None:
    """Assert that no deviation is larger than the tolerance; print the largest."""
    worst = max(found, key=found.get)
    print(f"largest deviation {found[worst]:.1e} ({worst}), allowed {tolerance:.0e}")
    assert found[worst] <= tolerance, {k: f"{v:.1e}" for k, v in found.items() if v > tolerance}
