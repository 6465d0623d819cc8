"""All families of networks: their shapes and sizes, the options of D, and labels.

Tests of the documented DCGAN alone are in test_dcgan.py.
"""

import copy
import itertools

import numpy as np
import pytest
from strategies import as_function, leaf

from minigan import gradcheck, init, manual_seed, nn, tensor
from minigan.models import dcgan, mlp, projected, sngan
from minigan.models.conditional import ConditionalBatchNorm
from minigan.tensor import grad, no_grad

rng = np.random.default_rng
NZ, K = 3, 4

# Tiny networks of each family: G, D (which take further options), and the shape of a sample.
FAMILIES = {
    "dcgan": (
        lambda **o: dcgan.Generator(NZ, 2, 1, 16, rng(0), **o),
        lambda **o: dcgan.Discriminator(2, 1, 16, rng(1), **o),
        (1, 16, 16),
    ),
    "dcgan with 28 pixels": (
        lambda **o: dcgan.Generator(NZ, 2, 1, 28, rng(0), **o),
        lambda **o: dcgan.Discriminator(2, 1, 28, rng(1), "layer", **o),
        (1, 28, 28),
    ),
    "projected": (
        lambda **o: projected.Generator(NZ, 1, 1, 16, rng(0), **o),
        lambda **o: projected.Discriminator(1, 1, 16, rng(1), **o),
        (1, 16, 16),
    ),
    "sngan": (
        lambda **o: sngan.Generator(NZ, 1, 3, 16, rng(0), **o),
        lambda **o: sngan.Discriminator(1, 3, 16, rng(1), **o),
        (3, 16, 16),
    ),
    "mlp for points": (
        lambda **o: mlp.Generator(NZ, 5, (2,), rng(0), **o),
        lambda **o: mlp.Discriminator(5, (2,), rng(1), **o),
        (2,),
    ),
    "mlp for images": (
        lambda **o: mlp.Generator(NZ, 4, (1, 6, 6), rng(0), **o),
        lambda **o: mlp.Discriminator(4, (1, 6, 6), rng(1), **o),
        (1, 6, 6),
    ),
}
each_family = pytest.mark.parametrize(
    ("make_G", "make_D", "shape"), FAMILIES.values(), ids=FAMILIES
)
image_families = [name for name in FAMILIES if name != "mlp for points"]

# The options of D, one at a time and all together.
OPTIONS = {
    "none": {},
    "dropout": {"dropout": 0.25},
    "spectral_norm": {"spectral_norm": True},
    "minibatch_std": {"minibatch_std": True},
    "minibatch_discrimination": {"minibatch_discrimination": True},
    "pack": {"pack": 2},
    "planes": {"classes": K},
    "projection": {"classes": K, "condition": "projection"},
}
ALL = {name: value for o in list(OPTIONS.values())[:5] for name, value in o.items()}
OPTIONS |= {
    "all and a pack": {**ALL, "pack": 2},
    "all and labels": {**ALL, **OPTIONS["projection"]},
}
each_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


def count(network):
    return sum(p.numel() for p in network.parameters())


def shapes(network):
    return {name: t.shape for name, t in network.state_dict().items()}


def samples(shape, n=4, pack=1, dtype="f"):
    return tensor(rng(2).uniform(-1, 1, (n, pack * shape[0], *shape[1:])).astype(dtype))


def noise(n=4, dtype="f"):
    return tensor(rng(3).standard_normal((n, NZ)).astype(dtype))


def labels(n=4, options=None):
    """Labels for a batch of n; none for a network without classes."""
    return tensor(rng(4).integers(0, K, n)) if options is None or options.get("classes") else None


