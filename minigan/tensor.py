"""Tensors that remember how they were made, and the walk that differentiates them.

A Tensor holds an array and, if an operation made it, that operation, its inputs and its parameters:
the Tensor is the node of the graph. An operation is a function on arrays with one backward rule per
input, written down beside it (see `ops.py`). `grad` and `backward` walk from an output to its inputs
and apply the rules, which is all that automatic differentiation is.

    >>> import minigan
    >>> x = minigan.tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    tensor([2., 4., 6.])

Nothing here points from a tensor to what was made of it, so a graph has no cycles and is freed, by
reference counting, the moment its last output is dropped. (One exception, as in PyTorch: after
`backward(create_graph=True)` a leaf's `.grad` remembers the leaf. `grad` leaves no such cycle.)
"""

from __future__ import annotations

import copy
import functools
import inspect
import operator
import os
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import numpy as np

from . import backend
from .backend import Array
from .backend.threads import ThreadsError

DEFAULT_DTYPE = np.dtype(np.float32)  # of Python floats, as in PyTorch
DTYPES = frozenset(map(np.dtype, "?bBhHiIlLqQefd"))  # bool, integers, float16, 32, 64; native bytes
WIDTH = {"b": 0, "u": 1, "i": 1, "f": 2}  # by kind of dtype: values of a wider one would be cut


