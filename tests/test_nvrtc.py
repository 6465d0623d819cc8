"""Every CUDA source compiles with NVIDIA's own compiler, for four generations of cards.

NVRTC needs no GPU. The project's kernels are read from their files. Those that CuPy generates are
collected from the emulator, while it runs the derivatives of every layer and then trains.
"""

import json
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import emulator
import pytest
from test_emulated import TESTS, on_emulator, pytest_of

from minigan.backend import gpu

ARCHITECTURES = ["sm_75", "sm_80", "sm_90", "sm_120"]  # T4, A100, H100, RTX 50


def unavailable():
    """Why NVRTC cannot be used here; None if it can."""
    try:
        from cupy_backends.cuda.libs import nvrtc

        nvrtc.getVersion()
    except Exception as error:
        return f"NVRTC cannot be used: {error}"
    return None


reason = unavailable()
pytestmark = pytest.mark.skipif(reason is not None, reason=str(reason))


def machine_code(job):
    """The size of a source's machine code for each architecture. An error holds the compiler's log."""
    source, options, instances = job
    from cupy_backends.cuda.libs import nvrtc

    sizes = []
    for architecture in ARCHITECTURES:
        program = nvrtc.createProgram(source, "kernel.cu", (), ())
        for instance in instances or ():
            nvrtc.addNameExpression(program, instance)
        try:
            nvrtc.compileProgram(program, (*options, f"-arch={architecture}"))
        except Exception as error:
            log = nvrtc.getProgramLog(program)
            raise AssertionError(f"{architecture}: {error}\n{log}\n{source[:3000]}") from None
        sizes.append(len(nvrtc.getCUBIN(program)))
        nvrtc.destroyProgram(program)
    return sizes


@pytest.mark.parametrize("real", ["float", "double"])
@pytest.mark.parametrize("file", ["conv.cu", "norm.cu", "adam.cu"])
def test_the_project_s_kernels_compile(file, real):
    source = Path(gpu.__file__).with_name(file).read_text()
    options = ("-std=c++17", f"-DReal={real}", f"-DMANY={gpu.MANY}")
    assert min(machine_code((source, options, None))) > 0


def test_an_error_in_a_kernel_is_found():
    source = Path(gpu.__file__).with_name("adam.cu").read_text().replace("rest1 * g;", "rest1 * g")
    with pytest.raises(AssertionError, match=r"(?s)sm_75: .*expected a"):
        machine_code((source, ("-std=c++17", "-DReal=float", "-DMANY=32"), None))


@pytest.mark.skipif(emulator.unavailable() is not None, reason=str(emulator.unavailable()))
def test_the_kernels_that_cupy_generates_compile(tmp_path, monkeypatch):
    monkeypatch.setenv("EMULATOR_SOURCES", str(tmp_path))
    files = [TESTS / "gpu" / name for name in ("test_gpu_engine.py", "test_gpu_training.py")]
    done = on_emulator(*pytest_of(*files))
    assert done.returncode == 0, done.stdout[-3000:]
    jobs = []
    for path in sorted(tmp_path.glob("*.cu")):
        described = json.loads(path.with_suffix(".json").read_text())
        jobs.append((path.read_text(), described["options"], described["instances"]))
    assert len(jobs) > 30
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        for sizes in pool.map(machine_code, jobs):
            assert min(sizes) > 0
