"""The rounding errors of float32, held to PyTorch's: no fast path may lose much more than it does.

PyTorch's are frozen in `fixtures/precision.json`; `fixtures/precision.py` draws the same inputs again,
and `fixtures/make_precision.py` says how the errors were measured. The exact values are those of the
reference kernels in float64.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest
from precision import CASES, adam, errors, evaluate

import minigan
from minigan import backend
from minigan.backend import cpu, reference
from minigan.normalize import batch_norm_activated

# Minimal filtering multiplies sums and differences: along each direction this doubles the mean square
# of what is added up. So twice PyTorch's error is to be expected, and four times is too much.
ALLOWED = 4

FROZEN = json.loads((Path(__file__).parent / "fixtures/precision.json").read_text("utf-8"))
PYTORCH = {  # the smaller error of its two kinds of kernels
    key: min(error, FROZEN["channels last"][key]) for key, error in FROZEN["channels first"].items()
}
MINIGAN = SimpleNamespace(
    functional=minigan.functional,
    tensor=minigan.tensor,
    grad=minigan.grad,
    optim=minigan.optim,
    batch_norm_activated=lambda x, weight, bias, slope: batch_norm_activated(
        x, None, None, weight, bias, training=True, momentum=0.1, eps=1e-5, slope=slope
    ),
)


@pytest.fixture
def reference_kernels():
    """A context in which the plain kernels are in the place of the fast ones."""
    assert backend.kernels(np) is cpu
    return patch.object(backend, "cpu", reference)


def too_large(name, found, exact):
    """The errors beyond what is allowed, as multiples of PyTorch's."""
    ratios = {key: e / PYTORCH[f"{name}: {key}"] for key, e in errors(found, exact).items()}
    return {key: ratio for key, ratio in ratios.items() if not ratio <= ALLOWED}


@pytest.mark.parametrize("name", CASES)
def test_the_error_of_each_pass_is_like_pytorchs(name, reference_kernels):
    with reference_kernels:
        exact = evaluate(name, MINIGAN, "float64")
    inputs = tuple(CASES[name].shapes)
    for wanted in {inputs, *((key,) for key in inputs)}:  # at once, and each by itself
        found = evaluate(name, MINIGAN, "float32", wanted)
        assert all(array.dtype == np.float32 for array in found.values())
        assert too_large(name, found, exact) == {}


def test_the_error_of_adam_is_like_pytorchs(reference_kernels):
    with reference_kernels:
        exact = adam(MINIGAN, "float64")
    assert too_large("Adam", adam(MINIGAN, "float32"), exact) == {}


def test_no_frozen_error_is_left_out():
    passes = [f"{name}: grad {key}" for name, case in CASES.items() for key in case.shapes]
    passes += [f"{name}: out" for name in CASES]
    assert set(PYTORCH) == {*passes, "Adam: movement", "Adam: exp_avg", "Adam: exp_avg_sq"}
