"""The floor of NumPy: what the array calls of a step or a layer cost without an engine around them.

family.py `--floor` shows these times beside minigan's. A fully connected GAN's step is written out by
hand, forwards and backwards, without a graph or a check. BLAS computes its products with all its
threads. A layer is the fewest array calls that we know for its forward pass and its gradients. They
write to memory that exists beforehand, an image at a time, and the threads share the images. A filtered
convolution is its products alone.

The floor is what NumPy costs; the rest of minigan's time is what the engine costs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

LR, BETAS, EPS = 2e-4, (0.5, 0.999), 1e-8
BLOCK = 1 << 16  # parameters that Adam updates at a time: they stay in the second-level cache
SLOPE = 0.2
Call = Callable[[], None]


# -- a fully connected GAN, by hand ----------------------------------------------------------------


class Sizes(NamedTuple):
    """A layer: its widths, the slope of its activation, if any, and whether it has a batch norm."""

    inside: int
    out: int
    slope: float | None = None
    norm: bool = False


def sizes(shape: tuple[int, ...], nz: int, w: int) -> tuple[list[Sizes], list[Sizes]]:
    """The layers of G and D, as in minigan/models/mlp.py; a tanh follows G's for images."""
    pixels = int(np.prod(shape))
    if len(shape) == 1:
        G = [Sizes(nz, w, 0.0), Sizes(w, w, 0.0), Sizes(w, pixels)]
        return G, [Sizes(pixels, w, SLOPE), Sizes(w, w, SLOPE), Sizes(w, 1)]
    G = [Sizes(nz, w, SLOPE), *[Sizes(w << i, w << i + 1, SLOPE, True) for i in range(3)]]
    D = [Sizes(pixels, 4 * w, SLOPE), Sizes(4 * w, 2 * w, SLOPE), Sizes(2 * w, 1)]
    return [*G, Sizes(8 * w, pixels)], D


class Network:
    """Layers whose parameters, gradients and moments are views of four flat arrays, for Adam."""

    def __init__(self, layers: list[Sizes], seed: int) -> None:
        self.layers, self.steps = layers, 0
        shapes = [s for a in layers for s in [(a.out, a.inside), *[(a.out,)] * (1 + 2 * a.norm)]]
        count = sum(int(np.prod(shape)) for shape in shapes)
        self.flat = np.zeros((4, count), np.float32)  # parameters, gradients, two moments
        self.p, self.g = ([[] for _ in layers] for _ in range(2))
        rng, start, part = np.random.default_rng(seed), 0, iter(shapes)
        for i, layer in enumerate(layers):
            for k in range(2 + 2 * layer.norm):
                shape = next(part)
                end = start + int(np.prod(shape))
                for views, flat in ((self.p, self.flat[0]), (self.g, self.flat[1])):
                    views[i].append(flat[start:end].reshape(shape))
                self.p[i][-1][...] = rng.normal(0, 0.05, shape) if k == 0 else float(k == 2)
                start = end

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, list[tuple]]:
        """The result, and for each layer what its gradients need."""
        kept = []
        for layer, (w, b, *norm) in zip(self.layers, self.p, strict=True):
            y = x @ w.T
            y += b
            centred = inv_std = None
            if layer.norm:
                centred = y - y.mean(0)
                inv_std = (np.einsum("ij,ij->j", centred, centred) / len(y) + 1e-5) ** -0.5
                centred *= inv_std
                y = centred * norm[0]
                y += norm[1]
            if layer.slope is not None:
                np.maximum(y, layer.slope * y, out=y)
            kept.append((x, y, centred, inv_std))
            x = y
        return x, kept

    def backward(self, g: np.ndarray, kept: list[tuple], weights: bool, first: bool) -> Any:
        """Add the gradients to `self.g`, if asked; the gradient of the input, if asked."""
        for i in range(len(self.layers))[::-1]:
            layer, (x, y, centred, inv_std) = self.layers[i], kept[i]
            if layer.slope is not None:
                g = g * np.clip(y * np.float32(1e30), layer.slope, 1)
            if layer.norm:
                along_x, along_1 = np.einsum("ij,ij->j", g, centred), g.sum(0)
                self.g[i][2] += along_x
                self.g[i][3] += along_1
                g -= along_1 / len(g)
                g -= centred * (along_x / len(g))
                g *= self.p[i][2] * inv_std
            if weights:
                self.g[i][0] += g.T @ x
                self.g[i][1] += g.sum(0)
            if i or first:
                g = g @ self.p[i][0]
        return g

    def adam(self) -> None:
        self.steps += 1
        b1, b2 = BETAS
        correction = (1 - b2**self.steps) ** 0.5
        for start in range(0, self.flat.shape[1], BLOCK):
            p, g, m, v = self.flat[:, start : start + BLOCK]
            t = g * np.float32(1 - b1)
            m *= b1
            m += t
            np.square(g, out=t)
            t *= 1 - b2
            v *= b2
            v += t
            np.sqrt(v, out=t)
            t += EPS * correction
            np.divide(m, t, out=t)
            t *= LR * correction / (1 - b1**self.steps)
            p -= t


