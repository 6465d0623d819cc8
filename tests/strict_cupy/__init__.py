"""A strict double of CuPy: CuPy's names on NumPy arrays, which refuse whatever CuPy refuses.

With it the whole engine runs on "GPU arrays" in any process, without a GPU, a driver or CuPy:

    @pytest.fixture
    def cupy(monkeypatch):
        return strict_cupy.install(monkeypatch)

It is stricter than CuPy where CuPy lets a mistake pass (np.exp of its arrays, indices out of range,
reading new memory). What the engine does not use raises NotImplementedError. It has no name that CuPy
lacks, which the tests check against tests/fixtures/cupy_names.json. `counters` counts what costs time
on a GPU. It cannot show the rounding of CuPy's kernels, its generated code or the order of streams.
"""

from __future__ import annotations

import sys

import numpy as np
import pytest

from . import arrays, cuda, kernels
from .state import NAMES, Module, counters, machine

__all__ = ["counters", "install"]

FUNCTIONS = (
    "arange", "array", "asarray", "ascontiguousarray", "empty", "empty_like", "zeros",
    "zeros_like", "ones", "ones_like", "full", "where", "clip", "concatenate", "pad",
    "moveaxis", "broadcast_to", "may_share_memory", "matmul", "tensordot", "ndarray",
)  # fmt: skip
DTYPES = ("bool_", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
DTYPES += ("float16", "float32", "float64", "dtype", "newaxis", "inf", "nan", "pi", "result_type")


def install(monkeypatch: pytest.MonkeyPatch, devices: int = 1) -> Module:
    """Replace `cupy` by the double, with this number of GPUs, until the monkeypatch is undone."""
    machine.reset(devices)
    counters.reset()
    modules = cuda.modules()
    tricks = Module("cupy.lib.stride_tricks", as_strided=arrays.as_strided)
    modules |= {"cupy.lib": Module("cupy.lib", stride_tricks=tricks), tricks.__name__: tricks}
    modules["cupy"] = Module(
        "cupy",
        __version__=NAMES["cupy.__version__"],
        cuda=modules["cupy.cuda"],
        lib=modules["cupy.lib"],
        get_default_memory_pool=cuda.MemoryPool,
        **{name: getattr(arrays, name) for name in FUNCTIONS},
        **{name: getattr(np, name) for name in DTYPES},
        **arrays.UFUNCS,
        **arrays.REDUCTIONS,
        **{kind.__name__: kind for kind in kernels.KINDS},
    )
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return modules["cupy"]
