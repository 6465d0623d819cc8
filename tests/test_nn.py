"""Modules: what they find among their attributes, save and load, and each layer's gradients."""

from math import erf

import numpy as np
import pytest
from strategies import as_function, leaf

import minigan.functional as F
from minigan import gradcheck, gradgradcheck, init, manual_seed, nn, tensor
from minigan.tensor import grad

rng = np.random.default_rng

LAYERS = {
    "Linear": (lambda: nn.Linear(3, 2), (4, 3)),
    "Linear without bias": (lambda: nn.Linear(3, 2, bias=False), (2, 2, 3)),
    "Conv2d": (lambda: nn.Conv2d(2, 3, (3, 2), stride=2, padding=1), (2, 2, 4, 5)),
    "Conv2d without bias": (lambda: nn.Conv2d(2, 3, 2, bias=False), (2, 2, 3, 3)),
    "ConvTranspose2d": (
        lambda: nn.ConvTranspose2d(2, 3, 3, stride=(2, 3), padding=1, output_padding=1),
        (2, 2, 3, 2),
    ),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(2), (6, 2)),
    "BatchNorm1d of sequences": (lambda: nn.BatchNorm1d(2), (2, 2, 3)),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(2), (2, 2, 3, 2)),
    "BatchNorm2d in evaluation": (lambda: nn.BatchNorm2d(2).eval(), (2, 2, 3, 2)),
    "ReLU": (nn.ReLU, (2, 3)),
    "LeakyReLU": (lambda: nn.LeakyReLU(0.2), (2, 3)),
    "Tanh": (nn.Tanh, (2, 3)),
    "Sigmoid": (nn.Sigmoid, (2, 3)),
    "Flatten": (nn.Flatten, (2, 3, 2)),
    "Sequential": (lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)), (2, 3)),
}
each_layer = pytest.mark.parametrize(("make", "shape"), list(LAYERS.values()), ids=list(LAYERS))


@each_layer
def test_every_layer_has_right_first_and_second_derivatives(make, shape):
    manual_seed(0)
    fn, parameters = as_function(make().double())
    x = leaf(rng(1), shape, gap=0.1)
    assert gradcheck(fn, [x, *parameters])
    assert gradgradcheck(fn, [x, *parameters])


@each_layer
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_layer_stays_in_its_dtype_also_twice_backward(make, shape, dtype):
    layer = make().to(dtype)
    x = tensor(rng(0).standard_normal(shape).astype(dtype), requires_grad=True)
    y = layer(x)
    targets = [x, *layer.parameters()]
    first = grad((y * y).sum(), targets, create_graph=True)
    second = grad([(g * g).sum() for g in first], targets, allow_unused=True)
    found = [y, *first, *(g for g in second if g is not None)]
    assert {t.dtype for t in found} == {np.dtype(dtype)}
    assert {b.dtype for b in layer.buffers()} <= {np.dtype(dtype), np.dtype("int64")}


@pytest.mark.parametrize(
    ("layer", "shape", "by_hand"),
    [
        (nn.Linear(3, 2), (2, 3), lambda m, x: F.linear(x, m.weight, m.bias)),
        (
            nn.Conv2d(2, 3, (3, 2), (1, 2), (2, 1)),
            (1, 2, 4, 4),
            lambda m, x: F.conv2d(x, m.weight, m.bias, (1, 2), (2, 1)),
        ),
        (
            nn.ConvTranspose2d(2, 3, (3, 2), (2, 3), (1, 0), (1, 2)),
            (1, 2, 4, 4),
            lambda m, x: F.conv_transpose2d(x, m.weight, m.bias, (2, 3), (1, 0), (1, 2)),
        ),
        (nn.LeakyReLU(), (3,), lambda m, x: F.leaky_relu(x, 0.01)),
        (nn.ReLU(), (3,), lambda m, x: F.relu(x)),
        (nn.Flatten(), (2, 3, 2), lambda m, x: x.reshape(2, 6)),
        (nn.Flatten(0, 1), (2, 3, 2), lambda m, x: x.reshape(6, 2)),
        (nn.Sequential(nn.Tanh(), nn.Sigmoid()), (3,), lambda m, x: F.sigmoid(F.tanh(x))),
    ],
)
def test_a_layer_is_its_function(layer, shape, by_hand):
    x = tensor(rng(0).standard_normal(shape).astype("f"))
    found, expected = layer(x).numpy(), by_hand(layer, x).numpy()
    np.testing.assert_array_equal(found, expected)


