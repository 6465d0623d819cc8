"""The terminal: what the user sees of a training, and how the user stops it."""

from __future__ import annotations

import math
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

if TYPE_CHECKING:
    from .loop import Trainer

INTERRUPTED = 130  # the exit code of a program ended by Ctrl-C: 128 + SIGINT
PLAIN_LINE_SECONDS = 10.0  # between the lines that stand in for the bar where there is no terminal


@contextmanager
def interrupt_flag() -> Iterator[list[int]]:
    """A list that gets the number of a SIGINT (Ctrl-C) or SIGTERM.

    So the step under way is finished first. A second signal ends the program at once.
    """
    flag: list[int] = []

    def note(number: int, frame: Any) -> None:
        flag.append(number)
        for each, handler in before.items():
            signal.signal(each, handler)

    before = {each: signal.signal(each, note) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield flag
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


class Progress:
    """What the user sees meanwhile: a bar on a terminal, else a line every few seconds."""

    def __init__(self, trainer: Trainer):
        self.trainer = trainer
        self.terminal = sys.stderr.isatty()
        self.started, self.first = time.monotonic(), trainer.step
        self.last_line = -math.inf

    def __enter__(self) -> Progress:
        self.bar = tqdm(
            total=self.trainer.total,
            initial=self.first,
            unit="step",
            dynamic_ncols=True,
            disable=not self.terminal,
        )
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.close()

    def show(self, m: dict[str, float]) -> None:
        """The figures of a step."""
        epochs = math.ceil(self.trainer.total / self.trainer.loader.batches_per_epoch)
        text = (
            f"epoch {m['epoch'] + 1}/{epochs}  Loss_D {m['loss_d']:.3f}  Loss_G {m['loss_g']:.3f}  "
            f"D(x) {m['d_x']:.2f}  D(G(z)) {m['d_gz_before']:.2f}/{m['d_gz_after']:.2f}  "
            f"{m['images_per_second']:.0f} img/s"
        )
        if self.terminal:
            self.bar.set_postfix_str(text, refresh=False)
            self.bar.update(m["step"] - self.bar.n)
            return
        now, last = time.monotonic(), m["step"] == self.trainer.total
        if now - self.last_line < PLAIN_LINE_SECONDS and not last:
            return
        self.last_line = now
        each = (now - self.started) / max(1, m["step"] - self.first)  # it may have gone back
        left = tqdm.format_interval(each * (self.trainer.total - m["step"]))
        self.trainer.say(f"step {m['step']}/{self.trainer.total}  {text}  {left} left")