def game(shape: tuple[int, ...], nz: int, width: int, x: np.ndarray, z: np.ndarray) -> Callable:
    """A function that plays a step of the non-saturating game and returns D's loss and G's."""
    G, D = (Network(layers, seed) for seed, layers in enumerate(sizes(shape, nz, width)))
    x = x.reshape(len(x), -1)

    def cross_entropy(score: np.ndarray, label: int) -> tuple[float, np.ndarray]:
        """The mean of log(1 + e^-s) for the label 1, of log(1 + e^s) for 0, and its gradient."""
        s = -score if label else score
        loss = float(np.logaddexp(0, s).mean())
        gradient = 1 / (1 + np.exp(-s)) / len(s)
        return loss, -gradient if label else gradient

    def step() -> list[float]:
        fakes, kept_G = G.forward(z)
        if len(shape) > 1:
            np.tanh(fakes, out=fakes)
        D.flat[1] = 0
        loss_D = 0.0
        for images, label in ((x, 1), (fakes, 0)):
            score, kept = D.forward(images)
            loss, g = cross_entropy(score, label)
            loss_D += loss
            D.backward(g, kept, weights=True, first=False)
        D.adam()
        G.flat[1] = 0
        score, kept = D.forward(fakes)
        loss_G, g = cross_entropy(score, 1)
        g = D.backward(g, kept, weights=False, first=True)
        if len(shape) > 1:
            g *= 1 - fakes * fakes
        G.backward(g, kept_G, weights=True, first=False)
        G.adam()
        return [loss_D, loss_G]

    return step


# -- layers: the fewest array calls that we know ---------------------------------------------------


def _blocks(images: int, of: Callable[[int], None]) -> Call:
    """Call `of` for each image; the threads share them."""
    from minigan.backend.threads import share

    return lambda: share(of, images)


def _arrays(*shape: int, count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape).astype(np.float32) for _ in range(count)]


def _linear(n: int, inside: int, out: int) -> Call:
    x, dx = _arrays(n, inside, count=2)
    w, dw = _arrays(out, inside, count=2)
    y, g = _arrays(n, out, count=2)
    b = y[0].copy()

    def call() -> None:
        np.matmul(x, w.T, out=y)
        np.add(y, b, out=y)
        np.matmul(g, w, out=dx)
        np.matmul(g.T, x, out=dw)
        g.sum(0)

    return call


