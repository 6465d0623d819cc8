"""The kernels of `reference.py` for the CPU, under the same names, in blocks and on all cores.

This file only lists them; each is defined in the file that it is imported from.
"""

from __future__ import annotations

from . import memory
from .convolution import conv, conv_gradients, conv_image, conv_image_gradients, conv_weight
from .image_norm import group_norm, group_norm_gradients
from .products import matmul, matmuls
from .reference import cross_entropy, cross_entropy_gradient, scale_pixels
from .rows import (
    batch_norm_gradients,
    batch_statistics,
    keep,
    leaky_relu,
    leaky_relu_gradient,
    moments,
    scale_shift,
)
from .sums import average, norm, total
from .updates import adam, lerp

__all__ = [
    "adam",
    "average",
    "batch_norm_gradients",
    "batch_statistics",
    "conv",
    "conv_gradients",
    "conv_image",
    "conv_image_gradients",
    "conv_weight",
    "cross_entropy",
    "cross_entropy_gradient",
    "group_norm",
    "group_norm_gradients",
    "keep",
    "leaky_relu",
    "leaky_relu_gradient",
    "lerp",
    "matmul",
    "matmuls",
    "moments",
    "norm",
    "scale_pixels",
    "scale_shift",
    "total",
]

memory.keep_freed_memory()
