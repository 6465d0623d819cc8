"""Convolution: three derivatives of one trilinear form, computed by any kernels."""

from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest
import reference as ref
from hypothesis import given
from hypothesis import strategies as st
from strategies import sizes, windows

import minigan.functional as F
from minigan import grad, gradcheck, gradgradcheck, tensor
from minigan.backend import convolution, cpu, filtering, gpu, kernels, reference, winograd
from minigan.backend.reference import Window

# These files take neither the module nor the list of gradients asked for.
FILTERING, WINOGRAD = SimpleNamespace(), SimpleNamespace()
for file, own in ((FILTERING, filtering), (WINOGRAD, winograd)):
    for name in ("conv", "conv_image", "conv_weight"):
        kernel = getattr(own, name)
        setattr(file, name, lambda xp, *rest, kernel=kernel: kernel(*rest))
for name in ("conv_gradients", "conv_image_gradients"):
    kernel = getattr(filtering, name)
    setattr(FILTERING, name, lambda xp, asked, *rest, kernel=kernel: kernel(*rest))


@st.composite
def filter_windows(draw):
    """The geometry of the DCGAN's layers: kernel 4, stride 2, padding 1, an even grid."""
    return Window((4 * draw(sizes), 4 * draw(sizes)), (4, 4), (2, 2), (1, 1))


@st.composite
def winograd_windows(draw):
    """Kernel 3 and stride 1, any padding, an even grid."""
    pads = draw(st.integers(0, 2)), draw(st.integers(0, 2))
    image = tuple([2 * draw(sizes) + (2 if p == 0 else 0) for p in pads])
    return Window(image, (3, 3), (1, 1), pads)


def operands(draw, window):
    """x, w and y of small whole numbers, which float64 adds and multiplies without rounding."""
    n, c, o = draw(st.sampled_from([1, 2, 9])), draw(st.sampled_from([1, 2, 9])), draw(sizes)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shapes = (n, c, *window.image), (o, c, *window.kernel), (n, o, *window.grid)
    return [rng.integers(-4, 5, shape).astype(np.float64) for shape in shapes]


def derivatives(module, x, w, y, window):
    """dT/dy, dT/dx and dT/dw of the trilinear form T(x, w, y), computed alone and two at once."""
    dy = module.conv(np, x, w, window)
    dx = module.conv_image(np, w, y, window)
    dw = module.conv_weight(np, x, y, window)
    if module is WINOGRAD:  # has no kernels for two gradients at once
        return dy, dx, dw
    for found, expected in (
        (module.conv_gradients(np, [0, 1], x, w, y, window), (dx, dw)),
        (module.conv_image_gradients(np, [0, 1], w, y, x, window), (dw, dy)),
    ):  # equal to the last bit: computing two gradients at once changes neither
        assert all(
            np.array_equal(*pair, equal_nan=True) for pair in zip(found, expected, strict=True)
        )
    return dy, dx, dw


each_implementation = pytest.mark.parametrize(
    ("module", "geometries"),
    [
        (reference, windows()),
        (cpu, windows()),
        (reference, filter_windows()),
        (FILTERING, filter_windows()),
        (WINOGRAD, winograd_windows()),
    ],
    ids=["reference", "cpu", "reference on the DCGAN's geometry", "filtering", "winograd"],
)


@each_implementation
@given(data=st.data())
def test_the_trilinear_identity_holds_without_any_tolerance(module, geometries, data):
    window = data.draw(geometries)
    x, w, y = operands(data.draw, window)
    with patch.object(convolution, "BLOCK", 1):  # several blocks of work even here
        dy, dx, dw = derivatives(module, x, w, y, window)
    assert (dy * y).sum() == (dx * x).sum() == (dw * w).sum()


@each_implementation
@given(data=st.data())
def test_the_kernels_agree_with_the_formula_to_the_last_bit(module, geometries, data):
    window = data.draw(geometries)
    x, w, y = operands(data.draw, window)
    x, y, w = x[:2, :2], y[:2, :2], w[:2, :2]  # the loops are slow
    expected = (
        ref.conv(x, w, window.stride, window.pad),
        ref.conv_transpose(y, w, window.stride, window.pad, window.image),
        ref.conv_weight(x, y, window.stride, window.pad, window.kernel),
    )
    for found, by_formula in zip(derivatives(module, x, w, y, window), expected, strict=True):
        np.testing.assert_array_equal(found, by_formula)


