"""The operations: elementwise, reducing, shaping, joining, indexing, matmul.

Each is its forward on raw arrays and, above it, one backward rule per input (g is the upstream
gradient, y the output). The rules are written in the operations of this page, so each can be
differentiated again. Names and argument order are PyTorch's; `axis`/`keepdims` are understood
beside `dim`/`keepdim`. At the end the page gives Tensor its operators and methods.
"""

from __future__ import annotations

import builtins
import functools
import math
import operator
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np

from . import backend
from .tensor import DEFAULT_DTYPE, REFUSALS, Tensor, misfit, op, operand, tensor

Dims = int | Sequence[int] | None


def alike(name: str, **tensors: Tensor | None) -> None:
    """Raise unless these are tensors or arrays on one device and of one dtype; input must be given.

    The operations check this too, but under their own names and not those of the caller's arguments.
    """
    for key, t in tensors.items():
        known = isinstance(t, (Tensor, np.ndarray)) or backend.is_array(t)
        if not known and (t is not None or key == "input"):
            raise TypeError(
                f"{name}: the {key} is a {type(t).__name__}; make it a tensor with minigan.tensor"
            )
    arrays = {key: raw(t) for key, t in tensors.items() if t is not None}
    if len({backend.device_of(a) for a in arrays.values()}) > 1:
        places = ", ".join(f"{key} on {backend.device_of(a)}" for key, a in arrays.items())
        raise RuntimeError(f"{name}: {places}; bring them together with .to(device)")
    if len({a.dtype for a in arrays.values()}) > 1:
        dtypes = ", ".join(f"{key} is {a.dtype}" for key, a in arrays.items())
        raise TypeError(f"{name}: {dtypes}; make them one with .to(dtype)")


def is_whole(value: Any) -> bool:
    """Whether it is an integer, Python's or NumPy's, and not a bool."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_real(value: Any) -> bool:
    """Whether it is a finite number, Python's or NumPy's, and not a bool."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def constant(array: Any, like: Tensor) -> Tensor:
    """An array as a Tensor without history, in the dtype of `like`."""
    return Tensor(array.astype(like.dtype, copy=False))


def raw(x: Any) -> Any:
    """The array of a Tensor; arrays and numbers as they are."""
    return x.data if isinstance(x, Tensor) else x


def floats(x: Any) -> Any:
    """Integers as float32, in which functions of them are computed, as in PyTorch; else x itself.

    (NumPy computes exp of uint8 in float16, and its -|x| wraps around.)
    """
    return x.astype(DEFAULT_DTYPE) if getattr(x, "dtype", DEFAULT_DTYPE).kind != "f" else x


# -- selecting ----------------------------------------------------------------------------------


@op(lambda g, y, x, *, mask: _keep(g, mask=mask))
def _keep(xp, x, *, mask):
    """x where the mask holds, else 0.

    The rules of what cuts off (ReLU, clamp, where, ...) select with it. Where the forward pass cut
    off, the upstream gradient may be infinite, as that of sqrt(relu(x)) is, and 0 * inf is NaN.
    """
    return backend.kernels(xp).keep(xp, x, mask)


# -- arithmetic ---------------------------------------------------------------------------------


@op(lambda g, y, a, b: g, lambda g, y, a, b: g, elementwise=True)
def add(xp, a, b):
    """a + b"""
    return a + b


@op(lambda g, y, a, b: g, lambda g, y, a, b: -g, elementwise=True)
def sub(xp, a, b):
    """a - b"""
    return a - b


@op(lambda g, y, a, b: g * b, lambda g, y, a, b: g * a, elementwise=True)
def mul(xp, a, b):
    """a * b"""
    return a * b


@op(lambda g, y, a, b: g / b, lambda g, y, a, b: -(g * y) / b, elementwise=True)
def div(xp, a, b):
    """a / b; integers give float32"""
    return xp.true_divide(a, b)


