"""Draws the figures of the chapters on conditions and on unrolling.

    python docs/figures/make_condition_figures.py              # all of them, a minute
    python docs/figures/make_condition_figures.py unrolling    # those named

They are left beside this file. Everything in them is computed by the code that the chapters quote.
"""

from __future__ import annotations

import sys

import numpy as np
from make_family_figures import panels
from make_figures import BLUE, GREEN, GREY, HERE, INK, ORANGE, PURPLE
from matplotlib.figure import Figure

from minigan.data import digits
from minigan.data.cache import Images
from minigan.data.images import ImageSet, grid, to_pixels
from minigan.data.mixture import Mixture
from minigan.functional import one_hot
from minigan.gans.conditional import Conditional
from minigan.gans.unrolled import unrolled
from minigan.keys import generator
from minigan.models.layers import with_planes
from minigan.tensor import grad, no_grad, tensor
from minigan.training.draw import Draw

SEED = 0


# -- 12: conditions -----------------------------------------------------------------------------


def drawn_digits(count: int, size: int) -> ImageSet:
    """The first drawn digits, in memory."""
    drawn = [digits.draw(SEED, i, size) for i in range(count)]
    pixels = np.stack([each for each, _ in drawn])
    images = Images(pixels, [str(i) for i in range(count)], [], {}, "digest")
    labels = np.array([label for _, label in drawn])
    return ImageSet(images, 1, "digits", labels=labels, classes=digits.CLASSES)


def play(data: Mixture | ImageSet, **options: object) -> tuple[Conditional, Draw]:
    """The member with its first weights on this data, and its Draw."""
    o = Conditional.Options(seed=SEED, **options)
    member = Conditional(o, data.shape, generator(SEED, "init"), classes=len(data.classes))
    return member, Draw(data, o.batch_size, o.nz, SEED)


def train(member: Conditional, draw: Draw, steps: int) -> None:
    for _ in range(steps):
        member.step(draw)
        draw.next_step()


def planes(digit: int = 7) -> Figure:
    """What D gets of a digit: the image and one plane for each class."""
    figure, axes = panels(9, 1.1, 1, 11)
    data = drawn_digits(20, 28)
    index = int(np.flatnonzero(data.labels == digit)[0])
    x = data.batch(np.array([index]), "cpu")
    seen = with_planes(x, one_hot(tensor([digit]), 10).float())  # (1, 1 + 10, 28, 28)
    low = (-1, *[0] * 10)  # pixels are from -1 to 1, planes 0 or 1
    for ax, name, channel, least in zip(
        axes, ("image", *digits.CLASSES), seen.numpy()[0], low, strict=True
    ):
        ax.imshow(channel, cmap="gray", vmin=least, vmax=1)
        ax.set(xticks=[], yticks=[], xlabel=name)
        ax.spines[:].set_visible(True)
    return figure


def frequencies() -> Figure:
    """How well D can do by the class alone, if the classes of fakes have other frequencies."""
    figure, (axes,) = panels(6, 3, 1, 1)
    share = np.linspace(0.5, 0.999, 200)  # of the first of two classes in the data
    for asked, colour, label in (
        (share, GREEN, "y' as in the data"),
        (np.full_like(share, 0.5), ORANGE, "y' uniform"),
    ):
        p, q = np.stack([share, 1 - share]), np.stack([asked, 1 - asked])
        loss = -(p * np.log(p / (p + q)) + q * np.log(q / (p + q))).sum(0)
        axes.plot(share, loss, color=colour, linewidth=1.8, label=label)
    axes.axhline(2 * np.log(2), color=INK, linestyle=":", linewidth=1)
    axes.set(
        xlabel="share of the more common of two classes", ylabel="best Loss_D", ylim=(0.8, 1.5)
    )
    axes.legend(frameon=False, fontsize=9, loc="lower left")
    return figure


def terms() -> Figure:
    """The best score of two classes on a line: one part for every class, and one for each."""
    figure, axes = panels(10, 2.9, 1, 3, sharey=True)
    x = np.linspace(-3, 3, 121)
    for ax, m in zip(axes, (0.0, 0.5, 1.0), strict=True):
        for y, colour in ((-1, ORANGE), (1, BLUE)):
            score = -((x - y) ** 2) / 2 + (x - m * y) ** 2 / 2  # log p(x | y) / q(x | y)
            ax.plot(x, score, color=colour, linewidth=1.8, label=f"y = {y:+d}")
        ax.set_title(f"fakes around {m:g} y", fontsize=11)
        ax.axhline(0, color=GREY, linewidth=0.8)
        ax.set(xlabel="x")
    axes[0].set_ylabel("best score of (x, y)")
    axes[0].legend(frameon=False, fontsize=9)
    return figure


