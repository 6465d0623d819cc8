"""The Tensor and the walk: what is recorded, the order of gradients, and what is freed."""

import copy
import doctest
import gc
import sys
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import CASES

import minigan.functional as F
from minigan import nn, no_grad, optim, tensor, walk
from minigan.backend import DeviceError
from minigan.gans import objectives
from minigan.models.dcgan import Discriminator, Generator
from minigan.tensor import OPERATIONS, Tensor, grad, op

engine = sys.modules["minigan.tensor"]  # the file; `minigan.tensor` is the function


def param(*values):
    return tensor(list(values), requires_grad=True)


# -- making tensors -----------------------------------------------------------------------------


def test_the_example_of_the_page_is_true():
    assert doctest.testmod(engine).failed == 0
    assert doctest.testmod(engine).attempted > 0


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (1.5, "float32"),
        ([1, 2], "int64"),
        ([True, False], "bool"),
        ([[1.0], [2.0]], "float32"),
        (np.ones(2), "float64"),
        (np.float64(2), "float64"),
        (np.float16(2), "float16"),
        (tensor(np.ones(2)), "float64"),
    ],
)
def test_arrays_keep_their_dtype_and_python_floats_become_float32(data, dtype):
    t = tensor(data)
    assert (t.dtype, t.shape, t.device) == (dtype, np.shape(ops_raw(data)), "cpu")
    assert tensor(data, dtype="float64").dtype == "float64"
    assert isinstance(t.data, np.ndarray)


def ops_raw(x):
    return x.data if isinstance(x, Tensor) else x


def test_a_new_tensor_holds_a_copy():
    array = np.ones(2)
    t = tensor(array)
    u = tensor(t, requires_grad=True)
    array[0] = t.data[1] = 7
    assert t.numpy().tolist() == [1, 7]
    assert u.numpy().tolist() == [1, 1]
    assert u.is_leaf


class OfPyTorch:
    """A stand-in for PyTorch's tensors. NumPy can read them on the CPU, without a gradient, unless
    they are bfloat16."""

    dtype = "torch.bfloat16"

    def __init__(self, values=None, where=("grad", "cuda")):
        self.values, self.where = values, where

    detach = lambda self: OfPyTorch(self.values, self.where[1:])
    cpu = lambda self: OfPyTorch(self.values, self.where[:-1])

    def numpy(self):
        assert not self.where
        if self.values is None:
            raise TypeError("Got unsupported ScalarType BFloat16")
        return self.values

    def __array__(self, dtype=None, copy=None):
        raise AssertionError("can't convert cuda:0 device type tensor to numpy")


def test_a_pytorch_tensor_is_copied_from_any_device():
    values = np.array([1.0, 2.0])
    t = tensor(OfPyTorch(values), requires_grad=True)
    values[0] = 7
    assert (t.numpy().tolist(), t.dtype, t.device) == ([1, 2], "float64", "cpu")
    with pytest.raises(TypeError, match=r"NumPy has no torch.bfloat16; call .float\(\) first"):
        tensor(OfPyTorch())


SWAPPED = np.array([1.0, 2.0], np.dtype("f4").newbyteorder())


def test_foreign_byte_order_is_converted():
    for t in (
        tensor(SWAPPED),
        Tensor(SWAPPED),
        tensor([1.0, 0.0]) * 0 + SWAPPED,
        tensor(SWAPPED[0]),
    ):
        assert t.dtype == np.float32
        assert t.dtype.isnative
        assert t.numpy().ravel()[0] == 1
    assert tensor([1, 2], dtype=">i4").dtype.isnative
    assert tensor(SWAPPED, dtype="float64").numpy().tolist() == [1, 2]


def test_a_matrix_and_memory_mapped_arrays_are_copied_as_plain_arrays(tmp_path):
    with pytest.warns(PendingDeprecationWarning):
        matrix = np.matrix([[1.0, 2.0]])
    mapped = np.memmap(tmp_path / "numbers", np.float32, "w+", shape=(2,))
    mapped[:] = [1, 2]
    for t in (tensor(matrix), tensor(mapped), Tensor(mapped), tensor([0.0, 0.0]) + mapped):
        assert type(t.data) is np.ndarray
        assert t.numpy().ravel().tolist() == [1, 2]


HIDDEN = np.ma.masked_array([1.0, 2.0], [True, False])
RECORDS = np.zeros(2, [("x", "f4")])
STRANGE = {
    "complex128": np.ones(2, complex),
    "complex64": np.ones(2, "F"),
    "<U1": np.array(["1", "2"]),
    "S1": np.array([b"1", b"2"]),
    "object": np.array([1.0, None]),
    "datetime64": np.array(["2020-01-01"] * 2, "M8[D]"),
    "timedelta64": np.array([1, 2], "m8[D]"),
    "'x'": RECORDS,
    "float128|longdouble|complex": np.ones(2, "G"),
}
NOT_NUMBERS = {
    "generator": (i for i in range(2)),
    "list .<U1": ["1", "2"],
    "list .complex128": [1, 2j],
    "list .object": [1.0, None],
    "list .object.$": [2**70, 1],
    "str .<U3": "1.5",
    "bytes": b"1",
    "NoneType": None,
    "dict": {0: 1.0},
    "set": {1.0},
    "builtin_function": len,
    "type": float,
    "complex .complex128": 1j,
    "masked": HIDDEN,
    "differ in length or depth": [[1.0, 2.0], [3.0]],
    "differ in length or depth$": [[1.0], 2.0],
}