# -- sizes and shapes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("G", "D", "sizes"),
    [
        # bias-free, batch norm with scale and shift
        (
            lambda: dcgan.Generator(nc=1, image_size=28),
            lambda: dcgan.Discriminator(nc=1, image_size=28),
            (759_680, 138_624),
        ),
        (
            lambda: mlp.Generator(100, 128, (1, 28, 28)),
            lambda: mlp.Discriminator(128, (1, 28, 28)),
            (1_510_032, 533_505),
        ),
        (
            lambda: projected.Generator(),
            lambda: projected.Discriminator(),
            # G: 100 to 1024 channels of 4 x 4 pixels, 4 x 4 kernels, two numbers per channel of a norm
            (
                16 * (100 * 1024 + 1024 * 512 + 512 * 256 + 256 * 128 + 128 * 3)
                + 2 * (1024 + 512 + 256 + 128),
                16 * (3 * 128 + 128 * 256 + 256 * 512 + 512 * 1024 + 1024)
                + 2 * (256 + 512 + 1024),
            ),
        ),
        (
            lambda: sngan.Generator(),
            lambda: sngan.Discriminator(),
            (
                129 * 512 * 16 + 16 * (512 * 256 + 256 * 128 + 128 * 64) + 256 + 128 + 64
                + 2 * (512 + 256 + 128 + 64) + 9 * 64 * 3 + 3,
                9 * (3 * 64 + 128 * 128 + 256 * 256 + 512 * 512) + 64 + 128 + 256 + 512
                + 16 * (64 * 128 + 128 * 256 + 256 * 512) + 128 + 256 + 512 + 16 * 512 + 1,
            ),
        ),
    ],
    ids=["dcgan with 28 pixels", "mlp", "projected", "sngan"],
)  # fmt: skip
def test_the_documented_networks_have_the_documented_sizes(G, D, sizes):
    with init.shapes_only():
        assert (count(G()), count(D())) == sizes


@each_family
def test_samples_and_scores_have_their_shapes(make_G, make_D, shape):
    x = make_G()(noise())
    assert (x.shape, x.dtype) == ((4, *shape), np.float32)
    assert len(shape) == 1 or np.abs(x.numpy()).max() <= 1
    scores = make_D().logits(x)
    assert (scores.shape[:2], scores.numel(), scores.dtype) == ((4, 1), 4, np.float32)


@pytest.mark.parametrize("size", sngan.IMAGE_SIZES)
def test_every_legal_size_of_the_sngan(size):
    x = sngan.Generator(NZ, 1, 1, size, rng(0))(noise(2))
    assert x.shape == (2, 1, size, size)
    assert sngan.Discriminator(1, 1, size, rng(0)).logits(x).shape == (2, 1, 1, 1)


def test_the_sngan_is_that_of_chainer_gan_lib():
    D, G = sngan.Discriminator(ndf=2, image_size=32), sngan.Generator(NZ, 2, image_size=32)
    form = lambda m: (*m.weight.shape, *m.stride, *m.padding)
    assert [form(m) for m in D.main if isinstance(m, nn.Conv2d)] == [
        (2, 3, 3, 3, 1, 1, 1, 1), (4, 2, 4, 4, 2, 2, 1, 1),
        (4, 4, 3, 3, 1, 1, 1, 1), (8, 4, 4, 4, 2, 2, 1, 1),
        (8, 8, 3, 3, 1, 1, 1, 1), (16, 8, 4, 4, 2, 2, 1, 1),
        (16, 16, 3, 3, 1, 1, 1, 1), (1, 16, 4, 4, 1, 1, 0, 0),
    ]  # fmt: skip
    assert {m.negative_slope for m in D.main if isinstance(m, nn.LeakyReLU)} == {0.1}
    assert [type(m).__name__ for m in D.main][1::2] == ["LeakyReLU"] * 7
    kinds = [type(m).__name__ for m in G.main]
    block = ["BatchNorm2d", "ReLU"]
    assert kinds == [*[*block, "ConvTranspose2d"] * 3, *block, "Conv2d", "Tanh"]
    assert [form(m) for m in G.main if hasattr(m, "stride")] == [
        (16, 8, 4, 4, 2, 2, 1, 1), (8, 4, 4, 4, 2, 2, 1, 1), (4, 2, 4, 4, 2, 2, 1, 1),
        (3, 2, 3, 3, 1, 1, 1, 1),
    ]  # fmt: skip


def test_28_pixels_start_from_7():
    G, x = dcgan.Generator(NZ, 2, 1, 28, rng(0)), noise().reshape(4, NZ, 1, 1)
    sides = []
    for layer in G.main:
        x = layer(x)
        if isinstance(layer, nn.ConvTranspose2d):
            sides.append(x.shape[1:])
    assert sides == [(4, 7, 7), (2, 14, 14), (1, 28, 28)]


