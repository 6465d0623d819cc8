"""Modules: layers and networks with parameters, under PyTorch's names.

A Module finds its parameters, buffers and submodules among its attributes, in the order in which
they were assigned; this order is that of `parameters()` and of the state dict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from . import backend, init
from . import functional as F
from .conv import Pair, pair
from .normalize import batch_norm_activated
from .tensor import DEFAULT_DTYPE, Tensor


class Parameter(Tensor):
    """A Tensor that a Module trains, made of an array or of another Tensor's."""

    __slots__ = ()

    def __init__(self, data: backend.Array | Tensor):
        super().__init__(data, requires_grad=True)


class Buffer(Tensor):
    """A Tensor that belongs to a Module's state and is not trained, such as a running mean."""

    __slots__ = ()

    def __init__(self, data: backend.Array | Tensor):
        super().__init__(data)


def _zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, DEFAULT_DTYPE)


def _kernel(o: int, c: int, kh: int, kw: int) -> np.ndarray:
    """Zeros (O, C, kh, kw), in memory (kh, kw, C, O): as the matrix that the kernels multiply with."""
    return _zeros(kh, kw, c, o).transpose(3, 2, 0, 1)


class Module:
    """The base of layers and networks: subclasses assign their parts and define `forward`."""

    training = True

    def forward(self, *inputs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def __call__(self, *inputs: Any) -> Any:
        return self.forward(*inputs)

    def children(self) -> Iterator[tuple[str, Module]]:
        """The direct submodules by name."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value

    def modules(self) -> Iterator[Module]:
        """This module and all below it."""
        yield self
        for _, child in self.children():
            yield from child.modules()

    def _named(self, *kinds: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
        """This module's own tensors, kind by kind, then those of its children."""
        for kind in kinds:
            for name, value in vars(self).items():
                if isinstance(value, kind):
                    yield prefix + name, value
        for name, child in self.children():
            yield from child._named(*kinds, prefix=f"{prefix}{name}.")

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """The parameters with their names ("main.0.weight"); one that is shared comes once."""
        seen: set[int] = set()
        for name, p in self._named(Parameter):
            if id(p) not in seen:
                seen.add(id(p))
                yield name, p

    def parameters(self) -> Iterator[Parameter]:
        """The parameters."""
        return (p for _, p in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Buffer]]:
        """The buffers with their names ("main.1.running_mean")."""
        return self._named(Buffer)

    def buffers(self) -> Iterator[Buffer]:
        """The buffers."""
        return (b for _, b in self.named_buffers())

    def state_dict(self) -> dict[str, Tensor]:
        """All parameters and buffers by name, in PyTorch's order; they share this module's memory."""
        return {name: t.detach() for name, t in self._named(Parameter, Buffer)}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> None:
        """Copy values (minigan or PyTorch tensors, or arrays) into this module's own tensors.

        A missing or unexpected name is an error if `strict`, a wrong shape always. Nothing is
        changed unless all fits.
        """
        own = dict(self._named(Parameter, Buffer))
        missing = [name for name in own if name not in state_dict]
        unexpected = [name for name in state_dict if name not in own]
        if strict and (missing or unexpected):
            raise KeyError(
                f"{type(self).__name__}: the state dict lacks {missing} and has {unexpected} "
                "that the module has not; strict=False loads what fits"
            )
        values = {name: _array(state_dict[name]) for name in own if name in state_dict}
        for name, value in values.items():
            if value.shape != own[name].shape:
                raise ValueError(
                    f"{type(self).__name__}: {name} has shape {value.shape} in the state dict, "
                    f"{own[name].shape} in the module"
                )
        for name, value in values.items():
            t = own[name]
            t.data = backend.copy_like(t.data, value)

    def train(self, mode: bool = True) -> Module:
        """Switch to training mode (or out of it), and return the module."""
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

    def to(self, target: Any) -> Module:
        """Move all floating parameters and buffers to a device or dtype.

        A counter of batches stays an integer, and on the host, where adding 1 launches no kernel.
        """
        for _, t in self._named(Tensor):
            if t.dtype.kind == "f":
                t.data, t.grad = F.to(t.detach(), target).data, None
        return self

    def double(self) -> Module:
        """All floating parameters and buffers as float64."""
        return self.to(np.float64)

    def float(self) -> Module:
        """All floating parameters and buffers as float32."""
        return self.to(np.float32)

    def apply(self, fn: Callable[[Module], None]) -> Module:
        """Call fn on every submodule and then on this module, as PyTorch does."""
        for _, child in self.children():
            child.apply(fn)
        fn(self)
        return self

    def extra_repr(self) -> str:
        """What to print between the parentheses of the layer."""
        return ""

    def __repr__(self) -> str:
        lines = [f"  ({n}): " + repr(c).replace("\n", "\n  ") for n, c in self.children()]
        body = "\n" + "\n".join(lines) + "\n" if lines else self.extra_repr()
        return f"{type(self).__name__}({body})"


