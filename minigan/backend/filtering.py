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

from collections.abc import Callable, Iterator

import numpy as np

from .reference import Window
from .threads import scratch, share

ROWS = 256  # tiles in a block of work: its transforms stay in the second-level cache
FEWEST_ROWS = 32  # tiles in a block: with fewer, the matrix products are slow
LANES = 4  # weight gradients are summed in so many lanes, whatever the number of threads


def applies(window: Window) -> bool:
    """Kernel 4, stride 2, padding 1, and an even grid: all of the DCGAN's weight."""
    shape = (window.kernel, window.stride, window.pad)
    return shape == ((4, 4), (2, 2), (1, 1)) and all(i % 4 == 0 for i in window.image)


def _blocks(n: int, window: Window) -> tuple[tuple[int, int], list[slice]]:
    """Tiles per image, and the batch in slices of up to ROWS tiles: LANES of them where it can be."""
    th, tw = window.grid[0] // 2, window.grid[1] // 2
    rows = max(FEWEST_ROWS, min(ROWS, n * th * tw // LANES))
    step = max(1, rows // (th * tw))
    return (th, tw), [slice(i, min(i + step, n)) for i in range(0, n, step)]


def conv(x: np.ndarray, w: np.ndarray, window: Window) -> np.ndarray:
    """(N, C, H, W), (O, C, 4, 4) -> (N, O, OH, OW): y = A'[(G w) . (B d)]."""
    taps = _weight_tiles(w)  # (3, 3, K, O)
    y = np.empty((len(x), *window.grid, len(w)), x.dtype)
    tiles, blocks = _blocks(len(x), window)

    def work(b: int) -> None:
        for i, d in enumerate(_image_rows(x[blocks[b]], tiles)):
            np.matmul(d, taps[i], out=_grid_products(y[blocks[b]], tiles)[i])
        _write_grid(y[blocks[b]], tiles)

    share(work, len(blocks))
    return y.transpose(0, 3, 1, 2)  # (N, OH, OW, O) -> (N, O, OH, OW)


def conv_image(w: np.ndarray, y: np.ndarray, window: Window) -> np.ndarray:
    """(O, C, 4, 4), (N, O, OH, OW) -> (N, C, H, W): x = B'[(G w) . (A y)]."""
    taps = _weight_tiles(w).swapaxes(2, 3)  # (3, 3, O, K)
    x = np.empty((len(y), *window.image, w.shape[1]), y.dtype)
    tiles, blocks = _blocks(len(y), window)

    def work(b: int) -> None:
        for i, g in enumerate(_grid_rows(y[blocks[b]], tiles)):
            _write_strip(g, taps[i], i, x[blocks[b]], tiles)
        _write_image(x[blocks[b]], tiles)

    share(work, len(blocks))
    return x.transpose(0, 3, 1, 2)  # (N, H, W, C) -> (N, C, H, W)


def conv_weight(x: np.ndarray, y: np.ndarray, window: Window) -> np.ndarray:
    """(N, C, H, W), (N, O, OH, OW) -> (O, C, 4, 4): w = G'[(B d) . (A y)]."""
    return _with_weight(x, y, window, lambda i, d, g, block, tiles: None)


def conv_gradients(x: np.ndarray, w: np.ndarray, y: np.ndarray, window: Window) -> list[np.ndarray]:
    """conv_image of (w, y) and conv_weight of (x, y) in one pass: both need A y."""
    taps = _weight_tiles(w).swapaxes(2, 3)  # (3, 3, O, K)
    dx = np.empty((len(x), *window.image, x.shape[1]), x.dtype)

    def also(i: int, d: np.ndarray, g: np.ndarray, block: slice, tiles: tuple[int, int]) -> None:
        _write_strip(g, taps[i], i, dx[block], tiles)
        if i == 2:
            _write_image(dx[block], tiles)

    dw = _with_weight(x, y, window, also)
    return [dx.transpose(0, 3, 1, 2), dw]  # (N, H, W, C) -> (N, C, H, W)


def conv_image_gradients(
    w: np.ndarray, y: np.ndarray, x: np.ndarray, window: Window
) -> list[np.ndarray]:
    """conv_weight of (x, y) and conv of (x, w) in one pass: both need B d."""
    taps = _weight_tiles(w)  # (3, 3, K, O)
    dy = np.empty((len(x), *window.grid, len(w)), x.dtype)

    def also(i: int, d: np.ndarray, g: np.ndarray, block: slice, tiles: tuple[int, int]) -> None:
        np.matmul(d, taps[i], out=_grid_products(dy[block], tiles)[i])
        if i == 2:
            _write_grid(dy[block], tiles)

    dw = _with_weight(x, y, window, also)
    return [dw, dy.transpose(0, 3, 1, 2)]  # (N, OH, OW, O) -> (N, O, OH, OW)


def _with_weight(
    x: np.ndarray, y: np.ndarray, window: Window, also: Callable[..., None]
) -> np.ndarray:
    """The weight gradient; `also` is given each block's transforms for what else needs them."""
    c, o = x.shape[1], y.shape[1]
    tiles, blocks = _blocks(len(x), window)
    lanes = min(LANES, len(blocks))
    sums = np.empty((lanes, 3, 3, 4 * c, o), x.dtype)

    def work(lane: int) -> None:
        for b in range(lane, len(blocks), lanes):
            block = blocks[b]
            rows = zip(_image_rows(x[block], tiles), _grid_rows(y[block], tiles), strict=True)
            for i, (d, g) in enumerate(rows):
                if b == lane:
                    np.matmul(d.swapaxes(1, 2), g, out=sums[lane, i])
                else:
                    m = scratch("weight products", sums.shape[2:], x.dtype)
                    sums[lane, i] += np.matmul(d.swapaxes(1, 2), g, out=m)
                also(i, d, g, block, tiles)

    share(work, lanes)
    return _weight_from(sums, c, o)


# -- the three transforms and their transposes ---------------------------------------------------
#
# Each tile has 3 x 3 products. They are made row by row, so that a block's share of them stays in the
# cache: `_image_rows` and `_grid_rows` give three times the three factors of a row, (3, T, K or O).
#
# The padded image's row of blocks b holds the image's rows 2b - 1 and 2b. So the three rows of blocks
# of tile t are the image's rows 4t-1, 4t | 4t+1, 4t+2 | 4t+3, 4t+4, and with the rows in fours,
# q0 ... q3, they are q3 of the tile above, q0 | q1, q2 | q3, q0 of the tile below.


def _image_rows(x: np.ndarray, tiles: tuple[int, int]) -> Iterator[np.ndarray]:
    """B d: (n, C, H, W) -> three times (3, T, K), each overwritten by the next."""
    (n, c, _, w), (th, tw) = x.shape, tiles
    q = x.transpose(0, 2, 3, 1).reshape(n, th, 4, w, c)
    strip = scratch("strip", (n, th, 2, w + 2, c), x.dtype)  # a row of B d, with its padding
    strip[..., 0, :] = strip[..., -1, :] = 0
    inner = strip[..., 1:-1, :]  # (n, th, 2, W, C)
    # (n, th, 2, bw, 2C) -> (n, th, bw, 2, 2C)
    blocks = strip.reshape(n, th, 2, 2 * tw + 1, 2 * c).transpose(0, 1, 3, 2, 4)
    left, centre, right = blocks[:, :, 0:-1:2], blocks[:, :, 1::2], blocks[:, :, 2::2]
    out = scratch("image row", (3, n, th, tw, 2, 2 * c), x.dtype)
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
        np.subtract(left, centre, out=out[0])
        out[1] = centre
        np.subtract(right, centre, out=out[2])
        yield out.reshape(3, n * th * tw, 4 * c)


def _strips(x: np.ndarray, tiles: tuple[int, int]) -> np.ndarray:
    """Scratch for B' along the rows: (3, n, th, 2, W + 2, C)."""
    n, _, w, c = x.shape
    return scratch("strips", (3, n, tiles[0], 2, w + 2, c), x.dtype)


def _write_strip(
    g: np.ndarray, taps: np.ndarray, i: int, x: np.ndarray, tiles: tuple[int, int]
) -> None:
    """Row i of B' along the rows: the products of g (3, T, O) and taps (3, O, K), into a strip."""
    (n, _, _, c), (th, tw) = x.shape, tiles
    m = scratch("image products", (3, g.shape[1], 4 * c), x.dtype)
    np.matmul(g, taps, out=m)
    left, centre, right = m.reshape(3, n, th, tw, 2, 2 * c).swapaxes(3, 4)  # (n, th, 2, tw, 2C)
    out = _strips(x, tiles)[i].reshape(n, th, 2, 2 * tw + 1, 2 * c)
    np.subtract(centre, left, out=out[..., 1::2, :])
    out[..., 1::2, :] -= right
    out[..., 0, :] = left[..., 0, :]
    np.add(left[..., 1:, :], right[..., :-1, :], out=out[..., 2:-1:2, :])
    out[..., -1, :] = right[..., -1, :]


def _write_image(x: np.ndarray, tiles: tuple[int, int]) -> None:
    """B' along the columns: the three strips into x (n, H, W, C). Where tiles meet, parts add up."""
    (n, _, w, c), (th, _) = x.shape, tiles
    first, middle, last = _strips(x, tiles)[..., 1:-1, :]  # each (n, th, 2, W, C), unpadded
    q = x.reshape(n, th, 4, w, c)
    np.subtract(middle, first, out=q[:, :, 1:3])
    q[:, :, 1:3] -= last
    q[:, 0, 0] = first[:, 0, 1]
    np.add(first[:, 1:, 1], last[:, :-1, 1], out=q[:, 1:, 0])
    np.add(last[:, :-1, 0], first[:, 1:, 0], out=q[:, :-1, 3])
    q[:, -1, 3] = last[:, -1, 0]


def _grid_rows(y: np.ndarray, tiles: tuple[int, int]) -> Iterator[np.ndarray]:
    """A y: (n, O, OH, OW) -> three times (3, T, O), each overwritten by the next."""
    (n, o), (th, tw) = y.shape[:2], tiles
    y = y.transpose(0, 2, 3, 1)  # (n, OH, OW, O)
    both = scratch("both rows", (n, th, 2 * tw, o), y.dtype)
    out = scratch("grid row", (3, n, th, tw, o), y.dtype)
    for i in range(3):
        rows = np.add(y[:, 0::2], y[:, 1::2], out=both) if i == 1 else y[:, i // 2 :: 2]
        out[0] = rows[:, :, 0::2]
        np.add(rows[:, :, 0::2], rows[:, :, 1::2], out=out[1])
        out[2] = rows[:, :, 1::2]
        yield out.reshape(3, n * th * tw, o)


def _grid_products(y: np.ndarray, tiles: tuple[int, int]) -> np.ndarray:
    """Scratch for what A' is applied to: (3, 3, T, O)."""
    n, _, _, o = y.shape
    return scratch("grid products", (3, 3, n * tiles[0] * tiles[1], o), y.dtype)


def _write_grid(y: np.ndarray, tiles: tuple[int, int]) -> None:
    """A' of the products, into y (n, OH, OW, O)."""
    (n, _, _, o), (th, tw) = y.shape, tiles
    m = _grid_products(y, tiles).reshape(3, 3, n, th, tw, o)
    rows = scratch("rows", (3, n, th, tw, o), y.dtype)
    for i in range(2):
        np.add(m[i], m[i + 1], out=rows)
        for j in range(2):
            np.add(rows[j], rows[j + 1], out=y[:, i::2, j::2])


def _weight_tiles(w: np.ndarray) -> np.ndarray:
    """G w: (O, C, 4, 4) -> (3, 3, K, O), the rows of K in the order of a block's pixels."""
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
    return out.reshape(3, 3, 4 * c, o)


def _weight_from(sums: np.ndarray, c: int, o: int) -> np.ndarray:
    """G' of the lanes' sum: (lanes, 3, 3, K, O) -> (O, C, 4, 4)."""
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
