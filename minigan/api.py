"""Training from Python: `minigan.train` and `minigan.load`, for scripts, notebooks and threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .arguments import is_whole
from .errors import UserError
from .evaluation import inception_file
from .gans.base import GAN
from .keys import generator, noise
from .options import MOST_SEED, short
from .tensor import Tensor
from .training import session
from .training.evaluation import evaluate
from .training.game import Game
from .training.looks import draw_samples, in_parts
from .training.parallel import ALONE
from .training.plan import choose
from .training.run import Run
from .training.settings import check_name


class Trained:
    """A run and its trained GAN, as `train` and `load` return it.

    folder  the folder of the run
    member  the GAN on the CPU, with the weights of the newest readable checkpoint
    game    what determines its weights: options, data, and the names of its classes
    """

    def __init__(self, folder: Path, member: GAN, game: Game):
        self.folder, self.member, self.game = folder, member, game

    def sample(
        self,
        n: int,
        y: int | str | Sequence[int] | np.ndarray | None = None,
        seed: int = 0,
        raw: bool = False,
        psi: float | None = None,
    ) -> np.ndarray:
        """n samples (n, *shape) float32: images in [-1, 1], points in the data's coordinates.

        y     for a conditional member, the class of all samples, as a number or a name, or the number
              of each sample's class, (n,); by default the classes in turn
        seed  seed of the noise: the same seed gives the same samples, and a larger n begins with them
        raw   whether to draw from G itself instead of the average of its weights
        psi   for a member with styles, how far they are from their mean: 1, the default, leaves them as
              they are, and 0 draws the mean face

        Raises UserError for an unknown class, for an illegal n, seed or psi, and for a psi where there
        are no styles.
        """
        if self.member.translates:
            raise UserError(f"member {self.game.member} translates images; use translate")
        if not is_whole(n) or n < 1:
            raise UserError(f"n {short(n)}: must be a whole number, at least 1")
        if not is_whole(seed) or not 0 <= seed <= MOST_SEED:
            raise UserError(f"seed {short(seed)}: must be a whole number from 0 to {MOST_SEED}")
        self.game.check_psi("psi", psi)
        o = self.member.options
        draw = self.member.sample_raw if raw else self.member.sample
        if psi is not None:
            draw = lambda z: self.member.draw_styles(self.member.styles(z, psi, raw), raw=raw)
        z = noise(generator(int(seed), "sample"), (n, o.nz), o.noise)
        inputs = [each for each in (z, self._classes(n, y)) if each is not None]
        return in_parts(draw, [Tensor(each) for each in inputs], self.member.shape)

    def evaluate(
        self,
        metrics: Sequence[str] | None = None,
        n: int | None = None,
        seed: int = 0,
        raw: bool = False,
        errors: bool = False,
        inception: str | Path | None = None,
        inception_resize: str | None = None,
    ) -> dict[str, dict[str, Any]]:
        """The metrics of the samples, as `minigan evaluate` computes them from the run's own data.

        The arguments and the result are those of `training.evaluation.evaluate`, but `inception` is the
        path of the weights, and `inception_resize` that of `evaluation.inception_file.load`. The run is
        not changed.
        """
        silent = lambda text: None
        net = inception_file.load_if_given(inception, inception_resize, silent)
        data = session.reals(Run(self.folder), self.game, None, silent)
        average = not raw and self.member.players["G"].average is not None
        draw = partial(draw_samples, self.member, self.folder, not average, "cpu")
        return evaluate(self.game, data, draw, metrics, n, seed, errors, average, net)

    def translate(self, x: np.ndarray, y: int | str, raw: bool = False) -> np.ndarray:
        """The images x (N, C, H, W), in [-1, 1], translated into class y: (N, C, H, W) float32.

        y    the number or the name of one of the two classes of a member that translates
        raw  whether to translate with G itself instead of the average of its weights

        Raises UserError if the member does not translate, for an unknown class, and for images of
        another shape.
        """
        if not self.member.translates:
            raise UserError(f"member {self.game.member} makes samples from noise; use sample")
        x, shape = np.asarray(x, np.float32), self.member.shape
        if x.shape[1:] != shape or not len(x):
            raise UserError(f"x {x.shape}: give at least one image of shape (N, {str(shape)[1:]}")
        target = np.full(len(x), self.game.class_number("y", y))
        draw = self.member.sample_raw if raw else self.member.sample
        return in_parts(draw, [Tensor(x), Tensor(target)], shape)

    def _classes(self, n: int, y: Any) -> np.ndarray | None:
        """The classes (n,) int64 of n samples, after checks; None if the member has no classes."""
        classes = self.game.classes
        if y is None:
            return np.arange(n) % len(classes) if classes else None
        if isinstance(y, (int, str)) or not classes:
            return np.full(n, self.game.class_number("y", y))
        try:
            found = np.asarray(y)
        except ValueError:  # rows of different lengths
            found = np.asarray(y, object)
        if found.dtype.kind not in "iu" or found.shape not in ((), (n,)):
            raise UserError(
                f"y {found.dtype} {found.shape}: give one class, or an array of {n} whole numbers"
            )
        for one in np.unique(found).tolist():
            self.game.class_number("y", one)
        return np.broadcast_to(found, n).astype(np.int64)


def train(
    member: str, data: str = "faces", say: Callable[[str], None] = print, **options: Any
) -> Trained:
    """Train a new run to its end, and return it.

        run = minigan.train("wgan-gp", "ring", steps=1000, out="runs")

    member, data  names, as in `minigan train MEMBER --data DATA`
    say           called with each line that the program would print
    options       as on the command line, with _ instead of -; a path may be text or a Path

    Raises UserError for an option that does not exist or has an illegal value, and wherever the program
    would end with an error.
    """
    name = options.pop("name", None)
    check_name(name)
    options = {k: os.fspath(v) if isinstance(v, os.PathLike) else v for k, v in options.items()}
    # One worker: more would import the caller's script, which may lack `if __name__ == "__main__":`.
    plan = choose(member, {"data": data, "workers": 1, **options})
    if (plan.run.ngpu or 1) > 1:
        raise UserError(
            f"--ngpu {plan.run.ngpu}: minigan.train runs in one process; use the command minigan train"
        )
    session.check_machine(plan, ALONE)
    plan, images = session.open_for(plan, ALONE, say, progress=False)
    expected = session.expect(plan, images, say)
    run = session.start(plan, images, name)
    session.train(plan, images, run, True, expected, say)
    return load(run.folder)


def load(run: str | Path) -> Trained:
    """The run in this folder, with the weights of its newest readable checkpoint. Raises UserError."""
    folder = Path(run)
    member, game, _ = session.load(folder, lambda text: None)
    return Trained(folder, member, game)
