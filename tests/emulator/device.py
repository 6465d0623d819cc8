"""The functions of the CUDA runtime and driver that CuPy calls, under their names, on host memory.

Any other function raises NotImplementedError when CuPy calls it.
"""

from __future__ import annotations

import collections
import ctypes
import functools
import itertools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import kernels

NAME = "g++ instead of a GPU"
CAPABILITY = (8, 0)
OUT_OF_MEMORY, INVALID_DEVICE = 2, 101  # of cudaError
_HOST_TO_DEVICE, _DEVICE_TO_HOST = 1, 2  # of cudaMemcpyKind


@dataclass
class Options:
    """The options of install()."""

    poison: bool = True
    guard: bool = False
    reverse: bool = False


options = Options()  # install() sets them
counts: collections.Counter[str] = collections.Counter()
log: list[str] = []  # the kernels launched, in order


@functools.cache
def memory() -> ctypes.CDLL:
    source = (kernels.HERE / "memory.cpp").read_text()
    library = ctypes.PyDLL(str(kernels.build(source, ("-O1", "-fPIC", "-shared"))))
    library.allocate.restype = ctypes.c_void_p
    library.allocate.argtypes = (ctypes.c_size_t, ctypes.c_int, ctypes.c_int)
    library.release.argtypes = (ctypes.c_void_p,)
    library.report_faults()
    return library


@functools.cache
def _current() -> ctypes.Array:
    return (ctypes.c_char * 256).in_dll(memory(), "current_kernel")


def run(name: str, work: Callable, *arguments: Any) -> None:
    """Call `work`, which uses device memory. If it faults, the report gives this name."""
    _current().value = name.encode()[:255]
    try:
        work(*arguments)
    finally:
        _current().value = b""


# -- devices -----------------------------------------------------------------------------------------


def _error(status: int) -> Exception:
    from cupy_backends.cuda.api.runtime import CUDARuntimeError

    return CUDARuntimeError(status)


def driverGetVersion() -> int:
    return 12090


def getDeviceCount() -> int:
    return 1


def getDevice() -> int:
    return 0


def setDevice(device: int) -> None:
    if device != 0:
        raise _error(INVALID_DEVICE)


# {cudaDeviceAttr: value}: sizes of a block and of a grid, shared memory, the size of a warp, the number
# of multiprocessors, and the compute capability.
_ATTRIBUTES = dict(enumerate((kernels.THREADS, *kernels.BLOCK, *kernels.GRID, kernels.SHARED), 1))
_ATTRIBUTES |= {10: 32, 16: 1, 75: CAPABILITY[0], 76: CAPABILITY[1]}


def deviceGetAttribute(attribute: int, device: int) -> int:
    setDevice(device)
    if attribute not in _ATTRIBUTES:
        raise NotImplementedError(f"device attribute {attribute} does not exist in the emulator")
    return _ATTRIBUTES[attribute]


def getDeviceProperties(device: int) -> dict[str, Any]:
    setDevice(device)
    return {
        "name": NAME.encode(),
        "totalGlobalMem": memGetInfo()[1],
        "sharedMemPerBlock": kernels.SHARED,
        "maxThreadsPerBlock": kernels.THREADS,
        "maxThreadsDim": kernels.BLOCK,
        "maxGridSize": kernels.GRID,
        "warpSize": 32,
        "multiProcessorCount": 1,
        "major": CAPABILITY[0],
        "minor": CAPABILITY[1],
    }


def deviceGetPCIBusId(device: int) -> str:
    return "none"


def memGetInfo() -> tuple[int, int]:
    """The machine's memory, free and total, in bytes."""
    page = os.sysconf("SC_PAGE_SIZE")
    return os.sysconf("SC_AVPHYS_PAGES") * page, os.sysconf("SC_PHYS_PAGES") * page


def deviceSynchronize() -> None:
    counts["synchronisations"] += 1


# -- contexts, streams, events: one context; all work is done when a call returns --------------------


def _nothing(*_: int) -> None:
    pass


_handles = itertools.count(1000)


def _new_handle(flags: int = 0) -> int:
    return next(_handles)


_ensure_context = devicePrimaryCtxRelease = _nothing
streamDestroy = streamQuery = streamWaitEvent = eventDestroy = eventQuery = _nothing
streamCreate = streamCreateWithFlags = eventCreate = eventCreateWithFlags = _new_handle
_recorded: dict[int, float] = {}  # event -> seconds


