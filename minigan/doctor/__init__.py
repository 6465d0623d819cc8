"""`python -m minigan doctor`: does minigan compute rightly on this machine, and how fast?

Wrong gradients do not crash, they train badly; and those who wrote minigan had no GPU to see them on.
So every device proves itself where it is: its gradients against central differences, then all that
it computes, in float32 and float64, against the CPU in float64, then training steps. What it prints is
written to be pasted into a report, and ends with a verdict. Nothing is written to disk.
"""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
import textwrap
import time
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from .. import backend
from ..console import STDOUT, quote
from ..gans.standard import DCGAN
from ..gradcheck import gradcheck, gradgradcheck
from ..keys import generator, noise
from ..tensor import Tensor
from . import surface
from .machine import count_gpus, describe, has_tf32, last_lines

TYPES = (np.float32, np.float64)
STEP = 1e-6  # of the differences: at this one no value of the cases crosses a kink
# Relative to the largest number of an array. Sums of thousands of terms in another order differ by
# some tens of roundings, 1e-7 or 1e-16 each; TF32 left on by mistake would show as 1e-4 and more.
BOUNDS = {np.float32: 3e-5, np.float64: 1e-12}
# Of a training step: all of that through two networks, there and back, and two updates.
STEP_BOUNDS = {np.float32: 1e-4, np.float64: 1e-9}
TF32_BOUND = 1e-2  # of a product whose factors are rounded to 10 bits, 5e-4 each
REPORTED = 20  # troubles in the text of a bug report, at the most
BEGIN = "-------- 8< -------- minigan doctor -------- 8< --------"
END = "-------- >8 -------- minigan doctor -------- >8 --------"
THANKS = "minigan was written without a GPU: please send all of this, see docs/gpu.md."
ASK = "Please open an issue in the project you got minigan from, with the text between the lines:"


class Size(NamedTuple):
    """A training: its batch, and the options of the networks."""

    batch: int
    nz: int = 100
    width: int = 64
    image_size: int = 64


TRAININGS = {"tiny DCGAN": Size(8, 8, 4, 16), "documented DCGAN": Size(4)}
TIMED = {"cpu": Size(32), "cuda": Size(128)}  # a CPU takes four times as long for 128
# The learning rate. Adam divides each gradient by its own size, so where a gradient is nothing but
# rounding, the move of lr is as well. At 2e-4 such moves of D would show in G's half of the first step
# by up to 1.5e-4, more than STEP_BOUNDS allow.
RATE = 1e-6
TURNS, TURN_SECONDS = 5, 0.5  # of at least one step
LIMIT = 60  # seconds, after which no further turn is begun


class Drawn:
    """The same batch of random pixels for every step, and noise: alike on all devices."""

    def __init__(self, size: Size, device: str, dtype: Any):
        self.size, self.device, self.dtype, self.calls = size, device, dtype, 0
        side = size.image_size
        self.pixels = generator("pixels").integers(0, 256, (size.batch, 3, side, side), np.uint8)

    def reals(self) -> Tensor:
        """As in a run, the pixels' way to the device included."""
        return surface.scaled(self.pixels, self.device, self.dtype)

    def noise(self) -> Tensor:
        self.calls += 1
        z = noise(generator("noise", self.calls), (self.size.batch, self.size.nz), "normal")
        return Tensor(backend.move(z, self.device)).to(self.dtype)


class Game:
    """A run of a given size on random pixels: the same weights, data and noise everywhere."""

    def __init__(self, device: str, dtype: Any, size: Size):
        networks = {"nz": size.nz, "ngf": size.width, "ndf": size.width}
        options = DCGAN.Options(batch_size=size.batch, lr=RATE, ema=0.0, **networks)
        side, self.draw = size.image_size, Drawn(size, device, dtype)
        self.member = DCGAN(options, (3, side, side), generator("init"), device)
        for player in self.member.players.values():
            player.net.to(dtype)

    def play(self, report: bool = True) -> dict[str, float]:
        """One step; its metrics, if they are to be reported."""
        metrics = self.member.step(self.draw)
        return {name: value.item() for name, value in metrics.items()} if report else {}


def trained(label: str, device: str, dtype: Any) -> list[np.ndarray]:
    """The metrics of two steps, and the networks after them.

    In float32 only the first step's metrics are comparable, because Adam moves by rounding alone what
    has next to no gradient: see RATE. In float64 the eps in its divisor prevents that.
    """
    game = Game(device, dtype, TRAININGS[label])
    metrics = [np.array(list(game.play().values())) for _ in range(2)]
    nets = [player.net for player in game.member.players.values()]
    return metrics + [t.numpy() for net in nets for t in net.state_dict().values()]


def timed(device: str) -> Size:
    return TIMED[device.partition(":")[0]]


