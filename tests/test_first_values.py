"""Initial values: their statistics, the orthogonal matrices, and what stays at 0 and 1."""

import numpy as np
import pytest

from minigan import init, manual_seed, nn, tensor
from minigan.models import dcgan, mlp
from minigan.models.conditional import ConditionalBatchNorm
from minigan.models.first_values import KINDS, first_values
from minigan.models.layers import MinibatchDiscrimination
from minigan.nn.utils import spectral_norm

rng = np.random.default_rng

# Each with the true fan_in and fan_out, far from the edges.
LAYERS = {
    "Linear": (lambda: nn.Linear(200, 300), 200, 300),
    "Conv2d": (lambda: nn.Conv2d(20, 30, 4, 2, 1), 20 * 16, 30 * 16 / 4),
    "Conv2d of stride 1": (lambda: nn.Conv2d(20, 30, 3, 1, 1), 20 * 9, 30 * 9),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(20, 30, 4, 2, 1), 20 * 16 / 4, 30 * 16),
}
each_layer = pytest.mark.parametrize(("make", "fan_in", "fan_out"), LAYERS.values(), ids=LAYERS)


def drawn(layer, kind, seed=0):
    first_values(layer, kind, rng(seed))
    return layer.weight.numpy()


def close(value, expected, spread):
    """Within four standard errors; `spread` is one of them."""
    assert abs(value - expected) < 4 * spread


@each_layer
def test_the_spread_is_that_of_the_formula(make, fan_in, fan_out):
    variances = {"normal": 0.02**2, "xavier": 2 / (fan_in + fan_out), "he": 2 / fan_in}
    for kind, variance in variances.items():
        w = drawn(make(), kind)
        close(w.mean(), 0, (variance / w.size) ** 0.5)
        # The variance of w^2 is 2 var^2 for normal numbers, and less for uniform ones.
        close((w**2).mean(), variance, (2 / w.size) ** 0.5 * variance)
        if kind == "xavier":
            bound = (6 / (fan_in + fan_out)) ** 0.5
            assert 0.99 * bound < np.abs(w).max() <= bound * (1 + 1e-6)


@each_layer
def test_he_keeps_the_variance_through_a_layer_and_its_relu(make, fan_in, fan_out):
    """This shows that fan_in is correct: for a transposed convolution it is in k^2 / stride^2."""
    layer, powers = make(), []
    for seed in range(10):
        first_values(layer, "he", rng(seed))
        shape = (8, 200) if isinstance(layer, nn.Linear) else (2, 20, 12, 12)
        y = layer(tensor(np.maximum(rng(100 + seed).standard_normal(shape), 0).astype("f"))).numpy()
        inner = y if y.ndim == 2 else y[:, :, 2:-2, 2:-2]
        powers.append((inner**2).mean())
    # The input has a mean square of 1/2, so the output has one of 1.
    assert np.mean(powers) == pytest.approx(1, abs=0.15)


@each_layer
def test_orthogonal_rows_or_columns(make, fan_in, fan_out):
    layer = make()
    w = drawn(layer, "orthogonal")
    w = w.swapaxes(0, 1) if isinstance(layer, nn.ConvTranspose2d) else w
    W = w.reshape(len(w), -1).astype(float)  # a row for each output channel
    product = W @ W.T if W.shape[0] <= W.shape[1] else W.T @ W
    np.testing.assert_allclose(product, np.eye(len(product)), atol=1e-6)  # float32


def test_orthogonal_matrices_have_no_preferred_signs():
    """LAPACK's Q alone has a diagonal that is always negative, up to its last element."""
    signs = [init.orthogonal_(np.zeros((3, 3)), generator=rng(i))[0, 0] > 0 for i in range(200)]
    close(np.mean(signs), 0.5, (0.25 / 200) ** 0.5)