@pytest.mark.parametrize("dtype", [None, "float32"])
@pytest.mark.parametrize("name", [*STRANGE, *NOT_NUMBERS])
def test_what_holds_no_numbers_makes_no_tensor(name, dtype):
    """A given dtype does not help, because NumPy would read None as NaN, and drop imaginary parts."""
    error = ValueError if name.startswith("differ") else TypeError
    with pytest.raises(error, match=name) as caught:
        tensor({**STRANGE, **NOT_NUMBERS}[name], dtype=dtype)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", ["complex64", "U3", "O", "M8[D]", np.longdouble])
def test_a_dtype_that_is_not_computed_with_is_refused(dtype):
    for call in (lambda: tensor([1, 2], dtype=dtype), lambda: tensor([1, 2]).to(np.dtype(dtype))):
        with pytest.raises(TypeError, match="a Tensor holds bool, integers, float16, float32 or"):
            call()


@pytest.mark.parametrize(
    "kind", ["Tensor", "data", "operand", "left operand", "product", "compare"]
)
@pytest.mark.parametrize(
    "name", [*STRANGE, "masked_array", "matrix", "list", "complex", "np.complex"]
)
@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_what_means_something_else_is_no_tensor_and_no_operand(name, kind):
    odd = {"masked_array": HIDDEN, "list": [1.0, 2.0], "complex": 1j, "np.complex": np.complex64(1)}
    odd |= {"matrix": np.matrix([[1.0, 2.0], [3.0, 4.0]])}
    other, x = {**STRANGE, **odd}[name], tensor(np.ones((2, 2)), requires_grad=True)
    call = {
        "Tensor": lambda: Tensor(other),
        "data": lambda: setattr(x, "data", other),
        "operand": lambda: x * other,
        "left operand": lambda: other * x,
        "product": lambda: x @ other,
        "compare": lambda: x == other,
    }[kind]
    with pytest.raises(TypeError, match=r"a Tensor holds|an operand is a (list|complex), not a"):
        call()
    assert (x.version, x.shape) == (0, (2, 2))


@pytest.mark.parametrize("other", [None, "cat", object(), len])
def test_a_tensor_is_unequal_to_what_has_no_value(other):
    x = tensor([1.0, 2.0])
    assert (x == other) is False
    assert (x != other) is True
    with pytest.raises(TypeError, match="not supported between"):
        x < other  # noqa: B015


def test_data_can_be_assigned_from_a_tensor_which_is_copied():
    x, t = param(1.0, 2.0), tensor([3.0, 4.0])
    x.data = t
    t.data *= 10
    assert (x.numpy().tolist(), x.version) == ([3, 4], 1)
    with pytest.raises(TypeError, match="only floating-point tensors have gradients"):
        x.data = np.array([1, 2])


def test_only_floating_tensors_can_require_gradients():
    with pytest.raises(TypeError, match="this one is int64"):
        tensor([1, 2], requires_grad=True)
    with pytest.raises(TypeError, match="this one is bool"):
        tensor([True]).requires_grad_()
    with pytest.raises(RuntimeError, match="use detach"):
        (param(1.0) * 2).requires_grad_(False)
    assert not param(1.0).requires_grad_(False).requires_grad


def test_requires_grad_is_checked_when_it_is_assigned():
    x, whole = param(1.0), tensor([1, 2])
    with pytest.raises(TypeError, match="this one is int64"):
        whole.requires_grad = True
    with pytest.raises(RuntimeError, match="use detach"):
        (x * 2).requires_grad = False
    x.requires_grad = np.bool_(False)
    assert (x.requires_grad, whole.requires_grad) == (False, False)


@pytest.mark.parametrize("value", ["float64", np.float64, np.dtype("f"), 4, None, [True, False]])
def test_what_is_no_flag_is_not_taken_for_requires_grad(value):
    """For example a dtype, which is never the second argument in PyTorch either."""
    a = np.ones(2, "f")
    for call in (
        lambda: tensor([1.0, 2.0], value),
        lambda: Tensor(a, value),
        lambda: nn.Parameter(a, value),
        lambda: tensor(a).requires_grad_(value),
        lambda: setattr(tensor(a), "requires_grad", value),
    ):
        with pytest.raises(TypeError, match=r"True or False, not .*dtype=.*chooses") as caught:
            call()
        assert "\n" not in str(caught.value)