def step_times(device: str) -> list[float]:
    """Seconds for a step of the documented DCGAN, float32: the mean of each turn.

    A turn's last step reads its metrics, and thereby waits for all that the GPU was given. The first
    turn, of one step, compiles and allocates; the second, too, says how many steps make a turn.
    """
    game, seconds, steps = Game(device, np.float32, timed(device)), [], 1
    begun = time.perf_counter()
    for turn in range(2 + TURNS):
        started = time.perf_counter()
        for i in range(steps):
            scores = game.play(report=i == steps - 1)
        ended = time.perf_counter()
        if ended <= started:
            raise ArithmeticError("the clock has not moved during a step")
        seconds.append((ended - started) / steps)
        if turn == 1:
            steps = max(1, int(TURN_SECONDS / seconds[-1]))
        if turn and ended - begun > LIMIT:
            break
    if not all(map(math.isfinite, scores.values())):
        raise ArithmeticError(f"the metrics of the last step are {scores}")
    return seconds[2:] or seconds[1:]


def report_tf32(device: str) -> int:
    """What the process does that computes with TF32: CuPy settles on it once in a process."""
    backend.use_device(device, tf32=True)
    name, case = "large matmul", surface.large_cases()["large matmul"]
    exact = surface.derivatives(name, case, "cpu", np.float64)
    off = deviation(surface.derivatives(name, case, device, np.float32), exact)
    print(json.dumps({"off": off, "seconds": step_times(device)}))
    return 0


def ask_for_tf32(device: str) -> dict[str, Any]:
    """That process's report. It is started as this one was: of two --device, the last one counts."""
    import cupy

    cupy.get_default_memory_pool().free_all_blocks()  # it needs the memory that this one keeps
    command = [sys.executable, *sys.orig_argv[1:], "--device", device, "--report-tf32"]
    child = subprocess.run(command, capture_output=True, text=True)
    if child.returncode:
        raise RuntimeError(f"its process ended with {child.returncode}: {child.stderr.strip()}")
    return json.loads(child.stdout.splitlines()[-1])


# -- the examination ------------------------------------------------------------------------------


class OutOfBound(ArithmeticError):
    """Two results that should be one differ by more than rounding."""