@op(lambda g, y, x: -g, elementwise=True)
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
    """input ** exponent, for a number as exponent."""
    if isinstance(exponent, np.generic):
        exponent = exponent.item()
    if not isinstance(exponent, (int, float)):
        raise TypeError(
            f"pow: the exponent must be a number, not {type(exponent).__name__}; "
            "for tensors write exp(exponent * log(x))"
        )
    if input.dtype.kind != "f" and isinstance(exponent, int) and exponent < 0:
        raise ValueError(f"pow: {input.dtype} has no power {exponent}; use .to('float32') first")
    return _pow(input, exponent=exponent)


@op(
    lambda g, y, x, *, base: g * y * (math.log(base) if base else 0.0),
    elementwise=True,
)
def _rpow(xp, x, *, base):
    return base**x


def _power_of(exponent: Tensor, base: float) -> Tensor:
    """base ** exponent, for a number of at least 0 as base."""
    base = base.item() if isinstance(base, np.generic) else base
    if not isinstance(base, (int, float)) or base < 0:
        found = base if isinstance(base, (int, float)) else type(base).__name__
        raise TypeError(f"pow: the base must be a number of at least 0, not {found}")
    return _rpow(exponent, base=base)


# -- elementwise functions ----------------------------------------------------------------------


@op(lambda g, y, x: g * y, elementwise=True)
def exp(xp, x):
    """e ** x"""
    return xp.exp(floats(x))


@op(lambda g, y, x: g / x, elementwise=True)
def log(xp, x):
    """The natural logarithm."""
    return xp.log(floats(x))


@op(lambda g, y, x: g / (2.0 * y), elementwise=True)
def sqrt(xp, x):
    """The square root."""
    return xp.sqrt(floats(x))


def _abs_rule(g: Tensor, y: Tensor, x: Tensor) -> Tensor:
    sign = backend.array_module(x.data).sign(x.data)
    return _keep(g, mask=sign != 0) * constant(sign, g)


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
    """input limited to [min, max]; the gradient is 1 inside and on the bounds, 0 outside."""
    if min is None and max is None:
        raise ValueError("clamp: both bounds are None; give min, max or both")
    low, high = (v.item() if isinstance(v, np.generic) else v for v in (min, max))
    for bound in (low, high):
        if bound is not None and not isinstance(bound, (int, float)):
            raise TypeError(
                f"clamp: a bound is a number, not {type(bound).__name__}; for tensors use maximum(...)"
            )
    return _clamp(input, low=low, high=high)


def _share(g: Tensor, a: Any, b: Any) -> Tensor:
    """g where a > b, g / 2 where they are equal, 0 where a < b; where a or b is NaN, g to both."""
    a, b = raw(a), raw(b)
    return _keep(g, mask=~(a < b)) * constant(((a != b) + 1.0) / 2, g)


@op(lambda g, y, a, b: _share(g, a, b), lambda g, y, a, b: _share(g, b, a), elementwise=True)
def maximum(xp, a, b):
    """The larger of a and b, NaN where one is NaN.

    Where they are equal, each gets half of the gradient. Where one is NaN, each gets all of it, as in
    PyTorch: a NaN is to be seen in the gradient's path too.
    """
    return xp.maximum(a, b)


@op(
    lambda g, y, a, b, *, mask: _keep(g, mask=mask),
    lambda g, y, a, b, *, mask: _keep(g, mask=~mask),
    elementwise=True,
)
def _where(xp, a, b, *, mask):
    return xp.where(mask, a, b)


def where(condition: Any, input: Any, other: Any) -> Tensor:
    """input where the condition holds, else other; all three broadcast."""
    mask = raw(condition if isinstance(condition, Tensor) else tensor(condition))
    device = next((x.device for x in (input, other) if isinstance(x, Tensor)), "cpu")
    return _where(input, other, mask=backend.move(mask, device).astype(bool))


def leaky_relu_gradient(g: Tensor, y: Tensor, slope: float) -> Tensor:
    """g where y > 0, else slope * g."""
    if slope == 0:
        return _keep(g, mask=y.data > 0)
    # Sums of zeros and ones, because a masked loop is ten times slower.
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


