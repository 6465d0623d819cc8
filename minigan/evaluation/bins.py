"""How the fakes divide among modes: those that are known, or bins found by clustering the reals."""

from __future__ import annotations

import numpy as np

from ..errors import UserError
from .checks import as_rows, check_positive, check_whole, seeded
from .distances import ROUNDING, squared_distances, squares

ROUNDS = 100  # of Lloyd's algorithm at most


def mode_coverage(labels: np.ndarray, modes: int) -> tuple[int, float]:
    """The number of modes that occur, and KL(p || uniform) = sum of p log(p modes), in nats.

    labels  (N,) integers from 0 to modes - 1: the mode of each fake, by its nearest centre or by a
            classifier; leave out fakes that lie on no mode

    The protocol of the stacked digits: 1,000 modes, 26,000 fakes, and a mode counts if it occurs once
    (Metz et al. 2017, section 3.3.1; Srivastava et al. 2017, "VEEGAN"). The divergence is 0 if all
    modes are equally frequent, and log(modes) if only one occurs. A mistake of the classifier can look
    like a mode, so report its error rate too. Time is O(N).
    """
    check_whole("mode_coverage", "modes", modes, 1)
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.size == 0 or labels.dtype.kind not in "iu":
        raise UserError(
            "mode_coverage: labels must be integers (N,), one for each fake, "
            f"not {labels.dtype} of shape {labels.shape}"
        )
    if labels.min() < 0 or labels.max() >= modes:
        raise UserError(
            f"mode_coverage: the labels run from {labels.min()} to {labels.max()}, "
            f"but must be from 0 to {modes - 1}"
        )
    shares = np.bincount(labels, minlength=modes) / len(labels)
    return int((shares > 0).sum()), _divergence(shares, np.full(modes, 1 / modes))


def different_bins(
    real: np.ndarray, fake: np.ndarray, k: int = 100, z: float = 1.96, seed: int = 0
) -> tuple[int, float]:
    """In how many of k bins the shares of reals and fakes differ significantly, and how far apart.

        |p - q| > z sqrt(m (1 - m) (1/N + 1/M))    p, q: shares of a bin; m: that of both sets together
        JS = KL(p || (p + q)/2) / 2 + KL(q || (p + q)/2) / 2, in nats

    real, fake  (N, d) with at least k different rows, and (M, d); computed in float64
    k           bins: the cells of K-means on the reals
    z           standard errors that are significant: 1.96 for the level 0.05, 3 is usual too
    ->          the number of different bins, and the Jensen-Shannon divergence of the shares

    The number of statistically different bins (NDB) of Richardson & Weiss 2018, "On GANs and GMMs". At
    level 0.05 about k/20 bins of equal distributions differ by chance, and some more because the
    clusters fit the reals that they were found on: compare with the number for held-out reals.

    Time is O(N k d) a round of Lloyd's algorithm, of which there are at most 100, started by k-means++
    (Arthur & Vassilvitskii 2007); memory is that of one more copy of both sets and of a block.
    """
    real, fake = as_rows("different_bins", real=real, fake=fake)
    check_whole("different_bins", "k", k, 2)
    check_positive("different_bins", "z", z)
    middle = real.mean(0)
    real, fake = real - middle, fake - middle  # so that an offset costs no digits
    centres = _clusters(real, k, seeded("different_bins", seed))
    p, q = (np.bincount(_nearest(s, centres), minlength=k) / len(s) for s in (real, fake))
    both = (p * len(real) + q * len(fake)) / (len(real) + len(fake))
    error = np.sqrt(both * (1 - both) * (1 / len(real) + 1 / len(fake)))
    mixed = (p + q) / 2
    distance = (_divergence(p, mixed) + _divergence(q, mixed)) / 2
    return int((np.abs(p - q) > z * error).sum()), distance


def _divergence(p: np.ndarray, q: np.ndarray) -> float:
    """KL(p || q) = sum of p log(p / q) over the bins where p is not 0."""
    some = p > 0
    return float((p[some] * np.log(p[some] / q[some])).sum())


def _clusters(rows: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """The centres (k, d) of K-means."""
    centres = np.empty((k, rows.shape[1]))
    centres[0] = rows[rng.integers(len(rows))]
    far = np.full(len(rows), np.inf)  # squared distance to the nearest centre so far
    for i in range(1, k):  # k-means++: a far row is likely to become the next centre
        for _, d in squared_distances(centres[i - 1 : i], rows):
            np.minimum(far, d[0], out=far)
        far[far <= ROUNDING * squares(rows)] = 0  # copies of a centre
        if not far.any():
            raise UserError(
                f"different_bins: real has {i} different rows, too few for {k} bins; "
                "give more reals or a smaller k"
            )
        centres[i] = rows[rng.choice(len(rows), p=far / far.sum())]
    before = None
    for _ in range(ROUNDS):
        bins = _nearest(rows, centres)
        if before is not None and (bins == before).all():
            break
        for i in np.unique(bins):  # a centre that lost all its rows stays where it is
            centres[i] = rows[bins == i].mean(0)
        before = bins
    return centres


def _nearest(rows: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The index (N,) of the centre that is nearest to each row."""
    return np.concatenate([d.argmin(1) for _, d in squared_distances(rows, centres)])
