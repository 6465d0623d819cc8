"""Arrays that wrap a NumPy array without giving access to it, and the functions on them.

Where CuPy differs from NumPy, this file does as CuPy: nothing converts implicitly, every result is an
array, the result of a ufunc or a reduction is in C order whatever the order of its operands, and new
memory holds garbage. Promotion needs no code, because CuPy 14's loops are NumPy's (compared dtype by
dtype), and both treat Python's numbers according to NEP 50.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from .state import NAMES, Memory, counters, machine, missing

SCATTERED = (
    "int32",
    "int64",
    "float16",
    "float32",
    "float64",
    "uint32",
    "uint64",
)  # CUDA's atomicAdd


class ndarray:
    """A cupy.ndarray. `_array` is its memory, used only in this package."""

    __slots__ = ("_array", "_memory")
    __hash__ = None
    __array_priority__ = 100

    def __init__(self, *args: Any, **kwargs: Any):
        raise NotImplementedError("the double lacks cupy.ndarray(...), which the real one has")

    def __getattr__(self, name: str) -> Any:
        raise missing("cupy.ndarray", name)

    # -- what NumPy must not do with it --

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> None:
        raise TypeError("Implicit conversion to a NumPy array is not allowed; use .get()")

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> None:
        raise TypeError(f"np.{func.__name__} of a CuPy array: call CuPy's own function")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> ndarray:
        """Handles np.float64(2) * a, and refuses np.exp(a), although CuPy computes it."""
        if method != "__call__" or not any(isinstance(x, np.generic) for x in inputs):
            raise TypeError(f"np.{ufunc.__name__} of a CuPy array: call CuPy's own function")
        return UFUNCS[ufunc.__name__](*inputs, **kwargs)

    # -- attributes --

    shape = property(lambda self: self._array.shape)
    dtype = property(lambda self: self._array.dtype)
    ndim = property(lambda self: self._array.ndim)
    size = property(lambda self: self._array.size)
    nbytes = property(lambda self: self._array.nbytes)
    itemsize = property(lambda self: self._array.itemsize)
    strides = property(lambda self: self._array.strides)
    T = property(lambda self: view(self, self._array.T))
    base = property(lambda self: self._memory)  # in CuPy, the array that owns the memory

    @property
    def flags(self) -> Any:
        own = self._array.flags
        names = ("c_contiguous", "f_contiguous", "owndata", "fnc", "forc")
        return SimpleNamespace(**{name: getattr(own, name) for name in names})

    @property
    def device(self) -> Any:
        from .cuda import Device

        return Device(self._memory.device)

    @property
    def data(self) -> Any:
        return SimpleNamespace(ptr=address(self._array), device_id=self._memory.device)

    # -- to the host: each waits for the GPU --

    def get(self) -> np.ndarray:
        counters.device_to_host += 1
        counters.synchronisations += 1
        return np.array(self._array, order="C")

    def item(self) -> Any:
        if self.size != 1:
            raise ValueError("can only convert an array of size 1 to a Python scalar")
        return self.get().item()

    tolist = lambda self: self.get().tolist()
    __bool__ = lambda self: bool(self.get())
    __int__ = lambda self: int(self.item())
    __float__ = lambda self: float(self.item())
    __repr__ = lambda self: repr(self.get())
    __str__ = lambda self: str(self.get())
    __format__ = lambda self, specification: format(self.get(), specification)

    # -- elements --

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("len() of unsized object")
        return len(self._array)

    def __iter__(self) -> Any:
        if self.ndim == 0:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    def __getitem__(self, key: Any) -> ndarray:
        """A view, or a copy if the index holds arrays. Unlike CuPy, this does not wrap indices."""
        entries, advanced = as_numpys(key)
        if advanced:
            return launched(operand(self)[entries].copy())
        return view(self, self._array[entries])

    def __setitem__(self, key: Any, value: Any) -> None:
        """If the index is an array, CuPy accepts host values; here they must be moved first."""
        entries, _ = as_numpys(key)
        if isinstance(value, (list, tuple, np.ndarray)):
            value = np.asarray(value)
            if value.ndim:
                raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
            value = value.item()
        operand(self)[entries] = operand(value)
        counters.launches += 1

    fill = lambda self, value: self.__setitem__(..., value)

    # -- shape: a view if possible --

    def reshape(self, *shape: Any) -> ndarray:
        found = self._array.reshape(*shape)
        if found.size and not np.may_share_memory(found, self._array):
            return launched(operand(self).reshape(*shape))
        return view(self, found)

    transpose = lambda self, *axes: view(self, self._array.transpose(*axes))
    swapaxes = lambda self, axis1, axis2: view(self, self._array.swapaxes(axis1, axis2))
    squeeze = lambda self, axis=None: view(self, self._array.squeeze(axis))

    # -- copies --

    def astype(self, dtype: Any, order: str = "K", *, copy: bool = True) -> ndarray:
        with np.errstate(all="ignore"):
            found = operand(self).astype(dtype, order, copy=copy)
        return self if found is self._array else launched(found, order)

    copy = lambda self, order="C": self.astype(self.dtype, order)
    __deepcopy__ = lambda self, memo: self.copy()
    __matmul__ = lambda self, other: matmul(self, other)

    def clip(self, min: Any = None, max: Any = None, out: Any = None) -> ndarray:
        bounds = (None if bound is None else operand(bound) for bound in (min, max))
        return into(out, np.clip, operand(self), *bounds)


# -- creating and unwrapping arrays -------------------------------------------------------------


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def wrapped(array: np.ndarray, memory: Memory) -> ndarray:
    result = object.__new__(ndarray)
    result._array, result._memory = array, memory
    return result


def view(of: ndarray, array: np.ndarray) -> ndarray:
    return wrapped(array, of._memory)


def fresh(array: np.ndarray) -> ndarray:
    """A new array on the current GPU that wraps an array to which nothing else refers."""
    return wrapped(array, Memory(address(array), array.nbytes))


def launched(values: Any, order: str = "C") -> ndarray:
    """The result of a kernel, counted as a launch. For no elements, CuPy launches none."""
    result = fresh(np.array(values, order=order, copy=None))
    counters.launches += bool(result.size)
    return result


def operand(x: Any) -> Any:
    """An argument as CuPy's kernels see it: an array on the current GPU, or a number."""
    if isinstance(x, ndarray):
        if x._memory.device != machine.current:
            raise ValueError(
                f"The device where the array resides ({x._memory.device}) is different from the "
                f"current device ({machine.current})."
            )
        return x._array
    if isinstance(x, (bool, int, float, complex, np.generic)):
        return x
    raise TypeError(f"Unsupported type {type(x)}")