def a_layer(n, c, o, size, dtype="float64", whole=False, kernel=4):
    """The operands of a layer that is large enough for filtering: a DCGAN's, or of kernel 3."""
    window = Window((size, size), (kernel, kernel), (2, 2) if kernel == 4 else (1, 1), (1, 1))
    rng = np.random.default_rng(0)
    shapes = (n, c, *window.image), (o, c, *window.kernel), (n, o, *window.grid)
    draw = (lambda s: rng.integers(-4, 5, s)) if whole else rng.standard_normal
    return *(draw(s).astype(dtype) for s in shapes), window


@pytest.mark.parametrize("layer", [(6, 8, 9, 64), (260, 9, 8, 4), (17, 11, 8, 16)])
def test_the_layers_of_the_dcgan_are_filtered_and_the_sums_are_the_same(layer):
    x, w, y, window = a_layer(*layer, whole=True)
    with patch.multiple(filtering, conv=None), pytest.raises(TypeError):
        cpu.conv(np, x, w, window)  # calls filtering
    for found, expected in zip(
        derivatives(cpu, x, w, y, window), derivatives(reference, x, w, y, window), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kernel", ["conv", "conv_image"])
@pytest.mark.parametrize(
    ("layer", "filtered"),
    [((17, 8, 9, 16), filtering), ((3, 8, 9, 64), filtering), ((3, 3, 9, 16), None)],
    ids=["filtered at once", "filtered in blocks", "planes"],
)
def test_first_and_second_derivatives_through_the_fast_paths(kernel, layer, filtered):
    x, w, y, window = a_layer(*layer)
    assert convolution._filter(len(x), w.shape[:2], window) is filtered
    image = x if kernel == "conv" else y
    fn = F.conv2d if kernel == "conv" else F.conv_transpose2d
    inputs = [tensor(a, requires_grad=True) for a in (image, w)]
    layer = lambda x, w: fn(x, w, stride=2, padding=1)
    assert gradcheck(layer, inputs)
    assert gradgradcheck(layer, inputs)


@pytest.fixture
def with_few_channels(monkeypatch):
    """winograd.py for layers of two channels, so that tests are small."""
    monkeypatch.setattr(convolution, "MANY_CHANNELS", 2)


@pytest.mark.usefixtures("with_few_channels")
@pytest.mark.parametrize("fn", [F.conv2d, F.conv_transpose2d])
def test_first_and_second_derivatives_through_kernel_3(fn):
    x, w, _, window = a_layer(2, 2, 2, 12, kernel=3)
    assert convolution._filter(len(x), w.shape[:2], window) is winograd
    inputs = [tensor(a, requires_grad=True) for a in (x, w)]
    layer = lambda x, w: fn(x, w, stride=1, padding=1)
    assert gradcheck(layer, inputs)
    assert gradgradcheck(layer, inputs)


@pytest.mark.usefixtures("with_few_channels")
@pytest.mark.parametrize("layer", [(2, 3, 4, 16), (1, 3, 2, 64), (70, 2, 3, 8)])
def test_the_sums_of_kernel_3_are_the_same(layer, monkeypatch):
    monkeypatch.setattr(winograd, "TILES", 8)  # several strips in each sum of the weight's gradient
    x, w, y, window = a_layer(*layer, whole=True, kernel=3)
    with patch.multiple(winograd, conv=None), pytest.raises(TypeError):
        cpu.conv(np, x, w, window)  # calls winograd
    for found, expected in zip(
        derivatives(cpu, x, w, y, window), derivatives(reference, x, w, y, window), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("kernel", "pad"), [(7, 0), (7, 3), (4, 1), (3, 2)])
def test_a_convolution_to_few_channels_is_one_from_few_channels(kernel, pad):
    window = Window((9, 9), (kernel, kernel), (1, 1), (pad, pad))
    rng = np.random.default_rng(0)
    x = rng.integers(-4, 5, (2, 9, *window.image)).astype(float)
    w = rng.integers(-4, 5, (3, 9, *window.kernel)).astype(float)
    y = rng.integers(-4, 5, (2, 3, *window.grid)).astype(float)
    with patch.object(convolution, "_turn", wraps=convolution._turn) as turn:
        found = derivatives(cpu, x, w, y, window)
    assert turn.call_count == 7  # three kernels, two gradients twice
    for one, expected in zip(found, derivatives(reference, x, w, y, window), strict=True):
        np.testing.assert_array_equal(one, expected)


def test_the_kernels_leave_their_operands_alone():
    for layer in ((6, 1, 2, 64), (2, 1, 2, 6)):
        x, w, y, window = a_layer(*layer)
        for a in (x, w, y):
            a.flags.writeable = False
        for result in derivatives(cpu, x, w, y, window):
            assert not any(np.shares_memory(result, a) for a in (x, w, y))
            assert result.flags.writeable


def test_results_do_not_live_in_memory_that_the_next_call_overwrites():
    x, w, y, window = a_layer(6, 1, 2, 64)
    first = derivatives(cpu, x, w, y, window)
    copies = [a.copy() for a in first]
    derivatives(cpu, x + 1, w + 1, y + 1, window)
    for a, copy in zip(first, copies, strict=True):
        np.testing.assert_array_equal(a, copy)


# -- the public functions -----------------------------------------------------------------------


def ones(*shape):
    return tensor(np.ones(shape))


def test_a_number_stands_for_a_pair():
    x, w = ones(1, 1, 5, 6), ones(1, 1, 2, 2)
    a, b = F.conv2d(x, w, None, 2, 1), F.conv2d(x, w, None, (2, 2), [1, 1])
    np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert F.conv2d(x, w, None, (1, 2), (0, 1)).shape == (1, 1, 4, 4)


def test_a_batch_of_no_images_gives_no_images():
    x = tensor(np.ones((0, 2, 4, 4)), requires_grad=True)
    w = tensor(np.ones((3, 2, 2, 2)), requires_grad=True)
    y = F.conv2d(x, w)
    y.sum().backward()
    assert (y.shape, x.grad.shape, w.grad.numpy().any()) == ((0, 3, 3, 3), x.shape, False)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: F.conv2d(ones(1, 2, 4, 4), ones(1, 3, 2, 2)), r"\(1, 2, 4, 4\).*\(1, 3, 2, 2\)"),
        (lambda: F.conv2d(ones(4, 4), ones(1, 1, 2, 2)), r"expected \(N, C_in, H, W\)"),
        (lambda: F.conv2d(ones(1, 1, 2, 2), ones(1, 1, 3, 3)), r"kernel \(3, 3\) is larger"),
        (lambda: F.conv2d(ones(1, 1, 4, 4), ones(2, 1, 2, 2), ones(1)), r"bias has shape \(1,\)"),
        (lambda: F.conv2d(ones(1, 1, 4, 4), ones(1, 1, 2, 2), stride=0), "stride must be an int"),
        (lambda: F.conv2d(ones(1, 1, 4, 4), ones(1, 1, 2, 2), padding=-1), "not -1"),
        (lambda: F.conv2d(ones(1, 1, 4, 4), ones(1, 1, 2, 2), stride=(1, 2, 3)), "pair"),
        (lambda: F.conv2d(ones(1, 1, 4, 4), ones(1, 1, 0, 2)), r"\(1, 1, 0, 2\) has no elements"),
        (lambda: F.conv_transpose2d(ones(1, 1, 4, 4), ones(1, 0, 2, 2)), "has no elements"),
        (lambda: F.conv2d(ones(1, 1, 4, 4), ones(1, 1, 2, 2), stride=True), "not True"),
        (lambda: F.conv_transpose2d(ones(1, 2, 4, 4), ones(3, 2, 2, 2)), r"\(C_in, C_out, kh, kw"),
        (
            lambda: F.conv_transpose2d(ones(1, 1, 2, 2), ones(1, 1, 2, 2), output_padding=1),
            r"output_padding \(1, 1\) must be below stride \(1, 1\)",
        ),
        (
            lambda: F.conv_transpose2d(ones(1, 1, 1, 1), ones(1, 1, 2, 2), padding=1),
            r"would have the size \(0, 0\)",
        ),
        (
            lambda: F.conv_transpose2d(ones(1, 2, 1, 1), ones(2, 3, 1, 1), ones(2)),
            r"expected \(3,\)",
        ),
    ],
)
def test_operands_that_do_not_fit_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_each_kind_of_array_gets_its_kernels():
    assert kernels(np) is cpu
    assert kernels(SimpleNamespace()) is gpu


