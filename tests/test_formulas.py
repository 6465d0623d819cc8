"""The formulas in each member's own file, on numbers that can be checked by hand."""

import copy
import math

import numpy as np
import pytest
import walk

from minigan import gradcheck, nn, tensor
from minigan.errors import UserError
from minigan.gans import MEMBERS, unrolled, wgan_gp
from minigan.gans.augment import CHANGES
from minigan.gans.judge import Judge, noise_level
from minigan.gans.objectives import OBJECTIVES
from minigan.gans.penalties import r1_penalty, slope_penalty
from minigan.nn.replaced import replaced
from minigan.optim import Adam
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


def test_the_penalties_of_a_linear_critic_by_hand():
    """w = (3, 4): 10 (5 - 1)^2 = 160 with the gradient (48, 64), and 10/2 25 = 125 with (30, 40)."""
    w = tensor([3.0, 4.0], dtype="float64", requires_grad=True)
    D = lambda x: (x * w).sum(1)
    for penalty, expected, slope in (
        (10 * slope_penalty(D, numbers(5, 2), 1.0), 160, [48, 64]),
        (10 * r1_penalty(D, numbers(5, 2)), 125, [30, 40]),
    ):
        assert penalty.item() == pytest.approx(expected, rel=1e-9)
        np.testing.assert_allclose(grad(penalty, w)[0].numpy(), slope, rtol=1e-9)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
def test_r1_damps_the_dirac_gan(gamma):
    """D(x) = psi x, data 0, G = theta: eigenvalues -g/2 +- sqrt(g^2/4 - 1/4) (Mescheder)."""
    row = OBJECTIVES["non-saturating"]

    def field(theta, psi):
        """The directions in which G and D move."""
        theta, psi = tensor(theta, requires_grad=True), tensor(psi, requires_grad=True)
        real = tensor(np.zeros((1, 1)))
        D = lambda x: (psi * x).reshape(-1)  # (1, 1) -> (1,)
        fake = D(theta.reshape(1, 1))
        loss_d = row.discriminator(D(real), D(theta.detach().reshape(1, 1))) + gamma * r1_penalty(
            D, real
        )
        (of_psi,) = grad(loss_d, psi)
        (of_theta,) = grad(row.generator(None, fake), theta)
        return -np.array([of_theta.item(), of_psi.item()])

    h, at = 1e-6, np.float64
    columns = [
        (field(at(a), at(b)) - field(at(-a), at(-b))) / (2 * h) for a, b in ((h, 0.0), (0.0, h))
    ]
    found = np.sort_complex(np.linalg.eigvals(np.stack(columns, axis=1)))
    root = np.sqrt(complex(gamma**2 / 4 - 1 / 4))
    # Where both are equal, an error of 1e-10 in the matrix becomes one of 1e-5 in them.
    np.testing.assert_allclose(
        found, np.sort_complex([-gamma / 2 - root, -gamma / 2 + root]), atol=1e-4
    )


# -- Wasserstein --------------------------------------------------------------------------------------


def test_the_critics_losses_are_differences_of_means():
    real, fake = tensor([1.0, 3.0]), tensor([0.5, 0.0])
    loss = OBJECTIVES["wasserstein"]
    assert loss.discriminator(real, fake).item() == 0.25 - 2.0
    assert loss.generator(None, fake).item() == -0.25


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
    # float32; batch norm's statistics are those of the same noise
    np.testing.assert_allclose(mixed, expected, rtol=1e-4, atol=1e-5)


def test_the_papers_defaults():
    wgan, gp = MEMBERS["wgan"].Options(), MEMBERS["wgan-gp"].Options()
    assert (wgan.lr, wgan.clip, wgan.batch_size, wgan.d_steps) == (5e-5, 0.01, 64, 5)
    assert (gp.lr, gp.beta1, gp.beta2, gp.penalty, gp.d_steps) == (1e-4, 0.0, 0.9, 10.0, 5)
    assert (gp.batch_size, gp.norm_of_D) == (64, "none")
    assert (wgan.norm_of_D, MEMBERS["dcgan"].Options().norm_of_D) == ("batch", "batch")