def test_batch_norms_have_the_usual_eps_and_momentum():
    """The second argument 0.8, which is eps, was meant as the momentum (PyTorch-GAN's issue 116)."""
    norms = [m for m in mlp.Generator(shape=(1, 28, 28)).main if isinstance(m, nn.BatchNorm1d)]
    assert [(m.weight.shape[0], m.eps, m.momentum) for m in norms] == [
        (256, 1e-5, 0.1), (512, 1e-5, 0.1), (1024, 1e-5, 0.1),
    ]  # fmt: skip


def test_a_projection_is_a_transposed_convolution_of_one_pixel():
    G, tutorial = projected.Generator(NZ, 2, 1, 16, rng(0)), dcgan.Generator(NZ, 4, 1, 16)
    state = G.state_dict_numpy()
    weight = state.pop("projection.weight").reshape(8, 4, 4, NZ)  # (out 4 4, nz)
    renamed = {f"main.{int(k.split('.')[1]) + 1}.{k.split('.')[2]}": v for k, v in state.items()}
    tutorial.load_state_dict({"main.0.weight": weight.transpose(3, 0, 1, 2), **renamed})
    found, expected = tutorial(noise()).numpy(), G(noise()).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)  # float32, other sums


@pytest.mark.parametrize("network", [sngan.Generator, sngan.Discriminator])
def test_the_sngan_refuses_other_sizes(network):
    with pytest.raises(ValueError, match="image_size 28 is not one of 16, 32, 64"):
        network(image_size=28)


# -- the options of D -----------------------------------------------------------------------------


@each_option
@each_family
def test_the_scores_are_the_last_layer_on_the_features(make_G, make_D, shape, options):
    D = make_D(**options).eval()
    x, y = samples(shape, pack=options.get("pack", 1)), labels(4, options)
    features = D.features(x, y)
    expected = D.main[D.last](features).numpy()
    if options.get("condition") == "projection":
        pooled = features.numpy().reshape(4, features.shape[1], -1).sum(2)
        V = D.projection.weight.numpy()[y.numpy()]
        expected = expected + (V * pooled).sum(1).reshape(expected.shape)
    np.testing.assert_allclose(D.logits(x, y).numpy(), expected, rtol=1e-5, atol=1e-6)  # float32
    assert features.shape[0] == 4
    assert features.ndim in (2, 4)


@each_option
@each_family
def test_a_network_is_made_from_its_rng_alone(make_G, make_D, shape, options):
    states = []
    for seed in (0, 1):
        manual_seed(seed)
        states.append(make_D(**options).state_dict_numpy())
    for name, value in states[0].items():
        np.testing.assert_array_equal(value, states[1][name], err_msg=name)


@each_family
def test_an_option_widens_only_the_layer_that_it_concerns(make_G, make_D, shape):
    plain = make_D(spectral_norm=False)
    first, last = next(iter(shapes(plain))), f"main.{len(plain.main) + plain.last}.weight"
    for options, wider, extra in [
        ({"pack": 3}, first, 2 * shape[0]),
        ({"classes": K}, first, K),
        ({"minibatch_std": True}, last, 1),
        ({"minibatch_discrimination": True}, last, 100),
    ]:
        net = make_D(spectral_norm=False, **options)
        moved = 1 if "minibatch" in str(options) else 0
        name = wider if wider == first else f"main.{len(net.main) + net.last}.weight"
        grown = shapes(net)[name]
        inputs = shapes(plain)[wider][1]
        if isinstance(plain, mlp.Discriminator) and "pack" in options:
            extra = 2 * int(np.prod(shape))
        assert grown == (shapes(plain)[wider][0], inputs + extra, *shapes(plain)[wider][2:])
        rest = lambda s, *names: [v for k, v in s.items() if k not in names]
        kernels = f"main.{len(net.main) + net.last - 1}.weight"
        assert rest(shapes(net), name, *([kernels] if moved else [])) == rest(shapes(plain), wider)
    assert count(make_D(dropout=0.5)) == count(make_D())


@each_family
def test_dropout_is_behind_every_activation(make_G, make_D, shape):
    D = make_D(dropout=0.5)
    kinds = [type(m) for m in D.main]
    dropout = (
        nn.Dropout2d
        if D.main[-1].__class__ is nn.Sigmoid or "sngan" in str(type(D))
        else nn.Dropout
    )
    behind = [b for a, b in itertools.pairwise(kinds) if a is nn.LeakyReLU]
    assert behind == [dropout] * kinds.count(nn.LeakyReLU)
    x = samples(shape)
    assert (D.logits(x).numpy() != D.logits(x).numpy()).any()
    D.eval()
    np.testing.assert_array_equal(D.logits(x).numpy(), D.logits(x).numpy())


