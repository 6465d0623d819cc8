"""The comparison of chapter 18: its game, its runs, and, at length, what it found."""

import importlib
import json
import os

import numpy as np
import pytest
import tiny

from minigan.functional import binary_cross_entropy_with_logits
from minigan.gans import MEMBERS
from minigan.keys import generator
from minigan.tensor import grad, tensor
from minigan.training import pictures

DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"


@pytest.fixture
def script(monkeypatch, tmp_path):
    """The script, in an empty folder, with the members that it registers."""
    for name in ("literal", "logits"):
        monkeypatch.setitem(MEMBERS, name, None)  # so that they are forgotten afterwards
    monkeypatch.syspath_prepend(tiny.ROOT / "docs/figures")
    monkeypatch.setattr(pictures, "save_curves", lambda folder, metrics: None)
    monkeypatch.chdir(tmp_path)
    return importlib.reload(importlib.import_module("make_collapse_figures"))


def losses(script, name, **options):
    """A member's two losses as functions of scores."""
    member = MEMBERS[name]
    return member(script.Options(**options), (3, 16, 16), np.random.default_rng(0)).loss


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_literal_loss_is_that_of_logits_while_the_sigmoid_is_not_saturated(script, smoothing):
    real, fake = (tensor(generator(0, k).standard_normal(50).astype("float32")) for k in "rf")
    literal, logits = (
        losses(script, name, smoothing=smoothing) for name in ("literal", "logits")
    )  # fmt: skip
    for player in ("discriminator", "generator"):
        a, b = (getattr(each, player)(real, fake).item() for each in (literal, logits))
        assert a == pytest.approx(b, rel=1e-5)  # float32


@pytest.mark.parametrize(("score", "least"), [(-20.0, 0.9), (-64.0, 0.0)])
def test_at_a_loss_of_64_the_literal_loss_has_no_gradient(script, score, least):
    """The chapter's numbers: 1.6e-16 at a score of -64, where that of logits is 1."""
    x = tensor([score], requires_grad=True)
    loss = losses(script, "literal").generator(None, x)
    assert loss.item() == pytest.approx(-score, rel=1e-5)
    (slope,) = grad(loss, x)
    assert least <= -slope.item() < (1.001 if least else 1e-15)
    (slope,) = grad(binary_cross_entropy_with_logits(x, 1.0), x)
    assert -slope.item() == pytest.approx(1)


def test_a_complete_run_is_only_read(script, monkeypatch):
    monkeypatch.setattr(script, "IMAGES", {**script.IMAGES, "steps": 20, "max_images": 64})
    options = {**script.IMAGES, "ngf": 2, "ndf": 2}
    run = script.play("literal", "faces", "R1, weight 1", 3, **options)
    assert run.name.endswith("R1-weight-1-3")
    assert script.told(run)["steps"] == 20
    monkeypatch.setattr(script.minigan, "train", None)
    assert script.play("literal", "faces", "R1, weight 1", 3, **options) == run


@pytest.mark.skipif(not DEEP, reason="takes minutes: deep")
def test_g_stops_before_the_log_shows_it(script):
    """The chapter: G's gradient is 0 from step 178 on, and Loss_D is 0.000 from step 507 on."""
    run = script.play("literal", "faces", "as the documents have it", 0, **script.IMAGES)
    rows = script.lines(run, "metrics.jsonl")
    moved = max(row["step"] for row in rows if row["grad_g"] > 0)
    shown = max(row["step"] for row in rows if row["loss_d"] >= 0.0005)
    assert moved < shown < 600
    assert "collapsed generator" in script.told(run)["alarms"]


@pytest.mark.skipif(not DEEP, reason="takes minutes: deep")
def test_the_remedy_that_the_alarm_names_prevents_the_collapse(script):
    """All five seeds of two rows of the table: 4 collapsed, and REMEDIED with the remedy."""
    numbers = {
        name: [script.face(name, seed)[0] for seed in script.SEEDS]
        for name in ("as the documents have it", "learning rate 0.002")
    }
    plain, mended = numbers.values()
    assert sum(map(script.collapsed, plain)) >= 3  # one fewer, because machines round differently
    assert sum("collapsed generator" in each["alarms"] for each in plain) >= 3
    assert sum(map(script.collapsed, mended)) <= 1


def test_the_tables_of_the_chapter_are_those_of_the_script(script):
    """Each row is computed again from the numbers that the script left beside its figures."""
    page = (tiny.ROOT / "docs/18-collapse.md").read_text("utf-8")
    for part, row in (("faces", script.face_row), ("ring", script.ring_row)):
        found = json.loads((script.HERE / f"collapse_{part}.json").read_text())
        for name, numbers in found.items():
            assert len(numbers) == len(script.SEEDS)
            assert row(name, numbers) in page
