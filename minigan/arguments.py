"""Checks of the arguments of operations and layers: sizes, dimensions, flags, pairs.

Operations and layers call these functions before they compute anything.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np

from . import backend
from .tensor import Tensor, raw

Dims = int | Sequence[int] | None
Pair = int | Sequence[int]


def is_whole(value: Any) -> bool:
    """Whether the value is an integer, of Python or NumPy, and not a bool."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_real(value: Any) -> bool:
    """Whether the value is a finite number, of Python or NumPy, and not a bool."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def check_alike(name: str, **tensors: Tensor | None) -> None:
    """Raise TypeError or RuntimeError unless all are tensors or arrays of one dtype on one device.

    All but `input` may be None. The operations check this too, but their messages cannot name the
    caller's arguments.
    """
    for key, t in tensors.items():
        known = isinstance(t, (Tensor, np.ndarray)) or backend.is_array(t)
        if not known and (t is not None or key == "input"):
            raise TypeError(
                f"{name}: the {key} is a {type(t).__name__}; make it a tensor with minigan.tensor"
            )
    arrays = {key: raw(t) for key, t in tensors.items() if t is not None}
    if len({backend.device_of(a) for a in arrays.values()}) > 1:
        places = ", ".join(f"{key} on {backend.device_of(a)}" for key, a in arrays.items())
        raise RuntimeError(f"{name}: {places}; move them to one device with .to(device)")
    if len({a.dtype for a in arrays.values()}) > 1:
        dtypes = ", ".join(f"{key} is {a.dtype}" for key, a in arrays.items())
        raise TypeError(f"{name}: {dtypes}; convert them to one dtype with .to(dtype)")


def check_floats(name: str, input: Any) -> None:
    """Raise TypeError unless the input is a Tensor of floats."""
    if not isinstance(input, Tensor) or input.dtype.kind != "f":
        found = input.dtype if isinstance(input, Tensor) else f"a {type(input).__name__}"
        raise TypeError(f"{name}: the input must be a tensor of floats, not {found}")


def check_indices(name: str, kind: str, indices: Any, count: int | None = None) -> None:
    """Raise TypeError unless the indices are a Tensor of integers, IndexError if one is out of range.

    kind   what the message calls an index, such as "label"
    count  indices must be from 0 to count - 1; None sets no upper limit

    Indices on a GPU are not compared, because the host would have to wait for them.
    """
    if not isinstance(indices, Tensor) or indices.dtype.kind not in "iu":
        found = indices.dtype if isinstance(indices, Tensor) else f"a {type(indices).__name__}"
        raise TypeError(f"{name}: the {kind} must be a tensor of integers, not {found}")
    if indices.device == "cpu" and indices.numel():
        low, high = int(indices.data.min()), int(indices.data.max())
        if low < 0 or (count is not None and high >= count):
            limits = "at least 0" if count is None else f"from 0 to {count - 1}"
            raise IndexError(
                f"{name}: {kind} {low if low < 0 else high} is out of range; it must be {limits}"
            )


def check_flag(function: str, name: str, value: Any) -> None:
    """Raise TypeError unless the option `name` of a reduction is a bool."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(
            f"{function}: {name} must be True or False, not {value!r}; give several dims as a tuple"
        )


def pair(name: str, value: Pair) -> tuple[int, int]:
    """A pair (vertical, horizontal), from two ints or one for both. Raises ValueError.

    A padding is at least 0, every other pair at least 1.
    """
    both = tuple(value) if isinstance(value, Sequence) else (value, value)
    lowest = 0 if "padding" in name else 1
    if len(both) != 2 or not all(is_whole(v) and v >= lowest for v in both):
        raise ValueError(f"{name} must be an int >= {lowest} or a pair of them, not {value!r}")
    return int(both[0]), int(both[1])


def one_dim(dim: int, ndim: int) -> int:
    """The position of a dimension from 0 to ndim - 1. Raises TypeError or IndexError."""
    if isinstance(dim, bool) or not isinstance(dim, (int, np.integer)):
        raise TypeError(f"a dimension must be a whole number, not {dim!r}")
    if not -ndim <= dim < ndim:
        raise IndexError(f"dimension {dim} is out of range for a tensor of {ndim} dimensions")
    return dim % ndim


def all_dims(dim: Dims, ndim: int) -> tuple[int, ...]:
    """`dim` as a sorted tuple of positions; None means all.

    Raises ValueError if a dimension is named twice, and TypeError or IndexError as `one_dim` does.
    """
    if dim is None:
        return tuple(range(ndim))
    dims = dim if hasattr(dim, "__iter__") else [dim]
    found = sorted(one_dim(d, ndim) for d in dims)
    if len(set(found)) != len(found):
        raise ValueError(f"dimensions {tuple(dims)} name a dimension twice")
    return tuple(found)


def all_sizes(sizes: tuple) -> tuple[int, ...]:
    """The arguments of f(2, 3) or f((2, 3)) as a tuple of ints. TypeError: one is not an integer."""
    if set(map(type, sizes)) == {int}:
        return sizes
    nested = len(sizes) == 1 and (
        not hasattr(sizes[0], "__index__") or getattr(sizes[0], "ndim", 0)
    )
    try:
        found = tuple(sizes[0] if nested else sizes)
        if any(isinstance(n, (bool, np.bool_)) for n in found):
            raise TypeError("bool is an integer to Python")
        return tuple(map(operator.index, found))
    except TypeError as error:
        raise TypeError(f"sizes must be integers, not {sizes}") from error


def with_axis(function: Callable) -> Callable:
    """Let a function with `dim` and `keepdim` accept NumPy's names `axis` and `keepdims` too.

    The function raises TypeError if it gets both names of one argument.
    """

    @functools.wraps(function)
    def renamed(*args: Any, **kwargs: Any) -> Any:
        for numpy_name, name in (("axis", "dim"), ("keepdims", "keepdim")):
            if numpy_name in kwargs:
                if name in kwargs:
                    raise TypeError(f"{function.__name__}: give {name} or {numpy_name}, not both")
                kwargs[name] = kwargs.pop(numpy_name)
        return function(*args, **kwargs)

    return renamed
