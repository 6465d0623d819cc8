"""Which raw arrays a Tensor may hold, and how other data becomes such an array.

Everything here works on NumPy and CuPy arrays and knows nothing of Tensors. `tensor.py` calls it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import backend
from .backend import Array

DEFAULT_DTYPE = np.dtype(np.float32)  # of Python floats, as in PyTorch
DTYPES = frozenset(map(np.dtype, "?bBhHiIlLqQefd"))  # bool, integers, float16, 32, 64; native order


def plain(array: Array) -> Array:
    """The array in a form that the engine can compute with.

    NumPy scalars, which arithmetic on 0-dimensional arrays returns, become arrays. Memory-mapped arrays
    lose their class but keep their memory. Foreign byte order is converted, which copies. Raises
    TypeError for anything but an array, and for a dtype that is not in `DTYPES`.
    """
    if isinstance(array, (np.generic, np.memmap)):
        array = np.asarray(array)
    if not backend.is_array(array):
        remedy = "minigan.tensor(...) makes a tensor from an array, numbers or lists"
        raise TypeError(f"a Tensor holds a NumPy or CuPy array, not {type_name(array)}; {remedy}")
    if array.dtype not in DTYPES:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype not in DTYPES:
        raise TypeError(
            "a Tensor holds bool, integers, float16, float32 or float64, not "
            f"{array.dtype}; convert the array with .astype(...)"
        )
    return array


def as_array(data: Any) -> np.ndarray:
    """A NumPy array from numbers, nested lists, a PyTorch tensor or an np.matrix.

    Python floats become float32. Raises TypeError or ValueError for anything else.
    """
    if all(hasattr(data, name) for name in ("detach", "cpu", "numpy")):
        try:
            return data.detach().cpu().numpy()
        except TypeError as error:
            raise TypeError(f"tensor: NumPy has no {data.dtype}; call .float() first") from error
    if isinstance(data, np.ma.MaskedArray):
        raise TypeError("tensor: the array is masked; replace the masked values with .filled(...)")
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise ValueError("tensor: the nested lists differ in length or depth") from error
    if array.dtype.newbyteorder("=") not in DTYPES:
        raise TypeError(
            "tensor: expected numbers, nested lists of numbers, an array or a Tensor, not "
            f"{type_name(data)} ({array.dtype})"
        )
    widened = array.dtype == np.float64 and not hasattr(data, "dtype")
    return array.astype(DEFAULT_DTYPE) if widened else array


def converted(name: str, array: Array, dtype: Any) -> Array:
    """A copy of the array in a dtype. Raises ValueError if an integer dtype would wrap around."""
    dtype = np.dtype(dtype)
    if dtype.kind in "iu" and array.dtype != dtype and array.dtype.kind in "iuf" and array.size:
        limits = np.iinfo(dtype)
        low, high = array.min().item(), array.max().item()
        # Python compares these exactly, and every comparison with NaN is False. The bounds are open
        # because fractions are cut off: -0.5 becomes 0, which fits a uint8.
        if not (limits.min - 1 < low and high < limits.max + 1):
            raise ValueError(
                f"{name}: {dtype} holds integers from {limits.min} to {limits.max}, but the values "
                f"range from {low} to {high}; choose another dtype"
            )
    return array.astype(dtype)


def check_differentiable(array: Array) -> None:
    """Raise TypeError unless the array has a floating-point dtype."""
    if array.dtype.kind != "f":
        raise TypeError(f"only floating-point tensors have gradients; this one is {array.dtype}")


def checked_flag(requires_grad: Any, array: Array) -> bool:
    """`requires_grad` as a bool. Raises TypeError if it is not one, or is True for integers."""
    if not isinstance(requires_grad, (bool, np.bool_)):
        value = " ".join(repr(requires_grad).split())[:60]
        raise TypeError(
            f"requires_grad must be True or False, not {value}; tensor(data, dtype=...) chooses a dtype"
        )
    if requires_grad:
        check_differentiable(array)
    return bool(requires_grad)


def type_name(x: Any) -> str:
    """The type of x for a message: `list`, `numpy.matrix`."""
    kind = type(x)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
