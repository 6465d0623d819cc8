"""Minimal filtering F(2,3): the stride-1 kernel-3 convolution with 16 products instead of 36.

In one direction, two neighbouring outputs of a kernel w0, w1, w2 read four pixels d0 ... d3. They need
four products, not six (Winograd 1980; Lavin & Gray 2016, "Fast algorithms for convolutional neural
networks", section 4.1):

    y0 = d0 w0 + d1 w1 + d2 w2 = m1 + m2 + m0    m0 = (d0 - d2) w0     m1 = (d1 + d2) (w0 + w1 + w2) / 2
    y1 = d1 w0 + d2 w1 + d3 w2 = m1 - m2 + m3    m3 = (d1 - d3) (-w2)  m2 = (d2 - d1) (w0 - w1 + w2) / 2

That is y = A'[(G w) . (B d)], as in `filtering.py`, which explains the form, its gradients and its
rounding errors. In two directions, a tile of 2 x 2 outputs needs 16 products instead of 36. The
gradient of the weight is G'[(B d) . (A y)]. The gradient of the image is a convolution again, with the
kernel turned round: w0 and w2 change places. The taps of G w serve it too: d0 - d2 is multiplied by
-w2, and d1 - d3 by w0. Then m0 and m3 have the wrong sign, and are subtracted instead of added.

The transforms write 7 numbers for each number of the image, and 7 for each of the result. The products
do more work per number, the more channels there are. So filtering pays from some 64 channels (see
convolution.py).

Letters: a strip is some rows of tiles of some images, with T tiles; C and O are the channels of the
image and the grid.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import numpy as np

from .reference import Window
from .threads import empty, get_num_threads, scratch, share

Shape = tuple[int, int, int]  # of a strip: images, rows of tiles, columns of tiles

TILES = 256  # in a strip: with far fewer, the threads wait for each other at short calls
MANY = 1 << 12  # pixels from which a transposed G w is copied: BLAS is slower if it is not
LANES = 4  # running sums of a weight gradient, for any number of threads
ENOUGH = 1 << 24  # multiplications at least for two threads: with fewer, waking one does not pay
PART = 1 << 18  # numbers in a part of G w: a smaller weight is transformed by one thread
# Where m0 and m3 lie among the four products of a direction. In a turned kernel they change places.
PLAIN = slice(None, None, 3)  # 0 and 3
TURNED = slice(None, None, -3)  # 3 and 0


def applies(window: Window) -> bool:
    """Kernel 3, stride 1, padding below 3 and an even grid."""
    even = all(g % 2 == 0 for g in window.grid)
    return (window.kernel, window.stride) == ((3, 3), (1, 1)) and max(window.pad) < 3 and even


def conv(x: np.ndarray, w: np.ndarray, window: Window, memo: dict | None = None) -> np.ndarray:
    """(N, C, H, W), (O, C, 3, 3) -> (N, O, OH, OW): y = A'[(G w) . (B d)]."""
    return _convolve(x, _taps(w, x, memo), window, PLAIN)


def conv_image(
    w: np.ndarray, y: np.ndarray, window: Window, memo: dict | None = None
) -> np.ndarray:
    """(O, C, 3, 3), (N, O, OH, OW) -> (N, C, H, W): the convolution of y with the kernel turned."""
    taps = _taps(w, y, memo).swapaxes(2, 3)  # (4, 4, C, O) -> (4, 4, O, C)
    if y[:, 0].size >= MANY:
        taps = np.ascontiguousarray(taps)
    return _convolve(y, taps, window.turned(), TURNED)


