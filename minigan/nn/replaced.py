"""Compute with a network under other weights, and restore its own weights afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ..tensor import Tensor
from .module import Buffer, Module


@contextmanager
def replaced(network: Module, weights: Sequence[Tensor]) -> Iterator[None]:
    """Inside, the network computes with these Tensors instead of its parameters, in their order.

    The weights may be results with a graph, such as w - lr g, and gradients pass through them. Buffers
    are copies inside, so that running statistics stay as they are. A graph that is built inside
    remains valid afterwards. (PyTorch has `torch.func.functional_call` for this.)

    Raises ValueError if a weight is missing or has another shape.
    """
    parameters = list(network.parameters())
    if [w.shape for w in weights] != [p.shape for p in parameters]:
        raise ValueError(
            f"replaced: the weights have the shapes {[w.shape for w in weights]}, but the parameters "
            f"have {[p.shape for p in parameters]}"
        )
    new = {id(p): w for p, w in zip(parameters, weights, strict=True)}
    new |= {id(b): Buffer(b.data.copy(order="K")) for b in network.buffers()}
    saved = [(module, dict(vars(module))) for module in network.modules()]
    for module, parts in saved:
        vars(module).update({name: new[id(v)] for name, v in parts.items() if id(v) in new})
    try:
        yield
    finally:
        for module, parts in saved:
            vars(module).update(parts)
