"""What the doctor reports about the machine: versions, libraries, devices."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from threadpoolctl import threadpool_info

from ..backend.threads import blas_trouble, get_num_threads
from ..version import __version__


def last_lines(error: BaseException, count: int = 6) -> str:
    """The last lines of an error's message; a compiler's may have hundreds of lines."""
    return "\n".join(f"{type(error).__name__}: {error}".strip().splitlines()[-count:])


def answer(ask: Callable[[], Any]) -> str:
    """The answer as text, or why there is none."""
    try:
        return str(ask())
    except Exception as error:  # any library may be missing or broken, and raise anything
        return f"no answer ({last_lines(error, 1)})"


def cuda_version(number: int) -> str:
    """12090 as 12.9; a missing driver reports 0."""
    return f"{number // 1000}.{number % 1000 // 10}" if number else "none"


def describe() -> dict[str, str]:
    """Versions and devices, as far as the machine reports them."""
    libraries = [lib for lib in threadpool_info() if lib["user_api"] == "blas"]
    blas = [
        " ".join(str(lib.get(k)) for k in ("internal_api", "version", "architecture"))
        for lib in libraries
    ]
    model = platform.processor() or platform.machine()
    if (cpuinfo := Path("/proc/cpuinfo")).exists():
        lines = [line.partition(":") for line in cpuinfo.read_text().splitlines()]
        model = next((text.strip() for key, _, text in lines if key.strip() == "model name"), model)
    memory = lambda: os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    found = {
        "minigan": __version__,
        "Python": f"{platform.python_version()} on {platform.platform()}",
        "NumPy": np.__version__,
        "BLAS": "; ".join(filter(None, [", ".join(blas) or "unknown", blas_trouble()])),
        "Pillow": PIL.__version__,
        "CPU": f"{model}; {os.cpu_count()} cores, {get_num_threads()} threads",
        "memory": answer(lambda: f"{memory():.1f} GiB"),
    }
    try:
        import cupy
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError)
        return found | {"CuPy": "not installed" if missing else f"cannot be imported: {error}"}
    runtime = lambda: cupy.cuda.runtime
    found["CuPy"] = answer(lambda: cupy.__version__)
    found["CUDA"] = answer(lambda: cuda_version(runtime().runtimeGetVersion()))
    found["driver"] = answer(lambda: cuda_version(runtime().driverGetVersion()))
    found["NVRTC"] = answer(lambda: "{}.{}".format(*cupy.cuda.nvrtc.getVersion()))
    handle = lambda: cupy.cuda.device.get_cublas_handle()
    found["cuBLAS"] = answer(lambda: cupy.cuda.cublas.getVersion(handle()))
    return found | {f"cuda:{n}": answer(lambda n=n: gpu(n)) for n in range(count_gpus())}


def count_gpus() -> int:
    """The number of GPUs that CuPy lists, whether they work or not; 0 if it cannot tell."""
    try:
        import cupy

        return int(cupy.cuda.runtime.getDeviceCount())
    except Exception:  # gpu_trouble(0) gives the reason
        return 0


def gpu(number: int) -> str:
    """One line about a GPU."""
    import cupy

    about = cupy.cuda.runtime.getDeviceProperties(number)
    cores, memory = about.get("multiProcessorCount", "?"), about["totalGlobalMem"] / 2**30
    return (
        f"{about['name'].decode()}, compute capability {about['major']}.{about['minor']}, "
        f"{cores} multiprocessors, {memory:.1f} GiB"
    )


def has_tf32(device: str) -> bool:
    """Whether the GPU has TF32 (compute capability 8.0 or above); else the option does nothing."""
    import cupy

    number = int(device.partition(":")[2])
    return cupy.cuda.runtime.getDeviceProperties(number)["major"] >= 8
