"""Scores as probabilities: softmax, its logarithm, and log-sum-exp, under PyTorch's names.

All three subtract the largest score first, so that no exponential overflows. The results do not depend
on the number subtracted. So it is treated as a constant, and the gradients are still correct.
"""

from __future__ import annotations

from . import backend
from .arguments import Dims, all_dims, check_flag, one_dim, with_axis
from .ops import exp, log
from .shapes import reshape
from .shapes import sum as sum_over
from .tensor import Tensor


def _largest(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """The maximum over the dimensions, kept with length 1, as a constant; 0 where it is infinite."""
    top = x.data.max(axis=dims, keepdims=True)
    xp = backend.array_module(top)
    return Tensor(xp.where(xp.isfinite(top), top, xp.zeros_like(top)))


@with_axis
def logsumexp(input: Tensor, dim: Dims, keepdim: bool = False) -> Tensor:
    """log(sum(e^x)) over the dimensions `dim`."""
    check_flag("logsumexp", "keepdim", keepdim)
    dims = all_dims(dim, input.ndim)
    top = _largest(input, dims)
    y = log(sum_over(exp(input - top), dims, keepdim=True)) + top
    return y if keepdim else reshape(y, [n for i, n in enumerate(input.shape) if i not in dims])


@with_axis
def softmax(input: Tensor, dim: int) -> Tensor:
    """e^x / sum(e^x) over the dimension `dim`: numbers above 0 whose sum is 1."""
    dims = (one_dim(dim, input.ndim),)
    e = exp(input - _largest(input, dims))
    return e / sum_over(e, dims, keepdim=True)


@with_axis
def log_softmax(input: Tensor, dim: int) -> Tensor:
    """x - log(sum(e^x)): the logarithm of softmax, finite even where softmax rounds to 0."""
    dims = (one_dim(dim, input.ndim),)
    x = input - _largest(input, dims)
    return x - log(sum_over(exp(x), dims, keepdim=True))
