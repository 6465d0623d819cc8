"""From a run's generator and its data to metrics: which samples are drawn, and which protocol results.

The reals are drawn from the data without replacement and divided into two sets: one that the fakes are
compared with, and one that is judged like the fakes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..arguments import is_whole
from ..data import Dataset
from ..data.decoding import RECIPE
from ..errors import UserError
from ..evaluation import table
from ..evaluation.inception import FEATURES, InceptionV3
from ..evaluation.report import Entry
from ..evaluation.samples import INCEPTION, Samples
from ..gans import MEMBERS
from ..keys import generator, noise
from ..options import MOST_SEED, short
from .estimate import check_memory
from .game import Game
from .looks import originals

USUAL = 2500  # samples: enough for the metrics, and not too many for a CPU
MOST = 50_000
# Sets of n float32 samples in memory at once: of reals, of fakes, and what is computed of them.
HELD, HELD_FOR_PIXELS = 6, 18
HELD_OF_FEATURES = 14  # the same for InceptionV3's: 3 sets in float32, and more in float64

Draw = Callable[[np.ndarray, "np.ndarray | None"], np.ndarray]  # see `evaluate`


def check_numbers(n: int | None, seed: int) -> None:
    """Raise UserError unless these are numbers of samples and of a seed."""
    if n is not None and not (is_whole(n) and 1 <= n <= MOST):
        raise UserError(f"--n {short(n)}: must be a whole number from 1 to {MOST}")
    if not (is_whole(seed) and 0 <= seed <= MOST_SEED):
        raise UserError(f"--seed {short(seed)}: must be a whole number from 0 to {MOST_SEED}")


def evaluate(
    game: Game,
    data: Dataset,
    draw: Draw,
    names: Sequence[str] | None = None,
    n: int | None = None,
    seed: int = 0,
    errors: bool = False,
    average: bool = True,
    inception: InceptionV3 | None = None,
) -> dict[str, Entry]:
    """The metrics of a generator against its data: see `table.evaluate`.

    draw       the generator: z (N, nz) and the classes (N,), or None, -> samples (N, *shape); one that
               translates gets images (N, *shape) instead of z
    names      in `table.METRICS`; by default those that make sense for the data
    n          fakes, and reals in each of two sets; by default 2500, or half the data if that is less
    seed       of the noise, and of the choice of reals
    errors     whether to estimate standard errors too
    average    whether `draw` uses the average of G's weights, for the protocol
    inception  the network of FID and others, see `inception_file.load`; it adds them to the default

    A conditional generator is asked for the classes of the reals that it is compared with, so the
    frequencies agree. One that translates gets images of the other class, from the same data. Images
    are rounded to 256 levels, as in a file, because those of the data are.

    Raises UserError for metrics that cannot be computed, and for too few samples.
    """
    kind, asked = game.data.data, bool(game.classes)
    check_numbers(n, seed)
    n = _count(n, data)
    at_hand = inception is not None
    names = table.usual(kind, asked, at_hand) if names is None else list(dict.fromkeys(names))
    table.check(names, kind, asked, n, errors, at_hand)
    features = {table.METRICS[name].features for name in names}
    needed = (HELD_FOR_PIXELS if "pixels" in features else HELD) * n * 4 * int(np.prod(data.shape))
    if INCEPTION in features:
        needed += HELD_OF_FEATURES * n * 4 * FEATURES
    check_memory(needed, "cpu", f"--n {n}", "give a smaller --n")
    at = generator(int(seed), "evaluated reals").permutation(len(data))[: 2 * n]
    real, other = (_reals(kind, data, part, inception) for part in (at[:n], at[n:]))
    y = real.labels if asked else None
    if MEMBERS[game.member].translates:
        drawn = draw(originals(data, y, int(seed), "evaluated fakes"), y)
    else:
        o, rng = game.options, generator(int(seed), "evaluated fakes")
        drawn = draw(noise(rng, (n, o.nz), o.noise), y)
    fake = Samples(kind, _as_in_a_file(drawn, data.shape), y, inception)
    protocol = {
        "seed": int(seed),
        "average": average,
        "data": kind,
        "fingerprint": str(data.identity["fingerprint"])[:12],
        "reals": len(data),
        **{key: data.identity[key] for key in RECIPE if key in data.identity},
    }
    found = table.evaluate(names, real, other, fake, errors)
    for entry in found.values():
        entry["protocol"] |= protocol
    return found


def _count(n: int | None, data: Dataset) -> int:
    """The number of samples in a set. UserError: the data has too few."""
    half = len(data) // 2
    if n is None and half:
        return min(USUAL, half)
    if not n or n > half:
        most = f"give at most {half}" if half else "use more data"
        raise UserError(
            f"--n {n or 1}: two sets of so many reals need {2 * (n or 1)}, and the data has "
            f"{len(data)}; {most}"
        )
    return n


def _reals(kind: str, data: Dataset, at: np.ndarray, inception: InceptionV3 | None) -> Samples:
    labels = None if data.labels is None else data.labels[at]
    return Samples(kind, data.batch(at, "cpu").numpy(), labels, inception)


def _as_in_a_file(samples: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Images rounded to the levels of a byte; points as they are."""
    if len(shape) < 3:
        return samples
    return np.rint((samples.clip(-1, 1) + 1) * 127.5) / np.float32(127.5) - 1
