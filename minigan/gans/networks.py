"""The networks of a member, as its options choose them, and D's scores through a Judge."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import UserError
from ..models import FOR_IMAGES, first_values, mlp
from ..nn import Module
from .base import Options
from .judge import Judge


def make(
    shape: tuple[int, ...],
    options: Options,
    rng: np.random.Generator,
    device: str,
    classes: int = 0,
    g_labels: str = "one-hot",
    d_labels: str = "planes",
) -> tuple[Module, Module, Judge]:
    """(G, D, scores) for samples of this shape, as the options choose them; MLPs for points.

    classes             the number of classes that both networks tell apart; 0 if they are told none
    g_labels, d_labels  how G and D are told the class: see `models/base.py`

    `scores` maps samples (N, *shape) and a Draw to D's scores: see `judge.Judge`. Raises UserError if
    the chosen networks cannot make samples of this shape.
    """
    o, name = options, _name(shape, options)
    labels = {"classes": classes, "condition": g_labels}
    if name == "mlp":
        G: Module = mlp.Generator(o.nz, o.ngf, shape, rng, **labels)
    else:
        G = FOR_IMAGES[name].Generator(o.nz, o.ngf, shape[0], shape[2], rng, **labels)
    if o.init != "auto":
        first_values.first_values(G, o.init, rng)
    G.to(device)
    return G, *make_D(shape, options, rng, device, classes, d_labels)


def make_D(
    shape: tuple[int, ...],
    options: Options,
    rng: np.random.Generator,
    device: str,
    classes: int = 0,
    d_labels: str = "planes",
) -> tuple[Module, Judge]:
    """(D, scores), as `make` makes them; for members with several discriminators."""
    o, name = options, _name(shape, options)
    choices = {
        "dropout": o.d_dropout,
        "spectral_norm": o.spectral_norm or name == "sngan",
        "minibatch_std": o.minibatch_std,
        "minibatch_discrimination": o.minibatch_discrimination,
        "pack": o.pack,
        "classes": classes,
        "condition": d_labels,
    }
    if name == "mlp":
        D: Any = mlp.Discriminator(o.ndf, shape, rng, **choices)
    else:
        if name != "sngan":  # its D has no norm to choose
            choices["norm"] = o.norm_of_D
        D = FOR_IMAGES[name].Discriminator(o.ndf, shape[0], shape[2], rng, **choices)
    if o.init != "auto":
        first_values.first_values(D, o.init, rng)
    D.to(device)
    return D, Judge(D, o)


def _name(shape: tuple[int, ...], options: Options) -> str:
    """The name of the networks to use. Raises UserError if they cannot make samples of this shape."""
    if len(shape) != 3:
        return "mlp"
    name = "dcgan" if options.network == "auto" else options.network
    sizes = shape[2:] if name == "mlp" else FOR_IMAGES[name].IMAGE_SIZES
    if shape[2] not in sizes:
        legal = ", ".join(map(str, sizes))
        raise UserError(
            f"--network {name} makes images of {legal} pixels, not {shape[2]}; give --image-size "
            f"{sizes[0]}, or use --network dcgan"
        )
    return name
