"""Draws the figures of the chapters on the family: objectives, critics, stabilisers.

    python docs/figures/make_family_figures.py            # all of them, two minutes
    python docs/figures/make_family_figures.py dirac      # those named

They are left beside this file. Everything in them is computed by the code that the chapters quote.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from make_figures import BLUE, GREEN, GREY, HERE, INK, ORANGE, PURPLE
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from minigan import nn
from minigan.data.faces import Faces
from minigan.data.images import grid, to_pixels, to_tensor
from minigan.data.mixture import Mixture
from minigan.gans.augment import CHANGES
from minigan.gans.objectives import OBJECTIVES, discriminator_loss
from minigan.gans.penalties import r1_penalty, slope_penalty
from minigan.gans.player import Player
from minigan.gans.standard import DCGAN
from minigan.keys import generator
from minigan.models import mlp
from minigan.models.layers import MinibatchDiscrimination, MinibatchStdDev
from minigan.optim import Adam, RMSprop
from minigan.tensor import Tensor, grad, no_grad, tensor

COLOURS = dict(zip(OBJECTIVES, (ORANGE, BLUE, GREEN, PURPLE, INK, "#b03a5b"), strict=True))


def panels(
    width: float, height: float, rows: int, columns: int, **options: Any
) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
    found = list(np.atleast_1d(figure.subplots(rows, columns, **options)).ravel())
    for axes in found:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, found


# -- 9: objectives ------------------------------------------------------------------------------

# For each objective a real and a fake score with which D is content, so that their part of Loss_D is 0.
CONTENT = {
    "non-saturating": (200, -200),
    "minimax": (200, -200),
    "least-squares": (1, 0),
    "hinge": (1, -1),
    "wasserstein": (0, 0),
    "relativistic": (0, 0),
}


def objectives() -> Figure:
    """Every row of OBJECTIVES: what a single score costs, and how hard it is pulled."""
    figure, axes = panels(10, 5.6, 2, 3, sharex=True, sharey="row")
    scores = np.linspace(-4, 4, 401)
    for name, row in OBJECTIVES.items():
        real, fake = (np.full_like(scores, at) for at in CONTENT[name])
        losses: tuple[Callable[[Tensor], Tensor], ...] = (
            lambda x, row=row, fake=fake: row.discriminator(x, tensor(fake)),
            lambda x, row=row, real=real: row.discriminator(tensor(real), x),
            lambda x, row=row, real=real: row.generator(tensor(real), x),
        )
        for i, loss in enumerate(losses):
            values, slopes = each(loss, scores)
            style = {"color": COLOURS[name], "linewidth": 1.8, "label": name}
            if name == "relativistic":
                style["linestyle"] = "--"
            if name == "minimax" and i < 2:  # D's half is that of the row above
                continue
            axes[i].plot(scores, values, **style)
            axes[3 + i].plot(scores, -slopes, **style)
    smoothed = partial(discriminator_loss, fake=tensor(np.full_like(scores, -200)), label=0.9)
    for at, line in zip((0, 3), each(smoothed, scores), strict=True):
        line = line if at == 0 else -line
        axes[at].plot(scores, line, color=ORANGE, linestyle=":", label="label 0.9")
    for title, top in zip(("D, of a real", "D, of a fake", "G, of a fake"), axes[:3], strict=True):
        top.set(title=title, ylim=(-4.2, 6.2))
    for below in axes[3:]:
        below.axhline(0, color=GREY, linewidth=0.8)
        below.set(ylim=(-2.2, 2.2), xlabel="score")
    axes[0].set_ylabel("loss")
    axes[3].set_ylabel("pull on the score:  -d loss / d score")
    handles, labels = axes[2].get_legend_handles_labels()
    dotted, label = axes[0].get_legend_handles_labels()
    figure.legend(
        [*handles, dotted[-1]], [*labels, label[-1]], loc="outside lower center", ncols=7,
        frameon=False, fontsize=9, columnspacing=1.2,
    )  # fmt: skip
    return figure


def each(loss: Callable[[Tensor], Tensor], scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The loss of each score by itself, and its slope there. `loss` is of a batch, with a mean."""
    x = tensor(scores, requires_grad=True)
    (slope,) = grad(loss(x), x)
    with no_grad():
        values = [loss(tensor(np.full_like(scores, s))).item() for s in scores]
    return np.array(values), slope.numpy() * len(scores)


