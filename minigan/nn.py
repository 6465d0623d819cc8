"""Modules: layers and networks with parameters, under PyTorch's names.

A Module finds its parameters, buffers and submodules among its attributes, in the order in which
they were assigned; this order is that of `parameters()` and of the state dict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from . import backend, init
from . import functional as F
from .conv import Pair, pair
from .normalize import batch_norm_activated, check_constants
from .ops import is_real, is_whole
from .tensor import DEFAULT_DTYPE, Tensor

functional = F  # PyTorch's nn.functional


class Parameter(Tensor):
    """A Tensor that a Module trains, made of an array or of another Tensor's."""

    __slots__ = ()

    def __init__(self, data: backend.Array | Tensor, requires_grad: bool = True):
        super().__init__(data, requires_grad)


class Buffer(Tensor):
    """A Tensor that belongs to a Module's state and is not trained, such as a running mean.

    It has no history, so a tensor that requires a gradient is refused: the gradient would stop here
    without a word. (PyTorch's buffers keep the history, and all that it refers to.)
    """

    __slots__ = ()

    def __init__(self, data: backend.Array | Tensor):
        if isinstance(data, Tensor) and data.requires_grad:
            raise RuntimeError(
                "a Buffer hands no gradient on, and this tensor requires one; give tensor.detach()"
            )
        super().__init__(data)


