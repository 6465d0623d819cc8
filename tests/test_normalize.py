"""Batch norm: its values, its running statistics, and its gradient through the statistics."""

import numpy as np
import pytest
import reference as ref
from hypothesis import given
from hypothesis import strategies as st
from strategies import leaf, sizes

import minigan.functional as F
from minigan import gradcheck, gradgradcheck, nn, tensor
from minigan.backend import cpu, kernels, reference
from minigan.gradcheck import GradcheckError
from minigan.tensor import grad

rng = np.random.default_rng


@st.composite
def batches(draw):
    """(N, C), (N, C, L) or (N, C, H, W) with at least two values per channel."""
    shape = (draw(st.integers(2, 4)), draw(sizes), *draw(st.lists(sizes, max_size=2)))
    return leaf(rng(draw(st.integers(0, 2**32 - 1))), shape)


def running(c, dtype="float64"):
    return tensor(np.zeros(c, dtype)), tensor(np.ones(c, dtype))


@given(batches())
def test_each_channel_comes_out_with_mean_0_and_variance_1(x):
    y = F.batch_norm(x, None, None, eps=0.0).numpy()
    axes = (0, *range(2, x.ndim))
    np.testing.assert_allclose(y.mean(axes), 0, atol=1e-10)  # 1e-16 over the smallest deviation
    np.testing.assert_allclose(y.var(axes), 1, rtol=1e-10)


@given(batches(), st.sampled_from([0.1, 0.25, 1.0, np.float64(0.5)]))
def test_running_statistics_move_by_the_momentum_towards_mean_and_unbiased_variance(x, momentum):
    mean, var = running(x.shape[1])
    arrays = mean.data, var.data
    for _ in range(2):
        F.batch_norm(x, mean, var, training=True, momentum=momentum)
    left = (1 - momentum) ** 2
    for c in range(x.shape[1]):
        values = x.numpy()[:, c].flatten().tolist()
        for found, first, batch in (
            (mean, 0, ref.mean(values)),
            (var, 1, ref.var(values, 1)),
        ):
            expected = left * first + (1 - left) * batch
            assert found.numpy()[c] == pytest.approx(expected, rel=1e-12, abs=1e-14)
    assert all(a is t.data for a, t in zip(arrays, (mean, var), strict=True))  # in place


@given(batches(), st.integers(0, 99))
def test_the_gradient_has_no_part_along_ones_nor_along_the_output(x, seed):
    y = F.batch_norm(x, None, None, training=True, eps=0.0)
    v = leaf(rng([seed, 5]), y.shape).detach()
    (g,) = grad(y, x, v)
    axes = (0, *range(2, x.ndim))
    scale = np.abs(v.numpy()).max() / y.numpy().std() / x.numpy().std(axes).min()
    for direction in (1.0, y.numpy()):
        np.testing.assert_allclose((g.numpy() * direction).sum(axes), 0, atol=1e-11 * scale)


@pytest.mark.parametrize("frozen", ["mean", "variance"])
def test_a_batch_norm_with_a_frozen_statistic_is_caught(frozen):
    def wrong(x):
        mean, var = x.mean(0, keepdim=True), x.var(0, unbiased=False, keepdim=True)
        mean, var = (mean.detach(), var) if frozen == "mean" else (mean, var.detach())
        return (x - mean) / (var + 1e-5).sqrt()

    x = leaf(rng(3), (5, 2))
    np.testing.assert_allclose(wrong(x).numpy(), F.batch_norm(x, None, None).numpy())
    with pytest.raises(GradcheckError):
        gradcheck(wrong, x)


def test_the_second_derivative_remembers_that_the_statistics_depend_on_the_input():
    x = leaf(rng(3), (5, 2, 3))
    by_parts = lambda x: (
        (x - x.mean((0, 2), True)) / (x.var((0, 2), unbiased=False, keepdim=True) + 1e-5).sqrt()
    )
    v, u = leaf(rng(4), x.shape), leaf(rng(5), x.shape)
    found = []
    for fn in (lambda x: F.batch_norm(x, None, None), by_parts):
        (g,) = grad(fn(x), x, v, create_graph=True)
        found.append([g, *grad(g, [x, v], u, create_graph=True)])
        found[-1] += grad(found[-1][1], x, u)
    for a, b in zip(*found, strict=True):  # orders one, two and three
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-9, atol=1e-10)
    assert gradgradcheck(lambda x: F.batch_norm(x, None, None), x)


def test_large_means_cost_no_digits():
    x = (rng(0).standard_normal((64, 2, 8, 8)) + 1e3).astype("float32")
    mean, var = kernels(np).moments(np, x)
    assert mean.shape == var.shape == (1, 2, 1, 1)
    exact = x.astype("float64")
    # E[x^2] - E[x]^2 would lose 1e6 * 6e-8 = 6 percent here
    np.testing.assert_allclose(var, exact.var((0, 2, 3), keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(mean, exact.mean((0, 2, 3), keepdims=True), rtol=1e-6)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.ones(3), r"expected floats \(N, C, ...\), not float64 \(3,\)"),
        (np.ones((2, 3), int), "not int64"),  # the mean of integers would be rounded
        (np.ones((1, 3, 1, 1)), "one value per channel"),
    ],
)
def test_what_cannot_be_normalised_is_refused(x, message):
    with pytest.raises(ValueError, match=message):
        F.batch_norm(tensor(x), *running(3), training=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eps": -1e-5}, "eps must be a finite number >= 0"),
        ({"eps": float("nan")}, "eps"),
        ({"momentum": None}, "momentum must be a number from 0 to 1, not None"),
        ({"momentum": True}, "momentum"),
        ({"weight": tensor(np.ones(2))}, r"weight has shape \(2,\), expected \(3,\)"),
        ({"running_var": None}, "give both running_mean and running_var, or neither"),
    ],
)
def test_what_cannot_normalise_is_refused(options, message):
    mean, var = running(3)
    options = {"running_mean": mean, "running_var": var, "training": True, **options}
    with pytest.raises(ValueError, match=message):
        F.batch_norm(tensor(np.ones((2, 3))), **options)
    assert (mean.numpy() == 0).all()


