"""Optimisers against their formulas, written again for single numbers in float64."""

import functools
import itertools
import json
import re
from math import sqrt

import numpy as np
import pytest
from strategies import as_function

from minigan import backend, manual_seed, nn, tensor
from minigan.backend import cpu, reference, rows
from minigan.optim import SGD, Adam, Optimizer, RMSprop
from minigan.tensor import grad, no_grad


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
    second = kind(copies, lr=1)  # an int, which must not turn the loaded lr into an int
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
    for grads in gradients:  # its first step has Adam's correction of t = 1
        optimiser.step([None, grads[1], None])
    row = [grads[1].item() for grads in gradients]
    assert parameters[1].item() == pytest.approx(formula(before, row, **options), rel=1e-12)


@each_optimiser
@pytest.mark.parametrize("order", ["C", "F"])
def test_the_tree_is_the_live_state_and_creating_it_early_changes_no_bit(
    kind, formula, options, order
):
    runs = []
    for early in (False, True):
        parameters, gradients = setting("float32")
        for p in parameters:
            p.data = np.asarray(p.data, order=order)
        optimiser = kind(parameters, **options)
        if early:
            tree = optimiser.tree()
            assert set(tree) == {"0", "1", "2"}
            assert optimiser.state_dict()["state"] == {}  # as before the call
        for number, grads in enumerate(gradients):
            optimiser.step([grads[0], grads[1] if number else None, grads[2]])
        runs.append((parameters, optimiser))
    (first, without), (second, with_tree) = runs
    assert [p.data.tobytes() for p in first] == [p.data.tobytes() for p in second]
    assert contents(without) == contents(with_tree)
    for i, (p, state) in enumerate(zip(second, with_tree.state, strict=True)):
        assert tree[str(i)] is state is with_tree.tree()[str(i)]
        assert set(state) == {n for n, on in kind.ENTRIES.items() if on is None or options.get(on)}
        if "step" in state:
            assert (type(state["step"]), state["step"]) == (int, 4 if i == 1 else 5)
        for name, array in state.items():
            if name != "step":
                assert (array.dtype, array.shape, array.strides) == (
                    p.dtype,
                    p.shape,
                    p.data.strides,
                )


@each_optimiser
@pytest.mark.parametrize("stop", [0, 3])
def test_a_run_goes_on_from_the_values_of_its_tree(kind, formula, options, stop):
    parameters, gradients = setting("float32")
    first = kind(parameters, **options)
    for grads in gradients[:stop]:
        first.step(grads)
    copies = [tensor(p, requires_grad=True) for p in parameters]
    second = kind(copies, **options)
    for i, state in second.tree().items():
        for name, value in first.tree()[i].items():
            if name == "step":
                state[name] = value
            else:
                state[name][...] = value
    for grads in gradients[stop:]:
        first.step(grads)
        second.step(grads)
    np.testing.assert_array_equal(numbers(parameters), numbers(copies))
    assert contents(first) == contents(second)


class Foreign:
    """A stand-in for PyTorch's tensors in an optimiser's state."""

    def __init__(self, value):
        self.value = value

    def __int__(self):
        return int(self.value)

    def __array__(self, dtype=None, copy=None):
        return np.array(self.value, dtype)


def test_a_state_dict_of_pytorchs_form_is_understood():
    p = tensor([1.0, 2.0], requires_grad=True)
    off = {"maximize": False, "foreach": None, "capturable": False, "differentiable": False}
    group = {"lr": 0.5, "betas": [0.5, 0.9], "eps": 1e-8, "weight_decay": 0, "params": [0], **off}
    group |= {"amsgrad": False, "fused": True, "decoupled_weight_decay": False, "initial_lr": 1.0}
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
    group = {"lr": 0.2, "momentum": 0, "dampening": 0, "weight_decay": 0, "nesterov": False}
    plain.load_state_dict(
        {"state": {0: {"momentum_buffer": None}}, "param_groups": [{**group, "params": [0], **off}]}
    )
    assert plain.state == [{}]
    assert plain.options["lr"] == 0.2

    group["momentum"], buffer = (
        0.9,
        {"momentum_buffer": Foreign([1.0, 2.0])},
    )  # and no count of steps
    plain.load_state_dict({"state": {0: buffer}, "param_groups": [{**group, "params": [0], **off}]})
    plain.step([tensor([1.0, 1.0])])
    np.testing.assert_allclose(plain.state[0]["momentum_buffer"], [1.9, 2.8])