def test_leaves_are_deep_copied_and_results_are_not():
    class Named(Tensor):
        """A subclass with its own attributes."""

    x, named = param(1.0, 2.0), Named(np.ones(2, "f"))
    x.grad, named.names = tensor([3.0, 4.0]), ["a"]
    for original in (x, nn.Parameter(x), named, {"w": x, "again": [x, x.detach()]}):
        copied = copy.deepcopy(original)
        if isinstance(original, dict):
            copied, view = copied["w"], copied["again"][1]
            assert np.shares_memory(view.data, copied.data)
            assert view.changes is copied.changes
            assert copied.grad.tolist() == [3, 4]
            original = x
        assert type(copied) is type(original)
        assert (copied.tolist(), copied.requires_grad) == (
            original.tolist(),
            original.requires_grad,
        )
        assert not np.shares_memory(copied.data, original.data)
    copied = copy.deepcopy(named)
    assert copied.names == ["a"]
    assert copied.names is not named.names
    for loss in ((x * 2).sum(), [x, x + 1]):
        with pytest.raises(RuntimeError, match=r"is a result of (sum|add), and only leaves"):
            copy.deepcopy(loss)


def test_a_tensor_of_one_element_is_a_number():
    t = tensor([[2.5]])
    assert (t.item(), float(t), bool(t), len(t), t.numel(), t.ndim) == (2.5, 2.5, True, 1, 1, 2)
    assert isinstance(t.item(), float)
    with pytest.raises(ValueError, match="ambiguous"):
        bool(tensor([1, 2]))


def test_numpy_reads_a_tensor_and_iteration_takes_it_apart():
    t = tensor([[1.0, 2.0], [3.0, 4.0]])
    assert np.asarray(t).dtype == np.float32
    assert np.asarray(t, dtype=int).tolist() == [[1, 2], [3, 4]]
    assert [row.sum().item() for row in t] == [3, 7]


@pytest.mark.parametrize(
    ("t", "text"),
    [
        (tensor([1.0, 2.5]), "tensor([1. , 2.5])"),
        (tensor(3), "tensor(3)"),
        (tensor(np.ones(1)), "tensor([1.], dtype=float64)"),
        (param(1.0), "tensor([1.], requires_grad=True)"),
        (nn.Parameter(np.zeros((2, 1), "f")), "tensor([[0.],\n        [0.]], requires_grad=True)"),
    ],
)
def test_the_repr_shows_values_an_unusual_dtype_and_whether_gradients_flow(t, text):
    assert repr(t) == text


# -- operators ----------------------------------------------------------------------------------


@pytest.mark.parametrize("other", [2, 2.0, True, np.float64(2), np.array([2.0, 4.0]), [1.0, 2.0]])
def test_numbers_and_numpy_arrays_may_stand_on_either_side(other):
    x, other = param(1.0, 3.0), (tensor(other) if isinstance(other, list) else other)
    a, b = x.numpy(), ops_raw(other)
    for f in (
        lambda x, y: x + y,
        lambda x, y: x - y,
        lambda x, y: x * y,
        lambda x, y: x / y,
    ):
        for y, expected in ((f(x, other), f(a, b)), (f(other, x), f(b, a))):
            assert isinstance(y, Tensor)
            assert y.requires_grad
            np.testing.assert_allclose(y.numpy(), expected, rtol=1e-7)  # float32 or exact
    assert (np.ones((2, 2), "f") @ x).numpy().tolist() == [4, 4]


@given(st.sampled_from(["__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__"]))
def test_comparisons_are_elementwise_and_not_recorded(name):
    a, b = np.array([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.0])
    x = tensor(a, requires_grad=True)
    expected = getattr(a, name)(b).tolist()
    for other in (b, tensor(b)):
        y = getattr(x, name)(other)
        assert (y.numpy().tolist(), y.dtype, y.requires_grad) == (expected, bool, False)
    assert getattr(tensor(2.0), name)(2).item() is getattr(2.0, name)(2)
    assert (b < x).numpy().tolist() == (b < a).tolist()
    assert len({x, x, tensor(a)}) == 2  # in sets and dicts a tensor equals only itself


# -- the gradients ------------------------------------------------------------------------------


def test_backward_adds_up_in_leaves_and_nowhere_else():
    x, unused = param(1.0, 2.0), param(5.0)
    middle = x * 3
    y = (middle * middle).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.numpy().tolist() == [36, 72]  # twice 18 x
    assert (middle.grad, unused.grad, x.grad.requires_grad) == (None, None, False)


@pytest.mark.parametrize("whole", ["uint8", "int64", "bool"])
def test_no_gradient_flows_through_integers(whole):
    """The gradient would wrap around: -1.5 is 255 in uint8."""
    x = param(1.9, 2.9)
    assert not x.to(whole).requires_grad
    assert not x.to(whole).to("float32").requires_grad
    (x - x.to(whole).float()).sum().backward()
    assert x.grad.tolist() == [1, 1]


