"""Replaces the C functions of CuPy's compiled modules by Python functions.

A Cython module offers its C functions to others in `__pyx_capi__`: a capsule with the address, named by
the signature. Modules imported later take them from there. So, before that, each is replaced by a C
function made here, which calls a Python function of the same name and passes on its exception.
"""

from __future__ import annotations

import atexit
import ctypes
import re
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from . import kernels

# C type -> (its code for PyObject_CallFunction, the result's converter, the value after an exception)
_TYPES = {
    "int": ("i", "PyLong_AsLong(result)", "-1"),
    "unsigned int": ("I", "PyLong_AsLongLong(result)", "-1"),
    "size_t": ("K", "PyLong_AsLongLong(result)", "0"),
    "intptr_t": ("L", "PyLong_AsLongLong(result)", "0"),
    "uintmax_t": ("K", "PyLong_AsLongLong(result)", "0"),
    "float": ("f", "PyFloat_AsDouble(result)", "-1"),
    "double": ("d", "PyFloat_AsDouble(result)", "-1"),
    "PyObject *": ("O", "", "nullptr"),
}
_ENUMS = r"\b(CUdevice|cuda\w+|cublas\w+|curand\w+)\b(?=[,)])"

_HEAD = """
#include <cstddef>
#include <cstdint>
struct PyObject;
extern "C" {
PyObject* PyObject_CallFunction(PyObject*, const char*, ...);
PyObject* Py_BuildValue(const char*, ...);
PyObject* PyErr_Occurred();
void Py_DecRef(PyObject*);
long PyLong_AsLong(PyObject*);
long long PyLong_AsLongLong(PyObject*);
double PyFloat_AsDouble(PyObject*);
PyObject* functions[COUNT];
int ended;  // Python is shutting down while CuPy frees memory: nothing can be called any more
"""


def replace(module: ModuleType, functions: Mapping[str, Callable], keep: tuple[str, ...]) -> None:
    """Replace all functions of a compiled module except those in `keep`, its attributes included.

    Functions missing from `functions` raise NotImplementedError with their name.
    """
    functions = {n: f for n, f in functions.items() if callable(f) and not n.startswith("__")}
    capsules = module.__pyx_capi__
    named = {n: s for n, c in capsules.items() if "(" in (s := _name(c)) and n not in keep}
    mine = {name: functions.get(name) or missing(module, name) for name in named}
    for name in {*functions, *named} & {*vars(module)} - {*keep}:
        setattr(module, name, functions.get(name) or mine[name])
    code = [_trampoline(i, signature) for i, signature in enumerate(named.values())]
    source = _HEAD.replace("COUNT", str(len(code) + 1)) + "".join(code) + "}\n"
    library = ctypes.CDLL(str(kernels.build(source, ("-O1", "-w", "-fPIC", "-shared"))))
    table = (ctypes.py_object * len(code)).in_dll(library, "functions")
    for i, (name, signature) in enumerate(named.items()):
        table[i] = mine[name]
        address = ctypes.cast(library[f"function{i}"], ctypes.c_void_p)
        capsules[name] = _capsule(address, signature)
    atexit.register(setattr, ctypes.c_int.in_dll(library, "ended"), "value", 1)
    _kept.append((library, table))


_kept: list[Any] = []  # objects that CuPy's modules point to


def missing(module: ModuleType, name: str) -> Callable:
    """Replaces a function that cannot run here."""

    def raises(*_: Any, **__: Any) -> None:
        raise NotImplementedError(f"{module.__name__}.{name} does not exist in the emulator")

    return raises


def _trampoline(i: int, signature: str) -> str:
    signature = re.sub(r"^struct __pyx_obj\w+ \*", "PyObject *", signature)
    result, parameters = re.fullmatch(r"(.*?) ?\((.*)\)", signature).groups()
    types = re.sub(_ENUMS, "int", parameters + ",")[:-1].split(", ")
    # Cython adds an int at the end and a structure of optional arguments, which are left out.
    types = [t for t in types if "__pyx" not in t and t != "void"]
    if any(t not in _TYPES for t in (result, *types)):
        return f"void function{i}() {{ __builtin_trap(); }}\n"  # for textures
    formats = "".join(_TYPES[t][0] for t in types)
    declared = ", ".join(f"{t} a{n}" for n, t in enumerate(types)) or "void"
    passed = "".join(f", a{n}" for n in range(len(types)))
    _, convert, wrong = _TYPES[result]
    call = f'PyObject_CallFunction(functions[{i}], "({formats})"{passed})'
    if not convert:
        call = f'ended ? Py_BuildValue("") : {call}'
        return f"{result} function{i}({declared}) {{ return {call}; }}\n"
    return (
        f"{result} function{i}({declared}) {{\n    if (ended) return 0;\n"
        f"    PyObject* result = {call};\n    if (!result) return {wrong};\n"
        f"    const {result} value = {convert};\n    Py_DecRef(result);\n"
        f"    return PyErr_Occurred() ? {wrong} : value;\n}}\n"
    )


_api = ctypes.pythonapi
_api.PyCapsule_GetName.restype = ctypes.c_char_p
_api.PyCapsule_GetName.argtypes = (ctypes.py_object,)
_api.PyCapsule_New.restype = ctypes.py_object
_api.PyCapsule_New.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)


def _name(capsule: Any) -> str:
    return _api.PyCapsule_GetName(capsule).decode()


def _capsule(address: ctypes.c_void_p, signature: str) -> Any:
    name = ctypes.create_string_buffer(signature.encode())
    _kept.append(name)  # the capsule only points to it
    return _api.PyCapsule_New(address, ctypes.addressof(name), None)
