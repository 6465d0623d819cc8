"""The watch reads a run's metrics, names what is going wrong, and suggests a remedy.

Its only input is the lines of metrics.jsonl, so a resumed run restores it by replaying the file. The
member declares what trouble looks like: see gans/signs.py. recovery.py decides what to do about it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..gans.signs import Sign
from .metrics import metric, played

WINDOW = 200  # steps that a sign must last; the first 200 steps are erratic and not judged
SHARE = 0.9  # of the steps in a window must show the sign; even a failed run has good steps


@dataclass(frozen=True)
class Trouble:
    """Something that has been wrong since step `since`. Checkpoints from before that step are good."""

    name: str
    since: int
    text: str  # what was seen
    remedy: str  # what to try


NOT_FINITE = "not finite"  # of a metric
SPOILED = "spoiled weights"  # not finite; the loop finds them, not the watch, before it saves
LOWER_RATE = "try a new run with a lower --lr"
GO_BACK = "try to resume with --on-divergence rollback"  # if there is a checkpoint to go to


class Watch:
    """Judges each line of metrics, in order.

    A metric that is not finite is trouble at once. A sign is trouble when it shows in at least SHARE of
    the reported steps among the last WINDOW steps, but never before step 2 WINDOW.

    signs  those of the member
    lines  the earlier lines of a resumed run, which are judged first
    """

    def __init__(self, signs: Sequence[Sign], lines: Iterable[dict[str, float]] = ()):
        self._signs = signs
        self._holds = [sign.start() for sign in signs]
        self._window: deque[tuple[int, list[bool]]] = deque()  # a step, and the signs it shows
        self._known: set[str] = set()
        for line in lines:
            self.look(line)

    def look(self, line: dict[str, float]) -> Trouble | None:
        """The trouble that this line reveals, or None. Each trouble is returned once."""
        for trouble in self._troubles(line):
            if trouble.name not in self._known:
                self._known.add(trouble.name)
                return trouble
        return None

    def _troubles(self, line: dict[str, float]) -> Iterator[Trouble]:
        step = line["step"]
        for name in played(line):
            if line[name] is None or not math.isfinite(line[name]):  # None: a null in the file
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
    """Whether a line shows a sign. A line that lacks the metric, as in an edited file, does not."""
    try:
        return holds(line)
    except KeyError:
        return False
