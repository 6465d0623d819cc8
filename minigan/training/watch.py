"""The watch: it looks at a run's metrics and names what is going wrong, with what to try.

It reads the lines of metrics.jsonl and nothing else, so a resumed run restores it by replaying the
file. What trouble looks like is declared by the member: see gans/signs.py. What is done about it is
decided in recovery.py.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..gans.signs import Sign
from .metrics import metric, played

WINDOW = 200  # steps that a trouble has to last; as many at the start are wild, and left out
SHARE = 0.9  # of the steps of a window: even a lost run has a good step now and then


@dataclass(frozen=True)
class Trouble:
    """Something that goes wrong. `since` is its first step: a checkpoint from before is good."""

    name: str
    since: int
    text: str  # what was seen
    remedy: str  # what to try


NOT_FINITE = "not finite"  # of a metric
SPOILED = "spoiled weights"  # what the watch cannot see: weights are checked before they are saved
LOWER_RATE = "try a new run with a lower --lr"
GO_BACK = "try to resume with --on-divergence rollback"  # where there is a checkpoint for it


class Watch:
    """Looks at each line of metrics, in order.

    A metric that is not finite is a trouble at once. A sign of the member's is one when SHARE of the
    steps of the last WINDOW show it, so it is known WINDOW steps after its beginning, and not before
    step 2 WINDOW.
    """

    def __init__(self, signs: Sequence[Sign], lines: Iterable[dict[str, float]] = ()):
        self._signs = signs
        self._holds = [sign.start() for sign in signs]
        self._window: deque[tuple[int, list[bool]]] = deque()  # a step, and the signs it shows
        self._known: set[str] = set()
        for line in lines:
            self.look(line)

    def look(self, line: dict[str, float]) -> Trouble | None:
        """The trouble that this line makes known; each is named once."""
        for trouble in self._troubles(line):
            if trouble.name not in self._known:
                self._known.add(trouble.name)
                return trouble
        return None

    def _troubles(self, line: dict[str, float]) -> Iterator[Trouble]:
        step = line["step"]
        for name in played(line):
            if line[name] is None or not math.isfinite(line[name]):  # None: as the file has it
                yield Trouble(NOT_FINITE, step, f"{metric(name).label} is {line[name]}", LOWER_RATE)
                return
        self._window.append((step, [_shows(holds, line) for holds in self._holds]))
        while self._window[0][0] <= step - WINDOW:
            self._window.popleft()
        if step < 2 * WINDOW:
            return
        for i, sign in enumerate(self._signs):
            if sum(shown[i] for _, shown in self._window) >= SHARE * len(self._window):
                yield Trouble(sign.name, self._window[0][0], sign.text.format(WINDOW), sign.remedy)


def _shows(holds: Callable[[dict[str, float]], bool], line: dict[str, float]) -> bool:
    """Whether a line shows a sign. One that lacks the metric, in a file that was edited, does not."""
    try:
        return holds(line)
    except KeyError:
        return False