def _filtered(n: int, c: int, size: int) -> Call:
    """F(2,3) from c channels to c: 16 products, three times."""
    strips = max(1, n * (size // 2) ** 2 // 256)
    d, m = _arrays(strips, 16, n * (size // 2) ** 2 // strips, c, count=2)
    (taps,) = _arrays(16, c, c, count=1)
    taps *= 1e-3  # so that nothing overflows when a result becomes the next image
    products = [np.empty_like(taps) for _ in range(strips)]

    def of(i: int) -> None:
        np.matmul(d[i], taps, out=m[i])
        np.matmul(m[i], taps, out=d[i])
        np.matmul(d[i].swapaxes(1, 2), m[i], out=products[i])

    return _blocks(strips, of)


def _elementwise(forward: Callable, backward: Callable) -> Call:
    """forward(x, y, t) and backward(g, y, x, dx, t), an image of 32 x 32 pixels at a time."""
    x, y, g, dx = _arrays(16, 1024, 128, count=4)
    scratch = [np.zeros_like(x[0]) for _ in range(16)]

    def of(i: int) -> None:
        forward(x[i], y[i], scratch[i])
        backward(g[i], y[i], x[i], dx[i], scratch[i])

    return _blocks(16, of)


def _relu(x: np.ndarray, y: np.ndarray, t: np.ndarray) -> None:
    np.maximum(x, 0, out=y)


def _leaky(x: np.ndarray, y: np.ndarray, t: np.ndarray) -> None:
    np.multiply(x, SLOPE, out=t)
    np.maximum(x, t, out=y)


def _bent(slope: float) -> Callable:
    def backward(
        g: np.ndarray, y: np.ndarray, x: np.ndarray, dx: np.ndarray, t: np.ndarray
    ) -> None:
        np.multiply(y, 1e30, out=t)
        np.clip(t, slope, 1, out=t)
        np.multiply(g, t, out=dx)

    return backward


def _sigmoid(x: np.ndarray, y: np.ndarray, t: np.ndarray) -> None:
    np.negative(x, out=t)
    np.exp(t, out=t)
    np.add(t, 1, out=t)
    np.reciprocal(t, out=y)


def _sigmoid_gradient(g: Any, y: Any, x: Any, dx: Any, t: Any) -> None:
    np.subtract(1, y, out=t)
    np.multiply(t, y, out=t)
    np.multiply(g, t, out=dx)


def _norm(x: np.ndarray, y: np.ndarray, t: np.ndarray) -> None:
    """The statistics of one image: what an instance norm needs; the other norms add them up."""
    ones = np.ones(len(x), np.float32)
    np.subtract(x, ones @ x / len(x), out=y)
    np.square(y, out=t)
    np.multiply(y, (ones @ t / len(x) + 1e-5) ** -0.5, out=y)


def _norm_gradient(g: Any, y: Any, x: Any, dx: Any, t: Any) -> None:
    ones = np.ones(len(x), np.float32)
    np.multiply(g, y, out=t)
    along_x, along_1 = ones @ t / len(x), ones @ g / len(x)
    np.multiply(y, along_x, out=t)
    np.subtract(g, t, out=dx)
    np.subtract(dx, along_1, out=dx)
    np.multiply(dx, along_1, out=dx)


def _max_pool() -> Call:
    (x, dx), (y, g) = _arrays(16, 16, 2, 16, 2, 128, count=2), _arrays(16, 16, 16, 128, count=2)

    def of(i: int) -> None:
        taps = [(x[i][:, a, :, b], dx[i][:, a, :, b]) for a in range(2) for b in range(2)]
        np.maximum(taps[0][0], taps[1][0], out=y[i])
        for pixels, _ in taps[2:]:
            np.maximum(y[i], pixels, out=y[i])
        for pixels, gradient in taps:
            np.multiply(g[i], pixels == y[i], out=gradient)

    return _blocks(16, of)


def _average_pool() -> Call:
    (x, dx), (y, g) = _arrays(16, 16, 2, 16, 2, 128, count=2), _arrays(16, 16, 16, 128, count=2)

    def of(i: int) -> None:
        np.add(x[i][:, 0, :, 0], x[i][:, 0, :, 1], out=y[i])
        np.add(y[i], x[i][:, 1, :, 0], out=y[i])
        np.add(y[i], x[i][:, 1, :, 1], out=y[i])
        np.multiply(y[i], 0.25, out=y[i])
        np.multiply(g[i], 0.25, out=y[i])
        dx[i][...] = y[i][:, None, :, None]

    return _blocks(16, of)


# By the names of LAYERS in family_layers.py.
FLOORS: dict[str, Callable[[], Call]] = {
    "conv k3 64 at 64, batch 4": lambda: _filtered(4, 64, 64),
    "conv k3 128 at 32, batch 16": lambda: _filtered(16, 128, 32),
    "conv k3 256 at 16, batch 16": lambda: _filtered(16, 256, 16),
    "linear 128 to 128, batch 256": lambda: _linear(256, 128, 128),
    "linear 100 to 256, batch 64": lambda: _linear(64, 100, 256),
    "linear 512 to 512, batch 64": lambda: _linear(64, 512, 512),
    "linear 784 to 1024, batch 64": lambda: _linear(64, 784, 1024),
    "batch norm": lambda: _elementwise(_norm, _norm_gradient),
    "instance norm": lambda: _elementwise(_norm, _norm_gradient),
    "group norm, 8 groups": lambda: _elementwise(_norm, _norm_gradient),
    "average pool 2": _average_pool,
    "max pool 2": _max_pool,
    "ReLU": lambda: _elementwise(_relu, _bent(0.0)),
    "leaky ReLU": lambda: _elementwise(_leaky, _bent(SLOPE)),
    "sigmoid": lambda: _elementwise(_sigmoid, _sigmoid_gradient),
    "sum of two": lambda: _elementwise(
        lambda x, y, t: np.add(x, t, out=y), lambda g, y, x, dx, t: np.copyto(dx, g)
    ),
}
