"""Functions composed of operations: formulas, derivatives, dtypes, extremes, refusals."""

import numpy as np
import pytest
from functions import FUNCTIONS
from strategies import leaf

import minigan
import minigan.functional as F
from minigan import gradcheck, gradgradcheck, manual_seed, tensor
from minigan.tensor import grad

rng = np.random.default_rng

each_function = pytest.mark.parametrize("name", list(FUNCTIONS))


def inputs_of(name, dtype="float64"):
    """Random leaves with distinct values, so that none is near a kink of l1_loss or a tie."""
    draw, leaves = rng(0), []
    for i, shape in enumerate(FUNCTIONS[name].shapes):
        values = 0.3 * draw.permutation(np.prod(shape, dtype=int)).reshape(shape) - 1 + 0.1 * i
        leaves.append(tensor(values.astype(dtype), requires_grad=True))
    return leaves


def upstream(y, seed):
    """A random upstream gradient for y. (Ones hide errors: the sum of a norm has gradient 0.)"""
    return tensor(rng(seed).uniform(-1, 1, y.shape).astype("e").astype(y.dtype))


@each_function
def test_the_value_is_that_of_the_formula(name):
    function, inputs = FUNCTIONS[name], inputs_of(name)
    expected = np.asarray(function.formula(*(x.numpy() for x in inputs)))
    y = function.call(*inputs)
    assert (y.shape, y.dtype) == (expected.shape, "float64")
    # 1e-12: float64's 1e-16 after a few dozen terms
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-12, atol=1e-12)


@each_function
def test_first_and_second_derivatives_agree_with_central_differences(name):
    call, inputs = FUNCTIONS[name].call, inputs_of(name)
    assert gradcheck(call, inputs)
    assert gradgradcheck(call, inputs)


@each_function
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_dtype_stays_forward_backward_and_twice_backward(name, dtype):
    """The rounding errors are a few units of the dtype, so nothing cancels on the way."""
    call, inputs = FUNCTIONS[name].call, inputs_of(name, dtype)
    results = []
    for xs in (inputs, [tensor(x.data.astype("float64"), requires_grad=True) for x in inputs]):
        y = call(*xs)
        first = grad(y, xs, upstream(y, 1), create_graph=True)
        recorded = [g for g in first if g.requires_grad]
        second = grad(recorded, xs, [upstream(g, 2) for g in recorded], allow_unused=True)
        results.append([y, *first, *(g for g in second if g is not None)])
    unit = np.finfo(dtype).eps
    for found, exact in zip(*results, strict=True):
        assert found.dtype == dtype
        scale = np.abs(exact.numpy()).max(initial=1)
        np.testing.assert_allclose(found.numpy() / scale, exact.numpy() / scale, atol=16 * unit)


def test_tensors_have_the_functions_as_methods():
    x, index = tensor([[1.0, 3.0], [4.0, 2.0]]), tensor([[1], [0]])
    for found, expected in (
        (x.softmax(1), F.softmax(x, 1)),
        (x.log_softmax(dim=0), F.log_softmax(x, 0)),
        (x.logsumexp(1), F.logsumexp(x, 1)),
        (x.amax(0), tensor([4.0, 3.0])),
        (x.amin(1, keepdim=True), tensor([[1.0], [2.0]])),
        (x.max(1).values, tensor([3.0, 4.0])),
        (x.min(axis=0).indices, tensor([0, 1])),
        (x.argmax(), tensor(2)),
        (x.maximum(2.0 * x.T), tensor([[2.0, 8.0], [6.0, 4.0]])),
        (x.minimum(x.T), tensor([[1.0, 3.0], [3.0, 2.0]])),
        (x.gather(1, index), tensor([[3.0], [4.0]])),
        (minigan.norm(x), x.norm("fro")),
    ):
        assert found.tolist() == expected.tolist()


