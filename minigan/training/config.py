"""Every option of a training run: its name, default, meaning and limits, in one place.

The command line, `config.json` and the check on resuming are all made from the fields below.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from ..backend.threads import MOST_THREADS, get_num_threads, set_num_threads
from ..console import STDERR, STDOUT, plain
from ..losses import GENERATOR_LOSSES
from ..models.dcgan import IMAGE_SIZES

# Parts of the help that other programs have as well.
MOST_SEED = 2**64 - 1
DEVICE = "device to compute on: auto, cpu, cuda or cuda:N"
SEEDS = f"0 to {MOST_SEED}"
THREADS = (
    f"threads of the CPU's kernels; 1 to {MOST_THREADS} "
    "(default: MINIGAN_NUM_THREADS, or the cores there are)"
)


class ConfigError(Exception):
    """An option, or a combination of options, that cannot be; the message is for the user."""


def _option(
    default: Any,
    help: str,
    *,
    trains: bool = True,
    least: int = 1,
    most: int = 10**9,
    **argument: Any,
) -> Any:
    """A field: `trains` says that it changes the result, so that a resumed run must keep it.

    A whole number is from `least` to `most`: beyond, it is a slip of the finger, or worse. In the help,
    {limits} stands for both; the default is added at the end, unless the help names it or it is None.
    """
    limits = {"least": least, "most": most}
    return dataclasses.field(
        default=default, metadata={"help": help, "trains": trains, **limits, "argument": argument}
    )


@dataclass(frozen=True)
class Config:
    """The options of a run. The defaults train the documented DCGAN on CelebA."""

    dataroot: str | None = _option(
        None,
        "img_align_celeba.zip, or any folder or zip of pictures: JPEG, PNG, WebP, BMP, GIF "
        "(default: the folder data/, or drawn faces)",
        trains=False,  # what is in it does, and is compared itself
    )
    image_size: int = _option(64, f"pixels a side: one of {IMAGE_SIZES}", flags=["--imageSize"])
    max_images: int | None = _option(
        None, "use only the first so many images; {limits} (default: all)", type=int, most=10**7
    )
    only: str | None = _option(
        None,
        "use only images with these attributes of CelebA, as Male,no-Eyeglasses (default: all)",
    )
    flip: bool = _option(
        False, "mirror each image with probability 1/2", off_help="mirror no image"
    )
    workers: int = _option(
        os.cpu_count() or 1,
        "processes that decode images; {limits}, 0 and 1 for none beside this one",
        trains=False,
        least=0,
        most=4096,
    )

    nc: int = _option(3, "channels of an image: 3 for colour, 1 for grey")
    nz: int = _option(100, "length of the noise vector z; {limits}", most=10_000)
    ngf: int = _option(64, "channels of G's last hidden layer; {limits}", most=1024)
    ndf: int = _option(64, "channels of D's first layer; {limits}", most=1024)
    noise: str = _option("normal", "distribution of z", choices=["normal", "uniform"])

    batch_size: int = _option(128, "images a step; {limits}", least=2, flags=["--batchSize"])
    epochs: int = _option(20, "passes over the data; {limits}", trains=False, flags=["--niter"])
    steps: int | None = _option(
        None,
        "stop after so many steps in all; {limits} (default: those of --epochs)",
        type=int,
        trains=False,
        most=10**8 - 1,
    )
    lr: float = _option(2e-4, "learning rate of both Adams; above 0")
    beta1: float = _option(0.5, "Adam's first beta, the second being 0.999; at least 0, below 1")
    loss: str = _option("non-saturating", "G's objective", choices=list(GENERATOR_LOSSES))
    fresh_noise: bool = _option(
        True,
        "draw new noise for G's half of a step",
        off="--reuse-fakes",
        off_help="judge in G's half of a step the fakes that D has seen in its own",
    )
    seed: int = _option(
        999, "seed of all random streams; {limits}", least=0, most=MOST_SEED, flags=["--manualSeed"]
    )

    device: str = _option("auto", DEVICE, trains=False)
    ngpu: int | None = _option(
        None,
        "0 for the CPU, 1 for the GPU; N: data parallel on N GPUs, with --device cpu on CPUs; {limits} "
        "(default: as --device says)",
        type=int,
        trains=False,
        least=0,
        most=1024,
    )
    threads: int | None = _option(None, THREADS, type=int, trains=False, most=MOST_THREADS)
    tf32: bool = _option(
        True,
        "on a GPU, multiply factors rounded to 10 bits, as PyTorch's convolutions do",
        trains=False,
        off_help="on a GPU, multiply all bits of float32, which is slower",
    )
    out: str = _option("runs", "folder that holds the runs", trains=False, flags=["--outf"])
    name: str | None = _option(
        None,
        "name of the run's folder, after its number (default: the data, and --image-size)",
        trains=False,
    )
    log_every: int | None = _option(
        None,
        "steps between lines of metrics; {limits} (default: 1, on a GPU 10)",
        type=int,
        trains=False,
    )
    on_divergence: str = _option(
        "warn",
        "what to do when the watch finds trouble: warn once (and stop if values are not finite), stop, "
        "roll back to a checkpoint from before, with other noise, or ignore it",
        trains=False,
        choices=["warn", "stop", "rollback", "ignore"],
    )
    checkpoint_every: int = _option(500, "steps between checkpoints; {limits}", trains=False)
    keep: int = _option(3, "checkpoints kept; {limits}", trains=False)
    sample_every: int | None = _option(
        None,
        "steps between sample grids; {limits} (default: those of an epoch)",
        type=int,
        trains=False,
    )

    def __post_init__(self) -> None:
        if self.image_size not in IMAGE_SIZES:
            raise ConfigError(
                f"--image-size {_short(self.image_size)}: choose one of {IMAGE_SIZES}"
            )
        if self.nc not in (1, 3):
            raise ConfigError(f"--nc {_short(self.nc)}: choose 3 (colour) or 1 (grey)")
        _at_least(self, "batch_size", 2, "batch norm needs a variance")
        for field in dataclasses.fields(self):
            value, choices = getattr(self, field.name), field.metadata["argument"].get("choices")
            if choices and value not in choices:
                raise ConfigError(f"{_flag(field.name)} {_short(value)}: choose one of {choices}")
            if type(value) is int:  # and no bool, which is an int too
                _at_least(self, field.name, field.metadata["least"])
                if value > field.metadata["most"]:
                    raise ConfigError(
                        f"{_flag(field.name)} {_short(value)}: must be at most {field.metadata['most']}"
                    )
        if not 0 < self.lr <= sys.float_info.max:  # JSON has larger ones
            raise ConfigError(f"--lr {_short(self.lr)}: must be a finite number above 0")
        if not 0 <= self.beta1 < 1:
            raise ConfigError(f"--beta1 {_short(self.beta1)}: must be at least 0 and below 1")
        for name in ("dataroot", "out"):
            if not _is_path(getattr(self, name)):
                raise ConfigError(f"--{name} {_short(repr(getattr(self, name)))}: must be a path")
        if self.name is not None and not _is_name(self.name):
            raise ConfigError(f"--name {_short(repr(self.name))}: must be a plain folder name")
        if self.only is not None and self.dataroot is None:
            raise ConfigError(
                f"--only {_short(self.only)}: drawn faces have no list; give --dataroot"
            )
        if self.ngpu == 0 and self.device.startswith("cuda"):
            raise ConfigError(
                f"--ngpu 0 is the CPU, --device {_short(self.device)} is not: give one of them"
            )
        if self.ngpu == 1 and self.device == "cpu":
            raise ConfigError("--ngpu 1 is the GPU, --device cpu is not: give one of them")
        self.check_processes(self.ngpu or 1)

    def check_processes(self, count: int) -> None:
        """Raise ConfigError unless so many processes can train this together."""
        if count == 1:
            return
        if self.batch_size % count:
            raise ConfigError(
                f"--batch-size {self.batch_size}: must be divisible by {count}, the processes it is for"
            )
        _at_least(self, "batch_size", 2 * count, "batch norm needs a variance in every process")
        if self.device.startswith("cuda:"):
            raise ConfigError(
                f"--device {self.device} is one GPU, {count} processes take one each: use --device cuda"
            )

    @property
    def device_name(self) -> str:
        """What --device and --ngpu together ask for."""
        if self.device == "auto" and self.ngpu is not None:
            return "cuda" if self.ngpu else "cpu"
        return self.device


# Without data at hand: drawn faces, for a CPU and a few minutes. Steps are what these need most, so the
# networks are narrow and the batches small; D, which finds drawn faces easy to tell, is the narrower.
FACES = {"ngf": 32, "ndf": 16, "batch_size": 32, "lr": 5e-4, "max_images": 6400, "epochs": 10}


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _short(value: Any) -> str:
    """As text for a sentence, whatever it is."""
    text = str(value)
    return text if len(text) <= 80 else f"{text[:60]}..."


def _is_path(value: str | None) -> bool:
    """Whether the system can be asked for it; None is asked for nothing."""
    try:
        return value is None or (value != "" and b"\0" not in os.fsencode(value))
    except UnicodeEncodeError:
        return False


def _is_name(text: str) -> bool:
    """Whether it is of one folder, with room for a number before it: systems allow 255 bytes."""
    return text == Path(text).name and text.isprintable() and 0 < len(text.encode()) <= 200


def _at_least(config: Config, name: str, low: int, reason: str = "") -> None:
    value = getattr(config, name)
    if value < low:
        raise ConfigError(
            f"{_flag(name)} {_short(value)}: must be at least {low}{', as ' + reason if reason else ''}"
        )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the parser a flag for each field; what the user leaves out stays out of the result."""
    for field in dataclasses.fields(Config):
        argument = dict(field.metadata["argument"])
        flags = [_flag(field.name), *argument.pop("flags", [])]
        argument.update(dest=field.name, default=argparse.SUPPRESS, help=help_of(field))
        if isinstance(field.default, bool):
            off = argument.pop("off", "--no-" + flags[0][2:])
            default = f"default: {flags[0]}" if field.default else "the default"
            off_help = f"{argument.pop('off_help')} ({default})"
            parser.add_argument(*flags, action="store_true", **argument)
            parser.add_argument(off, action="store_false", **{**argument, "help": off_help})
        else:
            kind = str if field.default is None else type(field.default)
            parser.add_argument(*flags, **{"type": kind, **argument})


