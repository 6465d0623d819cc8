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
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from tqdm import tqdm

from .. import __version__, backend
from ..data import cache, celeba
from ..data.faces import Faces
from ..data.loader import Loader
from ..losses import GENERATOR_LOSSES
from ..models.dcgan import Discriminator, Generator
from ..optim import Adam
from ..tensor import Tensor, no_grad
from . import checkpoint, pictures
from .config import Config, use_threads
from .game import play_round
from .parallel import DistributedOptimizer, Group
from .run import Metrics, Run

INTERRUPTED = 130  # the exit code of a program ended by Ctrl-C: 128 + SIGINT
SHOWN = 64  # images of a grid
PLAIN_LINE_SECONDS = 10.0  # between the lines that stand in for the bar where there is no terminal
GREY = (0.299, 0.587, 0.114)  # luma of ITU-R BT.601, as Pillow has it
GPU_LOG_EVERY = 10  # steps: each report waits for the GPU


class Diverged(Exception):
    """A loss or a weight is no longer finite; the message says where, and what can be resumed."""


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
    G.eval()
    with no_grad():
        images = G(z).numpy()
    G.train()
    return pictures.to_pixels(images)


def open_images(config: Config, progress: bool = True) -> cache.Images:
    """The images of a run, decoded into `<out>/cache` unless they are there already."""
    if config.dataroot is None:
        source: Any = Faces(config.max_images, config.seed, config.image_size)
    else:
        source = celeba.open_source(config.dataroot, config.image_size, config.max_images)
    images = cache.build(source, Path(config.out) / "cache", config.workers, progress)
    Loader(images.pixels, config.batch_size, random_stream(0, "check"))  # fails before a run exists
    return images


def fingerprint(images: cache.Images) -> str:
    """A digest of 64 of the images and of all names: the same data, wherever it lies."""
    chosen = np.linspace(0, len(images.pixels) - 1, 64).astype(int)
    digest = hashlib.sha256(images.pixels[chosen].tobytes())
    digest.update("\n".join(images.names).encode())
    return digest.hexdigest()[:16]


def check_same_images(saved: dict[str, Any], images: cache.Images) -> None:
    """Raise DataError unless these are the images that config.json, `saved`, was written for."""
    data = saved.get("data")
    before = data if isinstance(data, dict) else {}
    if fingerprint(images) != before.get("fingerprint"):
        raise cache.DataError(
            f"these {len(images.pixels)} images are not the {before.get('count', 'images')} that the "
            "run was started with; give their --dataroot, or start a new run"
        )


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
        say: Callable[[str], None],
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

        per_epoch = self.loader.batches_per_epoch
        self.total = min(config.epochs * per_epoch, config.steps or math.inf)
        self.sample_every = config.sample_every or per_epoch
        self.log_every = config.log_every or (1 if self.device == "cpu" else GPU_LOG_EVERY)
        self.unreported, self.seconds = 0, 0.0  # steps since the last report, and their time

    # -- checkpoints --

    def save(self) -> Path:
        """Write a checkpoint of this moment, and drop the oldest beyond `keep`."""
        for name, network in self.networks.items():
            values = network.state_dict().values()
            if self.group.any(not all(np.isfinite(value.numpy()).all() for value in values)):
                self._stop_diverged(name, f"{name} holds values that are not finite")
        path = checkpoint.path_of(self.run.checkpoints, self.step)
        if not self.group.leader:
            return path
        state = {
            "step": self.step,
            "loader": self.loader.state_dict(),
            "noise": self.noise.bit_generator.state,
            "options": asdict(self.config),
        }
        checkpoint.write(path, self.networks, self.optimizers, state)
        for old in self._older_checkpoints()[self.config.keep - 1 :]:
            old.unlink()
        return path

    def _older_checkpoints(self) -> list[Path]:
        """Those before this step. Newer ones were unreadable, or the run would not be here."""
        now = checkpoint.path_of(self.run.checkpoints, self.step)
        return [path for path in checkpoint.newest_first(self.run.checkpoints) if path < now]

    def load_newest(self) -> None:
        """Go back to the newest checkpoint that can be read; those that cannot are named."""
        arrays, state, found = self.group.from_leader(self._read_newest)
        checkpoint.restore(arrays, state, self.networks, self.optimizers)
        self.loader.load_state_dict(state["loader"])
        self.noise.bit_generator.state = state["noise"]
        self.step = state["step"]
        if self.group.leader:
            self.run.event("resume", step=self.step, **found)

    def _read_newest(self) -> tuple[dict[str, np.ndarray], dict[str, Any], dict[str, Any]]:
        troubles = []
        for path in checkpoint.newest_first(self.run.checkpoints):
            try:
                arrays, state = checkpoint.read(path)
            except checkpoint.CheckpointError as error:
                troubles.append(str(error))
                self.say(f"skipped: {error}")
                continue
            return arrays, state, {"checkpoint": path.name, "skipped": troubles}
        raise checkpoint.CheckpointError(
            f"{self.run.folder} has no checkpoint to resume from"
            + "".join(f"; {t}" for t in troubles)
        )

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

    def draw_figures(self) -> None:
        """losses.png, scores.png and progress.gif, from what the run folder holds."""
        if self.group.leader:
            if metrics := self.run.metrics():
                pictures.save_curves(self.run.folder, metrics)
            if frames := sorted(self.run.samples.glob("step-*.png")):
                pictures.save_film(self.run.folder / "progress.gif", frames)
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
            DistributedOptimizer(self.opt_G, self.group),
            DistributedOptimizer(self.opt_D, self.group),
            x,
            noise,
            GENERATOR_LOSSES[config.loss],
            config.fresh_noise,
            report,
        )
        self.step += 1
        self.unreported += 1
        self.seconds += time.perf_counter() - started
        if not report:
            return {}
        scores = self.group.mean(scores)
        for network in ("d", "g"):
            if not math.isfinite(loss := scores[f"loss_{network}"]):
                self._stop_diverged(network.upper(), f"the loss of {network.upper()} is {loss}")
        rate = config.batch_size * self.unreported / self.seconds
        self.unreported, self.seconds = 0, 0.0
        return {
            "step": self.step,
            "epoch": self.loader.epoch,
            **scores,
            "images_per_second": round(rate, 1),
        }

    def _stop_diverged(self, network: str, trouble: str) -> None:
        good = next(iter(self._older_checkpoints()), "none")
        if self.group.leader:
            self.run.event("diverged", step=self.step, network=network, trouble=trouble)
        raise Diverged(
            f"step {self.step}: {trouble}; the last good checkpoint is {good}; "
            f"start a new run with a lower --lr (this one had {self.config.lr})"
        )

    def train(self) -> int:
        """Play until the last step, Ctrl-C or SIGTERM, leave checkpoint and figures; the exit code."""
        self.draw_reals()
        if self.step == 0:
            self.draw_samples()
        quiet = warnings.catch_warnings()
        metrics = self.run.open_metrics(self.step) if self.group.leader else Metrics(os.devnull)
        saved = self.step if self.step else None
        try:
            with _interrupt_flag() as interrupted, Progress(self) as progress, quiet:
                warnings.simplefilter("ignore", RuntimeWarning)  # overflow: play and save see to it
                # Of Ctrl-C one process may hear a step before another.
                while self.step < self.total and not self.group.any(interrupted):
                    if line := self.play():
                        metrics.write(line)
                        progress.show(line)
                    if self.step % self.sample_every == 0 or self.step == self.total:
                        self.draw_samples()
                    if self.step % self.config.checkpoint_every == 0:
                        self.save()
                        saved = self.step
            if saved != self.step:
                self.save()
        except Diverged:
            self.draw_figures()
            raise
        finally:
            metrics.close()
        self.draw_figures()
        stopped = self.group.any(interrupted)
        if self.group.leader:
            self.run.event("interrupt" if stopped else "done", step=self.step)
        if interrupted:
            return 128 + interrupted[0]
        return INTERRUPTED if stopped else 0