# -- softmax ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_softmaxes_are_finite_however_large_the_scores(dtype):
    x = tensor(np.array([[1e4, -1e4, 0], [-np.inf, 0, 0]], dtype), requires_grad=True)
    np.testing.assert_allclose(F.softmax(x, 1).numpy(), [[1, 0, 0], [0, 0.5, 0.5]])
    np.testing.assert_allclose(
        F.log_softmax(x, 1).numpy(), [[0, -2e4, -1e4], [-np.inf, -np.log(2), -np.log(2)]]
    )
    np.testing.assert_allclose(F.logsumexp(x, 1).numpy(), [1e4, np.log(2)], rtol=1e-6)
    (g,) = grad(F.logsumexp(x, 1).sum(), x)
    np.testing.assert_allclose(g.numpy(), [[1, 0, 0], [0, 0.5, 0.5]])
    # An impossible class adds no loss where it is not the label.
    loss = F.cross_entropy(x, tensor([0, 1]), reduction="none")
    np.testing.assert_allclose(loss.numpy(), [0, np.log(2)], atol=1e-7)
    np.testing.assert_allclose(grad(loss.sum(), x)[0].numpy(), [[0, 0, 0], [0, -0.5, 0.5]])


@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
def test_logsumexp_of_infinities_is_infinite():
    x = tensor([[-np.inf, -np.inf], [np.inf, 0.0]])
    assert F.logsumexp(x, 1).tolist() == [-np.inf, np.inf]


def test_equal_scores_cost_the_logarithm_of_the_number_of_classes():
    x = tensor(np.full((5, 4), 7.0), requires_grad=True)
    labels = tensor([0, 1, 2, 3, 3])
    loss = F.cross_entropy(x, labels)
    assert loss.item() == pytest.approx(np.log(4))
    expected = (0.25 - np.eye(4)[labels.numpy()]) / 5  # (softmax - one_hot) / N
    np.testing.assert_allclose(grad(loss, x)[0].numpy(), expected, rtol=1e-12)


def test_one_hot_targets_cost_what_labels_do():
    x = leaf(rng(0), (4, 3))
    labels = tensor([2, 0, 1, 1])
    by_rows = F.cross_entropy(x, F.one_hot(labels, 3).double())
    assert by_rows.item() == pytest.approx(F.cross_entropy(x, labels).item(), rel=1e-12)


# -- labels -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
def test_one_hot_has_a_one_at_each_label(dtype):
    labels = tensor(np.array([[0, 2], [1, 0]], dtype))
    found = F.one_hot(labels, 3)
    assert found.dtype == np.int64
    assert found.tolist() == [[[1, 0, 0], [0, 0, 1]], [[0, 1, 0], [1, 0, 0]]]
    assert F.one_hot(labels).tolist() == found.tolist()
    assert F.one_hot(labels, 5).shape == (2, 2, 5)
    assert F.one_hot(labels[:0], 5).shape == (0, 2, 5)
    weight = tensor(np.arange(6.0).reshape(3, 2))
    assert F.embedding(labels, weight).tolist() == [[[0, 1], [4, 5]], [[2, 3], [0, 1]]]


def test_the_gradient_of_a_row_adds_up_what_each_label_asks_of_it():
    weight = tensor(np.zeros((3, 2), "f"), requires_grad=True)
    y = F.embedding(tensor([2, 0, 2]), weight)
    (g,) = grad(y, weight, tensor([[1.0, 2.0], [3.0, 4.0], [10.0, 20.0]]))
    assert g.tolist() == [[3, 4], [0, 0], [11, 22]]


# -- dropout ------------------------------------------------------------------------------------


def test_dropout_keeps_the_mean_and_drops_as_many_as_it_should():
    manual_seed(0)
    x = minigan.ones(100, 100, requires_grad=True)
    y = F.dropout(x, 0.3)
    values, counts = np.unique(y.numpy(), return_counts=True)
    np.testing.assert_allclose(values, [0, 1 / 0.7], rtol=1e-6)
    # 4 standard deviations; 10,000 trials have one of 46
    assert abs(counts[0] - 3000) < 184
    np.testing.assert_array_equal(grad(y.sum(), x)[0].numpy(), y.numpy())  # the same mask


