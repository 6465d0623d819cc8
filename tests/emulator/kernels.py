"""Compile CUDA sources with g++, find a kernel, launch it on host memory.

Needs only g++, not CuPy:

    library = compile(source, ("-std=c++17", "-DReal=float"))
    launch(library, "scale", (blocks,), (256,), [np.uintp(x.ctypes.data), np.float32(0.9)])

`shim.h` explains how a kernel runs. The sources are changed in one place: dynamic shared memory,
`extern __shared__ T name[]`, becomes a pointer.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import mmap
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
# No contraction, because a fused multiply-add would round differently from the formula in some places.
FLAGS = ("-O1", "-ffp-contract=off", "-fno-strict-aliasing", "-w", "-fPIC", "-shared")
FLAGS += ("-fvisibility=hidden", "-fno-gnu-unique")  # every library has its own threadIdx
# In a checked library, an index outside a shared or local array, or an overflowing int, traps.
CHECKS = ("-fsanitize=bounds,signed-integer-overflow", "-fsanitize-undefined-trap-on-error")

STACK = 64 * 1024  # bytes for each thread of a block; untouched memory costs nothing
GRID, BLOCK, THREADS = (2**31 - 1, 65535, 65535), (1024, 1024, 64), 1024  # CUDA's limits
SHARED = 48 * 1024  # bytes per block


class KernelError(RuntimeError):
    """A kernel does not compile, or a launch would be refused by a GPU or hang it."""


def unavailable() -> str | None:
    """Why kernels cannot be run here; None if they can."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return f"kernels run on Linux x86-64 only, this is {sys.platform} {platform.machine()}"
    return None if shutil.which("g++") else "g++ is not installed"


# -- compiling ---------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """Where compiled libraries are kept, under names made from their content."""
    folder = os.environ.get("EMULATOR_CACHE") or Path.home() / ".cache" / "minigan-emulator"
    Path(folder).mkdir(parents=True, exist_ok=True)
    return Path(folder)


@functools.cache
def _compiler() -> str:
    """What every library depends on besides its source: the version of g++, and the headers here."""
    version = subprocess.run(
        ["g++", "--version"], capture_output=True, text=True, check=True
    ).stdout
    return version + "".join(header.read_text() for header in sorted(HERE.glob("*.h")))


def build(source: str, flags: Sequence[str]) -> Path:
    """The library that g++ builds from a C++ source, taken from the cache if it is there.

    Several processes may build the same library at once: each writes its own file, and the last one to
    rename it wins.
    """
    key = hashlib.sha256("\0".join([source, *flags, _compiler()]).encode()).hexdigest()[:32]
    library = cache_folder() / f"{key}.so"
    if not library.exists():
        text, made = (library.with_name(f"{key}.{os.getpid()}.{end}") for end in ("cpp", "so"))
        text.write_text(source)
        command = ["g++", *flags, str(text), "-o", str(made)]
        done = subprocess.run(command, capture_output=True, text=True)
        text.unlink()
        if done.returncode:
            raise KernelError(f"g++ refuses the source:\n{done.stderr[:4000]}")
        os.replace(made, library)
    return library


def compile(
    source: str,
    options: Sequence[str] = (),
    instances: Sequence[str] = (),
    checked: bool = False,
) -> Path:
    """Compile a CUDA source's kernels to a library.

    options    NVRTC's options; only -D, -I and -std have an effect on a CPU
    instances  instances of templates to compile too, such as "kernel<float>"
    checked    stop at an index outside an array of known size, and at an integer overflow
    """
    heeded = [o for o in options if o.startswith(("-D", "-I", "-std", "--std"))]
    if not any("std=" in o for o in heeded):
        heeded.append("-std=c++17")
    barriers = "true" if "__sync" in source else "false"
    entries = (
        f'extern "C" __attribute__((visibility("default"))) int {_entry(name)}'
        f"(const emulator::Launch& l) {{ return emulator::run<{barriers}>({name}, l); }}\n"
        for name in (*kernel_names(source), *instances)
    )
    text = f'#include "shim.h"\n#line 1 "kernel.cu"\n{_dynamic_shared(source)}\n{"".join(entries)}'
    return build(text, (*FLAGS, f"-I{HERE}", *heeded, *(CHECKS if checked else ())))


def _entry(name: str) -> str:
    """The C name of the entry to a kernel, which may be a template's instance."""
    plain = re.fullmatch(r"\w+", name)
    return "launch_" + (name if plain else hashlib.sha256(name.encode()).hexdigest()[:16])


_DYNAMIC = re.compile(
    r"extern\s+__shared__\s+(?:__align__\s*\([^)]*\)\s*)?([\w:<>\s]+?)\s*\b(\w+)\s*\[\s*\]\s*;"
)
_KERNEL = re.compile(
    r"(template\s*<[^;{}]*?>\s*)?(?:static\s+|inline\s+)*__global__\s+"
    r"(?:__launch_bounds__\s*\([^)]*\)\s*)?void\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?"
    r"(\w+)\s*\(([^)]*)\)\s*\{"
)


