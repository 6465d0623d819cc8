"""The only folder that distinguishes NumPy's arrays from CuPy's.

The rest of minigan asks here which module an array belongs to and how to move it (`device.py`).
`reference.py` has the heavy kernels for both modules in plain array code; start there. The fast kernels
have the same names and are tested against it: `cpu.py` for NumPy, in blocks and on all cores, and
`gpu.py` for CuPy, with the CUDA sources in the same folder.
"""

from .device import (
    Device,
    DeviceError,
    array_module,
    copy_like,
    device_of,
    empty_like,
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
    "empty_like",
    "gpu_trouble",
    "is_array",
    "kernels",
    "move",
    "owner",
    "repeats",
    "resolve_device",
    "use_device",
]
