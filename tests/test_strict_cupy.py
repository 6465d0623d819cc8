"""The double of CuPy refuses what CuPy refuses, and the engine runs on it as on NumPy."""

import copy
import inspect
import itertools
import sys

import numpy as np
import pytest
import strategies
import strict_cupy
import tiny
import walk
from functions import FUNCTIONS
from hypothesis import given, settings
from hypothesis import strategies as st
from strict_cupy import arrays, counters, cuda
from strict_cupy.state import NAMES, Counters
from test_models import ALL, FAMILIES
from test_nn import each_layer
from test_optim import CASES as OPTIMISERS
from test_optim import setting

import minigan
import minigan.functional as F
from minigan import backend, gradcheck, gradgradcheck, init, manual_seed, nn, tensor
from minigan.backend import resolve_device
from minigan.models.dcgan import Discriminator, Generator
from minigan.tensor import Tensor, grad
from minigan.training import looks, state
from minigan.training.run import Run

EXACT = {"rtol": 1e-10, "atol": 1e-12}  # float64's 1e-16 after hundreds of terms in another order


@pytest.fixture(scope="module", autouse=True)
def cupy():
    backend.gpu_trouble.cache_clear()  # forgets this machine's GPUs
    with pytest.MonkeyPatch.context() as patch:
        yield strict_cupy.install(patch, devices=2)
    backend.gpu_trouble.cache_clear()


@pytest.fixture
def a(cupy):
    return cupy.asarray(np.arange(6, dtype="f").reshape(2, 3))


# -- the double ---------------------------------------------------------------------------------

HOST = np.ones((2, 3), "f")


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda xp, a: np.asarray(a), TypeError, "Implicit conversion to a NumPy array"),
        (lambda xp, a: np.array(a), TypeError, "Implicit conversion to a NumPy array"),
        (lambda xp, a: np.array([a[0, 0], a[0, 1]]), TypeError, "Implicit conversion"),
        (lambda xp, a: np.exp(a), TypeError, "np.exp of a CuPy array"),
        (lambda xp, a: np.add.at(a, 0, 1), TypeError, "np.add of a CuPy array"),
        (lambda xp, a: np.sum(a), TypeError, "np.sum of a CuPy array"),
        (lambda xp, a: np.result_type(a), TypeError, "np.result_type of a CuPy array"),
        (lambda xp, a: a + HOST, TypeError, "Unsupported type <class 'numpy.ndarray'>"),
        (lambda xp, a: HOST + a, TypeError, "np.add of a CuPy array"),
        (lambda xp, a: np.ones(()) * a, TypeError, "np.multiply of a CuPy array"),
        (lambda xp, a: xp.add(a, HOST), TypeError, "Unsupported type"),
        (lambda xp, a: xp.add(a, a, out=HOST), TypeError, "a cupy.ndarray is needed"),
        (lambda xp, a: xp.sum(HOST), TypeError, "a cupy.ndarray is needed"),
        (lambda xp, a: xp.where(HOST > 0, a, a), TypeError, "a cupy.ndarray is needed"),
        (lambda xp, a: xp.where(a > 0, a, HOST), TypeError, "Unsupported type"),
        (lambda xp, a: xp.concatenate([a, HOST]), TypeError, "a cupy.ndarray is needed"),
        (lambda xp, a: a @ HOST.T, TypeError, "a cupy.ndarray is needed"),
        (lambda xp, a: a.__setitem__(..., HOST), ValueError, "non-scalar numpy.ndarray"),
        (lambda xp, a: a.__setitem__([0, 1], HOST), ValueError, "non-scalar numpy.ndarray"),
        (lambda xp, a: a.__setitem__(0, [1, 2, 3]), ValueError, "non-scalar numpy.ndarray"),
        (lambda xp, a: xp.asarray(["a"]), ValueError, "Unsupported dtype"),
        (lambda xp, a: a[[2]], IndexError, "out of bounds"),
        (lambda xp, a: a[np.ones(1)], IndexError, "must be of integer or boolean type"),
        (lambda xp, a: hash(a), TypeError, "unhashable"),
        (lambda xp, a: range(a[0, 0]), TypeError, "cannot be interpreted as an integer"),
        (lambda xp, a: len(a[0, 0]), TypeError, "unsized"),
        (lambda xp, a: list(a[0, 0]), TypeError, "0-d"),
        (lambda xp, a: a.item(), ValueError, "size 1"),
        (lambda xp, a: bool(a), ValueError, "ambiguous"),
        (lambda xp, a: xp.nothing, AttributeError, "'cupy' has no attribute 'nothing'"),
        (lambda xp, a: xp.add.where, AttributeError, "where"),
        (lambda xp, a: xp.cuda.nothing, AttributeError, r"'cupy.cuda' has no attribute"),
        (lambda xp, a: a.cpu, AttributeError, "'cupy.ndarray' has no attribute 'cpu'"),
        (lambda xp, a: xp.sort(a), NotImplementedError, "the double lacks cupy.sort, which"),
        (lambda xp, a: a.sort(), NotImplementedError, "lacks cupy.ndarray.sort, which the real"),
        (lambda xp, a: xp.cuda.Event(), NotImplementedError, "lacks cupy.cuda.Event"),
        (lambda xp, a: xp.ndarray((2,)), NotImplementedError, r"lacks cupy.ndarray\(...\)"),
        (lambda xp, a: xp.exp(a, where=a > 0), TypeError, "keyword argument 'where'"),
        (lambda xp, a: xp.exp(a, order="C"), TypeError, "keyword argument 'order'"),
        (lambda xp, a: xp.clip(a, min=0, max=1), TypeError, "keyword argument 'min'"),
        (lambda xp, a: a.sum(where=a > 0), TypeError, "keyword argument 'where'"),
        (lambda xp, a: xp.exp.at(a, 0), AttributeError, "at"),
        (lambda xp, a: xp.add.reduceat, AttributeError, "reduceat"),
        (lambda xp, a: xp.add.at(xp.zeros(2, "i2"), [0], 1), TypeError, "add.at only supports"),
        (lambda xp, a: xp.add(a), TypeError, "Wrong number of arguments"),
        (lambda xp, a: xp.matmul(a, a.T, out=xp.empty((2, 2))), ValueError, "C-contiguous float32"),
        (lambda xp, a: xp.matmul(a, a.T, out=xp.empty((2, 2), "f", "F")), ValueError, "contiguous"),
        (lambda xp, a: xp.matmul(a, a.T, out=xp.empty((2, 3), "f")), ValueError, "shape"),
        (lambda xp, a: xp.broadcast_to(a[0], (2, 3)).fill(0), ValueError, "read-only"),
        (lambda xp, a: xp.lib.stride_tricks.as_strided(a, (7,), (4,)), ValueError, "leaves the"),
        (lambda xp, a: xp.lib.stride_tricks.as_strided(a, (2,), (-4,)), ValueError, "leaves the"),
        (lambda xp, a: xp.cuda.Device(2).use(), RuntimeError, "cudaErrorInvalidDevice"),
        (lambda xp, a: xp.cuda.runtime.getDeviceProperties(2), RuntimeError, "InvalidDevice"),
    ],
)
def test_what_cupy_refuses_is_refused(cupy, a, wrong, error, message):
    with pytest.raises(error, match=message):
        wrong(cupy, a)


