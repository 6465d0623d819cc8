"""Blocks of work are shared whatever interrupts them, and BLAS is limited to one thread if possible."""

import contextvars
import dis
import gc
import json
import os
import random
import signal
import sys
import threading
import time
import warnings
from collections import Counter
from contextlib import contextmanager
from operator import length_hint
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
from threadpoolctl import threadpool_limits

from minigan.backend import cpu, threads
from minigan.backend.reference import Window
from minigan.doctor import machine

DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
PATIENCE = 60  # seconds before a test fails that should pass at once
TIMER = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer with a signal here")


@pytest.fixture(autouse=True)
def two_threads(monkeypatch):
    monkeypatch.setattr(threads, "_threads", 2)


class Alarm(BaseException):
    """The exception that the handlers here raise, and nothing else does."""


@contextmanager
def on_alarm(handler):
    before = signal.signal(signal.SIGALRM, handler)
    gc.disable()  # an exception in a finalizer would be lost, and reported by pytest
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gc.enable()


def within_share(frame):
    while frame is not None and frame.f_code is not threads.share.__code__:
        frame = frame.f_back
    return frame is not None


def settings():
    """Settings that a call must restore: the threads of each BLAS, and NumPy's buffer."""
    return [library.num_threads for library, _ in threads._blas()], np.getbufsize()


class Blocks:
    """Blocks that count themselves: each begins, computes for a while, and ends."""

    def __init__(self, count):
        self.count, self.sums = count, np.zeros(count)
        self.begun, self.ended = [], []  # on helpers, which are never interrupted
        self.numbers = np.arange(4096.0)

    def __call__(self, i):
        helper = threading.current_thread() is not threading.main_thread()
        if helper:
            self.begun.append(i)
        self.sums[i] += self.numbers.sum()
        if helper:
            self.ended.append(i)

    def share(self):
        threads.share(self, self.count)

    def at_rest(self):
        return self.begun == self.ended or sorted(self.begun) == sorted(self.ended)


def assert_sound(before):
    """The next calls, on this thread and another, are complete, and the settings are the user's."""
    assert settings() == before
    blocks = Blocks(5)
    blocks.share()
    assert (blocks.sums == blocks.numbers.sum()).all()
    other = threading.Thread(target=blocks.share, daemon=True)
    other.start()
    other.join(PATIENCE)
    assert not other.is_alive(), "another thread waits for a turn that was never passed on"
    assert (blocks.sums == 2 * blocks.numbers.sum()).all()
    assert settings() == before
    assert threads._turn == {}


# -- exceptions from signal handlers -------------------------------------------------------------------


@TIMER
def test_what_a_handler_raises_is_raised_after_the_helpers_block_is_done():
    """However often the handler raises, whether the main thread is in its block or already waiting."""
    before, result = settings(), np.zeros(2)
    begun, heard, left = threading.Event(), [], threading.Event()

    def handler(*_):
        heard.append(True)
        raise Alarm

    def work(i):
        if threading.current_thread() is threading.main_thread():
            assert begun.wait(PATIENCE)
        else:
            begun.set()
            for n in range(1, 6):
                while len(heard) < n and not left.is_set():
                    signal.pthread_kill(threading.main_thread().ident, signal.SIGALRM)
                    left.wait(0.001)
            assert not left.wait(0.1)
        result[i] = 1

    with on_alarm(handler):
        try:
            threads.share(work, 2)
        except Alarm:
            at_the_end = result.copy()
        left.set()
    assert at_the_end.any()
    assert len(heard) >= 5
    assert_sound(before)


@TIMER
@pytest.mark.parametrize("most", [1, 9])
def test_a_call_survives_interruptions_at_any_moment(most):
    """One exception in a call, or up to nine, each while the previous one is handled or soon after."""
    before, drawn = settings(), random.Random(0)
    left = interrupted = 0

    def set_timer():
        signal.setitimer(signal.ITIMER_REAL, drawn.uniform(1e-6, 100e-6))

    def handler(signum, frame):
        nonlocal left
        if left and within_share(frame):
            left -= 1
            if left:
                signal.setitimer(signal.ITIMER_REAL, drawn.uniform(1e-6, 30e-6))
            raise Alarm

    with on_alarm(handler):
        while interrupted < (1000 if most == 1 else 300) * (20 if DEEP else 1):
            blocks, left = Blocks(4), most
            set_timer()
            try:
                blocks.share()
            except Alarm:
                interrupted += 1
            else:
                assert (blocks.sums == blocks.numbers.sum()).all()
            left = 0
            signal.setitimer(signal.ITIMER_REAL, 0)
            if most == 1:
                assert blocks.at_rest()
            threads.share(lambda i: None, 3)
            assert blocks.at_rest()
            assert settings() == before
    assert_sound(before)


