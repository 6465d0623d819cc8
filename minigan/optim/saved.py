"""Read an optimiser's saved state dict, minigan's or PyTorch's, strictly.

Everything is checked and copied before the optimiser uses it. `Optimizer.load_state_dict` is the only
caller. This file reads the optimiser's `params`, `options`, `ENTRIES` and `IMPLIED`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from .. import backend
from ..backend import Array
from ..tensor import Tensor

# Entries of PyTorch's parameter groups that change no result.
HARMLESS = {"params", "param_names", "initial_lr"}
HARMLESS |= {"foreach", "fused", "capturable", "differentiable"}
SQUARES = {"square_avg", "exp_avg_sq"}  # state that is never negative
MOST_STEPS = 2**53  # a float counts exactly up to here


class Optimizer(Protocol):
    """What this file needs of `optimizer.Optimizer`, whose file imports this one."""

    params: list[Tensor]
    options: dict[str, Any]
    ENTRIES: dict[str, str | None]
    IMPLIED: dict[str, int]

    def checked(self, options: Mapping[str, Any]) -> dict[str, Any]: ...


def saved_options(optimizer: Optimizer, state_dict: Any) -> dict[str, Any]:
    """The options in a state dict. Raises ValueError if the form or an option does not fit."""
    kind, count = type(optimizer).__name__, len(optimizer.params)
    if not isinstance(state_dict, Mapping) or set(state_dict) != {"state", "param_groups"}:
        raise ValueError(
            f"{kind}: expected a state dict with the two entries state and param_groups"
        )
    groups = state_dict["param_groups"]
    if not isinstance(groups, (list, tuple)) or [type(group) for group in groups] != [dict]:
        raise ValueError(f"{kind}: a state dict must have exactly one parameter group")
    (group,) = groups
    numbers = group.get("params")
    if numbers != list(range(count)):
        saved = len(numbers) if isinstance(numbers, list) else 0
        raise ValueError(
            f"{kind}: the state has {saved} parameters, the optimiser has {count}"
            if saved != count
            else f"{kind}: the parameters of the state must be in order, not {numbers}"
        )
    if missing := [name for name in optimizer.options if name not in group]:
        raise ValueError(f"{kind}: the parameter group lacks {', '.join(missing)}")
    for name in set(group).difference(optimizer.options, HARMLESS):
        if group[name]:
            raise ValueError(
                f"{kind}: the state was made with the option {name}, which is not supported"
            )
    return optimizer.checked({name: group[name] for name in optimizer.options})


def saved_states(optimizer: Optimizer, saved: Any, options: dict[str, Any]) -> list[dict[str, Any]]:
    """The state of each parameter in a state dict, as copies. Raises ValueError if it does not fit."""
    kind, count = type(optimizer).__name__, len(optimizer.params)
    if not isinstance(saved, Mapping):
        raise ValueError(f"{kind}: the state must be a dict, not a {type(saved).__name__}")
    required = {name for name, on in optimizer.ENTRIES.items() if on is None or options[on]}
    numbers = {key: i for i in range(count) for key in (i, str(i))}
    states: list[dict[str, Any]] = [{} for _ in range(count)]
    for key, entries in saved.items():
        i = numbers.get(key)
        if i is None or states[i]:
            raise ValueError(
                f"{kind}: in the state, {key!r} is not a number from 0 to {count - 1}, or occurs twice"
            )
        if not isinstance(entries, Mapping):
            raise ValueError(f"{kind}: the state of parameter {i} must be a dict")
        entries = {name: value for name, value in entries.items() if value is not None}
        entries = {**optimizer.IMPLIED, **entries} if entries else {}
        if missing := sorted(required.difference(entries)) if entries else []:
            raise ValueError(f"{kind}: the state of parameter {i} lacks {', '.join(missing)}")
        for name, value in entries.items():
            where = f"{kind}: {name} of parameter {i}"
            if name not in optimizer.ENTRIES:
                raise ValueError(f"{where} is not part of its state")
            states[i][name] = _saved_entry(optimizer.params[i], name, value, where)
    return states


def _saved_entry(p: Tensor, name: str, value: Any, where: str) -> int | Array:
    """One entry of the state of parameter p: its number of steps, or a copy of an array."""
    try:
        found = np.asarray(value)
    except ValueError:  # lists of different lengths
        found = np.asarray(None)
    if found.dtype.kind not in "iuf":
        raise ValueError(f"{where} must hold real numbers")
    shape = () if name == "step" else p.shape
    if found.shape != shape:
        raise ValueError(f"{where} has shape {found.shape}, not {shape}")
    if name == "step":
        if not (0 <= found <= MOST_STEPS and found == int(found)):
            raise ValueError(f"{where} must be a whole number of at least 0, not {found.item()}")
        return int(found)
    with np.errstate(over="ignore"):
        found = found.astype(p.dtype)
    if not np.isfinite(found).all():
        raise ValueError(f"{where} holds values that are not finite in {p.dtype}")
    if name in SQUARES and (found < 0).any():
        raise ValueError(f"{where} is a mean of squares but holds negative values")
    return backend.copy_like(p.data, found)