# -- finding parts ------------------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self):
        self.first = nn.Linear(2, 3)
        self.scale = nn.Parameter(np.ones(1, "f"))
        self.norm = nn.BatchNorm1d(3)
        self.steps = nn.Buffer(np.zeros((), np.int64))
        self.constant = tensor([1.0])  # neither trained nor saved, but moved
        self.body = nn.Sequential(nn.Linear(3, 1, bias=False), nn.Tanh())

    def forward(self, x):
        return self.body(self.norm(self.first(x) * self.scale))


def test_parameters_and_state_come_own_ones_first_and_in_the_order_of_assignment():
    assert [name for name, _ in Net().named_parameters()] == [
        "scale", "first.weight", "first.bias", "norm.weight", "norm.bias", "body.0.weight",
    ]  # fmt: skip
    assert list(Net().state_dict()) == [
        "scale", "steps", "first.weight", "first.bias", "norm.weight", "norm.bias",
        "norm.running_mean", "norm.running_var", "norm.num_batches_tracked", "body.0.weight",
    ]  # fmt: skip
    net = Net()
    assert [b.shape for b in net.buffers()] == [(), (3,), (3,), ()]
    assert [p.shape for p in net.parameters()] == [(1,), (3, 2), (3,), (3,), (3,), (1, 3)]
    assert all(p.requires_grad and p.is_leaf for p in net.parameters())
    assert not any(b.requires_grad for b in net.buffers())
    assert [type(m).__name__ for m in net.modules()] == [
        "Net", "Linear", "BatchNorm1d", "Sequential", "Linear", "Tanh",
    ]  # fmt: skip


def test_apply_visits_children_before_parents():
    seen = []
    net = Net()
    assert net.apply(lambda m: seen.append(type(m).__name__)) is net
    assert seen == ["Linear", "BatchNorm1d", "Linear", "Tanh", "Sequential", "Net"]


def test_a_module_prints_its_parts():
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Sequential(nn.LeakyReLU(0.2)), nn.Linear(2, 1)
    )
    assert repr(net) == (
        "Sequential(\n"
        "  (0): Conv2d(weight=(2, 1, 3, 3), stride=(1, 1), padding=(0, 0), bias=True)\n"
        "  (1): BatchNorm2d(2, eps=1e-05, momentum=0.1)\n"
        "  (2): Sequential(\n"
        "    (0): LeakyReLU(negative_slope=0.2)\n"
        "  )\n"
        "  (3): Linear(in_features=2, out_features=1, bias=True)\n"
        ")"
    )
    assert [repr(m) for m in (nn.Tanh(), nn.ReLU())] == ["Tanh()", "ReLU()"]


def test_sequential_is_a_sequence():
    layers = [nn.Linear(1, 1), nn.Tanh(), nn.Sigmoid()]
    net = nn.Sequential(*layers)
    assert len(net) == 3
    assert list(net) == layers
    assert net[-1] is layers[2]
    assert list(net[:-1]) == layers[:2]
    assert isinstance(net[:-1], nn.Sequential)
    with pytest.raises(IndexError):
        net[3]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("activation", [nn.ReLU(), nn.LeakyReLU(0.2), nn.Tanh()])
def test_sequential_joins_batch_norm_and_activation_without_changing_the_result(
    activation, training
):
    layers = [nn.BatchNorm2d(2), activation, nn.BatchNorm2d(2)]
    init.normal_(layers[0].bias, 0, 1, rng(1))
    joined = nn.Sequential(*layers).train(training)
    state = {k: v.numpy().copy() for k, v in joined.state_dict().items()}
    x = leaf(rng(0), (3, 2, 4, 4)).to("float32").detach().requires_grad_()
    v = tensor(rng(2).standard_normal(x.shape).astype("f"))
    found = []
    for forward in (joined, lambda x: layers[2](activation(layers[0](x)))):
        joined.load_state_dict(state)
        y = forward(x)
        buffers = [b.numpy().copy() for b in joined.buffers()]
        found.append(
            [y.numpy(), *(g.numpy() for g in grad(y, [x, *joined.parameters()], v)), *buffers]
        )
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)  # float32 in another order
    assert [repr(m) for m in (nn.ReLU(), nn.LeakyReLU())] == [
        "ReLU()",
        "LeakyReLU(negative_slope=0.01)",
    ]


