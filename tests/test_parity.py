"""minigan against PyTorch: operations, optimisers, layers, networks and whole training steps.

PyTorch's answers are stored in `fixtures/*.npz`; PyTorch itself is not needed. `fixtures/inputs.py`
draws the same inputs again; `fixtures/make_fixtures.py` made the answers.

Every test prints its largest deviation: `pytest tests/test_parity.py -rP | grep deviation`.
"""

from __future__ import annotations

import numpy as np
import pytest
from frozen import check, deviation, frozen, summary_deviation
from inputs import (
    BETAS,
    FULL,
    LAYERS,
    LR,
    NETWORKS,
    OPERATIONS,
    OPTIMISER_STEPS,
    OPTIMISERS,
    SCORES,
    SMALL,
    SMALL_STEPS,
    STATES,
    batch,
    evaluate,
    given_gradients,
    optimised,
    spots,
    summaries,
    summary,
    summary_scale,
    weights,
)

import minigan
from minigan import functional as F
from minigan import nn
from minigan.models.dcgan import Discriminator, Generator


def test_a_deviation_is_seen():
    """The comparison itself detects a wrong 9th digit, swapped elements, a wrong sign or zero."""
    a = np.array([1.0, 2.0, -3.0, 0.0])
    assert deviation(a, a) == 0
    assert deviation(a * (1 + 1e-9), a) == pytest.approx(1e-9)
    assert deviation(a + 1e-30, a, np.abs(a)) == np.inf
    expected = summaries({"a": a})
    assert summary_deviation({"a": a}, expected) == 0
    for wrong in (a[[1, 0, 2, 3]], np.abs(a), [*a[:3], 1e-6]):
        assert summary_deviation({"a": np.array(wrong)}, expected) > 1e-8


# ------------------------------------------------------------------------------- operations

OPERATION_CASES = [
    (name, dtype)
    for name, case in OPERATIONS.items()
    for dtype in (["float64", "float32"] if case.float32 else ["float64"])
]


@pytest.mark.parametrize(("name", "dtype"), OPERATION_CASES)
def test_operation(name, dtype):
    """Output, gradients and second order (see `inputs.evaluate`)."""
    case, prefix = OPERATIONS[name], f"{name}/{dtype}/"
    expected = {
        key.removeprefix(prefix): array
        for key, array in frozen("operations").items()
        if key.startswith(prefix)
    }
    actual = evaluate(case, minigan, dtype)
    assert actual.keys() == expected.keys()
    assert {array.dtype.name for array in actual.values()} == {dtype}
    found = {
        key: deviation(actual[key], array, np.abs(array) if case.elementwise else None)
        for key, array in expected.items()
    }
    # float32: a hundred roundings of 6e-8, with a margin, as in float64.
    check(found, case.tolerance if dtype == "float64" else 1e-5)


def test_no_frozen_operation_is_left_out():
    assert {tuple(key.split("/")[:2]) for key in frozen("operations")} == set(OPERATION_CASES)


# ------------------------------------------------------------------------------- optimisers


@pytest.mark.parametrize("way", ["grad-attribute", "grads-argument"])
@pytest.mark.parametrize("case", frozen("optimisers"))
def test_optimiser(case, way):
    """10 steps with given gradients, passed to step() in either way."""
    name, dtype = case.split("/")
    kind, options = OPTIMISERS[name]
    params = [minigan.tensor(a.astype(dtype), requires_grad=True) for a in optimised()]
    optimiser = getattr(minigan.optim, kind)(params, **options)
    path = []
    for step in range(OPTIMISER_STEPS):
        grads = [minigan.tensor(g.astype(dtype)) for g in given_gradients(step)]
        if way == "grads-argument":
            optimiser.step(grads)
        else:
            for p, g in zip(params, grads, strict=True):
                p.grad = g
            optimiser.step()
        path.append(np.concatenate([p.numpy().ravel() for p in params]))
    assert path[0].dtype == dtype
    # Compare the movement, because the parameters themselves are large and would hide an error in it.
    start = np.concatenate([a.astype(dtype).ravel() for a in optimised()]).astype(np.float64)
    found = {
        f"step {i}": deviation(now - start, then - start)
        for i, (now, then) in enumerate(zip(path, frozen("optimisers")[case], strict=True))
    }
    # float32: a parameter of 0.1 has a last digit of 7e-9, and moves by at least 2e-4 per step.
    check(found, {"float64": 1e-12, "float32": 1e-4}[dtype])


# ---------------------------------------------------------------------- layers and networks


