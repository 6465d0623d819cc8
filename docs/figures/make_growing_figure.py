"""Trains progressive growing on drawn faces, with its recipe, and draws how the faces grew.

    python docs/figures/make_growing_figure.py    # a run of some ten minutes on two idle cores

The run stays in runs/growing. If it is complete it is only read, and if it was interrupted it is
resumed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from make_figures import BLUE, HERE, INK, ORANGE
from matplotlib.figure import Figure
from PIL import Image

from minigan import commands
from minigan.training.run import Run, numbered_runs

OUT = Path("runs/growing")
SHOWN = (400, 600, 1200, 1400, 2000, 2200, 2400, 3200)  # steps: sizes at their end, fades halfway
SIDE = 4 * 34 + 2  # pixels of four images of 32 and their margins, in a picture of the run


def trained() -> Run:
    """The run, trained to its end."""
    begun = bool(numbered_runs(OUT))
    words = ["resume", "auto"] if begun else ["train", "progressive", "--data", "faces"]
    if code := commands.main([*words, "--out", str(OUT)]):
        raise SystemExit(code)
    return Run(numbered_runs(OUT)[-1])


def growing() -> Figure:
    """The same sixteen faces at eight moments of the run, above the distance and the level."""
    run = trained()
    rows, batch = run.metrics(), run.config["options"]["batch_size"]
    figure = Figure(figsize=(10, 7.4), layout="constrained")
    grid = figure.add_gridspec(3, 4, height_ratios=[1, 1, 0.9])
    for i, step in enumerate(SHOWN):
        axes = figure.add_subplot(grid[i // 4, i % 4])
        with Image.open(run.samples / f"step-{step:08d}.png", formats=["PNG"]) as picture:
            axes.imshow(np.asarray(picture)[:SIDE, :SIDE])
        title = f"{step * batch:,} images: level {level(rows, step):g}"
        axes.set(xticks=[], yticks=[])
        axes.set_title(title, fontsize=10)
    axes = figure.add_subplot(grid[2, :])
    images = np.array([row["step"] * batch for row in rows])
    distance = np.convolve([row["distance"] for row in rows], np.ones(25) / 25, "valid")
    axes.plot(images[24:], distance, color=BLUE, label="distance")
    axes.plot(images, [row["level"] for row in rows], color=ORANGE, label="level")
    for step in SHOWN:
        axes.axvline(step * batch, color=INK, linewidth=0.5, alpha=0.3)
    axes.set(xlabel="images shown", xlim=(0, images[-1]), ylim=(0, None))
    axes.legend(frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def level(rows: list[dict[str, float]], step: int) -> float:
    """The level of the weights after a step, which is that of the next step."""
    return rows[min(step, len(rows) - 1)]["level"]


if __name__ == "__main__":
    growing().savefig(HERE / "growing.png", dpi=110)
