"""A run takes all its memory in the first three steps, and reuses it from then on."""

import platform
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
import walk

from minigan.backend import threads
from minigan.data import Dataset
from minigan.data.images import to_tensor
from minigan.gans import MEMBERS
from minigan.keys import generator
from minigan.tensor import Tensor
from minigan.training.draw import Draw

SHAPE = (3, 64, 64)


class Pixels(Dataset):
    """Images of noise, made on request."""

    name, labels, classes = "pixels", np.arange(1000) % 3, "abc"

    def __len__(self) -> int:
        return 1000

    def batch(self, indices, device, mirrored=None) -> Tensor:
        pixels = generator(*indices.tolist()).integers(0, 256, (len(indices), *SHAPE), np.uint8)
        return to_tensor(pixels, SHAPE[0], device)

    def picture(self, samples): ...


def steps_of(name: str, width: int, batch: int) -> Callable[[], None]:
    """A function that plays a step of a member on images.

    It uses one thread. With several, chance decides which one first runs a kernel and takes scratch
    memory.
    """
    threads.set_num_threads(1)
    make = MEMBERS[name]
    chosen = {"ngf": width, "ndf": width, "batch_size": batch, "d_steps": 2}  # 2 show it as well
    classes = 3 if make.conditional else 0
    member = make(make.Options.pick(chosen), SHAPE, generator("init"), classes=classes)
    draw = Draw(Pixels(), batch, member.options.nz, seed=0)

    def step() -> None:
        for value in member.step(draw).values():
            value.item()
        draw.next_step()

    return step


@pytest.mark.parametrize("name", walk.SOME)
def test_from_the_third_step_on_no_memory_is_taken_that_is_not_given_back(monkeypatch, name):
    monkeypatch.setattr(threads, "_threads", None)  # undoes the setting afterwards
    monkeypatch.setattr(threads, "_scratch", threading.local())
    step = steps_of(name, width=16, batch=16)
    held, peaks, scratch = [], [], []  # bytes: after each step, at its peak, of scratch memory
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
    # 1 MB and 1 %, because Python itself keeps some 10 KB per step; a layer's activations take 1 MB.
    assert max(held[3:]) - held[2] < 1e6
    assert peaks[4:] == pytest.approx(peaks[3:4] * 2, rel=0.01)


def page_faults(name: str, width: int, batch: int) -> list[int]:
    """The number of page faults in each of six steps."""
    import resource

    count = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step, counts = steps_of(name, width, batch), [count()]
    for _ in range(6):
        step()
        counts.append(count())
    return np.diff(counts).tolist()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only this library can be told")
@pytest.mark.parametrize("name", walk.SOME)
def test_freed_memory_is_filled_again_without_page_faults(name):
    """Runs in a separate process, whose memory no other test has used.

    If freed memory goes back to the system, a step costs 5,300 faults of 4 KB, the total size of its
    larger arrays. If it is kept, a step costs none; 100 are allowed for Python itself.
    """
    run = subprocess.run([sys.executable, __file__, name], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    faults = [int(count) for count in run.stdout.split()]
    assert faults[0] > 5000
    assert max(faults[3:]) < 100


if __name__ == "__main__":
    print(*page_faults(sys.argv[1], width=24, batch=16))
