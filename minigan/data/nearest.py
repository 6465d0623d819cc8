"""The nearest real sample of a generated one: does G invent, or has it memorised its data?"""

from __future__ import annotations

import numpy as np

from . import Dataset

BLOCK = 2**22  # numbers in a block of samples: 32 MB of float64; a block has at least one sample


def nearest(samples: np.ndarray, data: Dataset) -> np.ndarray:
    """The index (N,) int64 of the real sample that is nearest to each of these samples (N, *shape).

    The distance is Euclidean, over all pixels. With |a - b|^2 = |a|^2 - 2 a.b + |b|^2, one matrix
    product compares a block of samples with a block of the data. |a|^2 is left out, because it is the
    same for every b. The rest is computed in float64, because its terms cancel where a and b are nearly
    equal. Of several samples that are equally near, the first is taken.
    """
    rows = max(1, BLOCK // int(np.prod(data.shape)))
    best, index = np.full(len(samples), np.inf), np.zeros(len(samples), np.int64)
    for start in range(0, len(data), rows):
        these = np.arange(start, min(start + rows, len(data)))
        b = _flat(data.batch(these, "cpu").numpy())  # (B, D)
        for i in range(0, len(samples), rows):
            part = slice(i, i + rows)
            score = (b**2).sum(1) - 2 * _flat(samples[part]) @ b.T  # (A, B)
            first = score.argmin(1)
            least = score.min(1)
            nearer = least < best[part]
            index[part][nearer] = these[first[nearer]]
            best[part][nearer] = least[nearer]
    return index


def _flat(samples: np.ndarray) -> np.ndarray:
    """(N, *shape) -> (N, D) float64."""
    return samples.reshape(len(samples), -1).astype(np.float64)
