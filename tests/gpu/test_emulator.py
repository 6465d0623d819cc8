"""The emulator itself: CuPy on it computes what NumPy does, and it catches what it should."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

emulator = pytest.importorskip("emulator")
if not emulator.installed():
    pytest.skip("not on the emulator", allow_module_level=True)

import cupy  # noqa: E402
from emulator.kernels import KernelError  # noqa: E402


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def raw(code, name):
    return cupy.RawKernel(f'extern "C" __global__ {code}', name)


# -- CuPy computes what NumPy does ---------------------------------------------------------------------

windows = lambda xp, x: xp.lib.stride_tricks.as_strided(
    x, (4, 3, 2, 2), (x.strides[0], x.strides[1], *x.strides)
)


def scattered(xp, x, name):
    y = xp.zeros_like(x)
    getattr(xp, name).at(y, xp.asarray([1, 3, 1, 1, 0]), x)
    return y


def assigned(xp, x):
    y = x.copy()
    y[xp.asarray([4, 0]), 1:] = x[:2, 1:]
    y[y < 0] = 7
    return y


def product_into(xp, x):
    out = xp.full((5, 5), xp.nan, x.dtype)
    return xp.matmul(x, x.T, out=out)


EXPRESSIONS = {  # of x (5, 4) in float32
    "broadcasting": lambda xp, x: x[:, None] * x - x[0] / 3,
    "where": lambda xp, x: xp.where(x > 0, x, -2 * x),
    "functions": lambda xp, x: xp.exp(-x) + xp.log1p(xp.abs(x)) + xp.tanh(x) + xp.sqrt(xp.abs(x)),
    "minimum and maximum": lambda xp, x: xp.minimum(x, 0.1) + xp.maximum(x, x[::-1]),
    "maximum of NaN": lambda xp, x: xp.maximum(xp.where(x > 0, xp.nan, x), x),
    "powers": lambda xp, x: x**2 + xp.abs(x) ** 0.3,
    "clip": lambda xp, x: xp.clip(x, -0.5, 0.5),
    "integer division": lambda xp, x: (10 * x).astype("i") // 3 + (10 * x).astype("i") % 3,
    "sum": lambda xp, x: x.sum(),
    "sum by rows": lambda xp, x: x.sum(axis=1),
    "sum by columns": lambda xp, x: x.sum(axis=0, keepdims=True),
    "sum of many": lambda xp, x: xp.tile(x, (30, 40)).sum(axis=(0, 1)),
    "mean and variance": lambda xp, x: x.mean(axis=1) + x.var(axis=1),
    "greatest": lambda xp, x: x.max(axis=0) + x.argmax(axis=0),
    "any and all": lambda xp, x: (x > 0).any(axis=1) & ~(x > 0).all(axis=1),
    "cumulative sum": lambda xp, x: xp.cumsum(x, axis=1),
    "tensordot": lambda xp, x: xp.tensordot(
        x.reshape(5, 2, 2), x.reshape(5, 2, 2), ((0, 2), (0, 1))
    ),
    "einsum": lambda xp, x: xp.einsum("ij,kj->ik", x, x),
    "product into out": product_into,
    "product with a vector": lambda xp, x: x @ x[0],
    "products in a batch": lambda xp, x: xp.stack([x, 2 * x]) @ xp.stack([x.T, x.T]),
    "products broadcast": lambda xp, x: xp.stack([x, 2 * x]) @ x.T,
    "product of integers": lambda xp, x: (10 * x).astype("i") @ (10 * x).T.astype("i"),
    "pad": lambda xp, x: xp.pad(x, ((1, 2), (0, 3))),
    "concatenate": lambda xp, x: xp.concatenate([x, x[1:3]]),
    "transposed": lambda xp, x: xp.ascontiguousarray(x.reshape(5, 2, 2).transpose(2, 0, 1)),
    "rows by index": lambda xp, x: x[xp.asarray([4, 0, 0]), 1:],
    "numbers by mask": lambda xp, x: x[x > 0],
    "assigned by index and mask": assigned,
    "added at repeated indices": lambda xp, x: scattered(xp, x, "add"),
    "overlapping windows": lambda xp, x: windows(xp, x) * 2,
    "to bytes": lambda xp, x: (100 * xp.abs(x)).astype(xp.uint8),
    "to float64": lambda xp, x: x.astype(float) + 1,
    "half precision": lambda xp, x: (x.astype("e") * 3 + 1).astype("f"),
    "product of halves": lambda xp, x: x.astype("e") @ x.T.astype("e"),
    "complex numbers": lambda xp, x: xp.abs(xp.exp(1j * x) * x),
    "arange and eye": lambda xp, x: xp.arange(4.0) * xp.eye(4),
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_as_numpy(name, rng):
    f, x = EXPRESSIONS[name], rng.standard_normal((5, 4)).astype("f")
    found, expected = f(cupy, cupy.asarray(x)), np.asarray(f(np, x))
    assert isinstance(found, cupy.ndarray)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    rtol = 1e-3 if found.dtype == np.float16 else 2e-6
    np.testing.assert_allclose(found.get(), expected, rtol=rtol, atol=1e-6)


ORDERS = {
    "rows": lambda xp, x: xp.ascontiguousarray(x),
    "columns": lambda xp, x: xp.ascontiguousarray(x.T).T,
    "every other": lambda xp, x: xp.repeat(xp.repeat(x, 2, 0), 2, 1)[::2, ::2],
    "part of wider rows": lambda xp, x: xp.concatenate([x, x], 1)[:, : x.shape[1]],
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("a", ORDERS)
@pytest.mark.parametrize("b", ORDERS)
def test_products_of_matrices_in_all_orders(a, b, dtype, rng):
    x, y = rng.standard_normal((3, 5)).astype(dtype), rng.standard_normal((5, 4)).astype(dtype)
    found = ORDERS[a](cupy, cupy.asarray(x)) @ ORDERS[b](cupy, cupy.asarray(y))
    np.testing.assert_allclose(found.get(), x @ y, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_other_products_of_cublas(dtype, rng):
    from cupy import cublas

    a, b = (np.asfortranarray(rng.standard_normal((4, 4)), dtype) for _ in "ab")
    x, y = (rng.standard_normal(4).astype(dtype) for _ in "xy")
    ga, gb, gx, gy = (cupy.asarray(v, order="A") for v in (a, b, x, y))
    agree = lambda found, expected: np.testing.assert_allclose(
        found.get(), expected, rtol=2e-5, atol=1e-6
    )
    agree(cublas.gemm("N", "T", ga, gb), a @ b.T)
    agree(cublas.gemm("T", "N", ga, gb, alpha=2, beta=3, out=gb.copy("F")), 2 * a.T @ b + 3 * b)
    agree(cublas.geam("N", "T", 2, ga, 3, gb), 2 * a + 3 * b.T)
    agree(cublas.dot(gx, gy), x @ y)
    agree(cublas.nrm2(gx), np.linalg.norm(x))
    agree(cublas.gemm("H", "N", ga * 1j, gb + 0j), -1j * a.T @ b)
    for operation, op_a in (("N", a), ("T", a.T)):
        out = gy.copy()
        cublas.gemv(operation, 2, ga, gx, 3, out)
        agree(out, 2 * op_a @ x + 3 * y)


def test_elementwise_and_reduction_kernels(rng):
    x = rng.standard_normal((50, 40))
    square = cupy.ElementwiseKernel("T x, T y", "T z", "z = (x - y) * (x - y)", "squared_distance")
    np.testing.assert_allclose(square(cupy.asarray(x), 1.5).get(), (x - 1.5) ** 2)
    norm = cupy.ReductionKernel("T x", "T y", "x * x", "a + b", "y = sqrt(a)", "0", "norm")
    np.testing.assert_allclose(norm(cupy.asarray(x), axis=1).get(), np.linalg.norm(x, axis=1))


# -- kernels from source, as this project uses them ----------------------------------------------------


def test_a_block_sums_in_shared_memory_static_and_dynamic(rng):
    x = rng.standard_normal((7, 256)).astype("f")
    body = """ {
        a[threadIdx.x] = x[blockIdx.x * blockDim.x + threadIdx.x];
        for (int half = blockDim.x / 2; half > 0; half /= 2) {
            __syncthreads();
            if (threadIdx.x < half) a[threadIdx.x] += a[threadIdx.x + half];
        }
        if (threadIdx.x == 0) y[blockIdx.x] = a[0];
    }"""
    for declared, shared in (
        ("__shared__ float a[256];", 0),
        ("extern __shared__ float a[];", 1024),
    ):
        y = cupy.empty(7, "f")
        kernel = raw(
            "void total(const float* x, float* y)" + body.replace("{", "{" + declared, 1), "total"
        )
        kernel((7,), (256,), (cupy.asarray(x), y), shared_mem=shared)
        np.testing.assert_allclose(y.get(), x.sum(1), rtol=1e-5, atol=1e-5)


def test_arguments_and_indices_arrive_as_in_cuda():
    code = """
    struct Entry { double* p; float rate; long long n; };
    struct Table { Entry at[3]; char last; };
    extern "C" __global__ void fill(Table t, int first, double factor, long long big, double* y) {
        const int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
        const int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
        y[block * blockDim.x * blockDim.y * blockDim.z + thread] = 100 * block + thread;
        if (block || thread >= 3) return;
        const Entry& e = t.at[thread];
        e.p[first] = e.rate * factor + (e.n + big + t.last);
    }"""
    entry = np.dtype([("p", np.uintp), ("rate", "f"), ("n", "q")], align=True)
    table = np.zeros((), np.dtype([("at", entry, 3), ("last", "b")], align=True))
    xs = [cupy.zeros(2) for _ in range(3)]
    for i, x in enumerate(xs):
        table["at"][i] = x.data.ptr, 0.5 + i, 10 * i
    table["last"] = -7
    y = cupy.empty(2 * 3 * 4 * 2 * 3 * 5)
    kernel = cupy.RawModule(code=code, options=("-std=c++17",)).get_function("fill")
    arguments = (np.int32(1), np.float64(2), np.int64(2**40), y)
    for by_value in (table, table[()]):  # a 0-dimensional array, or NumPy's void
        kernel((2, 3, 4), (2, 3, 5), (by_value, *arguments))
    assert [x.get().tolist() for x in xs] == [[0, 2**40 + 1 + 12 * i - 7] for i in range(3)]
    np.testing.assert_array_equal(y.get(), (100 * np.arange(24)[:, None] + np.arange(30)).ravel())


def test_templates_by_name_expression():
    code = "template <class T> __global__ void twice(T* x) { x[threadIdx.x] *= 2; }"
    module = cupy.RawModule(code=code, name_expressions=["twice<float>", "twice<long long>"])
    for name, dtype in (("twice<float>", "f"), ("twice<long long>", "q")):
        x = cupy.arange(5, dtype=dtype)
        module.get_function(name)((1,), (5,), (x,))
        assert x.get().tolist() == [0, 2, 4, 6, 8]


def test_a_python_float_hands_over_the_wrong_bits():
    y, kernel = cupy.zeros(1, "f"), raw("void set(float* y, float v) { *y = v; }", "set")
    kernel((1,), (1,), (y, np.float32(1.1)))
    assert y.get()[0] == np.float32(1.1)
    kernel((1,), (1,), (y, 1.1))
    assert y.get()[0] == np.array([1.1]).view("f")[0] != np.float32(1.1)


# -- errors that it must catch, in this process --------------------------------------------------------


def test_fresh_memory_is_nan_also_where_something_lay():
    for _ in range(3):
        assert cupy.isnan(cupy.empty(1000)).all()
        cupy.ones(1000)


def test_shared_memory_is_nan_at_the_start_of_each_block():
    y = cupy.zeros(3, "f")
    code = "void stale(float* y) { __shared__ float a[4]; y[blockIdx.x] = a[0]; a[0] = 1; }"
    raw(code, "stale")((3,), (1,), (y,))
    assert cupy.isnan(y).all()


@pytest.mark.parametrize(
    "body",
    [
        "if (threadIdx.x < 4) __syncthreads();",
        "if (threadIdx.x >= 4) return;\n __syncthreads();",
        "if (threadIdx.x < 4) { __syncthreads(); }\n else { __syncthreads(); }",
    ],
)
def test_a_divergent_barrier_is_an_error(body):
    with pytest.raises(KernelError, match="kernel diverge: divergent barrier"):
        raw(f"void diverge() {{ {body} }}", "diverge")((1,), (8,), ())
    raw(f"void diverge() {{ {body} }}", "diverge")((1,), (1,), ())  # one thread agrees with itself


def test_launches_that_cuda_refuses():
    kernel = raw("void nothing() {}", "nothing")
    for grid, block in (((2**31 - 1, 1, 1), (1,)), ((1,), (1024,)), ((1, 65535), (1, 2, 64))):
        with emulator.only_blocks(0, 1):
            kernel(grid, block, ())
    for grid, block in (((1,), (2048,)), ((1,), (32, 64)), ((1,), (1, 1, 65)), ((1, 65536), (1,))):
        with pytest.raises(KernelError, match="CUDA_ERROR_INVALID_VALUE: kernel nothing"):
            kernel(grid, block, ())
    library = emulator.kernels.compile('extern "C" __global__ void nothing() {}')
    for grid, block in (((0,), (1,)), ((1,), (0,))):  # CuPy would turn a 0 into a 1
        with pytest.raises(KernelError, match="CUDA_ERROR_INVALID_VALUE: kernel nothing"):
            emulator.kernels.launch(library, "nothing", grid, block, ())
    with pytest.raises(KernelError, match="dynamic shared memory"):
        kernel((1,), (1,), (), shared_mem=48 * 1024 + 1)
    with pytest.raises(KernelError, match="more than 49152 bytes of shared memory"):
        raw("void wide() { __shared__ double a[6145]; a[0] = 0; }", "wide")((1,), (1,), ())
    code = 'struct Many { char a[4097]; }; extern "C" __global__ void many(Many m) {}'
    with pytest.raises(KernelError, match="too many bytes of kernel parameters"):
        cupy.RawModule(code=code).get_function("many")


@pytest.mark.parametrize(
    "function",
    [
        lambda: cupy.sort(cupy.arange(3)),
        lambda: cupy.argsort(cupy.arange(3)),
        lambda: cupy.random.default_rng(0),
        lambda: cupy.random.rand(3),
        lambda: cupy.cuda.runtime.mallocManaged(8),
    ],
)
def test_what_is_compiled_into_cupy_raises(function):
    with pytest.raises(NotImplementedError, match="does not exist in the emulator"):
        function()


def test_counters_and_the_log():
    host, kernel = np.ones((8, 8), "f"), raw("void nothing() {}", "nothing")
    x = cupy.asarray(host)
    x @ x  # compiles the kernel and sets up cuBLAS
    emulator.reset_counters()
    assert not any(emulator.counters().values())
    x = cupy.asarray(host)
    kernel((1,), (1,), ())
    y = x @ x
    z = y.copy()
    z.data.memset(0, z.nbytes)
    z.get()
    cupy.cuda.Device().synchronize()
    event = cupy.cuda.Event()
    event.record()
    event.synchronize()
    found = emulator.counters()
    assert emulator.launch_log()[:2] == ["nothing", "cublasGemmEx"]
    assert found.pop("synchronisations") >= 2
    assert found.pop("launches") + found["device_to_device"] == 2  # the copy is one of the two
    found.pop("device_to_device")
    assert found == {
        "products": 1,
        "host_to_device": 1,
        "host_to_device_bytes": 256,
        "device_to_host": 1,
        "device_to_host_bytes": 256,
        "memsets": 1,
        "allocations": 3,
    }


def test_single_blocks_on_memory_that_is_only_promised():
    n = 2**32 + 512
    x = cupy.empty(n, cupy.uint8)
    code = "void mark(unsigned char* x) { x[blockIdx.x * 512LL + threadIdx.x] = 5; }"
    with emulator.only_blocks(n // 512 - 1, n // 512):
        raw(code, "mark")((n // 512,), (512,), (x,))
    assert x[-512:].get().tolist() == [5] * 512
    assert x[-513].get() == x[512].get() == 0


def test_a_library_is_compiled_once(tmp_path, monkeypatch):
    monkeypatch.setenv("EMULATOR_CACHE", str(tmp_path))
    source = 'extern "C" __global__ void once() {}'
    library = emulator.kernels.compile(source)
    monkeypatch.setattr(emulator.kernels.subprocess, "run", None)
    assert emulator.kernels.compile(source) == library
    assert [path.name for path in tmp_path.iterdir()] == [library.name]
    for other in (source + " ", source.replace("once", "twice")):
        with pytest.raises(TypeError):
            emulator.kernels.compile(other)


# -- errors that it must catch, in a child that may die ------------------------------------------------

HEAD = """
import sys
import cupy, numpy as np
def raw(code, name):
    return cupy.RawKernel('extern "C" __global__ void ' + code, name)
