"""Devices: their names, and why one is refused. The CPU's kernels agree with the reference."""

import subprocess
import sys
from contextlib import nullcontext
from types import ModuleType, SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigan import backend, tensor
from minigan.backend import DeviceError, cpu, image_norm, reference, resolve_device, rows


@pytest.fixture(autouse=True)
def asked_anew():
    """Findings about GPUs are cached; clear them between tests."""
    backend.gpu_trouble.cache_clear()
    yield
    backend.gpu_trouble.cache_clear()


def cupy(monkeypatch, count=1, version="14.2.0", ones=np.ones):
    """A fake cupy; `count` is its number of GPUs, or the error it raises."""

    def device_count():
        if isinstance(count, Exception):
            raise count
        return count

    module = ModuleType("cupy")
    module.__version__, module.ones = version, ones
    module.cuda = SimpleNamespace(
        runtime=SimpleNamespace(getDeviceCount=device_count), Device=lambda i: nullcontext()
    )
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


def raising(error):
    def raise_it(*arguments):
        raise error

    return raise_it


def test_without_cupy_there_is_the_cpu_and_a_word_on_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # importing it fails
    assert resolve_device("cpu") == resolve_device("auto") == "cpu"
    with pytest.raises(
        DeviceError, match=r"'cuda' .* CuPy is not installed; .* -m pip install -e "
    ):
        resolve_device("cuda")
    with pytest.raises(DeviceError, match="'cuda:3' cannot be used"):
        tensor([1.0]).to("cuda:3")


