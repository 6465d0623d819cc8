"""How fast NumPy adds and copies, depending on the length of contiguous runs in memory.

    python tests/benchmarks/runs.py

Uses 65,536 float32 numbers (256 KB per array, which fits the second-level cache) and one thread. Prints
the best of many calls, in 10^9 numbers per second. `docs/performance.md` quotes the table.
"""

from __future__ import annotations

import timeit
from collections.abc import Callable
from functools import partial

import numpy as np

from minigan.backend.threads import BUFFER, empty

COUNT = 1 << 16
LENGTHS = 64, 128, 256, 512, 1024, 2048, 4096


def rate(call: Callable[[], object]) -> float:
    """The rate of a call, in 10^9 numbers per second."""
    return COUNT / 1e9 / min(timeit.repeat(call, number=50, repeat=9)) * 50


def runs(length: int) -> np.ndarray:
    """COUNT numbers in runs of this length, each followed by a gap of the same length."""
    array = empty((COUNT // length, 2 * length), np.float32)
    array[...] = 1
    return array[:, :length]


def unaligned() -> np.ndarray:
    array = empty((COUNT + 4,), np.float32)
    array[...] = 1
    return array[4:]


def main() -> None:
    flat = [empty((COUNT,), np.float32) for _ in range(3)]
    for array in flat:
        array[...] = 1
    a, b, out = flat
    print(f"add, one run: {rate(lambda: np.add(a, b, out=out)):.1f}")
    x, y, z = (unaligned() for _ in range(3))
    print(f"add, one run, not aligned to a cache line: {rate(lambda: np.add(x, y, out=z)):.1f}\n")
    print("| run | copy | add, NumPy's own buffer | add, minigan's |")
    print("|---|---|---|---|")
    for length in LENGTHS:
        a, b, out = (runs(length) for _ in range(3))
        row = [rate(partial(np.copyto, out, a))]
        for size in (8192, BUFFER):
            before = np.setbufsize(size)
            row.append(rate(partial(np.add, a, b, out=out)))
            np.setbufsize(before)
        print(f"| {length} | " + " | ".join(f"{r:.1f}" for r in row) + " |")


if __name__ == "__main__":
    main()
