"""The networks of StyleGAN: sizes, identities of their layers, styles and noise."""

import math
from itertools import pairwise

import numpy as np
import pytest

from minigan import functional as F
from minigan import gradcheck, gradgradcheck, init, nn, tensor
from minigan.models.equalized import equalized, slow_linear
from minigan.models.stylegan import (
    STYLES,
    AdaINLayer,
    Discriminator,
    Generator,
    Mapping,
    ModulatedLayer,
    Synthesis,
    adain,
    modulated_conv,
    up,
)
from minigan.optim import Adam
from minigan.tensor import grad

rng = np.random.default_rng
EXACT = {"rtol": 1e-12, "atol": 1e-13}  # float64: the rounding errors of a few layers
NW, WIDTH = 3, 4

kinds = pytest.mark.parametrize("kind", STYLES)


def numbers(seed, *shape):
    return tensor(rng(seed).standard_normal(shape))


def synthesis(kind, size=16):
    """A synthesis network in float64, whose biases and strengths of noise are not 0."""
    net = Synthesis(WIDTH, 3, size, NW, kind, rng(0)).double()
    for p in net.parameters():
        p.data += 0.3 * rng(p.numel()).standard_normal(p.shape)
    return net


# -- sizes ----------------------------------------------------------------------------------------


def weights(net):
    return sum(p.numel() for p in net.parameters())


def test_the_mapping_network_has_the_papers_size():
    assert weights(Mapping()) == 8 * (512 * 512 + 512) == 2_101_248


@kinds
def test_there_are_two_styles_for_each_size(kind):
    """18 styles for 1024 pixels; the networks of both papers have as many."""
    with init.shapes_only():
        for size, count in ((8, 4), (16, 6), (32, 8), (1024, 18)):
            assert Synthesis(8, 3, size, 8, kind, rng(0)).styles == count


@kinds
def test_the_synthesis_network_has_the_papers_layers(kind):
    """Of 3 x 3 pixels, without a convolution in StyleGAN's first layer; the noise has a strength."""
    with init.shapes_only():
        net = Synthesis(512, 3, 64, 512, kind, rng(0))
    widths = [512, 512, 512, 512, 256]
    pairs = [(512, 512)]
    for before, width in pairwise(widths):
        pairs += [(before, width), (width, width)]
    expected = 512 * 16 + sum(9 * a * b + b for a, b in pairs) + sum(b for _, b in pairs)
    if kind == "adain":
        expected += 512 + sum(513 * 2 * b for b in (512, *(b for _, b in pairs)))
    else:
        expected += sum(513 * a for a, _ in pairs) + 513 * 256
    assert weights(net) == expected + 3 * 257


@kinds
def test_images_have_their_size_and_samples_one_score_each(kind):
    G = Generator(NW, WIDTH, 1, 16, kind, 2, 1.0, rng(0))
    images = G(numbers(1, 4, NW).float())
    assert images.shape == (4, 1, 16, 16)
    assert Discriminator(WIDTH, 1, 16, rng(0))(images).shape == (4,)
    with pytest.raises(ValueError, match=r"^image_size 12 is not 4 times a power of two$"):
        Generator(image_size=12)


# -- AdaIN ----------------------------------------------------------------------------------------


def test_zero_styles_make_adain_an_instance_norm():
    x, zero = numbers(1, 2, 3, 4, 5), tensor(np.zeros((2, 3)))
    expected = F.instance_norm(x, eps=1e-8)
    np.testing.assert_array_equal(adain(x, zero, zero).numpy(), expected.numpy())


