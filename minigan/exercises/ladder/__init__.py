"""The ladder: every exercise, in the order in which they build on each other."""

from __future__ import annotations

from ..exercise import Exercise
from . import (
    batch_norm_rule,
    broadcasting,
    chain_rule,
    collapse,
    conv_adjoint,
    detach,
    diversity,
    earth_mover,
    frechet_distance,
    game_on_the_ring,
    gradient_penalty,
    spectral_norm,
    stable_loss,
    topological_order,
    two_ways,
    unrolled_step,
)

PAGES = (
    chain_rule,
    two_ways,
    topological_order,
    broadcasting,
    conv_adjoint,
    batch_norm_rule,
    stable_loss,
    detach,
    game_on_the_ring,
    earth_mover,
    gradient_penalty,
    spectral_norm,
    unrolled_step,
    collapse,
    diversity,
    frechet_distance,
)
LADDER: dict[str, Exercise] = {exercise.name: exercise for exercise in map(Exercise, PAGES)}