def _short(value: Any) -> str:
    """A value for a message, on one line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def _zeros(*shape: int) -> np.ndarray:
    return init.memory(shape, DEFAULT_DTYPE)


def _kernel(o: int, c: int, kh: int, kw: int) -> np.ndarray:
    """Zeros (O, C, kh, kw), in memory (kh, kw, C, O): as the matrix that the kernels multiply with."""
    return _zeros(kh, kw, c, o).transpose(3, 2, 0, 1)


class Module:
    """The base of layers and networks: subclasses assign their parts and define `forward`.

    A name that has held a Parameter, a Buffer or a Module takes only such, or None, until it is
    deleted: assigning anything else would stop its training and saving without a word.
    """

    training = True
    # By name: Parameter, Buffer or Module. It is replaced and never changed, for a copy.copy of the
    # module refers to the same, and so does every module that has no parts yet.
    _kinds: Mapping[str, type] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        held = self._kinds.get(name)
        kind = next((k for k in (Parameter, Buffer, Module) if isinstance(value, k)), None)
        if held is Buffer and kind is None and isinstance(value, Tensor):
            value, kind = Buffer(value), Buffer  # as PyTorch does
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
                "would contain itself; hold it in a tuple, (module,), to refer to it only"
            )
        if kind and kind is not held:
            self._kinds = {**self._kinds, name: kind}
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        self._kinds = {k: kind for k, kind in self._kinds.items() if k != name}

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Assign a Parameter, or None in the place of one, under a name."""
        self._register(name, param, Parameter)

    def register_buffer(self, name: str, tensor: Tensor | None) -> None:
        """Assign a tensor as a Buffer, or None in the place of one, under a name."""
        self._register(name, None if tensor is None else Buffer(tensor), Buffer)

    def add_module(self, name: str, module: Module) -> None:
        """Assign a submodule under a name."""
        self._register(name, module, Module)

    def _register(self, name: str, value: Any, kind: type) -> None:
        if not isinstance(name, str) or not name or "." in name:
            raise KeyError(f"{name!r} cannot name a {kind.__name__}: use a word without dots")
        if hasattr(self, name) and name not in self._kinds:
            raise KeyError(f"{type(self).__name__} has an attribute {name} already; rename one")
        if not isinstance(value, kind) and (value is not None or kind is Module):
            raise TypeError(
                f"{type(self).__name__}.{name} is {_short(value)}, not a {kind.__name__}"
                f"{_remedy(value) if kind is Module else ''}"
            )
        setattr(self, name, value)
        self._kinds = {**self._kinds, name: kind}

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        return self.forward(*inputs, **keywords)

    def _children(self) -> Iterator[tuple[str, Module]]:
        """The direct submodules by name; one that is shared comes under each of its names."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The direct submodules with their names; one that is shared comes once."""
        return _once(self._children())

    def children(self) -> Iterator[Module]:
        """The direct submodules."""
        return (child for _, child in self.named_children())

    def named_modules(
        self, memo: set[int] | None = None, prefix: str = ""
    ) -> Iterator[tuple[str, Module]]:
        """This module, under the name "", and all below it; one that is shared comes once.

        memo and prefix are for the recursion: what has come already, and the name of this module.
        """
        memo = set() if memo is None else memo
        if id(self) not in memo:
            memo.add(id(self))
            yield prefix, self
            for name, child in self._children():
                yield from child.named_modules(memo, f"{prefix}.{name}" if prefix else name)

    def modules(self) -> Iterator[Module]:
        """This module and all below it; one that is shared comes once."""
        return (module for _, module in self.named_modules())

    def _own(self, *kinds: type) -> Iterator[tuple[str, Any]]:
        """This module's own tensors, kind by kind."""
        for kind in kinds:
            for name, value in vars(self).items():
                if isinstance(value, kind):
                    yield name, value

    def _named(self, kind: type) -> Iterator[tuple[str, Any]]:
        """The tensors of a kind here and below, each under the first of its names."""
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
        """The parameters with their names ("main.0.weight"); one that is shared comes once."""
        return self._named(Parameter)

    def parameters(self) -> Iterator[Parameter]:
        """The parameters."""
        return (p for _, p in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Buffer]]:
        """The buffers with their names ("main.1.running_mean"); one that is shared comes once."""
        return self._named(Buffer)

    def buffers(self) -> Iterator[Buffer]:
        """The buffers."""
        return (b for _, b in self.named_buffers())

    def state_dict(self) -> dict[str, Tensor]:
        """All parameters and buffers by name, in PyTorch's order; they share this module's memory.

        A module that is moved or converted by `to` leaves them behind in its old memory.
        """
        return {name: t.detach() for name, t in self._state()}

    def state_dict_numpy(self) -> dict[str, np.ndarray]:
        """The state dict as arrays for other programs: copies on the host, C-contiguous.

        This is what to give to a library that reads memory as it lies, such as safetensors:
        `safetensors.numpy.save_file(net.state_dict_numpy(), path)`. The memory of minigan's kernels
        is in another order than their dimensions, and so is what `numpy()` gives.
        """
        return {name: np.array(t.numpy(), order="C") for name, t in self.state_dict().items()}

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True
    ) -> tuple[list[str], list[str]]:
        """Write values (minigan or PyTorch tensors, or arrays) into this module's own tensors.

        Their memory stays, with its order, and whatever shares it has the new values. A missing or
        unexpected name is an error if `strict`, a wrong shape or a value that the tensor's dtype
        cannot hold always; digits that it has not are rounded, as those of integers above 2^24 in
        float32. Nothing is changed unless all fits. Returns the missing and the unexpected names.
        """
        place = type(self).__name__
        if not isinstance(state_dict, Mapping):
            raise TypeError(
                f"{place}: a state dict maps names to tensors, not {_short(state_dict)}"
            )
        own = dict(self._state())
        missing = [name for name in own if name not in state_dict]
        unexpected = [name for name in state_dict if name not in own]
        if strict and (missing or unexpected):
            raise KeyError(
                f"{place}: the state dict does not fit: missing keys {missing}, unexpected keys "
                f"{unexpected}; strict=False loads what fits"
            )
        copies = {
            name: backend.copy_like(t.data, _values(state_dict[name], t, f"{place}: {name}"))
            for name, t in own.items()
            if name in state_dict
        }
        for name, copy in copies.items():
            own[name].data[...] = copy
            own[name].data = own[name].data  # counts as a change in place
        return missing, unexpected

    def train(self, mode: bool = True) -> Module:
        """Switch to training mode (or out of it), and return the module."""
        _check_bool("mode", mode)
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """Switch to evaluation mode, and return the module."""
        return self.train(False)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for p in self.parameters():
            p.grad = None

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        """Switch the gradients of all parameters on or off, and return the module."""
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        return self

    def to(self, target: Any = None, dtype: Any = None, *, device: str | None = None) -> Module:
        """Move all floating parameters and buffers to a device, into a floating dtype, or both.

        Their gradients go with them. A counter of batches stays an integer, and on the host, where
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
        """All floating parameters and buffers as float64."""
        return self.to(np.float64)

    def float(self) -> Module:
        """All floating parameters and buffers as float32."""
        return self.to(np.float32)

    def apply(self, fn: Callable[[Module], None]) -> Module:
        """Call fn on every submodule and then on this module, as PyTorch does."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    def extra_repr(self) -> str:
        """What to print between the parentheses of the layer."""
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


