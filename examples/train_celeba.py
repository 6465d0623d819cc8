"""Train the DCGAN: on CelebA if it is at hand, else on faces drawn by the program.

    python examples/train_celeba.py                                        # drawn faces, minutes
    python examples/train_celeba.py --dataroot img_align_celeba.zip        # CelebA
    python examples/train_celeba.py --resume auto                          # go on
    python examples/train_celeba.py --ngpu 2                               # on two GPUs

The run is left in runs/NNNNN-<name>/: samples, curves, a film, metrics and checkpoints.
"""

from __future__ import annotations

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback from among the imports; see `run`

import errno
import json
import sys
from contextlib import ExitStack
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from minigan import console
from minigan.backend import DeviceError, gpu_trouble
from minigan.backend.threads import tell_blas_trouble
from minigan.console import INTERRUPTED, STDERR, plain, say
from minigan.data.cache import Images
from minigan.errors import UserError
from minigan.files import no_memory, trouble
from minigan.training import parallel
from minigan.training.checkpoint import CheckpointError, newest_first
from minigan.training.config import (
    FACES,
    Config,
    ConfigError,
    Parser,
    add_options,
    check_folder,
    differences,
    resumed,
    use_threads,
)
from minigan.training.loop import (
    Diverged,
    Trainer,
    check_same_images,
    check_same_size,
    frozen,
    open_images,
)
from minigan.training.run import Run, RunError, write_config

# Where CelebA is looked for when --dataroot does not say.
USUAL_PLACES = ("data/img_align_celeba.zip", "data/img_align_celeba", "data/celeba")


# What can go wrong without a mistake in the program: one sentence, no traceback.
USER_ERRORS = (ConfigError, UserError, DeviceError, RunError, CheckpointError, Diverged)

NO_DATA = """\
No --dataroot and no data/img_align_celeba.zip: training on faces that the program draws itself.
  To get CelebA: img_align_celeba.zip from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html
  To train on it: put it into the folder data/, or give --dataroot path/to/img_align_celeba.zip"""


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=(__doc__ or "").split("\n")[0])  # python -OO drops it
    add_options(parser)
    parser.add_argument(
        "--resume",
        metavar="RUN",
        help="a run folder to go on with, or auto: the newest in --out (default: a new run)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="show the options and stop (default: train)"
    )
    given = vars(parser.parse_args(argv))
    resume, dry_run = given.pop("resume"), given.pop("dry_run")
    group = parallel.Group()  # of this process alone, until it is known to have others
    try:
        group = parallel.join()
        return train(given, resume, dry_run, group)
    except USER_ERRORS as error:
        return group.fail(f"error: {plain(error)}")
    except OSError as error:  # before there is a run, which has its own words
        return group.fail(
            f"error: {plain(trouble(error))}, then start again, or with another --out"
        )
    except MemoryError as error:  # CuPy's, of a GPU, is one too
        return group.fail(f"error: {no_memory(error)}; lower --batch-size, --ngf or --ndf")
    except KeyboardInterrupt:
        return group.fail("interrupted", INTERRUPTED)


def train(given: dict, resume: str | None, dry_run: bool, group: parallel.Group) -> int:
    run, config = group.from_leader(lambda: find_or_choose(given, resume))
    if not dry_run:
        parallel.arrange(group, config, given.get("ngpu"))
    device = group.device(config.device_name)  # this and the next two fail before anything is done
    use_threads(config.threads)
    check_folder("--out", Path(config.out))
    if run is None and config.dataroot is None:
        explain(given, config)
    if dry_run:
        return dry(config)
    if resume is not None and run is None:
        say(f"Nothing to resume in {config.out}: starting a new run.")
    if device == "cpu" and config.device_name == "auto" and find_spec("cupy"):
        say(f"Training on the CPU, though CuPy is installed: {gpu_trouble(0)}.")

    images = group.leader_first(lambda: open_images(config, say=say))
    if images.skipped:
        say(f"{len(images.skipped)} files could not be used; skipped.txt in the run names them.")
    if unlisted := images.identity.get("unlisted"):
        say(f"{unlisted} files are not in the list of attributes that --only needs: left out.")
    new = run is None
    if new:
        name = config.name or f"{images.identity['kind']}{config.image_size}"
        out = Path(config.out)
        run = group.from_leader(lambda: Run.create(out, name, frozen(config, images)))
    with ExitStack() as held:
        group.from_leader(lambda: held.enter_context(run.in_use()))
        try:
            return play(run, new, config, images, group)
        except KeyboardInterrupt:
            if not newest_first(run.checkpoints):
                raise
            again = command("--resume", run.folder)
            return group.fail(
                plain(f"interrupted; to go on from its checkpoint: {again}"), INTERRUPTED
            )