@each_optimiser
def test_a_state_dict_that_went_through_json_is_the_same(kind, formula, options):
    parameters, gradients = setting("float32")
    first = kind(parameters, **options)
    for grads in gradients:
        first.step(grads)
    text = json.dumps(first.state_dict(), default=lambda t: t.numpy().tolist())
    second = kind([tensor(p, requires_grad=True) for p in parameters])
    second.load_state_dict(json.loads(text))  # where parameter numbers are strings
    assert second.options == first.options
    assert contents(second) == contents(first)


def contents(optimiser):
    """The options and the state, in a form that can be compared."""
    kept = [
        {k: v if k == "step" else (v.dtype, v.tolist()) for k, v in state.items()}
        for state in optimiser.state
    ]
    return optimiser.options, kept


# -- what is refused ------------------------------------------------------------------------------

W = tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
NET = nn.Linear(2, 1)


@pytest.mark.parametrize("kind", [SGD, RMSprop, Adam])
@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        (lambda: [], ValueError, "got no parameters"),
        (lambda: W, TypeError, r"an iterable of tensors, not a single Tensor; give \[w\]"),
        (lambda: NET, TypeError, r"not a Linear; give network.parameters\(\)"),
        (lambda: NET.parameters, TypeError, r"not a method; give network.parameters\(\)"),
        (lambda: None, TypeError, "not a NoneType"),
        (lambda: NET.named_parameters(), TypeError, "parameter 0 is a tuple, not a Tensor"),
        (lambda: NET.state_dict(), TypeError, "parameter 0 is a str"),
        (lambda: W.numpy(), TypeError, "parameter 0 is a ndarray"),
        (lambda: [W, None], TypeError, "parameter 1 is a NoneType"),
        (lambda: [{"params": [W], "lr": 1.0}], TypeError, "make an optimiser for each group"),
        (lambda: [tensor([1, 2])], TypeError, "parameter 0 is int64; convert it"),
        (lambda: [tensor([1.0])], ValueError, r"of shape \(1,\), requires no gradient"),
        (lambda: [W.detach()], ValueError, "requires no gradient"),
        (lambda: [W * 2], ValueError, "non-leaf Tensor: parameter 0, .*, was computed by mul"),
        (lambda: [W[0]], ValueError, "non-leaf Tensor"),
        (lambda: itertools.chain(NET.parameters(), W), ValueError, "non-leaf Tensor: parameter 2"),
        (lambda: [*NET.parameters(), *NET.parameters()], ValueError, "parameter 2 shares the data of "
         "parameter 0; give each parameter once"),
        (lambda: [W, nn.Parameter(W)], ValueError, "parameter 1 shares the data of parameter 0"),
    ],
)  # fmt: skip
def test_parameters_that_cannot_be_trained_are_refused(kind, params, error, message):
    with pytest.raises(error, match=f"^{kind.__name__}: .*{message}"):
        kind(params())


def test_rows_are_refused_where_nothing_is_recorded_too():
    with no_grad(), pytest.raises(ValueError, match="requires no gradient"):
        Adam(list(W))


def test_a_frozen_parameter_stays_as_it_is_and_can_be_thawed():
    network = nn.Linear(2, 1)
    network.weight.requires_grad_(False)
    optimiser = SGD(network.parameters(), lr=1.0)
    before = network.weight.numpy().copy()
    network(tensor([[1.0, 1.0]])).sum().backward()
    optimiser.step()
    assert (network.weight.numpy() == before).all()
    network.weight.requires_grad_()
    network(tensor([[1.0, 1.0]])).sum().backward()
    optimiser.step()
    assert (network.weight.numpy() == before - 1).all()


