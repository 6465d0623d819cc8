"""The metrics of `minigan evaluate`: a table from a name to what is computed, and for which data.

    fid, kid, is                     of the features of InceptionV3, if the user has its weights
    frechet_F, kernel_F              distances of features F: digits, shapes, faces, random or pixels
    precision_recall_F               fidelity and diversity apart, of features F or `inception`
    density_coverage_F               the same, sturdier against outliers
    swd, ms_ssim                     texture scale by scale; how alike the images of a set are
    classes, asked                   of drawn digits and shapes, which a classifier of ours can read
    attributes                       of drawn faces, by another classifier
    modes, earth_mover               of points

`evaluate` compares fakes with reals. It gives each metric for two sets of reals too: what a perfect
generator would get from this many samples. Without that, most of these numbers say nothing.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..data.kinds import KINDS
from ..data.mixture import Mixture
from ..errors import UserError
from ..options import short
from .checks import seeded
from .classifier import QUESTIONS
from .metrics import (
    density_coverage,
    earth_mover,
    frechet_distance,
    inception_score,
    kernel_distance,
    mode_coverage,
    ms_ssim,
    precision_recall,
    sliced_wasserstein,
    standard_error,
)
from .samples import FEATURES, INCEPTION, Samples

Values = dict[str, float]
POINTS = tuple(name for name, kind in KINDS.items() if kind.points)
REPEATS = 20  # halves for a standard error, which is then known to within 16 %
IMAGES = tuple(name for name in KINDS if name not in POINTS)


class Metric(NamedTuple):
    """A row of the table.

    measure     (real, fake, **parameters) -> {name: number}
    data        the kinds of data that it is for
    least       samples that it needs
    most        samples that it uses, because more would take too long
    features    of which it is a distance; "" for none
    parameters  of the number of samples: further arguments of `measure`, which the protocol records
    labels      whether it needs to know which classes were asked for
    """

    measure: Callable[..., Values]
    data: tuple[str, ...] = IMAGES
    least: int = 2
    most: int = 10**9
    features: str = ""
    parameters: Callable[[int], dict[str, Any]] = lambda n: {}
    labels: bool = False


def _frechet(real: Samples, fake: Samples, features: str) -> Values:
    return {"distance": frechet_distance(real.features(features), fake.features(features))}


def _kernel(real: Samples, fake: Samples, features: str, subsets: int, size: int) -> Values:
    a, b = real.features(features), fake.features(features)
    return {"distance": kernel_distance(a, b, subsets, size)[0]}


def _precision_recall(real: Samples, fake: Samples, features: str, k: int) -> Values:
    precision, recall = precision_recall(real.features(features), fake.features(features), k)
    return {"precision": precision, "recall": recall}


def _density_coverage(real: Samples, fake: Samples, features: str, k: int) -> Values:
    density, coverage = density_coverage(real.features(features), fake.features(features), k)
    return {"density": density, "coverage": coverage}


def _inception_score(real: Samples, fake: Samples, splits: int) -> Values:
    score, deviation = inception_score(fake.probabilities(), splits)
    return {"score": score, "deviation": deviation}


def _swd(real: Samples, fake: Samples) -> Values:
    found = sliced_wasserstein(real.values, fake.values)
    return {**{str(side): each for side, each in found.items()}, "mean": np.mean([*found.values()])}


def _ms_ssim(real: Samples, fake: Samples) -> Values:
    """Of random pairs of fakes, which may come sorted by class; the reals have their own number."""
    half = len(fake) // 2
    order = seeded("ms_ssim", 0).permutation(len(fake))
    a, b = (fake.values[part] for part in (order[:half], order[half : 2 * half]))
    return {"similarity": ms_ssim(a, b)}


def _classes(real: Samples, fake: Samples) -> Values:
    """A class is covered if it has at least a quarter of its fair share, as in `Mixture.modes`.

    `mode_coverage` counts a class that occurs once, but one misread image is not a class.
    """
    read, (names,) = fake.answers()[:, 0], QUESTIONS[fake.kind].values()
    counts = np.bincount(read, minlength=len(names))
    covered = int((counts >= len(read) / len(names) / 4).sum())
    return {"covered": covered, "divergence": mode_coverage(read, len(names))[1]}


def _asked(real: Samples, fake: Samples) -> Values:
    return {"share": np.mean(fake.answers()[:, 0] == fake.labels)}


def _attributes(real: Samples, fake: Samples) -> Values:
    """Covered: values of attributes with at least a quarter of their share among the reals.

    Difference: sum of |p - q| / 2 over the values of an attribute, where p and q are their shares among
    reals and fakes; the mean over all attributes. It is 0 for equal shares and at most 1.
    """
    covered, differences = 0, []
    for p, q, answers in zip(
        real.answers().T, fake.answers().T, QUESTIONS[fake.kind].values(), strict=True
    ):
        p, q = (np.bincount(each, minlength=len(answers)) / len(each) for each in (p, q))
        covered += int(((q > 0) & (q >= p / 4)).sum())
        differences.append(np.abs(p - q).sum() / 2)
    return {"covered": covered, "difference": np.mean(differences)}


def _modes(real: Samples, fake: Samples) -> Values:
    mixture = Mixture(fake.kind, count=1)
    covered, share = mixture.modes(fake.values)
    on = mixture.mode_of(fake.values)
    modes = len(mixture.centers)
    # If none is on a mode, as bad as if all were on one of them.
    divergence = mode_coverage(on[on >= 0], modes)[1] if share else np.log(modes)
    return {"covered": covered, "share": share, "divergence": divergence}


def _earth_mover(real: Samples, fake: Samples) -> Values:
    return {"distance": earth_mover(real.values, fake.values)}


def _of_features(name: str) -> dict[str, Metric]:
    """The metrics of one kind of features."""
    inception = name == INCEPTION
    fixed = lambda **given: lambda n: {"features": name, **given}
    count = 100 if inception else 20  # 100 is usual for KID
    subsets = lambda n: {"features": name, "subsets": count, "size": min(1000, max(2, n // 2))}
    return {
        "fid" if inception else f"frechet_{name}": Metric(
            _frechet, parameters=fixed(), features=name
        ),
        "kid" if inception else f"kernel_{name}": Metric(
            _kernel, parameters=subsets, features=name
        ),
        f"precision_recall_{name}": Metric(
            _precision_recall, least=4, parameters=fixed(k=3), features=name
        ),
        f"density_coverage_{name}": Metric(
            _density_coverage, least=6, parameters=fixed(k=5), features=name
        ),
    }


METRICS: dict[str, Metric] = {
    **{
        name: metric
        for features in (*FEATURES, INCEPTION)
        for name, metric in _of_features(features).items()
    },
    "is": Metric(
        _inception_score, least=10, features=INCEPTION, parameters=lambda n: {"splits": 10}
    ),
    "swd": Metric(_swd, most=256),
    "ms_ssim": Metric(_ms_ssim, most=5000),
    "classes": Metric(_classes, ("digits", "shapes")),
    "asked": Metric(_asked, ("digits", "shapes"), labels=True),
    "attributes": Metric(_attributes, ("faces",)),
    "modes": Metric(_modes, POINTS),
    "earth_mover": Metric(_earth_mover, POINTS, most=500),
}


def usual(kind: str, asked: bool, inception: bool = False) -> list[str]:
    """The metrics that make sense for a kind of data.

    asked      whether the generator is asked for classes
    inception  whether InceptionV3 is at hand
    """
    fitting = ("", kind if kind in QUESTIONS else "random", *([INCEPTION] if inception else []))
    return [
        name
        for name, metric in METRICS.items()
        if kind in metric.data and metric.features in fitting and (asked or not metric.labels)
    ]


def check(
    names: Sequence[str],
    kind: str,
    asked: bool,
    n: int,
    errors: bool = False,
    inception: bool = False,
) -> None:
    """Raise UserError unless each of these metrics can be computed.

    kind, asked  as in `usual`
    n            number of fakes, and of reals in each set
    errors       whether standard errors are wanted, which are computed from halves of the sets
    inception    whether InceptionV3 is at hand; then at least one metric has to need it
    """
    for name in names:
        if name not in METRICS:
            close = difflib.get_close_matches(name, METRICS, 1)
            hint = f", did you mean {close[0]}?" if close else ""
            raise UserError(
                f"--metrics {short(repr(name))} is not known{hint}; for --data {kind} there are "
                f"{', '.join(usual(kind, asked))}"
            )
        metric = METRICS[name]
        if kind not in metric.data:
            raise UserError(
                f"--metrics {name}: it is for {', '.join(metric.data)}, not for {kind}; for this run "
                f"there are {', '.join(usual(kind, asked))}"
            )
        if metric.features == INCEPTION and not inception:
            raise UserError(
                f"--metrics {name}: it needs InceptionV3; give the path of its weights as --inception"
            )
        if metric.labels and not asked:
            raise UserError(
                f"--metrics {name}: this generator is not asked for classes; leave it out"
            )
        if n < (least := metric.least * (2 if errors else 1)):
            halves = " for --errors, which takes halves" if errors else ""
            raise UserError(f"--n {n}: {name} needs at least {least} samples{halves}; give more")
    if inception and all(METRICS[name].features != INCEPTION for name in names):
        needing = [name for name in usual(kind, asked, True) if METRICS[name].features == INCEPTION]
        remedy = f"add one of {', '.join(needing)} or drop it" if needing else "drop it"
        raise UserError(f"--inception: none of the metrics needs it; {remedy}")


def evaluate(
    names: Iterable[str], real: Samples, other: Samples, fake: Samples, errors: bool = False
) -> dict[str, dict[str, Any]]:
    """Each metric of the fakes, and of other reals, against the reals, with its protocol.

    real, other, fake  equally many samples in each
    errors             whether to estimate standard errors, which takes several times as long
    ->                 {name: {"values": {...}, "reals": {...}, "errors": {...}, "protocol": {...}}}

    The errors are those of `standard_error` for the fakes; without them, their table is empty.
    """
    return {name: _entry(METRICS[name], real, other, fake, errors) for name in names}


def _entry(
    metric: Metric, real: Samples, other: Samples, fake: Samples, errors: bool
) -> dict[str, Any]:
    n = min(len(fake), metric.most)
    real, other, fake = (s if len(s) == n else s.take(slice(n)) for s in (real, other, fake))
    parameters = metric.parameters(n)
    measure = lambda a, b: {
        key: float(value) for key, value in metric.measure(a, b, **parameters).items()
    }
    values, reals, spread = measure(real, fake), measure(real, other), []
    if errors:  # of the values, by halves of both sets
        halves = lambda i, j: [*measure(real.take(i), fake.take(j)).values()]
        spread = standard_error(halves, np.arange(n), np.arange(n), REPEATS).tolist()
    protocol = {"n": n, **parameters}
    if metric.features:
        protocol |= fake.protocol(metric.features)
    named = dict(zip(values, spread, strict=False))  # empty without errors
    return {"values": values, "reals": reals, "errors": named, "protocol": protocol}
