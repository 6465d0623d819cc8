"""The checker is checked: it must see every planted error, and accept what is right."""

import re
import sys

import numpy as np
import pytest
from strategies import leaf

import minigan.functional as F
from minigan import gradcheck, gradgradcheck, tensor
from minigan.gradcheck import GradcheckError
from minigan.tensor import Tensor, op


@pytest.fixture(autouse=True)
def scratch_operations(monkeypatch):
    """Operations made in a test are forgotten after it."""
    engine = sys.modules["minigan.tensor"]
    monkeypatch.setattr(engine, "OPERATIONS", dict(engine.OPERATIONS))


def planted(forward, *rules):
    """An operation with the given backward rules, made only when a test calls it."""
    return lambda *inputs: op(*rules)(lambda xp, *arrays: forward(*arrays))(*inputs)


def inputs(*shapes):
    return [leaf(np.random.default_rng([3, i]), shape) for i, shape in enumerate(shapes)]


square = lambda x: x * x
centre = lambda x: x - x.mean(0, keepdims=True)
RIGHT = {
    "square": (planted(square, lambda g, y, x: 2 * g * x), [(2, 3)]),
    "matmul": (F.matmul, [(2, 2), (2, 2)]),
    "centre": (planted(centre, lambda g, y, x: g - g.mean(0, keepdim=True)), [(4, 3)]),
}

WRONG = {  # by what is wrong with them: an operation, and the shapes of its inputs
    "scaled by 1.001": (planted(square, lambda g, y, x: 2.002 * g * x), [(2, 3)]),
    "zero": (planted(square, lambda g, y, x: g * 0.0), [(2, 3)]),
    "sign flipped": (planted(square, lambda g, y, x: -2 * g * x), [()]),
    "upstream gradient ignored": (planted(square, lambda g, y, x: g * 0 + 2 * x), [(3,)]),
    "one element wrong": (
        planted(square, lambda g, y, x: 2 * g * x * tensor([1.0] * 5 + [1.0001], dtype=x.dtype)),
        [(6,)],
    ),
    "transposed": (
        planted(
            np.matmul,
            lambda g, y, a, b: (g @ b.transpose(0, 1)).transpose(0, 1),
            lambda g, y, a, b: a.transpose(0, 1) @ g,
        ),
        [(2, 2), (2, 2)],
    ),
    "one input's rule is another's": (
        planted(lambda a, b: a * b, lambda g, y, a, b: g * a, lambda g, y, a, b: g * a),
        [(3,), (3,)],
    ),
    "one term dropped": (planted(lambda x: x**3 + x, lambda g, y, x: g * 3 * x * x), [(3,)]),
    "a statistic taken for constant": (planted(centre, lambda g, y, x: g), [(4, 3)]),
    # its true gradient sums to zero, so upstream ones would find nothing wrong with zero
    "zero where ones would not see it": (planted(centre, lambda g, y, x: g * 0.0), [(4, 3)]),
    "a broadcast not summed up": (
        planted(lambda a, b: a * b, lambda g, y, a, b: g * b, lambda g, y, a, b: (g * a)[:1]),
        [(3, 2), (1, 2)],
    ),
    "half of a tie": (planted(square, lambda g, y, x: g * x), [(2,)]),
}

WRONG_AT_SECOND_ORDER = {
    "data of a smooth quantity": (
        planted(np.tanh, lambda g, y, x: g * Tensor(1 - y.data**2)),
        [(3,)],
    ),
    "a gradient without history": (
        planted(np.tanh, lambda g, y, x: Tensor(g.data * (1 - y.data**2))),
        [(3,)],
    ),
    "one of two gradients without history": (
        planted(
            lambda a, b: a * b, lambda g, y, a, b: Tensor(g.data * b.data), lambda g, y, a, b: g * a
        ),
        [(3,), (3,)],
    ),
    "a factor detached": (
        planted(lambda a, b: a * b, lambda g, y, a, b: g * b.detach(), lambda g, y, a, b: g * a),
        [(2,), (2,)],
    ),
}


def normalize_with_frozen_second_order(g, y, x):
    r = Tensor(x.data.var(0, keepdims=True) ** -0.5)  # right, but not a function of x any more
    return r * (g - g.mean(0, True) - y * (g * y).mean(0, True))


WRONG_AT_SECOND_ORDER["a statistic frozen in the rule"] = (
    planted(lambda x: (x - x.mean(0)) / x.std(0), normalize_with_frozen_second_order),
    [(5, 2)],
)


def cases(table):
    return pytest.mark.parametrize(("fn", "shapes"), list(table.values()), ids=list(table))


@cases(RIGHT)
def test_right_gradients_are_accepted(fn, shapes):
    assert gradcheck(fn, inputs(*shapes)) is True
    assert gradgradcheck(fn, inputs(*shapes)) is True


@cases(WRONG)
@pytest.mark.parametrize("seed", range(3))
def test_wrong_gradients_are_rejected(fn, shapes, seed):
    with pytest.raises(GradcheckError):
        gradcheck(fn, inputs(*shapes), seed=seed)


@cases(WRONG_AT_SECOND_ORDER)
@pytest.mark.parametrize("seed", range(3))
def test_a_right_first_order_does_not_hide_a_wrong_second(fn, shapes, seed):
    assert gradcheck(fn, inputs(*shapes), seed=seed)
    with pytest.raises(GradcheckError):
        gradgradcheck(fn, inputs(*shapes), seed=seed)


def test_the_message_names_the_input_the_direction_and_both_values():
    fn = planted(lambda a, b: a * b, lambda g, y, a, b: g * b, lambda g, y, a, b: g * a * 3)
    with pytest.raises(GradcheckError) as failure:
        gradcheck(fn, inputs((2,), (2,)))
    pattern = (
        r"input 1 of shape \(2,\), random direction 0: the gradient gives (\S+), central "
        r"differences give (\S+) \(relative deviation (\S+), allowed 1e-06\)"
    )
    analytic, numerical, deviation = map(float, re.fullmatch(pattern, str(failure.value)).groups())
    assert analytic == pytest.approx(3 * numerical, rel=1e-6)
    assert 0.1 < deviation < 1


def test_a_check_of_nothing_is_refused():
    (x,) = inputs((2,))
    with pytest.raises(ValueError, match="none of the inputs requires a gradient"):
        gradcheck(F.tanh, x.detach())
    with pytest.raises(GradcheckError, match="no output of fn depends"):
        gradcheck(lambda x: x.detach(), x)
    with pytest.raises(ValueError, match="input 1 is float32; differences need float64"):
        gradcheck(F.maximum, [x, tensor([1.0])])


def test_an_input_that_the_output_should_depend_on_but_is_detached_from_is_found():
    with pytest.raises(GradcheckError, match="input 1"):
        gradcheck(lambda a, b: a * b.detach(), inputs((2,), (2,)))


def test_all_outputs_count_and_inputs_of_any_kind_are_passed_on():
    x, y = inputs((2, 2), (2,))
    index = tensor([1, 0])  # neither float64 nor differentiable: passed through
    fn = lambda x, y, i: (x[i] * y, x.detach(), (y * y).sum())
    assert gradcheck(fn, [x, y, index])
    assert gradgradcheck(fn, [x, y, index])
    wrong = planted(square, lambda g, y, x: g * x)
    with pytest.raises(GradcheckError):
        gradcheck(lambda x: (x * 2, wrong(x)), x)


def test_the_inputs_are_left_as_they_were():
    (x,) = inputs((3,))
    x.data.flags.writeable = False
    assert gradgradcheck(F.tanh, x)
    assert x.grad is None
    assert x.version == 0
