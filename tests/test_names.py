"""PyTorch's names on tensors: they mean the same here, or are refused."""

import numpy as np
import pytest

import minigan
import minigan.functional as F
from minigan import grad, no_grad, tensor

# -- creation -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "expected", "dtype"),
    [
        (lambda **o: minigan.zeros(2, 3, **o), np.zeros((2, 3)), "float32"),
        (lambda **o: minigan.zeros((2, 3), **o), np.zeros((2, 3)), "float32"),
        (lambda **o: minigan.ones([2], **o), np.ones(2), "float32"),
        (lambda **o: minigan.ones(**o), np.ones(()), "float32"),
        (lambda **o: minigan.ones(tensor(2), np.int64(1), **o), np.ones((2, 1)), "float32"),
        (lambda **o: minigan.zeros(tensor([[1], [2]]).size(), **o), np.zeros((2, 1)), "float32"),
        (lambda **o: minigan.full((2,), 0.5, **o), np.full(2, 0.5), "float32"),
        (lambda **o: minigan.full([2], 3, **o), [3, 3], "int64"),
        (lambda **o: minigan.full((), True, **o), True, "bool"),
        (lambda **o: minigan.full((1,), tensor(2.0), **o), [2], "float32"),
        (lambda **o: minigan.full((1,), np.float64(2), **o), [2], "float32"),
        (lambda **o: minigan.arange(3, **o), [0, 1, 2], "int64"),
        (lambda **o: minigan.arange(1, 2, 0.25, **o), [1, 1.25, 1.5, 1.75], "float32"),
        (lambda **o: minigan.linspace(0, 1, 3, **o), [0, 0.5, 1], "float32"),
        (lambda **o: minigan.zeros_like(tensor([1, 2]), **o), [0, 0], "int64"),
        (lambda **o: minigan.ones_like(tensor([[2.0]]), **o), [[1]], "float32"),
        (lambda **o: minigan.full_like(tensor(np.ones(2)), 3, **o), [3, 3], "float64"),
    ],
)
def test_tensors_of_known_values(made, expected, dtype):
    t = made()
    assert (t.dtype, t.shape, t.device, t.is_leaf) == (dtype, np.shape(expected), "cpu", True)
    np.testing.assert_array_equal(t.numpy(), expected)
    t = made(dtype=minigan.float64, device=minigan.device("cpu"), requires_grad=True)
    assert (t.dtype, t.requires_grad, t.data.flags.writeable) == ("float64", True, True)
    np.testing.assert_array_equal(t.numpy(), expected)


DRAWN = {
    "rand": lambda **o: minigan.rand(3, 200, **o),
    "randn": lambda **o: minigan.randn(3, 200, **o),
    "rand_like": lambda **o: minigan.rand_like(tensor(np.ones((3, 200), "f")), **o),
    "randn_like": lambda **o: minigan.randn_like(tensor(np.ones((3, 200), "f")), **o),
    "randint": lambda **o: minigan.randint(-1, 3, (3, 200), **o),
    "randint from 0": lambda **o: minigan.randint(3, (3, 200), **o),
}


@pytest.mark.parametrize("name", list(DRAWN))
def test_random_numbers_come_from_the_seeded_generator(name):
    draw = DRAWN[name]
    minigan.manual_seed(7)
    x, y = draw(), draw()
    minigan.manual_seed(7)
    np.testing.assert_array_equal(draw().numpy(), x.numpy())
    assert (x.numpy() != y.numpy()).any()
    assert (x.shape, x.dtype) == ((3, 200), "int64" if "int" in name else "float32")
    minigan.manual_seed(7)
    z = draw(dtype="float64", requires_grad=True)
    np.testing.assert_allclose(z.numpy(), x.numpy(), rtol=1e-7, atol=1e-7)  # float32's rounding
    low, high = x.numpy().min(), x.numpy().max()
    if "randn" in name:
        assert abs(x.mean().item()) < 0.15
        assert abs(x.var().item() - 1) < 0.2
    elif "int" in name:
        assert (low, high) == ((0, 2) if "0" in name else (-1, 2))
    else:
        assert 0 <= low < 0.02 < 0.98 < high < 1


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_rand_stays_below_one_in_every_dtype(dtype, monkeypatch):
    class Highest:
        random = staticmethod(lambda shape: np.full(shape, 1 - 2.0**-53))

    monkeypatch.setattr(minigan.init, "_default", Highest)
    x = minigan.rand(2, dtype=dtype)
    assert x.dtype == dtype
    assert 0.999 < x.numpy().max() < 1


