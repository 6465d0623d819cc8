"""Train the DCGAN: on CelebA if it is at hand, else on faces drawn by the program.

    python examples/train_celeba.py                                        # drawn faces, minutes
    python examples/train_celeba.py --dataroot img_align_celeba.zip        # CelebA
    python examples/train_celeba.py --resume auto                          # go on
    python examples/train_celeba.py --ngpu 2                               # on two GPUs

The run is left in runs/NNNNN-<name>/: samples, curves, a film, metrics and checkpoints.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import ExitStack
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from minigan.backend import DeviceError, gpu_trouble
from minigan.data.cache import DataError, Images, plain
from minigan.files import no_memory, trouble
from minigan.training import parallel
from minigan.training.checkpoint import CheckpointError
from minigan.training.config import (
    FACES,
    Config,
    ConfigError,
    add_options,
    differences,
    parse,
    resumed,
    use_threads,
)
from minigan.training.loop import (
    Diverged,
    Trainer,
    check_same_images,
    frozen,
    open_images,
)
from minigan.training.run import Run, RunError, write_config
from minigan.training.terminal import INTERRUPTED

# Where CelebA is looked for when --dataroot does not say.
USUAL_PLACES = ("data/img_align_celeba.zip", "data/img_align_celeba", "data/celeba")


# What can go wrong without a mistake in the program: one sentence, no traceback.
USER_ERRORS = (ConfigError, DataError, DeviceError, RunError, CheckpointError, Diverged)

NO_DATA = """\
No --dataroot and no data/img_align_celeba.zip: training on faces that the program draws itself.
  To get CelebA: img_align_celeba.zip from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html
  To train on it: put it into the folder data/, or give --dataroot path/to/img_align_celeba.zip"""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    add_options(parser)
    parser.add_argument("--resume", metavar="RUN", help="a run folder to go on with, or auto")
    parser.add_argument("--dry-run", action="store_true", help="show the options and stop")
    given = vars(parse(parser, argv))
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


def say(text: str) -> None:
    """A line for the user: at once, through a pipe as well, and whatever stands in a path."""
    print(plain(text), flush=True)


def train(given: dict, resume: str | None, dry_run: bool, group: parallel.Group) -> int:
    run, config = group.from_leader(lambda: find_or_choose(given, resume))
    if not dry_run:
        parallel.arrange(group, config, given.get("ngpu"))
    if run is None and config.dataroot is None:
        explain(given, config)
    device = group.device(config.device_name)  # this and the next fail before any data is read
    use_threads(config.threads)
    if dry_run:
        print(json.dumps(asdict(config), indent=2))
        return 0
    if resume is not None and run is None:
        say(f"Nothing to resume in {config.out}: starting a new run.")
    if device == "cpu" and config.device_name == "auto" and find_spec("cupy"):
        say(f"Training on the CPU, though CuPy is installed: {gpu_trouble(0)}.")

    images = group.leader_first(lambda: open_images(config))
    if images.skipped:
        say(f"{len(images.skipped)} files could not be used; skipped.txt in the run names them.")
    if unlisted := images.identity.get("unlisted"):
        say(f"{unlisted} files are not in the list of attributes that --only needs: left out.")
    new = run is None
    if new:
        name = config.name or ("celeba" if config.dataroot else "faces") + str(config.image_size)
        out = Path(config.out)
        run = group.from_leader(lambda: Run.create(out, name, frozen(config, images)))
    with ExitStack() as held:
        group.from_leader(lambda: held.enter_context(run.in_use()))
        return play(run, new, config, images, group)


def play(run: Run, new: bool, config: Config, images: Images, group: parallel.Group) -> int:
    """Train in this run, which no other process writes to meanwhile."""
    trainer = Trainer(config, images, run, say, group)
    if new:
        if group.leader:
            run.event("start", images=len(images.pixels))
    else:
        group.from_leader(lambda: check_same_images(run.config, images))
        trainer.load_newest()
        if trainer.step >= trainer.total:
            trainer.draw_figures()  # one that was killed after its last step has not come to it
            reached = f"{run.folder} is at step {trainer.step} of {trainer.total}"
            say(f"{reached}: raise --epochs or --steps to go on.")
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
    code = trainer.train()
    say(f"{'Interrupted' if code else 'Done'}: look at {run.folder / 'samples'}")
    say(f"  generate more:     python examples/generate.py --run {run.folder}")
    longer = f"--steps {2 * config.steps}" if config.steps else f"--epochs {2 * config.epochs}"
    say(f"  train for longer:  python examples/train_celeba.py --resume {run.folder} {longer}")
    return code


def find_or_choose(given: dict, resume: str | None) -> tuple[Run | None, Config]:
    """The run to go on with, if there is one, and the options."""
    out = Path(given.get("out", Config.out))
    run = None if resume is None else Run.find(resume, out)
    return run, resumed(run.config.get("options"), given) if run else choose(given)


def choose(given: dict) -> Config:
    """The options of a new run: those given, and what suits the data for the rest."""
    if "dataroot" not in given:
        place = next((p for p in USUAL_PLACES if Path(p).exists()), None)
        given = {**FACES, **given} if place is None else {**given, "dataroot": place}
    return Config(**given)


def explain(given: dict, config: Config) -> None:
    """Say what is trained on without data; on stderr, as what --dry-run prints is for programs."""
    print(NO_DATA, file=sys.stderr)
    if sets := differences([k for k in FACES if k not in given], config):
        print(f"  For a few minutes on a CPU it sets {sets}.", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
