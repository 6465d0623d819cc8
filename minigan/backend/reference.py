"""The heavy kernels in plain array code, on whole arrays, for NumPy and CuPy. They define the results.

Letters: N images, C channels of the image, H x W pixels, O channels of the grid, OH x OW windows,
kh x kw kernel. All arrays are logically (N, C, H, W). In memory these kernels put the channels last,
because then a window's pixels are long contiguous runs, and cutting windows is a fast copy.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

Array = Any  # a numpy.ndarray or a cupy.ndarray


@dataclass(frozen=True)
class Window:
    """How a kernel slides over an image; each field is (vertical, horizontal), in pixels.

    The image's size is stored, because it cannot be inferred from the grid: with an inexact stride,
    several image sizes give the same grid.
    """

    image: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    pad: tuple[int, int]

    @property
    def grid(self) -> tuple[int, int]:
        """The number of positions (OH, OW) that the kernel takes on the padded image."""
        return tuple(
            (i + 2 * p - k) // s + 1
            for i, k, s, p in zip(self.image, self.kernel, self.stride, self.pad, strict=True)
        )

    def turned(self) -> Window:
        """The window of the same convolution, of stride 1, read from the grid to the image."""
        pads = tuple([k - 1 - p for k, p in zip(self.kernel, self.pad, strict=True)])
        return Window(self.grid, self.kernel, (1, 1), pads)


def columns(xp: ModuleType, x: Array, window: Window) -> Array:
    """Every window's pixels as one row: (N, C, H, W) -> (N*OH*OW, kh*kw*C)."""
    (n, c), (h, w), (ph, pw) = x.shape[:2], window.image, window.pad
    (oh, ow), (kh, kw), (sh, sw) = window.grid, window.kernel, window.stride
    padded = xp.zeros((n, h + 2 * ph, w + 2 * pw, c), x.dtype)
    padded[:, ph : ph + h, pw : pw + w] = x.transpose(0, 2, 3, 1)  # (N, H, W, C)
    # A window starts every sh rows and every sw columns; its rows of kw*C numbers are copied.
    image, row, pixel, number = padded.strides
    windows = xp.lib.stride_tricks.as_strided(
        padded,
        (n, oh, ow, kh, kw * c),
        (image, sh * row, sw * pixel, row, number),
    )
    return windows.reshape(n * oh * ow, kh * kw * c)  # the copy


