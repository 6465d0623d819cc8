"""Signal handlers and forks amid the engine's work: sums, recording and random numbers stay whole.

Python runs a handler on the main thread, after a call, at the start of a function or at a jump back.
"""

import contextlib
import dis
import os
import signal
import sys
import threading

import numpy as np
import pytest

import minigan
from minigan import init, no_grad, tensor
from minigan.tensor import OPERATIONS, Tensor, grad, op

engine = sys.modules["minigan.tensor"]
PATIENCE = 60  # seconds for what happens at once, or the test fails


class Alarm(BaseException):
    """What the handlers here raise: an exception that nobody else knows."""


class Interruption:
    """Calls the handler at the n-th place in the engine's page where Python would."""

    def __init__(self, n, handler, spared=()):
        self.left, self.handler, self.spared, self.last = n, handler, spared, {}
        self.done = False

    def __call__(self, frame, event, argument):
        own = frame.f_code.co_filename in (engine.__file__, contextlib.__file__)
        if self.done or not own or frame.f_code in self.spared:
            return None
        frame.f_trace_opcodes = True
        return self.trace

    def trace(self, frame, event, argument):
        if event == "opcode" and not self.done:
            last = self.last.get(frame, "RESUME")
            self.last[frame] = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            if last.startswith(("CALL", "RESUME", "JUMP_BACK", "JUMP_ABS")):
                self.left -= 1
                if self.left < 0:
                    self.done = True
                    self.handler()
        return self.trace


def at_each_place(work, handler, check, spared=()):
    """Do the work with an interruption at its first place, then at its second, up to the last."""
    n, tracer = 0, sys.gettrace()
    while True:
        interruption, kept = Interruption(n, handler, spared), None
        sys._getframe().f_trace_opcodes = True  # Python 3.12 asks for it before
        sys.settrace(interruption)
        try:
            work()
        except Alarm as error:
            kept = error  # and with it the traceback, whose frames keep what they hold
        finally:
            sys.settrace(tracer)
        interruption.last.clear()
        check(interruption.done, n)
        if not interruption.done:
            return n
        del kept
        n += 1


@pytest.mark.parametrize("create_graph", [False, True])
def test_no_addition_is_lost_when_a_handler_adds_to_the_same_leaf(create_graph):
    x = tensor([0.0], requires_grad=True)

    def work():
        x.grad = tensor([1.0])
        x.backward(2.0, create_graph=create_graph)

    def check(interrupted, n):
        assert x.grad.item() == (7 if interrupted else 3), n

    x.backward(1.0)
    assert at_each_place(work, lambda: handler_adds(x), check) > 30


def handler_adds(x):
    """In the first moment, x.grad is not yet set to 1."""
    x.backward(4.0)


@pytest.fixture
def interrupting(monkeypatch):
    """An operation whose backward rule brings a signal, and a list of what the handler found."""
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


def test_recording_is_as_before_after_an_exception_at_any_moment():
    x, context = tensor([2.0], requires_grad=True), no_grad()
    y = x * x

    @no_grad()
    def sample():
        with context, context:
            return x * 2

    def work():
        sample()
        with context:
            grad(y, x, create_graph=True)

    def check(interrupted, n):
        assert (x * 2).requires_grad, n
        with context:
            assert not (x * 2).requires_grad, n
        assert (x * 2).requires_grad, n

    def handler():
        raise Alarm

    leaving = engine._recording.__exit__.__code__  # the moment that no_grad's docstring names
    assert at_each_place(work, handler, check, spared=[leaving]) > 30


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
    """Runs a context on another thread, and returns when it has been entered; ends it at last."""
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
    """What the parent would have drawn, too."""
    expected = np.random.default_rng(7).standard_normal(3).astype("f")
    return minigan.randn(3).tolist() == expected.tolist()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("work", [add_up, draw])
def test_a_forked_process_does_not_wait_for_a_thread_that_it_does_not_have(beside, work):
    minigan.manual_seed(7)
    beside(engine._adding)
    beside(init.generator().bit_generator.lock)
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(10)
            os._exit(0 if work() else 1)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
