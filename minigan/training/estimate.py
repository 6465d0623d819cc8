"""An estimate of the time and memory of a step, from smaller steps that are played before the run.

A separate copy of the member, which does not affect the run, plays steps with an eighth and with a
quarter of the batch. Time and memory are nearly linear in the batch size: layers cost the same for each
sample; weights, gradients and moments cost the same for each step. So two points determine the line.
"""

from __future__ import annotations

import dataclasses
import sys
import time
import tracemalloc
import warnings
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ..data import Dataset
from ..errors import UserError
from .draw import Draw
from .plan import Plan

SMALLEST = 16  # samples in the larger step, at least; a smaller batch is played whole
CGROUP = Path("/sys/fs/cgroup")


class Estimate(NamedTuple):
    """Seconds per step, and bytes in use at its peak, in one process."""

    seconds: float
    bytes: float

    def __str__(self) -> str:
        return f"a step takes {self.seconds:.2g} s and {in_bytes(self.bytes)} of memory"


def estimate(plan: Plan, data: Dataset, device: str, processes: int = 1) -> Estimate:
    """What a step of this plan takes on this device, in each of the processes that share a batch."""
    batch = plan.options.batch_size // processes
    small = [max(SMALLEST // 2, batch // 8), max(SMALLEST, batch // 4)]
    unit = plan.options.unit
    small = [-(-size // unit) * unit for size in small]  # rounded up
    small = [batch] if batch <= SMALLEST or small[0] == small[1] or small[1] >= batch else small
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of overflow, which the run itself reports
        found = [_play(plan, data, device, size) for size in small]
    if len(found) == 1:
        return found[0]
    (low, high), span = found, small[1] - small[0]
    slopes = [max(0.0, (h - l) / span) for l, h in zip(low, high, strict=True)]
    return Estimate(*(h + s * (batch - small[1]) for h, s in zip(high, slopes, strict=True)))


def _play(plan: Plan, data: Dataset, device: str, batch: int) -> Estimate:
    """Play three steps with this batch: measure memory in the first two, and time in the third."""
    o = dataclasses.replace(plan.options, batch_size=batch)
    with _Peak(device) as peak:
        member = plan.game._replace(options=o).build(device)
        draw = Draw(data, batch, o.nz, o.seed, o.noise, plan.data.flip, device)
        draw.counts["step"] = member.costliest
        for _ in range(2):  # the second has the peak, because the first leaves data in memory
            member.step(draw)
            draw.next_step()
    started = time.perf_counter()
    for value in member.step(draw).values():
        value.item()  # on a GPU, this waits until the step is done
    return Estimate(max(0.0, time.perf_counter() - started), peak.bytes)


class _Peak:
    """A context that measures its peak memory as `bytes`, minus what was in use before."""

    def __init__(self, device: str):
        self._pool = None if device == "cpu" else sys.modules["cupy"].get_default_memory_pool()

    def __enter__(self) -> _Peak:
        if self._pool:
            self._pool.free_all_blocks()
            self._before = self._pool.total_bytes()
        else:  # NumPy reports its arrays to tracemalloc
            self._was_tracing = tracemalloc.is_tracing()
            tracemalloc.start()
            tracemalloc.reset_peak()
            self._before, _ = tracemalloc.get_traced_memory()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._pool:  # the pool keeps freed blocks, so its total is the peak
            self.bytes = self._pool.total_bytes() - self._before
            return
        self.bytes = tracemalloc.get_traced_memory()[1] - self._before
        if not self._was_tracing:
            tracemalloc.stop()


def free_memory(device: str) -> int | None:
    """Bytes that this process can still allocate on a device; None if the system does not say."""
    if device != "cpu":
        return sys.modules["cupy"].cuda.runtime.memGetInfo()[0]
    found = []
    with suppress(OSError, ValueError, IndexError):  # not Linux
        lines = Path("/proc/meminfo").read_text().splitlines()
        found += [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")]
    with suppress(OSError, ValueError):  # no control groups of version 2, or no limit
        limit = int((CGROUP / "memory.max").read_text())
        found.append(limit - int((CGROUP / "memory.current").read_text()))
    return min(found, default=None)


def check_memory(
    needed: float,
    device: str,
    what: str = "a step",
    remedy: str = "lower --batch-size, --ngf or --ndf",
) -> None:
    """Raise UserError if this many bytes are not free.

    what, remedy  for the message: what needs them, and how to need less
    """
    free = free_memory(device)
    if free is not None and needed > free:
        raise UserError(
            f"{what} needs about {in_bytes(needed)} of memory, and {in_bytes(free)} are free; "
            f"{remedy}, or close other programs"
        )


def in_bytes(count: float) -> str:
    """A number of bytes as text, such as "1.5 GB"."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.3g} {unit}" if unit != "GB" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def in_time(seconds: float) -> str:
    """A time as text, such as "7 min"."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
