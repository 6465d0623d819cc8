"""Metrics of minigan beside those of torch-fidelity, computed from the same features.

    pip install torch-fidelity
    python tests/benchmarks/fidelity.py

The features are those of drawn digits and of blurred ones in the shipped classifier (64 numbers each),
and of normal numbers with correlations (256). Both programs draw subsets of rows, each by its own
random numbers. So the kernel distance is taken of all rows at once, and the rows of the inception score
are given to torch-fidelity in minigan's order. The exit code is 1 if two metrics differ by more than
1e-6, relatively.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
import torch
from torch_fidelity import __version__
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from minigan.data.digits import Digits
from minigan.evaluation import metrics
from minigan.evaluation.checks import seeded
from minigan.evaluation.filters import blur
from minigan.evaluation.samples import Samples

N = 3000  # rows of a set
ALLOWED = 1e-6
SPLITS = 10


def sets() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Features of reals and fakes, (N, d) float64 each, with a name."""
    source = Digits(2 * N, 0, 28)
    pixels = np.stack([source.load(i) for i in range(2 * N)])[..., :1]  # (2N, 28, 28, 1)
    images = np.float32(pixels.transpose(0, 3, 1, 2)) / np.float32(127.5) - 1
    blurred = blur(images[N:], np.array([0.25, 0.5, 0.25], np.float32))
    both = (Samples("digits", x).features("digits") for x in (images[:N], blurred))
    yield "digits", *(np.float64(rows) for rows in both)
    rng = np.random.default_rng(0)
    mix = rng.standard_normal((2, 256, 256)) / 16
    yield "normal", *(rng.standard_normal((N, 256)) @ m for m in mix)


def compared(real: np.ndarray, fake: np.ndarray) -> Iterator[tuple[str, float, float]]:
    """The name of each metric, minigan's number and torch-fidelity's."""
    a, b = torch.from_numpy(real), torch.from_numpy(fake)
    moments = [fid_features_to_statistics(rows) for rows in (a, b)]
    theirs = fid_statistics_to_metric(*moments, verbose=False)
    yield "FID", metrics.frechet_distance(real, fake), theirs["frechet_inception_distance"]
    theirs = kid_features_to_metric(a, b, kid_subsets=1, kid_subset_size=N, verbose=False)
    ours, _ = metrics.kernel_distance(real, fake, subsets=1, size=N)
    yield "KID", ours, theirs["kernel_inception_distance_mean"]
    theirs = prc_features_to_metric(b, a, verbose=False, save_cpu_ram=False)
    for name, ours in zip(
        ("precision", "recall"), metrics.precision_recall(real, fake), strict=True
    ):
        yield name, ours, theirs[name]
    logits = fake[:, :10]
    p = np.exp(logits - logits.max(1, keepdims=True))
    found = metrics.inception_score(p / p.sum(1, keepdims=True), SPLITS)
    order = seeded("inception_score", 0).permutation(N)
    theirs = isc_features_to_metric(torch.from_numpy(logits[order]), SPLITS, shuffle=False)
    for name, ours in zip(("mean", "std"), found, strict=True):
        yield f"IS, {name}", ours, theirs[f"inception_score_{name}"]


def main() -> int:
    print(f"torch-fidelity {__version__}, {N} rows\n")
    print(
        "| features | metric | minigan | torch-fidelity | relative difference |\n|---|---|---|---|---|"
    )
    worst = 0.0
    for features, real, fake in sets():
        for name, ours, theirs in compared(real, fake):
            difference = abs(ours - theirs) / max(abs(theirs), 1e-12)
            worst = max(worst, difference)
            print(f"| {features} | {name} | {ours:.9g} | {theirs:.9g} | {difference:.1e} |")
    return 0 if worst <= ALLOWED else 1


if __name__ == "__main__":
    sys.exit(main())
