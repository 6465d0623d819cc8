"""The options of a run: how long, where, how often, on which device. No weight depends on them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..backend.threads import MOST_THREADS, ThreadsError, get_num_threads, set_num_threads
from ..errors import UserError
from ..options import Table, option, short
from . import recovery

# The help of options that commands without RunOptions have too.
DEVICE = "device to compute on: auto, cpu, cuda or cuda:N"
THREADS = "threads of the CPU's kernels; by default MINIGAN_NUM_THREADS, or the number of cores"
LIMITED_THREADS = f"{THREADS} (at least 1 and at most {MOST_THREADS})"


@dataclass(frozen=True)
class RunOptions(Table):
    """These may change whenever a run is resumed. Device, processes and TF32 only affect rounding."""

    epochs: int = option(20, "passes over the data", least=1, most=10**9, flags=["--niter"])
    steps: int | None = option(
        None,
        "stop after this number of steps in all, unless --epochs ends the run earlier",
        least=1,
        most=10**8 - 1,
    )
    device: str = option("auto", DEVICE)
    ngpu: int | None = option(
        None,
        "0 for the CPU, 1 for the GPU, N for data parallel training on N GPUs (with --device cpu, in N "
        "processes); by default, --device decides",
        least=0,
        most=1024,
    )
    threads: int | None = option(None, THREADS, least=1, most=MOST_THREADS)
    tf32: bool = option(
        True,
        "on a GPU, round the factors of products to 10 bits, as PyTorch's convolutions do",
        off_help="on a GPU, multiply in full float32, which is slower",
    )
    workers: int = option(
        os.cpu_count() or 1,
        "processes that decode images; with 0 or 1, this process decodes them",
        least=0,
        most=4096,
    )
    out: str = option("runs", "folder that holds the runs", flags=["--outf"])
    log_every: int | None = option(
        None, "steps between lines of metrics; by default 1, or 10 on a GPU", least=1, most=10**9
    )
    sample_every: int | None = option(
        None, "steps between pictures; by default an epoch", least=1, most=10**9
    )
    checkpoint_every: int = option(500, "steps between checkpoints", least=1, most=10**9)
    evaluate_every: int | None = option(
        None,
        "steps between evaluations of the samples, a multiple of --checkpoint-every; the checkpoint "
        "with the lowest distance is kept; by default none",
        least=1,
        most=10**9,
    )
    keep: int = option(3, "checkpoints to keep", least=1, most=10**9)
    on_divergence: str = option(
        "warn",
        "what to do about trouble: warn once (but stop if values are not finite), stop, roll back to "
        "an earlier checkpoint and draw different noise, or ignore it",
        choices=recovery.CHOICES,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_path(self.out):
            raise UserError(f"--out {short(repr(self.out))}: must be a path")
        if self.ngpu == 0 and self.device.startswith("cuda"):
            raise UserError(
                f"--ngpu 0 selects the CPU but --device {short(self.device)} a GPU; drop one"
            )
        if self.ngpu == 1 and self.device == "cpu":
            raise UserError("--ngpu 1 selects a GPU but --device cpu the CPU; drop one")

        if (self.evaluate_every or 0) % self.checkpoint_every:
            raise UserError(
                f"--evaluate-every {self.evaluate_every}: checkpoints are evaluated, so it must be a "
                f"multiple of --checkpoint-every {self.checkpoint_every}; change one"
            )

    @property
    def device_name(self) -> str:
        """The device that --device and --ngpu select together."""
        if self.device == "auto" and self.ngpu is not None:
            return "cuda" if self.ngpu else "cpu"
        return self.device


def check_processes(count: int, batch_size: int, images: bool, device: str) -> None:
    """Raise UserError unless this many processes can share a batch on this device.

    images  whether the networks are for images and may have batch norm
    """
    if count == 1:
        return
    said = f"--batch-size {batch_size}: must be"
    if batch_size % count:
        raise UserError(
            f"{said} a multiple of {count}, because {count} processes share each batch equally"
        )
    if images and batch_size < 2 * count:
        raise UserError(
            f"{said} at least {2 * count}, because batch norm needs 2 images in each of the {count} "
            "processes"
        )
    if device.startswith("cuda:"):
        raise UserError(
            f"--device {device} is one GPU, but each of {count} processes needs its own; "
            "use --device cuda"
        )


def check_folder(flag: str, path: Path) -> None:
    """Raise UserError if a file is in the way of this folder or of one above it."""
    for place in (path, *path.parents):
        if os.path.lexists(place):
            if not place.is_dir():
                raise UserError(f"{flag} {path}: {place} is not a folder; give another path")
            return


def use_threads(count: int | None) -> None:
    """Set the number of kernel threads; None means MINIGAN_NUM_THREADS or the number of cores.

    Raises UserError if the number, or that variable, is not a number of threads.
    """
    if count is not None and not 1 <= count <= MOST_THREADS:
        raise UserError(f"--threads {short(count)}: must be from 1 to {MOST_THREADS}")
    try:
        set_num_threads(get_num_threads() if count is None else count)
    except ThreadsError as error:
        raise UserError(str(error)) from None


def check_name(name: str | None) -> None:
    """Raise UserError unless the name can be part of a folder's name."""
    if name is not None and not is_name(name):
        raise UserError(f"--name {short(repr(name))}: must be a plain folder name")


def is_path(value: Any) -> bool:
    """Whether the value can be a path on this system; None, for no path, is accepted."""
    if not isinstance(value, str):
        return value is None
    try:
        return value != "" and b"\0" not in os.fsencode(value)
    except UnicodeEncodeError:
        return False


def is_name(text: Any) -> bool:
    """Whether it can be in a folder's name: 200 bytes leave room for a number within the usual 255."""
    if not isinstance(text, str):
        return False
    return text == Path(text).name and text.isprintable() and 0 < len(text.encode()) <= 200
