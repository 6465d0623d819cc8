"""Random numbers as a function of a key: there is no state, so nothing has to be saved.

A stream of random numbers has a state that a checkpoint would have to save and restore. A key is simply
computed again. The same step of a run draws the same numbers in any process, and numbers drawn under
one name never affect those drawn under another.
"""

from __future__ import annotations

import hashlib

import numpy as np

NOISES = ("normal", "uniform")


def generator(*key: object) -> np.random.Generator:
    """A generator of the random numbers of this key, independent of those of any other key.

    Keys are compared by the `repr` of their parts. Give ints and strings, not NumPy's numbers, whose
    `repr` depends on NumPy's version.
    """
    digest = hashlib.blake2b(repr(key).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


def noise(rng: np.random.Generator, shape: tuple[int, ...], kind: str) -> np.ndarray:
    """z ~ N(0, 1) ("normal") or U(-1, 1) ("uniform"), float32.

    z is drawn on the host, so that every device gets the same numbers.
    """
    if kind == "normal":
        return rng.standard_normal(shape, np.float32)
    return (2 * rng.random(shape, np.float32) - 1).astype(np.float32)
