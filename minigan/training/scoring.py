"""Evaluation while a run trains: some metrics of `minigan evaluate`, every `evaluate_every` steps.

They become part of the step's line in metrics.jsonl, under the names that the command prints, such as
"frechet_digits distance". The checkpoint of the step with the lowest distance is never deleted. Like
`minigan evaluate`, this draws from the average of G if there is one. It changes nothing: its noise and
its reals have keys of their own, and samples are drawn in evaluation mode.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial

from ..data import Dataset
from ..errors import UserError
from ..evaluation import table
from ..gans.base import GAN
from .checkpoint import CheckpointError
from .evaluation import evaluate
from .game import Game
from .looks import draw_samples
from .run import Run

COUNT = 1000  # fakes, and reals in each of two sets; or half the data if that is less
# The first words of the metrics that take at most a second each. The first metric decides which
# checkpoint is the best.
QUICK = ("frechet", "earth", "precision", "modes", "classes", "asked", "attributes")


def names(game: Game) -> list[str]:
    """The metrics that are computed while a run trains, the one that decides first."""
    usual = table.usual(game.data.data, bool(game.classes))
    return [name for word in QUICK for name in usual if name.startswith(word)]


def check(game: Game, data: Dataset) -> None:
    """Raise UserError if the data is too small to be divided into two sets."""
    n = min(COUNT, len(data) // 2)
    least = max(table.METRICS[name].least for name in names(game))
    if n < least:
        raise UserError(
            f"--evaluate-every: an evaluation needs {2 * least} samples of the data, and {data.name} "
            f"has {len(data)}; use more data, or leave it out"
        )


def deciding(game: Game) -> str:
    """The name in metrics.jsonl of the distance that decides which checkpoint is the best."""
    return f"{names(game)[0]} distance"


def best(lines: Iterable[dict[str, float]], name: str) -> int | None:
    """The step with the lowest value of this metric, the first of several; None if none has one."""
    found = [
        (line[name], line["step"]) for line in lines if math.isfinite(line.get(name, math.nan))
    ]
    return int(min(found)[1]) if found else None


class Scoring:
    """The evaluations of a run; its event file is told the protocol of the first one."""

    def __init__(self, game: Game, member: GAN, data: Dataset, device: str, run: Run):
        self._game, self._member, self._data, self._run = game, member, data, run
        self._draw = partial(draw_samples, member, run.folder, False, device)
        self._told = False

    def measure(self) -> dict[str, float]:
        """{"frechet_digits distance": ...}; a distance of NaN if samples are not finite."""
        average = self._member.players["G"].average is not None
        n = min(COUNT, len(self._data) // 2)
        try:
            found = evaluate(
                self._game, self._data, self._draw, names(self._game), n, average=average
            )
        except CheckpointError:  # samples are not finite
            return {deciding(self._game): math.nan}
        if not self._told:
            self._run.event("evaluation", protocols={k: v["protocol"] for k, v in found.items()})
            self._told = True
        return {
            f"{name} {key}": float(value)
            for name, entry in found.items()
            for key, value in entry["values"].items()
        }
