"""Every objective on the ring and on the grid: how many modes does each cover, and how soon?

    python examples/objectives.py                    # 12 runs of 3000 steps, about 15 minutes
    python examples/objectives.py --spectral-norm    # with a D whose slope is bounded

All runs have the same networks, seed and number of steps; they differ in what D and G descend. The one
exception is wasserstein, which always has spectral norm in D, because it needs a bound on D's slope.
The final samples are in objectives.png, and the film is objectives.gif.
"""

from __future__ import annotations

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback from the imports; see `console.run`

from pathlib import Path

from PIL import Image, ImageDraw

import minigan
from minigan import console
from minigan.commands import ending
from minigan.console import say
from minigan.data.mixture import SIDE, Mixture
from minigan.gans.objectives import OBJECTIVES
from minigan.options import Parser
from minigan.training.parallel import Group

DATA, FRAMES = ("ring", "grid"), 20
LINE = 20  # pixels of a line of text


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=(__doc__ or "").split("\n")[0])  # python -OO drops it
    parser.add_argument("--steps", type=int, default=3000, help="of each run (default: 3000)")
    parser.add_argument("--spectral-norm", action="store_true", help="bound the slope of every D")
    parser.add_argument("--out", default="runs", help="folder that holds the runs (default: runs)")
    return ending.run(compare, vars(parser.parse_args(argv)))


def compare(given: dict, group: Group) -> int:
    for_all = given.pop("spectral_norm")
    every = max(1, given["steps"] // FRAMES)  # a checkpoint for each frame of the film
    given |= {"checkpoint_every": every, "keep": FRAMES, "sample_every": given["steps"]}
    checkpoints = {}
    for data in DATA:
        for loss in OBJECTIVES:
            given |= {"loss": loss, "spectral_norm": for_all or loss == "wasserstein"}
            run = minigan.train("dcgan", data, say, name=f"{data}-{loss}", **given)
            checkpoints[data, loss] = sorted((run.folder / "checkpoints").glob("step-*"))
            if not checkpoints[data, loss][-1].stem.endswith(f"{given['steps']:08d}"):
                raise KeyboardInterrupt  # after Ctrl-C, `minigan.train` returns what it has learnt

    frames = []
    for paths in zip(*checkpoints.values(), strict=True):
        frames.append(Image.new("RGB", (SIDE * len(OBJECTIVES), (SIDE + 2 * LINE) * len(DATA))))
        for i, ((data, loss), path) in enumerate(zip(checkpoints, paths, strict=True)):
            row, column = divmod(i, len(OBJECTIVES))
            frames[-1].paste(tile(data, loss, path), (SIDE * column, (SIDE + 2 * LINE) * row))

    png, gif = (Path(given["out"]) / f"objectives.{kind}" for kind in ("png", "gif"))
    frames[-1].save(png)
    frames[0].save(gif, save_all=True, append_images=frames[1:], duration=300, loop=0)
    say(f"Look at {png} and {gif}")
    return 0


def tile(data: str, loss: str, checkpoint: Path) -> Image.Image:
    """A picture of a checkpoint's samples, with its title above and the covered modes below."""
    mixture = Mixture(data, count=1)
    points = minigan.load(checkpoint).sample(mixture.shown)
    modes, good = mixture.modes(points)
    image = Image.new("RGB", (SIDE, SIDE + 2 * LINE), "white")
    image.paste(Image.fromarray(mixture.picture(points)), (0, LINE))
    text = f"{modes} of {len(mixture.centers)} modes, {good:.0%} of the samples on one"
    ImageDraw.Draw(image).text((4, 4), f"{data}, {loss}", "black")
    ImageDraw.Draw(image).text((4, SIDE + LINE + 4), text, "black")
    return image


if __name__ == "__main__":
    console.run(main)
