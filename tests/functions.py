"""The functions that are composed of operations: how each is called, and its formula in plain NumPy.

`test_functions.py` walks this table on the CPU, `test_strict_cupy.py` on the double of CuPy. The
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
    """One number per row, picked one after another."""
    return np.array([-np.log(softmax(row, 0)[k]) for row, k in zip(x, labels, strict=True)])


def normalised(x, axes, eps=1e-5):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


def group_norm(x, groups, w, b):
    """Group by group: the channels in a row, with all of their pixels."""
    y, size = np.empty_like(x), x.shape[1] // groups
    for g in range(groups):
        part = slice(g * size, (g + 1) * size)
        y[:, part] = normalised(x[:, part], tuple(range(1, x.ndim)))
    row = (-1, *[1] * (x.ndim - 2))
    return y * w.reshape(row) + b.reshape(row)


LABELS = np.array([2, 0, 2, 1])
TARGETS = softmax(np.arange(12.0).reshape(4, 3) % 5, 1)
on = lambda values, x: tensor(values).to(x.device)  # beside the input x
like = lambda values, x: on(values, x).to(x.dtype)

FUNCTIONS = {
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
