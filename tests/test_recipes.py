"""The promises of recipes: the number of modes that a member covers, on seeds fixed beforehand."""

import os

import pytest

import minigan
from minigan.data.mixture import Mixture
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