def test_from_numpy_shares_memory():
    array = np.zeros(2)
    minigan.from_numpy(array).fill_(1)
    assert array.tolist() == [1, 1]


# -- queries of a tensor ------------------------------------------------------------------------


def test_size_dim_and_tolist():
    t = tensor([[1.0, 2.5], [3.0, 4.0], [5.0, 6.0]])
    assert (t.size(), t.size(0), t.size(-1), t.dim()) == ((3, 2), 3, 2, 2)
    assert t.tolist() == [[1, 2.5], [3, 4], [5, 6]]
    assert tensor(3).tolist() == 3
    assert isinstance(tensor(3).tolist(), int)


def test_formats_and_numbers():
    loss = tensor(2.71828, requires_grad=True)
    assert f"{loss:.3f}" == f"{loss.reshape(1, 1):.3f}" == "2.718"
    assert f"{tensor(42):>4d}" == "  42"
    assert f"{loss}" == str(loss)
    assert f"{tensor([1, 2])}" == "tensor([1, 2])"
    assert int(loss) == 2
    assert ["cat", "dog"][tensor(1)] == "dog"
    assert list(range(tensor([2]))) == [0, 1]


def test_devices_have_pytorchs_attributes():
    device = minigan.device("cpu")
    assert (device, device.type, device.index) == ("cpu", "cpu", None)
    assert (minigan.device("cuda:1").type, minigan.device("cuda:1").index) == ("cuda", 1)
    assert minigan.zeros(1).device.type == "cpu"
    assert minigan.cuda.is_available() in (True, False)


def test_dtypes_have_pytorchs_names():
    names = {
        "float16": "half", "float32": "float", "float64": "double", "int64": "long",
        "uint8": "uint8", "bool": "bool",
    }  # fmt: skip
    for numpy_name, short in names.items():
        assert getattr(minigan, numpy_name) == getattr(minigan, short) == np.dtype(numpy_name)
    assert tensor([1]).float().dtype == minigan.float
    assert tensor([1.7]).double().dtype == minigan.float64
    assert tensor([1.7]).long().tolist() == [1]


def test_to_takes_devices_and_dtypes_in_pytorchs_ways():
    t = tensor([1.0])
    for same in (t.to("cpu"), t.to(minigan.device("cpu")), t.to(minigan.float32), t.cpu(), t.to()):
        assert same is t
    for other in (
        t.to("cpu", minigan.float64), t.to(dtype="float64"), t.to(device="cpu", dtype="float64"),
    ):  # fmt: skip
        assert (other.dtype, other.device) == ("float64", "cpu")
    assert t.cuda("cpu") is t


# -- shapes and copies --------------------------------------------------------------------------


def test_view_and_t_are_reshape_and_permute():
    x = tensor(np.arange(6.0).reshape(2, 3), requires_grad=True)
    assert x.view(-1).shape == x.view((6,)).shape == (6,)
    assert x.view(x.size(0), -1).shape == x.view(np.int64(2), np.int32(-1)).shape == (2, 3)
    for six in (np.int64(6), np.array([6]), tensor(6), tensor([6]), [tensor(6)]):
        assert x.view(six).shape == minigan.ones(1).expand(six).shape == minigan.zeros(six).shape
    np.testing.assert_array_equal(x.T.numpy(), x.numpy().T)
    assert minigan.ones(2, 3, 4).T.shape == (4, 3, 2)
    assert np.transpose(minigan.ones(2, 3, 4), (1, 2, 0)).shape == (3, 4, 2)  # of a picture
    np.testing.assert_array_equal(grad((x.T * x.T).sum(), x)[0].numpy(), 2 * x.numpy())


