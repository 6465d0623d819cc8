"""The engines that dcgan_step.py compares; each process of this program is one of them.

    python tests/benchmarks/engines.py KIND      # requests on stdin, answers on stdout: lines of JSON

First {"do": "begin", "task": "train", "batch": 128, "warm_up": 3}, then {"do": "measure", "count": 1}
as often as wanted. A task is a method that prepares something and returns its turn, a function that is
called repeatedly. The tasks are `train`, `sample`, `layers` and, for minigan, `data`.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

Turn = Callable[[], dict[str, Any]]
LR, BETAS = 2e-4, (0.5, 0.999)
SAMPLED = 64  # images per turn of sampling, whatever the batch size


@dataclass(frozen=True)
class Layer:
    """A convolution of a network; `image` and `grid` are the sides of its larger and smaller array."""

    net: str
    number: int
    c_in: int
    c_out: int
    image: int
    grid: int

    name = property(lambda self: f"{self.net}{self.number}")
    geometry = property(lambda self: (2, 1) if self.image > 4 else (1, 0))  # stride, padding
    gflop = property(lambda self: 2e-9 * self.grid**2 * self.c_in * self.c_out * 16)  # direct form

    @property
    def activation(self) -> str:
        """What follows: batch norm, but neither at G's end nor at D's, and a nonlinearity."""
        if self.net == "G":
            return "tanh" if self.number == 5 else "norm, relu"
        return {1: "leaky_relu", 5: "sigmoid"}.get(self.number, "norm, leaky_relu")

    def calls(self, skips: bool) -> dict[str, int]:
        """How often a step runs each pass, with D's weight gradients in G's half skipped or not."""
        first = self.number == 1  # z's gradient is never needed, the images' only in G's half
        both = "weight grad" if first else "both grads"
        found = dict.fromkeys(("forward", "input grad", "weight grad", "both grads"), 0)
        if self.net == "G":
            return found | {"forward": 1, both: 1}
        found |= {"forward": 3, both: 2}
        found["input grad" if skips else "both grads"] += 1
        return found

    def step_gflop(self, skips: bool) -> float:
        """The GFLOP of a step, per image."""
        calls = self.calls(skips)
        return self.gflop * (sum(calls.values()) + calls["both grads"])


WIDTHS = {"G": (100, 512, 256, 128, 64, 3), "D": (3, 64, 128, 256, 512, 1)}
SIDES = {"G": ((4, 1), (8, 4), (16, 8), (32, 16), (64, 32))}  # (image, grid)
SIDES["D"] = SIDES["G"][::-1]
LAYERS = [
    Layer(net, i + 1, *WIDTHS[net][i : i + 2], *SIDES[net][i]) for net in "GD" for i in range(5)
]


def timed(function: Callable[[], Any]) -> dict[str, Any]:
    """Wall-clock and CPU seconds of a call, and what it returned."""
    cpu, start = time.process_time(), time.perf_counter()
    result = function()
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "cpu": time.process_time() - cpu, "result": result}


def repeat(function: Callable[[], Any], count: int = 1) -> None:
    """Call a function and drop what it returns."""
    for _ in range(count):
        function()


def peak_memory() -> float | None:
    """The largest resident set of this process so far, in MB; None on Windows."""
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


class Engine:
    """What all engines share: networks G and D, two Adams, and modules `nn` with PyTorch's names."""

    skips = True  # whether G's half skips D's weight gradients
    inplace = False  # whether an activation overwrites the output of batch norm
    imported: float | None = None  # MB, after the imports

    def begin(self, task: str, batch: int, warm_up: int) -> dict[str, Any]:
        self.turn = getattr(self, task)(batch)
        first = [self.turn() for _ in range(warm_up)]
        self.cpu = time.process_time()
        gflop = sum(layer.step_gflop(self.skips) for layer in LAYERS)
        return {"first": first, "imported": self.imported, "gflop_per_image": gflop}

    def measure(self, count: int) -> dict[str, Any]:
        idle = time.process_time() - self.cpu  # CPU seconds since the last turn
        turns = [self.turn() for _ in range(count)]
        self.cpu = time.process_time()
        return {"turns": turns, "idle": idle, "peak": peak_memory()}

    def train(self, batch: int) -> Turn:
        """Training steps, one after another; each returns Loss_D and Loss_G."""
        numbers = iter(range(10**9))

        def turn() -> dict:
            rng = np.random.RandomState(1000 + next(numbers))
            x = self.tensor(rng.uniform(-1, 1, (batch, 64, 64, 3)).transpose(0, 3, 1, 2))
            z = self.tensor(rng.standard_normal((batch, 100, 1, 1)))
            return timed(lambda: self.step(x, z))

        return turn

    def sample(self, batch: int) -> Turn:
        """G in evaluation mode, without gradients; the seconds are per batch."""
        z = self.tensor(np.random.RandomState(0).standard_normal((batch, 100, 1, 1)))
        count = max(1, SAMPLED // batch)
        self.G.eval()
        return lambda: {
            "seconds": timed(lambda: repeat(lambda: self.generate(z), count))["seconds"] / count
        }

    def following(self, layer: Layer) -> Any:
        """The modules between a convolution and the next."""
        nn, (*norm, name) = self.nn, layer.activation.split(", ")
        options = {"inplace": True} if self.inplace and norm else {}
        kinds = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}
        kinds["leaky_relu"] = partial(nn.LeakyReLU, 0.2)
        return nn.Sequential(*[nn.BatchNorm2d(layer.c_out) for _ in norm], kinds[name](**options))

    def weight(self, array: np.ndarray) -> Any:
        """A convolution's weight as the engine's layers hold it in memory."""
        return self.tensor(array)

    def layers(self, batch: int) -> Turn:
        """Every pass of every layer by itself: {name: its seconds, calls in a step and GFLOP}."""
        rng = np.random.RandomState(0)
        tasks: dict[str, tuple[Callable, int, float | None]] = {}

        def images(channels: int, side: int) -> Any:
            array = rng.standard_normal((batch, side, side, channels))
            return self.tensor(array.transpose(0, 3, 1, 2))  # channels last, as in training

        def leaf(t: Any) -> Any:
            return t.detach().requires_grad_()

        for layer in LAYERS:
            if layer.net == "G":
                conv, channels = self.F.conv_transpose2d, (layer.c_in, layer.c_out)
                x, g = images(layer.c_in, layer.grid), images(layer.c_out, layer.image)
            else:
                conv, channels = self.F.conv2d, (layer.c_out, layer.c_in)
                x, g = images(layer.c_in, layer.image), images(layer.c_out, layer.grid)
            w = self.weight(rng.normal(0, 0.02, (*channels, 4, 4)))
            forward = lambda x, w, conv=conv, layer=layer: conv(x, w, None, *layer.geometry)
            x_leaf, w_leaf = leaf(x), leaf(w)
            passes = {
                "forward": partial(forward, x, w),
                "input grad": partial(self.grad, forward(x_leaf, w), [x_leaf], g),
                "weight grad": partial(self.grad, forward(x, w_leaf), [w_leaf], g),
                "both grads": partial(self.grad, forward(x_leaf, w_leaf), [x_leaf, w_leaf], g),
            }
            for name, count in layer.calls(skips=True).items():
                gflop = layer.gflop * batch * (2 if name == "both grads" else 1)
                tasks[f"{layer.name} {name}"] = passes[name], count, gflop

            follow, y_leaf = self.following(layer), leaf(g)
            leaves = [y_leaf, *follow.parameters()]
            name, count = f"{layer.name} {layer.activation}", 1 if layer.net == "G" else 3
            tasks[f"{name}: forward"] = partial(follow, y_leaf), count, None
            tasks[f"{name}: backward"] = partial(self.grad, follow(y_leaf), leaves, g), count, None
        for net in "GD":
            tasks[f"{net} Adam"] = self.adam_alone(net), 1, None

        def turn() -> dict:
            return {
                name: {"seconds": timed(partial(repeat, task))["seconds"], "calls": n, "gflop": f}
                for name, (task, n, f) in tasks.items()
            }

        return turn


