"""The only folder that knows there are two kinds of array.

NumPy arrays live on the device "cpu", CuPy arrays on "cuda:0", "cuda:1", ... Everything above asks
here which module an array belongs to and how to move it; CuPy is imported when a GPU is first
asked for, so `import minigan` needs no GPU. The heavy kernels are written in `reference.py` for both
modules, in plain array code: the page to learn from, and the measure for the fast ones. `cpu.py` has
the same names for NumPy, in blocks and on all cores, with `filtering.py` for the DCGAN's convolutions.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np

Array = Any  # a numpy.ndarray or a cupy.ndarray


class DeviceError(RuntimeError):
    """A device was asked for that this machine cannot give."""


def array_module(array: Array) -> ModuleType:
    """The module, numpy or cupy, whose functions work on this array."""
    return np if isinstance(array, np.ndarray) else sys.modules["cupy"]


def kernels(xp: ModuleType) -> ModuleType:
    """The heavy kernels for the arrays of a module, all under the names of `reference.py`."""
    from . import cpu, reference

    return cpu if xp is np else reference


def device_of(array: Array) -> str:
    """ "cpu", or "cuda:N" for an array in the memory of GPU N."""
    return "cpu" if isinstance(array, np.ndarray) else f"cuda:{array.device.id}"


def resolve_device(name: str) -> str:
    """The full name of a device: "cpu" or "cuda:N"; "auto" takes a GPU when one answers.

    Raises DeviceError when there is no such device, saying what is missing.
    """
    kind, _, index = name.partition(":")
    if name == "cpu":
        return "cpu"
    if name == "auto":
        return "cpu" if _gpu_trouble(0) else "cuda:0"
    if kind != "cuda" or (index and not index.isdecimal()) or name.endswith(":"):
        raise DeviceError(f"unknown device {name!r}: choose auto, cpu, cuda or cuda:N")
    number = int(index or 0)
    if trouble := _gpu_trouble(number):
        raise DeviceError(f"device {name!r} cannot be used: {trouble}")
    return f"cuda:{number}"


def _gpu_trouble(number: int) -> str | None:
    """Why GPU `number` cannot be used, or None when it can.

    A stray folder named cupy makes the import succeed, so only a device count is believed.
    """
    try:
        import cupy

        count = int(cupy.cuda.runtime.getDeviceCount())
    except ImportError:
        return "CuPy is not installed; pip install -e '.[gpu]', or use --device cpu"
    except Exception as error:  # CuPy's own errors exist only where CuPy does
        return f"CuPy finds no working GPU ({error}); install a driver, or use --device cpu"
    if number >= count:
        return f"this machine has {count} GPU(s), numbered from 0"
    return None


def copy_like(array: Array, values: np.ndarray) -> Array:
    """A copy of the values in the array's dtype, on its device and in its order in memory."""
    copy = array_module(array).empty_like(array)
    copy[...] = move(np.asarray(values, array.dtype), device_of(array))
    return copy


def move(array: Array, device: str) -> Array:
    """The array on the given device, itself if it is there already."""
    device = resolve_device(device)
    if device_of(array) == device:
        return array
    if device == "cpu":
        return array.get()
    import cupy

    with cupy.cuda.Device(int(device.partition(":")[2])):
        return cupy.asarray(array)
