"""Operands that do not fit: the message names the called operation and its operands."""

import numpy as np
import pytest

import minigan
import minigan.functional as F
from minigan import nn, tensor


def ones(*shape, dtype="f"):
    return tensor(np.ones(shape, dtype))


def wide(*shape):
    return ones(*shape, dtype="d")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ones(2, 3) + ones(4), r"add: the shapes \(2, 3\) and \(4,\) do not broadcast"),
        (lambda: ones(2, 3) <= ones(4), r"le: the shapes \(2, 3\) and \(4,\) do not broadcast"),
        (
            lambda: minigan.where(ones(2) > 0, ones(2, 3), 0.0),
            r"where: the shapes \(2, 3\) and \(2,\) do not broadcast",
        ),
        (lambda: ones(3).expand(2, 4), r"expand: \(2, 4\) does not fit the shape \(3,\)"),
        (lambda: ones(2, 3, 4) @ ones(3, 4, 2), r"matmul: .*\(2, 3, 4\) and \(3, 4, 2\)"),
        (lambda: ones(2, 3).reshape(4), r"reshape of \(2, 3\) with shape=\(4,\): cannot"),
        (lambda: minigan.cat([ones(2, 3), ones(4, 3)], 1), r"cat of \(2, 3\) and \(4, 3\) with"),
        (lambda: tensor([2]) ** -1, r"pow: int64 has no negative powers \(-1\); use"),
        (lambda: nn.Linear(3, 2)(ones(2, 4)), r"linear: an input \(2, 4\) and a weight \(2, 3\)"),
        (lambda: F.linear(ones(3), ones(3)), r"linear: an input \(3,\) and a weight \(3,\)"),
        (lambda: F.linear(ones(3), ones(2, 3), ones(1)), r"linear: the bias .* expected \(2,\)"),
    ],
)
def test_shapes_that_do_not_fit_are_named_with_the_operation(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "could not be broadcast" not in str(caught.value)  # NumPy's words


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nn.Linear(3, 2)(wide(2, 3)), "linear: input is float64, weight is float32"),
        (lambda: nn.Conv2d(1, 1, 1)(wide(1, 1, 2, 2)), "conv2d: input is float64, weight is"),
        (lambda: nn.ConvTranspose2d(1, 1, 1)(wide(1, 1, 2, 2)), "conv_transpose2d: input is"),
        (lambda: F.conv2d(ones(1, 1, 2, 2), ones(1, 1, 1, 1), wide(1)), "bias is float64"),
        (lambda: nn.BatchNorm1d(3)(wide(2, 3)), "batch_norm: input is float64, running_mean is"),
    ],
)
def test_dtypes_that_differ_are_named_with_the_arguments(call, message):
    with pytest.raises(TypeError, match=message + r".*\.to\(dtype\)"):
        call()
