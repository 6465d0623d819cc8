"""The networks of progressive growing: sizes, fades as identities, and equalised layers."""

import math
from itertools import pairwise

import numpy as np
import pytest
from strategies import as_function, leaf

from minigan import gradcheck, gradgradcheck, init, manual_seed, nn, tensor
from minigan.models.equalized import EqualizedConv2d, equalized
from minigan.models.progressive import (
    Discriminator,
    Generator,
    channels,
    doublings,
    down,
    faded,
    position,
    up,
)
from minigan.optim import Adam
from minigan.tensor import grad

rng = np.random.default_rng
EXACT = {"rtol": 1e-12, "atol": 1e-13}  # float64: the rounding errors of a few layers
NZ, WIDTH, SIZE, LAST = 3, 4, 16, 2  # networks of three levels


def noise(n=4):
    return tensor(rng(1).standard_normal((n, NZ)))


def images(level, n=4):
    return tensor(rng(2).uniform(-1, 1, (n, 3, 4 << level, 4 << level)))


def networks():
    """G and D in float64, with biases that are not 0."""
    made = Generator(NZ, WIDTH, 3, SIZE, rng(0)), Discriminator(WIDTH, 3, SIZE, rng(0))
    for net in made:
        for p in net.double().parameters():
            p.data += 0.1 * rng(p.numel()).standard_normal(p.shape)
    return made


# -- equalised layers -----------------------------------------------------------------------------

LAYERS = {
    "linear": (lambda: nn.Linear(300, 200), (100, 300), 300),
    "convolution": (lambda: nn.Conv2d(30, 40, 3, 1, 1), (4, 30, 16, 16), 270),
    "from 1 x 1 pixels": (lambda: nn.ConvTranspose2d(50, 60, 4), (40, 50, 1, 1), 800),
}
each_layer = pytest.mark.parametrize(("make", "shape", "fan"), LAYERS.values(), ids=LAYERS)


@each_layer
def test_outputs_have_the_size_that_the_gain_asks_for(make, shape, fan):
    """Standard deviation `gain` for inputs of standard deviation 1, so 1 for a gain of 1."""
    layer, x = make(), tensor(rng(0).standard_normal(shape).astype("f"))
    for gain in (1.0, math.sqrt(2)):
        y = equalized(make(), rng(1), gain)(x).numpy()
        if y.shape[2:] == x.shape[2:] != ():
            y = y[:, :, 1:-1, 1:-1]  # at the edges, a part of the sum is padding
        # From one pixel, each output sums `in` of the fan_in inputs: the gain / 4 of the paper's code.
        summed = shape[1] if isinstance(layer, nn.ConvTranspose2d) else fan
        expected = gain * math.sqrt(summed / fan)
        assert y.std() == pytest.approx(expected, rel=0.05)  # of 20,000 numbers or more


def test_the_scale_of_a_wide_layer():
    assert equalized(nn.Conv2d(512, 1, 3), rng(0)).scale == pytest.approx(1 / 48, rel=1e-15)
    first = Generator(512, 1, 3, 8).blocks[0][0]
    assert first.scale == pytest.approx(math.sqrt(2) / 4 / math.sqrt(512), rel=1e-15)


@each_layer
def test_a_step_of_adam_moves_the_effective_weight_by_its_scale(make, shape, fan):
    """The first step is lr for each stored weight, however wide the layer is."""
    layer = equalized(make(), rng(0)).double()
    before, weight = layer.weight.numpy().copy(), layer.weight_orig
    Adam([weight], lr=0.01, eps=1e-300).step([tensor(rng(1).standard_normal(weight.shape))])
    moved = np.abs(layer.weight.numpy() - before)
    np.testing.assert_allclose(moved, 0.01 * math.sqrt(2 / fan), rtol=1e-9)