NAN, INF = float("nan"), float("inf")
FINITE = "must be a finite number of at least 0, not "
WRONG_OPTIONS = [
    *((kind, {"lr": v}, f"lr {FINITE}") for kind in (SGD, RMSprop, Adam)
      for v in (-1, NAN, INF, True, "0.1", None, 10**400, np.array([0.1, 0.2]), 1j)),
    *((SGD, {name: v}, f"{name} {FINITE}") for name in ("momentum", "dampening", "weight_decay")
      for v in (-0.1, NAN, False)),
    *((kind, {"eps": v}, "eps must be a finite number above 0, not ") for kind in (RMSprop, Adam)
      for v in (-1e-8, 0, INF, NAN)),
    *((RMSprop, {"alpha": v}, "alpha must be a number from 0 to below 1") for v in (-0.1, 1, 2, NAN)),
    *((Adam, {"betas": v}, "betas must be two numbers from 0 to below 1") for v in (
        (-0.1, 0.9), (0.9, 1.0), (0.9, NAN), (0.9,), (0.9, 0.99, 0.999), 0.9, "ab", (True, 0.9))),
    (SGD, {"nesterov": 1, "momentum": 0.9}, "nesterov must be True or False, not 1"),
    (RMSprop, {"centered": "yes"}, "centered must be True or False, not 'yes'"),
    (SGD, {"nesterov": True}, "nesterov needs a momentum"),
    (SGD, {"momentum": 0.9, "dampening": 0.1, "nesterov": True}, "nesterov needs .* no dampening"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "options", "message"), WRONG_OPTIONS)
def test_an_option_that_makes_no_sense_is_refused_whenever_it_is_set(kind, options, message):
    message = re.escape(message) if "must" in message else message
    with pytest.raises(ValueError, match=f"^{kind.__name__}: {message}"):
        kind([W], **options)
    p = tensor([1.0], requires_grad=True)
    optimiser = kind([p])
    state = optimiser.state_dict()
    state["param_groups"][0].update(options)
    with pytest.raises(ValueError, match=message):
        optimiser.load_state_dict(state)
    optimiser.options.update(options)
    with pytest.raises(ValueError, match=message):
        optimiser.step([p.detach()])
    assert (p.item(), p.version) == (1, 0)


@pytest.mark.parametrize("kind", [RMSprop, Adam])
@pytest.mark.parametrize(("dtype", "eps"), [("float16", 1e-8), ("float32", 1e-40)])
def test_an_epsilon_that_the_parameters_cannot_hold_is_refused(kind, dtype, eps):
    p = tensor([1.0], requires_grad=True, dtype=dtype)
    with pytest.raises(ValueError, match=f"eps of {eps} is lost in {dtype}"):  # and 0 / 0 is NaN
        kind([p], eps=eps)


def test_a_rate_set_between_steps_may_be_a_scalar_of_numpys():
    p, q = (tensor([1.0, 2.0, 3.0], requires_grad=True) for _ in range(2))
    for x, kind in ((p, float), (q, np.float64)):
        optimiser = SGD([x])
        optimiser.options["lr"] = kind(0.1)
        optimiser.step([tensor([0.1, 0.2, 0.3])])
    assert p.numpy().tobytes() == q.numpy().tobytes()


@pytest.mark.parametrize(
    ("grads", "error", "message"),
    [
        (lambda p: [p, p, p], ValueError, "3 gradients for 2 parameters"),
        (lambda p: p, TypeError, r"a list of gradients, not a Tensor; give \[g\]"),
        (lambda p: [p, p.numpy()], TypeError, "gradient 1 is a ndarray, not a Tensor"),
        (lambda p: [p, 0.0], TypeError, "gradient 1 is a float"),
        (lambda p: [p, tensor(1.0)], ValueError, r"gradient 1 is float32 \(\) on cpu, its parameter "
         r"is float32 \(2,\) on cpu"),
        (lambda p: [p, tensor([[1.0, 2.0]])], ValueError, r"gradient 1 is float32 \(1, 2\) on cpu"),
        (lambda p: [p, tensor([1, 2])], ValueError, r"gradient 1 is int64 \(2,\) on cpu"),
        (lambda p: [p, tensor([1.0, 2.0], dtype="float64")], ValueError, "gradient 1 is float64"),
    ],
)  # fmt: skip
def test_gradients_that_do_not_fit_change_nothing(grads, error, message):
    parameters = [tensor([1.0, 2.0], requires_grad=True) for _ in range(2)]
    optimiser = Adam(parameters)
    with pytest.raises(error, match=f"step: .*{message}"):
        optimiser.step(grads(tensor([1.0, 2.0])))
    assert optimiser.state == [{}, {}]
    assert [(p.numpy().tolist(), p.version) for p in parameters] == [([1, 2], 0)] * 2


