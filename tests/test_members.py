"""Properties of every member of the family. The tests loop over MEMBERS, so none can be forgotten.

Each member plays with tiny networks: MLPs on points, and the DCGAN's on images of 16 x 16 pixels.
"""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny
import walk

from minigan import tensor
from minigan.commands import main
from minigan.data.opening import DataOptions
from minigan.errors import UserError
from minigan.gans import MEMBERS
from minigan.gans.base import GAN
from minigan.keys import generator, noise
from minigan.tensor import grad, no_grad
from minigan.training import state
from minigan.training.run import Run
from minigan.training.settings import RunOptions

SEED = 3
GAME = {"nz": 4, "ngf": 4, "ndf": 4, "blocks": 1, "batch_size": 4, "seed": SEED}
GAME["phase_images"] = 6
FACES = ["--image-size", "16", "--max-images", "22", "--flip"]
DATA = {"ring": [], "faces": FACES, "digits": FACES[:-1], "seasons": FACES[:-1]}
SHAPES = {"ring": (2,), "faces": (3, 16, 16), "digits": (1, 16, 16), "seasons": (3, 16, 16)}
CLASSES = {"ring": 8, "digits": 10, "seasons": 2}
RUN = ["--workers", "1", "--device", "cpu", "--threads", "1", "--sample-every", "4"]
WALK = [
    (name, data)
    for name in MEMBERS
    for data in ("ring", tiny.images(name))
    if data != "ring" or name in walk.ON_POINTS
]


class Drawn:
    """The draws of a member, from float64 or float32 arrays that are the same at every step."""

    def __init__(self, data, batch=4, nz=4, dtype=np.float64):
        self.shape, self.classes = SHAPES[data], CLASSES.get(data)
        self.batch, self.nz, self.dtype, self.calls = batch, nz, dtype, 0
        self.step = 0

    def _next(self, name):
        self.calls += 1
        return generator(name, self.calls)

    def reals(self):
        x = self._next("reals").uniform(-1, 1, (self.batch, *self.shape))
        return tensor(x.astype(self.dtype))

    def labelled(self):
        return self.reals(), self.labels()

    def each_class(self):
        return tuple(self.reals() for _ in range(self.classes))

    def labels(self):
        return tensor(self._next("labels").integers(self.classes, size=self.batch))

    def noise(self):
        return tensor(
            noise(self._next("noise"), (self.batch, self.nz), "normal").astype(self.dtype)
        )

    def uniform(self, name, *shape):
        return tensor(self._next(name).random((self.batch, *shape)).astype(self.dtype))

    def normal(self, name, *shape):
        x = self._next(name).standard_normal((self.batch, *shape))
        return tensor(x.astype(self.dtype))


def smallest(name, data, **options) -> GAN:
    """A member with its smallest networks."""
    member, rng = MEMBERS[name], generator(SEED, "init")
    classes = CLASSES[data] if member.conditional else 0
    o = member.Options(**{**walk.own(name, GAME), **options})
    return member(o, SHAPES[data], rng, classes=classes)


def contents(member: GAN) -> dict[str, bytes]:
    """Everything that a checkpoint holds of the member, by leaf path."""
    found = {}
    for path, leaf in state.leaves(state.tree_of(member, {})):
        found[path] = leaf if isinstance(leaf, int) else np.asarray(state.host(leaf)).tobytes()
    return found


def train(out: Path, name: str, data: str, *flags: str, code: int = 0) -> Run:
    """A run of a tiny member by the command line."""
    game = walk.own(name, GAME)
    game = [w for k, v in game.items() for w in ("--" + k.replace("_", "-"), str(v))]
    words = ["train", name, "--data", data, *game, *DATA[data], *RUN, "--out", str(out), *flags]
    assert main(words) == code
    return Run(sorted(out.glob("0*"))[-1])


def left(run: Run) -> dict[str, bytes]:
    """The files of a run, without its events and its speed."""
    found = {}
    for path in sorted(run.folder.rglob("*")):
        name = str(path.relative_to(run.folder))
        if path.is_file() and name not in ("events.jsonl", "config.json", ".lock"):
            found[name] = path.read_bytes()
    rows = [json.loads(line) for line in found.pop("metrics.jsonl").splitlines()]
    for row in rows:
        assert row.pop("images_per_second") > 0
    return {**found, "metrics": json.dumps(rows).encode()}


# -- the step -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "data"), WALK)
def test_each_gradient_of_a_step_is_that_of_its_loss(name, data):
    """Central differences of every loss of the step, in a random direction of the weights.

    The optimisers change nothing here, so a step's losses are functions of the weights. This also
    checks the second derivatives of penalties.
    """

    def losses(towards=None, direction=None, h=0.0):
        """(player's name, loss, gradients) of each descent; one player's weights moved by h."""
        member, found, rng = smallest(name, data, ema=0.0), [], np.random.default_rng(SEED)
        for who, player in member.players.items():
            weights = list(player.net.double().parameters())
            for i, p in enumerate(weights):
                # Initial biases are 0, on the kink of what follows, so all weights are moved.
                p.data += 0.1 * rng.standard_normal(p.shape)
                p.data += h * direction[i] if who == towards else 0.0

            def descend(loss, params=None, who=who, weights=weights):
                used = weights if params is None else params
                by_id = {id(p): g for p, g in zip(used, grad(loss, used), strict=True)}
                gradients = [
                    by_id[id(p)].numpy() if id(p) in by_id else np.zeros(p.shape) for p in weights
                ]
                found.append((who, loss.item(), gradients))
                return loss.detach()

            player.descend = descend
        member.step(Drawn(data))
        return found

    rng, h = np.random.default_rng(SEED), 1e-8  # so small that no kink is crossed
    descents = losses()
    assert {who for who, *_ in descents} == set(smallest(name, data).players)
    for i, (who, _, gradients) in enumerate(descents):
        u = [rng.standard_normal(g.shape) for g in gradients]
        numeric = (losses(who, u, h)[i][1] - losses(who, u, -h)[i][1]) / (2 * h)
        terms = np.concatenate([(g * v).ravel() for g, v in zip(gradients, u, strict=True)])
        # A loss near 1 is accurate to 1e-16, so the quotient to 1e-8; terms that cancel lose digits.
        scale = max(abs(terms.sum()), np.linalg.norm(terms), 1e-3)
        assert abs(numeric - terms.sum()) <= 1e-6 * scale