# -- the samples that D sees --------------------------------------------------------------------------


def judged(x, draw=None, **options):
    """The samples as D's first layer gets them."""
    seen = []

    class D(nn.Module):
        def logits(self, x):
            seen.append(x)
            return x.flatten(1).sum(1, keepdim=True)

    _, own = walk.game("dcgan", "images", "cpu")
    scores = Judge(D(), MEMBERS["dcgan"].Options(batch_size=4, **options))(x, draw or own)
    assert scores.shape == seen[0].shape[:1]
    return seen[0].numpy()


def test_without_stabilisers_d_sees_the_very_samples():
    x = numbers(4, 3, 8, 8)
    assert (judged(x) == x.numpy()).all()


def test_a_pack_is_consecutive_samples_on_the_channels():
    x = numbers(4, 3, 8, 8)
    np.testing.assert_array_equal(
        judged(x, pack=2), np.concatenate([x[::2].numpy(), x[1::2].numpy()], 1)
    )
    with pytest.raises(UserError, match="--pack 3: a batch of 4 cannot be cut into packs"):
        judged(x, pack=3)


def test_a_batch_that_cannot_be_cut_into_groups_is_refused():
    options = MEMBERS["dcgan"].Options
    for size, pack in ((3, 1), (8, 1), (4, 2), (16, 2)):
        options(batch_size=size, pack=pack, minibatch_std=True)
    for size, pack in ((6, 1), (12, 2)):
        with pytest.raises(
            UserError, match=f"make --batch-size a multiple of {4 * pack}, not {size}"
        ):
            options(batch_size=size, pack=pack, minibatch_std=True)


def test_instance_noise_falls_to_nothing():
    assert [noise_level(0.5, 100, step) for step in (0, 50, 100, 1000)] == [0.5, 0.25, 0.0, 0.0]
    assert noise_level(0.5, 0, 10**6) == 0.5
    x = tensor(np.zeros((4, 3, 8, 8), np.float32))
    _, draw = walk.game("dcgan", "images", "cpu")
    first, second = (judged(x, draw, instance_noise=0.5) for _ in range(2))
    assert (first != second).all()  # new noise for each batch that D sees
    assert first.std() == pytest.approx(0.5, rel=0.1)  # 768 numbers: 3 % of error each way


@pytest.mark.parametrize("name", CHANGES)
def test_augmented_images_pass_the_gradient_on(name):
    _, draw = walk.double(*walk.game("dcgan", "images", "cpu"))
    u = draw.uniform("augment", 3, 1, 1, 1)  # the same for each call of gradcheck

    class Fixed:
        def uniform(self, name, *shape):
            return u[:, : shape[0], 0, 0, 0].reshape(-1, *shape)

    change, x = CHANGES[name], numbers(4, 2, 8, 8).requires_grad_()
    assert change(x, Fixed()).shape == x.shape
    assert gradcheck(lambda x: change(x, Fixed()), [x])


def test_a_translation_moves_whole_pixels_and_fills_with_zeros():
    class Fixed:
        def uniform(self, name, *shape):  # down 1, left 1; none; most down and right
            u = np.array([[0.75, 0.25], [0.5, 0.5], [0.99, 0.99]])
            return tensor(u.reshape(3, 2, 1, 1))

    x = numbers(3, 2, 8, 8)
    moved, x = CHANGES["translation"](x, Fixed()).numpy(), x.numpy()
    np.testing.assert_array_equal(moved[0, :, 1:, :-1], x[0, :, :-1, 1:])
    assert not moved[0, :, 0].any()
    assert not moved[0, :, :, -1].any()
    np.testing.assert_array_equal(moved[1], x[1])
    np.testing.assert_array_equal(moved[2, :, 1:, 1:], x[2, :, :-1, :-1])


