"""Minimal filtering F(2,2): the stride-2 kernel-4 convolution with 9 products instead of 16.

Read the padded image as blocks of 2 x 2 pixels (4C numbers each). Then a convolution with kernel 4,
stride 2 and padding 1 is one with kernel 2 and stride 1 over blocks. In one direction, two neighbouring
outputs of a kernel with taps w0, w1 read three blocks d0, d1, d2. They need three products, not four
(Winograd 1980; Lavin & Gray 2016, "Fast algorithms for convolutional neural networks"):

    y0 = d0 w0 + d1 w1 = m0 + m1        m0 = (d0 - d1) w0
    y1 = d1 w0 + d2 w1 = m1 + m2        m1 = d1 (w0 + w1)        m2 = (d2 - d1) w1

That is y = A'[(G w) . (B d)], where ' is the transpose and . the elementwise product, with the matrices

    B = | 1 -1  0 |      G = A = | 1 0 |
        | 0  1  0 |              | 1 1 |
        | 0 -1  1 |              | 0 1 |

The sums for an output also contain terms of its neighbours, which cancel. So its rounding error is a
few units in the last place of max |w| * sum |x| over the tile's pixels, even if the output itself is
much smaller: next to a weight of 1e8, a weight of 1 is lost in float32. (A sum may also become infinite
or NaN; `_if_finite` in convolution.py discards such results.)

In two directions, a tile of 2 x 2 outputs needs 9 products. The other two derivatives of the trilinear
form follow by transposition: B'[(G w) . (A y)] for the image, G'[(B d) . (A y)] for the weight.

Letters: n images in a block of work, th x tw tiles per image, K = 4C numbers in a block of pixels,
O channels of the grid. The products are nine matrix products over T = n*th*tw tiles.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .reference import Window
from .threads import empty, scratch, share

ROWS = 512  # tiles in a block of work: with fewer, calls are too short for the threads to share
FEWEST = 128  # tiles in a part of a single block's transforms: with fewer, the calls cost more
LANES = 4  # running sums of a weight gradient, for any number of threads
PART = 128  # channels in a part of a single block's weight gradient, so that it fits the cache
PARTS = 2  # parts of each of the nine products of a single block


def applies(window: Window) -> bool:
    """Kernel 4, stride 2, padding 1 and an even grid, as in all heavy layers of the DCGAN."""
    shape = (window.kernel, window.stride, window.pad)
    return shape == ((4, 4), (2, 2), (1, 1)) and all(i % 4 == 0 for i in window.image)


def conv(x: np.ndarray, w: np.ndarray, window: Window, memo: dict | None = None) -> np.ndarray:
    """(N, C, H, W), (O, C, 4, 4) -> (N, O, OH, OW): y = A'[(G w) . (B d)]."""
    y = _Grid.empty(len(x), w, window)
    _filter([_Image(x, window)], into=y, taps=_taps(w, memo))
    return y.array


def conv_image(
    w: np.ndarray, y: np.ndarray, window: Window, memo: dict | None = None
) -> np.ndarray:
    """(O, C, 4, 4), (N, O, OH, OW) -> (N, C, H, W): x = B'[(G w) . (A y)]."""
    x = _Image.empty(len(y), w, window)
    _filter([_Grid(y, window)], into=x, taps=_taps(w, memo).swapaxes(2, 3))
    return x.array


def conv_weight(x: np.ndarray, y: np.ndarray, window: Window) -> np.ndarray:
    """(N, C, H, W), (N, O, OH, OW) -> (O, C, 4, 4): w = G'[(B d) . (A y)]."""
    return _filter([_Image(x, window), _Grid(y, window)])


def conv_gradients(
    x: np.ndarray, w: np.ndarray, y: np.ndarray, window: Window, memo: dict | None = None
) -> list[np.ndarray]:
    """conv_image of (w, y) and conv_weight of (x, y) in one pass: both need A y."""
    dx = _Image.empty(len(x), w, window)
    taps = _taps(w, memo).swapaxes(2, 3)  # (3, 3, O, K)
    dw = _filter([_Image(x, window), _Grid(y, window)], into=dx, taps=taps)
    return [dx.array, dw]


