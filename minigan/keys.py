"""Random numbers as a function of a key: nothing is carried along, so nothing has to be saved.

A stream of random numbers must be saved and restored by everybody who draws from it. A key only has to
be computed again: the same step of the same run draws the same numbers in whatever process it is
played, and what one name draws never shifts what another draws.
"""

from __future__ import annotations

import hashlib

import numpy as np

NOISES = ("normal", "uniform")


def generator(*key: object) -> np.random.Generator:
    """The random numbers of this key: independent of those of any other key."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


def noise(rng: np.random.Generator, shape: tuple[int, ...], kind: str) -> np.ndarray:
    """z ~ N(0, 1) or U(-1, 1), float32; drawn on the host, so that every device gets the same."""
    if kind == "normal":
        return rng.standard_normal(shape, np.float32)
    return (2 * rng.random(shape, np.float32) - 1).astype(np.float32)