class Tensor:
    """An array and, if an operation made it, how.

    data           the raw array, NumPy or CuPy. Assigning it (`p.data = a`, `p.data -= a`) counts as
                   a change in place.
    requires_grad  whether gradients flow to it: set by the user on floating-point leaves, inherited by
                   floating-point results
    grad           what `backward` has added up here so far: a Tensor, or None
    op, inputs, params
                   the operation that made it, its operands (Tensors or Python numbers) and its
                   keyword parameters; None, () and {} for a leaf
    version        how often `data` has been assigned, here or in a tensor that shares the memory by
                   the engine's doing: a view, `detach()`, or a Tensor made of another Tensor
    seen           the versions of the inputs, and of itself, when the operation was done; None after
                   a backward pass has used the tensor, and released its inputs

    A change of the array itself goes unnoticed, and gradients of what was computed before are wrong
    after it: writing through it (`p.data[0] = a`, `p.numpy()[0] = a`), or into a NumPy array that a
    Tensor was made of, or that two Tensors were made of, or overlapping ranges of it. `tensor(a)`
    copies and is safe.
    """

    __slots__ = ("_data", "_requires_grad", "changes", "grad", "inputs", "op", "params", "seen")
    __array_ufunc__ = None  # in `array * tensor`, NumPy leaves the choice to the Tensor's operator

    def __init__(self, data: Array | Tensor, requires_grad: bool = False):
        self.changes = [0]  # shared with views
        if isinstance(data, Tensor):
            self.changes, data = data.changes, data._data
        if type(data) is not np.ndarray or data.dtype not in DTYPES:
            data = _plain(data)
        if requires_grad is not False:
            requires_grad = _checked_flag(requires_grad, data)
        self._data = data
        self._requires_grad = requires_grad
        self.grad: Tensor | None = None
        self.op: Callable | None = None
        self.inputs: tuple = ()
        self.params: dict[str, Any] = {}
        self.seen: tuple[int, ...] | None = ()

    @property
    def data(self) -> Array:
        return self._data

    @data.setter
    def data(self, array: Array | Tensor) -> None:
        if isinstance(array, Tensor):  # copied, as it has a version of its own
            array = array.data.copy(order="K")
        array = _plain(array)
        if self.requires_grad:
            _check_differentiable(array)
        self._data = array
        self.changes[0] += 1

    @property
    def requires_grad(self) -> bool:
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, requires_grad: bool) -> None:
        self.requires_grad_(requires_grad)

    version = property(lambda self: self.changes[0])
    shape = property(lambda self: self._data.shape)
    dtype = property(lambda self: self._data.dtype)
    ndim = property(lambda self: self._data.ndim)
    device = property(lambda self: backend.Device(backend.device_of(self._data)))
    is_leaf = property(lambda self: self.op is None)

    def numel(self) -> int:
        """The number of elements."""
        return self._data.size

    def item(self) -> float | int | bool:
        """The value of a tensor of one element, as a Python number."""
        if self._data.size != 1:
            raise ValueError(f"a tensor of shape {self.shape} is not one number; use .tolist()")
        return self._data.item()

    def dim(self) -> int:
        """The number of dimensions."""
        return self._data.ndim

    def tolist(self) -> Any:
        """The values as nested lists of Python numbers; of a 0-dimensional tensor, the number."""
        return self._data.tolist()

    def numpy(self) -> np.ndarray:
        """The values as a NumPy array; it shares memory with a tensor on the CPU."""
        return backend.move(self._data, "cpu")

    def detach(self) -> Tensor:
        """The same array, without its history: gradients stop here."""
        return Tensor(self)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Switch gradients on or off for this leaf, and return it."""
        requires_grad = _checked_flag(requires_grad, self._data)
        if self.op is not None and not requires_grad:
            raise RuntimeError("only a leaf's requires_grad can be changed; use detach()")
        self._requires_grad = requires_grad
        return self

    def backward(
        self,
        gradient: Tensor | None = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
    ) -> None:
        """Add d(self)/d(leaf) to the `.grad` of every leaf that requires it.

        Each `.grad` has memory of its own, so it may be changed in place. Threads and signal handlers
        may add to one leaf at the same time.

        gradient      the upstream gradient: a Tensor, array or number of this tensor's shape; may be
                      left out for one element
        retain_graph  keep the graph for another backward pass; by default only with create_graph,
                      else each tensor is released as soon as its gradient has been handed on
        create_graph  record the computation of the gradients, so that they can be differentiated
        """
        upstream = _upstream([self], [gradient])
        order = _topological([self])
        leaves = [t for t in order if t.is_leaf]
        for leaf in leaves:
            if leaf.grad is not None and np.shape(leaf.grad) != leaf.shape:
                raise ValueError(
                    f"backward: a leaf of shape {leaf.shape} has a .grad of shape "
                    f"{np.shape(leaf.grad)}; set it to None or to a gradient of the leaf's shape"
                )
        grads = _gradients([self], upstream, leaves, order, create_graph, retain_graph)
        with _adding, _recording(create_graph or _state.recording):
            for leaf, g in zip(leaves, grads, strict=True):
                if g is not None:
                    _add_to(leaf, g, create_graph)

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("a 0-dimensional tensor has no length; use numel()")
        return len(self._data)

    def __iter__(self) -> Iterator[Tensor]:
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
                f"the format {spec!r} is of a number; this tensor has shape {self.shape}"
            )
        return format(self.item(), spec) if spec else str(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if self.op is not None:
            raise RuntimeError(
                f"deepcopy: this tensor of shape {self.shape} is a result of {self.op.name}, and only "
                "leaves can be copied, without a graph; copy its detach()"
            )
        if id(self._data) not in memo:
            # In its order in memory, as kernels like it; CuPy's own deepcopy gives C order.
            memo[id(self._data)] = self._data.copy(order="K")
        make, arguments, state = self.__reduce_ex__(4)[:3]
        copied = memo[id(self)] = make(*arguments)
        attributes, slots = copy.deepcopy(state, memo)  # the attributes of a subclass
        for name, value in {**(attributes or {}), **slots}.items():
            object.__setattr__(copied, name, value)
        return copied

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def _write(self, name: str, value: Any, index: Any = ...) -> Tensor:
        """Change values in place, and count it: graphs that have read them are refused from now on."""
        value = operand(value, name)
        array = value.data if isinstance(value, Tensor) else value
        if _state.recording and (self.requires_grad or getattr(value, "requires_grad", False)):
            raise RuntimeError(
                f"{name}: what requires a gradient cannot be changed in place, or written into another "
                "tensor, while operations are recorded; do it inside `with no_grad():`, or make a new "
                "tensor, as `a = a + b` does"
            )
        if backend.repeats(self._data):
            raise RuntimeError(
                f"{name}: elements of this tensor share memory, or it is read-only; clone() it first"
            )
        if isinstance(value, Tensor) and value.device != self.device:
            raise RuntimeError(
                f"{name}: {value.device} values for a tensor on {self.device}; use .to()"
            )
        kind = (value if isinstance(value, Tensor) else np.asarray(value)).dtype.kind
        if WIDTH.get(kind, 1) > WIDTH[self.dtype.kind]:
            raise TypeError(
                f"{name}: {self.dtype} cannot hold such values; convert with .to(dtype)"
            )
        try:
            self._data[index] = array
        except ValueError as error:
            raise ValueError(
                f"{name}: values of shape {np.shape(array)} do not fit the place of shape "
                f"{self._data[index].shape}"
            ) from error
        except REFUSALS as error:
            raise misfit(name, [self._data, array], {}, error) from None
        self.changes[0] += 1
        return self

    __hash__ = object.__hash__  # `==` compares elements, so a tensor is itself only by identity

    def __repr__(self) -> str:
        text = np.array2string(self.numpy(), separator=", ", prefix="tensor(")
        dtype = "" if self.dtype in (DEFAULT_DTYPE, np.int64, bool) else f", dtype={self.dtype}"
        grad = ", requires_grad=True" if self.requires_grad else ""
        return f"tensor({text}{dtype}{grad})"


def _plain(array: Array) -> Array:
    """The array if the engine computes with it as with any other, else a TypeError.

    NumPy's arithmetic on 0-dimensional arrays gives scalars, which become arrays again; memory-mapped
    arrays are taken as the arrays they are, and foreign byte order is converted, that is copied.
    """
    if isinstance(array, (np.generic, np.memmap)):
        array = np.asarray(array)
    if not backend.is_array(array):
        remedy = "minigan.tensor(...) makes a tensor of arrays, numbers and lists"
        raise TypeError(f"a Tensor holds a NumPy or CuPy array, not {_kind(array)}; {remedy}")
    if array.dtype not in DTYPES:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype not in DTYPES:
        raise TypeError(
            "a Tensor holds bool, integers, float16, float32 or float64, not "
            f"{array.dtype}; convert the array with .astype(...)"
        )
    return array


def _kind(x: Any) -> str:
    """What to call the type of x in a message: `list`, `numpy.matrix`."""
    kind = type(x)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


def _check_differentiable(array: Array) -> None:
    if array.dtype.kind != "f":
        raise TypeError(f"only floating-point tensors have gradients, this one is {array.dtype}")


def _checked_flag(requires_grad: Any, array: Array) -> bool:
    """requires_grad as the bool that it must be; True is for floating-point arrays."""
    if not isinstance(requires_grad, (bool, np.bool_)):
        value = " ".join(repr(requires_grad).split())[:60]
        raise TypeError(
            f"requires_grad must be True or False, not {value}; tensor(data, dtype=...) chooses a dtype"
        )
    if requires_grad:
        _check_differentiable(array)
    return bool(requires_grad)


def tensor(
    data: Any, requires_grad: bool = False, dtype: Any = None, device: str | None = None
) -> Tensor:
    """A new leaf with a copy of `data`: numbers, nested lists, an array, a Tensor (or PyTorch's).

    Arrays keep their dtype; Python floats become float32, as in PyTorch. Where a dtype is named,
    it must hold the values; an integer is what remains of a float without its fraction.
    """
    if isinstance(data, Tensor):
        data = data.data
    array = data if backend.is_array(data) else _converted(data)
    array = array.copy(order="K") if dtype is None else held("tensor", _plain(array), dtype)
    return Tensor(backend.move(array, device) if device else array, requires_grad)


def held(name: str, array: Array, dtype: Any) -> Array:
    """A copy of the array in a dtype that holds its values: integers would wrap around."""
    dtype = np.dtype(dtype)
    if dtype.kind in "iu" and array.dtype != dtype and array.dtype.kind in "iuf" and array.size:
        limits = np.iinfo(dtype)
        low, high = array.min().item(), array.max().item()
        # Python compares them exactly, and NaN with nothing; -0.5 becomes 0, in a uint8 too.
        if not (limits.min - 1 < low and high < limits.max + 1):
            raise ValueError(
                f"{name}: {dtype} holds integers from {limits.min} to {limits.max}, and the values "
                f"go from {low} to {high}; name another dtype"
            )
    return array.astype(dtype)


def _converted(data: Any) -> np.ndarray:
    """What is no plain array as one: numbers, nested lists, PyTorch's tensors, a np.matrix."""
    if all(hasattr(data, name) for name in ("detach", "cpu", "numpy")):
        try:
            return data.detach().cpu().numpy()
        except TypeError as error:
            raise TypeError(f"tensor: NumPy has no {data.dtype}; call .float() first") from error
    if isinstance(data, np.ma.MaskedArray):
        raise TypeError(
            "tensor: the array is masked; give hidden values a number with .filled(...)"
        )
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise ValueError("tensor: the nested lists differ in length or depth") from error
    if array.dtype.newbyteorder("=") not in DTYPES:
        raise TypeError(
            "tensor: expected numbers, nested lists of numbers, an array or a Tensor, not "
            f"{_kind(data)} ({array.dtype})"
        )
    widened = array.dtype == np.float64 and not hasattr(data, "dtype")
    return array.astype(DEFAULT_DTYPE) if widened else array


# -- recording ----------------------------------------------------------------------------------


class _State(threading.local):
    """Each thread has its own, so that drawing samples cannot stop a training."""

    recording = True
    before: tuple | None = None  # (recording, before) as the last block found them


_state = _State()
_adding = threading.RLock()  # held while `.grad` is read and replaced; a signal handler may reenter


def _renew_lock() -> None:
    global _adding
    # The thread that held it did not come along into the forked process.
    _adding = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


class _recording:
    """Switches recording on or off on this thread, until the block is left.

    If a signal handler raises before the first instruction of `__exit__`, the generator switches back
    when it is closed, which is when this object dies.
    """

    blocks: tuple | None = None  # entered and not left: (the last, those before)

    def __init__(self, on: bool):
        self.on = on

    def __enter__(self) -> None:
        switched = [False]
        block = _switches_back(switched)
        next(block)
        self.blocks = block, self.blocks
        switched[0] = True  # no call follows, for a handler may raise after any
        _state.before, _state.recording = (_state.recording, _state.before), self.on

    def __exit__(self, *error: Any) -> None:
        block, self.blocks = self.blocks
        next(block, None)


def _switches_back(switched: list[bool]) -> Iterator[None]:
    """What was before belongs to the thread, not to the block: blocks in generators may be left in any
    order, and the last one leaves recording as the first one found it."""
    try:
        yield
    finally:
        if switched[0]:  # nothing is before in a generator's block that another thread has entered
            _state.recording, _state.before = _state.before or (True, None)


class no_grad(_recording):
    """Operations inside `with no_grad():`, or in a function under `@no_grad()`, are not recorded.

    A generator under `@no_grad()` runs unrecorded from each yield to the next, and whoever iterates
    over it records as before. Only functions and methods can be put under it: what calling another
    object runs, and when, is not to be seen.

    This holds for all that the thread does inside, in a signal handler too. If a handler raises
    (Ctrl-C) just as the block is left, recording may stay off as long as something refers to the
    `no_grad()` object: the exception's traceback, or a variable.
    """

    def __new__(cls, function: Callable | None = None) -> Any:
        self = super().__new__(cls)
        return self if function is None else self(function)  # `@no_grad` will do

    def __init__(self, function: None = None):
        super().__init__(False)

    def __call__(self, function: Callable) -> Callable:
        if not (inspect.isfunction(function) or inspect.ismethod(function)):
            raise TypeError(
                f"no_grad: expected a function or a method, not a {_kind(function)}; put `with "
                "no_grad():` around its calls"
            )
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"no_grad: {function.__name__} is asynchronous, and other tasks run while it waits; "
                "put `with no_grad():` around its operations"
            )
        if inspect.isgeneratorfunction(function):
            return functools.wraps(function)(lambda *a, **k: _unrecorded(function(*a, **k)))

        @functools.wraps(function)
        def unrecorded(*args: Any, **kwargs: Any) -> Any:
            with no_grad():
                return function(*args, **kwargs)

        return unrecorded