def test_the_double_has_nothing_that_cupy_has_not():
    """No other names, no other parameters, and no parameter in another position."""
    offered = {
        f"cupy.{n}": f for n, f in vars(strict_cupy.arrays).items() if n in strict_cupy.FUNCTIONS
    }
    offered |= {f"cupy.{n}": f for n, f in (arrays.UFUNCS | arrays.REDUCTIONS).items()}
    offered |= {f"cupy.cuda.runtime.{f.__name__}": f for f in cuda.RUNTIME}
    classes = (arrays.ndarray, "cupy"), (cuda.Device, "cupy.cuda"), (cuda.MemoryPool, "cupy.cuda")
    for kind, path in (*classes, (cuda.Stream, "cupy.cuda")):
        for name, thing in vars(kind).items():
            if not name.startswith("_"):
                offered[f"{path}.{kind.__name__}.{name}"] = thing
    for path, thing in offered.items():
        assert path in NAMES, f"CuPy has no {path}"
        if callable(thing) and not isinstance(thing, type) and path != "cupy.cuda.Stream.null":
            mine = [p for p in inspect.signature(thing).parameters.values() if p.name != "self"]
            method = bool(path.startswith("cupy.ndarray.") and mine and mine[0].name == "a")
            assert fits(mine[method:], NAMES[path]), (
                f"{path} of CuPy takes {NAMES[path]}, not {mine}"
            )


def fits(mine, real):
    """Whether these parameters are among those in the fixture, in the same places."""
    words = [word.rstrip("=") for word in real.split(", ")]
    stars = {word for word in words if word.startswith("*")}
    positional = list(itertools.takewhile(lambda word: word not in stars, words))
    for i, p in enumerate(mine):
        if p.kind is p.POSITIONAL_OR_KEYWORD and positional[i : i + 1] != [p.name]:
            return False
        if p.kind is p.POSITIONAL_ONLY and "*args" not in stars:
            return False
        if p.kind is p.KEYWORD_ONLY and p.name not in words and "**kwargs" not in stars:
            return False
        if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and not stars - {"*"}:
            return False
    return True


def test_every_name_of_the_modules_is_one_of_cupys(cupy):
    for module in (cupy, cupy.cuda, cupy.cuda.runtime, cupy.cuda.memory, cupy.lib.stride_tricks):
        for name in vars(module):
            ours = name.startswith("__") or name == "CUDARuntimeError"  # not a public name
            assert ours or f"{module.__name__}.{name}" in NAMES, f"{module.__name__}.{name}"