def conv_weight(x: np.ndarray, y: np.ndarray, window: Window) -> np.ndarray:
    """(N, C, H, W), (N, O, OH, OW) -> (O, C, 3, 3): w = G'[(B d) . (A y)].

    The products of the strips are added up in LANES sums, whatever the number of threads.
    """
    c, o = x.shape[1], y.shape[1]
    strips = _strips(len(x), (c, o), window)
    lanes = min(LANES, len(strips))
    sums = scratch("lanes", (lanes, 4, 4, c, o), x.dtype)

    def add_up(lane: int, shape: Shape, some: Iterable[_Strip]) -> None:
        image, grid = _Image(shape, x, window, PLAIN), _Grid(shape, y, PLAIN)
        one = scratch("weight products", (4, 4, c, o), x.dtype)
        for strip in some:
            d, g = image.load(strip).swapaxes(2, 3), grid.load(strip)
            if strip is strips[lane]:
                np.matmul(d, g, out=sums[lane])
            else:
                sums[lane] += np.matmul(d, g, out=one)

    _share(add_up, strips, lanes)
    w = empty((3, 3, c, o), x.dtype)
    cuts = _cuts(c, o)

    def combine(i: int) -> None:
        m, *others = sums[:, :, :, cuts[i]]
        for other in others:
            m += other
        rows = scratch("weight rows", (3, *m.shape[1:]), x.dtype)
        _combine_taps(m, rows)
        _combine_taps(rows.swapaxes(0, 1), w[:, :, cuts[i]].swapaxes(0, 1))

    share(combine, len(cuts))
    return w.transpose(3, 2, 0, 1)  # (3, 3, C, O) -> (O, C, 3, 3)


def _convolve(x: np.ndarray, taps: np.ndarray, window: Window, ends: slice) -> np.ndarray:
    """A'[taps . (B d)] for taps (4, 4, C, O)."""
    strips = _strips(len(x), taps.shape[2:], window)
    y = empty((len(x), *window.grid, taps.shape[3]), x.dtype)
    y = y.transpose(0, 3, 1, 2)  # (N, OH, OW, O) -> (N, O, OH, OW)

    def convolve(_: int, shape: Shape, some: Iterable[_Strip]) -> None:
        image, grid = _Image(shape, x, window, ends), _Grid(shape, y, ends)
        for strip in some:
            np.matmul(image.load(strip), taps, out=grid.m)
            grid.store(strip)

    parts = 2 * get_num_threads()  # the bytes of a strip do not depend on its part
    _share(convolve, strips, min(parts, len(strips)))
    return y


# -- the strips ------------------------------------------------------------------------------------


class _Strip(NamedTuple):
    """Some rows of tiles of some images, all tw tiles wide."""

    images: slice
    rows: slice
    shape: Shape


