"""The walk from outputs back to inputs, which applies the backward rules: all of backpropagation.

Here a Tensor is only a node of the graph: `op`, `inputs`, `params`, `requires_grad`, `grad`, the
versions, and arithmetic on gradients. `grad` and `backward` in `tensor.py` call it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from . import backend
from .arrays import type_name
from .backend import Array
from .recording import recording

Tensor = Any  # tensor.Tensor, which cannot be imported here because tensor.py imports this file


def topological(outputs: list[Tensor], targets: Sequence[Tensor] = ()) -> list[Tensor]:
    """All tensors that require gradients, outputs first, each before its inputs.

    The order matters: in `b = a + a; c = b * a`, the gradient of b must be complete before it is passed
    on to a, and a's own is complete only after both b and c have contributed. A depth-first search
    lists a tensor after all its inputs; the reversed list is the order. The search keeps its own stack,
    because Python's would end at about 1,000 operations.

    Raises RuntimeError if an earlier pass has released a tensor's inputs and a target may lie below it.
    If the released tensor is itself the only target, the search may end there.
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
                f"{t.op.name}: a backward pass has released the inputs of this result, of shape "
                f"{t.shape}; give that pass retain_graph=True, or compute the result again"
            )
        elif id(t) not in visited:
            visited.add(id(t))
            stack.append((t, True))
            stack += [(x, False) for x in t.inputs if getattr(x, "requires_grad", False)]
    return noted[::-1]


def gradients(
    outputs: list[Tensor],
    upstream: list[Tensor],
    targets: list[Tensor],
    order: list[Tensor],
    create_graph: bool,
    retain_graph: bool | None,
) -> list[Tensor | None]:
    """The gradient of each target, or None for one that the walk does not reach.

    upstream  the gradient of each output, of its shape
    order     the result of `topological(outputs, targets)`; emptied here
    """
    retain_graph = create_graph if retain_graph is None else retain_graph
    # Visit only tensors between the outputs and the targets. In the G step, D's weights are not
    # targets, so their gradients are never computed.
    wanted = {id(t) for t in targets}
    needed = wanted & {id(t) for t in order}
    for t in reversed(order):
        if not needed.isdisjoint(map(id, t.inputs)):
            needed.add(id(t))

    pending: dict[int, Tensor] = {}  # gradients added up so far, by tensor
    found: dict[int, Tensor] = {}

    def add(x: Tensor, g: Tensor) -> None:
        pending[id(x)] = pending[id(x)] + g if id(x) in pending else g

    with _recording_if(create_graph):
        for y, g in zip(outputs, upstream, strict=True):
            g = g if create_graph else _constant(g)
            add(y, g if g.dtype == y.dtype else g.to(y.dtype))
        order.reverse()
        while order:
            y = order.pop()  # if nothing is retained, this frees what only the graph refers to
            if id(y) not in needed or id(y) not in pending:
                continue
            g = pending.pop(id(y))  # complete, and released once it is passed on
            if id(y) in wanted:
                found[id(y)] = g
            asked = [i for i, x in enumerate(y.inputs) if id(x) in needed]
            if not asked:  # a leaf, or a target that keeps its inputs, for another pass
                continue
            for i, gx in zip(asked, _input_gradients(g, y, asked, create_graph), strict=True):
                add(y.inputs[i], _fitted(gx, y, i))
            if not retain_graph:
                y.inputs, y.params, y.seen = (), {}, None
        return _separate([found.get(id(t)) for t in targets], upstream)


def _recording_if(create_graph: bool) -> AbstractContextManager:
    """Record, even under `no_grad`, if a graph is to be created; else leave the switch as it is."""
    return recording(True) if create_graph else nullcontext()


def _input_gradients(g: Tensor, y: Tensor, asked: list[int], create_graph: bool) -> list[Tensor]:
    """The gradients of y's inputs at the positions `asked`, from the rules or the fused kernel.

    Without create_graph the rules get constants, so nothing is recorded. (Switching recording off would
    also switch it off for signal handlers.)
    """
    _check_unchanged(y)
    if y.op.fused and not create_graph:
        return y.op.fused(g, y, asked)
    if create_graph:
        return [y.op.rule(i)(g, y, *y.inputs, **y.params) for i in asked]
    constants = [_constant(x) for x in (y, *y.inputs)]
    return [_constant(y.op.rule(i)(g, *constants, **y.params)) for i in asked]


def _constant(x: Any) -> Any:
    """x detached if it is a tensor that requires a gradient, otherwise x itself."""
    return x.detach() if getattr(x, "requires_grad", False) else x


def _fitted(g: Tensor, y: Tensor, i: int) -> Tensor:
    """The gradient of y's input i in its shape and dtype: broadcasting and promotion undone."""
    x = y.inputs[i]
    if not hasattr(g, "requires_grad"):
        raise TypeError(
            f"{y.op.name}: the rule of input {i}, of shape {x.shape}, gave a {type_name(g)}; "
            "a rule returns a Tensor, the gradient of its input"
        )
    if g.shape == x.shape and g.dtype == x.dtype:
        return g
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


def _check_unchanged(y: Tensor) -> None:
    """Raise RuntimeError if an input or the output has changed since the operation ran.

    Not every rule reads all of them. But the check makes no exceptions, because nobody could remember
    them.
    """
    for i, (x, seen) in enumerate(zip((*y.inputs, y), y.seen, strict=True)):
        if getattr(x, "changes", (0,))[0] != seen:  # a number never changes
            which = "its output" if x is y else f"input {i}"
            raise RuntimeError(
                f"{y.op.name}: {which}, of shape {x.shape}, was changed in place after the operation "
                "was recorded, so the gradient would be wrong; compute the output again"
            )


def _separate(grads: list[Tensor | None], upstream: list[Tensor]) -> list[Tensor | None]:
    """The gradients, each in writable memory not shared with another or with an upstream gradient.

    Some rules return the g they got (`add`), or a view of it (`reshape`, `sum`). Most gradients are the
    only user of their memory and are not copied. A rule is linear in g, so its result is either new or
    made from g, and shares memory with no other tensor of the graph.
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
                g = g.clone()
            else:
                users.setdefault(owner, []).append(a)
        result.append(g)
    return result


# -- adding to .grad ----------------------------------------------------------------------------

# Held while `.grad` is read and replaced. A signal handler may re-enter it.
_adding = threading.RLock()


def _renew_lock() -> None:
    global _adding
    # The thread that may hold the lock does not exist in a forked process.
    _adding = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def accumulate(leaves: list[Tensor], grads: list[Tensor | None], create_graph: bool) -> None:
    """Add each gradient that is not None to the `.grad` of its leaf."""
    with _adding, _recording_if(create_graph):
        for leaf, g in zip(leaves, grads, strict=True):
            if g is not None:
                _add_to(leaf, g, create_graph)


def _add_to(leaf: Tensor, g: Tensor, create_graph: bool) -> None:
    """Set leaf.grad to leaf.grad + g, even if a signal handler adds to it at the same time.

    Handlers run on this thread, so a lock does not keep them out. But Python runs them only after calls
    and backward jumps. So one may run while the sum is computed, but none between the comparison and
    the assignment.
    """
    while True:
        before = leaf.grad
        total = g if before is None else (before if create_graph else _constant(before)) + g
        if leaf.grad is before:
            leaf.grad = total
            return