class Numbers:
    """The data and the noise of the smallest game: numbers around 3 with the width 0.5, and z."""

    step = 0

    def __init__(self, seed: int, batch: int = 64):
        self.rng, self.batch = np.random.default_rng(seed), batch

    def reals(self) -> Tensor:
        return 3 + 0.5 * self.noise()

    def noise(self) -> Tensor:
        return tensor(self.rng.standard_normal((self.batch, 1)).astype(np.float32))

    def uniform(self, name: str, *shape: int) -> Tensor:
        return tensor(self.rng.random((self.batch, *shape), np.float32))


class Smallest(DCGAN):
    """Chapter 4's game, G(z) = w z + b, under any objective."""

    def build(self, rng: np.random.Generator, device: str, group: Any) -> None:
        o = self.options
        G, D = nn.Linear(1, 1), mlp.Discriminator(32, (1,), rng, spectral_norm=o.spectral_norm)
        G.weight.data[:], G.bias.data[:] = 0.3, -0.5
        scores = lambda x, draw, y=None: D.logits(x).reshape(-1)  # (N, 1) -> (N,)
        betas = (o.beta1, o.beta2)
        self.G = Player(G, Adam(G.parameters(), 0.01, betas))
        self.D = Player(D, Adam(D.parameters(), 0.01, betas), forward=scores)
        self.players = {"G": self.G, "D": self.D}


# Loss_D and Loss_G where real and fake scores are alike and D has the best answer to that.
EQUAL = {
    "non-saturating": (2 * np.log(2), np.log(2)),
    "minimax": (2 * np.log(2), -np.log(2)),
    "least-squares": (0.25, 0.125),
    "hinge": (2, None),
    "wasserstein": (0, None),
    "relativistic": (np.log(2), np.log(2)),
}


def healthy(steps: int = 800) -> Figure:
    """The losses of the smallest game under each objective."""
    figure, axes = panels(10, 5.2, 2, 3, sharex=True)
    for ax, name in zip(axes, OBJECTIVES, strict=True):
        # A critic's slope needs a bound, which in one dimension spectral norm gives most simply.
        bound = {"spectral_norm": True, "d_steps": 5} if name == "wasserstein" else {}
        game = Smallest(DCGAN.Options(loss=name, **bound), (1,), generator(0))
        draw, found = Numbers(0), []
        for _ in range(steps):
            metrics = game.step(draw)
            found.append((metrics["loss_d"].item(), metrics["loss_g"].item()))
        for values, label, equal, colour in zip(
            np.transpose(found), ("Loss_D", "Loss_G"), EQUAL[name], (BLUE, ORANGE), strict=True
        ):
            ax.plot(values, color=colour, linewidth=0.6, alpha=0.35)
            ax.plot(smooth(values), color=colour, linewidth=1.8, label=label)
            if equal is not None:
                ax.axhline(equal, color=colour, linestyle=":", linewidth=1.2)
        mean, width = game.G.net.bias.item(), abs(game.G.net.weight.item())
        ax.set_title(f"{name}:  mean {mean:.2f}, width {width:.2f}", fontsize=10)
        ax.set(ylim=np.percentile(found, (0.5, 99.5)) + np.array([-0.2, 0.2]))
        ax.legend(frameon=False, fontsize=9)
    for ax in axes[3:]:
        ax.set_xlabel("step")
    return figure


