"""The engines that gpu_step.py compares: those of family_engines.py, on a GPU.

Each process of this program is one of them, as in engines.py. A turn is STEPS steps, and only the last
one's losses are read, because reading makes the host wait for the GPU; a run with the default options
reports as often. `trace` and `kernels` tell what a step consists of.

A toy has tiny networks and images. Its CuPy runs on tests/emulator and its PyTorch on the CPU, so it
needs no GPU.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

import engines
import family_engines
from engines import Engine, Gemm, Turn, timed
from family_engines import Family, Net, read

sys.path.insert(0, str(Path(__file__).parents[1]))
import emulator

STEPS = 10  # in a turn
TOY = {"shape": (3, 16, 16), "width": 4, "nz": 8, "batch": 4}
Kernels = dict[str, list[float]]  # {name: [calls, milliseconds]}


class OnGPU(Family):
    """What is measured of both engines, given `memory`, which returns the MB that its arrays hold."""

    toy = False
    steps_per_turn = 1  # while warming up, so that the first losses are the first step's

    def training(self, net: Net) -> Turn:
        self.net = net._replace(**TOY) if self.toy else net
        self.step = self.game(self.net)

        def steps() -> list[float]:
            for _ in range(self.steps_per_turn):
                losses = self.step()
            return read(losses)

        def turn() -> dict[str, Any]:
            found = timed(steps)
            return found | {"seconds": found["seconds"] / self.steps_per_turn}

        return turn

    def begin(self, task: str, batch: int, warm_up: int) -> dict[str, Any]:
        begun = super().begin(task, batch, warm_up)
        return begun | {"reals": self.net.batch * self.net.d_steps}

    def measure(self, count: int) -> dict[str, Any]:
        self.steps_per_turn = 2 if self.toy else STEPS
        return super().measure(count) | {"peak": self.memory()}

    def traced(self, device: str) -> Kernels:
        """What the device executes in a step, by PyTorch's profiler, which sees the whole process."""
        import torch

        activity = getattr(torch.profiler.ProfilerActivity, device)
        with torch.profiler.profile(activities=[activity]) as profile:
            read(self.step())
        found: Kernels = {}
        for event in profile.events():
            if event.device_type.name == device and not event.is_user_annotation:
                add(found, event.name, event.time_range.elapsed_us() / 1e3)
        return found


def add(found: Kernels, name: str, milliseconds: float) -> None:
    """Count one call."""
    calls, total = found.get(name, (0, 0.0))
    found[name] = [calls + 1, total + milliseconds]


class Minigan(OnGPU, family_engines.Minigan):
    """minigan on CuPy."""

    def __init__(self, tf32: bool, toy: bool = False) -> None:
        if toy:
            emulator.install()
        from minigan import backend

        device = backend.use_device("cuda", tf32)
        import cupy

        super().__init__(device)
        self.toy, self.cupy = toy, cupy
        self.pool = cupy.cuda.MemoryPool()  # as CuPy's own, which the emulator replaces
        cupy.cuda.set_allocator(self.pool.malloc)
        card = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
        cuda = cupy.cuda.runtime.driverGetVersion()  # 12090 is 12.9
        driver = f"a driver for CUDA {cuda // 1000}.{cuda % 1000 // 10}"
        self.about += f", CuPy {cupy.__version__} on {card} with {driver}"

    def tensor(self, array: Any) -> Any:
        """A tensor in the memory order of the GPU's activations: channel-major."""
        if array.ndim != 4:
            return super().tensor(array)
        return super().tensor(array.swapaxes(0, 1).copy()).transpose(0, 1).detach()

    def memory(self) -> float:
        """What the pool holds, which is the most that it needed, because it gives nothing back."""
        return self.pool.total_bytes() / 1e6

    def trace(self) -> Kernels:
        """What the GPU or the emulator executes in a step; {} if PyTorch is not beside CuPy."""
        if not self.toy:
            return self.traced("CUDA") if find_spec("torch") else {}
        emulator.reset_counters()
        read(self.step())
        found: Kernels = {}
        for name in emulator.launch_log():
            add(found, name, 0.0)
        return found

    def kernels(self) -> Kernels:
        """The step, and minigan's kernels and products in it, each between two CUDA events."""
        from minigan.backend import gpu

        events: list[tuple[str, Any, Any]] = []

        def between(name: str, call: Callable) -> Callable:
            def recorded(*arguments: Any) -> Any:
                start, stop = self.cupy.cuda.Event(), self.cupy.cuda.Event()
                start.record()
                result = call(*arguments)
                stop.record()
                events.append((name, start, stop))
                return result

            return recorded

        kernel, formula = gpu._kernel, gpu._formula
        parts = {
            "_kernel": lambda xp, name, *of: between(name, kernel(xp, name, *of)),
            "_formula": lambda xp, name: between(name, formula(xp, name)),
        }
        product = mock.patch.object(self.cupy, "matmul", between("matmul", self.cupy.matmul))
        with mock.patch.multiple(gpu, **parts), product:
            between("step", self.step)()
        events[-1][2].synchronize()
        found: Kernels = {}
        for name, start, stop in events:
            add(found, name, self.cupy.cuda.get_elapsed_time(start, stop))
        return found


class PyTorch(OnGPU, family_engines.PyTorch):
    """PyTorch, which tries cuDNN's algorithms on the first step and keeps the fastest."""

    def __init__(
        self, tf32: bool, channels_last: bool = False, compiled: bool = False, toy: bool = False
    ) -> None:
        super().__init__(channels_last, compiled, "cpu" if toy else "cuda")
        self.toy, backends = toy, self.torch.backends
        backends.cuda.matmul.allow_tf32 = backends.cudnn.allow_tf32 = tf32
        backends.cudnn.benchmark = True

    def memory(self) -> float | None:
        """What the allocator holds, without what only cuDNN's search needed; None on the CPU."""
        return None if self.toy else self.torch.cuda.memory_reserved() / 1e6

    def trace(self) -> Kernels:
        """What the GPU executes in a step; of a toy, the CPU's operations."""
        return self.traced("CPU" if self.toy else "CUDA")


ENGINES = {
    "minigan": Minigan,
    "PyTorch": PyTorch,
    "PyTorch channels_last": partial(PyTorch, channels_last=True),
    "PyTorch compiled": partial(PyTorch, channels_last=True, compiled=True),
}
KINDS: dict[str, Callable[[], Engine]] = {"GEMM": Gemm}
for _name, _engine in ENGINES.items():
    for _toy in (False, True):
        KINDS[_name + ", toy" * _toy] = partial(_engine, tf32=False, toy=_toy)
        KINDS[_name + ", TF32" + ", toy" * _toy] = partial(_engine, tf32=True, toy=_toy)


if __name__ == "__main__":
    engines.main(sys.argv[1], KINDS)
