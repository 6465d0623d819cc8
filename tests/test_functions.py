"""The functions composed of operations: formulas, derivatives, dtypes, extremes, refusals."""

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
    """Random leaves; values keep apart, so that none is near a kink of l1_loss or a maximum's tie."""
    draw, leaves = rng(0), []
    for i, shape in enumerate(FUNCTIONS[name].shapes):
        values = 0.3 * draw.permutation(np.prod(shape, dtype=int)).reshape(shape) - 1 + 0.1 * i
        leaves.append(tensor(values.astype(dtype), requires_grad=True))
    return leaves


def upstream(y, seed):
    """A random upstream gradient for y. (Ones hide errors: a norm's gradient of their sum is 0.)"""
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
    """And the rounding errors are a few of the dtype's units: nothing cancels on the way."""
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
    # An impossible class costs nothing where it is not the label.
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
    # 10,000 trials have a standard deviation of 46; 4 of these
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


# -- what is refused ----------------------------------------------------------------------------

X = tensor(np.ones((2, 3), "f"))


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
        (lambda: F.cross_entropy(X, tensor([1, 3])), IndexError, "label 3 is too large for 3 cla"),
        (lambda: F.cross_entropy(X, tensor([1, -100])), IndexError, "label -100 is negative"),
        (lambda: F.cross_entropy(X, [1, 2]), TypeError, "the labels are a list; make them a ten"),
        (lambda: F.cross_entropy(X, X > 0), TypeError, "labels must be integers, not bool"),
        (
            lambda: F.cross_entropy(X, tensor([1, 2]), reduction="all"),
            ValueError,
            "reduction must be mean, sum or none, not 'all'",
        ),
        (lambda: F.mse_loss(X, X[0]), ValueError, r"mse_loss: input \(2, 3\) and target \(3,\)"),
        (lambda: F.l1_loss(1.0, X), TypeError, "l1_loss: the input must be a tensor, not the num"),
        (lambda: F.one_hot(tensor([3]), 3), IndexError, "one_hot: label 3 is too large"),
        (lambda: F.one_hot(tensor([1]), 0), ValueError, "num_classes must be an int >= 1 or -1"),
        (lambda: F.one_hot(tensor([1]), True), ValueError, "num_classes must be .* not True"),
        (lambda: F.one_hot(tensor([1])[:0]), ValueError, "no label to count classes by"),
        (lambda: F.one_hot(tensor([1.0])), TypeError, "labels must be integers, not float32"),
        (lambda: F.embedding(tensor([2]), X), IndexError, "embedding: label 2 is too large for 2"),
        (lambda: F.embedding(tensor([1]), X[0]), ValueError, r"embedding_dim\), not \(3,\)"),
        (lambda: F.dropout(X, 1.5), ValueError, "dropout: p must be a number from 0 to 1, not 1.5"),
        (lambda: F.dropout(X, np.nan), ValueError, "dropout: p must be .* not nan"),
        (lambda: F.dropout(X > 0), TypeError, "dropout: .* tensor of floats, not bool"),
        (lambda: F.dropout([1.0]), TypeError, "dropout: .* tensor of floats, not a list"),
        (lambda: F.dropout2d(X), ValueError, r"dropout2d: .*\(N, C, H, W\), not \(2, 3\)"),
        (
            lambda: F.dropout(X, uniform=lambda shape: X[0]),
            ValueError,
            r"gave the shape \(3,\) where \(2, 3\) was asked for",
        ),
        (lambda: F.layer_norm(X, (2,)), ValueError, r"\(2, 3\) does not end in .* \(2,\)"),
        (lambda: F.layer_norm(X, ()), ValueError, r"does not end in normalized_shape \(\)"),
        (lambda: F.layer_norm(X, 3, X[0, :2]), ValueError, r"weight has shape \(2,\), .* \(3,\)"),
        (lambda: F.layer_norm(X, 3, eps=-1), ValueError, "layer_norm: eps must be a finite number"),
        (lambda: F.layer_norm(X.long(), 3), TypeError, "tensor of floats, not int64"),
        (lambda: F.layer_norm(X, 3, X[0].double()), TypeError, "weight is float64; make them one"),
        (lambda: F.instance_norm(X), ValueError, r"more than one value per channel, not \(2, 3\)"),
        (lambda: F.instance_norm(X[:, :, None]), ValueError, "more than one value per channel"),
        (lambda: F.instance_norm(None), TypeError, "instance_norm: the input is a NoneType"),
        (lambda: F.group_norm(X, 2), ValueError, "cannot be divided into 2 groups"),
        (lambda: F.group_norm(X, 0), ValueError, "cannot be divided into 0 groups"),
        (lambda: F.group_norm(X[0], 1), ValueError, r"an input \(3,\) cannot be divided"),
        (lambda: F.group_norm(X, 3, X[0], X[0, :1]), ValueError, r"the bias has shape \(1,\)"),
    ],
)
def test_what_cannot_be_used_is_refused(wrong, error, message):
    with pytest.raises(error, match=message):
        wrong()
