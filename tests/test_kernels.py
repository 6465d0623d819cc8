"""The CPU's fast kernels against the reference, over random geometries, dtypes and thread counts."""

import multiprocessing
import threading
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_info, threadpool_limits

import minigan.functional as F
from minigan import tensor
from minigan.backend import (
    convolution,
    cpu,
    filtering,
    memory,
    planes,
    reference,
    rows,
    sums,
    threads,
    winograd,
)
from minigan.backend.reference import Window

# Sums of up to 4,000 products in another order: tens of roundings, relative to the largest number.
TOLERANCE = {np.float64: 1e-13, np.float32: 3e-5}
KERNELS = ("conv", "conv_image", "conv_weight")
BOTH = ("conv_gradients", "conv_image_gradients")


@pytest.fixture(autouse=True)
def threads_given_back(monkeypatch):
    monkeypatch.setattr(threads, "_threads", threads.get_num_threads())


@st.composite
def any_window(draw):
    """Kernels that fit on a padded image, drawn for each direction separately."""
    directions = []
    for _ in range(2):
        pad, stride, grid = (
            draw(st.integers(0, 4)),
            draw(st.integers(1, 3)),
            draw(st.integers(1, 5)),
        )
        kernel = draw(st.integers(max(1, 2 * pad - (grid - 1) * stride + 1), 2 * pad + 5))
        rest = draw(st.integers(0, stride - 1))
        directions.append((kernel + (grid - 1) * stride + rest - 2 * pad, kernel, stride, pad))
    return Window(*zip(*directions, strict=True))


@st.composite
def filtered_window(draw):
    """A geometry to which minimal filtering applies."""
    image = (4 * draw(st.integers(1, 4)), 4 * draw(st.integers(1, 4)))
    return Window(image, (4, 4), (2, 2), (1, 1))


