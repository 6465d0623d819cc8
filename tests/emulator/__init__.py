"""The real CuPy on a machine without a GPU: kernels compiled by g++, arrays in the host's memory.

    python -m emulator [--guard] [--reverse] [--no-poison] script.py | -m module ...

It replaces the CUDA runtime below CuPy 14.2, before CuPy is imported. Everything above it, from
broadcasting to the generated sources, is CuPy's own code. The emulator reveals what a GPU may hide:
uninitialised memory (NaN), accesses out of bounds and after free (`guard`), results that depend on the
order of threads (`reverse`), barriers that some threads do not reach, launch sizes that CUDA refuses.
It counts launches, copies and synchronisations.

It cannot show races between threads that run at once, the order of streams, TF32 and fused
multiply-adds, warp intrinsics, CUB's reductions, or speed. Functions that CuPy ships compiled (sorting,
random numbers) raise NotImplementedError.

    kernels.py, shim.h   compile and run a CUDA source with g++; they do not need CuPy
    device.py, blas.py   the functions that CuPy calls in CUDA's runtime and driver, and in cuBLAS
    memory.cpp           the device's memory, and the report of an access outside it
    capsules.py          makes CuPy's compiled modules call these
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

VERSION = "14.2."  # of CuPy, because private names of CuPy are replaced
COUNTERS = (
    *("launches", "products", "memsets", "synchronisations", "allocations"),
    *("host_to_device", "device_to_host", "device_to_device"),
    *("host_to_device_bytes", "device_to_host_bytes"),
)

_installed = False
_sources: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {}


def unavailable() -> str | None:
    """Why the emulator cannot be used here; None if it can."""
    if trouble := kernels.unavailable():
        return trouble
    for distribution in ("cupy-cuda12x", "cupy-cuda11x", "cupy-cuda13x", "cupy"):
        try:
            version = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
        if version.startswith(VERSION):
            return None
        return f"{distribution} has version {version}; the emulator is made for {VERSION}*"
    return "CuPy is not installed"


def installed() -> bool:
    """Whether CuPy runs on the emulator in this process."""
    return _installed


def install(poison: bool = True, guard: bool = False, reverse: bool = False) -> None:
    """Put the emulator below CuPy, which must not have been imported.

    poison   fill new memory with 0xFF: NaN as a float, -1 as an int
    guard    end the process, naming the kernel, if memory is accessed out of bounds or after free. In
             kernels other than CuPy's, also if an index leaves a shared or local array, or an int
             overflows
    reverse  run blocks and threads from the last to the first
    """
    global _installed
    if trouble := unavailable():
        raise RuntimeError(trouble)
    if "cupy" in sys.modules:
        raise RuntimeError("the emulator comes too late: cupy has been imported")
    _installed = True
    os.environ["CUPY_ACCELERATORS"] = ""  # without CUB, which is compiled
    os.environ["CUPY_CACHE_IN_MEMORY"] = "1"  # must not find a real GPU's kernels

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
    compiler._preprocess = lambda *_: ""  # would ask NVRTC for its version
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
    """A module in which every name is missing."""

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
    """Replaces CuPy's function; returns a path instead of the binary, and the instances' names."""
    import cupy

    from . import device

    instances = tuple(name_expressions or ())
    _record(source, tuple(options), instances)
    # Of the headers that CuPy adds, use only its own, because NVIDIA's do not work after a shim.
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

    They are also written to the folder that the environment variable EMULATOR_SOURCES names, if any.
    """
    return dict(_sources)


def counters() -> dict[str, int]:
    """The counts since the start, or since the last reset_counters()."""
    from . import device

    return {name: device.counts[name] for name in COUNTERS}


def launch_log() -> list[str]:
    """The names of the kernels and products launched since then, in order."""
    from . import device

    return list(device.log)


def reset_counters() -> None:
    from . import device

    device.counts.clear()
    device.log.clear()