def test_a_layer_keeps_its_parameter_and_gets_new_values():
    layer = nn.Conv2d(2, 3, 3)
    weight, strides = layer.weight, layer.weight.data.strides
    layer.bias.data += 1
    made = equalized(layer, rng(3))
    assert made is layer
    assert type(made) is EqualizedConv2d
    assert made.weight_orig is weight
    assert made.weight_orig.data.strides == strides
    assert set(made.state_dict()) == {"weight_orig", "bias"}
    np.testing.assert_array_equal(
        made.weight_orig.numpy(), rng(3).normal(0, 1, (3, 2, 3, 3)).astype("f")
    )
    assert not made.bias.numpy().any()


def test_other_layers_are_refused():
    with pytest.raises(
        TypeError, match=r"^equalized: expected one of Linear, Conv2d, .*, not Tanh$"
    ):
        equalized(nn.Tanh())
    with pytest.raises(TypeError, match="not EqualizedConv2d"):
        equalized(equalized(nn.Conv2d(1, 1, 1)))


@pytest.mark.parametrize("make", [lambda: nn.Conv2d(2, 2, 2), lambda: nn.ConvTranspose2d(2, 2, 2)])
def test_first_and_second_derivatives_of_a_layer(make):
    manual_seed(0)
    fn, parameters = as_function(equalized(make()).double())
    inputs = [leaf(rng(1), (2, 2, 3, 3)), *parameters]
    assert gradcheck(fn, inputs)
    assert gradgradcheck(fn, inputs)


# -- sizes ----------------------------------------------------------------------------------------


def test_the_channels_are_those_of_the_paper():
    """Table 2; in the authors' code, level k has min(8192 / 2^(k + 1), 512) channels."""
    paper = [512, 512, 512, 512, 256, 128, 64, 32, 16]
    assert [channels(512, k) for k in range(9)] == paper
    assert [min(8192 >> k + 1, 512) for k in range(9)] == paper
    assert [channels(3, k) for k in range(7)] == [3, 3, 3, 3, 1, 1, 1]


def test_the_parameters_are_as_many_as_in_the_paper():
    """23.1 million in each network for 1024 x 1024 pixels (table 2); each level has a layer to RGB."""
    conv = lambda inside, out, size=3: inside * out * size**2 + out
    w = [512, 512, 512, 512, 256, 128, 64, 32, 16]
    pairs = list(pairwise(w))
    with init.shapes_only():
        nets = Generator(512, 512, 3, 1024), Discriminator(512, 3, 1024)
    G, D = (sum(p.numel() for p in net.parameters()) for net in nets)
    grown = [conv(512, 512, 4) + conv(512, 512), *(conv(a, b) + conv(b, b) for a, b in pairs)]
    assert G == sum(grown) + sum(conv(each, 3, 1) for each in w) == 23_079_115
    shrunk = [conv(513, 512) + conv(512, 512, 4) + conv(512, 1, 1)]
    shrunk += [conv(b, b) + conv(b, a) for a, b in pairs]
    assert D == sum(shrunk) + sum(conv(3, each, 1) for each in w) == 23_087_249


def test_each_level_has_twice_the_pixels():
    G, D = networks()
    for level, size in ((0, 4), (0.5, 8), (1, 8), (1.01, 16), (2, 16)):
        x = G(noise(), level)
        assert (x.shape, D(x, level).shape) == ((4, 3, size, size), (4,))
    assert [doublings(size) for size in (4, 8, 16, 64, 1024)] == [0, 1, 2, 4, 8]
    for size in (0, 2, 12, 28, 65):
        with pytest.raises(ValueError, match=rf"^image_size {size} is not 4 times a power of two$"):
            doublings(size)


def test_a_level_is_a_place():
    assert [position(level) for level in (0, 0.25, 1, 1.5, 3)] == [
        (0, 1), (1, 0.25), (1, 1), (2, 0.5), (3, 1),
    ]  # fmt: skip


# -- fades ----------------------------------------------------------------------------------------