def _values(value: Any, own: Tensor, place: str) -> np.ndarray:
    """What a state dict has for a tensor, as a host array of its shape and dtype."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{place} is a masked array; give hidden values a number with .filled(...)")
    convert = "convert it first: a bfloat16 or complex tensor with .float()"
    try:
        array = _array(value)
    except (TypeError, ValueError, RuntimeError) as error:  # NumPy's and PyTorch's
        raise TypeError(f"{place} does not become a NumPy array ({error}); {convert}") from None
    if array.shape != own.shape:
        raise ValueError(
            f"{place} has shape {array.shape} in the state dict, {own.shape} in the module"
        )
    if backend.repeats(own.data):
        raise ValueError(
            f"{place} takes no values: its elements share memory, or it is read-only; make it of a "
            "clone()"
        )
    if array.dtype == own.dtype:
        return array
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{place} is {array.dtype} in the state dict, not {own.dtype}; {convert}")
    with np.errstate(all="ignore"):  # what does not fit is looked for here
        cast = array.astype(own.dtype)
    fits = cast == array if own.dtype.kind != "f" else np.isfinite(cast) == np.isfinite(array)
    if not fits.all():
        raise ValueError(
            f"{place} holds {array[~fits].flat[0]} in the state dict, which {own.dtype} cannot hold"
        )
    return cast


def _array(value: Any) -> np.ndarray:
    """A host array from a minigan or PyTorch tensor (on any device), or from an array."""
    if isinstance(value, Tensor):
        return value.numpy()
    for step in ("detach", "cpu", "numpy"):  # what PyTorch asks for, and nothing else has
        value = getattr(value, step)() if hasattr(value, step) else value
    return np.asarray(value)


# -- containers ---------------------------------------------------------------------------------


def _remedy(value: Any) -> str:
    """How to make a Module of what was given for one."""
    if isinstance(value, type) and issubclass(value, Module):
        return f"; call the class: {value.__name__}()"
    if isinstance(value, (list, tuple, Iterator)):
        return "; unpack it: *modules"
    return "; give an instance of a subclass of nn.Module" + (
        ", whose forward calls it" if callable(value) else ""
    )


class _Numbered(Module):
    """Modules in a row, by default named "0", "1", ..."""

    def append(self, module: Module) -> Module:
        """Add a module at the end, and return the whole."""
        number = len(self)
        while str(number) in self._kinds:  # of a slice, or named by the user
            number += 1
        self.add_module(str(number), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Module:
        """Add modules at the end, and return the whole."""
        for module in list(modules):  # which may be those of this very module
            self.append(module)
        return self

    def __len__(self) -> int:
        return len(list(self._children()))

    def __iter__(self) -> Iterator[Module]:
        return (module for _, module in self._children())

    def __setitem__(self, i: int, module: Module) -> None:
        self.add_module([name for name, _ in self._children()][i], module)


class Sequential(_Numbered):
    """Modules one after another, named "0", "1", ... or as in an OrderedDict.

    A BatchNorm1d or BatchNorm2d with a ReLU or LeakyReLU behind it is computed with it in one pass
    over memory, and then neither's `forward` is called. Only these very classes are joined:
    subclasses, and modules whose `forward` was assigned, are called one by one.
    """

    def __init__(self, *modules: Module | Mapping[str, Module]):
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            for name, module in modules[0].items():
                self.add_module(name, module)
        else:
            self.extend(modules)

    def forward(self, input: Tensor) -> Tensor:
        modules = list(self)
        while modules:
            module = modules.pop(0)
            if (
                modules
                and _is(module, BatchNorm1d, BatchNorm2d)
                and _is(modules[0], LeakyReLU, ReLU)
            ):
                input = module.activated(input, modules.pop(0).negative_slope)
            else:
                input = module(input)
        return input

    def __getitem__(self, i: int | slice) -> Module:
        if isinstance(i, slice):
            return Sequential(dict(list(self._children())[i]))
        return list(self)[i]


def _is(module: Module, *classes: type) -> bool:
    """Whether it is of one of these very classes, and computes what the class says."""
    return type(module) in classes and "forward" not in vars(module)


class ModuleList(_Numbered):
    """Modules in a list: found, trained and saved, but called by the `forward` that holds them."""

    def __init__(self, modules: Iterable[Module] = ()):
        self.extend(modules)

    def __getitem__(self, i: int | slice) -> Module:
        found = list(self)[i]
        return ModuleList(found) if isinstance(i, slice) else found


class ModuleDict(Module):
    """Modules by name: found, trained and saved, but called by the `forward` that holds them."""

    def __init__(self, modules: Mapping[str, Module] | None = None):
        if modules is not None and not isinstance(modules, Mapping):
            raise TypeError(f"ModuleDict: expected names with Modules, not {_short(modules)}")
        for name, module in (modules or {}).items():
            self[name] = module

    def __setitem__(self, name: str, module: Module) -> None:
        self.add_module(name, module)

    def __getitem__(self, name: str) -> Module:
        return dict(self._children())[name]

    def __delitem__(self, name: str) -> None:
        delattr(self, name)

    def __contains__(self, name: str) -> bool:
        return name in dict(self._children())

    def __len__(self) -> int:
        return len(dict(self._children()))

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def keys(self) -> Iterable[str]:
        """The names."""
        return dict(self._children()).keys()

    def values(self) -> Iterable[Module]:
        """The modules."""
        return dict(self._children()).values()

    def items(self) -> Iterable[tuple[str, Module]]:
        """The names and modules."""
        return dict(self._children()).items()


class Identity(Module):
    """Its input"""

    def forward(self, input: Tensor) -> Tensor:
        return input


# -- layers -------------------------------------------------------------------------------------


def _size(layer: str, **sizes: int) -> tuple[int, ...]:
    """Sizes as plain ints of at least 1."""
    for name, value in sizes.items():
        if not is_whole(value) or value < 1:
            raise ValueError(f"{layer}: {name} must be an int >= 1, not {_short(value)}")
    return tuple(int(value) for value in sizes.values())


def _check_bool(name: str, value: bool) -> None:
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name} must be True or False, not {_short(value)}")


# PyTorch's options that minigan has not, with their only values. The layers take them because calls
# give them, and the options behind them, by position.
ONLY = {
    "dilation": (1, (1, 1)),
    "groups": (1,),
    "padding_mode": ("zeros",),
    "affine": (True,),
    "track_running_stats": (True,),
}


def _check_only(layer: str, **options: Any) -> None:
    for name, given in options.items():
        value = int(given) if is_whole(given) else given
        if not any(type(value) is type(only) and value == only for only in ONLY[name]):
            raise ValueError(
                f"{layer}: {name}={_short(given)} is not supported, only {ONLY[name][0]!r} "
                "(the arguments stand in PyTorch's order)"
            )


class Linear(Module):
    """y = x W^T + b; weight (out_features, in_features), bias (out_features,)."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True):
        inside, out = _size("Linear", in_features=in_features, out_features=out_features)
        _check_bool("Linear: bias", bias)
        self.weight = Parameter(_zeros(out, inside))
        self.register_parameter("bias", Parameter(_zeros(out)) if bias else None)
        init.default_(self.weight, self.bias)

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        out, inside = self.weight.shape
        return f"in_features={inside}, out_features={out}, bias={self.bias is not None}"


