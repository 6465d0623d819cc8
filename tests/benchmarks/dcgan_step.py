"""Seconds for a training step of the documented DCGAN: minigan and PyTorch on the same cores.

    python -m pip install -e '.[bench]'
    python tests/benchmarks/dcgan_step.py                # the step: speed, ratios, peak memory
    python tests/benchmarks/dcgan_step.py --batches 16,64,128 --compile --json figures.json
    python tests/benchmarks/dcgan_step.py --layers --sampling --scaling --data --ablate
    python tests/benchmarks/dcgan_step.py --before ../old   # and another checkout of minigan

The step is the PyTorch tutorial's, float32, 64 x 64 pixels, ngf = ndf = 64, nz = 100: D on reals, D on
detached fakes, D's Adam on the sum; then G through the updated D on the same fakes, G's Adam. All
engines start from the same weights and see the same batches. They must report the same first losses, or
the exit code is 1. Making a batch, in the engine's preferred memory layout, is not timed.

Each engine has its own process (`engines.py`), so that peak memory is the engine's. This process asks
them for a few steps at a time, in turns: A B C A B C ... So whatever slows the machine down for a while
slows all of them. Waiting engines should be idle; the CPU time that they use is printed. Environment
variables set the same number of threads for all before anything is imported.

Work is counted in the direct form: 2 * grid * C_in * C_out * 16 operations for each of a layer's
forward pass, input gradient and weight gradient. So an engine that needs fewer, as minigan with minimal
filtering does, can exceed 100 % of the machine's GEMM rate (NumPy's, best of three).

Without PyTorch, only minigan is measured. No time counts as a failure.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

# This process must not import NumPy, because on Linux a process's peak memory starts at that of the
# process that started it, so this one has to be small.

WARM_UP = 3  # turns
SETTLE = 0.3  # seconds before a turn, in which the previous engine's threads stop spinning
BUSY = 0.5  # load average
SAME_LOSS = 1e-4  # relative, at the first step
GEMM_SIZE = 2048
SAMPLED, SCALED = (64, 1), (32, 64, 128, 256)  # batch sizes
MINIGAN, BEFORE, EAGER = "minigan", "minigan before", ["PyTorch", "PyTorch channels_last"]
FROZEN, COMPILED = "PyTorch channels_last, D frozen", "PyTorch compiled, D frozen"
THREADS = ("MINIGAN_NUM", "OMP_NUM", "OPENBLAS_NUM", "MKL_NUM", "VECLIB_MAXIMUM")


# -- the processes of the engines -----------------------------------------------------------------


class Failure(Exception):
    """An engine failed; the message says which and why."""


class Worker:
    """A process with one engine."""

    def __init__(self, kind: str, options: argparse.Namespace):
        self.kind, self.timeout = kind, options.timeout
        home = Path(__file__).resolve().parents[2]
        if kind == BEFORE:
            home, kind = options.before.resolve(), MINIGAN
        python = options.pytorch if kind.startswith("PyTorch") else sys.executable
        threads = {f"{name}_THREADS": str(options.threads) for name in THREADS}
        self.process = subprocess.Popen(
            [python, str(home / "tests" / "benchmarks" / options.engines), kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | threads | {"PYTHONPATH": str(home)},
            text=True,
        )
        self.answers: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in self.process.stdout:
            self.answers.put(line)
        self.answers.put("null")  # the process has ended

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """The engine's answer. Raises Failure if it is late or its process has died."""
        try:
            self.process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self.process.stdin.flush()
            answer = json.loads(self.answers.get(timeout=self.timeout))
        except queue.Empty:
            raise Failure(f"{self.kind}: no answer within {self.timeout:.0f} s") from None
        except OSError:  # a broken pipe
            answer = None
        if answer is None:
            raise Failure(f"{self.kind}: the process died, with code {self.process.wait(10)}")
        if "error" in answer:
            raise Failure(f"{self.kind}: {answer['error']}")
        return answer

    def close(self) -> None:
        with suppress(OSError):
            self.process.stdin.close()  # ends its requests
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def crew(
    options: argparse.Namespace,
    task: str,
    members: dict[Any, tuple[str, int]],
    warm_up: int = WARM_UP,
) -> Iterator[dict[Any, Worker]]:
    """Warm workers {label: Worker} for {label: (kind, batch)}; one that fails is named and left out."""
    workers: dict[Any, Worker] = {}
    try:
        for label, (kind, batch) in members.items():
            workers[label] = worker = Worker(kind, options)
            try:
                worker.begun = worker.ask("begin", task=task, batch=batch, warm_up=warm_up)
            except Failure as failure:
                if kind in (MINIGAN, "GEMM"):
                    raise
                print(f"\nLeft out: {failure}")
                workers.pop(label).close()
        yield workers
    finally:
        for worker in workers.values():
            worker.close()


