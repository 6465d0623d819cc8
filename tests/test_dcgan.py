"""The DCGAN: its shape and size, and the gradients of both networks and of D's gradient penalty."""

import numpy as np
import pytest
from strategies import as_function, leaf

import minigan.functional as F
from minigan import gradcheck, gradgradcheck, nn, optim, tensor
from minigan.gans.objectives import OBJECTIVES, discriminator_loss
from minigan.gans.penalties import slope_penalty
from minigan.models.dcgan import IMAGE_SIZES, Discriminator, Generator
from minigan.tensor import grad

rng = np.random.default_rng


def count(network):
    return sum(p.numel() for p in network.parameters())


def test_the_documented_networks_have_the_tutorials_parameters():
    G, D = Generator(), Discriminator()
    assert (count(G), count(D)) == (3_576_704, 2_765_568)
    norm = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    keys = lambda convs, norms: [
        f"main.{i}.{name}"
        for i in sorted((*convs, *norms))
        for name in (["weight"] if i in convs else norm)
    ]
    assert list(G.state_dict()) == keys(convs=(0, 3, 6, 9, 12), norms=(1, 4, 7, 10))
    assert list(D.state_dict()) == keys(convs=(0, 2, 5, 8, 11), norms=(3, 6, 9))
    channels = [p.shape[:2] for p in G.parameters() if p.ndim == 4]
    assert channels == [(100, 512), (512, 256), (256, 128), (128, 64), (64, 3)]
    assert {p.shape[2:] for n in (G, D) for p in n.parameters() if p.ndim == 4} == {(4, 4)}
    kinds = lambda network: [type(m).__name__ for m in network.main]
    middle = ["BatchNorm2d", "ReLU", "ConvTranspose2d"]
    assert kinds(G) == ["ConvTranspose2d", *middle * 4, "Tanh"]
    middle = ["Conv2d", "BatchNorm2d", "LeakyReLU"]
    assert kinds(D) == ["Conv2d", "LeakyReLU", *middle * 3, "Conv2d", "Sigmoid"]
    assert {m.negative_slope for m in D.main if isinstance(m, nn.LeakyReLU)} == {0.2}


@pytest.mark.parametrize("size", IMAGE_SIZES)
@pytest.mark.parametrize("nc", [1, 3])
def test_every_legal_size_is_made_and_judged(size, nc):
    G, D = Generator(5, 1, nc, size, rng(0)), Discriminator(1, nc, size, rng(0))
    x = G(tensor(rng(1).standard_normal((2, 5, 1, 1)).astype("f")))
    p = D(x)
    assert (x.shape, x.dtype) == ((2, nc, size, size), np.float32)
    assert np.abs(x.numpy()).max() <= 1
    assert p.shape == (2, 1, 1, 1)
    assert 0 < p.numpy().min() <= p.numpy().max() < 1
    np.testing.assert_array_equal(p.numpy(), F.sigmoid(D.logits(x)).numpy())


@pytest.mark.parametrize("size", [0, 8, 48, 512])
@pytest.mark.parametrize("network", [Generator, Discriminator])
def test_another_size_is_refused_with_the_legal_ones(network, size):
    with pytest.raises(
        ValueError, match=f"image_size {size} is not one of 16, 28, 32, 64, 128, 256"
    ):
        network(image_size=size)


def test_noise_may_be_rows_or_images_of_one_pixel():
    G, z = Generator(5, 1, 1, 16, rng(0)), tensor(rng(1).standard_normal((2, 5)).astype("f"))
    np.testing.assert_array_equal(G(z).numpy(), G(z.reshape(2, 5, 1, 1)).numpy())


def test_a_critic_without_norms_judges_each_image_by_itself():
    D = Discriminator(ndf=2, nc=1, image_size=16, rng=rng(0), norm="none")
    assert [type(m).__name__ for m in D.main] == [
        *["Conv2d", "LeakyReLU"] * 2, "Conv2d", "Sigmoid",
    ]  # fmt: skip
    x = tensor(rng(1).standard_normal((3, 1, 16, 16)).astype("f"))
    alone = np.concatenate([D.logits(x[i : i + 1]).numpy() for i in range(3)])
    np.testing.assert_allclose(D.logits(x).numpy(), alone, rtol=1e-5, atol=1e-9)
    with pytest.raises(ValueError, match="norm 'group' is not one of batch, layer, none"):
        Discriminator(norm="group")


