"""minigan: an autograd engine in NumPy and CuPy that trains GANs, written to be read.

The files of the engine. Each imports only files listed above it:

    arrays, operands, recording, values   what a Tensor may hold; how operands get one dtype
    walk, tensor                          the graph: backpropagation, Tensors, `op`
    arguments                             checks of sizes, dimensions and flags
    ops, shapes, pieces, conv, normalize  the operations and their backward rules
    image_norm, reductions, probabilities, resizing    more operations, most composed of the above
    init, create, labels, dropout         initial values; new tensors; labels; dropout
    methods, functional                   PyTorch's names for all of them
    nn, optim, gradcheck                  networks, and how they are trained and tested

The GANs are built on the engine: `data`, `models`, `gans`, `training`, `commands`. Start reading with
`tensor.py` and `walk.py`, then `ops.py`. The names are PyTorch's.
"""

import numpy as _np

from . import cuda, functional, init, methods, nn, optim
from .backend import Device as device
from .create import (
    arange,
    from_numpy,
    full,
    full_like,
    linspace,
    ones,
    ones_like,
    rand,
    rand_like,
    randint,
    randn,
    randn_like,
    zeros,
    zeros_like,
)
from .gradcheck import gradcheck, gradgradcheck
from .init import manual_seed
from .ops import (
    abs,
    clamp,
    clone,
    exp,
    log,
    maximum,
    minimum,
    pow,
    sigmoid,
    sqrt,
    tanh,
    where,
)
from .pieces import cat, chunk, gather, pad, split, stack
from .probabilities import log_softmax, logsumexp, softmax
from .reductions import amax, amin, argmax, max, min, norm, prod, std
from .shapes import (
    expand,
    flatten,
    matmul,
    mean,
    permute,
    reshape,
    squeeze,
    sum,
    transpose,
    unflatten,
    unsqueeze,
    var,
)
from .tensor import Tensor, grad, no_grad, tensor
from .version import __version__

float16 = half = _np.dtype("float16")
float32 = float = _np.dtype("float32")
float64 = double = _np.dtype("float64")
int64 = long = _np.dtype("int64")
uint8 = _np.dtype("uint8")
bool = _np.dtype("bool")


def __getattr__(name: str) -> object:
    """Load `train` and `load` on first use, because they import Pillow and all of training."""
    if name in ("train", "load"):
        from . import api

        return getattr(api, name)
    raise AttributeError(f"module 'minigan' has no attribute {name!r}")
