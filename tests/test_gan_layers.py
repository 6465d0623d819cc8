"""The layers that only GANs have: numbers worked by hand, gradients, and pitfalls of other code."""

import numpy as np
import pytest
from strategies import as_function, leaf

from minigan import gradcheck, gradgradcheck, init, manual_seed, nn, tensor
from minigan.models.layers import MinibatchDiscrimination, MinibatchStdDev, PixelNorm
from minigan.tensor import grad

rng = np.random.default_rng
EXACT = {"rtol": 1e-12, "atol": 1e-14}  # float64: the rounding errors of a few sums

LAYERS = {
    "MinibatchStdDev of planes": (lambda: MinibatchStdDev(3), (6, 3, 2, 2)),
    "MinibatchStdDev of features": (MinibatchStdDev, (4, 3)),
    "MinibatchDiscrimination of planes": (lambda: MinibatchDiscrimination(12, 2, 3), (4, 3, 2, 2)),
    "MinibatchDiscrimination of features": (lambda: MinibatchDiscrimination(3, 2, 2), (4, 3)),
    "PixelNorm": (PixelNorm, (2, 3, 2, 2)),
}
each_layer = pytest.mark.parametrize(("make", "shape"), list(LAYERS.values()), ids=list(LAYERS))
each_minibatch_layer = pytest.mark.parametrize(
    ("make", "shape"), list(LAYERS.values())[:4], ids=list(LAYERS)[:4]
)


@each_layer
def test_first_and_second_derivatives(make, shape):
    manual_seed(0)
    fn, parameters = as_function(make().double())
    assert gradcheck(fn, [leaf(rng(1), shape), *parameters])
    assert gradgradcheck(fn, [leaf(rng(1), shape), *parameters])


@each_layer
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_layer_stays_in_its_dtype_also_twice_backward(make, shape, dtype):
    layer = make().to(dtype)
    x = tensor(rng(0).standard_normal(shape).astype(dtype), requires_grad=True)
    y = layer(x)
    (first,) = grad((y * y).sum(), x, create_graph=True)
    (second,) = grad((first * first).sum(), x)
    assert {y.dtype.name, first.dtype.name, second.dtype.name} == {dtype}


@each_minibatch_layer
def test_what_is_appended_does_not_change_the_rest(make, shape):
    manual_seed(0)
    x = tensor(rng(0).standard_normal(shape).astype("f"))
    y = make()(x).numpy()
    np.testing.assert_array_equal(y[:, : shape[1]], x.numpy())
    extra = y[:, shape[1] :]
    assert extra.shape[1] == getattr(make(), "kernels", 1)
    planes = extra.reshape(*extra.shape[:2], -1)
    np.testing.assert_array_equal(planes - planes[:, :, :1], 0)  # constant


# -- minibatch discrimination ---------------------------------------------------------------------


def closeness(M):
    """o_b(i) for rows M (N, B, C), and the layer's input."""
    M = np.asarray(M, float)
    layer = MinibatchDiscrimination(M.shape[1] * M.shape[2], M.shape[1], M.shape[2]).double()
    layer.weight.data = np.eye(len(layer.weight))
    x = tensor(M.reshape(len(M), -1), requires_grad=True)
    return layer(x)[:, x.shape[1] :], x


def test_closeness_and_its_gradient_by_hand():
    o, x = closeness([[[0, 0]], [[1, 0]], [[0, 2]]])
    # e^-1 + e^-2, e^-1 + e^-3, e^-2 + e^-3: a sample does not count itself
    expected = np.exp([[-1.0], [-1], [-2]]) + np.exp([[-2.0], [-3], [-3]])
    np.testing.assert_allclose(o.numpy(), expected, **EXACT)
    np.testing.assert_allclose(expected[:, 0], [0.50321472, 0.41766651, 0.18512235], atol=5e-9)
    (g,) = grad(o.sum(), x)
    by_hand = [[0.73575888, 0.27067057], [-0.83533302, 0.09957414], [0.09957414, -0.3702447]]
    np.testing.assert_allclose(g.numpy(), by_hand, atol=1e-8)  # eight digits are given


def test_each_kernel_is_compared_by_itself():
    M = rng(0).standard_normal((5, 3, 2))
    o = closeness(M)[0].numpy()
    for b in range(3):
        np.testing.assert_allclose(o[:, [b]], closeness(M[:, [b]])[0].numpy(), **EXACT)
    distances = np.abs(M[:, None] - M[None]).sum(3)
    expected = [[sum(np.exp(-distances[i, j, b]) for j in range(5) if j != i) for b in range(3)]
                for i in range(5)]  # fmt: skip
    np.testing.assert_allclose(o, expected, **EXACT)


def test_closeness_follows_its_sample_and_ignores_a_common_shift():
    M, order = rng(0).standard_normal((6, 2, 3)), rng(1).permutation(6)
    o = closeness(M)[0].numpy()
    np.testing.assert_allclose(closeness(M[order])[0].numpy(), o[order], **EXACT)
    np.testing.assert_allclose(closeness(M + 7)[0].numpy(), o, rtol=1e-12)
    same = closeness(np.repeat(M[:1], 6, 0))[0].numpy()
    np.testing.assert_array_equal(same, np.full((6, 2), 5.0))  # N - 1
    assert closeness(M[:1])[0].numpy().tolist() == [[0, 0]]  # no others