def place(error: BaseException) -> str:
    """Where it was raised."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}, in {frame.name}"


def deviation(found: list[np.ndarray], exact: list[np.ndarray]) -> float:
    """The largest difference, relative to the largest number of its array; NaN if there is one."""
    worst = [0.0]
    for f, e in zip(found, exact, strict=True):
        if f.shape != e.shape:
            raise OutOfBound(f"the shape is {f.shape}, not {e.shape}")
        worst.append(np.abs(f - e).max(initial=0) / (np.abs(e).max(initial=0) or 1))
    return float(np.max(worst))  # NumPy's maximum, which keeps a NaN


def hold(bound: float, off: float) -> float:
    """The deviation; OutOfBound if it is too large, or NaN."""
    if not off <= bound:
        raise OutOfBound(f"off by {off:.2g} of the largest number, {bound:g} allowed")
    return off


def same_bits(found: list[np.ndarray], before: list[np.ndarray]) -> bool:
    """True if all arrays have the same bits; OutOfBound if not."""
    differing = sum(a.tobytes() != b.tobytes() for a, b in zip(found, before, strict=True))
    if differing:
        raise OutOfBound(f"{differing} of {len(found)} arrays have other bits than the first time")
    return True


class Examination:
    """The checks: how many there were, which failed; and the one place that prints."""

    def __init__(self) -> None:
        self.count, self.failed, self.speeds = 0, 0, []
        self.troubles: dict[str, list[str]] = {}  # what was wrong, and the checks in which it was
        every = surface.computations()
        self.exact = cache(lambda name: every[name]("cpu", np.float64))
        self.exact_training = cache(lambda label: trained(label, "cpu", np.float64))

    def say(self, text: str) -> None:
        STDOUT.write(f"{text}\n")
        STDOUT.flush()

    def check(self, name: str, work: Callable[..., Any], *arguments: Any) -> Any:
        """The result of the work, or None if it raised an error: then the check has failed."""
        self.count += 1
        try:
            return work(*arguments)
        except Exception as error:  # whatever it is, the next check goes on
            trouble = f"{last_lines(error)} ({place(error)})"
            self.failed += 1
            self.troubles.setdefault(trouble, []).append(name)
            self.say(f"FAILED {name}: {trouble}")
            return None

    def find_devices(self) -> list[str]:
        """The CPU and every GPU that works; one that is listed and does not is a failed check."""
        names = [f"cuda:{n}" for n in range(count_gpus())]
        return ["cpu", *filter(None, (self.check(n, backend.resolve_device, n) for n in names))]

    def examine(self, device: str) -> None:
        """All checks of a device."""
        if self.check(device, lambda: backend.use_device(device, tf32=False)) is None:
            return
        types = [t for t in TYPES if (device, t) != ("cpu", np.float64)]  # what is compared with it
        self.say(f"\n== {device}: gradients against central differences, in float64, to 1e-6")
        self.gradients(device, "first", gradcheck)  # by the fused kernels
        self.gradients(device, "second", gradgradcheck)  # by the rules
        self.say(f"\n== {device}: results and gradients against the CPU's in float64")
        for dtype in types:
            self.comparisons(device, dtype)
        self.say(f"\n== {device}: training, metrics of the first step")
        for label, dtype in itertools.product(TRAININGS, TYPES):
            self.training(label, device, dtype)
        self.say(f"\n== {device}: time of a step of the documented DCGAN in float32")
        self.times(device)

    def gradients(self, device: str, order: str, checker: Callable[..., bool]) -> None:
        """Every case by gradcheck or gradgradcheck."""
        work = lambda name, case: checker(case.fn, surface.leaves(name, case, device), STEP)
        right = [
            self.check(f"{order} derivatives of {name} on {device}", work, name, case)
            for name, case in surface.cases().items()
        ]
        self.say(f"{order} derivatives: {sum(map(bool, right))} of {len(right)} are right")

    def comparisons(self, device: str, dtype: Any) -> None:
        """Every computation, with large arrays too."""

        def compare(name: str, work: Callable) -> float:
            return hold(BOUNDS[dtype], deviation(work(device, dtype), self.exact(name)))

        off = {
            name: self.check(f"{name} on {device} in {dtype.__name__}", compare, name, work)
            for name, work in surface.computations().items()
        }
        good = {name: value for name, value in off.items() if value is not None}
        worst = max(good, key=good.get, default="none")
        self.say(
            f"{dtype.__name__}: {len(good)} of {len(off)} within {BOUNDS[dtype]:g}; "
            f"the largest deviation of these is {good.get(worst, 0):.1e}, {worst}"
        )

    def training(self, label: str, device: str, dtype: Any) -> None:
        """Some steps: the same metrics as on the CPU in float64, and the same bits every time."""
        name = f"{label} on {device} in {dtype.__name__}"
        if (found := self.check(name, trained, label, device, dtype)) is None:
            return
        known = slice(1 if dtype == np.float32 else None)  # see `trained`
        bound = STEP_BOUNDS[dtype]
        compare = lambda: hold(bound, deviation(found[known], self.exact_training(label)[known]))
        off = self.check(f"{name}, compared", compare)
        again = lambda: same_bits(trained(label, device, dtype), found)
        same = self.check(f"{name}, repeated", again)
        values = " ".join(f"{value:.6f}" for value in found[0])
        self.say(
            f"{label}, {dtype.__name__}: {values}"
            + ("" if off is None else f"; off by {off:.0e}, {bound:g} allowed")
            + ("; the same bits again" if same else "")
        )

    def times(self, device: str) -> None:
        """A step's time, on a GPU that has TF32 with and without it."""
        tf32 = device != "cpu" and self.check(f"properties of {device}", has_tf32, device)
        way = f"{device} without TF32" if tf32 else device
        self.speed(way, device, self.check(f"a step's time on {way}", step_times, device))
        if tf32 and (report := self.check(f"{device} with TF32", ask_for_tf32, device)):
            off = report["off"]
            self.check(f"a product on {device} with TF32", hold, TF32_BOUND, off)
            self.speed(f"{device} with TF32", device, report["seconds"])
            self.say(f"with TF32 a product is off by {off:.1e}, {TF32_BOUND:g} allowed")

    def speed(self, way: str, device: str, seconds: list[float] | None) -> None:
        """Seconds a step as images a second."""
        if seconds:
            batch = timed(device).batch
            rates = [batch / s for s in seconds]
            self.speeds.append(f"{way}: {median(rates):.1f} images/s at batch {batch}")
            spread = f"{min(rates):.1f} to {max(rates):.1f}"
            self.say(f"{self.speeds[-1]} ({spread}), {1e3 * median(seconds):.1f} ms a step")

    def verdict(self, tried: str, about: str) -> int:
        """The last lines, with the text of a bug report if there is need of one; the exit code."""
        self.say("\n== verdict")
        if not self.failed:
            self.say("\n".join([f"healthy: {self.count} checks passed on {tried}", *self.speeds]))
            if any("cuda" in speed for speed in self.speeds):
                self.say(THANKS)
            return 0
        verdict = f"NOT healthy: {self.failed} of {self.count} checks failed on {tried}"
        failures = []
        for trouble, (first, *more) in list(self.troubles.items())[:REPORTED]:
            failures.append(first + (f", and {len(more)} more checks" if more else ""))
            failures.append(textwrap.indent(trouble, "  "))
        command = quote("python", *sys.orig_argv[1:])
        report = [BEGIN, f"$ {command}", about, "", *failures, "", *self.speeds, verdict, END]
        self.say(f"{verdict}\n{ASK}\n\n" + "\n".join(report))
        return 1


def run(device: str | None) -> int:
    """Examine one device, or all there are; the exit code is 0 if all is well."""
    # Fails before anything is said.
    chosen = [] if device is None else [backend.resolve_device(device)]
    patient, about = Examination(), describe()
    listing = "\n".join(f"{name + ':':9}{text}" for name, text in about.items())
    patient.say(f"== versions and devices\n{listing}")
    devices = chosen or patient.find_devices()
    tried = ", ".join(f"{name} ({about[name]})" if name in about else name for name in devices)
    if device is None and not count_gpus():
        tried += f"; there is no GPU to try: {backend.gpu_trouble(0)}"
    for name in devices:
        patient.examine(name)
    return patient.verdict(tried, listing)
