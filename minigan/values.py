"""What Python and NumPy may ask of a tensor's values: shape, length, truth, numbers, lists, text.

`Tensor` inherits all of it. Nothing here knows of graphs or gradients.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import numpy as np

from . import backend
from .arrays import DEFAULT_DTYPE
from .backend import Array


class Values:
    """The part of a Tensor that only reads its array; subclasses set `_data`."""

    __slots__ = ()
    __array_ufunc__ = None  # so that `array * tensor` calls the Tensor's operator
    _data: Array

    shape = property(lambda self: self._data.shape)
    dtype = property(lambda self: self._data.dtype)
    ndim = property(lambda self: self._data.ndim)
    device = property(lambda self: backend.device_of(self._data))

    def numel(self) -> int:
        """The number of elements."""
        return self._data.size

    def dim(self) -> int:
        """The number of dimensions."""
        return self._data.ndim

    def item(self) -> float | int | bool:
        """The value of a tensor of one element, as a Python number."""
        if self._data.size != 1:
            raise ValueError(f"a tensor of shape {self.shape} is not one number; use .tolist()")
        return self._data.item()

    def tolist(self) -> Any:
        """The values as nested lists of Python numbers; of a 0-dimensional tensor, the number."""
        return self._data.tolist()

    def numpy(self) -> np.ndarray:
        """The values as a NumPy array, which shares memory with a tensor on the CPU."""
        return backend.move(self._data, "cpu")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("a 0-dimensional tensor has no length; use numel()")
        return len(self._data)

    def __iter__(self) -> Iterator:
        if self.ndim == 0:
            raise TypeError("a 0-dimensional tensor cannot be iterated over")
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        if self._data.size != 1:
            raise ValueError(
                f"the truth of a tensor of shape {self.shape} is ambiguous; "
                "use .numpy().all() or .numpy().any()"
            )
        return bool(self._data)

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        return operator.index(self.item())  # so that names[label] works; floats are refused

    def __format__(self, spec: str) -> str:
        if spec and self.numel() != 1:
            raise TypeError(
                f"the format {spec!r} applies to one number; this tensor has shape {self.shape}"
            )
        return format(self.item(), spec) if spec else str(self)

    def __repr__(self) -> str:
        text = np.array2string(self.numpy(), separator=", ", prefix="tensor(")
        dtype = "" if self.dtype in (DEFAULT_DTYPE, np.int64, bool) else f", dtype={self.dtype}"
        return f"tensor({text}{dtype}{self._repr_end()})"

    def _repr_end(self) -> str:
        """What else to print, with a comma in front."""
        return ""
