"""Portraits drawn by a program: a data set of faces for whoever has no CelebA at hand.

Every attribute of a face is known, so the set also measures which kinds of face a GAN has dropped.
A portrait is painted from back to front, each part a soft mask and a colour.  Pixels see only
+ - * / and square roots, which every processor rounds alike: a face has the same bytes everywhere.

Lengths are in head units: the middle of the head is (0, 0), its crown y = -1, its chin y = 1.
Colours are 0xRRGGBB; masks, light and the canvas are float32 from 0 to 1.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np

VERSION = 1  # of the recipe: raise it with every change of the bytes, or old caches go stale

# ---- What varies ---------------------------------------------------------------------------

SKIN = {"pale": 0xFFDBC7, "fair": 0xF2C4A2, "tan": 0xDDAA7E, "brown": 0xAB7650, "dark": 0x744832}
HAIR = {"black": 0x242023, "brown": 0x47291A, "red": 0xB0522A, "blond": 0xE6BC73, "grey": 0xBDBDC2}
EYES = {"brown": 0x5C331A, "blue": 0x4580C7, "green": 0x4D8C52}
CLOTHES = {"white": 0xEDEBE6, "navy": 0x2B3B66, "red": 0xBD3838, "teal": 0x298585}
BACKGROUND = {"sky": 0x85B3DB, "sage": 0x8FB38F, "sand": 0xE0CA92, "rose": 0xDB929C}
LAMP = {"left": (-0.56, -0.41, 0.72), "front": (0.0, -0.49, 0.87), "right": (0.56, -0.41, 0.72)}


class Cut(NamedTuple):
    """A hair style: an outer shape with an opening through which the face looks out."""

    outer: tuple[float, float, float]  # half-width, top, bottom
    opening: tuple[float, float, float]  # likewise
    parting: float  # how pointed the opening is where the hair parts; 0: straight across
    locks: float  # how far they stick out
    hangs: bool  # behind the neck as well


STYLES = {
    "bald": None,
    "short": Cut((0.80, 1.18, 0.40), (0.70, -0.60, 1.0), 0.2, 0.03, False),
    "fringe": Cut((0.88, 1.18, 0.55), (0.68, -0.33, 1.0), 0.0, 0.05, False),
    "bob": Cut((0.96, 1.20, 0.90), (0.58, -0.70, 1.3), 0.5, 0.03, True),
    "long": Cut((0.94, 1.20, 2.60), (0.60, -0.70, 3.0), 0.5, 0.03, True),
    "wavy": Cut((1.02, 1.22, 1.50), (0.60, -0.66, 2.2), 0.4, 0.05, True),
    "curly": Cut((1.02, 1.30, 0.70), (0.66, -0.52, 1.1), 0.0, 0.10, True),
}
BEARDED = ("bald", "short", "long", "curly")  # with the other styles a beard reads as a mistake

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
RANGES = {  # lowest and highest; values near the middle are the commonest
    "turn": (-0.34, 0.34),  # to the right of the picture: how far the nose moves
    "nod": (-0.10, 0.10),  # downwards, likewise
    "tilt": (-0.14, 0.14),  # a slope
    "x": (0.46, 0.54),  # the middle of the head, as a fraction of the picture
    "y": (0.455, 0.485),
    "zoom": (0.33, 0.365),  # half the head's height, as a fraction of the picture
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
    """One person: a value for each name in CATEGORIES and RANGES, independent but for BEARDED."""
    who = {name: values[int(rng.random() * len(values))] for name, values in CATEGORIES.items()}
    if who["hair_style"] not in BEARDED:
        who["beard"] = "no"
    for name, (low, high) in RANGES.items():
        bell = (rng.random() + rng.random() + rng.random()) / 3
        who[name] = low + (high - low) * bell
    return who


# ---- The painter's tools -------------------------------------------------------------------


def rgb(colour):
    channels = [colour >> 16, colour >> 8 & 255, colour & 255]
    return np.array(channels, np.float32)[:, None, None] / 255


def inside(distance, blur=0.05):
    """The mask of a shape: 1 where the signed distance to its edge is negative, 0 beyond."""
    t = np.clip(0.5 - distance / blur, 0, 1)
    return t * t * (3 - 2 * t)


def oval(x, y, wide, high):
    """The signed distance, roughly, to an ellipse."""
    return (np.sqrt((x / wide) ** 2 + (y / high) ** 2) - 1) * min(wide, high)


def bump(x, y, wide, high):
    """A smooth hill of height 1 that ends at an ellipse: a bell curve without exp."""
    t = np.maximum(0, 1 - (x / wide) ** 2 - (y / high) ** 2)
    return t * t


def ripple(t):
    """A wave between -1 and 1 of period 1: a cosine without cos."""
    t = np.abs(2 * (t - np.floor(t)) - 1)
    return 2 * t * t * (3 - 2 * t) - 1


def tone(colour, light):
    """The colour of a lit surface; the shadows stay warm, as they do in skin."""
    shadow = colour * rgb(0x7A6060)
    return shadow + light * (1.06 * colour - shadow)


class Easel:
    """A canvas (3, h, w) and where on the person its pixels lie: a grid (4, h, w).

    x and y are lengths across and down the picture; u and v the same on the face, which turns and
    nods, so that the nose stays at u = 0.
    """

    def __init__(self, who, canvas, grid):
        self.who, self.canvas, self.grid = who, canvas, grid
        self.x, self.y, self.u, self.v = grid
        self.lamp = LAMP[who["light"]]  # the unit vector towards the light

    def crop(self, wide, top, bottom):
        """A part of the whole easel, to save work; what is painted on it is on the whole as well."""
        who, n = self.who, len(self.x)
        pixel = lambda axis, at: max(0, int(n * (who[axis] + who["zoom"] * at)))
        rows = slice(pixel("y", top), pixel("y", bottom))
        cols = slice(pixel("x", -wide), pixel("x", wide))
        return Easel(who, self.canvas[:, rows, cols], self.grid[:, rows, cols])

    def paint(self, mask, colour):
        """Cover with a colour."""
        self.canvas += mask * (colour - self.canvas)

    def glaze(self, mask, tint):
        """Darken by a tint, as shadows do, and blood under the skin."""
        self.canvas *= 1 - mask * (1 - rgb(tint))

    def light(self, nx, ny, r2):
        """The light on a surface that faces (nx, ny) at r2 of the way (squared) to its rim."""
        lx, ly, lz = self.lamp
        nz2 = np.maximum(0.05, 1 - r2)  # kept off 0, or the rim would turn black
        facing = (nx * lx + ny * ly + np.sqrt(nz2) * lz) / np.sqrt(nx * nx + ny * ny + nz2)
        return np.clip(0.35 + 0.65 * facing, 0, 1)  # wraps around the form, as a large lamp's does


def set_up(who, n):
    """An empty easel of n x n pixels in front of that person."""
    ticks = (np.arange(n, dtype=np.float32) + 0.5) / n
    across, down = (ticks - who["x"]) / who["zoom"], (ticks[:, None] - who["y"]) / who["zoom"]
    x, y = (
        across + who["tilt"] * down,
        down - who["tilt"] * across,
    )  # a rotation, as tilts are small
    depth = np.maximum(0, 1 - (x / who["width"]) ** 2 - y * y)  # what is near us moves furthest
    u, v = x - who["turn"] * depth, y - who["nod"] * depth
    return Easel(who, np.zeros((3, n, n), np.float32), np.stack((x, y, u, v)))


# ---- The parts -----------------------------------------------------------------------------


def background(e):
    glow = bump(e.x - 1.2 * e.lamp[0], e.y + 0.5, 3.0, 3.0)
    e.canvas[:] = rgb(BACKGROUND[e.who["background"]]) * (0.62 + 0.45 * glow)


def bust(e):
    neck = inside(np.abs(e.x) - 0.37 - 0.25 * np.maximum(0, e.y - 0.9) ** 2)
    light = e.light(e.x / 0.42, 0, (e.x / 0.42) ** 2)
    e.paint(neck, tone(rgb(SKIN[e.who["skin"]]), light))
    under_chin = neck * bump(e.x + 0.3 * e.lamp[0], e.y - 0.95, 0.75, 0.5)
    e.glaze(under_chin, 0x735959)
    fall = e.y - 1.22 - 0.17 * e.x**2
    collar = oval(e.x, e.y - 1.12, 0.50, 0.30)
    light = e.light(e.x / 1.7, -0.25 - 0.7 * fall, 0.36) - 0.15 * bump(collar, 0, 0.13, 1)
    e.paint(inside(-fall) * inside(-collar), tone(rgb(CLOTHES[e.who["clothes"]]), light))


def ears(e):
    x, y = np.abs(e.x + 0.12 * e.who["turn"]) - e.who["width"], e.y - 0.08 - 0.3 * e.who["nod"]
    light = 0.85 * e.light(e.x, 0.5 * e.y, 0.5)
    e.paint(inside(oval(x, y, 0.13, 0.21)), tone(rgb(SKIN[e.who["skin"]]), light))
    e.glaze(bump(x - 0.03, y, 0.09, 0.16), 0xB88C80)


def skull(e):
    """Squared distance from the middle of the head, 1 at its outline: an egg, or squarer."""
    low = np.maximum(0, e.y)
    wide = e.who["width"] * (1 - (0.16 - 0.10 * e.who["jaw"]) * low * low)
    square = 0.25 + 0.35 * e.who["jaw"]
    return (e.x / wide) ** 2 + e.y * e.y * (1 - square + square * e.y * e.y)


def head(e):
    who, u, v, lamp = e.who, e.u, e.v, e.lamp[0]
    a = np.abs(u)
    n = u - 0.15 * who["turn"]  # the nose stands out, so it turns further
    wing = np.abs(n) - 0.12 * who["nose"]
    relief = (
        0.16 * bump(n, v - 0.16, 0.17, 0.48)  # bridge of the nose
        + 0.17 * bump(n, v - 0.36, 0.20 * who["nose"], 0.20)  # its tip
        + 0.06 * bump(wing, v - 0.41, 0.10, 0.11)
        + 0.04 * bump(a - 0.32, v + 0.26, 0.32, 0.20)  # brows
        - 0.09 * bump(a - 0.32, v - 0.02, 0.30, 0.24)  # sockets of the eyes
        + (0.15 if who["mouth"] == "smile" else 0.10) * bump(a - 0.40, v - 0.36, 0.34, 0.34)
        + 0.10 * bump(u, v - 0.62, 0.42, 0.26)  # mouth
        + 0.10 * bump(u, v - 0.92, 0.30, 0.22)  # chin
    )
    dy, dx = np.gradient(relief, float(e.x[0, 1] - e.x[0, 0]))
    r2 = skull(e)
    light = e.light(0.95 * e.x / who["width"] - dx, 0.75 * e.y - dy, r2)
    e.paint(inside(0.75 * (np.sqrt(r2) - 1)), tone(rgb(SKIN[who["skin"]]), light))
    e.glaze(bump(a - 0.42, v - 0.36, 0.32, 0.26), 0xFFE4E4)  # blood in the cheeks
    e.glaze(bump(a - 0.30, v + 0.02, 0.28, 0.20), 0xE0CCCC)  # shadow under the brows,
    e.glaze(bump(n + 0.1 * lamp, v - 0.52, 0.24 * who["nose"], 0.09), 0xB89999)  # the nose,
    e.glaze(bump(wing + 0.045, v - 0.455, 0.06, 0.045), 0x735252)  # in the nostrils
    e.glaze(bump(u, v - 0.80, 0.22, 0.07), 0xD1BFBF)  # and under the lip
    shine = 0.10 * bump(u - 0.3 * lamp, v + 0.45, 0.40, 0.25)
    e.paint(shine + 0.18 * bump(n - 0.07 * lamp, v - 0.33, 0.09, 0.10), rgb(0xFFF7EB))


def eyes(e):
    out = np.abs(e.u) - e.who["eye_gap"]  # from the middle of either eye towards the ear
    v = e.v + 0.01 + 0.06 * out
    arc = 0.12 * (1 - (out / 0.20) ** 2)
    white = inside(np.maximum(-arc - v, v - 0.7 * arc), 0.035)
    e.paint(white, rgb(0xF5F2F0) * (0.72 + 0.28 * inside(-v - 0.3 * arc, 0.12)))
    x = out - np.sign(e.u) * 0.1 * e.who["turn"]  # we are looked at, if not quite
    iris = white * inside(oval(x, v + 0.01, 0.115, 0.115), 0.035)
    e.paint(iris, rgb(EYES[e.who["eye_colour"]]) * (0.75 + 0.5 * inside(-v)))
    e.paint(white * inside(oval(x, v + 0.01, 0.058, 0.058), 0.03), rgb(0x0D0A0D))
    spark = bump(x - np.sign(e.u) * 0.06 * e.lamp[0], v + 0.045, 0.045, 0.045)
    e.paint(white * np.minimum(1, 1.6 * spark), rgb(0xFFFFFF))
    lid = inside(np.abs(out) - 0.20, 0.06)
    e.glaze(lid * inside(np.abs(v + arc) - 0.016, 0.035), 0x382624)  # lashes
    e.glaze(lid * inside(np.abs(v + arc + 0.065) - 0.006), 0xBFA6A0)  # the crease above
    e.glaze(lid * inside(np.abs(v - 0.7 * arc) - 0.003, 0.035), 0xCCA8A3)  # the lower lid


def brows(e):
    out = np.abs(e.u) - e.who["eye_gap"]
    line = 0.9 * (out - 0.02) ** 2 + 0.03 * out - 0.265
    thick = 0.03 * e.who["brow"] * np.clip(1.1 - 2.2 * out, 0.4, 1.4)
    mask = inside(np.maximum(np.abs(e.v - line) - thick, np.abs(out) - 0.21), 0.06)
    e.paint(0.85 * mask, 0.6 * rgb(HAIR[e.who["hair_colour"]]))


def glasses(e):
    if e.who["glasses"] == "yes":
        out = np.abs(e.u) - e.who["eye_gap"] - 0.01
        rim = np.abs(oval(out, e.v - 0.01, 0.26, 0.21)) - 0.02
        bar = np.abs(e.v + 0.03) - 0.018  # from rim to rim, and from the rims to the ears
        beside = np.maximum(0.26 - out, np.abs(e.x) - e.who["width"] + 0.02)
        bar = np.maximum(bar, np.minimum(np.abs(e.u) - 0.1, beside))
        e.paint(inside(np.minimum(rim, bar), 0.04), rgb(0x1F1A1A))


def mouth(e):
    wide, curve, rise, drop, teeth = {
        "neutral": (0.27, 0.035, 0.006, 0.006, -1),
        "smile": (0.35, 0.10, 0.02, 0.075, 0.085),
        "open": (0.23, 0.03, 0.05, 0.16, 0.06),
    }[e.who["mouth"]]
    u, full = e.u - 0.08 * e.who["turn"], 0.075 * e.who["lips"]
    arc = np.maximum(0, 1 - (u / wide) ** 2)
    v = e.v - 0.63 - curve * (arc - 0.6)
    ends = inside(np.abs(u) - wide)
    upper = rise * arc + 0.8 * full * arc * (1 - 0.3 * bump(u, 0, 0.09, 1))
    lips = ends * inside(np.maximum(-upper - v, v - (drop + 1.2 * full) * arc), 0.04)
    e.glaze(lips, 0xDB8F8F)
    e.glaze(lips * inside(v, 0.06), 0xD9C7C7)  # the upper lip faces down
    shine = 0.22 * bump(u - 0.06 * e.lamp[0], v - drop - 0.6 * full, 0.14, 0.04)
    e.paint(shine, rgb(0xFFF2EB))
    gap = ends * inside(np.maximum(-rise * arc - v, v - drop * arc), 0.03)
    e.paint(0.95 * gap, rgb(0x3D1214))
    e.paint(gap * inside(v + rise * arc - teeth, 0.03), rgb(0xF2EDE6) * (0.7 + 0.3 * arc))
    e.paint(gap * bump(u, v - 0.14, 0.17, 0.08), rgb(0xBF5457))  # the tongue
    e.glaze(bump(np.abs(u) - wide, v, 0.06, 0.06), 0xBFA6A1)  # the corners


def beard(e):
    if e.who["beard"] == "yes":
        r2 = skull(e)
        cheeks = inside(0.48 - e.v - 0.35 * np.abs(e.u), 0.16)
        tall = 0.17 if e.who["mouth"] == "open" else 0.11
        lips = inside(oval(e.u, e.v - 0.53 - tall, 0.28, tall), 0.1)
        mask = 0.92 * cheeks * inside(0.75 * (np.sqrt(r2) - 1.03)) * (1 - 0.9 * lips)
        light = 0.8 * e.light(e.x / 0.75, 0.6 * e.y, r2)
        # No lighter than the skin, or it looks glued on.
        colour = np.minimum(rgb(HAIR[e.who["hair_colour"]]), rgb(SKIN[e.who["skin"]]))
        e.paint(mask, tone(0.8 * colour, light))


def comb(e, cut):
    """Mask, colour and locks (a wave between -1 and 1) of the hair, the face not yet cut out."""
    x, y, (wide, top, bottom) = e.x, e.y, cut.outer
    if e.who["hair_style"] == "wavy":
        x = x + 0.05 * ripple(1.1 * y + 0.2)
    above, below = (np.minimum(y, 0) / top) ** 2, (np.maximum(y, 0) / bottom) ** 2
    r2 = (x / wide) ** 2 + above + below * (below if cut.hangs else 1)  # hanging hair ends straight
    if e.who["hair_style"] == "curly":
        locks = ripple(1.5 * x + 0.3 * ripple(y)) * ripple(1.5 * y + 0.3 * ripple(x))
    else:  # meridians from the crown
        t = (x - 0.4 * e.who["part"]) / np.sqrt(np.maximum(0.3, 1.02 - above))
        locks = 0.6 * ripple(1.4 * t + e.who["part"]) + 0.4 * ripple(3.1 * t)
    mask = inside((np.sqrt(r2) - 1) * wide - 0.4 * cut.locks * locks, 0.07)
    light = e.light(x / wide, 0.8 * y / top, r2) + (0.05 + 1.2 * cut.locks) * locks
    gloss = bump(r2 - 0.5, x - 0.6 * e.lamp[0], 0.35, 0.7) * (0.7 + 0.3 * locks)
    colour = rgb(HAIR[e.who["hair_colour"]])
    return mask, tone(colour, light) + 0.16 * gloss * (0.25 + colour), locks


def hair(e, cut, mask, colour, locks):
    wide, top, bottom = cut.opening
    high = (bottom - top) / 2
    side = np.abs(e.u - 0.3 * e.who["part"] * (cut.parting > 0)) + cut.parting
    r2, q2 = (side / (wide + cut.parting)) ** 2, ((e.v - top - high) / high) ** 2
    opening = 0.7 * (np.sqrt(np.sqrt(r2 * r2 + q2 * q2)) - 1) + 0.7 * cut.locks * locks
    e.glaze(mask * inside(-opening - 0.06, 0.22), 0xB89994)  # the shadow on the forehead
    e.paint(mask * inside(-opening, 0.08), colour)


# ---- The picture, and the set of them ------------------------------------------------------


def check_size(size):
    if size not in range(16, 257):  # below there are no eyes, above only blur is added
        raise ValueError(f"A face of {size} pixels cannot be drawn; choose a size from 16 to 256.")


def person(seed, index):
    # PCG64 by name, as NumPy may change its default generator but never this one's stream.
    return sample_attributes(np.random.Generator(np.random.PCG64([seed, index])))


def render(who: Person, size: int = 64) -> np.ndarray:
    """The portrait of that person: uint8 (size, size, 3), RGB.

    `who` is what `sample_attributes` gives, changed at will.  ValueError: unknown value or size.
    """
    check_size(size)
    for name, values in CATEGORIES.items():
        if who[name] not in values:
            raise ValueError(f"No {name} is {who[name]!r}; choose one of {sorted(set(values))}.")
    fine = 127 // size + 1  # per pixel: lashes are too thin for a grid of less than 128 x 128
    e = set_up(who, fine * size)
    cut = STYLES[who["hair_style"]]
    mane = comb(e, cut) if cut else None
    background(e)
    if cut and cut.hangs:
        e.paint(mane[0], 0.6 * mane[1])
    bust(e.crop(9, 0.6, 9))  # from the mouth down to wherever the picture ends
    ears(e.crop(1.1, -0.4, 0.6))
    head(e.crop(1.0, -1.2, 1.2))
    for part in (eyes, brows, glasses):
        part(e.crop(0.95, -0.7, 0.5))
    for part in (mouth, beard):
        part(e.crop(1.0, -0.2, 1.3))
    if cut:
        hair(e, cut, *mane)
    pixels = sum(e.canvas[:, i::fine, j::fine] for i in range(fine) for j in range(fine)) / fine**2
    levels = (255 * np.clip(pixels, 0, 1) + 0.5).astype(np.uint8)
    return np.ascontiguousarray(levels.transpose(1, 2, 0))


def draw(seed: int, index: int, size: int = 64) -> tuple[np.ndarray, Person]:
    """Face `index` of the endless set `seed`: uint8 (size, size, 3) RGB, and its attributes.

    ValueError: a negative seed or index, or a size outside 16 to 256.
    """
    if seed < 0 or index < 0:
        raise ValueError(f"Seed {seed} and index {index} must not be negative; count from 0.")
    who = person(seed, index)
    return render(who, size), who


@dataclass(frozen=True)
class Faces:
    """The first `count` faces of a seed, as a source of the data cache."""

    count: int
    seed: int = 0
    image_size: int = 64

    def __post_init__(self):
        check_size(self.image_size)
        if self.count < 1 or self.seed < 0:
            given = f"count {self.count} and seed {self.seed}"
            raise ValueError(f"No set has {given}; give a count from 1 and a seed from 0.")

    def __len__(self) -> int:
        return self.count

    def identity(self) -> dict[str, str | int]:
        """All that determines the bytes, for JSON."""
        return {"kind": "faces", "version": VERSION, **asdict(self)}

    def check(self) -> None:
        """Nothing: a drawn set has no files that could change."""

    def name(self, index: int) -> str:
        return f"face-{self._checked(index):06d}"

    def load(self, index: int) -> np.ndarray:
        """uint8 (image_size, image_size, 3), RGB.  IndexError, here and beside: no such face."""
        return draw(self.seed, self._checked(index), self.image_size)[0]

    def attributes(self, index: int) -> Person:
        """What `load` shows, without drawing it."""
        return person(self.seed, self._checked(index))

    def _checked(self, index):
        if not 0 <= index < self.count:
            raise IndexError(f"There is no face {index}; ask for one from 0 to {self.count - 1}.")
        return index
