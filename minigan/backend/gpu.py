"""The kernels of `reference.py` for the GPU, under the same names, in CUDA.

Matrix products go to cuBLAS, one 2-D product per pass, because only 2-D products may use TF32. The rest
are the kernels of `conv.cu`, `norm.cu` and `adam.cu`, and CuPy's elementwise ones below. They are
compiled when first used. Each .cu kernel states how it is launched; the numbers are here.

Arrays are logically (N, C, H, W). In memory these kernels store them channel-major, (C, N, H, W),
because then the product of a convolution is the next layer's image. An array in another order is copied
first. Weights are stored as on the CPU, (kh, kw, C, O). (docs/gpu.md explains all this.)
"""

from __future__ import annotations

import functools
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from . import reference
from .reference import Array, Window, kernel_rows

THREADS = 256  # threads in a block of the kernels whose threads work independently
SUMMING = 512  # threads in a block that sums: THREADS in norm.cu
MANY = 32  # parameters in a launch of Adam: 32 * 56 bytes of the 4 KiB that arguments may take up
BLOCKS = 512  # the most along one parameter in a launch of Adam: enough for the widest GPU
ROWS = 65535  # CUDA's limit for blocks along y; the kernels stride beyond it

FIELDS = ("h", "w", "kh", "kw", "sh", "sw", "ph", "pw", "oh", "ow")
WINDOW = np.dtype([(name, np.int32) for name in FIELDS])  # conv.cu's struct


@functools.cache
def _kernel(xp: ModuleType, name: str, file: str, dtype: np.dtype) -> Any:
    """A kernel of one of the .cu files, for float32 or float64."""
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"{name}: the GPU kernels take float32 or float64, not {dtype}; use .to()")
    real = {4: "float", 8: "double"}[dtype.itemsize]
    source = Path(__file__).with_name(file).read_text()
    options = ("-std=c++17", f"-DReal={real}", f"-DMANY={MANY}")
    return xp.RawModule(code=source, options=options).get_function(name)