def test_a_module_without_forward_says_so():
    with pytest.raises(NotImplementedError, match="Odd defines no forward"):
        type("Odd", (nn.Module,), {})()(1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Conv2d(1, 1, 0), "kernel_size must be an int >= 1"),
        (lambda: nn.Conv2d(1, 1, 2, stride=0), "stride"),
        (lambda: nn.ConvTranspose2d(1, 1, 2, output_padding=-1), "output_padding"),
        (lambda: nn.BatchNorm2d(1)(tensor([[1.0]])), r"BatchNorm2d: \(4,\) dimensions expected"),
        (lambda: nn.BatchNorm1d(1)(tensor(np.ones((1, 1, 1, 1)))), r"\(2, 3\) dimensions"),
    ],
)
def test_a_layer_that_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# -- modes, dtypes, saving ----------------------------------------------------------------------


def test_train_and_eval_reach_every_module():
    net = Net()
    assert all(m.training for m in net.modules())
    assert net.eval() is net
    assert not any(m.training for m in net.modules())
    assert all(m.training for m in net.train().modules())
    assert not any(m.training for m in net.train(False).modules())


def test_batch_norm_counts_and_remembers_batches_in_training_only():
    norm = nn.BatchNorm1d(2, momentum=0.5)
    x = tensor(rng(0).standard_normal((5, 2)).astype("f"))
    norm(x)
    norm(x)
    norm.eval()
    before = {k: v.numpy().copy() for k, v in norm.state_dict().items()}
    y = norm(x)
    after = norm.state_dict()
    assert norm.num_batches_tracked.item() == 2
    np.testing.assert_allclose(before["running_mean"], x.numpy().mean(0) * 0.75, rtol=1e-5)
    np.testing.assert_allclose(
        before["running_var"], 0.25 + 0.75 * x.numpy().var(0, ddof=1), rtol=1e-5
    )
    assert all((before[k] == after[k].numpy()).all() for k in before)
    expected = (x.numpy() - before["running_mean"]) / np.sqrt(before["running_var"] + 1e-5)
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_zero_grad_forgets_gradients():
    net = Net()
    net(tensor([[1.0, 2.0], [0.0, 1.0]])).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())


def test_double_and_float_convert_all_that_floats_and_nothing_else():
    net = Net()
    parameters = list(net.parameters())
    net.scale.grad = tensor([1.0])
    assert net.double() is net
    assert net.scale is parameters[0]  # optimisers keep their hold of it
    assert net.scale.grad is None
    dtypes = lambda: {name: t.dtype.name for name, t in net.state_dict().items()}
    counters = {"steps": "int64", "norm.num_batches_tracked": "int64"}
    assert dtypes() == dict.fromkeys(dtypes(), "float64") | counters
    assert net.constant.dtype == np.float64
    assert net(tensor(np.ones((2, 2)))).dtype == np.float64
    net.float()
    assert dtypes() == dict.fromkeys(dtypes(), "float32") | counters
    assert net.to("cpu").scale.device == "cpu"


def test_a_state_dict_shares_memory_and_loads_into_the_tensors_of_another_module():
    a, b = Net(), Net()
    own = list(b.parameters())
    a.norm.num_batches_tracked.data += 3
    state = a.state_dict()
    assert np.shares_memory(state["scale"].numpy(), a.scale.numpy())
    assert not state["scale"].requires_grad
    b.load_state_dict(state)
    for name, t in b.state_dict().items():
        np.testing.assert_array_equal(t.numpy(), state[name].numpy())
        assert not np.shares_memory(t.numpy(), state[name].numpy())
    assert all(p is q for p, q in zip(own, b.parameters(), strict=True))
    x = tensor([[1.0, 2.0], [0.5, 1.0]])
    np.testing.assert_array_equal(a.eval()(x).numpy(), b.eval()(x).numpy())


class Foreign:
    """What PyTorch's tensors look like from here: no array before detach, cpu and numpy."""

    def __init__(self, array):
        self.array = array

    detach = cpu = lambda self: Foreign(self.array)

    def numpy(self):
        return self.array


