"""The watch: it looks at the figures of a training and names what is going wrong, with what to try.

It knows the lines of metrics.jsonl and nothing else, so a run that goes on has only to show it the
lines there are, and it knows again what it knew. What is done about a trouble is the trainer's part.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

WINDOW = 200  # steps that a trouble has to last; as many at the start are wild, and left out
SHARE = 0.9  # of the steps of a window: now and then one of a lost training is a good one
CERTAIN = 0.01  # Loss_D of a saturated D: it gives the right answer with a probability of 0.995
STILL = 0.01  # of lr: the steps of a frozen G
BETA2, EPS = 0.999, 1e-8  # Adam's


@dataclass(frozen=True)
class Trouble:
    """Something that goes wrong. `since` is its first step: a checkpoint from before is good."""

    name: str
    since: int
    text: str  # what was seen
    remedy: str  # what to try


NOT_FINITE = "not finite"  # of a loss or a gradient
SPOILED = "spoiled weights"  # what Watch cannot see: they are looked at before they are saved
LOWER_RATE = "try a new run with a lower --lr"
GO_BACK = "try --resume with --on-divergence rollback"  # where there is a checkpoint for it

# Of what lasts: its name, what was seen for so many steps, and what to try.
LASTING = (
    (
        "saturated discriminator",
        f"Loss_D has been below {CERTAIN} for {{}} steps: D is certain, G learns nothing",
        "try a narrower D (--ndf), a lower --lr, another --seed, --flip, or more images",
    ),
    (
        "frozen generator",
        f"G has moved by less than {STILL} lr a step for {{}} steps: its gradient vanishes",
        "try --loss non-saturating, a narrower D (--ndf), or another --seed",
    ),
)


class Watch:
    """Looks at each line of figures, in their order; `generator_size` is how many weights G has.

    Not finite, a loss or a gradient: known from the one line.
    Saturated discriminator: Loss_D < CERTAIN in SHARE of the last WINDOW steps. What D says of a fake
    then hardly changes with the fake, and G has nothing to learn from.
    Frozen generator: r < STILL in as many of these steps, where r is the length of Adam's step for
    gradients g of this norm, in units of lr (Kingma & Ba 2015, algorithm 1, for all n weights in one):
        v = (BETA2 v + (1 - BETA2) |g|^2) / (1 - BETA2^t),   r = |g| / (sqrt(v) + EPS sqrt(n))
    So a trouble that lasts is known WINDOW steps after its beginning, and not before 2 WINDOW.
    """

    def __init__(self, generator_size: int, lines: Iterable[dict[str, float]] = ()):
        self._eps = EPS * math.sqrt(generator_size)
        self._last, self._v, self._weight = 0, 0.0, 0.0  # weight: the 1 - BETA2^t of the formula
        self._window: deque[tuple[int, bool, bool]] = (
            deque()
        )  # step, and the signs of what is in LASTING
        self._known: set[str] = set()
        for line in lines:
            self.look(line)

    def look(self, line: dict[str, float]) -> Trouble | None:
        """The trouble that this line makes known: each by its name once."""
        for trouble in self._troubles(line):
            if trouble.name not in self._known:
                self._known.add(trouble.name)
                return trouble
        return None

    def _troubles(self, line: dict[str, float]) -> Iterator[Trouble]:
        for key, what in (("loss", "loss"), ("grad", "norm of the gradient")):
            for network in ("d", "g"):
                value = line[f"{key}_{network}"]
                if value is None or not math.isfinite(value):  # None: as the file has it
                    what = f"the {what} of {network.upper()} is {value}"
                    yield Trouble(NOT_FINITE, line["step"], what, LOWER_RATE)
                    return
        step = line["step"]
        still = self._step_of_adam(step, line["grad_g"]) < STILL
        self._window.append((step, line["loss_d"] < CERTAIN, still))
        while self._window[0][0] <= step - WINDOW:
            self._window.popleft()
        if step < 2 * WINDOW:
            return
        steps, *signs = zip(*self._window, strict=True)
        for sign, (name, text, remedy) in zip(signs, LASTING, strict=True):
            if sum(sign) >= SHARE * len(steps):
                yield Trouble(name, steps[0], text.format(WINDOW), remedy)

    def _step_of_adam(self, step: int, gradient: float) -> float:
        """r of the formula."""
        kept = BETA2 ** (step - self._last)  # of more than one step where not each is reported
        self._last = step
        self._v = kept * self._v + (1 - kept) * gradient**2
        self._weight = kept * self._weight + (1 - kept)
        return gradient / (math.sqrt(self._v / self._weight) + self._eps)
