"""Tensor's operators and methods: the functions of the other files under PyTorch's names.

Comparisons, logic and in-place changes are defined here, because they have no backward rule. Importing
this file, as `minigan/__init__.py` does, attaches everything. (The methods cannot be in the class body,
because the operations need the class.)
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from . import backend
from .arguments import one_dim
from .operands import REFUSALS, misfit
from .ops import (
    abs,
    add,
    clamp,
    clone,
    contiguous,
    div,
    exp,
    log,
    maximum,
    minimum,
    mul,
    neg,
    pow,
    power_of,
    relu,
    sigmoid,
    sqrt,
    sub,
    tanh,
    to,
)
from .pieces import chunk, gather, getitem, numpy_index, split
from .probabilities import log_softmax, logsumexp, softmax
from .recording import thread
from .reductions import amax, amin, argmax, max, min, norm, prod, std
from .shapes import (
    expand,
    flatten,
    matmul,
    mean,
    permute,
    reshape,
    squeeze,
    sum,
    transpose,
    unflatten,
    unsqueeze,
    var,
)
from .tensor import Tensor, operand, raw

_WIDTH = {"b": 0, "u": 1, "i": 1, "f": 2}  # by dtype.kind: a narrower one would lose values

# -- comparisons and logic ----------------------------------------------------------------------


def _comparison(name: str) -> Callable:
    """The comparison `name`, elementwise. A tensor never equals None or a string."""

    def compare(self: Tensor, other: Any) -> Tensor:
        value = isinstance(other, (int, float, complex, list, tuple)) or hasattr(other, "dtype")
        if not value:
            return NotImplemented
        other = raw(operand(other, name))
        try:
            return Tensor(getattr(operator, name)(self.data, other))
        except REFUSALS as error:
            raise misfit(name, [self.data, other], {}, error) from None

    return compare


def _logic(name: str) -> Callable:
    """The operator &, | or ^ of bools."""

    def combine(self: Tensor, other: Any) -> Tensor:
        found = [self.data, raw(operand(other, name))]
        for a in found:
            dtype = np.asarray(a).dtype if isinstance(a, (bool, int, float)) else a.dtype
            if dtype.kind != "b":
                raise TypeError(f"{name}: expected bools, not {dtype}; compare first, as in x > 0")
        try:
            return Tensor(getattr(operator, name)(*found))
        except REFUSALS as error:
            raise misfit(name, found, {}, error) from None

    return combine


def _invert(self: Tensor) -> Tensor:
    if self.dtype != bool:
        raise TypeError(f"invert: expected bools, not {self.dtype}; compare first, as in x > 0")
    return Tensor(~self.data)


# -- changes in place ---------------------------------------------------------------------------


def _write(self: Tensor, name: str, value: Any, index: Any = ...) -> Tensor:
    """Change values in place, and count the change: graphs that used the old values are then refused.

    Raises RuntimeError if the change would have to be recorded, the memory is shared or read-only, or
    the value is on another device; TypeError or ValueError if the value does not fit.
    """
    value = operand(value, name)
    array = raw(value)
    if thread.recording and (self.requires_grad or getattr(value, "requires_grad", False)):
        raise RuntimeError(
            f"{name}: a tensor that requires a gradient cannot be changed in place, or written into "
            "another tensor, while operations are recorded; do it inside `with no_grad():`, or make a "
            "new tensor, as `a = a + b` does"
        )
    if backend.repeats(self.data):
        raise RuntimeError(
            f"{name}: elements of this tensor share memory, or it is read-only; clone() it first"
        )
    if isinstance(value, Tensor) and value.device != self.device:
        raise RuntimeError(
            f"{name}: {value.device} values for a tensor on {self.device}; use .to()"
        )
    kind = (value if isinstance(value, Tensor) else np.asarray(value)).dtype.kind
    if _WIDTH.get(kind, 1) > _WIDTH[self.dtype.kind]:
        raise TypeError(f"{name}: {self.dtype} cannot hold such values; convert with .to(dtype)")
    try:
        self.data[index] = array
    except ValueError as error:
        raise ValueError(
            f"{name}: values of shape {np.shape(array)} do not fit into elements of shape "
            f"{self.data[index].shape}"
        ) from error
    except REFUSALS as error:
        raise misfit(name, [self.data, array], {}, error) from None
    self.changes[0] += 1
    return self


def _in_place(function: Callable, name: str) -> Callable:
    """The method that writes the function's result over the tensor's own values: add_ of add, ...

    PyTorch also records such a change of a result (`loss += penalty`). Here a Tensor is itself the node
    of the graph, with a single history, so this is refused: write `loss = loss + penalty`.
    """

    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return _write(self, name, function(self, *args, **kwargs))

    method.__name__ = name
    method.__doc__ = f"{function.__name__} in place: changes this tensor and all views of it."
    return method


def _setitem(self: Tensor, index: Any, value: Any) -> None:
    _write(self, "setitem", value, numpy_index("setitem", index))


# -- attached to Tensor -------------------------------------------------------------------------


def size(input: Tensor, dim: int | None = None) -> tuple[int, ...] | int:
    """The shape, or the length of one dimension."""
    return input.shape if dim is None else input.shape[one_dim(dim, input.ndim)]


def _swapped(function: Callable) -> Callable:
    return lambda self, other: function(other, self)


Tensor.__add__ = Tensor.__radd__ = add
Tensor.__sub__, Tensor.__rsub__ = sub, _swapped(sub)
Tensor.__mul__ = Tensor.__rmul__ = mul
Tensor.__truediv__, Tensor.__rtruediv__ = div, _swapped(div)
Tensor.__matmul__, Tensor.__rmatmul__ = matmul, _swapped(matmul)
Tensor.__neg__, Tensor.__pow__, Tensor.__rpow__ = neg, pow, power_of
Tensor.__abs__, Tensor.__pos__, Tensor.__invert__ = abs, lambda self: self, _invert
Tensor.__getitem__, Tensor.__setitem__ = getitem, _setitem
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(Tensor, f"__{_name}__", _comparison(_name))
for _name, _sign in (("and_", "&"), ("or_", "|"), ("xor", "^")):
    _method = _logic(_name)
    setattr(Tensor, f"__{_name.strip('_')}__", _method)
    setattr(Tensor, f"__r{_name.strip('_')}__", _method)
    setattr(Tensor, f"__i{_name.strip('_')}__", _in_place(_method, f"{_sign}="))
for _method in (
    abs, amax, amin, argmax, chunk, clamp, clone, contiguous, exp, expand, flatten, gather, log,
    log_softmax, logsumexp, max, maximum, mean, min, minimum, norm, permute, pow, prod, relu, reshape,
    sigmoid, size, softmax, split, sqrt, squeeze, std, sum, tanh, to, transpose, unflatten, unsqueeze,
    var,
):  # fmt: skip
    setattr(Tensor, _method.__name__, _method)
for _method in (add, sub, mul, div, pow, clamp):
    setattr(Tensor, f"{_method.__name__}_", _in_place(_method, f"{_method.__name__}_"))
Tensor.__iadd__, Tensor.__isub__ = _in_place(add, "+="), _in_place(sub, "-=")
Tensor.__imul__, Tensor.__itruediv__ = _in_place(mul, "*="), _in_place(div, "/=")
Tensor.__ipow__ = _in_place(pow, "**=")
Tensor.fill_ = lambda self, value: _write(self, "fill_", value)
Tensor.copy_ = lambda self, source: _write(self, "copy_", source)
Tensor.zero_ = lambda self: _write(self, "zero_", 0)
Tensor.view = reshape  # it may copy, because a convolution's result is not in C order in memory
Tensor.T = property(lambda self: permute(self, *reversed(range(self.ndim))))
Tensor.cpu = lambda self: to(self, "cpu")
Tensor.cuda = lambda self, device="cuda": to(self, device)
Tensor.float = lambda self: to(self, np.float32)
Tensor.double = lambda self: to(self, np.float64)
Tensor.long = lambda self: to(self, np.int64)
