"""Optimisers against their formulas, written down a second time for single numbers in float64."""

from math import sqrt

import numpy as np
import pytest
from strategies import as_function

from minigan import manual_seed, nn, tensor
from minigan.optim import SGD, Adam, Optimizer, RMSprop
from minigan.tensor import grad


def sgd(p, gradients, lr=1e-3, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False):
    b = None
    for g in gradients:
        g = g + weight_decay * p
        b = g if b is None else momentum * b + (1 - dampening) * g
        p = p - lr * ((g + momentum * b if nesterov else b) if momentum else g)
    return p


def rmsprop(
    p, gradients, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0, momentum=0, centered=False
):
    v = m = b = 0.0
    for g in gradients:
        g = g + weight_decay * p
        v, m = alpha * v + (1 - alpha) * g**2, alpha * m + (1 - alpha) * g
        b = momentum * b + g / (sqrt(v - m**2 if centered else v) + eps)
        p = p - lr * b
    return p


def adam(p, gradients, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    m = v = 0.0
    for t, g in enumerate(gradients, 1):
        g = g + weight_decay * p
        m, v = betas[0] * m + (1 - betas[0]) * g, betas[1] * v + (1 - betas[1]) * g**2
        p = p - lr * (m / (1 - betas[0] ** t)) / (sqrt(v / (1 - betas[1] ** t)) + eps)
    return p


CASES = [
    (SGD, sgd, {}),
    (SGD, sgd, {"lr": 0.1, "weight_decay": 0.1}),
    (SGD, sgd, {"lr": 0.1, "momentum": 0.9}),
    (SGD, sgd, {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
    (SGD, sgd, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    (RMSprop, rmsprop, {}),
    (RMSprop, rmsprop, {"alpha": 0.5, "eps": 0.1, "weight_decay": 0.1}),
    (RMSprop, rmsprop, {"momentum": 0.9}),
    (RMSprop, rmsprop, {"lr": 0.1, "momentum": 0.5, "centered": True}),
    (Adam, adam, {}),
    (Adam, adam, {"lr": 2e-4, "betas": (0.5, 0.999)}),
    (Adam, adam, {"lr": 0.1, "betas": (0.0, 0.5), "eps": 0.1, "weight_decay": 0.1}),
]
each_optimiser = pytest.mark.parametrize(("kind", "formula", "options"), CASES)
SHAPES = [(2, 3), (), (1,)]


def setting(dtype="float64", steps=5):
    """Parameters of several shapes and the gradients of some steps."""
    rng = np.random.default_rng(0)
    draw = lambda: [tensor(np.asarray(rng.standard_normal(s), dtype)) for s in SHAPES]
    return [p.requires_grad_() for p in draw()], [draw() for _ in range(steps)]


def numbers(arrays_or_tensors):
    return np.concatenate([np.asarray(a).ravel() for a in arrays_or_tensors])


@each_optimiser
def test_five_steps_agree_with_the_formula(kind, formula, options):
    parameters, gradients = setting()
    first, arrays = numbers(parameters).tolist(), [p.data for p in parameters]
    optimiser = kind(iter(parameters), **options)
    for grads in gradients:
        optimiser.step(grads)
    rows = np.stack([numbers(grads) for grads in gradients], axis=1).tolist()
    expected = [formula(p, row, **options) for p, row in zip(first, rows, strict=True)]
    np.testing.assert_allclose(numbers(parameters), expected, rtol=1e-12)
    assert all(p.data is a for p, a in zip(parameters, arrays, strict=True))  # in place
    assert [p.version for p in parameters] == [5, 5, 5]


@each_optimiser
def test_a_step_on_grad_attributes_is_a_step_on_the_same_gradients(kind, formula, options):
    (a, gradients), (b, _) = setting("float32"), setting("float32")
    given, attributes = kind(a, **options), kind(b, **options)
    for grads in gradients:
        for p, g in zip(b, grads, strict=True):
            g.data.flags.writeable = False  # gradients are read, never written
            p.grad = g
        given.step(grads)
        attributes.step()
    np.testing.assert_array_equal(numbers(a), numbers(b))
    attributes.zero_grad()
    assert all(p.grad is None for p in b)


@each_optimiser
def test_float32_stays_float32_also_with_numpy_scalars_as_options(kind, formula, options):
    as_numpy = lambda v: (
        tuple(map(np.float64, v)) if isinstance(v, tuple) else v if v is True else np.float64(v)
    )
    (a, gradients), (b, _) = setting("float32"), setting("float32")
    plain = kind(a, **options)
    scalars = kind(b, **{name: as_numpy(value) for name, value in options.items()})
    for grads in gradients:
        plain.step(grads)
        scalars.step(grads)
    np.testing.assert_array_equal(numbers(a), numbers(b))
    state = scalars.state_dict()["state"]
    kept = [t for s in state.values() for t in s.values() if not isinstance(t, int)]
    assert {t.dtype for t in [*b, *kept]} == {np.dtype("float32")}


@each_optimiser
def test_a_saved_optimiser_continues_as_if_nothing_had_happened(kind, formula, options):
    parameters, gradients = setting("float32", steps=6)
    first = kind(parameters, **options)
    for grads in gradients[:3]:
        first.step(grads)
    copies = [tensor(p, requires_grad=True) for p in parameters]
    second = kind(copies, lr=1)  # an int, which must not make an int of what is loaded
    second.load_state_dict(first.state_dict())
    for grads in gradients[3:]:
        first.step(grads)
        second.step(grads)
    np.testing.assert_array_equal(numbers(parameters), numbers(copies))
    assert first.options == second.options
    assert second.state_dict()["param_groups"] == [{**first.options, "params": [0, 1, 2]}]


@each_optimiser
def test_a_parameter_without_gradient_and_its_state_stay_as_they_are(kind, formula, options):
    parameters, gradients = setting()
    before = parameters[1].item()
    optimiser = kind(parameters, **options)
    for grads in gradients:
        optimiser.step([grads[0], None, grads[2]])
    assert parameters[1].item() == before
    assert parameters[1].version == 0
    assert 1 not in optimiser.state_dict()["state"]
    for grads in gradients:  # its own first step is a first step, with Adam's correction of t = 1
        optimiser.step([None, grads[1], None])
    row = [grads[1].item() for grads in gradients]
    assert parameters[1].item() == pytest.approx(formula(before, row, **options), rel=1e-12)


class Foreign:
    """A tensor of PyTorch's, as far as an optimiser's state has them."""

    def __init__(self, value):
        self.value = value

    def __int__(self):
        return int(self.value)

    def __array__(self, dtype=None, copy=None):
        return np.array(self.value, dtype)


def test_a_state_dict_of_pytorchs_form_is_understood():
    p = tensor([1.0, 2.0], requires_grad=True)
    group = {"lr": 0.5, "betas": [0.5, 0.9], "eps": 1e-8, "amsgrad": False, "params": [0]}
    moments = {"exp_avg": Foreign([1.0, 2.0]), "exp_avg_sq": Foreign([3.0, 4.0])}
    optimiser = Adam([p])
    optimiser.load_state_dict(
        {"state": {0: {"step": Foreign(7.0), **moments}}, "param_groups": [group]}
    )
    assert optimiser.options == {
        "lr": 0.5, "betas": (0.5, 0.9), "eps": 1e-8, "weight_decay": 0,
    }  # fmt: skip
    (state,) = optimiser.state
    assert (state["step"], state["exp_avg"].dtype) == (7, np.float32)
    assert state["exp_avg_sq"].tolist() == [3, 4]

    plain = SGD([p], lr=0.1)
    group = {"lr": 0.2, "params": [0]}
    plain.load_state_dict({"state": {0: {"momentum_buffer": None}}, "param_groups": [group]})
    assert plain.state == [{}]
    assert plain.options["lr"] == 0.2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: Adam([]), "Adam: got no parameters"),
        (lambda p: SGD([p], lr=-1), "SGD: lr must not be negative, is -1"),
        (lambda p: Adam([p], betas=(-0.1, 0.9)), "betas must not be negative"),
        (lambda p: Adam([p], betas=(0.9, 1.0)), "betas must be below 1"),
        (lambda p: RMSprop([p], eps=-1e-8), "eps must not be negative"),
        (lambda p: SGD([p], nesterov=True), "nesterov needs a momentum"),
        (lambda p: SGD([p], momentum=0.9, dampening=0.1, nesterov=True), "no dampening"),
        (lambda p: SGD([p]).step([p, p]), "step: 2 gradients for 1 parameters"),
        (lambda p: SGD([p]).step([tensor(1.0)]), r"a gradient \(\) for a parameter \(1,\)"),
        (lambda p: SGD([p]).load_state_dict(SGD([p, p]).state_dict()), "of 2 parameters"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(tensor([1.0], requires_grad=True))


def test_the_base_defines_no_update():
    p = tensor([1.0], requires_grad=True)
    with pytest.raises(NotImplementedError):
        Optimizer([p], weight_decay=0).step([p.detach()])


# -- Adam and finite differences ----------------------------------------------------------------


def numerical_gradients(loss, parameters, h=1e-5):
    """Central differences for every single element of the parameters."""
    result = []
    for p in parameters:
        g = np.empty(p.shape)
        for i in np.ndindex(p.shape):
            kept = p.data[i]
            values = []
            for moved in (kept + h, kept - h):
                p.data[i] = moved
                values.append(loss().item())
            p.data[i] = kept
            g[i] = (values[0] - values[1]) / (2 * h)
        result.append(tensor(g))
    return result


@pytest.mark.parametrize("eps", [1e-8, 0.1])
def test_adam_moves_the_same_by_the_engines_and_by_numerical_gradients(eps):
    manual_seed(0)
    rng = np.random.default_rng(0)
    x, target = (tensor(rng.standard_normal((4, n))) for n in (3, 2))
    fn, leaves = as_function(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double())
    loss = lambda parameters: ((fn(x, *parameters) - target) ** 2).mean()
    engine, numerical = ([tensor(p, requires_grad=True) for p in leaves] for _ in range(2))
    adams = [Adam(p, lr=0.1, eps=eps) for p in (engine, numerical)]
    for _ in range(2):
        before = numbers(engine)
        adams[0].step(grad(loss(engine), engine))
        adams[1].step(numerical_gradients(lambda: loss(numerical), numerical))
        update, expected = numbers(engine) - before, numbers(numerical) - before
        # 1e-6 of each update; the second divides by the root of squares of both gradients
        np.testing.assert_allclose(update, expected, rtol=1e-6)
        assert np.abs(update).min() > 1e-6