"""


def child(tmp_path, script, *options, **environment):
    path = tmp_path / "script.py"
    path.write_text(HEAD + script)
    command = [sys.executable, "-m", "emulator", *options, str(path), "an", "argument"]
    environment = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


MOVE = """
x, y = cupy.zeros({n}, "f"), cupy.zeros({n}, "f")
kernel = raw("move(const float* x, float* y, int i, int j) {{ y[i] = x[j]; }}", "move")
kernel((1,), (1,), (x, y, np.int32({i}), np.int32({j})))
cupy.cuda.Device().synchronize()
"""
OUTSIDE = {  # n, the index written, the index read, the report
    "read behind": (7, 0, 8, "4 bytes past the end of memory of 28 bytes"),
    "read before": (1024, 0, -1, "4 bytes before the start of memory of 4096 bytes"),
    "written behind": (8, 8, 0, "0 bytes past the end of memory of 32 bytes"),
    "written before": (1024, -2, 0, "8 bytes before the start of memory of 4096 bytes"),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_an_access_out_of_bounds_ends_the_process(tmp_path, name):
    n, i, j, said = OUTSIDE[name]
    inside = child(tmp_path, MOVE.format(n=n, i=n - 1, j=n - 1), "--guard")
    assert inside.returncode == 0, inside.stderr
    outside = child(tmp_path, MOVE.format(n=n, i=i, j=j), "--guard")
    assert outside.returncode < 0
    assert "emulator: kernel move: no access to this address, " + said in outside.stderr


def test_a_write_into_the_gap_before_a_guard_is_found_when_the_memory_is_freed(tmp_path):
    for i, j, dies in ((6, 6, False), (7, 0, True), (-1, 0, True)):
        done = child(tmp_path, MOVE.format(n=7, i=i, j=j) + "del x, y", "--guard")
        assert (done.returncode != 0) == dies, done.stderr
        assert ("has written outside of an array" in done.stderr) == dies


def test_the_report_is_seen_below_pytest(tmp_path):
    test = "def test_it():\n    " + MOVE.format(n=8, i=8, j=0).strip().replace("\n", "\n    ")
    (tmp_path / "test_it.py").write_text(HEAD + test)
    command = [
        sys.executable,
        "-m",
        "emulator",
        "--guard",
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run([*command, tmp_path], capture_output=True, text=True)
    assert done.returncode < 0
    assert "emulator: kernel move: no access to this address, 0 bytes past" in done.stderr


def test_freed_memory_is_not_accessible(tmp_path):
    script = """
