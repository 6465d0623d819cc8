"""Tests of the CuPy path on a device: a real GPU (`pytest -m gpu`) or the emulator.

On machines without a GPU, `tests/test_emulated.py` runs this folder in a child process, as `python -m
emulator -m pytest tests/gpu`.
"""

import emulator
import pytest

from minigan.backend import gpu_trouble

trouble = None if emulator.installed() else gpu_trouble(0)


def pytest_collection_modifyitems(items):
    for item in items:
        if "/gpu/" in item.path.as_posix():
            item.add_marker(pytest.mark.gpu)
            if trouble:
                item.add_marker(pytest.mark.skip(reason=f"no GPU: {trouble}"))
