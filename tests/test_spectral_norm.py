"""Spectral normalisation: numbers worked by hand, its gradient, and the changes of u and v."""

import copy

import numpy as np
import pytest
from strategies import as_function, leaf

from minigan import init, nn, tensor
from minigan.gans.player import Player
from minigan.gradcheck import gradcheck, gradgradcheck
from minigan.nn.utils import remove_spectral_norm, spectral_norm
from minigan.optim import SGD
from minigan.tensor import grad

rng = np.random.default_rng
EXACT = {"rtol": 1e-12, "atol": 1e-14}  # float64: the rounding errors of a few products

LAYERS = {
    "Linear": (lambda: nn.Linear(3, 2), (4, 3)),
    "Conv2d": (lambda: nn.Conv2d(2, 3, (3, 2), padding=1), (2, 2, 4, 3)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(2, 3, 2, stride=2), (2, 2, 2, 3)),
}
each_layer = pytest.mark.parametrize(("make", "shape"), list(LAYERS.values()), ids=list(LAYERS))


def linear(W, u=None, v=None):
    """A linear layer in float64 without bias, with this weight, u and v."""
    layer = nn.Linear(*np.shape(W)[::-1], bias=False).double()
    layer.weight.data = np.array(W, float)
    spectral_norm(layer, generator=rng(0))
    for name, value in (("weight_u", u), ("weight_v", v)):
        if value is not None:
            getattr(layer, name).data = np.array(value, float)
    return layer


def rows(layer):
    """The weight as a matrix by PyTorch's definition: output channels first, then flattened."""
    W = layer.weight_orig.numpy()
    W = W.swapaxes(0, 1) if isinstance(layer, nn.ConvTranspose2d) else W
    return W.reshape(len(W), -1)


# -- numbers --------------------------------------------------------------------------------------


def test_sigma_of_a_diagonal_after_one_two_and_three_iterations():
    W, x = np.diag([3.0, 1.0]), tensor(np.eye(2))
    layer = linear(W, u=np.array([1, 1]) / 2**0.5)
    # v = (3, 1) / sqrt(10), u = (9, 1) / sqrt(82), so sigma^2 = 82 / 10, ...
    for sigma in (8.2**0.5, 2.9981729596, 2.9999774202):
        np.testing.assert_allclose(layer(x).numpy(), W / sigma, rtol=1e-10)  # ten digits are given


def test_the_gradient_by_hand():
    layer = linear(np.diag([3.0, 1.0]), u=[1, 0], v=[1, 0]).eval()
    # The layer of x = I is (W / sigma)^T, so this G is the gradient with respect to W / sigma.
    G = np.array([[1.0, 2.0], [3.0, 4.0]])
    (found,) = grad(layer(tensor(np.eye(2))), layer.weight_orig, tensor(G.T))
    # G / 3 - 7 / 9 u v^T, where 7 = <G, W>
    np.testing.assert_allclose(found.numpy(), [[-4 / 9, 2 / 3], [1, 4 / 3]], **EXACT)


@each_layer
def test_sigma_converges_to_the_largest_singular_value(make, shape):
    layer = spectral_norm(make().double(), n_power_iterations=200, generator=rng(1))
    layer(tensor(rng(2).standard_normal(shape)))
    ratio = layer.weight_orig.numpy() / layer.weight.numpy()
    sigma = np.linalg.svd(rows(layer), compute_uv=False)[0]
    # The error falls by (second / first singular value)^2 in each iteration, here below 0.9.
    np.testing.assert_allclose(ratio, np.full_like(ratio, sigma), rtol=1e-9)


@each_layer
def test_u_and_v_are_of_length_1_and_of_the_shapes_of_pytorch(make, shape):
    layer = spectral_norm(make().double(), generator=rng(1))
    for _ in range(2):
        u, v = layer.weight_u.numpy(), layer.weight_v.numpy()
        assert (u.shape, v.shape) == tuple((n,) for n in rows(layer).shape)
        np.testing.assert_allclose([u @ u, v @ v], 1, **EXACT)
        layer(tensor(rng(2).standard_normal(shape)))


def test_the_weights_scale_does_not_matter():
    x = tensor(rng(2).standard_normal((4, 3)))
    W = rng(1).standard_normal((2, 3))
    np.testing.assert_allclose(linear(W)(x).numpy(), linear(7 * W)(x).numpy(), **EXACT)


def test_a_weight_of_zeros_gives_no_nan_in_u_and_v():
    layer = linear(np.zeros((2, 3)))
    with np.errstate(invalid="ignore"):
        layer(tensor(np.ones((1, 3))))
    assert np.isfinite(layer.weight_u.numpy()).all()
    assert np.isfinite(layer.weight_v.numpy()).all()


# -- gradients ------------------------------------------------------------------------------------


