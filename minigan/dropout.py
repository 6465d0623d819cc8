"""Dropout: in training, random parts of the input are set to 0 (Srivastava et al. 2014, "Dropout").

The remaining elements are divided by the probability of remaining. So the mean stays the same, and
evaluation needs no change.
"""

from __future__ import annotations

from collections.abc import Callable

from .arguments import check_floats, is_real
from .backend import array_module
from .create import rand
from .tensor import Tensor

Uniform = Callable[[tuple[int, ...]], Tensor]


def check_probability(name: str, p: float) -> None:
    """Raise ValueError unless p is a number from 0 to 1."""
    if not is_real(p) or not 0 <= p <= 1:
        raise ValueError(f"{name}: p must be a number from 0 to 1, not {p!r}")


def dropout(
    input: Tensor, p: float = 0.5, training: bool = True, *, uniform: Uniform | None = None
) -> Tensor:
    """Each element set to 0 with probability p, and otherwise divided by 1 - p, if `training`.

    uniform  maps a shape to random numbers from U(0, 1) on the input's device. By default they come
             from the generator that `manual_seed` seeds, and are drawn on the host.

    Raises TypeError or ValueError if p is not a probability, the input is not a tensor of floats, or
    the random numbers have another shape.
    """
    return _dropped("dropout", input, p, training, uniform, pixels=False)


def dropout2d(
    input: Tensor, p: float = 0.5, training: bool = True, *, uniform: Uniform | None = None
) -> Tensor:
    """Like `dropout`, with one random number for each image and channel of an input (N, C, H, W).

    Neighbouring pixels are alike, so setting single ones to 0 removes little information (Tompson et
    al. 2015, "Efficient Object Localization Using Convolutional Networks").
    """
    return _dropped("dropout2d", input, p, training, uniform, pixels=True)


def _dropped(
    name: str, input: Tensor, p: float, training: bool, uniform: Uniform | None, pixels: bool
) -> Tensor:
    check_probability(name, p)
    check_floats(name, input)
    if pixels and input.ndim != 4:
        raise ValueError(f"{name}: expected an input (N, C, H, W), not {input.shape}")
    if not training or p == 0:
        return input
    shape = (*input.shape[:2], 1, 1) if pixels else input.shape
    u = rand(*shape, device=input.device) if uniform is None else uniform(shape)
    if u.shape != shape:
        raise ValueError(f"{name}: `uniform` returned the shape {u.shape}, expected {shape}")
    p = float(p)  # a stray np.float64 would widen a float32 network
    kept = array_module(input.data).zeros_like(input.data[..., :1, :1] if pixels else input.data)
    kept[...] = u.data >= p  # in the input's memory order, which the product will have too
    return input * Tensor(kept / (1 - p) if p < 1 else kept * 0)
