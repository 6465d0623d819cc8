"""Operations that change the shape: sums and means, reshape, expand, permute, matmul.

Written like `ops.py`: each operation is its forward, with one backward rule per input above it. Some
are each other's rule: where the forward repeats (`expand`), the backward adds up (`sum`), and vice
versa. NumPy's `axis` and `keepdims` are accepted for `dim` and `keepdim`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import backend
from .arguments import Dims, all_dims, all_sizes, check_flag, one_dim, with_axis
from .arrays import DEFAULT_DTYPE
from .ops import cast
from .tensor import Tensor, op, operand

# -- sums and means -----------------------------------------------------------------------------


def _repeated(g: Tensor, shape: tuple[int, ...], dims: tuple[int, ...]) -> Tensor:
    """The gradient of a sum over `dims`, repeated along them: the gradient of each of its terms."""
    kept = tuple([1 if i in dims else n for i, n in enumerate(shape)])
    return _expand(_reshape(g, shape=kept), shape=shape)


@op(lambda g, y, x, *, dims, keepdim: _repeated(g, x.shape, dims))
def _sum(xp, x, *, dims, keepdim):
    return backend.kernels(xp).total(xp, x, dims, keepdim)


@with_axis
def sum(input: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """The sum over the dimensions `dim`, by default over all."""
    check_flag("sum", "keepdim", keepdim)
    return _sum(input, dims=all_dims(dim, input.ndim), keepdim=keepdim)


def _count(x: Tensor, dims: tuple[int, ...]) -> int:
    """The number of elements that a reduction over `dims` combines into one."""
    return math.prod([x.shape[d] for d in dims])


@op(lambda g, y, x, *, dims, keepdim: _repeated(g / _count(x, dims), x.shape, dims))
def _mean(xp, x, *, dims, keepdim):
    """Not a sum and a quotient, because on a GPU those are two kernels and this is one."""
    return backend.kernels(xp).average(xp, x, dims, keepdim)


@with_axis
def mean(input: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """The mean over the dimensions `dim`, by default over all. The mean of integers is float32.

    Integers are added up exactly, 64-bit ones in float64.
    """
    check_flag("mean", "keepdim", keepdim)
    dims = all_dims(dim, input.ndim)
    count = _count(input, dims)
    if input.dtype.kind in "iu" and input.dtype.itemsize == 8 and count:  # their sum may not fit
        return cast(mean(cast(input, np.float64), dim, keepdim), DEFAULT_DTYPE)
    if count == 0 or input.dtype.kind != "f":
        return sum(input, dim, keepdim) / (count or math.nan)
    return _mean(input, dims=dims, keepdim=keepdim)


@with_axis
def var(
    input: Tensor,
    dim: Dims = None,
    unbiased: bool = True,
    keepdim: bool = False,
    *,
    correction: int | None = None,
) -> Tensor:
    """sum((x - mean)^2) / (n - correction). The correction is 1, or 0 if `unbiased` is False."""
    if isinstance(dim, bool):  # var(False), as in PyTorch
        dim, unbiased = None, dim
    check_flag("var", "unbiased", unbiased)
    check_flag("var", "keepdim", keepdim)
    if correction is None:
        correction = 1 if unbiased else 0
    if input.dtype == np.float16:  # the sum of squares would overflow
        found = var(cast(input, np.float32), dim, keepdim=keepdim, correction=correction)
        return cast(found, np.float16)
    near = mean(input, dim, keepdim=True).detach()
    center = near + mean(input - near, dim, keepdim=True)  # corrects the rounding of the first mean
    square = (input - center) ** 2
    degrees = _count(input, all_dims(dim, input.ndim)) - correction
    return sum(square, dim, keepdim) / (degrees if degrees > 0 else math.nan)


# -- shapes -------------------------------------------------------------------------------------


@op(lambda g, y, x, *, shape: _reshape(g, shape=x.shape), view=True)
def _reshape(xp, x, *, shape):
    return x.reshape(shape)


def reshape(input: Tensor, *shape: Any) -> Tensor:
    """The same elements in another shape; one size may be -1."""
    sizes = all_sizes(shape)
    if min(sizes, default=0) < -1:
        raise ValueError(f"reshape: {sizes} has a negative size; only one size may be -1")
    return _reshape(input, shape=sizes)


def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """The dimensions from start_dim to end_dim merged into one."""
    if input.ndim == 0:
        return reshape(input, 1)
    start, end = one_dim(start_dim, input.ndim), one_dim(end_dim, input.ndim)
    if start > end:
        raise ValueError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim}")
    length = math.prod(input.shape[start : end + 1])
    return reshape(input, *input.shape[:start], length, *input.shape[end + 1 :])


def unflatten(input: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """One dimension divided into several, of these sizes, one of which may be -1."""
    dim, sizes = one_dim(dim, input.ndim), all_sizes((sizes,))
    n, known = input.shape[dim], math.prod(size for size in sizes if size != -1)
    fits = n == known if -1 not in sizes else known and n % known == 0
    if not fits or not sizes or min(sizes) < -1 or sizes.count(-1) > 1:
        raise ValueError(f"unflatten: {n} elements do not fit the sizes {sizes}")
    return reshape(input, *input.shape[:dim], *sizes, *input.shape[dim + 1 :])


@op(lambda g, y, x, *, dims: _permute(g, dims=tuple(int(i) for i in np.argsort(dims))), view=True)
def _permute(xp, x, *, dims):
    return x.transpose(dims)


def permute(input: Tensor, *dims: Any) -> Tensor:
    """The dimensions in a new order."""
    order = tuple(one_dim(d, input.ndim) for d in all_sizes(dims))
    if sorted(order) != list(range(input.ndim)):
        raise ValueError(f"permute: {order} does not name each of {input.ndim} dimensions once")
    return _permute(input, dims=order)


def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two dimensions exchanged."""
    order = list(range(input.ndim))
    a, b = one_dim(dim0, input.ndim), one_dim(dim1, input.ndim)
    order[a], order[b] = b, a
    return _permute(input, dims=tuple(order))


