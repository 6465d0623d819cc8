"""The real CuPy on a machine without a GPU: kernels compiled by g++, arrays in the host's memory.

    python -m emulator [--guard] [--reverse] [--no-poison] script.py | -m module ...

It takes the place of the CUDA runtime below CuPy 14.2, before CuPy is imported; what CuPy does above
it, from the broadcasting to the sources that it generates, is CuPy's own code. It makes loud what a
GPU may hide: uninitialised memory (NaN), accesses out of bounds and after free (`guard`), results
that hang on the order of threads (`reverse`), barriers that some threads do not reach, sizes of
launches that CUDA refuses. It counts launches, copies and synchronisations.

It cannot show: races between threads that run at once, the order of streams, TF32 and fused
multiply-adds, warp intrinsics, CUB's reductions, speed. What CuPy brings compiled (sort, random
numbers) raises NotImplementedError.

    kernels.py, shim.h   a CUDA source through g++; need no CuPy
    device.py, blas.py   what CuPy calls of CUDA's runtime and driver, and of cuBLAS
    memory.cpp           the device's memory, and the report of a kernel that leaves it
    capsules.py          how CuPy's compiled modules come to call these
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from . import kernels
from .kernels import only_blocks

__all__ = [
    "counters",
    "install",
    "installed",
    "launch_log",
    "only_blocks",
    "reset_counters",
    "sources",
    "unavailable",
]

VERSION = "14.2."  # of CuPy: private names of it are replaced
COUNTERS = (
    *("launches", "products", "memsets", "synchronisations", "allocations"),
    *("host_to_device", "device_to_host", "device_to_device"),
    *("host_to_device_bytes", "device_to_host_bytes"),
)

_installed = False
_sources: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {}


def unavailable() -> str | None:
    """Why the emulator cannot be used here, or None."""
    if trouble := kernels.unavailable():
        return trouble
    for distribution in ("cupy-cuda12x", "cupy-cuda11x", "cupy-cuda13x", "cupy"):
        try:
            version = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
        if version.startswith(VERSION):
            return None
        return f"{distribution} is of version {version}; the emulator is made for {VERSION}*"
    return "CuPy is not installed"


def installed() -> bool:
    """Whether CuPy runs on the emulator in this process."""
    return _installed


def install(poison: bool = True, guard: bool = False, reverse: bool = False) -> None:
    """Put the emulator below CuPy, which must not have been imported.

    poison   fill fresh memory with 0xFF: NaN, or -1
    guard    end the process, naming the kernel, where memory is accessed out of bounds or after free;
             in kernels that CuPy has not written, also where a shared or local array is, and where
             an int overflows
    reverse  run blocks and threads from the last to the first
    """
    global _installed
    if trouble := unavailable():
        raise RuntimeError(trouble)
    if "cupy" in sys.modules:
        raise RuntimeError("the emulator comes too late: cupy has been imported")
    _installed = True
    os.environ["CUPY_ACCELERATORS"] = ""  # no CUB, which is compiled
    os.environ["CUPY_CACHE_IN_MEMORY"] = "1"  # a real GPU's kernels shall not be met

    from cupy_backends.cuda import libs
    from cupy_backends.cuda.api import driver, runtime

    from . import blas, capsules, device

    device.options = device.Options(poison, guard, reverse)
    device.memory()  # reports faults from now on
    capsules.replace(runtime, vars(device), keep=("check_status", "runtimeGetVersion"))
    capsules.replace(driver, vars(device), keep=("check_status", "get_build_version"))
    for name, module in (("cublas", blas), ("curand", _Missing("curand"))):
        sys.modules[f"{libs.__name__}.{name}"] = module
        setattr(libs, name, module)

    import cupy
    import cupy.cuda.cub
    import cupy.cuda.thrust
    from cupy.cuda import compiler

    compiler._compile_using_nvrtc_no_warning = _compile
    compiler._get_nvrtc_version = lambda: (12, 9)
    compiler._preprocess = lambda *_: ""  # asks NVRTC for its version
    cupy.cuda.set_allocator(None)
    compiled = {
        cupy.cuda.thrust: ("sort", "lexsort", "argsort"),
        cupy.cuda.cub: ("device_reduce", "device_segmented_reduce", "device_scan"),
        cupy.random: ("Generator", "default_rng", "XORWOW", "MRG32k3a", "Philox4x3210"),
    }
    for module, names in compiled.items():
        for name in names:
            setattr(module, name, capsules.missing(module, name))


class _Missing(ModuleType):
    """A module of which nothing exists."""

    def __getattr__(self, name: str) -> Any:
        raise NotImplementedError(f"{self.__name__}.{name} does not exist in the emulator")


def _compile(
    source: str,
    options: Sequence[str] = (),
    arch: str | None = None,
    filename: str = "",
    name_expressions: Sequence[str] | None = None,
    *_: Any,
) -> tuple[bytes, dict[str, str]]:
    """In the place of CuPy's function: a path for the binary, and the names of templates' instances."""
    import cupy

    from . import device

    instances = tuple(name_expressions or ())
    _record(source, tuple(options), instances)
    # Of the headers that CuPy adds, its own will do; NVIDIA's are not made to come after a shim.
    heeded = [o for o in options if not o.startswith("-I") or "cupy" in Path(o[2:]).parts]
    heeded += [f"-DCUPY_VERSION={cupy.__version__}", "-D__CUDACC_VER_MAJOR__=12"]
    # CuPy's own kernels may let an int overflow: integer arrays wrap around.
    checked = device.options.guard and "#include <cupy/" not in source
    library = kernels.compile(source, heeded, instances, checked)
    return str(library).encode(), {name: name for name in instances}


def _record(source: str, options: tuple[str, ...], instances: tuple[str, ...]) -> None:
    digest = hashlib.sha256(repr((source, options, instances)).encode()).hexdigest()[:12]
    names = [*kernels.kernel_names(source), *instances, "nameless"]
    key = f"{''.join(c if c.isalnum() else '_' for c in names[0])}-{digest}"
    _sources[key] = source, options, instances
    if folder := os.environ.get("EMULATOR_SOURCES"):
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        (path / f"{key}.cu").write_text(source)
        (path / f"{key}.json").write_text(json.dumps({"options": options, "instances": instances}))


def sources() -> dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """Every CUDA source compiled in this process: name -> source, options, name expressions.

    With the environment variable EMULATOR_SOURCES, they are left in that folder too.
    """
    return dict(_sources)


def counters() -> dict[str, int]:
    """What has happened since the start, or the last reset_counters()."""
    from . import device

    return {name: device.counts[name] for name in COUNTERS}


def launch_log() -> list[str]:
    """The kernels and products since then, by name, in order."""
    from . import device

    return list(device.log)


def reset_counters() -> None:
    from . import device

    device.counts.clear()
    device.log.clear()
