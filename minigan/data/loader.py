"""Batches of pictures in a seeded order."""

import numpy as np

from ..errors import UserError


class Loader:
    """Endless batches: every epoch is a new permutation of the pictures, cut into full batches.

    images (N, S, S, 3) uint8, an array or a memory map. The N mod B pictures at an epoch's end
    are left out of it, so that batch statistics are always over B; the next permutation leaves
    out others. `rng` orders, `flip_rng` (None: no flips) mirrors each picture with probability
    1/2; both must be made by np.random.default_rng and be used by nothing else, because
    `load_state_dict` sets their states. Raises UserError if N < B.
    """

    def __init__(
        self,
        images: np.ndarray,
        batch_size: int,
        rng: np.random.Generator,
        flip_rng: np.random.Generator | None = None,
    ):
        if not 1 <= batch_size <= len(images):
            raise UserError(
                f"a batch of {batch_size} cannot be filled from {len(images)} pictures; "
                "lower --batch-size or use more pictures"
            )
        self.images = images
        self.batch_size = batch_size
        self.rng = rng
        self.flip_rng = flip_rng
        self.batches_per_epoch = len(images) // batch_size
        self.epoch = 0  # of the batch given last
        self._shuffle()

    def _shuffle(self) -> None:
        self._rng_at_start = self.rng.bit_generator.state  # enough to shuffle like this again
        self._order = self.rng.permutation(len(self.images))
        self.position = 0  # batches of this epoch given so far

    def next_batch(self) -> np.ndarray:
        """The next pictures, uint8 (B, 3, S, S): a view, in memory (B, S, S, 3), "channels last"."""
        if self.position == self.batches_per_epoch:
            self.epoch += 1
            self._shuffle()
        start = self.position * self.batch_size
        self.position += 1
        batch = self.images[self._order[start : start + self.batch_size]]  # a copy
        if self.flip_rng is not None:
            flip = self.flip_rng.random(self.batch_size) < 0.5
            batch[flip] = batch[flip, :, ::-1]
        return batch.transpose(0, 3, 1, 2)

    def state_dict(self) -> dict:
        """All that decides the batches to come, apart from the pictures; JSON-able."""
        return {
            "images": len(self.images),
            "batch_size": self.batch_size,
            "epoch": self.epoch,
            "position": self.position,
            "rng": self._rng_at_start,
            "flip_rng": None if self.flip_rng is None else self.flip_rng.bit_generator.state,
        }

    def load_state_dict(self, state: dict) -> None:
        """Go on as the loader that gave `state` would. Raises UserError if it was set up otherwise."""
        mine = self.state_dict()
        for key in ("images", "batch_size"):
            if state[key] != mine[key]:
                raise UserError(
                    f"the saved order has {key} = {state[key]}, this run {mine[key]}; "
                    "resume with the same data, --max-images and --batch-size"
                )
        if (state["flip_rng"] is None) != (self.flip_rng is None):
            raise UserError("the saved order and this run must both flip pictures or both not")
        self.rng.bit_generator.state = state["rng"]
        self._shuffle()
        self.epoch, self.position = state["epoch"], state["position"]
        if self.flip_rng is not None:
            self.flip_rng.bit_generator.state = state["flip_rng"]
