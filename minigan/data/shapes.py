"""Drawn shapes in colour: a data set with ten classes, like CIFAR-10, that needs no download.

A shape is a function of x (to the right) and y (down) that is negative inside the shape, which extends
to about 1 from the middle (0, 0). A random map turns, scales and shifts it. Its colour and the colour
behind it are a random pair that differs enough in brightness. No class becomes another one in a mirror.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from .drawn import DrawnClasses, bell, distance, generator

VERSION = 1  # part of the cache's key: raise it whenever the bytes change

INKS = (  # 0xRRGGBB
    *(0xD94141, 0xE8893A, 0xF0CF4A, 0x5CB85C, 0x2E9E96, 0x3F74D1, 0x8A56C2, 0xE27BB1),
    *(0xF4F1EA, 0x2B2B33),
)
PAPERS = (0x25304A, 0x1F4037, 0x5A2A3C, 0x4A4A52, 0xEDE3CC, 0xCFE3F0, 0xD5E8CF, 0xE9D3DA)
CONTRAST = 0.3  # the smallest difference of the lumas of ink and paper, both from 0 to 1

# ---- The shapes ----------------------------------------------------------------------------

SQUARE = ((-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8))
TRIANGLE = ((0.0, -0.95), (0.95, 0.75), (-0.95, 0.75))
STAR = (  # ten corners, at a distance of 1 and 0.42 in turn
    *((0.0, -1.0), (0.247, -0.340), (0.951, -0.309), (0.399, 0.130), (0.588, 0.809)),
    *((0.0, 0.42), (-0.588, 0.809), (-0.399, 0.130), (-0.951, -0.309), (-0.247, -0.340)),
)
CROSS = (
    *((-0.3, -0.95), (0.3, -0.95), (0.3, -0.3), (0.95, -0.3), (0.95, 0.3), (0.3, 0.3)),
    *((0.3, 0.95), (-0.3, 0.95), (-0.3, 0.3), (-0.95, 0.3), (-0.95, -0.3), (-0.3, -0.3)),
)
ARROW = (
    *((0.0, -1.0), (0.75, -0.15), (0.28, -0.15), (0.28, 0.95)),
    *((-0.28, 0.95), (-0.28, -0.15), (-0.75, -0.15)),
)
HEART = (
    *((0.0, -0.5), (0.15, -0.74), (0.42, -0.86), (0.72, -0.78), (0.92, -0.5), (0.93, -0.2)),
    *((0.8, 0.1), (0.5, 0.45), (0.0, 0.92), (-0.5, 0.45), (-0.8, 0.1), (-0.93, -0.2)),
    *((-0.92, -0.5), (-0.72, -0.78), (-0.42, -0.86), (-0.15, -0.74)),
)

Shape = Callable[[np.ndarray, np.ndarray], np.ndarray]  # x and y (P,) -> signed distance (P,)


def _polygon(corners: tuple[tuple[float, float], ...]) -> Shape:
    """The shape with these corners."""
    starts = np.array(corners, np.float32)
    ends = np.roll(starts, -1, axis=0)
    (ax, ay), (bx, by) = starts.T, ends.T  # (M,) each

    def signed(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        # A ray to the right of a point inside crosses an odd number of edges.
        px, py = x[:, None] - ax, y[:, None] - ay  # (P, M)
        spans = (py < 0) != (y[:, None] < by)
        crossed = spans & ((px * (by - ay) < (bx - ax) * py) == (by > ay))
        inside = np.logical_xor.reduce(crossed, axis=1)  # (P,)
        return np.where(inside, -1, 1) * distance(x, y, starts, ends)

    return signed


def _disc(x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    return np.sqrt(x * x + y * y) - radius


def _hollow(outer: np.ndarray, thick: float) -> np.ndarray:
    """The shape without everything deeper inside than `thick`."""
    return np.maximum(outer, -outer - thick)


_square = _polygon(SQUARE)

SHAPES: dict[str, Shape] = {
    "circle": lambda x, y: _disc(x, y, 0.9),
    "ring": lambda x, y: _hollow(_disc(x, y, 0.95), 0.42),
    "crescent": lambda x, y: np.maximum(_disc(x + 0.1, y, 0.92), -_disc(x - 0.4, y, 0.78)),
    "square": _square,
    "frame": lambda x, y: _hollow(_square(x, y), 0.36),
    "triangle": _polygon(TRIANGLE),
    "star": _polygon(STAR),
    "cross": _polygon(CROSS),
    "heart": _polygon(HEART),
    "arrow": _polygon(ARROW),
}
CLASSES = tuple(SHAPES)

# ---- The image, and the set of them --------------------------------------------------------


def _rgb(colour: int) -> np.ndarray:
    """0xRRGGBB as float32 (3, 1)."""
    return np.array([[colour >> 16], [colour >> 8 & 255], [colour & 255]], np.float32) / 255


def _luma(colour: int) -> float:
    red, green, blue = _rgb(colour)[:, 0].tolist()
    return 0.299 * red + 0.587 * green + 0.114 * blue


PAIRS = [(i, p) for i in INKS for p in PAPERS if abs(_luma(i) - _luma(p)) > CONTRAST]


def draw(seed: int, index: int, size: int = 32) -> tuple[np.ndarray, int]:
    """Shape `index` of the endless set `seed`: uint8 (size, size, 3), RGB, and its class.

    Image `index` is of class index % 10. Raises ValueError for a negative seed or index, or a size that
    is not in `Shapes.sizes`.
    """
    Shapes.check_size(size)
    rng, label = generator(seed, index), index % len(CLASSES)
    ink, paper = (_rgb(colour) for colour in PAIRS[int(rng.random() * len(PAIRS))])
    radius, t = bell(rng, 0.24, 0.42), bell(rng, -0.25, 0.25)
    cosine, sine = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)  # of an angle up to 28 degrees
    left, top = (bell(rng, radius, 1 - radius) for _ in range(2))  # the middle, away from the edge
    light = rng.random() - 0.5, rng.random() - 0.5

    ticks = (np.arange(size, dtype=np.float32) + 0.5) / size
    across, down = np.tile(ticks, size), np.repeat(ticks, size)  # (size^2,) each
    x, y = (across - left) / radius, (down - top) / radius
    x, y = cosine * x + sine * y, cosine * y - sine * x
    mask = np.clip(0.5 - SHAPES[CLASSES[label]](x, y) * radius * size, 0, 1)  # soft by a pixel
    shade = 0.3 * (light[0] * (across - 0.5) + light[1] * (down - 0.5))
    pixels = paper + mask * (ink - paper) + shade  # (3, size^2)
    levels = (255 * np.clip(pixels, 0, 1) + 0.5).astype(np.uint8)
    return np.ascontiguousarray(levels.T).reshape(size, size, 3), label


@dataclass(frozen=True)
class Shapes(DrawnClasses):
    """The first `count` shapes of a seed, as a source of the data cache."""

    image_size: int = 32

    noun, sizes = "shape", range(16, 257)
    classes = CLASSES

    def identity(self) -> dict[str, str | int]:
        """Everything that determines the bytes, as JSON values."""
        return {"kind": "shapes", "version": VERSION, **asdict(self)}

    def load(self, index: int) -> np.ndarray:
        """Shape `index`: uint8 (image_size, image_size, 3), RGB. IndexError: there is none."""
        return draw(self.seed, self.checked(index), self.image_size)[0]