def operands(window, n, c, o, dtype, seed):
    """x, w, y for the three kernels; the seed draws the memory order of image and grid."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, *window.image, c)).astype(dtype).transpose(0, 3, 1, 2)
    y = rng.standard_normal((n, o, *window.grid)).astype(dtype)
    w = rng.standard_normal((o, c, *window.kernel)).astype(dtype)
    if seed % 2:
        x, y = np.ascontiguousarray(x), y.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2)
    gradients = {"conv_gradients": ([0, 1], x, w, y), "conv_image_gradients": ([0, 1], w, y, x)}
    return {"conv": (x, w), "conv_image": (w, y), "conv_weight": (x, y), **gradients}


def assert_alike(result, expected, dtype):
    assert result.shape == expected.shape
    assert result.dtype == expected.dtype == dtype
    scale = np.abs(expected).max(initial=1)
    np.testing.assert_allclose(result, expected, rtol=0, atol=TOLERANCE[dtype] * scale)


sizes = st.integers(1, 6)
dtypes = st.sampled_from([np.float32, np.float64])
seeds = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("kernel", KERNELS)
@given(window=any_window(), n=st.integers(0, 9), c=sizes, o=sizes, dtype=dtypes, seed=seeds)
def test_kernels_equal_the_reference_on_any_geometry(kernel, window, n, c, o, dtype, seed):
    arguments = operands(window, n, c, o, dtype, seed)[kernel]
    assert_alike(
        getattr(cpu, kernel)(np, *arguments, window),
        getattr(reference, kernel)(np, *arguments, window),
        dtype,
    )


@pytest.mark.parametrize("kernel", KERNELS)
@given(window=filtered_window(), n=st.integers(1, 70), c=sizes, o=sizes, dtype=dtypes, seed=seeds)
def test_minimal_filtering_equals_the_reference(kernel, window, n, c, o, dtype, seed):
    assert filtering.applies(window)
    arguments = operands(window, n, c, o, dtype, seed)[kernel]
    assert_alike(
        getattr(filtering, kernel)(*arguments, window),
        getattr(reference, kernel)(np, *arguments, window),
        dtype,
    )


def dcgan_window(side):
    """The window of a DCGAN layer whose image has this number of pixels per side."""
    return Window((side, side), (4, 4), (2, 2), (1, 1))


WAYS = {  # window, images, channels: filtered, filtered at once, or in planes
    "filtering, in blocks": (dcgan_window(16), 160, (24, 16), [True, False, False]),
    "filtering, at once": (dcgan_window(16), 20, (24, 16), [True, True, False]),
    "columns, few channels": (dcgan_window(32), 160, (3, 16), [False, False, True]),
    "kernel 3": (Window((16, 16), (3, 3), (1, 1), (1, 1)), 20, (128, 128), [False, False, False]),
    "to few channels": (Window((16, 16), (7, 7), (1, 1), (3, 3)), 9, (24, 3), [False, False, True]),
    "columns": (Window((17, 16), (3, 5), (2, 1), (1, 2)), 160, (24, 16), [False, False, False]),
}


@st.composite
def laid_out(draw):
    """An array of small whole numbers, whose sums are exact, in any memory order; and some axes."""
    shape = draw(st.lists(st.sampled_from([0, 1, 2, 3, 5, 12, 23]), max_size=4))
    x = np.random.default_rng(draw(seeds)).integers(-9, 10, shape)
    x = np.asarray(x.astype(draw(st.sampled_from(["f2", "f4", "f8", "u1", "i4", "i8", "?"]))))
    x = np.asarray(x.transpose(draw(st.permutations(range(x.ndim)))))
    x = x[tuple(slice(None, None, draw(st.sampled_from([1, 1, 2, -1]))) for _ in shape)]
    if draw(st.booleans()):
        x = np.broadcast_to(x[..., None], (*x.shape, 5))
    axes = draw(st.sets(st.sampled_from(range(x.ndim)))) if x.ndim else ()
    return x, tuple(sorted(axes))


@given(laid_out(), st.booleans(), st.integers(1, 4), st.sampled_from([1, 9, 99]))
def test_a_sum_taken_in_parts_is_the_sum(drawn, keepdims, terms, run):
    array, axes = drawn
    with patch.object(sums, "TERMS", terms), patch.object(sums, "RUN", run):
        for x in (array, array.copy(), array.copy("F")):
            kind = x.dtype if x.dtype.kind == "f" else np.int64
            expected = x.sum(axis=axes, keepdims=keepdims, dtype=np.float64)
            found = np.asarray(cpu.total(np, x, axes, keepdims))
            assert (found.dtype, found.shape) == (kind, np.shape(expected))
            np.testing.assert_array_equal(found, expected)
            if x.dtype.kind == "f" and x.size:
                count = x.size / max(1, np.size(expected))
                mean = cpu.average(np, x, axes, keepdims)
                np.testing.assert_array_equal(mean, (expected / count).astype(x.dtype))


@pytest.mark.parametrize("kernels", [cpu, reference])
def test_adam_refuses_float16_before_it_changes_anything(kernels):
    p, g, m, v = np.ones((4, 3), np.float32)
    half = [a.astype(np.float16) for a in (p, g, m, v)]
    with pytest.raises(TypeError, match=r"float16 cannot hold squares of gradients; use .to\("):
        kernels.adam(np, [(p, g, m, v, 1), (*half, 1)], 0.1, (0.9, 0.999), 1e-8)
    assert all((a == 1).all() for a in (p, g, m, v, *half))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("count", [1, 3])
def test_lerp_moves_arrays_of_any_order_towards_others(count, dtype, monkeypatch):
    monkeypatch.setattr(rows, "ELEMENTS", 50)  # several blocks
    threads.set_num_threads(count)
    rng = np.random.default_rng(0)
    moved, expected = [], []
    for shape, axes in (((), ()), ((0, 2), (0, 1)), ((7,), (0,)), ((6, 5, 4, 3), (2, 3, 1, 0))):
        for order in (axes, axes[::-1]):  # in the same memory order, and in another
            slow, fast = rng.standard_normal((2, *shape)).astype(dtype)
            lay = lambda a, axes: np.asarray(a).transpose(axes).copy().transpose(np.argsort(axes))
            slow, fast = lay(slow, axes), lay(fast, order)
            expected.append(slow + 0.25 * (fast - slow))
            moved.append((slow, fast))
    gaps = rng.standard_normal((2, 8, 5)).astype(dtype)[:, ::2]
    expected.append(gaps[0] + 0.25 * (gaps[1] - gaps[0]))
    moved.append(tuple(gaps))
    others = [fast.copy() for _, fast in moved]
    cpu.lerp(np, moved, 0.25)
    for (slow, fast), e, other in zip(moved, expected, others, strict=True):
        assert slow.dtype == dtype
        np.testing.assert_array_equal(slow, e)
        np.testing.assert_array_equal(fast, other)


@pytest.mark.parametrize("kernels", [cpu, reference])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (5,), (4, 3), (3, 2, 5, 7), (2, 3, 300, 300)])
def test_what_a_relu_cut_off_has_no_gradient(kernels, dtype, shape):
    rng = np.random.default_rng(0)
    x, plain = rng.standard_normal((2, *shape)).astype(dtype)
    y = np.asarray(kernels.leaky_relu(np, x, 0.0))
    plain = np.where(y > 0, plain, 0)
    g = np.where(y > 0, plain, rng.choice([np.inf, -np.inf, np.nan, 1, -1], shape)).astype(dtype)
    np.testing.assert_array_equal(kernels.keep(np, g, y > 0), plain)
    np.testing.assert_array_equal(kernels.leaky_relu_gradient(np, g, y, 0.0), plain)
    if len(shape) > 1 and dtype != np.float16:  # the norm computes in float32
        one = np.ones((1, shape[1], *[1] * (len(shape) - 2)), dtype)
        pair = [
            kernels.batch_norm_gradients(np, v, y, x, one * 0, one, one, 0.0) for v in (g, plain)
        ]
        for found, expected in zip(*pair, strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@given(slope=st.floats(0, 1, exclude_max=True))
def test_a_leaky_relu_passes_on_exactly_the_gradient_or_the_slope_times_it(dtype, slope):
    found = rows._bend(np.array([1, 0], dtype), slope)
    assert found.tolist() == [1, dtype(slope)]


@pytest.mark.parametrize("kernel", [*KERNELS, *BOTH])
@pytest.mark.parametrize("way", WAYS)
def test_the_bytes_do_not_depend_on_the_number_of_threads(way, kernel, thread_counts):
    window, n, channels, expected = WAYS[way]
    arguments = operands(window, n, *channels, np.float32, 1)[kernel]
    results = []
    with (
        patch.object(filtering, "_filter", wraps=filtering._filter) as filtered,
        patch.object(filtering, "_filter_at_once", wraps=filtering._filter_at_once) as at_once,
        patch.object(planes, "_shifts", wraps=planes._shifts) as in_planes,
    ):
        for count in thread_counts(1, 2, 4):
            threads.set_num_threads(count)
            found = getattr(cpu, kernel)(np, *arguments, window)
            results.append([a.tobytes() for a in (found if kernel in BOTH else [found])])
    assert results[0] == results[1] == results[2]
    assert [filtered.called, at_once.called, in_planes.called] == expected


def test_small_batches_are_not_filtered():
    window = Window((8, 8), (4, 4), (2, 2), (1, 1))
    assert convolution._filter(16, (8, 8), window) is filtering
    assert convolution._filter(15, (8, 8), window) is None
    assert convolution._filter(16, (3, 64), window) is None  # nor are few channels
    window = Window((8, 8), (3, 3), (1, 1), (1, 1))
    assert convolution._filter(4, (64, 64), window) is winograd
    assert convolution._filter(3, (64, 64), window) is None
    assert convolution._filter(4, (63, 64), window) is None


@pytest.mark.parametrize(("channels", "kept"), [(4, True), (5, False)])  # 64 c and 16 c^2 numbers
def test_a_transformed_weight_larger_than_the_image_is_not_kept(channels, kept):
    x, w, memo = np.ones((1, channels, 8, 8)), np.ones((channels, channels, 3, 3)), {}
    winograd.conv(x, w, Window((8, 8), (3, 3), (1, 1), (1, 1)), memo)
    assert ("taps" in memo) is kept


def test_arrays_begin_at_a_line_of_the_cache():
    for size in range(1, 200, 7):
        array = threads.empty((size, 3), np.float32)
        assert (array.shape, array.ctypes.data % threads.LINE) == ((size, 3), 0)


@pytest.mark.parametrize("kernel", BOTH)
def test_the_gradients_use_the_weights_transform_that_the_forward_pass_kept(kernel):
    window = dcgan_window(16)
    _, *arrays = operands(window, 20, 24, 16, np.float32, 1)[kernel]
    x, w = operands(window, 20, 24, 16, np.float32, 1)["conv"]
    memo = {}
    filtering.conv(x, w, window, memo)
    kept = {"taps": memo["taps"] * 0}
    expected = getattr(filtering, kernel)(*arrays, window, memo)
    found = getattr(filtering, kernel)(*arrays, window, kept)
    through_w = BOTH.index(kernel)  # which of the two gradients depends on the weight
    np.testing.assert_array_equal(found[through_w], 0)
    np.testing.assert_array_equal(found[1 - through_w], expected[1 - through_w])
    np.testing.assert_array_equal(
        expected[through_w], getattr(filtering, kernel)(*arrays, window)[through_w]
    )


def test_every_block_is_worked_on_once_and_errors_come_through():
    done = []
    threads.share(done.append, 100)
    assert sorted(done) == list(range(100))

    def fail(i):
        if i == 57:
            raise ValueError("block 57")

    with pytest.raises(ValueError, match="block 57"):
        threads.share(fail, 100)


def test_scratch_is_reused_by_a_thread_and_grows():
    small = threads.scratch("test", (10,), np.float32)
    large = threads.scratch("test", (20, 50), np.float64)
    assert large.shape == (20, 50)
    assert not np.shares_memory(small, large)
    address = large.ctypes.data
    del large
    assert threads.scratch("test", (5, 5), np.float64).ctypes.data == address


@pytest.mark.parametrize("value", ["0", "two", "-1"])
def test_a_wrong_number_of_threads_is_named(monkeypatch, value):
    monkeypatch.setenv("MINIGAN_NUM_THREADS", value)
    with pytest.raises(ValueError, match=value):
        threads._available()
    with pytest.raises(ValueError, match="at least 1"):
        threads.set_num_threads(0)
    monkeypatch.setattr(threads, "_threads", None)
    x = tensor(np.ones((9, 9, 9, 9)))
    with pytest.raises(threads.ThreadsError, match=rf"^MINIGAN_NUM_THREADS is '{value}': it must"):
        F.conv2d(x, x, padding=4)


@pytest.mark.parametrize("count", [2.5, 2.0, float("nan"), True, "2", None])
def test_what_is_no_number_of_threads_is_refused(count):
    before = threads.get_num_threads()
    with pytest.raises(TypeError, match="number of threads must be an int"):
        threads.set_num_threads(count)
    assert threads.get_num_threads() == before
    threads.set_num_threads(np.int64(2))
    assert type(threads.get_num_threads()) is int


def test_the_environment_decides_the_number_of_threads(monkeypatch):
    monkeypatch.setenv("MINIGAN_NUM_THREADS", "3")
    assert threads._available() == 3
    monkeypatch.delenv("MINIGAN_NUM_THREADS")
    assert threads._available() >= 1


def _convolved():
    x, w = operands(dcgan_window(16), 160, 24, 16, np.float32, 1)["conv"]
    return cpu.conv(np, x, w, dcgan_window(16)).tobytes()


def _send_convolved(sender):
    sender.send_bytes(_convolved())


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_makes_its_own_threads():
    threads.set_num_threads(2)
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    here = _convolved()  # now this process has helpers
    child = context.Process(target=_send_convolved, args=(sender,), daemon=True)
    child.start()
    assert receiver.poll(60), "the forked process waits for threads that it does not have"
    assert receiver.recv_bytes() == here
    child.join()
    assert child.exitcode == 0


def test_freed_memory_is_kept_only_where_the_c_library_can(monkeypatch):
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    assert not memory.keep_freed_memory()
    monkeypatch.setattr(memory.sys, "platform", "linux")
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    assert not memory.keep_freed_memory()


def settings():
    """Settings that a user may have changed: the threads of each BLAS, and NumPy's buffer."""
    return [lib["num_threads"] for lib in threadpool_info()], np.getbufsize()


@pytest.mark.parametrize("fails", [False, True])
def test_a_kernel_leaves_the_users_settings_as_they_were(fails):
    window, n, channels, _ = WAYS["columns"]
    x, w = operands(window, n, *channels, np.float32, 1)["conv"]
    threads.set_num_threads(2)
    buffer = np.setbufsize(4096)
    try:
        with threadpool_limits(3, user_api="blas"):
            before = settings()
            if fails:
                with pytest.raises(ValueError, match="matmul"):  # in every block of work
                    cpu.conv(np, x, w[:, 1:], window)
            else:
                cpu.conv(np, x, w, window)
            assert settings() == before
    finally:
        np.setbufsize(buffer)


def test_two_threads_at_once_leave_the_users_settings_as_they_were():
    before = settings()
    inside, outside = threading.Barrier(2), []

    def call():
        inside.wait()
        for _ in range(200):
            threads.share(lambda i: None, 3)
        outside.append(True)

    callers = [threading.Thread(target=call) for _ in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert outside == [True, True]
    assert settings() == before