def test_dropout2d_drops_whole_channels():
    manual_seed(0)
    y = F.dropout2d(minigan.ones(50, 40, 2, 3), 0.5).numpy()
    means = y.mean((2, 3))
    assert set(np.unique(means)) == set(np.unique(y)) == {0, 2}
    assert abs((means == 0).sum() - 1000) < 4 * 22.4  # 2,000 trials


def test_dropout_draws_anew_at_each_call_and_the_same_after_the_same_seed():
    x = minigan.ones(100)
    manual_seed(1)
    first, second = F.dropout(x), F.dropout(x)
    manual_seed(1)
    assert F.dropout(x).tolist() == first.tolist() != second.tolist()


@pytest.mark.parametrize("function", [F.dropout, F.dropout2d])
def test_the_limits_of_dropout(function):
    x = minigan.ones(2, 2, 1, 1, requires_grad=True)
    assert function(x, 0.7, False) is x
    assert function(x, 0) is x
    y = function(x, 1)
    assert y.tolist() == (x * 0).tolist()
    assert grad(y.sum(), x)[0].tolist() == y.tolist()
    assert function(x, np.float64(0.5)).dtype == np.float32


# -- extremes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("largest", [True, False])
def test_ties_share_the_gradient_of_amax_and_the_first_gets_that_of_max(largest):
    values = [[1.0, 3.0, 3.0, 3.0], [5.0, 4.0, 0.0, 5.0]]
    x = tensor(values if largest else (-np.array(values)).tolist(), requires_grad=True)
    whole, along = (F.amax, F.max) if largest else (F.amin, F.min)
    v = tensor([6.0, 2.0])
    assert grad(whole(x, 1), x, v)[0].tolist() == [[0, 2, 2, 2], [1, 0, 0, 1]]
    assert grad(along(x), x)[0].tolist() == [[0, 0, 0, 0], [0.5, 0, 0, 0.5]]
    found = along(x, 1)
    assert (found.indices.tolist(), found.indices.dtype) == ([1, 0], "int64")
    assert grad(found.values, x, v)[0].tolist() == [[0, 6, 0, 0], [2, 0, 0, 0]]
    kept = along(x, dim=0, keepdim=True)
    assert kept.values.shape == kept.indices.shape == (1, 4)


def test_nan_is_an_extremum_and_shows_in_the_gradient():
    x = tensor([1.0, np.nan], requires_grad=True)
    window = F.max_pool2d(x.reshape(1, 1, 1, 2), (1, 2))
    for y in (F.amax(x), F.min(x), F.max(x, 0).values, window):
        assert np.isnan(y.item())
        assert grad(y, x)[0].numpy().sum() == 1  # the gradient is not lost
    assert F.argmax(x).item() == 1


def test_extremes_of_integers_keep_their_dtype():
    x = tensor(np.array([[3, 200], [7, 7]], "uint8"))
    for y in (x.amax(1), x.max(), x.max(1).values, x.min(0)[0], F.minimum(x, x.T)):
        assert y.dtype == np.uint8
    assert (x.max().item(), x.argmax().item(), x.argmax(0).tolist()) == (200, 1, [1, 0])
    assert x.argmax(1, keepdim=True).tolist() == [[1], [0]]
    assert (tensor([True, False]).max().item(), tensor(2.0).amax().item()) == (True, 2)


def test_minimum_gives_each_of_two_equals_half_of_the_gradient():
    a, b = (tensor([1.0, 2.0], requires_grad=True) for _ in "ab")
    ga, gb = grad(F.minimum(a, b * tensor([1.0, 2.0])), [a, b], tensor([4.0, 4.0]))
    assert (ga.tolist(), gb.tolist()) == ([2, 4], [2, 0])