def _blocks(count: int, rows: int = 1) -> tuple[int, int]:
    """A grid of blocks of THREADS: `count` threads along x, `rows` rows of blocks along y."""
    return -(-count // THREADS), min(rows, ROWS)


def _channel_major(xp: ModuleType, x: Array) -> Array:
    """(N, C, ...) -> contiguous (C, N, ...), without a copy if the memory already has this order."""
    return xp.ascontiguousarray(xp.moveaxis(x, 1, 0))


def _rows(xp: ModuleType, x: Array) -> Array:
    """A row per channel: (N, C, H, W) -> (C, N*H*W)."""
    return _channel_major(xp, x).reshape(x.shape[1], -1)


def _images(rows: Array, shape: tuple[int, ...]) -> Array:
    """A view of channel-major rows: (C, N*H*W) -> (N, C, H, W), with N, H, W of `shape`."""
    n, _, *pixels = shape
    return rows.reshape(len(rows), n, *pixels).swapaxes(0, 1)


# -- convolution: T(x, w, y), and the columns between its images and its products ---------------------


@functools.cache
def _window(window: Window) -> np.void:
    """The geometry, to pass by value. (A 0-dimensional array would do, but takes twice the time.)"""
    numbers = (*window.image, *window.kernel, *window.stride, *window.pad, *window.grid)
    return np.array(numbers, dtype=np.int32).view(WINDOW)[0]


def _columns(xp: ModuleType, x: Array, window: Window) -> Array:
    """Every window's pixels as one column: (N, C, H, W) -> (kh*kw*C, N*OH*OW)."""
    n, c = x.shape[:2]
    (oh, ow), (kh, kw) = window.grid, window.kernel
    col = xp.empty((kh * kw * c, n * oh * ow), x.dtype)
    kernel = _kernel(xp, "im2col", "conv.cu", x.dtype)
    if col.size:
        arguments = (_channel_major(xp, x), col, _window(window), np.int64(n), np.int32(c))
        kernel(_blocks(n * oh * ow, c), (THREADS,), arguments)
    return col


def _fold(xp: ModuleType, col: Array, n: int, c: int, window: Window) -> Array:
    """Add windows up to images: (kh*kw*C, N*OH*OW) -> (N, C, H, W)."""
    h, w = window.image
    x = xp.empty((c, n, h, w), col.dtype)
    kernel = _kernel(xp, "col2im", "conv.cu", col.dtype)
    if x.size:
        arguments = (xp.ascontiguousarray(col), x, _window(window), np.int64(n), np.int32(c))
        kernel(_blocks(n * h * w, c), (THREADS,), arguments)
    return x.swapaxes(0, 1)


def _conv(xp: ModuleType, col: Array, w: Array, n: int, window: Window) -> Array:
    """(O, kh*kw*C) @ (kh*kw*C, N*OH*OW). A transposed factor costs no copy."""
    return _images(xp.matmul(kernel_rows(w).T, col), (n, len(w), *window.grid))


def _conv_weight(xp: ModuleType, col: Array, y: Array, window: Window) -> Array:
    """(kh*kw*C, N*OH*OW) @ (N*OH*OW, O)"""
    w = xp.matmul(col, _rows(xp, y).T)  # (kh*kw*C, O)
    return w.reshape(*window.kernel, -1, y.shape[1]).transpose(3, 2, 0, 1)  # (O, C, kh, kw)


def conv(xp: ModuleType, x: Array, w: Array, window: Window, memo: dict | None = None) -> Array:
    """See reference.conv."""
    return _conv(xp, _columns(xp, x, window), w, len(x), window)


def conv_image(
    xp: ModuleType, w: Array, y: Array, window: Window, memo: dict | None = None
) -> Array:
    """See reference.conv_image. (kh*kw*C, O) @ (O, N*OH*OW), then folded."""
    return _fold(xp, xp.matmul(kernel_rows(w), _rows(xp, y)), len(y), w.shape[1], window)


def conv_weight(xp: ModuleType, x: Array, y: Array, window: Window) -> Array:
    """See reference.conv_weight."""
    return _conv_weight(xp, _columns(xp, x, window), y, window)


def conv_gradients(xp, asked, x, w, y, window, memo=None):
    """See reference.conv_gradients."""
    passes = (lambda: conv_image(xp, w, y, window), lambda: conv_weight(xp, x, y, window))
    return [passes[i]() for i in asked]


def conv_image_gradients(xp, asked, w, y, x, window, memo=None):
    """See reference.conv_image_gradients. Both gradients are products with the same columns."""
    col = _columns(xp, x, window)
    passes = (
        lambda: _conv_weight(xp, col, y, window),
        lambda: _conv(xp, col, w, len(x), window),
    )
    return [passes[i]() for i in asked]


# -- sums, and statistics per channel -----------------------------------------------------------------

matmul, matmuls, norm = reference.matmul, reference.matmuls, reference.norm
total, average = reference.total, reference.average
group_norm, group_norm_gradients = reference.group_norm, reference.group_norm_gradients


def _per_channel(xp: ModuleType, v: Array | float, x: Array) -> Array:
    """A value per channel as the kernels expect it: (1, C, 1, 1) or a number -> (C,)."""
    if isinstance(v, (int, float)):
        return xp.full(x.shape[1], v, x.dtype)
    return xp.ascontiguousarray(v.reshape(-1))


def batch_statistics(xp, x, eps, momentum, running):
    """See reference.batch_statistics. One kernel computes it and moves the running statistics."""
    rows, real = _rows(xp, x), x.dtype.type
    c, count = rows.shape
    mean, inv_std = xp.empty((2, c), x.dtype)
    kernel = _kernel(xp, "batch_statistics", "norm.cu", x.dtype)
    if c:
        track, moved = np.int32(running is not None), running or (mean, inv_std)
        arguments = (rows, np.int64(count), real(eps), real(momentum), track, mean, inv_std, *moved)
        kernel((c,), (SUMMING,), arguments)
    shape = (1, c, *[1] * (x.ndim - 2))
    return mean.reshape(shape), inv_std.reshape(shape)


def scale_shift(xp, x, center, scale, w, b, slope):
    """See reference.scale_shift."""
    rows, real = _rows(xp, x), x.dtype.type
    y = xp.empty_like(rows)
    kernel = _kernel(xp, "scale_shift", "norm.cu", x.dtype)
    if y.size:
        c, count = rows.shape
        values = [_per_channel(xp, v, x) for v in (center, scale, w, b)]
        arguments = (rows, *values, real(slope), np.int64(count), np.int32(c), y)
        kernel(_blocks(count, c), (THREADS,), arguments)
    return _images(y, x.shape)


def batch_norm_gradients(xp, g, y, x, mean, inv_std, w, slope):
    """See reference.batch_norm_gradients. One kernel computes dw and db, another dx."""
    rows, real = [_rows(xp, a) for a in (g, y, x)], x.dtype.type
    c, count = rows[0].shape
    dx, (dw, db) = xp.empty_like(rows[0]), xp.empty((2, c), x.dtype)
    sums = _kernel(xp, "batch_norm_sums", "norm.cu", x.dtype)
    image = _kernel(xp, "batch_norm_image", "norm.cu", x.dtype)
    if dx.size:
        mean, inv_std, w = (_per_channel(xp, v, x) for v in (mean, inv_std, w))
        slope, count_ = real(slope), np.int64(count)
        sums((c,), (SUMMING,), (*rows, mean, inv_std, slope, count_, dw, db))
        arguments = (*rows, mean, inv_std, w, dw, db, slope, count_, np.int32(c), dx)
        image(_blocks(count, c), (THREADS,), arguments)
    return _images(dx, x.shape), dw, db


# -- elementwise: CuPy generates loop and indices around a formula, for arrays in any order -----------
#
# By default CuPy would store the result in the order (N, C, H, W), which the next convolution would
# have to copy. So the kernels below are given memory for the result, in the input's order.


@functools.cache
def _formula(xp: ModuleType, name: str) -> Any:
    """One of the kernels below by name."""
    inputs, output, formula = FORMULAS[name]
    return xp.ElementwiseKernel(inputs, output, formula, f"minigan_{name}")


FORMULAS = {
    "leaky_relu": (
        "T x, T slope",
        "T y",
        "y = x > 0 ? x : x < 0 && slope == 0 ? T(0) : slope * x",  # 0 * -infinity would be NaN
    ),
    "leaky_relu_gradient": (
        "T g, T y, T slope",
        "T x",
        "x = y > 0 ? g : slope == 0 ? T(0) : slope * g",  # and so would 0 * infinity
    ),
    "cross_entropy": (
        "T x, T t",
        "T y",
        "y = (x > 0 ? x : T(0)) - x * t + log1p(exp(-fabs(x)))",
    ),
    "cross_entropy_gradient": (
        "T g, T x, T t",
        "T y",
        "T small = exp(-fabs(x)), near = 1 / (1 + small), far = small / (1 + small);"
        "y = g * ((1 - t) * (x >= 0 ? near : far) - t * (x >= 0 ? far : near))",
    ),
    "scale_pixels": ("uint8 b", "float32 x", "x = b * (1 / 127.5f) - 1"),
    "lerp": ("T slow, T fast, T weight", "T y", "y = slow + weight * (fast - slow)"),
}


def leaky_relu(xp: ModuleType, x: Array, slope: float) -> Array:
    """See reference.leaky_relu."""
    if x.dtype.kind != "f":
        return reference.leaky_relu(xp, x, slope)  # the formula would make an integer of the slope
    return _formula(xp, "leaky_relu")(x, slope, xp.empty_like(x))


keep = reference.keep


def leaky_relu_gradient(xp: ModuleType, g: Array, y: Array, slope: float) -> Array:
    """See reference.leaky_relu_gradient."""
    return _formula(xp, "leaky_relu_gradient")(g, y, slope, xp.empty_like(y))


def cross_entropy(xp: ModuleType, x: Array, t: Array | float) -> Array:
    """See reference.cross_entropy."""
    return _formula(xp, "cross_entropy")(x, t)


def cross_entropy_gradient(xp: ModuleType, g: Array, x: Array, t: Array | float) -> Array:
    """See reference.cross_entropy_gradient. x and t may have a narrower dtype than g."""
    x, t = (a if isinstance(a, (int, float)) else a.astype(g.dtype, copy=False) for a in (x, t))
    return _formula(xp, "cross_entropy_gradient")(g, x, t)


def scale_pixels(xp: ModuleType, batch: Array) -> Array:
    """See reference.scale_pixels. The result is channel-major, as the first convolution reads it."""
    n, c, *pixels = batch.shape
    x = xp.empty((c, n, *pixels), xp.float32).swapaxes(0, 1)
    return _formula(xp, "scale_pixels")(batch, x)


def lerp(xp: ModuleType, moved: list[tuple[Array, Array]], weight: float) -> None:
    """See reference.lerp; a launch for each array."""
    for slow, fast in moved:
        _formula(xp, "lerp")(slow, fast, weight, slow)


# -- Adam ---------------------------------------------------------------------------------------------


@functools.cache
def _table(dtype: np.dtype) -> np.dtype:
    """adam.cu's struct `Parameters` for a dtype."""
    fields = [*((name, np.uintp) for name in "pgmv"), ("count", np.int64)]
    parameter = np.dtype([*fields, ("rate", dtype), ("root", dtype)], align=True)
    return np.dtype([("at", parameter, MANY)])


def adam(xp, moved, lr, betas, eps):
    """See reference.adam. All parameters of one dtype share a launch, at most MANY at a time.

    A gradient may have any memory order. If p has gaps, or a moment's order differs from p's, the
    reference is used, which rounds differently in the last bits. (zeros_like and copy_like give the
    moments p's order.)
    """
    b1, b2 = betas
    for dtype in {p.dtype for p, *_ in moved}:
        entries = []
        for p, g, m, v, step in (entry for entry in moved if entry[0].dtype == dtype):
            if arrays := _in_memory_order(xp, p, g, m, v):
                entries.append((arrays, p.size, lr / (1 - b1**step), (1 - b2**step) ** 0.5))
            else:
                reference.adam(xp, [(p, g, m, v, step)], lr, betas, eps)
        kernel, real = _kernel(xp, "adam", "adam.cu", dtype), dtype.type
        for i in range(0, len(entries), MANY):
            some, table = entries[i : i + MANY], np.zeros((), _table(dtype))
            for j, (arrays, *numbers) in enumerate(some):
                table["at"][j] = (*(a.data.ptr for a in arrays), *numbers)
            blocks = _blocks(max(size for _, size, *_ in some))[0]
            grid = (min(BLOCKS, max(1, blocks)), len(some))
            constants = (real(b1), real(1 - b1), real(b2), real(1 - b2), real(eps))
            kernel(grid, (THREADS,), (table[()], *constants))


def _in_memory_order(xp: ModuleType, p: Array, *others: Array) -> list[Array] | None:
    """p, g, m and v, contiguous, with their axes in p's memory order.

    None if p, m or v is not contiguous in that order. Only the gradient may be copied to make it so,
    because the others are changed in place.
    """
    order = sorted(range(p.ndim), key=lambda axis: -p.strides[axis])
    p, g, m, v = (a.transpose(order) for a in (p, *others))
    if not all(a.flags.c_contiguous for a in (p, m, v)):
        return None
    return [p, xp.ascontiguousarray(g), m, v]
