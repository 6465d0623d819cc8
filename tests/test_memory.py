"""A training takes its memory in the first three steps, and in all others uses it again."""

import platform
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from minigan.losses import non_saturating
from minigan.training.game import play_round

from minigan import tensor
from minigan.backend import threads
from minigan.models.dcgan import Discriminator, Generator
from minigan.optim import Adam


def training(width: int, batch: int) -> Callable[[], None]:
    """A training of the DCGAN, by the step; on one thread, for with several it is chance which of
    them meets a kernel first, and takes scratch memory for it."""
    threads.set_num_threads(1)
    rng = np.random.default_rng(0)
    G, D = Generator(100, width, 3, 64, rng), Discriminator(width, 3, 64, rng)
    opts = [Adam(network.parameters(), lr=2e-4, betas=(0.5, 0.999)) for network in (G, D)]

    def step() -> None:
        x = tensor(rng.uniform(-1, 1, (batch, 3, 64, 64)).astype(np.float32))
        noise = lambda: tensor(rng.standard_normal((batch, 100, 1, 1), np.float32))
        play_round(G, D, *opts, x, noise, non_saturating)

    return step


def test_from_the_third_step_on_no_memory_is_taken_that_is_not_given_back(monkeypatch):
    monkeypatch.setattr(threads, "_threads", None)  # what is set here is forgotten afterwards
    monkeypatch.setattr(threads, "_scratch", threading.local())
    step = training(width=16, batch=16)
    held, peaks, scratch = [], [], []  # bytes: after each step, at its highest, of scratch memory
    tracemalloc.start()  # NumPy tells it about arrays
    try:
        for _ in range(6):
            tracemalloc.reset_peak()
            step()
            now, peak = tracemalloc.get_traced_memory()
            held.append(now)
            peaks.append(peak)
            scratch.append(sum(array.nbytes for array in vars(threads._scratch).values()))
    finally:
        tracemalloc.stop()
    assert scratch[0] > 1e6
    assert scratch[3:] == scratch[2:3] * 3
    # 1 MB and 1 %: what Python itself keeps, some 10 KB a step; a layer's activations are 1 MB each.
    assert max(held[3:]) - held[2] < 1e6
    assert peaks[4:] == pytest.approx(peaks[3:4] * 2, rel=0.01)


def page_faults(width: int, batch: int) -> list[int]:
    """How many pages each of six steps had to fetch from the system."""
    import resource

    count = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step, counts = training(width, batch), [count()]
    for _ in range(6):
        step()
        counts.append(count())
    return np.diff(counts).tolist()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only this library can be told")
def test_freed_memory_is_filled_again_without_page_faults():
    """In a process of its own, whose memory no other test has used.

    Where freed memory goes back to the system a step costs 5,300 faults of 4 KB, the size of its
    larger arrays. Where it is kept it costs none; 100 are room for what Python does meanwhile.
    """
    run = subprocess.run([sys.executable, __file__], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    faults = [int(count) for count in run.stdout.split()]
    assert faults[0] > 5000
    assert max(faults[3:]) < 100


if __name__ == "__main__":
    print(*page_faults(width=24, batch=16))
