"""Each of the project's CUDA kernels computes what `reference.py` does, in any memory order."""

import numpy as np
import pytest

from minigan.backend import gpu, move, reference
from minigan.backend.reference import Window

DTYPES = [np.float32, np.float64]
# The rounding of sums of a few hundred terms: about 30 units in the last place.
CLOSE = {np.float32: {"rtol": 1e-5, "atol": 1e-5}, np.float64: {"rtol": 1e-12, "atol": 1e-12}}
# image, kernel, stride, padding: the DCGAN's three; inexact and uneven strides; padding beyond the
# image; kernels of one pixel; windows that skip pixels.
GEOMETRIES = [
    ((8, 8), (4, 4), (2, 2), (1, 1)),
    ((4, 4), (4, 4), (1, 1), (0, 0)),
    ((1, 1), (4, 4), (1, 1), (3, 3)),
    ((7, 9), (4, 4), (2, 2), (1, 1)),
    ((5, 6), (3, 2), (3, 1), (2, 1)),
    ((6, 5), (2, 3), (3, 2), (0, 0)),
    ((9, 4), (1, 1), (4, 3), (0, 0)),
    ((3, 17), (3, 5), (1, 2), (2, 4)),
]
SLOPES = [1.0, 0.0, 0.2, 1.5]


@pytest.fixture
def xp():
    import cupy

    return cupy


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def put(array, order=None):
    """The array on the device; with `order`, its axes are in that order in memory."""
    if order is not None:
        array = np.asarray(array.transpose(order), order="C").transpose(np.argsort(order))
    return move(array, "cuda:0")


def agree(found, expected, dtype):
    found, expected = ((a if isinstance(a, (tuple, list)) else [a]) for a in (found, expected))
    assert len(found) == len(expected)
    for f, e in zip(found, expected, strict=True):
        assert (f.shape, f.dtype) == (e.shape, e.dtype)
        np.testing.assert_allclose(f.get(), e, **CLOSE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (1, 0, 2, 3), (0, 2, 3, 1)])
def test_convolution_in_all_its_forms(xp, rng, geometry, order, dtype):
    window = Window(*geometry)
    n, c, o = 3, 5, 2
    x = rng.standard_normal((n, c, *window.image)).astype(dtype)
    w = rng.standard_normal((o, c, *window.kernel)).astype(dtype)
    y = rng.standard_normal((n, o, *window.grid)).astype(dtype)
    gx, gy = put(x, order), put(y, order)
    for gw in (put(w, (2, 3, 1, 0)), put(w)):
        agree(gpu.conv(xp, gx, gw, window), reference.conv(np, x, w, window), dtype)
        agree(gpu.conv_image(xp, gw, gy, window), reference.conv_image(np, w, y, window), dtype)
        for asked in ([0], [1], [0, 1]):
            found = gpu.conv_gradients(xp, asked, gx, gw, gy, window)
            expected = reference.conv_gradients(np, asked, x, w, y, window)
            agree(found, expected, dtype)
            found = gpu.conv_image_gradients(xp, asked, gw, gy, gx, window)
            agree(found, reference.conv_image_gradients(np, asked, w, y, x, window), dtype)
    agree(gpu.conv_weight(xp, gx, gy, window), reference.conv_weight(np, x, y, window), dtype)


def test_many_channels_and_images_fill_several_blocks(xp, rng):
    window = Window((8, 8), (4, 4), (2, 2), (1, 1))
    x, w = rng.standard_normal((20, 40, 8, 8)), rng.standard_normal((3, 40, 4, 4))
    y = reference.conv(np, x, w, window)
    agree(gpu.conv(xp, put(x), put(w), window), y, np.float64)
    agree(
        gpu.conv_image(xp, put(w), put(y), window),
        reference.conv_image(np, w, y, window),
        np.float64,
    )


def test_a_batch_without_images_gives_one_and_no_launch_of_zero_blocks(xp):
    window = Window((8, 8), (4, 4), (2, 2), (1, 1))
    w = put(np.ones((3, 2, 4, 4)))
    assert gpu.conv(xp, put(np.ones((0, 2, 8, 8))), w, window).shape == (0, 3, 4, 4)
    assert gpu.conv_image(xp, w, put(np.ones((0, 3, 4, 4))), window).shape == (0, 2, 8, 8)


def test_other_types_are_refused_in_words(xp):
    window = Window((2, 2), (1, 1), (1, 1), (0, 0))
    with pytest.raises(TypeError, match="im2col: the GPU kernels take float32 or float64, not in"):
        gpu.conv(xp, put(np.ones((1, 1, 2, 2), int)), put(np.ones((1, 1, 1, 1), int)), window)


