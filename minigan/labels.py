"""Labels, which are whole numbers, as inputs of a network: one-hot, or as rows of a table.

A label is the number of a class, from 0 to K - 1. Labels on the host are checked. Labels on a GPU are
not, because the host would have to wait for them; check labels before you move them there.
"""

from __future__ import annotations

import numpy as np

from . import backend
from .arguments import check_indices, is_whole
from .ops import cast
from .pieces import getitem
from .tensor import Tensor


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """1 at each label's position and 0 elsewhere: labels (...) -> int64 (..., num_classes).

    By default the number of classes is the largest label plus 1, and reading that waits for a GPU.
    Raises TypeError if labels are not integers, IndexError if one is out of range, and ValueError if
    `num_classes` is illegal, or is missing and there is no label.
    """
    if not is_whole(num_classes) or num_classes < -1 or num_classes == 0:
        raise ValueError(f"one_hot: num_classes must be an int >= 1 or -1, not {num_classes!r}")
    check_indices("one_hot", "label", tensor, None if num_classes == -1 else num_classes)
    if num_classes == -1:
        if not tensor.numel():
            raise ValueError("one_hot: no labels to count the classes from; give num_classes")
        num_classes = int(tensor.data.max()) + 1
    classes = backend.array_module(tensor.data).arange(num_classes)
    return Tensor((tensor.data[..., None] == classes).astype(np.int64))  # (...) -> (..., K)


def embedding(input: Tensor, weight: Tensor) -> Tensor:
    """The rows of a table that the labels name: labels (...), weight (K, D) -> (..., D).

    Raises TypeError if labels are not integers, IndexError if one is out of range, and ValueError if
    the weight is not a matrix.
    """
    if not isinstance(weight, Tensor) or weight.ndim != 2:
        raise ValueError(
            "embedding: the weight must be a tensor (num_embeddings, embedding_dim), not "
            f"{getattr(weight, 'shape', type(weight).__name__)}"
        )
    check_indices("embedding", "label", input, len(weight))
    return getitem(weight, cast(input, np.int64))