@each_family
def test_spectral_norm_is_in_every_layer(make_G, make_D, shape):
    D = make_D(spectral_norm=True, classes=K, condition="projection")
    layers = [m for m in D.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    assert layers
    assert all(type(m).__name__.startswith("SpectralNorm") for m in layers)
    assert type(D.projection).__name__ == "SpectralNormLinear"
    assert not any(name.endswith("weight_u") for name in shapes(make_D(spectral_norm=False)))


@each_option
@each_family
def test_the_options_have_right_gradients(make_G, make_D, shape, options):
    """In evaluation mode, where dropout is off and u and v do not change between evaluations."""
    D = make_D(**options).double()
    x = leaf(rng(5), samples(shape, pack=options.get("pack", 1)).shape)
    y = labels(4, options)
    for p in D.parameters():  # of size 1 instead of 0.02, so that no derivative is lost in rounding
        if p.shape[-1:] != (
            500,
        ):  # except minibatch discrimination's kernels, or every exp would be 0
            scale = 1 / np.sqrt(max(1, np.prod(p.shape[1:])))
            p.data = (p.ndim == 1) + scale * rng(6).standard_normal(p.shape)
    with no_grad():
        for _ in range(10):  # so that sigma is far from 0
            D.logits(x, y)
    fn, parameters = as_function(D.eval(), lambda x: D.logits(x, y))
    # The step is so small that no value crosses a kink (minibatch discrimination has thousands). Then
    # the rounding of scores near 10 is 1e-8 in the quotient, compared with gradients of 1e-3.
    assert gradcheck(fn, [x, *parameters], eps=1e-7, directions=1, rtol=1e-4)


# -- labels ---------------------------------------------------------------------------------------


def first_weight(G):
    """The weight on (z, one-hot), as (nz + K, out) or (nz + K, out, kh, kw): a view."""
    layer = next(m for m in G.modules() if isinstance(m, (nn.Linear, nn.ConvTranspose2d)))
    weight = layer.weight.data
    return weight if isinstance(layer, nn.ConvTranspose2d) else weight.T


@each_family
def test_one_hot_is_concatenated_to_the_noise(make_G, make_D, shape):
    G = make_G(classes=K).eval()
    z, y = noise(), labels()
    assert first_weight(G).shape[0] == NZ + K
    other = tensor((y.numpy() + 1) % K)
    assert (G(z, y).numpy() != G(z, other).numpy()).any()
    # Row NZ + k is added to the first layer by class k.
    order = rng(7).permutation(K)
    expected = G(z, y).numpy()
    first_weight(G)[NZ:] = first_weight(G)[NZ:][np.argsort(order)]
    np.testing.assert_array_equal(G(z, tensor(order[y.numpy()])).numpy(), expected)
    first_weight(G)[NZ:] = 0
    np.testing.assert_array_equal(G(z, y).numpy(), G(z, other).numpy())


@pytest.mark.parametrize("name", image_families)
def test_conditional_batch_norm_has_a_scale_and_shift_for_each_class(name):
    make_G, _, _ = FAMILIES[name]
    G, plain = make_G(classes=K, condition="batch-norm"), make_G()
    norms = [m for m in G.modules() if isinstance(m, ConditionalBatchNorm)]
    assert len(norms) == sum(
        isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)) for m in plain.modules()
    )
    assert {m.weight.shape[0] for m in norms} == {K}
    z, y = noise(), labels()
    other = tensor((y.numpy() + 1) % K)
    np.testing.assert_array_equal(G(z, y).numpy(), G(z, other).numpy())  # initially all are 1 and 0
    assert first_weight(G).shape[0] == NZ
    G.eval()
    for m in norms:
        m.weight.data += rng(8).standard_normal(m.weight.shape).astype("f")
    assert (G(z, y).numpy() != G(z, other).numpy()).any()
    order, expected = rng(7).permutation(K), G(z, y).numpy()
    for m in norms:
        for p in (m.weight, m.bias):
            p.data = p.data[np.argsort(order)]
    np.testing.assert_array_equal(G(z, tensor(order[y.numpy()])).numpy(), expected)


