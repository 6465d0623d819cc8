"""Matrix products and linear layers: correct for every cut, and the same bytes for any thread count."""

import os
import subprocess
import sys
import threading
from itertools import product
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

import minigan.functional as F
from minigan import tensor
from minigan.backend import cpu, products, threads
from minigan.tensor import grad

SHAPES = [  # of the two factors
    ((2, 2), (2, 2)),
    ((16, 32), (32, 16)),  # the largest that BLAS computes on one thread by itself: two matrices,
    ((1, 64), (64, 128)),  # a matrix and a vector,
    ((1, 8192), (8192, 1)),  # two vectors,
    ((4, 8, 16), (4, 16, 16)),  # a batch
    ((256, 1), (1, 128)),  # all products of two vectors
    ((256, 128), (128, 128)),  # one part
    ((64, 784), (784, 1024)),  # cut along the columns,
    ((1024, 64), (64, 784)),  # the rows,
    ((40, 65, 128), (40, 128, 129)),  # the batch,
    ((2, 20, 64, 128), (2, 20, 128, 128)),  # the longer one of two,
    ((2, 400, 300), (2, 300, 300)),  # the rows of a small batch
    ((300, 501), (501, 401)),
    ((128, 4000), (4000, 100)),  # a long sum
    ((1, 1000), (1000, 1000)),  # a matrix and a vector
    ((1000, 1000), (1000, 1)),
    ((1, 100000), (100000, 1)),  # two vectors
]
LAYOUTS = ("rows", "columns", "gaps")
PAIRS = [*product(LAYOUTS[:2], LAYOUTS[:2]), ("gaps", "gaps")]


@pytest.fixture(autouse=True)
def threads_given_back(monkeypatch):
    monkeypatch.setattr(threads, "_threads", threads.get_num_threads())


def laid(array, layout):
    """The same numbers in memory row by row, column by column, or with gaps."""
    if layout == "columns":
        return array.swapaxes(-1, -2).copy().swapaxes(-1, -2)
    if layout == "gaps":
        return np.repeat(array, 2, axis=-1)[..., ::2]
    return array


def drawn(shapes, dtype):
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


@pytest.fixture
def bytes_by_count(thread_counts):
    """The results of a function with each number of threads, which BLAS could use too."""

    def compute_all(compute):
        found = []
        for count in thread_counts(1, 2, 3):
            threads.set_num_threads(count)
            with threadpool_limits(count, user_api="blas"):
                found.append([array.tobytes() for array in compute()])
        return found

    return compute_all


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_the_bytes_of_a_product_do_not_depend_on_the_number_of_threads(
    shapes, dtype, bytes_by_count
):
    a, b = drawn(shapes, dtype)
    exact = np.matmul(a, b, dtype=np.float64)
    allowed = a.shape[-1] * np.finfo(dtype).eps * np.matmul(abs(a), abs(b), dtype=np.float64)
    for layouts in PAIRS:
        factors = list(map(laid, (a, b), layouts))
        first, *others = bytes_by_count(lambda factors=factors: [cpu.matmul(np, *factors)])
        assert others == [first] * len(others), layouts
        found = np.frombuffer(first[0], dtype).reshape(exact.shape)
        assert (abs(found - exact) <= allowed).all()  # one rounding per term


def test_a_matrix_times_its_own_transpose_keeps_that_too(bytes_by_count):
    """For such a product NumPy has BLAS compute only half of the symmetric result."""
    for n, k in ((16, 32), (90, 1), (100, 90), (400, 300)):
        (a,) = drawn([(n, k)], np.float32)
        first, *others = bytes_by_count(
            lambda a=a: [cpu.matmul(np, a, a.T), cpu.matmul(np, a.T, a)]
        )
        assert others == [first] * len(others)


def linear_and_gradients(n=64, inputs=784, outputs=1024):
    """The output of a linear layer, its three gradients, and the gradients of a gradient's square."""
    arrays = drawn([(n, inputs), (outputs, inputs), (outputs,)], np.float32)
    x, w, b = (tensor(a, requires_grad=True) for a in arrays)
    y = F.linear(x, w, b)
    first = grad((y * y).sum(), [x, w, b], create_graph=True)
    second = grad((first[0] * first[0]).sum(), [x, w])
    return [y.data, *(g.data for g in (*first, *second))]