# -- products, norms ----------------------------------------------------------------------------


def test_products_beside_zeros_have_finite_derivatives():
    x = tensor([[2.0, 0.0, 3.0], [4.0, 5.0, 0.0]], requires_grad=True, dtype="float64")
    y = F.prod(x, 1)
    assert y.tolist() == [0, 0]
    assert grad(y.sum(), x)[0].tolist() == [[0, 6, 0], [0, 0, 20]]
    assert grad(F.prod(x), x)[0].tolist() == [[0, 0, 0], [0, 0, 0]]  # each is next to another zero
    assert gradcheck(lambda x: F.prod(x, 1), x)
    assert gradgradcheck(lambda x: F.prod(x, 1), x)


def test_products_of_integers_and_of_nothing():
    assert F.prod(tensor(np.array([100, 100], "uint8"))).item() == 10_000
    assert F.prod(minigan.zeros(0)).item() == 1
    assert F.prod(minigan.zeros(2, 0), 1, keepdim=True).tolist() == [[1], [1]]
    assert F.prod(tensor(3.0)).item() == 3


def test_the_gradient_of_a_deviation_of_equal_numbers_is_zero():
    x = tensor(np.array([[1, 1, 1], [1, 2, 3]], "f"), requires_grad=True)
    (found,) = grad(F.std(x, 1).sum(), x)
    np.testing.assert_allclose(found.numpy(), [[0, 0, 0], [-0.5, 0, 0.5]], atol=1e-7)  # by hand


def test_the_gradient_of_a_norm_of_zeros_is_zero():
    x = tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    assert F.norm(x, dim=1).tolist() == [0, 5]
    (g,) = grad(F.norm(x, dim=1).sum(), x, create_graph=True)
    np.testing.assert_allclose(g.numpy(), [[0, 0], [0.6, 0.8]], rtol=1e-6)
    assert np.isfinite(grad(g.sum(), x)[0].numpy()).all()
    assert F.normalize(x).tolist()[0] == [0, 0]
    big = tensor(np.full(4, 3e4, "e"))  # whose square is infinite in float16
    assert F.norm(big).item() == 6e4


# -- parts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "sizes"),
    [
        (lambda x: x.split(2), [2, 2, 1]),
        (lambda x: x.split(9), [5]),
        (lambda x: F.split(x, [1, 0, 4]), [1, 0, 4]),
        (lambda x: x.chunk(2), [3, 2]),
        (lambda x: x.chunk(4), [2, 2, 1]),  # as in PyTorch: at most four
        (lambda x: F.chunk(x, 9), [1] * 5),
        (lambda x: x[:0].chunk(3), [0]),
    ],
)
def test_parts_are_views_of_pytorchs_sizes(parts, sizes):
    x = tensor([0.0, 1.0, 2.0, 3.0, 4.0])
    found = parts(x)
    assert [len(part) for part in found] == sizes
    assert [v for part in found for v in part.tolist()] == x.tolist()[: sum(sizes)]
    assert all(np.shares_memory(part.data, x.data) for part in found if part.numel())


# -- images -------------------------------------------------------------------------------------


def test_of_equal_numbers_in_a_window_the_first_gets_the_gradient():
    for values, expected in (
        ([[0.0, 0.0], [0.0, 0.0]], [[3, 0], [0, 0]]),
        ([[-1.0, 0.0], [0.0, 0.0]], [[0, 3], [0, 0]]),
        ([[-1.0, -2.0], [0.0, 0.0]], [[0, 0], [3, 0]]),
    ):
        x = tensor([[values]], requires_grad=True)
        assert grad(F.max_pool2d(x, 2), x, tensor([[[[3.0]]]]))[0].tolist() == [[expected]]


