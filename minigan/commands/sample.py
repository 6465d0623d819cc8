"""`minigan sample RUN`: draw samples from a trained generator."""

from __future__ import annotations

import argparse
import functools
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from .. import backend
from ..console import STDERR, nearby, say
from ..data import Dataset
from ..data.nearest import nearest
from ..data.opening import DataOptions
from ..errors import UserError
from ..files import make_own
from ..gans.base import GAN
from ..keys import generator, noise
from ..options import MOST_SEED
from ..training import pictures, session
from ..training.game import MOST_PSI, Game
from ..training.looks import COLUMNS, arrange, draw_samples
from ..training.parallel import Group
from ..training.run import Run
from ..training.settings import DEVICE, LIMITED_THREADS, check_folder, is_path, use_threads
from . import dataroot, styles, translate

MOST = 100_000  # samples; all of them are held in memory
SAMPLES = 64  # by default
WALK_ROWS, WALK_STEPS = 8, 10  # of the picture of interpolations

# The inputs of G: z (N, nz), and for a conditional G the classes (N,) or mixtures of classes (N, K).
Inputs = tuple[np.ndarray, "np.ndarray | None"]


def add(commands: Any) -> None:
    """Add the command."""
    about = "draw samples from the generator of a run: a picture, single images, interpolations"
    parser = commands.add_parser("sample", help=about, description=about)
    parser.add_argument(
        "run",
        metavar="RUN",
        help="a run folder, one of its checkpoints, or auto: the newest in runs/",
    )
    add_flags(parser)
    parser.set_defaults(command=sample)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add all flags except the run."""
    parser.add_argument(
        "--n",
        type=int,
        help=f"number of samples, 1 to {MOST} (default: {SAMPLES}, or {COLUMNS} of each class)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help=f"seed of the noise, 0 to {MOST_SEED} (default: 0)"
    )
    parser.add_argument(
        "--raw",
        action="store_true",
        help="draw from G itself instead of the average of its weights",
    )
    parser.add_argument(
        "--class",
        help="draw only samples of this class, a name or a number from 0; for conditional members "
        "(default: a row of each class)",
    )
    parser.add_argument(
        "--images",
        metavar="PATH",
        help="a folder or zip of images to translate into --class; for members that translate "
        "(default: random images of the run's data)",
    )
    parser.add_argument(
        "--psi",
        type=float,
        help=f"truncation, from -{MOST_PSI} to {MOST_PSI}, for members with styles: 1 draws samples as "
        "they are, 0 the mean face (default: 1)",
    )
    parser.add_argument(
        "--crossover",
        type=int,
        help="the style, at least 1, from which on mixing.png takes those of its first row; for "
        "members with styles (default: the first of the full size)",
    )
    parser.add_argument(
        "--neighbours",
        action="store_true",
        help="also draw each sample beside the nearest image of the data: has G memorised it?",
    )
    dataroot.add(
        parser,
        f"{dataroot.MOVED}; for --neighbours and for members that translate (default: where the run "
        "found them)",
    )
    parser.add_argument("--out", help="folder to write to (default: RUN/generated)")
    parser.add_argument("--device", default="auto", help=f"{DEVICE} (default: auto)")
    parser.add_argument("--threads", type=int, help=LIMITED_THREADS)


def sample(given: dict[str, Any], group: Group) -> int:
    """Draw samples and write the pictures. Returns the exit code."""
    _check(given)
    use_threads(given["threads"])
    device = backend.use_device(given["device"], tf32=False)  # precise, not fast: samples are few
    member, game, path = load(given["run"], device)
    named = given["class"]
    only = None if named is None else game.class_number("--class", named)
    translate.check(given, game, member.translates)
    styles.check(given, game, member)
    draw = functools.partial(draw_samples, member, path, given["raw"], device)
    out = _folder(given["out"], path)
    n, seed = given["n"] or _usual(game, only), given["seed"]
    if member.translates:
        images, y = translate.inputs(given, game, home_of(path), out, n, only)
        _save_translations(out, images, draw(images, y), game.data, own=given["out"] is None)
        say(f"{path.name}: {len(y)} translations in {out}")
        return 0

    data = _data(given, game, path)
    if styled := styles.Styled(member, game, path, device, given) if member.styled else None:
        draw = styled.samples
    samples = draw(*_inputs(game, n, seed, only))
    pictures.save_png(out / "grid.png", game.data.picture(samples))
    walk = ""
    if len(game.data.shape) == 3:
        _save_singles(out / "single", samples, game.data, own=given["out"] is None)
        z, y = _between_noises(game, seed, only)
        if styled:
            steps = styled.interpolation(z[: len(z) // 2], WALK_STEPS)
            styled.save(out)
        else:
            steps = draw(z, y)
        pictures.save_png(out / "interpolation.png", game.data.picture(steps, WALK_STEPS))
        walk = f" and {WALK_ROWS} interpolations"
        if len(game.classes) > 1:
            steps = draw(*_between_classes(game, seed, only))
            pictures.save_png(out / "classes.png", game.data.picture(steps, WALK_STEPS))
    earlier = out / "neighbours.png"
    if data is None and given["out"] is None and earlier.is_file():
        earlier.unlink(missing_ok=True)  # its samples are not those of the new pictures
    if data is not None:
        reals = data.batch(nearest(samples, data), "cpu").numpy()
        pictures.save_png(out / "neighbours.png", _beside(samples, reals, game.data))
    say(f"{path.name}: {n} samples{walk} in {out}")
    return 0


def _beside(left: np.ndarray, right: np.ndarray, data: DataOptions) -> np.ndarray:
    """A picture of pairs of images, (n, *shape) each."""
    pairs = np.stack([left, right], axis=1)  # (n, 2, *shape)
    return data.picture(pairs.reshape(-1, *left.shape[1:]), 2 * COLUMNS)  # (2n, *shape)


def _save_translations(
    out: Path, images: np.ndarray, translations: np.ndarray, data: DataOptions, own: bool
) -> None:
    """grid.png: each image beside its translation; and each translation as an image."""
    pictures.save_png(out / "grid.png", _beside(images, translations, data))
    _save_singles(out / "single", translations, data, own)


def _usual(game: Game, only: int | None) -> int:
    """The number of samples without --n."""
    rows = len(game.classes) if only is None else 0
    return min(COLUMNS * rows, MOST) or SAMPLES


def _inputs(game: Game, n: int, seed: int, only: int | None) -> Inputs:
    """z (n, nz) and the classes (n,) of the samples: rows of all classes, or only class `only`."""
    o = game.options
    which, y = arrange(n, game.data.shape, len(game.classes) if only is None else 0)
    z = noise(generator(seed, "sample"), (1 + which.max(), o.nz), o.noise)[which]
    return z, y if only is None else np.full(n, only)


def _between_noises(game: Game, seed: int, only: int | None) -> Inputs:
    """z and the classes of WALK_ROWS interpolations between two noises; each row keeps its class."""
    o = game.options
    ends = noise(generator(seed, "walk"), (2 * WALK_ROWS, o.nz), o.noise)
    z = interpolate(ends[:WALK_ROWS], ends[WALK_ROWS:], WALK_STEPS)
    if not game.classes:
        return z, None
    y = np.arange(WALK_ROWS) % len(game.classes) if only is None else np.full(WALK_ROWS, only)
    return z, y.repeat(WALK_STEPS)


def _between_classes(game: Game, seed: int, only: int | None) -> Inputs:
    """z and mixtures of classes (N, K) for WALK_ROWS interpolations between classes, each at one noise.

    A row goes from a class to the next one; if `only` is given, from that class to one of the others.
    """
    o, K, row = game.options, len(game.classes), np.arange(WALK_ROWS)
    z = noise(generator(seed, "walk"), (WALK_ROWS, o.nz), o.noise).repeat(WALK_STEPS, axis=0)
    starts = row % K if only is None else np.full(WALK_ROWS, only)
    ends = starts + 1 + (0 if only is None else row % (K - 1))
    rows, t = np.eye(K, dtype=np.float32), np.linspace(0, 1, WALK_STEPS, dtype=np.float32)
    t = np.tile(t, WALK_ROWS)[:, None]  # (N, 1)
    a, b = rows[starts].repeat(WALK_STEPS, axis=0), rows[ends % K].repeat(WALK_STEPS, axis=0)
    return z, (1 - t) * a + t * b


def _check(given: dict[str, Any]) -> None:
    """Raise UserError if an option has an illegal value."""
    if given["n"] is not None and not 1 <= given["n"] <= MOST:
        raise UserError(f"--n {given['n']}: must be from 1 to {MOST}")
    if not 0 <= given["seed"] <= MOST_SEED:
        raise UserError(f"--seed {given['seed']}: must be from 0 to {MOST_SEED}")
    if given["out"] is not None:
        if not is_path(given["out"]):
            raise UserError(f"--out {given['out']!r}: must be a path")
        check_folder("--out", Path(given["out"]))


def load(where: str, device: str) -> tuple[GAN, Game, Path]:
    """The member of a checkpoint, or of a run's newest readable checkpoint: see `session.load`.

    Its G and the average of it are moved to the device.
    """
    place = Path(where)
    if not place.is_file():
        run = Run.find(where, Path("runs"))
        if run is None:
            raise UserError(
                f"{where}: runs/ has no run with a checkpoint; start one with minigan train"
            )
        place = run.folder
    member, game, path = session.load(place, functools.partial(say, stream=STDERR))
    player = member.players["G"]
    for net in filter(None, (player.net, player.average)):
        net.to(device)
    return member, game, path


def _folder(out: str | None, path: Path) -> Path:
    """The folder for the pictures: --out, or generated/ in the checkpoint's run. Made if missing."""
    if out is not None:
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    home = home_of(path)
    if home is None:
        raise UserError(f"{path} is not in a run; give --out, a folder for the pictures")
    folder = home / "generated"
    make_own(folder)
    return folder


