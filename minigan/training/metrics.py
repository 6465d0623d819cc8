"""The metrics of all members in one table, which the terminal and the curves read.

A metric that is not in it is shown under its own name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Metric(NamedTuple):
    """How a metric is shown.

    label   its name for people
    panel   the figure that it is drawn in: see PANELS
    format  of its value in the terminal
    short   its name where there is little room; "" leaves it out there
    """

    label: str
    panel: str = "others"
    format: str = ".3g"
    short: str = ""


METRICS = {
    "loss_d": Metric("Loss_D", "losses", ".3f", "D"),
    "loss_g": Metric("Loss_G", "losses", ".3f", "G"),
    "d_x": Metric("D(x)", "scores", ".2f", "D(x)"),
    "d_gz_before": Metric("D(G(z)) before", "scores", ".2f", "D(G(z))"),
    "d_gz_after": Metric("D(G(z)) after", "scores", ".2f"),
    "distance": Metric("distance", "losses", ".3f", "dist"),
    "penalty": Metric("penalty", "losses", ".3f", "pen"),
    "grad_d": Metric("|grad D|", "gradients", ".2g"),
    "grad_g": Metric("|grad G|", "gradients", ".2g"),
    "images_per_second": Metric("images a second", "", ".0f", "img/s"),
}

# The figures of a run, each PANEL.png, with the title of its axis. "others" has one for each metric.
PANELS = {
    "losses": "loss",
    "scores": "mean probability of being real",
    "gradients": "length of the gradient",
    "others": "",
}
LABEL = 40  # letters at the most
COUNTS = ("step", "epoch")  # what the loop adds to a member's metrics, and
SPEED = "images_per_second"


def metric(name: str) -> Metric:
    """The row of a metric. A name that is not in the table may be any text of somebody's file."""
    text = ascii(name)[1:-1][:LABEL]
    return METRICS.get(name, Metric(text, short=text[:12]))


def played(line: Iterable[str]) -> list[str]:
    """The names in a line of metrics that the member gave: in the table's order, then all others."""
    given = [name for name in line if name not in (*COUNTS, SPEED)]
    return [n for n in METRICS if n in given] + [n for n in given if n not in METRICS]
