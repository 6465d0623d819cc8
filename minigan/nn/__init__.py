"""Layers and networks, under PyTorch's names: `from minigan import nn`.

module.py      Module: finds, saves, loads and moves parameters and submodules
layers.py      Linear, convolutions, batch norm, activations
containers.py  Sequential, ModuleList, ModuleDict
losses.py      BCELoss and BCEWithLogitsLoss
utils.py       spectral_norm
loading.py     the checks of a state dict's values
checks.py      the checks of a layer's arguments
"""

from .. import functional, init
from . import utils
from .containers import ModuleDict, ModuleList, Sequential
from .layers import (
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    ConvTranspose2d,
    Flatten,
    Identity,
    LeakyReLU,
    Linear,
    ReLU,
    Sigmoid,
    Tanh,
)
from .losses import BCELoss, BCEWithLogitsLoss
from .module import Buffer, Module, Parameter