# -- numbers that only filtering would make infinite or NaN -------------------------------------

EXTREMES = {  # numbers for one element of a factor, or for all; their sums overflow
    "infinity": lambda rng, a: a.flat[[77]] + np.inf,
    "minus infinity": lambda rng, a: a.flat[[77]] - np.inf,
    "NaN": lambda rng, a: a.flat[[77]] * np.nan,
    "large": lambda rng, a: 2e38 * rng.choice([-1, 1], a.shape),
}


def kinds(a):
    """For each number, whether it is finite, NaN, or which infinity."""
    return np.where(np.isfinite(a), 0, a)


@pytest.mark.parametrize("factor", [0, 1, 2], ids=["image", "weight", "grid"])
@pytest.mark.parametrize("extreme", EXTREMES)
@pytest.mark.usefixtures("with_few_channels")
@pytest.mark.parametrize(
    ("layer", "kernel"),
    [((17, 8, 9, 16), 4), ((130, 8, 9, 8), 4), ((4, 8, 9, 16), 3)],
    ids=["at once", "in blocks", "kernel 3"],
)
def test_filtering_makes_no_infinity_and_no_nan_of_its_own(layer, kernel, extreme, factor):
    *factors, window = a_layer(*layer, "float32", kernel=kernel)
    rng = np.random.default_rng(1)
    made = EXTREMES[extreme](rng, factors[factor])
    if made.size > 1:
        factors = [a * np.float32(1e-4) for a in factors]
        factors[factor][...] = made
    else:
        factors[factor].flat[77] = made[0]
    with np.errstate(all="ignore"):
        pair = [derivatives(module, *factors, window) for module in (cpu, reference)]
    for found, expected in zip(*pair, strict=True):
        if (kernel, extreme, factor) == (3, "NaN", 1):  # a NaN also meets the zeros of the padding
            found, expected = found[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1]
        np.testing.assert_array_equal(kinds(found), kinds(expected))


