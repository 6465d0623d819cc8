"""Functions composed of operations: a call of each, and its formula in plain NumPy.

`test_functions.py` checks this table on the CPU, `test_strict_cupy.py` on the double of CuPy. The
operations themselves, with structures that Hypothesis draws, are in `strategies.py`.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

import minigan.functional as F
from minigan import tensor
from minigan.tensor import Tensor


class Function(NamedTuple):
    call: Callable[..., Tensor]
    shapes: list[tuple[int, ...]]  # of its inputs
    formula: Callable[..., np.ndarray]


def softmax(x, axis):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def cross_entropy(x, labels):
    """One loss per row, row by row."""
    return np.array([-np.log(softmax(row, 0)[k]) for row, k in zip(x, labels, strict=True)])


def normalised(x, axes, eps=1e-5):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


def group_norm(x, groups, w, b):
    """Group by group: consecutive channels with all of their pixels."""
    y, size = np.empty_like(x), x.shape[1] // groups
    for g in range(groups):
        part = slice(g * size, (g + 1) * size)
        y[:, part] = normalised(x[:, part], tuple(range(1, x.ndim)))
    row = (-1, *[1] * (x.ndim - 2))
    return y * w.reshape(row) + b.reshape(row)


LABELS = np.array([2, 0, 2, 1])
TARGETS = softmax(np.arange(12.0).reshape(4, 3) % 5, 1)
on = lambda values, x: tensor(values).to(x.device)  # on the device of x
like = lambda values, x: on(values, x).to(x.dtype)


def norm(x, axis=None, keepdims=False):
    return np.sqrt((x**2).sum(axis, keepdims=keepdims))


def pool(x, reduce, kernel, stride, padding=(0, 0), value=0.0):
    """Window by window."""
    (kh, kw), (sh, sw), (ph, pw) = kernel, stride, padding
    x = np.pad(x, [(0, 0), (0, 0), (ph, ph), (pw, pw)], constant_values=value)
    rows = range(0, x.shape[2] - kh + 1, sh)
    return np.stack(
        [
            np.stack(
                [
                    reduce(x[:, :, i : i + kh, j : j + kw], axis=(2, 3))
                    for j in range(0, x.shape[3] - kw + 1, sw)
                ],
                -1,
            )
            for i in rows
        ],
        2,
    )


def bilinear(x, size):
    """Pixel by pixel, as PyTorch's documentation has it for align_corners=False."""

    def neighbours(i, old, new):
        at = max((i + 0.5) * old / new - 0.5, 0)
        left = min(int(at), old - 1)
        return left, min(left + 1, old - 1), at - left

    y = np.empty((*x.shape[:2], *size))
    for i in range(size[0]):
        top, bottom, v = neighbours(i, x.shape[2], size[0])
        for j in range(size[1]):
            left, right, u = neighbours(j, x.shape[3], size[1])
            upper = (1 - u) * x[:, :, top, left] + u * x[:, :, top, right]
            lower = (1 - u) * x[:, :, bottom, left] + u * x[:, :, bottom, right]
            y[:, :, i, j] = (1 - v) * upper + v * lower
    return y


WHERE = np.array([[2, 0], [1, 1], [0, 2]])  # an index for gather