@pytest.mark.parametrize("network", [Generator, Discriminator])
def test_the_first_values_are_the_papers(network):
    for module in network(rng=rng(0)).modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d)):
            w, mean = module.weight.numpy(), float(isinstance(module, nn.BatchNorm2d))
            # four standard errors of the mean and of the standard deviation
            assert abs(w.mean() - mean) < 4 * 0.02 / w.size**0.5
            assert abs(w.std() - 0.02) < 4 * 0.02 / (2 * w.size) ** 0.5
            assert module.bias is None or not module.bias.numpy().any()


def test_a_generator_of_random_numbers_repeats_the_first_values():
    a, b = (Generator(3, 2, image_size=16, rng=rng(4)).state_dict() for _ in range(2))
    assert all((a[k].numpy() == b[k].numpy()).all() for k in a)


# -- gradients ----------------------------------------------------------------------------------
# Values near 1 instead of the paper's 0.02, so that no derivative is lost in rounding. The step is
# 1e-6, so that none of the few hundred values at a ReLU crosses its kink.

KINKS = {"eps": 1e-6, "directions": 2}


def small(network, forward=None):
    network = network.double()
    fn, parameters = as_function(network, forward and (lambda x: forward(network, x)))
    values = rng(11)
    for p in parameters:
        scale = 1 / np.sqrt(np.prod(p.shape[1:])) if p.ndim == 4 else 0.3
        p.data = (p.ndim == 1) + scale * values.standard_normal(p.shape)
    return fn, parameters


def generator():
    fn, parameters = small(Generator(nz=3, ngf=2, nc=1, image_size=16))
    return fn, [leaf(rng(1), (3, 3, 1, 1)), *parameters]


def discriminator(forward=Discriminator.forward, norm="batch"):
    fn, parameters = small(Discriminator(ndf=2, nc=1, image_size=16, norm=norm), forward)
    return fn, [leaf(rng(2), (3, 1, 16, 16)), *parameters]


def penalty(D, x):
    """Gulrajani et al. 2017: mean((|grad_x D(x)| - 1)^2), a function of D's weights."""
    return slope_penalty(D.logits, x, 1.0)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
@pytest.mark.parametrize(
    "make", [generator, discriminator, lambda: discriminator(Discriminator.logits)]
)
def test_the_networks_have_right_first_and_second_derivatives(make, check, seed):
    assert check(*make(), **KINKS, seed=seed)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
def test_the_gradient_penalty_has_right_first_and_second_derivatives_in_ds_weights(
    check, norm, seed
):
    fn, (x, *parameters) = discriminator(penalty, norm)
    assert check(lambda *weights: fn(x, *weights), parameters, **KINKS, seed=seed)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_losses_have_right_derivatives_through_both_networks(name):
    loss = OBJECTIVES[name]
    G, (z, *g_parameters) = generator()
    D, (x, *d_parameters) = discriminator(Discriminator.logits)
    n = len(g_parameters)
    fake = lambda z, *ps: D(G(z, *ps[:n]), *ps[n:])
    both = [z, *g_parameters, *d_parameters]
    scores = D(x, *d_parameters).detach()
    assert gradcheck(lambda *xs: loss.generator(scores, fake(*xs)), both, **KINKS)
    real = lambda *ps: loss.discriminator(D(x, *ps), D(G(z, *g_parameters).detach(), *ps))
    assert gradcheck(real, d_parameters, **KINKS)


def test_a_few_steps_teach_d_to_tell_and_stay_in_float32():
    G = Generator(nz=3, ngf=2, nc=1, image_size=16, rng=rng(0))
    D = Discriminator(ndf=4, nc=1, image_size=16, rng=rng(0))
    adam = optim.Adam(D.parameters(), lr=2e-3, betas=(0.5, 0.999))
    seen = []
    for i in range(40):
        real = tensor(np.sign(rng(i).standard_normal((8, 1, 16, 1))).repeat(16, 3).astype("f"))
        fake = G(tensor(rng(i).standard_normal((8, 3, 1, 1)).astype("f")))
        loss = discriminator_loss(D.logits(real), D.logits(fake.detach()))
        adam.step(grad(loss, list(D.parameters())))
        seen.append(loss.item())
    assert seen[-1] < 0.5 * seen[0]
    state = {**G.state_dict(), **D.state_dict()}
    assert {t.dtype.name for t in state.values()} == {"float32", "int64"}
    assert D.main[3].num_batches_tracked.item() == 80
