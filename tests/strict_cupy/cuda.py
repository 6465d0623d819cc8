"""cupy.cuda: devices, a single stream, the memory pool, and parts of the runtime."""

from __future__ import annotations

from typing import Any

from . import state
from .state import TOTAL_MEMORY, CUDARuntimeError, Module, counters, machine, missing


def _check(device: int) -> int:
    if not 0 <= device < machine.devices:
        raise CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")
    return device


class Device:
    """A GPU; within `with Device(1):` it is the current one."""

    def __init__(self, device: int | None = None):
        self.id = machine.current if device is None else int(device)
        self.before: list[int] = []

    def __getattr__(self, name: str) -> Any:
        raise missing("cupy.cuda.Device", name)

    def __enter__(self) -> Device:
        self.before.append(machine.current)
        self.use()
        return self

    def __exit__(self, *exception: object) -> None:
        machine.current = self.before.pop()

    def use(self) -> None:
        machine.current = _check(self.id)

    def synchronize(self) -> None:
        counters.synchronisations += 1


class Stream:
    """The only stream. Each call finishes its work before it returns."""

    def __getattr__(self, name: str) -> Any:
        raise missing("cupy.cuda.Stream", name)

    def synchronize(self) -> None:
        counters.synchronisations += 1


Stream.null = Stream()


class MemoryPool:
    """The current GPU's pool. It keeps freed memory, so its total is the most that was ever in use."""

    def __getattr__(self, name: str) -> Any:
        raise missing("cupy.cuda.MemoryPool", name)

    def used_bytes(self) -> int:
        return machine.used[machine.current]

    def total_bytes(self) -> int:
        return machine.peak[machine.current]

    def free_all_blocks(self) -> None:
        machine.peak[machine.current] = machine.used[machine.current]

    def set_limit(self, size: int | None = None) -> None:
        machine.limit = size or TOTAL_MEMORY


def get_current_stream() -> Stream:
    return Stream.null


def getDeviceCount() -> int:
    return machine.devices


def getDevice() -> int:
    return machine.current


def memGetInfo() -> tuple[int, int]:
    return TOTAL_MEMORY - machine.used[machine.current], TOTAL_MEMORY


def getDeviceProperties(device: int) -> dict[str, Any]:
    name = f"strict double {_check(device)}".encode()
    return {"name": name, "major": 7, "minor": 5, "totalGlobalMem": TOTAL_MEMORY}


def deviceSynchronize() -> None:
    counters.synchronisations += 1


RUNTIME = (getDeviceCount, getDevice, memGetInfo, getDeviceProperties, deviceSynchronize)


def modules() -> dict[str, Module]:
    """cupy.cuda and its submodules."""
    runtime = Module("cupy.cuda.runtime", CUDARuntimeError=CUDARuntimeError)
    runtime.__dict__.update({function.__name__: function for function in RUNTIME})
    memory = Module("cupy.cuda.memory", OutOfMemoryError=state.OutOfMemoryError)
    contents = {thing.__name__: thing for thing in (Device, Stream, MemoryPool, get_current_stream)}
    cuda = Module("cupy.cuda", runtime=runtime, memory=memory, **contents)
    return {module.__name__: module for module in (cuda, runtime, memory)}