def test_conditional_batch_norm_is_batch_norm_with_the_rows_of_y():
    norm = ConditionalBatchNorm(3, K).double()
    norm.weight.data, norm.bias.data = rng(0).standard_normal((2, K, 3))
    x, y = rng(1).standard_normal((5, 3, 2, 2)), np.array([0, 3, 3, 1, 0])
    rows = np.eye(K)[y]
    found = norm(tensor(x), tensor(rows)).numpy()
    z = (x - x.mean((0, 2, 3), keepdims=True)) / np.sqrt(x.var((0, 2, 3), keepdims=True) + 1e-5)
    expected = norm.weight.numpy()[y][:, :, None, None] * z + norm.bias.numpy()[y][:, :, None, None]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)
    reference = nn.BatchNorm2d(3).double()
    reference(tensor(x))
    for name in ("running_mean", "running_var"):
        np.testing.assert_array_equal(getattr(norm, name).numpy(), getattr(reference, name).numpy())
    np.testing.assert_allclose(norm.eval()(tensor(x), tensor(rows)).shape, x.shape)
    fn, parameters = as_function(norm.train(), lambda x: norm(x, tensor(rows)))
    assert gradcheck(fn, [leaf(rng(2), x.shape), *parameters])


@each_family
def test_planes_are_further_channels_of_the_input(make_G, make_D, shape):
    D = make_D(classes=K, spectral_norm=False).eval()
    x, y = samples(shape), labels()
    ones = np.eye(K, dtype="f")[y.numpy()].reshape(4, K, *[1] * (len(shape) - 1))
    planes = np.broadcast_to(ones, (4, K, *shape[1:]))
    if isinstance(D, mlp.Discriminator):
        joint = np.concatenate([x.numpy().reshape(4, -1), ones.reshape(4, K)], 1)
    else:
        joint = np.concatenate([x.numpy(), planes], 1)
    np.testing.assert_array_equal(D.main[: D.last](tensor(joint)).numpy(), D.features(x, y).numpy())


@each_family
def test_a_projection_of_zeros_is_the_network_without_labels(make_G, make_D, shape):
    D, plain = make_D(classes=K, condition="projection"), make_D()
    D.eval(), plain.eval()
    x, y = samples(shape), labels()
    kept = {k: v for k, v in D.state_dict().items() if not k.startswith("projection")}
    plain.load_state_dict(kept)
    assert (D.logits(x, y).numpy() != plain.logits(x).numpy()).any()
    np.testing.assert_array_equal(D.features(x, y).numpy(), plain.features(x).numpy())
    name = "weight_orig" if hasattr(D.projection, "weight_orig") else "weight"
    V = getattr(D.projection, name)
    order, expected = rng(7).permutation(K), D.logits(x, y).numpy()
    V.data = V.data[np.argsort(order)]
    if name == "weight_orig":  # u has an element for each row
        D.projection.weight_u.data = D.projection.weight_u.data[np.argsort(order)]
    found = D.logits(x, tensor(order[y.numpy()])).numpy()
    np.testing.assert_allclose(
        found, expected, rtol=1e-5, atol=1e-7
    )  # float32, sums in other orders
    if name == "weight":
        V.data *= 0
        np.testing.assert_array_equal(D.logits(x, y).numpy(), plain.logits(x).numpy())


@pytest.mark.parametrize("k", [1, 2])
def test_one_class_is_a_legal_number_of_classes(k):
    y = tensor(np.zeros(2, np.int64))
    G, D = mlp.Generator(NZ, 4, rng=rng(0), classes=k), mlp.Discriminator(4, rng=rng(0), classes=k)
    assert D.logits(G(noise(2), y), y).shape == (2, 1)


@each_family
def test_labels_that_do_not_fit_are_refused(make_G, make_D, shape):
    G, D = make_G(classes=K), make_D(classes=K)
    z, x = noise(), samples(shape)
    for network, batch in ((G, z), (D.logits, x), (D.features, x)):
        with pytest.raises(
            ValueError, match=r"give the labels y \(N,\) too, because there are 4 cl"
        ):
            network(batch)
        with pytest.raises(ValueError, match="expected one label for each of 4 samples"):
            network(batch, tensor(np.zeros(3, np.int64)))
        with pytest.raises(ValueError, match="expected one label for each of 4 samples"):
            network(batch, tensor(np.zeros((4, 1), np.int64)))
        with pytest.raises(ValueError, match="expected one label for each of 4 samples"):
            network(batch, 2)
        with pytest.raises(TypeError, match=r"integer.* not float32"):
            network(batch, tensor(np.zeros(4, "f")))
        with pytest.raises(IndexError, match="label 4 is out of range"):
            network(batch, tensor(np.array([0, 1, 2, 4])))
        with pytest.raises(IndexError, match="label -1 is out of range"):
            network(batch, tensor(np.array([0, 1, 2, -1])))
    for network, batch in ((make_G(), z), (make_D().logits, x)):
        with pytest.raises(
            ValueError, match="this network takes no labels; make it with classes=K"
        ):
            network(batch, labels())