@pytest.mark.parametrize(
    "there", [tensor([1.0]), tensor([[1.0, 2.0]]), tensor(1.0), np.ones(3), 0.5]
)
def test_a_grad_of_another_shape_is_not_added_to(there):
    x = param(1.0, 2.0)
    x.grad = there
    y = (x * x).sum()
    with pytest.raises(
        ValueError, match=r"leaf of shape \(2,\) has a .grad of shape .*set it to None"
    ):
        y.backward()
    assert x.grad is there
    x.grad = np.ones(2, "f")
    y.backward()
    assert x.grad.tolist() == [3, 5]


def test_grad_changes_no_grad_attribute_and_reaches_tensors_within_the_graph():
    x = param(1.0, 2.0)
    middle = x * 3
    gx, gm = grad((middle * middle).sum(), [x, middle])
    assert (gx.numpy().tolist(), gm.numpy().tolist()) == ([18, 36], [6, 12])
    assert (x.grad, middle.grad) == (None, None)


def test_each_gradient_is_complete_before_it_is_handed_on():
    a = param(3.0)
    b = a + a
    # the gradient of 2a^2; 9 if b were visited before c's part arrived
    assert grad(b * a, a, retain_graph=True)[0].item() == 12
    assert grad([b, b * 1, b], a, [None, tensor([2.0]), None])[0].item() == 8


def test_an_upstream_gradient_weighs_the_outputs():
    x = param(1.0, 2.0)
    y = x * x
    assert grad(y, x, tensor([1.0, 10.0]), retain_graph=True)[0].numpy().tolist() == [2, 40]
    y.backward(tensor([1.0, 10.0]), retain_graph=True)
    assert x.grad.numpy().tolist() == [2, 40]
    assert grad(y, x, tensor(np.ones(2, "float64")))[0].dtype == np.float32
    x.backward(np.array([3.0, 4.0]))
    assert isinstance(x.grad, Tensor)
    assert x.grad.numpy().tolist() == [5, 44]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: (x * 2).backward(), RuntimeError, r"output of shape \(2,\) needs an upstream"),
        (lambda x: (x * 2).backward(tensor([1.0])), ValueError, r"shape \(1,\), the output \(2,\)"),
        (lambda x: x.detach().sum().backward(), RuntimeError, "does not depend on any tensor"),
        (lambda x: grad(x.sum(), [x, param(1.0)]), RuntimeError, r"input 1, of shape \(1,\)"),
        (lambda x: grad([x.sum()], x, [None, None]), ValueError, "1 outputs but 2 upstream"),
    ],
)
def test_what_cannot_be_differentiated_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(param(1.0, 2.0))


def test_an_unreached_input_gives_none_where_that_is_allowed():
    x, unused = param(1.0), param(2.0)
    found = grad(x.sum(), [unused, x], allow_unused=True)
    assert found[0] is None
    assert found[1].item() == 1


def test_a_gradient_is_recorded_only_under_create_graph():
    x = param(2.0)
    y = x * x * x
    (first,) = grad(y, x, create_graph=True)
    assert grad(y, x, retain_graph=True)[0].is_leaf
    assert grad(grad(first, x, create_graph=True), x)[0].item() == 6
    y.backward(create_graph=True)
    assert grad(x.grad, x)[0].item() == 12
    x.grad = None  # the user must break the cycle from x through its gradient to x


def test_detach_ends_the_history():
    x = param(3.0)
    assert grad(x * x.detach(), x)[0].item() == 3
    assert not x.detach().requires_grad


def test_nothing_is_recorded_under_no_grad_however_it_is_nested():
    x = param(1.0)

    @no_grad()
    def double(x, deeper=2):
        return double(x, deeper - 1) if deeper else x * 2

    assert not double(x).requires_grad
    assert (x * 2).requires_grad
    with no_grad(), no_grad():
        assert not (x * 2).requires_grad
    with pytest.raises(KeyError), no_grad():
        raise KeyError
    assert (x * 2).requires_grad


def test_each_thread_decides_for_itself_whether_it_records():
    x, seen = param(1.0), []
    inside, done = threading.Event(), threading.Event()

    @no_grad()
    def sample():
        seen.append((x * 2).requires_grad)
        inside.set()
        done.wait(10)

    thread = threading.Thread(target=sample)
    thread.start()
    assert inside.wait(10)
    seen.append((x * 2).requires_grad)
    done.set()
    thread.join()
    seen.append((x * 2).requires_grad)
    assert seen == [False, True, True]


# -- the memory of gradients --------------------------------------------------------------------


def memory(*tensors):
    return [t.data for t in tensors]


def alone(gradients, others):
    """Whether each gradient can be written without changing another array."""
    return all(
        g.flags.writeable
        and not any(np.shares_memory(g, x) for x in [*gradients[:i], *others] if x.size)
        for i, g in enumerate(gradients)
    )