x, y = cupy.zeros(100, "f"), cupy.zeros(1, "f")
kernel = raw("read(const float* x, float* y) { *y = x[3]; }", "read")
address = np.uintp(x.data.ptr)
if "{}" == "freed":
    del x
kernel((1,), (1,), (address, y))
"""
    assert child(tmp_path, script, "--guard").returncode == 0
    done = child(tmp_path, script.replace("{}", "freed"), "--guard")
    assert done.returncode < 0
    assert (
        "kernel read: no access to this address, in byte 12 of freed memory of 400" in done.stderr
    )


def test_a_product_that_reads_too_far_is_named(tmp_path):
    script = """
from cupy import cublas
x = cupy.ones((1024, 4))
y = cupy.ndarray((1024, 5), memptr=x.data)
(y.T @ y).get()
"""
    done = child(tmp_path, script, "--guard")
    assert done.returncode < 0
    assert "emulator: kernel cublasGemmEx: no access" in done.stderr


@pytest.mark.parametrize(
    ("body", "harmless"),
    [
        ("__shared__ int a[8]; a[n & 15] = 1; y[0] = a[n & 7];", 3),
        ("int a[3] = {1, 2, 3}; y[0] = a[n & 7];", 2),
        ("y[0] = n * n;", 46340),
    ],
)
def test_an_index_or_an_integer_too_great_ends_the_process(tmp_path, body, harmless):
    for n, dies in ((harmless, False), (46341 | 8, True)):
        script = f'raw("f(int* y, int n) {{{{ {body} }}}}", "f")((1,), (1,), '
        script = script.replace("{{", "{").replace("}}", "}")
        script += f"(cupy.zeros(1, np.int32), np.int32({n})))"
        done = child(tmp_path, script, "--guard")
        assert (done.returncode < 0) == dies, done.stderr
        assert ("kernel f: array index or integer overflow" in done.stderr) == dies


def test_reverse_shows_a_result_that_hangs_on_the_order(tmp_path):
    script = """