def test_a_cutout_is_a_square_of_half_the_side():
    class Fixed:
        def uniform(self, name, *shape):
            return tensor(np.array([[0.5, 0.5], [0.0, 0.5]]).reshape(2, 2, 1, 1))

    cut = CHANGES["cutout"](tensor(np.ones((2, 1, 16, 16))), Fixed()).numpy()[:, 0]
    assert not cut[0, 4:13, 4:13].any()
    assert cut[0].sum() == 256 - 81
    assert cut[1].sum() == 256 - 5 * 9  # half of the square is outside


def test_color_changes_brightness_saturation_and_contrast():
    class Fixed:
        u = (1.0, 0.5, 0.5)

        def uniform(self, name, *shape):
            return tensor(np.array([self.u]).reshape(1, 3, 1, 1, 1))

    x, fixed = numbers(1, 3, 4, 4), Fixed()
    np.testing.assert_allclose(CHANGES["color"](x, fixed).numpy(), x.numpy() + 0.5)
    fixed.u = (0.5, 0.0, 0.5)  # no saturation: grey
    grey = CHANGES["color"](x, fixed).numpy()
    np.testing.assert_allclose(grey, np.repeat(x.numpy().mean(1, keepdims=True), 3, 1))
    fixed.u = (0.5, 0.5, 0.0)  # half the contrast
    flat = CHANGES["color"](x, fixed).numpy()
    np.testing.assert_allclose(
        flat - x.numpy().mean(), (x.numpy() - x.numpy().mean()) / 2, atol=1e-12
    )


# -- options of the standard game ---------------------------------------------------------------------


def step_with(name="dcgan", kind="images", **options):
    member, draw = walk.game(name, kind, "cpu", **options)
    return member, {name: value.item() for name, value in member.step(draw).items()}


def test_d_takes_as_many_steps_as_asked_for():
    member, _ = step_with(d_steps=3)
    assert member.batches == 3
    assert {state["step"] for state in member.D.optimizer.tree().values()} == {3}
    assert {state["step"] for state in member.G.optimizer.tree().values()} == {1}


@pytest.mark.parametrize("loss", OBJECTIVES)
def test_scores_are_probabilities_only_where_d_gives_them(loss):
    _, metrics = step_with(loss=loss, spectral_norm=loss == "wasserstein")
    assert ("d_x" in metrics) == OBJECTIVES[loss].probability
    assert ("score_x" in metrics) != OBJECTIVES[loss].probability


def test_the_learning_rates_are_those_asked_for_and_fall_to_nothing():
    member, _ = walk.game("dcgan", "points", "cpu", lr=0.5, d_lr=0.25, lr_decay=10)
    for step, share in ((0, 1.0), (5, 0.5), (9, 0.1), (10, 0.0), (11, 0.0)):
        member.schedule(step)
        found = [p.optimizer.options["lr"] for p in (member.G, member.D)]
        assert found == pytest.approx([0.5 * share, 0.25 * share])


def test_the_learning_rates_fall_only_after_a_while_as_in_cyclegan():
    """1 - max(0, e - 100) / 101 at the beginning of epoch e, counted from 1, of 100 + 100 epochs.

    The reference implementation keeps this value for the whole epoch; here it falls at every step.
    """
    epoch = 30  # steps
    member, _ = walk.game(
        "dcgan", "points", "cpu", lr=0.5, lr_decay=101 * epoch, lr_decay_start=99 * epoch
    )
    expected = {1: 1, 99: 1, 100: 1, 101: 1 - 1 / 101, 150: 51 / 101, 200: 1 / 101}
    for e, share in expected.items():
        member.schedule((e - 1) * epoch)
        assert member.G.optimizer.options["lr"] == pytest.approx(0.5 * share)
    assert [round(expected[e], 5) for e in (100, 150, 200)] == [1, 0.50495, 0.0099]
    with pytest.raises(
        UserError, match="--lr-decay-start 5: the rates never fall; give --lr-decay"
    ):
        MEMBERS["dcgan"].Options(lr_decay_start=5)