def in_turns(options: argparse.Namespace, task: str, members: dict[Any, tuple[str, int]]) -> dict:
    """Interleaved rounds: {label: {"rounds": [[turn, ...], ...], "peak": MB, "idle": seconds, ...}}."""
    with crew(options, task, members) as workers:
        return take_turns(options, workers)


def take_turns(options: argparse.Namespace, workers: dict[Any, Worker]) -> dict[Any, dict]:
    """What `in_turns` returns, of workers that have begun."""
    found = {k: {**worker.begun, "rounds": [], "idle": 0} for k, worker in workers.items()}
    for _ in range(options.rounds):
        for label, worker in workers.items():
            time.sleep(SETTLE)
            answer = worker.ask("measure", count=options.steps_per_round)
            one = found[label]
            one["rounds"].append(answer["turns"])
            one |= {"peak": answer["peak"], "idle": max(one["idle"], answer["idle"])}
    return found


def values(found: dict, key: str = "seconds") -> list[float]:
    """One measured value from all turns."""
    return [turn[key] for turns in found["rounds"] for turn in turns]


def by_round(found: dict, key: str = "seconds") -> list[float]:
    """One measured value for each round: the mean of its turns."""
    return [sum(turn[key] for turn in turns) / len(turns) for turns in found["rounds"]]


def ratios(found: dict, base: dict) -> list[float]:
    """Round by round, the seconds divided by those of `base`."""
    return [a / b for a, b in zip(by_round(found), by_round(base), strict=True)]


# -- tables ---------------------------------------------------------------------------------------