@pytest.mark.parametrize(("name", "data"), WALK)
def test_the_average_only_looks_on(name, data):
    members = []
    for ema in (0.0, 0.9):
        member = smallest(name, data, ema=ema)
        draw = Drawn(data, dtype=np.float32)
        for _ in range(3):
            member.step(draw)
            member.sample(*walk.inputs(member, draw))  # and so do samples
        members.append(contents(member))
    without, having = members
    averages = {path for path in having if ".average." in path}
    assert averages
    assert set(having) - averages == set(without)
    assert all(having[path] == without[path] for path in without)


@pytest.mark.parametrize(("name", "data"), WALK)
def test_the_average_is_that_of_the_weights(name, data):
    """p' <- ema p' + (1 - ema) p, starting at the initial weights; integers are copied."""
    ema = 0.75
    member = smallest(name, data, ema=ema)
    draw, G = Drawn(data, dtype=np.float32), member.players["G"]
    expected = {k: v.numpy().astype(np.float64) for k, v in G.net.state_dict().items()}
    for _ in range(3):
        member.step(draw)
        for key, value in G.net.state_dict().items():
            whole = value.dtype.kind != "f"
            expected[key] = (
                value.numpy() if whole else ema * expected[key] + (1 - ema) * value.numpy()
            )
    for key, value in G.average.state_dict().items():
        np.testing.assert_allclose(value.numpy(), expected[key], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("name", "data"), WALK)
def test_samples_are_of_the_average_and_change_nothing(name, data):
    member = smallest(name, data)
    draw = Drawn(data, dtype=np.float32)
    member.step(draw)
    before = contents(member)
    drawn = walk.inputs(member, draw)
    average, raw = member.sample(*drawn).numpy(), member.sample_raw(*drawn).numpy()
    assert contents(member) == before
    assert all(p.net.training for p in member.players.values())
    assert average.shape == (4, *SHAPES[data])
    with no_grad():
        expected = member._draw(member.players["G"].average, *drawn).numpy()
    assert (average == expected).all()
    assert (average != raw).any()


@pytest.mark.parametrize(("name", "data"), WALK)
def test_every_metric_is_a_finite_number(name, data):
    metrics = smallest(name, data).step(Drawn(data, dtype=np.float32))
    assert all(np.isfinite(value.item()) for value in metrics.values())


# The other options that an option needs to have an effect.
NEEDS = {
    "noise_steps": {"instance_noise": 0.1},
    "sharpness": {"combine": "softmax"},
    "lr_decay_start": {"lr_decay": 3},
}


@pytest.mark.parametrize("name", MEMBERS)
def test_each_option_of_a_game_changes_what_is_learnt(name):
    """An option changes the initial weights or the result of two steps, or it is refused."""
    table = MEMBERS[name].Options
    once = walk.d_steps(name, count=1)

    def learnt(kind: str, **changed) -> dict[str, bytes]:
        member, draw = walk.game(name, kind, "cpu", **{**once, **changed})
        for step in range(2):
            member.schedule(step)
            member.step(draw)
            draw.next_step()
        return contents(member)

    usual = {kind: learnt(kind) for which, kind in walk.WALK if which == name}
    for field in dataclasses.fields(table):
        option, value = field.name, tiny.OTHERS[field.name]
        needs = NEEDS.get(option, {})
        try:
            table(**{**walk.own(name, GAME), **needs, option: value})
        except UserError:
            continue
        kind = "images" if field.metadata["images"] else next(iter(usual))
        without = learnt(kind, **needs) if needs else usual[kind]
        assert learnt(kind, **needs, **{option: value}) != without, option


# -- a run --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "data"), WALK)
def test_a_run_that_was_stopped_goes_on_exactly(name, data, tmp_path, monkeypatch):
    """Stopped in the middle of an epoch (22 images, 5 batches), and prolonged."""
    tiny.hurry(monkeypatch)
    flags = ["--steps", "8", "--checkpoint-every", "3", "--keep", "2"]
    flags += ["--d-steps", "2"] if walk.d_steps(name) else []
    whole = train(tmp_path, name, data, *flags)
    parts = Run(Path(shutil.copytree(whole.folder, tmp_path / "parts")))
    for path in parts.checkpoints.iterdir():  # as after a kill following step 6
        if path.name != "step-00000006.safetensors":
            path.unlink()
    assert main(["resume", str(parts.folder)]) == 0
    assert left(parts) == left(whole)


def test_resuming_has_no_flag_of_an_option_that_the_weights_depend_on(capsys):
    """So argparse refuses it, whichever member it is of."""
    games = {name for member in MEMBERS.values() for name in member.Options.names()}
    for name in sorted(games | set(DataOptions.names())):
        assert name not in RunOptions.names()
        with pytest.raises(SystemExit):
            main(["resume", "auto", "--" + name.replace("_", "-"), "1"])
    capsys.readouterr()
