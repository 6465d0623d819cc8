"""Tiny runs, started through the command line's `main`, and functions that read their files."""

import importlib.util
import json
from pathlib import Path

import numpy as np

from minigan import commands
from minigan.data.images import ImageSet
from minigan.data.mixture import Mixture
from minigan.gans import MEMBERS
from minigan.gans.standard import DCGAN
from minigan.training import checkpoint, pictures
from minigan.training.loop import Loop
from minigan.training.run import Run, numbered_runs

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
# 20 drawn faces of 16 x 16 pixels in batches of 4: five steps per epoch, a few milliseconds each
SIZES = {"--image-size": 16, "--ngf": 4, "--ndf": 4, "--nz": 8, "--batch-size": 4}
SIZES |= {"--max-images": 20, "--workers": 1, "--device": "cpu"}
TINY = [str(word) for pair in SIZES.items() for word in pair]
FIRST = "00000-dcgan-faces16"  # the first run that they create
# The same for each kind of data. An epoch of points never ends, because there are 100,000.
POINTS = {"--ngf": 4, "--ndf": 4, "--nz": 4, "--batch-size": 4, "--workers": 1, "--device": "cpu"}
DATA = {"faces": TINY, "ring": [str(word) for pair in POINTS.items() for word in pair]}
DATA["digits"] = DATA["seasons"] = TINY


def images(member: str) -> str:
    """The images for a member: digits or seasons, which have labels, if it needs labels, else faces."""
    if MEMBERS[member].translates:
        return "seasons"
    return "digits" if MEMBERS[member].conditional else "faces"


def without_noise(member: str, words: list[str]) -> list[str]:
    """The words of a command line without --nz, if the member has no noise."""
    if not MEMBERS[member].translates or "--nz" not in words:
        return words
    at = words.index("--nz")
    return [*words[:at], *words[at + 2 :]]


def flip(member: str) -> list[str]:
    """The flag that mirrors a member's images, if they may be mirrored."""
    return ["--flip"] if images(member) == "faces" else []


# For each option, a value other than that of tiny runs.
OTHERS = {
    "image_size": 32,
    "max_images": 19,
    "only": "Smiling",
    "condition": "Smiling",
    "flip": True,
    "workers": 0,
    "nc": 1,
    "nz": 9,
    "ngf": 5,
    "ndf": 5,
    "noise": "uniform",
    "batch_size": 5,
    "ema": 0.5,
    "epochs": 30,
    "steps": 7,
    "lr": 5e-3,
    "beta1": 0.9,
    "beta2": 0.5,
    "loss": "minimax",
    "fresh_noise": False,
    "d_steps": 2,
    "penalty": 1.0,
    "clip": 0.05,
    "norm": "layer",
    "g_lr": 2e-3,
    "d_lr": 2e-3,
    "lr_decay": 1000,
    "lr_decay_start": 1,
    "network": "mlp",
    "init": "he",
    "spectral_norm": True,
    "d_dropout": 0.5,
    "minibatch_std": True,
    "minibatch_discrimination": True,
    "pack": 2,
    "augment": "color",
    "instance_noise": 0.1,
    "noise_steps": 10,
    "smoothing": 0.1,
    "r1": 1.0,
    "discriminators": 2,
    "combine": "max",
    "sharpness": 2.0,
    "unroll": 2,
    "inner": "sgd",
    "cycle": 5.0,
    "identity": 0.25,
    "pool_size": 3,
    "blocks": 2,
    "phase_images": 2,
    "drift": 0.1,
    "style": "modulate",
    "mapping_layers": 2,
    "mapping_lr": 0.5,
    "mixing": 0.5,
    "r1_every": 2,
    "d_layers": 1,
    "d_labels": "projection",
    "g_labels": "batch-norm",
    "seed": 1,
    "device": "auto",
    "ngpu": 0,
    "threads": 3,
    "tf32": False,
    "out": "elsewhere",
    "log_every": 2,
    "on_divergence": "stop",
    "checkpoint_every": 2,
    "evaluate_every": 2,
    "keep": 1,
    "sample_every": 1,
}


def hurry(patch) -> None:
    """Leave out what takes longer than a tiny run: the curves, and most samples of each picture.

    patch  a pytest.MonkeyPatch
    """
    patch.setattr(pictures, "save_curves", lambda folder, metrics: None)
    patch.setattr(ImageSet, "shown", 4)
    patch.setattr(Mixture, "shown", 100)


def example(name: str):
    """An example as a module; it is a script outside any package."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


train_celeba, generate = example("train_celeba"), example("generate")


def train(out, *flags, code: int = 0) -> Run:
    """Train with these flags added to the tiny ones; return the newest run in `out`."""
    assert train_celeba.main([*TINY, "--out", str(out), *map(str, flags)]) == code
    return Run(numbered_runs(Path(out))[-1])


def start(out, member: str, data: str, *flags) -> int:
    """Start a tiny run of any member by `minigan train`; return the exit code."""
    words = ["train", member, "--data", data, *without_noise(member, DATA[data])]
    words += ["--out", out, *flags]
    return commands.main([str(word) for word in words])


def go_on(out, member: str, data: str, game=(), run=()) -> int:
    """Resume the newest run in `out`, or start one if none has a checkpoint; return the exit code.

    game, run  flags; only those in `run` may be given again when resuming
    """
    if Run.find("auto", Path(out)) is None:
        return start(out, member, data, *game, *run)
    return commands.main(["resume", "auto", "--out", str(out), *map(str, run)])


def saved(run: Run) -> list[int]:
    """The steps that have a checkpoint."""
    return sorted(int(path.stem[5:]) for path in checkpoint.newest_first(run.checkpoints))


def newest(run: Run) -> tuple[dict[str, bytes], dict[str, int]]:
    """The contents of the newest checkpoint: the arrays as bytes, and the whole numbers."""
    arrays, table = checkpoint.read_file(checkpoint.newest_first(run.checkpoints)[0])
    return {key: np.asarray(array).tobytes() for key, array in arrays.items()}, table["numbers"]


def metrics(run: Run) -> list[dict]:
    """metrics.jsonl, read strictly, without the times."""
    lines = (run.folder / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    for row in rows:
        assert row.pop("images_per_second") > 0
    return rows


def events(run: Run) -> list[dict]:
    return [json.loads(line) for line in (run.folder / "events.jsonl").read_text().splitlines()]


def grids(run: Run) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.samples.iterdir()}


def wrap_steps(monkeypatch, wrap) -> None:
    """Call wrap(step, member, draw) for each step of a run, but not for the steps of its estimate."""
    step, play = DCGAN.step, Loop.play

    def played(loop):
        with monkeypatch.context() as patch:
            patch.setattr(DCGAN, "step", lambda member, draw: wrap(step, member, draw))
            return play(loop)

    monkeypatch.setattr(Loop, "play", played)