@pytest.mark.parametrize("kind", [functools.partial(SGD, momentum=0.9), RMSprop, Adam])
def test_a_network_that_was_converted_under_its_optimiser_is_refused(kind):
    network = nn.Linear(2, 1)
    optimiser = kind(network.parameters())
    x, wide = (tensor([[1.0, 2.0]], dtype=d) for d in ("float32", "float64"))
    optimiser.step(grad(network(x).sum(), optimiser.params))
    network.double()
    with pytest.raises(
        ValueError, match=r"of parameter 0 is float32 .* is now float64 .* on cpu; make"
    ):
        optimiser.step(grad(network(wide).sum(), optimiser.params))


def test_a_parameter_that_is_read_only_is_refused_before_another_has_moved():
    p, q = (tensor([1.0], requires_grad=True) for _ in range(2))
    q.data.flags.writeable = False
    optimiser = SGD([p, q])
    with pytest.raises(ValueError, match="parameter 1 is read-only"):
        optimiser.step([p.detach(), p.detach()])
    assert p.item() == 1


def entry(**changes):
    return lambda s: s["state"][0].update(changes)


def group(**changes):
    return lambda s: s["param_groups"][0].update(changes)


MISFITS = {  # a change of Adam's state dict, and the error
    "another optimiser's": (lambda s: s["param_groups"][0].pop("betas"), "lacks betas"),
    "an option that is missing here": (group(amsgrad=True), "with the option amsgrad"),
    "AdamW's": (group(decoupled_weight_decay=True), "with the option decoupled_weight_decay"),
    "two groups": (lambda s: s["param_groups"].append({}), "must have exactly one parameter group"),
    "no group": (lambda s: s["param_groups"].clear(), "must have exactly one parameter group"),
    "a group of text": (lambda s: s.update(param_groups="x"), "must have exactly one parameter group"),
    "an entry too many": (lambda s: s.update(more=1), "with the two entries state and param_groups"),
    "no state": (lambda s: s.pop("state"), "with the two entries"),
    "a state that is a list": (lambda s: s.update(state=[]), "the state must be a dict, not a list"),
    "fewer parameters": (group(params=[0]), "has 1 parameters, the optimiser has 2"),
    "parameters in another order": (group(params=[1, 0]), r"must be in order, not \[1, 0\]"),
    "a number too high": (lambda s: s["state"].update({2: s["state"][0]}), "2 is not a number from 0"),
    "a number below 0": (lambda s: s["state"].update({"-1": s["state"][0]}), "'-1' is not a number"),
    "a number twice": (lambda s: s["state"].update({"0": s["state"][0]}), "'0' is .* occurs twice"),
    "an entry that is text": (lambda s: s["state"].update({1: "x"}), "of parameter 1 must be a dict"),
    "a moment missing": (lambda s: s["state"][1].pop("exp_avg"), "of parameter 1 lacks exp_avg"),
    "steps missing": (lambda s: s["state"][1].pop("step"), "of parameter 1 lacks step"),
    "one moment more": (entry(max_exp_avg_sq=np.ones(2)), "max_exp_avg_sq .* is not part of its state"),
    "a moment of one": (entry(exp_avg=np.ones(1)), r"has shape \(1,\), not \(2,\)"),
    "a moment of no shape": (entry(exp_avg=1.0), r"has shape \(\), not \(2,\)"),
    "a moment of rows": (entry(exp_avg=np.ones((1, 2))), r"has shape \(1, 2\), not \(2,\)"),
    "a moment of text": (entry(exp_avg=["a", "b"]), "exp_avg of parameter 0 must hold real numbers"),
    "a moment of several lengths": (entry(exp_avg=[[1.0], 2.0]), "must hold real numbers"),
    "a complex moment": (entry(exp_avg=np.ones(2, "c8")), "must hold real numbers"),
    "NaN": (entry(exp_avg=[1.0, NAN]), "values that are not finite in float32"),
    "too large": (entry(exp_avg=[1.0, 1e39]), "values that are not finite in float32"),
    "a negative mean of squares": (entry(exp_avg_sq=[1.0, -1e-9]), "holds negative values"),
    "a negative step": (entry(step=-1), "parameter 0 must be a whole number of at least 0, not -1"),
    "half a step": (entry(step=1.5), "must be a whole number of at least 0, not 1.5"),
    "a step that is NaN": (entry(step=NAN), "must be a whole number of at least 0, not nan"),
    "a step beyond counting": (entry(step=1e300), "must be a whole number of at least 0"),
    "a step for each": (entry(step=[1, 1]), r"step of parameter 0 has shape \(2,\), not \(\)"),
    "a step of text": (entry(step="1"), "step of parameter 0 must hold real numbers"),
    "a true step": (entry(step=True), "step of parameter 0 must hold real numbers"),
}  # fmt: skip