def fold(xp: ModuleType, columns: Array, window: Window) -> Array:
    """The transpose of `columns`, which adds windows up: (N, OH, OW, kh, kw, C) -> (N, C, H, W)."""
    n, oh, ow, kh, kw, c = columns.shape
    (h, w), (ph, pw), (sh, sw) = window.image, window.pad, window.stride
    # Windows overlap, but the pixels under sw neighbouring taps do not: together they fill whole rows.
    strips = -(-(w + 2 * pw) // sw)
    padded = xp.zeros((n, h + 2 * ph, strips, sw, c), columns.dtype)
    for i in range(kh):
        rows = slice(i, i + sh * (oh - 1) + 1, sh)
        for j in range(0, kw, sw):
            taps = min(sw, kw - j)
            padded[:, rows, j // sw : j // sw + ow, :taps] += columns[:, :, :, i, j : j + taps]
    image = padded.reshape(n, h + 2 * ph, strips * sw, c)[:, ph : ph + h, pw : pw + w]
    return image.transpose(0, 3, 1, 2)  # (N, H, W, C) -> (N, C, H, W)


def pixel_rows(y: Array) -> Array:
    """One row of channels per position: (N, O, OH, OW) -> (N*OH*OW, O)."""
    return y.transpose(0, 2, 3, 1).reshape(-1, y.shape[1])


def kernel_rows(w: Array) -> Array:
    """The weight as the matrix that multiplies the columns: (O, C, kh, kw) -> (kh*kw*C, O)."""
    return w.transpose(2, 3, 1, 0).reshape(-1, w.shape[0])


def conv(xp: ModuleType, x: Array, w: Array, window: Window, memo: dict | None = None) -> Array:
    """y[n,o,p] = sum over c,k of x[n, c, p*stride + k - pad] w[o, c, k]; (N, O, OH, OW).

    memo  where faster kernels keep what they computed from w, for the other passes; unused here
    """
    y = columns(xp, x, window) @ kernel_rows(w)  # (N*OH*OW, O)
    return y.reshape(len(x), *window.grid, len(w)).transpose(0, 3, 1, 2)  # -> (N, O, OH, OW)


def conv_image(
    xp: ModuleType, w: Array, y: Array, window: Window, memo: dict | None = None
) -> Array:
    """x[n,c,q] = sum over o,p,k with p*stride + k - pad = q of w[o, c, k] y[n, o, p]; (N, C, H, W)."""
    n, c = y.shape[0], w.shape[1]
    columns = pixel_rows(y) @ kernel_rows(w).T  # (N*OH*OW, kh*kw*C)
    return fold(xp, columns.reshape(n, *window.grid, *window.kernel, c), window)


def conv_weight(xp: ModuleType, x: Array, y: Array, window: Window) -> Array:
    """w[o,c,k] = sum over n,p of x[n, c, p*stride + k - pad] y[n, o, p]; (O, C, kh, kw)."""
    w = columns(xp, x, window).T @ pixel_rows(y)  # (kh*kw*C, O)
    return w.reshape(*window.kernel, x.shape[1], y.shape[1]).transpose(3, 2, 0, 1)  # (O, C, kh, kw)


def conv_gradients(
    xp: ModuleType,
    asked: list[int],
    x: Array,
    w: Array,
    y: Array,
    window: Window,
    memo: dict | None = None,
) -> list[Array]:
    """The gradients of `conv`, given its upstream gradient y: dT/dx if 0 is asked, dT/dw if 1 is."""
    kernels = (lambda: conv_image(xp, w, y, window, memo), lambda: conv_weight(xp, x, y, window))
    return [kernels[i]() for i in asked]


def conv_image_gradients(
    xp: ModuleType,
    asked: list[int],
    w: Array,
    y: Array,
    x: Array,
    window: Window,
    memo: dict | None = None,
) -> list[Array]:
    """The gradients of `conv_image`, given its upstream gradient x: dT/dw for 0, dT/dy for 1."""
    kernels = (lambda: conv_weight(xp, x, y, window), lambda: conv(xp, x, w, window, memo))
    return [kernels[i]() for i in asked]


def matmul(xp: ModuleType, a: Array, b: Array) -> Array:
    """Matrix products (..., M, K) @ (..., K, N) -> (..., M, N); the batch dimensions must be equal."""
    return xp.matmul(a, b)


def matmuls(xp: ModuleType, pairs: list[tuple[Array, Array]]) -> list[Array]:
    """`matmul` of each pair; none may depend on another's result."""
    return [xp.matmul(a, b) for a, b in pairs]


# -- per channel: all dimensions of (N, C, ...) but C are reduced; statistics are (1, C, 1, ...) -----


def _sum(x: Array) -> Array:
    """The sum per channel, one axis at a time: a tree of short sums keeps float32's last digits."""
    return _sum_of_pixels(x).sum(axis=0, keepdims=True)


def _sum_of_pixels(x: Array) -> Array:
    """The sum per image and channel, one axis at a time: (N, C, ...) -> (N, C, 1, ...)"""
    for axis in range(x.ndim - 1, 1, -1):
        x = x.sum(axis=axis, keepdims=True)
    return x


def _count(x: Array) -> int:
    """The number of elements per channel."""
    return x.size // max(1, x.shape[1])


def total(xp: ModuleType, x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    """The sum over the axes. The sum of integers is int64, as in PyTorch."""
    if x.dtype.kind != "f":
        x = x.astype(xp.int64, copy=False)
    return x.sum(axis=axes, keepdims=keepdims)


def average(xp: ModuleType, x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    """The mean of floats over the axes."""
    return x.mean(axis=axes, keepdims=keepdims)


def norm(xp: ModuleType, arrays: list[Array]) -> Array:
    """The length of all arrays as one vector: the root of the sum of all squares."""
    return xp.sqrt(sum((a * a).sum() for a in arrays))


def moments(xp: ModuleType, x: Array) -> tuple[Array, Array]:
    """Mean and (biased) variance per channel. A second sum corrects the rounding of the mean."""
    mean = _sum(x) / _count(x)
    mean = mean + _sum(x - mean) / _count(x)  # so the mean of equal numbers is exactly that number
    return mean, _sum(xp.square(x - mean)) / _count(x)


def batch_statistics(
    xp: ModuleType, x: Array, eps: float, momentum: float, running: tuple[Array, Array] | None
) -> tuple[Array, Array]:
    """Mean and 1 / sqrt(variance + eps) per channel; also calls `move_running`."""
    mean, var = moments(xp, x)
    move_running(running, mean, var, _count(x), momentum)
    return mean, (var + eps) ** -0.5


def move_running(
    running: tuple[Array, Array] | None, mean: Array, var: Array, count: int, momentum: float
) -> None:
    """Move the running mean and (unbiased) variance, each (C,), towards the batch's, in place."""
    if running is not None:
        for r, batch in zip(running, (mean, var * (count / (count - 1))), strict=True):
            r *= 1 - momentum
            r += momentum * batch.reshape(-1)


def scale_shift(
    xp: ModuleType, x: Array, center: Array, scale: Array, w: Array, b: Array, slope: float
) -> Array:
    """(x - center) * (scale * w) + b per channel, then a leaky ReLU (slope 1: none)."""
    return leaky_relu(xp, (x - center) * (scale * w) + b, slope)


def batch_norm_gradients(
    xp: ModuleType,
    g: Array,
    y: Array,
    x: Array,
    mean: Array,
    inv_std: Array,
    w: Array,
    slope: float,
) -> tuple[Array, Array, Array]:
    """dx, dw and db of y = leaky_relu(w * xhat + b), where xhat = (x - mean) * inv_std, given g.

    dx = inv_std * w * (g - mean(g) - xhat * mean(g * xhat)), where g has passed back through the leaky
    ReLU. The two means are db / count and dw / count.
    """
    g = leaky_relu_gradient(xp, g, y, slope)
    xhat = (x - mean) * inv_std
    dw, db = _sum(g * xhat), _sum(g)
    return inv_std * w * (g - db / _count(x) - xhat * (dw / _count(x))), dw, db


# -- per image: the dimensions of (N, G, C/G, ...) behind the groups are reduced ----------------------


def group_norm(
    xp: ModuleType,
    x: Array,
    groups: int,
    eps: float,
    w: Array | float,
    b: Array | float,
    slope: float,
) -> tuple[Array, Array, Array]:
    """y = leaky_relu(w * xhat + b), the mean, and 1 / sqrt(variance + eps).

    xhat is x (N, C, ...) normalised within each image and group of C/G channels; w and b are per
    channel, (1, C, 1, ...), or per image and channel, (N, C, 1, ...), or the numbers 1.0 and 0.0. Both
    statistics are (N, G, 1, 1, ...), with one dimension more than x. A second mean corrects the
    rounding of the first.
    """
    grouped = _grouped(x, groups)
    axes = tuple(range(2, grouped.ndim))
    mean = grouped.mean(axis=axes, keepdims=True)
    mean = mean + (grouped - mean).mean(axis=axes, keepdims=True)
    off = grouped - mean
    inv_std = (xp.square(off).mean(axis=axes, keepdims=True) + eps) ** -0.5
    y = (off * inv_std).reshape(x.shape)
    y = y if isinstance(w, float) else y * w
    y = y if isinstance(b, float) else y + b
    return (y if slope == 1 else leaky_relu(xp, y, slope)), mean, inv_std


def group_norm_gradients(
    xp: ModuleType,
    asked: list[int],
    g: Array,
    y: Array,
    x: Array,
    mean: Array,
    inv_std: Array,
    w: Array | float,
    slope: float,
) -> list[Array]:
    """The gradients of `group_norm`, given g: dx if 0 is asked, dw if 1 is, db if 2 is.

    They are those of `batch_norm_gradients`, with the means of a group. dw and db have a value for each
    image and channel, (N, C, 1, ...).
    """
    if slope != 1:
        g = leaky_relu_gradient(xp, g, y, slope)
    grouped = _grouped(x, mean.shape[1])
    xhat = (grouped - mean) * inv_std

    def dx() -> Array:
        axes = tuple(range(2, grouped.ndim))
        g_xhat = _grouped(g if isinstance(w, float) else g * w, mean.shape[1])
        along_1 = g_xhat.mean(axis=axes, keepdims=True)
        along_x = (g_xhat * xhat).mean(axis=axes, keepdims=True)
        return (inv_std * (g_xhat - along_1 - xhat * along_x)).reshape(x.shape)

    dw = lambda: _sum_of_pixels(g * xhat.reshape(x.shape))
    kernels = (dx, dw, lambda: _sum_of_pixels(g))
    return [kernels[i]() for i in asked]


def _grouped(x: Array, groups: int) -> Array:
    """(N, C, ...) -> (N, G, C/G, ...)"""
    n, c, *pixels = x.shape
    return x.reshape(n, groups, c // groups, *pixels)


# -- elementwise -------------------------------------------------------------------------------------


def leaky_relu(xp: ModuleType, x: Array, slope: float) -> Array:
    """x where x > 0, else slope * x; slope 0 is the ReLU."""
    if slope == 0:
        return xp.maximum(x, 0)  # 0 * infinity would be NaN
    return xp.maximum(x, slope * x) if slope <= 1 else xp.minimum(x, slope * x)


def keep(xp: ModuleType, x: Array, mask: Array) -> Array:
    """x where the mask is true, else 0. (x * mask would turn a masked infinity into NaN.)"""
    return xp.where(mask, x, 0)


def leaky_relu_gradient(xp: ModuleType, g: Array, y: Array, slope: float) -> Array:
    """g where y > 0, else slope * g. (For slope >= 0, y > 0 exactly where x > 0.)"""
    if slope == 0:
        return keep(xp, g, y > 0)
    positive = (y > 0).astype(y.dtype)
    return g * (positive + (1 - positive) * slope)


def cross_entropy(xp: ModuleType, x: Array, t: Array | float) -> Array:
    """t softplus(-x) + (1 - t) softplus(x) for logits x and labels t, finite for every x."""
    return xp.maximum(x, 0) - x * t + xp.log1p(xp.exp(-xp.abs(x)))


def cross_entropy_gradient(xp: ModuleType, g: Array, x: Array, t: Array | float) -> Array:
    """cross_entropy's derivative by x: g * ((1 - t) sigmoid(x) - t sigmoid(-x)), exact on both tails.

    (This equals g * (sigmoid(x) - t), but sigmoid(x) - 1 has no digits left where D is certain.)
    """
    small = xp.exp(-xp.abs(x))
    near, far = 1 / (1 + small), small / (1 + small)  # sigmoid(|x|) and sigmoid(-|x|)
    return g * ((1 - t) * xp.where(x >= 0, near, far) - t * xp.where(x >= 0, far, near))


def scale_pixels(xp: ModuleType, batch: Array) -> Array:
    """uint8 pixels 0..255 to float32 values in [-1, 1], in the same memory order."""
    return batch.astype(xp.float32) * xp.float32(1 / 127.5) - xp.float32(1)


def refuse_half(moved: list[tuple[Array, Array, Array, Array, int]]) -> None:
    """Raise TypeError for float16: Adam's epsilon and its small squares would be 0 in it."""
    for p, *_ in moved:
        if p.dtype.itemsize < 4:
            raise TypeError(f"adam: {p.dtype} cannot hold squares of gradients; use .to('float32')")


def adam(
    xp: ModuleType,
    moved: list[tuple[Array, Array, Array, Array, int]],
    lr: float,
    betas: tuple[float, float],
    eps: float,
) -> None:
    """Algorithm 1 of Kingma & Ba 2015 for each (p, g, m, v, step), in place on p, m and v.

    Each of the four arrays may have its own memory order. Each number depends only on the numbers at
    the same index, so the order affects the speed, but no byte of the result; p's order for all is
    fastest. (Exact resuming relies on this, because a gradient averaged over processes, or a restored
    moment, may have another order than the original. A weight's order does change the last bits of
    products.)
    """
    refuse_half(moved)
    b1, b2 = betas
    for p, g, m, v, step in moved:
        m *= b1
        m += (1 - b1) * g
        v *= b2
        v += (1 - b2) * g * g
        root = xp.sqrt(v)
        root /= (1 - b2**step) ** 0.5
        root += eps
        p -= (lr / (1 - b1**step)) * m / root


def lerp(xp: ModuleType, moved: list[tuple[Array, Array]], weight: float) -> None:
    """slow + weight * (fast - slow) for each (slow, fast), in place on slow."""
    for slow, fast in moved:
        slow += weight * (fast - slow)
