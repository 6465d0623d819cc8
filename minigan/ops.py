"""The elementwise operations: arithmetic, functions, and copies in another dtype or memory.

Each operation is its forward on raw arrays, with one backward rule per input above it (g is the
upstream gradient, y the output). The rules are written in operations themselves, so each can be
differentiated again. Names and argument order are PyTorch's.

Read next: `shapes.py` for sums, shapes and matmul, and `pieces.py` for parts of tensors. `methods.py`
gives Tensor the operators (`*`, `-`, ...) that the rules use.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from . import backend
from .arguments import is_real, is_whole
from .arrays import DEFAULT_DTYPE
from .tensor import Tensor, op, raw, tensor


def floats(x: Any) -> Any:
    """Integers and bools as float32, because PyTorch computes functions of them in float32 too.

    Anything else is returned unchanged. (NumPy computes exp of uint8 in float16, and its -|x| wraps.)
    """
    return x.astype(DEFAULT_DTYPE) if getattr(x, "dtype", DEFAULT_DTYPE).kind != "f" else x


def _constant(array: Any, like: Tensor) -> Tensor:
    """An array as a Tensor without history, in the dtype of `like`."""
    return Tensor(array.astype(like.dtype, copy=False))


# -- selecting ----------------------------------------------------------------------------------


@op(lambda g, y, x, *, mask: _keep(g, mask=mask))
def _keep(xp, x, *, mask):
    """x where the mask is true, else 0.

    The rules of ReLU, clamp, where and others use this selection instead of multiplying by 0. At a
    value that the forward cuts off, the upstream gradient may be infinite, as in sqrt(relu(x)), and
    0 * inf is NaN.
    """
    return backend.kernels(xp).keep(xp, x, mask)


# -- arithmetic ---------------------------------------------------------------------------------


@op(lambda g, y, a, b: g, lambda g, y, a, b: g, elementwise=True, arithmetic=True)
def add(xp, a, b):
    """a + b"""
    return a + b


@op(lambda g, y, a, b: g, lambda g, y, a, b: -g, elementwise=True, arithmetic=True)
def sub(xp, a, b):
    """a - b"""
    return a - b


@op(lambda g, y, a, b: g * b, lambda g, y, a, b: g * a, elementwise=True, arithmetic=True)
def mul(xp, a, b):
    """a * b"""
    return a * b


@op(lambda g, y, a, b: g / b, lambda g, y, a, b: -(g * y) / b, elementwise=True, arithmetic=True)
def div(xp, a, b):
    """a / b; integers give float32"""
    return xp.true_divide(a, b)


@op(lambda g, y, x: -g, elementwise=True, arithmetic=True)
def neg(xp, x):
    """-x"""
    return -x


def _pow_rule(g: Tensor, y: Tensor, x: Tensor, *, exponent: float) -> Tensor:
    if exponent == 0:
        return _keep(g, mask=backend.array_module(x.data).zeros(x.shape, bool))
    return g * (exponent * x ** (exponent - 1))


@op(_pow_rule, elementwise=True)
def _pow(xp, x, *, exponent):
    return x**exponent


def pow(input: Tensor, exponent: float) -> Tensor:
    """input ** exponent, where the exponent is a number."""
    if isinstance(exponent, np.generic):
        exponent = exponent.item()
    if not isinstance(exponent, (int, float)):
        raise TypeError(
            f"pow: the exponent must be a number, not {type(exponent).__name__}; "
            "for tensors write exp(exponent * log(x))"
        )
    if input.dtype.kind != "f" and isinstance(exponent, int) and exponent < 0:
        raise ValueError(
            f"pow: {input.dtype} has no negative powers ({exponent}); use .to('float32') first"
        )
    return _pow(input, exponent=exponent)


@op(
    lambda g, y, x, *, base: g * y * (math.log(base) if base else 0.0),
    elementwise=True,
)
def _rpow(xp, x, *, base):
    return base**x


def power_of(exponent: Tensor, base: float) -> Tensor:
    """base ** exponent, where the base is a number of at least 0."""
    base = base.item() if isinstance(base, np.generic) else base
    if not isinstance(base, (int, float)) or base < 0:
        found = base if isinstance(base, (int, float)) else type(base).__name__
        raise TypeError(f"pow: the base must be a number of at least 0, not {found}")
    return _rpow(exponent, base=base)


# -- elementwise functions ----------------------------------------------------------------------


@op(lambda g, y, x: g * y, elementwise=True, arithmetic=True)
def exp(xp, x):
    """e ** x"""
    return xp.exp(floats(x))


@op(lambda g, y, x: g / x, elementwise=True, arithmetic=True)
def log(xp, x):
    """The natural logarithm."""
    return xp.log(floats(x))


@op(lambda g, y, x: g / (2.0 * y), elementwise=True, arithmetic=True)
def sqrt(xp, x):
    """The square root."""
    return xp.sqrt(floats(x))


def _abs_rule(g: Tensor, y: Tensor, x: Tensor) -> Tensor:
    sign = backend.array_module(x.data).sign(x.data)
    return _keep(g, mask=sign != 0) * _constant(sign, g)


@op(_abs_rule, elementwise=True)
def abs(xp, x):
    """|x|; the gradient at 0 is 0"""
    return xp.abs(x)


def _clamp_rule(g: Tensor, y: Tensor, x: Tensor, *, low: Any, high: Any) -> Tensor:
    above = True if low is None else x.data >= low
    below = True if high is None else x.data <= high
    return _keep(g, mask=above & below)


@op(_clamp_rule, elementwise=True)
def _clamp(xp, x, *, low, high):
    return xp.clip(x, low, high)


def clamp(input: Tensor, min: float | None = None, max: float | None = None) -> Tensor:
    """input limited to [min, max]. The gradient is 1 inside and on the bounds, 0 outside."""
    if min is None and max is None:
        raise ValueError("clamp: both bounds are None; give min, max or both")
    low, high = (v.item() if isinstance(v, np.generic) else v for v in (min, max))
    for bound in (low, high):
        if bound is not None and not isinstance(bound, (int, float)):
            raise TypeError(
                f"clamp: bounds are numbers, not {type(bound).__name__}; for tensors use maximum(...)"
            )
    return _clamp(input, low=low, high=high)


def _share(g: Tensor, a: Any, b: Any) -> Tensor:
    """g where a > b or one of them is NaN, g / 2 where they are equal, 0 where a < b."""
    a, b = raw(a), raw(b)
    return _keep(g, mask=~(a < b)) * _constant(((a != b) + 1.0) / 2, g)


@op(lambda g, y, a, b: _share(g, a, b), lambda g, y, a, b: _share(g, b, a), elementwise=True)
def maximum(xp, a, b):
    """The larger of a and b; NaN where one of them is NaN.

    Where they are equal, each gets half of the gradient. Where one is NaN, each gets all of it, as in
    PyTorch, so that the NaN shows in the gradients too.
    """
    return xp.maximum(a, b)


@op(lambda g, y, a, b: _share(g, b, a), lambda g, y, a, b: _share(g, a, b), elementwise=True)
def minimum(xp, a, b):
    """The smaller of a and b; otherwise like `maximum`."""
    return xp.minimum(a, b)


@op(
    lambda g, y, a, b, *, mask: _keep(g, mask=mask),
    lambda g, y, a, b, *, mask: _keep(g, mask=~mask),
    elementwise=True,
)
def _where(xp, a, b, *, mask):
    return xp.where(mask, a, b)


def where(condition: Any, input: Any, other: Any) -> Tensor:
    """input where the condition is true, else other; all three broadcast."""
    mask = raw(condition if isinstance(condition, Tensor) else tensor(condition))
    device = next((x.device for x in (input, other) if isinstance(x, Tensor)), "cpu")
    return _where(input, other, mask=backend.move(mask, device).astype(bool))


def leaky_relu_gradient(g: Tensor, y: Tensor, slope: float) -> Tensor:
    """g where y > 0, else slope * g."""
    if slope == 0:
        return _keep(g, mask=y.data > 0)
    # Arithmetic on zeros and ones, because a masked loop is ten times slower.
    positive = (y.data > 0).astype(y.dtype)
    return g * Tensor(positive + (1 - positive) * slope)


def _leaky_relu_fused(xp, asked, g, y, x, *, slope):
    return [backend.kernels(xp).leaky_relu_gradient(xp, g, y, slope)]


@op(
    lambda g, y, x, *, slope: leaky_relu_gradient(g, y, slope),
    elementwise=True,
    fused=_leaky_relu_fused,
)
def _leaky_relu(xp, x, *, slope):
    return backend.kernels(xp).leaky_relu(xp, floats(x) if slope else x, slope)


def leaky_relu(input: Tensor, negative_slope: float = 0.01) -> Tensor:
    """x where x > 0, else negative_slope * x, for a finite slope of at least 0."""
    if not is_real(negative_slope) or negative_slope < 0:
        raise ValueError(
            f"leaky_relu: negative_slope {negative_slope} must be at least 0 and finite"
        )
    return _leaky_relu(input, slope=float(negative_slope))


def relu(input: Tensor) -> Tensor:
    """max(x, 0); the gradient at 0 is 0."""
    return _leaky_relu(input, slope=0.0)


@op(lambda g, y, x: g * (1.0 - y * y), elementwise=True, arithmetic=True)
def tanh(xp, x):
    """The hyperbolic tangent."""
    return xp.tanh(floats(x))


@op(lambda g, y, x: g * y * sigmoid(-x), elementwise=True)
def sigmoid(xp, x):
    """1 / (1 + e^-x), exact on both tails. The rule uses sigmoid(-x), because 1 - y loses digits.

    Where e^-x is too large for the dtype (float32: below -88.7), the result is 0, as in PyTorch.
    """
    with np.errstate(over="ignore"):
        return 1 / (1 + xp.exp(-floats(x)))


@op(lambda g, y, x: g * sigmoid(x), elementwise=True)
def softplus(xp, x):
    """log(1 + e^x), computed as log(1 + e^-|x|) + max(x, 0), which never overflows."""
    x = floats(x)
    return xp.log1p(xp.exp(-xp.abs(x))) + xp.maximum(x, 0)


# -- copies: another dtype, device or memory ----------------------------------------------------


@op(lambda g, y, x, *, dtype: cast(g, x.dtype))
def _cast(xp, x, *, dtype):
    return x.astype(dtype)


def cast(input: Tensor, dtype: Any) -> Tensor:
    """The same values in another dtype; the tensor itself if it already has that dtype."""
    try:
        dtype = np.dtype(dtype)
    except TypeError:
        raise TypeError(
            f"to: {dtype!r} is neither a device (cpu, cuda, cuda:1) nor a dtype (float32, int64, ...)"
        ) from None
    return input if input.dtype == dtype else _cast(input, dtype=dtype)


@op(lambda g, y, x, *, device: _move(g, device=x.device), view=True)
def _move(xp, x, *, device):
    return backend.move(x, device)


def to(
    input: Tensor, target: Any = None, dtype: Any = None, *, device: str | int | None = None
) -> Tensor:
    """The tensor on a device ("cpu", "cuda", "cuda:1"), in a dtype, or both.

    Returns the tensor itself if nothing changes.

    `target` is a device, the number of a GPU, or a dtype. Values that an integer dtype cannot hold
    wrap around, as in PyTorch; `tensor(x, dtype=...)` refuses them.
    """
    for wish in (target, device, dtype):
        wish = f"cuda:{wish}" if is_whole(wish) else wish
        if isinstance(wish, str) and wish.partition(":")[0] in ("cpu", "cuda", "auto"):
            place = backend.resolve_device(wish)
            input = input if input.device == place else _move(input, device=place)
        elif wish is not None:
            input = cast(input, wish)
    return input


@op(lambda g, y, x, *, order: g)
def _copy(xp, x, *, order):
    return x.copy(order=order)


def clone(input: Tensor) -> Tensor:
    """A copy with memory of its own; gradients flow through it."""
    return _copy(input, order="K")


def contiguous(input: Tensor) -> Tensor:
    """The tensor with its elements in C order in memory: the tensor itself, or a copy."""
    return input if input.data.flags.c_contiguous else _copy(input, order="C")
