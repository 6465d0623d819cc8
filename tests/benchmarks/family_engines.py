"""The engines that family.py compares; like engines.py, each process of this program is one of them.

A task is a row of NETS, whose turn is a training step, "layers", whose turn measures the layers of
family_layers.py, or "tiny", for single operations on 4 x 4 numbers. Both engines have networks of the
same layers, first weights and inputs.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import engines
import numpy as np
from engines import ABLATIONS, Engine, Gemm, Turn, kernel_order, replace, timed
from family_floor import FLOORS, game
from family_layers import LAYERS

CALLS, TRIALS = 50, 5  # calls of a tiny operation in a trial; of the trials the fastest counts
PENALTY, CLIP = 10.0, 0.01  # WGAN-GP's and WGAN's
BLOCKS = 6  # of CycleGAN's generators
PIXELS = 2 * (4**2 + 8**2 + 16**2 + 32**2)  # of the noise for StyleGAN's layers, of 32 x 32 pixels


class Net(NamedTuple):
    """A member of the family on one kind of data."""

    member: str
    network: str
    shape: tuple[int, ...]  # of a sample
    width: int  # ngf and ndf
    batch: int
    nz: int
    loss: str  # a row of minigan.gans.objectives
    d_steps: int = 1  # updates of D in a step


_ring = partial(Net, network="mlp", shape=(2,), width=128, batch=256, nz=32)
NETS = {
    "fully connected GAN, 28 x 28": Net(
        "dcgan", "mlp", (1, 28, 28), 128, 64, 100, "non-saturating"
    ),
    "ring, non-saturating": _ring("dcgan", loss="non-saturating"),
    "ring, minimax": _ring("dcgan", loss="minimax"),
    "ring, relativistic": _ring("dcgan", loss="relativistic"),
    "ring, least squares": _ring("lsgan", loss="least-squares"),
    "ring, hinge": _ring("hinge", loss="hinge"),
    "ring, WGAN": _ring("wgan", loss="wasserstein"),
    "ring, WGAN-GP": _ring("wgan-gp", loss="wasserstein"),
    "DCGAN, 28 x 28": Net("dcgan", "dcgan", (1, 28, 28), 64, 64, 100, "non-saturating"),
    "WGAN-GP, 28 x 28": Net("wgan-gp", "dcgan", (1, 28, 28), 64, 64, 100, "wasserstein"),
    "CycleGAN, 64 x 64, batch 1": Net("cyclegan", "resnet", (3, 64, 64), 64, 1, 0, "least-squares"),
    "CycleGAN, 64 x 64, batch 4": Net("cyclegan", "resnet", (3, 64, 64), 64, 4, 0, "least-squares"),
    "StyleGAN, 32 x 32": Net("stylegan", "adain", (3, 32, 32), 64, 16, 64, "non-saturating"),
    "StyleGAN, 32 x 32, R1": Net("stylegan", "adain", (3, 32, 32), 64, 16, 64, "R1"),
    "DCGAN, 64 x 64": Net("dcgan", "dcgan", (3, 64, 64), 64, 128, 100, "non-saturating"),
    "WGAN-GP, 64 x 64": Net("wgan-gp", "dcgan", (3, 64, 64), 64, 64, 100, "wasserstein", d_steps=5),
}


STD = {"stylegan": 1.0}  # its layers scale their weights


class Given(NamedTuple):
    """What is drawn for a step, in the place of minigan's Draw; the same tensors again and again."""

    x: Any
    z: Any
    u: Any
    planes: Any  # noise for StyleGAN's layers
    step: int = 0

    def reals(self) -> Any:
        return self.x

    def noise(self) -> Any:
        return self.z

    def uniform(self, name: str, *shape: int) -> Any:
        return self.u

    def normal(self, name: str, *shape: int) -> Any:
        return self.planes

    def each_class(self) -> list[Any]:
        return [self.x, self.z]


def read(losses: list[Any]) -> list[float]:
    """The losses as Python numbers. On a GPU this waits until all that was launched is done."""
    return [loss.item() for loss in losses]


