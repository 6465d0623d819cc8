"""Checks of the arguments of layers, with their error messages. Used by the files of `nn`."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arguments import is_whole


def sizes(layer: str, **sizes: int) -> tuple[int, ...]:
    """The sizes as ints. Raises ValueError unless they are whole numbers of at least 1."""
    for name, value in sizes.items():
        if not is_whole(value) or value < 1:
            raise ValueError(f"{layer}: {name} must be an int >= 1, not {shown(value)}")
    return tuple(int(value) for value in sizes.values())


def check_dims(layer: str, **dims: int) -> None:
    """Raise ValueError unless the dimensions are whole numbers; negative ones count from the end."""
    for name, dim in dims.items():
        if not is_whole(dim):
            raise ValueError(f"{layer}: {name} must be an int, not {shown(dim)}")


def check_bool(name: str, value: bool) -> None:
    """Raise ValueError unless the value is a bool."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name} must be True or False, not {shown(value)}")


# PyTorch's options that minigan does not support, and the only values that it accepts for them. Layers
# accept the options so that calls can pass them, and those after them, by position.
ONLY = {
    "dilation": (1, (1, 1)),
    "groups": (1,),
    "padding_mode": ("zeros",),
    "momentum": (0.1,),
    "affine": (True,),
    "track_running_stats": (True,),
    "name": ("weight",),
    "dim": (None,),
}


def check_only(layer: str, **options: Any) -> None:
    """Raise ValueError unless each option has one of its values in `ONLY`."""
    for name, given in options.items():
        value = int(given) if is_whole(given) else given
        if not any(type(value) is type(only) and value == only for only in ONLY[name]):
            raise ValueError(
                f"{layer}: {name}={shown(given)} is not supported, only {ONLY[name][0]!r} "
                "(the arguments are in PyTorch's order)"
            )


def shown(value: Any) -> str:
    """A value for a message, on one line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
