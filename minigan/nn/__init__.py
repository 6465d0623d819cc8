"""Layers and networks, under PyTorch's names: `from minigan import nn`.

module.py         Module: finds, saves, loads and moves parameters and submodules
layers.py         Linear, Embedding, convolutions, activations
normalization.py  batch, layer, instance and group norm
resizing.py       pooling, upsampling, padding
dropout.py        Dropout and Dropout2d
containers.py     Sequential, ModuleList, ModuleDict
losses.py         the losses as modules
utils.py          spectral_norm
loading.py        the checks of a state dict's values
checks.py         the checks of a layer's arguments
"""

from .. import functional, init
from . import utils
from .containers import ModuleDict, ModuleList, Sequential
from .dropout import Dropout, Dropout2d
from .layers import (
    Conv2d,
    ConvTranspose2d,
    Embedding,
    Flatten,
    Identity,
    LeakyReLU,
    Linear,
    LogSoftmax,
    ReLU,
    Sigmoid,
    Softmax,
    Softplus,
    Tanh,
    Unflatten,
)
from .losses import BCELoss, BCEWithLogitsLoss, CrossEntropyLoss, L1Loss, MSELoss
from .module import Buffer, Module, Parameter
from .normalization import BatchNorm1d, BatchNorm2d, GroupNorm, InstanceNorm2d, LayerNorm
from .resizing import AvgPool2d, MaxPool2d, ReflectionPad2d, Upsample
