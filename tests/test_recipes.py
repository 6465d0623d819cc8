"""The promises of recipes: the number of modes that a member covers, on seeds fixed beforehand."""

import os
from functools import partial

import pytest

import minigan
from minigan.data import seasons
from minigan.data.mixture import Mixture
from minigan.evaluation.translation import cycle_errors, translation_errors
from minigan.training import pictures

DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
SEEDS = range(5)


@pytest.mark.skipif(not DEEP, reason="takes minutes: deep")
def test_wgan_gp_covers_the_whole_ring(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "save_curves", lambda folder, metrics: None)
    ring, covered = Mixture("ring"), []
    for seed in SEEDS:
        trained = minigan.train(
            "wgan-gp", "ring", seed=seed, out=str(tmp_path), say=lambda text: None
        )
        covered.append(ring.modes(trained.sample(ring.shown))[0])
    assert covered.count(len(ring.centers)) >= 4, covered


@pytest.mark.skipif(not DEEP, reason="takes 20 minutes: deep")
def test_cyclegan_finds_the_other_season_of_new_faces(tmp_path, monkeypatch):
    """It beats all maps of colours, either way, and hides nothing in invisible differences."""
    monkeypatch.setattr(pictures, "save_curves", lambda folder, metrics: None)
    trained = minigan.train("cyclegan", "seasons", out=str(tmp_path), say=lambda text: None)
    faces = seasons.pairs(trained.game.options.seed, range(6400, 6500), 32)
    for k, x, y in ((1, *faces), (0, *faces[::-1])):
        there, back = partial(trained.translate, y=k), partial(trained.translate, y=1 - k)
        errors = translation_errors(there(x), x, y)
        assert min(errors, key=errors.get) == "translation", errors
        cycle = cycle_errors(there, back, x)
        assert cycle["8 bits"] < 1.01 * cycle["as it is"], cycle
