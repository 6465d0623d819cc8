"""The operands of one operation: conversion to one dtype, and the errors if they do not fit.

Works on raw arrays and Python numbers. `tensor.op` calls it for every operation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from . import backend
from .arrays import DEFAULT_DTYPE
from .backend.threads import ThreadsError

# What array modules raise for operands that do not fit.
REFUSALS = (IndexError, OverflowError, TypeError, ValueError)


def is_number(x: Any) -> bool:
    """Whether x is a Python number that can be an operand."""
    return isinstance(x, (bool, int, float))


def alike(arrays: list) -> Any:
    """The first operand if all others are like it, NumPy arrays of its floating dtype, or numbers.

    Then there is nothing to align. This is so for nearly every operation, and told fast.
    """
    first = arrays[0] if arrays else None
    if type(first) is not np.ndarray or first.dtype.kind != "f":
        return None
    for a in arrays:
        if (type(a) is not np.ndarray or a.dtype != first.dtype) and not is_number(a):
            return None
    return first


def aligned(arrays: list, name: str, elementwise: bool) -> list:
    """The operands of the operation `name` as its forward gets them, all arrays in one dtype.

    Elementwise operations promote as PyTorch does. Raises RuntimeError if the arrays are on several
    devices, TypeError if there is no array or no common dtype.
    """
    own = [a for a in arrays if not is_number(a)]
    if not own:
        raise TypeError(f"{name}: none of the operands is a tensor")
    if len({backend.device_of(a) for a in own}) > 1:
        places = ", ".join(backend.device_of(a) for a in own)
        raise RuntimeError(
            f"{name}: operands are on {places}; move them to one device with .to(device)"
        )
    if len({a.dtype for a in own}) == 1 and own[0].dtype.kind == "f":
        return arrays
    if not elementwise and len({a.dtype for a in own}) > 1:
        dtypes = ", ".join(str(a.dtype) for a in own)
        raise TypeError(
            f"{name}: operands have dtypes {dtypes}; convert them to one dtype with .to(dtype)"
        )
    dtype = _promoted(arrays, own)
    if dtype == np.float64 and all(a.dtype.kind != "f" for a in own):  # NumPy's last resort
        raise TypeError(
            f"{name}: no integer dtype holds both uint64 and signed integers; use .to(dtype)"
        )
    return [a if is_number(a) else a.astype(dtype, copy=False) for a in arrays]


def _promoted(arrays: list, own: list) -> np.dtype:
    """PyTorch's promotion: floats win over integers and integers over bools; within one kind, arrays
    win over 0-dimensional arrays and numbers."""
    for group in ([a for a in own if a.ndim], own):
        floats = [a.dtype for a in group if a.dtype.kind == "f"]
        if floats:
            return max(floats, key=lambda d: d.itemsize)
    if any(isinstance(a, float) for a in arrays):
        return DEFAULT_DTYPE
    for group in ([a for a in own if a.ndim], own):
        integers = {a.dtype for a in group if a.dtype.kind in "iu"}
        if integers:
            return np.result_type(*integers)
    return np.dtype(bool)


def misfit(name: str, arrays: Sequence[Any], params: dict[str, Any], error: Exception) -> Exception:
    """An array module's error about operands that do not fit, reworded to name the operation.

    Returns the error itself if it is not about operands.
    """
    if isinstance(error, ThreadsError):
        return error
    dtypes = " and ".join(str(a.dtype) for a in arrays if hasattr(a, "dtype"))
    if isinstance(error, OverflowError):
        return OverflowError(
            f"{name}: {dtypes} cannot hold one of the numbers given; use .to(dtype) first"
        )
    if isinstance(error, TypeError):
        if dtypes.startswith("bool"):
            return TypeError(f"{name}: not defined for {dtypes}; use .to(dtype) first")
        return TypeError(f"{name} of {dtypes}: {error}")
    if isinstance(error, IndexError):
        return IndexError(f"{name} of a tensor of shape {arrays[0].shape}: {error}")
    found = [a.shape for a in (*arrays, *params.values()) if hasattr(a, "shape")]
    shapes = " and ".join(map(str, found))
    if str(error).startswith("operands could not be broadcast"):  # NumPy's and CuPy's words
        return ValueError(f"{name}: the shapes {shapes} do not broadcast to one shape")
    sizes = [f"{k}={v}" for k, v in params.items() if isinstance(v, (int, tuple))]
    return ValueError(f"{name} of {' with '.join([shapes, *sizes])}: {error}")