HANDED_ON = {
    "two leaves, one rule": lambda a, b: (a + b) * 10,
    "through views": lambda a, b: (a.reshape(4) + b.transpose(0, 1).reshape(4)) * 10,
    "pieces of one array": lambda a, b: F.cat([a, b]) * 10,
    "overlapping pieces": lambda a, b: (F.cat([a, b])[1:3] + a) * 10,
    "a leaf as its own output": lambda a, b: a,
    "the upstream gradient, handed on": lambda a, b: a + b,
    "a view of the upstream gradient": lambda a, b: F.cat([b.reshape(4), a.reshape(4)]),
    "repeated": lambda a, b: a.sum() + b.mean(0),
    "repeated once": lambda a, b: (a.sum((0, 1), keepdim=True) * b.sum()).expand(1, 1, 1),
}


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("name", list(HANDED_ON))
def test_each_gradient_has_writable_memory_of_its_own(name, create_graph):
    a, b = (tensor(np.full((2, 2), x), requires_grad=True) for x in (2.0, 3.0))
    y = HANDED_ON[name](a, b)
    v = tensor(np.ones(y.shape))
    found = grad(y, [a, b, a], v, None, create_graph, allow_unused=True)
    found = [g for g in found if g is not None]
    assert alone(memory(*found), memory(v, y, a, b))

    HANDED_ON[name](a, b).backward(v, create_graph=create_graph)
    leaves = [x for x in (a, b) if x.grad is not None]
    grads = [x.grad for x in leaves]
    assert alone(memory(*grads), memory(v, y, a, b, *found))
    for g, h in zip(grads, found, strict=False):
        np.testing.assert_array_equal(g.numpy(), h.numpy())
    if not create_graph:
        assert not any(g.requires_grad for g in [*grads, *found])
    before = [g.numpy().copy() for g in grads[1:]]
    grads[0].data *= 0  # clipped in place
    for g, values in zip(grads[1:], before, strict=True):
        np.testing.assert_array_equal(g.numpy(), values)
    for x in leaves:
        x.grad = None


@pytest.mark.parametrize("name", sorted(CASES))
@given(data=st.data())
def test_no_operation_gives_a_gradient_in_memory_that_others_use(name, data):
    fn, inputs, _ = data.draw(CASES[name])
    y = fn(*inputs)
    v = tensor(np.ones(y.shape))
    grads = grad(y, inputs, v, retain_graph=True)
    assert alone(memory(*grads), memory(v, y, *inputs))


def test_a_gradient_that_nobody_else_uses_is_not_copied(monkeypatch):
    G, D, z = networks()
    copies = []
    clone = Tensor.clone
    monkeypatch.setattr(Tensor, "clone", lambda t: copies.append(t.shape) or clone(t))
    grad(D.logits(G(z)).mean(), [*G.parameters(), *D.parameters()])
    a, b = param(1.0, 2.0), param(3.0)
    grad((F.cat([a, b]) * 2).sum(), [a, b])  # pieces of one array, which do not overlap
    assert copies == []


def test_gradients_stay_differentiable_where_two_leaves_have_the_same():
    a, b = param(2.0), param(3.0)
    ga, gb = grad(((a + b) ** 3).sum(), [a, b], create_graph=True)
    assert ga is not gb
    assert [g.item() for g in grad(ga + 10 * gb, [a, b])] == [330, 330]  # 6 (a + b) = 30, 11 times


def test_an_upstream_gradient_that_is_recorded_does_not_record_the_result():
    x, v = param(1.0), tensor([2.0], requires_grad=True, dtype="float64")
    x.backward(v)
    assert not x.grad.requires_grad
    assert not grad(x, x, v)[0].requires_grad
    assert grad(grad(x, x, v, create_graph=True)[0], v)[0].item() == 1


@pytest.mark.parametrize(
    "upstream", [2.0, 2, True + 1, np.float64(2), np.array(2.0), np.array([2])]
)
def test_a_number_or_an_array_may_be_the_upstream_gradient(upstream):
    for shape in ((), (1,), (1, 1)):
        x = tensor(np.ones(shape, "f"), requires_grad=True)
        (x * 3).backward(upstream)
        assert (x.grad.item(), x.grad.dtype, x.grad.shape) == (6, "float32", shape)
        assert grad(x * 3, x, upstream)[0].item() == 6
    x = param(1.0, 2.0)
    assert grad(x * 3, x, np.array([1, 2]))[0].numpy().tolist() == [3, 6]
    with pytest.raises(ValueError, match=r"upstream gradient has shape \(\), the output \(2,\)"):
        (x * 3).backward(2.0)


def test_no_addition_is_lost_when_threads_add_to_one_leaf(monkeypatch):
    x, add = param(0.0), Tensor.__add__
    x.backward(1.0)
    other = threading.Thread(target=lambda: x.backward(2.0))

    def interrupted(a, b):
        """Between the read and the replacement of x.grad, let the other thread run."""
        if not other.ident:
            other.start()
            other.join(0.05)  # it ends here only if nothing makes it wait for this thread
        return add(a, b)

    monkeypatch.setattr(Tensor, "__add__", interrupted)
    x.backward(4.0)
    other.join()
    assert x.grad.item() == 7


