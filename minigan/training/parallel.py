"""Data parallel training: N processes train one run, each on its share of every batch.

All processes draw the same random numbers and hold the same weights. Each computes the gradients of its
share. Their mean is the gradient of the whole batch, and all processes take the same step along it.
Layers that look at a whole batch see only the share of their process: batch norm, as in PyTorch's
DataParallel, and the minibatch layers of D. The running statistics of the leader, rank 0, are saved.
Only the leader writes files and prints.

mpiexec starts the processes, and they communicate by MPI, through mpi4py. Gradients travel by MPI on
CPUs, and by NCCL on GPUs, through cupyx.distributed. (The tests replace NCCL with a stand-in;
training on two GPUs has never been tried.) A single process needs none of these.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np

from .. import backend
from ..backend import Array
from ..backend.threads import get_num_threads, set_num_threads
from ..console import STDERR, STDOUT, Stream, pip
from ..errors import UserError
from ..tensor import Tensor

T = TypeVar("T")

PATIENCE = 2.0  # seconds that a failing process waits for the others to fail too
PAUSE = 0.01  # seconds between checks whether the others have arrived
FORWARDED = 0.5  # seconds in which mpiexec passes a message on; at an abort it drops the rest
INSTALL = ("-e", ".[parallel]")  # the arguments of pip install

# Environment variables that hold the number of processes. They are set, in this order, by `restart`; by
# the mpiexec of MPICH and Intel and by Slurm's srun --mpi=pmi2; by the mpiexec of Open MPI.
COUNTS = ("MINIGAN_NGPU", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE")


class Group:
    """The processes of a run, as seen by one of them; without a communicator it is a single process.

    All processes must call these methods in the same order. A single process exchanges nothing.
    """

    def __init__(self, comm: Any = None, gpu: int = 0):
        """comm: MPI's communicator. gpu: the number of this process on its machine, and of its GPU."""
        self.comm, self.gpu = comm, gpu
        self.rank, self.size = (comm.Get_rank(), comm.Get_size()) if comm else (0, 1)
        self.leader = self.rank == 0
        if comm:
            self._sum: Callable[[Array, Array], None] = comm.Allreduce  # from one array to another
            self._failed = comm.Dup()  # only for `fail`, so that other messages cannot interfere

    # -- the steps --

    def use_device(self, name: str, tf32: bool) -> str:
        """Call backend.use_device in each process; on GPUs, gradients travel by NCCL from now on."""
        device = backend.use_device(self.device(name), tf32)
        if self.size > 1 and device != "cpu":
            self._sum = _nccl(self.size, self.rank)
        return device

    def device(self, name: str) -> str:
        """The device of this process for the run's device `name`: the CPU, or its own GPU."""
        first = self.from_leader(lambda: backend.resolve_device(name))
        if self.size == 1 or first == "cpu":
            return first
        return backend.resolve_device(f"cuda:{self.gpu}")

    def share(self, batch: Any) -> Any:
        """This process's part of an array or Tensor: (N, ...) -> (N / size, ...)."""
        count = batch.shape[0] // self.size
        return batch[self.rank * count : (self.rank + 1) * count]

    def gather(self, mine: Array) -> Array:
        """The parts of all processes, in the order of `share`: (N, ...) -> (N * size, ...).

        Each adds its part to zeros, so the whole has the same bytes in every process.
        """
        if self.size == 1:
            return mine
        xp = backend.array_module(mine)
        part = xp.zeros((len(mine) * self.size, *mine.shape[1:]), mine.dtype)
        self.share(part)[...] = mine  # a view
        whole = xp.empty_like(part)
        self._sum(part, whole)
        return whole

    def average(self, gradients: Sequence[Tensor]) -> Sequence[Tensor]:
        """The mean of each gradient over the processes, with the same bytes in all of them.

        The gradients travel as one array, so that the fixed cost of a message is paid only once.
        """
        if self.size == 1:
            return gradients
        xp = backend.array_module(gradients[0].data)
        mine = xp.concatenate([g.data.ravel() for g in gradients])  # in C order in every process
        mean = xp.empty_like(mine)
        self._sum(mine, mean)
        mean /= self.size
        ends = np.cumsum([g.data.size for g in gradients])
        return [
            Tensor(mean[end - g.data.size : end].reshape(g.shape))
            for g, end in zip(gradients, ends.tolist(), strict=True)
        ]

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """The mean of each value over the processes."""
        if self.size == 1:
            return values
        mine = np.array(list(values.values()), np.float64)
        total = np.empty_like(mine)
        self.comm.Allreduce(mine, total)
        return dict(zip(values, (total / self.size).tolist(), strict=True))

    def any(self, flag: object) -> bool:
        """Whether the flag is true in at least one process."""
        return bool(flag) if self.size == 1 else self.comm.allreduce(int(bool(flag))) > 0

    def first(self, value: T | None) -> T | None:
        """The value of the first process that has one; None if none has."""
        values = [value] if self.size == 1 else self.comm.allgather(value)
        return next((v for v in values if v is not None), None)

    # -- one for all --

    def wait(self) -> None:
        """Wait for all processes. Unlike MPI's barrier, this sleeps, and Ctrl-C can interrupt it."""
        if self.size > 1:
            arrived = self.comm.Ibarrier()
            while not arrived.Test():
                time.sleep(PAUSE)

    def from_leader(self, ask: Callable[[], T]) -> T:
        """The leader's result of `ask`, or its error, in every process. Only the leader calls `ask`."""
        if self.size == 1:
            return ask()
        answer: Any = None
        if self.leader:
            try:
                answer = ask(), None
            except Exception as error:
                answer = None, error
        self.wait()
        value, error = self.comm.bcast(answer, root=0)
        if error is not None:
            raise error
        return value

    def leader_first(self, call: Callable[[], T]) -> T:
        """The result of `call` in each process. The others call it only after the leader.

        So the leader alone decodes images into the cache, and the others find them there.
        """
        results: list[T] = []
        self.from_leader(lambda: results.append(call()))
        return results[0] if results else call()

    # -- the end --

    def fail(self, message: str, code: int = 1) -> int:
        """Print why this process cannot continue. Returns its exit code.

        If all processes fail, for example because of a wrong option, only the leader's message is
        printed, and each process ends by itself. Otherwise the other processes would wait for this one
        for ever, so MPI aborts them all with this exit code.
        """
        if self.size == 1 or self._all_have_failed():
            STDERR.write(message + "\n")
        else:
            own = Stream("__stderr__")  # sys.stderr is redirected, except in the leader
            own.write(f"rank {self.rank} of {self.size}: {message}\n")
            own.flush()
            time.sleep(FORWARDED)
            self.comm.Abort(code)
        return code

    def _all_have_failed(self) -> bool:
        arrived = self._failed.Ibarrier()
        for _ in range(round(PATIENCE / PAUSE)):  # a counter, because a clock may stand still
            if arrived.Test():
                return True
            time.sleep(PAUSE)
        return arrived.Test()


