"""Draw images with a trained generator: a grid, single pictures, and a walk between noises.

    python examples/generate.py --run runs/00000-faces64 --n 64 --seed 0

They are left in the run's folder generated/, in place of those of the call before, or in --out, where
nothing is deleted.
"""

from __future__ import annotations

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback from among the imports; see `run`

import argparse
import functools
import os
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from minigan import console
from minigan.backend import DeviceError, use_device
from minigan.console import INTERRUPTED, STDERR, say
from minigan.files import make_own, no_memory, trouble
from minigan.models.dcgan import Generator
from minigan.tensor import Tensor
from minigan.training import checkpoint, pictures
from minigan.training.config import (
    DEVICE,
    SEEDS,
    THREADS,
    Config,
    ConfigError,
    Parser,
    check_folder,
    use_threads,
)
from minigan.training.loop import draw_noise, evaluate, random_stream
from minigan.training.run import Run, RunError

BATCH = 64  # images drawn at a time, to bound the memory
MOST = 100_000  # images in all, which are held until the grid is drawn
WALK_ROWS, WALK_STEPS = 8, 10


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=(__doc__ or "").split("\n")[0])  # python -OO drops it
    parser.add_argument(
        "--run",
        required=True,
        help="a run folder, one of its checkpoints, or auto: the newest in runs/ (no default)",
    )
    parser.add_argument(
        "--n", type=int, default=64, help=f"images to draw; 1 to {MOST} (default: 64)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help=f"seed of the noise; {SEEDS} (default: 0)"
    )
    parser.add_argument("--out", help="folder to write to (default: RUN/generated)")
    parser.add_argument("--device", default="auto", help=f"{DEVICE} (default: auto)")
    parser.add_argument("--threads", type=int, help=THREADS)
    options = parser.parse_args(argv)
    if not 1 <= options.n <= MOST:
        parser.error(f"--n {options.n}: must be from 1 to {MOST}")
    try:
        out = Config.out if options.out is None else options.out
        Config(seed=options.seed, threads=options.threads, out=out)
    except ConfigError as error:
        parser.error(str(error))
    try:
        use_threads(options.threads)
        generate(options)
    except (ConfigError, RunError, checkpoint.CheckpointError, DeviceError) as error:
        say(f"error: {error}", STDERR)
        return 1
    except OSError as error:
        say(f"error: {trouble(error)}, then start again, or with another --out", STDERR)
        return 1
    except MemoryError as error:  # CuPy's, of a GPU, is one too
        say(f"error: {no_memory(error)}; end what else runs, or use --device cpu", STDERR)
        return 1
    except KeyboardInterrupt:
        say("interrupted", STDERR)
        return INTERRUPTED
    return 0


def generate(options: argparse.Namespace) -> None:
    device = use_device(options.device, tf32=False)  # pictures to the last digit: there is no hurry
    if options.out is not None:
        check_folder("--out", Path(options.out))
    path, G, run = load_newest(options.run)
    G.to(device)

    def draw(z: Tensor) -> np.ndarray:
        return np.concatenate(
            [pixels_of(path, G, z[i : i + BATCH]) for i in range(0, len(z), BATCH)]
        )

    out = folder_of(path) / "generated" if options.out is None else Path(options.out)
    if options.out is None:
        make_own(out)
    else:
        out.mkdir(parents=True, exist_ok=True)
    make_own(out / "single")
    rng = random_stream(options.seed, "generate")
    pixels = draw(draw_noise(rng, options.n, run["nz"], run["noise"], device))
    pictures.save_png(out / "grid.png", pictures.grid(pixels))
    names = single_names(options.n)
    for name, picture in zip(names, pixels, strict=True):
        pictures.save_png(out / "single" / name, picture)
    if options.out is None:  # a folder that the user names may hold pictures of the user's
        drop_others(out / "single", names)

    ends = draw_noise(rng, 2 * WALK_ROWS, run["nz"], run["noise"], "cpu").numpy()
    walk = interpolate(ends[:WALK_ROWS], ends[WALK_ROWS:], WALK_STEPS)
    walk = pictures.grid(draw(Tensor(walk).to(device)), columns=WALK_STEPS)
    pictures.save_png(out / "interpolation.png", walk)
    say(f"{path.name}: {options.n} images and {WALK_ROWS} interpolations in {out}")