y = cupy.zeros(4, np.int32)
raw("last(int* y) { y[0] = threadIdx.x; y[1] = blockIdx.x; }", "last")((3,), (5,), (y,))
raw("met(int* y) { __syncthreads(); y[2] = threadIdx.x; y[3] = blockIdx.x; }", "met")((3,), (5,), (y,))
print(y.get().tolist())
"""
    assert child(tmp_path, script).stdout == "[4, 2, 4, 2]\n"
    assert child(tmp_path, script, "--reverse").stdout == "[0, 0, 0, 0]\n"


def test_the_command_line(tmp_path):
    script = "print(sys.argv[1:], __name__, cupy.empty(2, np.int8).tolist(), cupy.is_available())"
    done = child(tmp_path, script)
    assert done.stdout == "['an', 'argument'] __main__ [-1, -1] True\n", done.stderr
    untouched = "print(cupy.empty(2**28, np.int8).any())"  # as the operating system gives it: zeros
    assert child(tmp_path, untouched).stdout == "True\n"
    assert child(tmp_path, untouched, "--no-poison").stdout == "False\n"
    assert "usage: python -m emulator" in child(tmp_path, script, "--unknown").stderr
    done = child(tmp_path, "", "-m", "this")
    assert "Zen of Python" in done.stdout
    assert "usage: python -m emulator" in child(tmp_path, "", "-m", "--guard").stderr


def test_it_refuses_to_come_too_late(tmp_path):
    done = child(tmp_path, "import emulator; emulator.install()")
    assert "the emulator comes too late" in done.stderr


def test_sources_are_collected(tmp_path):
    script = """
import emulator
raw("f() {}", "f")((1,), (1,), ())
cupy.ones(3) + 1
print(sum('void f() {}' in source for source, _, _ in emulator.sources().values()))
"""
    done = child(tmp_path, script, EMULATOR_SOURCES=str(tmp_path / "sources"))
    assert done.stdout == "1\n", done.stderr
    found = {path.name.split("-")[0]: path for path in (tmp_path / "sources").glob("*.cu")}
    assert {"f", "cupy_add__float64_float_float64"} <= {*found}
    beside = json.loads(found["f"].with_suffix(".json").read_text())
    assert "-ftz=true" in beside["options"]
    assert beside["instances"] == []
