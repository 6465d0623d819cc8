"""Signs of trouble in a member's own metrics.

The watch looks for them in every reported step. A sign that lasts is trouble: see `training/watch.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

Metrics = dict[str, float]

# D is saturated if Loss_D is lower. As a cross-entropy, this means that D is 99.5 % sure of each
# sample.
CERTAIN = 0.01
STILL = 0.01  # G is frozen if its steps are shorter than this fraction of lr


class Sign(NamedTuple):
    """What one type of trouble looks like.

    name    of the trouble
    text    what was observed, with {} for the number of steps
    remedy  what to try
    start   returns a function that takes the metrics of each reported step in turn and returns whether
            they show the sign; it may remember earlier steps
    """

    name: str
    text: str
    remedy: str
    start: Callable[[], Callable[[Metrics], bool]]


# A certain D hardly changes its score from one fake to the next, so G learns nothing from it.
SATURATED = Sign(
    "saturated discriminator",
    f"Loss_D has been below {CERTAIN} for {{}} steps: D is certain, G learns nothing",
    "try a new run with a tenth of --lr, a narrower D (--ndf), or more data",
    lambda: lambda metrics: metrics["loss_d"] < CERTAIN,
)


def frozen_generator(size: int, beta2: float, eps: float = 1e-8) -> Sign:
    """The sign that G, with `size` weights, moves by less than STILL lr per step under Adam.

    In root mean square, a step moves a weight by about lr r. Here r is computed from the reported norms
    |g| as by Adam (Kingma & Ba 2015, algorithm 1) without its first moment, for all n = size weights
    together:

        v = beta2 v + (1 - beta2) |g|^2,   r = |g| / (sqrt(v / (1 - beta2^t)) + eps sqrt(n))
    """

    def start() -> Callable[[Metrics], bool]:
        last, v, weight = 0, 0.0, 0.0  # weight is the 1 - beta2^t of the formula

        def is_still(metrics: Metrics) -> bool:
            nonlocal last, v, weight
            kept = beta2 ** (metrics["step"] - last)  # not every step is reported
            last = metrics["step"]
            v = kept * v + (1 - kept) * metrics["grad_g"] ** 2
            weight = kept * weight + (1 - kept)
            step = metrics["grad_g"] / (math.sqrt(v / weight) + eps * math.sqrt(size))
            return step < STILL

        return is_still

    return Sign(
        "frozen generator",
        f"G has moved by less than {STILL} lr per step for {{}} steps: its gradient vanishes",
        "try a new run with a tenth of --lr, or a narrower D (--ndf)",
        start,
    )