def dry(config: Config) -> int:
    """Print the options for a program, which must get them."""
    try:
        if sys.stdout is None:
            raise OSError(errno.EBADF, "it is closed")
        print(json.dumps(asdict(config), indent=2), flush=True)
    except OSError as error:
        why = error.strerror or error
        raise ConfigError(
            f"--dry-run: the options cannot be printed to stdout ({why}); redirect it to a file"
        ) from error
    return 0


def play(run: Run, new: bool, config: Config, images: Images, group: parallel.Group) -> int:
    """Train in this run, which no other process writes to meanwhile."""
    if not new:  # before the networks are built
        group.from_leader(lambda: check_same_images(run.config, images))
        group.from_leader(lambda: check_same_size(config, run.checkpoints))
    trainer = Trainer(config, images, run, group=group)
    if new:
        if group.leader:
            run.event("start", images=len(images.pixels))
    else:
        trainer.load_newest()
        if trainer.step >= trainer.total:
            trainer.finish()
            reached = f"{run.folder} is at step {trainer.step} of {trainer.total}"
            say(f"{reached}: raise {' and '.join(trainer.limits())} to go on.")
            trainer.note_lost_output()
            return 0
        if group.leader:
            write_config(run.folder, {**run.config, "options": asdict(config)})
    if images.skipped and group.leader:
        run.write_skipped(images.skipped)
        run.event("skipped files", count=len(images.skipped), listing="skipped.txt")
    if group.size > 1 and group.leader:
        run.event("data parallel", processes=group.size)

    times = f"{group.size} x " if group.size > 1 else ""
    say(f"{run.folder}: step {trainer.step} of {trainer.total} on {times}{trainer.device}")
    if trainer.device == "cpu":
        tell_blas_trouble(say)
    code = trainer.train()
    say(f"{'Interrupted' if code else 'Done'}: look at {run.folder / 'samples'}")
    say(f"  generate more:     {command('--run', run.folder, script='generate.py')}")
    if code:
        say(f"  go on:             {command('--resume', run.folder)}")
    else:
        longer = [word for flag, n in trainer.limits().items() for word in (flag, 2 * n)]
        say(f"  train for longer:  {command('--resume', run.folder, *longer)}")
    trainer.note_lost_output()
    return code


def command(*words: object, script: str = "train_celeba.py") -> str:
    """A command that starts a script of this folder, as the user would type it."""
    return console.python(console.nearby(Path(__file__).resolve().with_name(script)), *words)


def find_or_choose(given: dict, resume: str | None) -> tuple[Run | None, Config]:
    """The run to go on with, if there is one, and the options."""
    out = Path(given.get("out", Config.out))
    run = None if resume is None else Run.find(resume, out)
    if run is None:
        return None, choose(given)
    # Not the "out" of its config.json: a stranger's would have the cache written anywhere.
    return run, resumed(run.config.get("options"), {"out": str(run.out), **given})


def choose(given: dict) -> Config:
    """The options of a new run: those given, and what suits the data for the rest."""
    if "dataroot" not in given:
        place = next((p for p in USUAL_PLACES if Path(p).exists()), None)
        given = {**FACES, **given} if place is None else {**given, "dataroot": place}
    return Config(**given)


def explain(given: dict, config: Config) -> None:
    """Say what is trained on without data; on stderr, as what --dry-run prints is for programs."""
    for line in NO_DATA.splitlines():
        say(line, STDERR)
    if sets := differences([k for k in FACES if k not in given], config):
        say(f"  For a few minutes on a CPU it sets {sets}.", STDERR)


if __name__ == "__main__":
    console.run(main)
