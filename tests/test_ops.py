"""Every operation: its formula, gradients of any order, dtypes, and what must not change."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import CASES, CUTS, STEEP, cut_off, graph, leaf

import minigan.functional as F
from minigan import gradcheck, gradgradcheck, tensor
from minigan.normalize import batch_norm_activated
from minigan.tensor import OPERATIONS, grad

COMPOSED = {"var", "flatten", "transpose", "squeeze", "unsqueeze", "stack"}
COMPOSED |= {"relu"}
SMOOTH = {
    "div",
    "exp",
    "log",
    "sqrt",
    "tanh",
    "sigmoid",
    "softplus",
    "matmul",
    "linear",
    "conv",
    "batch_norm",
}
SMOOTH |= {"conv_image", "conv_weight", "cross_entropy", "bce_with_logits", "pow"}

every_case = pytest.mark.parametrize("name", sorted(CASES))
for_drawn = lambda f: every_case(given(data=st.data())(f))


def random_like(y, seed=0):
    """An upstream gradient for y, which requires a gradient itself."""
    values = np.random.default_rng(seed).standard_normal(y.shape)
    return tensor(np.asarray(values, y.dtype), requires_grad=True)


def derivatives(case):
    """The output, its gradients, and the gradients of those with respect to inputs and upstream."""
    y = case.fn(*case.inputs)
    v = random_like(y)
    first = grad(y, case.inputs, v, create_graph=True)
    targets = [*case.inputs, v]
    second = grad(first, targets, [random_like(g, 1) for g in first], allow_unused=True)
    return y, first, second, targets


def in_dtypes(case, dtypes):
    """The case with its inputs in these dtypes."""
    pairs = zip(case.inputs, dtypes, strict=True)
    return case._replace(inputs=[tensor(x.data.astype(d), requires_grad=True) for x, d in pairs])


def test_every_operation_has_a_case_and_every_case_an_operation():
    assert set(CASES) - COMPOSED == set(OPERATIONS)


@for_drawn
def test_the_forward_agrees_with_the_formula(name, data):
    case = data.draw(CASES[name])
    y = case.fn(*case.inputs)
    expected = np.asarray(case.reference(*(x.numpy() for x in case.inputs)))
    assert name in COMPOSED or name in graph(y)  # the case must test this operation
    assert y.shape == expected.shape
    # 1e-12: float64's 1e-16 after a few dozen terms, and cancellation on the tails
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-12, atol=1e-12)


@for_drawn
def test_first_derivatives_agree_with_central_differences(name, data):
    fn, inputs, _ = data.draw(CASES[name])
    assert gradcheck(fn, inputs)


@for_drawn
def test_second_derivatives_agree_with_central_differences(name, data):
    fn, inputs, _ = data.draw(CASES[name])
    assert gradgradcheck(fn, inputs)


@pytest.mark.parametrize("name", sorted(SMOOTH))
@given(data=st.data())
def test_third_derivatives_agree_with_central_differences(name, data):
    fn, inputs, _ = data.draw(CASES[name])
    v = random_like(fn(*inputs)).detach()
    bent = lambda *xs: (y := fn(*xs)) + y * y  # gives linear functions a second derivative
    first = lambda *xs: grad(bent(*xs), xs, v, create_graph=True)
    assert gradgradcheck(first, inputs, directions=1)


@for_drawn
def test_the_gradient_is_linear_in_the_upstream_gradient(name, data):
    fn, inputs, _ = data.draw(CASES[name])
    y = fn(*inputs)
    v, w = random_like(y, 1).detach(), random_like(y, 2).detach()
    rows = zip(*(grad(y, inputs, u, retain_graph=True) for u in (v, w, v * 3 - w)), strict=True)
    for gv, gw, both in rows:
        scale = max(1.0, np.abs(both.numpy()).max(initial=0))
        np.testing.assert_allclose(both.numpy(), (gv * 3 - gw).numpy(), atol=1e-12 * scale)


@for_drawn
def test_a_gradient_asked_for_alone_is_the_same_to_the_last_bit(name, data):
    fn, inputs, _ = data.draw(CASES[name])
    y = fn(*inputs)
    v = random_like(y).detach()
    for x, g in zip(inputs, grad(y, inputs, v, retain_graph=True), strict=True):
        np.testing.assert_array_equal(grad(y, x, v, retain_graph=True)[0].numpy(), g.numpy())


@for_drawn
def test_the_fused_kernels_do_what_the_rules_do(name, data):
    fn, inputs, _ = data.draw(CASES[name])
    y = fn(*inputs)
    v = random_like(y).detach()
    by_rules = grad(y, inputs, v, create_graph=True)
    for found, expected in zip(grad(y, inputs, v), by_rules, strict=True):
        scale = max(1.0, np.abs(expected.numpy()).max(initial=0))
        np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-12, atol=1e-13 * scale)


@for_drawn
def test_float32_stays_float32_forward_backward_and_twice_backward(name, data):
    case = data.draw(CASES[name])
    case = in_dtypes(case, ["float32"] * len(case.inputs))
    y, first, second, _ = derivatives(case)
    assert {t.dtype for t in (y, *first, *second) if t is not None} == {np.dtype("float32")}


@for_drawn
def test_nothing_is_written_to_the_operands(name, data):
    case = data.draw(CASES[name])
    for x in case.inputs:
        x.data.flags.writeable = False
    y, first, second, _ = derivatives(case)
    results = [y, *first, *(g for g in second if g is not None)]
    assert all(np.isfinite(t.numpy()).all() for t in results)


@for_drawn
def test_a_stale_graph_is_refused_even_when_it_sees_the_change_through_a_view(name, data):
    fn, inputs, _ = data.draw(CASES[name])
    v = random_like(fn(*inputs)).detach()
    expected = grad(fn(*inputs), inputs, v)
    for changed in inputs:
        y = fn(*(x.reshape(x.shape) for x in inputs))
        before = changed.numpy().copy()
        changed.data += 1
        for x, g in zip(inputs, expected, strict=True):
            try:
                found = grad(y, x, v)[0].numpy()
            except RuntimeError:
                continue  # refused; if not, it must be correct
            np.testing.assert_array_equal(found, g.numpy())
        changed.data[...] = before


ELEMENTWISE = sorted(n for n in CASES if n in OPERATIONS and OPERATIONS[n].elementwise)


@pytest.mark.parametrize("name", ELEMENTWISE)
@given(data=st.data())
def test_mixed_dtypes_are_promoted_and_each_gradient_comes_in_its_inputs_dtype(name, data):
    case = data.draw(CASES[name])
    dtypes = [data.draw(st.sampled_from(["float32", "float64"])) for _ in case.inputs]
    case = in_dtypes(case, dtypes)
    y, first, second, targets = derivatives(case)
    decide = [x for x in case.inputs if x.ndim] or case.inputs  # 0-dimensional tensors do not count
    if len(decide) == 1 or y.ndim:
        assert y.dtype == np.result_type(*(x.dtype for x in decide))
    pairs = zip([*first, *second], [*case.inputs, *targets], strict=True)
    assert all(g.dtype == x.dtype for g, x in pairs if g is not None)


# -- single cases -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fn", "expected"),
    [
        (lambda x: x * 2, "int64"),
        (lambda x: x + True, "int64"),
        (lambda x: x * 2.0, "float32"),
        (lambda x: np.float64(2) - x, "float32"),
        (lambda x: x / 2, "float32"),
        (lambda x: 1 / x, "float32"),
        (lambda x: x**2, "int64"),
        (lambda x: x**0.5, "float32"),
        (lambda x: x.exp(), "float32"),
        (lambda x: F.sigmoid(x), "float32"),
        (lambda x: F.leaky_relu(x), "float32"),
        (lambda x: F.leaky_relu(x[None]), "float32"),
        (lambda x: F.relu(x), "int64"),
        (lambda x: F.relu(x[None]), "int64"),
        (lambda x: x.mean(), "float32"),
        (lambda x: F.maximum(x, 0.5), "float32"),
        (lambda x: F.where(x > 1, x, 0.0), "float32"),
        (lambda x: x.clamp(2, 3), "int64"),
        (lambda x: x.to("float64"), "float64"),
        (lambda x: x + tensor(np.ones(2, "float64")), "float64"),
        (lambda x: x > 1, "bool"),
        (lambda x: x.sum(), "int64"),
        (lambda x: x.clamp(max=2.5), "float32"),
    ],
)
def test_integers_stay_integers_until_a_float_or_a_smooth_function_makes_them_float32(fn, expected):
    assert fn(tensor([1, 2])).dtype == expected


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "int64", "bool"])
@pytest.mark.parametrize(
    "fn",
    [
        F.exp,
        F.log,
        F.sqrt,
        F.tanh,
        F.sigmoid,
        F.softplus,
        lambda x: F.leaky_relu(x, 0.3),
        lambda x: F.leaky_relu(x[None], 0.3),
        lambda x: F.binary_cross_entropy_with_logits(x, x > 1),
        lambda x: F.binary_cross_entropy_with_logits(x, 0.5),
        lambda x: F.binary_cross_entropy(x > 0, x > 1),
        lambda x: F.mean(x),
        lambda x: F.var(x),
        lambda x: x / 3,
        lambda x: 1 / x,
        lambda x: x**0.5,
        lambda x: x**-1.0,
    ],
)
def test_functions_of_integers_are_those_of_float32(fn, dtype):
    x = tensor(np.array([1, 3, 80], dtype))
    y = fn(x)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y.numpy(), fn(x.to("float32")).numpy(), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32", "bool"])
def test_a_sum_of_small_integers_does_not_wrap_around(dtype):
    y = tensor(np.full((3, 300), 1 if dtype == "bool" else 100, dtype)).sum(1)
    assert y.dtype == np.int64
    assert y.numpy().tolist() == [300 if dtype == "bool" else 30_000] * 3


def test_integers_keep_their_digits_between_bounds():
    x = tensor([2**53 + 1, -(2**62) - 1])
    assert x.clamp(min=0).numpy().tolist() == [2**53 + 1, 0]
    assert x.clamp(max=7).numpy().tolist() == [7, -(2**62) - 1]
    assert x.clamp(-(2**62), 2**53).numpy().tolist() == [2**53, -(2**62)]


def test_float16_is_rounded_once():
    x = tensor(np.ones(70_000, "e"), requires_grad=True)
    once = np.float16(1 / 70_000)
    assert once > 0
    assert x.mean().item() == 1
    assert set(grad(x.mean(), x)[0].numpy().tolist()) == {once}
    assert set((x / 70_000).numpy().tolist()) == {once}
    assert set((x * 1000 * 1e-8).numpy().tolist()) == {np.float16(1e-5)}
    y = tensor(np.tile([20, -20], 500).astype("e"), requires_grad=True)
    (g,) = grad(y.var(), y)
    assert (y.var().item(), y.var(False).item()) == (400.5, 400)
    np.testing.assert_allclose(g.numpy(), y.numpy() * 2 / 999, rtol=1e-3)


def test_a_batch_norm_of_float16_adds_up_in_float32():
    rng = np.random.default_rng(0)
    x, v = rng.normal(30, 20, (40, 3, 50, 50)), rng.normal(0, 0.3, (40, 3, 50, 50))
    v += 0.015 * (x - 30)  # the sum of v * (x - mean) is 600,000
    results = []
    for dtype in ("float16", "float64"):
        inputs = [tensor(a.astype("e").astype(dtype), True) for a in (x, np.ones(3), np.zeros(3))]
        y = F.batch_norm(inputs[0], None, None, *inputs[1:])
        upstream = tensor(v.astype("e").astype(dtype))
        results.append([y, *grad(y, inputs, upstream)])
    for found, exact in zip(*results, strict=True):
        assert found.dtype == np.float16
        scale = np.abs(exact.numpy()).max()
        np.testing.assert_allclose(found.numpy() / scale, exact.numpy() / scale, atol=4e-3)


@pytest.mark.parametrize(
    "fn",
    [
        lambda x, s: x + s,
        lambda x, s: s * x,
        lambda x, s: x**s,
        lambda x, s: x.clamp(s, s + 1),
        lambda x, s: F.leaky_relu(x, s),
        lambda x, s: F.pad(x, [1, 1], value=s),
        lambda x, s: F.where(x > s, x, s),
        lambda x, s: F.maximum(s, x),
        lambda x, s: x.var(correction=s),
        lambda x, s: F.batch_norm(x, None, None, eps=s),
        lambda x, s: F.batch_norm(
            x, tensor(np.zeros(2, "f")), tensor(np.ones(2, "f")), training=True, momentum=s, eps=s
        ),
    ],
)
def test_a_numpy_scalar_does_not_widen_float32(fn):
    x = tensor([[1.0, 2.0], [3.0, 5.0]], requires_grad=True)
    y = fn(x, np.float64(0.5))
    y.sum().backward()
    assert y.dtype == x.grad.dtype == np.float32


def test_a_cast_gives_its_gradient_back_in_the_first_dtype():
    x = tensor([1.0, 2.0], requires_grad=True)
    y = (x.to("float64") ** 2).sum()
    (g,) = grad(y, x)
    assert (y.dtype, g.dtype) == ("float64", "float32")
    assert x.to(np.float32) is x
    assert x.to("cpu") is x


@pytest.mark.parametrize(
    ("fn", "at_the_kink"),
    [
        (F.relu, 0),
        (F.abs, 0),
        (lambda x: F.leaky_relu(x, 0.2), 0.2),
        (lambda x: F.maximum(x, 0.0), 0.5),
        (lambda x: F.maximum(0.0, x), 0.5),
        (lambda x: F.clamp(x, 0, 1), 1),
        (lambda x: F.clamp(x, -1, 0), 1),
    ],
)
def test_on_a_kink_the_gradient_is_the_documented_one(fn, at_the_kink):
    x = tensor([0.0], requires_grad=True)
    assert grad(fn(x), x)[0].item() == pytest.approx(at_the_kink)


@pytest.mark.filterwarnings("ignore:(divide by zero|invalid value):RuntimeWarning")
@pytest.mark.parametrize("steep", STEEP)
@pytest.mark.parametrize("cut", CUTS)
def test_no_gradient_comes_through_where_the_forward_pass_cut_off(cut, steep):
    found, expected = cut_off(cut, steep)
    assert found == expected


@pytest.mark.filterwarnings("ignore:(divide by zero|invalid value):RuntimeWarning")
@pytest.mark.parametrize("upstream", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize(
    "fn",
    [
        *CUTS.values(),
        lambda x: F.clamp(x, 0, 1),
        lambda x: F.clamp(x + 9, 0, 1),
        lambda x: x**0,
        lambda x: F.abs(x + 1),
    ],
)
def test_whatever_comes_from_above_is_cut_off(fn, upstream):
    x = tensor([[-1.0, -1.0]], requires_grad=True)
    v = tensor([[upstream, 1.0]])
    assert grad(fn(x), x, v, create_graph=True)[0].numpy().tolist() == [[0, 0]]
    assert grad(fn(x), x, v)[0].numpy().tolist() == [[0, 0]]


def test_the_square_root_of_a_normalised_relu_has_finite_derivatives():
    arrays = [[-2.0], [-1.0], [3.0], [0.5]], [1.5], [0.1]
    inputs = [tensor(a, requires_grad=True, dtype="float64") for a in arrays]
    fn = lambda x, w, b: batch_norm_activated(x, None, None, w, b, True, 0.1, 1e-5, 0.0).sqrt()
    gradients = lambda *inputs: grad(fn(*inputs).sum(), inputs, create_graph=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        assert gradcheck(fn, inputs)
        assert gradcheck(gradients, inputs)


@pytest.mark.parametrize("fn", [F.sigmoid, F.softplus, F.tanh])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_saturating_functions_stay_finite_far_out(fn, dtype):
    x = tensor(np.array([-1e4, -700.0, 0.0, 700.0, 1e4], dtype), requires_grad=True)
    y = fn(x)
    (g,) = grad(y.sum(), x, create_graph=True)
    (gg,) = grad(g.sum(), x)
    assert all(np.isfinite(t.numpy()).all() for t in (y, g, gg))


@pytest.mark.parametrize("shape", [(2,), (1, 2)])
def test_the_relus_take_infinity_for_what_it_is(shape):
    x = tensor(np.array([-np.inf, np.inf], "f").reshape(shape), requires_grad=True)
    for slope in (0, 0.2, 1.5):
        y = F.leaky_relu(x, slope) if slope else F.relu(x)
        assert y.numpy().ravel().tolist() == [-np.inf if slope else 0, np.inf]
        (g,) = grad(y, x, tensor(np.ones(shape, "f")))
        np.testing.assert_allclose(g.numpy().ravel(), [slope, 1])


def test_the_variance_is_the_unbiased_one_unless_said_otherwise():
    x = np.random.default_rng(0).standard_normal((3, 4))
    assert tensor(x).var(False).item() == pytest.approx(x.var())  # PyTorch's var(unbiased)
    assert tensor(x).var(True).item() == pytest.approx(x.var(ddof=1))
    for given_, ddof in (({}, 1), ({"unbiased": False}, 0), ({"correction": 2}, 2)):
        np.testing.assert_allclose(tensor(x).var(0, **given_).numpy(), x.var(0, ddof=ddof))
        assert gradcheck(
            lambda x, how=given_: x.var(0, **how), leaf(np.random.default_rng(1), (3, 4))
        )


def test_reductions_of_nothing_are_zero_or_not_a_number():
    x = tensor(np.zeros((0, 2)), requires_grad=True)
    assert x.sum().item() == 0
    assert np.isnan(x.mean().item())
    assert np.isnan(tensor([1.0]).var().item())
    assert grad(x.sum(), x)[0].shape == (0, 2)


def test_repeated_indices_add_up():
    x = tensor([1.0, 2.0], requires_grad=True)
    (g,) = grad(x[[0, 0, 1, 0]].sum(), x)
    assert g.numpy().tolist() == [3, 1]


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda x: x.sum(2), IndexError, "dimension 2 is out of range for a tensor of 2"),
        (lambda x: x.sum((0, -2)), ValueError, "name a dimension twice"),
        (lambda x: x.sum(True), TypeError, "a dimension must be a whole number, not True"),
        (lambda x: x.mean(np.False_), TypeError, "a dimension must be a whole number, not"),
        (lambda x: x.var((0, True)), TypeError, "a dimension must be a whole number, not True"),
        (lambda x: x.squeeze(1.0), TypeError, "a dimension must be a whole number, not 1.0"),
        (lambda x: F.cat([x, x], True), TypeError, "a dimension must be a whole number, not True"),
        (lambda x: x.clamp(), ValueError, "clamp: both bounds are None; give min, max or both"),
        (lambda x: (x > 0) ** -1, ValueError, r"pow: bool has no negative powers \(-1\); use .to"),
        (lambda x: x.permute(0, 0), ValueError, r"permute: \(0, 0\) does not name each of 2"),
        (lambda x: F.pad(x, [1]), ValueError, r"pad: \(1,\) in mode 'constant' does not fit 2"),
        (lambda x: F.pad(x, [1, 1], mode="circular"), ValueError, "'circular'"),
        (lambda x: F.pad(x, [2, -4]), ValueError, "pad"),
        (lambda x: x @ tensor([1.0, 2.0]), ValueError, r"matmul: shapes \(2, 3\) and \(2,\)"),
        (lambda x: x @ tensor(1.0), ValueError, "an operand is a scalar"),
        (lambda x: x @ np.ones(3), TypeError, "matmul: operands have dtypes float32, float64"),
        (lambda x: x**x, TypeError, "pow: the exponent must be a number, not Tensor"),
        (lambda x: x + "1", TypeError, "add: an operand is a str"),
        (lambda x: F.maximum(1, 2), TypeError, "maximum: none of the operands is a tensor"),
        (lambda x: F.leaky_relu(x, -0.1), ValueError, "negative_slope -0.1 must be at least 0"),
        (lambda x: x.flatten(1, 0), ValueError, "start_dim 1 comes after end_dim 0"),
        (lambda x: x.expand(-1, 2, 3), ValueError, "expand"),
        (lambda x: x.expand(3), ValueError, r"expand: \(3,\) does not fit the shape \(2, 3\)"),
        (lambda x: x.to("junk"), TypeError, "junk"),
    ],
)
def test_a_wrong_call_is_told_what_is_wrong(wrong, error, message):
    with pytest.raises(error, match=message):
        wrong(tensor(np.ones((2, 3), "f")))
