"""Trains the runs of the exercise `collapse`, and draws its pictures.

    python docs/figures/make_collapse_exercise.py      # all, four minutes on two cores
    python docs/figures/make_collapse_exercise.py a b  # those named

Each picture shows the losses of a run, samples of its data, and samples of G at four times. They
are written to minigan/exercises/ladder/pictures. The numbers that the page of the exercise quotes
are printed.
"""

from __future__ import annotations

import io
import sys
from typing import Any, NamedTuple

import numpy as np
from make_figures import BLUE, HERE, ORANGE, PALE
from matplotlib.figure import Figure
from PIL import Image

from minigan.data import Dataset
from minigan.data.digits import draw
from minigan.data.images import grid, to_pixels
from minigan.data.mixture import Mixture
from minigan.exercises.ladder.diversity import diversity
from minigan.files import write_atomically
from minigan.gans import MEMBERS
from minigan.keys import generator, noise
from minigan.tensor import Tensor, tensor
from minigan.training.draw import Draw

FOLDER = HERE.parents[1] / "minigan/exercises/ladder/pictures"
SNAPSHOTS = 4
RED = "#c81e1e"
SIZE = 16  # pixels of a digit
LIMIT = 3.2  # of the axes of points
POINTS = {"nz": 2, "ngf": 64, "ndf": 64, "batch_size": 128}
IMAGES = {"nz": 16, "ngf": 8, "ndf": 8, "batch_size": 32}
PLAIN = {"network": "mlp", "ngf": 32, "ndf": 32}  # without batch norm, which would hold G together


class Digits(Dataset):
    """Drawn digits (1, SIZE, SIZE), all of them or one of the ten."""

    shape, shown = (1, SIZE, SIZE), 25

    def __init__(self, digit: int | None, count: int = 1000):
        step, first = (1, 0) if digit is None else (10, digit)  # digit i is of class i % 10
        drawn = [draw(0, step * i + first, SIZE)[0] for i in range(count)]
        pixels = np.stack(drawn)[..., 0]  # (count, SIZE, SIZE, 3), grey -> (count, SIZE, SIZE)
        self.images = (pixels[:, None] / 127.5 - 1).astype(np.float32)  # (count, 1, SIZE, SIZE)

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: np.ndarray, device: str, mirrored: Any = None) -> Tensor:
        return tensor(self.images[indices], device=device)

    def picture(self, samples: np.ndarray) -> np.ndarray:
        return grid(to_pixels(samples), columns=5)


class Play(NamedTuple):
    """A run: a member on some data, with these options."""

    member: str
    data: Dataset
    options: dict[str, Any]
    steps: int
    seed: int = 2


def plays() -> dict[str, Play]:
    """The runs, by the letters of their pictures."""
    ring = Mixture("ring", 20_000)
    return {
        "a": Play("dcgan", ring, POINTS | {"lr": 5e-3}, 1600),
        "b": Play("dcgan", ring, POINTS | {"g_lr": 1e-1, "d_lr": 5e-3}, 1600),
        "c": Play("dcgan", ring, POINTS | {"ndf": 32, "g_lr": 2e-2, "d_lr": 1e-3}, 1200),
        "d": Play("lsgan", ring, POINTS | {"lr": 5e-3}, 1600, seed=1),
        "e": Play("dcgan", ring, POINTS | {"g_lr": 1e-5, "d_lr": 1e-2}, 1600),
        "f": Play("dcgan", Digits(4), IMAGES, 1200),
        "g": Play(
            "dcgan", Digits(None), IMAGES | PLAIN | {"g_lr": 2e-2, "d_lr": 2e-3}, 800, seed=3
        ),
        "h": Play("dcgan", Digits(None), IMAGES, 1200),
    }


def played(play: Play) -> tuple[dict[str, list[float]], list[np.ndarray]]:
    """The losses of each step, and samples of G (not of its average) at SNAPSHOTS times."""
    member = MEMBERS[play.member]
    options = member.Options(**play.options, seed=play.seed)
    game = member(options, play.data.shape, generator(play.seed, "init"))
    stream = Draw(play.data, options.batch_size, options.nz, play.seed)
    z = Tensor(noise(generator(play.seed, "pictures"), (200, options.nz), "normal"))
    losses: dict[str, list[float]] = {"loss_d": [], "loss_g": []}
    snapshots = []
    for step in range(1, play.steps + 1):
        metrics = game.step(stream)
        stream.next_step()
        for name, values in losses.items():
            values.append(metrics[name].item())
        if step % (play.steps // SNAPSHOTS) == 0:
            snapshots.append(game.players["G"].net(z).numpy().copy())
    return losses, snapshots


def drawn(play: Play, losses: dict[str, list[float]], snapshots: list[np.ndarray]) -> bytes:
    """The picture as a PNG."""
    figure = Figure(figsize=(12, 2.3), dpi=80, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)
    axes = figure.subplots(1, 2 + SNAPSHOTS, width_ratios=[1.7] + [1] * (1 + SNAPSHOTS))
    for (name, values), colour in zip(losses.items(), (BLUE, ORANGE), strict=True):
        axes[0].plot(values, color=colour, linewidth=0.8, label=name.replace("l", "L").title())
    axes[0].set(xlabel="step")
    axes[0].legend(fontsize=8)
    reals = play.data.batch(np.arange(200), "cpu").numpy()
    titles = ["data", *(f"step {play.steps * (i + 1) // SNAPSHOTS}" for i in range(SNAPSHOTS))]
    for ax, title, samples in zip(axes[1:], titles, [reals, *snapshots], strict=True):
        ax.set_title(title, fontsize=9)
        if isinstance(play.data, Mixture):
            ax.scatter(*play.data.centers.T, s=60, color=PALE)
            ax.scatter(*samples[:200].T, s=4, alpha=0.5, color=RED)
            ax.set(xlim=(-LIMIT, LIMIT), ylim=(-LIMIT, LIMIT), aspect="equal", xticks=[], yticks=[])
        else:
            ax.imshow(play.data.picture(samples[: play.data.shown]), interpolation="nearest")
            ax.axis("off")
    file = io.BytesIO()
    figure.savefig(file, format="png")
    image = Image.open(file, formats=["PNG"]).convert("RGB").quantize(256)
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for letter, play in plays().items():
        if sys.argv[1:] and letter not in sys.argv[1:]:
            continue
        losses, snapshots = played(play)
        write_atomically(FOLDER / f"collapse-{letter}.png", drawn(play, losses, snapshots))
        reals = play.data.batch(np.arange(200), "cpu").numpy().reshape(200, -1)
        ratio = diversity(snapshots[-1].reshape(200, -1), reals)
        last = {name: round(float(np.mean(values[-100:])), 2) for name, values in losses.items()}
        print(letter, f"diversity {ratio:.2f}, the last 100 steps {last}", end="")
        if isinstance(play.data, Mixture):
            modes, good = play.data.modes(snapshots[-1])
            near = np.linalg.norm(snapshots[-1][:, None] - play.data.centers, axis=2).min(1) < 0.3
            print(f", {modes} modes, {good:.0%} on one, {near.mean():.0%} within 0.3", end="")
        print()
