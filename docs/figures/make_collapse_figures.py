"""Plays the runs of chapter 18, which collapse or do not, and draws its figures and tables.

    python docs/figures/make_collapse_figures.py          # all, half an hour
    python docs/figures/make_collapse_figures.py ring     # only one of: faces, ring

The runs stay in runs/collapse. Those that are complete are only read, so that a second call draws in
seconds. The numbers of each run are written to collapse_faces.json and collapse_ring.json beside this
file, and the tables of the chapter are printed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from make_family_figures import panels
from make_figures import BLUE, GREEN, GREY, HERE, ORANGE, PURPLE
from matplotlib.figure import Figure

import minigan
from minigan.api import Trained
from minigan.data.images import grid, to_pixels
from minigan.data.mixture import Mixture
from minigan.errors import UserError
from minigan.functional import binary_cross_entropy
from minigan.gans import MEMBERS, standard
from minigan.gans.objectives import FAKE, REAL, Objective, of_fakes
from minigan.keys import generator, noise
from minigan.options import with_default
from minigan.tensor import Tensor, no_grad

SEEDS = range(5)
OUT = Path("runs/collapse")
LAST = 100  # steps at the end of a run, over which its losses are averaged
TAKEN = 10  # of the samples of a run, for the strip of pictures


# -- the member: the loss as the documents write it, on probabilities ----------------------------


def of_reals(scores: Tensor, label: float) -> Tensor:
    """BCELoss after a Sigmoid: each logarithm is clamped at -100."""
    return binary_cross_entropy(scores.sigmoid(), label)


@dataclass(frozen=True)
class Options(standard.Options):
    batch_size: int = with_default(16, standard.Options, "batch_size")
    nz: int = with_default(16, standard.Options, "nz")
    ngf: int = with_default(4, standard.Options, "ngf")
    ndf: int = with_default(32, standard.Options, "ndf")
    lr: float = with_default(0.02, standard.Options, "lr")
    beta1: float = with_default(0.9, standard.Options, "beta1")
    ema: float = with_default(0.0, standard.Options, "ema")


class Literal(standard.DCGAN):
    """The DCGAN with a Sigmoid in D and the cross-entropy of its probabilities."""

    Options = Options

    @property
    def loss(self) -> Objective:
        real = REAL - self.options.smoothing
        return Objective(
            lambda x, fake: of_reals(x, real) + of_reals(fake, FAKE),
            of_fakes(lambda fake: of_reals(fake, REAL)),
            probability=True,
        )


class Logits(standard.DCGAN):
    """The same game with the loss of minigan, on D's scores."""

    Options = Options


MEMBERS["literal"], MEMBERS["logits"] = Literal, Logits


# -- the runs ------------------------------------------------------------------------------------

FACES: dict[str, tuple[str, dict[str, Any]]] = {
    "as the documents have it": ("literal", {}),
    "loss on logits": ("logits", {}),
    "smoothing 0.1": ("literal", {"smoothing": 0.1}),
    "spectral norm": ("literal", {"spectral_norm": True}),
    "R1, weight 1": ("literal", {"r1": 1.0}),
    "instance noise 0.5": ("literal", {"instance_noise": 0.5}),
    "minibatch std": ("literal", {"minibatch_std": True}),
    "packs of 2": ("literal", {"pack": 2}),
    "rollback": ("literal", {"on_divergence": "rollback"}),
    "learning rate 0.002": ("literal", {"lr": 0.002}),
}
COMMON = {"image_size": 16, "max_images": 1000, "epochs": 100, "checkpoint_every": 100}
IMAGES = {**COMMON, "steps": 600, "sample_every": 600}

POINTS = {"nz": 2, "ngf": 64, "ndf": 32, "batch_size": 128, "g_lr": 2e-2, "d_lr": 1e-3, "ema": 0.0}
RING: dict[str, dict[str, Any]] = {
    "plain": {},
    "smoothing 0.1": {"smoothing": 0.1},
    "spectral norm": {"spectral_norm": True},
    "R1, weight 1": {"r1": 1.0},
    "instance noise 0.5": {"instance_noise": 0.5},
    "minibatch std": {"minibatch_std": True},
    "packs of 4": {"pack": 4},
    "learning rate of G 0.001": {"g_lr": 1e-3},
}
STEPS = 2000  # of a run on the ring
EVERY = {"steps": STEPS, "epochs": 100, "checkpoint_every": 200, "sample_every": STEPS}


