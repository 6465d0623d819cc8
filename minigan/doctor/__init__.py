"""`python -m minigan doctor`: does minigan compute correctly on this machine, and how fast?

Wrong gradients do not crash; they train badly. And minigan was written without a GPU to test it on. So
the doctor examines every device on the user's machine. It compares gradients with central differences,
then all results in float32 and float64 with the CPU's in float64, then training steps. The output can
be pasted into a bug report, and ends with a verdict. Nothing is written to disk.
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
STEP = 1e-6  # of the central differences, so small that no value of the cases crosses a kink
# Relative to the largest number of an array. Sums of thousands of terms in another order differ by
# some tens of roundings of 1e-7 or 1e-16 each. TF32 left on by mistake would show as 1e-4 or more.
BOUNDS = {np.float32: 3e-5, np.float64: 1e-12}
# For a training step, where errors accumulate forward and back through two networks.
STEP_BOUNDS = {np.float32: 1e-4, np.float64: 1e-9}
TF32_BOUND = 1e-2  # for a product whose factors are rounded to 10 bits, 5e-4 each
REPORTED = 20  # failures listed in a bug report, at most
BEGIN = "-------- 8< -------- minigan doctor -------- 8< --------"
END = "-------- >8 -------- minigan doctor -------- >8 --------"
THANKS = "minigan was written without a GPU, so please send this whole output; see docs/gpu.md."
ASK = "Please open an issue in the project you got minigan from, with the text between the lines:"


class Size(NamedTuple):
    """The size of a run: its batch, and the options of the networks."""

    batch: int
    nz: int = 100
    width: int = 64
    image_size: int = 64


TRAININGS = {"tiny DCGAN": Size(8, 8, 4, 16), "documented DCGAN": Size(4)}
TIMED = {"cpu": Size(32), "cuda": Size(128)}  # smaller on a CPU, where 128 takes four times as long
TURNS, TURN_SECONDS = 5, 0.5  # each turn has at least one step
LIMIT = 60  # seconds, after which no further turn starts


class Drawn:
    """One batch of random pixels, used at every step, and noise; both are equal on all devices."""

    def __init__(self, size: Size, device: str, dtype: Any):
        self.size, self.device, self.dtype, self.calls = size, device, dtype, 0
        side = size.image_size
        self.pixels = generator("pixels").integers(0, 256, (size.batch, 3, side, side), np.uint8)

    def reals(self) -> Tensor:
        """The batch. As in a run, it is moved to the device each time."""
        return surface.scaled(self.pixels, self.device, self.dtype)

    def noise(self) -> Tensor:
        self.calls += 1
        z = noise(generator("noise", self.calls), (self.size.batch, self.size.nz), "normal")
        return Tensor(backend.move(z, self.device)).to(self.dtype)


class Game:
    """A run of a given size on random pixels, with the same weights, data and noise everywhere."""

    def __init__(self, device: str, dtype: Any, size: Size):
        networks = {"nz": size.nz, "ngf": size.width, "ndf": size.width}
        options = DCGAN.Options(batch_size=size.batch, ema=0.0, **networks)
        side, self.draw = size.image_size, Drawn(size, device, dtype)
        self.member = DCGAN(options, (3, side, side), generator("init"), device)
        for player in self.member.players.values():
            player.net.to(dtype)

    def play(self, report: bool = True) -> dict[str, float]:
        """One step. Returns its metrics if `report`, else nothing."""
        metrics = self.member.step(self.draw)
        return {name: value.item() for name, value in metrics.items()} if report else {}


def trained(label: str, device: str, dtype: Any) -> list[np.ndarray]:
    """The metrics of two steps, and the networks' state after them. The first step changes no weight.

    So the first step's losses and gradients, in D's half and in G's half, depend only on the initial
    weights. In float32 only these are comparable. Adam divides each gradient by its own size, so a
    gradient that is only a rounding error still moves its weight by lr. In float64 the eps in its
    divisor prevents that.
    """
    game = Game(device, dtype, TRAININGS[label])
    metrics = []
    for lr in (0.0, game.member.options.lr):
        for player in game.member.players.values():
            player.optimizer.options["lr"] = lr
        metrics.append(np.array(list(game.play().values())))
    nets = [player.net for player in game.member.players.values()]
    return metrics + [t.numpy() for net in nets for t in net.state_dict().values()]


def timed(device: str) -> Size:
    return TIMED[device.partition(":")[0]]


def step_times(device: str) -> list[float]:
    """Seconds per step of the documented DCGAN in float32: the mean of each turn.

    The last step of a turn reads its metrics, and so waits for all work given to the GPU. The first
    turn is a single step, which compiles and allocates. The second is a single step too; its time
    decides how many steps make a turn.
    """
    game, seconds, steps = Game(device, np.float32, timed(device)), [], 1
    begun = time.perf_counter()
    for turn in range(2 + TURNS):
        started = time.perf_counter()
        for i in range(steps):
            scores = game.play(report=i == steps - 1)
        ended = time.perf_counter()
        if ended <= started:
            raise ArithmeticError("the clock did not advance during a step")
        seconds.append((ended - started) / steps)
        if turn == 1:
            steps = max(1, int(TURN_SECONDS / seconds[-1]))
        if turn and ended - begun > LIMIT:
            break
    if not all(map(math.isfinite, scores.values())):
        raise ArithmeticError(f"the metrics of the last step are {scores}")
    return seconds[2:] or seconds[1:]


def report_tf32(device: str) -> int:
    """Compute with TF32 and print a report. CuPy decides about TF32 only once per process, so
    `ask_for_tf32` runs this in a process of its own."""
    backend.use_device(device, tf32=True)
    name, case = "large matmul", surface.large_cases()["large matmul"]
    exact = surface.derivatives(name, case, "cpu", np.float64)
    off = deviation(surface.derivatives(name, case, device, np.float32), exact)
    print(json.dumps({"off": off, "seconds": step_times(device)}))
    return 0


def ask_for_tf32(device: str) -> dict[str, Any]:
    """The report of `report_tf32` from another process, started like this one, with more options.

    If --device is then given twice, the last one counts.
    """
    import cupy

    cupy.get_default_memory_pool().free_all_blocks()  # the other process needs this memory
    command = [sys.executable, *sys.orig_argv[1:], "--device", device, "--report-tf32"]
    child = subprocess.run(command, capture_output=True, text=True)
    if child.returncode:
        raise RuntimeError(f"its process exited with {child.returncode}: {child.stderr.strip()}")
    return json.loads(child.stdout.splitlines()[-1])


# -- the examination ------------------------------------------------------------------------------


class OutOfBound(ArithmeticError):
    """Two results that should agree differ by more than rounding."""


def place(error: BaseException) -> str:
    """Where the error was raised: file, line and function."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}, in {frame.name}"


