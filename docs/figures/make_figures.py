"""Draws the figures of the chapters; what they show is computed by minigan wherever it can be.

    python docs/figures/make_figures.py            # all of them, half a minute
    python docs/figures/make_figures.py windows    # those named

They are left beside this file.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, Rectangle
from minigan.losses import minimax, non_saturating
from minigan.training.game import play_round

import minigan
from minigan import functional as F
from minigan import nn
from minigan.optim import Adam
from minigan.tensor import Tensor

HERE = Path(__file__).parent
BLUE, ORANGE, GREEN, PURPLE = "#3b6fb6", "#d9762b", "#3f9166", "#8a5aa8"
INK, GREY, PALE = "#222222", "#8c8c8c", "#ececec"
TAPS = ("#c9dcf2", "#f8d9bd", "#cfe8d8", "#e3d3ee")  # one pale colour for each tap of a kernel


def canvas(width: float, height: float, columns: int = 1, **options) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)
    return figure, list(np.atleast_1d(figure.subplots(1, columns, **options)))


def bare(axes: Axes, x: tuple[float, float], y: tuple[float, float]) -> None:
    """No axes: a drawing with equal scales."""
    axes.set(xlim=x, ylim=y, aspect="equal")
    axes.axis("off")


def arrow(axes: Axes, start, end, colour: str, bend: float = 0.0, width: float = 1.8) -> None:
    axes.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>",
            mutation_scale=15,
            connectionstyle=f"arc3,rad={bend}",
            color=colour,
            linewidth=width,
            shrinkA=0,
            shrinkB=0,
        )
    )


def cell(axes: Axes, x: float, y: float, colour: str, text: str = "", **options) -> None:
    """A unit square with its lower left corner at (x, y)."""
    axes.add_patch(Rectangle((x, y), 1, 1, facecolor=colour, edgecolor="white", linewidth=1.5))
    options = {"fontsize": 10, "color": INK, **options}
    axes.text(x + 0.5, y + 0.48, text, ha="center", va="center", **options)


# -- 1: how backward works ----------------------------------------------------------------------


def graph() -> Figure:
    """b = a + a; c = b * a, with the gradients that flow back."""
    figure, (axes,) = canvas(8, 3.7)
    bare(axes, (-0.9, 9.0), (-1.45, 3.1))
    places = {"a": (0, 0), "b": (4, 2.2), "c": (8, 0)}
    labels = {"a": "a = 3", "b": "b = a + a\n= 6", "c": "c = b * a\n= 18"}
    turns = {"c": "1st", "b": "2nd", "a": "3rd"}
    for name, (x, y) in places.items():
        axes.add_patch(Circle((x, y), 0.72, facecolor=PALE, edgecolor=INK, linewidth=1.2, zorder=3))
        axes.text(x, y, labels[name], ha="center", va="center", fontsize=10.5, zorder=4)
    for name, (x, y) in {"a": (0, -1.1), "b": (4, 1.1), "c": (8, -1.1)}.items():
        axes.text(x, y, turns[name], ha="center", va="center", fontsize=10.5, color=ORANGE)
    steps = [  # from, to, bend, text, where
        ((3.42, 2.63), (0.02, 0.74), 0.16, "g = 3", (1.25, 2.2)),
        ((3.40, 1.78), (0.62, 0.40), -0.10, "g = 3", (2.35, 0.82)),
        ((7.60, 0.61), (4.66, 1.90), 0.0, "g * a = 3", (6.75, 1.62)),
        ((7.27, -0.1), (0.73, -0.1), 0.0, "g * b = 6", (4, -0.42)),
    ]
    for start, end, bend, text, where in steps:
        arrow(axes, start, end, ORANGE, bend)
        axes.text(*where, text, ha="center", va="center", fontsize=10.5, color=ORANGE)
    axes.text(8.0, 1.02, "g = 1", ha="center", va="center", fontsize=10.5, color=ORANGE)
    axes.text(-0.1, -1.42, "3 + 3 + 6 = 12", ha="center", va="center", fontsize=10.5, color=ORANGE)
    return figure


# -- 2: convolution -----------------------------------------------------------------------------


def windows() -> Figure:
    """A kernel of 4 with stride 2 and padding 1 on 8 pixels."""
    figure, (axes,) = canvas(8, 3.6)
    bare(axes, (-3.6, 9.2), (-5.1, 1.75))
    for q in range(-1, 9):
        inside = 0 <= q < 8
        cell(
            axes, q, 0, "#d4d4d4" if inside else "#f4f4f4", f"x{q}" if inside else "0",
            color=INK if inside else GREY,
        )  # fmt: skip
        axes.text(q + 0.5, 1.25, q, ha="center", va="center", fontsize=9, color=GREY)
    axes.text(-1.3, 1.25, "pixel q", ha="right", va="center", fontsize=10, color=GREY)
    axes.text(-1.3, 0.48, "padded image", ha="right", va="center", fontsize=10)
    for p in range(4):
        y = -1.35 - 1.12 * p
        for k in range(4):
            cell(axes, 2 * p + k - 1, y, TAPS[k], f"w{k}")
        axes.text(-1.3, y + 0.48, f"window p = {p}", ha="right", va="center", fontsize=10)
    return figure


def matrix() -> Figure:
    """The same convolution as a matrix, read in both directions."""
    figure, (axes,) = canvas(8, 3.5)
    bare(axes, (-3.0, 15.2), (-1.5, 6.2))
    for p in range(4):
        for q in range(8):
            k = q - 2 * p + 1
            tap = 0 <= k < 4
            cell(axes, q, 3 - p, TAPS[k] if tap else "#f4f4f4", f"w{k}" if tap else "")
        cell(axes, -1.6, 3 - p, "#d4d4d4", f"y{p}")
    for q in range(8):
        cell(axes, q, 4.6, "#d4d4d4", f"x{q}")
    arrow(axes, (8.45, 2.9), (9.9, 2.9), BLUE)
    text = "conv2d: along the rows\ny0 = w1 x0 + w2 x1 + w3 x2"
    axes.text(10.2, 2.9, text, ha="left", va="center", fontsize=10, color=BLUE, linespacing=1.6)
    arrow(axes, (3.5, -0.15), (3.5, -1.15), ORANGE)
    text = "conv_transpose2d: down the columns,  x3 = w2 y1 + w0 y2"
    axes.text(4.0, -0.75, text, ha="left", va="center", fontsize=10, color=ORANGE)
    return figure


def columns() -> Figure:
    """im2col: every window of a padded image as one row of a matrix."""
    figure, (axes,) = canvas(9, 3.5)
    bare(axes, (-0.4, 32.6), (-2.0, 10.0))
    windows = {0: ("#bcd3ee", BLUE), 4: ("#f6c9a3", ORANGE)}  # number p: fill, text
    for i in range(8):
        for j in range(8):
            inside = 0 < i < 7 and 0 < j < 7
            colour = "#d4d4d4" if inside else "#f4f4f4"
            for p, (fill, _) in windows.items():
                if 0 <= i - 2 * (p // 3) < 4 and 0 <= j - 2 * (p % 3) < 4:
                    colour = fill
            cell(axes, j, 8.5 - i, colour)
    for p, (_, ink) in windows.items():
        left, top = 2 * (p % 3), 9.5 - 2 * (p // 3)
        axes.add_patch(Rectangle((left, top - 4), 4, 4, fill=False, edgecolor=ink, linewidth=2.2))
        axes.text(left + 0.5, top - 0.52, p, ha="center", va="center", fontsize=10, color=ink)
    for row in range(9):
        fill, ink = windows.get(row, ("#e4e4e4", GREY))
        for k in range(16):
            cell(axes, 11 + k, 8.5 - row, fill)
        axes.text(10.5, 9 - row, row, ha="center", va="center", fontsize=10, color=ink)
        axes.add_patch(Rectangle((31, 8.5 - row), 1, 1, facecolor=fill, edgecolor="white"))
    for k in range(16):
        y = 9.5 - 0.5625 * (k + 1)
        axes.add_patch(Rectangle((28.4, y), 1, 0.5625, facecolor="#cfe8d8", edgecolor="white"))
    axes.text(27.7, 5, "@", ha="center", va="center", fontsize=14)
    axes.text(30.2, 5, "=", ha="center", va="center", fontsize=14)
    captions = {
        4: "image 6 x 6, padded to 8 x 8\nkernel 4 x 4, stride 2",
        19: "columns: one window a row\n(N*OH*OW, kh*kw*C) = (9, 16)",
        28.9: "w\n(16, 1)",
        31.5: "y\n(9, 1)",
    }
    for x, text in captions.items():
        axes.text(x, -0.25, text, ha="center", va="top", fontsize=10, linespacing=1.4)
    return figure


def overlap() -> Figure:
    """How many taps meet each pixel of a transposed convolution, counted by running one."""
    figure, panels = canvas(7.2, 3.9, 2)
    for axes, kernel, pad in zip(panels, (3, 4), (1, 1), strict=True):
        ones = minigan.tensor(np.ones((1, 1, 6, 6)))
        taps = minigan.tensor(np.ones((1, 1, kernel, kernel)))
        count = F.conv_transpose2d(ones, taps, stride=2, padding=pad).numpy()[0, 0]
        axes.imshow(count, cmap="Blues", vmin=0, vmax=7)
        for (i, j), n in np.ndenumerate(count):
            axes.text(
                j, i, f"{n:.0f}", ha="center", va="center", fontsize=9,
                color="white" if n > 3.5 else INK,
            )  # fmt: skip
        axes.set_title(f"kernel {kernel}, stride 2", fontsize=11)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    return figure


# -- 3: normalisation and losses ----------------------------------------------------------------


def projection() -> Figure:
    """Batch norm of n numbers: forward onto a circle, backward along its tangent."""
    figure, (left, right) = canvas(9, 4.3, 2)
    small = {"fontsize": 10.5, "va": "center"}

    bare(left, (-1.75, 3.1), (-1.75, 2.75))
    left.set_title("forward", fontsize=12, pad=10)
    left.plot([-1.65, 2.9], [0, 0], color=GREY, linewidth=1)
    left.text(2.9, -0.62, "vectors of mean 0", color=GREY, ha="right", **small)
    arrow(left, (0, -0.5), (0, 2.5), GREY, width=1)
    left.text(0.1, 2.45, "1 = (1, ..., 1)", color=GREY, ha="left", **small)
    left.add_patch(Circle((0, 0), 1.3, fill=False, edgecolor=GREY, linestyle=":", linewidth=1.4))
    left.text(-1.1, 1.3, "length √n", color=GREY, ha="center", **small)
    x = (2.25, 1.75)
    arrow(left, (0, 0), x, INK)
    left.text(x[0] + 0.1, x[1], "x", color=INK, ha="left", **small)
    left.plot([x[0], x[0]], [x[1], 0.0], color=BLUE, linestyle="--", linewidth=1.4)
    left.text(x[0] + 0.1, 0.95, "minus\nmean", color=BLUE, ha="left", **small)
    left.plot([x[0]], [0], "o", color=BLUE, markersize=5)
    arrow(left, (2.25, 0), (1.36, 0), GREEN, width=2.4)
    left.text(1.84, -0.25, "times r", color=GREEN, ha="center", **small)
    left.plot([1.3], [0], "o", color=GREEN, markersize=8, zorder=5)
    left.text(1.2, 0.24, "y", color=GREEN, ha="right", **small)

    bare(right, (-1.5, 3.35), (-1.75, 2.75))
    right.set_title("backward, among the vectors of mean 0", fontsize=12, pad=10)
    right.add_patch(Circle((0, 0), 1.3, fill=False, edgecolor=GREY, linestyle=":", linewidth=1.4))
    angle = 0.5
    radial = np.array([np.cos(angle), np.sin(angle)])
    tangent = np.array([-radial[1], radial[0]])
    y = 1.3 * radial
    arrow(right, (0, 0), y, GREEN)
    right.text(0.52, 0.12, "y", color=GREEN, ha="center", **small)
    g, along, rest = y + 0.8 * radial + 1.35 * tangent, y + 0.8 * radial, y + 1.35 * tangent
    arrow(right, y, g, INK)
    right.text(g[0] + 0.08, g[1] + 0.12, "g - mean(g)", color=INK, ha="center", **small)
    right.plot([g[0], along[0]], [g[1], along[1]], color=BLUE, linestyle=":", linewidth=1.3)
    right.plot([g[0], rest[0]], [g[1], rest[1]], color=BLUE, linestyle=":", linewidth=1.3)
    arrow(right, y, along, BLUE)
    right.text(along[0] + 0.12, along[1], "y * mean(g * y)", color=BLUE, ha="left", **small)
    right.text(along[0] + 0.12, along[1] - 0.24, "taken away", color=BLUE, ha="left", **small)
    arrow(right, y, rest, ORANGE, width=2.4)
    right.text(
        rest[0] - 0.12, rest[1] + 0.1, "what is left:\ndx / r", color=ORANGE, ha="right", **small
    )
    right.plot(*y, "o", color=GREEN, markersize=8, zorder=5)
    return figure


def derivative(loss, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values of a loss at single logits, and its derivatives there, in float32."""
    x = minigan.tensor(logits.astype(np.float32), requires_grad=True)
    values = loss(x)
    (slope,) = minigan.grad(values.sum(), x)
    return values.numpy(), slope.numpy()