@each_family
def test_options_that_cannot_be_used_are_refused(make_G, make_D, shape):
    for options, message in [
        ({"dropout": 1.5}, "p must be a number from 0 to 1, not 1.5"),
        ({"spectral_norm": 1}, "spectral_norm must be True or False, not 1"),
        ({"minibatch_std": "yes"}, "minibatch_std must be True or False, not 'yes'"),
        ({"pack": 0}, "pack must be an int >= 1, not 0"),
        ({"classes": -1}, "classes must be an int >= 0, not -1"),
        ({"classes": True}, "classes must be an int >= 0, not True"),
        ({"classes": 2, "condition": "one-hot"}, "condition 'one-hot' is not one of planes, proj"),
        ({"classes": 2, "pack": 2}, "pack=2 and classes=2 cannot be combined"),
    ]:
        with pytest.raises(ValueError, match=message):
            make_D(**options)
    with pytest.raises(ValueError, match="condition 'planes' is not one of one-hot, batch-norm"):
        make_G(classes=2, condition="planes")
    for make, condition in ((make_D, "projection"), (make_G, "batch-norm")):
        with pytest.raises(
            ValueError, match=f"condition '{condition}' needs labels; give classes=K"
        ):
            make(condition=condition)
    with pytest.raises(TypeError, match="unexpected keyword argument 'drop_out'"):
        make_D(drop_out=0.5)


def test_points_have_no_batch_norm_to_condition():
    with pytest.raises(ValueError, match='"batch-norm" needs batch norms'):
        mlp.Generator(classes=2, condition="batch-norm")


# -- common to all networks -----------------------------------------------------------------------

LARGE = {
    "dcgan": lambda **o: (
        dcgan.Generator(10_000, 1024, 3, 256),
        dcgan.Discriminator(1024, 3, 256, **o),
    ),
    "projected": lambda **o: (projected.Generator(100, 1024), projected.Discriminator(1024, **o)),
    "sngan": lambda **o: (sngan.Generator(100, 1024), sngan.Discriminator(1024, **o)),
    "mlp": lambda **o: (
        mlp.Generator(10_000, 1024, (3, 256, 256)),
        mlp.Discriminator(1024, (3, 256, 256), **o),
    ),
}


@pytest.mark.parametrize("name", LARGE)
def test_the_largest_networks_can_be_made_without_memory(name):
    with init.shapes_only():
        G, D = LARGE[name](**{**ALL, "classes": 10, "condition": "projection"})
    assert sum(t.data.nbytes for net in (G, D) for t in net.state_dict().values()) > 10**8


@each_family
def test_networks_are_copied_converted_and_stay_in_their_dtype(make_G, make_D, shape):
    options = {**ALL, "classes": K, "condition": "projection"}
    conditions = {"classes": K} if len(shape) == 1 else {"classes": K, "condition": "batch-norm"}
    G, D = make_G(**conditions), make_D(**options)
    y = labels()
    for dtype in ("float32", "float64"):
        G, D = copy.deepcopy(G).to(dtype), copy.deepcopy(D).to(dtype)
        scores = D.logits(G(noise(dtype=dtype), y), y)
        gradients = grad(scores.sum(), [*G.parameters(), *D.parameters()])
        state = [*G.state_dict().values(), *D.state_dict().values()]
        assert {t.dtype.name for t in (scores, *gradients, *state)} <= {dtype, "int64"}
    G.eval(), D.eval()
    with no_grad():
        a = D.logits(G(noise(dtype=dtype), y), y).numpy()
        b = copy.deepcopy(D).logits(copy.deepcopy(G)(noise(dtype=dtype), y), y).numpy()
    np.testing.assert_array_equal(a, b)