@pytest.mark.parametrize("width", [4, 8192])
def test_the_first_kernels_neither_vanish_nor_saturate(width):
    """With weights N(0, 1), as in other code, every exp would be 0 at the larger widths."""
    layer = MinibatchDiscrimination(width, 20, 5)
    layer.reset_parameters(rng(0))
    x = tensor(rng(1).standard_normal((8, width)).astype("f"), requires_grad=True)
    o = layer(x)[:, width:]
    assert 0.1 < o.mean().item() / 7 < 0.6  # e^-1.13 is 0.32
    (g,) = grad(o.sum(), x)
    assert np.abs(g.numpy()).max() > 1e-3 / width
    layer.weight.data *= 5 * width**0.5  # N(0, 1)
    assert width == 4 or not layer(x)[:, width:].numpy().any()


def test_the_generator_fixes_the_first_kernels():
    layers = [MinibatchDiscrimination(3, 2, 2) for _ in range(2)]
    for layer in layers:
        layer.reset_parameters(rng(3))
    np.testing.assert_array_equal(layers[0].weight.numpy(), layers[1].weight.numpy())


# -- the standard deviation of a minibatch --------------------------------------------------------


def stddev(x, group=4):
    """The value that is appended to each sample of x (N, C, ...)."""
    x = np.asarray(x, float)
    y = MinibatchStdDev(group)(tensor(x)).numpy()[:, x.shape[1] :]
    return y.reshape(len(x), -1)[:, 0]


def test_the_standard_deviation_by_hand():
    """Sample i is in group i mod 3. The result is the root of the population variance."""
    x = np.reshape([0, 0, 0, 0, 1, 2, 3, 4, 100, 200, 300, 400], (12, 1))
    expected = [86.17823101, 129.19050855, 163.55656514]
    np.testing.assert_allclose(stddev(x), expected * 4, atol=5e-9)  # eight digits are given
    np.testing.assert_allclose(stddev(x.reshape(12, 1, 1, 1)), expected * 4, atol=5e-9)
    np.testing.assert_allclose(expected, np.std(x.reshape(4, 3), 0), atol=5e-9)


def test_it_is_the_mean_over_the_features_of_a_group():
    x = rng(0).standard_normal((6, 3, 2, 2))
    found = stddev(x, group=2)
    for i in range(6):
        pair = x[[i % 3, i % 3 + 3]]
        expected = np.sqrt(pair.var(0) + 1e-8).mean()
        np.testing.assert_allclose(found[i], expected, **EXACT)


def test_samples_that_are_equal_give_one_ten_thousandth_and_a_finite_slope():
    x = tensor(np.ones((4, 3)), requires_grad=True)
    y = MinibatchStdDev()(x)[:, 3:]
    np.testing.assert_allclose(y.numpy(), 1e-4, **EXACT)
    assert np.isfinite(grad(y.sum(), x)[0].numpy()).all()


def test_a_small_batch_is_one_group_and_one_that_does_not_divide_is_refused():
    x = rng(0).standard_normal((3, 2))
    np.testing.assert_allclose(stddev(x), x.std(0).mean(), atol=1e-7)
    assert stddev(x[:1]).tolist() == [1e-4]
    with pytest.raises(ValueError, match="a batch of 6 does not divide into groups of 4"):
        stddev(np.zeros((6, 2)))


# -- pixel norm -----------------------------------------------------------------------------------


def test_pixel_norm_by_hand():
    x = tensor(np.reshape([3.0, 4, 0, 0], (2, 2)))
    expected = [[0.84852814, 1.13137085], [0, 0]]
    np.testing.assert_allclose(PixelNorm()(x).numpy(), expected, atol=5e-9)
    y = PixelNorm()(tensor(rng(0).standard_normal((2, 3, 4, 5)))).numpy()
    np.testing.assert_allclose((y * y).mean(1), 1, rtol=1e-6)  # except for 1e-8 / x^2


# -- all ------------------------------------------------------------------------------------------


def test_sizes_are_whole_and_networks_without_memory_can_be_made():
    with pytest.raises(ValueError, match="MinibatchStdDev: group must be an int >= 1, not 0"):
        MinibatchStdDev(0)
    with pytest.raises(ValueError, match=r"kernels must be an int >= 1, not 1\.5"):
        MinibatchDiscrimination(3, 1.5)
    with init.shapes_only():
        assert MinibatchDiscrimination(10**6, 10**4).weight.shape == (10**6, 5 * 10**4)
    net = nn.Sequential(MinibatchDiscrimination(3), MinibatchStdDev(), PixelNorm())
    assert [repr(m) for m in net] == [
        "MinibatchDiscrimination(3, kernels=100, dim=5)", "MinibatchStdDev(group=4)", "PixelNorm()",
    ]  # fmt: skip
