"""Convert a state dict's values for one tensor from minigan, PyTorch or NumPy to a host array.

`Module.load_state_dict` calls `values_for` for each tensor before it changes any.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import backend
from ..tensor import Tensor


def values_for(own: Tensor, value: Any, place: str) -> np.ndarray:
    """The value as a host array of the shape and dtype of the tensor `own`.

    Raises TypeError or ValueError, with a message that begins with `place`, if it cannot be converted,
    for example because it has another shape, or numbers that the dtype cannot hold.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{place} is a masked array; replace the masked values with .filled(...)")
    convert = "convert it first: a bfloat16 or complex tensor with .float()"
    try:
        array = _array(value)
    except (TypeError, ValueError, RuntimeError) as error:  # NumPy's and PyTorch's
        raise TypeError(f"{place} cannot become a NumPy array ({error}); {convert}") from None
    if array.shape != own.shape:
        raise ValueError(
            f"{place} has shape {array.shape} in the state dict, {own.shape} in the module"
        )
    if backend.repeats(own.data):
        raise ValueError(
            f"{place} cannot be loaded: its elements share memory, or it is read-only; make it from a "
            "clone()"
        )
    if array.dtype == own.dtype:
        return array
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{place} is {array.dtype} in the state dict, not {own.dtype}; {convert}")
    with np.errstate(all="ignore"):  # misfits are found below
        cast = array.astype(own.dtype)
    fits = cast == array if own.dtype.kind != "f" else np.isfinite(cast) == np.isfinite(array)
    if not fits.all():
        raise ValueError(
            f"{place} holds {array[~fits].flat[0]} in the state dict, which {own.dtype} cannot hold"
        )
    return cast


def _array(value: Any) -> np.ndarray:
    """A host array from a minigan or PyTorch tensor (on any device), or from an array."""
    if isinstance(value, Tensor):
        return value.numpy()
    for step in ("detach", "cpu", "numpy"):  # a PyTorch tensor needs these; nothing else has them
        value = getattr(value, step)() if hasattr(value, step) else value
    return np.asarray(value)
