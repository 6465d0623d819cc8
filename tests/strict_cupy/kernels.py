"""RawModule, RawKernel and ElementwiseKernel: CUDA sources compiled by g++, on NumPy's memory.

The emulator compiles and launches them, within CUDA's limits. This file adds a check that no GPU makes:
each argument must have the type of the kernel's parameter.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from emulator import kernels as emulator

from .arrays import address, empty, ndarray, operand
from .state import counters, missing

C_TYPES = {
    "bool": "bool", "signed char": "int8", "unsigned char": "uint8", "short": "int16",
    "unsigned short": "uint16", "int": "int32", "unsigned int": "uint32", "long long": "int64",
    "unsigned long long": "uint64", "float": "float32", "double": "float64",
}  # fmt: skip
C_NAMES = {np.dtype(name): c_type for c_type, name in C_TYPES.items()}


def launch(code: str, options: tuple, name: str, grid: tuple, block: tuple, args: list) -> None:
    """Compile if necessary, and run. Each argument is a NumPy number or structure, or an address."""
    counters.launches += 1
    emulator.launch(_library(code, options), name, grid, block, [np.array(x) for x in args])


@functools.cache
def _library(code: str, options: tuple) -> Path:
    if trouble := emulator.unavailable():
        pytest.skip(trouble)
    return emulator.compile(code, options)


class RawKernel:
    """A kernel of CUDA source; `kernel(grid, block, args)` launches it."""

    def __init__(self, code: str, name: str, options: tuple[str, ...] = ()):
        if not isinstance(options, tuple):
            raise TypeError(
                f"Argument 'options' has incorrect type (expected tuple, got {options!r})"
            )
        self.code, self.name, self.options = code, name, options

    def __getattr__(self, name: str) -> Any:
        raise missing("cupy.RawKernel", name)

    def __call__(self, grid: tuple, block: tuple, args: tuple) -> None:
        if not isinstance(grid, tuple) or not isinstance(block, tuple):
            raise TypeError(f"{self.name}: grid and block are tuples, not {grid!r} and {block!r}")
        parameters = emulator.signature(self.code, self.name)
        if len(args) != len(parameters):
            raise TypeError(f"{self.name}: {len(args)} arguments for {len(parameters)} parameters")
        values, code = [], self.code
        for i, (kind, x) in enumerate(zip(parameters, args, strict=True)):
            values.append(self._argument(f"{self.name}: parameter {i}, `{kind}`,", kind, x))
            if isinstance(x, (np.void, np.ndarray)):
                code += (
                    f'\nstatic_assert(sizeof({kind}) == {x.itemsize}, "the size of argument {i}");'
                )
        launch(code, self.options, self.name, grid, block, values)

    def _argument(self, where: str, kind: str, x: Any) -> Any:
        """The value to pass for a parameter of this C type: the array's address, or x itself."""
        base = kind.replace("const ", "").rstrip("*")
        dtype = C_TYPES.get(self._meaning(base))
        if kind.endswith("*"):
            if not isinstance(x, ndarray) or x.dtype != dtype:
                found = x.dtype if isinstance(x, ndarray) else type(x).__name__
                raise TypeError(f"{where} needs a cupy.ndarray of {dtype}, not {found}")
            if not operand(x).flags.c_contiguous:
                raise ValueError(f"{where} ignores strides, but the array has {x.strides}")
            return np.uintp(x.data.ptr)
        if dtype is None:
            if not isinstance(x, (np.void, np.ndarray)) or x.shape or not x.dtype.names:
                raise TypeError(f"{where} needs a 0-d structured array, not a {type(x).__name__}")
        elif type(x) is not np.dtype(dtype).type:
            raise TypeError(
                f"{where} needs a np.{dtype}: a Python {type(x).__name__} has different bits"
            )
        return x

    def _meaning(self, c_type: str) -> str:
        """The type behind a name that the options or a typedef define."""
        names = dict(re.findall(r"-D(\w+)=([\w ]+)", "\n".join(self.options)))
        names |= {new: old for old, new in re.findall(r"typedef ([\w ]+) (\w+);", self.code)}
        return names.get(c_type, c_type)


