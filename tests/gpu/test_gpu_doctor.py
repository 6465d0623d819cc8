"""`python -m minigan doctor` on the device: every case of its surface, and small training runs."""

import pytest

from minigan import doctor


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Small runs and arrays, and no child process, which would have to be started like this one."""
    tiny = doctor.Size(4, 8, 4, 16)
    large = doctor.surface.large_cases()
    kept = {name: large[name] for name in ("sum of many", "large matmul")}
    monkeypatch.setattr(doctor, "TIMED", {"cpu": tiny, "cuda": tiny})
    monkeypatch.setattr(doctor, "TRAININGS", {"tiny DCGAN": tiny})
    monkeypatch.setattr(doctor, "TURN_SECONDS", 0.01)
    monkeypatch.setattr(doctor, "has_tf32", lambda device: False)
    monkeypatch.setattr(doctor.surface, "large_cases", lambda: kept)


def test_the_doctor_finds_the_device_healthy(capsys):
    assert doctor.run("cuda:0") == 0
    text = capsys.readouterr().out
    assert "healthy: " in text
    assert "0 of " not in text
    assert "cuda:0: " in text.splitlines()[-2]


def test_the_doctor_names_a_wrong_kernel(capsys, monkeypatch):
    from minigan.backend import gpu

    right = gpu.batch_norm_gradients
    wrong = lambda *a: tuple(g * 1.001 for g in right(*a))
    monkeypatch.setattr(gpu, "batch_norm_gradients", wrong)
    monkeypatch.setattr(doctor.surface, "large_cases", dict)
    cases = doctor.surface.cases()
    kept = {name: cases[name] for name in ("tanh", "batch_norm")}
    monkeypatch.setattr(doctor.surface, "cases", lambda: kept)
    assert doctor.run("cuda:0") == 1
    text = capsys.readouterr().out
    assert "FAILED first derivatives of batch_norm on cuda:0" in text
    assert "FAILED first derivatives of tanh" not in text
    assert doctor.BEGIN in text