def smooth(values: np.ndarray, width: int = 25) -> np.ndarray:
    """The running mean, with the ends padded by their own values."""
    padded = np.pad(values, (width // 2, width - 1 - width // 2), "edge")
    return np.convolve(padded, np.full(width, 1 / width), "valid")


# -- 10: Wasserstein ----------------------------------------------------------------------------


def exact(a: np.ndarray, b: np.ndarray) -> float:
    """The earth mover's distance of two equally large sets of numbers: in order, each to each."""
    return float(np.abs(np.sort(a.ravel()) - np.sort(b.ravel())).mean())


class Critic:
    """A critic of numbers or points, and one way of holding its slope."""

    def __init__(self, kind: str, features: int, lr: float, width: int = 64, strength: float = 0.0):
        self.kind, self.strength = kind, strength
        normed = {"spectral_norm": kind == "spectral norm"}
        self.net = mlp.Discriminator(width, (features,), generator(3, kind), **normed)
        weights = self.net.parameters()
        optimizer = RMSprop(weights, lr) if kind == "clipping" else Adam(weights, lr, (0.5, 0.9))
        self.player = Player(self.net, optimizer, project=self._project)

    def score(self, x: Tensor) -> Tensor:
        return self.net.logits(x).reshape(-1)  # (N, 1) -> (N,)

    def update(self, x: Tensor, fakes: Tensor, u: Tensor) -> float:
        """One update; returns the distance that the critic saw before it."""
        loss = OBJECTIVES["wasserstein"].discriminator(self.score(x), self.score(fakes))
        penalty = 0.0
        if self.kind == "penalty":
            penalty = self.strength * slope_penalty(self.score, u * x + (1 - u) * fakes, 1.0)
        self.player.descend(loss + penalty)
        return -loss.item()

    def _project(self, net: nn.Module) -> None:
        if self.kind == "clipping":
            with no_grad():
                for p in net.parameters():
                    p.clamp_(-self.strength, self.strength)


# The strength (weight of the penalty, or limit of the weights), the learning rate and the colour.
WAYS = {
    "penalty": (3.0, 1e-3, BLUE),
    "spectral norm": (0.0, 5e-3, GREEN),
    "clipping": (0.1, 5e-3, ORANGE),
}


def earth(updates: int = 400, moves: int = 12) -> Figure:
    """Critics of two sets of numbers beside the distance found by sorting."""
    figure, (left, right) = panels(10, 3.7, 1, 2)
    draw = Numbers(0, batch=256)
    reals, fakes = draw.reals(), draw.noise()
    left.axhline(exact(reals.numpy(), fakes.numpy()), color=INK, linestyle=":", label="by sorting")
    for kind, (strength, lr, colour) in WAYS.items():
        critic = Critic(kind, 1, lr, strength=strength)
        found = [critic.update(reals, fakes, draw.uniform("u", 1)) for _ in range(updates)]
        left.plot(found, color=colour, linewidth=1.8, label=kind)
    left.set(
        xlabel="updates of the critic", ylabel="mean D(real) - mean D(fake)", ylim=(-0.2, None)
    )
    left.legend(frameon=False, fontsize=9)

    # The fakes walk through the reals, and each critic follows with a few updates.
    centers = np.linspace(0, 6, moves * 10 + 1)
    right.plot(
        centers, [exact(reals.numpy(), fakes.numpy() + c) for c in centers], color=INK,
        linestyle=":", label="by sorting",
    )  # fmt: skip
    for kind, (strength, lr, colour) in WAYS.items():
        critic, found = Critic(kind, 1, lr, strength=strength), []
        for c in centers[::10]:
            for _ in range(100 if c == 0 else 40):
                distance = critic.update(reals, fakes + float(c), draw.uniform("u", 1))
            found.append(distance)
        right.plot(
            centers[::10], found, "o-", color=colour, linewidth=1.2, markersize=4, label=kind
        )
    right.set(xlabel="mean of the fakes (the reals' is 3)")
    return figure


def critics(updates: int = 400) -> Figure:
    """The surfaces of a clipped and of a penalised critic on the ring, and their weights."""
    figure, (first, second, third) = panels(10.5, 3.6, 1, 3, width_ratios=(1, 1, 1.1))
    data = Mixture("ring", count=4096)
    side = np.linspace(-3.2, 3.2, 121, dtype=np.float32)
    plane = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)  # (121^2, 2)
    for axes, kind, strength, colour in (
        (first, "clipping", 0.1, ORANGE), (second, "penalty", 0.1, BLUE)
    ):  # fmt: skip
        critic, rng = Critic(kind, 2, 1e-3, strength=strength), np.random.default_rng(0)
        for _ in range(updates):
            x = tensor(data.points[rng.integers(len(data), size=256)])
            fakes = x + tensor(rng.standard_normal((256, 2)).astype(np.float32))
            critic.update(x, fakes, tensor(rng.random((256, 1), np.float32)))
        with no_grad():
            surface = critic.score(tensor(plane)).numpy().reshape(len(side), -1)
        axes.contourf(side, side, surface, 15, cmap="PuOr_r", alpha=0.8)
        axes.plot(*data.centers.T, ".", color=INK, markersize=4)
        axes.set(aspect="equal", xticks=[], yticks=[])
        axes.set_title(f"{kind} {strength}", fontsize=11)
        weights = np.concatenate([p.numpy().ravel() for p in critic.net.parameters()])
        edge = (np.abs(weights) >= 0.999 * strength).mean() if kind == "clipping" else None
        label = kind if edge is None else f"{kind}: {edge:.0%} at the limits"
        third.hist(weights, np.linspace(-0.5, 0.5, 101), color=colour, alpha=0.6, label=label)
    third.set(yscale="log", xlabel="weight", ylabel="how many", ylim=(0.7, 3e4))
    third.legend(frameon=False, fontsize=9)
    return figure


def dirac(steps: int = 400, lr: float = 0.1) -> Figure:
    """The Dirac-GAN: one fake theta, one real 0, D(x) = psi x; with and without R1."""
    figure, axes = panels(10.5, 3.5, 1, 4, width_ratios=(1, 1, 1, 1.15))
    weights = ((0.0, ORANGE), (0.3, GREEN), (1.0, BLUE))
    for ax, (gamma, colour) in zip(axes, weights, strict=False):
        path = [(1.0, 1.0)]
        for _ in range(steps):
            down = np.array(slopes(*path[-1], gamma))
            path.append(tuple(np.array(path[-1]) - lr * down))
        ax.plot(*np.transpose(path), color=colour, linewidth=1)
        ax.plot(*path[0], "o", color=INK, markersize=4)
        ax.plot(0, 0, "+", color=INK, markersize=9)
        ax.set(xlim=(-1.4, 1.4), ylim=(-1.4, 1.4), aspect="equal", xlabel="theta, the fake")
        ax.set_title(f"R1 {gamma:g}", fontsize=11)
    axes[0].set_ylabel("psi, D's slope")
    last = axes[3]
    gammas = np.linspace(0, 1.5, 301).astype(complex)
    for sign in (-1, 1):
        found = -gammas / 2 + sign * np.sqrt(gammas**2 / 4 - 0.25)
        last.plot(found.real, found.imag, color=GREY, linewidth=1.2)
        for gamma, colour in weights:
            at = -gamma / 2 + sign * np.sqrt(complex(gamma**2 / 4 - 0.25))
            last.plot(at.real, at.imag, "o", color=colour)
    last.axvline(0, color=GREY, linestyle=":", linewidth=1)
    last.set(xlim=(-1.4, 0.2), ylim=(-0.7, 0.7), xlabel="real part", ylabel="imaginary part")
    last.set_title("eigenvalues", fontsize=11)
    return figure


def slopes(theta: float, psi: float, gamma: float) -> tuple[float, float]:
    """The derivatives of G's loss by theta and of D's by psi."""
    row = OBJECTIVES["non-saturating"]
    fake, slope = tensor([[theta]], requires_grad=True), tensor([psi], requires_grad=True)
    real = tensor([[0.0]])
    D = lambda x: (slope * x).reshape(-1)  # (1, 1) -> (1,)
    loss_d = row.discriminator(D(real), D(fake.detach())) + gamma * r1_penalty(D, real)
    (of_psi,) = grad(loss_d, slope)
    (of_theta,) = grad(row.generator(None, D(fake)), fake)
    return of_theta.item(), of_psi.item()


# -- 11: stabilisers ----------------------------------------------------------------------------


def augment(count: int = 7) -> Figure:
    """Drawn faces, and what D sees of them under each change."""
    figure, axes = panels(7.8, 5.4, len(CHANGES) + 2, 1)
    faces, draw = Faces(count, 1, 64), Numbers(0, batch=count)
    pixels = np.stack([faces.load(i) for i in range(count)]).transpose(0, 3, 1, 2)  # (N, C, H, W)
    x = to_tensor(pixels, 3, "cpu")
    rows = {"none": x, **{name: change(x, draw) for name, change in CHANGES.items()}, "all": x}
    for change in CHANGES.values():
        rows["all"] = change(rows["all"], draw)
    for ax, (name, images) in zip(axes, rows.items(), strict=True):
        ax.imshow(grid(to_pixels(images.numpy()), count))
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        ax.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=11)
    return figure