@pytest.mark.parametrize("what", MISFITS)
def test_a_state_dict_that_does_not_fit_changes_nothing(what):
    change, message = MISFITS[what]
    parameters = [tensor([1.0, 2.0], requires_grad=True) for _ in range(2)]
    optimiser, other = Adam(parameters), Adam(parameters, lr=0.5)
    other.step([tensor([1.0, 2.0])] * 2)
    optimiser.step([tensor([3.0, 4.0])] * 2)
    before = contents(optimiser)
    state = other.state_dict()
    change(state)
    with pytest.raises(ValueError, match=f"^Adam: .*{message}"):
        optimiser.load_state_dict(state)
    assert contents(optimiser) == before


@pytest.mark.parametrize("option", ["centered", "momentum"])
def test_a_buffer_is_missed_where_its_option_is_on(option):
    p = tensor([1.0], requires_grad=True)
    first = RMSprop([p], **{option: True if option == "centered" else 0.9})
    first.step([p.detach()])
    state = first.state_dict()
    del state["state"][0][{"centered": "grad_avg", "momentum": "momentum_buffer"}[option]]
    with pytest.raises(ValueError, match="of parameter 0 lacks"):
        RMSprop([p]).load_state_dict(state)


def test_an_option_switched_on_between_steps_finds_its_buffer():
    p = tensor([1.0], requires_grad=True)
    optimiser = RMSprop([p])
    optimiser.step([p.detach()])
    optimiser.options.update(momentum=0.9, centered=True)
    optimiser.step([p.detach()])
    assert set(optimiser.state[0]) == set(RMSprop.ENTRIES)


# -- arithmetic on large or nearly equal numbers --------------------------------------------------


