"""Data parallel training: N processes, each with its share of every batch, are one run.

All of them draw the same random numbers and hold the same weights. Each computes the gradients of its
share; their mean is the gradient of the whole batch, and with it all take the same step. What is not
shared is batch norm: its statistics are of each process's own images, as in PyTorch's DataParallel,
and those of the leader, rank 0, are saved. The leader alone writes and is heard.

The processes are started by mpiexec and talk through MPI, by mpi4py. It carries the gradients too on
CPUs; on GPUs NCCL does, by cupyx.distributed (which the tests replace by a stand-in: no machine with
two GPUs has executed it). A process alone needs none of them.
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

PATIENCE = 2.0  # seconds that a failing process gives all others to fail as well
PAUSE = 0.01  # between two looks at whether the others are here
INSTALL = ("-e", ".[parallel]")  # what pip is asked for

# Where it says how many processes there are: `restart` below, the mpiexec of MPICH and of Intel and
# Slurm's srun --mpi=pmi2, the mpiexec of Open MPI.
COUNTS = ("MINIGAN_NGPU", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE")


class Group:
    """The processes of a run, as one of them sees them; without a communicator it is alone.

    What follows is called by all of them, in the same order. Alone, it gives back what it was given.
    """

    def __init__(self, comm: Any = None, gpu: int = 0):
        """comm: MPI's communicator. gpu: the number of this process among those of its machine."""
        self.comm, self.gpu = comm, gpu
        self.rank, self.size = (comm.Get_rank(), comm.Get_size()) if comm else (0, 1)
        self.leader = self.rank == 0
        if comm:
            self._sum: Callable[[Array, Array], None] = comm.Allreduce  # from an array, to another
            self._failed = comm.Dup()  # where those meet that cannot go on

    # -- the steps --

    def use_device(self, name: str, tf32: bool) -> str:
        """backend.use_device for each process, and NCCL for the gradients if these are on GPUs."""
        device = backend.use_device(self.device(name), tf32)
        if self.size > 1 and device != "cpu":
            self._sum = _nccl(self.size, self.rank)
        return device

    def device(self, name: str) -> str:
        """The device of this process, where `name` is that of the run: of the GPUs, its own."""
        first = self.from_leader(lambda: backend.resolve_device(name))
        if self.size == 1 or first == "cpu":
            return first
        return backend.resolve_device(f"cuda:{self.gpu}")

    def share(self, batch: Any) -> Any:
        """This process's part of an array or a Tensor (N, ...): N / size entries of it."""
        count = batch.shape[0] // self.size
        return batch[self.rank * count : (self.rank + 1) * count]

    def average(self, gradients: Sequence[Tensor]) -> Sequence[Tensor]:
        """The mean over the processes of each gradient, the same bytes on all of them.

        The gradients travel as one array: what a message costs by itself is paid once.
        """
        if self.size == 1:
            return gradients
        xp = backend.array_module(gradients[0].data)
        mine = xp.concatenate([g.data.ravel() for g in gradients])  # ravel: C order, on all alike
        mean = xp.empty_like(mine)
        self._sum(mine, mean)
        mean /= self.size
        ends = np.cumsum([g.data.size for g in gradients])
        return [
            Tensor(mean[end - g.data.size : end].reshape(g.shape))
            for g, end in zip(gradients, ends.tolist(), strict=True)
        ]

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """The mean over the processes of each value."""
        if self.size == 1:
            return values
        mine = np.array(list(values.values()), np.float64)
        total = np.empty_like(mine)
        self.comm.Allreduce(mine, total)
        return dict(zip(values, (total / self.size).tolist(), strict=True))

    def any(self, flag: object) -> bool:
        """Whether the flag is set on one of the processes."""
        return bool(flag) if self.size == 1 else self.comm.allreduce(int(bool(flag))) > 0

    def first(self, value: T | None) -> T | None:
        """The value of the first process that has one; None if none has."""
        values = [value] if self.size == 1 else self.comm.allgather(value)
        return next((v for v in values if v is not None), None)

    # -- one for all --

    def wait(self) -> None:
        """Until all are here; unlike MPI's barrier this leaves the core to others, and hears Ctrl-C."""
        if self.size > 1:
            arrived = self.comm.Ibarrier()
            while not arrived.Test():
                time.sleep(PAUSE)

    def from_leader(self, ask: Callable[[], T]) -> T:
        """What `ask` gives to the leader, who alone calls it; or the error that it raises."""
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
        """What `call` gives each process; the leader calls it before the others, for whom it builds."""
        results: list[T] = []
        self.from_leader(lambda: results.append(call()))
        return results[0] if results else call()

    # -- the end --

    def fail(self, message: str, code: int = 1) -> int:
        """Say why this process cannot go on; returns its exit code.

        If all fail, say by a wrong option, the leader says it and each ends by itself. Otherwise the
        others would wait for this one for ever: MPI ends them, with this exit code.
        """
        if self.size == 1 or self._all_have_failed():
            STDERR.write(message + "\n")
        else:
            own = Stream("__stderr__")  # sys.stderr is the leader's
            own.write(f"rank {self.rank} of {self.size}: {message}\n")
            own.flush()
            self.comm.Abort(code)
        return code

    def _all_have_failed(self) -> bool:
        arrived = self._failed.Ibarrier()
        for _ in range(round(PATIENCE / PAUSE)):  # counted, as clocks may stand still
            if arrived.Test():
                return True
            time.sleep(PAUSE)
        return arrived.Test()