def play(member: str, data: str, name: str, seed: int, **options: Any) -> Path:
    """The folder of a run, which is played first if it is not there."""
    name = f"{name}-{seed}".replace(" ", "-").replace(",", "")
    if not (found := sorted(OUT.glob(f"?????-{name}"))):
        given = {"name": name, "seed": seed, "out": OUT, "device": "cpu", "threads": 1, **options}
        try:
            minigan.train(member, data, say=lambda line: None, **given)
        except UserError as stopped:  # after three rollbacks
            print(stopped)
        found = sorted(OUT.glob(f"?????-{name}"))
    return found[-1]


def lines(run: Path, file: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / file).read_text().splitlines()]


def mean(rows: list[dict[str, Any]], name: str) -> float:
    return float(np.mean([row[name] for row in rows]))


def told(run: Path) -> dict[str, Any]:
    """What a run says about its end: mean losses, the last diversity, and the step of each alarm."""
    rows = lines(run, "metrics.jsonl")
    end, measured = rows[-LAST:], [row["diversity"] for row in rows if "diversity" in row]
    alarms = [event for event in lines(run, "events.jsonl") if event["event"] == "diverged"]
    return {
        "steps": rows[-1]["step"],
        "loss_d": mean(end, "loss_d"),
        "loss_g": mean(end, "loss_g"),
        "grad_g": mean(end, "grad_g"),
        "diversity": measured[-1],
        "alarms": {event["name"]: event["step"] for event in alarms[::-1]},  # the first of each
    }


# -- drawn faces ---------------------------------------------------------------------------------


def face(name: str, seed: int) -> tuple[dict[str, Any], np.ndarray]:
    """The numbers of a run on drawn faces, with the distance of its samples, and some of these."""
    member, options = FACES[name]
    run = play(member, "faces", name, seed, **{**IMAGES, **options})
    trained = minigan.load(run)
    distance = trained.evaluate(["frechet_faces"], n=500, raw=True)["frechet_faces"]["values"]
    numbers = {**told(run), "frechet": distance["distance"], "active": active(trained)}
    return numbers, trained.sample(TAKEN, raw=True)


def active(trained: Trained) -> float:
    """The share of G's last hidden values that are above 0, over 64 noises."""
    G, o = trained.member.players["G"].net, trained.member.options
    x = Tensor(noise(generator(0, "active"), (64, o.nz, 1, 1), o.noise))
    with no_grad():
        for layer in [*G.eval().main][:-2]:  # all but the last convolution and its tanh
            x = layer(x)
    return float((x.numpy() > 0).mean())


def collapsed(numbers: dict[str, Any]) -> bool:
    return numbers["diversity"] < 0.1


def spread(values: list[float], form: str) -> str:
    """The least, the middle and the largest of five values."""
    low, *_, high = sorted(values)
    return " / ".join(format(value, form) for value in (low, float(np.median(values)), high))


def faces() -> None:
    """The table and both figures of drawn faces."""
    found, strips = {}, {}
    for name in FACES:
        found[name], strips[name] = zip(*(face(name, seed) for seed in SEEDS), strict=True)
        print(face_row(name, found[name]), flush=True)
    write("faces", found)
    collapse_strips(strips).savefig(HERE / "collapse_strips.png", dpi=110)
    collapse_watched(0).savefig(HERE / "collapse_watched.png", dpi=120)


def face_row(name: str, found: tuple[dict[str, Any], ...]) -> str:
    column = lambda key, form: spread([numbers[key] for numbers in found], form)
    cells = (
        name,
        f"{sum(map(collapsed, found))} of {len(found)}",
        column("loss_d", ".3f"),
        column("loss_g", ".1f"),
        column("diversity", ".2f"),
        column("frechet", ".1f"),
    )
    return f"| {' | '.join(cells)} |"


def collapse_strips(strips: dict[str, tuple[np.ndarray, ...]]) -> Figure:
    """Samples of all runs at their end: a row for each setting, a strip for each seed."""
    figure, axes = panels(13, 0.52 * len(strips) + 0.4, len(strips), len(SEEDS))
    for i, (name, samples) in enumerate(strips.items()):
        row = axes[i * len(SEEDS) : (i + 1) * len(SEEDS)]
        for seed, ax, images in zip(SEEDS, row, samples, strict=True):
            ax.imshow(grid(to_pixels(images), columns=TAKEN), interpolation="nearest")
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
            if i == 0:
                ax.set_title(f"seed {seed}", fontsize=10)
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    return figure