def collapse(batch: int = 64, repeats: int = 50) -> Figure:
    """What tells a batch that covers only some of the ring's clusters from one that covers all."""
    figure, axes = panels(10.5, 3.3, 1, 3)
    data, rng = Mixture("ring", count=1), np.random.default_rng(0)
    near = MinibatchDiscrimination(2)
    near.reset_parameters(generator(0))
    modes = np.arange(1, 9)
    for ax, layer, name in (
        (axes[0], MinibatchStdDev(), "minibatch std"), (axes[1], near, "minibatch discrimination")
    ):  # fmt: skip
        found = np.empty((len(modes), repeats))
        for i, m in enumerate(modes):
            for k in range(repeats):
                centers = data.centers[rng.permutation(8)[:m]]  # m clusters, anywhere on the ring
                x = centers[rng.integers(m, size=batch)] + data.std * rng.standard_normal(
                    (batch, 2)
                )
                with no_grad():
                    found[i, k] = layer(tensor(x.astype(np.float32))).numpy()[:, 2:].mean()
        low, middle, high = np.percentile(found, (10, 50, 90), axis=1)
        ax.fill_between(modes, low, high, color=BLUE, alpha=0.25, linewidth=0)
        ax.plot(modes, middle, "o-", color=BLUE, markersize=4)
        ax.axhline(middle[-1], color=INK, linestyle=":")
        ax.set_title(f"{name}: what is appended", fontsize=10.5)
    for pack, colour in ((1, ORANGE), (2, GREEN), (4, PURPLE)):
        axes[2].plot(modes, 1 - (modes / 8) ** pack, "o-", color=colour, label=f"pack {pack}")
    axes[2].set_title("total variation that D can see", fontsize=10.5)
    axes[2].legend(frameon=False, fontsize=9)
    for ax in axes:
        ax.set(xlabel="clusters that the fakes cover", xticks=modes)
    return figure


FIGURES = {f.__name__: f for f in (objectives, healthy, earth, critics, dirac, augment, collapse)}


def main(names: list[str]) -> None:
    for name in names or FIGURES:
        FIGURES[name]().savefig(HERE / f"{name}.png", dpi=160)


if __name__ == "__main__":
    main(sys.argv[1:])