def arrays_only(*arrays: Any) -> list[np.ndarray]:
    for x in arrays:
        if not isinstance(x, ndarray):
            raise TypeError(f"a cupy.ndarray is needed, not {type(x)}")
    return [operand(x) for x in arrays]


def into(out: Any, function: Callable, *values: Any, **options: Any) -> ndarray:
    """Run a kernel that writes to `out` or to a new array. A GPU does not warn of infinities."""
    with np.errstate(all="ignore"):
        if out is None:
            return launched(function(*values, **options))
        out = out[0] if isinstance(out, tuple) else out
        function(*values, out=arrays_only(out)[0], **options)
    counters.launches += 1
    return out


def as_numpys(key: Any) -> tuple[tuple, bool]:
    """The index in NumPy's form, and whether it holds arrays.

    Each call copies a host array in the index to the GPU. The host waits for a mask, because its true
    elements must be counted before the result's size is known.
    """
    entries, advanced = [], False
    for entry in key if isinstance(key, tuple) else (key,):
        if isinstance(entry, (list, bool, np.bool_, np.ndarray)):
            counters.host_to_device += 1
            entry = np.asarray(entry)
            if entry.size == 0 and entry.dtype.kind == "f":
                entry = entry.astype(np.int32)
        elif isinstance(entry, ndarray):
            entry = operand(entry)
        if isinstance(entry, np.ndarray):
            advanced = True
            if entry.dtype.kind not in "biu":
                raise IndexError("arrays used as indices must be of integer or boolean type")
            if entry.dtype.kind == "b":
                counters.device_to_host += 1
                counters.synchronisations += 1
        entries.append(entry)
    if not any(entry is ... for entry in entries):
        entries.append(...)  # with it, NumPy returns an array, not a scalar
    return tuple(entries), advanced


# -- ufuncs -------------------------------------------------------------------------------------


class Ufunc:
    """A cupy.ufunc, without the options `where` and `order`."""

    def __init__(self, function: np.ufunc):
        self.function = function

    def __call__(
        self, *args: Any, out: Any = None, dtype: Any = None, casting: str = "same_kind"
    ) -> ndarray:
        nin = self.function.nin
        if len(args) not in (nin, nin + 1) or (len(args) > nin and out is not None):
            raise TypeError(f"Wrong number of arguments for {self.function.__name__!r}.")
        *values, out = (*args, out)[: nin + 1]
        values = [operand(x) for x in values]
        return into(out, self.function, *values, dtype=dtype, casting=casting)


