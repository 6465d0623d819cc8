"""Trains every member, and makes docs/gallery.md's pictures and its table.

    python docs/figures/make_gallery.py --out runs-gallery    # some 85 minutes of CPU time

An interrupted gallery continues where it stopped. Fashion-MNIST takes part if it is installed. The
pictures are left beside this file; the table replaces the one in docs/gallery.md.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
from make_figures import BLUE, GREEN, HERE, ORANGE, PURPLE
from matplotlib.figure import Figure

import minigan
from minigan.commands import main as program
from minigan.data import Dataset, seasons
from minigan.data.kinds import usual_place
from minigan.evaluation.translation import translation_errors
from minigan.gans import MEMBERS
from minigan.gans.base import GAN
from minigan.training.looks import COLUMNS
from minigan.training.metrics import metric
from minigan.training.plan import Plan, resumed
from minigan.training.run import Run
from minigan.training.session import build, reopen

PAGE = HERE.parent / "gallery.md"
START, END = "<!-- table: make_gallery.py -->\n", "<!-- end of table -->\n"
ALSO = [("dcgan", "faces"), ("wgan-gp", "faces"), ("conditional", "shapes")]
ALSO += [("progressive", "faces"), ("stylegan", "faces")]
REAL = ("conditional", "fashion-mnist")  # if it is installed
NUMBER = "[0-9]" * 5  # of a run
FEATURES = {"fashion-mnist": "random"}  # where they are not named after the data
HELD_OUT, SHOWN = 100, 16  # faces of each season whose translations are measured, and shown
ROUNDS, STEPS = 5, 4  # of timing
LOSSES = ("loss_d", "loss_g", "distance", "penalty")
SCORES = ("d_x", "d_gz_before", "score_x", "score_gz_before", "cycle", "identity")
COLOURS = (BLUE, ORANGE, GREEN, PURPLE)
RAW = argparse.RawDescriptionHelpFormatter


def rows() -> list[tuple[str, str]]:
    """(member, data) of all runs, in the order of the page."""
    pairs = [(name, data) for name in MEMBERS for data in usual(MEMBERS[name])]
    pairs += ALSO + [REAL] * (usual_place(REAL[1]) is not None)
    return sorted(pairs, key=lambda pair: list(MEMBERS).index(pair[0]))


def usual(member: type[GAN]) -> tuple[str, ...]:
    """The data that every member is shown on, if it suits the member."""
    if member.translates:
        return ("seasons",)
    return ("digits",) if member.only_images else ("ring", "digits")


def trained(member: str, data: str, out: Path) -> Path:
    """The folder of the run, which is trained or continued if it is not at its end."""
    name = f"{member}-{data}"
    found = list(out.glob(f"{NUMBER}-{name}"))
    words = (
        ["resume", str(found[0])] if found else ["train", member, "--data", data, "--name", name]
    )
    if code := program([*words, "--out", str(out)]):
        raise SystemExit(code)
    return next(out.glob(f"{NUMBER}-{name}"))


def number(run: minigan.Trained, kind: str) -> str:
    """How well a run did: the modes that it covers, or how far its images are from real ones."""
    if kind == "seasons":
        return translations(run)
    metric = "modes" if kind == "ring" else f"frechet_{FEATURES.get(kind, kind)}"
    found = run.evaluate([metric])[metric]
    values, reals = found["values"], found["reals"]
    if kind == "ring":
        return f"{values['covered']:.0f} of 8 modes, {values['share']:.0%} of the samples on one"
    return f"{metric} {values['distance']:.3g} (of reals {reals['distance']:.2g})"


def translations(run: minigan.Trained) -> str:
    """The errors of a run's translations of faces that are not in its data, beside the best map's."""
    o, seed = run.game.data, run.game.options.seed
    first, said = o.max_images or o.kind.count, []
    faces = seasons.pairs(seed, range(first, first + HELD_OUT), o.image_size, o.nc)
    for season, x, y in zip(seasons.CLASSES, faces[::-1], faces, strict=True):
        errors = translation_errors(run.translate(x, season), x, y)
        said.append(f"to {season} {errors['translation']:.3f} ({errors['affine']:.3f})")
    return f"L1 {', '.join(said)}"


def picture(run: minigan.Trained, data: Dataset) -> np.ndarray:
    """Samples, or images over their translations, as pixels."""
    if not run.member.translates:
        return data.picture(run.sample(data.shown))
    rows = []
    for k, name in enumerate(data.classes[::-1]):
        for part in np.flatnonzero(data.labels == k)[:SHOWN].reshape(-1, COLUMNS):
            x = data.batch(part, "cpu").numpy()
            rows += [x, run.translate(x, name)]
    return data.picture(np.concatenate(rows))


def times(plans: list[tuple[Plan, Dataset]]) -> list[float]:
    """Milliseconds a step of each, turn by turn, so that a busy machine disturbs them alike."""
    games = [build(plan, data, "cpu") for plan, data in plans]
    for member, draw in games:
        draw.counts["step"] = member.costliest
    found: list[list[float]] = [[] for _ in games]
    for turn in range(ROUNDS):
        for seconds, (member, draw) in zip(found, games, strict=True):
            start = perf_counter()
            for _ in range(STEPS):
                member.step(draw)
                draw.next_step()
            if turn:  # the first round only warms up
                seconds.append((perf_counter() - start) / STEPS)
    return [1000 * median(seconds) for seconds in found]


def draw_runs(runs: list[tuple[Path, Dataset]], path: Path) -> None:
    """A member's runs, one a row: samples, losses, and what D says of reals and of fakes."""
    figure = Figure(figsize=(10, 3.2 * len(runs)), layout="constrained")
    for row, (folder, data) in enumerate(runs):
        run, lines = minigan.load(folder), Run(folder).metrics()
        axes = figure.add_subplot(len(runs), 3, 3 * row + 1)
        axes.imshow(picture(run, data))
        axes.set(title=data.name, xticks=[], yticks=[])
        for column, names in enumerate((LOSSES, SCORES)):
            shown = [name for name in names if any(name in line for line in lines)]
            if not shown:  # a critic has no scores of its own, only their distance
                continue
            axes = figure.add_subplot(len(runs), 3, 3 * row + 2 + column)
            for name, colour in zip(shown, COLOURS, strict=False):
                having = [line for line in lines if name in line]  # R1 is not in every step
                values = np.array([line[name] for line in having])
                width = max(1, len(values) // 50)
                smooth = np.convolve(values, np.ones(width) / width, "valid")
                steps = [line["step"] for line in having][width - 1 :]
                axes.plot(steps, smooth, color=colour, label=metric(name).label)
            axes.spines[["top", "right"]].set_visible(False)
            axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=RAW)
    parser.add_argument("--out", default="runs-gallery", help="folder that holds the runs")
    out = Path(parser.parse_args().out)
    folders = {pair: trained(*pair, out) for pair in rows()}
    plans = {pair: resumed(Run(folder), {}) for pair, folder in folders.items()}
    data = {pair: reopen(Run(folder), None, print) for pair, folder in folders.items()}

    for name in MEMBERS:
        runs = [(folders[pair], data[pair]) for pair in folders if pair[0] == name]
        draw_runs(runs, HERE / f"gallery-{name}.png")
        print(f"gallery-{name}.png")

    speeds = times([(plans[pair], data[pair]) for pair in folders])
    table = ["| member | data | steps | a step | result |", "|---|---|---|---|---|"]
    for (member, kind), speed in zip(folders, speeds, strict=True):
        folder = folders[member, kind]
        steps = Run(folder).metrics()[-1]["step"]
        result = number(minigan.load(folder), kind)
        table.append(f"| `{member}` | `{kind}` | {steps:,} | {speed:.1f} ms | {result} |")
        print(table[-1])
    text = "".join(line + "\n" for line in table)
    old = PAGE.read_text()
    PAGE.write_text(re.sub(f"(?s)(?<={START}).*(?={END})", lambda _: text, old))


if __name__ == "__main__":
    main()