def _unrecorded(generator: Generator) -> Generator:
    """The same generator, run without recording; what is sent or thrown into it is handed on."""
    step, value = generator.send, None
    while True:
        try:
            with no_grad():
                result = step(value)
        except StopIteration as end:
            return end.value
        try:
            step, value = generator.send, (yield result)
        except BaseException as error:  # GeneratorExit too: close() closes the inner one
            step, value = generator.throw, error


# -- operations ---------------------------------------------------------------------------------

OPERATIONS: dict[str, Callable] = {}  # every operation by name; the tests walk this list


def op(
    *rules: Callable,
    every: Callable | None = None,
    elementwise: bool = False,
    view: bool = False,
    fused: Callable | None = None,
) -> Callable[[Callable], Callable[..., Tensor]]:
    """Make an operation of a function on arrays, given one backward rule per input.

        @op(lambda g, y, a, b: g * b,
            lambda g, y, a, b: g * a, elementwise=True)
        def mul(xp, a, b):
            return a * b

    The forward gets the array module and raw arrays (or Python numbers), and changes none of them.
    A rule gets Tensors, rule(g, y, *inputs, **params): the upstream gradient, the output, the inputs
    and the parameters; it returns the gradient of its input. Because rules are written in
    operations, they are themselves recorded under `create_graph`, and every operation can be
    differentiated as often as one likes. For this to be true a rule may touch `.data` only for
    something piecewise constant, such as a ReLU's mask.

    elementwise  inputs broadcast against each other and mixed dtypes are promoted; the walk undoes
                 both. All other rules must return exactly their input's shape.
    every        for any number of inputs: one rule for all, with the input's position as first
                 argument
    view         the result may share the first input's memory; if it does, it shares its version
    fused        a kernel that does what the rules do, on raw arrays and in one go: it gets the array
                 module and the positions asked for, then what a rule gets, and returns a list. It
                 is used where nothing is recorded, and the tests hold it equal to the rules.
    """

    def decorate(forward: Callable) -> Callable[..., Tensor]:
        name = forward.__name__.strip("_")

        @functools.wraps(forward)
        def operation(*inputs: Any, **params: Any) -> Tensor:
            inputs = tuple(operand(x, name) for x in inputs)
            arrays = _arrays(inputs, name, elementwise)
            first = next(a for a in arrays if not _is_number(a))
            xp = backend.array_module(first)
            half = elementwise and first.dtype == np.float16
            if half:  # computed in float32 and rounded once: 70,000 is infinite in float16
                arrays = [a if _is_number(a) else a.astype(np.float32) for a in arrays]
            try:
                y = forward(xp, *arrays, **params)
            except REFUSALS as error:
                raise misfit(name, arrays, params, error) from None
            if half:
                y = y.astype(np.float16)
            elif elementwise and y.dtype == np.float64 != first.dtype:
                y = y.astype(DEFAULT_DTYPE)  # of integers NumPy makes float64
            result = Tensor(y)
            if view and backend.owner(y) is backend.owner(first):
                result.changes = inputs[0].changes
            tensors = [x for x in inputs if isinstance(x, Tensor)]
            # Integers are constant almost everywhere.
            if _state.recording and any(x.requires_grad for x in tensors) and y.dtype.kind == "f":
                result._requires_grad = True
                result.op, result.inputs, result.params = operation, inputs, params
                result.seen = tuple(getattr(x, "version", 0) for x in (*inputs, result))
            return result

        def rule(i: int) -> Callable:
            if every:
                return functools.partial(every, i)
            if i >= len(rules) or not callable(rules[i]):
                raise TypeError(f"{name}: input {i} has no backward rule; give @op one per input")
            return rules[i]

        operation.name = name
        operation.elementwise = elementwise
        operation.fused = fused
        operation.rule = rule
        OPERATIONS[name] = operation
        return operation

    return decorate


