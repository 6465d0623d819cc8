"""The networks of CycleGAN: sizes, keys and layers of the reference implementation, and what D sees."""

import numpy as np
import pytest
from strategies import as_function, leaf

from minigan import functional as F
from minigan import gradcheck, init, nn, tensor
from minigan.models.cyclegan import Discriminator, Generator, from_reference
from minigan.tensor import grad, no_grad

rng = np.random.default_rng


def images(*shape, dtype="f"):
    return tensor(rng(1).uniform(-1, 1, shape).astype(dtype))


def count(net):
    return sum(p.numel() for p in net.parameters())


# -- sizes and keys -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (lambda: Generator(64, blocks=9), 11_378_179),
        (lambda: Generator(64, blocks=6), 7_837_699),
        (Discriminator, 2_764_737),
    ],
)
def test_the_documented_sizes_have_the_documented_parameters(make, size):
    with init.shapes_only():
        assert count(make()) == size


def keys_of_G(blocks):
    """`resnet_9blocks` of the reference implementation: the layers with weights, by their numbers."""
    ups = 10 + blocks
    inside = [f"{10 + i}.conv_block.{j}" for i in range(blocks) for j in (1, 5)]
    return ["1", "4", "7", *inside, str(ups), str(ups + 3), str(ups + 7)]


def keys_of_D(layers):
    """`n_layers`, of which `basic` is the one with 3 layers."""
    return ["0", *(str(2 + 3 * i) for i in range(layers)), str(2 + 3 * layers)]


@pytest.mark.parametrize(
    ("net", "numbers"),
    [
        (Generator(1, blocks=9), keys_of_G(9)),
        (Generator(1, blocks=6), keys_of_G(6)),
        *((Discriminator(1, layers=n), keys_of_D(n)) for n in (1, 2, 3, 4)),
    ],
)
def test_the_keys_are_those_of_the_reference_implementation(net, numbers):
    expected = [f"model.{number}.{kind}" for number in numbers for kind in ("weight", "bias")]
    assert list(net.state_dict()) == expected


def test_known_keys_and_shapes():
    """Some rows of the file of horse2zebra, copied, against a slip in the functions above."""
    with init.shapes_only():
        shapes = {k: v.shape for net in (Generator(),) for k, v in net.state_dict().items()}
        scores = {k: v.shape for k, v in Discriminator().state_dict().items()}
    assert shapes["model.1.weight"] == (64, 3, 7, 7)
    assert shapes["model.10.conv_block.5.weight"] == (256, 256, 3, 3)
    assert shapes["model.18.conv_block.5.bias"] == (256,)
    assert shapes["model.19.weight"] == (256, 128, 3, 3)  # transposed: in, out
    assert shapes["model.26.weight"] == (3, 64, 7, 7)
    assert scores["model.8.weight"] == (512, 256, 4, 4)
    assert scores["model.11.weight"] == (1, 512, 4, 4)


def test_a_file_with_running_statistics_loads():
    """Those of PyTorch's first versions: "unexpected running stats" in years of questions."""
    net, other = Generator(2, blocks=1, rng=rng(0)), Generator(2, blocks=1, rng=rng(1))
    old = {key: value.numpy() for key, value in net.state_dict().items()}
    old |= {"model.2.running_mean": np.zeros(2), "model.2.running_var": np.ones(2)}
    old |= {"model.10.conv_block.2.num_batches_tracked": np.zeros((), np.int64)}
    with pytest.raises(KeyError, match=r"unexpected keys \['model.2.running_mean'"):
        other.load_state_dict(old)
    other.load_state_dict(from_reference(old))
    for one, same in zip(net.parameters(), other.parameters(), strict=True):
        np.testing.assert_array_equal(one.numpy(), same.numpy())


# -- the layers ---------------------------------------------------------------------------------------