def test_numbers_promote_as_nep_50_says_and_results_are_arrays(cupy, a):
    assert (a * 2.0).dtype == (2 - a).dtype == (a * np.float32(2)).dtype == np.float32
    assert (a * np.float64(2)).dtype == (np.float64(2) / a).dtype == np.float64
    assert (
        (cupy.asarray([1, 2]) * 1.5).dtype
        == cupy.true_divide(cupy.asarray([1, 2]), 2).dtype
        == np.float64
    )
    for result in (a.sum(), a[0, 0], a[0, 0] + a[0, 1], cupy.add(1, 2), a.max(), a[a > 9].sum()):
        assert type(result) is cupy.ndarray
        assert result.shape == ()


def test_a_kernels_result_is_in_c_order_and_a_copy_keeps_its_order_where_cupys_does(cupy, a):
    t = a.T
    assert t.flags.f_contiguous
    for result in (
        t + 1,
        cupy.exp(t),
        t.sum(1, keepdims=True),
        cupy.where(t > 0, t, 0),
        t @ a,
        t[[0]],
    ):
        assert result.flags.c_contiguous
    for result in (t.astype("f8"), cupy.empty_like(t), cupy.zeros_like(t), cupy.asarray(HOST.T)):
        assert result.flags.f_contiguous
    for result in (
        t.copy(),
        cupy.ascontiguousarray(t),
        cupy.asarray(np.ones((2, 3, 4)).swapaxes(0, 1)),
    ):
        assert result.flags.c_contiguous
    assert t.get().flags.c_contiguous


def test_views_share_memory_and_copies_do_not(cupy, a):
    for shared in (
        a[0],
        a[..., ::2],
        a.T,
        a.reshape(3, 2),
        a[None],
        a.swapaxes(0, 1),
        a[0, 0],
        a[()],
    ):
        shared[...] = -1
        assert (a == -1).any()
        a[...] = 0
    for own in (a[[0]], a[a == 0], a[np.array(0)], a.T.reshape(-1), a.copy(), a.astype("f"), a + 0):
        own[...] = -1
        assert not (a == -1).any()
    assert cupy.ascontiguousarray(a) is cupy.asarray(a) is a.astype("f", copy=False) is a


def test_memory_that_nobody_has_written_is_noticed(cupy, a):
    assert cupy.isnan(cupy.empty(3)).all()
    assert cupy.isnan(cupy.empty_like(a)).all()
    assert int(cupy.empty((), np.int32)) == 2**31 - 1


def test_scattered_additions_add_up(cupy):
    y = cupy.zeros(3)
    cupy.add.at(y, cupy.asarray([0, 2, 0]), cupy.asarray([1.0, 2.0, 3.0]))
    cupy.add.at(y, slice(1, None), 1)
    assert y.tolist() == [4, 1, 3]


def test_what_costs_time_is_counted(cupy, a):
    def cost(call):
        counters.reset()
        call()
        return tuple(vars(counters).values())

    launch, copy_in, wait = (1, 0, 0, 0, 0), (0, 0, 1, 0, 0), (0, 0, 0, 1, 1)
    for call in (lambda: a + 1, lambda: a.sum(), lambda: a.T.copy(), lambda: cupy.zeros(2)):
        assert cost(call) == launch
    for call in (lambda: a.T, lambda: a[0], lambda: a.reshape(-1), lambda: cupy.empty(2)):
        assert cost(call) == (0, 0, 0, 0, 0)
    for call in (lambda: float(a[0, 0]), lambda: str(a), a.get, a.tolist, lambda: bool(a[0, 0])):
        assert cost(call) == wait
    assert cost(lambda: cupy.asarray(HOST)) == copy_in
    assert cost(lambda: a[np.array([0])]) == (1, 0, 1, 0, 0)
    assert cost(lambda: a[a > 1]) == (2, 0, 0, 1, 1)  # the mask, and its number of true elements
    assert cost(lambda: a @ a.T) == (0, 1, 0, 0, 0)
    assert cost(lambda: cupy.cuda.get_current_stream().synchronize()) == (0, 0, 0, 0, 1)


def test_arrays_stay_on_their_gpu_and_do_not_meet_others(cupy, a):
    with cupy.cuda.Device(1):
        b = cupy.ones((2, 3), "f")
        assert (a.device.id, b.device.id, b[0].device.id, (b + 1).device.id) == (0, 1, 1, 1)
        for wrong in (lambda: a + b, lambda: a + 1, a.sum, lambda: a @ b.T, lambda: a.fill(0)):
            with pytest.raises(
                ValueError, match=r"resides \(0\) is different from the current .*1"
            ):
                wrong()
        assert cupy.asarray(a).device.id == 1
        assert a.get().shape == (2, 3)  # to the host from any GPU
    assert cupy.cuda.Device().id == cupy.cuda.runtime.getDevice() == 0


