"""Optimisers: from parameters and gradients to new parameters, under PyTorch's names.

`step()` uses each parameter's `.grad`; `step(grads)` uses the gradients given, so that with
`grads = minigan.grad(loss, parameters)` nothing has to be zeroed or frozen. State dicts have
PyTorch's form with one parameter group. Whatever does not fit is refused before anything changes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from . import backend
from .backend import Array
from .nn import Parameter
from .tensor import Tensor


class Optimizer:
    """The base: parameters, options by name, and per parameter a dict of state."""

    # The state of a parameter: entry -> the option that must be on for it, or None for always. "step"
    # is a Python int, the others are arrays of the parameter's shape, dtype, device and memory order.
    ENTRIES: ClassVar[dict[str, str | None]] = {}
    # What to assume for an entry that a state dict lacks.
    IMPLIED: ClassVar[dict[str, int]] = {}

    def __init__(self, params: Iterable[Tensor], **options: Any):
        self.params = _parameters(params, type(self).__name__)
        self.options = self.checked(options)
        self.state: list[dict[str, Any]] = [{} for _ in self.params]

    def checked(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options as plain Python values; ValueError if one of them makes no sense."""
        options = {name: _plain(value) for name, value in options.items()}
        for name, value in options.items():
            words, fits = OPTIONS.get(name, ("", lambda value: True))
            if not fits(value):
                raise ValueError(f"{type(self).__name__}: {name} must be {words}, is {value!r}")
        for p in self.params if "eps" in options else ():
            if options["eps"] < np.finfo(p.dtype).tiny:  # then it does not keep 0 / 0 away
                raise ValueError(
                    f"{type(self).__name__}: eps of {options['eps']} is lost in {p.dtype}; "
                    "raise it, or use .to('float32')"
                )
        return options

    def update(self, moved: list[tuple[Array, Array, dict[str, Any]]], **options: Any) -> None:
        """Change each parameter's array p in place, given its gradient g and its state.

        The state has all of `ENTRIES`; before the first update they are 0.
        """
        raise NotImplementedError

    def tree(self) -> dict[str, dict[str, Any]]:
        """The live state of each parameter by its number: {"0": {"step": 3, "exp_avg": array}, ...}.

        State that does not exist yet is created, so the form of the tree depends on the parameters and
        the options only, never on what has been stepped. Creating it early changes no result.
        """
        return {str(i): self._created(i) for i in range(len(self.params))}

    def _created(self, i: int) -> dict[str, Any]:
        """The state of parameter i; entries that are missing are created, as 0."""
        p, state = self.params[i].data, self.state[i]
        for name, on in self.ENTRIES.items():
            if name not in state and (on is None or self.options[on]):
                state[name] = 0 if name == "step" else backend.array_module(p).zeros_like(p)
        return state

    def step(self, grads: Sequence[Tensor | None] | None = None) -> None:
        """One update; a parameter whose gradient is None stays as it is."""
        if isinstance(grads, Tensor):
            raise TypeError("step: grads must be a list of gradients, is a Tensor; give [g]")
        grads = [p.grad for p in self.params] if grads is None else list(grads)
        if len(grads) != len(self.params):
            raise ValueError(f"step: {len(grads)} gradients for {len(self.params)} parameters")
        options = self.checked(self.options)  # lr may have been set since
        weight_decay = options.pop("weight_decay")
        found = zip(self.params, grads, self.state, strict=True)
        found = [(i, *each) for i, each in enumerate(found) if each[1] is not None]
        for each in found:
            _check_step(*each)
        moved = []
        for i, p, grad, _ in found:
            g = grad.data + weight_decay * p.data if weight_decay else grad.data
            moved.append((p.data, g, self._created(i)))
            p.data = p.data  # counts as a change in place: graphs that have read p are stale now
        self.update(moved, **options)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for p in self.params:
            p.grad = None

    def state_dict(self) -> dict[str, Any]:
        """{"state": {i: {name: Tensor or number}}, "param_groups": [options]}, as in PyTorch.

        A parameter that has not been stepped yet has no state there.
        """
        stepped = {i: s for i, s in enumerate(self.state) if s and s.get("step") != 0}
        wrapped = {
            i: {k: Tensor(v) if hasattr(v, "dtype") else v for k, v in state.items()}
            for i, state in stepped.items()
        }
        group = {**self.options, "params": list(range(len(self.params)))}
        return {"state": wrapped, "param_groups": [group]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over a state dict of the same optimiser, minigan's or PyTorch's.

        The numbers of the parameters may be strings, which is what JSON makes of them. Nothing is
        changed unless all of it fits.
        """
        options = _saved_options(self, state_dict)
        self.state = _saved_states(self, state_dict["state"], options)
        self.options = options


class SGD(Optimizer):
    """b <- momentum b + (1 - dampening) g;  p <- p - lr b  (nesterov: p - lr (g + momentum b)).

    The first b is g itself, as in PyTorch. With weight_decay, g is g + weight_decay p.
    """

    # The first step is told from the others by "step", which PyTorch's SGD does not keep: there, a
    # buffer exists only after a step.
    ENTRIES: ClassVar = {"step": "momentum", "momentum_buffer": "momentum"}
    IMPLIED: ClassVar = {"step": 1}

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ):
        super().__init__(
            params,
            lr=lr,
            momentum=momentum,
            dampening=dampening,
            weight_decay=weight_decay,
            nesterov=nesterov,
        )

    def checked(self, options):
        options = super().checked(options)
        if options["nesterov"] and (options["momentum"] == 0 or options["dampening"] != 0):
            raise ValueError("SGD: nesterov needs a momentum above 0 and no dampening")
        return options

    def update(self, moved, *, lr, momentum, dampening, nesterov):
        for p, g, state in moved:
            if momentum:
                b = state["momentum_buffer"]
                if state["step"] == 0:
                    b[...] = g
                else:
                    b *= momentum
                    b += (1 - dampening) * g
                state["step"] += 1
                g = g + momentum * b if nesterov else b
            p -= lr * g


class RMSprop(Optimizer):
    """v <- alpha v + (1 - alpha) g^2;  p <- p - lr g / (sqrt(v) + eps).

    centered takes v - mean(g)^2 in the place of v; momentum keeps b <- momentum b + g / (...).
    (Hinton, lecture 6e of "Neural Networks for Machine Learning".)
    """

    ENTRIES: ClassVar = {
        **dict.fromkeys(("step", "square_avg")),
        "grad_avg": "centered",
        "momentum_buffer": "momentum",
    }

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ):
        super().__init__(
            params,
            lr=lr,
            alpha=alpha,
            eps=eps,
            weight_decay=weight_decay,
            momentum=momentum,
            centered=centered,
        )

    def update(self, moved, *, lr, alpha, eps, momentum, centered):
        for p, g, state in moved:
            xp = backend.array_module(p)
            state["step"] += 1
            v = state["square_avg"]
            v *= alpha
            v += (1 - alpha) * g * g
            if centered:
                state["grad_avg"] *= alpha
                state["grad_avg"] += (1 - alpha) * g
                # The difference is known to the last digit of v; what is below it is rounding, which
                # may be negative.
                v = xp.maximum(v - state["grad_avg"] ** 2, float(np.finfo(v.dtype).eps) * v)
            move = g / (xp.sqrt(v) + eps)
            if momentum:
                state["momentum_buffer"] *= momentum
                state["momentum_buffer"] += move
                move = state["momentum_buffer"]
            p -= lr * move


class Adam(Optimizer):
    """m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;  p <- p - lr m' / (sqrt(v') + eps),

    with m' = m / (1 - b1^t) and v' = v / (1 - b2^t). (Kingma & Ba 2015, algorithm 1.)

    v holds squares. In float32, a gradient beyond 5.8e20 (at b2 = 0.999) makes it infinite, and its
    weight never moves again: clip gradients that may be so large.
    """

    ENTRIES: ClassVar = dict.fromkeys(("step", "exp_avg", "exp_avg_sq"))

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def update(self, moved, *, lr, betas, eps):
        arrays = []
        for p, g, state in moved:
            state["step"] += 1
            arrays.append((p, g, state["exp_avg"], state["exp_avg_sq"], state["step"]))
        if arrays:
            xp = backend.array_module(arrays[0][0])
            backend.kernels(xp).adam(xp, arrays, lr, betas, eps)


# -- what is refused ----------------------------------------------------------------------------


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= sys.float_info.max  # neither NaN nor True


def _is_weight(value: Any) -> bool:
    return _is_number(value) and 0 <= value < 1


NUMBER = ("a finite number from 0 on", lambda v: _is_number(v) and v >= 0)
FLAG = ("True or False", lambda v: type(v) is bool)
OPTIONS = {  # what an option must be, in words and in code
    **dict.fromkeys(("lr", "momentum", "dampening", "weight_decay"), NUMBER),
    "eps": ("a finite number above 0", lambda v: _is_number(v) and v > 0),  # or 0 / 0 is possible
    "alpha": ("a number from 0 to below 1", _is_weight),
    "betas": (
        "two numbers from 0 to below 1",
        lambda v: type(v) is tuple and len(v) == 2 and all(map(_is_weight, v)),
    ),
    **dict.fromkeys(("nesterov", "centered"), FLAG),
}
# What else PyTorch's parameter groups hold that changes no result.
HARMLESS = {"params", "param_names", "initial_lr"}
HARMLESS |= {"foreach", "fused", "capturable", "differentiable"}
SQUARES = {"square_avg", "exp_avg_sq"}  # entries that are never negative
MOST_STEPS = 2**53  # up to here a float counts exactly


def _parameters(params: Iterable[Tensor], name: str) -> list[Tensor]:
    """The parameters as a list: leaves of floating point, each of them once."""
    if isinstance(params, Tensor):  # it can be iterated over, but its rows are not leaves
        raise TypeError(
            f"{name}: params must be an iterable of tensors, is a single Tensor; give [w]"
        )
    try:
        found = list(params)
    except TypeError:
        raise TypeError(
            f"{name}: params must be an iterable of tensors, is a {type(params).__name__}; "
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
        if not p.requires_grad and not isinstance(p, Parameter):  # those may be frozen for a while
            raise ValueError(
                f"{name}: parameter {i}, of shape {p.shape}, requires no gradient; "
                "call requires_grad_() on it"
            )
        if (first := seen.setdefault(id(p.data), i)) != i:
            raise ValueError(
                f"{name}: parameter {i} has the data of parameter {first}; give each one once"
            )
    return found


def _check_step(i: int, p: Tensor, grad: Any, state: dict[str, Any]) -> None:
    """Raise an error if the gradient, or what is kept for the parameter, does not fit it."""
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
        raise ValueError(f"step: parameter {i} is read-only; make it of a copy")


def _form(array: Array) -> tuple:
    return array.shape, array.dtype, backend.device_of(array)


def _words(array: Array) -> str:
    return f"{array.dtype} {array.shape} on {backend.device_of(array)}"


def _plain(option: Any) -> Any:
    """A Python number, or a tuple of them: a stray np.float64 would widen float32 parameters."""
    if isinstance(option, (tuple, list)):
        return tuple(_plain(value) for value in option)
    return option.item() if hasattr(option, "item") and option.shape == () else option


# -- state dicts --------------------------------------------------------------------------------


def _saved_options(optimizer: Optimizer, state_dict: Any) -> dict[str, Any]:
    """The options in a state dict, whose form is checked."""
    kind, count = type(optimizer).__name__, len(optimizer.params)
    if not isinstance(state_dict, Mapping) or set(state_dict) != {"state", "param_groups"}:
        raise ValueError(f"{kind}: a state dict has the two entries state and param_groups")
    groups = state_dict["param_groups"]
    if not isinstance(groups, (list, tuple)) or [type(group) for group in groups] != [dict]:
        raise ValueError(f"{kind}: a state dict must have one parameter group; load them apart")
    (group,) = groups
    numbers = group.get("params")
    if numbers != list(range(count)):
        saved = len(numbers) if isinstance(numbers, list) else 0
        raise ValueError(
            f"{kind}: the state is of {saved} parameters, the optimiser has {count}"
            if saved != count
            else f"{kind}: the parameters of the state are not in order, but {numbers}"
        )
    if missing := [name for name in optimizer.options if name not in group]:
        raise ValueError(f"{kind}: the parameter group lacks {', '.join(missing)}")
    for name in set(group).difference(optimizer.options, HARMLESS):
        if group[name]:
            raise ValueError(f"{kind}: there is no option {name}, with which the state was made")
    return optimizer.checked({name: group[name] for name in optimizer.options})


def _saved_states(
    optimizer: Optimizer, saved: Any, options: dict[str, Any]
) -> list[dict[str, Any]]:
    """What a state dict holds for each parameter, as copies."""
    kind, count = type(optimizer).__name__, len(optimizer.params)
    if not isinstance(saved, Mapping):
        raise ValueError(f"{kind}: the state must be a dict, is a {type(saved).__name__}")
    required = {name for name, on in optimizer.ENTRIES.items() if on is None or options[on]}
    numbers = {key: i for i in range(count) for key in (i, str(i))}
    states: list[dict[str, Any]] = [{} for _ in range(count)]
    for key, entries in saved.items():
        i = numbers.get(key)
        if i is None or states[i]:
            raise ValueError(
                f"{kind}: the state's {key!r} is no number from 0 to {count - 1}, or a second one"
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
                raise ValueError(f"{where} is no entry of its state")
            states[i][name] = _saved_entry(optimizer.params[i], name, value, where)
    return states


def _saved_entry(p: Tensor, name: str, value: Any, where: str) -> int | Array:
    """One entry of the state of parameter p: the number of its steps, or a copy of an array."""
    try:
        found = np.asarray(value)
    except ValueError:  # lists of several lengths
        found = np.asarray(None)
    if found.dtype.kind not in "iuf":
        raise ValueError(f"{where} must hold real numbers")
    shape = () if name == "step" else p.shape
    if found.shape != shape:
        raise ValueError(f"{where} has shape {found.shape}, not {shape}")
    if name == "step":
        if not (0 <= found <= MOST_STEPS and found == int(found)):
            raise ValueError(f"{where} must be a whole number from 0 on, is {found.item()}")
        return int(found)
    with np.errstate(over="ignore"):
        found = found.astype(p.dtype)
    if not np.isfinite(found).all():
        raise ValueError(f"{where} holds values that are not finite in {p.dtype}")
    if name in SQUARES and (found < 0).any():
        raise ValueError(f"{where} is a mean of squares and holds negative values")
    return backend.copy_like(p.data, found)
