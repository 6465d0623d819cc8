"""Plays the plain GAN and the unrolled GAN on the ring, five seeds each, and draws what they cover.

    python docs/figures/make_modes_figures.py    # ten runs, half an hour

The runs stay in runs/modes. Those that are complete are only read, and one that was interrupted is
resumed, so that a second call draws the figure in seconds. The table of the chapter is printed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from make_family_figures import panels
from make_figures import BLUE, GREY, HERE, ORANGE
from matplotlib.figure import Figure

import minigan
from minigan import commands, init, nn
from minigan.data.mixture import Mixture
from minigan.gans import MEMBERS, unrolled
from minigan.gans.judge import Judge
from minigan.models import mlp
from minigan.options import with_default
from minigan.tensor import Tensor
from minigan.training.checkpoint import newest_first

SEEDS = range(5)
STEPS = {0: 7_000, 5: 3_000}  # of each K; a step with K = 5 takes 4.5 times as long
EVERY = 500
# What is compared, as (K, steps): equal steps, then equal time.
COMPARED = ((0, 3_000), (5, 3_000), (0, 7_000), (5, 1_500))
NEAR = 0.5  # a third of the way from a mode to the next
OUT = Path("runs/modes")
COLOURS = {0: ORANGE, 5: BLUE}  # of each K
GAIN, SCALE = 0.8, 4.0  # of first weights, and what D divides its input by


# -- the member: networks and options of Metz et al. 2017, appendix -----------------------------


class Discriminator(nn.Module):
    """Points (N, 2) -> scores (N, 1): a single hidden layer."""

    def __init__(self, width: int):
        self.main = nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, 1))

    def logits(self, x: Tensor) -> Tensor:
        return self.main(x / SCALE)


@dataclass(frozen=True)
class Options(unrolled.Options):
    nz: int = with_default(256, unrolled.Options, "nz")
    ngf: int = with_default(128, unrolled.Options, "ngf")
    ndf: int = with_default(128, unrolled.Options, "ndf")
    batch_size: int = with_default(512, unrolled.Options, "batch_size")
    lr: float = with_default(1e-3, unrolled.Options, "lr")
    loss: str = with_default("minimax", unrolled.Options, "loss")


class Metz(unrolled.Unrolled):
    """The ring's game in the appendix of Metz et al. 2017."""

    Options = Options

    def networks(self, rng: np.random.Generator, device: str) -> tuple[nn.Module, nn.Module, Judge]:
        o = self.options
        G, D = mlp.Generator(o.nz, o.ngf, self.shape), Discriminator(o.ndf)
        for layer in (*G.modules(), *D.modules()):
            if isinstance(layer, nn.Linear):
                init.orthogonal_(layer.weight, GAIN, rng)
                init.zeros_(layer.bias)
        G.to(device)
        D.to(device)
        return G, D, Judge(D, o)


MEMBERS["metz"] = Metz


# -- the runs -----------------------------------------------------------------------------------


def checkpoints(K: int, seed: int) -> list[Path]:
    """The checkpoints of a run, oldest first; what is missing of the run is played first."""
    name, last = f"K{K}-seed{seed}", STEPS[K]
    found = sorted(OUT.glob(f"*-{name}"))
    if not found:
        game = {"name": name, "unroll": K, "seed": seed, "steps": last, "epochs": last}
        every = {"checkpoint_every": EVERY, "keep": last // EVERY + 1, "sample_every": last}
        minigan.train("metz", "ring", **game, **every, out=OUT, device="cpu", threads=1)
        found = sorted(OUT.glob(f"*-{name}"))
    elif not complete(found[-1], last):
        commands.main(["resume", str(found[-1])])
    if not complete(found[-1], last):
        raise SystemExit(f"{found[-1]} is not complete; start this again to go on")
    return newest_first(found[-1] / "checkpoints")[::-1]


def complete(run: Path, last: int) -> bool:
    """Whether a run has made its last step."""
    return last in map(step, newest_first(run / "checkpoints"))


def step(checkpoint: Path) -> int:
    """The number of completed steps."""
    return int(checkpoint.stem.partition("-")[2])


def at(steps: int, found: list[Path]) -> Path:
    """The checkpoint after this many steps."""
    return next(checkpoint for checkpoint in found if step(checkpoint) == steps)


# -- what they cover ----------------------------------------------------------------------------

RING, WIDE = Mixture("ring", count=1), Mixture("ring", count=1)
WIDE.std = NEAR / 3  # so that its discs of three standard deviations have the radius NEAR


def points(checkpoint: Path) -> np.ndarray:
    """The samples (2500, 2) for which modes are counted: those of G itself, not of its average."""
    return minigan.load(checkpoint).sample(RING.shown, raw=True)


def table(found: dict[tuple[int, int], list[np.ndarray]]) -> str:
    """The chapter's table of the samples of each K and number of steps, seed by seed."""
    rows = []
    for name, mixture in (("covered", RING), ("near", WIDE)):
        for (K, steps), each in found.items():
            counts = (mixture.modes(samples) for samples in each)
            cells = " | ".join(f"{count} ({share:.0%})" for count, share in counts)
            rows.append(f"| {name} | {K} | {steps:,} | {cells} |")
    return "\n".join(rows)


def near(K: int, seed: int) -> tuple[list[int], list[int]]:
    """The steps after which a run left checkpoints, and the modes near by at each."""
    found = checkpoints(K, seed)
    return [step(each) for each in found], [WIDE.modes(points(each))[0] for each in found]


def modes() -> Figure:
    """G's samples after equal steps and after equal time, and the modes near by over the steps."""
    found = {
        (K, steps): [points(at(steps, checkpoints(K, seed))) for seed in SEEDS]
        for K, steps in COMPARED
    }
    print(table(found))
    columns = len(SEEDS)
    figure, axes = panels(10, 10.2, len(found) + 1, columns, sharey="row")
    for i, ((K, steps), each) in enumerate(found.items()):
        for samples, ax in zip(each, axes[i * columns :], strict=False):
            ax.plot(*RING.centers.T, "o", color=GREY, markersize=7, fillstyle="none")
            ax.plot(*samples.T, ".", color=COLOURS[K], markersize=1.5, alpha=0.5)
            ax.set(xlim=(-3, 3), ylim=(-3, 3), aspect="equal", xticks=[], yticks=[])
            ax.spines[:].set_visible(True)
        axes[i * columns].set_ylabel(f"K = {K}\n{steps:,} steps")
    for seed, top, ax in zip(SEEDS, axes, axes[-columns:], strict=False):
        top.set_title(f"seed {seed}", fontsize=11)
        for K, colour in COLOURS.items():
            ax.plot(*near(K, seed), color=colour, linewidth=1.8, label=f"K = {K}")
        ax.set(xlabel="step", ylim=(0, 8.4), xticks=(0, STEPS[5], STEPS[0]), yticks=(0, 4, 8))
    axes[-columns].set_ylabel("modes near by")
    axes[-1].legend(frameon=False, fontsize=9, loc="center right")
    return figure


if __name__ == "__main__":
    modes().savefig(HERE / "modes.png", dpi=120)
