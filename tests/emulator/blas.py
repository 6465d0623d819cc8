"""The products of cuBLAS, computed by NumPy. Replaces cupy_backends.cuda.libs.cublas.

As in cuBLAS, matrices are column-major with a leading dimension, and scalars are given by address. Any
other function of cuBLAS raises NotImplementedError when CuPy calls it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import device

CUBLAS_OP_N, CUBLAS_OP_T, CUBLAS_OP_C = range(3)
CUBLAS_POINTER_MODE_HOST, CUBLAS_POINTER_MODE_DEVICE = range(2)
CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_32F_PEDANTIC, CUBLAS_COMPUTE_32F_FAST_TF32 = 68, 69, 77
CUBLAS_COMPUTE_64F, CUBLAS_COMPUTE_64F_PEDANTIC, CUBLAS_COMPUTE_32I = 70, 71, 72
CUBLAS_GEMM_DEFAULT, CUBLAS_GEMM_DEFAULT_TENSOR_OP = -1, 99

_TYPES = {0: np.float32, 1: np.float64, 2: np.float16, 4: np.complex64, 5: np.complex128}
_pointer_mode = CUBLAS_POINTER_MODE_HOST


class CUBLASError(RuntimeError):
    """CuPy looks this class up by name."""


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    raise NotImplementedError(f"cuBLAS's {name} does not exist in the emulator")


def create() -> int:
    return 1


def destroy(handle: int) -> None:
    pass


def setStream(handle: int, stream: int) -> None:
    pass


def setMathMode(handle: int, mode: int) -> None:
    pass


def getPointerMode(handle: int) -> int:
    return _pointer_mode


def setPointerMode(handle: int, mode: int) -> None:
    global _pointer_mode  # CuPy resets it; host and device share their memory here
    _pointer_mode = mode


# -- matrices in memory ------------------------------------------------------------------------------


class _Memory:
    """Turns an address into an array, through NumPy's array interface."""

    def __init__(self, address: int, dtype: type, shape: tuple, strides: tuple):
        self.__array_interface__ = {
            "data": (address, False),
            "typestr": np.dtype(dtype).str,
            "shape": shape,
            "strides": strides,
            "version": 3,
        }


def _matrix(address: int, dtype: type, rows: int, columns: int, leading: int) -> np.ndarray:
    size = np.dtype(dtype).itemsize
    return np.asarray(_Memory(address, dtype, (rows, columns), (size, leading * size)))


def _operand(
    address: int, dtype: type, operation: int, rows: int, columns: int, leading: int
) -> np.ndarray:
    """op(A) with these rows and columns: A itself, its transpose or its conjugate transpose."""
    if operation == CUBLAS_OP_N:
        return _matrix(address, dtype, rows, columns, leading)
    transpose = _matrix(address, dtype, columns, rows, leading).T
    return transpose if operation == CUBLAS_OP_T else transpose.conj()


def _vector(address: int, dtype: type, n: int, step: int) -> np.ndarray:
    return _matrix(address, dtype, 1, n, step)[0]


def _run(name: str, compute: Callable, *arguments: Any) -> None:
    device.counts["products"] += 1
    device.log.append(name)
    device.run(name, compute, *arguments)


# -- C = alpha op(A) op(B) + beta C ------------------------------------------------------------------


def _multiply(transa, transb, m, n, k, alpha, a, a_type, lda, b, b_type, ldb, beta, c, c_type, ldc):
    work = np.float32 if c_type == np.float16 else c_type
    alpha, beta = (_matrix(scalar, work, 1, 1, 1)[0, 0] for scalar in (alpha, beta))
    a = _operand(a, a_type, transa, m, k, lda).astype(work, copy=False)
    b = _operand(b, b_type, transb, k, n, ldb).astype(work, copy=False)
    c = _matrix(c, c_type, m, n, ldc)
    with np.errstate(all="ignore"):
        product = alpha * (b.T @ a.T)
        c.T[...] = product if beta == 0 else product + beta * c.T  # with beta 0, C is not read


def gemmEx(h, ta, tb, m, n, k, alpha, a, a_type, lda, b, b_type, ldb, beta, c, c_type, ldc, *_):
    a_type, b_type, c_type = _types(a_type, b_type, c_type)
    matrices = (alpha, a, a_type, lda, b, b_type, ldb, beta, c, c_type, ldc)
    _run("cublasGemmEx", _multiply, ta, tb, m, n, k, *matrices)