REFUSALS = (IndexError, OverflowError, TypeError, ValueError)  # an array module's, of operands


def misfit(name: str, arrays: Sequence[Any], params: dict[str, Any], error: Exception) -> Exception:
    """What an array module said of operands that do not fit, in words that name the operation.

    The error itself if it is not about operands.
    """
    if isinstance(error, ThreadsError):
        return error
    dtypes = " and ".join(str(a.dtype) for a in arrays if hasattr(a, "dtype"))
    if isinstance(error, OverflowError):
        return OverflowError(
            f"{name}: {dtypes} cannot hold a number it was given; use .to(dtype) first"
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


def _is_number(x: Any) -> bool:
    return isinstance(x, (bool, int, float))


def operand(x: Any, name: str) -> Tensor | bool | int | float:
    """A Tensor or a plain Python number: a stray np.float64 would widen a float32 network."""
    if isinstance(x, Tensor):
        return x
    if isinstance(x, np.generic):
        x = x.item()
    if _is_number(x):
        return x
    if isinstance(x, np.ndarray) or backend.is_array(x):
        return Tensor(x)
    raise TypeError(f"{name}: an operand is a {_kind(x)}, not a tensor, array or number")


def _arrays(inputs: tuple, name: str, elementwise: bool) -> list:
    """The operands as the forward sees them: one device, and one dtype among the arrays."""
    arrays = [x.data if isinstance(x, Tensor) else x for x in inputs]
    own = [a for a in arrays if not _is_number(a)]
    if not own:
        raise TypeError(f"{name}: none of the operands is a tensor")
    if len({backend.device_of(a) for a in own}) > 1:
        places = ", ".join(backend.device_of(a) for a in own)
        raise RuntimeError(
            f"{name}: operands are on {places}; bring them together with .to(device)"
        )
    if len({a.dtype for a in own}) == 1 and own[0].dtype.kind == "f":
        return arrays
    if not elementwise and len({a.dtype for a in own}) > 1:
        dtypes = ", ".join(str(a.dtype) for a in own)
        raise TypeError(f"{name}: operands have dtypes {dtypes}; make them one with .to(dtype)")
    dtype = _promoted(arrays, own)
    if dtype == np.float64 and all(a.dtype.kind != "f" for a in own):  # NumPy's way out
        raise TypeError(f"{name}: no integers hold those of uint64 and signed ones; use .to(dtype)")
    return [a if _is_number(a) else a.astype(dtype, copy=False) for a in arrays]


def _promoted(arrays: list, own: list) -> np.dtype:
    """PyTorch's promotion: floats over integers, these over bools, and among those of one kind arrays
    over 0-dimensional ones and numbers."""
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


# -- the walk -----------------------------------------------------------------------------------


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradients of (the sum of) `outputs` with respect to each of `inputs`; no `.grad` changes.

    Each result has memory of its own: changing one in place changes no other tensor.

    grad_outputs  upstream gradients, one per output; ones where left out for a single element
    retain_graph  keep the graph for another pass; see Tensor.backward
    create_graph  record the computation, so that the gradients can be differentiated in turn
    allow_unused  give None for an input that no output depends on, instead of an error
    """
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    if grad_outputs is None:
        grad_outputs = [None] * len(outputs)
    elif not isinstance(grad_outputs, (list, tuple)):
        grad_outputs = [grad_outputs]
    upstream = _upstream(outputs, grad_outputs)
    order = _topological(outputs, inputs)
    grads = _gradients(outputs, upstream, inputs, order, create_graph, retain_graph)
    for i, (x, g) in enumerate(zip(inputs, grads, strict=True)):
        if g is None and not allow_unused:
            raise RuntimeError(
                f"grad: input {i}, of shape {x.shape}, was not used in computing the outputs; "
                "pass allow_unused=True to get None for it"
            )
    return tuple(grads)


def _upstream(outputs: list[Tensor], gradients: Sequence[Any]) -> list[Tensor]:
    """The upstream gradient of each output, checked; ones for a single element."""
    if len(outputs) != len(gradients):
        raise ValueError(f"grad: {len(outputs)} outputs but {len(gradients)} upstream gradients")
    result = []
    for y, g in zip(outputs, gradients, strict=True):
        if not y.requires_grad:
            raise RuntimeError("the output does not depend on any tensor with requires_grad=True")
        if g is None:
            if y.numel() != 1:
                raise RuntimeError(f"an output of shape {y.shape} needs an upstream gradient")
            g = Tensor(backend.array_module(y.data).ones_like(y.data))
        elif not isinstance(g, Tensor):
            g = tensor(g, dtype=y.dtype, device=y.device)
            g = g.reshape(y.shape) if g.numel() == y.numel() == 1 else g  # backward(2.0)
        elif g.device != y.device:
            raise RuntimeError(
                f"the upstream gradient is on {g.device}, the output on {y.device}; bring them "
                "together with .to(device)"
            )
        if g.shape != y.shape:
            raise ValueError(f"upstream gradient has shape {g.shape}, the output {y.shape}")
        result.append(g)
    return result


def _topological(outputs: list[Tensor], targets: Sequence[Tensor] = ()) -> list[Tensor]:
    """All tensors that require gradients, outputs first, each before its inputs.

    Why an order is needed: in `b = a + a; c = b * a`, the gradient of b must be complete before it
    is handed on to a, and a's own is complete only after both b and c have contributed. A depth
    first search notes a tensor once all its inputs are noted; reversed, that is the order. It
    keeps its own stack: Python's would end at about 1,000 operations.

    A target may lie below a tensor whose inputs have been released, so such a tensor is refused. If
    it is the only target itself, the search may end there.
    """
    noted: list[Tensor] = []
    visited: set[int] = set()
    stack = [(t, False) for t in outputs]
    while stack:
        t, inputs_are_noted = stack.pop()
        if inputs_are_noted:
            noted.append(t)
        elif t.seen is None and any(target is not t for target in targets or [None]):
            raise RuntimeError(
                f"{t.op.name}: a backward pass has released what this result, of shape {t.shape}, was "
                "made of; give that pass retain_graph=True, or compute the result anew"
            )
        elif id(t) not in visited:
            visited.add(id(t))
            stack.append((t, True))
            stack.extend((x, False) for x in t.inputs if getattr(x, "requires_grad", False))
    return noted[::-1]


def _gradients(
    outputs: list[Tensor],
    upstream: list[Tensor],
    targets: list[Tensor],
    order: list[Tensor],
    create_graph: bool,
    retain_graph: bool | None,
) -> list[Tensor | None]:
    """The gradients of the targets; None for one that is not reached. Uses up `order`."""
    retain_graph = create_graph if retain_graph is None else retain_graph
    # Only what lies between the outputs and the targets is visited: in the G step D's weights are
    # no targets, so their gradients are never asked for.
    wanted = {id(t) for t in targets}
    needed = wanted & {id(t) for t in order}
    for t in reversed(order):
        if any(id(x) in needed for x in t.inputs):
            needed.add(id(t))

    pending: dict[int, Tensor] = {}  # gradients added up so far, by tensor
    found: dict[int, Tensor] = {}

    def add(x: Tensor, g: Tensor) -> None:
        pending[id(x)] = pending[id(x)] + g if id(x) in pending else g

    with _recording(create_graph or _state.recording):
        for y, g in zip(outputs, upstream, strict=True):
            g = g if create_graph else _constant(g)
            add(y, g if g.dtype == y.dtype else g.to(y.dtype))
        order.reverse()
        while order:
            y = order.pop()  # and with it, where nothing is retained, what only the graph refers to
            if id(y) not in needed or id(y) not in pending:
                continue
            g = pending.pop(id(y))  # complete, and released once handed on
            if id(y) in wanted:
                found[id(y)] = g
            asked = [i for i, x in enumerate(y.inputs) if id(x) in needed]
            for i, gx in zip(asked, _input_gradients(g, y, asked, create_graph), strict=True):
                add(y.inputs[i], _fitted(gx, y, i))
            if asked and not retain_graph:  # a target's own history may be wanted by another pass
                y.inputs, y.params, y.seen = (), {}, None
        return _separate([found.get(id(t)) for t in targets], upstream)


def _separate(grads: list[Tensor | None], upstream: list[Tensor]) -> list[Tensor | None]:
    """The gradients, each in writable memory that is neither another's nor an upstream gradient's.

    Rules hand on what they got (`add`), or a view of it (`reshape`, `sum`); most gradients are the
    only user of their memory and stay as they are. A rule is linear in g, so what it gives is made of
    g or new: it shares memory with no other tensor of the graph.
    """
    users: dict[int, list[Array]] = {}  # the arrays in a piece of memory, by its owner
    for g in upstream:
        users.setdefault(id(backend.owner(g.data)), []).append(g.data)
    result = []
    for g in grads:
        if g is not None:
            a, owner = g.data, id(backend.owner(g.data))
            shares = backend.array_module(a).may_share_memory
            if backend.repeats(a) or any(shares(a, other) for other in users.get(owner, ())):
                g = g.clone()  # and with it, memory that has no other user
            else:
                users.setdefault(owner, []).append(a)
        result.append(g)
    return result


def _input_gradients(g: Tensor, y: Tensor, asked: list[int], create_graph: bool) -> list[Tensor]:
    """The gradients of those of y's inputs that are asked for, by their rules or the fused kernel.

    Where no graph is created, rules get constants, of which nothing is recorded. (To switch recording
    off meanwhile would switch it off for a signal handler as well.)
    """
    if asked:
        _check_unchanged(y)
    if asked and y.op.fused and not create_graph:
        xp = backend.array_module(y.data)
        arrays = [x.data if isinstance(x, Tensor) else x for x in y.inputs]
        found = y.op.fused(xp, asked, g.data, y.data, *arrays, **y.params)
        return [Tensor(a) for a in found]
    if create_graph:
        return [y.op.rule(i)(g, y, *y.inputs, **y.params) for i in asked]
    constants = [_constant(x) for x in (y, *y.inputs)] if asked else []
    return [_constant(y.op.rule(i)(g, *constants, **y.params)) for i in asked]


def _constant(x: Any) -> Any:
    """A tensor that requires a gradient, detached; anything else as it is."""
    return Tensor(x) if getattr(x, "requires_grad", False) else x


def _add_to(leaf: Tensor, g: Tensor, create_graph: bool) -> None:
    """leaf.grad + g as the new leaf.grad, also if a signal handler adds to it meanwhile.

    Handlers run on this thread, so no lock keeps them out. But Python runs them only after calls and
    jumps back: one may come while the sum is computed, and none between comparison and assignment.
    """
    while True:
        before = leaf.grad
        total = g if before is None else (before if create_graph else _constant(before)) + g
        if leaf.grad is before:
            leaf.grad = total
            return


def _check_unchanged(y: Tensor) -> None:
    """Rules read inputs and output, so none may have changed. (Not every rule reads all of them; one
    that does not is refused too, for a rule of such exceptions would be harder to remember.)"""
    for i, (x, seen) in enumerate(zip((*y.inputs, y), y.seen, strict=True)):
        if getattr(x, "version", 0) != seen:
            which = "its output" if x is y else f"input {i}"
            raise RuntimeError(
                f"{y.op.name}: {which}, of shape {x.shape}, was changed in place after the operation "
                "was recorded, so the gradient would be wrong; compute the output anew"
            )


def _fitted(g: Tensor, y: Tensor, i: int) -> Tensor:
    """The gradient of y's input i in its shape and dtype: broadcasting and promotion undone."""
    x = y.inputs[i]
    if not isinstance(g, Tensor):
        raise TypeError(
            f"{y.op.name}: the rule of input {i}, of shape {x.shape}, gave a {_kind(g)}; "
            "a rule returns a Tensor, the gradient of its input"
        )
    if y.op.elementwise:
        extra = g.ndim - x.ndim
        stretched = [i + extra for i, n in enumerate(x.shape) if n == 1 and g.shape[i + extra] != 1]
        if extra or stretched:
            g = g.sum([*range(extra), *stretched], keepdim=True).reshape(x.shape)
        if g.dtype != x.dtype:
            g = g.to(x.dtype)
    if g.shape != x.shape or g.dtype != x.dtype:
        raise AssertionError(
            f"{y.op.name}: a rule gave a gradient {g.shape} {g.dtype} "
            f"for an input {x.shape} {x.dtype}"
        )
    return g