def saturation() -> Figure:
    """How strongly the two losses of G pull at a fake, by what D says of it."""
    figure, (axes,) = canvas(7.2, 3.9)
    p = np.linspace(0.0005, 0.9995, 1999)
    logits = np.log(p / (1 - p))
    for loss, name, colour in (
        (non_saturating, "non-saturating  -log D(G(z))", ORANGE),
        (minimax, "minimax  log(1 - D(G(z)))", BLUE),
    ):
        pull = [-derivative(loss, logits[i : i + 1])[1][0] for i in range(len(logits))]
        axes.plot(p, pull, color=colour, linewidth=2.2, label=name)
    axes.axvline(0.01, color=GREY, linestyle=":", linewidth=1.4)
    axes.annotate(
        "D(G(z)) = 0.01:\n0.99 against 0.01", (0.01, 0.5), (0.05, 0.5), color=INK, fontsize=10,
        va="center",
    )  # fmt: skip
    axes.set(xlabel="D(G(z)): what D says of the fake", xlim=(-0.01, 1), ylim=(-0.02, 1.05))
    axes.set_ylabel("pull on D's logit:  -d loss / d logit")
    axes.legend(loc="upper center", frameon=False, bbox_to_anchor=(0.55, 1.0))
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def loss_100() -> Figure:
    """-log D(G(z)) by way of the probability and on the logit, in float32."""
    figure, (left, right) = canvas(9, 3.5, 2)
    logits = np.linspace(-120, 10, 1301)

    def by_probability(x: Tensor) -> Tensor:
        p = x.sigmoid()
        return F.binary_cross_entropy(p, Tensor(np.ones(p.shape, np.float32)), "none")

    routes = (
        (lambda x: F.softplus(-x), "softplus(-logit)", ORANGE, 4.5, 0.45),
        (by_probability, "Sigmoid, then BCE", BLUE, 1.8, 1.0),
    )
    for loss, name, colour, width, alpha in routes:
        values, slopes = derivative(loss, logits)
        style = {"color": colour, "linewidth": width, "alpha": alpha, "label": name}
        left.plot(logits, values, **style)
        right.plot(logits, -slopes, **style)
    left.set(xlabel="D's logit of a fake", ylabel="Loss_G", yticks=[0, 50, 100])
    right.set(xlabel="D's logit of a fake", ylabel="pull on the logit", ylim=(-0.05, 1.1))
    left.annotate(
        '"Loss_G: 100"', (-112, 100), (-84, 112), fontsize=10, va="center",
        arrowprops={"arrowstyle": "-", "color": GREY},
    )  # fmt: skip
    right.annotate(
        "p (1 - p) = 1e-12", (-27.6, 0.5), (-86, 0.5), fontsize=10, va="center",
        arrowprops={"arrowstyle": "-", "color": GREY},
    )  # fmt: skip
    left.legend(frameon=False, loc="lower left")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


