"""Tensors that remember how they were made, and the operations that make them.

A Tensor holds an array and, if an operation made it, that operation, its inputs and its parameters.
So the Tensor is the node of the graph. An operation is a function on arrays, with one backward rule per
input written next to it (see `ops.py`). `grad` and `backward` walk from an output to its inputs and
apply the rules (see `walk.py`). That is all there is to automatic differentiation.

    >>> import minigan
    >>> x = minigan.tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    tensor([2., 4., 6.])

A tensor refers to its inputs, never to its results. So a graph has no cycles, and reference counting
frees it the moment its last output is dropped. (One exception, as in PyTorch: after
`backward(create_graph=True)` a leaf's `.grad` refers to the leaf. `grad` leaves no such cycle.)
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import backend
from .arrays import (
    DEFAULT_DTYPE,
    DTYPES,
    as_array,
    check_differentiable,
    checked_flag,
    converted,
    plain,
    type_name,
)
from .backend import Array
from .operands import REFUSALS, aligned, alike, is_number, misfit
from .recording import no_grad, thread
from .values import Values
from .walk import accumulate, gradients, topological

__all__ = ["OPERATIONS", "Tensor", "grad", "no_grad", "op", "operand", "raw", "tensor"]


class Tensor(Values):
    """An array and, if an operation made it, how.

    data           the raw array, NumPy or CuPy. Assigning it (`p.data = a`, `p.data -= a`) counts as
                   a change in place.
    requires_grad  whether gradients flow to it: set by the user on floating-point leaves, inherited by
                   floating-point results
    grad           the gradient that `backward` has added up so far: a Tensor, or None
    op, inputs, params
                   the operation that made it, its operands (Tensors or Python numbers) and its
                   keyword parameters; None, () and {} for a leaf
    version        how often `data` has been assigned, here or in a tensor that the engine made to
                   share its memory: a view, `detach()`, or a Tensor made of another Tensor
    seen           the versions of the inputs, and its own, when the operation ran; None after a
                   backward pass has used the tensor and released its inputs

    Some changes are not detected, and make gradients of earlier results wrong: writing through the
    array (`p.data[0] = a`, `p.numpy()[0] = a`), or into a NumPy array from which a Tensor was made. The
    same applies to two Tensors made from one array, or from arrays that overlap. `tensor(a)` copies and
    is safe.
    """

    __slots__ = ("_data", "_requires_grad", "changes", "grad", "inputs", "op", "params", "seen")

    def __init__(self, data: Array | Tensor, requires_grad: bool = False):
        self.changes = [0]  # shared with views
        if isinstance(data, Tensor):
            self.changes, data = data.changes, data._data
        if type(data) is not np.ndarray or data.dtype not in DTYPES:
            data = plain(data)
        if requires_grad is not False:
            requires_grad = checked_flag(requires_grad, data)
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
        if isinstance(array, Tensor):  # copied, because it has a version of its own
            array = array.data.copy(order="K")
        array = plain(array)
        if self.requires_grad:
            check_differentiable(array)
        self._data = array
        self.changes[0] += 1

    @property
    def requires_grad(self) -> bool:
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, requires_grad: bool) -> None:
        self.requires_grad_(requires_grad)

    version = property(lambda self: self.changes[0])
    is_leaf = property(lambda self: self.op is None)

    def detach(self) -> Tensor:
        """The same array, without its history: gradients stop here."""
        return Tensor(self)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Switch gradients on or off for this leaf, and return it."""
        requires_grad = checked_flag(requires_grad, self._data)
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
        retain_graph  keep the graph for another backward pass. By default it is kept only with
                      create_graph; otherwise each tensor is released once its gradient is passed on
        create_graph  record the computation of the gradients, so that they can be differentiated
        """
        upstream = _upstream([self], [gradient])
        order = topological([self])
        leaves = [t for t in order if t.is_leaf]
        for leaf in leaves:
            if leaf.grad is not None and np.shape(leaf.grad) != leaf.shape:
                raise ValueError(
                    f"backward: a leaf of shape {leaf.shape} has a .grad of shape "
                    f"{np.shape(leaf.grad)}; set it to None or to a gradient of the leaf's shape"
                )
        found = gradients([self], upstream, leaves, order, create_graph, retain_graph)
        accumulate(leaves, found, create_graph)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if self.op is not None:
            raise RuntimeError(
                f"deepcopy: this tensor of shape {self.shape} is a result of {self.op.name}, and only "
                "leaves can be copied; copy its detach()"
            )
        if id(self._data) not in memo:
            # Keeps the memory order that the kernels chose; CuPy's own deepcopy gives C order.
            memo[id(self._data)] = self._data.copy(order="K")
        make, arguments, state = self.__reduce_ex__(4)[:3]
        copied = memo[id(self)] = make(*arguments)
        attributes, slots = copy.deepcopy(state, memo)  # the attributes of a subclass
        for name, value in {**(attributes or {}), **slots}.items():
            object.__setattr__(copied, name, value)
        return copied

    __hash__ = object.__hash__  # by identity, because `==` compares elements

    def _repr_end(self) -> str:
        return ", requires_grad=True" if self.requires_grad else ""


def tensor(
    data: Any, requires_grad: bool = False, dtype: Any = None, device: str | None = None
) -> Tensor:
    """A new leaf with a copy of `data`: numbers, nested lists, an array, a Tensor (or PyTorch's).

    Arrays keep their dtype; Python floats become float32, as in PyTorch. An integer `dtype` cuts off
    the fractions of floats. Raises ValueError for values outside its range.
    """
    if isinstance(data, Tensor):
        data = data.data
    array = data if backend.is_array(data) else as_array(data)
    array = array.copy(order="K") if dtype is None else converted("tensor", plain(array), dtype)
    return Tensor(backend.move(array, device) if device else array, requires_grad)


def raw(x: Any) -> Any:
    """The array of a Tensor; arrays and numbers as they are."""
    return x.data if isinstance(x, Tensor) else x


# -- operations ---------------------------------------------------------------------------------

OPERATIONS: dict[str, Callable] = {}  # every operation by name; the tests walk this dict


def op(
    *rules: Callable,
    every: Callable | None = None,
    elementwise: bool = False,
    view: bool = False,
    arithmetic: bool = False,
    fused: Callable | None = None,
) -> Callable[[Callable], Callable[..., Tensor]]:
    """Turn a function on arrays into an operation, given one backward rule per input.

        @op(lambda g, y, a, b: g * b,
            lambda g, y, a, b: g * a, elementwise=True)
        def mul(xp, a, b):
            return a * b

    The forward gets the array module and raw arrays (or Python numbers), and changes none of them.
    A rule gets Tensors, rule(g, y, *inputs, **params): the upstream gradient, the output, the inputs
    and the parameters. It returns the gradient of its input. Because rules are written in operations,
    `create_graph` records them too, and every operation can be differentiated any number of times. So
    a rule may use `.data` only for something piecewise constant, such as a ReLU's mask.

    elementwise  inputs broadcast against each other and mixed dtypes are promoted; the walk undoes
                 both. All other rules must return exactly their input's shape.
    every        one rule for all inputs, of which there may be any number; its first argument is the
                 input's position
    arithmetic   the rules are made of + - * / ** alone. So where nothing is recorded, they are applied
                 to raw arrays, without the cost of operations.
    view         the result may share the first input's memory; if it does, they share one version
    fused        a kernel that computes what the rules compute, on raw arrays and all at once. It gets
                 the array module and the positions of the inputs whose gradients are needed, then what
                 a rule gets, and returns a list. It is used when nothing is recorded; the tests compare
                 it with the rules.
    """

    def decorate(forward: Callable) -> Callable[..., Tensor]:
        name = forward.__name__.strip("_")

        @functools.wraps(forward)
        def operation(*inputs: Any, **params: Any) -> Tensor:
            inputs = tuple([x if isinstance(x, Tensor) else operand(x, name) for x in inputs])
            arrays = [x._data if isinstance(x, Tensor) else x for x in inputs]
            first = alike(arrays)  # None: the operands have to be aligned, or refused
            if first is None:
                arrays = aligned(arrays, name, elementwise)
                first = next(a for a in arrays if not is_number(a))
            xp = backend.array_module(first)
            half = elementwise and first.dtype.char == "e"
            if half:  # computed in float32 and rounded once: 70,000 is infinite in float16
                arrays = [a if is_number(a) else a.astype(np.float32) for a in arrays]
            try:
                y = forward(xp, *arrays, **params)
            except REFUSALS as error:
                raise misfit(name, arrays, params, error) from None
            if half:
                y = y.astype(np.float16)
            elif elementwise and y.dtype.char == "d" != first.dtype.char:
                y = y.astype(DEFAULT_DTYPE)  # NumPy turns integers into float64
            result = Tensor(y)
            if view and backend.owner(y) is backend.owner(first):
                result.changes = inputs[0].changes
            requires = [isinstance(x, Tensor) and x._requires_grad for x in inputs]
            # Integers are constant almost everywhere, so they have no history.
            if thread.recording and True in requires and y.dtype.kind == "f":
                result._requires_grad = True
                result.op, result.inputs, result.params = operation, inputs, params
                result.seen = tuple([getattr(x, "changes", (0,))[0] for x in (*inputs, result)])
            return result

        def rule(i: int) -> Callable:
            if every:
                return functools.partial(every, i)
            if i >= len(rules) or not callable(rules[i]):
                raise TypeError(f"{name}: input {i} has no backward rule; give @op one per input")
            return rules[i]

        def all_at_once(g: Tensor, y: Tensor, asked: list[int]) -> list[Tensor]:
            arrays = [g.data, y.data, *map(raw, y.inputs)]
            if arithmetic:
                found = [operation.rule(i)(*arrays, **y.params) for i in asked]
            else:
                found = fused(backend.array_module(y.data), asked, *arrays, **y.params)
            return [Tensor(a) for a in found]

        operation.name = name
        operation.elementwise = elementwise
        operation.rule = rule
        operation.fused = all_at_once if fused or arithmetic else None
        OPERATIONS[name] = operation
        return operation

    return decorate


def operand(x: Any, name: str) -> Tensor | bool | int | float:
    """x as an operand of the operation `name`: a Tensor or a Python number.

    NumPy's scalars become Python numbers: a stray np.float64 would widen a float32 network.
    """
    if isinstance(x, Tensor):
        return x
    if isinstance(x, np.generic):
        x = x.item()
    if is_number(x):
        return x
    if isinstance(x, np.ndarray) or backend.is_array(x):
        return Tensor(x)
    raise TypeError(f"{name}: an operand is a {type_name(x)}, not a tensor, array or number")


# -- gradients ----------------------------------------------------------------------------------


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

    grad_outputs  upstream gradients, one per output; may be left out for outputs of one element
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
    order = topological(outputs, inputs)
    found = gradients(outputs, upstream, inputs, order, create_graph, retain_graph)
    for i, (x, g) in enumerate(zip(inputs, found, strict=True)):
        if g is None and not allow_unused:
            raise RuntimeError(
                f"grad: input {i}, of shape {x.shape}, was not used in computing the outputs; "
                "pass allow_unused=True to get None for it"
            )
    return tuple(found)


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
                f"the upstream gradient is on {g.device}, the output on {y.device}; move them "
                "to one device with .to(device)"
            )
        if g.shape != y.shape:
            raise ValueError(f"upstream gradient has shape {g.shape}, the output {y.shape}")
        result.append(g)
    return result
