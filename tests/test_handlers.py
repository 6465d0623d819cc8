"""Signal handlers and forks in the middle of the engine's work: gradients, recording, random numbers.

Python runs handlers on the main thread: after a call, at the start of a function, or at a backward
jump. These tests try the starts and ends of calls.
"""

import contextlib
import os
import signal
import sys
import threading

import numpy as np
import pytest

import minigan
from minigan import init, no_grad, recording, tensor, walk
from minigan.tensor import OPERATIONS, grad, op

engine = sys.modules["minigan.tensor"]
PATIENCE = 60  # seconds before a test fails that should pass at once


@pytest.fixture(autouse=True)
def recording_again(monkeypatch):
    """Restore recording, so that one failing test does not make the next ones fail."""
    monkeypatch.setattr(recording.thread, "recording", True)


class Alarm(BaseException):
    """The exception that the handlers here raise, and nothing else does."""


FILES = (*(page.__file__ for page in (engine, recording, walk)), contextlib.__file__)


class Interruption:
    """Calls the handler at the n-th place in the engine's files where Python could run one."""

    def __init__(self, n, handler, spared):
        self.left, self.handler, self.spared, self.done = n, handler, spared, False

    def __call__(self, frame, event, argument):
        place = (frame.f_code, event)
        if self.done or event == "c_call" or place in self.spared:
            return
        if frame.f_code.co_filename in FILES:
            self.left -= 1
            if self.left < 0:
                self.done = True
                self.handler()


def at_each_place(work, handler, check, spared=(), keep=True):
    """Do the work with an interruption at its first place, then at its second, up to the last.

    If the work raises, the traceback may be kept, and with it whatever its frames refer to.
    """
    n, profiler = 0, sys.getprofile()
    while True:
        interruption, kept = Interruption(n, handler, spared), None
        sys.setprofile(interruption)
        try:
            work()
        except Alarm as error:
            kept = error if keep else None
        finally:
            sys.setprofile(profiler)
        check(interruption.done, n)
        if not interruption.done:
            return n
        del kept
        n += 1


@pytest.mark.parametrize("create_graph", [False, True])
def test_no_addition_is_lost_when_a_handler_adds_to_the_same_leaf(create_graph):
    x, start = tensor([0.0], requires_grad=True), tensor([1.0])

    def work():
        x.grad = start
        x.backward(2.0, create_graph=create_graph)

    def check(interrupted, n):
        assert x.grad.item() == (7 if interrupted else 3), n

    assert at_each_place(work, lambda: x.backward(4.0), check) > 30


@pytest.fixture
def interrupting(monkeypatch):
    """An operation whose backward rule sends a signal, and a list of what the handler found."""
    monkeypatch.setattr(engine, "OPERATIONS", dict(OPERATIONS))
    found = []

    def handler(*_):
        w = tensor([3.0], requires_grad=True)
        found.append(grad(w * w, w)[0].item())

    @op(lambda g, y, x: [g, signal.raise_signal(signal.SIGINT)][0])
    def interrupted(xp, x):
        return x + 0

    before = signal.signal(signal.SIGINT, handler)
    yield interrupted, found
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("create_graph", [False, True])
def test_a_handler_can_differentiate_amid_a_backward_pass(interrupting, create_graph):
    interrupted, found = interrupting
    x = tensor([2.0], requires_grad=True)
    interrupted(x * x).backward(create_graph=create_graph)
    assert (x.grad.item(), x.grad.requires_grad, found) == (4, create_graph, [6])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # in a finalizer
@pytest.mark.parametrize("keep", [False, True])
def test_recording_is_as_before_after_an_exception_at_any_moment(keep):
    """Even while the traceback is alive, except in the case that no_grad's docstring describes."""
    x, kept = tensor([2.0], requires_grad=True), no_grad()
    y = x * x

    @no_grad()
    def sample():
        return x * 2

    def work():
        sample()
        with kept if keep else no_grad():
            grad(y, x, create_graph=True)

    def check(interrupted, n):
        assert (x * 2).requires_grad, n
        with kept:
            assert not (x * 2).requires_grad, n
        assert (x * 2).requires_grad, n

    def handler():
        raise Alarm

    enter, leave = recording.recording.__enter__.__code__, recording.recording.__exit__.__code__
    spared = [(recording._switches_back.__code__, "return")]  # its yield is not its end
    spared += [(enter, "return"), (leave, "call")] if keep else []
    assert at_each_place(work, handler, check, spared, keep) > 30


def test_blocks_in_generators_may_be_left_in_any_order():
    x = tensor([2.0], requires_grad=True)

    def block():
        with no_grad():
            yield

    for first in (0, 1):
        runs = [block(), block()]
        for run in runs:
            next(run)
        assert not (x * 2).requires_grad
        runs[first].close()
        runs[1 - first].close()
        assert (x * 2).requires_grad
    run = block()
    other = threading.Thread(target=lambda: next(run))
    other.start()
    other.join()
    run.close()
    assert (x * 2).requires_grad


# -- forks ------------------------------------------------------------------------------------------


@pytest.fixture
def beside():
    """Enters a context on another thread, returns once it is entered, and leaves it at the end."""
    leave, threads = threading.Event(), []

    def run(context):
        entered = threading.Event()

        def hold():
            with context:
                entered.set()
                leave.wait(PATIENCE)

        threads.append(threading.Thread(target=hold))
        threads[-1].start()
        assert entered.wait(PATIENCE)

    yield run
    leave.set()
    for thread in threads:
        thread.join()


def add_up():
    x = tensor([1.0], requires_grad=True)
    for _ in range(2):
        x.backward(2.0)
    return x.grad.item() == 4


def draw():
    """The child draws what the parent would have drawn."""
    expected = np.random.default_rng(7).standard_normal(3).astype("f")
    return minigan.randn(3).tolist() == expected.tolist()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("work", [add_up, draw])
def test_a_forked_process_does_not_wait_for_a_thread_that_it_does_not_have(beside, work):
    minigan.manual_seed(7)
    beside(walk._adding)
    beside(init.generator().bit_generator.lock)
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(10)
            os._exit(0 if work() else 1)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