@op(lambda g, y, x: g * (1.0 - y * y), elementwise=True)
def tanh(xp, x):
    """The hyperbolic tangent."""
    return xp.tanh(floats(x))


@op(lambda g, y, x: g * y * sigmoid(-x), elementwise=True)
def sigmoid(xp, x):
    """1 / (1 + e^-x), exact on both tails; the rule's 1 - y is written so as to keep its digits"""
    x = floats(x)
    small = xp.exp(-xp.abs(x))
    return xp.where(x >= 0, 1, small) / (1 + small)


@op(lambda g, y, x: g * sigmoid(x), elementwise=True)
def softplus(xp, x):
    """log(1 + e^x), for any x: log(1 + e^-|x|) + max(x, 0)"""
    x = floats(x)
    return xp.log1p(xp.exp(-xp.abs(x))) + xp.maximum(x, 0)


@op(lambda g, y, x, *, dtype: cast(g, x.dtype))
def _cast(xp, x, *, dtype):
    return x.astype(dtype)


def cast(input: Tensor, dtype: Any) -> Tensor:
    """The same values in another dtype; itself if it has that dtype already."""
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
    """The tensor on a device ("cpu", "cuda", "cuda:1"), in a dtype, or both; itself if nothing changes.

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
    """The tensor with its elements in C order in memory: itself, or a copy."""
    return input if input.data.flags.c_contiguous else _copy(input, order="C")


# -- dimensions ---------------------------------------------------------------------------------


def numpy_names(function: Callable) -> Callable:
    """Let a function with `dim` and `keepdim` understand NumPy's `axis` and `keepdims` too."""

    @functools.wraps(function)
    def renamed(*args: Any, **kwargs: Any) -> Any:
        for numpy_name, name in (("axis", "dim"), ("keepdims", "keepdim")):
            if numpy_name in kwargs:
                if name in kwargs:
                    raise TypeError(f"{function.__name__}: give {name} or {numpy_name}, not both")
                kwargs[name] = kwargs.pop(numpy_name)
        return function(*args, **kwargs)

    return renamed


def _one_dim(dim: int, ndim: int) -> int:
    if isinstance(dim, bool) or not isinstance(dim, (int, np.integer)):
        raise TypeError(f"a dimension is a whole number, not {dim!r}")
    if not -ndim <= dim < ndim:
        raise IndexError(f"dimension {dim} is out of range for a tensor of {ndim} dimensions")
    return dim % ndim


def _check_flag(function: str, name: str, value: Any) -> None:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(
            f"{function}: {name} is True or False, not {value!r}; several dimensions go into a tuple"
        )


def _all_dims(dim: Dims, ndim: int) -> tuple[int, ...]:
    """`dim` as a sorted tuple of positions; None means all."""
    dims = range(ndim) if dim is None else dim if hasattr(dim, "__iter__") else [dim]
    found = sorted(_one_dim(d, ndim) for d in dims)
    if len(set(found)) != len(found):
        raise ValueError(f"dimensions {tuple(dims)} name one dimension twice")
    return tuple(found)


def _sizes(sizes: tuple) -> tuple[int, ...]:
    """f(2, 3) and f((2, 3)) are the same, in Python's or NumPy's integers."""
    nested = len(sizes) == 1 and (
        not hasattr(sizes[0], "__index__") or getattr(sizes[0], "ndim", 0)
    )
    try:
        found = tuple(sizes[0] if nested else sizes)
        if any(isinstance(n, (bool, np.bool_)) for n in found):
            raise TypeError("bool is an integer to Python")
        return tuple(map(operator.index, found))
    except TypeError as error:
        raise TypeError(f"sizes must be integers, not {sizes}") from error


# -- reducing -----------------------------------------------------------------------------------


def _kept(shape: tuple[int, ...], dims: tuple[int, ...]) -> tuple[int, ...]:
    """The shape after reducing `dims` to length 1."""
    return tuple(1 if i in dims else n for i, n in enumerate(shape))


@op(lambda g, y, x, *, dims, keepdim: expand(reshape(g, _kept(x.shape, dims)), x.shape))
def _sum(xp, x, *, dims, keepdim):
    return backend.kernels(xp).total(xp, x, dims, keepdim)


