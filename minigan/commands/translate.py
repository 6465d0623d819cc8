"""What `minigan sample` draws with a member that translates: images beside their translations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..console import STDERR, say
from ..data.opening import DataOptions, open_data
from ..errors import UserError
from ..options import short
from ..training import session
from ..training.game import Game
from ..training.looks import originals
from ..training.run import Run
from ..training.settings import is_path

MOST = 100_000  # images of a folder; all of them are held in memory


def check(given: dict[str, Any], game: Game, translates: bool) -> None:
    """Raise UserError for options of `minigan sample` that are wrong or do not suit the member.

    translates  whether it translates images instead of making samples from noise
    """
    if not is_path(given["images"]):
        raise UserError(f"--images {short(repr(given['images']))}: must be a path")
    if not translates:
        if given["images"] is not None:
            raise UserError(
                f"--images {short(given['images'])}: member {game.member} makes samples from noise; "
                "leave it out"
            )
        return
    if given["neighbours"]:
        raise UserError(
            f"--neighbours: member {game.member} translates images, which are shown beside their "
            "translations; leave it out"
        )
    if given["images"] is not None and given["class"] is None:
        raise UserError(
            f"--images {short(given['images'])}: give --class, the class into which they are "
            f"translated: {short(' or '.join(game.classes))}"
        )
    if given["images"] is not None and given["dataroot"] is not None:
        raise UserError("--dataroot: only the run's own data needs it; leave out this or --images")


def inputs(
    given: dict[str, Any], game: Game, home: Path | None, out: Path, n: int, target: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """The images to translate, (N, *shape) float32, and their target classes (N,).

    They are those of --images, at most --n; or n random images of the run's data, of the other class
    than `target`, or of both classes in turn if it is None.

    home  the run's folder; None if the checkpoint is not in a run
    out   the folder for the pictures
    """
    if given["images"] is not None:
        o = game.data
        options = DataOptions(
            data="celeba", image_size=o.image_size, nc=o.nc, max_images=given["n"] or MOST
        )
        cache = out if home is None else home.parent
        data = open_data(options, given["images"], 0, cache, progress=False)
        for note in data.notes:
            say(note)
        return data.batch(np.arange(len(data)), "cpu").numpy(), np.full(len(data), target)
    if home is None:
        raise UserError("the checkpoint is not in a run, so its data is unknown; give --images")
    data = session.reopen(Run(home), given["dataroot"], lambda text: say(text, stream=STDERR))
    y = np.arange(n) % 2 if target is None else np.full(n, target)
    return originals(data, y, given["seed"], "sample"), y