def table(title: str, head: str, rows: list[list]) -> None:
    """Print an aligned Markdown table; `head` names its columns, all of numbers except the first."""
    cells = [[name.strip() for name in head.split("|")]]
    cells += [[cell if isinstance(cell, str) else digits(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    print(f"\n{title}\n")
    for first, *others in cells:
        line = [first.ljust(widths[0])]
        line += [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        print(f"| {' | '.join(line)} |", flush=True)


def digits(x: float | None) -> str:
    """Three significant digits without an exponent; whole numbers unchanged."""
    if x is None or isinstance(x, int):
        return "" if x is None else str(x)
    return f"{x:.{min(5, max(0, 2 - math.floor(math.log10(abs(x) or 1))))}f}"


def machine(options: argparse.Namespace) -> dict[str, Any]:
    """A description of the machine, printed and returned."""
    model, cpuinfo = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line.partition(":") for line in cpuinfo.read_text().splitlines()]
        model = next((text.strip() for key, _, text in lines if key.strip() == "model name"), model)
    caches = []
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = (
            (index / name).read_text().strip() for name in ("level", "type", "size")
        )
        caches.append(f"L{level} {kind.lower()} {size}")
    with crew(options, "train", {"GEMM": ("GEMM", GEMM_SIZE)}, warm_up=0) as workers:
        about = workers["GEMM"].ask("describe")
    versions = [f"{name} {version(name)}" for name in ("minigan", "numpy")]
    versions += [f"torch {options.torch_version}"] * options.torch
    found = {
        "CPU": model,
        "cores": f"{available()} of {os.cpu_count()} for this process; {options.threads} threads",
        "caches": ", ".join(caches) or "unknown",
        "system": f"{platform.platform()}, Python {platform.python_version()}",
        "BLAS": f"of NumPy: {'; '.join(about['blas']) or 'unknown'}",
        "versions": ", ".join(versions),
    }
    if hasattr(os, "getloadavg"):
        found["load"] = f"{os.getloadavg()[0]:.1f} before the start"
    for key, value in found.items():
        print(f"{key:9} {value}")
    if hasattr(os, "getloadavg") and os.getloadavg()[0] > BUSY:
        print(
            "\nOther programs are running, or were a minute ago. They slow PyTorch, whose threads wait"
        )
        print(
            "for each other after every operation, more than minigan. Results need an idle machine."
        )
    return found | {"ablations": about["ablations"]}


# -- what is measured -----------------------------------------------------------------------------


def steps(options: argparse.Namespace, batch: int) -> dict[str, Any]:
    """The training step in all engines."""
    kinds = [MINIGAN] + [BEFORE] * bool(options.before)
    if options.torch:
        kinds += [*EAGER, FROZEN] + [COMPILED] * options.compile
    members = {"GEMM": ("GEMM", GEMM_SIZE)} | {kind: (kind, batch) for kind in kinds}
    found = in_turns(options, "train", members)
    gemm = by_round(found.pop("GEMM"), "gflops")
    ours = found[MINIGAN]
    speeds, memory, losses = [], [], []
    for label, one in found.items():
        seconds, work = values(one), batch * one["gflop_per_image"]
        first, last = (one["first"][i]["result"] for i in (0, -1))
        pairs = zip(first, ours["first"][0]["result"], strict=True)
        one |= {
            "images_per_second": [batch / s for s in seconds],
            "gflops": [work / s for s in by_round(one)],
            "of_gemm": median(work / s / g for s, g in zip(by_round(one), gemm, strict=True)),
            "ratios": ratios(one, ours),
            "cores_busy": sum(values(one, "cpu")) / sum(seconds),
            "deviation": max(abs(a / b - 1) for a, b in pairs),
        }
        speed = one["images_per_second"]
        row = [label, median(speed), min(speed), max(speed), median(seconds), median(one["ratios"])]
        row += [one["cores_busy"], one["gflop_per_image"], median(one["gflops"])]
        speeds.append([*row, f"{one['of_gemm']:.0%}"])
        memory.append([label, one["imported"], one["peak"]])
        row = [label, *(f"{loss:.5f}" for loss in (*first, *last)), f"{one['deviation']:.0e}"]
        losses.append([*row, "same" if one["deviation"] <= SAME_LOSS else "OTHER WORK"])
    counted = options.rounds * options.steps_per_round
    table(
        f"Training step, batch {batch}, {options.threads} threads; {counted} steps, {WARM_UP} before\n"
        f"GEMM {GEMM_SIZE}^3: {median(gemm):.0f} GFLOP/s ({min(gemm):.0f} to {max(gemm):.0f})\n"
        "GFLOP/image: direct form, without D's weight gradients in G's half where these are skipped",
        "engine | images/s | min | max | s/step | / minigan | cores busy"
        " | GFLOP/image | GFLOP/s | of GEMM",
        speeds,
    )
    if len(found) > 1:
        numbers = " | ".join(str(i + 1) for i in range(options.rounds))
        rows = [
            [k, *one["ratios"], median(one["ratios"])] for k, one in found.items() if k != MINIGAN
        ]
        title = "Seconds / minigan's seconds (above 1: minigan is faster), round by round"
        table(title, f"engine | {numbers} | median", rows)
    table("Memory of each process", "engine | MB after import | peak MB", memory)
    head = f"engine | Loss_D, step 1 | Loss_G | Loss_D, step {WARM_UP} | Loss_G | deviation | work"
    table("Losses", head, losses)
    idle = 1e3 * max(one["idle"] for one in found.values())
    print(f"\nBetween two of its turns no engine used more than {idle:.0f} ms of CPU.")
    return {"engines": found, "gemm_gflops": gemm}


def ablations(options: argparse.Namespace, batch: int, names: list[str]) -> dict[str, Any]:
    """minigan with one part replaced or added."""
    found = in_turns(options, "train", {name: (name, batch) for name in (MINIGAN, *names)})
    rows = []
    for label, one in found.items():
        one["ratios"] = r = ratios(one, found[MINIGAN])
        rows.append([label, median(values(one)), median(r), min(r), max(r), one["peak"]])
    head = "minigan with | s/step | / minigan | min | max | peak MB"
    table(f"Ablations, batch {batch}", head, rows)
    return found


def scaling(options: argparse.Namespace) -> dict[str, Any]:
    """minigan's cost per image, by batch size."""
    found = in_turns(options, "train", {b: (MINIGAN, b) for b in SCALED})
    cost = {b: 1e3 * median(values(one)) / b for b, one in found.items()}
    middle = median(cost.values())
    worst = max(abs(c / middle - 1) for c in cost.values())
    rows = [[str(b), c, f"{c / middle - 1:+.1%}", found[b]["peak"]] for b, c in cost.items()]
    title = f"minigan by batch size; the largest deviation from the median is {worst:.1%}"
    table(title, "batch | ms/image | deviation | peak MB", rows)
    return {"ms_per_image": cost, "largest_deviation": worst, "batches": found}


def sampling(options: argparse.Namespace) -> dict[int, Any]:
    """G's forward pass alone."""
    kinds, rows, figures = [MINIGAN] + EAGER * options.torch, [], {}
    for batch in SAMPLED:
        figures[batch] = found = in_turns(options, "sample", {k: (k, batch) for k in kinds})
        for label, one in found.items():
            seconds, ratio = median(values(one)), median(ratios(one, found[MINIGAN]))
            rows.append([label, batch, 1e3 * seconds, batch / seconds, ratio, one["peak"]])
    head = "engine | batch | ms/batch | images/s | / minigan | peak MB"
    table("Sampling: G's forward pass, evaluation mode, no gradients", head, rows)
    return figures


def layers(options: argparse.Namespace, batch: int, step: float) -> dict[str, Any]:
    """Each pass of each layer by itself; `step` is the seconds of minigan's whole step."""
    kinds = [MINIGAN] + EAGER * options.torch
    found = in_turns(options, "layers", {kind: (kind, batch) for kind in kinds})
    tasks = found[MINIGAN]["first"][0]
    ms = {
        kind: {name: 1e3 * median(turn["seconds"] for turn in values(one, name)) for name in tasks}
        for kind, one in found.items()
    }
    rows, sums = [], {}
    for name, task in tasks.items():
        calls, gflop = task["calls"], task["gflop"]
        row = [name, calls, f"{calls * ms[MINIGAN][name] / step / 1e3:.1%}" if calls else ""]
        for column in ms.values():
            row += [column[name], gflop and 1e3 * gflop / column[name]]
        rows.append(row)
        kind = name.partition(" ")[2]
        kind = f"norm, activation {kind.partition(': ')[2]}" if ":" in kind else kind
        total = sums.setdefault(kind, dict.fromkeys(ms, 0.0))
        for engine, column in ms.items():
            total[engine] += calls * column[name]
    sums["all of these"] = {engine: sum(t[engine] for t in sums.values()) for engine in ms}
    table(
        f"Layers, batch {batch}, each pass by itself; calls: how often minigan's step runs it;\n"
        f"share: calls * ms, of the step's {step:.3f} s",
        "layer, pass | calls | share | " + " | ".join(f"{kind} ms | GFLOP/s" for kind in ms),
        rows,
    )
    rows = [[k, f"{t[MINIGAN] / step / 1e3:.1%}", *t.values()] for k, t in sums.items()]
    rest = 1 - sums["all of these"][MINIGAN] / step / 1e3
    table(
        f"Their sums over minigan's calls; the rest of its step is {rest:.1%}",
        "pass | share | " + " | ".join(f"{kind} ms" for kind in ms),
        rows,
    )
    return {"ms": ms, "sums": sums, "tasks": tasks}


def data(options: argparse.Namespace, batch: int, step: float) -> dict[str, Any]:
    """Decoding, and the cost of an epoch's batches next to its steps."""
    with crew(options, "data", {MINIGAN: (MINIGAN, batch)}, warm_up=0) as workers:
        (found,) = workers[MINIGAN].ask("measure", count=1)["turns"]
    whole = step + found["reals"] + 2 * found["noise"]
    rows = [["decoding, images/s on one core", found["images_per_second"]]]
    rows += [["bytes of an image's file (CelebA: 7,125)", found["bytes_per_image"]]]
    for name, times in (("reals", 1), ("noise", 2)):
        rows += [[f"{name}, ms for {batch} images", 1e3 * found[name]]]
        rows += [[f"{name}, {times} a step, share of it", f"{times * found[name] / whole:.2%}"]]
    title = "Data: JPEGs of 178 x 218 from a zip, cut to 64 x 64; 16,384 images to draw from"
    table(title, "what | value", rows)
    return found


def available() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parsed(parser: argparse.ArgumentParser, engines: str) -> argparse.Namespace:
    """The options, with those that every benchmark has, and what else its workers need to know."""
    add = parser.add_argument
    add("--threads", type=int, default=available(), help="default: the cores of this process")
    add("--timeout", type=float, default=900, help="seconds an engine has for an answer")
    add("--pytorch", default=sys.executable, metavar="PYTHON", help="the Python that has PyTorch")
    add("--json", type=Path, metavar="FILE", help="write all figures")
    options = parser.parse_args()
    asked = [options.pytorch, "-c", "import torch; print(torch.__version__)"]
    said = subprocess.run(asked, capture_output=True, text=True)
    options.torch, options.torch_version = said.returncode == 0, said.stdout.strip()
    if not options.torch:
        print("PyTorch is not installed (pip install -e '.[bench]'): minigan is measured alone.\n")
    options.engines = engines  # the program of the workers, beside this one
    return options


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--batch", default="128", dest="batches", metavar="N")
    add("--batches", metavar="N,N,...", help="several batch sizes; the other tables use the last")
    add("--rounds", type=int, default=7)
    add("--steps-per-round", type=int, default=1)
    add(
        "--before",
        type=Path,
        metavar="FOLDER",
        help="another checkout, measured in turns with this one",
    )
    add("--compile", action="store_true", help="torch.compile too; it takes minutes")
    add("--ablate", action="store_true", help="minigan with one part replaced or added")
    add("--scaling", action="store_true", help=f"minigan at batch {', '.join(map(str, SCALED))}")
    add("--sampling", action="store_true", help=f"G alone, batch {' and '.join(map(str, SAMPLED))}")
    add("--layers", action="store_true", help="each pass of each layer")
    add("--data", action="store_true", help="decoding and batches")
    options = parsed(parser, "engines.py")
    figures: dict[str, Any] = {"machine": machine(options), "steps": {}}
    for batch in map(int, options.batches.split(",")):
        figures["steps"][batch] = steps(options, batch)
    engines = figures["steps"][batch]["engines"]
    seconds = median(values(engines[MINIGAN]))
    if options.ablate:
        figures["ablations"] = ablations(options, batch, figures["machine"]["ablations"])
    if options.scaling:
        figures["scaling"] = scaling(options)
    if options.sampling:
        figures["sampling"] = sampling(options)
    if options.layers:
        figures["layers"] = layers(options, batch, seconds)
    if options.data:
        figures["data"] = data(options, batch, seconds)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    all_engines = [one for found in figures["steps"].values() for one in found["engines"].values()]
    return 0 if all(one["deviation"] <= SAME_LOSS for one in all_engines) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        sys.exit(f"dcgan_step: {failure}")
