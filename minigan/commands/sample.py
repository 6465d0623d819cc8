"""`minigan sample RUN`: draw samples from a trained generator."""

from __future__ import annotations

import argparse
import functools
import os
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from .. import backend
from ..console import STDERR, nearby, say
from ..data.opening import DataOptions
from ..errors import UserError
from ..files import make_own
from ..gans.base import GAN
from ..keys import generator, noise
from ..options import MOST_SEED
from ..tensor import Tensor
from ..training import checkpoint, pictures, session
from ..training.looks import at_once
from ..training.parallel import Group
from ..training.run import Run
from ..training.settings import DEVICE, LIMITED_THREADS, check_folder, is_path, use_threads

MOST = 100_000  # samples, because all of them are held in memory
WALK_ROWS, WALK_STEPS = 8, 10  # of the picture of interpolations


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
        "--n", type=int, default=64, help=f"samples to draw; 1 to {MOST} (default: 64)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help=f"seed of the noise; 0 to {MOST_SEED} (default: 0)"
    )
    parser.add_argument(
        "--raw",
        action="store_true",
        help="draw from G itself instead of the average of its weights",
    )
    parser.add_argument("--out", help="folder to write to (default: RUN/generated)")
    parser.add_argument("--device", default="auto", help=f"{DEVICE} (default: auto)")
    parser.add_argument("--threads", type=int, help=LIMITED_THREADS)


def sample(given: dict[str, Any], group: Group) -> int:
    """Draw samples and write the pictures; returns the exit code."""
    n, seed = given["n"], given["seed"]
    _check(given)
    use_threads(given["threads"])
    device = backend.use_device(given["device"], tf32=False)  # few samples: precise, not fast
    member, data, path = _load(given["run"])
    player = member.players["G"]
    for net in filter(None, (player.net, player.average)):
        net.to(device)
    draw = functools.partial(_draw_samples, member, path, given["raw"], device)
    out = _folder(given["out"], path)

    o = member.options
    rng = generator(seed, "sample")
    samples = draw(noise(rng, (n, o.nz), o.noise))
    pictures.save_png(out / "grid.png", data.picture(samples))
    walk = ""
    if len(data.shape) == 3:
        _save_singles(out / "single", samples, data, own=given["out"] is None)
        ends = noise(generator(seed, "walk"), (2 * WALK_ROWS, o.nz), o.noise)
        steps = interpolate(ends[:WALK_ROWS], ends[WALK_ROWS:], WALK_STEPS)
        pictures.save_png(out / "interpolation.png", data.picture(draw(steps), WALK_STEPS))
        walk = f" and {WALK_ROWS} interpolations"
    say(f"{path.name}: {n} samples{walk} in {out}")
    return 0


def _draw_samples(member: GAN, path: Path, raw: bool, device: str, z: np.ndarray) -> np.ndarray:
    """The samples from z (N, nz), drawn in parts to bound the memory.

    path  of the member's checkpoint

    Raises CheckpointError if samples are not finite, because the weights are too large.
    """
    make = member.sample_raw if raw else member.sample
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # about overflow, which is checked below
        count = at_once(member.shape)
        parts = [z[i : i + count] for i in range(0, len(z), count)]
        samples = np.concatenate([make(Tensor(backend.move(p, device))).numpy() for p in parts])
    if not np.isfinite(samples).all():
        raise checkpoint.CheckpointError(
            f"{path}: its generator draws values that are not finite; {checkpoint.REMEDY}"
        )
    return samples


def _check(given: dict[str, Any]) -> None:
    """Raise UserError if an option has an illegal value."""
    if not 1 <= given["n"] <= MOST:
        raise UserError(f"--n {given['n']}: must be from 1 to {MOST}")
    if not 0 <= given["seed"] <= MOST_SEED:
        raise UserError(f"--seed {given['seed']}: must be from 0 to {MOST_SEED}")
    if given["out"] is not None:
        if not is_path(given["out"]):
            raise UserError(f"--out {given['out']!r}: must be a path")
        check_folder("--out", Path(given["out"]))


def _load(where: str) -> tuple[GAN, DataOptions, Path]:
    """The member of this checkpoint, or of a run's newest readable one: see `session.load`."""
    say_so = functools.partial(say, stream=STDERR)
    if Path(where).is_file():
        return session.load(Path(where), say_so)
    run = Run.find(where, Path("runs"))
    if run is None:
        raise UserError(
            f"{where}: runs/ has no run with a checkpoint; start one with minigan train"
        )
    return session.load(run.folder, say_so)


def _folder(out: str | None, path: Path) -> Path:
    """The folder for the pictures, made if missing: --out, or generated/ in the checkpoint's run."""
    if out is not None:
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    home = Path(os.path.abspath(path)).parent
    if home.name != "checkpoints" or not (home.parent / "config.json").is_file():
        raise UserError(f"{path} is not in a run; give --out, a folder for the pictures")
    folder = nearby(home.parent) / "generated"
    make_own(folder)
    return folder


def _save_singles(folder: Path, samples: np.ndarray, data: DataOptions, own: bool) -> None:
    """Write each sample as an image, named by its number with leading zeros.

    own  whether the folder is the run's, where images of an earlier call are deleted; a folder that the
         user names may hold the user's own images
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

    It follows the arc, not the chord. Normal noise of 100 dimensions lies near a sphere of radius 10.
    The middle of a chord is inside it, where G was never trained (White 2016).
    """
    norm = np.linalg.norm(a, axis=1, keepdims=True) * np.linalg.norm(b, axis=1, keepdims=True)
    cosine = (a * b).sum(1, keepdims=True) / norm
    angle = np.arccos(cosine.clip(1e-6 - 1, 1 - 1e-6))  # not 0, because its sine is a divisor
    rows = [
        (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)
        for t in np.linspace(0, 1, steps).tolist()  # Python floats keep float32
    ]
    return np.stack(rows, axis=1).reshape(-1, a.shape[1])  # (R, steps, nz) -> (R*steps, nz)
