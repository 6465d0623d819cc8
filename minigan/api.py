"""Training from Python: `minigan.train` and `minigan.load`, for scripts, notebooks and threads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .errors import UserError
from .gans.base import GAN
from .keys import generator, noise
from .options import short
from .tensor import Tensor
from .training import session
from .training.looks import at_once
from .training.parallel import ALONE
from .training.plan import choose


class Trained:
    """A run and its trained GAN; `train` and `load` return it.

    folder  of the run
    member  the GAN, with the weights of the newest checkpoint, on the CPU
    """

    def __init__(self, folder: Path, member: GAN):
        self.folder, self.member = folder, member

    def sample(
        self, n: int, y: np.ndarray | None = None, seed: int = 0, raw: bool = False
    ) -> np.ndarray:
        """n samples (n, *shape) float32: images in [-1, 1], points in the data's coordinates.

        y     classes (n,); UserError, because no member has classes yet
        seed  of the noise: the same seed gives the same samples, and a larger n begins with them
        raw   whether to draw from G itself instead of the average of its weights
        """
        if y is not None:
            raise UserError(
                f"y {short(y)}: {type(self.member).__name__} has no classes; leave it out"
            )
        o = self.member.options
        draw = self.member.sample_raw if raw else self.member.sample
        z = noise(generator(seed, "sample"), (n, o.nz), o.noise)
        count = at_once(self.member.shape)
        parts = [z[i : i + count] for i in range(0, n, count)]
        return np.concatenate([draw(Tensor(part)).numpy() for part in parts])


def train(
    member: str, data: str = "faces", say: Callable[[str], None] = print, **options: Any
) -> Trained:
    """Train a new run to its end, and return it.

        run = minigan.train("wgan-gp", "ring", steps=1000, out="runs")

    member, data  names, as in `minigan train MEMBER --data DATA`
    say           is called with each line that the program would print
    options       as on the command line, with _ for -

    Raises UserError for an option that does not exist or has an illegal value, and wherever the program
    would end with an error.
    """
    name = options.pop("name", None)
    # One worker: more would import the calling script, which may lack `if __name__ == "__main__":`.
    plan = choose(member, {"data": data, "workers": 1, **options})
    images = session.open_for(plan, ALONE, say, progress=False)
    expected = session.expect(plan, images, say)
    run = session.start(plan, images, name)
    session.train(plan, images, run, True, expected, say)
    return load(run.folder)


def load(run: str | Path) -> Trained:
    """The run in this folder, with the weights of its newest readable checkpoint. Raises UserError."""
    folder = Path(run)
    member, _, _ = session.load(folder, lambda text: None)
    return Trained(folder, member)