@each_layer
def test_first_and_second_derivatives(make, shape):
    """In evaluation mode, where u and v are constants, as the gradient assumes."""
    init.manual_seed(0)
    layer = spectral_norm(make().double(), generator=rng(1)).eval()
    fn, parameters = as_function(layer)
    assert gradcheck(fn, [leaf(rng(2), shape), *parameters])
    assert gradgradcheck(fn, [leaf(rng(2), shape), *parameters])


def test_a_graph_stays_valid_when_u_and_v_move():
    """D(real) - D(fake): the second pass changes u and v, which the first pass used."""
    real, fake = (tensor(rng(i).standard_normal((4, 3))) for i in (1, 2))
    layer, twin = (linear(rng(3).standard_normal((2, 3))) for _ in range(2))
    W = layer.weight_orig
    together = grad(layer(real).sum() - layer(fake).sum(), W, create_graph=True)[0]
    (first,) = grad(twin(real).sum(), twin.weight_orig)  # before the second pass
    (second,) = grad(twin(fake).sum(), twin.weight_orig)
    np.testing.assert_allclose(together.numpy(), (first - second).numpy(), **EXACT)
    (together**2).sum().backward()
    evaluated = layer.eval()(real)
    layer.train()(real)
    assert grad(evaluated.sum(), W)[0].shape == W.shape


# -- modes, states and copies ---------------------------------------------------------------------


def test_a_pass_in_training_mode_is_one_iteration_and_one_in_evaluation_mode_none():
    layer = linear(rng(1).standard_normal((2, 3)))
    x, W = tensor(np.ones((1, 3))), layer.weight_orig.numpy()
    u = layer.weight_u.numpy().copy()
    for _ in range(2):
        layer(x)
        v = W.T @ u / np.linalg.norm(W.T @ u)
        u = W @ v / np.linalg.norm(W @ v)
        np.testing.assert_allclose(layer.weight_u.numpy(), u, **EXACT)
        np.testing.assert_allclose(layer.weight_v.numpy(), v, **EXACT)
    expected = layer.eval()(x).numpy()
    np.testing.assert_allclose(expected, x.numpy() @ W.T / (u @ W @ v), **EXACT)
    np.testing.assert_array_equal(layer(x).numpy(), expected)
    repr(layer), layer.weight  # reading changes nothing either
    np.testing.assert_allclose(layer.weight_u.numpy(), u, **EXACT)


def test_the_state_dict_is_pytorchs_and_loads_both_ways():
    make = lambda seed: spectral_norm(nn.Conv2d(2, 3, 3), generator=rng(seed))
    a, b = make(0), make(1)
    assert list(a.state_dict()) == ["bias", "weight_orig", "weight_u", "weight_v"]
    assert [name for name, _ in a.named_parameters()] == ["bias", "weight_orig"]
    a(tensor(np.ones((1, 2, 3, 3), "f")))
    x = tensor(rng(2).standard_normal((1, 2, 3, 3)).astype("f"))
    assert (a.eval()(x).numpy() != b.eval()(x).numpy()).any()
    b.load_state_dict(a.state_dict_numpy())
    np.testing.assert_array_equal(a(x).numpy(), b(x).numpy())


def test_a_checkpoints_tree_sees_u_and_v_move():
    """A run makes the tree of its checkpoints once, before the first step."""
    net = spectral_norm(nn.Linear(3, 2), generator=rng(0))
    player = Player(net, SGD(net.parameters(), 0.1))
    tree, before = player.tree()["net"], net.state_dict_numpy()
    net(tensor(rng(1).standard_normal((4, 3)).astype("f")))
    for name in ("weight_u", "weight_v"):
        assert (tree[name].numpy() != before[name]).any()
        np.testing.assert_array_equal(tree[name].numpy(), net.state_dict_numpy()[name])


def test_a_state_dict_written_by_hand_gives_the_quotient_of_pytorch():
    """Equal outputs in evaluation mode, where PyTorch divides by u^T W v for any u and v."""
    state = {
        "weight_orig": rng(0).standard_normal((2, 3, 2, 2)),  # (in, out, kh, kw)
        "weight_u": np.array([0.6, 0.8, 0.0]),
        "weight_v": np.full(8, 8**-0.5),
    }
    layer = spectral_norm(nn.ConvTranspose2d(2, 3, 2, bias=False)).double().eval()
    layer.load_state_dict(state)
    matrix = state["weight_orig"].transpose(1, 0, 2, 3).reshape(3, 8)
    sigma = state["weight_u"] @ matrix @ state["weight_v"]
    plain = nn.ConvTranspose2d(2, 3, 2, bias=False).double()
    plain.weight.data = state["weight_orig"] / sigma
    x = tensor(rng(1).standard_normal((1, 2, 2, 2)))
    np.testing.assert_allclose(layer(x).numpy(), plain(x).numpy(), **EXACT)


