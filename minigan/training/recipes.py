"""Recipes: options for a member on a data set for which its paper's defaults are unsuitable.

`plan.choose` applies them, unless the user gives other values.
"""

from __future__ import annotations

from typing import Any

# Drawn faces are for a CPU and a few minutes, so the networks are narrow. D is the narrower one,
# because drawn faces are easy to tell from fakes. G's last layer computes pixels at even and odd places
# by weights of their own, which leaves a weave two pixels wide. It stays while D recognises fakes by
# where it lies, and goes if D sees all images moved at random.
FACES = {"ngf": 32, "ndf": 16, "batch_size": 64, "lr": 5e-4, "augment": "translation"}
FACES |= {"ema": 0.995, "epochs": 10}

# Points: networks of width 128 (Metz et al. 2017, appendix), as many dimensions of noise as of data,
# and a learning rate with which a minute on two cores is enough.
POINTS = {"nz": 2, "ngf": 128, "ndf": 128, "batch_size": 256, "lr": 1e-3}
POINTS |= {"steps": 4000, "sample_every": 100}

RECIPES: dict[tuple[str, str], dict[str, Any]] = {
    ("dcgan", "faces"): FACES,
    ("wgan", "faces"): {**FACES, "lr": 5e-5, "epochs": 30},
    ("wgan-gp", "faces"): {**FACES, "lr": 1e-4, "epochs": 30},
    ("dcgan", "ring"): POINTS,
    ("dcgan", "grid"): POINTS,
    ("wgan", "ring"): {**POINTS, "clip": 0.1, "steps": 1500},
    ("wgan", "grid"): {**POINTS, "clip": 0.1, "steps": 1500},
    # Gulrajani et al. 2017 use a penalty of 0.1 and batches of 256 for their toy data.
    ("wgan-gp", "ring"): {**POINTS, "penalty": 0.1, "beta1": 0.5, "beta2": 0.999, "steps": 1500},
    ("wgan-gp", "grid"): {**POINTS, "penalty": 0.1, "beta1": 0.5, "beta2": 0.999, "steps": 1500},
}


def recipe(member: str, data: str) -> dict[str, Any]:
    """The overrides of a member on a data set; none if there is no row."""
    return RECIPES.get((member, data), {})