def first_weights(network: Any, seed: int) -> dict[str, np.ndarray]:
    """Convolutions N(0, 0.02), scales of batch norm N(1, 0.02), shifts 0, in the parameters' order."""
    rng, found = np.random.RandomState(seed), {}
    for name, p in network.named_parameters():
        values = rng.normal(0 if len(p.shape) == 4 else 1, 0.02, tuple(p.shape))
        found[name] = (0 * values if name.endswith("bias") else values).astype(np.float32)
    return found


def kernel_order(weight: np.ndarray) -> np.ndarray:
    """The same weight (O, C, kh, kw) in the memory order of minigan's layers: (kh, kw, C, O)."""
    return np.ascontiguousarray(weight.transpose(2, 3, 1, 0)).transpose(3, 2, 0, 1)


@dataclass
class Given:
    """A member's draws in a step: this batch and this noise."""

    x: Any
    z: Any

    def reals(self) -> Any:
        return self.x

    def noise(self) -> Any:
        return self.z


class Minigan(Engine):
    """minigan as it is, with a part replaced, or with an average of G's weights."""

    def __init__(self, patch: Callable[[], None] = lambda: None, ema: float = 0.0):
        import minigan
        from minigan.gans.standard import DCGAN

        self.imported = peak_memory()
        patch()
        self.minigan, self.grad = minigan, partial(minigan.grad, retain_graph=True)
        self.nn, self.F = minigan.nn, minigan.functional
        options = DCGAN.Options(lr=LR, beta1=BETAS[0], fresh_noise=False, ema=ema)
        self.member = DCGAN(options, (3, 64, 64), np.random.default_rng(0))
        for seed, player in enumerate((self.member.G, self.member.D)):
            player.net.load_state_dict(first_weights(player.net, seed), strict=False)
        self.G = self.member.G.net

    def tensor(self, array: np.ndarray) -> Any:
        return self.minigan.Tensor(array.astype(np.float32))  # astype keeps the memory's order

    def weight(self, array: np.ndarray) -> Any:
        return self.tensor(kernel_order(array))

    def step(self, x: Any, z: Any) -> list[float]:
        metrics = {k: value.item() for k, value in self.member.step(Given(x, z)).items()}
        return [metrics["loss_d"], metrics["loss_g"]]

    def generate(self, z: Any) -> Any:
        with self.minigan.no_grad():
            return self.G(z)

    def adam_alone(self, net: str) -> Callable[[], None]:
        adam = self.member.players[net].optimizer
        grads = [self.minigan.tensor(p.data * 1e-3) for p in adam.params]  # in p's order
        return lambda: adam.step(grads)

    def data(self, batch: int) -> Turn:
        """Decoding of a zip like CelebA's, and the draws of a step from 16,384 images."""
        sys.path.insert(0, str(Path(__file__).parents[1]))
        import celeba_factory

        from minigan.data import cache, celeba
        from minigan.data.images import ImageSet
        from minigan.training.draw import Draw

        def turn() -> dict:
            with tempfile.TemporaryDirectory() as folder:
                path = celeba_factory.make(Path(folder), 512, as_zip=True)
                source = celeba.open_source(path, 64)
                decoded = timed(lambda: np.stack([source.load(i) for i in range(len(source))]))
                size = path.stat().st_size / len(source)
                source.archive.close()
            pixels = np.tile(decoded["result"], (32, 1, 1, 1))  # 200 MB
            data = ImageSet(cache.Images(pixels, [], [], {}, ""), 3, "tiled")
            draw = Draw(data, batch, 100, seed=0)
            draw.reals()  # the first batch also draws the epoch's order
            count = draw.per_epoch - 1
            return {
                "images_per_second": len(source) / decoded["seconds"],
                "bytes_per_image": size,
                "reals": timed(lambda: repeat(draw.reals, count))["seconds"] / count,
                "noise": timed(lambda: repeat(draw.noise, count))["seconds"] / count,
            }

        return turn


