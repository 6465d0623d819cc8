"""The double's state: its GPUs and their memory, its counters, and the real CuPy's names."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import Any

NAMES = json.loads((Path(__file__).parents[1] / "fixtures" / "cupy_names.json").read_text())
TOTAL_MEMORY = 16 << 30  # of each GPU, as it reports


@dataclass
class Counters:
    """What costs time on a GPU. A view costs nothing, and is not counted."""

    launches: int = 0  # kernels: ufuncs, reductions, copies on the GPU, kernels from source
    products: int = 0  # matmul and similar
    host_to_device: int = 0
    device_to_host: int = 0
    synchronisations: int = 0  # the host waits for the GPU

    def reset(self) -> None:
        for field in fields(self):
            setattr(self, field.name, 0)


class Machine:
    """The GPUs: their number, the current one, and the memory in use on each."""

    def __init__(self) -> None:
        self.reset(1)

    def reset(self, devices: int) -> None:
        self.devices, self.current = devices, 0
        self.used = [0] * devices
        self.peak = [0] * devices
        self.limit = TOTAL_MEMORY


counters, machine = Counters(), Machine()


class CUDARuntimeError(RuntimeError):
    pass


class OutOfMemoryError(MemoryError):
    pass


class Memory:
    """An allocation: its GPU and its address. An array and its views refer to the same one."""

    def __init__(self, address: int, size: int):
        self.device, self.address, self.size = machine.current, address, size
        self.used = machine.used  # the machine may have been replaced by the time this is freed
        if self.used[self.device] + size > machine.limit:
            self.size = 0
            raise OutOfMemoryError(f"Out of memory allocating {size:,} bytes.")
        self.used[self.device] += size
        machine.peak[self.device] = max(machine.peak[self.device], self.used[self.device])

    def __del__(self) -> None:
        self.used[self.device] -= self.size


def missing(path: str, name: str) -> Exception:
    """The error for a missing name; it depends on whether the real CuPy has the name."""
    if f"{path}.{name}" in NAMES:
        return NotImplementedError(f"the double lacks {path}.{name}, which the real one has")
    return AttributeError(f"{path!r} has no attribute {name!r}")


class Module(ModuleType):
    """A module of the double."""

    def __init__(self, path: str, **contents: Any):
        super().__init__(path)
        self.__dict__.update(contents)

    def __getattr__(self, name: str) -> Any:
        raise missing(self.__name__, name)
