"""The base of all optimisers: the step, the live state of each parameter, and state dicts.

`step()` uses each parameter's `.grad`; `step(grads)` uses the given gradients. With
`grads = minigan.grad(loss, parameters)` nothing has to be zeroed or frozen. State dicts have PyTorch's
form, with one parameter group. Anything that does not fit is refused before anything changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from .. import backend
from ..backend import Array
from ..tensor import Tensor
from .checks import OPTIONS, check_step, checked_parameters, plain_option
from .saved import saved_options, saved_states


class Optimizer:
    """Holds a list of parameters, options by name, and a dict of state for each parameter."""

    # A parameter's state: {entry: the option that it needs, or None if it always exists}. "step" is a
    # Python int; the others are arrays of the parameter's shape, dtype, device and memory order.
    ENTRIES: ClassVar[dict[str, str | None]] = {}
    # What to assume for an entry that a state dict lacks.
    IMPLIED: ClassVar[dict[str, int]] = {}

    def __init__(self, params: Iterable[Tensor], **options: Any):
        self.params = checked_parameters(params, type(self).__name__)
        self.options = self.checked(options)
        self.state: list[dict[str, Any]] = [{} for _ in self.params]

    def checked(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options as Python values. Raises ValueError if one is invalid."""
        options = {name: plain_option(value) for name, value in options.items()}
        for name, value in options.items():
            words, fits = OPTIONS.get(name, ("", lambda value: True))
            if not fits(value):
                raise ValueError(f"{type(self).__name__}: {name} must be {words}, not {value!r}")
        for p in self.params if "eps" in options else ():
            if options["eps"] < np.finfo(p.dtype).tiny:  # too small to prevent 0 / 0
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

        State that does not exist yet is created, which changes no result. So the form of the tree
        depends only on the parameters and the options, not on which parameters have been stepped.
        """
        return {str(i): self._created(i) for i in range(len(self.params))}

    def _created(self, i: int) -> dict[str, Any]:
        """The state of parameter i; missing entries are created as 0."""
        p, state = self.params[i].data, self.state[i]
        for name, on in self.ENTRIES.items():
            if name not in state and (on is None or self.options[on]):
                state[name] = 0 if name == "step" else backend.array_module(p).zeros_like(p)
        return state

    def step(self, grads: Sequence[Tensor | None] | None = None) -> None:
        """One update. Parameters whose gradient is None do not change."""
        if isinstance(grads, Tensor):
            raise TypeError("step: grads must be a list of gradients, not a Tensor; give [g]")
        grads = [p.grad for p in self.params] if grads is None else list(grads)
        if len(grads) != len(self.params):
            raise ValueError(f"step: {len(grads)} gradients for {len(self.params)} parameters")
        options = self.checked(self.options)  # lr may have been set since
        weight_decay = options.pop("weight_decay")
        found = zip(self.params, grads, self.state, strict=True)
        found = [(i, *each) for i, each in enumerate(found) if each[1] is not None]
        for each in found:
            check_step(*each)
        moved = []
        for i, p, grad, _ in found:
            g = grad.data + weight_decay * p.data if weight_decay else grad.data
            moved.append((p.data, g, self._created(i)))
            p.data = p.data  # counts as a change in place: graphs that have read p are now stale
        self.update(moved, **options)

    def reset(self) -> None:
        """Set the state of all parameters to 0, in place, as before the first step."""
        for state in self.tree().values():
            for name, kept in state.items():
                if name == "step":
                    state[name] = 0
                else:
                    kept[...] = 0

    def zero_grad(self) -> None:
        """Set the `.grad` of all parameters to None."""
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
        """Load a state dict of the same optimiser, from minigan or PyTorch.

        The parameters' numbers may be strings, because JSON turns them into strings. Nothing changes
        unless everything fits.
        """
        options = saved_options(self, state_dict)
        self.state = saved_states(self, state_dict["state"], options)
        self.options = options
