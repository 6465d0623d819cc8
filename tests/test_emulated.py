"""The real CuPy and every CUDA kernel, run without a GPU: tests/gpu on the emulator.

Each test runs in a child process, because the emulator must be installed before CuPy is imported, and a
kernel that reads out of bounds ends its process. The errors planted at the end test the tests: each
must make them fail.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import emulator
import pytest

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "minigan"

reason = emulator.unavailable()
pytestmark = pytest.mark.skipif(reason is not None, reason=str(reason))


def on_emulator(*arguments, package=PACKAGE, timeout=900):
    """`python -m emulator` with these arguments, in a child that imports this minigan."""
    paths = [package.parent, TESTS, TESTS / "fixtures"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_"))}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, paths))
    command = [sys.executable, "-m", "emulator", *map(str, arguments)]
    return subprocess.run(
        command,
        env=environment,
        cwd=package.parent,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def pytest_of(*arguments):
    return ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *arguments]


KERNELS, ENGINE, TRAINING, DOCTOR, EMULATOR = (
    TESTS / "gpu" / f"test_{name}.py"
    for name in ("gpu_kernels", "gpu_engine", "gpu_training", "gpu_doctor", "emulator")
)


@pytest.mark.parametrize(
    ("how", "files"),
    [
        # new memory full of NaN, and inaccessible pages around each array
        ("--guard", (KERNELS, ENGINE, DOCTOR)),
        ("--guard", (TRAINING, EMULATOR)),
        # threads and blocks in reverse order
        ("--reverse", (KERNELS, ENGINE, TRAINING, DOCTOR)),
    ],
    ids=["guarded kernels and layers", "guarded trainings and emulator", "reversed"],
)
def test_all_agrees_with_numpy(how, files):
    done = on_emulator(how, *pytest_of(*files))
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    assert " passed" in done.stdout
    assert " skipped" not in done.stdout


SEE_TF32 = """
import sys
import tiny
from emulator import blas
asked, multiply = set(), blas.gemmEx
def noting(*arguments):
    if arguments[8] == 0:  # float32 factors
        asked.add(arguments[17])  # cublasComputeType_t
    return multiply(*arguments)
blas.gemmEx = noting
assert tiny.train_celeba.main([*tiny.TINY, "--steps", "1", "--device", "cuda", *sys.argv[1:]]) == 0
print("asked for", asked)
"""


@pytest.mark.parametrize(
    ("flags", "asked"), [(["--tf32"], 77), (["--no-tf32"], 68), ([], 77)], ids=str
)
def test_every_product_of_a_training_may_use_tf32_or_none(flags, asked, tmp_path):
    """77 is CUBLAS_COMPUTE_32F_FAST_TF32, 68 is CUBLAS_COMPUTE_32F."""
    (tmp_path / "see.py").write_text(SEE_TF32)
    done = on_emulator(tmp_path / "see.py", *flags, "--out", tmp_path / "runs")
    assert f"asked for {{{asked}}}" in done.stdout, done.stdout + done.stderr


def gpu_step(*arguments):
    """tests/benchmarks/gpu_step.py, where CUDA finds no GPU and PyTorch is not installed."""
    program = [sys.executable, TESTS / "benchmarks" / "gpu_step.py", "--pytorch", "false"]
    hidden = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_"))}
    return subprocess.run(
        [str(word) for word in (*program, *arguments)],
        env=hidden | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=900,
    )


def test_the_benchmark_for_a_gpu_works(tmp_path):
    """As a toy. Two ways of counting the kernels agree: the emulator's, and CUDA events around each."""
    page, figures = tmp_path / "tables.md", tmp_path / "figures.json"
    done = gpu_step("--toy", "--rounds", 1, "--threads", 1, "--out", page, "--json", figures)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "minigan is measured alone" in done.stdout
    assert done.stdout.endswith(page.read_text())
    games = json.loads(figures.read_text())["games"]
    assert len(games) == 2
    for found in games.values():
        plain, tf32 = found["minigan"], found["minigan, TF32"]
        assert len(found) == 2
        # the emulator rounds nothing to 10 bits
        assert plain["first"][0]["result"] == tf32["first"][0]["result"]
        for one in (plain, tf32):
            assert one["peak"] > 0
            kernels = {name: calls for name, (calls, _) in one["kernels"].items()}
            launched = {n.removeprefix("minigan_"): calls for n, (calls, _) in one["trace"].items()}
            launched["matmul"] = sum(n for name, n in launched.items() if name.startswith("cublas"))
            assert kernels.pop("step") == 1
            assert kernels.pop("everything else") is None
            assert {"im2col", "col2im", "matmul", "adam", "leaky_relu"} <= {*kernels}
            assert kernels == {name: launched[name] for name in kernels}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [((), "use --toy"), (("--toy", "--batch", 4), "--batch 4: a toy has a batch size of its own")],
    ids=["no GPU", "a toy's batch"],
)
def test_the_benchmark_for_a_gpu_refuses_in_a_sentence(arguments, said, tmp_path):
    done = gpu_step(*arguments, "--out", tmp_path / "tables.md")
    assert done.returncode == 1
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("gpu_step: ")
    assert said in sentence
    assert not any(tmp_path.iterdir())