# -- only what is needed ------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch):
    """The list of (operation, input) whose gradients have been computed."""
    calls = []
    original = walk._input_gradients

    def counted(g, y, asked, create_graph):
        calls.extend((y.op.name, i) for i in asked)
        return original(g, y, asked, create_graph)

    monkeypatch.setattr(walk, "_input_gradients", counted)
    return calls


def networks():
    rng = np.random.default_rng(0)
    G = Generator(nz=3, ngf=2, nc=1, image_size=16, rng=rng)
    D = Discriminator(ndf=2, nc=1, image_size=16, rng=rng)
    return G, D, tensor(rng.standard_normal((2, 3, 1, 1)).astype("f"))


def test_no_rule_is_called_that_nobody_needs(asked):
    G, D, z = networks()
    fake = G(z)
    loss = D.logits(fake).mean()
    both = grad(loss, [*G.parameters(), *D.parameters()], retain_graph=True)
    asked.clear()

    alone = grad(loss, list(G.parameters()))
    assert ("conv", 1) not in asked  # G's half does not compute gradients of D's weights
    assert asked.count(("conv", 0)) == 3  # the image's gradient passes all layers of D
    for a, b in zip(alone, both[: len(alone)], strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())

    asked.clear()
    D.logits(fake.detach()).mean().backward()
    assert asked.count(("conv", 1)) == 3
    assert asked.count(("conv", 0)) == 2  # D's first layer does not need the image's gradient
    assert not {"conv_image", "tanh"} & {name for name, _ in asked}  # and G is not walked


def test_constants_cost_nothing(asked):
    x, constant = param(1.0), tensor([2.0])
    (x * constant + constant * 3 - x).backward()
    assert sorted(asked) == [("add", 0), ("mul", 0), ("sub", 0), ("sub", 1)]


# -- the life of a graph ------------------------------------------------------------------------


@pytest.fixture
def live_tensors():
    """The number of Tensors, while the garbage collector is off."""
    gc.collect()
    gc.disable()
    yield lambda: sum(issubclass(type(o), Tensor) for o in gc.get_objects())
    gc.enable()


def test_a_graph_is_freed_by_reference_counting_alone(live_tensors):
    G, D, z = networks()
    adam = optim.Adam(D.parameters())
    before = live_tensors()

    def forward():
        return D.logits(G(z)).mean()

    def gradients():
        grad(forward(), list(G.parameters()))

    def backward():
        forward().backward()
        G.zero_grad()
        D.zero_grad()

    def penalty():
        x = G(z).detach().requires_grad_()
        (g,) = grad(D.logits(x).sum(), x, create_graph=True)
        adam.step(grad((g * g).sum(), list(D.parameters()), allow_unused=True))

    def dcgan_step():
        fake = G(z)
        real = tensor(np.ones(fake.shape, "f"))
        loss = objectives.discriminator_loss(D.logits(real), D.logits(fake.detach()))
        adam.step(grad(loss, list(D.parameters())))
        grad(objectives.non_saturating(D.logits(fake)), list(G.parameters()))

    def failure():
        with pytest.raises(RuntimeError):
            grad(forward(), param(1.0))

    for step in (forward, gradients, backward, penalty, dcgan_step, failure):
        step()
        assert live_tensors() == before, step.__name__


def test_a_step_lets_go_of_each_gradient_once_it_is_handed_on(live_tensors):
    x = param(1.0)
    y = x
    for _ in range(100):
        y = y * 2
    seen = []
    rule = OPERATIONS["mul"].rule
    before = live_tensors()
    try:
        OPERATIONS["mul"].rule = lambda i: seen.append(live_tensors()) or rule(i)
        grad(y, x)
    finally:
        OPERATIONS["mul"].rule = rule
    assert max(seen) - before < 5


def test_a_chain_of_5000_operations_is_differentiated_and_freed():
    x = param(1.0)
    y = x
    for _ in range(5000):
        y = y * 1.0 + 0.0
    y.backward(retain_graph=True)
    assert (x.grad.item(), grad(y, x)[0].item()) == (1, 1)

    z = x
    for _ in range(1700):
        z = F.tanh(z)  # its rule uses y, so second derivatives walk the chain too
    (first,) = grad(z, x, create_graph=True)
    assert np.isfinite(grad(first, x)[0].item())


def test_a_backward_pass_releases_what_it_has_used(live_tensors):
    x = param(2.0)
    y = x * x
    before = live_tensors()
    z = y.exp()
    w = z * z
    grad(w, x)
    del z  # the walk has released it from w, and y from it
    assert live_tensors() == before + 1
    for again in (w.backward, lambda: grad(y, x), lambda: (y * 1).backward()):
        with pytest.raises(RuntimeError, match=r"mul: .* shape \(1,\); .* retain_graph=True"):
            again()
    y = x * x
    assert [grad(y, x, retain_graph=True)[0].item(), grad(y, x)[0].item()] == [4, 4]


def test_a_pass_leaves_what_it_did_not_visit():
    x, other = param(2.0), param(3.0)
    branch = other * other
    y = x * branch
    grad(y, x)
    assert grad(branch, other)[0].item() == 6


