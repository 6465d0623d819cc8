"""Signs of trouble in a member's own metrics, for whoever watches a run.

A sign is looked for in every reported step. It is a trouble when it lasts: see `training/watch.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

Metrics = dict[str, float]

CERTAIN = 0.01  # Loss_D of a saturated D: it gives the right answer with a probability of 0.995
STILL = 0.01  # of lr: the steps of a frozen G


class Sign(NamedTuple):
    """What a trouble looks like.

    name    of the trouble
    text    what is seen, with {} for the number of steps
    remedy  what to try
    start   gives a function that is shown the metrics of each reported step in turn, and says
            whether they show the sign; it may remember earlier ones
    """

    name: str
    text: str
    remedy: str
    start: Callable[[], Callable[[Metrics], bool]]


# What D says of a fake then hardly changes with the fake, and G has nothing to learn from.
SATURATED = Sign(
    "saturated discriminator",
    f"Loss_D has been below {CERTAIN} for {{}} steps: D is certain, G learns nothing",
    "try a narrower D (--ndf), a lower --lr, another --seed, --flip, or more images",
    lambda: lambda metrics: metrics["loss_d"] < CERTAIN,
)


def frozen_generator(size: int, beta2: float, eps: float = 1e-8) -> Sign:
    """G, of `size` weights, moves by less than STILL lr a step under Adam.

    For gradients g of the reported norm, Adam's step has the length lr r, taken for all n weights in
    one (Kingma & Ba 2015, algorithm 1):
        v = (beta2 v + (1 - beta2) |g|^2) / (1 - beta2^t),   r = |g| / (sqrt(v) + eps sqrt(n))
    """

    def start() -> Callable[[Metrics], bool]:
        last, v, weight = 0, 0.0, 0.0  # weight is the 1 - beta2^t of the formula

        def is_still(metrics: Metrics) -> bool:
            nonlocal last, v, weight
            kept = beta2 ** (
                metrics["step"] - last
            )  # more than one step where not each is reported
            last = metrics["step"]
            v = kept * v + (1 - kept) * metrics["grad_g"] ** 2
            weight = kept * weight + (1 - kept)
            step = metrics["grad_g"] / (math.sqrt(v / weight) + eps * math.sqrt(size))
            return step < STILL

        return is_still

    return Sign(
        "frozen generator",
        f"G has moved by less than {STILL} lr a step for {{}} steps: its gradient vanishes",
        "try --loss non-saturating, a narrower D (--ndf), or another --seed",
        start,
    )
