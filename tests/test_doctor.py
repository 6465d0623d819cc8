"""The doctor passes a healthy machine, finds each planted error, and survives broken machines."""

import json
import math
import re
import subprocess
import sys
from contextlib import nullcontext
from functools import partial
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import strict_cupy
from strict_cupy.state import machine

import minigan.functional as F
from minigan import backend, doctor, tensor
from minigan.__main__ import main
from minigan.backend import cpu, gpu, threads
from minigan.console import pip
from minigan.doctor import Size
from minigan.tensor import OPERATIONS, grad
from minigan.walk import topological

TINY = Size(4, 4, 2, 16)


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """Without CuPy, with cleared caches and short timing."""
    backend.gpu_trouble.cache_clear()
    monkeypatch.setitem(sys.modules, "cupy", None)  # importing it fails
    monkeypatch.setattr(threads, "_threads", threads.get_num_threads())
    monkeypatch.setattr(doctor, "TIMED", {"cpu": TINY, "cuda": TINY})
    monkeypatch.setattr(doctor, "TURNS", 2)
    monkeypatch.setattr(doctor, "TURN_SECONDS", 0.01)
    yield
    backend.gpu_trouble.cache_clear()


@pytest.fixture
def small(monkeypatch):
    """A small amount of work."""
    monkeypatch.setattr(doctor, "TRAININGS", {"tiny DCGAN": TINY})
    large = {"large matmul": doctor.surface.large_cases()["large matmul"]}
    monkeypatch.setattr(doctor.surface, "large_cases", lambda: large)


@pytest.fixture
def few(small, monkeypatch):
    """A minimal amount of work."""
    some = {
        name: doctor.surface.cases()[name] for name in ("add", "tanh", "batch_norm", "conv2d 4x4/2")
    }
    monkeypatch.setattr(doctor.surface, "cases", lambda: some)


@pytest.fixture
def examined(capsys):
    """Run the doctor: the exit code, and what it printed."""

    def examine(*arguments):
        code = main(["doctor", *arguments])
        printed = capsys.readouterr()
        assert printed.err == ""
        return code, printed.out

    return examine


def failed(text):
    """The names of the failed checks."""
    return [line[7:].partition(": ")[0] for line in text.splitlines() if line[:7] == "FAILED "]


def pasted(text):
    """The text between the marker lines."""
    before, begin, rest = text.partition(doctor.BEGIN + "\n")
    report, end, after = rest.partition(doctor.END)
    assert begin
    assert end
    assert before.endswith(doctor.ASK + "\n\n")
    assert after == "\n"
    return report


def raising(error):
    def raise_it(*arguments, **options):
        raise error

    return raise_it


# -- a healthy machine --------------------------------------------------------------------------


def test_a_healthy_cpu_passes_and_every_section_is_there(examined, monkeypatch):
    monkeypatch.setattr(doctor, "TRAININGS", {"tiny DCGAN": TINY, "another": TINY})
    code, text = examined("--threads", "2")
    assert code == 0
    assert failed(text) == []
    for start in ("minigan", "Python", "NumPy", "BLAS", "Pillow", "CPU", "memory"):
        assert f"\n{start}:" in text
    assert "2 threads\n" in text
    assert "\nCuPy:    not installed\n" in text
    number = len(doctor.surface.cases())
    assert f"\nfirst derivatives: {number} of {number} are correct\n" in text
    assert f"\nsecond derivatives: {number} of {number} are correct\n" in text
    assert "\nfloat32: " in text
    for training in doctor.TRAININGS:
        for dtype in ("float32", "float64"):
            (line,) = (x for x in text.splitlines() if x.startswith(f"{training}, {dtype}: "))
            assert line.endswith("allowed; same bits when repeated")
    *_, verdict, speed = text.splitlines()
    assert verdict.startswith("healthy: ")
    assert verdict.endswith(
        f"on cpu; no GPU was tried: CuPy is not installed; {pip('-e', '.[gpu]')}, or use "
        "--device cpu"
    )
    assert speed.startswith("cpu: ")
    assert speed.endswith(" images/s at batch 4")


LOADED = """
import sys
import minigan.doctor
found = [name for name in sys.modules if name.startswith(("minigan.data", "minigan.training"))]
assert not found, found
"""


