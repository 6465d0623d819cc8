"""Spectral normalisation: a layer whose weight is divided by its largest singular value.

Miyato, Kataoka, Koyama & Yoshida 2018, "Spectral Normalization for Generative Adversarial Networks".
The names and the state dict are those of PyTorch's `torch.nn.utils.spectral_norm`.

W is the weight as a matrix with a row for each output channel. Its largest singular value sigma is
estimated by power iteration (algorithm 1 of the paper), one iteration for each forward pass in training
mode:

    v <- W^T u / |W^T u|        u <- W v / |W v|        sigma = u^T W v

u and v are kept between passes. The weight changes little from one pass to the next, so a single
iteration is enough. The gradient treats u and v as constants (equation 12): if G is the gradient with
respect to W / sigma, the gradient with respect to W is G / sigma - <G, W> / sigma^2 u v^T.
"""

from __future__ import annotations

import math

import numpy as np

from .. import init
from ..functional import maximum
from ..functional import to as moved
from ..tensor import Tensor, no_grad
from .checks import check_only, shown, sizes
from .layers import Conv2d, ConvTranspose2d, Linear
from .module import Buffer, Module


class _SpectralNorm(Module):
    """What the layers below share: the parameter `weight_orig`, the buffers `weight_u`, `weight_v`."""

    rows = 0  # the weight's dimension of output channels
    n_power_iterations: int
    eps: float

    @property
    def weight(self) -> Tensor:
        """W / sigma with the current u and v. Reading it changes neither.

        The graph gets copies of u and v, so that it stays valid when a later pass changes them. A loss
        such as D(x) - D(G(z)) makes two passes before its gradient.
        """
        u, v = self.weight_u.clone(), self.weight_v.clone()
        return self.weight_orig / (u * (self._matrix() @ v)).sum()

    def forward(self, input: Tensor) -> Tensor:
        if self.training:
            self._iterate()
        return super().forward(input)

    def _matrix(self) -> Tensor:
        """The weight as a matrix with a row for each output channel."""
        return self.weight_orig.transpose(0, self.rows).flatten(1)  # (out, in, ...) -> (out, rest)

    def _iterate(self) -> None:
        """Update u and v in place, as for every buffer, because a checkpoint refers to their memory."""
        with no_grad():
            W, u = self._matrix(), self.weight_u
            for _ in range(self.n_power_iterations):
                v = _unit(W.T @ u, self.eps)
                u = _unit(W @ v, self.eps)
        self.weight_u.copy_(u)
        self.weight_v.copy_(v)


class SpectralNormLinear(_SpectralNorm, Linear):
    """A Linear layer with spectral normalisation, made by `spectral_norm`."""


class SpectralNormConv2d(_SpectralNorm, Conv2d):
    """A Conv2d with spectral normalisation, made by `spectral_norm`."""


class SpectralNormConvTranspose2d(_SpectralNorm, ConvTranspose2d):
    """A ConvTranspose2d with spectral normalisation, made by `spectral_norm`."""

    rows = 1  # its weight is (in_channels, out_channels, kh, kw)


_NORMALIZED = {
    Linear: SpectralNormLinear,
    Conv2d: SpectralNormConv2d,
    ConvTranspose2d: SpectralNormConvTranspose2d,
}
_PLAIN = {normalized: plain for plain, normalized in _NORMALIZED.items()}


def spectral_norm(
    module: Module,
    name: str = "weight",
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    dim: int | None = None,
    *,
    generator: np.random.Generator | None = None,
) -> Module:
    """Let a layer use W / sigma instead of its weight W, and return the layer.

    The layer's class changes to one of those above. Its weight remains the same Parameter, under the
    name `weight_orig`; initialise it before, or under that name. u and v are drawn in this order from
    `generator`, by default the one that `manual_seed` seeds: normal numbers, scaled to length 1.

    In evaluation mode u and v do not change, but the weight is still divided by sigma. An average of
    the network copies u and v (see `Buffer.averaged`), because the average of two vectors of length 1
    is shorter.

    n_power_iterations  iterations per forward pass in training mode
    eps                 the smallest length that u and v are divided by
    name, dim           PyTorch's; only the defaults are supported

    Raises TypeError for a layer that is not a Linear, Conv2d or ConvTranspose2d, and ValueError for one
    that is already normalised.
    """
    check_only("spectral_norm", name=name, dim=dim)
    (n_power_iterations,) = sizes("spectral_norm", n_power_iterations=n_power_iterations)
    if type(module) in _PLAIN:
        raise ValueError(
            f"spectral_norm: this {_PLAIN[type(module)].__name__} is already normalised; "
            "call remove_spectral_norm first"
        )
    if type(module) not in _NORMALIZED:
        layers = ", ".join(layer.__name__ for layer in _NORMALIZED)
        raise TypeError(f"spectral_norm: expected one of {layers}, not {shown(module)}")
    weight = module.weight
    del module.weight
    module.__class__ = _NORMALIZED[type(module)]
    module.weight_orig = weight
    module.n_power_iterations, module.eps = n_power_iterations, float(eps)
    out = weight.shape[module.rows]
    for vector, length in (("u", out), ("v", math.prod(weight.shape) // out)):
        first = init.normal_(init.memory((length,), weight.dtype), generator=generator)
        unit = moved(_unit(Tensor(first), module.eps), weight.device)
        setattr(module, f"weight_{vector}", Buffer(unit, averaged=False))
    return module


def remove_spectral_norm(module: Module) -> Module:
    """Undo `spectral_norm`, and return the layer. Its weight, the same Parameter, becomes W / sigma.

    In evaluation mode the layer computes what it did before. Raises ValueError if it is not normalised.
    """
    if type(module) not in _PLAIN:
        raise ValueError(
            f"remove_spectral_norm: this {type(module).__name__} has no spectral norm to remove"
        )
    weight = module.weight_orig
    weight.data = module.weight.data
    del module.weight_orig, module.weight_u, module.weight_v, module.n_power_iterations, module.eps
    module.__class__ = _PLAIN[type(module)]
    module.weight = weight
    return module


def _unit(x: Tensor, eps: float) -> Tensor:
    """x / max(|x|, eps), for a vector x."""
    return x / maximum((x * x).sum().sqrt(), eps)
