"""The comparison of chapter 13: its game, its runs, and, at length, what it found."""

import importlib
import os

import numpy as np
import pytest
import tiny

from minigan import nn
from minigan.gans import MEMBERS
from minigan.training import pictures
from minigan.training.run import Run, numbered_runs

DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"


@pytest.fixture
def script(monkeypatch, tmp_path):
    """The script, in an empty folder, with the member that it registers."""
    monkeypatch.setitem(MEMBERS, "metz", None)  # so that it is forgotten afterwards
    monkeypatch.syspath_prepend(tiny.ROOT / "docs/figures")
    monkeypatch.setattr(pictures, "save_curves", lambda folder, metrics: None)
    monkeypatch.chdir(tmp_path)
    return importlib.reload(importlib.import_module("make_modes_figures"))


def test_the_networks_are_those_of_the_paper(script):
    """Metz et al. 2017, appendix: sizes, and orthogonal first weights with a gain of 0.8."""
    member = MEMBERS["metz"](script.Options(), (2,), np.random.default_rng(0))
    sizes = {"G": [(128, 256), (128, 128), (2, 128)], "D": [(128, 2), (1, 128)]}
    for name, shapes in sizes.items():
        layers = [m for m in member.players[name].net.modules() if isinstance(m, nn.Linear)]
        assert [layer.weight.shape for layer in layers] == shapes
        for layer in layers:
            singular = np.linalg.svd(layer.weight.numpy(), compute_uv=False)
            np.testing.assert_allclose(singular, 0.8, rtol=1e-5)  # float32
            assert not layer.bias.numpy().any()


def test_a_run_is_played_once_and_an_interrupted_one_is_resumed(script, monkeypatch):
    monkeypatch.setattr(script, "EVERY", 2)
    monkeypatch.setattr(script, "STEPS", {0: 4, 5: 2})
    whole = [path.name for path in script.checkpoints(0, 3)]
    assert [script.step(script.Path(name)) for name in whole] == [2, 4]
    (run,) = map(Run, numbered_runs(script.OUT))
    before = tiny.newest(run)
    (run.checkpoints / whole[-1]).unlink()
    assert [path.name for path in script.checkpoints(0, 3)] == whole
    assert tiny.newest(run) == before
    monkeypatch.setattr(script.commands, "main", None)  # a complete run is only read
    monkeypatch.setattr(script.minigan, "train", None)
    assert len(script.checkpoints(0, 3)) == 2


@pytest.mark.skipif(not DEEP, reason="takes minutes: deep")
def test_the_unrolled_gan_keeps_modes_that_the_plain_gan_loses(script, monkeypatch):
    """All five seeds, a third of the way: the chapter's runs had 1 mode near by, and 7 or 8."""
    monkeypatch.setattr(script, "STEPS", {0: 1000, 5: 1000})
    found = {K: [script.near(K, seed)[1][-1] for seed in script.SEEDS] for K in script.STEPS}
    assert max(found[0]) <= 3, found
    assert min(found[5]) >= 5, found
