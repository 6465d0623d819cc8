"""What test_parallel.py starts under mpiexec: train_celeba.py, with something done to it first.

    mpiexec -n 2 python tests/ranks.py PLAN flags of train_celeba.py

A plan is one of the functions below; those that take a rank and a step are given as name:rank:step.
"""

import hashlib
import os
import signal
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
import train_celeba

from minigan import nn
from minigan.tensor import Tensor
from minigan.training import loop, run


def plain(_=None):
    """No batch norm, and float64: then N processes and one differ by nothing but rounding."""

    def wide(make):
        return lambda *arguments: Tensor(make(*arguments).data.astype(np.float64))

    def without_batch_norm(make):
        def made(*arguments):
            network = make(*arguments)
            layers = [m for m in network.main if not isinstance(m, nn.BatchNorm2d)]
            network.main = nn.Sequential(*layers)
            return network.double()

        return made

    loop.Generator = without_batch_norm(loop.Generator)
    loop.Discriminator = without_batch_norm(loop.Discriminator)
    loop.to_tensor, loop.draw_noise = wide(loop.to_tensor), wide(loop.draw_noise)


def weights(_):
    """Each rank leaves digests: of its weights and random streams, and of batch norm's statistics."""
    train = loop.Trainer.train

    def trained(trainer):
        code = train(trainer)
        text = str(trainer.loader.state_dict()) + str(trainer.noise.bit_generator.state)
        digests = {"weights": hashlib.sha256(text.encode()), "statistics": hashlib.sha256()}
        for network in trainer.networks.values():
            for key, value in network.state_dict().items():
                kind = "statistics" if "running" in key else "weights"
                digests[kind].update(value.numpy().tobytes())
        for kind, digest in digests.items():
            Path(f"{kind}-{trainer.group.rank}").write_text(digest.hexdigest())
        return code

    loop.Trainer.train = trained


def at(place, action):
    """Let one rank do something in one step, after its round."""
    rank, step = map(int, place.split(":"))
    play_round, play = loop.play_round, loop.Trainer.play
    now = []

    def played(trainer):
        now[:] = [trainer.group.rank, trainer.step + 1]
        return play(trainer)

    def rounds(*arguments):
        scores = play_round(*arguments)
        if now == [rank, step]:
            action(scores)
        return scores

    loop.Trainer.play, loop.play_round = played, rounds


def fault(place):
    at(place, lambda scores: 1 / 0)


def kill(place):
    at(place, lambda scores: os.kill(os.getpid(), signal.SIGKILL))


def interrupt(place):
    at(place, lambda scores: signal.raise_signal(signal.SIGINT))


def nan(place):
    at(place, lambda scores: scores.update(loss_d=float("nan")))


def full(_):
    """No space for the metrics, which only the leader writes."""

    def write(metrics, line):
        if metrics._file.name != os.devnull:
            raise OSError(28, "No space left on device")

    run.Metrics.write = write


def decoding(_):
    """The leader never ends building the cache."""

    def build(*arguments):
        print("decoding", flush=True)
        sys.stdin.read()

    loop.cache.build = build


if __name__ == "__main__":
    name, _, place = sys.argv[1].partition(":")
    if name != "nothing":
        globals()[name](place)
    sys.exit(train_celeba.main(sys.argv[2:]))