def test_a_penalty_on_a_slope_that_does_not_exist_is_refused():
    for name, given, said in (
        ("dcgan", {"r1": 1.0, "norm": "batch"}, "--norm batch"),
        ("dcgan", {"r1": 1.0, "pack": 2}, "--pack 2"),
        ("dcgan", {"r1": 1.0, "minibatch_std": True}, "--minibatch-std"),
        ("wgan-gp", {"minibatch_discrimination": True}, "--minibatch-discrimination"),
        ("wgan-gp", {"norm": "batch"}, "--norm batch"),
        ("wgan-gp", {"pack": 2}, "--pack 2"),
    ):
        with pytest.raises(
            UserError, match=f"{said}: D's score of one sample then depends on the others"
        ):
            MEMBERS[name].Options(**given)


def test_smoothing_without_labels_is_refused():
    with pytest.raises(UserError, match=r"--smoothing 0.1: --loss hinge has no labels"):
        MEMBERS["hinge"].Options(smoothing=0.1)
    _, plain = step_with(kind="points")
    _, smooth = step_with(kind="points", smoothing=0.1)
    assert plain["loss_d"] != smooth["loss_d"]


def test_what_undoes_spectral_norm_is_refused():
    with pytest.raises(UserError, match="--spectral-norm: batch norm scales what"):
        MEMBERS["hinge"].Options(spectral_norm=True, norm="batch")
    for given, said in (
        ({"spectral_norm": True}, "--spectral-norm"),
        ({"network": "sngan"}, "--network sngan"),
    ):
        with pytest.raises(UserError, match=f"{said}: clipping changes the weights"):
            MEMBERS["wgan"].Options(**given)


@pytest.mark.parametrize("network", ["mlp", "dcgan", "projected", "sngan"])
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"spectral_norm": True, "init": "orthogonal", "d_dropout": 0.25},
        {"minibatch_std": True, "pack": 2, "init": "he"},
        {"minibatch_discrimination": True, "augment": "all", "instance_noise": 0.1},
    ],
)
def test_every_network_plays_with_every_stabiliser(network, given):
    member, metrics = step_with(network=network, **given)
    assert all(np.isfinite(value) for value in metrics.values())
    _, again = step_with(network=network, **given)
    assert again == metrics  # masks, noise and changes are drawn by key
    assert member.sample(numbers(3, 4).float()).shape == (3, 3, 16, 16)


def test_r1_needs_no_further_option():
    for kind in walk.KINDS:
        member, metrics = step_with(kind=kind, r1=10.0)
        assert metrics["penalty"] > 0
        assert not any("running" in name for name in member.D.net.state_dict())


# -- feature matching ---------------------------------------------------------------------------------


def test_features_are_matched_by_their_means():
    member, draw = walk.double(*walk.game("feature-matching", "images", "cpu", d_steps=2))
    found, descend = [], member.G.descend
    member.G.descend = lambda loss: found.append(loss.item()) or descend(loss)
    seen, features = [], member.judge.features
    member.judge.features = lambda x, draw: seen.append(features(x, draw)) or seen[-1]
    assert member.step(draw)["loss_g"].item() == found[0]
    real, fake = (each.numpy().mean(0) for each in seen)
    assert found[0] == pytest.approx(((real - fake) ** 2).sum(), rel=1e-12)
    assert seen[0].shape == (4, 8 * 4 * 4)  # D's last hidden layer at 16 pixels


def test_a_loss_of_g_that_is_not_used_is_refused():
    with pytest.raises(
        UserError, match="--loss minimax differs from non-saturating in G's loss only"
    ):
        MEMBERS["feature-matching"].Options(loss="minimax")


