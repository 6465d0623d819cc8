"""Trains StyleGAN on drawn faces, with its recipe, and draws what styles and noise do.

    python docs/figures/make_style_figure.py    # a run of some 15 minutes on two idle cores

The run stays in runs/style. If it is complete it is only read, and if it was interrupted it is resumed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from make_figures import HERE
from matplotlib.figure import Figure
from PIL import Image

from minigan import commands
from minigan.training.run import Run, numbered_runs

OUT = Path("runs/style")
# What `minigan sample` writes, with the number of rows to show.
SHOWN = {
    "mixing": ("styles of the first column, at full size of the first row", 6),
    "truncation": ("psi = -1, -0.5, 0, 0.3, 0.5, 0.7, 1, 1.5", 6),
    "noise": ("without noise, with six noises, and what they change", 5),
    "interpolation": ("along z, and below it along w", 6),
}
SIDE = 34  # pixels of an image of 32 and its margin


def trained() -> Run:
    """The run, trained to its end, with the pictures of `minigan sample`."""
    begun = bool(numbered_runs(OUT))
    words = ["resume", "auto"] if begun else ["train", "stylegan", "--data", "faces"]
    if code := commands.main([*words, "--out", str(OUT)]):
        raise SystemExit(code)
    run = Run(numbered_runs(OUT)[-1])
    if code := commands.main(["sample", str(run.folder), "--device", "cpu"]):
        raise SystemExit(code)
    return run


def style() -> Figure:
    """The four pictures, two in a row."""
    folder = trained().folder / "generated"
    figure = Figure(figsize=(10, 7.6), layout="constrained")
    for i, (name, (title, rows)) in enumerate(SHOWN.items()):
        axes = figure.add_subplot(2, 2, i + 1)
        with Image.open(folder / f"{name}.png", formats=["PNG"]) as picture:
            pixels = np.asarray(picture)[: rows * SIDE + 2]
        axes.imshow(pixels, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.set_title(title, fontsize=10)
    return figure


if __name__ == "__main__":
    style().savefig(HERE / "style.png", dpi=90)
