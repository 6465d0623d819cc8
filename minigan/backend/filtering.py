"""Minimal filtering F(2,2): the stride-2 kernel-4 convolution with 9 products in the place of 16.

Read the padded image as blocks of 2 x 2 pixels (4C numbers each). Then a convolution with kernel 4,
stride 2 and padding 1 is one with kernel 2 and stride 1 over blocks. Two neighbouring outputs of a
kernel with the taps w0, w1 meet three blocks d0, d1, d2, and need three products, not four
(Winograd 1980; Lavin & Gray 2016, "Fast algorithms for convolutional neural networks"):

    y0 = d0 w0 + d1 w1 = m0 + m1        m0 = (d0 - d1) w0
    y1 = d1 w0 + d2 w1 = m1 + m2        m1 = d1 (w0 + w1)        m2 = (d2 - d1) w1

that is y = A'[(G w) . (B d)] with the small matrices

    B = | 1 -1  0 |      G = A = | 1 0 |
        | 0  1  0 |              | 1 1 |
        | 0 -1  1 |              | 0 1 |

Along both directions this makes 9 products for a tile of 2 x 2 outputs. The other two derivatives of
the trilinear form come by transposing: the image's B'[(G w) . (A y)], the weight's G'[(B d) . (A y)].

Letters: n images of a block of work, th x tw tiles an image, bh x bw = (2th+1) x (2tw+1) blocks of
pixels, K = 4C, O channels of the grid. The products are nine matrix products over T = n*th*tw tiles.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .reference import Window
from .threads import scratch, share

ROWS = 256  # tiles in a block of work: its transforms stay in the second-level cache
FEWEST_ROWS = 64  # tiles in a block: with fewer, the matrix products are slow
LANES = 4  # weight gradients are summed in so many lanes, whatever the number of threads


def applies(window: Window) -> bool:
    """Kernel 4, stride 2, padding 1, and an even grid: all of the DCGAN's weight."""
    shape = (window.kernel, window.stride, window.pad)
    return shape == ((4, 4), (2, 2), (1, 1)) and all(i % 4 == 0 for i in window.image)