class Family(Engine):
    """What both engines do, with `tensor`, which makes a leaf, and functions `F` of PyTorch's names."""

    def begin(self, task: str, batch: int, warm_up: int) -> dict[str, Any]:
        if task == "tiny":
            self.turn = self.tiny()
        elif task == "layers":
            self.turn = self.layers()
        else:
            net = NETS[task]
            self.turn = self.training(net._replace(batch=batch or net.batch))
        first = [self.turn() for _ in range(warm_up)]
        self.cpu = time.process_time()
        return {"first": first, "about": self.about}

    def training(self, net: Net) -> Turn:
        """A turn is a step, and returns its losses."""
        step = self.game(net)
        return lambda: timed(lambda: read(step()))

    def game(self, net: Net) -> Callable[[], list[Any]]:
        """A function that plays a step and returns D's loss and G's, not yet read."""
        rng = np.random.default_rng(1)
        images = (net.batch, *net.shape)
        shapes = images, images if net.member == "cyclegan" else (net.batch, net.nz)
        x, z = (self.tensor(rng.standard_normal(shape)) for shape in shapes)
        u = self.tensor(rng.random((net.batch, *[1] * len(net.shape))))
        planes = self.tensor(rng.standard_normal((net.batch, PIXELS)))
        return partial(self.steps(net), Given(x, z, u, planes))

    def first_weights(self, net: Any, seed: int, std: float = 0.05) -> None:
        """Matrices and kernels of normal numbers, norms that only normalise, and no bias."""
        rng = np.random.default_rng(seed)
        for p in net.parameters():
            self.write(p, rng.normal(0, std, p.shape) if p.ndim > 1 else 0.0)
        for module in net.modules():
            if "BatchNorm" in type(module).__name__:
                self.write(module.weight, 1.0)

    def layers(self) -> Callable[[], dict[str, Any]]:
        """The seconds that each layer takes, forward and backward, as a list of calls."""
        tasks = {}
        for name, layer in LAYERS.items():
            rng = np.random.default_rng(0)
            arrays = [rng.standard_normal(shape) for shape in layer.shapes]
            leaves = [self.leaf(array) for array in arrays]
            if layer.kind == "convolution":
                leaves[1] = self.weight(arrays[1]).requires_grad_()
            y = layer.call(self.F, *leaves)
            g = self.images(rng.standard_normal(tuple(y.shape)))

            def task(layer: Any = layer, leaves: list = leaves, g: Any = g) -> None:
                for leaf in leaves:
                    leaf.grad = None
                layer.call(self.F, *leaves).backward(g)

            tasks[name] = task
        return self.each(tasks)

    def each(self, tasks: dict[str, Callable[[], None]]) -> Callable[[], dict[str, Any]]:
        """A turn runs each of these, and returns its seconds by name."""

        def turn() -> dict[str, Any]:
            return {
                name: min(timed(task)["seconds"] for _ in range(TRIALS))
                for name, task in tasks.items()
            }

        return turn

    def leaf(self, array: np.ndarray) -> Any:
        return self.images(array).requires_grad_()

    def tiny(self) -> Callable[[], dict[str, Any]]:
        """Microseconds for a call of each operation: forward alone, and with backward."""
        rng, F = np.random.default_rng(0), self.F
        a, b, c = (
            self.tensor(rng.standard_normal(s)).requires_grad_() for s in ((4, 4),) * 2 + (4,)
        )
        upstream = {shape: self.tensor(np.ones(shape)) for shape in ((4, 4), (2, 8), (4,), ())}
        label = self.tensor(np.ones((4, 4)))
        operations = {
            "a + b": (lambda: a + b, (a, b)),
            "a * b": (lambda: a * b, (a, b)),
            "a * 2": (lambda: a * 2.0, (a,)),
            "a @ b": (lambda: a @ b, (a, b)),
            "linear": (lambda: F.linear(a, b, c), (a, b, c)),
            "ReLU": (lambda: F.relu(a), (a,)),
            "leaky ReLU": (lambda: F.leaky_relu(a, 0.2), (a,)),
            "tanh": (lambda: F.tanh(a), (a,)),
            "sigmoid": (lambda: F.sigmoid(a), (a,)),
            "softplus": (lambda: F.softplus(a), (a,)),
            "exp": (lambda: a.exp(), (a,)),
            "reshape": (lambda: a.reshape(2, 8), (a,)),
            "a[1]": (lambda: a[1], (a,)),
            "sum": (lambda: a.sum(), (a,)),
            "mean": (lambda: a.mean(), (a,)),
            "cross-entropy of logits": (
                lambda: F.binary_cross_entropy_with_logits(a, label),
                (a,),
            ),
        }

        def backward(call: Callable[[], Any], leaves: tuple) -> None:
            for leaf in leaves:
                leaf.grad = None
            y = call()
            y.backward(upstream[tuple(y.shape)])

        def least(call: Callable[[], Any]) -> float:
            trial = lambda: engines.repeat(call, CALLS)
            return 1e6 * min(timed(trial)["seconds"] for _ in range(TRIALS)) / CALLS

        def turn() -> dict[str, Any]:
            return {
                name: {"forward": least(call), "both": least(partial(backward, call, leaves))}
                for name, (call, leaves) in operations.items()
            }

        return turn