CONVOLUTION, NORM, ADAM = "test_convolution", "test_normalisation", "test_adam"
PLANTED = {
    "im2col: threads beyond the last window": (
        "conv.cu", "if (m >= windows) return;", "", CONVOLUTION),
    "im2col: the padding's sign": ("conv.cu", "* v.sh - v.ph", "* v.sh + v.ph", CONVOLUTION),
    "im2col: one column too many": ("conv.cu", "column < v.w;", "column <= v.w;", CONVOLUTION),
    "im2col: an index of 32 bits": (
        "conv.cu", "((Index)(i * v.kw + j) * channels + c) * windows + m] =\n",
        "(int)(((i * v.kw + j) * channels + c) * windows) + m] =\n", "beyond"),
    "col2im: threads beyond the last pixel": (
        "conv.cu", "if (m >= pixels) return;", "", CONVOLUTION),
    "col2im: windows beyond the grid": ("conv.cu", "if (p >= v.oh) continue;", "", CONVOLUTION),
    "col2im: adds to what was there": ("conv.cu", "+ m] = sum;", "+ m] += sum;", CONVOLUTION),
    "statistics: epsilon left out": ("norm.cu", "squares / count + eps", "squares / count", NORM),
    "statistics: the biased running variance": (
        "norm.cu", "squares / (count - 1)", "squares / count", NORM),
    "sums: a barrier left out": (
        "norm.cu", "half /= 2) {\n        __syncthreads();", "half /= 2) {", NORM),
    "scale_shift: the tail": (
        "norm.cu", "return;\n    for (int c = blockIdx.y; c < channels; c += gridDim.y) {\n"
        "        const Index at = c * count + i;\n        y[at]",
        ";\n    for (int c = blockIdx.y; c < channels; c += gridDim.y) {\n"
        "        const Index at = c * count + i;\n        y[at]", NORM),
    "gradient sums: without the activation": (
        "norm.cu", "const Real gi = leaky_gradient(g[at], y[at], slope);\n        weighted",
        "const Real gi = g[at];\n        weighted", NORM),
    "gradient: NaN of infinity": (
        "norm.cu", "slope == 0 ? Real(0) : slope * g", "slope * g", "behind_a_norm"),
    "gradient image: a term left out": ("norm.cu", " - xhat * (dw[c] / count)", "", NORM),
    "adam: epsilon left out": ("adam.cu", " / a.root + eps", " / a.root", ADAM),
    "adam: numbers moved twice": ("adam.cu", "i += stride", "i += blockDim.x", ADAM),
    "a scalar of the wrong type": (
        "gpu.py", "real(eps), real(momentum)", "float(eps), float(momentum)", NORM),
    "the last block left out": ("gpu.py", "-(-count // THREADS)", "count // THREADS", "several_blocks"),
    "a block of another size": ("gpu.py", "SUMMING = 512", "SUMMING = 256", NORM),
    "an order in memory believed": (
        "gpu.py", "xp.ascontiguousarray(xp.moveaxis(x, 1, 0))", "xp.moveaxis(x, 1, 0)",
        CONVOLUTION),
    "leaky_relu: NaN of infinity": (
        "gpu.py", "x < 0 && slope == 0 ? T(0) : slope * x", "slope * x", "leaky"),
    "leaky_relu_gradient: at 0": ("gpu.py", "x = y > 0 ?", "x = y >= 0 ?", "leaky"),
    "leaky_relu_gradient: NaN of infinity": (
        "gpu.py", "slope == 0 ? T(0) : slope * g", "slope * g", "leaky"),
    "cross_entropy: the sign": ("gpu.py", "- x * t", "+ x * t", "bce"),
    "cross_entropy_gradient: near for far": (
        "gpu.py", "t * (x >= 0 ? far : near)", "t * (x >= 0 ? near : far)", "bce"),
    "scale_pixels: the scale": ("gpu.py", "1 / 127.5f", "1 / 128.f", "bytes"),
    "lerp: the direction": ("gpu.py", "weight * (fast - slow)", "weight * (slow - fast)", "lerp"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(PLANTED))
def test_a_planted_error_is_caught(name, tmp_path):
    file, old, new, tests = PLANTED[name]
    package = shutil.copytree(PACKAGE, tmp_path / "minigan", ignore=shutil.ignore_patterns("__py*"))
    path = package / "backend" / file
    source = path.read_text()
    assert source.count(old) == 1, f"{name}: {old!r} stands {source.count(old)} times in {file}"
    path.write_text(source.replace(old, new))
    arguments = pytest_of(KERNELS, "-k", tests)
    done = on_emulator("--guard", *arguments, package=package)
    found = done.stdout[-3000:] + done.stderr[-3000:]
    assert done.returncode != 0, found
    # failed, or ended by the guard, but not through an error in how it was started
    assert " failed" in done.stdout or done.returncode < 0 or done.returncode == 139, found