def test_the_memory_pool_knows_what_is_in_use_and_runs_out(cupy):
    pool = cupy.get_default_memory_pool()
    before, (free, total) = pool.used_bytes(), cupy.cuda.runtime.memGetInfo()
    big = cupy.zeros(1000)
    assert pool.used_bytes() == before + 8000 <= pool.total_bytes()
    part = big[:1]
    del big
    assert pool.used_bytes() == before + 8000  # a view keeps it alive
    del part
    assert pool.used_bytes() == before
    pool.set_limit(size=before + 7999)
    with pytest.raises(cupy.cuda.memory.OutOfMemoryError, match="Out of memory allocating 8,000"):
        cupy.zeros(1000)
    pool.set_limit(size=None)
    assert issubclass(cupy.cuda.memory.OutOfMemoryError, MemoryError)
    assert cupy.cuda.runtime.memGetInfo() == (free, total)


def test_it_is_there_as_long_as_the_fixture_is(cupy):
    with pytest.MonkeyPatch.context() as patch:
        another = strict_cupy.install(patch, devices=2)
        assert sys.modules["cupy"] is another
        assert resolve_device("auto") == "cuda:0"
    assert sys.modules["cupy"] is cupy


# -- kernels from source ------------------------------------------------------------------------

SOURCE = """
typedef long long Index;
struct Line { double slope; int offset; };
extern "C" __global__ void line(const Real* x, Real* y, Index n, Real factor, Line l)
{
    const Index i = (Index)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = factor * (l.slope * x[i] + l.offset);
}
"""
LINE = np.dtype([("slope", "f8"), ("offset", "i4")], align=True)


@pytest.fixture
def line(cupy):
    """The kernel, and correct arguments."""
    kernel = cupy.RawModule(code=SOURCE, options=("-DReal=float",)).get_function("line")
    x, struct = cupy.asarray(np.arange(300, dtype="f")), np.array((2.0, 3), LINE)
    return kernel, [x, cupy.empty(300, "f"), np.int64(300), np.float32(10), struct]


def test_a_raw_kernel_computes_on_the_arrays_memory(cupy, line):
    kernel, args = line
    counters.reset()
    kernel((2,), (256,), tuple(args))
    assert counters == Counters(launches=1)
    np.testing.assert_array_equal(args[1].get(), 10 * (2 * np.arange(300) + 3))


@pytest.mark.parametrize(
    ("position", "wrong", "error", "message"),
    [
        (
            0,
            lambda xp: xp.zeros(300),
            TypeError,
            r"0, `const Real\*`, needs a cupy.ndarray of float32, not f",
        ),
        (
            0,
            lambda xp: np.zeros(300, "f"),
            TypeError,
            "needs a cupy.ndarray of float32, not ndarray",
        ),
        (0, lambda xp: xp.zeros((300, 2), "f")[:, 0], ValueError, "ignores strides"),
        (1, lambda xp: np.float32(1), TypeError, "needs a cupy.ndarray"),
        (2, lambda xp: 300, TypeError, "parameter 2, `Index`, needs a np.int64: a Python int has"),
        (2, lambda xp: np.int32(300), TypeError, "needs a np.int64"),
        (3, lambda xp: 10.0, TypeError, "needs a np.float32: a Python float has different bits"),
        (3, lambda xp: np.float64(10), TypeError, "needs a np.float32"),
        (3, lambda xp: xp.zeros((), "f"), TypeError, "needs a np.float32"),
        (4, lambda xp: (2.0, 3), TypeError, "`Line`, needs a 0-d structured array, not a tuple"),
        (4, lambda xp: np.zeros(2, LINE), TypeError, "needs a 0-d structured array"),
        (4, lambda xp: np.zeros((), [("slope", "f4")]), RuntimeError, "the size of argument 4"),
    ],
)
def test_an_argument_must_be_what_the_kernels_parameter_says(
    cupy, line, position, wrong, error, message
):
    kernel, args = line
    args[position] = wrong(cupy)
    with pytest.raises(error, match=message):
        kernel((2,), (256,), tuple(args))


def test_a_launch_keeps_to_cudas_limits_and_to_the_current_gpu(cupy, line):
    kernel, args = line
    for grid, block in (((0,), (1,)), ((1, 65536), (1,)), ((1,), (1025,)), ((1,), (32, 64))):
        with pytest.raises(RuntimeError, match=r"a (grid|block) of"):
            kernel(grid, block, tuple(args))
    with pytest.raises(TypeError, match="grid and block are tuples"):
        kernel(2, 256, tuple(args))
    with pytest.raises(TypeError, match="4 arguments for 5 parameters"):
        kernel((2,), (256,), tuple(args[:4]))
    with cupy.cuda.Device(1), pytest.raises(ValueError, match="different from the current"):
        kernel((2,), (256,), tuple(args))
    with pytest.raises(TypeError, match="positional"):
        cupy.RawModule(SOURCE)
    with pytest.raises(TypeError, match="expected tuple"):
        cupy.RawKernel(SOURCE, "line", ["-DReal=float"])
    assert not hasattr(kernel, "launch")