class ScatteredUfunc(Ufunc):
    """A ufunc with the method `at`, which CUDA can do atomically for some dtypes."""

    def at(self, a: ndarray, indices: Any, b: Any = None) -> None:
        entries, advanced = as_numpys(indices)
        (array,), values = arrays_only(a), operand(b)
        if advanced and array.dtype.name not in SCATTERED:
            raise TypeError(f"{self.function.__name__}.at only supports {', '.join(SCATTERED)}")
        self.function.at(array, entries, values)
        counters.launches += 1


UFUNCS = {
    name: (ScatteredUfunc if f"cupy.{name}.at" in NAMES else Ufunc)(getattr(np, name))
    for name in (
        "add", "subtract", "multiply", "divide", "true_divide", "power", "negative", "abs", "absolute",
        "sign", "square", "sqrt", "exp", "log", "log1p", "tanh", "maximum", "minimum", "isfinite",
        "isnan", "equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "bitwise_and",
        "bitwise_or", "invert",
    )
}  # fmt: skip


def _binary(name: str, swapped: bool = False, inplace: bool = False) -> Callable:
    def method(self: ndarray, other: Any) -> Any:
        if not isinstance(other, ndarray) and getattr(other, "__array_ufunc__", self) is None:
            return NotImplemented  # as NEP 13 says: the other operand's operator decides
        a, b = (other, self) if swapped else (self, other)
        return UFUNCS[name](a, b, out=self if inplace else None)

    return method


ARITHMETIC = {"add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide"}
ARITHMETIC |= {"pow": "power", "and": "bitwise_and", "or": "bitwise_or"}
COMPARISONS = {"eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal"}
COMPARISONS |= {"gt": "greater", "ge": "greater_equal"}
for _name, _ufunc in (ARITHMETIC | COMPARISONS).items():
    setattr(ndarray, f"__{_name}__", _binary(_ufunc))
for _name, _ufunc in ARITHMETIC.items():
    setattr(ndarray, f"__r{_name}__", _binary(_ufunc, swapped=True))
    setattr(ndarray, f"__i{_name}__", _binary(_ufunc, inplace=True))
for _name, _ufunc in {"neg": "negative", "abs": "absolute", "invert": "invert"}.items():
    setattr(ndarray, f"__{_name}__", lambda self, ufunc=UFUNCS[_ufunc]: ufunc(self))


# -- reductions ---------------------------------------------------------------------------------


def _reduction(name: str) -> Callable:
    function = getattr(np, name)

    def reduction(a: ndarray, axis: Any = None, *, keepdims: bool = False) -> ndarray:
        (array,) = arrays_only(a)
        return into(None, function, array, axis=axis, keepdims=keepdims)

    return reduction


REDUCING = ("sum", "mean", "max", "min", "argmax", "argmin", "all", "any")
REDUCTIONS = {name: _reduction(name) for name in REDUCING}
for _name, _function in REDUCTIONS.items():
    setattr(ndarray, _name, _function)


# -- creation -----------------------------------------------------------------------------------


def array(obj: Any, dtype: Any = None, copy: bool = True, order: str | None = "K") -> ndarray:
    order = order or "K"
    if isinstance(obj, ndarray):
        dtype = obj.dtype if dtype is None else dtype
        if obj._memory.device == machine.current:
            return obj.astype(dtype, order, copy=copy)
        return launched(obj._array.astype(dtype, order), order)
    host = np.asarray(obj, dtype)
    if host.dtype.kind not in "biufc":
        raise ValueError(f"Unsupported dtype {host.dtype}")
    if order in "KA":
        order = "F" if host.flags.fnc else "C"  # no other order survives the transfer to the GPU
    counters.host_to_device += 1
    return fresh(np.array(host, order=order))


def asarray(a: Any, dtype: Any = None, order: str | None = None) -> ndarray:
    return array(a, dtype, False, order)


def ascontiguousarray(a: Any, dtype: Any = None) -> ndarray:
    return array(a, dtype, False, "C")


def poisoned(array: np.ndarray) -> ndarray:
    """New memory, filled so that reading it before writing shows."""
    kind = array.dtype.kind
    array.fill(np.nan if kind in "fc" else True if kind == "b" else np.iinfo(array.dtype).max)
    return fresh(array)