def test_G_is_the_sequence_of_its_layers():
    net, x = Generator(2, 3, blocks=1, rng=rng(0)).double(), images(2, 3, 8, 12, dtype="d")
    for p in net.parameters():  # biases too: at 0, a missing one would not show
        p.data += 0.1 * rng(2).standard_normal(p.shape)
    w = {key.removeprefix("model."): value for key, value in net.state_dict().items()}
    layer = lambda name: (w[f"{name}.weight"], w[f"{name}.bias"])
    seen = lambda h: F.relu(F.instance_norm(h))
    h = seen(F.conv2d(F.pad(x, (3, 3, 3, 3), mode="reflect"), *layer("1")))
    h = seen(F.conv2d(h, *layer("4"), stride=2, padding=1))
    h = seen(F.conv2d(h, *layer("7"), stride=2, padding=1))
    assert h.shape == (2, 8, 2, 3)
    inside = seen(F.conv2d(F.pad(h, (1, 1, 1, 1), mode="reflect"), *layer("10.conv_block.1")))
    inside = F.conv2d(F.pad(inside, (1, 1, 1, 1), mode="reflect"), *layer("10.conv_block.5"))
    h = h + F.instance_norm(inside)
    for name in ("11", "14"):
        h = seen(F.conv_transpose2d(h, *layer(name), stride=2, padding=1, output_padding=1))
    h = F.tanh(F.conv2d(F.pad(h, (3, 3, 3, 3), mode="reflect"), *layer("18")))
    assert h.shape == x.shape
    np.testing.assert_allclose(
        net(x).numpy(), h.numpy(), rtol=1e-12
    )  # float64, the same operations


def test_D_is_the_sequence_of_its_layers():
    net, x = Discriminator(2, 3, 2, rng(0)).double(), images(2, 3, 16, 20, dtype="d")
    for p in net.parameters():
        p.data += 0.1 * rng(2).standard_normal(p.shape)
    w = {key.removeprefix("model."): value for key, value in net.state_dict().items()}
    layer = lambda name: (w[f"{name}.weight"], w[f"{name}.bias"])
    h = F.leaky_relu(F.conv2d(x, *layer("0"), stride=2, padding=1), 0.2)
    h = F.conv2d(h, *layer("2"), stride=2, padding=1)
    h = F.leaky_relu(F.instance_norm(h), 0.2)
    h = F.leaky_relu(F.instance_norm(F.conv2d(h, *layer("5"), padding=1)), 0.2)
    h = F.conv2d(h, *layer("8"), padding=1)
    assert h.shape == (2, 1, 2, 3)
    np.testing.assert_allclose(net(x).numpy(), h.numpy(), rtol=1e-12)


def test_first_values_are_normal_and_biases_0():
    net = Generator(8, blocks=1, rng=rng(0))
    weight = net.state_dict()["model.10.conv_block.1.weight"].numpy()  # 9216 numbers
    assert abs(weight.std() - 0.02) < 0.001  # standard error 0.00015
    assert all((p.numpy() == 0).all() for key, p in net.named_parameters() if key.endswith("bias"))
    same = Generator(8, blocks=1, rng=rng(0))
    for one, other in zip(net.parameters(), same.parameters(), strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


@pytest.mark.parametrize(
    ("net", "size"), [(Generator(1, 1, 1, rng(0)), 8), (Discriminator(1, 1, 1, rng(0)), 6)]
)
def test_the_gradients(net, size):
    for p in net.double().parameters():
        p.data += 0.3 * rng(2).standard_normal(p.shape)  # a bias of 0 is on the kink of ReLU
    fn, parameters = as_function(net)
    weights = [p if p.ndim > 1 else p.detach() for p in parameters]  # for biases see below
    assert gradcheck(fn, [leaf(rng(3), (1, 1, size, size)), *weights])


def test_a_bias_in_front_of_a_norm_does_nothing():
    """The reference implementation has it, so it is in the state dict; training leaves it alone."""
    net, x = Discriminator(2, 3, 2, rng(0)).double(), images(1, 3, 16, 16, dtype="d")
    names, parameters = zip(*net.named_parameters(), strict=True)
    slopes = dict(zip(names, grad(net(x).sum(), parameters), strict=True))
    sizes = {name: np.abs(slope.numpy()).max() for name, slope in slopes.items()}
    idle = {"model.2.bias", "model.5.bias"}
    assert all((size < 1e-12) == (name in idle) for name, size in sizes.items())  # float64


def test_images_of_a_batch_do_not_affect_each_other():
    """Neither network looks at a batch, so its size may differ from that in training."""
    x = images(3, 3, 24, 24)
    for net in (Generator(2, blocks=1, rng=rng(0)), Discriminator(2, rng=rng(0))):
        with no_grad():
            one, three = net(x[1:2]).numpy(), net(x).numpy()[1:2]
        # float32, and sums of up to 100 terms; each network's output has a size of 0.01 to 1
        np.testing.assert_allclose(one, three, atol=1e-5)


# -- what D sees --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "size", "side"), [(3, 256, 30), (3, 64, 6), (2, 64, 14), (2, 32, 6), (3, 70, 6)]
)
def test_the_number_of_scores(layers, size, side):
    with no_grad():
        scores = Discriminator(1, 1, layers, rng(0))(images(1, 1, size, size))
    assert scores.shape == (1, 1, side, side)


