"""Drawn portraits: a data set of faces that needs no download.

Every attribute of a face is known, so the set can also show which faces a GAN has dropped. A portrait
is painted from back to front; each part is a soft mask and a colour. drawn.py explains why a face has
the same bytes on every machine.

Lengths are in units of half the head's height, measured from the middle of the head: its crown is at
y = -1, its chin at y = 1. Colours are 0xRRGGBB. Masks and light are float32 (h, w) from 0 to 1, and the
canvas is float32 (3, h, w).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np

from .drawn import Drawn, bell, generator

VERSION = 1  # part of the cache's key: raise it whenever the bytes change

# ---- What varies ---------------------------------------------------------------------------

SKIN = {"pale": 0xFFDBC7, "fair": 0xF2C4A2, "tan": 0xDDAA7E, "brown": 0xAB7650, "dark": 0x744832}
HAIR = {"black": 0x242023, "brown": 0x47291A, "red": 0xB0522A, "blond": 0xE6BC73, "grey": 0xBDBDC2}
EYES = {"brown": 0x5C331A, "blue": 0x4580C7, "green": 0x4D8C52}
CLOTHES = {"white": 0xEDEBE6, "navy": 0x2B3B66, "red": 0xBD3838, "teal": 0x298585}
BACKGROUND = {"sky": 0x85B3DB, "sage": 0x8FB38F, "sand": 0xE0CA92, "rose": 0xDB929C}
LAMP = {"left": (-0.56, -0.41, 0.72), "front": (0.0, -0.49, 0.87), "right": (0.56, -0.41, 0.72)}


class Cut(NamedTuple):
    """A hair style: an outer shape, with an opening for the face."""

    outer: tuple[float, float, float]  # half-width, top, bottom
    opening: tuple[float, float, float]  # half-width, top, bottom
    parting: float  # how pointed the opening is at the parting; 0 for straight across
    locks: float  # how far the locks stick out
    hangs: bool  # whether hair also hangs behind the neck


STYLES = {
    "bald": None,
    "short": Cut((0.80, 1.18, 0.40), (0.70, -0.60, 1.0), 0.2, 0.03, False),
    "fringe": Cut((0.88, 1.18, 0.55), (0.68, -0.33, 1.0), 0.0, 0.05, False),
    "bob": Cut((0.96, 1.20, 0.90), (0.58, -0.70, 1.3), 0.5, 0.03, True),
    "long": Cut((0.94, 1.20, 2.60), (0.60, -0.70, 3.0), 0.5, 0.03, True),
    "wavy": Cut((1.02, 1.22, 1.50), (0.60, -0.66, 2.2), 0.4, 0.05, True),
    "curly": Cut((1.02, 1.30, 0.70), (0.66, -0.52, 1.1), 0.0, 0.10, True),
}
BEARDED = ("bald", "short", "long", "curly")  # with the other styles a beard looks like a mistake

CATEGORIES = {  # a value listed twice is twice as common
    "skin": tuple(SKIN),
    "hair_style": tuple(STYLES),
    "hair_colour": (*HAIR, "black", "black", "brown", "brown", "blond"),
    "eye_colour": tuple(EYES),
    "mouth": ("neutral", "smile", "open"),
    "beard": ("no", "no", "yes"),
    "glasses": ("no", "no", "no", "yes"),
    "clothes": tuple(CLOTHES),
    "background": tuple(BACKGROUND),
    "light": tuple(LAMP),
}
RANGES = {  # lowest and highest; values near the middle are the most common
    "turn": (-0.34, 0.34),  # how far the nose moves to the right of the image
    "nod": (-0.10, 0.10),  # how far it moves down
    "tilt": (-0.14, 0.14),  # the slope of the head's axis
    "x": (0.46, 0.54),  # the middle of the head, as a fraction of the image
    "y": (0.455, 0.485),
    "zoom": (0.33, 0.365),  # half the head's height, as a fraction of the image
    "width": (0.69, 0.80),  # half the head's width
    "jaw": (0.0, 1.0),  # from pointed to square
    "eye_gap": (0.31, 0.36),  # from the nose to the middle of an eye
    "brow": (0.8, 1.3),  # thickness
    "nose": (0.8, 1.2),  # width
    "lips": (0.8, 1.3),  # fullness
    "part": (-0.5, 0.5),  # the side on which the hair is parted
}

Person = dict[str, str | float]  # every attribute and its value


def sample_attributes(rng: np.random.Generator) -> Person:
    """One person: a value for each name in CATEGORIES and RANGES, independent except for BEARDED."""
    person = {name: values[int(rng.random() * len(values))] for name, values in CATEGORIES.items()}
    if person["hair_style"] not in BEARDED:
        person["beard"] = "no"
    for name, (low, high) in RANGES.items():
        person[name] = bell(rng, low, high)
    return person


# ---- The painter's tools -------------------------------------------------------------------


def _rgb(colour: int) -> np.ndarray:
    """0xRRGGBB as float32 (3, 1, 1)."""
    channels = [colour >> 16, colour >> 8 & 255, colour & 255]
    return np.array(channels, np.float32)[:, None, None] / 255


def _inside(distance: np.ndarray, blur: float = 0.05) -> np.ndarray:
    """The mask of a shape: 1 where the signed distance to its edge is negative, 0 outside."""
    t = np.clip(0.5 - distance / blur, 0, 1)
    return t * t * (3 - 2 * t)


def _oval(x: np.ndarray, y: np.ndarray, wide: float, high: float) -> np.ndarray:
    """The approximate signed distance to an ellipse."""
    return (np.sqrt((x / wide) ** 2 + (y / high) ** 2) - 1) * min(wide, high)


def _bump(x: np.ndarray, y: np.ndarray | float, wide: float, high: float) -> np.ndarray:
    """A smooth hill of height 1 that ends at an ellipse: a bell curve without exp."""
    t = np.maximum(0, 1 - (x / wide) ** 2 - (y / high) ** 2)
    return t * t


def _ripple(t: np.ndarray) -> np.ndarray:
    """A wave between -1 and 1 of period 1: a cosine without cos."""
    t = np.abs(2 * (t - np.floor(t)) - 1)
    return 2 * t * t * (3 - 2 * t) - 1


def _tone(colour: np.ndarray, light: np.ndarray) -> np.ndarray:
    """The colour of a lit surface; shadows stay warm, as on skin."""
    shadow = colour * _rgb(0x7A6060)
    return shadow + light * (1.06 * colour - shadow)


class _Easel:
    """A canvas (3, h, w), and a grid (4, h, w) that gives the position of each pixel on the person.

    x and y are lengths across and down the image. u and v are lengths on the face, which turns and
    nods: its middle line is always u = 0.
    """

    def __init__(self, person: Person, canvas: np.ndarray, grid: np.ndarray):
        self.person, self.canvas, self.grid = person, canvas, grid
        self.x, self.y, self.u, self.v = grid
        self.lamp = LAMP[person["light"]]  # the unit vector towards the light
        self.skin, self.hair = _rgb(SKIN[person["skin"]]), _rgb(HAIR[person["hair_colour"]])

    def crop(self, wide: float, top: float, bottom: float) -> _Easel:
        """A view of part of the easel, so that fewer pixels are computed."""
        person, n = self.person, len(self.x)
        pixel = lambda axis, at: max(0, int(n * (person[axis] + person["zoom"] * at)))
        rows = slice(pixel("y", top), pixel("y", bottom))
        cols = slice(pixel("x", -wide), pixel("x", wide))
        return _Easel(person, self.canvas[:, rows, cols], self.grid[:, rows, cols])

    def paint(self, mask: np.ndarray, colour: np.ndarray) -> None:
        """Cover the mask with a colour."""
        self.canvas += mask * (colour - self.canvas)

    def glaze(self, mask: np.ndarray, tint: int) -> None:
        """Darken the mask by a tint, like a shadow or blood under the skin."""
        self.canvas *= 1 - mask * (1 - _rgb(tint))

    def light(self, nx: np.ndarray, ny: np.ndarray | float, r2: np.ndarray | float) -> np.ndarray:
        """The light on a round surface at a point that faces (nx, ny).

        r2 is the squared distance from the surface's middle, 1 at its rim.
        """
        lx, ly, lz = self.lamp
        nz2 = np.maximum(0.05, 1 - r2)  # kept above 0, because otherwise the rim would turn black
        facing = (nx * lx + ny * ly + np.sqrt(nz2) * lz) / np.sqrt(nx * nx + ny * ny + nz2)
        return np.clip(0.35 + 0.65 * facing, 0, 1)  # wraps around the form, as from a large lamp


def _set_up(person: Person, n: int) -> _Easel:
    """An empty easel of n x n pixels in front of this person."""
    ticks = (np.arange(n, dtype=np.float32) + 0.5) / n
    across = (ticks - person["x"]) / person["zoom"]  # (n,)
    down = (ticks[:, None] - person["y"]) / person["zoom"]  # (n, 1)
    # nearly a rotation, because tilts are small
    x, y = across + person["tilt"] * down, down - person["tilt"] * across  # (n, n)
    depth = np.maximum(0, 1 - (x / person["width"]) ** 2 - y * y)  # near parts move further
    u, v = x - person["turn"] * depth, y - person["nod"] * depth
    return _Easel(person, np.zeros((3, n, n), np.float32), np.stack((x, y, u, v)))


# ---- The parts -----------------------------------------------------------------------------


def _background(easel: _Easel) -> None:
    glow = _bump(easel.x - 1.2 * easel.lamp[0], easel.y + 0.5, 3.0, 3.0)
    easel.canvas[:] = _rgb(BACKGROUND[easel.person["background"]]) * (0.62 + 0.45 * glow)


def _bust(easel: _Easel) -> None:
    neck = _inside(np.abs(easel.x) - 0.37 - 0.25 * np.maximum(0, easel.y - 0.9) ** 2)
    light = easel.light(easel.x / 0.42, 0, (easel.x / 0.42) ** 2)
    easel.paint(neck, _tone(easel.skin, light))
    under_chin = neck * _bump(easel.x + 0.3 * easel.lamp[0], easel.y - 0.95, 0.75, 0.5)
    easel.glaze(under_chin, 0x735959)
    fall = easel.y - 1.22 - 0.17 * easel.x**2
    collar = _oval(easel.x, easel.y - 1.12, 0.50, 0.30)
    light = easel.light(easel.x / 1.7, -0.25 - 0.7 * fall, 0.36) - 0.15 * _bump(collar, 0, 0.13, 1)
    clothes = _rgb(CLOTHES[easel.person["clothes"]])
    easel.paint(_inside(-fall) * _inside(-collar), _tone(clothes, light))


def _ears(easel: _Easel) -> None:
    x = np.abs(easel.x + 0.12 * easel.person["turn"]) - easel.person["width"]
    y = easel.y - 0.08 - 0.3 * easel.person["nod"]
    light = 0.85 * easel.light(easel.x, 0.5 * easel.y, 0.5)
    easel.paint(_inside(_oval(x, y, 0.13, 0.21)), _tone(easel.skin, light))
    easel.glaze(_bump(x - 0.03, y, 0.09, 0.16), 0xB88C80)


def _skull(easel: _Easel) -> np.ndarray:
    """The squared distance from the middle of the head, 1 at its outline: an egg, or squarer."""
    low = np.maximum(0, easel.y)
    wide = easel.person["width"] * (1 - (0.16 - 0.10 * easel.person["jaw"]) * low * low)
    square = 0.25 + 0.35 * easel.person["jaw"]
    return (easel.x / wide) ** 2 + easel.y * easel.y * (1 - square + square * easel.y * easel.y)


def _head(easel: _Easel) -> None:
    person, u, v, lamp = easel.person, easel.u, easel.v, easel.lamp[0]
    a = np.abs(u)
    n = u - 0.15 * person["turn"]  # the nose protrudes, so it moves further
    wing = np.abs(n) - 0.12 * person["nose"]
    relief = (
        0.16 * _bump(n, v - 0.16, 0.17, 0.48)  # bridge of the nose
        + 0.17 * _bump(n, v - 0.36, 0.20 * person["nose"], 0.20)  # its tip
        + 0.06 * _bump(wing, v - 0.41, 0.10, 0.11)
        + 0.04 * _bump(a - 0.32, v + 0.26, 0.32, 0.20)  # brows
        - 0.09 * _bump(a - 0.32, v - 0.02, 0.30, 0.24)  # sockets of the eyes
        + (0.15 if person["mouth"] == "smile" else 0.10) * _bump(a - 0.40, v - 0.36, 0.34, 0.34)
        + 0.10 * _bump(u, v - 0.62, 0.42, 0.26)  # mouth
        + 0.10 * _bump(u, v - 0.92, 0.30, 0.22)  # chin
    )
    dy, dx = np.gradient(relief, float(easel.x[0, 1] - easel.x[0, 0]))
    r2 = _skull(easel)
    light = easel.light(0.95 * easel.x / person["width"] - dx, 0.75 * easel.y - dy, r2)
    easel.paint(_inside(0.75 * (np.sqrt(r2) - 1)), _tone(easel.skin, light))
    easel.glaze(_bump(a - 0.42, v - 0.36, 0.32, 0.26), 0xFFE4E4)  # blood in the cheeks
    easel.glaze(_bump(a - 0.30, v + 0.02, 0.28, 0.20), 0xE0CCCC)  # shadow under the brows,
    easel.glaze(_bump(n + 0.1 * lamp, v - 0.52, 0.24 * person["nose"], 0.09), 0xB89999)  # the nose,
    easel.glaze(_bump(wing + 0.045, v - 0.455, 0.06, 0.045), 0x735252)  # in the nostrils
    easel.glaze(_bump(u, v - 0.80, 0.22, 0.07), 0xD1BFBF)  # and under the lip
    shine = 0.10 * _bump(u - 0.3 * lamp, v + 0.45, 0.40, 0.25)
    easel.paint(shine + 0.18 * _bump(n - 0.07 * lamp, v - 0.33, 0.09, 0.10), _rgb(0xFFF7EB))


def _eyes(easel: _Easel) -> None:
    out = np.abs(easel.u) - easel.person["eye_gap"]  # from the middle of either eye towards the ear
    v = easel.v + 0.01 + 0.06 * out
    arc = 0.12 * (1 - (out / 0.20) ** 2)
    white = _inside(np.maximum(-arc - v, v - 0.7 * arc), 0.035)
    easel.paint(white, _rgb(0xF5F2F0) * (0.72 + 0.28 * _inside(-v - 0.3 * arc, 0.12)))
    x = out - np.sign(easel.u) * 0.1 * easel.person["turn"]  # the eyes look almost at us
    iris = white * _inside(_oval(x, v + 0.01, 0.115, 0.115), 0.035)
    easel.paint(iris, _rgb(EYES[easel.person["eye_colour"]]) * (0.75 + 0.5 * _inside(-v)))
    easel.paint(white * _inside(_oval(x, v + 0.01, 0.058, 0.058), 0.03), _rgb(0x0D0A0D))
    spark = _bump(x - np.sign(easel.u) * 0.06 * easel.lamp[0], v + 0.045, 0.045, 0.045)
    easel.paint(white * np.minimum(1, 1.6 * spark), _rgb(0xFFFFFF))
    lid = _inside(np.abs(out) - 0.20, 0.06)
    easel.glaze(lid * _inside(np.abs(v + arc) - 0.016, 0.035), 0x382624)  # lashes
    easel.glaze(lid * _inside(np.abs(v + arc + 0.065) - 0.006), 0xBFA6A0)  # the crease above
    easel.glaze(lid * _inside(np.abs(v - 0.7 * arc) - 0.003, 0.035), 0xCCA8A3)  # the lower lid


def _brows(easel: _Easel) -> None:
    out = np.abs(easel.u) - easel.person["eye_gap"]
    line = 0.9 * (out - 0.02) ** 2 + 0.03 * out - 0.265
    thick = 0.03 * easel.person["brow"] * np.clip(1.1 - 2.2 * out, 0.4, 1.4)
    mask = _inside(np.maximum(np.abs(easel.v - line) - thick, np.abs(out) - 0.21), 0.06)
    easel.paint(0.85 * mask, 0.6 * easel.hair)


def _glasses(easel: _Easel) -> None:
    if easel.person["glasses"] == "yes":
        out = np.abs(easel.u) - easel.person["eye_gap"] - 0.01
        rim = np.abs(_oval(out, easel.v - 0.01, 0.26, 0.21)) - 0.02
        bar = np.abs(easel.v + 0.03) - 0.018  # from rim to rim, and from the rims to the ears
        beside = np.maximum(0.26 - out, np.abs(easel.x) - easel.person["width"] + 0.02)
        bar = np.maximum(bar, np.minimum(np.abs(easel.u) - 0.1, beside))
        easel.paint(_inside(np.minimum(rim, bar), 0.04), _rgb(0x1F1A1A))


def _mouth(easel: _Easel) -> None:
    wide, curve, rise, drop, teeth = {
        "neutral": (0.27, 0.035, 0.006, 0.006, -1),
        "smile": (0.35, 0.10, 0.02, 0.075, 0.085),
        "open": (0.23, 0.03, 0.05, 0.16, 0.06),
    }[easel.person["mouth"]]
    u, full = easel.u - 0.08 * easel.person["turn"], 0.075 * easel.person["lips"]
    arc = np.maximum(0, 1 - (u / wide) ** 2)
    v = easel.v - 0.63 - curve * (arc - 0.6)
    ends = _inside(np.abs(u) - wide)
    upper = rise * arc + 0.8 * full * arc * (1 - 0.3 * _bump(u, 0, 0.09, 1))
    lips = ends * _inside(np.maximum(-upper - v, v - (drop + 1.2 * full) * arc), 0.04)
    easel.glaze(lips, 0xDB8F8F)
    easel.glaze(lips * _inside(v, 0.06), 0xD9C7C7)  # the upper lip faces down
    shine = 0.22 * _bump(u - 0.06 * easel.lamp[0], v - drop - 0.6 * full, 0.14, 0.04)
    easel.paint(shine, _rgb(0xFFF2EB))
    gap = ends * _inside(np.maximum(-rise * arc - v, v - drop * arc), 0.03)
    easel.paint(0.95 * gap, _rgb(0x3D1214))
    easel.paint(gap * _inside(v + rise * arc - teeth, 0.03), _rgb(0xF2EDE6) * (0.7 + 0.3 * arc))
    easel.paint(gap * _bump(u, v - 0.14, 0.17, 0.08), _rgb(0xBF5457))  # the tongue
    easel.glaze(_bump(np.abs(u) - wide, v, 0.06, 0.06), 0xBFA6A1)  # the corners


def _beard(easel: _Easel) -> None:
    if easel.person["beard"] == "yes":
        r2 = _skull(easel)
        cheeks = _inside(0.48 - easel.v - 0.35 * np.abs(easel.u), 0.16)
        tall = 0.17 if easel.person["mouth"] == "open" else 0.11
        lips = _inside(_oval(easel.u, easel.v - 0.53 - tall, 0.28, tall), 0.1)
        mask = 0.92 * cheeks * _inside(0.75 * (np.sqrt(r2) - 1.03)) * (1 - 0.9 * lips)
        light = 0.8 * easel.light(easel.x / 0.75, 0.6 * easel.y, r2)
        # a beard lighter than the skin would look glued on
        colour = np.minimum(easel.hair, easel.skin)
        easel.paint(mask, _tone(0.8 * colour, light))


def _comb(easel: _Easel, cut: Cut) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mask, colour and locks (a wave between -1 and 1) of the hair, without the opening."""
    x, y, (wide, top, bottom) = easel.x, easel.y, cut.outer
    if easel.person["hair_style"] == "wavy":
        x = x + 0.05 * _ripple(1.1 * y + 0.2)
    above, below = (np.minimum(y, 0) / top) ** 2, (np.maximum(y, 0) / bottom) ** 2
    r2 = (x / wide) ** 2 + above + below * (below if cut.hangs else 1)  # hanging hair ends straight
    if easel.person["hair_style"] == "curly":
        locks = _ripple(1.5 * x + 0.3 * _ripple(y)) * _ripple(1.5 * y + 0.3 * _ripple(x))
    else:  # meridians from the crown
        t = (x - 0.4 * easel.person["part"]) / np.sqrt(np.maximum(0.3, 1.02 - above))
        locks = 0.6 * _ripple(1.4 * t + easel.person["part"]) + 0.4 * _ripple(3.1 * t)
    mask = _inside((np.sqrt(r2) - 1) * wide - 0.4 * cut.locks * locks, 0.07)
    light = easel.light(x / wide, 0.8 * y / top, r2) + (0.05 + 1.2 * cut.locks) * locks
    gloss = _bump(r2 - 0.5, x - 0.6 * easel.lamp[0], 0.35, 0.7) * (0.7 + 0.3 * locks)
    colour = easel.hair
    return mask, _tone(colour, light) + 0.16 * gloss * (0.25 + colour), locks