@contextmanager
def _interrupt_flag() -> Iterator[list[int]]:
    """A list that gets the number of a SIGINT (Ctrl-C) or SIGTERM.

    So the step under way is finished first. A second signal ends the program at once.
    """
    flag: list[int] = []

    def note(number: int, frame: Any) -> None:
        flag.append(number)
        for each, handler in before.items():
            signal.signal(each, handler)

    before = {each: signal.signal(each, note) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield flag
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


class Progress:
    """What the user sees meanwhile: a bar on a terminal, else a line every few seconds."""

    def __init__(self, trainer: Trainer):
        self.trainer = trainer
        self.terminal = sys.stderr.isatty()
        self.started, self.first = time.monotonic(), trainer.step
        self.last_line = -math.inf

    def __enter__(self) -> Progress:
        self.bar = tqdm(
            total=self.trainer.total,
            initial=self.first,
            unit="step",
            dynamic_ncols=True,
            disable=not self.terminal,
        )
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.close()

    def show(self, m: dict[str, float]) -> None:
        """The figures of a step."""
        epochs = math.ceil(self.trainer.total / self.trainer.loader.batches_per_epoch)
        text = (
            f"epoch {m['epoch'] + 1}/{epochs}  Loss_D {m['loss_d']:.3f}  Loss_G {m['loss_g']:.3f}  "
            f"D(x) {m['d_x']:.2f}  D(G(z)) {m['d_gz_before']:.2f}/{m['d_gz_after']:.2f}  "
            f"{m['images_per_second']:.0f} img/s"
        )
        if self.terminal:
            self.bar.set_postfix_str(text, refresh=False)
            self.bar.update(m["step"] - self.bar.n)
            return
        now, last = time.monotonic(), m["step"] == self.trainer.total
        if now - self.last_line < PLAIN_LINE_SECONDS and not last:
            return
        self.last_line = now
        each = (now - self.started) / (m["step"] - self.first)
        left = tqdm.format_interval(each * (self.trainer.total - m["step"]))
        self.trainer.say(f"step {m['step']}/{self.trainer.total}  {text}  {left} left")