class _Conv(Module):
    """What the two convolutions share: geometry, weight, bias and how they are printed."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair,
        padding: Pair,
        bias: bool,
        transposed: bool,
    ):
        layer = type(self).__name__
        channels = _size(layer, in_channels=in_channels, out_channels=out_channels)
        _check_bool(f"{layer}: bias", bias)
        self.stride, self.padding = pair("stride", stride), pair("padding", padding)
        shape = channels if transposed else channels[::-1]
        self.weight = Parameter(_kernel(*shape, *pair("kernel_size", kernel_size)))
        self.register_parameter("bias", Parameter(_zeros(channels[1])) if bias else None)
        init.default_(self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"weight={self.weight.shape}, stride={self.stride}, padding={self.padding}, "
            f"bias={self.bias is not None}"
        )


class Conv2d(_Conv):
    """F.conv2d with a weight (out_channels, in_channels, kh, kw)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
    ):
        _check_only("Conv2d", dilation=dilation, groups=groups, padding_mode=padding_mode)
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, bias, transposed=False
        )

    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(input, self.weight, self.bias, self.stride, self.padding)


class ConvTranspose2d(_Conv):
    """F.conv_transpose2d with a weight (in_channels, out_channels, kh, kw)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        output_padding: Pair = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Pair = 1,
        padding_mode: str = "zeros",
    ):
        _check_only("ConvTranspose2d", dilation=dilation, groups=groups, padding_mode=padding_mode)
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, bias, transposed=True
        )
        self.output_padding = pair("output_padding", output_padding)

    def forward(self, input: Tensor) -> Tensor:
        return F.conv_transpose2d(
            input, self.weight, self.bias, self.stride, self.padding, self.output_padding
        )


class _BatchNorm(Module):
    """F.batch_norm with learned scale and shift, and running statistics as buffers.

    num_batches_tracked counts the batches seen in training mode, as PyTorch's does.
    """

    dims: tuple[int, ...]

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ):
        layer = type(self).__name__
        (num_features,) = _size(layer, num_features=num_features)
        check_constants(eps, momentum)
        _check_only(layer, affine=affine, track_running_stats=track_running_stats)
        self.eps, self.momentum = float(eps), float(momentum)
        self.weight = Parameter(_zeros(num_features) + 1)
        self.bias = Parameter(_zeros(num_features))
        self.running_mean = Buffer(_zeros(num_features))
        self.running_var = Buffer(_zeros(num_features) + 1)
        self.num_batches_tracked = Buffer(np.zeros((), np.int64))

    def forward(self, input: Tensor) -> Tensor:
        return self.activated(input, slope=1.0)

    def activated(self, input: Tensor, slope: float) -> Tensor:
        """The norm and a leaky ReLU behind it (slope 1: none), in one operation."""
        if isinstance(input, Tensor) and input.ndim not in self.dims:
            raise ValueError(
                f"{type(self).__name__}: {self.dims} dimensions expected, not {input.shape}"
            )
        y = batch_norm_activated(
            input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training,
            self.momentum,
            self.eps,
            slope,
        )
        if self.training:  # only now: a batch that was refused does not count
            self.num_batches_tracked.data += 1
        return y

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, eps={self.eps}, momentum={self.momentum}"


class BatchNorm1d(_BatchNorm):
    """Batch norm of (N, C) or (N, C, L)."""

    dims = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Batch norm of (N, C, H, W)."""

    dims = (4,)


