"""Minimal filtering F(2,3): the stride-1 kernel-3 convolution with 16 products instead of 36.

In one direction, two neighbouring outputs of a kernel w0, w1, w2 read four pixels d0 ... d3. They need
four products, not six (Winograd 1980; Lavin & Gray 2016, "Fast algorithms for convolutional neural
networks", section 4.1):

    y0 = d0 w0 + d1 w1 + d2 w2 = m0 + m1 + m2    m0 = (d0 - d2) w0    m1 = (d1 + d2) (w0 + w1 + w2) / 2
    y1 = d1 w0 + d2 w1 + d3 w2 = m1 - m2 - m3    m3 = (d1 - d3) w2    m2 = (d2 - d1) (w0 - w1 + w2) / 2

That is y = A'[(G w) . (B d)], as in `filtering.py`, which explains the form, its gradients and its
rounding errors. In two directions, a tile of 2 x 2 outputs needs 16 products instead of 36. The
gradient of the weight is G'[(B d) . (A y)]. The gradient of the image is a convolution again, with the
kernel turned round, and its G w is a permutation of the kernel's own.

The transforms pass over the image about 20 times, however many channels the result has. The work of
the products grows with that number. So filtering pays from some 64 channels (see convolution.py).

Letters: a strip is some rows of tiles of some images, with T tiles; C and O are the channels of the
image and the grid.
"""

from __future__ import annotations

import itertools

import numpy as np

from .reference import Window
from .threads import empty, scratch, share

TILES = 256  # in a strip, at most: with far fewer, the threads wait for each other at short calls
WHOLE = 1 << 23  # numbers at most in the transforms of a part of the batch, for a weight's gradient
PARTS = 4  # a weight's channels are transformed in this many parts
# Which rows of B d are multiplied by which rows of G w. Turning the kernel round swaps w0 and w2: the
# rows 0 and 3 of G w change places, and 1 and 2 stay.
PLAIN = [(slice(None), slice(None))]
TURNED = [(slice(None, None, 3), slice(None, None, -3)), (slice(1, 3), slice(1, 3))]


def applies(window: Window) -> bool:
    """Kernel 3, stride 1, padding below 3 and an even grid."""
    even = all(g % 2 == 0 for g in window.grid)
    return (window.kernel, window.stride) == ((3, 3), (1, 1)) and max(window.pad) < 3 and even


def conv(x: np.ndarray, w: np.ndarray, window: Window, memo: dict | None = None) -> np.ndarray:
    """(N, C, H, W), (O, C, 3, 3) -> (N, O, OH, OW): y = A'[(G w) . (B d)]."""
    return _convolve(x, _taps(w, memo), window, PLAIN)


def conv_image(
    w: np.ndarray, y: np.ndarray, window: Window, memo: dict | None = None
) -> np.ndarray:
    """(O, C, 3, 3), (N, O, OH, OW) -> (N, C, H, W): the convolution of y with the kernel turned."""
    taps = _taps(w, memo).swapaxes(2, 3)  # (4, 4, C, O) -> (4, 4, O, C)
    return _convolve(y, taps, window.turned(), TURNED)


