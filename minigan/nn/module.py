"""Module: the base of layers and networks, which finds, saves, loads and moves their parameters.

A Module finds its parameters, buffers and submodules among its attributes, in the order in which
they were assigned; this order is that of `parameters()` and of the state dict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from .. import backend
from .. import functional as F
from ..tensor import Tensor
from .checks import check_bool, shown
from .loading import values_for


class Parameter(Tensor):
    """A Tensor that a Module trains, made from an array or from another Tensor's array."""

    __slots__ = ()

    def __init__(self, data: backend.Array | Tensor, requires_grad: bool = True):
        super().__init__(data, requires_grad)


class Buffer(Tensor):
    """A Tensor that belongs to a Module's state and is not trained, such as a running mean.

    It has no history. So a tensor that requires a gradient is refused, because the gradient would
    silently stop here. (PyTorch's buffers keep the history and everything it refers to.)

    averaged  whether an average of the network averages it, like a running mean, or copies its newest
              value, like an integer or a vector of length 1; see gans/player.py
    """

    __slots__ = ("averaged",)

    def __init__(self, data: backend.Array | Tensor, averaged: bool = True):
        if isinstance(data, Tensor) and data.requires_grad:
            raise RuntimeError(
                "a Buffer stops gradients, but this tensor requires one; give tensor.detach()"
            )
        super().__init__(data)
        self.averaged = averaged and self.dtype.kind == "f"