def conditions(steps: int = 1000) -> Figure:
    """The ring: D's surface as it is told one class or another, G's samples, and walks of G."""
    figure, axes = panels(10.5, 3.6, 1, 3)
    data = Mixture("ring", count=8192)
    member, draw = play(data, nz=2, ngf=64, ndf=64, batch_size=128, lr=1e-3)
    train(member, draw, steps)
    side = np.linspace(-2.7, 2.7, 91, dtype=np.float32)
    plane = tensor(np.stack(np.meshgrid(side, side), -1).reshape(-1, 2))  # (91^2, 2)
    for ax, k in zip(axes, (0, 3), strict=False):
        with no_grad():
            scores = member.D(plane, draw, tensor(np.full(len(plane), k)))
        ax.contourf(side, side, scores.numpy().reshape(91, 91), 15, cmap="PuOr_r", alpha=0.8)
        ax.plot(*data.centers.T, ".", color=INK, markersize=4)
        ax.plot(*data.centers[k], "o", color=INK, markersize=11, fillstyle="none")
        ax.set_title(f"D, told class {k}", fontsize=11)
    colours = (BLUE, ORANGE, GREEN, PURPLE, INK, "#b03a5b", "#4aa3a2", "#b59b2b")
    z = draw.noise()
    t = np.linspace(0, 1, 60, dtype=np.float32)[:, None]
    rows = np.eye(8, dtype=np.float32)
    for k, colour in enumerate(colours):
        mixed = tensor((1 - t) * rows[k] + t * rows[(k + 1) % 8])  # (60, 8)
        for one in z.numpy()[:5]:
            way = member.sample(tensor(np.tile(one, (60, 1))), mixed).numpy()
            axes[2].plot(*way.T, color=GREY, linewidth=0.7)
        points = member.sample(z, tensor(np.full(len(z), k))).numpy()
        axes[2].plot(*points.T, ".", color=colour, markersize=3)
    axes[2].set_title("G: each class, and the ways between", fontsize=11)
    for ax in axes:
        ax.set(aspect="equal", xticks=[], yticks=[], xlim=(-2.7, 2.7), ylim=(-2.7, 2.7))
    return figure


def classes(early: int = 60, late: int = 900) -> Figure:
    """Digits by class after a short run, and how D scores pairs of a digit and a class."""
    figure, axes = panels(11, 3.5, 1, 3, width_ratios=(1.45, 1, 1))
    data = drawn_digits(2000, 16)
    member, draw = play(data, nz=16, ngf=16, ndf=16, batch_size=32, lr=1e-3)
    train(member, draw, early)
    first = pairs(member, draw, data)
    train(member, draw, late - early)
    last, most = pairs(member, draw, data), abs(first).max()
    for ax, scores, step in zip(axes[1:], (first, last), (early, late), strict=True):
        shown = ax.imshow(scores, cmap="PuOr_r", vmin=-most, vmax=most)
        ax.set(xticks=range(10), yticks=range(10), xlabel="class that D is told")
        ax.set_title(f"D after {step} steps", fontsize=11)
    axes[1].set_ylabel("class of the real image")
    figure.colorbar(shown, ax=axes[2], shrink=0.75, label="score of the pair")
    z = np.repeat(draw.noise().numpy()[:7], 10, axis=0)  # (7 * 10, nz): a row each
    made = member.sample(tensor(z), tensor(np.arange(70) % 10)).numpy()
    axes[0].imshow(grid(to_pixels(made), 10))
    axes[0].set(xticks=[10 + 18 * i for i in range(10)], yticks=[])
    axes[0].set_xlabel("class that G is asked for")
    axes[0].set_xticklabels(digits.CLASSES)
    axes[0].set_title(f"G after {late} steps", fontsize=11)
    axes[0].tick_params(length=0)
    axes[0].spines[:].set_visible(False)
    return figure


def pairs(member: Conditional, draw: Draw, data: ImageSet) -> np.ndarray:
    """D's mean score of reals of each class (rows) told each class, without what is common to all.

    A batch holds all classes, as in a step, because D's batch norm sees the whole batch.
    """
    x, y = data.batch(np.arange(500), "cpu"), data.labels[:500]
    scores = np.empty((10, 10))
    with no_grad():
        for shift in range(10):
            found = member.D(x, draw, tensor((y + shift) % 10)).numpy()
            for k in range(10):
                scores[k, (k + shift) % 10] = found[y == k].mean()
    return scores - scores.mean(0) - scores.mean(1, keepdims=True) + scores.mean()


# -- 13: unrolling ------------------------------------------------------------------------------


def unrolling(eta: float = 0.1, steps: int = 400) -> Figure:
    """f = theta psi: where both players move if G sees K updates of D ahead, and their path."""
    figure, axes = panels(10, 3.5, 1, 3)
    line = np.linspace(-1.3, 1.3, 11)
    for ax, (K, colour) in zip(axes, ((0, ORANGE), (1, GREEN), (5, BLUE)), strict=True):
        a, b = (each.ravel() for each in np.meshgrid(line, line))
        along = np.transpose([move(t, p, K, eta) for t, p in zip(a, b, strict=True)])
        ax.quiver(a, b, *along, color=GREY, width=0.005, scale=24)
        path = [(1.0, 0.0)]
        for _ in range(steps):
            path.append(tuple(np.array(path[-1]) + eta * np.array(move(*path[-1], K, eta))))
        ax.plot(*np.transpose(path), color=colour, linewidth=1.3)
        ax.plot(*path[0], "o", color=INK, markersize=4)
        ax.plot(0, 0, "+", color=INK, markersize=9)
        ax.set(xlim=(-1.5, 1.5), ylim=(-1.5, 1.5), aspect="equal", xlabel="theta, G's number")
        ax.set_title(f"K = {K}", fontsize=11)
    axes[0].set_ylabel("psi, D's number")
    return figure


def move(theta: float, psi: float, K: int, eta: float) -> tuple[float, float]:
    """The directions of G, down f(theta, psi_K), and of D, up f(theta, psi)."""
    t, p = (tensor([v], dtype="float64", requires_grad=True) for v in (theta, psi))
    f = lambda weights: (t * weights[0]).sum()
    ascend = lambda ws, gs: [w + eta * g for w, g in zip(ws, gs, strict=True)]
    (last,) = unrolled(f, [p], ascend, K)
    (of_t,), (of_p,) = grad(f([last]), t), grad(f([p]), p)
    return -of_t.item(), of_p.item()


FIGURES = {f.__name__: f for f in (planes, terms, frequencies, conditions, classes, unrolling)}


def main(names: list[str]) -> None:
    for name in names or FIGURES:
        FIGURES[name]().savefig(HERE / f"{name}.png", dpi=160)


if __name__ == "__main__":
    main(sys.argv[1:])