def test_a_stray_folder_named_cupy_is_not_believed(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", ModuleType("cupy"))  # can be imported, but is empty
    assert resolve_device("auto") == "cpu"
    with pytest.raises(DeviceError, match=r"finds no working GPU.*no attribute '__version__'"):
        resolve_device("cuda")


class CUDARuntimeError(RuntimeError):
    """Has the name of CuPy's error."""


@pytest.mark.parametrize(
    ("made_up", "sentence"),
    [
        (
            {"count": CUDARuntimeError("cudaErrorInsufficientDriver: version is insufficient")},
            r"no NVIDIA driver answers, .* install a newer one; or use --device cpu \(CUDARunt",
        ),
        ({"count": CUDARuntimeError("cudaErrorNoDevice: none")}, "finds no GPU; nvidia-smi should"),
        ({"count": 0}, r"this machine has 0 GPU\(s\)"),
        (
            {"version": "13.6.0"},
            r"CuPy 13.6.0 is too old; .* -m pip install -U 'cupy-cuda12x\[ctk\]>=14",
        ),
        (
            {"ones": raising(RuntimeError("CuPy failed to load libnvrtc.so.12"))},
            r"CUDA's libraries are missing or do not match: .* -m pip install 'cupy-cuda12x\[ctk\]'",
        ),
        ({"ones": raising(MemoryError("Out of memory"))}, "its memory is full: stop the other"),
        ({"ones": np.zeros}, "it computes 1 \\+ 1 incorrectly"),
        ({"ones": raising(KeyError("surprise"))}, r"no working GPU; .*\(KeyError: 'surprise'\)"),
    ],
)
def test_a_gpu_is_believed_when_it_has_computed_and_else_the_remedy_named(
    monkeypatch, made_up, sentence
):
    cupy(monkeypatch, **made_up)
    assert resolve_device("auto") == "cpu"
    with pytest.raises(DeviceError, match=f"device 'cuda:0' cannot be used: .*{sentence}"):
        resolve_device("cuda:0")


def test_gpus_are_counted_from_0(monkeypatch):
    cupy(monkeypatch, 2)
    assert [resolve_device(d) for d in ("auto", "cuda", "cuda:1")] == ["cuda:0", "cuda:0", "cuda:1"]
    with pytest.raises(DeviceError, match=r"this machine has 2 GPU\(s\), numbered from 0"):
        resolve_device("cuda:2")


@pytest.mark.parametrize("name", ["gpu", "", "CPU", "cpu:0", "auto:1", "cuda:", "cuda:x", "cuda:²"])
def test_a_name_that_is_none_is_refused_with_those_that_are(name):
    with pytest.raises(DeviceError, match="choose auto, cpu, cuda or cuda:N"):
        resolve_device(name)


def test_memory_of_another_shape_keeps_the_order_of_the_axes():
    x = np.zeros((2, 3, 4, 5), "f4").transpose(0, 3, 1, 2)  # (2, 5, 3, 4), the channels last
    y = backend.empty_like(x, (6, 5, 7, 8))
    assert (y.shape, y.dtype) == ((6, 5, 7, 8), np.float32)
    assert y.transpose(0, 2, 3, 1).flags.c_contiguous


# -- the CPU's kernels, in blocks of a few numbers, against the reference ------------------------


@pytest.mark.parametrize("channels_last", [False, True])
@given(
    shape=st.lists(st.integers(1, 5), min_size=2, max_size=4),
    slope=st.sampled_from([0.0, 0.2, 1.0, 1.5]),
    elements=st.sampled_from([1, 7, 1000]),
    seed=st.integers(0, 99),
)
def test_kernels_in_blocks_agree_with_the_reference(shape, slope, elements, channels_last, seed):
    rng = np.random.default_rng(seed)
    n, c, *pixels = shape
    if channels_last:
        g, x = (np.moveaxis(rng.standard_normal((n, *pixels, c)).astype("f"), -1, 1) for _ in "gx")
    else:
        g, x = rng.standard_normal((2, *shape)).astype("f")
    w, b = rng.standard_normal((2, 1, c, *[1] * len(pixels))).astype("f")
    mean, var = reference.moments(np, x)
    inv_std = (var + 0.1) ** -0.5
    y = reference.scale_shift(np, x, mean, inv_std, w, b, slope)
    calls = {
        "moments": (x,),
        "batch_statistics": (x, 0.1, 0.1, None),
        "scale_shift": (x, mean, inv_std, w, b, slope),
        "batch_norm_gradients": (g, y, x, mean, inv_std, w, slope),
        "norm": ([x, g[:0], g],),
        "leaky_relu": (x, slope),
        "leaky_relu_gradient": (g, y, slope),
    }
    for name, arguments in calls.items():
        with patch.object(rows, "ELEMENTS", elements):
            found = getattr(cpu, name)(np, *arguments)
        expected = getattr(reference, name)(np, *arguments)
        if not isinstance(found, tuple):
            found, expected = (found,), (expected,)
        for a, e in zip(found, expected, strict=True):
            assert a.dtype == np.float32
            # 1e-5: float32 sums in another order; dw and db may be (C,) or (1, C, 1, 1)
            np.testing.assert_allclose(a.reshape(e.shape), e, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("channels_last", [False, True])
@given(
    shape=st.tuples(st.integers(1, 5), st.sampled_from([2, 4]), st.just(3), st.integers(1, 5)),
    groups=st.sampled_from([1, 2]),
    slope=st.sampled_from([0.0, 0.2, 1.0, 1.5]),
    affine=st.sampled_from(["", "per channel", "per image"]),
    block=st.sampled_from([1, 60, 1000]),
    seed=st.integers(0, 99),
)
def test_group_norm_in_blocks_agrees_with_the_reference(
    shape, groups, slope, affine, block, channels_last, seed
):
    rng = np.random.default_rng(seed)
    g, x = rng.standard_normal((2, *shape)).astype("f")
    if channels_last:
        g, x = (np.moveaxis(np.moveaxis(a, 1, -1).copy(), -1, 1) for a in (g, x))
    images = shape[0] if affine == "per image" else 1
    w, b = rng.standard_normal((2, images, shape[1], 1, 1)).astype("f") if affine else (1.0, 0.0)
    expected = reference.group_norm(np, x, groups, 0.1, w, b, slope)
    y, *stats = expected
    gradients = reference.group_norm_gradients(np, [0, 1, 2], g, y, x, *stats, w, slope)
    with patch.object(image_norm, "BLOCK", block):
        found = cpu.group_norm(np, x, groups, 0.1, w, b, slope)
        found = [*found, *cpu.group_norm_gradients(np, [0, 1, 2], g, y, x, *stats, w, slope)]
    for a, e in zip(found, [*expected, *gradients], strict=True):
        assert a.dtype == np.float32 or a.shape == shape[:2]  # the sums of dw and db are in float64
        # 1e-5: float32 sums in another order; dw and db may be (N, C) or (N, C, 1, 1)
        np.testing.assert_allclose(a.reshape(e.shape), e, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("strided", [False, True])
def test_adam_in_blocks_is_adam(strided):
    rng = np.random.default_rng(0)
    arrays = [np.abs(rng.standard_normal((5, 6))) for _ in range(4)]
    found = [a.copy().T if strided else a.copy() for a in arrays]
    expected = [a.T.copy() if strided else a.copy() for a in arrays]
    with patch.object(rows, "ELEMENTS", 7):
        cpu.adam(np, [(*found, 3)], 0.1, (0.5, 0.9), 1e-8)
    reference.adam(np, [(*expected, 3)], 0.1, (0.5, 0.9), 1e-8)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-14)  # another order of the same arithmetic


def test_the_engine_is_whole_once_it_is_imported():
    """Nothing is imported later, because a signal handler, or __del__ at exit, could not."""
    program = """
import subprocess
import sys
import minigan as mg, minigan.functional as F
before = set(sys.modules)
x = mg.ones(16, 8, 8, 8, dtype=mg.float32).requires_grad_()
y = F.batch_norm(F.conv2d(x, mg.ones(8, 8, 4, 4), stride=2, padding=1), None, None, training=True)
F.leaky_relu(y).sum().backward()
mg.optim.Adam([x]).step()
print(sorted(m for m in set(sys.modules) - before if m.startswith("minigan")), "cupy" in sys.modules)

class Last:
    def __del__(self):
        print((mg.ones(2) * 2).sum().item())

last = Last()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout.split("\n")[:2], done.stderr) == (["[] False", "4.0"], "")