def pixels_of(path: Path, G: Generator, z: Tensor) -> np.ndarray:
    """G's pictures. Raises CheckpointError where its weights, though finite, are too large for any."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of overflows, which are looked for here
        images = evaluate(G, z)
    if not np.isfinite(images).all():
        raise checkpoint.CheckpointError(
            f"{path}: its generator draws values that are not finite; {checkpoint.REMEDY}"
        )
    return pictures.to_pixels(images)


def folder_of(path: Path) -> Path:
    """The run folder that a checkpoint lies in. Raises ConfigError if it lies in none."""
    folder = Path(os.path.abspath(path)).parent
    if folder.name != "checkpoints" or not (folder.parent / "config.json").is_file():
        raise ConfigError(f"{path} lies in no run; give --out, a folder for the pictures")
    return console.nearby(folder.parent)


def single_names(count: int) -> list[str]:
    """The names of the single pictures: as many digits for all of them."""
    digits = len(str(count - 1))
    return [f"{i:0{digits}d}.png" for i in range(count)]


def drop_others(folder: Path, names: list[str]) -> None:
    """Remove the single pictures of an earlier call from a run's generated/single.

    Files that no call makes are left alone.
    """
    for path in folder.iterdir():
        ours = re.fullmatch(r"[0-9]{1,5}\.png", path.name) and path.name not in names
        if ours and path.is_file() and not path.is_symlink():
            path.unlink(missing_ok=True)  # another call may be dropping it too


def load_newest(where: str) -> tuple[Path, Generator, dict[str, Any]]:
    """The checkpoint itself, or the newest of a run folder that can be used; its G and options."""
    if Path(where).is_file():
        return Path(where), *load(Path(where))
    run = Run.find(where, Path("runs"))
    if run is None:
        raise checkpoint.CheckpointError(f"{where}: there is no checkpoint to generate from")
    skip = functools.partial(say, stream=STDERR)
    path, (G, options), _ = checkpoint.newest(run.checkpoints, "generate", load, skip)
    return path, G, options


def load(path: Path) -> tuple[Generator, dict[str, Any]]:
    """The generator of a checkpoint, and the options of the training."""
    arrays, state = checkpoint.read(path)
    run = state["options"]
    width = run["ngf"] * run["image_size"] // 8
    first = [arrays[f"G.main.{i}.weight"].shape for i in (0, 3) if f"G.main.{i}.weight" in arrays]
    if first != [(run["nz"], width, 4, 4), (width, width // 2, 4, 4)]:
        # The other layers are smaller: so the memory for G is in proportion to the file.
        raise checkpoint.CheckpointError(
            f"{path}: its generator is not of the size that its options name; {checkpoint.REMEDY}"
        )
    G = Generator(run["nz"], run["ngf"], run["nc"], run["image_size"])
    checkpoint.check(path, arrays, state, {"G": G}, {})
    checkpoint.restore(arrays, state, {"G": G}, {})
    return G, run


def interpolate(a: np.ndarray, b: np.ndarray, steps: int) -> np.ndarray:
    """Noises on the way from a to b: (R, nz, 1, 1) twice -> (R * steps, nz, 1, 1).

    On the arc, not the chord: normal noise of 100 dimensions lies near a sphere of radius 10, and
    the middle of a chord is inside it, where G has never been (White 2016).
    """
    norm = np.linalg.norm(a, axis=1, keepdims=True) * np.linalg.norm(b, axis=1, keepdims=True)
    cosine = (a * b).sum(1, keepdims=True) / norm
    angle = np.arccos(cosine.clip(1e-6 - 1, 1 - 1e-6))  # not 0: its sine is divided by
    rows = [
        (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)
        for t in np.linspace(0, 1, steps).tolist()  # Python floats keep float32
    ]
    return np.stack(rows, axis=1).reshape(-1, *a.shape[1:])  # (R, steps, ...) -> (R*steps, ...)


if __name__ == "__main__":
    console.run(main)