class Interruption:
    """Raises Alarm in threads.py at the n-th place where Python would run a signal handler.

    That is after a call, at the start of a function, and at a jump.
    """

    def __init__(self, n):
        self.left, self.raised, self.last = n, False, {}

    def __call__(self, frame, event, argument):
        if frame.f_code.co_filename != threads.__file__:
            return None
        frame.f_trace_opcodes = True
        return self.trace

    def trace(self, frame, event, argument):
        if event == "opcode" and within_share(frame):
            name = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            if self.last.get(frame, "RESUME").startswith(("CALL", "RESUME")) or "JUMP" in name:
                if self.left == 0:
                    self.raised = True
                    raise Alarm
                self.left -= 1
            self.last[frame] = name
        return self.trace


def test_a_call_survives_an_interruption_at_each_instruction():
    before, n, tracer = settings(), 0, sys.gettrace()
    threads.share(lambda i: None, 2)  # so that the helper exists, and BLAS is known
    while True:
        blocks, interruption = Blocks(3), Interruption(n)
        sys._getframe().f_trace_opcodes = True  # Python 3.12 needs this first
        sys.settrace(interruption)
        try:
            blocks.share()
        except Alarm:
            pass
        finally:
            sys.settrace(tracer)
        interruption.last.clear()
        assert blocks.at_rest(), n
        assert settings() == before, n
        assert threads._turn == {}, n
        if not interruption.raised:
            break
        n += 1
    assert n > 30
    assert_sound(before)


def test_a_call_that_could_not_end_is_ended_by_the_next_one():
    """This happens if a call is interrupted once more than it can handle."""
    before, done, seen = settings(), [], []
    begun, go, late = threading.Event(), threading.Event(), threading.Event()

    def work(i):
        if threading.current_thread() is threading.main_thread():
            assert begun.wait(PATIENCE)
        else:
            begun.set()
            assert go.wait(PATIENCE)
            late.wait(0.1)  # no new call starts meanwhile
            done.append(i)

    def next_work(i):
        late.set()
        seen.append(list(done))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads._Call, "end", lambda call: None)
        threads.share(work, 2)
    assert threads._turn["call"].busy
    go.set()
    threads.share(next_work, 1)
    assert len(seen[0]) == 1
    assert_sound(before)


@pytest.mark.parametrize("fails", ["here", "on the helper"])
def test_an_error_ends_the_call_after_the_blocks_under_way(fails):
    """No further block is started, and a helper's error is raised on the calling thread."""
    before, done = settings(), []
    both, failed = threading.Barrier(2), threading.Event()

    def work(i):
        if i > 1:
            done.append(i)
            return
        both.wait(PATIENCE)  # one block on each thread
        if (threading.current_thread() is threading.main_thread()) == (fails == "here"):
            failed.set()
            raise ValueError("block")
        assert failed.wait(PATIENCE)
        patience = 5000
        while length_hint(threads._turn["call"].numbers) and patience:  # until the rest is dropped
            patience -= 1
            time.sleep(0.001)
        done.append(i)

    with pytest.raises(ValueError, match="block"):
        threads.share(work, 3)
    assert len(done) == 1
    assert_sound(before)


def test_the_arrays_of_a_call_are_let_go_when_it_ends():
    """Even if a helper joins only later."""
    call = threads._Call(lambda i: None, 3)
    call.end()
    assert call.work is None
    contextvars.copy_context().run(call.help)
    assert (call.errors, call.busy) == ([], set())


# -- nested and simultaneous calls ---------------------------------------------------------------------