def test_an_elementwise_kernel_broadcasts_and_takes_its_letters_from_its_arrays(cupy, a):
    leaky = cupy.ElementwiseKernel("T x, T slope", "T y", "y = x > 0 ? x : slope * x", "leaky_relu")
    x = a - 2.5
    counters.reset()
    y = leaky(x, 0.5)
    assert counters == Counters(launches=1)
    assert y.dtype == np.float32
    assert y.tolist() == [[-1.25, -0.75, -0.25], [0.5, 1.5, 2.5]]
    out = cupy.empty((3, 2), "f")
    leaky(x, x[0], out.T)
    assert out.tolist() == [[6.25, 0.5], [2.25, 1.5], [0.25, 2.5]]
    assert leaky(x.T, 0.5).flags.c_contiguous
    assert leaky(cupy.empty((0, 3)), 1.0).shape == (0, 3)
    pixels = cupy.ElementwiseKernel("uint8 b", "float32 x", "x = b * 0.5f", "pixels")
    assert pixels(cupy.asarray(np.array([3], np.uint8))).tolist() == [1.5]


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda xp, k, a: k(a), TypeError, "Wrong number of arguments"),
        (lambda xp, k, a: k(a, HOST), TypeError, "Unsupported type"),
        (
            lambda xp, k, a: k(a, a.astype("f8")),
            TypeError,
            "Type is mismatched. b float64 float32 T",
        ),
        (lambda xp, k, a: k(a, 1, xp.empty((2, 3))), TypeError, "Type is mismatched. a float32"),
        (lambda xp, k, a: k(a, 1, HOST), TypeError, "Unsupported type"),
        (lambda xp, k, a: k(a, 1, xp.empty((1, 2, 3), "f")[0, 0]), ValueError, "Out shape"),
        (lambda xp, k, a: k(a.astype(int), 0.5), TypeError, "0.5 does not fit a parameter of in"),
        (lambda xp, k, a: k(a, 1, size=3), TypeError, "keyword"),
        (
            lambda xp, k, a: xp.ElementwiseKernel("T x", "T y", "y = x", "a b"),
            ValueError,
            "Invalid",
        ),
        (lambda xp, k, a: xp.ElementwiseKernel("raw T x", "T y", ""), NotImplementedError, "raw"),
    ],
)
def test_an_elementwise_kernel_refuses_what_cupys_does(cupy, a, wrong, error, message):
    kernel = cupy.ElementwiseKernel("T a, T b", "T c", "c = a + b", "sum")
    with pytest.raises(error, match=message):
        wrong(cupy, kernel, a)


# -- the engine on the double -------------------------------------------------------------------


def there(t, device="cuda"):
    """A leaf with the same values on the GPU."""
    return t.detach().to(device).requires_grad_(t.requires_grad)


def random_like(y, seed):
    values = np.random.default_rng(seed).standard_normal(y.shape)
    return there(tensor(np.asarray(values, y.dtype), requires_grad=True), y.device)


def derivatives(fn, inputs):
    """The output, its gradients by the rules, their gradients, and its gradients by fused kernels."""
    y = fn(*inputs)
    v = random_like(y, 0)
    first = grad(y, inputs, v, create_graph=True)
    second = grad(first, [*inputs, v], [random_like(g, 1) for g in first], allow_unused=True)
    fused = grad(fn(*inputs), inputs, v.detach())
    return [y, *first, *second, *fused]


def assert_same(found, expected):
    for f, e in zip(found, expected, strict=True):
        assert (f is None) == (e is None)
        if e is not None:
            assert (f.shape, f.dtype) == (e.shape, e.dtype)
            scale = np.abs(e.numpy()).max(initial=1)  # where terms cancel, their rounding counts
            np.testing.assert_allclose(f.numpy() / scale, e.numpy() / scale, **EXACT)


@pytest.mark.parametrize("name", sorted(strategies.CASES))
@settings(max_examples=8)
@given(data=st.data())
def test_every_operation_and_its_derivatives_are_those_of_numpy(name, data):
    case = data.draw(strategies.CASES[name])
    found = derivatives(case.fn, [there(x) for x in case.inputs])
    assert {g.device for g in found[1 : 1 + len(case.inputs)]} == {"cuda:0"}
    assert found[0].device == ("cpu" if name == "move" else "cuda:0")
    assert_same(found, derivatives(case.fn, case.inputs))


