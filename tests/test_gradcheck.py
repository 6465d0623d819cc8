"""The checker is tested: it must find every planted error, and accept correct gradients."""

import itertools
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
    """Remove operations that a test made."""
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

WRONG = {  # {error: (an operation with it, the shapes of its inputs)}
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
    # its true gradient sums to zero, so with upstream ones a gradient of zero would pass
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
    r = Tensor(x.data.var(0, keepdims=True) ** -0.5)  # correct, but no longer a function of x
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


each_check = pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
X, Y = inputs((2,), (2,))
NOTHING = {  # calls that would prove nothing: (arguments, options, error, message)
    "no gradient required": ((F.tanh, X.detach()), {}, ValueError, "none of the inputs requires"),
    "no input": ((F.tanh, []), {}, ValueError, "none of the inputs requires"),
    "float32": ((F.maximum, [X, tensor([1.0])]), {}, ValueError, "is float32; central differences"),
    "array": ((F.maximum, [X, Y.numpy()]), {}, TypeError, "input 1 is a ndarray; make it a Tensor"),
    "NaN": ((F.maximum, [X, tensor([np.nan, 0.0], dtype="f8")]), {}, ValueError, "not finite"),
    "twice": ((F.maximum, [X, X]), {}, ValueError, "input 1 is given twice"),
    **{f"directions={v}": ((F.tanh, X), {"directions": v}, ValueError, "integer above 0, not ")
       for v in (0, -1, 2.5, True, "3")},
    **{f"rtol={v}": ((F.tanh, X), {"rtol": v}, ValueError, "number above 0 and below 1, not ")
       for v in (0, -1e-6, 1, np.inf, np.nan, True, "1")},
    **{f"eps={v}": ((F.tanh, X), {"eps": v}, ValueError, "finite number above 0, not ")
       for v in (0, -1e-5, np.inf, np.nan, True, None)},
    "a step that is lost": ((square, tensor([1.0, 1e12], True, "f8")), {}, ValueError,
                            "so large that a step of 1e-05 is lost"),
}  # fmt: skip


@each_check
@pytest.mark.parametrize("name", NOTHING)
def test_a_check_of_nothing_is_refused(check, name):
    arguments, options, error, message = NOTHING[name]
    with pytest.raises(error, match=f"^gradcheck: .*{message}"):
        check(*arguments, **options)


def changing(x):
    y = F.tanh(x)
    x.data += 1
    return y


def counting(calls=itertools.count()):  # noqa: B008, one counter is the point
    return lambda x: x * (1.0 + next(calls))


def growing(calls=itertools.count(1)):  # noqa: B008
    return lambda x: F.cat([x * x] * next(calls), 0)


BAD = {  # functions that cannot be checked: (function, error, message)
    "changes its input": (changing, GradcheckError, "fn changes its input 0 in place"),
    "counts its calls": (counting(), GradcheckError, "fn is not deterministic: .* output 0"),
    "gives more at each call": (growing(), GradcheckError, "outputs of different shapes"),
    "gives nothing": (lambda x: None, TypeError, "fn returns a NoneType, not a Tensor"),
    "gives no output": (lambda x: [], GradcheckError, "no output of fn depends"),
    "gives an array": (lambda x: x.numpy(), TypeError, "fn returns a ndarray, not a Tensor"),
    "gives an array too": (lambda x: (x, x.numpy()), TypeError, "output 1 of fn is a ndarray"),
    "gives a dict": (lambda x: {"y": x * x}, TypeError, "fn returns a dict"),
    "gives float32": (lambda x: x.to("float32") * 2, ValueError, "output 0 of fn is float32"),
    "gives NaN": (lambda x: (x * x).log() * 0 + F.log(x * 0 - 1), GradcheckError, "not finite"),
    "gives infinity": (lambda x: x / (x * 0), GradcheckError, "output 0 of fn holds .* not finite"),
    "cuts the history": (lambda x: x.detach(), GradcheckError, "no output of fn depends"),
    "gives integers": (lambda x: (x * 100).to("int64"), GradcheckError, "no output of fn depends"),
    "is of something else": (lambda x: Y * 2, GradcheckError, "no output of fn depends"),
}  # fmt: skip


@each_check
@pytest.mark.parametrize("name", BAD)
@pytest.mark.filterwarnings("ignore:(invalid value|divide by zero):RuntimeWarning")
def test_a_function_that_cannot_be_checked_is_refused(check, name):
    fn, error, message = BAD[name]
    with pytest.raises(error, match=message):
        check(fn, inputs((2,)))


def test_a_second_output_without_history_is_checked_for_derivatives_of_zero():
    (x,) = inputs((3,))
    assert gradcheck(lambda x: (x * x, (x > 0).to("float64"), x.detach() * 0 + 1), x)
    for lost in (lambda x: x.detach(), lambda x: tensor(np.sin(x.numpy()))):
        with pytest.raises(GradcheckError, match="input 0"):
            gradcheck(lambda x, lost=lost: (x * x, lost(x)), x)


def test_a_function_may_give_its_input():
    (x,) = inputs((3,))
    assert gradcheck(lambda x: x, x)
    assert gradgradcheck(lambda x: x, x)


@pytest.mark.parametrize("wrong", [np.inf, 1e200, 1.7e308])
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_next_to_a_huge_gradient_a_wrong_one_is_not_small(wrong):
    huge = planted(square, lambda g, y, x: g * x.detach() * 0 + wrong)
    for seed in range(8):
        with pytest.raises(GradcheckError):
            gradcheck(huge, inputs((1,)), directions=1, seed=seed)


def test_a_right_gradient_whose_square_overflows_is_accepted():
    assert gradcheck(lambda x: x * 1e200, inputs((2,)))


def test_an_input_that_the_output_should_depend_on_but_is_detached_from_is_found():
    with pytest.raises(GradcheckError, match="input 1"):
        gradcheck(lambda a, b: a * b.detach(), inputs((2,), (2,)))


def test_all_outputs_count_and_inputs_of_any_kind_are_passed_on():
    x, y = inputs((2, 2), (2,))
    index = tensor([1, 0])  # neither float64 nor differentiable: passed through
    fn = lambda x, y, i: (x[i] * y, i, (y * y).sum())
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