@pytest.mark.parametrize("name", LAYERS)
def test_first_values(name):
    """A new layer's weights and bias are uniform between PyTorch's bounds.

    The largest of n values is more than 20/n of the bound below it once in e^20 cases. The standard
    deviation varies by a factor of about sqrt(0.2 / n), the mean by std / sqrt(n).
    """
    bound, std, bias_bound = frozen("networks")[f"first_values/{name}"]
    minigan.manual_seed(0)
    layer = LAYERS[name](nn)
    weight, bias = layer.weight.numpy().astype(np.float64), layer.bias.numpy().astype(np.float64)
    for values, a in ((weight, bound), (bias, bias_bound)):
        assert a * (1 - 20 / values.size) <= np.abs(values).max() <= a * (1 + 1e-7)
    assert weight.std() == pytest.approx(std, rel=5 * np.sqrt(0.2 / weight.size))
    assert abs(weight.mean()) < 5 * std / np.sqrt(weight.size)


@pytest.mark.parametrize("name", [*NETWORKS, "generator", "discriminator"])
def test_state_dict_layout(name):
    """The keys and shapes of PyTorch's state dict, in its order, so files can be exchanged."""
    build = NETWORKS | {
        "generator": lambda nn: Generator(),
        "discriminator": lambda nn: Discriminator(),
    }
    module = build[name](nn)
    layout = [f"{key} {tuple(t.shape)}" for key, t in module.state_dict().items()]
    assert layout == frozen("networks")[f"layout/{name}"].tolist()


def load(name: str, module: nn.Module, dtype: str, statistics: bool = False) -> nn.Module:
    """The module in this dtype, with the weights drawn under `name`."""
    module = module.double() if dtype == "float64" else module
    shapes = {key: t.shape for key, t in module.state_dict().items()}
    module.load_state_dict(weights(name, shapes, statistics))
    assert {p.dtype.name for p in module.parameters()} == {dtype}
    return module


@pytest.mark.parametrize("name", STATES)
def test_a_state_dict_of_pytorch_gives_its_outputs(name):
    """In evaluation mode, and in training mode, which moves u, v and running statistics as in PyTorch.

    A new layer's state dict has the same form, so PyTorch can load it; make_fixtures.py checks that.
    """
    build, x = STATES[name]
    prefix = f"{name}/"
    expected = {
        k.removeprefix(prefix): a for k, a in frozen("states").items() if k.startswith(prefix)
    }
    state, after = (
        {k.removeprefix(part): a for k, a in expected.items() if k.startswith(part)}
        for part in ("state/", "after/")
    )
    layer, x = build(nn).double(), minigan.tensor(x)
    form = lambda arrays: [(key, a.shape, a.dtype.name) for key, a in arrays.items()]
    assert form(layer.state_dict()) == form(state)

    layer.load_state_dict(state)
    found = {"eval": deviation(layer.eval()(x).numpy(), expected["eval"])}
    assert all((a == state[key]).all() for key, a in values(layer).items())  # evaluation moves none
    found["train"] = deviation(layer.train()(x).numpy(), expected["train"])
    found |= {key: deviation(a, after[key]) for key, a in values(layer).items()}
    check(found, 1e-12)


# Both are float32 networks of 4 layers with up to 8,192 products in a sum: a few 1e-7 each. The
# project promises 1e-5.
NETWORK_TOLERANCE = 1e-5


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_generator_output(mode):
    answers = frozen("networks")
    _, z, _ = batch("networks", FULL)
    g = load("networks/G", Generator(), "float32", statistics=True).train(mode == "train")
    with minigan.no_grad():
        out = g(minigan.tensor(z, dtype="float32")).numpy()
    rows = answers[f"generator/{mode}/summary"]
    scale = np.stack([summary_scale(row[1], out[0].size) for row in rows])
    found = {
        "pixels": deviation(spots(out), answers[f"generator/{mode}"]),
        "summary": deviation(np.stack([summary("out", o) for o in out]), rows, scale),
    }
    check(found, NETWORK_TOLERANCE)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_discriminator_output(mode):
    answers = frozen("networks")
    real = minigan.tensor(batch("networks", FULL)[0], dtype="float32")
    d = load("networks/D", Discriminator(), "float32", statistics=True).train(mode == "train")
    with minigan.no_grad():
        logits, probability = d.logits(real).numpy(), d(real).numpy()
    found = {
        "logits": deviation(logits, answers[f"discriminator/{mode}/logits"]),
        "probability": deviation(probability, answers[f"discriminator/{mode}"]),
    }
    check(found, NETWORK_TOLERANCE)


# --------------------------------------------------------------------------------- training