def test_the_padding_of_a_maximum_is_never_chosen():
    x = tensor(np.full((1, 1, 2, 2), -5, "f"), requires_grad=True)
    y = F.max_pool2d(x, 2, padding=1)
    assert y.tolist() == [[[[-5, -5], [-5, -5]]]]
    assert grad(y.sum(), x)[0].tolist() == [[[[1, 1], [1, 1]]]]
    assert F.avg_pool2d(x, 2, padding=1).tolist() == [[[[-1.25, -1.25], [-1.25, -1.25]]]]


def test_pooling_undoes_enlarging_and_constants_stay_constant():
    x = tensor(rng(0).standard_normal((2, 3, 4, 5)).astype("f"))
    large = F.interpolate(x, scale_factor=(2, 3))
    assert large.shape == (2, 3, 8, 15)
    np.testing.assert_allclose(F.avg_pool2d(large, (2, 3)).numpy(), x.numpy(), rtol=1e-6, atol=1e-7)
    assert F.max_pool2d(large, (2, 3)).tolist() == x.tolist()
    assert F.interpolate(x, (4, 5), mode="bilinear").tolist() == x.tolist()
    ones = F.interpolate(minigan.ones(1, 1, 3, 4), (7, 9), mode="bilinear")
    np.testing.assert_allclose(ones.numpy(), 1, rtol=1e-6)
    # PyTorch's documented example, without corners aligned
    square = tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    assert F.interpolate(square, scale_factor=2, mode="bilinear").tolist() == [
        [[[1, 1.25, 1.75, 2], [1.5, 1.75, 2.25, 2.5], [2.5, 2.75, 3.25, 3.5], [3, 3.25, 3.75, 4]]]
    ]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.avg_pool2d(x, 2),
        lambda x: F.max_pool2d(x, 2),
        lambda x: F.interpolate(x, scale_factor=2),
        lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
        lambda x: F.instance_norm(x),
        lambda x: F.group_norm(x, 2),
    ],
)
def test_images_keep_the_channels_last_in_memory(function):
    """Channels last, as the convolutions on both sides need them; otherwise they would copy."""
    x = tensor(rng(0).standard_normal((2, 4, 4, 6)).astype("f").transpose(0, 3, 1, 2), True)
    y = function(x)
    assert y.data.transpose(0, 2, 3, 1).flags.c_contiguous
    (g,) = grad(y, x, upstream(y, 0))
    assert g.shape == x.shape


# -- what is refused ----------------------------------------------------------------------------

