"""What to do about a trouble: decided here, done by the loop.

not finite   a metric; with "warn" the run stops all the same, because nothing can be learnt from it
spoiled      weights or moments that are not finite: never saved, so the run stops or goes back
a sign       of the member's, that lasts: the run is warned of once and goes on
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from .watch import GO_BACK, LOWER_RATE, NOT_FINITE, SPOILED, Trouble

ROLLBACKS = 3  # in the life of a run
CHOICES = ("warn", "stop", "rollback", "ignore")


class Decision(NamedTuple):
    """What the loop does, one of CHOICES, with what it says, and the trouble with its remedy."""

    does: str
    text: str
    trouble: Trouble


def decide(
    trouble: Trouble,
    step: int,
    wish: str,
    again: int,
    good: Sequence[Path],
    planned: Sequence[Path],
) -> Decision:
    """What to do about a trouble that was noticed at this step.

    wish     one of CHOICES, the user's
    again    how often the run has gone back already
    good     checkpoints from before the trouble, newest first
    planned  those of them that a run without interruptions has as well; a rollback goes to the first
    """
    does, text = wish, f"step {step}: {trouble.text}"
    if trouble.remedy == LOWER_RATE and planned and does != "rollback":
        trouble = replace(trouble, remedy=f"{GO_BACK}, or {LOWER_RATE.removeprefix('try ')}")
    if does == "rollback" and (again >= ROLLBACKS or not planned):
        text += f", after {again} of {ROLLBACKS} rollbacks"
        does = "stop"
    if (trouble.name, does) in ((NOT_FINITE, "warn"), (SPOILED, "warn"), (SPOILED, "ignore")):
        does = "stop"
    if does == "stop":
        last = good[0] if good else "none"
        text = f"{text}; the last good checkpoint is {last}; {trouble.remedy}"
    elif does == "rollback":
        text = f"{text}; going back to {planned[0].name}, with other noise"
    else:
        text = f"warning: {text}; {trouble.remedy}"
    return Decision(does, text, trouble)
