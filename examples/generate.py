"""Draw images with a trained generator: a grid, single pictures, and a walk between noises.

    python examples/generate.py --run runs/00000-faces64 --n 64 --seed 0

They are left in the run's folder generated/, or in --out.
"""

from __future__ import annotations

import argparse
import functools
import sys
from pathlib import Path
from typing import Any

import numpy as np

from minigan.backend import DeviceError, use_device
from minigan.data.cache import plain
from minigan.files import no_memory, trouble
from minigan.models.dcgan import Generator
from minigan.tensor import Tensor
from minigan.training import checkpoint, pictures
from minigan.training.config import THREADS, Config, ConfigError, parse, use_threads
from minigan.training.loop import draw_noise, random_stream, sample
from minigan.training.run import Run, RunError
from minigan.training.terminal import INTERRUPTED

BATCH = 64  # images drawn at a time, to bound the memory
MOST = 100_000  # images in all, which are held until the grid is drawn
WALK_ROWS, WALK_STEPS = 8, 10


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument(
        "--run", required=True, help="a run folder, one of its checkpoints, or auto"
    )
    parser.add_argument("--n", type=int, default=64, help="images to draw (default: 64)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the noise (default: 0)")
    parser.add_argument("--out", type=Path, help="folder to write to (default: RUN/generated)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--threads", type=int, help=THREADS)
    options = parse(parser, argv)
    if not 1 <= options.n <= MOST:
        parser.error(f"--n {options.n}: must be from 1 to {MOST}")
    try:
        Config(seed=options.seed, threads=options.threads)
    except ConfigError as error:
        parser.error(str(error))
    try:
        use_threads(options.threads)
        generate(options)
    except (ConfigError, RunError, checkpoint.CheckpointError, DeviceError) as error:
        print(f"error: {plain(error)}", file=sys.stderr)
        return 1
    except OSError as error:
        said = plain(trouble(error))
        print(f"error: {said}, then start again, or with another --out", file=sys.stderr)
        return 1
    except MemoryError as error:  # CuPy's, of a GPU, is one too
        print(
            f"error: {no_memory(error)}; end what else runs, or use --device cpu",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0


def generate(options: argparse.Namespace) -> None:
    path, G, run = load_newest(options.run)
    device = use_device(options.device, tf32=False)  # pictures to the last digit: there is no hurry
    G.to(device)

    def draw(z: Tensor) -> np.ndarray:
        return np.concatenate([sample(G, z[i : i + BATCH]) for i in range(0, len(z), BATCH)])

    out = options.out or path.parent.parent / "generated"
    (out / "single").mkdir(parents=True, exist_ok=True)
    rng = random_stream(options.seed, "generate")
    pixels = draw(draw_noise(rng, options.n, run["nz"], run["noise"], device))
    pictures.save_png(out / "grid.png", pictures.grid(pixels))
    digits = len(str(options.n - 1))
    for i, picture in enumerate(pixels):
        pictures.save_png(out / "single" / f"{i:0{digits}d}.png", picture)

    ends = draw_noise(rng, 2 * WALK_ROWS, run["nz"], run["noise"], "cpu").numpy()
    walk = interpolate(ends[:WALK_ROWS], ends[WALK_ROWS:], WALK_STEPS)
    walk = pictures.grid(draw(Tensor(walk).to(device)), columns=WALK_STEPS)
    pictures.save_png(out / "interpolation.png", walk)
    print(plain(f"{path.name}: {options.n} images and {WALK_ROWS} interpolations in {out}"))


def load_newest(where: str) -> tuple[Path, Generator, dict[str, Any]]:
    """The checkpoint itself, or the newest of a run folder that can be used; its G and options."""
    if Path(where).is_file():
        return Path(where), *load(Path(where))
    run = Run.find(where, Path("runs"))
    if run is None:
        raise checkpoint.CheckpointError(f"{where}: there is no checkpoint to generate from")
    skip = functools.partial(print, file=sys.stderr)
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
    sys.exit(main())