def conv_image_gradients(
    w: np.ndarray, y: np.ndarray, x: np.ndarray, window: Window, memo: dict | None = None
) -> list[np.ndarray]:
    """conv_weight of (x, y) and conv of (x, w) in one pass: both need B d."""
    dy = _Grid.empty(len(x), w, window)
    dw = _filter([_Image(x, window), _Grid(y, window)], into=dy, taps=_taps(w, memo))
    return [dw, dy.array]


# -- the work: transform the factors, multiply, transform the products back ------------------------


def _filter(
    factors: list[_Image | _Grid],
    into: _Image | _Grid | None = None,
    taps: np.ndarray | None = None,
) -> np.ndarray | None:
    """Multiply a factor by the taps, and store the result in `into`. Given both factors, also
    compute the weight's gradient from them in the same pass, and return it.

    The threads share the blocks of tiles. Within a block, the 3 x 3 products are computed row by row,
    so that intermediate results stay in the cache. If the whole batch is a single block, as in layers
    with many channels, the threads share the nine products instead.
    """
    tiles = factors[0].tiles
    count = len(factors[0].array) * tiles
    if count <= ROWS:
        return _filter_at_once(factors, into, taps)
    blocks = _cut(len(factors[0].array), ROWS // tiles)
    both = len(factors) == 2
    lanes = min(LANES, len(blocks)) if both else len(blocks)
    if both:
        sums = scratch("whole", (lanes, 3, 3, *_shape(factors)), factors[0].array.dtype)

    def work(lane: int) -> None:
        for block in blocks[lane::lanes]:
            filter_block(lane, block)  # a function, so that each block releases its scratch memory

    def filter_block(lane: int, block: slice) -> None:
        if into:
            m, parts = into.products(block), into.parts(block)
        if both:
            one = scratch("weight products", sums.shape[2:], sums.dtype)
        for i, row in enumerate(zip(*(f.rows(block) for f in factors), strict=True)):
            if both:
                d, g = row
                if block is blocks[lane]:
                    np.matmul(d.swapaxes(1, 2), g, out=sums[lane, i])
                else:
                    sums[lane, i] += np.matmul(d.swapaxes(1, 2), g, out=one)
            if into:
                np.matmul(row[into.factor], taps[i], out=m[i % len(m)])
                into.take(i, m, parts, block)

    share(work, lanes)
    return _weight_from(sums, factors) if both else None


def _filter_at_once(
    factors: list[_Image | _Grid], into: _Image | _Grid | None, taps: np.ndarray | None
) -> np.ndarray | None:
    """`_filter` for a single block: the threads share the parts of each of the three steps."""
    n, dtype, tiles = len(factors[0].array), factors[0].array.dtype, factors[0].tiles
    blocks = _cut(n, max(-(-n // LANES), FEWEST // tiles))
    rows = [slice(block.start * tiles, block.stop * tiles) for block in blocks]
    transforms = [scratch(f"all {f.name}", (3, 3, n * tiles, f.width), dtype) for f in factors]

    def load(unit: int) -> None:
        k, b = divmod(unit, len(blocks))
        for _ in factors[k].rows(blocks[b], out=transforms[k][:, :, rows[b]]):
            pass

    share(load, len(factors) * len(blocks))

    if into:
        m = scratch("whole", (3, 3, n * tiles, into.width), dtype)
    weight = _Weight(*factors) if len(factors) == 2 else None
    units = 9 * PARTS if into else 0

    def multiply(unit: int) -> None:
        if unit >= units:
            weight.part(unit - units, *transforms)
            return
        (i, j), part = divmod(unit // PARTS, 3), unit % PARTS
        step = -(-into.width // PARTS)
        columns = slice(part * step, (part + 1) * step)
        a, b = transforms[into.factor][i, j], taps[i, j][:, columns]
        np.matmul(a, b, out=m[i, j][:, columns])

    share(multiply, units + (weight.parts if weight else 0))

    def store(b: int) -> None:
        parts = into.parts(blocks[b])
        for i in range(3):
            into.take(i, m[:, :, rows[b]], parts, blocks[b])

    if into:
        share(store, len(blocks))
    return weight and weight.array


class _Weight:
    """The weight's gradient from a single block, G' of its products, in parts that fit the cache."""

    def __init__(self, image: _Image, grid: _Grid) -> None:
        self.c, self.o = image.c, grid.width
        self.slices = _cut(self.c, PART)
        self.parts = 4 * len(self.slices)
        w = empty((2, 2, 2, 2, self.c, self.o), image.array.dtype)
        self.taps = w.swapaxes(1, 2)  # (2, 2, 2, 2, C, O): tap, pixel
        self.array = w.reshape(4, 4, self.c, self.o).transpose(3, 2, 0, 1)  # (O, C, 4, 4)

    def part(self, unit: int, d: np.ndarray, g: np.ndarray) -> None:
        """Multiply and transform one pixel of the blocks, some channels: (T, c), (T, O) -> (c, O)."""
        pixel, channels = unit % 4, self.slices[unit // 4]
        start = pixel * self.c
        d = d[..., start + channels.start : start + channels.stop]
        count = channels.stop - channels.start
        m = scratch("weight part", (3, 3, count, self.o), d.dtype)
        np.matmul(d.swapaxes(2, 3), g, out=m)
        _combine_taps(m, self.taps[:, :, pixel // 2, pixel % 2, channels])


def _combine_taps(m: np.ndarray, taps: np.ndarray) -> None:
    """G': (3, 3, ...) -> (2, 2, ...)"""
    rows = scratch("weight rows", m.shape[1:], m.dtype)
    for k in range(2):
        np.add(m[k], m[k + 1], out=rows)
        np.add(rows[:2], rows[1:], out=taps[k])


def _cut(n: int, step: int) -> list[slice]:
    """Slices of length `step` that cover range(n)."""
    step = max(1, step)
    return [slice(i, min(i + step, n)) for i in range(0, n, step)]


def _shape(factors: list[_Image | _Grid]) -> tuple[int, int]:
    return factors[0].width, factors[1].width  # (K, O)


# -- the three transforms and their transposes ---------------------------------------------------
#
# A tile has 3 x 3 products, computed row by row. NumPy computes fastest on long runs of memory, but it
# copies short runs well. So the transforms first copy what they need side by side, then add whole
# arrays.
#
# In the padded image, row b of blocks holds the image's rows 2b - 1 and 2b. So the three rows of blocks
# of tile t are the image's rows 4t-1, 4t | 4t+1, 4t+2 | 4t+3, 4t+4. If a tile's four rows 4t ... 4t+3
# are q0 ... q3, these are: q3 of the tile above, q0 | q1, q2 | q3, q0 of the tile below.

_strided = np.lib.stride_tricks.as_strided


class _Image:
    """The image in the trilinear form: an array (N, C, H, W), its transform B d, B' for results."""

    name, factor = "image", -1  # when the image is the result, the factor is the grid, listed last

    def __init__(self, array: np.ndarray, window: Window) -> None:
        self.array, self.pixels = array, array.transpose(0, 2, 3, 1)  # (N, H, W, C)
        self.th, self.tw = (i // 4 for i in window.image)
        self.tiles, self.c, self.width = self.th * self.tw, array.shape[1], 4 * array.shape[1]

    @classmethod
    def empty(cls, n: int, w: np.ndarray, window: Window) -> _Image:
        """A result, with the channels last in memory."""
        pixels = empty((n, *window.image, w.shape[1]), w.dtype)
        return cls(pixels.transpose(0, 3, 1, 2), window)

    def rows(self, block: slice, out: np.ndarray | None = None) -> Iterator[np.ndarray]:
        """B d of a block as three rows (3, T, K): in `out` (3, 3, T, K), or each over the previous."""
        x, c, th, tw = self.pixels[block], self.c, self.th, self.tw
        n, h, w, _ = x.shape
        padded = scratch("padded", (n, h + 2, w + 2, c), x.dtype)
        padded[:, :: h + 1] = 0
        padded[:, :, :: w + 1] = 0
        padded[:, 1:-1, 1:-1] = x
        image, row, pixel, number = padded.strides
        # (3, n, th, 2 * (W + 2) * C): the three rows of blocks of each row of tiles; they overlap
        strips = _strided(padded, (3, n, th, 2 * (w + 2) * c), (2 * row, image, 4 * row, number))
        difference = scratch("strip", strips.shape[1:], x.dtype)
        if out is None:
            out = scratch("image row", (1, 3, n * th * tw, 4 * c), x.dtype)
        for i in range(3):
            strip = strips[1]
            if i != 1:
                strip = np.subtract(strips[i], strips[1], out=difference)
            # (3, n, th, tw, 2, 2C): the three blocks of each tile; they overlap too
            blocks = _strided(
                strip,
                (3, n, th, tw, 2, 2 * c),
                (2 * pixel, *strip.strides[:2], 4 * pixel, row, number),
            )
            d = out[i % len(out)]
            d.reshape(blocks.shape)[...] = blocks  # (3, T, K) -> (3, n, th, tw, 2, 2C)
            np.subtract(d[::2], d[1], out=d[::2])
            yield d

    def products(self, block: slice) -> np.ndarray:
        """Scratch memory for one row of a block's products: (1, 3, T, K)."""
        count = (block.stop - block.start) * self.tiles
        return scratch("image products", (1, 3, count, self.width), self.array.dtype)

    def parts(self, block: slice) -> np.ndarray:
        """Scratch memory for what `take` makes of the three rows: (3, n, th, 2, W + 2, C)."""
        n, _, w, _ = self.pixels[block].shape
        return scratch("strips", (3, n, self.th, 2, w + 2, self.c), self.array.dtype)

    def take(self, i: int, m: np.ndarray, strips: np.ndarray, block: slice) -> None:
        """B' along row i of the products, which is overwritten; after row 2, B' along the columns."""
        x, c, th, tw = self.pixels[block], self.c, self.th, self.tw
        n, _, w, _ = x.shape
        # The row's blocks are left[0], centre[0], left[1] + right[0], centre[1], ..., right[-1].
        left, centre, right = m = m[i % len(m)]  # each (T, K)
        centre -= left
        centre -= right
        last = right.reshape(n, th, tw, 2, 2 * c)[:, :, -1]  # (n, th, 2, 2C)
        blocks = strips[i].reshape(n, th, 2, 2 * tw + 1, 2 * c)
        blocks[..., -1, :] = last
        last[...] = 0
        left[1:] += right[:-1]
        pairs = m[:2].reshape(2, n, th, tw, 2, 2 * c).transpose(1, 2, 4, 3, 0, 5)
        # (n, th, 2, 2tw, 2C) -> (n, th, 2, tw, 2, 2C)
        blocks[..., :-1, :].reshape(pairs.shape)[...] = pairs
        if i == 2:
            self._add_up(strips[..., 1:-1, :], x.reshape(n, th, 4, w, c))

    @staticmethod
    def _add_up(strips: np.ndarray, q: np.ndarray) -> None:
        """B' along the columns: (3, n, th, 2, W, C) into the tiles' four rows (n, th, 4, W, C)."""
        first, middle, last = strips
        np.subtract(middle, first, out=q[:, :, 1:3])
        q[:, :, 1:3] -= last
        q[:, 0, 0] = first[:, 0, 1]
        np.add(first[:, 1:, 1], last[:, :-1, 1], out=q[:, 1:, 0])
        np.add(last[:, :-1, 0], first[:, 1:, 0], out=q[:, :-1, 3])
        q[:, -1, 3] = last[:, -1, 0]


class _Grid:
    """The grid in the trilinear form: an array (N, O, OH, OW), its transform A y, A' for results."""

    name, factor = "grid", 0  # when the grid is the result, the factor is the image, listed first

    def __init__(self, array: np.ndarray, window: Window) -> None:
        self.array, self.pixels = array, array.transpose(0, 2, 3, 1)  # (N, OH, OW, O)
        self.th, self.tw = (g // 2 for g in window.grid)
        self.tiles, self.width = self.th * self.tw, array.shape[1]

    @classmethod
    def empty(cls, n: int, w: np.ndarray, window: Window) -> _Grid:
        """A result, with the channels last in memory."""
        pixels = empty((n, *window.grid, len(w)), w.dtype)
        return cls(pixels.transpose(0, 3, 1, 2), window)

    def rows(self, block: slice, out: np.ndarray | None = None) -> Iterator[np.ndarray]:
        """A y of a block as three rows (3, T, O): in `out` (3, 3, T, O), or each over the previous."""
        y, o, th, tw = self.pixels[block], self.width, self.th, self.tw
        both = scratch("both rows", (len(y), th, 2 * tw, o), y.dtype)
        if out is None:
            out = scratch("grid row", (1, 3, len(y) * th * tw, o), y.dtype)
        for i in range(3):
            row = np.add(y[:, 0::2], y[:, 1::2], out=both) if i == 1 else y[:, i // 2 :: 2]
            g = out[i % len(out)]
            # (n, th, 2tw, O) -> (2, n, th, tw, O): the left and the right column of each tile
            columns = row.reshape(len(y), th, tw, 2, o).transpose(3, 0, 1, 2, 4)
            g[::2].reshape(columns.shape)[...] = columns
            np.add(g[0], g[2], out=g[1])
            yield g

    def products(self, block: slice) -> np.ndarray:
        """Scratch memory for a block's products: (3, 3, T, O)."""
        count = (block.stop - block.start) * self.tiles
        return scratch("grid products", (3, 3, count, self.width), self.array.dtype)

    def parts(self, block: slice) -> None:
        """Nothing is needed, because `products` keeps all three rows."""

    def take(self, i: int, m: np.ndarray, parts: None, block: slice) -> None:
        """After row 2 of the products, A' of all of them: (3, 3, T, O) -> (n, O, OH, OW)."""
        if i < 2:
            return
        y, o, th, tw = self.pixels[block], self.width, self.th, self.tw
        rows = scratch("rows", m.shape[1:], y.dtype)
        pair = scratch("pair", (2, *m.shape[2:]), y.dtype)
        for k in range(2):
            np.add(m[k], m[k + 1], out=rows)
            np.add(rows[:2], rows[1:], out=pair)
            columns = pair.reshape(2, len(y), th, tw, o).transpose(1, 2, 3, 0, 4)
            # (n, th, 2tw, O) -> (n, th, tw, 2, O)
            y[:, k::2].reshape(columns.shape)[...] = columns


def _taps(w: np.ndarray, memo: dict | None = None) -> np.ndarray:
    """G w: (O, C, 4, 4) -> (3, 3, K, O), with K in the order of a block's pixels.

    The result is kept in `memo`, if given, because the gradients need it again.
    """
    if memo and "taps" in memo:
        return memo["taps"]
    o, c = w.shape[:2]
    taps = w.transpose(2, 3, 1, 0).reshape(2, 2, 2, 2, c, o).swapaxes(1, 2)  # tap, pixel, C, O
    out = empty((3, 3, 2, 2, c, o), w.dtype)
    step = -(-c // (2 * LANES))

    def work(i: int) -> None:
        part = slice(i * step, (i + 1) * step)
        t, u = taps[..., part, :], out[..., part, :]
        for i, k in ((0, 0), (2, 1)):
            for j, l in ((0, 0), (2, 1)):
                u[i, j] = t[k, l]
            np.add(u[i, 0], u[i, 2], out=u[i, 1])
        np.add(u[0], u[2], out=u[1])

    share(work, -(-c // step))
    taps = out.reshape(3, 3, 4 * c, o)
    if memo is not None:
        memo["taps"] = taps
    return taps


def _weight_from(sums: np.ndarray, factors: list[_Image | _Grid]) -> np.ndarray:
    """G' of the sum over the lanes: (lanes, 3, 3, K, O) -> (O, C, 4, 4)."""
    c, o = factors[0].c, factors[1].width
    lanes = sums.reshape(-1, 3, 3, 2, 2, c, o)
    w = empty((2, 2, 2, 2, c, o), sums.dtype)
    taps = w.swapaxes(1, 2)  # (2, 2, 2, 2, C, O): tap, pixel
    step = -(-c // (2 * LANES))

    def work(i: int) -> None:
        part = slice(i * step, (i + 1) * step)
        m = lanes[0, ..., part, :]
        for lane in lanes[1:]:
            m += lane[..., part, :]
        _combine_taps(m, taps[..., part, :])

    share(work, -(-c // step))
    return w.reshape(4, 4, c, o).transpose(3, 2, 0, 1)  # (O, C, 4, 4)
