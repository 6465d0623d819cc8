"""The training: data, networks and run folder brought together, and one round after another.

What changes the result (the streams of init, noise, order and flips) is kept apart from what only
looks on (the pictures): with pictures or without, the weights come out the same.
"""

from __future__ import annotations

import functools
import hashlib
import math
import os
import platform
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from .. import __version__, backend
from ..console import INTERRUPTED, lost_output, say
from ..data import cache, celeba
from ..data.faces import Faces
from ..data.loader import Loader
from ..errors import UserError
from ..losses import GENERATOR_LOSSES
from ..models.dcgan import Discriminator, Generator
from ..optim import Adam
from ..tensor import Tensor, no_grad
from . import checkpoint, pictures
from .config import FACES, Config, that_train, use_threads
from .game import play_round
from .parallel import Group
from .run import Metrics, Run
from .terminal import Progress, interrupt_flag
from .watch import GO_BACK, LOWER_RATE, NOT_FINITE, SPOILED, Trouble, Watch

SHOWN = 64  # images of a grid
GREY = (0.299, 0.587, 0.114)  # luma of ITU-R BT.601, as Pillow has it
GPU_LOG_EVERY = 10  # steps: each report waits for the GPU
ROLLBACKS = 3  # in the life of a run


class Diverged(Exception):
    """The training has gone wrong; the message says how, and what to try."""


def random_stream(seed: int, name: str) -> np.random.Generator:
    """The stream of that name: independent of all others, whatever they draw."""
    return np.random.default_rng([seed, *name.encode()])


def draw_noise(rng: np.random.Generator, count: int, nz: int, kind: str, device: str) -> Tensor:
    """z (count, nz, 1, 1), N(0, 1) or U(-1, 1); drawn on the host, alike for every device."""
    shape = (count, nz, 1, 1)
    if kind == "normal":
        z = rng.standard_normal(shape, np.float32)
    else:
        z = rng.uniform(-1, 1, shape).astype(np.float32)
    return Tensor(backend.move(z, device))


def to_tensor(batch: np.ndarray, nc: int, device: str) -> Tensor:
    """Pixels 0..255 to values in [-1, 1]: uint8 (N, 3, H, W) -> float32 (N, nc, H, W)."""
    batch = backend.move(batch, device)  # as bytes: a quarter of the way
    xp = backend.array_module(batch)
    x = backend.kernels(xp).scale_pixels(xp, batch)
    if nc == 1:
        red, green, blue = (weight * x[:, i : i + 1] for i, weight in enumerate(GREY))
        x = red + green + blue  # (N, 1, H, W)
    return Tensor(x)


def sample(G: Generator, z: Tensor) -> np.ndarray:
    """G's images of fixed noise, uint8 (N, H, W, 3): in evaluation mode, so that nothing changes."""
    return pictures.to_pixels(evaluate(G, z))


def evaluate(G: Generator, z: Tensor) -> np.ndarray:
    """The same images as values in [-1, 1], float32 (N, nc, H, W)."""
    G.eval()
    with no_grad():
        images = G(z).numpy()
    G.train()
    return images


def open_images(
    config: Config, progress: bool = True, say: Callable[[str], None] | None = None
) -> cache.Images:
    """The images of a run, decoded into `<out>/cache` unless they are there already.

    `say` is told of files that were left out.
    """
    if config.dataroot is None:
        count = config.max_images or FACES["max_images"]
        source: Any = Faces(count, config.seed, config.image_size)
    else:
        if os.path.realpath(config.dataroot) == os.path.realpath(config.out):
            raise UserError(
                f"--out {config.out} is the folder of --dataroot as well, so the run's own pictures "
                "would count as data; give another --out"
            )
        source = celeba.open_source(
            config.dataroot, config.image_size, config.max_images, config.only, config.out
        )
        if say and source.left_out:
            say(source.left_out)
    images = cache.build(source, Path(config.out) / "cache", config.workers, progress)
    Loader(images.pixels, config.batch_size, random_stream(0, "check"))  # fails before a run exists
    return images


