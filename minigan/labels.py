"""Labels: whole numbers as the inputs of a network, one-hot or as rows of a table.

A label is the number of a class, from 0 to K - 1. Labels on the host are checked. Labels on a GPU are
not, because the host would have to wait for them; check them before they go there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import backend
from .arguments import is_whole
from .ops import cast
from .pieces import getitem
from .tensor import Tensor


def check_labels(name: str, labels: Any, classes: int | None) -> None:
    """Raise TypeError unless the labels are a Tensor of integers; IndexError for one out of range.

    classes  the number K of classes; None sets no upper limit
    """
    if not isinstance(labels, Tensor):
        raise TypeError(
            f"{name}: the labels are a {type(labels).__name__}; make them a tensor with minigan.tensor"
        )
    if labels.dtype.kind not in "iu":
        raise TypeError(f"{name}: labels must be integers, not {labels.dtype}; use .to('int64')")
    if labels.device == "cpu" and labels.numel():
        low, high = int(labels.data.min()), int(labels.data.max())
        if low < 0:
            raise IndexError(f"{name}: label {low} is negative; labels begin at 0")
        if classes is not None and high >= classes:
            raise IndexError(
                f"{name}: label {high} is too large for {classes} classes, whose labels end at "
                f"{classes - 1}"
            )


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """1 at each label's position and 0 elsewhere: labels (...) -> int64 (..., num_classes).

    By default the number of classes is the largest label plus 1, which is read from the labels.
    """
    if not is_whole(num_classes) or num_classes < -1 or num_classes == 0:
        raise ValueError(f"one_hot: num_classes must be an int >= 1 or -1, not {num_classes!r}")
    check_labels("one_hot", tensor, None if num_classes == -1 else num_classes)
    if num_classes == -1:
        if not tensor.numel():
            raise ValueError("one_hot: there is no label to count classes by; give num_classes")
        num_classes = int(tensor.data.max()) + 1
    classes = backend.array_module(tensor.data).arange(num_classes)
    return Tensor((tensor.data[..., None] == classes).astype(np.int64))  # (...) -> (..., K)


def embedding(input: Tensor, weight: Tensor) -> Tensor:
    """The rows of a table that the labels name: labels (...), weight (K, D) -> (..., D)."""
    if not isinstance(weight, Tensor) or weight.ndim != 2:
        raise ValueError(
            "embedding: the weight must be a tensor (num_embeddings, embedding_dim), not "
            f"{getattr(weight, 'shape', type(weight).__name__)}"
        )
    check_labels("embedding", input, len(weight))
    return getitem(weight, cast(input, np.int64))