def _hair(easel: _Easel, cut: Cut, mask: np.ndarray, colour: np.ndarray, locks: np.ndarray) -> None:
    wide, top, bottom = cut.opening
    high = (bottom - top) / 2
    side = np.abs(easel.u - 0.3 * easel.person["part"] * (cut.parting > 0)) + cut.parting
    r2, q2 = (side / (wide + cut.parting)) ** 2, ((easel.v - top - high) / high) ** 2
    opening = 0.7 * (np.sqrt(np.sqrt(r2 * r2 + q2 * q2)) - 1) + 0.7 * cut.locks * locks
    easel.glaze(mask * _inside(-opening - 0.06, 0.22), 0xB89994)  # the shadow on the forehead
    easel.paint(mask * _inside(-opening, 0.08), colour)


# ---- The image, and the set of them --------------------------------------------------------


def render(person: Person, size: int = 64) -> np.ndarray:
    """The portrait of this person: uint8 (size, size, 3), RGB.

    `person` comes from `sample_attributes`, and its values may be changed. Raises ValueError for an
    unknown value or size.
    """
    Faces.check_size(size)
    for name, values in CATEGORIES.items():
        if person[name] not in values:
            raise ValueError(f"{name} is {person[name]!r}; choose one of {sorted(set(values))}")
    # samples along each side of a pixel; lashes are too thin for a grid of less than 128 x 128
    fine = 127 // size + 1
    easel = _set_up(person, fine * size)
    cut = STYLES[person["hair_style"]]
    mane = _comb(easel, cut) if cut else None
    _background(easel)
    if cut and cut.hangs:
        easel.paint(mane[0], 0.6 * mane[1])
    _bust(easel.crop(9, 0.6, 9))  # from the mouth down to wherever the image ends
    _ears(easel.crop(1.1, -0.4, 0.6))
    _head(easel.crop(1.0, -1.2, 1.2))
    for part in (_eyes, _brows, _glasses):
        part(easel.crop(0.95, -0.7, 0.5))
    for part in (_mouth, _beard):
        part(easel.crop(1.0, -0.2, 1.3))
    if cut:
        _hair(easel, cut, *mane)
    samples = (easel.canvas[:, i::fine, j::fine] for i in range(fine) for j in range(fine))
    pixels = sum(samples) / fine**2  # (3, size, size)
    levels = (255 * np.clip(pixels, 0, 1) + 0.5).astype(np.uint8)
    return np.ascontiguousarray(levels.transpose(1, 2, 0))


def draw(seed: int, index: int, size: int = 64) -> tuple[np.ndarray, Person]:
    """Face `index` of the endless set `seed`: uint8 (size, size, 3), RGB, and its attributes.

    Raises ValueError for a negative seed or index, or a size that is not from 16 to 256.
    """
    person = sample_attributes(generator(seed, index))
    return render(person, size), person


@dataclass(frozen=True)
class Faces(Drawn):
    """The first `count` faces of a seed, as a source of the data cache."""

    noun = "face"
    sizes = range(16, 257)  # smaller faces have no eyes, and larger ones are only blurrier

    def identity(self) -> dict[str, str | int]:
        """Everything that determines the bytes, as JSON values."""
        return {"kind": "faces", "version": VERSION, **asdict(self)}

    def load(self, index: int) -> np.ndarray:
        """Face `index`: uint8 (image_size, image_size, 3), RGB. IndexError: there is no such face."""
        return draw(self.seed, self.checked(index), self.image_size)[0]

    def attributes(self, index: int) -> Person:
        """The attributes of the face that `load` draws."""
        return sample_attributes(generator(self.seed, self.checked(index)))
