"""Which device an array is on, which module and which kernels it belongs to, and how to move it.

NumPy arrays live on the device "cpu", CuPy arrays on "cuda:0", "cuda:1", ... CuPy is imported when a
GPU is first requested, so `import minigan` works without it.
"""

from __future__ import annotations

import functools
import os
import re
import sys
from types import ModuleType
from typing import Any

import numpy as np

from ..console import pip
from ..errors import UserError
from . import cpu, gpu
from .reference import Array


class DeviceError(UserError, RuntimeError):
    """The requested device is unknown, or cannot be used on this machine."""


def array_module(array: Array) -> ModuleType:
    """The module, numpy or cupy, whose functions work on this array."""
    return np if isinstance(array, np.ndarray) else sys.modules["cupy"]


def is_array(x: Any) -> bool:
    """Whether x is a plain array. Subclasses such as np.matrix have rules of their own and are not."""
    return type(x) is np.ndarray or isinstance(x, getattr(sys.modules.get("cupy"), "ndarray", ()))


def kernels(xp: ModuleType) -> ModuleType:
    """The heavy kernels for NumPy or CuPy arrays, under the names of `reference.py`."""
    return cpu if xp is np else gpu


CUDA = "cuda(:[0-9]{1,4})?"


class Device(str):
    """The name of a device, with PyTorch's attributes: Device("cuda:1").type is "cuda"."""

    def __new__(cls, name: str) -> Device:
        if name != "cpu" and not re.fullmatch(f"auto|{CUDA}", str(name)):
            raise DeviceError(f"unknown device {name!r:.80}: choose auto, cpu, cuda or cuda:N")
        return super().__new__(cls, name)

    type = property(lambda self: self.partition(":")[0])
    index = property(lambda self: _number(self) if ":" in self else None)


CPU = Device("cpu")


def device_of(array: Array) -> Device:
    """ "cpu", or "cuda:N" for an array in the memory of GPU N."""
    return CPU if isinstance(array, np.ndarray) else Device(f"cuda:{array.device.id}")


def owner(array: Array) -> Any:
    """The object that owns the array's memory; views of one array share it."""
    while (base := getattr(array, "base", None)) is not None:
        array = base
    return array


def repeats(array: Array) -> bool:
    """Whether several elements may share one place in memory, so that writing one changes others."""
    if not getattr(array.flags, "writeable", True):  # CuPy's arrays are always writable
        return True
    strides = zip(array.shape, array.strides, strict=True)
    return 0 in array.strides and any(n > 1 and stride == 0 for n, stride in strides)


def resolve_device(name: str) -> str:
    """The full name of a device: "cpu" or "cuda:N"; "auto" chooses a GPU if one works.

    Raises DeviceError if the device cannot be used, saying what is missing.
    """
    if name == "cpu":
        return "cpu"
    if name == "auto":
        return "cpu" if gpu_trouble(0) else "cuda:0"
    if not re.fullmatch(CUDA, name):
        raise DeviceError(f"unknown device {name[:80]!r}: choose auto, cpu, cuda or cuda:N")
    number = _number(name) if ":" in name else 0
    if trouble := gpu_trouble(number):
        raise DeviceError(f"device {name!r} cannot be used: {trouble}")
    return f"cuda:{number}"


def use_device(name: str, tf32: bool) -> str:
    """Choose this process's device and return its full name. Call it once, before any computation.

    New CuPy arrays are made on this device. tf32 lets float32 products on the GPU round their factors
    to 10 bits, which is eight times as fast on cards that support it. CuPy reads this setting only at
    its first product.
    """
    device = resolve_device(name)
    if device != "cpu":
        import cupy

        os.environ["CUPY_TF32"] = str(int(tf32))
        cupy.cuda.Device(_number(device)).use()
    return device


def _number(device: str) -> int:
    return int(device.partition(":")[2])


OLDEST_CUPY = 14  # the oldest major release that minigan was written for and run with

# Words in CuPy's error, and the remedy to show for them. The first match counts.
REMEDIES = {
    "InsufficientDriver": "no NVIDIA driver answers, or it is too old for CUDA 12: install a newer one",
    "NoDevice": "the NVIDIA driver finds no GPU; nvidia-smi should list one",
    "Memory": "its memory is full: stop the other programs that use it",
    "lib|nvrtc|cublas|CUDA path|headers": (
        f"CUDA's libraries are missing or do not match: {pip('cupy-cuda12x[ctk]')}"
    ),
}


@functools.cache
def gpu_trouble(number: int) -> str | None:
    """Why GPU `number` cannot be used, in a sentence with the remedy; None if it can.

    The import succeeds even for a stray folder named cupy, and a GPU may be listed although its
    libraries are missing. So a device counts as usable only after it has computed a sum and a product.
    The product is in float64, because CuPy decides about TF32 at its first float32 product.
    """
    try:
        import cupy
    except ImportError as error:
        found = "" if isinstance(error, ModuleNotFoundError) else f" properly ({error})"
        return f"CuPy is not installed{found}; {pip('-e', '.[gpu]')}, or use --device cpu"
    try:
        version = cupy.__version__
        if int(version.partition(".")[0]) < OLDEST_CUPY:
            newer = pip("-U", f"cupy-cuda12x[ctk]>={OLDEST_CUPY}")
            return f"CuPy {version} is too old; {newer}, or use --device cpu"
        count = int(cupy.cuda.runtime.getDeviceCount())
        if number >= count:
            return f"this machine has {count} GPU(s), numbered from 0"
        with cupy.cuda.Device(number):
            ones = cupy.ones((2, 2), np.float64)
            if (ones @ ones + ones).tolist() != [[3.0, 3.0], [3.0, 3.0]]:
                return "it computes 1 + 1 incorrectly; use --device cpu"
    except Exception as error:  # CuPy's own errors exist only where CuPy does
        said = f"{type(error).__name__}: {error}"
        remedy = next((r for words, r in REMEDIES.items() if re.search(words, said)), None)
        return f"{remedy or 'CuPy finds no working GPU'}; or use --device cpu ({said})"
    return None


def copy_like(array: Array, values: np.ndarray) -> Array:
    """A copy of the values with the array's dtype, device and memory order."""
    copy = array_module(array).empty_like(array)
    copy[...] = move(np.asarray(values, array.dtype), device_of(array))
    return copy


def empty_like(array: Array, shape: tuple[int, ...]) -> Array:
    """Undefined numbers of another shape, with the array's dtype and memory order.

    (CuPy's own empty_like, given a shape, takes memory for the array's shape instead.)
    """
    order, there = _order(array)
    memory = array_module(array).empty([shape[axis] for axis in order], array.dtype)
    return memory.transpose(there)


def _order(array: Array) -> tuple[list[int], list[int]]:
    """The axes from the outermost in memory to the innermost, and the place of each among them."""
    order = sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))
    return order, [order.index(axis) for axis in range(array.ndim)]


def move(array: Array, device: str) -> Array:
    """The array on the given device, in the same memory order; the array itself if already there."""
    device = resolve_device(device)
    if device_of(array) == device:
        return array
    # Only contiguous memory is transferred, so the axes are permuted back on the other side.
    order, there = _order(array)
    array = array_module(array).asarray(array.transpose(order), order="C")
    if device == "cpu":
        return array.get().transpose(there)
    import cupy

    with cupy.cuda.Device(_number(device)):
        return cupy.asarray(array).transpose(there)