class Module:
    """The base of layers and networks: subclasses assign their parts and define `forward`.

    A name that has held a Parameter, a Buffer or a Module accepts only these, or None, until it is
    deleted. Anything else assigned to it would silently be neither trained nor saved.
    """

    training = True
    # What each name holds: Parameter, Buffer or Module. Replaced, never changed in place: a
    # copy.copy of the module shares it, and all modules without parts share the one below.
    _kinds: Mapping[str, type] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        held = self._kinds.get(name)
        kind = next((k for k in (Parameter, Buffer, Module) if isinstance(value, k)), None)
        if held is Buffer and kind is None and isinstance(value, Tensor):
            value, kind = Buffer(value), Buffer  # as in PyTorch
        if held and value is not None and kind in (None, Buffer) and kind is not held:
            is_tensor = isinstance(vars(self)[name], Tensor)
            values = f", or an array to {name}.data" if is_tensor else ""
            raise TypeError(
                f"cannot assign a {type(value).__name__} to {type(self).__name__}.{name}, which is "
                f"a {held.__name__}; assign a {held.__name__} or None{values}"
            )
        if kind is Module and any(module is self for module in value.modules()):
            raise ValueError(
                f"cannot assign {type(value).__name__} to {type(self).__name__}.{name}: the module "
                "would contain itself; to only refer to it, keep it in a tuple, (module,)"
            )
        if kind and kind is not held:
            self._kinds = {**self._kinds, name: kind}
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        self._kinds = {k: kind for k, kind in self._kinds.items() if k != name}

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Assign a Parameter under a name, or None instead of one."""
        self._register(name, param, Parameter)

    def register_buffer(self, name: str, tensor: Tensor | None) -> None:
        """Assign a tensor as a Buffer under a name, or None instead of one."""
        self._register(name, None if tensor is None else Buffer(tensor), Buffer)

    def add_module(self, name: str, module: Module) -> None:
        """Assign a submodule under a name."""
        self._register(name, module, Module)

    def _register(self, name: str, value: Any, kind: type) -> None:
        if not isinstance(name, str) or not name or "." in name:
            raise KeyError(f"{name!r} cannot name a {kind.__name__}: use a word without dots")
        if hasattr(self, name) and name not in self._kinds:
            raise KeyError(f"{type(self).__name__} already has an attribute {name}; rename one")
        if not isinstance(value, kind) and (value is not None or kind is Module):
            raise TypeError(
                f"{type(self).__name__}.{name} is {shown(value)}, not a {kind.__name__}"
                f"{_remedy(value) if kind is Module else ''}"
            )
        setattr(self, name, value)
        self._kinds = {**self._kinds, name: kind}

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        return self.forward(*inputs, **keywords)

    def _children(self) -> Iterator[tuple[str, Module]]:
        """The direct submodules by name; a shared one is listed under each of its names."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The direct submodules with their names; a shared one is listed once."""
        return _once(self._children())

    def children(self) -> Iterator[Module]:
        """The direct submodules."""
        return (child for _, child in self.named_children())

    def named_modules(
        self, memo: set[int] | None = None, prefix: str = ""
    ) -> Iterator[tuple[str, Module]]:
        """This module, under the name "", and all below it; a shared one is listed once.

        memo and prefix serve the recursion: the modules seen so far, and this module's name.
        """
        memo = set() if memo is None else memo
        if id(self) not in memo:
            memo.add(id(self))
            yield prefix, self
            for name, child in self._children():
                yield from child.named_modules(memo, f"{prefix}.{name}" if prefix else name)

    def modules(self) -> Iterator[Module]:
        """This module and all below it; a shared one is listed once."""
        return (module for _, module in self.named_modules())

    def _own(self, *kinds: type) -> Iterator[tuple[str, Any]]:
        """This module's own tensors, class by class."""
        for kind in kinds:
            for name, value in vars(self).items():
                if isinstance(value, kind):
                    yield name, value

    def _named(self, kind: type) -> Iterator[tuple[str, Any]]:
        """The tensors of a class here and below, each under the first of its names."""
        return _once(
            (f"{path}.{name}" if path else name, value)
            for path, module in self.named_modules()
            for name, value in module._own(kind)
        )

    def _state(self, prefix: str = "") -> Iterator[tuple[str, Any]]:
        """Parameters and buffers here and below, under every name."""
        for name, value in self._own(Parameter, Buffer):
            yield prefix + name, value
        for name, child in self._children():
            yield from child._state(f"{prefix}{name}.")

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """The parameters with their names ("main.0.weight"); a shared one is listed once."""
        return self._named(Parameter)

    def parameters(self) -> Iterator[Parameter]:
        """The parameters."""
        return (p for _, p in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Buffer]]:
        """The buffers with their names ("main.1.running_mean"); a shared one is listed once."""
        return self._named(Buffer)

    def buffers(self) -> Iterator[Buffer]:
        """The buffers."""
        return (b for _, b in self.named_buffers())

    def state_dict(self) -> dict[str, Tensor]:
        """All parameters and buffers by name, in PyTorch's order; they share this module's memory.

        After the module is moved or converted with `to`, they still refer to the old memory.
        """
        return {name: t.detach() for name, t in self._state()}

    def state_dict_numpy(self) -> dict[str, np.ndarray]:
        """The state dict as arrays for other programs: copies on the host, C-contiguous.

        Some libraries, such as safetensors, ignore an array's memory order. Use this for them:
        `safetensors.numpy.save_file(net.state_dict_numpy(), path)`. The weights of convolutions, and
        the arrays that their `numpy()` returns, are not in C order in memory.
        """
        return {name: np.array(t.numpy(), order="C") for name, t in self.state_dict().items()}

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True
    ) -> tuple[list[str], list[str]]:
        """Write values (minigan or PyTorch tensors, or arrays) into this module's own tensors.

        The tensors keep their memory and its order, so everything that shares it sees the new values.
        If `strict`, a missing or unexpected name raises KeyError. A wrong shape, or a value that the
        tensor's dtype cannot hold, always raises ValueError. Digits that the dtype cannot hold are
        rounded, such as those of integers above 2^24 in float32. Nothing changes unless everything
        fits. Returns the missing and the unexpected names.
        """
        place = type(self).__name__
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"{place}: a state dict maps names to tensors, not {shown(state_dict)}")
        own = dict(self._state())
        missing = [name for name in own if name not in state_dict]
        unexpected = [name for name in state_dict if name not in own]
        if strict and (missing or unexpected):
            raise KeyError(
                f"{place}: the state dict does not match: missing keys {missing}, unexpected keys "
                f"{unexpected}; strict=False loads the keys that match"
            )
        copies = {
            name: backend.copy_like(t.data, values_for(t, state_dict[name], f"{place}: {name}"))
            for name, t in own.items()
            if name in state_dict
        }
        for name, copy in copies.items():
            own[name].data[...] = copy
            own[name].data = own[name].data  # counts as a change in place
        return missing, unexpected

    def train(self, mode: bool = True) -> Module:
        """Switch training mode on or off, and return the module."""
        check_bool("mode", mode)
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """Switch to evaluation mode, and return the module."""
        return self.train(False)

    def zero_grad(self) -> None:
        """Set the `.grad` of all parameters to None."""
        for p in self.parameters():
            p.grad = None

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        """Switch the gradients of all parameters on or off, and return the module."""
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        return self

    def to(self, target: Any = None, dtype: Any = None, *, device: str | None = None) -> Module:
        """Move all floating parameters and buffers to a device, into a floating dtype, or both.

        Their gradients move with them. The counter of batches stays an integer on the host, where
        adding 1 launches no kernel.
        """
        for name, tensor in self._named(Tensor):
            held = [t for t in (tensor, tensor.grad) if t is not None and t.dtype.kind == "f"]
            for t in held:
                moved = F.to(t.detach(), target, dtype, device=device).data
                if moved.dtype.kind != "f":
                    raise TypeError(
                        f"{type(self).__name__}: {name} cannot be trained as {moved.dtype}; "
                        "move it to a device or to a floating dtype"
                    )
                if moved is not t.data:
                    t.data = moved
        return self

    def cuda(self, device: str | int = "cuda") -> Module:
        """Move to a GPU, given by its number or name."""
        return self.to(device if isinstance(device, str) else f"cuda:{device}")

    def cpu(self) -> Module:
        """Move to the host."""
        return self.to("cpu")

    def double(self) -> Module:
        """Convert all floating parameters and buffers to float64."""
        return self.to(np.float64)

    def float(self) -> Module:
        """Convert all floating parameters and buffers to float32."""
        return self.to(np.float32)

    def apply(self, fn: Callable[[Module], None]) -> Module:
        """Call fn on every submodule and then on this module, as PyTorch does."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    def extra_repr(self) -> str:
        """What to print inside the layer's parentheses."""
        return ""

    def __repr__(self) -> str:
        lines = [f"  ({n}): " + repr(c).replace("\n", "\n  ") for n, c in self._children()]
        body = "\n" + "\n".join(lines) + "\n" if lines else self.extra_repr()
        return f"{type(self).__name__}({body})"


def _once(named: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Each object under the first of its names."""
    seen: set[int] = set()
    for name, value in named:
        if id(value) not in seen:
            seen.add(id(value))
            yield name, value


def _remedy(value: Any) -> str:
    """How to turn the value, given where a Module belongs, into a Module."""
    if isinstance(value, type) and issubclass(value, Module):
        return f"; call the class: {value.__name__}()"
    if isinstance(value, (list, tuple, Iterator)):
        return "; unpack it: *modules"
    return "; give an instance of a subclass of nn.Module" + (
        ", whose forward calls it" if callable(value) else ""
    )
