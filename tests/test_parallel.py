"""Data parallel training: N processes make up one run, and if one of them ends, all do.

Parts that do not need MPI are tested with threads that communicate as MPI's processes do. The rest runs
under mpiexec in two processes, from `ranks.py`. NCCL is replaced by a stand-in, so it is not executed.
"""

import importlib.util
import json
import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import celeba_factory as factory
import numpy as np
import pytest
import ranks
import tiny
import walk

from minigan import backend
from minigan.backend import threads
from minigan.console import pip
from minigan.errors import UserError
from minigan.gans import MEMBERS, networks
from minigan.gans.player import Player
from minigan.models import cyclegan
from minigan.tensor import Tensor
from minigan.training import checkpoint, looks, loop, parallel, pictures, scoring, session, state
from minigan.training.draw import Draw
from minigan.training.estimate import Estimate
from minigan.training.loop import Loop
from minigan.training.metrics import played
from minigan.training.parallel import Group
from minigan.training.plan import choose
from minigan.training.run import Run
from minigan.training.scoring import Scoring

MPIEXEC = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")
MPI = pytest.mark.skipif(
    MPIEXEC is None or importlib.util.find_spec("mpi4py") is None,
    reason="needs mpi4py and mpiexec: pip install -e '.[parallel]'",
)
HANGS = 60  # seconds: a safety net, far longer than any of these tests

rng = np.random.default_rng


@pytest.fixture(autouse=True)
def somewhere_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.hurry(monkeypatch)
    for name in parallel.COUNTS:
        monkeypatch.delenv(name, raising=False)


# -- threads that communicate as MPI's processes do --------------------------------------------------


class Ended(BaseException):
    """Stands for MPI's Abort, which ends a process."""


class World:
    """The state that the communicators of `size` threads share."""

    def __init__(self, size):
        self.size, self.barrier = size, threading.Barrier(size, timeout=HANGS)
        self.slots, self.arrived, self.aborted = [None] * size, {}, []
        self.lock, self.duplicate = threading.Lock(), None


class Communicator:
    """The parts of an mpi4py communicator that a Group uses; sums are taken in rank order."""

    def __init__(self, world, rank):
        self.world, self.rank, self.barriers, self.messages = world, rank, 0, []

    def Get_rank(self):
        return self.rank

    def Get_size(self):
        return self.world.size

    def Dup(self):
        with self.world.lock:
            self.world.duplicate = self.world.duplicate or World(self.world.size)
        return Communicator(self.world.duplicate, self.rank)

    def gather(self, value):
        self.world.slots[self.rank] = value
        self.world.barrier.wait()
        values = list(self.world.slots)
        self.world.barrier.wait()
        return values

    def Allreduce(self, mine, total):
        assert mine.flags.c_contiguous
        assert total.flags.c_contiguous
        self.messages.append(mine.size)
        total[...] = sum(self.gather(mine.copy()))

    def allreduce(self, value):
        return sum(self.gather(value))

    def allgather(self, value):
        return self.gather(value)

    def bcast(self, value, root):
        return self.gather(value)[root]

    def Ibarrier(self):
        self.barriers += 1
        here = self.world.arrived.setdefault(self.barriers, set())
        here.add(self.rank)
        return SimpleNamespace(Test=lambda: len(here) == self.world.size)

    def Abort(self, code):
        self.world.aborted.append((self.rank, code))
        self.world.barrier.abort()
        raise Ended