FUNCTIONS = {
    "max": Function(F.max, [(2, 3)], np.max),
    "max along": Function(lambda x: F.max(x, 1)[0], [(2, 3, 2)], lambda x: x.max(1)),
    "min": Function(F.min, [(2, 3)], np.min),
    "min along, kept": Function(
        lambda x: F.min(x, -1, keepdim=True).values,
        [(2, 3)],
        lambda x: x.min(-1, keepdims=True),
    ),
    "prod": Function(F.prod, [(5,)], np.prod),
    "prod along": Function(lambda x: x.prod(1), [(2, 3, 2)], lambda x: x.prod(1)),
    "prod along, kept": Function(
        lambda x: F.prod(x, -1, True), [(2, 4)], lambda x: x.prod(-1, keepdims=True)
    ),
    "std": Function(F.std, [(2, 3)], lambda x: x.std(ddof=1)),
    "std along": Function(
        lambda x: x.std(1, unbiased=False, keepdim=True),
        [(2, 3)],
        lambda x: x.std(1, keepdims=True),
    ),
    "norm": Function(F.norm, [(2, 3)], norm),
    "norm along": Function(lambda x: x.norm(2, dim=(1, 2)), [(2, 3, 2)], lambda x: norm(x, (1, 2))),
    "normalize": Function(F.normalize, [(2, 3, 2)], lambda x: x / norm(x, 1, True)),
    "gather": Function(
        lambda x: F.gather(x, 1, on(WHERE, x)), [(3, 4)], lambda x: np.take_along_axis(x, WHERE, 1)
    ),
    "gather, shorter": Function(
        lambda x: F.gather(x, -2, on(WHERE, x)),
        [(3, 4)],
        lambda x: np.take_along_axis(x[:, :2], WHERE, 0),
    ),
    "split": Function(
        lambda x: F.cat(F.split(x, 2, 1)[::-1], 1), [(2, 5)], lambda x: x[:, [4, 2, 3, 0, 1]]
    ),
    "chunk": Function(lambda x: x.chunk(2)[1] * 2, [(3, 2)], lambda x: 2 * x[2:]),
    "unflatten": Function(
        lambda x: x.unflatten(1, (2, -1)), [(2, 6)], lambda x: x.reshape(2, 2, 3)
    ),
    "pad, reflect": Function(
        lambda x: F.pad(x, (1, 2, 0, 1), "reflect"),
        [(2, 2, 3)],
        lambda x: np.pad(x, [(0, 0), (0, 1), (1, 2)], mode="reflect"),
    ),
    "avg_pool2d": Function(
        lambda x: F.avg_pool2d(x, 2), [(2, 3, 4, 5)], lambda x: pool(x, np.mean, (2, 2), (2, 2))
    ),
    "avg_pool2d, tiles": Function(
        lambda x: F.avg_pool2d(x, (2, 3)),
        [(2, 2, 4, 6)],
        lambda x: pool(x, np.mean, (2, 3), (2, 3)),
    ),
    "avg_pool2d, overlapping": Function(
        lambda x: F.avg_pool2d(x, (3, 2), (2, 1), (1, 0)),
        [(2, 1, 4, 3)],
        lambda x: pool(x, np.mean, (3, 2), (2, 1), (1, 0)),
    ),
    "avg_pool2d, without the padding": Function(
        lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False),
        [(2, 1, 4, 3)],
        lambda x: pool(x, np.nanmean, (3, 3), (1, 1), (1, 1), np.nan),
    ),
    "max_pool2d": Function(
        lambda x: F.max_pool2d(x, 2), [(2, 3, 4, 5)], lambda x: pool(x, np.max, (2, 2), (2, 2))
    ),
    "max_pool2d, overlapping": Function(
        lambda x: F.max_pool2d(x, 3, (2, 1), (0, 1)),
        [(2, 1, 4, 3)],
        lambda x: pool(x, np.max, (3, 3), (2, 1), (0, 1), -np.inf),
    ),
    "nearest": Function(
        lambda x: F.interpolate(x, scale_factor=2),
        [(2, 3, 2, 2)],
        lambda x: x.repeat(2, 2).repeat(2, 3),
    ),
    "nearest, uneven": Function(
        lambda x: F.interpolate(x, (2, 6)), [(1, 2, 2, 2)], lambda x: x.repeat(3, 3)
    ),
    "bilinear": Function(
        lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
        [(2, 3, 2, 3)],
        lambda x: bilinear(x, (4, 6)),
    ),
    "bilinear, uneven": Function(
        lambda x: F.interpolate(x, (7, 2), mode="bilinear", align_corners=False),
        [(1, 2, 3, 5)],
        lambda x: bilinear(x, (7, 2)),
    ),
    "softmax": Function(lambda x: F.softmax(x, 1), [(2, 3, 2)], lambda x: softmax(x, 1)),
    "log_softmax": Function(
        lambda x: F.log_softmax(x, axis=-1), [(2, 3)], lambda x: np.log(softmax(x, 1))
    ),
    "logsumexp": Function(
        lambda x: F.logsumexp(x, (0, 2)), [(2, 3, 2)], lambda x: np.log(np.exp(x).sum((0, 2)))
    ),
    "logsumexp, kept": Function(
        lambda x: F.logsumexp(x, 1, keepdim=True),
        [(2, 3)],
        lambda x: np.log(np.exp(x).sum(1, keepdims=True)),
    ),
    "cross_entropy": Function(
        lambda x: F.cross_entropy(x, on(LABELS, x)),
        [(4, 3)],
        lambda x: cross_entropy(x, LABELS).mean(),
    ),
    "cross_entropy, rows": Function(
        lambda x: F.cross_entropy(x, on(LABELS, x), reduction="none"),
        [(4, 3)],
        lambda x: cross_entropy(x, LABELS),
    ),
    "cross_entropy, probabilities": Function(
        lambda x: F.cross_entropy(x, like(TARGETS, x), reduction="sum"),
        [(4, 3)],
        lambda x: -(TARGETS * np.log(softmax(x, 1))).sum(),
    ),
    "mse_loss": Function(F.mse_loss, [(2, 3)] * 2, lambda x, t: ((x - t) ** 2).mean()),
    "mse_loss, one target": Function(
        lambda x: F.mse_loss(x, 1.0, reduction="none"), [(2, 3)], lambda x: (x - 1) ** 2
    ),
    "l1_loss": Function(
        lambda x, t: F.l1_loss(x, t, reduction="sum"),
        [(2, 3)] * 2,
        lambda x, t: np.abs(x - t).sum(),
    ),
    "embedding": Function(
        lambda w: F.embedding(on(LABELS.reshape(2, 2), w), w),
        [(3, 2)],
        lambda w: np.array([[w[2], w[0]], [w[2], w[1]]]),
    ),
    "dropout": Function(
        lambda x: F.dropout(x, 0.5, uniform=lambda shape: like([[0.1, 0.9, 0.5]] * 2, x)),
        [(2, 3)],
        lambda x: x * [0, 2, 2],
    ),
    "dropout2d": Function(
        lambda x: F.dropout2d(x, 0.2, uniform=lambda s: like(np.array([0.1, 0.9]).reshape(s), x)),
        [(1, 2, 2, 2)],
        lambda x: x * np.array([0, 1.25]).reshape(1, 2, 1, 1),
    ),
    "layer_norm": Function(
        lambda x, w, b: F.layer_norm(x, (3, 2), w, b),
        [(2, 3, 2), (3, 2), (3, 2)],
        lambda x, w, b: normalised(x, (1, 2)) * w + b,
    ),
    "layer_norm, last": Function(
        lambda x: F.layer_norm(x, [4], eps=0.1), [(2, 4)], lambda x: normalised(x, (1,), 0.1)
    ),
    "instance_norm": Function(
        lambda x: F.instance_norm(x), [(2, 2, 3, 2)], lambda x: normalised(x, (2, 3))
    ),
    "instance_norm, adaptive": Function(
        lambda x, w, b: F.instance_norm(x, weight=w, bias=b),
        [(2, 2, 3, 2), (2, 2), (2, 2)],
        lambda x, w, b: normalised(x, (2, 3)) * w[:, :, None, None] + b[:, :, None, None],
    ),
    "instance_norm, affine": Function(
        lambda x, w, b: F.instance_norm(x, weight=w, bias=b),
        [(2, 2, 4), (2,), (2,)],
        lambda x, w, b: normalised(x, (2,)) * w[:, None] + b[:, None],
    ),
    "group_norm": Function(
        lambda x, w, b: F.group_norm(x, 2, w, b),
        [(2, 4, 2, 2), (4,), (4,)],
        lambda x, w, b: group_norm(x, 2, w, b),
    ),
    "group_norm, no pixels": Function(
        lambda x, w, b: F.group_norm(x, 2, w, b),
        [(2, 6), (6,), (6,)],
        lambda x, w, b: group_norm(x, 2, w, b),
    ),
}
