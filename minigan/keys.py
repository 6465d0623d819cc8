"""Random numbers as a function of a key: nothing is carried along, so nothing has to be saved.

A stream of random numbers has a state, which a checkpoint would have to save and restore. A key only
has to be computed again. The same step of a run draws the same numbers in any process, and what is
drawn under one name never shifts what is drawn under another.
"""

from __future__ import annotations

import hashlib

import numpy as np

NOISES = ("normal", "uniform")


def generator(*key: object) -> np.random.Generator:
    """A generator of the random numbers of this key, independent of those of any other key.

    The parts of a key are told apart by their `repr`: give ints and strings, not NumPy's numbers.
    """
    digest = hashlib.blake2b(repr(key).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


def noise(rng: np.random.Generator, shape: tuple[int, ...], kind: str) -> np.ndarray:
    """z ~ N(0, 1) ("normal") or U(-1, 1) ("uniform"), float32.

    It is drawn on the host, so that every device gets the same numbers.
    """
    if kind == "normal":
        return rng.standard_normal(shape, np.float32)
    return (2 * rng.random(shape, np.float32) - 1).astype(np.float32)