def deviation(found: list[np.ndarray], exact: list[np.ndarray]) -> float:
    """The largest difference, relative to the largest number of its array; NaN if any is NaN."""
    worst = [0.0]
    for f, e in zip(found, exact, strict=True):
        if f.shape != e.shape:
            raise OutOfBound(f"the shape is {f.shape}, not {e.shape}")
        worst.append(np.abs(f - e).max(initial=0) / (np.abs(e).max(initial=0) or 1))
    return float(np.max(worst))  # NumPy's maximum, which keeps a NaN


def hold(bound: float, off: float) -> float:
    """Return the deviation. Raises OutOfBound if it exceeds the bound or is NaN."""
    if not off <= bound:
        raise OutOfBound(f"off by {off:.2g} of the largest number, {bound:g} allowed")
    return off


def same_bits(found: list[np.ndarray], before: list[np.ndarray]) -> bool:
    """True if all arrays have the same bits. Raises OutOfBound if not."""
    differing = sum(a.tobytes() != b.tobytes() for a, b in zip(found, before, strict=True))
    if differing:
        raise OutOfBound(f"{differing} of {len(found)} arrays differ in bits from the first run")
    return True


class Examination:
    """Runs the checks, counts them and the failures, and prints everything."""

    def __init__(self) -> None:
        self.count, self.failed, self.speeds = 0, 0, []
        self.troubles: dict[str, list[str]] = {}  # {what was wrong: the checks that found it}
        every = surface.computations()
        self.exact = cache(lambda name: every[name]("cpu", np.float64))
        self.exact_training = cache(lambda label: trained(label, "cpu", np.float64))

    def say(self, text: str) -> None:
        STDOUT.write(f"{text}\n")
        STDOUT.flush()

    def check(self, name: str, work: Callable[..., Any], *arguments: Any) -> Any:
        """The result of the work, or None if it raised an error, which is a failed check."""
        self.count += 1
        try:
            return work(*arguments)
        except Exception as error:  # any error; the other checks continue
            trouble = f"{last_lines(error)} ({place(error)})"
            self.failed += 1
            self.troubles.setdefault(trouble, []).append(name)
            self.say(f"FAILED {name}: {trouble}")
            return None

    def find_devices(self) -> list[str]:
        """The CPU and every GPU that works. A GPU that is listed but does not work fails a check."""
        names = [f"cuda:{n}" for n in range(count_gpus())]
        return ["cpu", *filter(None, (self.check(n, backend.resolve_device, n) for n in names))]

    def examine(self, device: str) -> None:
        """Run all checks of a device."""
        if self.check(device, lambda: backend.use_device(device, tf32=False)) is None:
            return
        types = [t for t in TYPES if (device, t) != ("cpu", np.float64)]  # that is the reference
        self.say(f"\n== {device}: gradients compared with central differences, in float64, to 1e-6")
        self.gradients(device, "first", gradcheck)  # by the fused kernels
        self.gradients(device, "second", gradgradcheck)  # by the rules
        self.say(f"\n== {device}: results and gradients compared with the CPU's in float64")
        for dtype in types:
            self.comparisons(device, dtype)
        self.say(f"\n== {device}: training, losses and gradients of both halves of a step")
        for label, dtype in itertools.product(TRAININGS, TYPES):
            self.training(label, device, dtype)
        self.say(f"\n== {device}: time of a step of the documented DCGAN in float32")
        self.times(device)

    def gradients(self, device: str, order: str, checker: Callable[..., bool]) -> None:
        """Check every case with gradcheck or gradgradcheck."""
        work = lambda name, case: checker(case.fn, surface.leaves(name, case, device), STEP)
        right = [
            self.check(f"{order} derivatives of {name} on {device}", work, name, case)
            for name, case in surface.cases().items()
        ]
        self.say(f"{order} derivatives: {sum(map(bool, right))} of {len(right)} are correct")

    def comparisons(self, device: str, dtype: Any) -> None:
        """Compare every computation, including those on large arrays."""

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
        """Check that two steps give the CPU's float64 metrics, and the same bits every time."""
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
            + ("; same bits when repeated" if same else "")
        )

    def times(self, device: str) -> None:
        """Measure the time of a step, with and without TF32 on a GPU that has it."""
        tf32 = device != "cpu" and self.check(f"properties of {device}", has_tf32, device)
        way = f"{device} without TF32" if tf32 else device
        self.speed(way, device, self.check(f"a step's time on {way}", step_times, device))
        if tf32 and (report := self.check(f"{device} with TF32", ask_for_tf32, device)):
            off = report["off"]
            self.check(f"a product on {device} with TF32", hold, TF32_BOUND, off)
            self.speed(f"{device} with TF32", device, report["seconds"])
            self.say(f"with TF32, a product is off by {off:.1e}, {TF32_BOUND:g} allowed")

    def speed(self, way: str, device: str, seconds: list[float] | None) -> None:
        """Report seconds per step as images per second."""
        if seconds:
            batch = timed(device).batch
            rates = [batch / s for s in seconds]
            self.speeds.append(f"{way}: {median(rates):.1f} images/s at batch {batch}")
            spread = f"{min(rates):.1f} to {max(rates):.1f}"
            self.say(f"{self.speeds[-1]} ({spread}), {1e3 * median(seconds):.1f} ms per step")

    def verdict(self, tried: str, about: str) -> int:
        """Print the verdict, with a bug report if a check failed. Returns the exit code."""
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
    """Examine one device, or all that exist. Returns the exit code, 0 if every check passed."""
    # First, so that an unusable device is an error before anything is printed.
    chosen = [] if device is None else [backend.resolve_device(device)]
    patient, about = Examination(), describe()
    listing = "\n".join(f"{name + ':':9}{text}" for name, text in about.items())
    patient.say(f"== versions and devices\n{listing}")
    devices = chosen or patient.find_devices()
    tried = ", ".join(f"{name} ({about[name]})" if name in about else name for name in devices)
    if device is None and not count_gpus():
        tried += f"; no GPU was tried: {backend.gpu_trouble(0)}"
    for name in devices:
        patient.examine(name)
    return patient.verdict(tried, listing)
