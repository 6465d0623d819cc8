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
    """Hypothesis draws from the constants of the modules that are loaded, at each example.

    A module that a test is the first to load would change what the same seed draws.
    """
    import minigan  # not before the emulator is in CuPy's place

    for module in pkgutil.walk_packages(minigan.__path__, "minigan."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


@pytest.fixture(scope="session", autouse=True)
def quick_estimate(every_module):
    """Before its first step a run plays steps to estimate the rest, which takes longer than a tiny run.

    Here it is told a constant instead; test_estimate.py has the real one, and so have other processes.
    """
    from minigan.training import estimate, session

    session.estimate = lambda *plan: estimate.Estimate(0.1, 1e6)
    yield
    session.estimate = estimate.estimate


@pytest.fixture(scope="session", autouse=True)
def thread_counts():
    """Which numbers of threads must give the same bytes, of those that a test would try.

    All of them; or, where NumPy's BLAS cannot be kept to one thread, the first, time and again.
    """
    from minigan.backend.threads import blas_trouble  # not before the emulator is in CuPy's place

    trouble = blas_trouble()  # asked here, so that no kernel warns
    return lambda *counts: counts[:1] * len(counts) if trouble else counts


def pytest_terminal_summary(terminalreporter):
    from minigan.backend.threads import blas_trouble

    if trouble := blas_trouble():
        what = "The same bytes were asked of the same number of threads only"
        terminalreporter.write_line(f"{what}. {trouble}.")


@pytest.fixture
def sigint():
    """Where pytest runs in the background SIGINT is ignored, by it and by all that it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