def _stretched(x: Tensor, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The dimensions of `shape` along which x is repeated, the new leading ones included."""
    extra = len(shape) - x.ndim
    return tuple(i for i, n in enumerate(shape) if i < extra or x.shape[i - extra] != n)


@op(
    lambda g, y, x, *, shape: reshape(sum(g, _stretched(x, shape), keepdim=True), x.shape),
    view=True,
)
def _expand(xp, x, *, shape):
    return xp.broadcast_to(x, shape)


def expand(input: Tensor, *sizes: Any) -> Tensor:
    """Dimensions of length 1 repeated, and new ones in front, as a view; -1 keeps a length."""
    sizes = all_sizes(sizes)
    extra = len(sizes) - input.ndim
    shape = tuple(
        input.shape[i - extra] if n == -1 and i >= extra else n for i, n in enumerate(sizes)
    )
    if (
        extra < 0
        or -1 in shape
        or any(own not in (1, n) for own, n in zip(input.shape, shape[extra:], strict=True))
    ):
        raise ValueError(f"expand: {sizes} does not fit the shape {input.shape}")
    return _expand(input, shape=shape)


@with_axis
def squeeze(input: Tensor, dim: Dims = None) -> Tensor:
    """Remove the dimensions of length 1; with `dim`, only those named there."""
    dims = all_dims(dim, input.ndim)
    return reshape(input, tuple(n for i, n in enumerate(input.shape) if i not in dims or n != 1))


@with_axis
def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """Insert a dimension of length 1 at position `dim`."""
    dim = one_dim(dim, input.ndim + 1)
    return reshape(input, *input.shape[:dim], 1, *input.shape[dim:])


# -- matmul -------------------------------------------------------------------------------------


def _matmul_fused(xp, asked, g, y, a, b):
    factors = (g, b.swapaxes(-1, -2)), (a.swapaxes(-1, -2), g)
    return backend.kernels(xp).matmuls(xp, [factors[i] for i in asked])


@op(
    lambda g, y, a, b: _matmul(g, transpose(b, -1, -2)),
    lambda g, y, a, b: _matmul(transpose(a, -1, -2), g),
    fused=_matmul_fused,
)
def _matmul(xp, a, b):
    return backend.kernels(xp).matmul(xp, a, b)


def matmul(input: Any, other: Any) -> Tensor:
    """The matrix product: 1-D, 2-D and batches, which broadcast, as in PyTorch and NumPy."""
    a, b = operand(input, "matmul"), operand(other, "matmul")
    if not (isinstance(a, Tensor) and isinstance(b, Tensor) and a.ndim and b.ndim):
        raise ValueError("matmul: an operand is a scalar; use * to scale")
    left = unsqueeze(a, 0) if a.ndim == 1 else a  # (K,) -> (1, K)
    right = unsqueeze(b, 1) if b.ndim == 1 else b  # (K,) -> (K, 1)
    if left.shape[-1] != right.shape[-2]:
        raise ValueError(f"matmul: shapes {a.shape} and {b.shape} do not fit together")
    if left.shape[:-2] != right.shape[:-2]:
        try:
            batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
        except ValueError:
            raise ValueError(
                f"matmul: the batch dimensions of shapes {a.shape} and {b.shape} do not broadcast"
            ) from None
        left, right = expand(left, *batch, -1, -1), expand(right, *batch, -1, -1)
    y = _matmul(left, right)
    if a.ndim == 1:
        y = squeeze(y, -2)
    return squeeze(y, -1) if b.ndim == 1 else y