def fingerprint(images: cache.Images) -> str:
    """A digest of all pixels and all names: the same data, wherever it lies."""
    return hashlib.sha256("\n".join([images.digest, *images.names]).encode()).hexdigest()


def check_same_images(saved: dict[str, Any], images: cache.Images) -> None:
    """Raise UserError unless these are the images that config.json, `saved`, was written for."""
    data = saved.get("data")
    before = data if isinstance(data, dict) else {}
    count = str(before.get("count", "images"))[:20]
    if fingerprint(images) != before.get("fingerprint"):
        raise UserError(
            f"these {len(images.pixels)} images are not the {count} that the "
            "run was started with; give their --dataroot, or start a new run"
        )


def check_same_size(config: Config, folder: Path) -> None:
    """Raise CheckpointError unless some checkpoint is large enough for the networks of these options.

    So the memory for the networks is in proportion to the files of the run, whatever config.json says.
    """
    G, D = (width * config.image_size // 8 for width in (config.ngf, config.ndf))
    weights = 16 * (config.nz * G + G * (G // 2) + D * (D // 2))  # of the largest layers

    def use(path: Path) -> None:
        if path.stat().st_size < 4 * weights:
            checkpoint.read(path)  # where it is damaged, that is the reason
            raise checkpoint.CheckpointError(
                f"{path}: its networks are smaller than those that the run's options name; "
                "restore config.json, or start a new run"
            )

    checkpoint.newest(folder, "resume", use, lambda skipped: None)  # the trainer tells of those


def frozen(config: Config, images: cache.Images) -> dict[str, Any]:
    """What config.json says: the options, what they ran with, and which data it was."""
    versions = {"minigan": __version__, "python": platform.python_version()}
    versions |= {"numpy": np.__version__, "pillow": PIL.__version__}
    counts = {"count": len(images.pixels), "skipped": len(images.skipped)}
    return {
        "options": asdict(config),
        "device": backend.resolve_device(config.device_name),
        "versions": versions,
        "data": {**images.identity, **counts, "fingerprint": fingerprint(images)},
    }


class Trainer:
    """A run in memory: networks, optimisers, data, random streams, and how far it has come.

    In a group of processes each has one, in the same state; the leader's looks on and writes.
    """

    def __init__(
        self,
        config: Config,
        images: cache.Images,
        run: Run,
        say: Callable[[str], None] = say,
        group: Group | None = None,
    ):
        self.config, self.images, self.run, self.say = config, images, run, say
        self.group = group or Group()
        self.device = self.group.use_device(config.device_name, config.tf32)
        use_threads(config.threads)
        init, self.noise, order, flips, looks = (
            random_stream(config.seed, name)
            for name in ("init", "noise", "order", "flips", "pictures")
        )
        size = config.image_size
        self.G = Generator(config.nz, config.ngf, config.nc, size, init).to(self.device)
        self.D = Discriminator(config.ndf, config.nc, size, init).to(self.device)
        adam = functools.partial(Adam, lr=config.lr, betas=(config.beta1, 0.999))
        self.opt_G, self.opt_D = adam(self.G.parameters()), adam(self.D.parameters())
        self.networks = {"G": self.G, "D": self.D}
        self.optimizers = {"opt_G": self.opt_G, "opt_D": self.opt_D}
        self.loader = Loader(
            images.pixels, config.batch_size, order, flips if config.flip else None
        )
        self.fixed_z = draw_noise(looks, SHOWN, config.nz, config.noise, self.device)
        self.step = 0
        self.rollbacks = 0

        per_epoch = self.loader.batches_per_epoch
        self.total = min(config.epochs * per_epoch, config.steps or math.inf)
        self.sample_every = config.sample_every or per_epoch
        self.log_every = config.log_every or (1 if self.device == "cpu" else GPU_LOG_EVERY)
        self.unreported, self.seconds = 0, 0.0  # steps since the last report, and their time
        self.metrics: Metrics | None = None

    def limits(self) -> dict[str, int]:
        """The options that end the run at `total`, as typed, each with its value."""
        config = self.config
        ends = {"--epochs": (config.epochs, config.epochs * self.loader.batches_per_epoch)}
        if config.steps:
            ends["--steps"] = (config.steps, config.steps)
        return {flag: value for flag, (value, end) in ends.items() if end == self.total}

    # -- checkpoints --

    def save(self) -> bool:
        """Write a checkpoint of this moment, and drop the oldest beyond `keep`.

        Values that are not finite are never saved: Diverged, or False if the training went back.
        """
        if trouble := self._spoiled():
            return not self._meet(trouble)
        path = checkpoint.path_of(self.run.checkpoints, self.step)
        if not self.group.leader:
            return True
        state = {
            "step": self.step,
            "loader": self.loader.state_dict(),
            "noise": self.noise.bit_generator.state,
            "rollbacks": self.rollbacks,
            "options": that_train(self.config),
        }
        self.metrics.sync()  # before, or a power cut might leave a checkpoint without its lines
        checkpoint.write(path, self.networks, self.optimizers, state)
        self._drop_old()
        return True

    def _drop_old(self) -> None:
        """Of the checkpoints before this step leave `keep` - 1: those off the rhythm go first.

        A stop leaves such a one. At the end they all go, and what stays is what a run without stops
        leaves. (Newer ones than this step's are unreadable, or the run would not be here.)
        """
        older, planned = self._before(self.step)
        stay = planned
        if self.step != self.total:
            stay = planned + [path for path in older if path not in planned]
        for path in set(older).difference(stay[: self.config.keep - 1]):
            path.unlink()

    def _before(self, step: int) -> tuple[list[Path], list[Path]]:
        """The checkpoints from before a step, newest first, and of them those on the rhythm."""
        every, found = self.config.checkpoint_every, checkpoint.newest_first(self.run.checkpoints)
        older = [path for path in found if checkpoint.step_of(path) < step]
        return older, [path for path in older if checkpoint.step_of(path) % every == 0]

    def load_newest(self, reason: str = "resume") -> None:
        """Go back to the newest checkpoint that can be read; those that cannot are named."""
        arrays, state, found = self.group.from_leader(self._read_newest)
        checkpoint.restore(arrays, state, self.networks, self.optimizers)
        self.loader.load_state_dict(state["loader"])
        self.noise.bit_generator.state = state["noise"]
        self.step = state["step"]
        self.rollbacks = max(self.rollbacks, state["rollbacks"])
        if self.group.leader:
            self.run.event(reason, step=self.step, **found)

    def _read_newest(self) -> tuple[dict[str, np.ndarray], dict[str, Any], dict[str, Any]]:
        def use(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
            arrays, state = checkpoint.read(path)
            checkpoint.check_options(path, state, self.config)
            checkpoint.check(path, arrays, state, self.networks, self.optimizers)
            return arrays, state

        path, (arrays, state), troubles = checkpoint.newest(
            self.run.checkpoints, "resume", use, self.say
        )
        return arrays, state, {"checkpoint": path.name, "skipped": troubles}

    # -- pictures --

    def draw_reals(self) -> None:
        """reals.png: the first images of the data."""
        if self.group.leader:
            self._picture("reals.png", pictures.grid(self._reals()))

    def draw_samples(self) -> None:
        """The grid at fixed noise of this step, and the same beside reals."""
        if not self.group.leader:
            return
        fakes = pictures.grid(sample(self.G, self.fixed_z))
        self._picture(f"step-{self.step:08d}.png", fakes)
        reals = pictures.grid(self._reals())
        self._picture("real-beside-fake.png", pictures.beside(reals, fakes))

    def _reals(self) -> np.ndarray:
        pixels = self.images.pixels[:SHOWN]
        if len(pixels) < SHOWN:  # a data set smaller than a grid fills it by repetition
            pixels = pixels[np.arange(SHOWN) % len(pixels)]
        return pictures.to_pixels(
            to_tensor(pixels.transpose(0, 3, 1, 2), self.config.nc, "cpu").data
        )

    def _picture(self, name: str, pixels: np.ndarray) -> None:
        pictures.save_png(self.run.samples / name, pixels)

    def finish(self) -> None:
        """Do what a run that was killed after its last step has not come to.

        With other options than those of the run it drops no checkpoint, as it trains nothing with them.
        """
        saved, counts = self.run.config["options"], ("checkpoint_every", "keep", "epochs", "steps")
        if self.group.leader and all(saved.get(n) == getattr(self.config, n) for n in counts):
            self._drop_old()
        self.draw_figures()

    def draw_figures(self) -> None:
        """losses.png, scores.png and progress.gif, from what the run folder holds."""
        if self.group.leader:
            if metrics := self.run.metrics(self.say):
                pictures.save_curves(self.run.folder, metrics)
            if frames := sorted(self.run.samples.glob("step-*.png")):
                pictures.save_film(self.run.folder / "progress.gif", frames, self.say)
        self.group.wait()

    # -- the loop --

    def play(self) -> dict[str, float]:
        """One step: a batch, a round of the game. The figures, or {} if it is no step to report.

        Whatever is random is drawn for the whole batch, of which each process takes its share: so the
        streams, and with them a checkpoint, are the same for any number of processes.
        """
        config, started = self.config, time.perf_counter()
        report = (self.step + 1) % self.log_every == 0 or self.step + 1 == self.total
        share = self.group.share
        x = to_tensor(share(self.loader.next_batch()), config.nc, self.device)

        def noise() -> Tensor:
            z = draw_noise(self.noise, config.batch_size, config.nz, config.noise, self.device)
            return share(z)

        scores = play_round(
            self.G,
            self.D,
            self.opt_G,
            self.opt_D,
            x,
            noise,
            GENERATOR_LOSSES[config.loss],
            config.fresh_noise,
            report,
            self.group.average,
        )
        self.step += 1
        self.unreported += 1
        self.seconds += time.perf_counter() - started
        if not report:
            return {}
        scores = self.group.mean(scores)
        # A clock may stand still, or be set back.
        rate = config.batch_size * self.unreported / self.seconds if self.seconds > 0 else math.nan
        self.unreported, self.seconds = 0, 0.0
        return {
            "step": self.step,
            "epoch": self.loader.epoch,
            **scores,
            "images_per_second": round(rate, 1),
        }

    # -- troubles --

    def _spoiled(self) -> Trouble | None:
        """Weights and moments that are not finite; the figures of a step are older than these."""
        for name, network in self.networks.items():
            moments = self.optimizers[f"opt_{name}"].state_dict()["state"].values()
            values = [*network.state_dict().values(), *(v for m in moments for v in m.values())]
            arrays = (value.numpy() for value in values if isinstance(value, Tensor))
            if self.group.any(not all(np.isfinite(array).all() for array in arrays)):
                text = f"{name} holds values that are not finite"
                return Trouble(SPOILED, self.step, text, LOWER_RATE)
        return None

    def _meet(self, trouble: Trouble) -> bool:
        """Do what --on-divergence says: True if the training went back to a checkpoint."""
        does, text = self.config.on_divergence, f"step {self.step}: {trouble.text}"
        good, planned = self.group.from_leader(lambda: self._before(trouble.since))
        if trouble.remedy == LOWER_RATE and planned and does != "rollback":
            trouble = replace(trouble, remedy=f"{GO_BACK}, or {LOWER_RATE.removeprefix('try ')}")
        if does == "rollback" and (self.rollbacks == ROLLBACKS or not planned):
            text += f", after {self.rollbacks} of {ROLLBACKS} rollbacks"
            does = "stop"
        if (trouble.name, does) in ((NOT_FINITE, "warn"), (SPOILED, "warn"), (SPOILED, "ignore")):
            does = "stop"
        if self.group.leader:
            self.run.event("diverged", step=self.step, does=does, **asdict(trouble))
        if does == "stop":
            last = good[0] if good else "none"
            raise Diverged(f"{text}; the last good checkpoint is {last}; {trouble.remedy}")
        if does == "warn":
            self.say(f"warning: {text}; {trouble.remedy}")
        if does == "rollback":
            self.say(f"{text}; going back to {planned[0].name}, with other noise")
            self._roll_back(planned)
        return does == "rollback"

    def _roll_back(self, good: list[Path]) -> None:
        """Go on from the newest of these checkpoints, and drop all others.

        They are on the rhythm, as one that a stop has left is not there in a run without stops. The
        number of rollbacks names the new stream of noise. It is saved with the next checkpoint; a run
        that is killed before comes to the same trouble again, and to the same rollback.
        """
        if self.group.leader:
            for path in checkpoint.newest_first(self.run.checkpoints):
                if path not in good:
                    path.unlink()
        again = self.rollbacks + 1
        self.load_newest("rollback")
        self.rollbacks = again
        self.noise = random_stream(self.config.seed, f"noise {again}")
        self._open_metrics()

    def _open_metrics(self) -> None:
        """metrics.jsonl up to this step, and the watch as it was."""
        if self.metrics:
            self.metrics.close()
        size = sum(p.data.size for p in self.G.parameters())
        lines = self.group.from_leader(
            lambda: self.run.cut_metrics(self.step, self.say, self.log_every)
        )
        self.watch = Watch(size, lines)
        self.metrics = self.run.open_metrics() if self.group.leader else Metrics(os.devnull)

    def train(self) -> int:
        """Play until the last step or a signal, leave checkpoint and figures; the exit code.

        It is 0 after the last step, whatever signal comes while the figures are drawn.
        The signals are Ctrl-C, SIGTERM and SIGHUP; outside of the main thread none is listened to.
        """
        self.draw_reals()
        if self.step == 0:
            self.draw_samples()
        self._open_metrics()
        try:
            with interrupt_flag() as interrupted:
                if self._play_until(interrupted) != self.step:
                    self.save()
                self.draw_figures()
        except Diverged:
            self.draw_figures()
            raise
        finally:
            self.metrics.close()
        done = self.step == self.total  # even if a signal has come since
        stopped = self.group.any(interrupted) and not done
        if self.group.leader:
            self.run.event("interrupt" if stopped else "done", step=self.step)
        if not stopped:
            return 0
        return 128 + interrupted[0] if interrupted else INTERRUPTED

    def _play_until(self, interrupted: list[int]) -> int | None:
        """Play until the last step, or until the list is not empty; the step that was saved last."""
        saved = self.step if self.step else None
        with Progress(self) as progress, warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # overflow: play and save see to it
            # Of Ctrl-C one process may hear a step before another.
            while self.step < self.total and not self.group.any(interrupted):
                if line := self.play():
                    self.metrics.write(line)
                    progress.show(line)
                    self.note_lost_output()
                    if (trouble := self.watch.look(line)) and self._meet(trouble):
                        continue
                last = self.step == self.total
                if self.step % self.sample_every == 0 or last:
                    self.draw_samples()
                if (self.step % self.config.checkpoint_every == 0 or last) and self.save():
                    saved = self.step
        return saved

    def note_lost_output(self) -> None:
        """Add to events.jsonl what could not be written to stdout or stderr: nobody has seen it."""
        lost = lost_output()
        if lost and self.group.leader:
            self.run.event("output lost", reason="; ".join(lost))