fades = pytest.mark.parametrize("k", [1, 2])
SHARES = (0.0, 0.3, 1.0)


def near(k, a):
    """The level k - 1 + a; for a = 0 and 1, one within the fade that is as near as rounding."""
    return k - 1 + min(max(a, 1e-14), 1 - 1e-14)


@fades
@pytest.mark.parametrize("a", SHARES)
def test_g_fades_from_the_old_network_enlarged_to_the_new_one(k, a):
    G, _ = networks()
    z = noise()
    old, new = up(G(z, k - 1)).numpy(), G(z, k).numpy()
    assert np.abs(old - new).max() > 0.1
    np.testing.assert_allclose(G(z, near(k, a)).numpy(), (1 - a) * old + a * new, **EXACT)


@fades
@pytest.mark.parametrize("a", SHARES)
def test_d_fades_from_the_old_network_on_small_images_to_the_new_one(k, a):
    _, D = networks()
    x = images(k)
    old, new = D(down(x), k - 1).numpy(), D(x, k).numpy()
    assert np.abs(old - new).max() > 0.01
    found = D(x, near(k, a)).numpy()
    if a in (0, 1):
        np.testing.assert_allclose(found, new if a else old, **EXACT)
        return
    # What fades is the input of the old network's blocks.
    features = a * D.blocks[k](D.rgb[k](x)) + (1 - a) * D.rgb[k - 1](down(x))
    for block in reversed(list(D.blocks)[:k]):
        features = block(features)
    np.testing.assert_allclose(found, features.numpy().ravel(), **EXACT)


@fades
@pytest.mark.parametrize("a", SHARES)
def test_reals_fade_as_samples_do(k, a):
    """At the beginning of a fade, D scores faded reals as the old D scores the small ones."""
    _, D = networks()
    x = images(LAST)
    small, smaller = (x.numpy().reshape(4, 3, n, 16 // n, n, 16 // n).mean((3, 5))
                      for n in (4 << k, 2 << k))  # fmt: skip
    expected = (1 - a) * smaller.repeat(2, 2).repeat(2, 3) + a * small
    np.testing.assert_allclose(faded(x, near(k, a)).numpy(), expected, **EXACT)
    np.testing.assert_allclose(faded(x, k).numpy(), small, **EXACT)
    if a == 0:
        score = D(faded(x, near(k, a)), near(k, a)).numpy()
        np.testing.assert_allclose(score, D(faded(x, k - 1), k - 1).numpy(), **EXACT)


@pytest.mark.parametrize("level", [0, 0.5, 1, 1.5, 2])
def test_what_is_not_used_takes_no_part(level):
    """The old layer to RGB after the fade, and all that is yet to come: NaN there changes nothing."""
    for net, x in zip(networks(), (noise(), images(position(level)[0])), strict=True):
        expected, used = net(x, level).numpy(), net.used(level)
        idle = [p for p in net.parameters() if not any(p is each for each in used)]
        assert len(set(map(id, used))) == len(used)
        assert len(idle) + len(used) == len(list(net.parameters()))
        for p in idle:
            p.data[...] = np.nan
        np.testing.assert_array_equal(net(x, level).numpy(), expected)
        grad(net(x, level).sum(), used)  # raises if one of them is not used


def test_only_the_direction_of_z_counts():
    """Beside such a z, the 1e-8 of pixel norm does not count."""
    G, _ = networks()
    one, other = (G(noise() * factor, LAST).numpy() for factor in (1e5, 1e6))
    np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("level", [0.5, 1])
def test_first_and_second_derivatives_of_d(level):
    """As the penalty needs them, in a fade and after it; with this seed no difference meets a kink."""
    D = Discriminator(3, 1, 8, rng(1)).double()
    x = tensor(rng(3).uniform(-1, 1, (4, 1, 8, 8)), requires_grad=True)
    assert gradcheck(lambda x: D(x, level), [x])
    assert gradgradcheck(lambda x: D(x, level), [x])
