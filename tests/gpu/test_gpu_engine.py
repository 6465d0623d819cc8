"""Layers, networks and losses: forward, first and second derivatives on the GPU equal the CPU's."""

import copy

import numpy as np
import pytest
from functions import FUNCTIONS

import minigan.functional as F
from minigan import gradcheck, gradgradcheck, nn, optim, tensor
from minigan.models.dcgan import Discriminator, Generator
from minigan.tensor import Tensor, grad

rng = np.random.default_rng


def layers():
    """Name, layer and the shape of its input."""
    one = nn.Sequential(nn.BatchNorm2d(3), nn.LeakyReLU(0.2))
    pairs = [
        ("linear", nn.Linear(5, 3), (4, 5)),
        ("conv", nn.Conv2d(3, 2, 4, 2, 1), (2, 3, 6, 8)),
        ("conv, uneven", nn.Conv2d(3, 2, (3, 2), (3, 1), (2, 1), bias=False), (2, 3, 5, 6)),
        ("conv_transpose", nn.ConvTranspose2d(3, 2, 4, 2, 1), (2, 3, 3, 4)),
        ("conv_transpose, first", nn.ConvTranspose2d(5, 2, 4, 1, 0, bias=False), (2, 5, 1, 1)),
        ("conv_transpose, output_padding", nn.ConvTranspose2d(3, 2, 3, 2, 1, 1), (2, 3, 3, 4)),
        ("batch_norm", nn.BatchNorm2d(3), (4, 3, 3, 2)),
        ("batch_norm 1d", nn.BatchNorm1d(3), (5, 3)),
        ("batch_norm, evaluated", nn.BatchNorm2d(3).eval(), (4, 3, 3, 2)),
        ("batch_norm and leaky_relu", one, (4, 3, 3, 2)),
        ("leaky_relu", nn.LeakyReLU(0.2), (4, 3)),
        ("relu", nn.ReLU(), (4, 3)),
        ("tanh", nn.Tanh(), (4, 3)),
        ("sigmoid", nn.Sigmoid(), (4, 3)),
        ("flatten", nn.Flatten(), (2, 3, 2)),
        ("generator", Generator(5, 2, 3, 16, rng(0)), (3, 5, 1, 1)),
        ("discriminator", Discriminator(2, 3, 16, rng(0)), (3, 3, 16, 16)),
    ]
    return {name: (layer, shape) for name, layer, shape in pairs}


def derivatives(fn, leaves, seed):
    """The output of fn, its gradients, and the gradients of a number computed from those."""
    y = fn()
    draw = rng(seed)
    like = lambda t: tensor(draw.standard_normal(t.shape), dtype=t.dtype).to(t.device)
    first = grad(y, leaves, like(y), create_graph=True, allow_unused=True)
    used = [g for g in first if g is not None]
    recorded = [g for g in used if g.requires_grad]
    second = []
    if recorded:
        again = grad(recorded, leaves, [like(g) for g in recorded], allow_unused=True)
        second = [g for g in again if g is not None]
    fused = grad(fn(), leaves, like(y), allow_unused=True)  # by the fused kernels
    return [t.numpy() for t in (y, *used, *second, *(g for g in fused if g is not None))]


@pytest.mark.parametrize("name", list(layers()))
def test_a_layer_forward_and_its_derivatives(name):
    found = {}
    for device in ("cpu", "cuda:0"):
        layer, shape = layers()[name]
        for i, p in enumerate(layer.parameters()):
            p.data = rng(i).uniform(0.2, 1, p.shape)  # the constructors draw new values each time
        layer.double().to(device)
        x = tensor(rng(99).standard_normal(shape)).to(device).requires_grad_()
        leaves = [x, *layer.parameters()]
        found[device] = derivatives(lambda layer=layer, x=x: layer(x), leaves, seed=7)
        found[device] += [b.numpy() for b in layer.buffers()]
    assert len(found["cpu"]) == len(found["cuda:0"])
    for expected, got in zip(found["cpu"], found["cuda:0"], strict=True):
        scale = max(1.0, np.abs(expected).max())
        # for float64; second derivatives of deep networks cancel
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-10 * scale)


# Functions that need more of CuPy than sums and arithmetic. The double of CuPy is tested with all.
COMPOSED = (
    "cross_entropy",
    "max along",
    "group_norm",
    "max_pool2d, overlapping",
    "bilinear, uneven",
)


