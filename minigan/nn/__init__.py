"""Layers and networks, under PyTorch's names: `from minigan import nn`.

module.py      Module: how parameters and submodules are found, saved, loaded and moved
layers.py      Linear, convolutions, batch norm, activations
containers.py  Sequential, ModuleList, ModuleDict
losses.py      BCELoss and BCEWithLogitsLoss
loading.py, checks.py
               what a state dict's values and a layer's arguments must be
"""

from .. import functional, init
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