@pytest.mark.parametrize("cut", strategies.CUTS)
def test_no_gradient_comes_through_there_where_the_forward_pass_cut_off(cut):
    found, expected = strategies.cut_off(cut, "sqrt", "cuda")
    assert found == expected


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_composed_function_is_the_same_there(name):
    function = FUNCTIONS[name]
    leaves = [random_like(tensor(np.zeros(shape)), i) for i, shape in enumerate(function.shapes)]
    moved = [there(x) for x in leaves]
    counters.reset()
    found = derivatives(function.call, moved)
    assert counters.device_to_host == 0  # nothing for which the host must wait
    assert {g.device for g in found if g is not None} == {"cuda:0"}
    assert_same(found, derivatives(function.call, leaves))


@each_layer
def test_every_layer_is_the_same_there(make, shape):
    results = []
    for device in ("cpu", "cuda"):
        manual_seed(0)
        layer = make().double().to(device)
        x = random_like(tensor(np.zeros(shape)), 1)
        y = layer(x := there(x, device))
        results.append([y, *grad((y * y).sum(), [x, *layer.parameters()]), *layer.buffers()])
    assert_same(*results[::-1])


def networks(device, dtype=np.float64):
    rng = np.random.default_rng(0)
    G, D = Generator(8, 4, 3, 16, rng), Discriminator(4, 3, 16, rng)
    return G.to(dtype).to(device), D.to(dtype).to(device)


def test_both_networks_are_the_same_there_in_training_and_evaluation():
    results = []
    for device in ("cpu", "cuda"):
        G, D = networks(device)
        z = there(tensor(np.random.default_rng(1).standard_normal((4, 8, 1, 1))), device)
        y = D(G(z))
        state = [*G.state_dict().values(), *D.state_dict().values()]
        gradients = grad(y.sum(), [*G.parameters(), *D.parameters()])
        results.append([y, *state, *gradients, D.eval()(G.eval()(z))])
    assert_same(*results[::-1])


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_of_networks_is_the_same_there_with_all_options_and_labels(name):
    make_G, make_D, _ = FAMILIES[name]
    condition = "one-hot" if name == "mlp for points" else "batch-norm"
    results, labels = [], tensor(np.array([0, 3, 1, 1]))
    for device in ("cpu", "cuda"):
        G = make_G(classes=4, condition=condition).double().to(device)
        D = make_D(classes=4, condition="projection", **{**ALL, "dropout": 0}).double().to(device)
        z, y = there(random_like(tensor(np.zeros((4, 3))), 1), device), labels.to(device)
        counters.reset()
        scores = D.logits(G(z, y), y)
        gradients = grad(scores.sum(), [*G.parameters(), *D.parameters()])
        assert counters.device_to_host == 0
        results.append([scores, *gradients, *G.buffers(), *D.buffers()])
    assert_same(*results[::-1])


@pytest.mark.parametrize(("kind", "formula", "options"), OPTIMISERS)
def test_every_optimiser_moves_the_same_there_and_hands_its_state_over(kind, formula, options):
    def optimiser(device):
        parameters, steps = setting()
        parameters = [there(p, device) for p in parameters]
        return kind(parameters, **options), [[there(g, device) for g in grads] for grads in steps]

    (here, steps), (gpu, gpu_steps) = optimiser("cpu"), optimiser("cuda")
    for grads, gpu_grads in zip(steps[:3], gpu_steps[:3], strict=True):
        here.step(grads)
        gpu.step(gpu_grads)
    assert_same(gpu.params, here.params)
    here.load_state_dict(gpu.state_dict())
    gpu.load_state_dict(here.state_dict())
    here.step(steps[3])
    gpu.step(gpu_steps[3])
    assert_same(gpu.params, here.params)


def test_gradcheck_works_there():
    x = random_like(tensor(np.zeros((2, 3))), 0)
    assert gradcheck(lambda x: F.tanh(x) * x, there(x))
    assert gradgradcheck(lambda x: F.tanh(x) * x, there(x))


def test_a_network_that_is_there_already_is_initialised_there():
    expected = np.random.default_rng(0).normal(0.0, 1.0, (2, 3)).astype("f")
    for part in (lambda p: p, lambda p: p.data):  # the parameter, then its array
        layer = nn.Linear(3, 2).cuda(0)
        init.normal_(part(layer.weight), 0.0, 1.0, np.random.default_rng(0))
        assert layer.weight.device == "cuda:0"
        np.testing.assert_array_equal(layer.cpu().weight.numpy(), expected)


def test_a_state_dict_goes_there_and_back():
    (G, D), (G_gpu, D_gpu) = networks("cpu"), networks("cuda")
    for here, gpu in ((G, G_gpu), (D, D_gpu)):
        for p in gpu.parameters():
            p.data += 1
        here.load_state_dict(gpu.state_dict())
        assert_same(gpu.state_dict().values(), here.state_dict().values())
        assert all(type(a) is np.ndarray for a in gpu.state_dict_numpy().values())
        gpu.load_state_dict({name: t.numpy() + 1 for name, t in here.state_dict().items()})
        assert {p.device for p in gpu.parameters()} == {"cuda:0"}