def together(size, work):
    """The results of work(group) in `size` threads, and the communicators."""
    world = World(size)
    groups = [Group(Communicator(world, rank), gpu=rank) for rank in range(size)]
    results = [None] * size

    def run(rank):
        try:
            results[rank] = work(groups[rank])
        except BaseException as error:
            results[rank] = error
            world.barrier.abort()

    running = [threading.Thread(target=run, args=(rank,), daemon=True) for rank in range(size)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(HANGS)
    errors = [r for r in results if isinstance(r, Exception)]
    for error in sorted(errors, key=lambda e: isinstance(e, threading.BrokenBarrierError)):
        raise error
    return results, [group.comm for group in groups]


# -- the group ---------------------------------------------------------------------------------------


def test_alone_everything_is_given_back_and_nothing_is_waited_for():
    group, gradients, metrics = Group(), [Tensor(np.ones(2))], {"a": 1.0}
    assert (group.rank, group.size, group.leader) == (0, 1, True)
    assert group.average(gradients) is gradients
    assert group.mean(metrics) is metrics
    assert (group.any([]), group.any([2])) == (False, True)
    assert (group.first(None), group.first("a")) == (None, "a")
    batch = np.arange(6)
    assert group.share(batch).tolist() == batch.tolist()
    assert group.gather(batch) is batch
    assert group.from_leader(lambda: 5) == group.leader_first(lambda: 5) == 5
    group.wait()
    assert group.device("cpu") == group.use_device("cpu", True) == "cpu"


@pytest.mark.parametrize("make", [np.asarray, Tensor])
def test_the_shares_are_the_batch_cut_in_pieces(make):
    batch = rng(0).standard_normal((6, 2))
    for size in (1, 2, 3, 6):
        shares, _ = together(size, lambda group: np.asarray(group.share(make(batch))))
        assert {len(s) for s in shares} == {6 // size}
        np.testing.assert_array_equal(np.concatenate(shares), batch)


@pytest.mark.parametrize("dtype", ["f", "d", "i"])
def test_all_gather_the_shares_as_the_batch(dtype):
    batch = rng(0).uniform(-9, 9, (6, 2, 3)).astype(dtype)
    for size in (1, 2, 3):
        results, _ = together(size, lambda group: group.gather(group.share(batch)))
        assert {each.tobytes() for each in results} == {batch.tobytes()}


def gradients_of(rank):
    """Arrays of several shapes; one has the memory order of convolution weights, one is a number."""
    draw = rng(rank)
    kernel = draw.standard_normal((4, 4, 3, 2)).astype("f").transpose(3, 2, 0, 1)
    return [
        Tensor(a)
        for a in (
            kernel,
            draw.standard_normal((5,)).astype("f"),
            draw.standard_normal((2, 3)).astype("f").T,
            np.float32(draw.standard_normal()) * np.ones((), "f"),
        )
    ]


@pytest.mark.parametrize("size", [2, 3])
def test_gradients_are_averaged_in_one_message_alike_on_all_ranks(size):
    results, comms = together(size, lambda group: group.average(gradients_of(group.rank)))
    each = [gradients_of(rank) for rank in range(size)]
    for i, mine in enumerate(results[0]):
        expected = sum(gradients[i].numpy().astype("d") for gradients in each) / size
        assert (mine.shape, mine.dtype) == (expected.shape, np.float32)
        np.testing.assert_allclose(mine.numpy(), expected, 1e-6, 1e-7)
        assert {r[i].numpy().tobytes() for r in results} == {mine.numpy().tobytes()}
    assert [comm.messages for comm in comms] == [[4 * 4 * 3 * 2 + 5 + 6 + 1]] * size


def test_metrics_are_averaged_and_one_flag_is_enough():
    def work(group):
        flags = group.any([]), group.any([2] if group.rank == 1 else [])
        return group.mean({"a": 1.0 + group.rank, "b": -3.0}), flags

    results, _ = together(2, work)
    assert results == [({"a": 1.5, "b": -3.0}, (False, True))] * 2


def test_one_metric_that_is_not_finite_is_so_on_all_ranks():
    metrics = lambda group: group.mean({"a": np.nan if group.rank else 1.0})["a"]
    assert np.isnan(together(2, metrics)[0]).all()


def test_all_learn_what_the_first_rank_that_knows_it_says():
    known = {1: "b", 2: "c"}
    assert together(3, lambda group: group.first(known.get(group.rank)))[0] == ["b"] * 3
    assert together(3, lambda group: group.first(None))[0] == [None] * 3


def test_the_leader_is_asked_alone_and_answers_all():
    asked = []
    answers, _ = together(3, lambda g: g.from_leader(lambda: asked.append(g.rank) or "yes"))
    assert (answers, asked) == (["yes"] * 3, [0])


def test_what_goes_wrong_for_the_leader_goes_wrong_for_all():
    def ask(group):
        def unlucky():
            raise UserError(f"rank {group.rank} has no luck")

        with pytest.raises(UserError, match="rank 0 has no luck"):
            group.from_leader(unlucky)
        return group.from_leader(lambda: "and on it goes")

    assert together(2, ask)[0] == ["and on it goes"] * 2


def test_the_leader_calls_first():
    order = []
    results, _ = together(3, lambda g: g.leader_first(lambda: order.append(g.rank) or g.rank))
    assert results == [0, 1, 2]
    assert order[0] == 0
    assert sorted(order) == [0, 1, 2]


# -- the end -----------------------------------------------------------------------------------------


def test_after_a_failure_of_all_each_ends_by_itself(capsys, monkeypatch):
    monkeypatch.setattr(sys, "__stderr__", sys.stderr)
    # only the leader's stderr is visible (see `join`); here they share one
    codes, comms = together(2, lambda group: group.fail("error: wrong", 3))
    assert codes == [3, 3]
    assert comms[0].world.aborted == []
    assert capsys.readouterr().err == "error: wrong\n" * 2


@pytest.mark.parametrize("rank", [0, 1])
def test_a_failure_of_one_ends_all(rank, capsys, monkeypatch):
    monkeypatch.setattr(parallel, "PATIENCE", 0.05)
    monkeypatch.setattr(parallel, "time", SimpleNamespace(sleep=time.sleep))  # without a clock
    monkeypatch.setattr(sys, "__stderr__", sys.stderr)

    def work(group):
        return group.fail("error: wrong", 3) if group.rank == rank else group.any(False)

    with pytest.raises(threading.BrokenBarrierError):  # the other rank, which MPI would end
        together(2, work)
    assert capsys.readouterr().err == f"rank {rank} of 2: error: wrong\n"


def test_alone_a_failure_is_told_as_ever(capsys):
    assert Group().fail("error: wrong") == 1
    assert capsys.readouterr() == ("", "error: wrong\n")


# -- a run -------------------------------------------------------------------------------------------

# 20 drawn faces of 16 x 16 pixels, six to a step: two and three processes share them
OPTIONS = {"ngf": 4, "ndf": 4, "batch_size": 6, "lr": 1e-3, "workers": 1, "device": "cpu"}
IMAGES = {"image_size": 16, "max_images": 20}
DATA = {"faces": IMAGES | {"flip": True}, "digits": IMAGES, "seasons": IMAGES, "ring": {}}
WALK = [
    (member, "ring" if kind == "points" else tiny.images(member), walk.d_steps(member))
    for member, kind in walk.WALK
]
every_member = pytest.mark.parametrize("member", MEMBERS)
some_members = pytest.mark.parametrize("member", walk.SOME)  # for properties of the loop


def loop_of(group, member, data=None, **options):
    data = data or tiny.images(member)
    own = walk.own(member, {"nz": 8, "blocks": 1})  # more blocks would magnify rounding
    if member in ("progressive", "stylegan"):
        own |= {"batch_size": 8}  # groups of 4
    own |= {"phase_images": 10} if member == "progressive" else {}
    given = {"data": data, "out": "out", **OPTIONS, **own, **DATA[data], **options}
    plan = choose(member, given)
    plan, samples = session.open_for(plan, group, print, progress=False)
    run = group.from_leader(lambda: Run.create(Path("out"), "x", {}))
    gan, draw = session.build(plan, samples, "cpu", group)
    return Loop(plan, gan, samples, draw, run, print, group)


def steps_of(group, count, member, data=None, **options):
    """The result of some steps in a group: all arrays, all whole numbers, and each step's metrics."""
    loop = loop_of(group, member, data, **options)
    metrics = [loop.play() for _ in range(count)]
    leaves = dict(state.leaves(loop.tree))
    numbers = {name: leaf for name, leaf in leaves.items() if isinstance(leaf, int)}
    arrays = {
        name: np.array(state.host(leaf)) for name, leaf in leaves.items() if name not in numbers
    }
    for line in metrics:
        del line["images_per_second"]
    return arrays, numbers, metrics


# The mean of the shares' means is the batch's mean, except for the order of the sums. In float64 this
# changes 1e-16 of the gradient. Near zero, Adam's quotient of moments may enlarge it a thousandfold.
ROUNDING = {"rtol": 1e-9, "atol": 1e-12}
# A pool keeps fakes in float32. Where one lies between two float32 numbers, the last bit of a sum in
# float64 decides which it becomes, and they differ by 2^-23 of their size at most.
STORED = {"rtol": 2**-23, "atol": 1e-12}


def same(arrays, others, idle=()):
    assert arrays.keys() == others.keys()
    for key, array in arrays.items():
        if key not in idle:
            rounding = STORED if key.startswith("extra.pool") else ROUNDING
            np.testing.assert_allclose(array, others[key], err_msg=key, **rounding)


@pytest.fixture
def plain(monkeypatch):
    """Networks without batch norm, in float64."""
    monkeypatch.setattr(networks, "make", networks.make)  # everything is restored afterwards
    monkeypatch.setattr(networks, "make_D", networks.make_D)
    monkeypatch.setattr(looks, "noise", looks.noise)
    monkeypatch.setattr(cyclegan, "Generators", cyclegan.Generators)
    monkeypatch.setattr(cyclegan, "Discriminators", cyclegan.Discriminators)
    for name in ("reals", "labelled", "each_class", "noise", "uniform"):
        monkeypatch.setattr(Draw, name, getattr(Draw, name))
    ranks.plain()


# Each process unrolls D on its own share (see docs/gpu.md), so `unrolled` plays another game there. So
# do `progressive` and `stylegan`, whose D compares the samples of its share in groups.
EXACT = [row for row in WALK if row[0] not in ("unrolled", "progressive", "stylegan")]


@pytest.mark.parametrize(
    ("member", "data", "options"), [*EXACT, ("dcgan", "faces", {"fresh_noise": False})]
)
def test_several_ranks_equal_one_when_there_is_no_batch_norm(plain, member, data, options):
    arrays, numbers, metrics = steps_of(Group(), 5, member, data, **options)
    assert numbers["draw.step"] == numbers["players.G.optimizer.0.step"] == 5
    idle = walk.idle_leaves(loop_of(Group(), member, data, **options).member)
    for size in (2, 3):
        results, _ = together(size, lambda group: steps_of(group, 5, member, data, **options))
        for others, other_numbers, other_metrics in results:
            same(arrays, others, idle)
            assert other_numbers == numbers
            for line, other in zip(metrics, other_metrics, strict=True):
                assert other == pytest.approx(line, rel=1e-9)
        bytes_of = [{k: a.tobytes() for k, a in others.items()} for others, *_ in results]
        assert all(b == bytes_of[0] for b in bytes_of)


@every_member
def test_batch_norm_is_local_and_everything_else_is_shared(member):
    (first, second), _ = together(2, lambda group: steps_of(group, 3, member))
    assert first[1:] == second[1:]
    differing = {key for key in first[0] if first[0][key].tobytes() != second[0][key].tobytes()}
    assert differing == {key for key in first[0] if "running" in key}


@every_member
def test_metrics_are_reported_at_the_same_steps_and_others_cost_no_message(monkeypatch, member):
    """A step sends one message for each descent, and one for its metrics if it is reported.

    Feature matching sends one more, StyleGAN two, of w for its means, and each of CycleGAN's pools two:
    random numbers and fakes.
    """
    descend, descents = Player.descend, []
    monkeypatch.setattr(Player, "descend", lambda *words: descents.append(1) or descend(*words))

    def work(group):
        loop = loop_of(group, member, log_every=2, steps=3)
        return [played(loop.play()) for _ in range(3)], group.comm.messages

    results, _ = together(2, work)
    assert results[0] == results[1]
    reported, messages = results[0]
    assert [bool(names) for names in reported] == [False, True, True]
    own = {"feature-matching": 1, "cyclegan": 4, "stylegan": 2}.get(member, 0)
    each = [False] * (len(descents) // (2 * 3) + own)
    assert [m == len(reported[1]) for m in messages] == [*each, *each, True, *each, True]


@some_members
def test_only_the_leader_evaluates_and_no_weight_depends_on_it(monkeypatch, member):
    measure, asked = Scoring.measure, []
    monkeypatch.setattr(scoring, "COUNT", 10)
    monkeypatch.setattr(Scoring, "measure", lambda self: asked.append(self) or measure(self))
    evaluating = {"checkpoint_every": 2, "evaluate_every": 2}

    def work(group, **options):
        arrays, numbers, lines = steps_of(group, 3, member, **options)
        return {name: array.tobytes() for name, array in arrays.items()}, numbers, lines

    without, _ = together(2, work)
    assert not asked
    with_them, _ = together(2, lambda group: work(group, **evaluating))
    assert len(asked) == 1  # of two processes, in one step of three
    for before, after in zip(without, with_them, strict=True):
        assert after[:2] == before[:2]
    lines, others = (lines for *_, lines in with_them)
    assert lines == others
    assert [any(" " in name for name in line) for line in lines] == [False, True, False]


DEAF = {"catch_warnings": nullcontext, "simplefilter": lambda *arguments: None}


def in_a_group(monkeypatch, size, main):
    """main() in `size` threads, without its catching of warnings, which works only per process."""
    local = threading.local()
    monkeypatch.setattr(parallel, "join", lambda: local.group)
    monkeypatch.setattr(parallel, "started", lambda: size)
    monkeypatch.setattr(loop, "warnings", SimpleNamespace(**DEAF))
    monkeypatch.setattr(session, "estimate", lambda *arguments: Estimate(1.0, 1.0))

    def work(group):
        local.group = group
        return main()

    return together(size, work)


def test_a_group_leaves_the_run_of_one_and_goes_on_with_it(monkeypatch):
    """The whole program, in two threads, resumes a run that one process has started."""
    straight = tiny.train("straight", "--steps", 8, "--flip", "--checkpoint-every", 3)
    tiny.train("out", "--steps", 4, "--flip", "--checkpoint-every", 3)
    flags = ["--out", "out", "--resume", "auto", "--steps", "8", "--ngpu", "2", "--device", "cpu"]
    with monkeypatch.context() as patch:
        codes, _ = in_a_group(patch, 2, lambda: tiny.train_celeba.main(flags))
    assert codes == [0, 0]
    assert sorted(os.listdir("out")) == [".lock", tiny.FIRST, "cache"]
    run = Run(Path("out") / tiny.FIRST)
    assert tiny.saved(run) == [3, 6, 8]
    assert [row["step"] for row in tiny.metrics(run)] == list(range(1, 9))
    assert [e["event"] for e in tiny.events(run)] == [
        "start",
        "done",
        "resume",
        "data parallel",
        "done",
    ]
    assert tiny.events(run)[3]["processes"] == run.config["run"]["ngpu"] == 2
    assert tiny.newest(run)[1] == tiny.newest(straight)[1]  # all whole numbers
    assert tiny.grids(run).keys() == tiny.grids(straight).keys() | {"step-00000004.png"}
    # and one process resumes what they left
    tiny.train("out", "--resume", "auto", "--steps", 9, "--ngpu", 0)
    assert tiny.saved(run) == [3, 6, 9]


def test_weights_that_are_not_finite_stop_all_and_the_leader_tells(monkeypatch, capsys):
    """A step's losses come before its update, so only the checkpoint sees bad weights.

    The others wait while the leader draws, however long, instead of aborting before it has failed.
    """
    save = Loop.save
    monkeypatch.setattr(parallel, "PATIENCE", 0.5)
    monkeypatch.setattr(pictures, "save_film", lambda *arguments: time.sleep(1))

    def spoilt(loop):
        if loop.group.rank == 1:
            next(iter(loop.member.players["G"].net.parameters())).data[0] = np.nan
        return save(loop)

    monkeypatch.setattr(Loop, "save", spoilt)
    flags = [*tiny.TINY, "--out", "out", "--steps", "3", "--dataroot", "data"]
    factory.make(Path("data"), 8)
    codes, comms = in_a_group(monkeypatch, 2, lambda: tiny.train_celeba.main(flags))
    assert codes == [1, 1]
    assert comms[0].world.aborted == []
    run = Run(Path("out/00000-dcgan-pictures16"))
    assert (tiny.saved(run), tiny.events(run)[-1]["event"]) == ([], "diverged")
    assert [e["event"] for e in tiny.events(run)].count("diverged") == 1
    told = "error: step 3: players.G.net.main.0.weight holds values that are not finite; "
    assert told in capsys.readouterr().err


@some_members
@pytest.mark.parametrize("spoilt", ["metric", "weight"])
def test_what_goes_wrong_on_one_rank_is_met_by_all(monkeypatch, member, spoilt):
    """All processes roll back together, and after the last allowed rollback stop together."""
    step, local = MEMBERS[member].step, threading.local()

    def spoiled(gan, draw):
        metrics = step(gan, draw)
        local.played = getattr(local, "played", 0) + 1
        if draw.group.rank == 1 and local.played >= 4:
            if spoilt == "weight":
                next(iter(gan.players["G"].net.parameters())).data[0] = np.nan
            else:
                metrics["grad_g"] = ranks.Number(math.nan)
        return metrics

    monkeypatch.setattr(MEMBERS[member], "step", spoiled)
    flags = ["--steps", 8, "--checkpoint-every", 2, "--on-divergence", "rollback", "--ngpu", 2]
    data = tiny.images(member)
    codes, _ = in_a_group(monkeypatch, 2, lambda: tiny.start("out", member, data, *flags))
    assert codes == [1, 1]
    run = Run(Path(f"out/00000-{member}-{data}16"))
    did = [e["does"] for e in tiny.events(run) if e["event"] == "diverged"]
    assert did == ["rollback"] * 3 + ["stop"]
    assert tiny.saved(run) == [2]


# -- GPUs, with a stand-in ---------------------------------------------------------------------------


def test_on_gpus_each_rank_takes_its_own_and_nccl_sums(monkeypatch):
    """Checks, with host arrays, which calls are made, but not what NCCL does."""
    used, opened = [], []
    monkeypatch.setattr(backend, "resolve_device", lambda name: {"cuda": "cuda:0"}.get(name, name))
    monkeypatch.setattr(
        backend, "use_device", lambda *arguments: used.append(arguments) or arguments[0]
    )

    def init_process_group(n_devices, rank, *, backend, use_mpi):
        def all_reduce(in_array, out_array, op="sum", stream=None):
            out_array[...] = 2 * in_array  # as if the other rank had the same

        opened.append((n_devices, rank, backend, use_mpi))
        return SimpleNamespace(all_reduce=all_reduce)

    stand_in = SimpleNamespace(init_process_group=init_process_group)
    monkeypatch.setitem(sys.modules, "cupyx", SimpleNamespace(distributed=stand_in))
    monkeypatch.setitem(sys.modules, "cupyx.distributed", stand_in)

    def work(group):
        device = group.use_device("cuda", False)
        (mean,) = group.average([Tensor(np.array([3.0]))])
        return device, mean.item(), group.comm.messages

    results, _ = together(2, work)
    assert results == [("cuda:0", 3.0, []), ("cuda:1", 3.0, [])]
    assert sorted(used) == [("cuda:0", False), ("cuda:1", False)]
    assert sorted(opened) == [(2, 0, "nccl", True), (2, 1, "nccl", True)]


@pytest.mark.parametrize("error", [RuntimeError("NCCL is not available"), ImportError("no cupyx")])
def test_nccl_that_is_not_there_is_one_sentence(monkeypatch, error):
    def init_process_group(*arguments, **options):
        raise error

    stand_in = SimpleNamespace(init_process_group=init_process_group)
    monkeypatch.setitem(sys.modules, "cupyx", SimpleNamespace(distributed=stand_in))
    monkeypatch.setitem(sys.modules, "cupyx.distributed", stand_in)
    with pytest.raises(backend.DeviceError) as caught:
        parallel._nccl(2, 0)
    assert str(caught.value) == (
        f"NCCL cannot be used; {pip('nvidia-nccl-cu12')}, or use --ngpu 1 ({error})"
    )


@pytest.mark.skipif(importlib.util.find_spec("cupy") is None, reason="needs CuPy's sources")
def test_the_stand_in_has_the_signatures_of_the_installed_cupyx():
    source = Path(importlib.util.find_spec("cupyx").origin).parent / "distributed"
    assert (
        "n_devices, rank, *, backend='nccl', host=None, port=None,\n        use_mpi=False"
        in (source / "_init.py").read_text()
    )
    assert (
        "def all_reduce(self, in_array, out_array, op='sum', stream=None):"
        in (source / "_nccl_comm.py").read_text()
    )


# -- how the processes are started -------------------------------------------------------------------


def test_mpiexec_is_known_by_its_environment(monkeypatch):
    assert parallel.started() is None
    for name in parallel.COUNTS:
        with monkeypatch.context() as patch:
            patch.setenv(name, "3")
            assert parallel.started() == 3


@pytest.mark.parametrize("name", parallel.COUNTS)
def test_a_count_of_processes_that_is_none_is_one_sentence(monkeypatch, name):
    monkeypatch.setenv(name, "")
    assert parallel.started() is None  # as unset
    for text in ("abc", "1.5", "-1", "0", "9" * 5000):
        monkeypatch.setenv(name, text)
        with pytest.raises(UserError, match=f"^{name} is '{text[:40]}': .*; unset it$"):
            parallel.join()


class FakeMPI:
    """A stand-in for mpi4py's module MPI, with `size` processes on one machine."""

    COMM_TYPE_SHARED = 1

    def __init__(self, size, rank):
        self.COMM_WORLD = Communicator(World(size), rank)
        self.COMM_WORLD.Split_type = lambda kind: self.COMM_WORLD


@pytest.fixture
def deaf(monkeypatch):
    """Restore what `join` changes in the process."""
    for name in ("stdout", "stderr", "excepthook"):
        monkeypatch.setattr(sys, name, getattr(sys, name))
    monkeypatch.setattr(threads, "_threads", 8)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_joins_the_others_and_only_the_leader_is_heard(monkeypatch, capsys, deaf, rank):
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.delenv("MINIGAN_NUM_THREADS", raising=False)
    monkeypatch.setitem(sys.modules, "mpi4py", SimpleNamespace(MPI=FakeMPI(2, rank)))
    group = parallel.join()
    print("said")
    print("warned", file=sys.stderr)
    if rank:
        sys.stdout.close()  # the null device
    assert (group.rank, group.size, group.gpu) == (rank, 2, rank)
    assert threads.get_num_threads() == 4  # its share of eight
    told = []
    monkeypatch.setattr(group, "fail", told.append)
    sys.excepthook(ValueError, ValueError("a mistake"), None)
    assert told == ["ValueError: a mistake\n"]
    assert tuple(capsys.readouterr()) == (("said\n", "warned\n") if rank == 0 else ("", ""))


def test_threads_that_the_environment_sets_are_not_shared_out(monkeypatch, deaf):
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setenv("MINIGAN_NUM_THREADS", "8")
    monkeypatch.setitem(sys.modules, "mpi4py", SimpleNamespace(MPI=FakeMPI(2, 0)))
    parallel.join()
    assert threads.get_num_threads() == 8


def test_a_single_process_imports_no_mpi4py():
    program = (
        f"import sys; sys.path.insert(0, {str(tiny.EXAMPLES)!r}); import train_celeba;"
        "code = train_celeba.main(sys.argv[1:]); assert 'mpi4py' not in sys.modules; sys.exit(code)"
    )
    command = [sys.executable, "-c", program, *tiny.TINY, "--out", "out", "--steps", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def error_of(flags, capsys):
    assert tiny.train_celeba.main([*tiny.TINY, "--dataroot", "nowhere", *flags.split()]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert os.listdir() == []
    return err


def test_mpiexec_without_mpi4py_is_one_sentence(monkeypatch, capsys):
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    assert error_of("", capsys).startswith(
        "error: mpiexec has started 2 processes, but mpi4py cannot be used; "
        f"{shlex.quote(sys.executable)} -m pip install -e '.[parallel]' ("
    )


def test_an_mpiexec_of_another_mpi_is_one_sentence(monkeypatch, capsys):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "mpi4py", SimpleNamespace(MPI=FakeMPI(1, 0)))
    assert error_of("", capsys) == (
        "error: mpiexec has started 2 processes, but mpi4py sees 1: they belong to different MPIs; "
        f"{pip('-e', '.[parallel]')}, and use the mpiexec beside {sys.executable}\n"
    )


@pytest.mark.parametrize(
    ("started", "flags", "message"),
    [
        (
            2,
            "--ngpu 4 --batch-size 8",
            "--ngpu 4, but mpiexec has started 2 processes; use only one of the two",
        ),
        (2, "--ngpu 0", "--ngpu 0, but mpiexec has started 2 processes; use only one of the two"),
        (1, "--ngpu 2", "--ngpu 2, but mpiexec has started 1 processes; use only one of the two"),
        (
            3,
            "",
            "--batch-size 4: must be a multiple of 3, because 3 processes share each batch equally",
        ),
        (
            4,
            "",
            "--batch-size 4: must be at least 8, because batch norm needs 2 images in each of the 4 "
            "processes",
        ),
    ],
)
def test_processes_that_do_not_fit_the_options_are_told(
    monkeypatch, capsys, started, flags, message
):
    group = Group()
    group.size = started  # they do not get as far as communicating
    monkeypatch.setattr(group, "from_leader", lambda ask: ask())
    monkeypatch.setattr(group, "_all_have_failed", lambda: True, raising=False)
    monkeypatch.setattr(parallel, "join", lambda: group)
    monkeypatch.setattr(parallel, "started", lambda: started)
    assert error_of(flags, capsys) == f"error: {message}\n"


def test_resumed_under_mpiexec_its_number_of_processes_counts(monkeypatch):
    """The number of processes that started the run does not matter; a number given now must fit."""
    monkeypatch.setattr(parallel, "started", lambda: 3)
    group = Group()
    group.size = 3
    parallel.arrange(group, 2, None)
    with pytest.raises(UserError):
        parallel.arrange(group, 2, 2)


class Replaced(BaseException):
    """os.execv does not return."""


@pytest.fixture
def replaced(monkeypatch):
    calls = []

    def execv(path, command):
        calls.append((path, command))
        raise Replaced

    monkeypatch.setattr(os, "execv", execv)
    monkeypatch.setattr(parallel.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(shutil, "which", lambda name, path=None: f"{path or '/path'}/{name}")
    monkeypatch.setattr(sys, "orig_argv", ["python", "-X", "utf8", "x.py", "--ngpu", "2"])
    monkeypatch.setenv("MINIGAN_NGPU", "x")  # restored afterwards
    monkeypatch.delenv("MINIGAN_NGPU")
    return calls


def test_ngpu_starts_the_same_command_again_under_mpiexec(replaced, monkeypatch):
    flags = [*tiny.TINY, "--dataroot", "nowhere", "--ngpu", "2"]
    with pytest.raises(Replaced):
        tiny.train_celeba.main(flags)
    beside = str(Path(sys.executable).parent / "mpiexec")
    rest = ["-X", "utf8", "x.py", "--ngpu", "2"]
    assert replaced == [(beside, [beside, "-n", "2", sys.executable, *rest])]
    assert parallel.started() == 2  # so that they do not start themselves again
    assert os.listdir() == []


def test_an_mpiexec_on_the_path_will_do(replaced, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None if path else f"/path/{name}")
    with pytest.raises(Replaced):
        parallel.restart(3)
    assert replaced[0][1][:3] == ["/path/mpiexec", "-n", "3"]


def test_a_dry_run_starts_nothing(replaced, capsys):
    flags = [*tiny.TINY, "--dataroot", "x", "--ngpu", "2", "--dry-run"]
    assert tiny.train_celeba.main(flags) == 0
    assert json.loads(capsys.readouterr().out)["run"]["ngpu"] == 2
    assert replaced == []


@pytest.mark.parametrize("missing", ["mpi4py", "mpiexec"])
def test_what_ngpu_needs_and_is_not_there_is_told(replaced, monkeypatch, capsys, missing):
    if missing == "mpi4py":
        monkeypatch.setattr(parallel.importlib.util, "find_spec", lambda name: None)
    else:
        monkeypatch.setattr(shutil, "which", lambda name, path=None: None)
    assert error_of("--ngpu 2", capsys) == (
        f"error: --ngpu 2 needs {missing}, which is not installed; {pip('-e', '.[parallel]')}\n"
    )
    assert replaced == []


# -- with mpiexec: two processes ---------------------------------------------------------------------


RANKS = tiny.ROOT / "tests" / "ranks.py"
TRAIN = tiny.EXAMPLES / "train_celeba.py"
PIPES = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)


def mpiexec(script, *flags):
    """A run in two processes, connected through pipes."""
    command = [MPIEXEC, "-n", "2", sys.executable, str(script), *map(str, flags)]
    return subprocess.Popen(command, text=True, **PIPES)


def train(member, *flags):
    """The command with which ranks.py starts a tiny run, in the folder out."""
    data = ["--data", tiny.images(member), *tiny.TINY]
    return ["train", member, *data, "--out", "out", *map(str, flags)]


def ended(child, code):
    """Its output, once it has ended with this code; None means any but 0."""
    with child:
        try:
            out, err = child.communicate(timeout=HANGS)
        except subprocess.TimeoutExpired:
            child.terminate()  # which ends its processes too
            raise
    assert child.returncode == code or (code is None and child.returncode), err
    return out, err


@MPI
def test_mpiexec_leaves_one_run_that_one_process_goes_on_with():
    out, err = ended(mpiexec(TRAIN, *tiny.TINY, "--out", "out", "--steps", 6), 0)
    assert err.count("No --dataroot") == out.count("Done: look at") == 1
    assert f"out/{tiny.FIRST}: step 0 of 6 on 2 x cpu\n" in out
    assert sorted(os.listdir("out")) == [".lock", tiny.FIRST, "cache"]
    run = Run(Path("out") / tiny.FIRST)
    assert sorted(os.listdir(run.folder)) == [
        ".lock",
        "checkpoints",
        "config.json",
        "events.jsonl",
        "gradients.png",
        "losses.png",
        "metrics.jsonl",
        "progress.gif",
        "samples",
        "scores.png",
    ]
    assert tiny.saved(run) == [6]
    assert [row["step"] for row in tiny.metrics(run)] == list(range(1, 7))
    assert [e["event"] for e in tiny.events(run)] == ["start", "data parallel", "done"]
    straight = tiny.train("straight", "--steps", 6)
    assert tiny.newest(run)[1] == tiny.newest(straight)[1]  # all whole numbers
    tiny.train("out", "--resume", "auto", "--steps", 8)
    assert [row["step"] for row in tiny.metrics(run)] == list(range(1, 9))


@MPI
def test_ngpu_starts_mpiexec_by_itself_and_goes_on_with_the_run_of_one():
    run = tiny.train("out", "--steps", 3)
    flags = ["--resume", "auto", "--out", "out", "--steps", "5", "--ngpu", "2"]
    command = [sys.executable, "-X", "utf8", str(TRAIN), *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANGS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == f"{run.folder}: step 3 of 5 on 2 x cpu"
    assert tiny.saved(run) == [5]
    assert [row["step"] for row in tiny.metrics(run)] == list(range(1, 6))
    assert len(os.listdir("out/cache")) == 3
    assert tiny.newest(run)[1] == tiny.newest(tiny.train("straight", "--steps", 5))[1]


@MPI
@some_members
def test_two_processes_equal_one_when_there_is_no_batch_norm(member):
    plan = ["plain", *train(member, "--steps", 5, *tiny.flip(member))]
    ended(mpiexec(RANKS, *plan, "--out", "two"), 0)
    command = [sys.executable, str(RANKS), *plan, "--out", "one"]
    subprocess.run(command, check=True, capture_output=True, timeout=HANGS)
    one, two = (Run(Path(out, f"00000-{member}-{tiny.images(member)}16")) for out in ("one", "two"))
    (arrays, _), (others, _) = (
        checkpoint.read_file(checkpoint.newest_first(run.checkpoints)[0]) for run in (one, two)
    )
    assert arrays["players.G.net.main.0.weight"].dtype == np.float64
    same(arrays, others)
    assert tiny.newest(one)[1] == tiny.newest(two)[1]
    for line, other in zip(tiny.metrics(one), tiny.metrics(two), strict=True):
        assert other == pytest.approx(line, rel=1e-9)


@MPI
@some_members
def test_after_a_run_the_ranks_have_the_same_bytes_but_for_batch_norms_statistics(member):
    ended(mpiexec(RANKS, "weights", *train(member, "--steps", 5)), 0)
    assert Path("weights-0").read_text() == Path("weights-1").read_text()
    assert Path("statistics-0").read_text() != Path("statistics-1").read_text()


@MPI
@pytest.mark.parametrize(
    ("plan", "code", "message"),
    [
        ("fault:0:3", 1, "rank 0 of 2: Traceback (most recent call last):"),
        ("fault:1:3", 1, "rank 1 of 2: Traceback (most recent call last):"),
        ("kill:1:3", None, ""),
        (
            "full",
            1,
            f"rank 0 of 2: error: out/{tiny.FIRST}: No space left on device; make room there",
        ),
        ("nan:1:3", 1, "error: step 3: |grad D| is nan; the last good checkpoint is none; "),
    ],
)
def test_a_rank_that_cannot_go_on_ends_the_run(plan, code, message):
    out, err = ended(mpiexec(RANKS, plan, *train("dcgan", "--steps", 2000)), code)
    assert err.count(message) == 1 if message else "Killed" in out + err or "signal 9" in out + err
    assert err.count("Traceback") == plan.startswith("fault")
    assert tiny.saved(Run(Path("out") / tiny.FIRST)) == []


@MPI
@pytest.mark.parametrize("to", ["mpiexec", "one rank"])
def test_ctrl_c_finishes_the_step_on_all_ranks_and_saves_it(sigint, to):
    plan = "nothing" if to == "mpiexec" else "interrupt:1:3"
    child = mpiexec(RANKS, plan, *train("dcgan", "--epochs", 4000))
    if to == "mpiexec":
        while not child.stdout.readline().startswith("step 1/"):
            assert child.poll() is None
        child.send_signal(signal.SIGINT)
    out, err = ended(child, 130)
    assert "Interrupted: look at" in out
    assert "Traceback" not in err
    run = Run(Path("out") / tiny.FIRST)
    (step,) = tiny.saved(run)
    assert to == "mpiexec" or step == 3
    assert [row["step"] for row in tiny.metrics(run)] == list(range(1, step + 1))
    assert tiny.events(run)[-1]["event"] == "interrupt"


@MPI
def test_ctrl_c_while_the_leader_decodes_and_the_others_wait_is_one_line(sigint):
    root = factory.make(Path("data"), 8)
    flags = ["--data", "celeba", "--dataroot", root]
    child = mpiexec(RANKS, "decoding", *train("dcgan", *flags))
    assert child.stdout.readline() == "decoding\n"
    child.send_signal(signal.SIGINT)
    _, err = ended(child, 130)
    # MPICH's own messages: about the signal, and about the barrier at which others waited
    theirs = ("[mpiexec", "MPICH: ")
    said = [line for line in err.splitlines() if not line.startswith(theirs)]
    assert said == ["interrupted"]


@MPI
@pytest.mark.parametrize("data", ["nowhere", "empty"])
def test_what_all_ranks_or_only_the_leader_find_wrong_is_one_sentence(data):
    Path("empty").mkdir()
    _, err = ended(mpiexec(TRAIN, *tiny.TINY, "--out", "out", "--dataroot", data), 1)
    assert err.startswith("error: ")
    assert err.count("\n") == 1
