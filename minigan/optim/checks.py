"""Checks of an optimiser's parameters, options and gradients."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from .. import backend
from ..backend import Array
from ..nn import Parameter
from ..tensor import Tensor


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= sys.float_info.max  # not NaN, not True


def _is_weight(value: Any) -> bool:
    return _is_number(value) and 0 <= value < 1


NUMBER = ("a finite number of at least 0", lambda v: _is_number(v) and v >= 0)
FLAG = ("True or False", lambda v: type(v) is bool)
OPTIONS = {  # what each option must be, in words and as a check
    **dict.fromkeys(("lr", "momentum", "dampening", "weight_decay"), NUMBER),
    "eps": ("a finite number above 0", lambda v: _is_number(v) and v > 0),  # because of 0 / 0
    "alpha": ("a number from 0 to below 1", _is_weight),
    "betas": (
        "two numbers from 0 to below 1",
        lambda v: type(v) is tuple and len(v) == 2 and all(map(_is_weight, v)),
    ),
    **dict.fromkeys(("nesterov", "centered"), FLAG),
}


def plain_option(option: Any) -> Any:
    """The option in Python numbers, because a stray np.float64 would widen float32 parameters."""
    if isinstance(option, (tuple, list)):
        return tuple(plain_option(value) for value in option)
    return option.item() if hasattr(option, "item") and option.shape == () else option


def checked_parameters(params: Iterable[Tensor], name: str) -> list[Tensor]:
    """The parameters as a list. Raises TypeError or ValueError unless all are distinct
    floating-point leaves.

    `name` is the optimiser's name, for the message.
    """
    if isinstance(params, Tensor):  # iterating over it would work, but its rows are not leaves
        raise TypeError(
            f"{name}: params must be an iterable of tensors, not a single Tensor; give [w]"
        )
    try:
        found = list(params)
    except TypeError:
        raise TypeError(
            f"{name}: params must be an iterable of tensors, not a {type(params).__name__}; "
            "give network.parameters()"
        ) from None
    if not found:
        raise ValueError(f"{name}: got no parameters")
    seen: dict[int, int] = {}
    for i, p in enumerate(found):
        if isinstance(p, Mapping):
            raise TypeError(
                f"{name}: parameter groups are not supported; make an optimiser for each group"
            )
        if not isinstance(p, Tensor):
            raise TypeError(
                f"{name}: parameter {i} is a {type(p).__name__}, not a Tensor; "
                "give network.parameters()"
            )
        if p.dtype.kind != "f":
            raise TypeError(f"{name}: parameter {i} is {p.dtype}; convert it to floating point")
        if not p.is_leaf:
            raise ValueError(
                f"{name}: can't optimize a non-leaf Tensor: parameter {i}, of shape {p.shape}, was "
                f"computed by {p.op.name}; give the tensor that it was computed from"
            )
        if not p.requires_grad and not isinstance(p, Parameter):  # a Parameter may be frozen
            raise ValueError(
                f"{name}: parameter {i}, of shape {p.shape}, requires no gradient; "
                "call requires_grad_() on it"
            )
        if (first := seen.setdefault(id(p.data), i)) != i:
            raise ValueError(
                f"{name}: parameter {i} shares the data of parameter {first}; give each parameter once"
            )
    return found


def check_step(i: int, p: Tensor, grad: Any, state: dict[str, Any]) -> None:
    """Raise TypeError or ValueError if the gradient or the state does not fit parameter i."""
    if not isinstance(grad, Tensor):
        raise TypeError(f"step: gradient {i} is a {type(grad).__name__}, not a Tensor")
    form = _form(p.data)
    if _form(grad.data) != form:
        raise ValueError(
            f"step: gradient {i} is {_words(grad.data)}, its parameter is {_words(p.data)}"
        )
    for name, kept in state.items():
        if name != "step" and _form(kept) != form:
            raise ValueError(
                f"step: {name} of parameter {i} is {_words(kept)}, the parameter is now "
                f"{_words(p.data)}; make the optimiser after moving the network"
            )
    if not getattr(p.data.flags, "writeable", True):
        raise ValueError(f"step: parameter {i} is read-only; make it from a copy")


def _form(array: Array) -> tuple:
    return array.shape, array.dtype, backend.device_of(array)


def _words(array: Array) -> str:
    return f"{array.dtype} {array.shape} on {backend.device_of(array)}"