def test_a_clone_has_memory_of_its_own_in_the_same_order_and_hands_gradients_on():
    x = tensor(np.ones((2, 3)).T, requires_grad=True)
    y = x.clone()
    assert not np.shares_memory(x.data, y.data)
    assert y.data.strides == x.data.strides
    assert grad((y * 3).sum(), x)[0].tolist() == [[3, 3]] * 3
    y.data *= 2
    assert (x.version, x.tolist()) == (0, [[1, 1]] * 3)


def test_contiguous_memory_is_in_c_order():
    x = tensor(np.arange(6.0).reshape(2, 3), requires_grad=True)
    assert x.contiguous() is x
    y = x.T.contiguous()
    assert y.data.flags.c_contiguous
    assert y.tolist() == x.numpy().T.tolist()
    assert grad(y.sum(), x)[0].tolist() == [[1, 1, 1]] * 2


@pytest.mark.parametrize("empty", [[], np.zeros(0, int), ([], []), [[], []], tensor([1])[:0]])
def test_an_empty_index_takes_nothing(empty):
    x = tensor(np.ones((2, 2)), requires_grad=True)
    y = x[empty]
    assert y.numel() == 0
    assert grad(y.sum(), x)[0].tolist() == [[0, 0], [0, 0]]


def test_an_empty_mask_takes_nothing():
    assert minigan.zeros(0, 2)[np.zeros(0, bool)].shape == (0, 2)


# -- powers -------------------------------------------------------------------------------------


def test_a_number_to_the_power_of_a_tensor():
    x = tensor([0.0, 1.0, 3.0], requires_grad=True)
    assert (2**x).tolist() == (np.float64(2) ** x).tolist() == [1, 2, 8]  # exactly
    assert (2 ** tensor([1, 3])).tolist() == [2, 8]
    assert (2 ** tensor([1, 3])).dtype == np.int64
    assert grad((1**x).sum() + (0**x).sum(), x)[0].tolist() == [0, 0, 0]


# -- in place -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda t: t.fill_(3), [[3, 3], [3, 3]]),
        (lambda t: t.fill_(tensor(0.5)), [[0.5, 0.5], [0.5, 0.5]]),
        (lambda t: t.zero_(), [[0, 0], [0, 0]]),
        (lambda t: t.copy_(tensor([5, 6])), [[5, 6], [5, 6]]),
        (lambda t: t.copy_(np.array([[5.0], [6.0]])), [[5, 5], [6, 6]]),
        (lambda t: t.add_(1), [[2, 3], [4, 5]]),
        (lambda t: t.sub_(t.T), [[0, -1], [1, 0]]),
        (lambda t: t.mul_(2).div_(4), [[0.5, 1], [1.5, 2]]),
        (lambda t: t.clamp_(2, 3), [[2, 2], [3, 3]]),
        (lambda t: t.clamp_(max=2), [[1, 2], [2, 2]]),
        (lambda t: [t[0].fill_(9), t][1], [[9, 9], [3, 4]]),
        (lambda t: [t.T.view(2, 2)[0].fill_(9), t][1], [[9, 2], [9, 4]]),
        (lambda t: t.__setitem__((0, [1]), 9) or t, [[1, 9], [3, 4]]),
        (lambda t: t.__setitem__(t > 2, 0.0) or t, [[1, 2], [0, 0]]),
        (lambda t: t.__setitem__(slice(None), tensor([7, 8])) or t, [[7, 8], [7, 8]]),
        (lambda t: t.__setitem__([], 9) or t, [[1, 2], [3, 4]]),
    ],
)
def test_changes_in_place_are_seen_through_views_and_counted(change, expected):
    t = tensor([[1.0, 2.0], [3.0, 4.0]])
    view, x = t.detach().T, tensor(2.0, requires_grad=True)
    stale = x * t
    assert change(t) is t
    assert t.tolist() == view.T.tolist() == expected
    assert t.dtype == np.float32
    with pytest.raises(RuntimeError, match=r"mul: input 1, .* was changed in place"):
        grad(stale.sum(), x)