@pytest.mark.parametrize("kernels", [cpu, reference])
def test_a_gradient_whose_square_overflows_does_not_freeze_adam(kernels, monkeypatch):
    monkeypatch.setattr(backend, "kernels", lambda xp: kernels)
    p = tensor([0.0], requires_grad=True)
    optimiser = Adam([p], lr=0.1, betas=(0.5, 0.999))
    rows = [1e20, 1.0, 2e20, -3e20, 1e20]  # in float32, squares overflow at 3.4e38
    for i, g in enumerate(rows, 1):
        optimiser.step([tensor([g])])
        assert p.item() == pytest.approx(adam(0.0, rows[:i], lr=0.1, betas=(0.5, 0.999)), rel=1e-5)
    assert np.isfinite(optimiser.state[0]["exp_avg_sq"]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("g", [0.1, -3e-5, 7e8])
def test_a_constant_gradient_never_makes_a_centered_variance_negative(dtype, g):
    p = tensor(np.zeros(1, dtype), requires_grad=True)
    optimiser = RMSprop([p], lr=1e-2, centered=True)
    gradient, before = tensor(np.full(1, g, dtype)), 0.0
    digit = np.finfo(dtype).eps
    for _ in range(1300):
        optimiser.step([gradient])
        moved, before = abs(p.item() - before), p.item()
        # at most g over the root of the last digit of the mean of squares
        assert 0 <= moved <= 1e-2 * 1.1 / sqrt(digit)
    assert p.item() * g < 0


def test_the_base_defines_no_update():
    p = tensor([1.0], requires_grad=True)
    with pytest.raises(NotImplementedError):
        Optimizer([p], weight_decay=0).step([p.detach()])


# -- memory order ---------------------------------------------------------------------------------


def in_order(array, order):
    """The same numbers with the axes in this memory order, outermost first; None leaves gaps."""
    if order is None:
        return np.repeat(array, 2, axis=-1)[..., ::2]
    return array.transpose(order).copy().transpose(np.argsort(order))


ORDERS = {
    (8, 6, 4, 4): [(0, 1, 2, 3), (3, 2, 1, 0), (1, 0, 2, 3), (0, 2, 3, 1), (2, 3, 1, 0), None],
    (9, 5): [(0, 1), (1, 0), None],
    (7,): [(0,), None],
}
SHAPED_ORDERS = [(shape, order) for shape, orders in ORDERS.items() for order in orders]


def three_steps(make, shape, weight_order, gradient_orders):
    """The bytes of weight and state after steps on gradients in these memory orders."""
    draw = np.random.default_rng(0).standard_normal
    p = tensor(in_order(draw(shape, np.float32), weight_order), requires_grad=True)
    optimiser = make([p])
    for order in gradient_orders:
        optimiser.step([tensor(in_order(draw(shape, np.float32), order))])
    state = optimiser.state_dict()["state"].get(0, {})  # plain SGD has no state
    arrays = [p, *(entry for entry in state.values() if isinstance(entry, type(p)))]
    return [np.asarray(a).tobytes() for a in arrays]


@each_optimiser
@pytest.mark.parametrize(("shape", "weight_order"), SHAPED_ORDERS)
def test_the_order_in_memory_changes_no_byte(
    kind, formula, options, shape, weight_order, monkeypatch
):
    """Averages over processes, and arrays restored from a file, may have another memory order."""
    monkeypatch.setattr(rows, "ELEMENTS", 50)  # several blocks
    make = functools.partial(kind, **options)
    usual = tuple(range(len(shape)))
    expected = three_steps(make, shape, usual, [usual] * 3)
    for order in ORDERS[shape]:
        assert three_steps(make, shape, weight_order, [order] * 3) == expected
    mixed = list(itertools.islice(itertools.cycle(ORDERS[shape]), 1, 4))
    assert three_steps(make, shape, weight_order, mixed) == expected


def test_adam_computes_the_same_bytes_however_each_array_lies(monkeypatch):
    monkeypatch.setattr(rows, "ELEMENTS", 50)
    shape = (8, 6, 4, 4)
    drawn = np.abs(np.random.default_rng(0).standard_normal((4, *shape), np.float32))
    found = set()
    for orders in itertools.product(ORDERS[shape][::2], repeat=4):
        p, g, m, v = (in_order(a, order) for a, order in zip(drawn, orders, strict=True))
        cpu.adam(np, [(p, g, m, v, 3)], 0.1, (0.5, 0.9), 1e-8)
        assert g.tobytes() == drawn[1].tobytes()
        found.add(tuple(a.tobytes() for a in (p, m, v)))
    assert len(found) == 1


# -- Adam and finite differences ------------------------------------------------------------------


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
        # 1e-6 of each update; the second update divides by the root of both gradients' squares
        np.testing.assert_allclose(update, expected, rtol=1e-6)
        assert np.abs(update).min() > 1e-6