class Minigan(Family):
    """minigan's own members."""

    def __init__(self, device: str = "cpu", patch: Callable[[], None] = lambda: None) -> None:
        import minigan
        from minigan.gans import MEMBERS

        patch()
        self.device = device
        self.minigan, self.members, self.F = minigan, MEMBERS, minigan.functional
        self.about = f"minigan {minigan.__version__}, NumPy {np.__version__}"

    def tensor(self, array: np.ndarray) -> Any:
        return self.minigan.tensor(array, dtype=np.float32).to(self.device)

    def images(self, array: np.ndarray) -> Any:
        """A tensor in the memory order of this engine's activations: the channels last."""
        channels_last = array.ndim == 4
        array = array.transpose(0, 2, 3, 1) if channels_last else array
        array = np.ascontiguousarray(array, np.float32)
        return self.minigan.Tensor(array.transpose(0, 3, 1, 2) if channels_last else array)

    def weight(self, array: np.ndarray) -> Any:
        return self.minigan.Tensor(kernel_order(array.astype(np.float32)))

    def write(self, p: Any, values: Any) -> None:
        p.data[...] = self.minigan.backend.move(np.asarray(values, np.float32), self.device)

    def steps(self, net: Net) -> Callable[[Given], list[Any]]:
        kind = self.members[net.member]
        names = kind.Options.names()
        wanted = {
            "fresh_noise": False, "loss": net.loss, "d_steps": net.d_steps, "network": net.network,
            "nz": net.nz, "pool_size": 0, "blocks": BLOCKS, "mixing": 0.0, "r1_every": 1,
            "r1": 10.0 * (net.loss == "R1"),
        }  # fmt: skip
        wanted |= {"style": net.network} if net.member == "stylegan" else {}
        options = kind.Options(
            ngf=net.width, ndf=net.width, batch_size=net.batch, ema=0.0,
            **{name: value for name, value in wanted.items() if name in names},
        )  # fmt: skip
        rng, classes = np.random.default_rng(0), 2 if kind.translates else 0
        member = kind(options, net.shape, rng, self.device, classes=classes)
        for seed, player in enumerate((member.G, member.D)):
            self.first_weights(player.net, seed, STD.get(net.member, 0.05))

        def step(given: Given) -> list[Any]:
            metrics = member.step(given)
            loss_D = metrics["loss_d"] if "loss_d" in metrics else -metrics["distance"]
            return [loss_D, metrics["loss_g"]]

        return step