def empty(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    return poisoned(np.empty(shape, dtype, order))


def empty_like(prototype: ndarray, dtype: Any = None, order: str = "K") -> ndarray:
    arrays_only(prototype)
    return poisoned(np.empty_like(prototype._array, dtype, order))


def filled(array: ndarray, value: Any) -> ndarray:
    array.fill(value)
    return array


def zeros(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    return filled(empty(shape, dtype, order), 0)


def ones(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    return filled(empty(shape, dtype, order), 1)


def full(shape: Any, fill_value: Any, dtype: Any = None, order: str = "C") -> ndarray:
    dtype = np.asarray(fill_value).dtype if dtype is None else dtype
    return filled(empty(shape, dtype, order), fill_value)


def arange(start: int, stop: int | None = None) -> ndarray:
    return launched(np.arange(start, stop))


def zeros_like(a: ndarray, dtype: Any = None, order: str = "K") -> ndarray:
    return filled(empty_like(a, dtype, order), 0)


def ones_like(a: ndarray, dtype: Any = None, order: str = "K") -> ndarray:
    return filled(empty_like(a, dtype, order), 1)


# -- functions of arrays ------------------------------------------------------------------------


def where(condition: ndarray, x: Any = None, y: Any = None) -> ndarray:
    arrays_only(condition)
    mask = condition.astype(bool, copy=False)
    return into(None, np.where, operand(mask), operand(x), operand(y))


def clip(a: ndarray, a_min: Any, a_max: Any, out: Any = None) -> ndarray:
    arrays_only(a)
    return a.clip(a_min, a_max, out)


def concatenate(tup: Sequence[ndarray], axis: int = 0) -> ndarray:
    return launched(np.concatenate(arrays_only(*tup), axis))


def pad(array: ndarray, pad_width: Any, mode: str = "constant", **kwargs: Any) -> ndarray:
    """CuPy fills with 0 and copies. For another value it copies and then fills edge by edge."""
    if mode != "constant":
        raise NotImplementedError(f"the double lacks cupy.pad's mode {mode!r}")
    (values,) = arrays_only(array)
    order = "F" if values.flags.fnc else "C"
    padded = np.pad(values, pad_width, **kwargs)
    edges = 1 if not kwargs.get("constant_values", 0) else np.count_nonzero(pad_width)
    counters.launches += edges
    return launched(padded, order)


def moveaxis(a: ndarray, source: Any, destination: Any) -> ndarray:
    arrays_only(a)
    return view(a, np.moveaxis(a._array, source, destination))


def broadcast_to(array: ndarray, shape: Any) -> ndarray:
    arrays_only(array)
    return view(array, np.broadcast_to(array._array, shape))


def as_strided(x: ndarray, shape: Any = None, strides: Any = None) -> ndarray:
    """CuPy lets the view reach beyond the allocation; this does not."""
    found = np.lib.stride_tricks.as_strided(x._array, shape, strides)
    low, high = np.lib.array_utils.byte_bounds(found)
    memory = x._memory
    if found.size and not memory.address <= low <= high <= memory.address + memory.size:
        raise ValueError(f"as_strided: {shape} by {strides} leaves the array's memory")
    return view(x, found)


# -- products -----------------------------------------------------------------------------------


def may_share_memory(a: ndarray, b: ndarray, max_work: int | None = None) -> bool:
    return np.may_share_memory(a._array, b._array, max_work)


def matmul(a: ndarray, b: ndarray, /, *, out: ndarray | None = None) -> ndarray:
    """The product. cuBLAS reads a transposed matrix directly; any other order is copied first.

    If CuPy cannot write to `out`, it copies the product there afterwards; here that is refused.
    """
    values = arrays_only(a, b)
    for x in values:
        if not (x.flags.c_contiguous or (x.ndim == 2 and x.flags.f_contiguous)):
            counters.launches += 1
    found = np.array(np.matmul(*values), order="C", copy=None)
    counters.products += 1
    if out is None:
        return fresh(found)
    (target,) = arrays_only(out)
    if target.dtype != found.dtype or not target.flags.c_contiguous:
        raise ValueError(f"matmul: out must be C-contiguous {found.dtype}, or it costs a copy")
    if target.shape != found.shape or any(np.may_share_memory(target, x) for x in values):
        raise ValueError(f"matmul: out must have the shape {found.shape} and memory of its own")
    target[...] = found
    return out


def tensordot(a: ndarray, b: ndarray, axes: Any = 2) -> ndarray:
    found = np.tensordot(*arrays_only(a, b), axes)
    counters.products += 1
    return fresh(np.array(found, order="C", copy=None))
