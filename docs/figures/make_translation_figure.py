"""Draws the figure of the chapter on translation, from a run of examples/cyclegan.py.

    python examples/cyclegan.py --out runs/translation    # 20 minutes
    python docs/figures/make_translation_figure.py runs/translation/00000-cyclegan-seasons32

The faces are not in the run's data. The figure is left beside this file.
"""

from __future__ import annotations

import sys

import numpy as np
from make_family_figures import panels
from make_figures import HERE
from matplotlib.figure import Figure

import minigan
from minigan.data import seasons
from minigan.data.images import GAP, grid, to_pixels
from minigan.evaluation.translation import colour_maps
from minigan.training.looks import COLUMNS

FIRST = 6400  # the number of the first face that is not in the data


def translation(run: minigan.Trained) -> Figure:
    """Faces, their colours mapped as well as can be, their translations, the truth, and back again."""
    size = run.game.data.image_size
    faces = seasons.pairs(run.game.options.seed, range(FIRST, FIRST + 100), size)
    figure, axes = panels(9, 2.9, 1, 2)
    for (k, x, y), ax in zip(((1, *faces), (0, *faces[::-1])), axes, strict=True):
        there = run.translate(x[:COLUMNS], k)
        names = run.game.classes
        rows = {
            "original": x[:COLUMNS],
            "best affine\nmap of colours": colour_maps(x, y)["affine"][:COLUMNS],
            "CycleGAN": there,
            "truth": y[:COLUMNS],
            "and back": run.translate(there, 1 - k),
        }
        ax.imshow(grid(to_pixels(np.concatenate([*rows.values()])), COLUMNS))
        centers = GAP + size / 2 + (size + GAP) * np.arange(len(rows))
        ax.set(title=f"{names[1 - k]} to {names[k]}", xticks=[])
        ax.set_yticks(centers, [*rows] if k else [])
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
    return figure


if __name__ == "__main__":
    translation(minigan.load(sys.argv[1])).savefig(HERE / "translation.png", dpi=160)