def test_the_generator_fixes_the_first_u_and_v():
    a, b, c = (spectral_norm(nn.Linear(3, 2), generator=rng(seed)) for seed in (0, 0, 1))
    for name in ("weight_u", "weight_v"):
        first, same, other = (getattr(layer, name).numpy() for layer in (a, b, c))
        np.testing.assert_array_equal(first, same)
        assert (first != other).any()
    draws = rng(0)
    u, v = draws.normal(size=2), draws.normal(size=3)  # in this order
    np.testing.assert_allclose(a.weight_u.numpy(), u / np.linalg.norm(u), rtol=1e-6)  # float32
    np.testing.assert_allclose(a.weight_v.numpy(), v / np.linalg.norm(v), rtol=1e-6)


def test_the_average_of_a_network_copies_u_and_v():
    """The average of two vectors of length 1 is shorter, which makes sigma too small."""
    net = nn.Sequential(spectral_norm(nn.Linear(3, 2), generator=rng(0)), nn.BatchNorm1d(2))
    player = Player(net, SGD(net.parameters(), 0.1), ema=0.9)
    before = player.average.state_dict_numpy()
    player.descend(net(tensor(rng(1).standard_normal((4, 3)).astype("f")))[:, 0].exp().sum())
    live, slow = net.state_dict_numpy(), player.average.state_dict_numpy()
    for name in slow:
        if name.endswith(("weight_u", "weight_v", "num_batches_tracked")):
            np.testing.assert_array_equal(slow[name], live[name])
            assert (slow[name] != before[name]).any()
        else:  # in float32
            expected = 0.9 * before[name] + 0.1 * live[name]
            np.testing.assert_allclose(slow[name], expected, rtol=1e-5, atol=1e-6)


def test_copies_are_independent_and_keep_their_kind():
    layer = spectral_norm(nn.Linear(3, 2), generator=rng(0))
    twin, x = copy.deepcopy(layer), tensor(np.ones((1, 3), "f"))
    u = twin.weight_u.numpy().copy()
    layer(x)
    np.testing.assert_array_equal(twin.weight_u.numpy(), u)
    assert not twin.weight_u.averaged
    twin(x)
    np.testing.assert_array_equal(twin.weight_u.numpy(), layer.weight_u.numpy())


def test_the_dtype_and_the_memory_of_a_network_without_memory():
    layer = spectral_norm(nn.Linear(3, 2)).double()
    assert {t.dtype.name for t in layer.state_dict().values()} == {"float64"}
    layer(tensor(np.ones((1, 3))))
    assert layer.weight_u.dtype == np.float64
    with init.shapes_only():
        large = spectral_norm(nn.Linear(10**6, 10**5))  # 400 GB
    assert large.weight_orig.shape == (10**5, 10**6)
    assert [large.state_dict()[f"weight_{x}"].shape for x in "uv"] == [(10**5,), (10**6,)]


def test_it_is_a_layer_of_a_sequential_and_prints_as_one():
    net = nn.Sequential(spectral_norm(nn.Linear(3, 2)), nn.LeakyReLU(0.2))
    assert list(net.state_dict()) == [
        f"0.{n}" for n in ("bias", "weight_orig", "weight_u", "weight_v")
    ]
    assert net(tensor(np.ones((1, 3), "f"))).shape == (1, 2)
    assert "(0): SpectralNormLinear(in_features=3, out_features=2, bias=True)" in repr(net)
    assert isinstance(net[0], nn.Linear)


# -- removal and refusals -------------------------------------------------------------------------


@each_layer
def test_removing_leaves_the_quotient(make, shape):
    layer = make().double()
    weight = layer.weight
    spectral_norm(layer, generator=rng(0))
    assert layer.weight_orig is weight  # so an optimiser that holds it keeps working
    x = tensor(rng(2).standard_normal(shape))
    layer(x)
    expected = layer.eval()(x).numpy()
    assert remove_spectral_norm(layer) is layer
    np.testing.assert_array_equal(layer(x).numpy(), expected)
    assert layer.weight is weight
    assert type(layer) is type(make())
    assert set(layer.state_dict()) == {"weight", "bias"}
    assert set(vars(layer)) == set(vars(make())) | {"training"}
    spectral_norm(layer)  # and normalise it again


def test_what_has_no_weight_or_is_normalised_already_is_refused():
    layer = spectral_norm(nn.Linear(3, 2))
    with pytest.raises(ValueError, match="this Linear is already normalised; call remove"):
        spectral_norm(layer)
    with pytest.raises(TypeError, match=r"expected one of Linear, Conv2d.*, not ReLU\(\)"):
        spectral_norm(nn.ReLU())
    with pytest.raises(ValueError, match="this Linear has no spectral norm to remove"):
        remove_spectral_norm(nn.Linear(3, 2))
    with pytest.raises(ValueError, match="name='bias' is not supported, only 'weight'"):
        spectral_norm(nn.Linear(3, 2), "bias")
    with pytest.raises(ValueError, match="dim=1 is not supported, only None"):
        spectral_norm(nn.Linear(3, 2), dim=1)
    with pytest.raises(ValueError, match="n_power_iterations must be an int >= 1, not 0"):
        spectral_norm(nn.Linear(3, 2), n_power_iterations=0)
