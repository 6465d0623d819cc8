"""Hypothesis profiles, chosen by the environment variable HYPOTHESIS_PROFILE (default: ci)."""

import importlib
import os
import pkgutil
import signal

import pytest
from hypothesis import settings

settings.register_profile("ci", max_examples=10, deadline=None, derandomize=True)
settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile("deep", max_examples=2000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(scope="session", autouse=True)
def every_module():
    """For each example, Hypothesis draws from the constants of all loaded modules.

    So if a test were the first to load a module, the same seed would draw other examples.
    """
    import minigan  # only after the emulator has replaced CuPy

    for module in pkgutil.walk_packages(minigan.__path__, "minigan."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


@pytest.fixture(scope="session", autouse=True)
def quick_estimate(every_module):
    """Replace a run's estimate by a constant, because making it takes longer than a tiny run.

    Before its first step, a run plays some steps to estimate the rest. test_estimate.py tests the real
    estimate, and other processes make it.
    """
    from minigan.training import estimate, session

    session.estimate = lambda *plan: estimate.Estimate(0.1, 1e6)
    yield
    session.estimate = estimate.estimate


@pytest.fixture(scope="session", autouse=True)
def thread_counts():
    """Choose, from the thread counts that a test would try, those that must give the same bytes.

    These are all of them. But where NumPy's BLAS cannot be limited to one thread, they are the first
    count, repeated.
    """
    from minigan.backend.threads import blas_trouble  # only after the emulator has replaced CuPy

    trouble = blas_trouble()  # called here, so that no kernel warns later
    return lambda *counts: counts[:1] * len(counts) if trouble else counts


def pytest_terminal_summary(terminalreporter):
    from minigan.backend.threads import blas_trouble

    if trouble := blas_trouble():
        what = "Bytes were compared only for the same number of threads"
        terminalreporter.write_line(f"{what}. {trouble}.")


@pytest.fixture
def sigint():
    """Handle SIGINT, which pytest and the processes it starts ignore when it runs in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