def test_a_block_may_share_out_work_itself():
    """On the calling thread or on a helper, which then does all the work of the inner call."""
    numbers, done, both = np.ones(1 << 16), [], threading.Barrier(2)

    def work(i):
        if i < 2:
            both.wait(PATIENCE)  # so that each thread has one block
        mine = threading.get_ident()
        threads.share(
            lambda j: done.append((i, j, numbers.sum(), threading.get_ident() == mine)), 9
        )

    caller = threading.Thread(target=threads.share, args=(work, 20), daemon=True)
    caller.start()
    caller.join(PATIENCE)
    assert sorted(done) == [(i, j, 1 << 16, True) for i in range(20) for j in range(9)]


def test_a_call_within_another_leaves_the_helpers_to_that_one():
    joined = threading.Event()

    def within(i):
        if threading.current_thread() is threading.main_thread():
            assert not joined.wait(0.05)
        else:
            joined.set()

    threads.share(lambda i: threads.share(within, 2), 1)


@TIMER
def test_a_handler_may_use_the_engine():
    """Even if it interrupts the engine's own work. Neither overwrites the other's memory."""
    rng = np.random.default_rng(0)
    arguments = []
    for side, n in ((16, 40), (8, 24), (32, 6)):  # in blocks, at once, few channels
        window = Window((side, side), (4, 4), (2, 2), (1, 1))
        c = 3 if side == 32 else 12
        x = rng.standard_normal((n, c, side, side), np.float32)
        y = rng.standard_normal((n, 12, side // 2, side // 2), np.float32)
        w = rng.standard_normal((12, c, 4, 4), np.float32)
        arguments.append((x, w, y, window))

    def computed(x, w, y, window):
        return b"".join(a.tobytes() for a in cpu.conv_gradients(np, [0, 1], x, w, y, window))

    expected, wrong, handled = [computed(*a) for a in arguments], [], []

    def handler(*_):
        which = len(handled) % 3
        handled.append(which)
        if computed(*arguments[which]) != expected[which]:
            wrong.append(which)

    before = settings()
    with on_alarm(handler):
        i = 0
        while len(handled) < (2000 if DEEP else 60):
            signal.setitimer(signal.ITIMER_REAL, 1e-4 + 1e-5 * (i % 89))
            assert computed(*arguments[i % 2]) == expected[i % 2]
            i += 1
    assert wrong == []
    assert_sound(before)


def test_blas_has_one_thread_in_a_block_whatever_other_threads_begin_and_end():
    """The threads switch often, so that one starts a call while another may be ending one."""
    before, seen = settings(), set()
    libraries = [library for library, _ in threads._blas()]

    begin = threading.Barrier(4, timeout=PATIENCE)

    def call():
        begin.wait()
        for _ in range(500):
            threads.share(lambda i: seen.update(library.num_threads for library in libraries), 2)

    callers = [threading.Thread(target=call, daemon=True) for _ in range(3)]
    for caller in callers:
        caller.start()
    interval = sys.getswitchinterval()
    # Not before: a switch while a thread starts can fail under coverage, whose trace function Python
    # 3.11 installs in one thread at a time.
    begin.wait()
    sys.setswitchinterval(1e-5)
    try:
        for caller in callers:
            caller.join(PATIENCE)
    finally:
        sys.setswitchinterval(interval)
    assert seen <= {1, None}
    assert_sound(before)


def test_other_threads_wait_their_turn():
    inside, most = Counter(), []

    def work(name):
        inside[name] += 1
        most.append(len(+inside))
        inside[name] -= 1

    def call(name):
        for _ in range(50):
            threads.share(lambda i: work(name), 4)

    callers = [threading.Thread(target=call, args=(name,), daemon=True) for name in "abc"]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(PATIENCE)
    assert not any(caller.is_alive() for caller in callers)
    assert set(most) == {1}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_process_forked_beside_a_call_does_not_wait_for_its_end():
    begun, forked = threading.Event(), threading.Event()

    def work(i):
        begun.set()
        assert forked.wait(PATIENCE)

    other = threading.Thread(target=threads.share, args=(work, 1))
    other.start()
    assert begun.wait(PATIENCE)
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(PATIENCE)
            blocks = Blocks(5)
            blocks.share()
            os._exit(0 if (blocks.sums == blocks.numbers.sum()).all() else 1)
        finally:
            os._exit(1)
    forked.set()
    other.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_turn_that_was_not_given_back_is_taken_by_whoever_waits():
    """The stack of its thread shows that the call is over."""
    before = settings()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads._Call, "end", lambda call: None)
        threads.share(lambda i: None, 2)
    assert threads._turn
    blocks = Blocks(4)
    other = threading.Thread(target=blocks.share, daemon=True)
    other.start()
    other.join(PATIENCE)
    assert (blocks.sums == blocks.numbers.sum()).all()
    assert_sound(before)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_process_forked_within_a_call_does_not_wait_for_helpers_that_it_does_not_have():
    """The child can make its own calls. Continuing the interrupted one is an error."""
    parent, begun, forked = os.getpid(), threading.Event(), threading.Event()
    children = []

    def work(i):
        if threading.current_thread() is not threading.main_thread():
            begun.set()
            assert forked.wait(PATIENCE)
            return
        assert begun.wait(PATIENCE)
        children.append(os.fork())
        if children[0]:
            forked.set()
        else:
            signal.alarm(PATIENCE)
            blocks = Blocks(5)
            blocks.share()
            assert (blocks.sums == blocks.numbers.sum()).all()

    try:
        threads.share(work, 2)
    except RuntimeError as error:
        if os.getpid() != parent and "without its helpers" in str(error):
            os._exit(0)
        raise
    finally:
        if os.getpid() != parent:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0


def test_without_room_for_threads_those_there_are_do_the_work(monkeypatch):
    """For example under `ulimit -u`. Once the limit allows, more threads are started."""
    blocks, start = Blocks(9), threading.Thread.start

    def refused(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads, "_threads", 2 + len(threads._helpers))
    monkeypatch.setattr(threading.Thread, "start", refused)
    there_were = len(threads._helpers)
    blocks.share()
    assert (blocks.sums == blocks.numbers.sum()).all()
    assert len(threads._helpers) == there_were
    monkeypatch.setattr(threading.Thread, "start", start)
    blocks.share()
    assert len(threads._helpers) == there_were + 1


def test_memory_in_use_is_not_given_out_again():
    one = threads.scratch("test", (10,), np.float32)
    view = one.reshape(2, 5)[1:]
    del one
    other = threads.scratch("test", (10,), np.float32)
    assert not np.shares_memory(view, other)
    address = other.ctypes.data
    del other
    assert threads.scratch("test", (10,), np.float32).ctypes.data == address


# -- conditions for equal bytes ------------------------------------------------------------------------


class Library(SimpleNamespace):
    """A BLAS as threadpoolctl shows it, which NumPy's products use."""

    def __init__(self, **facts):
        usual = {"user_api": "blas", "internal_api": "openblas", "version": "0.3"}
        usual |= {"threading_layer": "pthreads", "filepath": "/numpy.libs/blas.so"}
        super().__init__(**usual | {"num_threads": 4, "obeys": True, "dynlib": None} | facts)

    def set_num_threads(self, count):
        if self.obeys:
            self.num_threads = count


@pytest.fixture
def seen(monkeypatch):
    """Let threadpoolctl see these libraries, as in a new process."""

    def see(*libraries):
        controller = SimpleNamespace(lib_controllers=list(libraries), info=lambda *_: [])
        monkeypatch.setattr(threads.threadpoolctl, "ThreadpoolController", lambda: controller)
        monkeypatch.setattr(threads, "_told", False)
        threads._blas.cache_clear()
        threads._why_not_limited.cache_clear()

    yield see
    threads._blas.cache_clear()
    threads._why_not_limited.cache_clear()


BLIND = [
    ([], r"threadpoolctl .* does not find it"),
    ([Library(filepath="/scipy.libs/blas.so")], "does not find it"),
    ([Library(user_api="openmp")], "does not find it"),
    ([Library(internal_api="mkl", version="2024")], "it is mkl 2024; only OpenBLAS"),
    ([Library(internal_api="blis", version=None)], "it is blis of unknown version; only OpenBLAS"),
    ([Library(threading_layer="openmp")], "openblas 0.3 with openmp threads"),
    ([Library(obeys=False)], "openblas 0.3 has 4 threads although it was limited to 1"),
]


@pytest.mark.parametrize(("libraries", "why"), BLIND)
def test_a_blas_that_cannot_be_kept_to_one_thread_is_told_once(seen, libraries, why):
    seen(*libraries)
    with pytest.warns(RuntimeWarning, match=why) as caught:
        threads.share(lambda i: None, 2)
    threads.share(lambda i: None, 2)  # a second warning would be an error
    (warning,) = caught
    assert "NumPy's BLAS cannot be limited to one thread (" in str(warning.message)
    assert "start Python with OPENBLAS_NUM_THREADS=1" in str(warning.message)


def test_a_blas_that_obeys_is_seen_to_do_so_and_gets_its_threads_back(seen):
    numpys, other = Library(), Library(filepath="/scipy.libs/blas.so", num_threads=3)
    seen(other, numpys)
    inside = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        threads.share(lambda i: inside.append((numpys.num_threads, other.num_threads)), 2)
    assert threads.blas_trouble() is None
    assert inside == [(1, 1), (1, 1)]
    assert (numpys.num_threads, other.num_threads) == (4, 3)


def test_numpys_blas_is_known_by_the_function_that_numpy_calls():
    """It is not recognised by its file name. Another library with the same functions does not count."""
    if threads.blas_trouble():
        pytest.skip(threads.blas_trouble())
    for library in (lib for lib, _ in threads._blas() if threads._multiplies_for_numpy(lib)):
        path = SimpleNamespace(filepath="/elsewhere/blas.so", dynlib=library.dynlib)
        if sys.platform != "win32":
            assert threads._multiplies_for_numpy(path)
        path.dynlib = np.ctypeslib.ctypes.CDLL(None) if os.name == "posix" else object()
        assert not threads._multiplies_for_numpy(path)


def test_the_doctor_says_so(seen):
    seen()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "NumPy's BLAS cannot be limited to one thread" in machine.describe()["BLAS"]
        threads.share(lambda i: None, 2)  # it was already told


def test_a_training_says_so_in_one_line(seen, tmp_path, monkeypatch, capsys):
    seen()
    monkeypatch.setitem(sys.modules, "cupy", None)
    tiny.hurry(monkeypatch)
    monkeypatch.chdir(tmp_path)
    tiny.train("runs", "--steps", 1)
    out, err = capsys.readouterr()
    told = [line for line in (out + err).splitlines() if "BLAS" in line]
    assert len(told) == 1
    assert told[0].startswith("NumPy's BLAS cannot be limited to one thread (threadpoolctl ")
    tiny.train("runs", "--steps", 1)
    assert "BLAS" not in "".join(capsys.readouterr())


def test_what_the_caller_has_said_of_floating_point_errors_holds_on_every_thread():
    together, found = threading.Barrier(2), []

    def work(i):
        together.wait(PATIENCE)
        found.append((np.geterr(), np.geterrcall()))

    handler = lambda *error: None
    with np.errstate(all="call", call=handler):
        threads.share(work, 2)
        assert found == 2 * [(np.geterr(), handler)]
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        threads.share(lambda i: together.wait(PATIENCE) or np.ones(1) / np.zeros(1), 2)
    threads.share(work, 2)
    assert found[2:] == 2 * [(np.geterr(), None)]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_blocks_are_computed_under_the_same_settings_on_every_thread(monkeypatch, count):
    """One thread for BLAS and the same buffer for NumPy, whatever the user has set, on any thread."""
    monkeypatch.setattr(threads, "_threads", count)
    found, together = set(), threading.Barrier(count)

    def work(i):
        together.wait(PATIENCE)
        found.add(json.dumps(settings()))

    before = np.setbufsize(4096)
    try:
        with threadpool_limits(3, user_api="blas"):  # set by this thread, which is alive
            threads.share(work, count)
            assert np.getbufsize() == 4096
            other = threading.Thread(target=threads.share, args=(work, count))
            other.start()
            other.join()
            threads.share(work, count)
            limits = {library.num_threads for library, _ in threads._blas()}
            assert limits <= {3}
    finally:
        np.setbufsize(before)
    (only,) = found
    limits, buffer = json.loads(only)
    assert (set(limits) if not threads.blas_trouble() else {1}, buffer) == ({1}, threads.BUFFER)
