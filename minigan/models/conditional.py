"""Labels in networks: as one-hot vectors, as planes, or as a scale and shift for each class.

A label is the number of a class, from 0 to K - 1; y is an int64 Tensor (N,). A network turns it into
one-hot rows (N, K) once, and everything that depends on the class is a product with these rows. (A
lookup would give the same values, but on a GPU its gradient adds up rows in an order that varies, so
the last bits of a run would vary too.)
"""

from __future__ import annotations

import numpy as np

from .. import init, nn
from ..arrays import DEFAULT_DTYPE
from ..functional import batch_norm
from ..labels import one_hot
from ..tensor import Tensor


def one_hot_rows(network: nn.Module, y: Tensor | None, classes: int, like: Tensor) -> Tensor | None:
    """The labels as one-hot rows (N, K) in the dtype of the batch `like`; None without classes.

    Rows (N, K) of floats may be given instead of labels: a mixture of classes, such as [0.5, 0.5, 0]
    for a sample between the first two.

    Raises ValueError if a network with classes gets no labels, one without classes gets some, or their
    number is not N; TypeError if labels are not integers, IndexError if one is not from 0 to K - 1.
    """
    name = type(network).__name__
    if not classes:
        if y is not None:
            raise ValueError(f"{name}: this network takes no labels; make it with classes=K")
        return None
    if y is None:
        raise ValueError(f"{name}: give the labels y (N,) too, because there are {classes} classes")
    if isinstance(y, Tensor) and y.shape == (len(like), classes) and y.dtype.kind == "f":
        return y.to(like.dtype)
    if getattr(y, "shape", None) != (len(like),):
        raise ValueError(
            f"{name}: expected one label for each of {len(like)} samples, not {getattr(y, 'shape', y)}"
        )
    return one_hot(y, classes).to(like.dtype)


class ConditionalBatchNorm(nn.Module):
    """Batch norm with a separate scale and shift for each class: (N, C, ...) -> the same shape.

    weight[y] * (x - mean) / sqrt(var + eps) + bias[y], where weight (classes, C) starts as 1 and bias
    (classes, C) as 0. The statistics are over the whole batch, whatever its classes: see
    `nn.BatchNorm2d`.

    Dumoulin, Shlens & Kudlur 2017, "A Learned Representation for Artistic Style"; for GANs, Miyato &
    Koyama 2018.
    """

    def __init__(self, num_features: int, classes: int):
        zeros = lambda *shape: init.memory(shape, DEFAULT_DTYPE)
        self.weight = nn.Parameter(zeros(classes, num_features) + np.float32(1))
        self.bias = nn.Parameter(zeros(classes, num_features))
        self.running_mean = nn.Buffer(zeros(num_features))
        self.running_var = nn.Buffer(zeros(num_features) + np.float32(1))

    def forward(self, x: Tensor, rows: Tensor) -> Tensor:
        """rows (N, classes): one-hot, or mixtures of classes; see `one_hot_rows`."""
        y = batch_norm(x, self.running_mean, self.running_var, training=self.training)
        shape = (*x.shape[:2], *[1] * (x.ndim - 2))  # (N, C) -> (N, C, 1, 1)
        return y * (rows @ self.weight).reshape(shape) + (rows @ self.bias).reshape(shape)

    def extra_repr(self) -> str:
        classes, num_features = self.weight.shape
        return f"{num_features}, classes={classes}"


class ConditionalSequential(nn.Sequential):
    """A Sequential that passes the one-hot rows to its conditional norms."""

    def forward(self, input: Tensor, rows: Tensor) -> Tensor:
        for module in self:
            conditional = isinstance(module, ConditionalBatchNorm)
            input = module(input, rows) if conditional else module(input)
        return input
