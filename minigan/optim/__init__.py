"""Optimisers: from parameters and gradients to new parameters, under PyTorch's names.

algorithms.py  SGD, RMSprop, Adam, with the formula above each
optimizer.py   what they share: the step, the live state, state dicts
checks.py      which parameters, options and gradients are refused
saved.py       the strict reading of state dicts
"""

from .algorithms import SGD, Adam, RMSprop
from .optimizer import Optimizer
