"""Containers: Sequential, ModuleList, ModuleDict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from ..tensor import Tensor
from .checks import shown
from .layers import LeakyReLU, ReLU
from .module import Module
from .normalization import BatchNorm1d, BatchNorm2d, GroupNorm, InstanceNorm2d

NORMS = (BatchNorm1d, BatchNorm2d, GroupNorm, InstanceNorm2d)  # that can compute a leaky ReLU too


class _Numbered(Module):
    """A sequence of modules, named "0", "1", ... by default."""

    def append(self, module: Module) -> Module:
        """Add a module at the end, and return the container."""
        number = len(self)
        while str(number) in self._kinds:  # taken by a slice, or by the user
            number += 1
        self.add_module(str(number), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Module:
        """Add modules at the end, and return the container."""
        for module in list(modules):  # a copy, because they may be this container itself
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

    A batch, instance or group norm followed by a ReLU or LeakyReLU is computed together with it, in one
    pass over memory, without calling either's `forward`. Only modules of exactly these classes are
    joined. Subclasses, and modules whose `forward` was assigned, are called one by one.
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
            if modules and _is(module, *NORMS) and _is(modules[0], LeakyReLU, ReLU):
                input = module.activated(input, modules.pop(0).negative_slope)
            else:
                input = module(input)
        return input

    def __getitem__(self, i: int | slice) -> Module:
        if isinstance(i, slice):
            part, found = Sequential(), dict(list(self._children())[i])
            vars(part).update(found, _kinds=dict.fromkeys(found, Module))  # checked in their time
            return part
        return list(self)[i]


def _is(module: Module, *classes: type) -> bool:
    """Whether the module's class is exactly one of these, and its `forward` was not reassigned."""
    return type(module) in classes and "forward" not in vars(module)


class ModuleList(_Numbered):
    """A list of modules. They are found, trained and saved here; the owner's `forward` calls them."""

    def __init__(self, modules: Iterable[Module] = ()):
        self.extend(modules)

    def __getitem__(self, i: int | slice) -> Module:
        found = list(self)[i]
        return ModuleList(found) if isinstance(i, slice) else found


class ModuleDict(Module):
    """Modules by name. They are found, trained and saved here; the owner's `forward` calls them."""

    def __init__(self, modules: Mapping[str, Module] | None = None):
        if modules is not None and not isinstance(modules, Mapping):
            raise TypeError(
                f"ModuleDict: expected a mapping of names to Modules, not {shown(modules)}"
            )
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
