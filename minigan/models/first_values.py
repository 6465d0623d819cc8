"""The first values of a network's weights.

    normal      N(0, 0.02^2); batch norm's scale N(1, 0.02^2)      Radford, Metz & Chintala 2016
    xavier      U(-a, a) with a = sqrt(6 / (fan_in + fan_out))     Glorot & Bengio 2010
    he          N(0, 2 / fan_in)                                   He et al. 2015
    orthogonal  W W^T = 1, or W^T W = 1 if W has more rows         Saxe, McClelland & Ganguli 2014

All biases are 0, and the scale of a norm is 1 unless the table says otherwise. W is the weight as a
matrix with a row for each output channel. fan_in is the number of inputs that each output sums, and
fan_out the number of outputs that each input contributes to:

                      fan_in              fan_out
    Linear            in                  out
    Conv2d            in k^2              out k^2 / stride^2
    ConvTranspose2d   in k^2 / stride^2   out k^2

Both hold away from the edges. (PyTorch ignores the strides, and swaps the two for a transposed
convolution.) MinibatchDiscrimination ignores the table: see its docstring.
"""

from __future__ import annotations

import math

import numpy as np

from .. import init, nn
from .conditional import ConditionalBatchNorm
from .layers import MinibatchDiscrimination

KINDS = ("normal", "xavier", "he", "orthogonal")


def first_values(
    network: nn.Module, kind: str = "normal", rng: np.random.Generator | None = None
) -> None:
    """Draw all weights of a network anew, in place, in the order of its layers.

    kind  a row of the table above
    rng   by default the generator that `manual_seed` seeds

    Raises ValueError for an unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f"first_values: kind {kind!r} is not one of {', '.join(KINDS)}")

    def draw(module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            _draw_weight(module, kind, rng)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            init.ones_(module.weight)
            if kind == "normal":
                init.normal_(module.weight, 1.0, 0.02, rng)
            init.zeros_(module.bias)
        elif isinstance(module, (nn.GroupNorm, ConditionalBatchNorm)):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, MinibatchDiscrimination):
            module.reset_parameters(rng)

    network.apply(draw)


def _draw_weight(module: nn.Module, kind: str, rng: np.random.Generator | None) -> None:
    """Draw the weight of a linear layer or convolution; with spectral norm, the undivided weight."""
    weight = module.weight_orig if hasattr(module, "weight_orig") else module.weight
    fan_in, fan_out = fans(module, weight.shape)
    if kind == "normal":
        init.normal_(weight, 0.0, 0.02, rng)
    elif kind == "xavier":
        bound = math.sqrt(6 / (fan_in + fan_out))
        init.uniform_(weight, -bound, bound, rng)
    elif kind == "he":
        init.normal_(weight, 0.0, (2 / fan_in) ** 0.5, rng)
    else:
        transposed = isinstance(module, nn.ConvTranspose2d)
        rows = weight.detach().transpose(0, 1) if transposed else weight  # (out, in, ...)
        init.orthogonal_(rows, generator=rng)


def fans(module: nn.Module, shape: tuple[int, ...]) -> tuple[float, float]:
    """(fan_in, fan_out) by the table above."""
    stride = math.prod(getattr(module, "stride", ()))
    first, second = (n * math.prod(shape[2:]) for n in shape[:2])
    if isinstance(module, nn.ConvTranspose2d):  # (in, out, kh, kw)
        return first / stride, second
    return second, first / stride