@pytest.mark.parametrize("sizes", [(64, 784, 1024), (256, 128, 128), (64, 100, 256), (129, 500, 1)])
def test_the_bytes_of_a_linear_layer_do_not_depend_on_the_number_of_threads(sizes, bytes_by_count):
    first, *others = bytes_by_count(lambda: linear_and_gradients(*sizes))
    assert others == [first] * len(others)


@pytest.mark.parametrize("create_graph", [False, True])
def test_the_gradient_of_a_weight_lies_in_memory_as_the_weight_does(create_graph):
    """Adam would have to copy any other into the weight's order."""
    arrays = drawn([(6, 5), (4, 5), (4,)], np.float32)
    x, w, b = (tensor(a, requires_grad=True) for a in arrays)
    (found,) = grad((F.linear(x, w, b) ** 2).sum(), w, create_graph=create_graph)
    assert found.data.strides == w.data.strides


def test_another_process_with_other_threads_gives_the_same_bytes(thread_counts):
    """BLAS reads its number of threads when it is loaded."""
    program = """
import hashlib, test_products
found = test_products.linear_and_gradients()
print([hashlib.sha256(array.tobytes()).hexdigest() for array in found])
"""
    said = set()
    for count in thread_counts(1, 2, 3):
        counts = dict.fromkeys(("OPENBLAS_NUM_THREADS", "MINIGAN_NUM_THREADS"), str(count))
        path = os.pathsep.join([os.path.dirname(__file__), *filter(None, sys.path)])
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | counts | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        said.add(done.stdout)
    assert len(said) == 1


def test_threads_that_multiply_at_once_get_the_same_bytes():
    """For example in a notebook that trains on a separate thread."""
    threads.set_num_threads(2)
    pairs = [drawn(shapes, np.float32) for shapes in SHAPES[:11]]
    found = []

    def multiply():
        for _ in range(10):
            found.append([cpu.matmul(np, a, b).tobytes() for a, b in pairs])

    others = [threading.Thread(target=multiply, daemon=True) for _ in range(2)]
    with threadpool_limits(3, user_api="blas"):
        expected = [cpu.matmul(np, a, b).tobytes() for a, b in pairs]
        for other in others:
            other.start()
        multiply()
        for other in others:
            other.join()
    assert found == [expected] * 30


@given(
    sizes=st.tuples(*[st.integers(0, 5)] * 3),
    batch=st.lists(st.integers(0, 4), max_size=2),
    layouts=st.tuples(*[st.sampled_from(LAYOUTS)] * 2),
    dtype=st.sampled_from([np.float32, np.float64, np.float16, np.int64]),
    work=st.sampled_from([1, 10, 1000]),
)
def test_parts_make_the_whole(sizes, batch, layouts, dtype, work):
    m, k, n = sizes
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-9, 9, (*batch, *s)).astype(dtype) for s in ((m, k), (k, n)))
    expected = np.matmul(a, b)  # of small whole numbers, exact in any order
    with patch.multiple(products, PART_WORK=work, PART_EDGE=1, PARTS=3):
        found = cpu.matmul(np, laid(a, layouts[0]), laid(b, layouts[1]))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("shape", "depth", "axis", "lengths"),
    [
        ((256, 128), 128, 0, [256]),
        ((64, 1024), 784, 1, [384, 384, 256]),
        ((2048, 2048), 2048, 0, [512] * 4),
        ((40, 65, 129), 128, 0, [20] * 2),
        ((2, 400, 300), 300, 1, [128] * 3 + [16]),
        ((100, 200), 10**6, 1, [128, 72]),
    ],
)
def test_where_a_product_is_cut(shape, depth, axis, lengths):
    """Other cuts would give other bytes, so the cuts must not change for the sake of resumed runs."""
    *batch, m, n = shape
    a, b = np.zeros((*batch, m, depth), np.float32), np.zeros((*batch, depth, n), np.float32)
    with patch.object(products.np, "matmul", wraps=np.matmul) as multiplied:
        cpu.matmul(np, a, b)
    parts = [call.kwargs["out"].shape for call in multiplied.call_args_list]
    expected = [(*shape[:axis], length, *shape[axis + 1 :]) for length in lengths]
    assert sorted(parts) == sorted(expected)
