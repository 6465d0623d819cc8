"""Optimisers, which change parameters by their gradients, under PyTorch's names.

algorithms.py  SGD, RMSprop and Adam, each with its formula
optimizer.py   what they share: the step, the live state, state dicts
checks.py      the checks of parameters, options and gradients
saved.py       reads state dicts, strictly
"""

from .algorithms import SGD, Adam, RMSprop
from .optimizer import Optimizer