# -- 4: the game --------------------------------------------------------------------------------


class Judge(nn.Module):
    """A discriminator of points in the plane."""

    def __init__(self, width: int = 64):
        self.main = nn.Sequential(
            nn.Linear(2, width), nn.LeakyReLU(0.2),
            nn.Linear(width, width), nn.LeakyReLU(0.2),
            nn.Linear(width, 1),
        )  # fmt: skip

    def logits(self, x: Tensor) -> Tensor:
        return self.main(x)


def ring(seed: int = 0, batch: int = 128) -> Figure:
    """A GAN on eight heaps of points: the fakes chase about before they settle."""
    minigan.manual_seed(seed)
    rng = np.random.default_rng(seed)
    width = 64
    G = nn.Sequential(
        nn.Linear(2, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2)
    )
    D = Judge(width)
    opt_G, opt_D = (Adam(n.parameters(), lr=1e-3, betas=(0.5, 0.999)) for n in (G, D))
    turn = np.arange(8) * np.pi / 4
    corners = np.stack([np.cos(turn), np.sin(turn)], 1)

    def reals(count: int, rng: np.random.Generator) -> np.ndarray:
        spread = 0.05 * rng.standard_normal((count, 2))
        return (corners[rng.integers(8, size=count)] + spread).astype(np.float32)

    def noise() -> Tensor:
        return Tensor(rng.standard_normal((batch, 2), np.float32))

    shown = (0, 100, 300, 1000, 3000)
    figure, panels = canvas(10, 2.5, len(shown))
    look = np.random.default_rng(1)
    data, z = reals(500, look), Tensor(look.standard_normal((500, 2), np.float32))
    played = 0
    for axes, rounds in zip(panels, shown, strict=True):
        for _ in range(rounds - played):
            play_round(G, D, opt_G, opt_D, Tensor(reals(batch, rng)), noise, non_saturating)
        played = rounds
        with minigan.no_grad():
            fakes = G(z).numpy()
        axes.plot(*data.T, ".", color=GREY, markersize=2.5, alpha=0.5)
        axes.plot(*fakes.T, ".", color=ORANGE, markersize=3, alpha=0.8)
        axes.set(xlim=(-1.6, 1.6), ylim=(-1.6, 1.6), aspect="equal", xticks=[], yticks=[])
        axes.set_title(f"round {rounds:,}", fontsize=10.5)
    return figure


FIGURES = {
    f.__name__: f
    for f in (
        graph, windows, matrix, columns, overlap, projection, saturation, loss_100, ring
    )
}  # fmt: skip


def main(names: list[str]) -> None:
    for name in names or FIGURES:
        FIGURES[name]().savefig(HERE / f"{name}.png", dpi=160)


if __name__ == "__main__":
    main(sys.argv[1:])