# -- several discriminators ---------------------------------------------------------------------------


def combined(losses, **options):
    member, _ = walk.game("ensemble", "points", "cpu", **options)
    return member.combined(tensor(losses, dtype="float64")).item()


def test_gs_losses_are_combined_by_the_mean_the_largest_or_a_softmax():
    losses = [1.0, 2.0, 4.0]
    assert combined(losses) == pytest.approx(7 / 3)
    assert combined(losses, combine="max") == 4.0
    assert combined(losses, combine="softmax", sharpness=0.0) == pytest.approx(7 / 3)
    assert combined(losses, combine="softmax", sharpness=1000.0) == pytest.approx(4.0)
    w = np.exp(losses)
    assert combined(losses, combine="softmax") == pytest.approx((w * losses).sum() / w.sum())
    assert combined([2.0] * 3, combine="softmax", sharpness=7.0) == pytest.approx(2.0)


def test_each_discriminator_has_first_values_and_an_optimiser_of_its_own():
    member, draw = walk.game("ensemble", "points", "cpu", discriminators=3)
    assert list(member.players) == ["G", "D0", "D1", "D2"]
    first = [D.net.state_dict()["main.0.weight"].numpy().copy() for D in member.Ds]
    assert all((first[0] != other).all() for other in first[1:])
    member.step(draw)
    for D, before in zip(member.Ds, first, strict=True):
        assert (D.net.state_dict()["main.0.weight"].numpy() != before).any()
        assert {state["step"] for state in D.optimizer.tree().values()} == {1}


@pytest.mark.parametrize("combine", ["mean", "max", "softmax"])
def test_copies_of_one_discriminator_are_one_discriminator(combine):
    one, draw = walk.double(*walk.game("dcgan", "points", "cpu"))
    three, again = walk.double(*walk.game("ensemble", "points", "cpu", combine=combine))
    for D in three.Ds:
        D.net.load_state_dict(one.D.net.state_dict())
    a, b = one.step(draw), three.step(again)
    assert {k: v.item() for k, v in a.items()} == pytest.approx({k: v.item() for k, v in b.items()})
    for name, weight in one.G.net.state_dict().items():
        np.testing.assert_allclose(
            three.G.net.state_dict()[name].numpy(), weight.numpy(), rtol=1e-9
        )


# -- unrolling ----------------------------------------------------------------------------------------


def test_the_gradient_passes_through_all_updates_of_d():
    """f = theta psi, D ascends: at psi_K = psi + K eta theta, df/dtheta is psi + 2 K eta theta."""
    theta, psi = (tensor([v], dtype="float64", requires_grad=True) for v in (1.0, 0.0))
    ascend = lambda ws, gs: [w - 0.1 * g for w, g in zip(ws, gs, strict=True)]
    (last,) = unrolled.unrolled(lambda ws: -(theta * ws[0]).sum(), [psi], ascend, 5)
    assert last.item() == pytest.approx(0.5)
    (g,) = grad((theta * last).sum(), theta)
    assert g.item() == pytest.approx(1.0, rel=1e-12)  # 0.5, if the updates were constants


def test_the_unrolled_updates_are_those_of_adam():
    weights = [numbers(3, 2).requires_grad_(), numbers(4).requires_grad_()]
    real = Adam([w.detach().clone().requires_grad_() for w in weights], 0.1, (0.5, 0.9))
    loss = lambda ws: sum((w**4).sum() for w in ws)
    for _ in range(2):  # gives moments as in a run that is under way
        real.step(grad(loss(real.params), real.params))
    start = [p.detach().clone().requires_grad_() for p in real.params]
    moved = unrolled.unrolled(loss, start, unrolled.adam_update(real), 3)
    for _ in range(3):
        real.step(grad(loss(real.params), real.params))
    for w, p in zip(moved, real.params, strict=True):
        np.testing.assert_allclose(w.numpy(), p.numpy(), rtol=1e-12)