def test_the_doctor_needs_neither_the_data_nor_the_training():
    """It examines only the layers below these packages, which must work without them."""
    subprocess.run([sys.executable, "-c", LOADED], check=True)


def test_every_operation_is_among_the_cases():
    used = set()
    for name, case in doctor.surface.cases().items():
        inputs = doctor.surface.leaves(name, case, "cpu")
        y = case.fn(*inputs)
        v = tensor(np.ones(y.shape), requires_grad=True)
        made = topological([y, *grad(y, inputs, v, create_graph=True)])
        used |= {t.op.name for t in made if t.op}
    # without a GPU nothing is moved, and without float32 nothing is cast
    assert used == set(OPERATIONS) - {"move", "cast"}


def test_the_bounds_have_room_for_other_kernels_but_not_for_tf32(small, monkeypatch):
    """The reference kernels imitate another machine, 10-bit factors imitate TF32 left on."""
    exact = {k: f("cpu", np.float64) for k, f in doctor.surface.computations().items()}
    metrics = doctor.trained("tiny DCGAN", "cpu", np.float64)
    monkeypatch.setattr(backend.device, "cpu", backend.reference)
    for dtype in doctor.TYPES:
        for name, compute in doctor.surface.computations().items():
            off = doctor.deviation(compute("cpu", dtype), exact[name])
            assert off < doctor.BOUNDS[dtype] / 20, name
    off = doctor.deviation(doctor.trained("tiny DCGAN", "cpu", np.float64), metrics)
    assert off < doctor.STEP_BOUNDS[np.float64] / 100
    off = doctor.deviation(doctor.trained("tiny DCGAN", "cpu", np.float32)[:1], metrics[:1])
    assert off < doctor.STEP_BOUNDS[np.float32] / 100
    rounded = lambda x: (x.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)
    case = doctor.surface.cases()["matmul"]
    a, b = (t.numpy() for t in doctor.surface.leaves("matmul", case, "cpu", np.float32))
    off = doctor.deviation([rounded(a) @ rounded(b)], [a @ b])
    assert doctor.BOUNDS[np.float32] < off < doctor.TF32_BOUND


def test_the_first_step_has_both_halves_from_the_same_weights(small, monkeypatch):
    """So its metrics do not depend on the learning rate, but those of the next step do."""
    first, second, *_ = doctor.trained("tiny DCGAN", "cpu", np.float32)
    monkeypatch.setattr(doctor.DCGAN, "Options", partial(doctor.DCGAN.Options, lr=0.01))
    again, other, *_ = doctor.trained("tiny DCGAN", "cpu", np.float32)
    assert (again == first).all()
    assert (other != second).any()


# -- planted errors -----------------------------------------------------------------------------


def test_a_wrong_rule_is_named_and_a_text_for_a_bug_report_printed(examined, few, monkeypatch):
    monkeypatch.setattr(F.tanh, "rule", lambda i: lambda g, y, x: g * (1.0001 - y * y))
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "minigan", "doctor"])
    code, text = examined()
    assert code == 1
    assert failed(text) == ["first derivatives of tanh on cpu", "second derivatives of tanh on cpu"]
    assert "\nfirst derivatives: 3 of 4 are correct\n" in text
    assert "\nNOT healthy: 2 of " in text
    report = pasted(text)
    assert report.startswith("$ python -m minigan doctor\nminigan: ")
    assert "\nfirst derivatives of tanh on cpu\n  GradcheckError: input 0 of shape (3, 4)" in report
    assert "(gradcheck.py:" in report
    assert report.splitlines()[-1].startswith("NOT healthy: 2 of ")
    assert "images/s" in report


def test_a_wrong_fused_kernel_fails_first_derivatives_alone(examined, few, monkeypatch):
    right = cpu.batch_norm_gradients

    def wrong(xp, g, *others):
        dx, dw, db = right(xp, g, *others)
        return dx, dw * 1.001, db

    monkeypatch.setattr(cpu, "batch_norm_gradients", wrong)
    code, text = examined()
    assert code == 1
    assert failed(text) == ["first derivatives of batch_norm on cpu"]