class PyTorch(Family):
    """The same steps as a careful user writes them: D is frozen in G's half."""

    def __init__(
        self, channels_last: bool = False, compiled: bool = False, device: str = "cpu"
    ) -> None:
        import torch

        self.compiled, self.device = compiled, device
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        self.torch, self.nn, self.F = torch, torch.nn, torch.nn.functional
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self.about = f"PyTorch {torch.__version__}"

    def tensor(self, array: np.ndarray) -> Any:
        t = self.torch.from_numpy(array.astype(np.float32)).to(self.device)
        return t.contiguous(memory_format=self.format) if t.ndim == 4 else t

    def images(self, array: np.ndarray) -> Any:
        return self.tensor(array)

    def write(self, p: Any, values: Any) -> None:
        with self.torch.no_grad():
            p.copy_(self.torch.as_tensor(values))

    def networks(self, net: Net) -> tuple[Any, Any]:
        if net.member == "cyclegan":
            from cyclegan_pytorch import networks

            return tuple(
                each.to(self.device, memory_format=self.format)
                for each in networks(net.width, BLOCKS)
            )
        if net.member == "stylegan":
            from stylegan_pytorch import networks

            return tuple(
                each.to(self.device, memory_format=self.format)
                for each in networks(net.width, net.nz)
            )
        nn, w, pixels = self.nn, net.width, int(np.prod(net.shape))
        leaky = lambda: nn.LeakyReLU(0.2, True)
        if net.network == "dcgan":
            nc, size, start = *net.shape[:2], 7 if net.shape[1] == 28 else 4
            widths = [w << i for i in range((size // start).bit_length() - 1)]  # w, 2w, ...
            G = nn.Sequential(nn.Unflatten(1, (net.nz, 1, 1)))
            G.append(nn.ConvTranspose2d(net.nz, widths[-1], start, bias=False))
            for width, out in zip(widths[::-1], [*widths[-2::-1], nc], strict=True):
                G.extend([nn.BatchNorm2d(width), nn.ReLU(True)])
                G.append(nn.ConvTranspose2d(width, out, 4, 2, 1, bias=False))
            G.append(nn.Tanh())
            D = nn.Sequential(nn.Conv2d(nc, w, 4, 2, 1, bias=False), leaky())
            for width in widths[:-1]:
                D.append(nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False))
                D.extend([nn.BatchNorm2d(2 * width)] * (net.member != "wgan-gp") + [leaky()])
            D.append(nn.Conv2d(widths[-1], 1, start, bias=False))
        elif len(net.shape) == 3:
            G = nn.Sequential(nn.Linear(net.nz, w), leaky())
            for i in range(3):
                width = w << i
                G.extend([nn.Linear(width, 2 * width), nn.BatchNorm1d(2 * width), leaky()])
            G.extend([nn.Linear(8 * w, pixels), nn.Tanh(), nn.Unflatten(1, net.shape)])
            D = nn.Sequential(
                nn.Flatten(), nn.Linear(pixels, 4 * w), leaky(), nn.Linear(4 * w, 2 * w), leaky(),
                nn.Linear(2 * w, 1),
            )  # fmt: skip
        else:
            G = nn.Sequential(
                nn.Linear(net.nz, w), nn.ReLU(), nn.Linear(w, w), nn.ReLU(), nn.Linear(w, pixels)
            )
            D = nn.Sequential(
                nn.Linear(pixels, w), leaky(), nn.Linear(w, w), leaky(), nn.Linear(w, 1)
            )
        return tuple(each.to(self.device, memory_format=self.format) for each in (G, D))

    def losses(self, name: str) -> tuple[Callable, Callable]:
        """D's loss of the scores of reals and fakes, and G's."""
        F, ones, zeros = self.F, self.torch.ones_like, self.torch.zeros_like
        bce, mse = F.binary_cross_entropy_with_logits, F.mse_loss
        judge = lambda real, fake: bce(real, ones(real)) + bce(fake, zeros(fake))
        return {
            "non-saturating": (judge, lambda real, fake: bce(fake, ones(fake))),
            "minimax": (judge, lambda real, fake: -bce(fake, zeros(fake))),
            "relativistic": (
                lambda real, fake: bce(real - fake, ones(real)),
                lambda real, fake: bce(fake - real, ones(fake)),
            ),
            "least-squares": (
                lambda real, fake: (mse(real, ones(real)) + mse(fake, zeros(fake))) / 2,
                lambda real, fake: mse(fake, ones(fake)) / 2,
            ),
            "hinge": (
                lambda real, fake: F.relu(1 - real).mean() + F.relu(1 + fake).mean(),
                lambda real, fake: -fake.mean(),
            ),
            "wasserstein": (
                lambda real, fake: fake.mean() - real.mean(),
                lambda real, fake: -fake.mean(),
            ),
        }[name]

    def optimizers(self, net: Net, G: Any, D: Any) -> list[Any]:
        optim = self.torch.optim
        if net.member == "wgan":
            return [optim.RMSprop(each.parameters(), lr=5e-5) for each in (G, D)]
        own = {"wgan-gp": (1e-4, (0.0, 0.9)), "stylegan": (1e-3, (0.0, 0.99))}
        lr, betas = own.get(net.member, (2e-4, (0.5, 0.999)))
        return [optim.Adam(each.parameters(), lr=lr, betas=betas) for each in (G, D)]

    def slope_penalty(self, D: Any, x: Any) -> Any:
        x.requires_grad_()
        (slope,) = self.torch.autograd.grad(D(x).sum(), x, create_graph=True)
        return ((slope.flatten(1).norm(2, dim=1) - 1) ** 2).mean()

    def steps(self, net: Net) -> Callable[[Given], list[Any]]:
        G, D = self.networks(net)
        for seed, each in enumerate((G, D)):
            self.first_weights(each, seed, STD.get(net.member, 0.05))
        opt_G, opt_D = self.optimizers(net, G, D)
        if net.member == "cyclegan":
            from cyclegan_pytorch import steps

            return steps(G, D, [opt_G, opt_D])
        if net.member == "stylegan":
            from stylegan_pytorch import steps

            return steps(G, D, [opt_G, opt_D], net.loss == "R1")
        d_loss, g_loss = self.losses(net.loss)
        again = net.member.startswith("wgan")  # G's half has fakes of its own
        make, score = map(self.torch.compile, (G, D)) if self.compiled else (G, D)

        def step(given: Given) -> list[Any]:
            x, z, u = given[:3]
            for _ in range(net.d_steps):
                fakes = make(z)
                opt_D.zero_grad()
                loss_D = descended = d_loss(score(x).view(-1), score(fakes.detach()).view(-1))
                if net.member == "wgan-gp":
                    between = u * x + (1 - u) * fakes.detach()
                    # What torch.compile makes cannot be differentiated twice: the penalty is eager.
                    descended = loss_D + PENALTY * self.slope_penalty(D, between)
                descended.backward()
                opt_D.step()
                if net.member == "wgan":
                    with self.torch.no_grad():
                        for p in D.parameters():
                            p.clamp_(-CLIP, CLIP)
            D.requires_grad_(False)
            opt_G.zero_grad()
            real = score(x).view(-1) if net.loss == "relativistic" else None
            loss_G = g_loss(real, score(make(z) if again else fakes).view(-1))
            loss_G.backward()
            opt_G.step()
            D.requires_grad_(True)
            return [loss_D.detach(), loss_G.detach()]

        return step


class Floor(Family):
    """The array calls of a step or a layer, without an engine: see family_floor.py."""

    about = f"NumPy {np.__version__}"

    def tensor(self, array: np.ndarray) -> Any:
        return array.astype(np.float32)

    def training(self, net: Net) -> Turn:
        rng = np.random.default_rng(1)  # draws what `Family.game` does
        x = self.tensor(rng.standard_normal((net.batch, *net.shape)))
        z = self.tensor(rng.standard_normal((net.batch, net.nz)))
        step = game(net.shape, net.nz, net.width, x, z)
        return lambda: timed(step)

    def layers(self) -> Callable[[], dict[str, Any]]:
        return self.each({name: floor() for name, floor in FLOORS.items()})


def without(name: str) -> Callable[[], None]:
    """Let a rule of backend/convolution.py apply to nothing."""
    nothing = {"_turned": lambda *shape: False, "_single": lambda window: False}
    return partial(replace, "convolution", **{name: nothing[name]})


def op_by_op() -> None:
    """Linear layers as three operations: a transpose, a product and a sum."""
    from minigan import functional

    functional.linear = lambda x, w, b=None: x @ w.T if b is None else x @ w.T + b


def norms_by_reference() -> None:
    """Layer, instance and group norms on the whole batch."""
    from minigan.backend import reference

    names = ("group_norm", "group_norm_gradients")
    replace("cpu", **{name: getattr(reference, name) for name in names})


# What each part contributes, as in engines.py: {name: a function that replaces the part}.
ABLATIONS = {
    "no filtering of kernel 3": partial(replace, "winograd", applies=lambda window: False),
    "nothing turned round": without("_turned"),
    "columns of single pixels": without("_single"),
    "norms by the reference": norms_by_reference,
    "linear as three operations": op_by_op,
    "every product in `share`": partial(replace, "products", SMALL=0),
    "every product on one thread": partial(replace, "products", PART_WORK=1 << 60),
} | {
    name: ABLATIONS[name]
    for name in ("reference convolutions", "backward rule by rule, nothing fused", "one thread")
}

KINDS: dict[str, Callable[[], Engine]] = {
    "GEMM": Gemm,
    "minigan": Minigan,
    "minigan before": Minigan,
    "PyTorch": PyTorch,
    "PyTorch channels_last": partial(PyTorch, channels_last=True),
    "array calls": Floor,
    **{name: partial(Minigan, patch=patch) for name, patch in ABLATIONS.items()},
}


if __name__ == "__main__":
    engines.main(sys.argv[1], KINDS)