def test_orthogonal_takes_a_gain_arrays_and_tensors_and_refuses_vectors():
    a, t = np.zeros((2, 3, 2)), tensor(np.zeros((2, 3, 2)))
    assert init.orthogonal_(a, 1.4, rng(0)) is a
    assert init.orthogonal_(t, 1.4, rng(0)) is t
    np.testing.assert_array_equal(a, t.numpy())
    np.testing.assert_allclose(a.reshape(2, 6) @ a.reshape(2, 6).T, 1.4**2 * np.eye(2), atol=1e-15)
    manual_seed(3)
    np.testing.assert_array_equal(
        init.orthogonal_(np.zeros((2, 2))), init.orthogonal_(np.zeros((2, 2)), generator=rng(3))
    )
    with pytest.raises(ValueError, match="expected at least 2 dimensions, not \\(3,\\)"):
        init.orthogonal_(np.zeros(3))
    with pytest.raises(TypeError, match="expected a floating-point Tensor or array"):
        init.orthogonal_(np.zeros((2, 2), int))


def test_the_memory_order_of_a_convolution_is_kept():
    """The weight of a convolution is not in C order; its values must not depend on that."""
    layer = nn.ConvTranspose2d(3, 4, 2)
    strides = layer.weight.data.strides
    version = layer.weight.version
    w = drawn(layer, "orthogonal")
    assert layer.weight.data.strides == strides
    assert layer.weight.version > version  # so that graphs that read the old values are refused
    expected = init.orthogonal_(np.zeros((4, 3, 2, 2), "f"), generator=rng(0)).swapaxes(0, 1)
    np.testing.assert_array_equal(w, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_biases_are_0_and_scales_1(kind):
    net = nn.Sequential(
        nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 4, bias=False), nn.GroupNorm(1, 4),
    )  # fmt: skip
    conditional = ConditionalBatchNorm(4, 2)
    net.append(conditional)
    for p in net.parameters():
        p.data += 7.0
    first_values(net, kind, rng(0))
    for layer in (net[0], net[1], net[3], net[4]):
        assert not layer.bias.numpy().any()
    assert (net[3].weight.numpy() == 1).all()
    assert (conditional.weight.numpy() == 1).all()
    assert (net[1].weight.numpy() == 1).all() == (kind != "normal")


@pytest.mark.parametrize("kind", KINDS)
def test_the_rng_alone_decides(kind):
    nets = []
    for seed in (0, 1):
        manual_seed(seed)
        net = dcgan.Discriminator(2, 1, 16, spectral_norm=True, minibatch_discrimination=True)
        first_values(net, kind, rng(5))
        nets.append({k: v for k, v in net.state_dict_numpy().items() if k[-2:] not in ("_u", "_v")})
    for name, value in nets[0].items():
        np.testing.assert_array_equal(value, nets[1][name], err_msg=name)


def test_the_families_begin_with_the_documented_kinds():
    G = dcgan.Generator(3, 2, 1, 16, rng(0))
    again = dcgan.Generator(3, 2, 1, 16, rng(9))
    first_values(again, "normal", rng(0))
    other = mlp.Generator(3, 4, (2,), rng(0))
    others = mlp.Generator(3, 4, (2,), rng(9))
    first_values(others, "he", rng(0))
    for a, b in ((G, again), (other, others)):
        for name, value in a.state_dict_numpy().items():
            np.testing.assert_array_equal(value, b.state_dict_numpy()[name])


def test_with_spectral_norm_the_weight_before_it_is_drawn():
    plain, layer = nn.Linear(3, 4), spectral_norm(nn.Linear(3, 4))
    for kind in KINDS:
        first_values(layer, kind, rng(0))
        np.testing.assert_array_equal(layer.weight_orig.numpy(), drawn(plain, kind))


def test_minibatch_discrimination_keeps_a_spread_of_its_own():
    layer = MinibatchDiscrimination(100, 10, 5)
    w = drawn(layer, "he")
    close((w**2).mean(), 1 / 50**2, (2 / w.size) ** 0.5 / 50**2)


def test_another_kind_is_refused():
    with pytest.raises(ValueError, match="kind 'kaiming' is not one of normal, xavier, he, orth"):
        first_values(nn.Linear(1, 1), "kaiming")


def test_networks_without_memory_have_no_values_to_draw():
    with init.shapes_only():
        net = nn.Sequential(nn.ConvTranspose2d(10**4, 10**4, 4), nn.Linear(10**5, 10**5))
        for kind in KINDS:
            first_values(net, kind, rng(0))