def test_what_is_wrong_in_float32_alone_is_found_by_comparison(examined, few, monkeypatch):
    right = cpu.conv

    def wrong(xp, x, *others):
        y = right(xp, x, *others)
        return y * np.float32(1.01) if x.dtype == np.float32 else y

    monkeypatch.setattr(cpu, "conv", wrong)
    code, text = examined()
    assert code == 1
    assert failed(text) == [
        "conv2d 4x4/2 on cpu in float32",
        "tiny DCGAN on cpu in float32, compared",
    ]
    assert re.search(
        r"OutOfBound: off by 0\.0\d+ of the largest number, 3e-05 allowed", pasted(text)
    )


def test_other_bits_at_the_second_time_are_found(examined, few, monkeypatch):
    right, drift = doctor.trained, iter(range(1000))

    def wrong(*arguments):
        metrics, *others = right(*arguments)
        return [metrics + 1e-14 * next(drift), *others]

    monkeypatch.setattr(doctor, "trained", wrong)
    code, text = examined()
    assert code == 1
    assert failed(text) == [f"tiny DCGAN on cpu in {t}, repeated" for t in ("float32", "float64")]
    assert "OutOfBound: 1 of " in text


def test_an_error_is_a_failed_check_and_the_next_one_goes_on(examined, few, monkeypatch):
    monkeypatch.setattr(cpu, "conv", raising(MemoryError("the memory\nis full")))
    code, text = examined()
    assert code == 1
    assert len(failed(text)) == 6  # one case in three ways, two runs, one timing
    assert "first derivatives: 3 of 4 are correct" in text
    report = pasted(text)  # one problem, reported once
    assert report.count("MemoryError: the memory\n  is full (test_doctor.py:") == 1
    assert "\nfirst derivatives of conv2d 4x4/2 on cpu, and 5 more checks\n" in report
    assert "images/s" not in text


def test_only_the_end_of_a_long_error_is_shown():
    assert doctor.last_lines(ValueError("\n".join("abcdefghij"))) == "\n".join("efghij")


def test_a_number_that_is_none_and_a_shape_of_its_own_are_found(monkeypatch):
    ones = np.ones(3)
    assert doctor.deviation([ones], [ones * 2]) == 0.5
    assert doctor.deviation([ones, ones[:0]], [ones, ones[:0]]) == 0
    off = doctor.deviation([ones, ones * math.nan, ones], [ones] * 3)
    with pytest.raises(doctor.OutOfBound, match="off by nan"):
        doctor.hold(1, off)
    with pytest.raises(doctor.OutOfBound, match=r"\(3,\), not \(1, 3\)"):
        doctor.deviation([ones], [ones[None]])
    monkeypatch.setattr(doctor.DCGAN, "step", lambda member, draw: {"loss_d": tensor(math.nan)})
    with pytest.raises(ArithmeticError, match=r"metrics of the last step are .*nan"):
        doctor.step_times("cpu")


def test_a_float32_that_becomes_float64_is_found():
    case = doctor.surface.Case(lambda x: x.to("float64"), ((2,),))
    with pytest.raises(TypeError, match="float32 became float64, float32"):
        doctor.surface.derivatives("widened", case, "cpu", np.float32)


def test_a_slow_machine_is_not_asked_for_many_steps(monkeypatch):
    monkeypatch.setattr(doctor, "LIMIT", 0)
    assert len(doctor.step_times("cpu")) == 1
    monkeypatch.setattr(doctor, "LIMIT", 60)
    assert len(doctor.step_times("cpu")) == doctor.TURNS


# -- devices ------------------------------------------------------------------------------------