# One element, some, a block of 512 and one more; channels first, last and in the middle of memory.
NORM_SHAPES = [(2, 1), (700, 3), (4, 3, 5, 6), (3, 2, 513), (2, 70, 1, 1), (1, 3, 16, 32)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize("shape", NORM_SHAPES)
def test_normalisation_and_activation_forward_and_backward(xp, rng, shape, slope, dtype):
    c, ones = shape[1], [1] * (len(shape) - 2)
    x, g = (3 + rng.standard_normal((2, *shape))).astype(dtype)
    w, b = rng.uniform(0.5, 2, (2, 1, c, *ones)).astype(dtype)
    there = [tuple(reversed(range(len(shape)))), None]
    for order in there:
        gx, gg, gw, gb = put(x, order), put(g), put(w), put(b)
        running = tuple(rng.uniform(1, 2, (2, c)).astype(dtype))
        moved = tuple(put(r) for r in running)
        stats = reference.batch_statistics(np, x, 0.1, 0.3, running)
        agree(gpu.batch_statistics(xp, gx, 0.1, 0.3, moved), stats, dtype)
        agree(moved, running, dtype)
        found = gpu.batch_statistics(xp, gx, 0.1, 0.3, None)
        agree(found, stats, dtype)
        on_gpu = [put(s) for s in stats]
        y = reference.scale_shift(np, x, *stats, w, b, slope)
        agree(gpu.scale_shift(xp, gx, *on_gpu, gw, gb, slope), y, dtype)
        plain = reference.scale_shift(np, x, *stats, 1.0, 0.0, slope)
        agree(gpu.scale_shift(xp, gx, *on_gpu, 1.0, 0.0, slope), plain, dtype)
        for weight, on in ((w, gw), (1.0, 1.0)):
            expected = reference.batch_norm_gradients(np, g, y, x, *stats, weight, slope)
            found = gpu.batch_norm_gradients(xp, gg, put(y), gx, *on_gpu, on, slope)
            found = [f.reshape(e.shape) for f, e in zip(found, expected, strict=True)]
            for f, e in zip(found, expected, strict=True):
                # 20 times as much, because dx is a difference of larger numbers
                bound = {k: 20 * v for k, v in CLOSE[dtype].items()}
                np.testing.assert_allclose(f.get(), e, **bound)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_the_relu_behind_a_norm_cut_off_has_no_gradient(xp, rng, dtype):
    x, plain = rng.standard_normal((2, 3, 2, 4, 5)).astype(dtype)
    stats = reference.batch_statistics(np, x, 0.1, 0.3, None)
    y = reference.scale_shift(np, x, *stats, 1.0, 0.0, 0.0)
    g, plain = (np.where(y > 0, plain, dtype(cut_off)) for cut_off in (np.inf, 0))
    expected = reference.batch_norm_gradients(np, plain, y, x, *stats, 1.0, 0.0)
    on_gpu = [put(a) for a in (g, y, x, *stats)]
    found = gpu.batch_norm_gradients(xp, *on_gpu, 1.0, 0.0)
    agree([f.reshape(e.shape) for f, e in zip(found, expected, strict=True)], expected, dtype)


def test_a_batch_without_images_can_be_normalised(xp):
    x, ones = put(np.ones((0, 3, 2, 2))), put(np.ones((1, 3, 1, 1)))
    assert gpu.scale_shift(xp, x, ones, ones, ones, ones, 1.0).shape == x.shape
    assert gpu.batch_norm_gradients(xp, x, x, x, ones, ones, ones, 1.0)[0].shape == x.shape


SPECIAL = np.array([-np.inf, -1e4, -20.0, -1.0, -0.0, 0.0, 1e-30, 1.0, 20.0, 1e4, np.inf, np.nan])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("slope", SLOPES)
def test_the_leaky_relu_is_right_for_every_number(xp, slope, dtype):
    x = SPECIAL.astype(dtype)
    with np.errstate(invalid="ignore"):
        y = reference.leaky_relu(np, x, slope)
        np.testing.assert_array_equal(gpu.leaky_relu(xp, put(x), slope).get(), y)
    finite = np.isfinite(y)
    g = np.arange(1, x.size + 1).astype(dtype)
    for v in (g, g * np.inf, g * np.nan):
        found = gpu.leaky_relu_gradient(xp, put(v), put(y), slope).get()[finite]
        expected = reference.leaky_relu_gradient(np, v, y, slope)[finite]
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_bce_with_logits_keeps_its_digits_on_both_tails(xp, dtype):
    x = SPECIAL[1:-2].astype(dtype)
    g = np.full(x.size, 0.5, dtype)
    labels = [0, 1.0, 0.3, np.linspace(0, 1, x.size).astype(dtype)]
    for t in labels:
        on = t if isinstance(t, (int, float)) else put(t)
        exact = {"rtol": 1e-5 if dtype == np.float32 else 1e-13}  # relative: that is the point
        found = gpu.cross_entropy(xp, put(x), on).get()
        np.testing.assert_allclose(found, reference.cross_entropy(np, x, t), **exact)
        found = gpu.cross_entropy_gradient(xp, put(g), put(x), on).get()
        np.testing.assert_allclose(found, reference.cross_entropy_gradient(np, g, x, t), **exact)


def test_bytes_become_numbers_from_minus_1_to_1(xp, rng):
    batch = rng.integers(0, 256, (5, 4, 6, 3), np.uint8).transpose(0, 3, 1, 2)
    batch[0, 0, 0, :2] = 0, 255
    found = gpu.scale_pixels(xp, put(batch))
    expected = reference.scale_pixels(np, batch)
    assert found.dtype == expected.dtype == np.float32
    np.testing.assert_allclose(found.get(), expected, rtol=0, atol=1.2e-7)  # a fused multiply-add
    assert found.swapaxes(0, 1).flags.c_contiguous  # as the first convolution reads it


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [1, gpu.MANY + 3])
def test_adam_moves_every_parameter_of_a_network(xp, rng, count, dtype):
    shapes = [(), (3,), (5, 4, 3, 2), (300, 7)]
    expected, found = [], []
    for i in range(count):
        shape = shapes[i % len(shapes)]
        arrays = [np.asarray(np.abs(rng.standard_normal(shape)), dtype) for _ in "pgmv"]
        axes = rng.permutation(len(shape))
        on_gpu = [put(arrays[0], axes), put(arrays[1]), *(put(a, axes) for a in arrays[2:])]
        expected.append((*arrays, 1 + i))  # each has its own step count
        found.append((*on_gpu, 1 + i))
    for _ in range(2):
        reference.adam(np, expected, 0.01, (0.5, 0.999), 1e-8)
        gpu.adam(xp, found, 0.01, (0.5, 0.999), 1e-8)
    for f, e in zip(found, expected, strict=True):
        agree(f[:4], e[:4], dtype)