def help_of(field: dataclasses.Field) -> str:
    """What --help says of an option: its meaning, limits and default."""
    limits = f"{field.metadata['least']} to {field.metadata['most']}"
    text = field.metadata["help"].format(limits=limits)
    return text if field.default is None else f"{text} (default: {field.default})"


class Parser(argparse.ArgumentParser):
    """A command line that takes no abbreviations, and whose messages are printed as all others are."""

    def __init__(self, **options: Any):
        super().__init__(allow_abbrev=False, **options)

    def parse_args(self, *arguments: Any, **options: Any) -> argparse.Namespace:
        """Some Pythons make a list of the value in `--name=--`: it is refused."""
        found = super().parse_args(*arguments, **options)
        for name, value in vars(found).items():
            if isinstance(value, list):
                self.error(f"argument {_flag(name)}: '--' is no value")
        return found

    def error(self, message: str) -> NoReturn:
        super().error(plain(message))  # it quotes words of the command line

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        STDERR.write(message or "")
        sys.exit(status)

    def print_help(self, file: Any = None) -> None:
        STDOUT.write(self.format_help())

    def print_usage(self, file: Any = None) -> None:
        STDERR.write(self.format_usage())


def check_folder(flag: str, path: Path) -> None:
    """Raise ConfigError if a file stands where this folder is, or where one above it would be made."""
    for place in (path, *path.parents):
        if os.path.lexists(place):
            if not place.is_dir():
                raise ConfigError(f"{flag} {path}: {place} is not a folder; give another path")
            return


