"""Train the DCGAN of the docs on CelebA if it is there, else on faces that the program draws.

    python examples/train_celeba.py                                        # drawn faces, minutes
    python examples/train_celeba.py --dataroot img_align_celeba.zip        # CelebA
    python examples/train_celeba.py --resume auto                          # resume
    python examples/train_celeba.py --ngpu 2                               # on two GPUs

The run's folder is runs/NNNNN-dcgan-<data>/: samples, curves, a film, metrics and checkpoints.
"""

from __future__ import annotations

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback from the imports; see `console.run`

from pathlib import Path

from minigan import console
from minigan.commands import ending
from minigan.commands.train import add_flags, check_name, explain, play, prepare, show
from minigan.console import say
from minigan.errors import UserError
from minigan.options import Parser
from minigan.training.parallel import Group
from minigan.training.plan import choose, resumed
from minigan.training.run import Run
from minigan.training.settings import RunOptions

MEMBER = "dcgan"  # its page is minigan/gans/standard.py


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=(__doc__ or "").split("\n")[0])  # python -OO drops it
    add_flags(parser, MEMBER)
    parser.add_argument(
        "--resume",
        metavar="RUN",
        help="a run folder to resume, or auto: the newest in --out (default: start a new run)",
    )
    return ending.run(train, vars(parser.parse_args(argv)))


def train(given: dict, group: Group) -> int:
    resume, name, dry_run = (given.pop(key) for key in ("resume", "name", "dry_run"))
    check_name(name)

    # 1. The run: a new one, or one that resumes exactly where it stopped.
    out = Path(given.get("out", RunOptions.out))
    run = None if resume is None else group.from_leader(lambda: Run.find(resume, out))
    if run and name is not None:
        raise UserError(f"--name {name}: a run that is resumed keeps its name; leave it out")

    # 2. Its plan: the options of the game, the data and the run. The recipe fills in what is missing.
    plan = group.from_leader(lambda: resumed(run, given) if run else choose(MEMBER, given))
    if dry_run:
        return show(plan)

    # 3. The machine: the processes, the device, the threads, the folder.
    prepare(plan, group, given)
    if run is None:
        explain(plan, given)
        if resume is not None:
            say(f"Nothing to resume in {out}: starting a new run.")

    # 4. Train. Then tell the user where to look and how to resume.
    return play(plan, run, name, group)


if __name__ == "__main__":
    console.run(main)
