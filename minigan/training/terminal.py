"""The terminal: what the user sees of a training, and how it is stopped."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..console import STDERR, bar, import_tqdm

if TYPE_CHECKING:
    from .loop import Trainer

PLAIN_LINE_SECONDS = 10.0  # between the lines that stand in for the bar where there is no terminal
IMPATIENT = (signal.SIGINT, signal.SIGTERM)  # of which a second one ends the program at once
SIGNALS = (*IMPATIENT, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))  # not on Windows


@contextmanager
def interrupt_flag() -> Iterator[list[int]]:
    """A list that gets the number of a SIGINT (Ctrl-C), SIGTERM or SIGHUP (a terminal that is closed).

    So the step under way is finished first. A second Ctrl-C or SIGTERM ends the program at once; a
    second SIGHUP does not, as a shell that ends sends one after the system's own. Signals that were
    ignored stay so (nohup). Signals belong to the main thread: in another one the list stays empty.
    """
    flag: list[int] = []
    before: dict[int, Any] = {}

    def note(number: int, frame: Any) -> None:
        flag.append(number)
        if number in IMPATIENT:
            restore(*IMPATIENT)

    def restore(*numbers: int) -> None:
        for number in numbers:
            if number in before:
                signal.signal(number, before[number])

    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            handler = signal.getsignal(number)
            if handler not in (signal.SIG_IGN, None):  # None: of a program that Python is inside of
                before[number] = signal.signal(number, note)
    try:
        yield flag
    finally:
        restore(*before)


class Progress:
    """What the user sees meanwhile: a bar on a terminal, else a line every few seconds."""

    def __init__(self, trainer: Trainer):
        self.trainer = trainer
        self.terminal = STDERR.isatty()
        self.started, self.first = time.monotonic(), trainer.step
        self.last_line = -math.inf

    def __enter__(self) -> Progress:
        self.bar = bar(
            self.terminal,
            total=self.trainer.total,
            initial=self.first,
            unit="step",
            dynamic_ncols=True,
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
        # Both the clock and the step may have gone back.
        each = max(0.0, now - self.started) / max(1, m["step"] - self.first)
        left = import_tqdm().format_interval(each * (self.trainer.total - m["step"]))
        self.trainer.say(f"step {m['step']}/{self.trainer.total}  {text}  {left} left")