def test_a_backward_pass_may_be_split_at_an_intermediate_result():
    x, w = param(2.0, 3.0), param(5.0, 7.0)
    f = lambda: (x * w).exp().log()
    loss = lambda h: (h * h).sum() + h.sum()
    expected = [g.numpy() for g in grad(loss(f()), [x, w])]

    h = f()
    (gh,) = grad(loss(h), h)
    for g, e in zip(grad(h, [x, w], gh), expected, strict=True):
        np.testing.assert_allclose(g.numpy(), e)

    h = f()  # two losses of one result, which each pass on their own gradient
    gh = grad((h * h).sum(), h)[0] + grad(h.sum(), h)[0]
    h.backward(gh)
    np.testing.assert_allclose(x.grad.numpy(), expected[0])

    h = f()  # an output that is its own target, and one that lies below another's target
    found = grad([h, loss(h)], [h, h], [gh, None])
    np.testing.assert_allclose(found[0].numpy(), 2 * gh.numpy())
    for g, e in zip(grad(h, [x, w], found[1]), expected, strict=True):
        np.testing.assert_allclose(g.numpy(), 2 * e)

    h = f()  # targets below and above each other: only what lies above the lowest is released
    k = h * 2
    gk, gh = grad(loss(k), [k, h])
    np.testing.assert_allclose(gh.numpy(), 2 * gk.numpy())
    assert grad(h, x, gh)[0].shape == (2,)
    with pytest.raises(RuntimeError, match="mul: a backward pass has released"):
        grad(k, h, gk)


def test_a_released_result_can_still_be_the_target_of_another_pass():
    x = param(3.0)
    h = x * x
    grad(h, x)
    assert grad(h * h, h)[0].item() == 18
    with pytest.raises(RuntimeError, match="mul: a backward pass has released"):
        grad(h * x, x)  # x lies above h, but might also lie below it
    with pytest.raises(RuntimeError, match="mul: a backward pass has released"):
        grad(h * x, [h, x])


# -- stale graphs -------------------------------------------------------------------------------


def changes():
    return {
        "a step": lambda p: optim.SGD([p], lr=1).step([tensor(np.ones(p.shape, "f"))]),
        "in place": lambda p: p.data.__isub__(1) is p.data and setattr(p, "data", p.data),
        "assigned": lambda p: setattr(p, "data", p.data * 2),
    }


@pytest.mark.parametrize("how", list(changes()))
@pytest.mark.parametrize(
    "forward",
    [
        lambda x, w: x * w,
        lambda x, w: F.linear(x, w),
        lambda x, w: x @ w.T,  # reads w through a transposed view
        lambda x, w: x * w[0].reshape(1, 2).expand(2, 2),
        lambda x, w: x * w.detach(),
        lambda x, w: x * Tensor(w),
        lambda x, w: x * nn.Parameter(w),
        lambda x, w: x * nn.Buffer(w.detach()),
        lambda x, w: x * Tensor(w[:1]),
    ],
)
def test_a_graph_that_has_read_a_changed_parameter_is_refused(forward, how):
    x, w = (tensor(np.ones((2, 2), "f"), requires_grad=True) for _ in "xw")
    y = forward(x, w).sum()
    bystander = (x * 2).sum()
    changes()[how](w)
    with pytest.raises(RuntimeError, match=r"(mul|linear): input 1, of shape .* changed in place"):
        grad(y, x, retain_graph=True)
    with pytest.raises(RuntimeError, match="compute the output again"):
        y.backward()
    assert grad(bystander, x)[0].numpy().tolist() == [[2, 2], [2, 2]]
    grad(forward(x, w).sum(), x)


def test_a_change_off_the_path_does_no_harm():
    x, w = param(1.0), param(2.0)
    y = x * 2 + (w * w) * 3
    w.data -= 1
    assert grad(y, x, retain_graph=True)[0].item() == 2
    with pytest.raises(RuntimeError, match="mul: input 0"):
        grad(y, w)


def test_data_may_be_changed_before_it_is_read_and_after_the_gradient():
    x, w = param(2.0), param(3.0)
    w.data *= 2
    y = x * w
    assert grad(y, x)[0].item() == 6
    w.data *= 2
    assert y.item() == 12  # the result does not share memory with the operand


@pytest.mark.parametrize("make", [Tensor, nn.Parameter, nn.Buffer, Tensor.detach])
def test_tensors_of_one_memory_count_changes_together(make):
    t = tensor([1.0, 2.0])
    u = make(t)
    assert np.shares_memory(t.data, u.data)
    u.data *= 2
    t.data *= 2
    assert t.version == u.version == 2


@pytest.mark.parametrize("name", sorted(CASES))
@given(data=st.data())
def test_a_result_shares_memory_only_with_inputs_whose_changes_it_counts(name, data):
    fn, inputs, _ = data.draw(CASES[name])
    for y in walk.topological([fn(*inputs)]):
        for x in (x for x in y.inputs if isinstance(x, Tensor) and x.numel()):
            assert y.changes is x.changes or not np.shares_memory(y.data, x.data), y.op.name