def collapse_watched(seed: int) -> Figure:
    """One collapse, step by step: losses, D's outputs, G's gradient, diversity."""
    run = play("literal", "faces", "as the documents have it", seed, **IMAGES)
    rows = lines(run, "metrics.jsonl")
    steps = np.array([row["step"] for row in rows])
    at = lambda name: np.array([row[name] for row in rows])
    figure, axes = panels(10, 5.6, 2, 2, sharex=True)
    for ax, names, colours in (
        (axes[0], {"loss_d": "Loss_D", "loss_g": "Loss_G"}, (BLUE, ORANGE)),
        (axes[1], {"d_x": "D(x)", "d_gz_before": "D(G(z))"}, (GREEN, ORANGE)),
        (axes[2], {"grad_g": "|grad G|"}, (PURPLE,)),
    ):
        for (name, label), colour in zip(names.items(), colours, strict=True):
            ax.plot(steps, at(name), color=colour, linewidth=0.9, label=label)
        ax.legend(frameon=False, fontsize=9)
    axes[0].set_yscale("log")
    axes[1].set_yscale("log")
    axes[2].set_yscale("symlog", linthresh=1e-6)
    axes[2].set_ylim(bottom=0)
    measured = [(row["step"], row["diversity"]) for row in rows if "diversity" in row]
    axes[3].plot(*zip(*measured, strict=True), color=BLUE, marker=".", label="diversity")
    axes[3].axhline(0.1, color=GREY, linestyle=":", label="the sign: below 0.1")
    axes[3].legend(frameon=False, fontsize=9)
    for step in set(told(run)["alarms"].values()):
        axes[3].axvline(step, color=ORANGE, linewidth=0.9)
    for ax in axes[2:]:
        ax.set_xlabel("step")
    return figure


# -- the ring ------------------------------------------------------------------------------------

EXACT, WIDE = Mixture("ring", count=1), Mixture("ring", count=1)
WIDE.std = 0.5 / 3  # a mode is near within 0.5, as in chapter 13


def ring_run(name: str, seed: int) -> tuple[dict[str, Any], np.ndarray]:
    """The numbers of a run on the ring, and its samples."""
    run = play("dcgan", "ring", f"ring {name}", seed, **{**POINTS, **EVERY, **RING[name]})
    samples = minigan.load(run).sample(EXACT.shown, raw=True)
    (near, share), covered = WIDE.modes(samples), EXACT.modes(samples)[0]
    return {**told(run), "near": near, "share": share, "covered": covered}, samples


def ring() -> None:
    """The table and the figure of the ring."""
    found, samples = {}, {}
    for name in RING:
        found[name], samples[name] = zip(*(ring_run(name, seed) for seed in SEEDS), strict=True)
        print(ring_row(name, found[name]), flush=True)
    write("ring", found)
    collapse_ring(samples).savefig(HERE / "collapse_ring.png", dpi=100)


def ring_row(name: str, found: tuple[dict[str, Any], ...]) -> str:
    cells = [f"{numbers['near']} ({numbers['share']:.0%})" for numbers in found]
    alarmed = sum("collapsed generator" in numbers["alarms"] for numbers in found)
    low = spread([numbers["diversity"] for numbers in found], ".2f")
    return f"| {' | '.join([name, *cells, low, str(alarmed)])} |"


def collapse_ring(samples: dict[str, tuple[np.ndarray, ...]]) -> Figure:
    figure, axes = panels(8, 1.55 * len(samples), len(samples), len(SEEDS))
    for i, (name, each) in enumerate(samples.items()):
        for seed, points, ax in zip(SEEDS, each, axes[i * len(SEEDS) :], strict=False):
            ax.plot(*EXACT.centers.T, "o", color=GREY, markersize=6, fillstyle="none")
            ax.plot(*points.T, ".", color=BLUE, markersize=1.2, alpha=0.4)
            ax.set(xlim=(-3, 3), ylim=(-3, 3), aspect="equal", xticks=[], yticks=[])
            if i == 0:
                ax.set_title(f"seed {seed}", fontsize=10)
        axes[i * len(SEEDS)].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    return figure


def write(name: str, found: dict[str, Any]) -> None:
    text = json.dumps(found, indent=1)
    (HERE / f"collapse_{name}.json").write_text(text + "\n")


PARTS: dict[str, Callable[[], None]] = {"faces": faces, "ring": ring}

if __name__ == "__main__":
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
