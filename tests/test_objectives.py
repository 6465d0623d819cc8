"""Objectives: finite and useful even where D is certain, and each with the gradient of its formula."""

import numpy as np
import pytest
import reference as ref
from hypothesis import given
from hypothesis import strategies as st

import minigan.functional as F
from minigan import gradcheck, gradgradcheck, tensor
from minigan.gans import objectives
from minigan.gans.objectives import OBJECTIVES
from minigan.tensor import grad

FAR = [-1e4, -200.0, -30.0, 0.0, 30.0, 200.0, 1e4]
seeds = st.integers(0, 2**32 - 1)


def logits(values, dtype="float64"):
    return tensor(np.asarray(values, dtype), requires_grad=True)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("label", [0.0, 0.3, 1.0])
def test_with_logits_is_finite_and_has_its_gradient_however_far_out(dtype, label):
    x = logits(FAR, dtype)
    t = tensor(np.full(len(FAR), label, dtype))
    loss = F.binary_cross_entropy_with_logits(x, t, "none")
    (g,) = grad(loss.sum(), x)
    assert np.isfinite(loss.numpy()).all()
    assert loss.dtype == g.dtype == dtype
    expected = F.sigmoid(x).numpy() - label  # a wrong logit is pushed back with full force
    np.testing.assert_allclose(g.numpy(), expected, atol=1e-6)
    # far out the loss is the distance, |x| times the share of the label that is wrong
    assert loss.numpy()[0] == pytest.approx(1e4 * label)
    assert loss.numpy()[-1] == pytest.approx(1e4 * (1 - label))


ZERO = tensor(np.zeros(1, "float32"))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("loss", "sign", "strongest"),
    [
        (lambda x: objectives.discriminator_loss(x, ZERO), -1, 0),  # a real image taken for a fake
        (lambda x: objectives.discriminator_loss(ZERO, x), 1, -1),  # a fake taken for real
        (objectives.non_saturating, -1, 0),  # a fake that D rejects
        (
            objectives.minimax,
            -1,
            -1,
        ),  # a fake that D accepts: where it would be needed, there is none
    ],
)
def test_the_adversarial_losses_are_finite_and_push_the_right_way(loss, sign, strongest, dtype):
    x = logits(FAR, dtype)
    (g,) = grad(loss(x), x)
    assert np.isfinite(loss(x).item())
    assert g.dtype == dtype
    assert (g.numpy() * sign >= 0).all()
    assert g.numpy()[strongest] == pytest.approx(sign / len(FAR))
    assert abs(g.numpy()[-1 - strongest]) < 1e-6


@given(seeds)
def test_with_logits_equals_bce_behind_a_sigmoid_where_that_can_be_computed(seed):
    rng = np.random.default_rng(seed)
    x, t = logits(rng.uniform(-8, 8, 20)), tensor(rng.random(20))
    y = logits(x.numpy())
    for how in ("mean", "sum", "none"):
        a = F.binary_cross_entropy_with_logits(x, t, how)
        b = F.binary_cross_entropy(F.sigmoid(y), t, how)
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-6)
        ga, gb = grad(a.sum(), x)[0].numpy(), grad(b.sum(), y)[0].numpy()
        np.testing.assert_allclose(ga, gb, rtol=1e-6, atol=1e-12)


def test_bce_is_held_at_100_as_in_pytorch():
    for dtype in ("float32", "float64"):
        p = tensor(np.array([0.0, 1.0, 0.0, 1.0], dtype), requires_grad=True)
        t = tensor(np.array([1.0, 0.0, 0.0, 1.0], dtype), requires_grad=True)
        loss = F.binary_cross_entropy(p, t, "none")
        assert loss.numpy().tolist() == [100, 100, 0, 0]
        gp, gt = grad(loss.sum(), [p, t])
        np.testing.assert_allclose(gp.numpy(), [-1e12, 1e12, 0, 0], rtol=1e-6)
        np.testing.assert_allclose(gt.numpy(), [100, -100, 100, -100])
        assert gp.dtype == gt.dtype == dtype