def ctxGetCurrent() -> int:
    return 1


def ctxGetDevice() -> int:
    return 0


def streamGetCtx(stream: int) -> int:
    return 1


def streamIsCapturing(stream: int) -> int:
    return 0


def streamSynchronize(stream: int) -> None:
    counts["synchronisations"] += 1


def eventRecord(event: int, stream: int) -> None:
    _recorded[event] = time.perf_counter()


def eventSynchronize(event: int) -> None:
    counts["synchronisations"] += 1


def eventElapsedTime(start: int, stop: int) -> float:
    return 1000 * (_recorded[stop] - _recorded[start])


# -- memory ------------------------------------------------------------------------------------------


def malloc(size: int) -> int:
    counts["allocations"] += 1
    address = memory().allocate(size, options.poison, options.guard)
    if address is None:
        raise _error(OUT_OF_MEMORY)
    return address


def free(address: int) -> None:
    memory().release(address)


_pinned: dict[int, int] = {}  # address -> bytes


def hostAlloc(size: int, flags: int) -> int:
    address = memory().allocate(size, options.poison, False)
    _pinned[address] = size
    return address


def freeHost(address: int) -> None:
    del _pinned[address]
    memory().release(address)


def pointerGetMemoryType(address: int) -> int:
    """Called for host memory: whether it is pinned."""
    from cupy_backends.cuda.api import runtime

    if any(start <= address < start + size for start, size in _pinned.items()):
        return runtime.memoryTypeHost
    return runtime.memoryTypeUnregistered


def memcpy(to: int, source: int, size: int, kind: int) -> None:
    _count_copy(size, kind)
    run("memcpy", ctypes.memmove, to, source, size)


def memcpyAsync(to: int, source: int, size: int, kind: int, stream: int) -> None:
    memcpy(to, source, size, kind)


def memcpy2D(
    to: int, to_pitch: int, source: int, pitch: int, width: int, height: int, kind: int
) -> None:
    _count_copy(width * height, kind)
    for row in range(height):
        run("memcpy2D", ctypes.memmove, to + row * to_pitch, source + row * pitch, width)


def memcpy2DAsync(
    to: int, to_pitch: int, source: int, pitch: int, width: int, height: int, kind: int, stream: int
) -> None:
    memcpy2D(to, to_pitch, source, pitch, width, height, kind)


def _count_copy(size: int, kind: int) -> None:
    if kind == _HOST_TO_DEVICE:
        counts["host_to_device"] += 1
        counts["host_to_device_bytes"] += size
    elif kind == _DEVICE_TO_HOST:
        counts["device_to_host"] += 1
        counts["device_to_host_bytes"] += size
    else:
        counts["device_to_device"] += 1


def memset(to: int, value: int, size: int) -> None:
    counts["memsets"] += 1
    run("memset", ctypes.memset, to, value, size)


def memsetAsync(to: int, value: int, size: int, stream: int) -> None:
    memset(to, value, size)


def pointerGetAttributes(address: int) -> Any:
    """Called for device memory that other libraries pass to CuPy."""
    from cupy_backends.cuda.api import runtime

    return runtime.PointerAttributes(0, address, address, runtime.memoryTypeDevice)


# -- kernels -----------------------------------------------------------------------------------------

_modules: dict[int, Path] = {}
_kernels: dict[int, tuple[str, Callable]] = {}


def moduleLoadData(image: bytes) -> int:
    """A compiled module; its image is the path of the library (see install())."""
    module = next(_handles)
    _modules[module] = Path(image.decode())
    return module


def moduleUnload(module: int) -> None:
    del _modules[module]


def moduleGetFunction(module: int, name: str) -> int:
    kernel = next(_handles)
    _kernels[kernel] = name, kernels.function(_modules[module], name, options.reverse)
    return kernel


def funcGetAttribute(attribute: int, kernel: int) -> int:
    if attribute != 0:  # CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK
        raise NotImplementedError(f"function attribute {attribute} does not exist in the emulator")
    return kernels.THREADS


def launchKernel(kernel: int, *launch: int) -> None:
    """launch: three sizes of the grid, three of a block, shared bytes, stream, arguments, extra."""
    name, function = _kernels[kernel]
    counts["launches"] += 1
    log.append(name)
    run(name, function, launch[:3], launch[3:6], launch[6], launch[8])