class PyTorch(Engine):
    """PyTorch as in the tutorial, or with options that may make it faster."""

    inplace = True

    def __init__(self, channels_last: bool = False, frozen: bool = False, compiled: bool = False):
        import torch
        from torch import nn

        self.imported = peak_memory()
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        self.torch, self.nn, self.F, self.skips = torch, nn, nn.functional, frozen
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self.criterion = nn.BCELoss()
        nets: dict[str, Any] = {"G": nn.Sequential(), "D": nn.Sequential()}
        for layer in LAYERS:
            kind = nn.ConvTranspose2d if layer.net == "G" else nn.Conv2d
            net = nets[layer.net]
            net.append(kind(layer.c_in, layer.c_out, 4, *layer.geometry, bias=False))
            net.extend(self.following(layer))
        nets["D"][1].inplace = True
        self.adam = {}
        for seed, (name, net) in enumerate(nets.items()):
            weights = {k: torch.from_numpy(v) for k, v in first_weights(net, seed).items()}
            net.load_state_dict(weights, strict=False)
            net.to(memory_format=self.format)
            self.adam[name] = torch.optim.Adam(net.parameters(), lr=LR, betas=BETAS)
        self.G, self.D = map(torch.compile, nets.values()) if compiled else nets.values()

    def tensor(self, array: np.ndarray) -> Any:
        t = self.torch.from_numpy(array.astype(np.float32))
        return t.contiguous(memory_format=self.format) if t.ndim == 4 else t

    def grad(self, y: Any, leaves: list, g: Any) -> Any:
        return self.torch.autograd.grad(y, leaves, g, retain_graph=True)

    def step(self, x: Any, z: Any) -> list[float]:
        """The body of the tutorial's loop, including the numbers that it reports."""
        netG, netD, criterion = self.G, self.D, self.criterion
        netD.zero_grad()
        label = self.torch.full((len(x),), 1.0)
        output = netD(x).view(-1)
        errD_real = criterion(output, label)
        errD_real.backward()
        scores = [output.mean().item()]
        fake = netG(z)
        label.fill_(0.0)
        output = netD(fake.detach()).view(-1)
        errD_fake = criterion(output, label)
        errD_fake.backward()
        scores += [output.mean().item()]
        errD = errD_real + errD_fake
        self.adam["D"].step()

        netG.zero_grad()
        label.fill_(1.0)
        netD.requires_grad_(not self.skips)
        output = netD(fake).view(-1)
        errG = criterion(output, label)
        errG.backward()
        scores += [output.mean().item()]
        self.adam["G"].step()
        netD.requires_grad_(True)
        return [errD.item(), errG.item()]

    def generate(self, z: Any) -> Any:
        with self.torch.inference_mode():
            return self.G(z)

    def adam_alone(self, net: str) -> Callable[[], None]:
        for p in getattr(self, net).parameters():
            p.grad = self.torch.randn_like(p)
        return self.adam[net].step