X, I = tensor(np.ones((2, 3), "f")), tensor(np.ones((1, 2, 3, 3), "f"))


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda: F.softmax(X, 2), IndexError, "dimension 2 is out of range"),
        (lambda: F.softmax(X, None), TypeError, "a dimension must be a whole number, not None"),
        (lambda: F.log_softmax(X, (0, 1)), TypeError, "a dimension must be a whole number"),
        (lambda: F.logsumexp(X, 0, 1), TypeError, "logsumexp: keepdim must be True or False"),
        (lambda: F.cross_entropy(X[0], tensor([1])), ValueError, r"logits \(N, K\), not \(3,\)"),
        (lambda: F.cross_entropy([1.0], tensor([1])), ValueError, r"\(N, K\), not a list"),
        (lambda: F.cross_entropy(X, tensor([1])), ValueError, r"labels \(1,\) for logits \(2, 3\)"),
        (lambda: F.cross_entropy(X, X[:, :2]), ValueError, "must have the same shape"),
        (lambda: F.cross_entropy(X, tensor([1, 3])), IndexError, "label 3 is out .* from 0 to 2"),
        (lambda: F.cross_entropy(X, tensor([1, -100])), IndexError, "label -100 is out of range"),
        (
            lambda: F.cross_entropy(X, [1, 2]),
            TypeError,
            "the label must be a tensor of integers, not a li",
        ),
        (
            lambda: F.cross_entropy(X, X > 0),
            TypeError,
            "the label must be a tensor of integers, not bool",
        ),
        (
            lambda: F.cross_entropy(X, tensor([1, 2]), reduction="all"),
            ValueError,
            "reduction must be mean, sum or none, not 'all'",
        ),
        (lambda: F.mse_loss(X, X[0]), ValueError, r"mse_loss: input \(2, 3\) and target \(3,\)"),
        (lambda: F.l1_loss(1.0, X), TypeError, "l1_loss: the input must be a tensor, not the num"),
        (lambda: F.one_hot(tensor([3]), 3), IndexError, "one_hot: label 3 is out of range"),
        (lambda: F.one_hot(tensor([-1])), IndexError, "label -1 is out .* it must be at least 0"),
        (lambda: F.one_hot(tensor([1]), 0), ValueError, "num_classes must be an int >= 1 or -1"),
        (lambda: F.one_hot(tensor([1]), True), ValueError, "num_classes must be .* not True"),
        (lambda: F.one_hot(tensor([1])[:0]), ValueError, "no labels to count the classes from"),
        (lambda: F.one_hot(tensor([1.0])), TypeError, "the label must be .* not float32"),
        (lambda: F.embedding(tensor([2]), X), IndexError, "embedding: label 2 is out of range"),
        (lambda: F.embedding(tensor([1]), X[0]), ValueError, r"embedding_dim\), not \(3,\)"),
        (lambda: F.dropout(X, 1.5), ValueError, "dropout: p must be a number from 0 to 1, not 1.5"),
        (lambda: F.dropout(X, np.nan), ValueError, "dropout: p must be .* not nan"),
        (lambda: F.dropout(X > 0), TypeError, "dropout: .* tensor of floats, not bool"),
        (lambda: F.dropout([1.0]), TypeError, "dropout: .* tensor of floats, not a list"),
        (lambda: F.dropout2d(X), ValueError, r"dropout2d: .*\(N, C, H, W\), not \(2, 3\)"),
        (
            lambda: F.dropout(X, uniform=lambda shape: X[0]),
            ValueError,
            r"returned the shape \(3,\), expected \(2, 3\)",
        ),
        (lambda: F.layer_norm(X, (2,)), ValueError, r"\(2, 3\) does not end in .* \(2,\)"),
        (lambda: F.layer_norm(X, ()), ValueError, r"normalized_shape \(\) must have at least one"),
        (lambda: F.layer_norm(X, 3, X[0, :2]), ValueError, r"weight has shape \(2,\), .* \(3,\)"),
        (lambda: F.layer_norm(X, 3, eps=-1), ValueError, "layer_norm: eps must be a finite number"),
        (lambda: F.layer_norm(X.long(), 3), TypeError, "tensor of floats, not int64"),
        (
            lambda: F.layer_norm(X, 3, X[0].double()),
            TypeError,
            "weight is float64; convert them to one",
        ),
        (lambda: F.instance_norm(X), ValueError, r"more than one value per channel, not \(2, 3\)"),
        (lambda: F.instance_norm(X[:, :, None]), ValueError, "more than one value per channel"),
        (lambda: F.instance_norm(None), TypeError, "instance_norm: the input is a NoneType"),
        (lambda: F.group_norm(X, 2), ValueError, "cannot be divided into 2 groups"),
        (lambda: F.group_norm(X, 0), ValueError, "cannot be divided into 0 groups"),
        (lambda: F.group_norm(X[:, :0], 1), ValueError, r"an input \(2, 0\) cannot be divided"),
        (lambda: F.instance_norm(X[:, :0, None]), ValueError, "more than one value per channel"),
        (lambda: F.group_norm(X[0], 1), ValueError, r"an input \(3,\) cannot be divided"),
        (lambda: F.group_norm(X, 3, X[0], X[0, :1]), ValueError, r"the bias has shape \(1,\)"),
        (lambda: F.amax(X[:0]), ValueError, r"amax: a tensor \(0, 3\) has no elements to choose"),
        (lambda: F.max(X[:0], 0), ValueError, "max: .* has no elements to choose from"),
        (lambda: F.argmax(X[:0]), ValueError, "argmax: .* has no elements to choose from"),
        (lambda: F.max(X, (0, 1)), TypeError, "a dimension must be a whole number"),
        (lambda: F.max(X, X), TypeError, "a dimension must be a whole number"),
        (lambda: F.min(X, 0, 1), TypeError, "min: keepdim must be True or False"),
        (lambda: F.argmax(X, 2), IndexError, "dimension 2 is out of range"),
        (lambda: F.norm(X, 1), ValueError, r"norm: p=1 is not supported, only 2; .* x.abs\(\)"),
        (lambda: F.norm(X.long()), TypeError, "norm: .* tensor of floats, not int64"),
        (lambda: F.normalize([1.0]), TypeError, "normalize: .* tensor of floats, not a list"),
        (lambda: F.gather(X, 0, tensor([[2]])), IndexError, "gather: index 2 is out .* 0 to 1"),
        (lambda: F.gather(X, 0, tensor([[-1]])), IndexError, "gather: index -1 is out of range"),
        (lambda: F.gather(X, 0, tensor([1])), ValueError, r"index \(1,\) does not fit an input"),
        (lambda: F.gather(X, 0, F.one_hot(tensor([0]), 4)), ValueError, r"\(1, 4\) does not fit"),
        (lambda: F.split(X, 0), ValueError, "split: 2 elements cannot be split into 0"),
        (lambda: F.split(X, [1, 2]), ValueError, r"into \[1, 2\]; .* sizes with the sum 2"),
        (lambda: F.chunk(X, 0), ValueError, "number of chunks must be an int >= 1, not 0"),
        (lambda: F.unflatten(X, 1, (2, -1)), ValueError, r"3 elements do not fit .* \(2, -1\)"),
        (lambda: F.unflatten(X, 1, (2,)), ValueError, r"3 elements do not fit the sizes \(2,\)"),
        (lambda: F.unflatten(X, 1, ()), ValueError, r"3 elements do not fit the sizes \(\)"),
        (lambda: F.pad(X, (3, 0), "reflect"), ValueError, r"mirrored by 0 to 2, not by \(3, 0\)"),
        (lambda: F.pad(X, (0, -1), "reflect"), ValueError, r"mirrored by .* not by \(0, -1\)"),
        (
            lambda: F.pad(X, (1, 1), "reflect", 1.0),
            ValueError,
            "does not use a value; leave out value=1.0",
        ),
        (lambda: F.pad(X, (1, 1), "circular"), ValueError, "in mode 'circular' does not fit"),
        (lambda: F.avg_pool2d(X, 2), ValueError, r"avg_pool2d: .*\(N, C, H, W\), not \(2, 3\)"),
        (lambda: F.max_pool2d(I.long(), 2), TypeError, "max_pool2d: .* floats, not int64"),
        (lambda: F.max_pool2d(I, 4), ValueError, r"\(4, 4\) is larger than the padded image"),
        (lambda: F.avg_pool2d(I, 2, 0), ValueError, "stride must be an int >= 1"),
        (lambda: F.avg_pool2d(I, 3, 1, 2), ValueError, r"padding \(2, 2\) must be at most half"),
        (lambda: F.interpolate(I), ValueError, "give either size or scale_factor"),
        (lambda: F.interpolate(I, 2), ValueError, r"not \(3, 3\) to \(2, 2\); use bilinear"),
        (lambda: F.interpolate(I, (0, 3)), ValueError, "size must be an int >= 1"),
        (lambda: F.interpolate(I, 3, mode="area"), ValueError, "mode must be nearest or bilinear"),
        (lambda: F.interpolate(X, 3), ValueError, r"images \(N, C, H, W\), not \(2, 3\)"),
    ],
)
def test_what_cannot_be_used_is_refused(wrong, error, message):
    with pytest.raises(error, match=message):
        wrong()