class RawModule:
    """CUDA source with several kernels."""

    def __init__(self, *, code: str, options: tuple[str, ...] = ()):
        self.get_function = functools.partial(self._get_function, code, options)

    def __getattr__(self, name: str) -> Any:
        raise missing("cupy.RawModule", name)

    @staticmethod
    def _get_function(code: str, options: tuple[str, ...], name: str) -> RawKernel:
        return RawKernel(code, name, options)


class ElementwiseKernel:
    """A formula in C for each element. Operands broadcast; a letter is the argument's dtype."""

    def __init__(self, in_params: str, out_params: str, operation: str, name: str = "kernel"):
        if not name.isidentifier():
            raise ValueError(f'Invalid kernel name: "{name}"')
        self.parameters = [tuple(p.split()) for p in f"{in_params}, {out_params}".split(",")]
        if not all(len(p) == 2 and p[1] != "i" for p in self.parameters):
            raise NotImplementedError(f"the double reads `type name`, not {self.parameters}")
        self.nin = in_params.count(",") + 1
        self.operation, self.name = operation, name

    def __getattr__(self, name: str) -> Any:
        raise missing("cupy.ElementwiseKernel", name)

    def __call__(self, *args: Any) -> Any:
        if len(args) not in (self.nin, len(self.parameters)):
            raise TypeError(f"Wrong number of arguments for {self.name!r}.")
        values = [operand(x) for x in args]
        if not all(isinstance(x, ndarray) for x in args[self.nin :]):
            raise TypeError("Output arguments type must be cupy.ndarray")
        letters = self._letters(values)
        dtypes = [
            letters[kind] if len(kind) == 1 else np.dtype(kind) for kind, _ in self.parameters
        ]
        for x, dtype in zip(values, dtypes, strict=False):
            if not isinstance(x, np.ndarray) and not np.can_cast(type(x), dtype, "same_kind"):
                raise TypeError(f"{self.name}: {x!r} does not fit a parameter of {dtype}")
        shape = np.broadcast_shapes(*(a.shape for a in values if isinstance(a, np.ndarray)))
        outs = list(args[self.nin :]) or [empty(shape, dtype) for dtype in dtypes[self.nin :]]
        if any(out.shape != shape for out in outs):
            raise ValueError("Out shape is mismatched")
        values[self.nin :] = [out._array for out in outs]
        memory = [
            np.array(np.broadcast_to(np.asarray(a, dtype), shape), order="C")
            for a, dtype in zip(values, dtypes, strict=True)
        ]
        if memory[0].size:
            code, pointers = self._source(dtypes, letters), (np.uintp(address(a)) for a in memory)
            launch(code, (), self.name, (1,), (1,), [np.int64(memory[0].size), *pointers])
        for out, array in zip(outs, memory[self.nin :], strict=True):
            out._array[...] = array
        return outs[0] if len(outs) == 1 else tuple(outs)

    def _letters(self, values: list) -> dict[str, np.dtype]:
        """The dtype of each letter: outputs decide, then inputs; Python numbers do not count."""
        found: dict[str, np.dtype] = {}
        given = list(zip(self.parameters, values, strict=False))
        for (kind, name), x in given[self.nin :] + given[: self.nin]:
            if isinstance(x, np.ndarray):
                expected = found.setdefault(kind, x.dtype) if len(kind) == 1 else np.dtype(kind)
                if x.dtype != expected:
                    raise TypeError(f"Type is mismatched. {name} {x.dtype} {expected} {kind}")
        return found

    def _source(self, dtypes: list[np.dtype], letters: dict[str, np.dtype]) -> str:
        """A kernel of one thread, which computes all elements one after another."""
        lines = [f"typedef {C_NAMES[dtype]} {letter};" for letter, dtype in letters.items()]
        named = [(C_NAMES[d], name) for d, (_, name) in zip(dtypes, self.parameters, strict=True)]
        pointers = ", ".join(f"{kind}* _{name}" for kind, name in named)
        lines.append(f'extern "C" __global__ void {self.name}(long long _n, {pointers}) {{')
        lines.append("for (long long i = 0; i < _n; i++) {")
        for i, (kind, name) in enumerate(named):
            lines.append(f"{'const ' * (i < self.nin)}{kind}& {name} = _{name}[i];")
        return "\n".join([*lines, f"{self.operation};", "}}"])


KINDS = (RawKernel, RawModule, ElementwiseKernel)