def test_the_statistics_of_each_channel_are_its_styles():
    """Up to the 1e-8 beside a variance of about 1."""
    x, scale, shift = numbers(1, 2, 3, 8, 8) * 5 + 7, numbers(2, 2, 3), numbers(3, 2, 3)
    y = adain(x, scale, shift).numpy()
    np.testing.assert_allclose(y.mean((2, 3)), shift.numpy(), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(y.std((2, 3)), np.abs(1 + scale.numpy()), rtol=1e-8)


def test_the_first_styles_of_a_layer_change_nothing():
    """The style's bias is 0, so w = 0 leaves an instance norm; the paper starts there too."""
    layer = AdaINLayer(0, WIDTH, NW, False, rng(0)).double()
    x = numbers(1, 2, WIDTH, 4, 4)
    y = layer(x, tensor(np.zeros((2, NW))), numbers(2, 2, 1, 4, 4))
    expected = F.instance_norm(F.leaky_relu(x, 0.2), eps=1e-8)
    np.testing.assert_array_equal(y.numpy(), expected.numpy())


# -- modulation -----------------------------------------------------------------------------------


def test_scaling_a_style_leaves_the_demodulated_output():
    """Up to the 1e-8 beside a sum of squares of about 10."""
    x, weight, style = numbers(1, 2, 3, 5, 5), numbers(2, 4, 3, 3, 3), numbers(3, 2, 3)
    y = modulated_conv(x, weight, style).numpy()
    for factor in (0.1, 3.0, 1000.0):
        found = modulated_conv(x, weight, style * factor).numpy()
        np.testing.assert_allclose(found, y, rtol=1e-6, atol=1e-7)
    assert np.abs(modulated_conv(x, weight, style * 3, demodulate=False).numpy() - y).max() > 1


def test_demodulated_outputs_have_a_standard_deviation_of_one():
    x, weight, style = numbers(1, 2, 32, 32, 32), numbers(2, 16, 32, 3, 3), numbers(3, 2, 32)
    y = modulated_conv(x, weight, 7 * style).numpy()[:, :, 1:-1, 1:-1]  # without the zeros around
    np.testing.assert_allclose(y.std((2, 3)), 1, rtol=0.15)  # 900 pixels that resemble each other


@pytest.mark.parametrize("demodulate", [True, False])
def test_modulation_is_a_convolution_with_a_weight_for_each_image(demodulate):
    """The form in which the paper gives it, equations 1 and 3."""
    x, weight, style = numbers(1, 2, 3, 5, 5), numbers(2, 4, 3, 3, 3), numbers(3, 2, 3)
    found = modulated_conv(x, weight, style, demodulate).numpy()
    for n in range(2):
        own = weight.numpy() * style.numpy()[n, :, None, None]
        if demodulate:
            own /= np.sqrt((own**2).sum((1, 2, 3), keepdims=True) + 1e-8)
        expected = F.conv2d(x[n : n + 1], tensor(own), padding=1).numpy()
        np.testing.assert_allclose(found[n : n + 1], expected, **EXACT)


def test_the_first_styles_of_a_modulated_layer_are_ones():
    layer = ModulatedLayer(WIDTH, WIDTH, NW, False, rng(0))
    assert (layer.style(tensor(np.zeros((2, NW), np.float32))).numpy() == 1).all()


# -- doubling -------------------------------------------------------------------------------------


def test_the_blur_leaves_a_constant():
    for value in (1.0, -0.75, 3.0):
        assert (up(tensor(np.full((1, 2, 3, 4), value))).numpy() == value).all()


def test_doubling_is_repeating_and_blurring():
    x = numbers(1, 2, 3, 4, 5)
    repeated = x.numpy().repeat(2, 2).repeat(2, 3)
    framed = np.pad(repeated, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    rows = (framed[:, :, :-2] + 2 * framed[:, :, 1:-1] + framed[:, :, 2:]) / 4
    expected = (rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]) / 4
    np.testing.assert_allclose(up(x).numpy(), expected, **EXACT)


def test_blurring_before_a_convolution_is_blurring_behind_it():
    """As the authors do: the same, except for the two pixels at each edge."""
    x, weight = numbers(1, 1, 2, 6, 6), numbers(2, 3, 2, 3, 3)
    found = F.conv2d(up(x), weight, padding=1).numpy()
    y = F.conv2d(F.interpolate(x, scale_factor=2), weight, padding=1).numpy()
    y = (y[:, :, :-2] + 2 * y[:, :, 1:-1] + y[:, :, 2:]) / 4
    y = (y[..., :-2] + 2 * y[..., 1:-1] + y[..., 2:]) / 4
    np.testing.assert_allclose(found[:, :, 2:-2, 2:-2], y[:, :, 1:-1, 1:-1], **EXACT)


# -- styles and noise -----------------------------------------------------------------------------


def outputs(net, w, noise=None):
    """The image, and the output of each layer."""
    found = []
    for layer in net.layers:
        forward = type(layer).forward

        def seen(*inputs, layer=layer, forward=forward):
            found.append(forward(layer, *inputs))
            return found[-1]

        vars(layer)["forward"] = seen
    image = net(w, noise)
    for layer in net.layers:
        del vars(layer)["forward"]
    return [*(each.numpy() for each in found), image.numpy()]


@kinds
def test_swapped_styles_agree_below_the_crossover_byte_for_byte(kind):
    net = synthesis(kind)
    a, b = numbers(1, 2, net.styles, NW), numbers(2, 2, net.styles, NW)
    whole = outputs(net, a)
    for crossover in range(1, net.styles):
        found = outputs(net, F.cat([a[:, :crossover], b[:, crossover:]], 1))
        for i, (one, other) in enumerate(zip(whole, found, strict=True)):
            assert (one.tobytes() == other.tobytes()) == (i < crossover), (crossover, i)


@kinds
def test_each_layer_has_noise_of_its_own(kind):
    """The noise of a layer changes this layer and those after it, and none before."""
    net = synthesis(kind)
    w = numbers(1, 2, net.styles, NW)
    usual, start = outputs(net, w), 0
    for i, size in enumerate(net.sizes):
        noise = net.noise.numpy().copy()
        noise[:, start : start + size**2] += 1.0 + rng(i).standard_normal((1, size**2))
        start += size**2
        found = outputs(net, w, tensor(noise))
        changed = [(a != b).any() for a, b in zip(usual, found, strict=True)]
        assert changed == [j >= i for j in range(len(usual))]
    assert start == net.noise.shape[1]


@kinds
def test_noise_has_no_strength_at_first_and_is_fixed_unless_given(kind):
    net = Synthesis(WIDTH, 3, 16, NW, kind, rng(0))
    w = numbers(1, 2, net.styles, NW).float()
    silent = net(w, net.noise * 0).numpy()
    assert (net(w).numpy() == silent).all()
    for layer in net.layers:
        layer.strength.data[...] = 0.5
    assert (net(w).numpy() == net(w, net.noise).numpy()).all()
    assert (net(w).numpy() != silent).any()
    assert (net(w).numpy() == net(w).numpy()).all()


@kinds
def test_an_image_depends_on_its_own_style_and_noise_alone(kind):
    net = synthesis(kind)
    w, noise = numbers(1, 3, net.styles, NW), numbers(2, 3, net.noise.shape[1])
    together = net(w, noise).numpy()
    for n in range(3):
        alone = net(w[n : n + 1], noise[n : n + 1]).numpy()
        np.testing.assert_allclose(together[n : n + 1], alone, **EXACT)


@kinds
def test_first_and_second_derivatives(kind):
    """By the styles and by all weights of a tiny network; with these seeds no kink is met."""
    net = Synthesis(2, 1, 8, 2, kind, rng(3)).double()
    for p in net.parameters():
        p.data += 0.3 * rng(p.numel()).standard_normal(p.shape)
    w = tensor(rng(5).standard_normal((2, net.styles, 2)), requires_grad=True)
    assert gradcheck(lambda w: net(w), [w])
    assert gradgradcheck(lambda w: net(w), [w])


# -- the mapping network ---------------------------------------------------------------------------


def test_only_the_direction_of_z_counts():
    """Beside such a z, the 1e-8 of pixel norm does not count."""
    net, z = Mapping(NW, 2, 0.01, rng(0)).double(), numbers(1, 4, NW)
    one, other = (net(z * factor).numpy() for factor in (1e5, 1e6))
    np.testing.assert_allclose(one, other, rtol=1e-9)


def test_a_slow_layer_starts_as_others_do_and_learns_at_a_fraction_of_the_rate():
    x, moved = numbers(1, 64, 300), []
    for rate in (1.0, 0.01):
        layer = slow_linear(300, 200, rate, rng(0)).double()
        first, bias = layer.weight.numpy(), layer.bias.numpy()
        assert layer(x).numpy().std() == pytest.approx(math.sqrt(2), rel=0.02)
        assert (bias == 0).all()
        optimizer = Adam(layer.parameters(), lr=0.1)
        optimizer.step(grad((layer(x) ** 2).sum() * 1e6, optimizer.params))  # Adam's eps is small
        moved.append((np.abs(layer.weight.numpy() - first), np.abs(layer.bias.numpy() - bias)))
    for fast, slow in zip(*moved, strict=True):
        np.testing.assert_allclose(slow, 0.01 * fast, rtol=1e-3)
    plain = equalized(nn.Linear(300, 200), rng(0))
    np.testing.assert_allclose(slow_linear(300, 200, 0.01, rng(0)).weight.numpy(),
                               plain.weight.numpy(), rtol=1e-6)  # fmt: skip