class Gemm(Engine):
    """The machine's peak rate: NumPy's float32 product of two square matrices."""

    def train(self, size: int) -> Turn:
        a, b = np.random.RandomState(0).standard_normal((2, size, size)).astype(np.float32)
        out = np.empty_like(a)
        product = partial(repeat, lambda: np.matmul(a, b, out=out))
        return lambda: {"gflops": 2e-9 * size**3 / min(timed(product)["seconds"] for _ in range(3))}

    def describe(self) -> dict[str, Any]:
        from threadpoolctl import threadpool_info

        keys = ("internal_api", "version", "architecture", "num_threads")
        blas = [i for i in threadpool_info() if i["user_api"] == "blas"]
        return {
            "blas": ["{} {} ({}, {} threads)".format(*map(i.get, keys)) for i in blas],
            "ablations": [AVERAGE, *ABLATIONS],
        }


# What each part of minigan contributes: {name: a function that replaces the part}. It is called after
# `import minigan`, before the first kernel. One that no longer fits the sources is named and left out.


def replace(module: str, **parts: Any) -> None:
    """Replace the parts with these names in a module of minigan.backend."""
    place = importlib.import_module(f"minigan.backend.{module}")
    for name, part in parts.items():
        getattr(place, name)
        setattr(place, name, part)


