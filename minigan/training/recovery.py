"""What to do about trouble: this file decides, and the loop carries it out.

not finite       a metric is not finite; the run stops even with "warn", because it cannot recover
spoiled weights  weights or moments are not finite; they are never saved, so the run stops or rolls back
a lasting sign   one of the member's signs lasts; with "warn" the run continues after one warning
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from .watch import GO_BACK, LOWER_RATE, NOT_FINITE, SPOILED, Trouble

ROLLBACKS = 3  # in a run, at most
CHOICES = ("warn", "stop", "rollback", "ignore")


class Decision(NamedTuple):
    """What the loop does (one of CHOICES), what it says, and the trouble with its remedy."""

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
    """What to do about trouble that was noticed at this step.

    wish     what the user wants: one of CHOICES
    again    the number of rollbacks so far
    good     checkpoints from before the trouble, newest first
    planned  those of `good` that an uninterrupted run would have too; a rollback goes to the first
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
        text = f"{text}; going back to {planned[0].name}, with different noise"
    else:
        text = f"warning: {text}; {trouble.remedy}"
    return Decision(does, text, trouble)