ALONE = Group()


def _nccl(size: int, rank: int) -> Callable[[Array, Array], None]:
    """A function (source, target) that sums an array over the GPUs of all processes, by NCCL."""
    try:
        from cupyx.distributed import init_process_group

        return init_process_group(size, rank, backend="nccl", use_mpi=True).all_reduce
    except (ImportError, RuntimeError) as error:
        raise backend.DeviceError(
            f"NCCL cannot be used; {pip('nvidia-nccl-cu12')}, or use --ngpu 1 ({error})"
        ) from error


# -- starting the processes --------------------------------------------------------------------------


def started() -> int | None:
    """The number of processes that mpiexec has started, or None if this one was not started by mpiexec.

    An empty variable counts as unset. Raises UserError if a variable does not hold a number.
    """
    for name in COUNTS:
        if text := os.environ.get(name):
            if not re.fullmatch("[1-9][0-9]{0,8}", text):
                raise UserError(
                    f"{name} is {text[:40]!r}: it must be the number of processes that mpiexec has "
                    "started; unset it"
                )
            return int(text)
    return None


def join() -> Group:
    """The group of this process: all that mpiexec has started, or this one alone.

    In a group this silences all processes but the leader, and divides the cores among the processes of
    a machine. Raises UserError if mpi4py cannot be used.
    """
    count = started() or 1
    if count == 1:
        return Group()
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # RuntimeError: no MPI library is found
        raise UserError(
            f"mpiexec has started {count} processes, but mpi4py cannot be used; "
            f"{pip(*INSTALL)} ({error})"
        ) from error
    machine = MPI.COMM_WORLD.Split_type(MPI.COMM_TYPE_SHARED)
    group = Group(MPI.COMM_WORLD, machine.Get_rank())
    if group.size != count:
        raise UserError(
            f"mpiexec has started {count} processes, but mpi4py sees {group.size}: they belong to "
            f"different MPIs; {pip(*INSTALL)}, and use the mpiexec beside {sys.executable}"
        )
    sys.excepthook = lambda *error: group.fail("".join(traceback.format_exception(*error)))
    if not group.leader:
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115, never closed
    if not os.environ.get("MINIGAN_NUM_THREADS"):
        set_num_threads(max(1, get_num_threads() // machine.Get_size()))
    return group


def arrange(group: Group, wanted: int | None, given: int | None) -> None:
    """Start as many processes as --ngpu asks for, or check that mpiexec has started that many.

    wanted  --ngpu of the run, perhaps from the config.json of a resumed run
    given   --ngpu on the command line; under mpiexec, only this is checked

    Raises UserError if mpiexec has started another number, or if processes cannot be started.
    """
    if started() is None and (wanted or 0) > 1:
        restart(wanted)
    if started() is not None and given is not None and max(given, 1) != group.size:
        raise UserError(
            f"--ngpu {given}, but mpiexec has started {group.size} processes; use only one of the two"
        )


def restart(count: int) -> NoReturn:
    """Replace this process with an mpiexec that runs the same program as `count` processes.

    Raises UserError if mpiexec or mpi4py is not installed.
    """
    beside = str(Path(sys.executable).parent)
    mpiexec = shutil.which("mpiexec", path=beside) or shutil.which("mpiexec")
    if mpiexec is None or importlib.util.find_spec("mpi4py") is None:
        missing = "mpiexec" if mpiexec is None else "mpi4py"
        raise UserError(f"--ngpu {count} needs {missing}, which is not installed; {pip(*INSTALL)}")
    os.environ["MINIGAN_NGPU"] = str(count)  # the processes inherit it, so they do not restart
    STDOUT.flush()
    os.execv(mpiexec, [mpiexec, "-n", str(count), sys.executable, *sys.orig_argv[1:]])
