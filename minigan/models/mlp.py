"""Fully connected networks for points, with two hidden layers each."""

from __future__ import annotations

import numpy as np

from .. import init, nn
from ..tensor import Tensor


def _initialize(network: nn.Module, rng: np.random.Generator | None) -> None:
    """Weights N(0, 2 / fan_in), which keeps the variance through ReLUs (He et al. 2015); biases 0."""

    def first_values(module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            fan_in = module.weight.shape[1]
            init.normal_(module.weight, 0.0, (2 / fan_in) ** 0.5, rng)
            module.bias.data[...] = 0.0  # not *= 0, which would keep the sign

    network.apply(first_values)


class Generator(nn.Module):
    """Noise z (N, nz) -> points (N, features), unbounded."""

    def __init__(
        self,
        nz: int = 100,
        width: int = 128,
        features: int = 2,
        rng: np.random.Generator | None = None,
    ):
        self.main = nn.Sequential(
            nn.Linear(nz, width), nn.ReLU(),
            nn.Linear(width, width), nn.ReLU(),
            nn.Linear(width, features),
        )  # fmt: skip
        _initialize(self, rng)

    def forward(self, z: Tensor) -> Tensor:
        return self.main(z)


class Discriminator(nn.Module):
    """Points (N, features) -> scores (N, 1), before any sigmoid."""

    def __init__(self, width: int = 128, features: int = 2, rng: np.random.Generator | None = None):
        self.main = nn.Sequential(
            nn.Linear(features, width), nn.LeakyReLU(0.2),
            nn.Linear(width, width), nn.LeakyReLU(0.2),
            nn.Linear(width, 1),
        )  # fmt: skip
        _initialize(self, rng)

    def logits(self, x: Tensor) -> Tensor:
        return self.main(x)
