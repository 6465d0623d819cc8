"""The program that test_parallel.py starts under mpiexec, with one part replaced by a plan.

    mpiexec -n 2 python tests/ranks.py PLAN train MEMBER flags

A plan is the name of a function below, or name:rank:step for those that take a rank and a step.
"""

import hashlib
import os
import signal
import sys
from pathlib import Path

import numpy as np

from minigan import nn
from minigan.commands import main
from minigan.data import cache
from minigan.gans import MEMBERS, networks
from minigan.models import cyclegan
from minigan.tensor import Tensor
from minigan.training import looks, record, state
from minigan.training.draw import Draw
from minigan.training.loop import Loop


class Number:
    """A metric whose value is already known."""

    def __init__(self, value):
        self.item = lambda: value


def plain(_=None):
    """No batch norm, and float64, so that N processes and one differ only by rounding."""
    make, make_D = networks.make, networks.make_D

    def strip(network):
        layers = [m for m in network.main if not isinstance(m, nn.BatchNorm2d)]
        network.main = nn.Sequential(*layers)
        network.double()

    def made(*arguments, **options):
        G, *others = make(*arguments, **options)
        strip(G)
        return G, *others

    def made_D(*arguments, **options):
        D, scores = make_D(*arguments, **options)
        strip(D)
        return D, scores

    def wide(draw):
        return lambda *arguments: Tensor(draw(*arguments).data.astype(np.float64))

    networks.make, networks.make_D = made, made_D
    for name in ("reals", "noise", "uniform"):
        setattr(Draw, name, wide(getattr(Draw, name)))
    labelled = Draw.labelled
    Draw.labelled = lambda draw: tuple(
        t.double() if t.dtype.kind == "f" else t for t in labelled(draw)
    )
    batches = Draw.each_class
    Draw.each_class = lambda draw: tuple(x.double() for x in batches(draw))
    for name in ("Generators", "Discriminators"):
        pair = getattr(cyclegan, name)
        setattr(cyclegan, name, lambda *arguments, pair=pair: pair(*arguments).double())
    narrow = looks.noise
    looks.noise = lambda *arguments: narrow(*arguments).astype(np.float64)


def weights(_):
    """Each rank writes two digests: of batch norm's statistics, and of the rest of a checkpoint."""
    train = Loop.train

    def trained(loop):
        code = train(loop)
        digests = {"weights": hashlib.sha256(), "statistics": hashlib.sha256()}
        for path, leaf in state.leaves(loop.tree):
            content = str(leaf).encode() if isinstance(leaf, int) else state.host(leaf).tobytes()
            digests["statistics" if "running" in path else "weights"].update(content)
        for kind, digest in digests.items():
            Path(f"{kind}-{loop.group.rank}").write_text(digest.hexdigest())
        return code

    Loop.train = trained


def at(place, action):
    """Make one rank call `action`, with the step's metrics, in one step."""
    rank, step = map(int, place.split(":"))

    def acting(play):
        def played(member, draw):
            metrics = play(member, draw)
            in_the_run = draw.group.size > 1  # not a step of the time estimate
            if in_the_run and (draw.group.rank, draw.step + 1) == (rank, step):
                action(metrics)
            return metrics

        return played

    for member in MEMBERS.values():
        if "step" in vars(member):  # the others inherit one of these
            member.step = acting(member.step)


def fault(place):
    at(place, lambda metrics: 1 / 0)


def kill(place):
    at(place, lambda metrics: os.kill(os.getpid(), signal.SIGKILL))


def interrupt(place):
    at(place, lambda metrics: signal.raise_signal(signal.SIGINT))


def nan(place):
    at(place, lambda metrics: metrics.update(grad_d=Number(float("nan"))))


def full(_):
    """No space for the metrics, which only the leader writes."""

    def write(metrics, line):
        if metrics._file.name != os.devnull:
            raise OSError(28, "No space left on device")

    record.MetricsFile.write = write


def decoding(_):
    """The leader never finishes building the cache."""

    def build(*arguments):
        print("decoding", flush=True)
        sys.stdin.read()

    cache.build = build


if __name__ == "__main__":
    name, _, place = sys.argv[1].partition(":")
    if name != "nothing":
        globals()[name](place)
    sys.exit(main(sys.argv[2:]))
