"""How metrics are shown: one table for all members, which the terminal and the curves read.

A metric that is not in the table is shown under its own name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ..evaluation.table import METRICS as MEASURED


class Metric(NamedTuple):
    """How a metric is shown.

    label   its full name, for the user
    panel   the figure in which it is drawn, see PANELS; "" for none
    format  the format of its value in the terminal
    short   its name where space is short; "" leaves it out there
    """

    label: str
    panel: str = "others"
    format: str = ".3g"
    short: str = ""


METRICS = {
    "loss_d": Metric("Loss_D", "losses", "#.3g", "D"),
    "loss_g": Metric("Loss_G", "losses", "#.3g", "G"),
    "d_x": Metric("D(x)", "scores", ".2f", "D(x)"),
    "d_gz_before": Metric("D(G(z)) before", "scores", ".2f", "D(G(z))"),
    "d_gz_after": Metric("D(G(z)) after", "scores", ".2f"),
    "score_x": Metric("score of x", "critic", "#.3g", "x"),
    "score_gz_before": Metric("score of G(z) before", "critic", "#.3g", "G(z)"),
    "score_gz_after": Metric("score of G(z) after", "critic", "#.3g"),
    "distance": Metric("distance", "losses", "#.3g", "dist"),
    "penalty": Metric("penalty", "losses", "#.3g", "pen"),
    "grad_d": Metric("|grad D|", "gradients", ".2g"),
    "grad_g": Metric("|grad G|", "gradients", ".2g"),
    "diversity": Metric("diversity", "diversity", ".2f"),
    "images_per_second": Metric("images a second", "", ".0f", "img/s"),
}

# The figures of a run, PANEL.png, with the label of the y axis; without one, each metric has axes.
PANELS = {
    "losses": "loss",
    "scores": "mean probability of being real",
    "critic": "mean score",
    "gradients": "length of the gradient",
    "diversity": "diversity of the samples, if that of the data is 1",
    "evaluation": "",
    "others": "",
}
LABEL = 40  # characters at most
# The loop adds these to a member's metrics in each line.
COUNTS = ("step", "epoch")
SPEED = "images_per_second"


def metric(name: str) -> Metric:
    """The row of a metric; for a name that is not in the table, a new row.

    Such a name may be any text, because files of metrics may come from strangers.
    """
    text = ascii(name)[1:-1][:LABEL]
    if (
        " " in name and name.partition(" ")[0] in MEASURED
    ):  # of an evaluation, such as "frechet_digits distance"
        return Metric(text, "evaluation")
    return METRICS.get(name, Metric(text, short=text[:12]))


def played(line: Iterable[str]) -> list[str]:
    """The names of the member's own metrics in a line: first in the table's order, then the others."""
    given = [name for name in line if name not in (*COUNTS, SPEED)]
    return [n for n in METRICS if n in given] + [n for n in given if n not in METRICS]