def test_a_gpu_that_is_asked_for_and_not_there_is_an_error(capsys):
    assert main(["doctor", "--device", "cuda"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: device 'cuda' cannot be used: CuPy is not installed;")


def test_a_cupy_that_cannot_be_imported_is_named(examined, few, monkeypatch, tmp_path):
    (tmp_path / "cupy.py").write_text("raise ImportError('NumPy does not fit')")
    monkeypatch.delitem(sys.modules, "cupy")
    monkeypatch.syspath_prepend(tmp_path)
    code, text = examined()
    assert code == 0
    assert "\nCuPy:    cannot be imported: NumPy does not fit\n" in text
    assert "no GPU was tried: CuPy is not installed properly (NumPy does not fit)" in text


def test_a_gpu_that_is_listed_and_does_not_work_is_a_failed_check(examined, few, monkeypatch):
    module = ModuleType("cupy")
    module.__version__ = "14.2.0"
    module.ones = raising(RuntimeError("CuPy failed to load libnvrtc.so.12"))
    runtime = SimpleNamespace(getDeviceCount=lambda: 1, runtimeGetVersion=lambda: 12090)
    runtime.driverGetVersion = lambda: 0
    module.cuda = SimpleNamespace(runtime=runtime, Device=lambda i: nullcontext())
    monkeypatch.setitem(sys.modules, "cupy", module)
    code, text = examined()
    assert code == 1
    for line in ("CuPy:    14.2.0", "CUDA:    12.9", "driver:  none", "NVRTC:   no answer (Attr"):
        assert f"\n{line}" in text
    assert failed(text) == ["cuda:0"]
    assert "DeviceError: device 'cuda:0' cannot be used: CUDA's libraries are missing" in text
    assert "1 of " in text.splitlines()[-2]
    assert text.splitlines()[-2].endswith("checks failed on cpu")


def test_a_machine_that_says_little_is_no_trouble(monkeypatch):
    monkeypatch.delattr(doctor.machine.os, "sysconf")
    monkeypatch.setattr(doctor.machine.Path, "exists", lambda path: False)
    monkeypatch.setattr(doctor.machine, "threadpool_info", list)
    about = doctor.machine.describe()
    assert about["memory"].startswith("no answer (AttributeError")
    assert about["BLAS"].startswith("unknown")


# -- on the double of CuPy ----------------------------------------------------------------------


@pytest.fixture
def double(monkeypatch):
    return strict_cupy.install(monkeypatch)


def test_a_healthy_gpu_passes_beside_the_cpu(double, small, examined, monkeypatch):
    cases = doctor.surface.cases()
    del cases["tiny G"], cases["tiny D"]  # a third of the time; test_strict_cupy.py has these
    monkeypatch.setattr(doctor.surface, "cases", lambda: cases)
    code, text = examined()
    assert failed(text) == []
    assert code == 0
    number = len(cases)
    assert text.count(f"\nfirst derivatives: {number} of {number} are correct\n") == 2
    assert text.count("\nfloat64: ") == 1  # the GPU's are compared with the CPU's
    assert "on cpu, cuda:0 (strict double 0, compute capability 7.5, " in text
    assert [line.partition(": ")[0] for line in text.splitlines()[-3:-1]] == ["cpu", "cuda:0"]
    assert text.splitlines()[-1] == doctor.THANKS


def test_a_gpu_that_is_lost_meanwhile_is_a_failed_check(double, few, examined, monkeypatch):
    lost = raising(RuntimeError("cudaErrorIllegalAddress"))
    monkeypatch.setattr(double.cuda.Device, "use", lost)
    monkeypatch.setattr(double.cuda.Device, "__enter__", lambda self: self)
    monkeypatch.setattr(double.cuda.Device, "__exit__", lambda *error: None)
    code, text = examined()
    assert code == 1
    assert failed(text) == ["cuda:0"]
    assert "RuntimeError: cudaErrorIllegalAddress" in pasted(text)


def test_one_gpu_alone(monkeypatch, few, examined):
    strict_cupy.install(monkeypatch, devices=2)
    code, text = examined("--device", "cuda:1")
    assert code == 0
    assert "== cuda:1: time" in text
    assert "== cpu" not in text
    assert "== cuda:0" not in text


def test_a_wrong_kernel_of_the_gpu_is_found(double, few, examined, monkeypatch):
    right = gpu.scale_shift
    monkeypatch.setattr(gpu, "scale_shift", lambda *a: right(*a) * 1.0001)
    code, text = examined()
    assert code == 1
    assert failed(text) == [
        "first derivatives of batch_norm on cuda:0",
        "batch_norm on cuda:0 in float32",
        "batch_norm on cuda:0 in float64",
        "tiny DCGAN on cuda:0 in float64, compared",
    ]


def test_a_gpu_whose_memory_is_full_is_named(double, few, examined, monkeypatch):
    monkeypatch.setattr(machine, "limit", 2000)
    code, text = examined("--device", "cuda")
    assert code == 1
    assert "OutOfMemoryError: Out of memory allocating" in pasted(text)


# -- TF32 ---------------------------------------------------------------------------------------


def test_the_process_with_tf32_reports_a_deviation_and_times(capsys):
    assert main(["doctor", "--device", "cpu", "--report-tf32"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert 0 < report["off"] < doctor.BOUNDS[np.float32]  # the CPU has no TF32
    assert len(report["seconds"]) == doctor.TURNS


@pytest.fixture
def ampere(double, few, monkeypatch):
    """A GPU with TF32, the command line that started the doctor, and little else."""
    monkeypatch.setattr(doctor.surface, "cases", dict)
    monkeypatch.setattr(doctor, "TRAININGS", {})
    about = {**double.cuda.runtime.getDeviceProperties(0), "major": 8}
    monkeypatch.setattr(double.cuda.runtime, "getDeviceProperties", lambda n: about)
    monkeypatch.setattr(sys, "orig_argv", ["py", "-X", "dev", "-m", "minigan", "doctor"])


def child(monkeypatch, code=0, out="", err=""):
    """Make every process end like this at once; returns the commands that were started."""
    commands = []

    def run(command, **options):
        commands.append(command)
        return SimpleNamespace(returncode=code, stdout=out, stderr=err)

    # Only of the doctor, because the emulator's compilers are processes too.
    monkeypatch.setattr(doctor, "subprocess", SimpleNamespace(run=run))
    return commands


def test_a_gpu_with_tf32_is_timed_without_and_with_it(ampere, examined, monkeypatch):
    report = json.dumps({"off": 3e-4, "seconds": [0.5, 0.25, 0.4]})
    commands = child(monkeypatch, out="a warning\n" + report + "\n")
    code, text = examined("--device", "cuda")
    assert code == 0
    last = ["-X", "dev", "-m", "minigan", "doctor", "--device", "cuda:0", "--report-tf32"]
    assert commands == [[sys.executable, *last]]
    assert "\ncuda:0 with TF32: 10.0 images/s at batch 4 (8.0 to 16.0), 400.0 ms per step\n" in text
    assert "\nwith TF32, a product is off by 3.0e-04, 0.01 allowed\n" in text
    *_, without, with_tf32, _ = text.splitlines()
    assert without.startswith("cuda:0 without TF32: ")
    assert with_tf32 == "cuda:0 with TF32: 10.0 images/s at batch 4"


@pytest.mark.parametrize(
    ("end", "name", "words"),
    [
        ({"code": 1, "err": "error: gone\n"}, "cuda:0 with TF32", "exited with 1: error: gone"),
        ({"out": '{"off": 0.1, "seconds": [1]}'}, "a product on cuda:0 with TF32", "off by 0.1 of"),
    ],
)
def test_what_fails_with_tf32_is_named(ampere, examined, monkeypatch, end, name, words):
    child(monkeypatch, **end)
    code, text = examined("--device", "cuda")
    assert code == 1
    assert failed(text) == [name]
    assert words in pasted(text)


# -- the command --------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [[], ["nurse"], ["doctor", "--nonsense"]])
def test_what_is_no_command_shows_the_usage(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "usage: minigan" in capsys.readouterr().err


def test_a_wrong_option_is_an_error_in_a_sentence(capsys):
    assert main(["doctor", "--threads", "0"]) == 1
    assert main(["doctor", "--device", "gpu"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "error: --threads 0: must be from 1 to 1024",
        "error: unknown device 'gpu': choose auto, cpu, cuda or cuda:N",
    ]


def test_ctrl_c_ends_it(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "gradcheck", raising(KeyboardInterrupt))
    assert main(["doctor"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_clock_that_stands_still_is_named(monkeypatch):
    monkeypatch.setattr(doctor, "time", SimpleNamespace(perf_counter=lambda: 1.0))
    with pytest.raises(ArithmeticError, match="the clock did not advance during a step"):
        doctor.step_times("cpu")


def test_an_empty_device_is_not_all_of_them(capsys):
    assert main(["doctor", "--device="]) == 1
    assert capsys.readouterr() == (
        "",
        "error: unknown device '': choose auto, cpu, cuda or cuda:N\n",
    )
