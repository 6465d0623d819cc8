"""Random initial values, drawn on the host so that every device starts from the same numbers."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from . import backend
from .arguments import is_whole
from .backend import Array
from .backend.products import qr
from .tensor import Tensor

_default = np.random.default_rng()


def manual_seed(seed: int) -> None:
    """Seed the generator that draws initial weights and the numbers of `rand`, `randn`, `randint`."""
    global _default
    if not is_whole(seed) or seed < 0:
        raise ValueError(
            f"manual_seed: the seed must be a whole number of at least 0, not {seed!r}"
        )
    _default = np.random.default_rng(seed)


def _renew_lock() -> None:
    """Replace the generator's lock in a forked process, which lacks the thread that held it."""
    global _default
    bits = _default.bit_generator
    renewed = type(bits)(bits.seed_seq)
    renewed.state = bits.state
    _default = np.random.Generator(renewed)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def generator() -> np.random.Generator:
    """The generator that `manual_seed` seeds."""
    return _default


_shapes_only: ContextVar[bool] = ContextVar("shapes_only", default=False)  # one for each thread


@contextmanager
def shapes_only() -> Iterator[None]:
    """Inside, the parameters of new layers have shapes and dtypes, but no memory and no values.

    So a network of any size can be made instantly, to count its weights. It cannot compute anything.
    (PyTorch has `torch.device("meta")` for this.)
    """
    token = _shapes_only.set(True)
    try:
        yield
    finally:
        _shapes_only.reset(token)


def memory(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """The memory of a new parameter, filled with zeros; inside `shapes_only`, a single element."""
    if not _shapes_only.get():
        return np.zeros(shape, dtype)
    return np.lib.stride_tricks.as_strided(np.zeros(1, dtype), shape, (0,) * len(shape))


def _fill(name: str, t: Tensor | Array, values_of: Callable[[tuple[int, ...]], np.ndarray]) -> Any:
    """Write values_of(shape) into the memory of t, which other tensors may share."""
    if _shapes_only.get():
        return t
    array = t.data if isinstance(t, Tensor) else t
    if backend.repeats(array):
        raise RuntimeError(
            f"{name}: elements of this tensor share memory, or it is read-only; clone() it first"
        )
    array[...] = backend.copy_like(array, values_of(array.shape))
    if isinstance(t, Tensor):
        t.data = array  # counts as a change in place
    return t


def _check(name: str, t: Any) -> None:
    """Raise TypeError unless t is a floating-point Tensor or array.

    Both are accepted, because `m.weight.data` is a Tensor in PyTorch and an array in minigan.
    """
    if not isinstance(getattr(t, "dtype", None), np.dtype) or t.dtype.kind != "f":
        raise TypeError(
            f"{name}: expected a floating-point Tensor or array, not {type(t).__name__}"
        )


def uniform_(
    tensor: Tensor | Array,
    a: float = 0.0,
    b: float = 1.0,
    generator: np.random.Generator | None = None,
) -> Any:
    """tensor ~ U(a, b), in place. Takes and returns a Tensor or a raw array."""
    _check("uniform_", tensor)
    if not a <= b:
        raise ValueError(f"uniform_: the bounds {a} and {b} must be in ascending order")
    if not math.isfinite(b - a):
        raise ValueError(f"uniform_: the bounds {a} and {b} must be a finite distance apart")
    return _fill("uniform_", tensor, lambda shape: (generator or _default).uniform(a, b, shape))


def normal_(
    tensor: Tensor | Array,
    mean: float = 0.0,
    std: float = 1.0,
    generator: np.random.Generator | None = None,
) -> Any:
    """tensor ~ N(mean, std^2), in place. Takes and returns a Tensor or a raw array."""
    _check("normal_", tensor)
    if not std >= 0:
        raise ValueError(f"normal_: std must be at least 0, not {std}")
    return _fill("normal_", tensor, lambda shape: (generator or _default).normal(mean, std, shape))


def constant_(tensor: Tensor | Array, val: float) -> Any:
    """tensor = val, in place. Takes and returns a Tensor or a raw array."""
    _check("constant_", tensor)
    return _fill("constant_", tensor, lambda shape: np.full(shape, val, np.float64))


def zeros_(tensor: Tensor | Array) -> Any:
    """tensor = 0, in place. Takes and returns a Tensor or a raw array."""
    return constant_(tensor, 0.0)


def ones_(tensor: Tensor | Array) -> Any:
    """tensor = 1, in place. Takes and returns a Tensor or a raw array."""
    return constant_(tensor, 1.0)


def orthogonal_(
    tensor: Tensor | Array, gain: float = 1.0, generator: np.random.Generator | None = None
) -> Any:
    """gain times a random orthogonal matrix, in place. Takes and returns a Tensor or a raw array.

    The tensor is filled as a matrix (shape[0], product of the other sizes). Its rows are orthogonal to
    each other and have length `gain`; if there are more rows than columns, this holds for the columns
    instead. The matrix is the Q of the QR decomposition of a matrix of normal numbers. Its signs are
    chosen to make R's diagonal positive, because then all orthogonal matrices are equally likely (Saxe,
    McClelland & Ganguli 2014).
    """
    _check("orthogonal_", tensor)
    if len(tensor.shape) < 2:
        raise ValueError(f"orthogonal_: expected at least 2 dimensions, not {tensor.shape}")

    def values(shape: tuple[int, ...]) -> np.ndarray:
        rows, columns = shape[0], math.prod(shape[1:])
        tall = (max(rows, columns), min(rows, columns))
        q, r = qr((generator or _default).standard_normal(tall))
        q = q * np.where(np.diag(r) < 0, -1.0, 1.0)
        return gain * (q if rows >= columns else q.T).reshape(shape)

    return _fill("orthogonal_", tensor, values)


def default_(weight: Tensor, bias: Tensor | None) -> None:
    """PyTorch's initial values of linear and convolution layers: U(-1/sqrt(fan_in), 1/sqrt(fan_in)).

    fan_in is the size of weight[0]. (PyTorch calls this kaiming_uniform_ with a = sqrt(5). For a
    transposed convolution this size is really the fan-out; PyTorch uses it anyway.)
    """
    bound = 1 / math.sqrt(max(1, math.prod(weight.shape[1:])))
    uniform_(weight, -bound, bound)
    if bias is not None:
        uniform_(bias, -bound, bound)