def home_of(path: Path) -> Path | None:
    """The folder of the run that a checkpoint is in, or None if it is not in a run."""
    folder = Path(os.path.abspath(path)).parent
    in_run = folder.name == "checkpoints" and (folder.parent / "config.json").is_file()
    return nearby(folder.parent) if in_run else None


def _data(given: dict[str, Any], game: Game, path: Path) -> Dataset | None:
    """The data of the checkpoint's run, in which --neighbours looks; None without that option."""
    if not given["neighbours"]:
        if given["dataroot"] is not None:
            raise UserError(
                "--dataroot: only --neighbours reads the data; add it, or leave this out"
            )
        return None
    if len(game.data.shape) < 3:
        raise UserError(f"--neighbours: a {game.data.data} has no images; leave it out")
    home = home_of(path)
    if home is None:
        raise UserError(
            f"--neighbours: {path} is not in a run, so its data is unknown; leave it out"
        )
    return session.reopen(Run(home), given["dataroot"], say)


def _save_singles(folder: Path, samples: np.ndarray, data: DataOptions, own: bool) -> None:
    """Write each sample as an image, named by its number with leading zeros.

    own  whether the folder belongs to the run. There, images of an earlier call are deleted; a folder
         that the user names may hold the user's own images
    """
    make_own(folder)
    digits = len(str(len(samples) - 1))
    names = [f"{i:0{digits}d}.png" for i in range(len(samples))]
    for name, one in zip(names, samples, strict=True):
        pictures.save_png(folder / name, data.image(one))
    for path in folder.iterdir() if own else ():
        earlier = re.fullmatch(r"[0-9]{1,5}\.png", path.name) and path.name not in names
        if earlier and path.is_file() and not path.is_symlink():
            path.unlink(missing_ok=True)  # another call may be removing it too


def interpolate(a: np.ndarray, b: np.ndarray, steps: int) -> np.ndarray:
    """Noise on the way from a to b, each (R, nz) -> (R * steps, nz).

    (sin((1 - t) w) a + sin(t w) b) / sin(w), where w is the angle from a to b, and t goes from 0 to 1.

    This follows the arc, not the chord. Normal noise of 100 dimensions lies near a sphere of radius 10,
    and the middle of a chord is far inside it, where G was never trained (White 2016).
    """
    norm = np.linalg.norm(a, axis=1, keepdims=True) * np.linalg.norm(b, axis=1, keepdims=True)
    cosine = (a * b).sum(1, keepdims=True) / norm
    angle = np.arccos(cosine.clip(1e-6 - 1, 1 - 1e-6))  # not 0: its sine is a divisor
    rows = [
        (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)
        for t in np.linspace(0, 1, steps).tolist()  # Python floats keep float32
    ]
    return np.stack(rows, axis=1).reshape(-1, a.shape[1])  # (R, steps, nz) -> (R*steps, nz)