@pytest.mark.parametrize(
    ("affine", "message"),
    [
        ({"weight": (3, 4)}, r"weight has shape \(3, 4\), expected \(2, 4\)"),
        ({"weight": (2, 4), "bias": (4,)}, r"bias has shape \(4,\), expected \(2, 4\)"),
        ({"weight": (2, 4, 1, 1)}, r"weight has shape \(2, 4, 1, 1\), expected \(4,\)"),
    ],
)
def test_a_scale_fits_the_channels_or_the_images(affine, message):
    affine = {name: tensor(np.ones(shape)) for name, shape in affine.items()}
    with pytest.raises(ValueError, match=message):
        F.instance_norm(tensor(np.ones((2, 4, 3, 3))), **affine)


def with_bias_of(dtype):
    norm = nn.BatchNorm1d(3)
    norm.bias.data = norm.bias.data.astype(dtype)
    return norm


@pytest.mark.parametrize(
    ("norm", "x"),
    [
        (nn.BatchNorm1d(3), np.ones((2, 4), "f")),  # other channels
        (nn.BatchNorm1d(1), np.ones((2, 4), "f")),  # one channel would broadcast
        (nn.BatchNorm1d(3), np.ones((2, 3), "d")),  # another dtype
        (nn.BatchNorm1d(3), np.ones((1, 3), "f")),  # one value per channel
        (nn.BatchNorm2d(3), np.ones((0, 3, 2, 2), "f")),  # none
        (nn.BatchNorm2d(3), np.ones((2, 3), "f")),  # other dimensions
        (with_bias_of("d"), np.ones((2, 3), "f")),
    ],
)
def test_a_batch_that_is_refused_moves_neither_statistics_nor_counter(norm, x):
    before = {k: v.numpy().tobytes() for k, v in norm.state_dict().items()}
    with pytest.raises((TypeError, ValueError)):
        norm(tensor(x * 3 + 1))
    assert {k: v.numpy().tobytes() for k, v in norm.state_dict().items()} == before
    assert norm.running_mean.version == norm.num_batches_tracked.version == 0


def test_an_array_is_refused_as_an_input():
    with pytest.raises(TypeError, match="the input is a ndarray, not a Tensor"):
        nn.BatchNorm1d(3)(np.ones((2, 3), "f"))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["running_mean", "running_var", "weight", "bias"])
def test_arrays_and_lists_are_refused_as_statistics_and_weights(name, training):
    statistics = {"running_mean": tensor(np.zeros(3)), "running_var": tensor(np.ones(3))}
    for values in (np.ones(3), [1.0] * 3):
        with pytest.raises(TypeError, match=f"the {name} is a .*; make it a tensor with minigan.t"):
            F.batch_norm(tensor(np.ones((2, 3))), **{**statistics, name: values}, training=training)
    assert statistics["running_mean"].tolist() == [0, 0, 0]


def test_a_negative_slope_behind_batch_norm_is_refused_as_it_is_alone():
    x, relu = tensor(np.ones((3, 2), "f")), nn.LeakyReLU(0.1)
    relu.negative_slope = -0.1
    for layers in ([relu], [nn.BatchNorm1d(2), relu]):
        with pytest.raises(ValueError, match="must be at least 0"):
            nn.Sequential(*layers)(x)


@pytest.mark.parametrize("value", [12345.678, -0.1, 3e7, 0])
@pytest.mark.parametrize("kernels", [cpu, reference])
def test_a_channel_of_equal_numbers_has_that_mean_and_becomes_0(kernels, value):
    x = np.full((64, 3, 63, 63), value, "f")
    x[:, 0] = np.arange(63)
    mean, var = kernels.moments(np, x)
    assert (mean[0, 1:] == np.float32(value)).all()
    assert (var[0, 1:] >= 0).all()
    assert (var[0, 1:] <= 1e-12 * value**2).all()
    assert tensor(x[:, 1]).var().item() == 0
    mean, inv_std = kernels.batch_statistics(np, x, 1e-5, 0.1, None)
    assert not kernels.scale_shift(np, x, mean, inv_std, 1.0, 0.0, 1.0)[:, 1:].any()


@pytest.mark.parametrize("training", [False, True])
def test_a_batch_norm_of_float16_divides_in_float32(training):
    """In float16, 1e-8 is 0 and 1e6 is infinite."""
    x, results = np.float16([[1, 2], [3, 2], [1, 2]]), []
    for dtype in ("float16", "float32"):
        mean, var = running(2, dtype)
        var.data[...] = 0
        with np.errstate(over="raise"):
            y = F.batch_norm(
                tensor(x.astype(dtype) / 200),
                mean,
                var,
                training=training,
                eps=1e-12 if training else 1e-8,
            )
        results.append((y, mean, var))
        assert mean.version == var.version == training
    for found, expected in zip(*results, strict=True):
        assert found.dtype == np.float16
        np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=2e-3)