def test_bce_agrees_with_the_formula_at_hard_labels_and_its_ends():
    p, t = np.meshgrid([0.0, 1e-30, 0.25, 1.0], [0.0, 0.5, 1.0])
    found = F.binary_cross_entropy(tensor(p), tensor(t), "none").numpy()
    np.testing.assert_allclose(found, ref.elementwise(ref.bce)(p, t), rtol=1e-14)


def test_reductions_are_the_mean_the_sum_or_nothing():
    p, t = tensor([0.5, 0.1, 0.9]), tensor([1.0, 0.0, 0.5])
    for f in (F.binary_cross_entropy_with_logits, F.binary_cross_entropy):
        each = f(p, t, "none")
        assert each.shape == (3,)
        assert f(p, t).item() == f(p, t, "mean").item() == pytest.approx(each.numpy().mean())
        assert f(p, t, reduction="sum").item() == pytest.approx(each.numpy().sum())
        with pytest.raises(ValueError, match="must be mean, sum or none, not 'max'"):
            f(p, t, "max")
        with pytest.raises(
            ValueError, match=r"input \(3,\) and target \(1,\) must have the same shape"
        ):
            f(p, tensor([1.0]))


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_bce_of_no_probability_is_refused(value):
    with pytest.raises(ValueError, match="between 0 and 1"):
        F.binary_cross_entropy(tensor([0.5, value]), tensor([1.0, 1.0]))


@pytest.mark.parametrize("d", [0.01, 0.5, 0.99])
def test_the_two_losses_of_g_have_the_gradients_of_their_formulas(d):
    x = logits([np.log(d / (1 - d))])
    (strong,) = grad(objectives.non_saturating(x), x)  # d(-log D)/dx = -(1 - D)
    (weak,) = grad(objectives.minimax(x), x)  # d(log(1 - D))/dx = -D
    assert strong.item() == pytest.approx(d - 1, rel=1e-12)
    assert weak.item() == pytest.approx(-d, rel=1e-12)


def test_the_losses_are_the_expectations_of_the_paper():
    real, fake = np.array([0.3, -2.0, 1.0]), np.array([0.7, -0.1])
    log_d, log_not = (lambda x: np.log(ref.sigmoid(x))), (lambda x: np.log(1 - ref.sigmoid(x)))
    by_formula = {
        objectives.discriminator_loss: -np.mean([log_d(x) for x in real])
        - np.mean([log_not(x) for x in fake]),
        objectives.non_saturating: -np.mean([log_d(x) for x in fake]),
        objectives.minimax: np.mean([log_not(x) for x in fake]),
        objectives.critic_loss: np.mean(fake) - np.mean(real),
        objectives.critic_score: -np.mean(fake),
    }
    of_both = (objectives.discriminator_loss, objectives.critic_loss)
    for loss, expected in by_formula.items():
        inputs = [logits(real), logits(fake)] if loss in of_both else [logits(fake)]
        assert loss(*inputs).item() == pytest.approx(expected, rel=1e-12)
        assert loss(*inputs).shape == ()
        assert gradcheck(loss, inputs)
        assert gradgradcheck(loss, inputs)


def test_the_table_has_a_row_for_each_objective():
    """Each row has D's loss, of both scores, and G's, of the fakes' scores."""
    rows = {name: tuple(each.__name__ for each in row) for name, row in OBJECTIVES.items()}
    assert rows == {
        "non-saturating": ("discriminator_loss", "non_saturating"),
        "minimax": ("discriminator_loss", "minimax"),
        "wasserstein": ("critic_loss", "critic_score"),
    }


def test_the_critics_loss_is_the_negative_distance_and_g_descends_its_own_half():
    """The distance in equation 2 of Arjovsky et al. 2017, where the critic is the identity."""
    real, fake = logits([3.0, 5.0]), logits([1.0, 1.0, 4.0])
    distance = -objectives.critic_loss(real, fake)
    assert distance.item() == pytest.approx(4.0 - 2.0)
    (of_both,) = grad(distance, fake)
    (of_half,) = grad(objectives.critic_score(fake), fake)
    np.testing.assert_allclose(of_half.numpy(), of_both.numpy())
    np.testing.assert_allclose(of_half.numpy(), [-1 / 3] * 3)
