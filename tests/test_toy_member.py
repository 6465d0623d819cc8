"""A member from outside the package: one line registers it, and everything works for it too."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tiny

import minigan
from minigan import gans
from minigan.commands import main
from minigan.gans import base, networks
from minigan.gans.player import Player
from minigan.gans.signs import Sign
from minigan.optim import RMSprop
from minigan.options import option, with_default
from minigan.training import watch
from minigan.training.run import Run, numbered_runs

# -- the member ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ToyOptions(base.Options):
    lr: float = with_default(1e-3, base.Options, "lr")
    d_steps: int = option(2, "updates of D a step", least=1, most=10)


class Toy(base.GAN):
    """A least squares game with a running mean of D's scores, invented for this test."""

    Options = ToyOptions

    def build(self, rng, device, group):
        o, self.batches = self.options, self.options.d_steps
        G, D, scores = networks.make(self.shape, o, rng, device)
        self.G = Player(G, RMSprop(G.parameters(), o.rates[0]), group, o.ema)
        self.D = Player(D, RMSprop(D.parameters(), o.rates[1]), group, forward=scores)
        self.players = {"G": self.G, "D": self.D}
        self.extra = {"level": np.zeros(1, np.float32), "updates": 0}
        low = Sign("low level", "low for {} steps", "wait", lambda: lambda m: m["level"] < 100)
        self.signs = (low,)

    def step(self, draw):
        for _ in range(self.options.d_steps):
            real, fake = self.D(draw.reals(), draw), self.D(self.G(draw.noise()).detach(), draw)
            loss_D = ((real - 1) ** 2).mean() + (fake**2).mean() + self.extra["level"].item() ** 2
            self.D.descend(loss_D)
            self.extra["level"] += 0.1 * (real.mean().item() - self.extra["level"])
            self.extra["updates"] += 1
        loss_G = ((self.D(self.G(draw.noise()), draw) - 1) ** 2).mean()
        self.G.descend(loss_G)
        return {"loss_d": loss_D, "loss_g": loss_G, "level": minigan.tensor(self.extra["level"][0])}


# -- what works for it --------------------------------------------------------------------------------

SIZES = ["--nz", "4", "--ngf", "4", "--ndf", "4", "--batch-size", "4", "--device", "cpu"]
IMAGES = ["--image-size", "16", "--max-images", "22", "--workers", "1"]
DATA = {"ring": [], "faces": IMAGES}


@pytest.fixture(autouse=True)
def registered(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(gans.MEMBERS, "toy", Toy)


def train(*words, data="ring", code=0) -> Run:
    assert main(["train", "toy", "--data", data, *SIZES, *DATA[data], *map(str, words)]) == code
    return Run(numbered_runs(Path("runs"))[-1])


@pytest.mark.parametrize("data", DATA)
def test_pictures_curves_and_samples(data):
    run = train("--steps", 6, "--sample-every", 3, data=data)
    samples = {path.name for path in run.samples.iterdir()}
    assert {"step-00000003.png", "step-00000006.png", "raw-beside-average.png"} <= samples
    files = {path.name for path in run.folder.iterdir()}
    assert {"losses.png", "others.png", "progress.gif"} <= files  # "level" is in no table
    assert main(["sample", str(run.folder), "--n", "5"]) == 0
    assert (run.folder / "generated" / "grid.png").is_file()
    assert minigan.load(run.folder).sample(3).shape[0] == 3


@pytest.mark.parametrize("data", DATA)
def test_exact_resume(data, monkeypatch):
    """The member has several updates per step, and its own state."""
    tiny.hurry(monkeypatch)
    whole = train("--steps", 7, data=data)
    parts = train("--steps", 3, data=data)
    assert main(["resume", str(parts.folder), "--steps", "7"]) == 0
    assert tiny.newest(whole) == tiny.newest(parts)
    assert tiny.metrics(whole) == tiny.metrics(parts)
    arrays, numbers = tiny.newest(whole)
    assert numbers["extra.updates"] == 14
    assert arrays["extra.level"] != np.zeros(1, np.float32).tobytes()
    assert "players.G.optimizer.0.square_avg" in arrays


def test_the_watch_knows_its_sign(capsys, monkeypatch):
    tiny.hurry(monkeypatch)
    monkeypatch.setattr(watch, "WINDOW", 20)
    run = train("--steps", 42, "--checkpoint-every", 1000, "--sample-every", 1000)
    assert "warning: step 40: low for 20 steps; wait" in capsys.readouterr().out
    assert [event["name"] for event in tiny.events(run) if event["event"] == "diverged"] == [
        "low level"
    ]


def test_its_options_are_its_own(capsys):
    with pytest.raises(SystemExit):
        main(["train", "toy", "--help"])
    told = capsys.readouterr().out
    assert "updates of D a step (at least 1 and at most 10; default: 2)" in " ".join(told.split())
    assert "--penalty" not in told
    run = train("--steps", 1)
    with pytest.raises(SystemExit):
        main(["resume", str(run.folder), "--d-steps", "3"])
    with pytest.raises(SystemExit):
        main(["train", "toy", "--data", "ring", "--d-steps", "11x"])
    assert main(["train", "toy", "--data", "ring", "--d-steps", "11"]) == 1
    assert "--d-steps 11: must be at least 1 and at most 10" in capsys.readouterr().err


def test_a_run_of_a_member_that_is_not_registered_is_refused(monkeypatch, capsys):
    run = train("--steps", 1)
    monkeypatch.delitem(gans.MEMBERS, "toy")
    assert main(["resume", str(run.folder)]) == 1
    assert "member 'toy' is not one of dcgan, " in capsys.readouterr().err