def _array(value: Any) -> np.ndarray:
    """A host array from a minigan or PyTorch tensor (on any device), or from an array."""
    if isinstance(value, Tensor):
        return value.numpy()
    for step in ("detach", "cpu", "numpy"):  # what PyTorch asks for, and nothing else has
        value = getattr(value, step)() if hasattr(value, step) else value
    return np.asarray(value)


class Sequential(Module):
    """Modules one after another, named "0", "1", ..."""

    def __init__(self, *modules: Module):
        for i, module in enumerate(modules):
            setattr(self, str(i), module)

    def forward(self, x: Tensor) -> Tensor:
        modules = list(self)
        while modules:
            module = modules.pop(0)
            if isinstance(module, _BatchNorm) and modules and isinstance(modules[0], LeakyReLU):
                x = module.activated(x, modules.pop(0).negative_slope)  # one pass over memory
            else:
                x = module(x)
        return x

    def __len__(self) -> int:
        return len(list(self.children()))

    def __iter__(self) -> Iterator[Module]:
        return (module for _, module in self.children())

    def __getitem__(self, i: int | slice) -> Module:
        found = list(self)[i]
        return Sequential(*found) if isinstance(i, slice) else found


class Linear(Module):
    """y = x W^T + b; weight (out_features, in_features), bias (out_features,)."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True):
        self.weight = Parameter(_zeros(out_features, in_features))
        self.bias = Parameter(_zeros(out_features)) if bias else None
        init.default_(self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        out, inside = self.weight.shape
        return f"in_features={inside}, out_features={out}, bias={self.bias is not None}"


class _Conv(Module):
    """What the two convolutions share: geometry, weight, bias and how they are printed."""

    def __init__(
        self,
        shape: tuple[int, int],
        channels: int,
        kernel: Pair,
        stride: Pair,
        pad: Pair,
        bias: bool,
    ):
        self.stride, self.padding = pair("stride", stride), pair("padding", pad)
        self.weight = Parameter(_kernel(*shape, *pair("kernel_size", kernel)))
        self.bias = Parameter(_zeros(channels)) if bias else None
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
        bias: bool = True,
    ):
        shape = (out_channels, in_channels)
        super().__init__(shape, out_channels, kernel_size, stride, padding, bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding)


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
        bias: bool = True,
    ):
        shape = (in_channels, out_channels)
        super().__init__(shape, out_channels, kernel_size, stride, padding, bias)
        self.output_padding = pair("output_padding", output_padding)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(
            x, self.weight, self.bias, self.stride, self.padding, self.output_padding
        )


class _BatchNorm(Module):
    """F.batch_norm with learned scale and shift, and running statistics as buffers.

    num_batches_tracked counts the batches seen in training mode, as PyTorch's does.
    """

    dims: tuple[int, ...]

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1):
        self.eps, self.momentum = eps, momentum
        self.weight = Parameter(_zeros(num_features) + 1)
        self.bias = Parameter(_zeros(num_features))
        self.running_mean = Buffer(_zeros(num_features))
        self.running_var = Buffer(_zeros(num_features) + 1)
        self.num_batches_tracked = Buffer(np.zeros((), np.int64))

    def forward(self, x: Tensor) -> Tensor:
        return self.activated(x, slope=1.0)

    def activated(self, x: Tensor, slope: float) -> Tensor:
        """The norm and a leaky ReLU behind it (slope 1: none), in one operation."""
        if x.ndim not in self.dims:
            raise ValueError(
                f"{type(self).__name__}: {self.dims} dimensions expected, not {x.shape}"
            )
        if self.training:
            self.num_batches_tracked.data += 1
        return batch_norm_activated(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training,
            self.momentum,
            self.eps,
            slope,
        )

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, eps={self.eps}, momentum={self.momentum}"


class BatchNorm1d(_BatchNorm):
    """Batch norm of (N, C) or (N, C, L)."""

    dims = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Batch norm of (N, C, H, W)."""

    dims = (4,)


class LeakyReLU(Module):
    """x where x > 0, else negative_slope * x"""

    def __init__(self, negative_slope: float = 0.01):
        self.negative_slope = negative_slope

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"


class ReLU(LeakyReLU):
    """max(x, 0)"""

    def __init__(self):
        super().__init__(0.0)

    def extra_repr(self) -> str:
        return ""


class Tanh(Module):
    """The hyperbolic tangent"""

    def forward(self, x: Tensor) -> Tensor:
        return F.tanh(x)


class Sigmoid(Module):
    """1 / (1 + e^-x)"""

    def forward(self, x: Tensor) -> Tensor:
        return F.sigmoid(x)


class Flatten(Module):
    """The dimensions from start_dim to end_dim as one"""

    def __init__(self, start_dim: int = 1, end_dim: int = -1):
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Tensor) -> Tensor:
        return F.flatten(x, self.start_dim, self.end_dim)
