"""Objectives: finite and useful even where D is certain; the gradients are those of the formulas."""

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
    expected = F.sigmoid(x).numpy() - label  # a wrong logit gets the full gradient
    np.testing.assert_allclose(g.numpy(), expected, atol=1e-6)
    # for large |x| the loss is |x| times the wrong part of the label
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


# Losses and gradients at real scores [2, -1] and fake scores [0.5, -2], worked out by hand from the
# papers' formulas: L_D, L_G, dL_D/dreal, dL_D/dfake, dL_G/dfake.
BY_HAND = {
    "non-saturating": (
        (1.2705973469, 1.3005024976),
        ([-0.05960146, -0.36552929], [0.31122967, 0.05960146], [-0.18877033, -0.44039854]),
    ),
    "minimax": (
        (1.2705973469, -0.5505024976),
        ([-0.05960146, -0.36552929], [0.31122967, 0.05960146], [-0.31122967, -0.05960146]),
    ),
    "least-squares": ((2.3125, 2.3125), ([0.5, -1], [0.25, -1], [-0.25, -1.5])),
    "hinge": ((1.75, 0.75), ([0, -0.5], [0.5, 0], [-0.5, -0.5])),
    "wasserstein": ((-1.25, 0.75), ([-0.5, -0.5], [0.5, 0.5], [-0.5, -0.5])),
    "relativistic": (
        (0.2573374828, 1.5073374828),
        # -sigmoid(fake - real) / 2 for pairs that differ by 1.5 and by 1, and its opposites
        ([-0.09121276, -0.13447071], [0.09121276, 0.13447071], [-0.40878724, -0.36552929]),
    ),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_each_row_has_the_losses_and_the_gradients_of_its_formulas(name):
    row, (losses, gradients) = OBJECTIVES[name], BY_HAND[name]
    real, fake = logits([2.0, -1.0]), logits([0.5, -2.0])
    loss_d, loss_g = row.discriminator(real, fake), row.generator(real, fake)
    # The numbers above have ten and eight decimals.
    assert [loss_d.item(), loss_g.item()] == pytest.approx(losses, abs=1e-10)
    found = [*grad(loss_d, [real, fake]), *grad(loss_g, [fake])]
    for g, expected in zip(found, gradients, strict=True):
        np.testing.assert_allclose(g.numpy(), expected, atol=1e-8)
    if not row.paired:  # G's loss must not even need the reals
        assert row.generator(None, fake).item() == loss_g.item()
    assert gradcheck(row.discriminator, [real, fake])
    if row.paired:
        assert gradcheck(row.generator, [real, fake])
    if name != "hinge":  # which has no curvature
        assert gradgradcheck(row.discriminator, [real, fake])


def test_equal_scores_give_the_losses_of_a_d_that_cannot_tell():
    x = logits([0.0, 0.0])
    found = {name: row.discriminator(x, x).item() for name, row in OBJECTIVES.items()}
    ln2 = np.log(2)
    assert found == pytest.approx({
        "non-saturating": 2 * ln2, "minimax": 2 * ln2, "least-squares": 0.5, "hinge": 2,
        "wasserstein": 0, "relativistic": ln2,
    })  # fmt: skip


def test_smoothing_softens_the_label_of_the_reals_only():
    """At alpha = 0.9: fakes keep the label 0, so only the reals' gradient changes."""
    real, fake = logits([2.0, -1.0]), logits([0.5, -2.0])
    smooth = objectives.discriminator_loss(real, fake, 0.9)
    assert smooth.item() == pytest.approx(1.3205973469, abs=1e-10)
    of_real, of_fake = grad(smooth, [real, fake])
    np.testing.assert_allclose(of_real.numpy(), [-0.00960146, -0.31552929], atol=1e-8)
    np.testing.assert_allclose(of_fake.numpy(), BY_HAND["non-saturating"][1][1], atol=1e-8)
    one = logits([np.log(9.0)])  # the best score of a lone real is ln 9
    (g,) = grad(objectives.discriminator_loss(one, fake, 0.9), one)
    assert abs(g.item()) < 1e-12


def test_the_critics_loss_is_the_negative_distance_and_g_descends_its_own_half():
    """The distance in equation 2 of Arjovsky et al. 2017, where the critic is the identity."""
    real, fake = logits([3.0, 5.0]), logits([1.0, 1.0, 4.0])
    distance = -objectives.critic_loss(real, fake)
    assert distance.item() == pytest.approx(4.0 - 2.0)
    (of_both,) = grad(distance, fake)
    (of_half,) = grad(objectives.critic_score(fake), fake)
    np.testing.assert_allclose(of_half.numpy(), of_both.numpy())
    np.testing.assert_allclose(of_half.numpy(), [-1 / 3] * 3)