def conv_weight(x: np.ndarray, y: np.ndarray, window: Window) -> np.ndarray:
    """(N, C, H, W), (N, O, OH, OW) -> (O, C, 3, 3): w = G'[(B d) . (A y)].

    Part after part of the batch is transformed and multiplied, and the products are added up.
    """
    c, o = x.shape[1], y.shape[1]
    strips = _strips(len(x), window)
    step = max(1, WHOLE // (16 * (c + o) * strips[0].tiles))
    sums = scratch("sums", (4, 4, c, o), x.dtype)
    for start in range(0, len(strips), step):
        _add_products(x, y, window, strips[start : start + step], start == 0, sums)
    w = empty((3, 3, c, o), x.dtype)
    cuts = _cuts(c)

    def work(i: int) -> None:
        part = sums[:, :, cuts[i]]
        rows = scratch("weight rows", (3, *part.shape[1:]), x.dtype)
        _combine_taps(part, rows)
        _combine_taps(rows.swapaxes(0, 1), w[:, :, cuts[i]].swapaxes(0, 1))

    share(work, len(cuts))
    return w.transpose(3, 2, 0, 1)  # (3, 3, C, O) -> (O, C, 3, 3)


def _convolve(
    x: np.ndarray, taps: np.ndarray, window: Window, order: list[tuple[slice, slice]]
) -> np.ndarray:
    """A'[taps . (B d)] for taps (4, 4, C, O) in this order. The threads share the strips."""
    strips = _strips(len(x), window)
    c, o = taps.shape[2:]
    y = empty((len(x), *window.grid, o), x.dtype)

    def work(i: int) -> None:
        d = scratch("image products", (4, 4, strips[i].tiles, c), x.dtype)
        m = scratch("grid products", (4, 4, strips[i].tiles, o), x.dtype)
        strips[i].load_image(x, window, d)
        for (row, row_of_taps), (column, column_of_taps) in itertools.product(order, order):
            np.matmul(d[row, column], taps[row_of_taps, column_of_taps], out=m[row, column])
        strips[i].store_grid(m, y)

    share(work, len(strips))
    return y.transpose(0, 3, 1, 2)  # (N, OH, OW, O) -> (N, O, OH, OW)


def _add_products(
    x: np.ndarray,
    y: np.ndarray,
    window: Window,
    strips: list[_Strip],
    first: bool,
    sums: np.ndarray,
) -> None:
    """Add (B d) . (A y) of these strips to `sums` (4, 4, C, O), or store it if they are the first."""
    c, o = sums.shape[2:]
    ends = np.cumsum([strip.tiles for strip in strips])
    rows = [slice(end - strip.tiles, end) for end, strip in zip(ends, strips, strict=True)]
    d = scratch("whole image", (4, 4, ends[-1], c), x.dtype)
    g = scratch("whole grid", (4, 4, ends[-1], o), x.dtype)

    def load(i: int) -> None:
        strips[i].load_image(x, window, d[:, :, rows[i]])
        strips[i].load_grid(y, g[:, :, rows[i]])

    def multiply(i: int) -> None:
        place = divmod(i, 4)
        if first:
            np.matmul(d[place].T, g[place], out=sums[place])
        else:
            one = scratch("weight products", (c, o), x.dtype)
            sums[place] += np.matmul(d[place].T, g[place], out=one)

    share(load, len(strips))
    share(multiply, 16)


# -- the transforms ------------------------------------------------------------------------------
#
# NumPy computes fastest on long runs of memory, but copies short runs well. So whole rows of pixels are
# added, and before columns are added, the even and the odd ones are copied side by side.


def _strips(n: int, window: Window) -> list[_Strip]:
    """The tiles of n >= 1 images in strips of at most TILES (or of one row of tiles)."""
    th, tw = (g // 2 for g in window.grid)
    images = max(1, TILES // (th * tw))
    height = th if images > 1 else min(th, max(1, TILES // tw))
    if n * th * tw <= TILES:  # one strip would do, but there are two threads
        images = -(-n // 2)
        height = th if n > 1 else -(-th // 2)
    return [
        _Strip(slice(i, min(i + images, n)), slice(j, min(j + height, th)), tw)
        for i in range(0, n, images)
        for j in range(0, th, height)
    ]


class _Strip:
    """Some rows of tiles of some images, all tw tiles wide, and the transforms of their pixels."""

    def __init__(self, images: slice, rows: slice, tw: int) -> None:
        self.images, self.rows = images, rows
        self.shape = (images.stop - images.start, rows.stop - rows.start, tw)
        self.tiles = self.shape[0] * self.shape[1] * tw

    def load_image(self, x: np.ndarray, window: Window, out: np.ndarray) -> None:
        """B d of the strip's pixels: out (4, 4, T, C)."""
        (n, th, tw), c = self.shape, x.shape[1]
        padded = self._padded(x, window)  # (n, 2 th + 2, 2 tw + 2, C)
        rows = scratch("rows", (4, n, th, tw + 1, 2, c), x.dtype)
        q = [padded[:, i : i + 2 * th - 1 : 2].reshape(rows.shape[1:]) for i in range(4)]
        _differences(*q, rows)
        columns = scratch("columns", (2, 4, n, th, tw + 1, c), x.dtype)
        columns[...] = np.moveaxis(rows, 4, 0)
        even, odd = columns
        out = out.reshape(4, 4, n, th, tw, c).swapaxes(0, 1)
        _differences(even[..., :-1, :], odd[..., :-1, :], even[..., 1:, :], odd[..., 1:, :], out)

    def _padded(self, x: np.ndarray, window: Window) -> np.ndarray:
        """The pixels that the strip's tiles read, with zeros outside the image."""
        (n, th, tw), (h, w), (ph, pw) = self.shape, window.image, window.pad
        top = 2 * self.rows.start - ph
        first, last = max(0, top), min(h, top + 2 * th + 2)
        padded = scratch("padded", (n, 2 * th + 2, 2 * tw + 2, x.shape[1]), x.dtype)
        padded[:, : first - top] = 0
        padded[:, last - top :] = 0
        padded[:, :, :pw] = 0
        padded[:, :, pw + w :] = 0
        pixels = x[self.images, :, first:last].transpose(0, 2, 3, 1)  # (n, rows, W, C)
        padded[:, first - top : last - top, pw : pw + w] = pixels
        return padded

    def load_grid(self, y: np.ndarray, out: np.ndarray) -> None:
        """A y of the strip's outputs: out (4, 4, T, O)."""
        (n, th, tw), o = self.shape, y.shape[1]
        rows = scratch("grid rows", (4, n, th, tw, 2, o), y.dtype)
        pixels = y[self.images].transpose(0, 2, 3, 1)  # (n, OH, OW, O)
        pair = pixels[:, 2 * self.rows.start : 2 * self.rows.stop].reshape(n, th, 2, tw, 2, o)
        _spread(pair[:, :, 0], pair[:, :, 1], rows)
        columns = scratch("grid columns", (2, 4, n, th, tw, o), y.dtype)
        columns[...] = np.moveaxis(rows, 4, 0)
        _spread(*columns, out.reshape(4, 4, n, th, tw, o).swapaxes(0, 1))

    def store_grid(self, m: np.ndarray, y: np.ndarray) -> None:
        """A' of the products (4, 4, T, O), into the strip's outputs in y (N, OH, OW, O)."""
        (n, th, tw), o = self.shape, y.shape[3]
        rows = scratch("grid rows", (2, *m.shape[1:]), y.dtype)
        _gather(m, rows)
        pair = scratch("grid pair", (2, 2, *m.shape[2:]), y.dtype)
        _gather(rows.swapaxes(0, 1), pair)  # (column, row, T, O)
        tiles = pair.reshape(2, 2, n, th, tw, o).transpose(2, 3, 1, 4, 0, 5)  # (n, th, 2, tw, 2, O)
        pixels = y[self.images, 2 * self.rows.start : 2 * self.rows.stop]  # (n, 2 th, 2 tw, O)
        pixels.reshape(tiles.shape)[...] = tiles


def _differences(
    d0: np.ndarray, d1: np.ndarray, d2: np.ndarray, d3: np.ndarray, out: np.ndarray
) -> None:
    """B along one direction: four arrays to out (4, ...)."""
    np.subtract(d0, d2, out=out[0])
    np.add(d1, d2, out=out[1])
    np.subtract(d2, d1, out=out[2])
    np.subtract(d1, d3, out=out[3])


def _spread(y0: np.ndarray, y1: np.ndarray, out: np.ndarray) -> None:
    """A along one direction: two arrays to out (4, ...)."""
    out[0] = y0
    np.add(y0, y1, out=out[1])
    np.subtract(y0, y1, out=out[2])
    np.negative(y1, out=out[3])


def _gather(m: np.ndarray, out: np.ndarray) -> None:
    """A' along one direction: (4, ...) to out (2, ...)."""
    np.add(m[1], m[2], out=out[0])
    out[0] += m[0]
    np.subtract(m[1], m[2], out=out[1])
    out[1] -= m[3]


def _combine_taps(m: np.ndarray, out: np.ndarray) -> None:
    """G' along one direction: (4, ...) to out (3, ...)."""
    np.subtract(m[1], m[2], out=out[1])
    out[1] *= 0.5
    half = np.add(m[1], m[2], out=out[2])
    half *= 0.5
    np.add(m[0], half, out=out[0])
    out[2] += m[3]


def _expand_taps(w: np.ndarray, out: np.ndarray) -> None:
    """G along one direction: (3, ...) to out (4, ...)."""
    out[0], out[3] = w[0], w[2]
    half = np.add(w[0], w[2], out=out[1])
    half *= 0.5
    middle = w[1] * w.dtype.type(0.5)
    np.subtract(half, middle, out=out[2])
    half += middle


def _cuts(c: int) -> list[slice]:
    """The channels in PARTS slices."""
    step = -(-c // PARTS)
    return [slice(i, min(i + step, c)) for i in range(0, c, step)]


def _taps(w: np.ndarray, memo: dict | None = None) -> np.ndarray:
    """G w: (O, C, 3, 3) -> (4, 4, C, O). Kept in `memo`, if given, because the gradients need it."""
    if memo and "taps" in memo:
        return memo["taps"]
    o, c = w.shape[:2]
    taps = empty((4, 4, c, o), w.dtype)
    kernel = w.transpose(2, 3, 1, 0)  # (3, 3, C, O)
    cuts = _cuts(c)

    def work(i: int) -> None:
        part = kernel[:, :, cuts[i]]
        rows = scratch("kernel rows", (4, *part.shape[1:]), w.dtype)
        _expand_taps(part, rows)
        _expand_taps(rows.swapaxes(0, 1), taps[:, :, cuts[i]].swapaxes(0, 1))

    share(work, len(cuts))
    if memo is not None:
        memo["taps"] = taps
    return taps