class Training:
    """Two networks and their Adams, and the tutorial's step, written in one of minigan's two ways.

    "grad": minigan.grad and step(grads). "backward": zero_grad, backward and step, where G's half
    leaves gradients in D that D's next half has to clear.
    """

    def __init__(self, name: str, size: dict[str, int], dtype: str, manner: str):
        g = Generator(size["nz"], size["ngf"], image_size=size["image_size"])
        d = Discriminator(size["ndf"], image_size=size["image_size"])
        self.g, self.d = load(f"{name}/G", g, dtype), load(f"{name}/D", d, dtype)
        self.before = {module: values(module) for module in (self.g, self.d)}
        self.adam = {
            module: minigan.optim.Adam(module.parameters(), lr=LR, betas=BETAS)
            for module in (self.g, self.d)
        }
        self.grads: dict[nn.Module, list[minigan.Tensor]] = {}
        self.dtype, self.manner = dtype, manner

    def update(self, module: nn.Module, loss: minigan.Tensor) -> None:
        if self.manner == "grad":
            self.grads[module] = list(minigan.grad(loss, module.parameters()))
            self.adam[module].step(self.grads[module])
        else:
            module.zero_grad()
            loss.backward()
            self.grads[module] = [p.grad for p in module.parameters()]
            self.adam[module].step()

    def step(self, real: np.ndarray, z: np.ndarray, fresh: np.ndarray | None = None) -> list[float]:
        """One step; its scores, in the order of SCORES."""
        real, z, fresh = (
            None if a is None else minigan.tensor(a, dtype=self.dtype) for a in (real, z, fresh)
        )
        ones = minigan.tensor(np.ones((len(z), 1, 1, 1), self.dtype))
        zeros = minigan.tensor(np.zeros((len(z), 1, 1, 1), self.dtype))

        real_logits = self.d.logits(real)
        loss_d_real = F.binary_cross_entropy_with_logits(real_logits, ones)
        fake = self.g(z)
        fake_logits = self.d.logits(fake.detach())
        loss_d_fake = F.binary_cross_entropy_with_logits(fake_logits, zeros)
        self.update(self.d, loss_d_real + loss_d_fake)

        logits = self.d.logits(fake if fresh is None else self.g(fresh))
        loss_g = F.binary_cross_entropy_with_logits(logits, ones)
        self.update(self.g, loss_g)
        scores = [loss_d_real, loss_d_fake, loss_g]
        scores += [F.sigmoid(x).mean() for x in (real_logits, fake_logits, logits)]
        return [score.item() for score in scores]

    def deviations(self, answers: dict[str, np.ndarray], prefix: str) -> dict[str, float]:
        """The deviations of the last gradients, the parameters' movement and the running statistics."""
        found = {}
        for name, module in (("G", self.g), ("D", self.d)):
            params = dict(module.named_parameters())
            after, before = values(module), self.before[module]
            compared = {
                "gradients": {
                    key: g.numpy() for key, g in zip(params, self.grads[module], strict=True)
                },
                "movement": {key: after[key].astype(np.float64) - before[key] for key in params},
                "statistics": {key: a for key, a in after.items() if key not in params},
            }
            for kind, arrays in compared.items():
                expected = answers[f"{prefix}/{name}/{kind}"]
                found[f"{name} {kind}"] = summary_deviation(arrays, expected)
        return found


def values(module: nn.Module) -> dict[str, np.ndarray]:
    return {key: t.numpy().copy() for key, t in module.state_dict().items()}


# The first bound is for scores, D's gradients and running statistics; the second for everything after
# an Adam step: the movement, and whatever depends on the updated D. Adam's first step is
# lr g / (|g| + 1e-8). Where g is nearly 0, it magnifies g's rounding, in float32 even to a step in the
# other direction. This happens to about ten in a million parameters, to different ones for each order
# of summation. With three equally exact sets of kernels, G's gradients differed from PyTorch's by 1e-4,
# 1e-3 and 3e-2.
BEHIND_ADAM = ("loss_g", "D(G(z2))", "G gradients")
STEP_TOLERANCE = {"float64": (1e-10, 1e-9), "float32": (1e-4, 5e-2)}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("variant", ["same-fakes", "fresh-noise"])
def test_full_size_step(dtype, variant):
    """One step of the full DCGAN. G's half reuses D's fakes, as in the tutorial, or makes new ones."""
    training = Training("full", FULL, dtype, "grad")
    real, z, fresh = batch("full", FULL)
    scores = training.step(real, z, fresh if variant == "fresh-noise" else None)

    answers, prefix = frozen("training"), f"{variant}/{dtype}"
    expected = answers[f"{prefix}/scores"]
    found = dict(zip(SCORES, np.abs(scores / expected - 1), strict=True))
    found |= training.deviations(answers, prefix)
    behind_adam = [key for key in found if "movement" in key or key in BEHIND_ADAM]
    moved = {key: found.pop(key) for key in behind_adam}
    tolerance, tolerance_behind_adam = STEP_TOLERANCE[dtype]
    check(found, tolerance)
    check(moved, tolerance_behind_adam)


@pytest.mark.parametrize("manner", ["grad", "backward"])
def test_twenty_steps(manner):
    """20 steps of a 32 x 32 DCGAN in float64 stay within 1e-6 of PyTorch's, as the project promises.

    They stay much closer, because this run hardly magnifies rounding; make_fixtures.py asserts that.
    """
    training = Training("small", SMALL, "float64", manner)
    scores = np.array([training.step(*batch("small", SMALL, i)[:2]) for i in range(SMALL_STEPS)])

    answers = frozen("training")
    worst = np.abs(scores / answers["small/scores"] - 1).max(axis=0)
    found = dict(zip(SCORES, worst, strict=True)) | training.deviations(answers, "small")
    check(found, 1e-9)
