"""minigan: an autograd engine in NumPy and CuPy that trains GANs, written to be read.

Start with `tensor.py` (what a Tensor is, and how the graph is walked), then `ops.py`, `conv.py` and
`normalize.py` (the operations and their backward rules). The names are PyTorch's.
"""

from . import functional, init, nn, optim
from .gradcheck import gradcheck, gradgradcheck
from .init import manual_seed
from .ops import (
    abs,
    cat,
    clamp,
    exp,
    expand,
    flatten,
    log,
    matmul,
    maximum,
    mean,
    pad,
    permute,
    reshape,
    sigmoid,
    sqrt,
    squeeze,
    stack,
    sum,
    tanh,
    transpose,
    unsqueeze,
    var,
    where,
)
from .tensor import Tensor, grad, no_grad, tensor

__version__ = "0.1.0"
