"""In-place operators, indices, integers and flags: as in PyTorch, or refused in one sentence."""

import operator

import numpy as np
import pytest

import minigan
import minigan.functional as F
from minigan import backend, grad, init, no_grad, tensor

NAN, INF = float("nan"), float("inf")


def ints(*values, dtype="uint8"):
    return tensor(np.array(values, dtype))


def param(*values, dtype="f"):
    return tensor(np.array(values, dtype), requires_grad=True)


# -- in place -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (operator.iadd, [3, 4]),
        (operator.isub, [-1, 0]),
        (operator.imul, [2, 4]),
        (operator.itruediv, [0.5, 1]),
        (operator.ipow, [1, 4]),
    ],
)
def test_augmented_assignment_writes_in_place_and_is_counted(change, expected):
    x = tensor([[1.0, 2.0], [5.0, 6.0]])
    w = param(2.0, 2.0)
    stale, row = x * w, x[0]
    assert change(row, 2) is row
    assert x.tolist() == [expected, [5, 6]]
    with pytest.raises(RuntimeError, match=r"mul: input 0, .* was changed in place"):
        grad(stale.sum(), w)


@pytest.mark.parametrize("change", [operator.iand, operator.ior, operator.ixor])
def test_augmented_assignment_of_masks_writes_in_place(change):
    mask = tensor([True, False])
    expected = change(mask.numpy().copy(), np.array([True, True]))
    view = mask.detach()
    assert change(mask, True) is mask
    assert view.tolist() == expected.tolist()


def test_a_step_by_hand_moves_the_parameter():
    p = param(1.0, 2.0)
    (p * p).sum().backward()
    with no_grad():
        p -= 0.5 * p.grad
        p.grad *= 0
    assert (p.tolist(), p.grad.tolist(), p.is_leaf) == ([0, 0], [0, 0], True)


def test_a_single_element_is_a_view_too():
    for index in (0, (0,), tensor(0), np.array(0), np.int64(0)):
        x = tensor([1.0, 2.0])
        x[index].fill_(7)
        x[index] += 1
        assert x.tolist() == [8, 2]


def test_what_is_recorded_is_not_changed_in_place():
    p = param(1.0)
    for change in (operator.iadd, operator.isub, operator.imul, operator.itruediv):
        for t in (p, p * 1.0):
            with pytest.raises(
                RuntimeError, match=r"[-+*/]=: .* no_grad\(\):`, or .* `a = a \+ b`"
            ):
                change(t, 2.0)
    assert p.tolist() == [1]
    counts = ints(1, 2)
    with pytest.raises(TypeError, match="/=: uint8 cannot hold"):
        counts /= 2


@pytest.mark.parametrize("take", [lambda x: x[[0]], lambda x: x[x > 0], lambda x: x.T.reshape(-1)])
def test_a_change_of_a_copy_makes_no_graph_stale(take):
    x = tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    y = (x * x).sum()
    take(x.detach()).zero_()
    assert grad(y, x)[0].tolist() == [[2, 4], [6, 8]]


# -- operators ----------------------------------------------------------------------------------


def test_the_operators_of_python_on_tensors_and_masks():
    x, a, b = tensor([-1.0, 2.0]), tensor([True, False]), tensor([True, True])
    assert abs(x).tolist() == [1, 2]
    assert (+x).tolist() == [-1, 2]
    assert (~a).tolist() == [False, True]
    assert (a & b).tolist() == (True & a).tolist() == [True, False]
    assert (a | b).tolist() == (a | True).tolist() == [True, True]
    assert (a ^ b).tolist() == (np.array([True, True]) ^ a).tolist() == [False, True]


# -- values of the first order ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "dtype"),
    [
        (ints(1), tensor(1), "uint8"),
        (tensor(1), ints(1, dtype="int32"), "int32"),
        (ints(1), tensor([1]), "int64"),
        (ints(1), ints(1, dtype="int8"), "int16"),
        (tensor([True]), tensor(1), "int64"),
        (tensor([True]), tensor([True]), "bool"),
        (tensor([True]), 1, "int64"),
        (ints(1, dtype="uint64"), tensor(1), "uint64"),
        (ints(1), tensor(1.0), "float32"),
    ],
)
def test_integers_are_promoted_as_in_pytorch(a, b, dtype):
    assert (a * b).dtype == dtype