class LeakyReLU(Module):
    """x where x > 0, else negative_slope * x

    inplace is PyTorch's; here the input keeps its values either way, and the results are the same.
    """

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False):
        layer = type(self).__name__
        if not is_real(negative_slope) or negative_slope < 0:
            raise ValueError(
                f"{layer}: negative_slope must be a number, at least 0, not {_short(negative_slope)}"
            )
        _check_bool(f"{layer}: inplace", inplace)
        self.negative_slope = float(negative_slope)

    def forward(self, input: Tensor) -> Tensor:
        return F.leaky_relu(input, self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"


class ReLU(LeakyReLU):
    """max(x, 0); of inplace see LeakyReLU"""

    def __init__(self, inplace: bool = False):
        super().__init__(0.0, inplace)

    def extra_repr(self) -> str:
        return ""


class Tanh(Module):
    """The hyperbolic tangent"""

    def forward(self, input: Tensor) -> Tensor:
        return F.tanh(input)


class Sigmoid(Module):
    """1 / (1 + e^-x)"""

    def forward(self, input: Tensor) -> Tensor:
        return F.sigmoid(input)


class Flatten(Module):
    """The dimensions from start_dim to end_dim as one"""

    def __init__(self, start_dim: int = 1, end_dim: int = -1):
        for name, dim in (("start_dim", start_dim), ("end_dim", end_dim)):
            if not is_whole(dim):
                raise ValueError(f"Flatten: {name} must be an int, not {_short(dim)}")
        self.start_dim, self.end_dim = int(start_dim), int(end_dim)

    def forward(self, input: Tensor) -> Tensor:
        return F.flatten(input, self.start_dim, self.end_dim)


# -- losses -------------------------------------------------------------------------------------


class BCELoss(Module):
    """F.binary_cross_entropy of probabilities"""

    def __init__(self, *, reduction: str = "mean"):
        self.reduction = reduction

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy(input, target, self.reduction)


class BCEWithLogitsLoss(BCELoss):
    """F.binary_cross_entropy_with_logits"""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(input, target, self.reduction)
