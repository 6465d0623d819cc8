"""A pool of earlier fakes, shown to D beside new ones (Shrivastava et al. 2017, section 2.3).

D then cannot follow only the newest habits of G, which makes the game swing less.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import backend, init
from ..backend import Array
from ..tensor import Tensor
from .draw import Draw
from .player import Group


class Pool:
    """Up to `size` fakes; `exchange` takes new fakes and returns as many new or earlier ones.

    Each new fake in turn: while the pool is not full, it is stored and returned. After that, with
    probability 1/2 it is returned and not stored, and otherwise it takes the place of a random stored
    one, which is returned (Zhu et al. 2017, section 4, with a pool of 50). A stored fake stays for
    2 size new ones on average.

    tree  the whole state, for `GAN.extra`: "images" (size, *shape) float32, of which the first "count"
          are in use

    A pool of size 0 returns the new fakes, and its tree is empty.
    """

    def __init__(
        self, name: str, size: int, shape: tuple[int, ...], device: str, group: Group
    ) -> None:
        """name: of the random numbers that it draws; each pool of a member needs its own.

        group: the processes that share a batch. Each has the whole pool, in the same state.
        """
        self.name, self.size, self.group = name, size, group
        self.tree: dict[str, Any] = {}
        if size:
            images = backend.move(init.memory((size, *shape), np.float32), device)
            self.tree = {"images": images, "count": 0}

    def exchange(self, fakes: Tensor, draw: Draw) -> Tensor:
        """As many fakes, (N, *shape), as are given; no gradient flows through them."""
        if not self.size:
            return fakes.detach()
        chances = self.group.gather(draw.uniform(self.name, 2).data)  # (M, 2), M = N * processes
        new = self.group.gather(fakes.data)  # (M, *shape)
        old = [self._exchange_one(new[i : i + 1], chances[i]) for i in range(len(new))]
        xp = backend.array_module(new)
        return Tensor(self.group.share(xp.concatenate(old)))

    def _exchange_one(self, new: Array, chance: Array) -> Array:
        """One new fake (1, *shape), and two numbers from U(0, 1), (2,) -> one fake (1, *shape).

        The numbers stay on the device, because reading them would make the host wait for a GPU.
        """
        images, count = self.tree["images"], self.tree["count"]
        if count < self.size:
            images[count] = new[0]
            self.tree["count"] += 1
            return new
        xp = backend.array_module(images)
        place = (chance[1:] * self.size).astype(np.int64)  # (1,)
        stored, stays = images[place], chance[0] < 0.5
        images[place] = xp.where(stays, stored, new)
        return xp.where(stays, new, stored)