def use_threads(count: int | None) -> None:
    """Let the kernels use so many threads; None leaves it to MINIGAN_NUM_THREADS or the cores.

    Raises ConfigError if that is no number of threads.
    """
    if count is not None and not 1 <= count <= MOST_THREADS:
        raise ConfigError(f"--threads {_short(count)}: must be from 1 to {MOST_THREADS}")
    try:
        set_num_threads(get_num_threads() if count is None else count)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def that_train(config: Config) -> dict[str, Any]:
    """The options that change the result. A checkpoint has no others: so any machine makes the same."""
    fields = (f for f in dataclasses.fields(Config) if f.metadata["trains"])
    return {field.name: getattr(config, field.name) for field in fields}


def resumed(saved: Any, given: dict[str, Any]) -> Config:
    """The options of a run that goes on: the saved ones, and of those given what may change.

    saved  what config.json has as "options"; an option that is missing was not there yet: its default
    Raises ConfigError, listing each difference, if a given option would change the training.
    """
    fields = {f.name: f for f in dataclasses.fields(Config)}
    if not isinstance(saved, dict):
        raise ConfigError('config.json has no table "options"; restore it, or start a new run')
    if unknown := sorted(set(saved) - set(fields)):
        raise ConfigError(
            f"config.json has options that this version does not know: {_short(unknown)}; "
            "restore it, or start a new run"
        )
    for name, value in saved.items():
        if not _fits(value, fields[name]):
            raise ConfigError(
                f"config.json has {name} = {_short(repr(value))}, which is not of its kind; "
                "restore it, or start a new run"
            )
    before = {name: saved.get(name, field.default) for name, field in fields.items()}
    changed = [k for k in given if fields[k].metadata["trains"] and given[k] != before[k]]
    if changed:
        raise ConfigError(
            f"the run to resume was started with other options: {_listed(changed, before, given)}"
        )
    if given.get("name", before["name"]) != before["name"]:
        raise ConfigError(
            f"--name {_short(given['name'])}: a run that is resumed keeps its name; leave it out"
        )
    return Config(**{**before, **given})


def differing(saved: Mapping[str, Any], config: Config) -> str:
    """Those of the options that train which are others now, as "--nz 8 -> 9"; "" if none are.

    One that is missing in `saved` had its default; one that this version does not know is now None.
    """
    defaults, now = that_train(Config()), that_train(config)
    before = {**defaults, **saved}
    changed = [name for name in before if name not in now or before[name] != now[name]]
    return _listed(changed, before, now)


def _listed(changed: Iterable[str], before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    return ", ".join(f"{_flag(k)} {_short(before[k])} -> {_short(now.get(k))}" for k in changed)


def _fits(value: Any, field: dataclasses.Field) -> bool:
    """Whether a value of config.json is of an option's kind, as the annotation names it."""
    kinds = {"int": int, "float": (int, float), "str": str, "bool": bool, "None": type(None)}
    return any(
        isinstance(value, kinds[kind]) and (kind == "bool" or not isinstance(value, bool))
        for kind in field.type.split(" | ")
    )


def differences(options: Sequence[str], config: Config) -> str:
    """Those options as the user would type them."""
    return " ".join(f"{_flag(k)} {getattr(config, k)}" for k in options)
