"""Recipes: options for a member on a data set for which its paper's defaults are unsuitable.

`plan.choose` applies them, unless the user gives other values.
"""

from __future__ import annotations

from typing import Any

# Drawn faces are for a few minutes on a CPU, so the networks are narrow. D is the narrower one, because
# drawn faces are easy to tell from fakes. G's last layer has separate weights for pixels at even and
# odd positions, which leaves a weave with a period of two pixels. It nearly disappears if D sees every
# image randomly shifted, because then the position of the weave tells D nothing.
FACES = {"ngf": 32, "ndf": 16, "batch_size": 64, "lr": 5e-4, "augment": "translation"}
FACES |= {"ema": 0.995, "epochs": 10}

# Points: networks of width 128 (Metz et al. 2017, appendix), noise with as many dimensions as the data,
# and a learning rate with which a minute on two cores is enough.
POINTS = {"nz": 2, "ngf": 128, "ndf": 128, "batch_size": 256, "lr": 1e-3}
POINTS |= {"steps": 4000, "sample_every": 100}

# Gulrajani et al. 2017 use a penalty of 0.1 and batches of 256 for their toy data, and update D five
# times per step. Two updates with three times G's learning rate (Heusel et al. 2017) do as well in half
# the time: after the steps given below, all five seeds that were tried cover the ring.
CRITIC = {**POINTS, "penalty": 0.1, "beta1": 0.5, "beta2": 0.9, "d_steps": 2, "d_lr": 3e-3}

# Images of 28 or 32 pixels a side: 1500 to 3000 steps, which take two to five minutes on two cores. A
# longer average of G smooths the edges of strokes. The real sets have 50,000 or 60,000 images.
SMALL = {"ngf": 32, "ndf": 32, "batch_size": 64, "lr": 5e-4, "ema": 0.995, "epochs": 10}
MANY = {**SMALL, "epochs": 3, "sample_every": 200}
COLOUR = {"augment": "translation"}  # against the weave in the samples, as for faces

RECIPES: dict[tuple[str, str], dict[str, Any]] = {
    ("dcgan", "faces"): FACES,
    # With a critic, 25 epochs are only 500 steps: an average with 0.995 would lag too far behind.
    ("wgan", "faces"): {**FACES, "lr": 5e-5, "ema": 0.98, "epochs": 25},
    ("wgan-gp", "faces"): {**FACES, "ema": 0.98, "epochs": 25},
    ("dcgan", "ring"): POINTS,
    ("dcgan", "grid"): POINTS,
    ("wgan", "ring"): {**POINTS, "clip": 0.1, "steps": 3000, "epochs": 40},
    ("wgan", "grid"): {**POINTS, "clip": 0.1, "steps": 3000, "epochs": 40},
    ("wgan-gp", "ring"): {**CRITIC, "steps": 2000},
    ("wgan-gp", "grid"): {**CRITIC, "steps": 2500},
}

# Members that vary the standard game. A step of the unrolled member costs about six times as much.
for _member in ("lsgan", "hinge", "feature-matching", "ensemble"):
    RECIPES[_member, "faces"] = FACES
    RECIPES[_member, "ring"] = RECIPES[_member, "grid"] = POINTS
RECIPES["unrolled", "faces"] = {**FACES, "norm": "none", "ema": 0.98, "steps": 300}
RECIPES["unrolled", "ring"] = RECIPES["unrolled", "grid"] = {**POINTS, "steps": 2000}
RECIPES["conditional", "ring"] = RECIPES["conditional", "grid"] = POINTS

for _member in ("dcgan", "lsgan", "hinge", "feature-matching", "ensemble", "conditional"):
    RECIPES[_member, "digits"] = SMALL
    RECIPES[_member, "mnist"] = RECIPES[_member, "fashion-mnist"] = MANY
    RECIPES[_member, "shapes"] = {**SMALL, **COLOUR, "epochs": 15}
    RECIPES[_member, "cifar10"] = {**MANY, **COLOUR}
# Behind batch norm, the gradient through the updates of D is hundreds of times too long for G to learn.
RECIPES["unrolled", "digits"] = {**SMALL, "norm": "none", "ema": 0.98, "steps": 400}

# Narrow networks on small images, so that 20 minutes are enough. A step with four images of each season
# takes twice as long as the paper's with one, and gets further in the same time. D sees patches of 34
# pixels, because an image has only 32.
RECIPES["cyclegan", "seasons"] = {"image_size": 32, "ngf": 16, "ndf": 16, "d_layers": 2, "lr": 5e-4}
RECIPES["cyclegan", "seasons"] |= {"batch_size": 4, "lr_decay_start": 2000, "lr_decay": 2000}
RECIPES["cyclegan", "seasons"] |= {"steps": 4000, "sample_every": 500}

# D is updated five times per step, so an epoch has a fifth of the steps, and D is narrower.
RECIPES["wgan-gp", "digits"] = {**SMALL, "ndf": 16, "epochs": 40}
RECIPES["wgan", "digits"] = {**SMALL, "ndf": 16, "epochs": 40, "lr": 2e-4}
RECIPES["wgan-gp", "mnist"] = {**MANY, "ndf": 16, "epochs": 7}
RECIPES["wgan-gp", "fashion-mnist"] = RECIPES["wgan-gp", "mnist"]

# The paper's schedule shows 5.4 million images, and moves weights of size 1 by 0.001 per update. A run
# of some minutes has fewer updates, so each is larger. The last size lasts twice as long as a phase.
GROWN = {"image_size": 32, "nz": 64, "ngf": 32, "ndf": 24, "batch_size": 32, "lr": 4e-3}
GROWN |= {"ema": 0.99, "phase_images": 12_800, "epochs": 16, "sample_every": 200}
RECIPES["progressive", "faces"] = GROWN
RECIPES["progressive", "celeba"] = {"epochs": 27}  # the schedule of the paper for 64 pixels
for _data in ("digits", "shapes"):
    RECIPES["progressive", _data] = {**GROWN, "phase_images": 10_000, "epochs": 8}
for _data in ("mnist", "fashion-mnist", "cifar10"):
    RECIPES["progressive", _data] = {**GROWN, "phase_images": 20_000, "epochs": 3}

# As for growing, a run of some minutes needs larger updates, also in the mapping network. Images of 32
# pixels need a weaker penalty: a usual rule is 0.0002 pixels / batch size (Karras et al. 2020, "Limited
# Data"), which is 0.01 here.
STYLED = {"image_size": 32, "nz": 64, "ngf": 32, "ndf": 24, "batch_size": 16, "lr": 4e-3}
STYLED |= {"mapping_lr": 0.1, "r1": 0.5, "ema": 0.995, "steps": 4000, "sample_every": 250}
RECIPES["stylegan", "digits"] = {**STYLED, "steps": 2500}
for _data in ("faces", "shapes", "mnist", "fashion-mnist", "cifar10"):
    RECIPES["stylegan", _data] = STYLED


def recipe(member: str, data: str) -> dict[str, Any]:
    """The overrides of a member on a data set; none if there is no row."""
    return RECIPES.get((member, data), {})