def test_a_mean_of_large_integers_does_not_wrap_around():
    assert tensor([2**62] * 4).mean().item() == 2.0**62
    x = tensor(np.array([[2**63, 2**63], [0, 2]], "uint64"))
    assert x.mean(1, keepdim=True).tolist() == [[2.0**63], [1]]
    assert tensor([1, 2]).mean().dtype == np.float32


@pytest.mark.parametrize(("dtype", "n", "value"), [("e", 5000, 1), ("f", 1_000_000, 0.1)])
def test_gradients_of_an_index_named_often_are_rounded_once(dtype, n, value):
    x = param(1.0, 2.0, dtype=dtype)
    (g,) = grad(x[np.ones(n, int)], x, tensor(np.full(n, value, dtype)))
    exact = n * float(np.array(value, dtype))
    assert (g.dtype, g.tolist()) == (dtype, [0, float(np.array(exact, dtype))])


def test_the_gradient_of_bce_is_finite_in_float16_at_its_ends():
    p = param(0, 1, 0, 1, 0.5, 6e-8, dtype="e")
    t = tensor(np.array([1, 0, 0, 1, 1, 1], "e"))
    for create_graph in (False, True):
        loss = F.binary_cross_entropy(p, t)
        (g,) = grad(loss, p, create_graph=create_graph)
        assert np.isfinite(g.numpy()).all()
        np.testing.assert_allclose(g.numpy()[2:5], [0, 0, -2 / 6], rtol=1e-3)
        assert g.numpy()[0] == -g.numpy()[1] < -1000


def test_maximum_hands_the_gradient_on_where_a_nan_is():
    a, b = param(NAN, 1, 2, NAN), param(0.5, NAN, 2, NAN)
    ga, gb = grad(F.maximum(a, b).sum(), [a, b])
    assert ga.tolist() == gb.tolist() == [1, 1, 0.5, 1]  # PyTorch's
    assert grad(F.maximum(a, 0.5).sum(), a)[0].tolist() == [1, 1, 1, 1]


def test_a_number_is_a_target_of_both_losses():
    p = param(0.25, 0.5)
    for loss in (F.binary_cross_entropy, F.binary_cross_entropy_with_logits):
        by_ones = loss(p, tensor([1.0, 1.0])).item()
        assert [loss(p, one).item() for one in (1, 1.0, np.float32(1), True)] == [by_ones] * 4


# -- refusals -----------------------------------------------------------------------------------

X = tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
V, MASK, BYTES = tensor([1.0, 2.0, 3.0]), tensor([True, False, True]), ints(1, 2, 3)
U64 = ints(1, dtype="uint64")
IMAGE = minigan.ones(1, 1, 2, 2)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        # calls with another meaning in PyTorch
        (lambda: X.mean(0, 1), TypeError, "mean: keepdim must be True or False, not 1; .* tuple"),
        (lambda: X.sum(0, 1), TypeError, "sum: keepdim must be True or False, not 1"),
        (lambda: X.sum(0, keepdim="no"), TypeError, "sum: keepdim must be True or False, not 'no'"),
        (lambda: X.var(0, 1), TypeError, "var: unbiased must be True or False, not 1"),
        (lambda: X.var(0, keepdims=0), TypeError, "var: keepdim must be True or False, not 0"),
        (lambda: F.sum(X, dim=0, axis=1), TypeError, "sum: give dim or axis, not both"),
        (lambda: F.squeeze(X, dim=0, axis=1), TypeError, "squeeze: give dim or axis, not both"),
        (lambda: V[BYTES], TypeError, "getitem: a uint8 index .* bool or to int64"),
        (lambda: V[ints(1)[0]], TypeError, "getitem: a uint8 index"),
        (lambda: X.__setitem__((0, BYTES), 1), TypeError, "setitem: a uint8 index"),
        (lambda: X.reshape(2, -2), ValueError, r"reshape: \(2, -2\) has a negative size"),
        (lambda: minigan.full((2, 2), [1, 2]), TypeError, r"full: .* one number, not \[1, 2\]"),
        (lambda: minigan.full((2,), V), TypeError, "full: .* one number, not tensor"),
        (lambda: minigan.zeros(True, 2), TypeError, r"sizes must be integers, not \(True, 2\)"),
        (lambda: minigan.zeros((np.True_,)), TypeError, "sizes must be integers"),
        (lambda: minigan.device("nonsense"), RuntimeError, "unknown device 'nonsense': choose"),
        (lambda: minigan.device("cuda:x"), RuntimeError, "unknown device 'cuda:x': choose"),
        (lambda: X.clamp(np.zeros(3)), TypeError, "clamp: bounds are numbers, not ndarray"),
        (lambda: X.clamp(max=V), TypeError, r"numbers, not Tensor; for tensors use maximum"),
        (lambda: F.leaky_relu(X, NAN), ValueError, "slope nan must be at least 0 and finite"),
        (lambda: F.leaky_relu(X, INF), ValueError, "slope inf must be at least 0 and finite"),
        # values that an integer dtype cannot hold
        (lambda: tensor([300], dtype="uint8"), ValueError, "tensor: uint8 holds .* 0 to 255"),
        (lambda: tensor(ints(200), dtype="int8"), ValueError, "tensor: int8 holds .* 127"),
        (lambda: tensor([1, NAN], dtype="int64"), ValueError, "from nan to nan"),
        (lambda: tensor(2.0**63, dtype="int64"), ValueError, "tensor: int64 holds integers"),
        (lambda: minigan.full((2,), 300, dtype="uint8"), ValueError, "uint8 holds .* to 300"),
        (lambda: minigan.arange(300, dtype="uint8"), ValueError, "uint8 holds .* from 0 to 299"),
        (lambda: minigan.full_like(BYTES, -1), ValueError, "uint8 holds .* from -1 to -1"),
        (
            lambda: minigan.randint(0, 257, (2,), dtype="uint8"),
            ValueError,
            "randint: uint8 holds integers from 0 to 255, but the values range from 0 to 256",
        ),
        (lambda: U64 + tensor([1]), TypeError, "add: no integer dtype holds both uint64 and"),
        (lambda: BYTES + 300, OverflowError, "add: uint8 cannot hold .*to"),
        (lambda: BYTES.detach().fill_(300), OverflowError, "fill_: uint8 cannot hold"),
        (lambda: BYTES.__setitem__(0, -1), OverflowError, "setitem: uint8 cannot hold"),
        (lambda: F.conv2d(IMAGE.to("uint8"), IMAGE.to("uint8")), TypeError, "conv2d: .*not uint8"),
        (
            lambda: F.conv_transpose2d(IMAGE.to("int64"), IMAGE.to("int64")),
            TypeError,
            "conv_transpose2d: expected floats, not int64; use .to",
        ),
        (lambda: F.conv2d(IMAGE, IMAGE, 1.0), TypeError, "bias is a float; make it a tensor"),
        # errors that would otherwise have NumPy's or Python's words
        (lambda: bool(V), ValueError, r"shape \(3,\) is ambiguous; use .*any\(\)"),
        (lambda: V.item(), ValueError, r"shape \(3,\) is not one number; use .tolist"),
        (lambda: len(tensor(1.0)), TypeError, r"has no length; use numel\(\)"),
        (lambda: -MASK, TypeError, "neg: not defined for bool; use"),
        (lambda: MASK - MASK, TypeError, "sub: not defined for bool and bool; use"),
        (lambda: MASK & 1, TypeError, "and_: expected bools, not int64; compare"),
        (lambda: ~V, TypeError, "invert: expected bools, not float32; compare"),
        (lambda: MASK & ~MASK[:2], ValueError, r"and_: the shapes \(3,\) and \(2,\) do not"),
        (lambda: V[5], IndexError, r"getitem of a tensor of shape \(3,\): index 5 is out"),
        (lambda: V[[5]], IndexError, r"getitem of a tensor of shape \(3,\): index 5 is out"),
        (lambda: V["a"], IndexError, r"getitem of a tensor of shape \(3,\): only integers"),
        (lambda: V[1.5], IndexError, r"getitem of a tensor of shape \(3,\): only integers"),
        (lambda: V[MASK[:2]], IndexError, r"getitem of a tensor of shape \(3,\): boolean index"),
        (lambda: V.__setitem__(5, 0), IndexError, r"setitem of a tensor of shape \(3,\): index 5"),
        (lambda: V.__setitem__(slice(2), V), ValueError, r"\(3,\) do not .* of shape \(2,\)"),
        (
            lambda: minigan.arange(0, 3, 0),
            ValueError,
            "arange: there is no finite number of values from 0 to 3 in steps of 0",
        ),
        (lambda: minigan.arange(0.0, INF), ValueError, "arange: .* no finite number"),
        (lambda: minigan.linspace(0, 1, -1), ValueError, "linspace: steps .* not -1"),
        (lambda: minigan.linspace(0, 1, 2.5), ValueError, "linspace: steps .* not 2.5"),
        (
            lambda: minigan.randint(0, 10),
            TypeError,
            r"size must be a tuple: randint\(low, high, \(2",
        ),
        (lambda: minigan.randint(3, 3, (1,)), ValueError, "no integer n with 3 <= n < 3"),
        (lambda: minigan.manual_seed(-1), ValueError, "manual_seed: .* at least 0, not -1"),
        (lambda: minigan.manual_seed(1.5), ValueError, "manual_seed: .* at least 0, not 1.5"),
        (lambda: X.to("gpu"), TypeError, "to: 'gpu' is neither a device .* nor a dtype"),
        (lambda: F.pad(X, 1), TypeError, "pad: expected a tuple of integers, not 1"),
        (lambda: F.pad(X, (0.5, 1)), TypeError, r"a tuple of integers, not \(0.5, 1\)"),
        (lambda: init.uniform_(X, -INF, INF), ValueError, "uniform_: .* finite distance"),
        (lambda: F.cat([]), ValueError, "cat: there are no tensors to join"),
        (lambda: F.stack([]), ValueError, "stack: there are no tensors to join"),
        (lambda: F.binary_cross_entropy(0.5, V), TypeError, "the input must be a tensor, not"),
    ],
)
def test_what_would_mean_something_else_or_nothing_is_refused(wrong, error, message):
    with pytest.raises(error, match=message):
        wrong()


def test_a_whole_number_is_the_number_of_a_gpu(monkeypatch):
    monkeypatch.setattr(backend.device, "gpu_trouble", lambda number: f"{number} was asked for")
    for move in (lambda: X.to(7), lambda: X.cuda(7), lambda: X.to(device=np.int64(7))):
        with pytest.raises(RuntimeError, match="device 'cuda:7' cannot be used: 7 was asked for"):
            move()


def test_what_fits_is_taken():
    assert tensor([255, 0], dtype="uint8").tolist() == [255, 0]
    assert tensor([1.7, -0.5], dtype="uint8").tolist() == [
        1,
        0,
    ]  # the fraction is cut off, as in PyTorch
    assert tensor([2**64 - 1], dtype="uint64").tolist() == [2**64 - 1]
    assert tensor([], dtype="uint8").tolist() == []
    assert tensor([NAN], dtype="bool").tolist() == [True]
    assert minigan.randint(255, 256, (2,), dtype="uint8").tolist() == [255, 255]
    assert X.sum(0, np.True_).shape == (1, 3)
    assert [minigan.device(d) for d in ("cpu", "cuda", "cuda:3")] == ["cpu", "cuda", "cuda:3"]
