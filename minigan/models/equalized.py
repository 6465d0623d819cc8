"""Equalised learning rates: layers that scale their weights in every forward pass.

Karras, Aila, Laine & Lehtinen 2018, "Progressive Growing of GANs", section 4.1. The stored weight is
drawn from N(0, 1), and the layer computes with

    c W,  c = gain / sqrt(fan_in)

so its outputs have the size that the initialisation of He et al. 2015 gives them. The difference is in
the updates: a step of Adam has a length that does not depend on the size of a weight, so it moves c W
by c times the learning rate. Then all layers learn at the same relative speed. If the first weights
were merely drawn with standard deviation c, small weights would change faster than large ones.
"""

from __future__ import annotations

import math

import numpy as np

from .. import init, nn
from ..nn import Module
from ..tensor import Tensor
from .first_values import fans

GAIN = math.sqrt(2)  # that of He et al.: it makes up for the half that a (leaky) ReLU removes


class _Equalized(Module):
    """What the layers below share: the parameter `weight_orig`, and the factor `scale`."""

    scale: float

    @property
    def weight(self) -> Tensor:
        """c W, a part of the graph."""
        return self.weight_orig * self.scale


class EqualizedLinear(_Equalized, nn.Linear):
    """A Linear layer with a scaled weight, made by `equalized`."""


class SlowLinear(EqualizedLinear):
    """A Linear layer whose weight and bias learn at a fraction of the rate, made by `slow_linear`."""

    rate: float

    @property
    def bias(self) -> Tensor:
        """rate * bias_orig, a part of the graph."""
        return self.bias_orig * self.rate


class EqualizedConv2d(_Equalized, nn.Conv2d):
    """A Conv2d with a scaled weight, made by `equalized`."""


class EqualizedConvTranspose2d(_Equalized, nn.ConvTranspose2d):
    """A ConvTranspose2d with a scaled weight, made by `equalized`."""


_EQUALIZED = {
    nn.Linear: EqualizedLinear,
    nn.Conv2d: EqualizedConv2d,
    nn.ConvTranspose2d: EqualizedConvTranspose2d,
}


def equalized(
    layer: Module,
    rng: np.random.Generator | None = None,
    gain: float = GAIN,
    std: float = 1.0,
) -> Module:
    """Let a new layer use c W instead of its weight, and return the layer.

    Its class changes to one of those above. Its weight remains the same Parameter, under the name
    `weight_orig`, with new values from N(0, std^2) and a scale of c / std; the bias becomes 0 and is
    not scaled.

    layer  a Linear, Conv2d or ConvTranspose2d; its fan_in is that of `first_values`
    rng    by default the generator that `manual_seed` seeds

    Raises TypeError for any other layer.
    """
    if type(layer) not in _EQUALIZED:
        layers = ", ".join(each.__name__ for each in _EQUALIZED)
        raise TypeError(f"equalized: expected one of {layers}, not {type(layer).__name__}")
    weight = layer.weight
    layer.scale = gain / math.sqrt(fans(layer, weight.shape)[0]) / std
    del layer.weight
    layer.__class__ = _EQUALIZED[type(layer)]
    layer.weight_orig = weight
    init.normal_(weight, 0.0, std, rng)
    if layer.bias is not None:
        init.zeros_(layer.bias)
    return layer


def slow_linear(
    inside: int, out: int, rate: float, rng: np.random.Generator | None = None
) -> SlowLinear:
    """An equalised Linear layer whose learning rate is multiplied by `rate` (Karras et al. 2019).

    The stored weight is N(0, 1 / rate^2) and the layer computes with rate c times it, whose first value
    is N(0, c^2) as before. A step of Adam, whose length does not depend on the size of a weight, moves
    that product by `rate` times as much. The bias is scaled by `rate` too.
    """
    layer = equalized(nn.Linear(inside, out), rng, std=1 / rate)
    bias = layer.bias
    del layer.bias
    layer.__class__ = SlowLinear
    layer.bias_orig, layer.rate = bias, rate
    return layer
