"""A player of the game: a network, its optimiser and, optionally, the average of its weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from .. import backend
from ..backend import Array
from ..nn import Buffer, Module
from ..optim import Optimizer
from ..tensor import Tensor, grad, no_grad


class Group(Protocol):
    """The processes that share a batch; `training.parallel.Group` implements it."""

    def average(self, gradients: Sequence[Tensor]) -> Sequence[Tensor]: ...

    def share(self, batch: Any) -> Any: ...

    def gather(self, mine: Array) -> Array: ...


class Alone:
    """The group of a single process, for a player that is made without a run."""

    def average(self, gradients: Sequence[Tensor]) -> Sequence[Tensor]:
        """The mean over one process: the gradients themselves."""
        return gradients

    def share(self, batch: Any) -> Any:
        """The part of a batch for one process: all of it."""
        return batch

    def gather(self, mine: Array) -> Array:
        """The parts of one process as a whole: its own."""
        return mine


ALONE = Alone()


class Norm:
    """The length of all gradients as one vector: sqrt(sum of all squares).

    On a GPU it is computed only when it is read, because reading makes the host wait for the GPU, and
    few steps are reported. On the CPU it is computed at once, to free the memory of the gradients.
    """

    def __init__(self, gradients: Sequence[Tensor]):
        self._gradients: Sequence[Tensor] = gradients
        self._value: Tensor | None = None
        if gradients[0].device == "cpu":
            self._value, self._gradients = self._compute(), ()

    def value(self) -> Tensor:
        """The norm as a Tensor, on the device."""
        return self._compute() if self._value is None else self._value

    def item(self) -> float:
        """The norm as a Python number."""
        return self.value().item()

    def _compute(self) -> Tensor:
        arrays = [g.data for g in self._gradients]
        xp = backend.array_module(arrays[0])
        return Tensor(backend.kernels(xp).norm(xp, arrays))


class Probability:
    """The mean of sigmoid(scores), computed when it is read: how real D thinks these samples are."""

    def __init__(self, scores: Tensor):
        self._scores = scores.detach()  # otherwise it would keep the graph alive

    def value(self) -> Tensor:
        """The mean probability as a Tensor, on the device."""
        with no_grad():
            return self._scores.sigmoid().mean()

    def item(self) -> float:
        """The mean probability as a Python number."""
        return self.value().item()


class Mean:
    """The mean of several values of one metric, computed when it is read."""

    def __init__(self, parts: Sequence[Tensor | Norm | Probability]):
        self._parts = parts

    def item(self) -> float:
        """The mean as a Python number."""
        values = [part if isinstance(part, Tensor) else part.value() for part in self._parts]
        return (sum(values) / len(values)).item()


class Player:
    """A network that descends its own loss; nothing else changes it.

    net        the Module that is trained
    optimizer  over all its parameters
    group      the processes whose gradients are averaged before each step
    ema        decay of the average of the weights; 0 keeps none
    forward    what a call of the player computes, if not the network's own forward
    project    called with the network after each step, for example to clip its weights
    average    a copy of `net` in evaluation mode that holds the average of its weights, or None

    The average is that of Karras et al. 2018 ("Progressive Growing", section 4.1): after each step
    p' <- ema p' + (1 - ema) p for parameters and for running statistics; other buffers are copied
    (integers, and see `nn.Buffer`). The average has no influence on training: no byte of `net` depends
    on it.

    Raises ValueError for a decay outside [0, 1).
    """

    def __init__(
        self,
        net: Module,
        optimizer: Optimizer,
        group: Group = ALONE,
        ema: float = 0.0,
        forward: Callable[..., Any] | None = None,
        project: Callable[[Module], None] | None = None,
    ):
        if not 0 <= ema < 1:
            raise ValueError(f"Player: ema must be at least 0 and below 1, not {ema}")
        self.net, self.optimizer, self.group, self.ema = net, optimizer, group, ema
        self._forward, self._project = forward or net, project
        self.average = copy.deepcopy(net).eval() if ema else None

    def __call__(self, *inputs: Any) -> Any:
        return self._forward(*inputs)

    def descend(self, loss: Tensor, params: Sequence[Tensor] | None = None) -> Norm:
        """Take a step down the gradient of `loss`, averaged over the group. Returns its norm.

        params  the parameters on which the loss depends, if not all; the others do not change
        """
        params = self.optimizer.params if params is None else params
        gradients = self.group.average(grad(loss, params))
        found = {id(p): g for p, g in zip(params, gradients, strict=True)}
        self.optimizer.step([found.get(id(p)) for p in self.optimizer.params])
        if self._project:
            self._project(self.net)
        self._follow()
        return Norm(gradients)

    def tree(self) -> dict[str, Any]:
        """What a checkpoint holds of this player, as live Tensors, arrays and dicts."""
        average = {"average": self.average.state_dict()} if self.average else {}
        return {"net": self.net.state_dict(), "optimizer": self.optimizer.tree(), **average}

    def _follow(self) -> None:
        """Move the average towards the network, in place."""
        if self.average is None:
            return
        moved = []
        for slow, fast in zip(_state(self.average), _state(self.net), strict=True):
            if isinstance(fast, Buffer) and not fast.averaged:
                slow.data[...] = fast.data
            else:
                moved.append((slow.data, fast.data))
        xp = backend.array_module(moved[0][0])
        backend.kernels(xp).lerp(xp, moved, 1 - self.ema)


def _state(net: Module) -> list[Tensor]:
    """All parameters and buffers, each once."""
    return [*net.parameters(), *net.buffers()]