def _blocks(n: int, window: Window, most: int = ROWS) -> tuple[tuple[int, int], list[slice]]:
    """Tiles per image, and the batch in slices of up to `most` tiles: LANES of them where it can be."""
    th, tw = window.grid[0] // 2, window.grid[1] // 2
    rows = max(FEWEST_ROWS, min(most, n * th * tw // LANES))
    step = max(1, rows // (th * tw))
    return (th, tw), [slice(i, min(i + step, n)) for i in range(0, n, step)]


def conv(x: np.ndarray, w: np.ndarray, window: Window) -> np.ndarray:
    """(N, C, H, W), (O, C, 4, 4) -> (N, O, OH, OW): y = A'[(G w) . (B d)]."""
    n, o = x.shape[0], w.shape[0]
    taps = _weight_tiles(w)  # (9, K, O)
    y = np.empty((n, *window.grid, o), x.dtype)
    tiles, blocks = _blocks(n, window)

    def work(i: int) -> None:
        d = _image_tiles(x[blocks[i]], tiles)  # (9, T, K)
        m = scratch("products", (9, d.shape[1], o), x.dtype)
        np.matmul(d, taps, out=m)
        _write_grid(m, y[blocks[i]], tiles)

    share(work, len(blocks))
    return y.transpose(0, 3, 1, 2)  # (N, OH, OW, O) -> (N, O, OH, OW)


def conv_image(w: np.ndarray, y: np.ndarray, window: Window) -> np.ndarray:
    """(O, C, 4, 4), (N, O, OH, OW) -> (N, C, H, W): x = B'[(G w) . (A y)]."""
    n, c = y.shape[0], w.shape[1]
    taps = _weight_tiles(w).transpose(0, 2, 1)  # (9, O, K)
    x = np.empty((n, *window.image, c), y.dtype)
    tiles, blocks = _blocks(n, window)

    def work(i: int) -> None:
        g = _grid_tiles(y[blocks[i]], tiles)  # (9, T, O)
        m = scratch("products", (9, g.shape[1], 4 * c), y.dtype)
        np.matmul(g, taps, out=m)
        _write_image(m, x[blocks[i]], tiles)

    share(work, len(blocks))
    return x.transpose(0, 3, 1, 2)  # (N, H, W, C) -> (N, C, H, W)


def conv_weight(x: np.ndarray, y: np.ndarray, window: Window) -> np.ndarray:
    """(N, C, H, W), (N, O, OH, OW) -> (O, C, 4, 4): w = G'[(B d) . (A y)]."""
    return _with_weight(x, y, window, lambda d, g, block, tiles: None)


def conv_gradients(x: np.ndarray, w: np.ndarray, y: np.ndarray, window: Window) -> list[np.ndarray]:
    """conv_image of (w, y) and conv_weight of (x, y) in one pass: both need A y."""
    c = x.shape[1]
    taps = _weight_tiles(w).transpose(0, 2, 1)  # (9, O, K)
    dx = np.empty((len(x), *window.image, c), x.dtype)

    def also(d: np.ndarray, g: np.ndarray, block: slice, tiles: tuple[int, int]) -> None:
        m = scratch("products", (9, g.shape[1], 4 * c), x.dtype)
        np.matmul(g, taps, out=m)
        _write_image(m, dx[block], tiles)

    dw = _with_weight(x, y, window, also)
    return [dx.transpose(0, 3, 1, 2), dw]  # (N, H, W, C) -> (N, C, H, W)


def conv_image_gradients(
    w: np.ndarray, y: np.ndarray, x: np.ndarray, window: Window
) -> list[np.ndarray]:
    """conv_weight of (x, y) and conv of (x, w) in one pass: both need B d."""
    o = len(w)
    taps = _weight_tiles(w)  # (9, K, O)
    dy = np.empty((len(x), *window.grid, o), x.dtype)

    def also(d: np.ndarray, g: np.ndarray, block: slice, tiles: tuple[int, int]) -> None:
        m = scratch("products", (9, d.shape[1], o), x.dtype)
        np.matmul(d, taps, out=m)
        _write_grid(m, dy[block], tiles)

    dw = _with_weight(x, y, window, also)
    return [dw, dy.transpose(0, 3, 1, 2)]  # (N, OH, OW, O) -> (N, O, OH, OW)


def _with_weight(
    x: np.ndarray, y: np.ndarray, window: Window, also: Callable[..., None]
) -> np.ndarray:
    """The weight gradient; `also` is given each block's transforms for what else needs them."""
    n, c, o = x.shape[0], x.shape[1], y.shape[1]
    tiles, blocks = _blocks(n, window, 2 * ROWS)  # fewer sums to add up
    lanes = min(LANES, len(blocks))
    sums = np.empty((lanes, 9, 4 * c, o), x.dtype)

    def work(lane: int) -> None:
        for i in range(lane, len(blocks), lanes):
            d, g = _image_tiles(x[blocks[i]], tiles), _grid_tiles(y[blocks[i]], tiles)
            if i == lane:
                np.matmul(d.transpose(0, 2, 1), g, out=sums[lane])
            else:
                m = scratch("products", sums.shape[1:], x.dtype)
                np.matmul(d.transpose(0, 2, 1), g, out=m)
                sums[lane] += m
            also(d, g, blocks[i], tiles)

    share(work, lanes)
    return _weight_from(sums, c, o)


# -- the three transforms and their transposes ---------------------------------------------------


# The padded image's row of blocks b holds the image's rows 2b - 1 and 2b. So the three rows of blocks
# of tile t are the image's rows 4t-1, 4t | 4t+1, 4t+2 | 4t+3, 4t+4, and with the rows in fours,
# q0 ... q3, they are q3 of the tile above, q0 | q1, q2 | q3, q0 of the tile below.


def _image_tiles(x: np.ndarray, tiles: tuple[int, int]) -> np.ndarray:
    """B d: (n, C, H, W) -> (9, T, K)."""
    (n, c, _, w), (th, tw) = x.shape, tiles
    q = x.transpose(0, 2, 3, 1).reshape(n, th, 4, w, c)
    strip = scratch("strip", (n, th, 2, w + 2, c), x.dtype)  # a row of B d, with its padding
    strip[..., 0, :] = strip[..., -1, :] = 0
    inner = strip[..., 1:-1, :]  # (n, th, 2, W, C)
    # (n, th, bw, 2, 2C), from (n, th, 2, bw, 2C)
    blocks = strip.reshape(n, th, 2, 2 * tw + 1, 2 * c).transpose(0, 1, 3, 2, 4)
    left, centre, right = blocks[:, :, 0:-1:2], blocks[:, :, 1::2], blocks[:, :, 2::2]
    out = scratch("image tiles", (3, 3, n, th, tw, 2, 2 * c), x.dtype)
    for i in range(3):
        if i == 0:
            np.negative(q[:, 0, 1], out=inner[:, 0, 0])
            np.subtract(q[:, :-1, 3], q[:, 1:, 1], out=inner[:, 1:, 0])
            np.subtract(q[:, :, 0], q[:, :, 2], out=inner[:, :, 1])
        elif i == 1:
            inner[...] = q[:, :, 1:3]
        else:
            np.subtract(q[:, :, 3], q[:, :, 1], out=inner[:, :, 0])
            np.subtract(q[:, 1:, 0], q[:, :-1, 2], out=inner[:, :-1, 1])
            np.negative(q[:, -1, 2], out=inner[:, -1, 1])
        np.subtract(left, centre, out=out[i, 0])
        out[i, 1] = centre
        np.subtract(right, centre, out=out[i, 2])
    return out.reshape(9, n * th * tw, 4 * c)


def _write_image(m: np.ndarray, x: np.ndarray, tiles: tuple[int, int]) -> None:
    """B' m: (9, T, K) -> (n, H, W, C). A block shared by two tiles gets the sum of their parts."""
    (n, _, w, c), (th, tw) = x.shape, tiles
    m = m.reshape(3, 3, n, th, tw, 2, 2 * c)
    strips = scratch("strips", (3, n, th, 2, w + 2, c), x.dtype)
    blocks = strips.reshape(3, n, th, 2, 2 * tw + 1, 2 * c)
    for i in range(3):
        left, centre, right = m[i].transpose(0, 1, 2, 4, 3, 5)  # each (n, th, 2, tw, 2C)
        out = blocks[i]
        np.subtract(centre, left, out=out[..., 1::2, :])
        out[..., 1::2, :] -= right
        out[..., 0, :] = left[..., 0, :]
        np.add(left[..., 1:, :], right[..., :-1, :], out=out[..., 2:-1:2, :])
        out[..., -1, :] = right[..., -1, :]
    first, middle, last = strips[..., 1:-1, :]  # each (n, th, 2, W, C), without the padding
    q = x.reshape(n, th, 4, w, c)
    np.subtract(middle, first, out=q[:, :, 1:3])
    q[:, :, 1:3] -= last
    q[:, 0, 0] = first[:, 0, 1]
    np.add(first[:, 1:, 1], last[:, :-1, 1], out=q[:, 1:, 0])
    np.add(last[:, :-1, 0], first[:, 1:, 0], out=q[:, :-1, 3])
    q[:, -1, 3] = last[:, -1, 0]


def _grid_tiles(y: np.ndarray, tiles: tuple[int, int]) -> np.ndarray:
    """A y: (n, O, OH, OW) -> (9, T, O)."""
    (n, o), (th, tw) = y.shape[:2], tiles
    y = y.transpose(0, 2, 3, 1)  # (n, OH, OW, O)
    both = scratch("both rows", (n, th, 2 * tw, o), y.dtype)
    out = scratch("grid tiles", (3, 3, n, th, tw, o), y.dtype)
    np.add(y[:, 0::2], y[:, 1::2], out=both)
    for i, rows in enumerate((y[:, 0::2], both, y[:, 1::2])):
        out[i, 0] = rows[:, :, 0::2]
        np.add(rows[:, :, 0::2], rows[:, :, 1::2], out=out[i, 1])
        out[i, 2] = rows[:, :, 1::2]
    return out.reshape(9, n * th * tw, o)


def _write_grid(m: np.ndarray, y: np.ndarray, tiles: tuple[int, int]) -> None:
    """A' m: (9, T, O) -> (n, OH, OW, O)."""
    (n, _, _, o), (th, tw) = y.shape, tiles
    m = m.reshape(3, 3, n, th, tw, o)
    rows = scratch("rows", (3, n, th, tw, o), y.dtype)
    for i in range(2):
        np.add(m[i], m[i + 1], out=rows)
        for j in range(2):
            np.add(rows[j], rows[j + 1], out=y[:, i::2, j::2])


def _weight_tiles(w: np.ndarray) -> np.ndarray:
    """G w: (O, C, 4, 4) -> (9, K, O), the rows of K in the order of a block's pixels."""
    o, c = w.shape[:2]
    taps = w.transpose(2, 3, 1, 0).reshape(2, 2, 2, 2, c, o).swapaxes(1, 2)  # tap, pixel, C, O
    out = np.empty((3, 3, 2, 2, c, o), w.dtype)
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
    return out.reshape(9, 4 * c, o)


def _weight_from(sums: np.ndarray, c: int, o: int) -> np.ndarray:
    """G' of the lanes' sum: (lanes, 9, K, O) -> (O, C, 4, 4)."""
    lanes = sums.reshape(-1, 3, 3, 2, 2, c, o)
    w = np.empty((2, 2, 2, 2, c, o), sums.dtype)
    taps = w.swapaxes(1, 2)  # (2, 2, 2, 2, C, O): tap, pixel
    step = -(-c // (2 * LANES))

    def work(i: int) -> None:
        part = slice(i * step, (i + 1) * step)
        m = lanes[0, ..., part, :]
        for lane in lanes[1:]:
            m += lane[..., part, :]
        for k in range(2):
            rows = m[k] + m[k + 1]  # (3, 2, 2, C, O)
            for l in range(2):
                taps[k, l, ..., part, :] = rows[l] + rows[l + 1]

    share(work, -(-c // step))
    return w.reshape(4, 4, c, o).transpose(3, 2, 0, 1)  # (O, C, 4, 4)
