"""`minigan export RUN --pngs N`: samples as files for programs that measure folders of images.

torch-fidelity and clean-fid compare two folders. `minigan sample` makes pictures to look at, whose rows
share their noise; here each sample has its own.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .. import backend
from ..console import STDERR, say
from ..errors import UserError
from ..keys import generator, noise
from ..options import MOST_SEED, short
from ..training import pictures, session
from ..training.looks import draw_samples
from ..training.parallel import Group
from ..training.run import Run
from ..training.settings import DEVICE, LIMITED_THREADS, check_folder, is_path, use_threads
from . import dataroot
from .sample import home_of, load

MOST = 100_000  # images
PART = 1024  # images in memory at a time
DIGITS = 6  # of a file's number


def add(commands: Any) -> None:
    """Add the command."""
    about = "write samples of a run as PNG files, to measure them with other programs"
    parser = commands.add_parser("export", help=about, description=about)
    parser.add_argument(
        "run",
        metavar="RUN",
        help="a run folder, one of its checkpoints, or auto: the newest in runs/",
    )
    add_flags(parser)
    parser.set_defaults(command=export)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add all flags except the run."""
    parser.add_argument(
        "--pngs",
        type=int,
        required=True,
        metavar="N",
        help=f"number of samples, 1 to {MOST}, each from its own noise; the classes of a conditional "
        "member in turn",
    )
    parser.add_argument(
        "--reals",
        action="store_true",
        help="also write as many images of the run's data, chosen at random, as the networks see them",
    )
    parser.add_argument(
        "--raw",
        action="store_true",
        help="draw from G itself instead of the average of its weights",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help=f"seed of the noise and of the choice of reals, 0 to {MOST_SEED} (default: 0)",
    )
    dataroot.add(parser, f"{dataroot.MOVED}; for --reals (default: where the run found them)")
    parser.add_argument(
        "--out", help="folder to make, for the folders fakes and reals (default: RUN/export)"
    )
    parser.add_argument("--device", default="auto", help=f"{DEVICE} (default: auto)")
    parser.add_argument("--threads", type=int, help=LIMITED_THREADS)


def export(given: dict[str, Any], group: Group) -> int:
    """Write the files. Returns the exit code."""
    n, seed = given["pngs"], given["seed"]
    _check(given)
    use_threads(given["threads"])
    device = backend.use_device(given["device"], tf32=False)
    member, game, path = load(given["run"], device)
    if len(game.data.shape) < 3:
        raise UserError(f"{path}: a {game.data.data} has no images to export; use minigan sample")
    if member.translates:
        raise UserError(
            f"{path}: member {game.member} translates images instead of making samples from noise; use "
            "minigan sample --images"
        )
    home, data = home_of(path), None
    if home is None and (given["out"] is None or given["reals"]):
        raise UserError(f"{path} is not in a run; give --out, and leave out --reals")
    if given["reals"]:
        data = session.reopen(Run(home), given["dataroot"], functools.partial(say, stream=STDERR))
        if n > len(data):
            raise UserError(
                f"--pngs {n}: the data has only {len(data)} images for --reals; give fewer"
            )
    out = home / "export" if given["out"] is None else Path(given["out"])
    _make_new(out)

    o, K = game.options, len(game.classes)
    z = noise(generator(seed, "export"), (n, o.nz), o.noise)
    y = np.arange(n) % K if K else None
    draw = functools.partial(draw_samples, member, path, given["raw"], device)
    image = game.data.image
    _write(out / "fakes", n, image, lambda part: draw(z[part], None if y is None else y[part]))
    if data is not None:
        at = generator(seed, "exported reals").permutation(len(data))[:n]
        _write(out / "reals", n, image, lambda part: data.batch(at[part], "cpu").numpy())
    say(f"{path.name}: {n} samples{f' and {n} reals' * given['reals']} in {out}")
    return 0


def _check(given: dict[str, Any]) -> None:
    """Raise UserError if an option has an illegal value."""
    if not 1 <= given["pngs"] <= MOST:
        raise UserError(f"--pngs {given['pngs']}: must be from 1 to {MOST}")
    if not 0 <= given["seed"] <= MOST_SEED:
        raise UserError(f"--seed {given['seed']}: must be from 0 to {MOST_SEED}")
    if given["dataroot"] is not None and not given["reals"]:
        raise UserError("--dataroot: only --reals reads the data; add it, or leave this out")
    if given["out"] is not None:
        if not is_path(given["out"]):
            raise UserError(f"--out {short(repr(given['out']))}: must be a path")
        check_folder("--out", Path(given["out"]))


def _make_new(folder: Path) -> None:
    """Make a folder. UserError: it exists, and other images there would be measured too."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise UserError(
            f"{folder} exists, and images that are already there would be measured too; move it away, "
            "or give another --out"
        ) from None


def _write(
    folder: Path,
    n: int,
    image: Callable[[np.ndarray], np.ndarray],
    draw: Callable[[slice], np.ndarray],
) -> None:
    """Write n samples as 000000.png and so on; `draw` makes those of a slice."""
    folder.mkdir()
    for start in range(0, n, PART):
        samples = draw(slice(start, min(start + PART, n)))
        for i, one in enumerate(samples, start):
            pictures.save_png(folder / f"{i:0{DIGITS}d}.png", image(one))