@pytest.mark.parametrize("name", COMPOSED)
def test_a_composed_function_and_its_derivatives(name):
    function, found = FUNCTIONS[name], {}
    for device in ("cpu", "cuda:0"):
        leaves = [
            tensor(rng(i).standard_normal(shape)).to(device).requires_grad_()
            for i, shape in enumerate(function.shapes)
        ]
        found[device] = derivatives(lambda leaves=leaves: function.call(*leaves), leaves, seed=5)
    for expected, got in zip(found["cpu"], found["cuda:0"], strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)


LOSSES = {
    "bce": lambda x, t: F.binary_cross_entropy(x.sigmoid(), t),
    "bce with logits": F.binary_cross_entropy_with_logits,
    "bce with one label": lambda x, t: F.binary_cross_entropy_with_logits(x, 1.0, "sum"),
    "softplus": lambda x, t: F.softplus(x - t).mean(),
}


@pytest.mark.parametrize("name", list(LOSSES))
def test_a_loss_and_its_derivatives(name):
    found = {}
    for device in ("cpu", "cuda:0"):
        x = tensor(rng(1).standard_normal(6)).to(device).requires_grad_()
        t = tensor(rng(2).random(6)).to(device)
        found[device] = derivatives(lambda x=x, t=t: LOSSES[name](x, t), [x], seed=3)
    for expected, got in zip(found["cpu"], found["cuda:0"], strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14)


def test_the_gradients_checked_on_the_device_itself():
    x = tensor(rng(0).standard_normal((2, 3, 6, 6))).to("cuda").requires_grad_()
    w = tensor(rng(1).standard_normal((2, 3, 4, 4))).to("cuda").requires_grad_()
    scale = tensor(rng(2).uniform(0.5, 1, 2)).to("cuda").requires_grad_()

    def fn(x, w, scale):
        y = F.conv2d(x, w, stride=2, padding=1)
        return F.batch_norm(y, None, None, scale, None, training=True).tanh()

    assert gradcheck(fn, [x, w, scale])
    assert gradgradcheck(fn, [x, w, scale])


OPTIMISERS = {
    "SGD": lambda p: optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.01),
    "RMSprop": lambda p: optim.RMSprop(p, 0.01, momentum=0.5, centered=True),
    "Adam": lambda p: optim.Adam(p, 0.01, betas=(0.5, 0.999), weight_decay=0.01),
}


@pytest.mark.parametrize("name", list(OPTIMISERS))
def test_an_optimiser_and_its_state_dict(name):
    found = {}
    for device in ("cpu", "cuda:0"):
        G = Generator(5, 2, 3, 16, rng(0)).double().to(device)
        optimizer = OPTIMISERS[name](G.parameters())
        for step in range(3):
            draw = rng(step)
            optimizer.step(
                [tensor(draw.standard_normal(p.shape)).to(device) for p in G.parameters()]
            )
            if step == 1:  # through a state dict, as in a checkpoint
                state = optimizer.state_dict()
                optimizer = OPTIMISERS[name](G.parameters())
                optimizer.load_state_dict(state)
        found[device] = [p.numpy() for p in G.parameters()]
    for expected, got in zip(found["cpu"], found["cuda:0"], strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-13)


def test_state_dicts_travel_both_ways_and_keep_the_order_in_memory():
    on_cpu, on_gpu = (Generator(5, 2, 3, 16, rng(i)) for i in range(2))
    on_gpu.to("cuda")
    on_gpu.load_state_dict(on_cpu.state_dict())
    weight = next(on_gpu.parameters())
    assert weight.data.transpose(2, 3, 1, 0).flags.c_contiguous  # (kh, kw, C, O), as on the CPU
    assert next(copy.deepcopy(on_gpu).parameters()).data.strides == weight.data.strides
    on_gpu.to("cpu")
    for a, b in zip(on_gpu.parameters(), on_cpu.parameters(), strict=True):
        assert a.data.strides == b.data.strides
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_gradients_have_memory_of_their_own_and_are_copied_only_for_it(monkeypatch):
    """CuPy's `base` and `may_share_memory` show which arrays share memory."""
    a, b = (tensor([2.0, 3.0], device="cuda", requires_grad=True) for _ in "ab")
    v = tensor([1.0, 1.0], device="cuda")
    for found in (grad(a + b.reshape(2), [a, b], v), grad(a.sum() + b.sum(), [a, b])):
        found[0].mul_(7)
        v.add_(1)
        assert [g.tolist() for g in found] == [[7, 7], [1, 1]]
    layer = nn.BatchNorm2d(3).to("cuda")  # two of its gradients are rows of one array
    monkeypatch.setattr(Tensor, "clone", None)
    x = tensor(rng(0).standard_normal((4, 3, 2, 2)).astype("f")).to("cuda").requires_grad_()
    assert len(grad(layer(x).sum(), [x, *layer.parameters()])) == 3