ALONE = Group()


def _nccl(size: int, rank: int) -> Callable[[Array, Array], None]:
    """NCCL's sum over the GPUs that the processes have chosen."""
    try:
        from cupyx.distributed import init_process_group

        return init_process_group(size, rank, backend="nccl", use_mpi=True).all_reduce
    except (ImportError, RuntimeError) as error:
        raise backend.DeviceError(
            f"NCCL cannot be used; {pip('nvidia-nccl-cu12')}, or use --ngpu 1 ({error})"
        ) from error


# -- how the processes come to be --------------------------------------------------------------------


def started() -> int | None:
    """The number of processes that mpiexec has started; None if it has not started this one.

    An empty variable counts as unset. Raises UserError if one holds no number of processes.
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
    """The group of this process: those that mpiexec has started with it, or it alone."""
    count = started() or 1
    if count == 1:
        return Group()
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # RuntimeError: it finds no library of MPI
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
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115, open to the end
    if not os.environ.get("MINIGAN_NUM_THREADS"):
        set_num_threads(max(1, get_num_threads() // machine.Get_size()))
    return group


def arrange(group: Group, wanted: int | None, given: int | None) -> None:
    """Start as many processes as the run's --ngpu asks for, or check that mpiexec has done so.

    wanted  the run's option
    given   that of the command line; a run that goes on may have begun with another number
    """
    if started() is None and (wanted or 0) > 1:
        restart(wanted)
    if started() is not None and given is not None and max(given, 1) != group.size:
        raise UserError(
            f"--ngpu {given}, but mpiexec has started {group.size} processes; drop one of the two"
        )


def restart(count: int) -> NoReturn:
    """Run this program anew, as so many processes: mpiexec takes the place of this one."""
    beside = str(Path(sys.executable).parent)
    mpiexec = shutil.which("mpiexec", path=beside) or shutil.which("mpiexec")
    if mpiexec is None or importlib.util.find_spec("mpi4py") is None:
        missing = "mpiexec" if mpiexec is None else "mpi4py"
        raise UserError(f"--ngpu {count} needs {missing}, which is not installed; {pip(*INSTALL)}")
    os.environ["MINIGAN_NGPU"] = str(count)  # they do not restart, whatever mpiexec tells them
    STDOUT.flush()
    os.execv(mpiexec, [mpiexec, "-n", str(count), sys.executable, *sys.orig_argv[1:]])