@pytest.mark.parametrize(
    "index",
    [np.array([0, 1]), np.array([True, True, False]), tensor([0, 1]), [0, 1]],
    ids=["integers", "mask", "Tensor", "list"],
)
def test_an_index_that_changes_later_does_not_change_the_gradient(index):
    x = param(1.0, 2.0, 3.0)
    plain, paired = x[index], x[None][0, index]
    ops_raw(index)[0] = False
    ops_raw(index)[1] = 2
    for y in (plain, paired):
        assert grad(y.sum(), x)[0].numpy().tolist() == [1, 1, 0]


def test_a_condition_that_changes_later_does_not_change_the_gradient():
    x = param(1.0, 2.0)
    for condition in (np.array([True, False]), tensor([True, False]), [True, False]):
        y = F.where(condition, x, 0.0)
        ops_raw(condition)[0] = False
        assert grad(y.sum(), x)[0].numpy().tolist() == [1, 0]


# -- devices and broken rules -------------------------------------------------------------------


class OnAnotherDevice:
    """An array that claims to be on GPU 1."""

    dtype, shape, ndim, size = np.dtype("float32"), (2,), 1, 2
    device = type("Device", (), {"id": 1})()


def test_operands_on_two_devices_are_refused_by_name():
    far = param(1.0, 2.0)
    far._data = OnAnotherDevice()
    assert far.device == "cuda:1"
    with pytest.raises(RuntimeError, match=r"mul: operands are on cpu, cuda:1; .* \.to\(device\)"):
        param(1.0, 2.0) * far
    with pytest.raises(DeviceError, match="cuda"):
        param(1.0).to("cuda:7000")


@pytest.fixture
def scratch_operations(monkeypatch):
    """Remove operations that a test made."""
    monkeypatch.setattr(engine, "OPERATIONS", dict(OPERATIONS))


@pytest.mark.usefixtures("scratch_operations")
@pytest.mark.parametrize(
    "rule", [lambda g, y, x: g.sum(0), lambda g, y, x: g.to("float64"), lambda g, y, x: g[None]]
)
def test_a_rule_that_gives_a_wrong_shape_or_dtype_is_caught(rule):
    @op(rule)
    def broken(xp, x):
        return x + 0

    with pytest.raises(AssertionError, match="broken: a rule gave a gradient"):
        broken(tensor(np.ones((2, 3), "f"), requires_grad=True)).sum().backward()


@pytest.mark.usefixtures("scratch_operations")
@pytest.mark.parametrize("elementwise", [False, True])
@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (None, "odd: input 1 has no backward rule"),
        ("missing", "odd: input 1 has no backward rule"),
        (lambda g, y, a, b: None, "odd: the rule of input 1, .*, gave a NoneType; .* Tensor"),
        (
            lambda g, y, a, b: g.data,
            "odd: the rule of input 1, .*, gave a numpy.ndarray; .* Tensor",
        ),
        (lambda g, y, a, b: 1.0, "odd: the rule of input 1, .*, gave a float; .* Tensor"),
    ],
)
def test_a_rule_that_is_missing_or_gives_no_tensor_is_named(rule, message, elementwise):
    rules = (lambda g, y, a, b: g,) + (() if rule == "missing" else (rule,))

    @op(*rules, elementwise=elementwise)
    def odd(xp, a, b):
        return a + b

    x, w = tensor(np.ones((2, 3), "f")), param(1.0, 2.0, 3.0)
    w = w if elementwise else tensor(np.ones((2, 3), "f"), requires_grad=True)
    for create_graph in (False, True):
        with pytest.raises(TypeError, match=message):
            odd(x, w).sum().backward(create_graph=create_graph)
    x.requires_grad_()
    assert grad(odd(x, w).sum(), x)[0].tolist() == [[1, 1, 1], [1, 1, 1]]


@pytest.mark.usefixtures("scratch_operations")
def test_what_a_rule_takes_from_elsewhere_is_not_recorded():
    w = param(3.0)

    @op(lambda g, y, x: g * w)
    def scaled(xp, x):
        return x * w.data

    x = param(2.0)
    assert not grad(scaled(x), x)[0].requires_grad
    assert grad(grad(scaled(x), x, create_graph=True)[0], w)[0].item() == 1


@pytest.mark.parametrize("detached", [False, True])
def test_a_changed_output_is_refused_for_rules_read_it_too(detached):
    x = tensor([1.0, 2.0], requires_grad=True)
    y = x.exp()
    changed = y.detach() if detached else y
    changed.data *= 10
    with pytest.raises(RuntimeError, match="exp: its output, of shape"):
        grad(y.sum(), x)


def test_iteration_goes_over_the_first_dimension():
    rows = list(tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert [row.numpy().tolist() for row in rows] == [[1, 2], [3, 4]]
    with pytest.raises(TypeError, match="0-dimensional"):
        list(tensor(1.0))
