"""The family: the list of members that the program and the tests walk.

A member is one page: the formulas of its paper, its options, and one step of its game. It knows
networks, players and what is drawn for it. It knows nothing of files, runs or the loop, which in turn
know no member by name. To add a member, write its page and list it here. From outside the package, set
`minigan.gans.MEMBERS["my-gan"] = MyGAN`.
"""

from __future__ import annotations

from .base import GAN
from .conditional import Conditional
from .cyclegan import CycleGAN
from .ensemble import Ensemble
from .feature_matching import FeatureMatching
from .progressive import Progressive
from .standard import DCGAN, LSGAN, Hinge
from .stylegan import StyleGAN
from .unrolled import Unrolled
from .wgan import WGAN
from .wgan_gp import WGANGP

MEMBERS: dict[str, type[GAN]] = {
    "dcgan": DCGAN,
    "lsgan": LSGAN,
    "hinge": Hinge,
    "feature-matching": FeatureMatching,
    "ensemble": Ensemble,
    "unrolled": Unrolled,
    "wgan": WGAN,
    "wgan-gp": WGANGP,
    "conditional": Conditional,
    "cyclegan": CycleGAN,
    "progressive": Progressive,
    "stylegan": StyleGAN,
}
