"""New tensors from one value, a range or random numbers, under PyTorch's names.

Sizes may be given one by one or as a tuple: zeros(2, 3) and zeros((2, 3)) are the same. All functions
but from_numpy take the options dtype, device and requires_grad. Without a dtype, floats are float32.
Random numbers come from the generator that `manual_seed` seeds, and are drawn on the host, so that they
are the same on every device. Sizes that are not integers raise TypeError, negative ones ValueError.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import backend, init
from .arguments import all_sizes, is_whole
from .arrays import DEFAULT_DTYPE, converted
from .tensor import Tensor


def _new(
    values: np.ndarray, dtype: Any = None, device: str | None = None, requires_grad: bool = False
) -> Tensor:
    """The values as a leaf; floats become float32 unless a dtype is given."""
    if dtype is None:
        dtype = DEFAULT_DTYPE if values.dtype.kind == "f" else values.dtype
    values = values if values.dtype == dtype else converted("the new tensor", values, dtype)
    return Tensor(backend.move(values, device or "cpu"), requires_grad)


def _shape(size: tuple) -> tuple[int, ...]:
    shape = all_sizes(size)
    if min(shape, default=0) < 0:
        raise ValueError(f"a tensor cannot have the shape {shape}: a size is negative")
    return shape


def full(size: int | Sequence[int], fill_value: float, **options: Any) -> Tensor:
    """One value everywhere; an int gives int64, a bool gives bool. TypeError: it is not one number."""
    if isinstance(fill_value, (list, tuple)) or math.prod(getattr(fill_value, "shape", ())) != 1:
        raise TypeError(f"full: fill_value must be one number, not {fill_value!r:.80}")
    value = fill_value.item() if hasattr(fill_value, "item") else fill_value
    return _new(np.full(_shape((size,)), value), **options)


def zeros(*size: Any, **options: Any) -> Tensor:
    """0.0 everywhere."""
    return _new(np.zeros(_shape(size)), **options)


def ones(*size: Any, **options: Any) -> Tensor:
    """1.0 everywhere."""
    return _new(np.ones(_shape(size)), **options)


def arange(start: float, end: float | None = None, step: float = 1, **options: Any) -> Tensor:
    """start, start + step, ..., up to but not including end; arange(n) counts from 0.

    Integers give int64. Raises ValueError if the number of values is not finite.
    """
    start, end = (0, start) if end is None else (start, end)
    try:
        values = np.arange(start, end, step)
    except (ValueError, ZeroDivisionError):
        raise ValueError(
            f"arange: there is no finite number of values from {start} to {end} in steps of {step}"
        ) from None
    return _new(values, **options)


def linspace(start: float, end: float, steps: int, **options: Any) -> Tensor:
    """`steps` equally spaced numbers (steps,) from start to end, both included.

    Raises ValueError unless `steps` is a whole number of at least 0.
    """
    if not is_whole(steps) or steps < 0:
        raise ValueError(f"linspace: steps must be a whole number of at least 0, not {steps!r}")
    return _new(np.linspace(start, end, steps), **options)


def _floating(dtype: Any) -> np.dtype:
    dtype = np.dtype(DEFAULT_DTYPE if dtype is None else dtype)
    if dtype.kind != "f":
        raise TypeError(f"rand and randn draw floats, not {dtype}; use randint for integers")
    return dtype


def rand(*size: Any, dtype: Any = None, **options: Any) -> Tensor:
    """Random numbers, uniform in [0, 1). TypeError: dtype is not floating-point."""
    dtype = _floating(dtype)
    values = init.generator().random(_shape(size)).astype(dtype)
    below_one = 1 - np.finfo(dtype).epsneg  # rounding to a narrower dtype may give 1
    return _new(np.minimum(values, below_one), dtype, **options)


def randn(*size: Any, dtype: Any = None, **options: Any) -> Tensor:
    """Random numbers, N(0, 1). TypeError: dtype is not floating-point."""
    return _new(init.generator().standard_normal(_shape(size)), _floating(dtype), **options)


def randint(
    low: int, high: int | Sequence[int], size: Sequence[int] | None = None, **options: Any
) -> Tensor:
    """Random integers from low to high - 1, int64 by default; randint(high, size) starts at 0.

    Raises ValueError unless low < high, TypeError if size is not a tuple.
    """
    low, high, size = (0, low, high) if size is None else (low, high, size)
    if is_whole(size):
        raise TypeError("randint: the size must be a tuple: randint(low, high, (2, 3))")
    if not low < high:
        raise ValueError(f"randint: there is no integer n with {low} <= n < {high}")
    converted("randint", np.array([low, high - 1]), options.get("dtype") or np.int64)
    return _new(init.generator().integers(low, high, _shape((size,))), **options)


def _like(input: Tensor, options: dict[str, Any]) -> dict[str, Any]:
    """The options, with the dtype and device of the input as defaults."""
    return {"dtype": input.dtype, "device": input.device, **options}


def zeros_like(input: Tensor, **options: Any) -> Tensor:
    """0 everywhere, in the shape and dtype of the input and on its device."""
    return zeros(input.shape, **_like(input, options))


def ones_like(input: Tensor, **options: Any) -> Tensor:
    """1 everywhere, in the shape and dtype of the input and on its device."""
    return ones(input.shape, **_like(input, options))


def full_like(input: Tensor, fill_value: float, **options: Any) -> Tensor:
    """One value everywhere, in the shape and dtype of the input and on its device."""
    return full(input.shape, fill_value, **_like(input, options))


def rand_like(input: Tensor, **options: Any) -> Tensor:
    """Uniform random numbers in the shape and dtype of the input and on its device."""
    return rand(input.shape, **_like(input, options))


def randn_like(input: Tensor, **options: Any) -> Tensor:
    """Normal random numbers in the shape and dtype of the input and on its device."""
    return randn(input.shape, **_like(input, options))


def from_numpy(array: np.ndarray) -> Tensor:
    """A Tensor that shares the array's memory; `tensor` makes a copy."""
    return Tensor(array)
