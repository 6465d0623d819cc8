"""The formulas of each member's own page, on numbers that can be checked by hand."""

import math

import numpy as np
import pytest
import walk

from minigan import tensor
from minigan.gans import MEMBERS, wgan_gp
from minigan.gans.objectives import OBJECTIVES
from minigan.gans.penalties import slope_penalty
from minigan.tensor import grad


def numbers(*shape):
    return tensor(np.random.default_rng(shape).standard_normal(shape))


# -- penalties ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 2), (5, 3, 4, 4)])
def test_the_slope_of_a_linear_critic_is_the_length_of_its_weights(shape):
    """D(x) = <w, x> has the slope w everywhere, so the penalty is (|w| - target)^2."""
    w = numbers(*shape[1:])
    D = lambda x: (x * w).flatten(1).sum(1)
    length = float(np.sqrt((w.numpy() ** 2).sum()))
    for target in (0.0, 1.0, 2.5):
        found = slope_penalty(D, numbers(*shape), target).item()
        assert found == pytest.approx((length - target) ** 2, rel=1e-10)


def test_each_sample_has_a_slope_of_its_own():
    """D(x) = |x|^2 / 2 has the slope x; the mean is over the samples, after the square."""
    x = numbers(6, 3)
    lengths = np.sqrt((x.numpy() ** 2).sum(1))
    found = slope_penalty(lambda x: 0.5 * (x**2).sum(1), x, 1.0).item()
    assert found == pytest.approx(((lengths - 1) ** 2).mean(), rel=1e-10)


def test_where_the_slope_is_zero_the_penalty_has_a_gradient():
    """The square root's gradient at 0 is infinite; a constant under the root keeps it finite."""
    w = tensor(np.zeros(3), requires_grad=True)
    penalty = slope_penalty(lambda x: (x * w).sum(1), numbers(4, 3), 1.0)
    assert penalty.item() == pytest.approx((math.sqrt(1e-12) - 1) ** 2)
    (g,) = grad(penalty, w)
    assert np.isfinite(g.numpy()).all()


def test_a_penalty_hands_no_gradient_to_what_its_points_were_made_of():
    x = numbers(4, 3).requires_grad_()
    w = numbers(3).requires_grad_()
    penalty = slope_penalty(lambda x: (x * w).sum(1), 2 * x, 1.0)
    assert grad(penalty, [x], allow_unused=True) == (None,)


# -- Wasserstein --------------------------------------------------------------------------------------


def test_the_critics_losses_are_differences_of_means():
    real, fake = tensor([1.0, 3.0]), tensor([0.5, 0.0])
    loss = OBJECTIVES["wasserstein"]
    assert loss.discriminator(real, fake).item() == 0.25 - 2.0
    assert loss.generator(fake).item() == -0.25


@pytest.mark.parametrize("kind", walk.KINDS)
def test_the_weights_of_the_wgans_critic_are_clipped_after_each_update(kind):
    """The average of G is not clipped. RMSprop's first step is 10 lr, more than the clip used here."""
    member, draw = walk.game("wgan", kind, "cpu", clip=1e-3, lr=1e-3, d_steps=2)
    found = []
    descend = member.D.descend

    def descended(loss):
        norm = descend(loss)
        found.append(max(np.abs(p.numpy()).max() for p in member.D.net.parameters()))
        return norm

    member.D.descend = descended
    member.step(draw)
    assert found == [pytest.approx(1e-3, rel=1e-6)] * 2
    largest = [np.abs(p.numpy()).max() for p in member.G.net.parameters()]
    assert max(largest) > 0.01


@pytest.mark.parametrize("kind", walk.KINDS)
def test_the_critic_is_penalised_between_reals_and_fakes_at_one_number_a_sample(kind, monkeypatch):
    """x^ = u x + (1 - u) G(z): every element of a sample is mixed by the same u."""
    member, draw = walk.game("wgan-gp", kind, "cpu", d_steps=1)
    seen = []

    def penalty(D, x, target):
        seen.append((x.detach().numpy(), target))
        return slope_penalty(D, x, target)

    reals, uniform = draw.reals, draw.uniform
    draw.reals = lambda: seen.append(reals()) or seen[-1]
    draw.uniform = lambda name, *shape: seen.append(uniform(name, *shape)) or seen[-1]
    fakes = member.G.net(walk.game("wgan-gp", kind, "cpu", d_steps=1)[1].noise()).numpy()
    monkeypatch.setattr(wgan_gp, "slope_penalty", penalty)
    member.step(draw)
    x, u, (mixed, target) = seen
    assert target == 1.0
    assert u.shape == (4, *[1] * (x.ndim - 1))
    expected = u.numpy() * x.numpy() + (1 - u.numpy()) * fakes
    # float32, and batch norm's statistics are those of the same noise
    np.testing.assert_allclose(mixed, expected, rtol=1e-4, atol=1e-5)


def test_the_papers_defaults():
    wgan, gp = MEMBERS["wgan"].Options(), MEMBERS["wgan-gp"].Options()
    assert (wgan.lr, wgan.clip, wgan.batch_size, wgan.d_steps) == (5e-5, 0.01, 64, 5)
    assert (gp.lr, gp.beta1, gp.beta2, gp.penalty, gp.d_steps) == (1e-4, 0.0, 0.9, 10.0, 5)
    assert (gp.batch_size, gp.norm) == (64, "none")