def test_adam_takes_parameters_with_gaps_and_of_two_types(xp, rng):
    arrays = [np.abs(rng.standard_normal((4, 6))) for _ in "pgmv"]
    narrow = [a.astype("f") for a in arrays]
    gaps = [put(a)[:, ::2] for a in arrays]
    moved = [(*gaps, 3), (*(put(a) for a in narrow), 3)]
    expected = [(*(a[:, ::2] for a in arrays), 3), (*narrow, 3)]
    gpu.adam(xp, moved, 0.1, (0.5, 0.9), 1e-8)
    reference.adam(np, expected, 0.1, (0.5, 0.9), 1e-8)
    agree(moved[0][:4], expected[0][:4], np.float64)
    agree(moved[1][:4], expected[1][:4], np.float32)


@pytest.mark.parametrize("dtype", DTYPES)
def test_lerp_moves_arrays_in_place_whatever_their_order(xp, rng, dtype):
    moved, expected = [], []
    for shape in ((), (3,), (5, 4, 3, 2), (300, 7)):
        slow, fast = (np.asarray(rng.standard_normal(shape), dtype) for _ in range(2))
        moved.append((put(slow, rng.permutation(len(shape))), put(fast)))
        expected.append((slow, fast))
    gpu.lerp(xp, moved, 0.25)
    reference.lerp(np, expected, 0.25)
    for f, e in zip(moved, expected, strict=True):
        agree(f, e, dtype)


def test_indices_beyond_2_to_the_31(xp):
    """The last blocks of columns with 2.4e9 elements, on memory that is reserved but not filled.

    The emulator runs only these blocks. On a GPU the test would take 10 GB, so it is skipped.
    """
    emulator = pytest.importorskip("emulator")
    if not emulator.installed():
        pytest.skip("runs single blocks, which only the emulator can")
    window = Window((1024, 1024), (4, 4), (2, 2), (1, 1))
    n, c = 72, 8  # windows: 72 * 512 * 512 = 18.9 million; columns: 128 rows of them, 2.4e9 numbers
    windows = n * 512 * 512
    col = xp.empty((16 * c, windows), np.float32)
    x = xp.empty((c, n, 1024, 1024), np.float32)
    last = put(np.random.default_rng(0).standard_normal((c, 1, 1024, 1024)).astype("f"))
    x[:, -1:] = last
    blocks = gpu._blocks(windows)[0]
    arguments = (gpu._window(window), np.int64(n), np.int32(c))
    with emulator.only_blocks(blocks * (c - 1) + blocks - 512 * 2, blocks * c):
        gpu._kernel(xp, "im2col", "conv.cu", np.dtype("f"))(
            (blocks, c), (gpu.THREADS,), (x, col, *arguments)
        )
    # the last image of the last channel, its last 1024 * 256 windows
    tail = 512 * 2 * gpu.THREADS
    expected = reference.columns(np, last.get()[-1:], window)
    found = col.reshape(16, c, windows)[:, c - 1, windows - tail :].get()
    np.testing.assert_array_equal(found, expected.T[:, -tail:])
    pixels = n * 1024 * 1024
    blocks = gpu._blocks(pixels)[0]
    image = xp.empty((c, n, 1024, 1024), np.float32)
    with emulator.only_blocks(blocks * (c - 1) + blocks - 1024, blocks * c):
        gpu._kernel(xp, "col2im", "conv.cu", np.dtype("f"))(
            (blocks, c), (gpu.THREADS,), (col, image, *arguments)
        )
    tail = gpu.THREADS  # rows of the image, in 1024 blocks
    folded = reference.fold(np, expected.reshape(1, 512, 512, 4, 4, 1), window)
    np.testing.assert_allclose(image[-1, -1, -tail:].get(), folded[0, 0, -tail:], rtol=1e-6)