def test_parameters_change_in_place_under_no_grad():
    w = tensor([1.0, -2.0], requires_grad=True)
    average = w.detach().clone()
    with no_grad():
        w.clamp_(-1, 1)  # as the first WGAN does
        average.mul_(0.5).add_(w * 0.5)
        w[0] = 0.25
    assert (w.tolist(), w.requires_grad, average.tolist()) == ([0.25, -1], True, [1, -1.5])


W = tensor([1.0, 2.0], requires_grad=True)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (
            lambda: W.fill_(0),
            RuntimeError,
            "fill_: a tensor that requires a gradient cannot be changed",
        ),
        (lambda: W[0].fill_(0), RuntimeError, "fill_: a tensor that requires a gradient"),
        (lambda: W.__setitem__(0, 1.0), RuntimeError, "setitem: a tensor that requires a gradient"),
        (lambda: minigan.zeros(2).add_(W), RuntimeError, "add_: a tensor that requires a gradient"),
        (
            lambda: minigan.zeros(2).expand(3, 2).fill_(1),
            RuntimeError,
            r"share memory, .*clone\(\)",
        ),
        (lambda: minigan.arange(3).fill_(0.5), TypeError, "fill_: int64 cannot hold such values"),
        (lambda: minigan.arange(3).mul_(0.5), TypeError, "mul_: int64 cannot hold"),
        (lambda: (tensor([1.0]) > 0).fill_(2), TypeError, "fill_: bool cannot hold"),
        (
            lambda: minigan.zeros(2).copy_(minigan.ones(3)),
            ValueError,
            r"copy_: .*\(3,\) do not fit",
        ),
        (lambda: minigan.zeros(1).add_(minigan.ones(3)), ValueError, r"add_: .*\(3,\) do not fit"),
        (lambda: minigan.zeros(2).fill_("1"), TypeError, "fill_: an operand is a str"),
        (lambda: minigan.zeros(2).fill_(1j), TypeError, "fill_: an operand is a complex"),
        (lambda: f"{W:.3f}", TypeError, r"the format '.3f' applies to one number; .* shape \(2,\)"),
        (lambda: [1, 2][tensor(1.0)], TypeError, "float"),
        (lambda: W**W, TypeError, r"must be a number, not Tensor; for tensors write exp\("),
        (lambda: (-2) ** W, TypeError, "the base must be a number of at least 0, not -2"),
        (lambda: np.ones(2) ** W, TypeError, "base must be a number of at least 0, not ndarray"),
        (lambda: W.size(1), IndexError, "dimension 1 is out of range for a tensor of 1"),
        (lambda: W.view(2.0), TypeError, r"sizes must be integers, not \(2.0,\)"),
        (lambda: W.view(2, "1"), TypeError, r"sizes must be integers, not \(2, '1'\)"),
        (lambda: minigan.zeros(2, -1), ValueError, r"shape \(2, -1\): a size is negative"),
        (lambda: minigan.zeros(1.5), TypeError, r"sizes must be integers, not \(1.5,\)"),
        (lambda: minigan.randint(3, (-1,)), ValueError, "a size is negative"),
        (lambda: minigan.full((2,), None), TypeError, "a Tensor holds bool, .* not object"),
        (lambda: minigan.full((2,), 1j), TypeError, "a Tensor holds bool, .* not complex128"),
        (lambda: minigan.ones(2, dtype="complex64"), TypeError, "not complex64"),
        (lambda: minigan.arange(2, requires_grad=True), TypeError, "only floating-point"),
        (lambda: minigan.randn(2, dtype="int64"), TypeError, "draw floats, not int64; use randint"),
        (lambda: minigan.rand(2, dtype=bool), TypeError, "draw floats, not bool"),
        (lambda: F.where([1, [2]], W, W), ValueError, "differ in length or depth"),
    ],
)
def test_what_would_mean_something_else_is_refused(wrong, error, message):
    with pytest.raises(error, match=message):
        wrong()
    assert (W.tolist(), W.version) == ([1, 2], 0)
