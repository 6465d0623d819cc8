"""Reductions beyond sums: largest and smallest elements, products, deviations, norms.

Written like `ops.py`. Names, defaults and gradients are PyTorch's.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .arguments import Dims, all_dims, check_flag, check_floats, one_dim, with_axis
from .ops import cast, clamp, sqrt, where
from .pieces import cat, gather, split
from .shapes import expand, reshape, squeeze, var
from .shapes import sum as sum_over
from .tensor import Tensor, op

# -- largest and smallest -----------------------------------------------------------------------


def _extremum_rule(g: Tensor, y: Tensor, x: Tensor, *, dims, keepdim, largest) -> Tensor:
    """g, shared evenly among the elements that are the extremum (all of them if it is NaN)."""
    kept = y.data.reshape([1 if i in dims else n for i, n in enumerate(x.shape)])
    chosen = ~(x.data < kept) if largest else ~(x.data > kept)
    share = (chosen / chosen.sum(axis=dims, keepdims=True)).astype(g.dtype)
    return where(chosen, expand(reshape(g, kept.shape), x.shape), 0.0) * Tensor(share)


@op(_extremum_rule)
def _extremum(xp, x, *, dims, keepdim, largest):
    return (x.max if largest else x.min)(axis=dims, keepdims=keepdim)


def _extreme(name: str, input: Tensor, dim: Dims, keepdim: bool, largest: bool) -> Tensor:
    check_flag(name, "keepdim", keepdim)
    dims = all_dims(dim, input.ndim)
    if 0 in [input.shape[d] for d in dims]:
        raise ValueError(f"{name}: a tensor {input.shape} has no elements to choose from")
    return _extremum(input, dims=dims, keepdim=keepdim, largest=largest)


@with_axis
def amax(input: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """The largest element over the dimensions `dim`, by default over all.

    Several largest elements share the gradient evenly. If an element is NaN, so is the result.
    """
    return _extreme("amax", input, dim, keepdim, largest=True)


@with_axis
def amin(input: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """The smallest element over the dimensions `dim`; otherwise like `amax`."""
    return _extreme("amin", input, dim, keepdim, largest=False)


def _position(name: str, input: Tensor, dim: int | None, keepdim: bool, largest: bool) -> Tensor:
    """Where the extremum is: along a dimension, or in the flattened tensor if `dim` is None."""
    check_flag(name, "keepdim", keepdim)
    axis = None if dim is None else one_dim(dim, input.ndim)
    if not (input.numel() if axis is None else input.shape[axis]):
        raise ValueError(f"{name}: a tensor {input.shape} has no elements to choose from")
    find = input.data.argmax if largest else input.data.argmin
    return cast(Tensor(find(axis=axis, keepdims=keepdim)), np.int64)


@with_axis
def argmax(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The position of the largest element along `dim` as int64; of equal ones, the first.

    By default it is the position in the flattened tensor.
    """
    return _position("argmax", input, dim, keepdim, largest=True)


class Extremes(NamedTuple):
    """What `max` and `min` along a dimension return."""

    values: Tensor
    indices: Tensor


def _along(name: str, input: Tensor, dim: int, keepdim: bool, largest: bool) -> Extremes:
    check_flag(name, "keepdim", keepdim)
    indices = _position(name, input, dim, True, largest)
    found = Extremes(gather(input, dim, indices), indices)
    return found if keepdim else Extremes(*(squeeze(t, dim) for t in found))


@with_axis
def max(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor | Extremes:
    """The largest of all elements, as by `amax`; with `dim`, the pair (values, indices) along it.

    Of equal elements along a dimension, the first is chosen and gets the whole gradient.
    """
    if dim is None:
        return _extreme("max", input, None, keepdim, largest=True)
    return _along("max", input, dim, keepdim, largest=True)


@with_axis
def min(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor | Extremes:
    """The smallest of all elements; otherwise like `max`."""
    if dim is None:
        return _extreme("min", input, None, keepdim, largest=False)
    return _along("min", input, dim, keepdim, largest=False)


# -- products, deviations, norms ----------------------------------------------------------------


@with_axis
def prod(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The product along `dim`, by default of all elements; integers give int64.

    The elements are multiplied in pairs until one is left. So the gradients are correct next to zeros,
    where the product divided by the element would not be.
    """
    check_flag("prod", "keepdim", keepdim)
    x = input if dim is not None else reshape(input, -1)
    x = x if x.dtype.kind == "f" else cast(x, np.int64)
    dim = 0 if dim is None else one_dim(dim, x.ndim)
    if x.shape[dim] == 0:
        x = sum_over(x, dim, keepdim=True) + 1  # the product of nothing is 1
    while (n := x.shape[dim]) > 1:
        left, right, odd = split(x, [n // 2, n // 2, n % 2], dim)
        x = cat([left * right, odd], dim)
    return x if keepdim else squeeze(x, dim)


@with_axis
def std(
    input: Tensor,
    dim: Dims = None,
    unbiased: bool = True,
    keepdim: bool = False,
    *,
    correction: int | None = None,
) -> Tensor:
    """The square root of `var`. Where all elements are equal, its gradient is 0, as in PyTorch."""
    return _root(var(input, dim, unbiased, keepdim, correction=correction))


def _root(squares: Tensor) -> Tensor:
    """The square root, with the gradient 0 at 0, where the slope is infinite."""
    zero = squares.data == 0
    return where(zero, 0.0, sqrt(where(zero, 1.0, squares)))


@with_axis
def norm(input: Tensor, p: float = 2, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """sqrt(sum(x^2)) over the dimensions `dim`, by default over all. Its gradient at 0 is 0.

    Only p = 2 is supported. For p = 1 write `x.abs().sum(dim)`, for infinity `x.abs().amax(dim)`.
    """
    if isinstance(p, bool) or p not in (2, "fro"):
        raise ValueError(f"norm: p={p!r} is not supported, only 2; for 1 write x.abs().sum(dim)")
    check_floats("norm", input)
    if input.dtype == np.float16:  # the sum of squares would overflow
        return cast(norm(cast(input, np.float32), p, dim, keepdim), np.float16)
    return _root(sum_over(input * input, dim, keepdim))


def normalize(input: Tensor, p: float = 2, dim: Dims = 1, eps: float = 1e-12) -> Tensor:
    """x / max(norm(x), eps) over the dimensions `dim`: vectors of length 1."""
    check_floats("normalize", input)
    if input.dtype == np.float16:  # in which eps would be 0
        return cast(normalize(cast(input, np.float32), p, dim, eps), np.float16)
    return input / clamp(norm(input, p, dim, keepdim=True), min=float(eps))