def test_tensors_go_there_and_back_with_their_gradients(cupy):
    x = tensor([1.0, 2.0], requires_grad=True)
    y = x.to("cuda:0")
    assert (y.device, y.to("cpu").device, tensor([1.0], device="cuda").device) == (
        "cuda:0", "cpu", "cuda:0",
    )  # fmt: skip
    (y * y).sum().backward()
    assert x.grad.device == "cpu"
    assert x.grad.numpy().tolist() == [2, 4]
    assert tensor(y).data is not y.data
    assert repr(y.detach()) == "tensor([1., 2.])"
    with pytest.raises(RuntimeError, match="operands are on cpu, cuda:0; move them to one device"):
        x + y
    assert tensor([1, 2], device="cuda").to("float64").sum().item() == 3


def test_gradients_have_memory_of_their_own_there(cupy):
    a, b = (tensor([2.0, 3.0], device="cuda", requires_grad=True) for _ in "ab")
    v = minigan.ones(2, device="cuda", dtype="float32")
    for found in (
        grad(a + b.reshape(2), [a, b], v),  # v itself, and a view of it
        grad(a.sum() + b.sum(), [a, b]),  # one number, repeated
        grad(a + b, [a, b, a], v, create_graph=True),
    ):
        arrays = [v.data, *(g.data for g in found)]
        assert not any(cupy.may_share_memory(x, y) for x, y in itertools.combinations(arrays, 2))
        found[0].data *= 7  # CuPy writes a repeated element once per repetition
        assert [g.tolist() for g in found] == [[7, 7], *[[1, 1]] * (len(found) - 1)]
    (a * 2).sum().backward(2.0)
    assert (a.grad.tolist(), a.grad.device) == ([4, 4], "cuda:0")
    with pytest.raises(RuntimeError, match="gradient is on cpu, the output on cuda:0; move them"):
        (a + b).backward(v.cpu())


def test_a_batch_norms_gradients_are_not_copied_there(cupy, monkeypatch):
    """Although two of the gradients are rows of one array."""
    layer = nn.BatchNorm2d(3).to("cuda")
    x = minigan.randn(4, 3, 2, 2, device="cuda", requires_grad=True)
    monkeypatch.setattr(Tensor, "clone", None)
    assert len(grad(layer(x).sum(), [x, *layer.parameters()])) == 3


def test_an_index_is_remembered_there_as_it_was(cupy):
    x = tensor([1.0, 2.0, 3.0], device="cuda", requires_grad=True)
    for index in (cupy.asarray([0, 1]), tensor([0, 1], device="cuda"), np.array([0, 1])):
        y = x[index]
        (index.data if isinstance(index, Tensor) else index)[...] = 2
        assert grad(y.sum(), x)[0].tolist() == [1, 1, 0]


def test_pytorchs_names_work_there(cupy):
    t = minigan.zeros(2, 3, device=minigan.device("cuda"))
    assert (t.device, t.device.type, t.device.index) == ("cuda:0", "cuda", 0)
    assert minigan.cuda.is_available()
    view = t.T
    t.fill_(1).mul_(3).add_(minigan.ones_like(t))
    t[0, 1:] = tensor([7, 8], device="cuda")
    assert (view.cpu().T.tolist(), view.version) == ([[4, 7, 8], [4, 4, 4]], 4)
    assert (t.cuda() is t, t.clone().tolist(), (2**t)[1, 0].item()) == (True, t.tolist(), 16)
    assert t.double().to("cpu", minigan.long).dtype == np.int64
    assert view.contiguous().data.flags.c_contiguous
    minigan.manual_seed(1)
    there = minigan.randn_like(t)
    minigan.manual_seed(1)
    assert there.tolist() == minigan.randn(2, 3).tolist()
    for wrong, message in (
        (
            lambda: t.copy_(minigan.ones(3)),
            r"copy_: cpu values for a tensor on cuda:0; use .to\(\)",
        ),
        (lambda: minigan.zeros(2, device="cuda").expand(3, 2).zero_(), r"share memory.*clone\(\)"),
    ):
        with pytest.raises(RuntimeError, match=message):
            wrong()


def test_a_cupy_array_is_an_operand_and_a_strange_one_is_refused(cupy, a):
    assert (tensor([1.0], device="cuda") + a).tolist() == [[1, 2, 3], [4, 5, 6]]
    assert tensor(a, dtype="float64").tolist() == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(TypeError, match=r"a Tensor holds bool, .* not complex64"):
        Tensor(cupy.zeros(2, np.complex64))