def _dynamic_shared(source: str) -> str:
    """`extern __shared__ T name[];` as a pointer to the block's dynamic shared memory."""
    return _DYNAMIC.sub(r"\1* \2 = (\1*)emulator::dynamic_shared;", source)


def _without_comments(source: str) -> str:
    return re.sub(r"//[^\n]*|/\*.*?\*/", " ", source, flags=re.DOTALL)


def kernel_names(source: str) -> list[str]:
    """The kernels of a source, in order, without templates, which do not have a single name."""
    found = _KERNEL.finditer(_without_comments(source))
    return [match[2] for match in found if not match[1]]


def signature(source: str, name: str) -> list[str]:
    """The C types of a kernel's parameters, such as ["const Real*", "long long", "Window"]."""
    for match in _KERNEL.finditer(_without_comments(source)):
        if match[2] == name:
            parameters = match[3].replace("__restrict__", "").split(",")
            types = [re.sub(r"\w+\s*$", "", p).strip() for p in parameters if p.strip()]
            return [re.sub(r"\s*\*", "*", re.sub(r"\s+", " ", t)) for t in types]
    raise KeyError(f"the source has no kernel {name!r}")


# -- launching ---------------------------------------------------------------------------------------


class _Launch(ctypes.Structure):
    """emulator::Launch of shim.h."""

    _fields_ = (
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("dynamic_bytes", ctypes.c_uint),
        ("reverse", ctypes.c_int),
        ("may_end_early", ctypes.c_int),
        ("first_block", ctypes.c_ulonglong),
        ("stop_block", ctypes.c_ulonglong),
        ("arguments", ctypes.c_void_p),
        ("shared", ctypes.c_void_p),
        ("stacks", ctypes.c_void_p),
        ("stack_bytes", ctypes.c_size_t),
    )


_OUTCOMES = {
    1: "divergent barrier: some threads of a block wait at a __syncthreads() that others do not reach",
    2: f"more than {SHARED} bytes of shared memory, counting all kernels of its source",
}

_blocks: tuple[int, int] | None = None


@contextlib.contextmanager
def only_blocks(first: int, stop: int) -> Iterator[None]:
    """Launches inside run only the blocks whose linear index is in [first, stop)."""
    global _blocks
    before, _blocks = _blocks, (first, stop)
    try:
        yield
    finally:
        _blocks = before


@functools.cache
def _workspace() -> tuple[mmap.mmap, int, int]:
    """The workspace, and the addresses in it of a block's dynamic shared memory and its stacks."""
    memory = mmap.mmap(-1, SHARED + THREADS * STACK, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    return memory, start, start + SHARED


def function(path: Path, name: str, reverse: bool = False) -> Callable[..., None]:
    """The kernel of a compiled library, as a function of (grid, block, shared_bytes, arguments).

    arguments  the address of an array with the address of each argument, as for cuLaunchKernel
    """
    # GPUs since Volta do not wait for threads that have ended. CuPy's scans rely on that, but CUDA's
    # guide does not promise it. So for all other kernels it is an error.
    may_end_early = name.startswith("cupy_")
    entry = ctypes.PyDLL(str(path))[_entry(name)]  # PyDLL keeps the lock: one kernel at a time

    def run(grid: Sequence[int], block: Sequence[int], shared: int, arguments: int) -> None:
        grid, block = (tuple((*size, 1, 1)[:3]) for size in (grid, block))
        if trouble := _refusal(grid, block, shared):
            raise KernelError(f"CUDA_ERROR_INVALID_VALUE: kernel {name}: {trouble}")
        count = grid[0] * grid[1] * grid[2]
        first, stop = _blocks or (0, count)
        _, memory, stacks = _workspace()
        order = (shared, reverse, may_end_early, first, min(stop, count))
        todo = _Launch(grid, block, *order, arguments, memory, stacks, STACK)
        if outcome := entry(ctypes.byref(todo)):
            raise KernelError(f"kernel {name}: {_OUTCOMES[outcome]}")

    return run


def _refusal(grid: Sequence[int], block: Sequence[int], shared: int) -> str | None:
    """Why a GPU would refuse a launch of these sizes."""
    for what, sizes, limits in (("grid", grid, GRID), ("block", block, BLOCK)):
        if not all(0 < n <= most for n, most in zip(sizes, limits, strict=True)):
            return f"a {what} of {sizes}, which CUDA allows from 1 to {limits}"
    if (threads := block[0] * block[1] * block[2]) > THREADS:
        return f"a block of {threads} threads; {THREADS} are allowed"
    if shared > SHARED:
        return f"{shared} bytes of dynamic shared memory; {SHARED} are allowed"
    return None


def launch(
    path: Path,
    name: str,
    grid: Sequence[int],
    block: Sequence[int],
    arguments: Sequence[Any],
    shared: int = 0,
    reverse: bool = False,
) -> None:
    """Run a kernel once. Each argument is a NumPy number or structure with the parameter's bits."""
    values = [np.array(argument) for argument in arguments]
    addresses = (ctypes.c_void_p * len(values))(*(v.ctypes.data for v in values))
    function(path, name, reverse)(grid, block, shared, ctypes.addressof(addresses))
