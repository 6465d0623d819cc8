"""The forward of every operation, written again from its formula as loops over single numbers.

It is deliberately slow and plain, and uses nothing from minigan. The fast code must agree with it.
"""

from itertools import product
from math import exp, inf, log, log1p, sqrt

import numpy as np


def elementwise(formula):
    """A formula on Python numbers, applied to every element of arrays that broadcast."""

    def apply(*arrays):
        arrays = np.broadcast_arrays(*arrays)
        y = np.empty(arrays[0].shape)
        for i in np.ndindex(y.shape):
            y[i] = formula(*(float(a[i]) for a in arrays))
        return y

    return apply


def reduction(formula, dims, keepdim):
    """A formula on a list of numbers, applied to the elements that differ only along `dims`."""

    def apply(x):
        kept = tuple(1 if d in dims else n for d, n in enumerate(x.shape))
        cells = {i: [] for i in np.ndindex(kept)}
        for i in np.ndindex(x.shape):
            cells[tuple(0 if d in dims else j for d, j in enumerate(i))].append(float(x[i]))
        y = np.array([formula(cell) for cell in cells.values()]).reshape(kept)
        return y if keepdim else y.reshape([n for d, n in enumerate(x.shape) if d not in dims])

    return apply


def mean(values):
    return sum(values) / len(values)


def var(values, correction):
    return sum((v - mean(values)) ** 2 for v in values) / (len(values) - correction)


def sigmoid(x):
    return 1 / (1 + exp(-x))


def softplus(x):
    return log1p(exp(x))


def bce(p, t):
    return -(t * max(log(p) if p > 0 else -inf, -100) if t else 0) - (
        (1 - t) * max(log(1 - p) if p < 1 else -inf, -100) if t != 1 else 0
    )


def matmul(a, b):
    left = a[None] if a.ndim == 1 else a
    right = b[:, None] if b.ndim == 1 else b
    batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    left = np.broadcast_to(left, batch + left.shape[-2:])
    right = np.broadcast_to(right, batch + right.shape[-2:])
    y = np.zeros((*batch, left.shape[-2], right.shape[-1]))
    for *n, i, j in np.ndindex(y.shape):
        for k in range(left.shape[-1]):
            y[(*n, i, j)] += left[(*n, i, k)] * right[(*n, k, j)]
    y = y[..., 0, :] if a.ndim == 1 else y
    return y[..., 0] if b.ndim == 1 else y


def permute(x, order):
    y = np.empty([x.shape[d] for d in order])
    for i in np.ndindex(x.shape):
        y[tuple(i[d] for d in order)] = x[i]
    return y


def pad(x, widths, value):
    y = np.full([n + a + b for n, (a, b) in zip(x.shape, widths, strict=True)], value)
    for i in np.ndindex(y.shape):
        source = tuple(j - a for j, (a, _) in zip(i, widths, strict=True))
        if all(0 <= j < n for j, n in zip(source, x.shape, strict=True)):
            y[i] = x[source]
    return y


def put(x, index, shape):
    """Zeros with x added at the index; the places are found by indexing an array 0, 1, 2..."""
    y = np.zeros(shape)
    places = np.asarray(np.arange(y.size).reshape(shape)[index])
    for i in np.ndindex(places.shape):
        y.flat[places[i]] += x[i]
    return y


def cat(arrays, dim):
    rows = [np.take(a, i, dim) for a in arrays for i in range(a.shape[dim])]
    return np.stack(rows, dim)


def positions(size, kernel, stride, padding):
    """The positions where a kernel may start on the padded image, found by counting."""
    return [p for p in range(0, size + 2 * padding, stride) if p + kernel <= size + 2 * padding]


def meetings(image, kernel, stride, padding):
    """All (p, k, q): at grid position p, the kernel's pixel k meets the image's pixel q."""
    starts = [positions(*axis) for axis in zip(image, kernel, stride, padding, strict=True)]
    for p in product(*(range(len(s)) for s in starts)):
        for k in np.ndindex(*kernel):
            q = tuple(starts[a][p[a]] + k[a] - padding[a] for a in (0, 1))
            if all(0 <= q[a] < image[a] for a in (0, 1)):
                yield p, k, q


def conv(x, w, stride, padding):
    """y[n, o, p] = sum over c, k of x[n, c, q] w[o, c, k]"""
    image, kernel = x.shape[2:], w.shape[2:]
    grid = [len(positions(*a)) for a in zip(image, kernel, stride, padding, strict=True)]
    y = np.zeros((len(x), len(w), *grid))
    for p, k, q in meetings(image, kernel, stride, padding):
        for n, o, c in np.ndindex(len(x), len(w), x.shape[1]):
            y[(n, o, *p)] += x[(n, c, *q)] * w[(o, c, *k)]
    return y


def conv_transpose(y, w, stride, padding, image):
    """x[n, c, q] = sum over o, p, k of w[o, c, k] y[n, o, p]"""
    x = np.zeros((len(y), w.shape[1], *image))
    for p, k, q in meetings(image, w.shape[2:], stride, padding):
        for n, o, c in np.ndindex(len(y), len(w), w.shape[1]):
            x[(n, c, *q)] += y[(n, o, *p)] * w[(o, c, *k)]
    return x


def conv_weight(x, y, stride, padding, kernel):
    """w[o, c, k] = sum over n, p of x[n, c, q] y[n, o, p]"""
    w = np.zeros((y.shape[1], x.shape[1], *kernel))
    for p, k, q in meetings(x.shape[2:], kernel, stride, padding):
        for n, o, c in np.ndindex(len(x), y.shape[1], x.shape[1]):
            w[(o, c, *k)] += x[(n, c, *q)] * y[(n, o, *p)]
    return w


def batch_norm(x, eps, scale=None, shift=None, means=None, variances=None):
    """Channel by channel, with the batch's statistics or the given ones."""
    y = np.empty(x.shape)
    for c in range(x.shape[1]):
        values = [float(v) for v in x[:, c].flat]
        m = mean(values) if means is None else means[c]
        v = var(values, 0) if variances is None else variances[c]
        for i in np.ndindex(x[:, c].shape):
            at = (i[0], c, *i[1:])
            y[at] = (x[at] - m) / sqrt(v + eps)
            y[at] = y[at] * (1 if scale is None else scale[c]) + (0 if shift is None else shift[c])
    return y


def group_norm(x, groups, eps, scale=None, shift=None):
    """Image by image, and group by group of consecutive channels."""
    n, c = x.shape[:2]
    grouped = x.reshape(1, n * groups, c // groups, *x.shape[2:])
    y = batch_norm(grouped, eps).reshape(x.shape)
    row = lambda v: v.reshape(-1, c, *[1] * (x.ndim - 2))  # (C,) or, for each image, (N, C)
    y = y if scale is None else y * row(scale)
    return y if shift is None else y + row(shift)


def unmirror(y, widths):
    """Each number added where a mirrored frame of these widths has taken it from."""
    shape = [n - before - after for n, (before, after) in zip(y.shape, widths, strict=True)]
    places = np.pad(np.arange(np.prod(shape, dtype=int)).reshape(shape), widths, mode="reflect")
    x = np.zeros(shape)
    for i in np.ndindex(y.shape):
        x.flat[places[i]] += y[i]
    return x