@pytest.mark.parametrize("kind", [np.asarray, Foreign, tensor, np.ndarray.tolist])
def test_values_may_be_arrays_or_tensors_of_anybody_and_are_cast(kind):
    layer = nn.Linear(2, 1).double()
    values = {"weight": kind(np.array([[1.0, 2.0]], "f")), "bias": kind(np.array([3]))}
    layer.load_state_dict(values)
    assert layer.weight.numpy().tolist() == [[1, 2]]
    assert (layer.weight.dtype, layer.bias.dtype) == (np.float64, np.float64)
    assert layer.weight.requires_grad


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda s: s.pop("norm.bias"), KeyError, r"Net: the state dict lacks \['norm.bias'\]"),
        (lambda s: s.update(odd=1), KeyError, r"has \['odd'\]"),
        (lambda s: s.update(scale=np.ones(2)), ValueError, r"scale has shape \(2,\) .* \(1,\)"),
    ],
)
def test_a_state_dict_that_does_not_fit_changes_nothing(change, error, message):
    net = Net()
    before = {k: v.numpy().copy() for k, v in net.state_dict().items()}
    state = {k: v + 1 for k, v in net.state_dict().items()}
    change(state)
    with pytest.raises(error, match=message):
        net.load_state_dict(state)
    assert all((t.numpy() == before[k]).all() for k, t in net.state_dict().items())
    if error is KeyError:
        net.load_state_dict(state, strict=False)
        changed = {k for k, t in net.state_dict().items() if (t.numpy() != before[k]).all()}
        assert changed == set(before) & set(state)


# -- first values -------------------------------------------------------------------------------


def distance(values, cdf):
    """Kolmogorov's distance between drawn values and a distribution, in units of 1/sqrt(n)."""
    values = np.sort(values.ravel())
    steps = np.arange(values.size + 1) / values.size
    theory = cdf(values)
    return max(abs(steps[1:] - theory).max(), abs(theory - steps[:-1]).max()) * values.size**0.5


def uniform(bound):
    return lambda x: np.clip((x + bound) / (2 * bound), 0, 1)


def normal(mean, std):
    return lambda x: np.array([0.5 + 0.5 * erf((v - mean) / std / 2**0.5) for v in x])


@pytest.mark.parametrize(
    ("layer", "fan"),
    [
        (lambda: nn.Linear(50, 40), 50),
        (lambda: nn.Conv2d(5, 40, 4), 5 * 16),
        (lambda: nn.ConvTranspose2d(40, 5, 4), 5 * 16),  # PyTorch's fan of outputs
    ],
)
def test_layers_start_from_pytorchs_uniform_distribution(layer, fan):
    manual_seed(0)
    layer, bound = layer(), fan**-0.5
    for p in (layer.weight, layer.bias):
        assert np.abs(p.numpy()).max() <= bound
        assert p.dtype == np.float32
    # a right distribution exceeds 1.63 once in a hundred seeds, and this is one seed
    assert distance(layer.weight.numpy(), uniform(bound)) < 1.63
    assert distance(layer.weight.numpy(), uniform(0.9 * bound)) > 1.63
    assert layer.bias.numpy().std() > 0


def test_the_generators_of_init_have_their_distributions():
    t = tensor(np.zeros((100, 30)))
    array = t.data
    init.normal_(t, 1.0, 0.02, rng(0))
    assert distance(t.numpy(), normal(1, 0.02)) < 1.63
    init.uniform_(t, -1, 3, rng(0))
    assert distance(t.numpy() - 1, uniform(2)) < 1.63
    assert t.version == 2
    assert t.dtype == array.dtype


def test_manual_seed_repeats_the_first_values_and_a_generator_of_ones_own_leaves_it_alone():
    draws = []
    for seed in (1, 1, 2):
        manual_seed(seed)
        init.normal_(tensor([1.0]), 0, 1, rng(5))
        draws.append(nn.Linear(3, 2).weight.numpy())
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).all()


def test_a_shared_module_is_trained_once_and_saved_under_both_names():
    shared = nn.Linear(2, 2)
    network = nn.Sequential(nn.Linear(2, 2), shared, nn.ReLU(), shared)
    names = ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert [name for name, _ in network.named_parameters()] == names
    assert [*network.state_dict()] == [*names, "3.weight", "3.bias"]


def test_parameters_and_buffers_are_made_of_tensors_and_arrays_alike():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(tensor([2.0, 3.0]))
            self.shift = nn.Buffer(tensor([1.0, 1.0]))

        def forward(self, x):
            return x * self.scale + self.shift

    network = Scaled()
    assert [name for name, _ in network.named_parameters()] == ["scale"]
    assert [*network.state_dict()] == ["scale", "shift"]
    network(tensor([1.0, 2.0])).sum().backward()
    assert network.scale.grad.numpy().tolist() == [1, 2]
    assert network.shift.grad is None