@numpy_names
def sum(input: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """The sum over the dimensions `dim`, by default over all."""
    _check_flag("sum", "keepdim", keepdim)
    return _sum(input, dims=_all_dims(dim, input.ndim), keepdim=keepdim)


def _count(x: Tensor, dim: Dims) -> int:
    """How many elements go into each element of a reduction."""
    return math.prod(x.shape[d] for d in _all_dims(dim, x.ndim))


@op(
    lambda g, y, x, *, dims, keepdim: expand(
        reshape(g / _count(x, dims), _kept(x.shape, dims)), x.shape
    )
)
def _mean(xp, x, *, dims, keepdim):
    """One kernel on a GPU, where a sum and a quotient are two"""
    return backend.kernels(xp).average(xp, x, dims, keepdim)


@numpy_names
def mean(input: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """The mean over the dimensions `dim`, by default over all; of integers as float32.

    Integers are added up exactly, those of 64 bits in float64.
    """
    _check_flag("mean", "keepdim", keepdim)
    count = _count(input, dim)
    if input.dtype.kind in "iu" and input.dtype.itemsize == 8 and count:  # their sum may not fit
        return cast(mean(cast(input, np.float64), dim, keepdim), DEFAULT_DTYPE)
    if count == 0 or input.dtype.kind != "f":
        return sum(input, dim, keepdim) / (count or math.nan)
    return _mean(input, dims=_all_dims(dim, input.ndim), keepdim=keepdim)


@numpy_names
def var(
    input: Tensor,
    dim: Dims = None,
    unbiased: bool = True,
    keepdim: bool = False,
    *,
    correction: int | None = None,
) -> Tensor:
    """sum((x - mean)^2) / (n - correction); the correction is 1 (unbiased) unless said otherwise."""
    if isinstance(dim, bool):  # var(False), as in PyTorch
        dim, unbiased = None, dim
    _check_flag("var", "unbiased", unbiased)
    _check_flag("var", "keepdim", keepdim)
    if correction is None:
        correction = 1 if unbiased else 0
    if input.dtype == np.float16:  # the sum of squares would overflow
        found = var(cast(input, np.float32), dim, keepdim=keepdim, correction=correction)
        return cast(found, np.float16)
    near = mean(input, dim, keepdim=True).detach()
    center = near + mean(input - near, dim, keepdim=True)  # without what rounding has left over
    square = (input - center) ** 2
    degrees = _count(input, dim) - correction
    return sum(square, dim, keepdim) / (degrees if degrees > 0 else math.nan)


# -- shaping ------------------------------------------------------------------------------------


@op(lambda g, y, x, *, shape: _reshape(g, shape=x.shape), view=True)
def _reshape(xp, x, *, shape):
    return x.reshape(shape)


def reshape(input: Tensor, *shape: Any) -> Tensor:
    """The same elements in another shape; one size may be -1."""
    sizes = _sizes(shape)
    if min(sizes, default=0) < -1:
        raise ValueError(f"reshape: {sizes} has a negative size; only one, -1, is found by itself")
    return _reshape(input, shape=sizes)


def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """The dimensions from start_dim to end_dim as one."""
    if input.ndim == 0:
        return reshape(input, 1)
    start, end = _one_dim(start_dim, input.ndim), _one_dim(end_dim, input.ndim)
    if start > end:
        raise ValueError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim}")
    length = math.prod(input.shape[start : end + 1])
    return reshape(input, *input.shape[:start], length, *input.shape[end + 1 :])


@op(lambda g, y, x, *, dims: _permute(g, dims=tuple(int(i) for i in np.argsort(dims))), view=True)
def _permute(xp, x, *, dims):
    return x.transpose(dims)


def permute(input: Tensor, *dims: Any) -> Tensor:
    """The dimensions in a new order."""
    order = tuple(_one_dim(d, input.ndim) for d in _sizes(dims))
    if sorted(order) != list(range(input.ndim)):
        raise ValueError(f"permute: {order} does not name each of {input.ndim} dimensions once")
    return _permute(input, dims=order)


def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two dimensions exchanged."""
    order = list(range(input.ndim))
    a, b = _one_dim(dim0, input.ndim), _one_dim(dim1, input.ndim)
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
    sizes = _sizes(sizes)
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


@numpy_names
def squeeze(input: Tensor, dim: Dims = None) -> Tensor:
    """Without the dimensions of length 1, or without those of `dim` that have it."""
    dims = _all_dims(dim, input.ndim)
    return reshape(input, tuple(n for i, n in enumerate(input.shape) if i not in dims or n != 1))


@numpy_names
def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """With a new dimension of length 1 at `dim`."""
    dim = _one_dim(dim, input.ndim + 1)
    return reshape(input, *input.shape[:dim], 1, *input.shape[dim:])


@op(lambda g, y, x, *, widths, value: _pad(g, widths=tuple((-a, -b) for a, b in widths), value=0))
def _pad(xp, x, *, widths, value):
    # A negative width cuts off, which makes padding its own backward rule.
    x = x[
        tuple(slice(max(0, -a), n - max(0, -b)) for (a, b), n in zip(widths, x.shape, strict=True))
    ]
    return xp.pad(x, [(max(0, a), max(0, b)) for a, b in widths], constant_values=value)


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float = 0.0) -> Tensor:
    """Elements added at the edges: `pad` is (left, right, top, bottom, ...), last dimension first.

    Negative amounts cut off. Only PyTorch's mode "constant" is there.
    """
    if not isinstance(pad, Sequence) or not all(map(is_whole, pad)):
        raise TypeError(f"pad: the amounts are a tuple of integers, not {pad!r:.80}")
    if mode != "constant" or len(pad) % 2 or len(pad) > 2 * input.ndim:
        raise ValueError(f"pad: {tuple(pad)} in mode {mode!r} does not fit {input.ndim} dimensions")
    pairs = [tuple(pad[i : i + 2]) for i in range(0, len(pad), 2)]
    pairs += [(0, 0)] * (input.ndim - len(pairs))
    pairs.reverse()
    if any(n + min(a, 0) + min(b, 0) < 0 for n, (a, b) in zip(input.shape, pairs, strict=True)):
        raise ValueError(f"pad: {tuple(pad)} cuts off more than there is of {input.shape}")
    return _pad(input, widths=tuple(pairs), value=value)


# -- joining ------------------------------------------------------------------------------------


def _piece(i: int, g: Tensor, y: Tensor, *xs: Tensor, dim: int) -> Tensor:
    """The part of g that input i was copied to."""
    start = builtins.sum(x.shape[dim] for x in xs[:i])
    return g[(slice(None),) * dim + (slice(start, start + xs[i].shape[dim]),)]


@op(every=_piece)
def _cat(xp, *xs, dim):
    return xp.concatenate(xs, axis=dim)


@numpy_names
def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors joined along an existing dimension."""
    tensors = list(tensors)
    if not tensors:
        raise ValueError("cat: there are no tensors to join; give at least one")
    return _cat(*tensors, dim=_one_dim(dim, tensors[0].ndim))


@numpy_names
def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors of one shape joined along a new dimension."""
    tensors = list(tensors)
    if not tensors:
        raise ValueError("stack: there are no tensors to join; give at least one")
    return cat([unsqueeze(t, dim) for t in tensors], _one_dim(dim, tensors[0].ndim + 1))


# -- indexing -----------------------------------------------------------------------------------


@op(lambda g, y, x, *, index: _put(g, index=index, shape=x.shape), view=True)
def _getitem(xp, x, *, index):
    y = x[index]
    return x[(*index, ...)] if isinstance(y, np.generic) else y  # of one element: a view, no number


@op(lambda g, y, x, *, index, shape: _getitem(g, index=index))
def _put(xp, x, *, index, shape):
    """Zeros of the given shape, with x added at the index (an index may occur more than once).

    Floats are added up in float64 and rounded once: in float16, 1 added to 2048 leaves 2048.
    """
    if _is_basic(index):  # and then none occurs twice
        y = xp.zeros(shape, x.dtype)
        y[index] = x
        return y
    wide = np.dtype(np.float64) if x.dtype.kind == "f" else x.dtype
    y = xp.zeros(shape, wide)
    xp.add.at(y, index, x.astype(wide, copy=False))
    return y.astype(x.dtype, copy=False)


def _is_basic(index: Any) -> bool:
    """Whether what it takes is a view: no lists, no arrays."""
    entries = index if isinstance(index, tuple) else (index,)
    return all(e is None or e is ... or isinstance(e, slice) or is_whole(e) for e in entries)


def _index(name: str, index: Any) -> tuple:
    """The index as NumPy takes it: with `...`, a single element too is a view, of 0 dimensions."""
    entries = index if isinstance(index, tuple) else (index,)
    found = tuple(_entry(name, e) for e in entries)
    return found if not _is_basic(found) or any(e is ... for e in found) else (*found, ...)


def _getitem_method(self: Tensor, index: Any) -> Tensor:
    return _getitem(self, index=_index("getitem", index))


def _entry(name: str, index: Any) -> Any:
    """One entry of an index. Arrays are copied: the backward pass reads them again, later."""
    index = raw(index)
    if isinstance(index, (list, np.ndarray)):
        index = np.array(index)
        if not index.size and index.dtype != bool:  # x[[]]
            index = index.astype(int)
    elif backend.is_array(index):  # CuPy's
        index = index.copy()
    else:
        return index
    if index.dtype == np.uint8:
        raise TypeError(
            f"{name}: a uint8 index may mean a mask or positions; convert it to bool or to int64"
        )
    return int(index) if index.ndim == 0 and index.dtype.kind in "iu" else index


# -- matmul -------------------------------------------------------------------------------------


@op(
    lambda g, y, a, b: _matmul(g, transpose(b, -1, -2)),
    lambda g, y, a, b: _matmul(transpose(a, -1, -2), g),
)
def _matmul(xp, a, b):
    return backend.kernels(xp).matmul(xp, a, b)


def matmul(input: Any, other: Any) -> Tensor:
    """The matrix product: 1-D, 2-D and batches, which broadcast, as in PyTorch and NumPy."""
    a, b = operand(input, "matmul"), operand(other, "matmul")
    if 0 in (np.ndim(a), np.ndim(b)):
        raise ValueError("matmul: an operand is a scalar; use * to scale")
    left = unsqueeze(a, 0) if a.ndim == 1 else a  # (K,) -> (1, K)
    right = unsqueeze(b, 1) if b.ndim == 1 else b  # (K,) -> (K, 1)
    if left.shape[-1] != right.shape[-2]:
        raise ValueError(f"matmul: shapes {a.shape} and {b.shape} do not fit together")
    try:
        batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    except ValueError:
        raise ValueError(
            f"matmul: the batches of shapes {a.shape} and {b.shape} do not broadcast to one"
        ) from None
    y = _matmul(expand(left, *batch, -1, -1), expand(right, *batch, -1, -1))
    if a.ndim == 1:
        y = squeeze(y, -2)
    return squeeze(y, -1) if b.ndim == 1 else y


# -- operators and methods ----------------------------------------------------------------------


def _comparison(name: str) -> Callable:
    """The operator, elementwise. To what is no value at all (None, a string) no tensor is equal."""

    def compare(self: Tensor, other: Any) -> Tensor:
        value = isinstance(other, (int, float, complex, list, tuple)) or hasattr(other, "dtype")
        if not value:
            return NotImplemented
        other = raw(operand(other, name))
        try:
            return Tensor(getattr(operator, name)(self.data, other))
        except REFUSALS as error:
            raise misfit(name, [self.data, other], {}, error) from None

    return compare


def _logic(name: str) -> Callable:
    """The operator &, | or ^, of bools."""

    def combine(self: Tensor, other: Any) -> Tensor:
        found = [self.data, raw(operand(other, name))]
        for a in found:
            dtype = np.asarray(a).dtype if isinstance(a, (bool, int, float)) else a.dtype
            if dtype.kind != "b":
                raise TypeError(f"{name}: it joins bools, not {dtype}; compare first, as in x > 0")
        try:
            return Tensor(getattr(operator, name)(*found))
        except REFUSALS as error:
            raise misfit(name, found, {}, error) from None

    return combine


def _invert(self: Tensor) -> Tensor:
    if self.dtype != bool:
        raise TypeError(f"invert: it turns bools, not {self.dtype}; compare first, as in x > 0")
    return Tensor(~self.data)


def _in_place(function: Callable, name: str) -> Callable:
    """The method that writes the function's result over the tensor's own values: add_ of add, ...

    PyTorch also records such a change of a result (`loss += penalty`). Here a Tensor is its own node of
    the graph, with one history, so this is refused: write `loss = loss + penalty`.
    """

    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return self._write(name, function(self, *args, **kwargs))

    method.__name__ = name
    method.__doc__ = f"{function.__name__} in place: this tensor, changed, and all views of it."
    return method


def _setitem_method(self: Tensor, index: Any, value: Any) -> None:
    self._write("setitem", value, _index("setitem", index))


def size(input: Tensor, dim: int | None = None) -> tuple[int, ...] | int:
    """The shape, or its length in one dimension."""
    return input.shape if dim is None else input.shape[_one_dim(dim, input.ndim)]


def _swapped(function: Callable) -> Callable:
    return lambda self, other: function(other, self)


Tensor.__add__ = Tensor.__radd__ = add
Tensor.__sub__, Tensor.__rsub__ = sub, _swapped(sub)
Tensor.__mul__ = Tensor.__rmul__ = mul
Tensor.__truediv__, Tensor.__rtruediv__ = div, _swapped(div)
Tensor.__matmul__, Tensor.__rmatmul__ = matmul, _swapped(matmul)
Tensor.__neg__, Tensor.__pow__, Tensor.__rpow__ = neg, pow, _power_of
Tensor.__abs__, Tensor.__pos__, Tensor.__invert__ = abs, lambda self: self, _invert
Tensor.__getitem__, Tensor.__setitem__ = _getitem_method, _setitem_method
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(Tensor, f"__{_name}__", _comparison(_name))
for _name, _sign in (("and_", "&"), ("or_", "|"), ("xor", "^")):
    _method = _logic(_name)
    setattr(Tensor, f"__{_name.strip('_')}__", _method)
    setattr(Tensor, f"__r{_name.strip('_')}__", _method)
    setattr(Tensor, f"__i{_name.strip('_')}__", _in_place(_method, f"{_sign}="))
for _method in (
    abs, clamp, clone, contiguous, exp, expand, flatten, log, mean, permute, pow, relu, reshape,
    sigmoid, size, sqrt, squeeze, sum, tanh, to, transpose, unsqueeze, var,
):  # fmt: skip
    setattr(Tensor, _method.__name__, _method)
for _method in (add, sub, mul, div, pow, clamp):
    setattr(Tensor, f"{_method.__name__}_", _in_place(_method, f"{_method.__name__}_"))
Tensor.__iadd__, Tensor.__isub__ = _in_place(add, "+="), _in_place(sub, "-=")
Tensor.__imul__, Tensor.__itruediv__ = _in_place(mul, "*="), _in_place(div, "/=")
Tensor.__ipow__ = _in_place(pow, "**=")
Tensor.fill_ = lambda self, value: self._write("fill_", value)
Tensor.copy_ = lambda self, source: self._write("copy_", source)
Tensor.zero_ = lambda self: self._write("zero_", 0)
Tensor.view = reshape  # it may copy: a convolution's result is not in C order in memory
Tensor.T = property(lambda self: permute(self, *reversed(range(self.ndim))))
Tensor.cpu = lambda self: to(self, "cpu")
Tensor.cuda = lambda self, device="cuda": to(self, device)
Tensor.float = lambda self: to(self, np.float32)
Tensor.double = lambda self: to(self, np.float64)
Tensor.long = lambda self: to(self, np.int64)