def _strips(n: int, channels: tuple[int, int], window: Window) -> list[_Strip]:
    """The tiles of n >= 1 images in strips of at most TILES, or of as many as there are channels.

    With many channels, adding up a weight's products takes longer than a larger strip loses.
    """
    th, tw = (g // 2 for g in window.grid)
    tiles = max(TILES, min(channels))
    images = max(1, tiles // (th * tw))
    height = th if images > 1 else max(1, tiles // tw)
    batches, bands = -(-n // images), -(-th // height)
    if batches == bands == 1 and 16 * n * th * tw * math.prod(channels) >= ENOUGH:
        # One strip would do, but there are two threads.
        batches, bands = (2, 1) if n > 1 else (1, 2)
    return [
        _Strip(slice(i, i_end), slice(j, j_end), (i_end - i, j_end - j, tw))
        for i, i_end in _parts(n, batches)
        for j, j_end in _parts(th, bands)
    ]


def _parts(count: int, parts: int) -> list[tuple[int, int]]:
    """Where the parts of `count` things begin and end; all but the last have the same size."""
    step = max(1, -(-count // parts))
    return [(i, min(i + step, count)) for i in range(0, count, step)]


def _share(
    work: Callable[[int, Shape, Iterable[_Strip]], None], strips: list[_Strip], parts: int
) -> None:
    """Share the strips in this many parts. Each call of `work` is given strips of the same shape.

    So a thread prepares its scratch memory for many strips at once. Python's lock is held while it
    does, and two threads that meet at the lock lose more time than the preparation takes.
    """

    def part(i: int) -> None:
        for shape, some in itertools.groupby(strips[i::parts], lambda strip: strip.shape):
            work(i, shape, some)

    share(part, parts)


# -- the transforms ------------------------------------------------------------------------------
#
# NumPy computes fastest on long runs of memory, but copies short runs well. So the first copy of the
# pixels takes the even and the odd columns apart, and the last one mixes them again. All sums are of
# whole rows.


class _Image:
    """The image's side of strips of this shape: the transform B d of their pixels."""

    def __init__(self, shape: Shape, x: np.ndarray, window: Window, ends: slice) -> None:
        (n, th, tw), c = shape, x.shape[1]
        self.pixels, self.window = x.transpose(0, 2, 3, 1), window  # (N, H, W, C)
        self.halves = scratch("halves", (2, n, 2 * th + 2, tw + 1, c), x.dtype)
        rows = scratch("rows", (4, 2, n, th, tw + 1, c), x.dtype)
        self.d = scratch("image products", (4, 4, n * th * tw, c), x.dtype)
        pairs = np.moveaxis(self.halves.reshape(2, n, th + 1, 2, tw + 1, c), 3, 0)
        self.sums = _differences(pairs[:, :, :, :-1], pairs[:, :, :, 1:], rows, ends)
        pairs = rows.swapaxes(0, 1)  # (column, 4, n, th, tw + 1, C)
        d = self.d.reshape(4, 4, n, th, tw, c).swapaxes(0, 1)  # columns first
        self.sums += _differences(pairs[..., :-1, :], pairs[..., 1:, :], d, ends)
        (_, w), (_, pw) = window.image, window.pad
        self.inside = []  # of each half: the columns within the image, and those of the image
        for i, half in enumerate(self.halves):
            start = (pw - i + 1) // 2  # columns of padding in this half, to the left
            first = 2 * start + i - pw
            stop = start + len(range(first, w, 2))
            half[:, :, :start] = half[:, :, stop:] = 0
            self.inside.append((half[:, :, start:stop], slice(first, None, 2)))

    def load(self, strip: _Strip) -> np.ndarray:
        """B d (4, 4, T, C)."""
        h, ph = self.window.image[0], self.window.pad[0]
        top, bottom = 2 * strip.rows.start - ph, 2 * strip.rows.stop - ph + 2
        first, last = max(0, top), min(h, bottom)
        if top < first:
            self.halves[:, :, : first - top] = 0
        if last < bottom:
            self.halves[:, :, last - bottom :] = 0
        pixels = self.pixels[strip.images, first:last]
        for half, columns in self.inside:
            half[:, first - top : last - top] = pixels[:, :, columns]
        for add in self.sums:
            add()
        return self.d


class _Grid:
    """The grid's side of strips of this shape: A y of their outputs, or A' of products `m`."""

    def __init__(self, shape: Shape, y: np.ndarray, ends: slice) -> None:
        (n, th, tw), o = shape, y.shape[1]
        self.pixels, self.ends = y.transpose(0, 2, 3, 1), ends  # (N, OH, OW, O)
        self.m = scratch("grid products", (4, 4, n * th * tw, o), y.dtype)
        tiles = scratch("grid tiles", (2, 2, n, th, tw, o), y.dtype)  # (row, column, ...)
        self.pair = tiles.reshape(2, 2, -1, o)  # (row, column, T, O)
        self.order = tiles.transpose(2, 3, 0, 4, 1, 5)  # (n, th, 2, tw, 2, O), as in an image

    def load(self, strip: _Strip) -> np.ndarray:
        """A y (4, 4, T, O)."""
        self.order[...] = self._outputs(strip)
        rows = scratch("grid rows", (4, *self.pair.shape[1:]), self.m.dtype)
        _spread(self.pair, rows)
        _spread(rows.swapaxes(0, 1), self.m.swapaxes(0, 1))
        return self.m

    def store(self, strip: _Strip) -> None:
        """A' of the products in `m`, into the strip's outputs."""
        rows = scratch("grid rows", (2, *self.m.shape[1:]), self.m.dtype)
        _gather(self.m, rows, self.ends)
        _gather(rows.swapaxes(0, 1), self.pair.swapaxes(0, 1), self.ends)
        self._outputs(strip)[...] = self.order

    def _outputs(self, strip: _Strip) -> np.ndarray:
        """The strip's outputs: (n, th, 2, tw, 2, O), a view."""
        rows = slice(2 * strip.rows.start, 2 * strip.rows.stop)
        return self.pixels[strip.images, rows].reshape(self.order.shape)


def _differences(
    d01: np.ndarray, d23: np.ndarray, out: np.ndarray, ends: slice
) -> list[Callable[[], np.ndarray]]:
    """B along one direction, (2, ...) and (2, ...) to out (4, ...): the calls that compute it."""
    return [
        partial(np.subtract, d01, d23, out[ends]),
        partial(np.add, d01[1], d23[0], out[1]),
        partial(np.subtract, d23[0], d01[1], out[2]),
    ]


def _spread(y: np.ndarray, out: np.ndarray) -> None:
    """A along one direction: (2, ...) to out (4, ...)."""
    out[PLAIN] = y
    np.add(y[0], y[1], out=out[1])
    np.subtract(y[0], y[1], out=out[2])


def _gather(m: np.ndarray, out: np.ndarray, ends: slice) -> None:
    """A' along one direction: (4, ...) to out (2, ...)."""
    np.add(m[1], m[2], out=out[0])
    np.subtract(m[1], m[2], out=out[1])
    (np.add if ends is PLAIN else np.subtract)(out, m[ends], out=out)


def _combine_taps(m: np.ndarray, out: np.ndarray) -> None:
    """G' along one direction: (4, ...) to out (3, ...)."""
    np.subtract(m[1], m[2], out=out[1])
    out[1] *= 0.5
    half = np.add(m[1], m[2], out=out[2])
    half *= 0.5
    np.add(m[0], half, out=out[0])
    out[2] -= m[3]


def _expand_taps(w: np.ndarray, out: np.ndarray) -> None:
    """G along one direction: (3, ...) to out (4, ...)."""
    out[0] = w[0]
    np.negative(w[2], out=out[3])
    half = np.add(w[0], w[2], out=out[1])
    half *= 0.5
    middle = w[1] * w.dtype.type(0.5)
    np.subtract(half, middle, out=out[2])
    half += middle


def _cuts(c: int, o: int) -> list[slice]:
    """The C channels of G w (4, 4, C, O) in slices of about PART numbers."""
    return [slice(*ends) for ends in _parts(c, -(-16 * c * o // PART))]


def _taps(w: np.ndarray, image: np.ndarray, memo: dict | None = None) -> np.ndarray:
    """G w: (O, C, 3, 3) -> (4, 4, C, O).

    It is kept in `memo`, if given, because the gradients need it, unless it is larger than the image.
    """
    if memo and "taps" in memo:
        return memo["taps"]
    o, c = w.shape[:2]
    taps = empty((4, 4, c, o), w.dtype)
    kernel = w.transpose(2, 3, 1, 0)  # (3, 3, C, O)
    cuts = _cuts(c, o)

    def work(i: int) -> None:
        part = kernel[:, :, cuts[i]]
        rows = scratch("kernel rows", (4, *part.shape[1:]), w.dtype)
        _expand_taps(part, rows)
        _expand_taps(rows.swapaxes(0, 1), taps[:, :, cuts[i]].swapaxes(0, 1))

    share(work, len(cuts))
    if memo is not None and taps.size <= image.size:
        memo["taps"] = taps
    return taps
