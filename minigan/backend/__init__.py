"""The only folder that knows there are two kinds of array.

Everything above asks here which module an array belongs to and how to move it (`device.py`). The
heavy kernels are written in `reference.py` for both modules, in plain array code: the page to learn
from, and the measure for the fast ones. The same names are in `cpu.py` for NumPy, in blocks and on all
cores, and in `gpu.py` for CuPy, with the CUDA sources beside it.
"""

from .device import (
    Device,
    DeviceError,
    array_module,
    copy_like,
    device_of,
    gpu_trouble,
    is_array,
    kernels,
    move,
    owner,
    repeats,
    resolve_device,
    use_device,
)
from .reference import Array

__all__ = [
    "Array",
    "Device",
    "DeviceError",
    "array_module",
    "copy_like",
    "device_of",
    "gpu_trouble",
    "is_array",
    "kernels",
    "move",
    "owner",
    "repeats",
    "resolve_device",
    "use_device",
]