@pytest.mark.parametrize(("layers", "field"), [(1, 16), (2, 34), (3, 70), (4, 142)])
def test_the_receptive_field(layers, field):
    """The pixels with a gradient of a score in the middle, through the convolutions alone."""
    net = Discriminator(1, 1, layers, rng(0)).double()
    for i, layer in enumerate(net.model):
        if isinstance(layer, nn.InstanceNorm2d):
            net.model[i] = nn.Identity()
    size = field + 4 * 2**layers  # so that the patch of the middle score is inside
    x = tensor(rng(1).uniform(-1, 1, (1, 1, size, size)), requires_grad=True)
    scores = net(x)
    middle = scores.shape[2] // 2
    (slopes,) = grad(scores[0, 0, middle, middle], x)
    touched = slopes.numpy()[0, 0] != 0
    for axis in (0, 1):
        where = np.flatnonzero(touched.any(axis))
        assert where[0] > 0
        assert where[-1] < size - 1
        assert (len(where), where[-1] - where[0] + 1) == (field, field)


def test_a_norm_lets_a_score_see_the_whole_image():
    """Only through the statistics of the image; so the receptive field is that of the convolutions."""
    x = tensor(rng(1).uniform(-1, 1, (1, 1, 104, 104)), requires_grad=True)
    (slopes,) = grad(Discriminator(1, 1, 3, rng(0)).double()(x)[0, 0, 5, 5], x)
    assert (slopes.numpy() != 0).all()


# -- sizes that do not fit ----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(30, 32), (32, 30), (4, 32), (0, 8)])
def test_G_refuses_sizes_that_would_come_back_different(size):
    with pytest.raises(ValueError, match="multiples of 4, at least 8"):
        Generator(1, blocks=1)(images(1, 3, *size))


def test_D_refuses_images_that_its_last_norm_would_erase():
    with pytest.raises(ValueError, match="at least 24 pixels a side with layers=3"):
        Discriminator(1)(images(1, 3, 32, 23))
    with no_grad():
        assert Discriminator(1)(images(1, 3, 24, 24)).shape == (1, 1, 1, 1)
        assert Discriminator(1, layers=2)(images(1, 3, 12, 16)).shape == (1, 1, 1, 2)


@pytest.mark.parametrize(
    ("make", "name"),
    [(Generator, "blocks"), (Generator, "ngf"), (Discriminator, "layers"), (Discriminator, "nc")],
)
@pytest.mark.parametrize("value", [0, -1, 1.5, "3"])
def test_sizes_of_the_networks_are_whole_numbers(make, name, value):
    with pytest.raises((ValueError, TypeError), match=name):
        make(**{name: value})