def with_reference(convolutions: bool) -> None:
    """Use reference.py's kernels instead of cpu.py's: the convolutions, or all others."""
    from minigan.backend import cpu, reference

    for name, kernel in inspect.getmembers(reference, inspect.isfunction):
        if hasattr(cpu, name) and name.startswith("conv") == convolutions:
            replace("cpu", **{name: kernel})


def without_shared_transforms() -> None:
    from minigan.backend import cpu

    def one_by_one(kernel: Callable) -> Callable:
        return lambda xp, asked, *rest: [kernel(xp, [i], *rest)[0] for i in asked]

    names = ("conv_gradients", "conv_image_gradients")
    replace("cpu", **{name: one_by_one(getattr(cpu, name)) for name in names})


def without_kept_transforms() -> None:
    from minigan.backend import filtering

    taps = filtering._taps
    replace("filtering", _taps=lambda w, memo: taps(w))


def without_planes() -> None:
    from minigan.backend import reference

    def columns(x: np.ndarray, window: Any) -> np.ndarray:
        return reference.columns(np, x, window).T

    def fold(kernel: np.ndarray, rows: np.ndarray, window: Any, x: np.ndarray) -> None:
        shape = len(x), *window.grid, *window.kernel, x.shape[1]
        x[...] = reference.fold(np, (rows @ kernel.T).reshape(shape), window)

    replace("planes", columns=columns, fold=fold)


def with_short_runs() -> None:
    replace("sums", RUN=1)
    replace("threads", BUFFER=8192)  # NumPy's default


def without_fused_rules() -> None:
    from minigan.tensor import OPERATIONS

    for operation in OPERATIONS.values():
        operation.fused = None


def without_kept_memory() -> None:
    if "minigan.backend.cpu" in sys.modules:
        raise RuntimeError("minigan.backend.cpu has already configured malloc")
    replace("memory", keep_freed_memory=lambda: False)


ABLATIONS: dict[str, Callable[[], None]] = {
    "reference convolutions": partial(with_reference, convolutions=True),
    "reference norm, activations, Adam": partial(with_reference, convolutions=False),
    "blocked im2col, no minimal filtering": partial(replace, "filtering", applies=lambda w: False),
    "pictures' columns not as planes": without_planes,
    "transforms not shared between gradients": without_shared_transforms,
    "weights transformed anew for gradients": without_kept_transforms,
    "backward rule by rule, nothing fused": without_fused_rules,
    "short runs, NumPy's own buffer": with_short_runs,
    "arrays not aligned": partial(replace, "threads", LINE=1),
    "freed memory given back": without_kept_memory,
    "one thread": partial(replace, "threads", _threads=1),
}

AVERAGE = "an average of G's weights"  # not part of the step that is compared
KINDS: dict[str, Callable[[], Engine]] = {
    "GEMM": Gemm,
    "minigan": Minigan,
    AVERAGE: partial(Minigan, ema=0.99),
    "PyTorch": PyTorch,
    "PyTorch channels_last": partial(PyTorch, channels_last=True),
    "PyTorch channels_last, D frozen": partial(PyTorch, channels_last=True, frozen=True),
    "PyTorch compiled, D frozen": partial(PyTorch, channels_last=True, frozen=True, compiled=True),
    **{name: partial(Minigan, patch) for name, patch in ABLATIONS.items()},
}


def main(kind: str, kinds: dict[str, Callable[[], Engine]]) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes to stderr
    engine = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            engine = engine or kinds[kind]()
            answer = getattr(engine, request.pop("do"))(**request)
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            answer = {"error": f"{reason} ({Path(place.filename).name}:{place.lineno})"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], KINDS)