def gemmStridedBatchedEx(
    h, ta, tb, m, n, k, alpha, a, a_type, lda, step_a, b, b_type, ldb, step_b, beta, c, c_type, ldc,
    step_c, count, *_,
):  # fmt: skip
    a_type, b_type, c_type = _types(a_type, b_type, c_type)
    wide_a, wide_b, wide_c = (np.dtype(t).itemsize for t in (a_type, b_type, c_type))

    def each():
        for i in range(count):
            at_a, at_b = a + i * step_a * wide_a, b + i * step_b * wide_b
            matrices = (alpha, at_a, a_type, lda, at_b, b_type, ldb, beta)
            _multiply(ta, tb, m, n, k, *matrices, c + i * step_c * wide_c, c_type, ldc)

    _run("cublasGemmStridedBatchedEx", each)


def gemmBatchedEx(
    h, ta, tb, m, n, k, alpha, a, a_type, lda, b, b_type, ldb, beta, c, c_type, ldc, count, *_
):
    _batched("cublasGemmBatchedEx", *_types(a_type, b_type, c_type))(
        h, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc, count
    )


def _types(*numbers: int) -> list[type]:
    """NumPy's types for cudaDataType's numbers."""
    if unknown := set(numbers) - {*_TYPES}:
        raise NotImplementedError(f"products of cudaDataType {unknown} in the emulator")
    return [_TYPES[number] for number in numbers]


def _batched(name: str, a_type: type, b_type: type, c_type: type) -> Callable:
    """The product whose operands are arrays of addresses."""

    def batched(h, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc, count):
        def each():
            addresses = (_vector(table, np.uintp, count, 1).tolist() for table in (a, b, c))
            for at_a, at_b, at_c in zip(*addresses, strict=True):
                matrices = (alpha, at_a, a_type, lda, at_b, b_type, ldb, beta, at_c, c_type, ldc)
                _multiply(ta, tb, m, n, k, *matrices)

        _run(name, each)

    return batched


def _gemm(name: str, t: type) -> Callable:
    def gemm(h, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
        matrices = (alpha, a, t, lda, b, t, ldb, beta, c, t, ldc)
        _run(name, _multiply, ta, tb, m, n, k, *matrices)

    return gemm


def _geam(name: str, t: type) -> Callable:
    """C = alpha op(A) + beta op(B)"""

    def add(ta, tb, m, n, alpha, a, lda, beta, b, ldb, c, ldc):
        alpha, beta = (_matrix(scalar, t, 1, 1, 1)[0, 0] for scalar in (alpha, beta))
        terms = ((alpha, a, ta, lda), (beta, b, tb, ldb))  # scalar 0: the matrix is not read
        total = sum(f * _operand(at, t, op, m, n, ld) for f, at, op, ld in terms if f != 0)
        _matrix(c, t, m, n, ldc)[...] = total

    return lambda handle, *arguments: _run(name, add, *arguments)


def _gemv(name: str, t: type) -> Callable:
    """y = alpha op(A) x + beta y, with A of m rows and n columns"""

    def gemv(ta, m, n, alpha, a, lda, x, step_x, beta, y, step_y):
        rows, columns = (m, n) if ta == CUBLAS_OP_N else (n, m)
        alpha, beta = (_matrix(scalar, t, 1, 1, 1)[0, 0] for scalar in (alpha, beta))
        product = _operand(a, t, ta, rows, columns, lda) @ _vector(x, t, columns, step_x)
        y = _vector(y, t, rows, step_y)
        y[...] = alpha * product if beta == 0 else alpha * product + beta * y

    return lambda handle, *arguments: _run(name, gemv, *arguments)


def _dot(name: str, t: type) -> Callable:
    def dot(n, x, step_x, y, step_y, result):
        _matrix(result, t, 1, 1, 1)[...] = _vector(x, t, n, step_x) @ _vector(y, t, n, step_y)

    return lambda handle, *arguments: _run(name, dot, *arguments)


def _nrm2(name: str, t: type) -> Callable:
    def nrm2(n, x, step, result):
        _matrix(result, t, 1, 1, 1)[...] = np.linalg.norm(_vector(x, t, n, step))

    return lambda handle, *arguments: _run(name, nrm2, *arguments)


# sgemm, dgemm, cgemm, zgemm, ...: each for one type
_MATRICES = {"gemm": _gemm, "geam": _geam, "gemv": _gemv}
_MATRICES["gemmBatched"] = lambda name, t: _batched(name, t, t, t)
_VECTORS = {"dot": _dot, "nrm2": _nrm2}
for _letter, _number in (("s", 0), ("d", 1), ("c", 4), ("z", 5)):
    for _name, _make in (_MATRICES | (_VECTORS if _letter in "sd" else {})).items():
        globals()[_letter + _name] = _make(f"cublas{_letter.upper()}{_name}", _TYPES[_number])