def test_an_update_that_is_zero_has_a_gradient():
    """Where a gradient and its moments are 0, the root of Adam would have an infinite slope."""
    w = tensor(np.zeros(2), requires_grad=True)
    (moved,) = unrolled.unrolled(
        lambda ws: (ws[0] ** 2).sum(), [w], unrolled.adam_update(Adam([w])), 2
    )
    assert np.isfinite(grad(moved.sum(), w)[0].numpy()).all()


@pytest.mark.parametrize("kind", walk.KINDS)
def test_unrolling_leaves_d_as_one_step_does_and_nothing_unrolled_is_the_plain_game(kind):
    plain, draw = walk.game("dcgan", kind, "cpu")
    plain.step(draw)
    for k, inner in ((0, "adam"), (3, "adam"), (3, "sgd")):
        member, draw = walk.game("unrolled", kind, "cpu", unroll=k, inner=inner)
        member.step(draw)
        # Only weights, because D's running statistics also change in G's half of the plain game.
        for a, b in zip(member.D.net.parameters(), plain.D.net.parameters(), strict=True):
            assert (a.numpy() == b.numpy()).all()
        same = [
            (a.numpy() == b.numpy()).all()
            for a, b in zip(member.G.net.parameters(), plain.G.net.parameters(), strict=True)
        ]
        assert all(same) == (k == 0)


@pytest.mark.parametrize("inner", ["adam", "sgd"])
def test_gs_gradient_through_unrolled_updates_is_that_of_differences(inner):
    options = {"ngf": 2, "ndf": 2, "unroll": 2, "inner": inner, "lr": 0.1}
    member, _ = walk.double(*walk.game("unrolled", "points", "cpu", **options))
    weights = list(member.G.net.parameters())
    for p in weights:
        p.data += 0.1 * np.random.default_rng(1).standard_normal(p.shape)

    def loss(*values):
        found = []
        member.G.descend = lambda loss: found.append(loss)
        member.D.descend = lambda loss: None  # D does not change
        with replaced(member.G.net, values):
            _, draw = walk.double(*walk.game("unrolled", "points", "cpu", **options))
            member.step(draw)
        return found[0]

    assert gradcheck(loss, weights)


def test_other_weights_are_used_inside_and_forgotten_after():
    net = walk.game("dcgan", "images", "cpu")[0].D.net
    x, before = numbers(4, 3, 16, 16).float(), copy.deepcopy(net).state_dict()
    halved = [p * 0.5 for p in net.parameters()]
    with replaced(net, halved):
        inside = net.logits(x)
    (g,) = grad(inside.sum(), halved[:1], retain_graph=True)
    assert (g.numpy() != 0).any()
    assert all((v.numpy() == before[k].numpy()).all() for k, v in net.state_dict().items())
    assert all(any(p is q for q in net.parameters()) for p in net.parameters())
    with pytest.raises(ValueError, match="but the parameters have"), replaced(net, halved[:1]):
        pass


def test_wasserstein_without_a_bound_on_the_slope_is_refused():
    for name in ("dcgan", "unrolled", "conditional"):
        with pytest.raises(UserError, match="--loss wasserstein: nothing bounds D's slope"):
            MEMBERS[name].Options(loss="wasserstein")
        MEMBERS[name].Options(loss="wasserstein", r1=1.0)


def test_networks_that_cannot_make_images_of_a_size_are_refused():
    with pytest.raises(
        UserError, match=r"--network sngan makes images of 16, 32, 64 pixels, not 28"
    ):
        MEMBERS["dcgan"].outline(MEMBERS["dcgan"].Options(network="sngan"), (1, 28, 28))
    MEMBERS["dcgan"].outline(MEMBERS["dcgan"].Options(network="mlp", ngf=8, ndf=8), (1, 28, 28))