# -- the members on the double ------------------------------------------------------------------


@pytest.mark.parametrize(("name", "kind"), walk.WALK)
def test_two_steps_of_a_member_are_the_same_there(name, kind):
    """Metrics, weights, moments, the average of G, and samples of G and of the average, in float64."""
    results = []
    for device in ("cpu", "cuda:0"):
        member, draw = walk.double(*walk.game(name, kind, device))
        for _ in range(2):
            metrics = {key: value.item() for key, value in member.step(draw).items()}
            draw.next_step()
        leaves = dict(state.leaves(state.tree_of(member, {})))
        found = [leaves[path] for path in leaves if path not in walk.idle_leaves(member)]
        drawn = walk.inputs(member, draw)
        found += [member.sample(*drawn), member.sample_raw(*drawn)]
        # Whole numbers, such as a count of batches, stay on the host.
        floats = [t for t in found if isinstance(t, Tensor) and t.dtype.kind == "f"]
        assert {t.device for t in floats} == {device}
        arrays = [tensor(state.host(leaf)) for leaf in found if not isinstance(leaf, int)]
        results.append((metrics, arrays))
    (expected, here), (found, gpu) = results
    assert found == pytest.approx(expected, rel=1e-9)
    assert_same(gpu, here)


@pytest.mark.parametrize(("name", "kind"), walk.WALK)
def test_a_step_of_a_member_keeps_to_its_budget_and_waits_for_what_is_read_alone(name, kind):
    member, draw = walk.game(name, kind, "cuda:0")
    for _ in range(2):  # the first step makes the moments
        counters.reset()
        metrics = member.step(draw)
        draw.next_step()
    assert counters.device_to_host == counters.synchronisations == 0
    launches, products, copies = walk.BUDGETS[name, kind]
    assert counters.host_to_device == copies
    assert counters.products <= products
    assert counters.launches <= launches
    assert all(np.isfinite(value.item()) for value in metrics.values())
    assert counters.device_to_host == counters.synchronisations == len(metrics)


@pytest.mark.parametrize(("name", "kind"), walk.WALK)
def test_samples_and_pictures_are_drawn_there_from_the_average_and_from_g(name, kind, tmp_path):
    member, draw = walk.game(name, kind, "cuda:0")
    member.step(draw)
    view = looks.Looks(member, draw.data, Run.create(tmp_path, name, {}), "cuda:0", print)
    counters.reset()
    view.samples(1)
    parts = -(-draw.data.shown // looks.at_once(draw.data.shape))
    assert counters.device_to_host == 2 * parts  # of the average, and of G
    assert counters.host_to_device == 0  # the noise is already there
    assert {path.name for path in view.run.samples.iterdir()} == {
        "step-00000001.png", "real-beside-fake.png", "raw-beside-average.png",
    }  # fmt: skip


def test_styles_are_truncated_there_after_the_networks_have_been_moved():
    """As `minigan sample --device cuda` does with a checkpoint, which is loaded on the CPU."""
    member, draw = walk.game("stylegan", "images", "cpu")
    member.step(draw)
    z, drawn = draw.noise(), []
    for device in ("cpu", "cuda:0"):
        for net in member.nets.values():
            net.to(device)
        images = member.draw_styles(member.styles(z.to(device), 0.5))
        assert images.device == device
        drawn.append(images.numpy())
    np.testing.assert_allclose(*drawn, rtol=0, atol=1e-5)


def test_a_copy_of_a_network_lies_there_as_the_network_does():
    """CuPy's own deepcopy gives C order, which would make sampling the average of G slower."""
    G = Generator(8, 4, 3, 16, np.random.default_rng(0)).to("cuda")
    for p, copied in zip(G.parameters(), copy.deepcopy(G).parameters(), strict=True):
        assert (copied.data.strides, copied.device) == (p.data.strides, p.device)
        assert copied.data is not p.data


def test_a_whole_run_goes_on_from_its_checkpoint_there(cupy, tmp_path, monkeypatch):
    monkeypatch.setenv("CUPY_TF32", "0")  # the run sets it; monkeypatch restores it
    with cupy.cuda.Device(0):  # the device is restored too
        here = tiny.train(tmp_path / "here", "--steps", 6)
        run = tiny.train(tmp_path / "there", "--steps", 3, "--device", "cuda:1")
        tiny.train(tmp_path / "there", "--resume", "auto", "--steps", 6, "--device", "cuda:1")
    with cupy.cuda.Device(0):  # as in a separate process
        drawn = ["--run", str(run.folder), "--n", "3", "--device", "cuda:1"]
        assert tiny.generate.main(drawn) == 0
    expected, found = ({row["step"]: row for row in tiny.metrics(r)} for r in (here, run))
    assert max(found) == 6
    for step, row in found.items():
        assert row == pytest.approx(expected[step], rel=1e-4)  # float32, and six steps of Adam