@pytest.mark.parametrize("extreme", ["infinity", "large"])
def test_a_kernel_that_is_turned_round_makes_no_nan_of_its_own(extreme):
    x, w, y, window = a_layer(2, 9, 3, 8, "float32", kernel=3)
    w.flat[77] = EXTREMES[extreme](np.random.default_rng(1), w).flat[0]
    with np.errstate(all="ignore"):
        pair = [derivatives(module, x, w, y, window) for module in (cpu, reference)]
    for found, expected in zip(*pair, strict=True):
        clear = ~np.isnan(expected)  # the reference multiplies the padding by the infinite weight
        np.testing.assert_array_equal(kinds(found)[clear], kinds(expected)[clear])


@pytest.mark.parametrize("spread", [0, 3, 8])
def test_the_rounding_error_of_filtering_is_relative_to_the_tile(spread):
    rng, window = np.random.default_rng(0), Window((16, 16), (4, 4), (2, 2), (1, 1))
    shapes = (20, 8, 16, 16), (12, 8, 4, 4)
    x, w = (rng.standard_normal(s) * np.exp(spread * rng.standard_normal(s)) for s in shapes)
    found = filtering.conv(np.float32(x), np.float32(w), window)
    exact = reference.conv(np, np.float64(np.float32(x)), np.float64(np.float32(w)), window)
    pixels = np.pad(np.abs(x), ((0, 0), (0, 0), (1, 1), (1, 1)))
    tiles = np.lib.stride_tricks.sliding_window_view(pixels, (6, 6), (2, 3))[:, :, ::4, ::4]
    sums = tiles.sum((1, 4, 5)).repeat(2, 1).repeat(2, 2)[:, None]  # over a tile of 2 x 2 outputs
    scale = np.abs(w).max((1, 2, 3))[:, None, None] * sums
    assert (np.abs(found - exact) <= 16 * 2.0**-24 * scale).all()


def test_a_weight_whose_transform_overflows_is_not_kept_for_the_gradients():
    x, w, y, window = a_layer(70, 8, 9, 4, "float32")
    w[...] = np.float32([2e38, 2e38, -2e38, -2e38])[:, None]  # the sum of its infinite sums is NaN
    memo = {}
    assert np.isfinite(cpu.conv(np, x * np.float32(1e-4), w, window, memo)).all()
    y = np.abs(y) * np.float32(1e-4)
    dx, dw = cpu.conv_gradients(np, [0, 1], x, w, y, window, memo)
    assert np.isfinite(dx).all()
    assert np.isfinite(dw).all()


@pytest.mark.parametrize("size", [0.25, 200])
def test_a_convolution_of_float16_is_rounded_once(size):
    """Large results overflow only where the exact results do."""
    x, w, y, _ = a_layer(17, 8, 9, 16)
    x, w, y = (np.float16(a * size) for a in (x, w, y))
    exact = [tensor(np.float64(a), requires_grad=True) for a in (x, w, y)]
    half = [tensor(a, requires_grad=True) for a in (x, w, y)]
    for fn, a, b in ((F.conv2d, 0, 1), (F.conv_transpose2d, 2, 1)):
        with np.errstate(over="ignore"):
            pair = []
            for t in (half, exact):
                z = fn(t[a], t[b], stride=2, padding=1)
                pair.append([z, *grad(z, [t[a], t[b]], tensor(np.full(z.shape, size, z.dtype)))])
            for found, expected in zip(*pair, strict=True):
                assert found.dtype == np.float16
                np.testing.assert_array_equal(found.numpy(), np.float16(expected.numpy()))
