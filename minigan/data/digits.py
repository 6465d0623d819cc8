"""Drawn digits in the manner of MNIST: a data set with ten classes that needs no download.

A digit is white ink on black. Its glyph is a few smooth strokes. A random map bends, slants, scales and
shifts them, and a pen of random width draws them. In the glyph's coordinates, x goes right from about
-0.6 to 0.6, and y goes down from -1 to 1.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from .drawn import DrawnClasses, bell, distance, generator

VERSION = 1  # part of the cache's key: raise it whenever the bytes change
CLASSES = tuple("0123456789")
PIECES = 4  # segments between two points of a stroke

Stroke = tuple[tuple[float, float], ...]  # points on a smooth curve; two points make a line

# The ways in which each digit is written; each is a tuple of strokes.
_OVAL: Stroke = (
    *((0.0, -1.0), (-0.42, -0.65), (-0.56, 0.0), (-0.42, 0.65), (0.0, 1.0)),
    *((0.42, 0.65), (0.56, 0.0), (0.42, -0.65), (0.0, -1.0)),
)
_STEM: Stroke = ((0.06, -1.0), (0.0, 1.0))
_FLAG: Stroke = ((0.06, -1.0), (-0.34, -0.58))
_HOOK: Stroke = ((-0.52, -0.6), (-0.3, -0.93), (0.08, -1.0), (0.46, -0.78), (0.46, -0.35))
_SWEEP: Stroke = ((0.46, -0.35), (0.2, 0.15), (-0.2, 0.6), (-0.56, 1.0))
_BELLY: Stroke = (
    *((-0.1, -0.04), (0.28, 0.04), (0.52, 0.42), (0.36, 0.85), (-0.06, 1.0), (-0.5, 0.8)),
)
_TOP: Stroke = ((-0.55, -1.0), (0.55, -1.0))
_LEG: Stroke = ((0.55, -1.0), (0.2, -0.3), (-0.06, 0.35), (-0.14, 1.0))
_HEAD: Stroke = (
    *((0.46, -0.45), (0.28, -0.88), (-0.08, -1.0), (-0.42, -0.8), (-0.48, -0.4)),
    *((-0.22, -0.02), (0.18, -0.08), (0.46, -0.45)),
)
GLYPHS: tuple[tuple[tuple[Stroke, ...], ...], ...] = (
    ((_OVAL,),),
    ((_STEM,), (_STEM, _FLAG), (_STEM, _FLAG, ((-0.4, 1.0), (0.4, 1.0)))),
    (
        ((*_HOOK, *_SWEEP[1:]), ((-0.56, 1.0), (0.58, 1.0))),
        ((*_HOOK, *_SWEEP[1:]), ((-0.56, 1.0), (-0.2, 0.82), (0.2, 0.98), (0.6, 0.86))),
    ),
    (
        (
            (
                (-0.5, -0.78),
                (-0.12, -1.0),
                (0.34, -0.86),
                (0.42, -0.48),
                (0.18, -0.12),
                (-0.1, -0.04),
            ),
            _BELLY,
        ),
        (_TOP, ((0.55, -1.0), (-0.08, -0.2)), ((-0.08, -0.2), *_BELLY[1:])),
    ),
    (
        (((0.22, -1.0), (-0.58, 0.36)), ((-0.58, 0.36), (0.6, 0.36)), ((0.26, -0.4), (0.24, 1.0))),
        (
            ((-0.42, -0.95), (-0.5, 0.12)),
            ((-0.5, 0.12), (0.56, 0.12)),
            ((0.38, -0.95), (0.3, 1.0)),
        ),
        (((0.28, -1.0), (-0.58, 0.36)), ((-0.58, 0.36), (0.58, 0.36)), ((0.28, -1.0), (0.28, 1.0))),
    ),
    (
        (
            ((0.5, -1.0), (-0.38, -1.0)),
            ((-0.38, -1.0), (-0.46, -0.16)),
            (
                *((-0.46, -0.16), (-0.08, -0.34), (0.34, -0.2), (0.52, 0.24), (0.38, 0.76)),
                *((-0.04, 1.0), (-0.5, 0.82)),
            ),
        ),
    ),
    (
        (
            (
                *((0.36, -1.0), (-0.1, -0.66), (-0.42, -0.1), (-0.46, 0.5), (-0.16, 0.95)),
                *((0.26, 0.92), (0.48, 0.52), (0.3, 0.12), (-0.08, 0.08), (-0.42, 0.4)),
            ),
        ),
    ),
    (
        (_TOP, _LEG),
        (_TOP, _LEG, ((-0.2, 0.02), (0.42, 0.02))),
        (((-0.55, -0.72), (-0.55, -1.0)), _TOP, _LEG),
    ),
    (
        (
            (
                *((0.0, -0.06), (-0.36, -0.32), (-0.36, -0.76), (0.0, -1.0), (0.36, -0.76)),
                *((0.36, -0.32), (0.0, -0.06), (-0.44, 0.28), (-0.42, 0.78), (0.0, 1.0)),
                *((0.42, 0.78), (0.44, 0.28), (0.0, -0.06)),
            ),
        ),
    ),
    (
        (_HEAD, ((0.46, -0.45), (0.44, 0.2), (0.3, 1.0))),
        (_HEAD, ((0.46, -0.45), (0.48, 0.3), (0.26, 0.9), (-0.12, 1.0), (-0.42, 0.8))),
    ),
)


def _curve(stroke: Stroke) -> np.ndarray:
    """Points (N, 2) on the curve of Catmull and Rom (1974) through a stroke's points.

    Between two points the curve is a cubic Hermite spline. Its slope at a point is half the difference
    between the point's neighbours; at an end, the difference to the only neighbour.
    """
    points = np.array(stroke)
    if len(points) == 2:
        return points
    slope = np.gradient(points, axis=0)  # (P, 2)
    t = (np.arange(PIECES) / PIECES)[:, None, None]
    a, b, slope_a, slope_b = points[:-1], points[1:], slope[:-1], slope[1:]  # (P-1, 2) each
    s = 1 - t
    curve = s * s * ((1 + 2 * t) * a + t * slope_a) + t * t * ((1 + 2 * s) * b - s * slope_b)
    curve = curve.transpose(1, 0, 2).reshape(-1, 2)  # (PIECES, P-1, 2) -> (PIECES*(P-1), 2)
    return np.concatenate([curve, points[-1:]])


def _segments(glyph: tuple[Stroke, ...]) -> np.ndarray:
    """The strokes of a glyph as segments (M, 2, 2): starts and ends."""
    curves = [_curve(stroke) for stroke in glyph]
    return np.concatenate([np.stack([curve[:-1], curve[1:]], axis=1) for curve in curves])


_SEGMENTS = [[_segments(glyph) for glyph in glyphs] for glyphs in GLYPHS]


def draw(seed: int, index: int, size: int = 28) -> tuple[np.ndarray, int]:
    """Digit `index` of the endless set `seed`: uint8 (size, size, 3), RGB but grey, and its class.

    Image `index` is the digit index % 10. Raises ValueError for a negative seed or index, or a size
    that is not in `Digits.sizes`.
    """
    Digits.check_size(size)
    rng, label = generator(seed, index), index % len(CLASSES)
    glyphs = _SEGMENTS[label]
    points = glyphs[int(rng.random() * len(glyphs))].reshape(-1, 2)  # (M, 2, 2) -> (2M, 2)
    x, y = points.T
    bend = lambda most: bell(rng, -most, most)
    slant, turn = bend(0.4) - 0.08, bend(0.2)  # writing leans to the right
    width, height = bell(rng, 0.24, 0.36), bell(rng, 0.30, 0.39)  # as fractions of the image
    across = x - slant * y + bend(0.24) * y * y + bend(0.16) * x * y
    down = y + turn * x + bend(0.2) * x * x + bend(0.16) * x * y
    points = np.stack((width * across, height * down), axis=1)  # (2M, 2)
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    points += 0.5 - middle + (bend(0.06), bend(0.06))
    starts, ends = points.reshape(-1, 2, 2).astype(np.float32).transpose(1, 0, 2)  # (M, 2) each

    pen, ink = bell(rng, 0.025, 0.062), bell(rng, 0.8, 1.05)  # half its width; how white its ink is
    ticks = (np.arange(size, dtype=np.float32) + 0.5) / size
    x, y = np.tile(ticks, size), np.repeat(ticks, size)  # (size^2,) each
    edge = 1.4 / size  # blurred over a little more than a pixel, like ink
    grey = np.clip((np.float32(pen) - distance(x, y, starts, ends)) / edge + 0.5, 0, 1)
    levels = (255 * np.minimum(1, ink * grey) + 0.5).astype(np.uint8).reshape(size, size)
    return np.repeat(levels[:, :, None], 3, axis=2), label  # (size, size) -> (size, size, 3)


@dataclass(frozen=True)
class Digits(DrawnClasses):
    """The first `count` digits of a seed, as a source of the data cache."""

    image_size: int = 28

    noun, sizes = "digit", range(16, 257)
    classes = CLASSES

    def identity(self) -> dict[str, str | int]:
        """Everything that determines the bytes, as JSON values."""
        return {"kind": "digits", "version": VERSION, **asdict(self)}

    def load(self, index: int) -> np.ndarray:
        """Digit `index`: uint8 (image_size, image_size, 3), RGB. IndexError: there is none."""
        return draw(self.seed, self.checked(index), self.image_size)[0]
