"""The terminal: how a run shows its progress, and how the user stops it."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ..console import STDERR, bar, import_tqdm
from .metrics import SPEED, metric, played

PLAIN_LINE_SECONDS = 10.0  # between lines of progress where there is no terminal for the bar
IMPATIENT = (signal.SIGINT, signal.SIGTERM)  # the second of these ends the program at once
SIGNALS = (*IMPATIENT, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))  # not on Windows
STOPPING = b"\nstopping after this step; press again to stop now\n"
BAR = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {remaining}{postfix}"
BAR_WIDTH = 4  # characters left for the bar itself when the metrics are shortened to fit


@contextmanager
def interrupt_flag() -> Iterator[list[int]]:
    """A list to which a SIGINT (Ctrl-C), SIGTERM or SIGHUP (terminal closed) appends its number.

    So the loop can finish its step; the user is told at once. A second Ctrl-C or SIGTERM ends the
    program immediately. A second SIGHUP does not, because both the system and the shell send one when a
    terminal is closed. Signals that were ignored before (nohup) are still ignored. Only the main thread
    can handle signals; in any other thread the list stays empty.
    """
    flag: list[int] = []
    before: dict[int, Any] = {}

    def note(number: int, frame: Any) -> None:
        flag.append(number)
        if number in IMPATIENT:
            restore(*IMPATIENT)
            with suppress(Exception):  # not sys.stderr, which may be in the middle of a write
                os.write(STDERR.fileno(), STOPPING)

    def restore(*numbers: int) -> None:
        for number in numbers:
            if number in before:
                signal.signal(number, before[number])

    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            handler = signal.getsignal(number)
            if handler not in (signal.SIG_IGN, None):  # None: set by C code
                before[number] = signal.signal(number, note)
    try:
        yield flag
    finally:
        restore(*before)


class Progress:
    """The progress of a run: a bar on a terminal, otherwise a line every few seconds.

    total, start  the number of steps in the whole run, and of steps completed before
    epochs        the number of epochs in the whole run
    """

    def __init__(self, total: int, start: int, epochs: int, say: Callable[[str], None]):
        self.total, self.first, self.epochs, self.say = total, start, epochs, say
        self.terminal = STDERR.isatty()
        self.started, self.last_line = time.monotonic(), -math.inf

    def __enter__(self) -> Progress:
        self.bar = bar(
            self.terminal,
            total=self.total,
            initial=self.first,
            dynamic_ncols=True,
            bar_format=BAR,
        )
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.close()

    def show(self, line: dict[str, float]) -> None:
        """Show a line of metrics, and the progress up to its step."""
        if self.terminal:
            columns = self.bar.format_dict["ncols"] or 80  # of the terminal that the bar is on
            rest = len(f"100%|| {self.total}/{self.total} 00:00:00, ") + BAR_WIDTH
            self.bar.set_postfix_str(in_words(line, self.epochs, columns - rest), refresh=False)
            self.bar.update(line["step"] - self.bar.n)
            return
        now, last = time.monotonic(), line["step"] == self.total
        if now - self.last_line < PLAIN_LINE_SECONDS and not last:
            return
        self.last_line = now
        # Not negative, and not divided by 0: the clock may be set back, and the run may roll back.
        each = max(0.0, now - self.started) / max(1, line["step"] - self.first)
        left = import_tqdm().format_interval(each * (self.total - line["step"]))
        text = in_words(line, self.epochs)
        self.say(f"step {line['step']}/{self.total}  {text}  {left} left")


def in_words(line: dict[str, float], epochs: int, room: float = math.inf) -> str:
    """A line of metrics in at most `room` characters: all metrics, or the first ones abbreviated."""
    speed = f"{line[SPEED]:{metric(SPEED).format}}"
    values = {name: f"{line[name]:{metric(name).format}}" for name in played(line)}
    whole = [f"epoch {line['epoch'] + 1}/{epochs}"]
    whole += [f"{metric(name).label} {value}" for name, value in values.items()]
    text = "  ".join([*whole, f"{speed} {metric(SPEED).short}"])
    if len(text) <= room:
        return text
    parts = [f"{metric(n).short} {value}" for n, value in values.items() if metric(n).short]
    for count in range(len(parts), -1, -1):
        for last in ([f"{speed}/s"], []):
            text = " ".join(parts[:count] + last)
            if len(text) <= room:
                return text
    return ""
