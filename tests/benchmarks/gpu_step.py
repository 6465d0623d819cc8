"""A training step on an NVIDIA GPU: minigan on CuPy beside PyTorch, with and without TF32.

    python -m pip install -e '.[gpu,bench]'
    python tests/benchmarks/gpu_step.py                  # writes gpu_step.md, for docs/gpu.md
    python tests/benchmarks/gpu_step.py --pytorch ../torch/bin/python --batch 64 --json gpu_step.json
    python tests/benchmarks/gpu_step.py --toy            # without a GPU: shows only that it works

The games are those of the documented DCGAN and of WGAN-GP with the same networks, at 64 x 64 pixels.
PyTorch runs eagerly, in `channels_last`, and with `torch.compile` in `channels_last`; always with D
frozen in G's half, as minigan skips D's gradients there. All start from the same weights and see the
same batch, which is already on the GPU. Their losses in the first step must agree, else the exit code
is 1.

The engines (`gpu_engines.py`) have processes of their own, because CuPy reads its TF32 setting only
once, and take turns, as in dcgan_step.py. A ratio is PyTorch's time divided by minigan's in the same
round and with the same TF32 setting: above 1, minigan is faster. The tables show the median over the
rounds. After all rounds, one more step is traced, so tracing slows none that is timed.

`--toy` makes networks and images tiny, and runs CuPy on tests/emulator and PyTorch on the CPU. Its
times mean nothing. Without PyTorch, only minigan is measured.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path
from statistics import median
from typing import Any

from dcgan_step import (
    EAGER,
    MINIGAN,
    Failure,
    crew,
    machine,
    parsed,
    ratios,
    table,
    take_turns,
    values,
)
from family import deviation

sys.path.insert(0, str(Path(__file__).parents[1]))
import emulator

from minigan.backend import gpu_trouble

TF32 = ", TF32"
ENGINES = [MINIGAN, *EAGER, "PyTorch compiled"]
# The games are rows of NETS in family_engines.py. With each stands how much the losses of its first
# step may differ, relatively, without TF32 and with it. This was measured on the CPU: the DCGAN's
# losses in float32 differ by 1.4e-6. WGAN-GP's come after five updates by Adam with a first beta of 0,
# whose first step is lr times the sign of the gradient. That enlarges rounding: PyTorch's own losses in
# float32, in its two layouts, are up to 1.8e-3 from those in float64. (A penalty of 9 instead of 10
# changes them by 6.6e-2.) Rounding the factors of all convolutions to TF32's 10 bits changes the
# DCGAN's losses by 1.2e-3, and WGAN-GP's by 5.3e-3.
GAMES = {"DCGAN, 64 x 64": (1e-4, 1e-2), "WGAN-GP, 64 x 64": (1e-2, 3e-2)}


def refusal(options: argparse.Namespace) -> str | None:
    """Why nothing can be measured, with the remedy; None if minigan can run."""
    if options.toy and options.batch:
        return (
            f"--batch {options.batch}: a toy has a batch size of its own; leave one of the two out"
        )
    if options.toy:
        trouble = emulator.unavailable()
        return trouble and f"--toy needs the emulator: {trouble}"
    trouble = gpu_trouble(0)
    return trouble and trouble.replace("--device cpu", "--toy")


def pytorch_has_gpu(options: argparse.Namespace) -> bool:
    """Whether PyTorch can use the GPU; if not, the reason is printed."""
    asked = [options.pytorch, "-c", "import torch; torch.zeros(1, device='cuda')"]
    said = subprocess.run(asked, capture_output=True, text=True)
    if said.returncode:
        reason = said.stderr.strip().rpartition("\n")[2]
        print(f"PyTorch cannot use the GPU ({reason}): minigan is measured alone.\n")
    return said.returncode == 0


def play(options: argparse.Namespace, game: str) -> dict[str, dict]:
    """Measure all engines in one game, then trace a step of each: {engine: what was found}."""
    names = ENGINES if options.torch else [MINIGAN]
    members = {
        name + tf32: (name + tf32 + ", toy" * options.toy, options.batch)
        for name in names
        for tf32 in ("", TF32)
    }
    with crew(options, game, members) as workers:
        if not {MINIGAN, MINIGAN + TF32} <= {*workers}:
            raise Failure("minigan failed, so there is nothing to compare with")
        found = take_turns(options, workers)
        for label, worker in workers.items():
            questions = ["trace"] + ["kernels"] * label.startswith(MINIGAN)
            for question in questions:
                try:
                    found[label][question] = worker.ask(question)
                except Failure as failure:
                    print(f"\nNot traced: {failure}")
    for label, one in found.items():
        allowed = GAMES[game][TF32 in label]
        one["deviation"] = deviation(first_losses(one), first_losses(found[MINIGAN]))
        one["same"] = one["deviation"] <= allowed
        one["ratios"] = ratios(one, found[MINIGAN + TF32 * (TF32 in label)])
    return found


def first_losses(one: dict[str, Any]) -> list[float]:
    """D's loss and G's in the first step."""
    return one["first"][0]["result"]


def report(game: str, found: dict[str, dict]) -> None:
    """Print the tables of a game."""
    speeds, losses = [], []
    for label, one in found.items():
        seconds, trace = values(one), one.get("trace", {})
        speed = [one["reals"] / s for s in seconds]
        row = [label, median(speed), min(speed), max(speed), 1e3 * median(seconds)]
        compared = [] if label.startswith(MINIGAN) else one["ratios"]
        row += [of(compared) if compared else None for of in (median, min, max)]
        launched = {name: numbers for name, numbers in trace.items() if not name.startswith("Mem")}
        busy = sum(ms for _, ms in trace.values())
        row += [sum(calls for calls, _ in launched.values()) or None, busy or None, one["peak"]]
        speeds.append(row)
        row = [label, *(f"{loss:.5f}" for loss in first_losses(one)), f"{one['deviation']:.0e}"]
        losses.append([*row, "same" if one["same"] else "OTHER WORK"])
    reals = found[MINIGAN]["reals"]
    table(
        f"{game}: {reals} images a step",
        "engine | images/s | least | most | ms a step | ratio | least | most"
        " | launches | GPU busy, ms | MB held",
        speeds,
    )
    table(f"{game}: losses of the first step", "engine | D | G | deviation | work", losses)
    kernels(game, found)


def kernels(game: str, found: dict[str, dict]) -> None:
    """Print where minigan's step spends its time, without and with TF32."""
    both = [found[label].get("kernels") for label in (MINIGAN, MINIGAN + TF32)]
    if not all(both):
        return
    for one in both:
        _, whole = one["step"]
        inside = sum(ms for name, (_, ms) in one.items() if name != "step")
        one["everything else"] = [None, whole - inside]
    rows = []
    for name, (calls, _) in sorted(both[0].items(), key=lambda item: item[1][1]):
        row = [name, calls]
        for one in both:
            row += [one[name][1], f"{one[name][1] / one['step'][1]:.0%}"]
        rows.insert(0, row)
    table(
        f"{game}: minigan's kernels in a step, by CUDA events; everything else is CuPy's own kernels,\n"
        "copies, and waiting for the host",
        "kernel | calls | ms | share | ms, TF32 | share",
        rows,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--toy", action="store_true", help="no GPU: does it work?")
    add("--batch", type=int, default=0, help="default: 128 for the DCGAN and 64 for WGAN-GP")
    add("--rounds", type=int, default=7)
    add("--out", type=Path, default=Path("gpu_step.md"), metavar="FILE", help="the tables")
    options = parsed(parser, "gpu_engines.py")
    options.before, options.steps_per_round = None, 1
    if trouble := refusal(options):
        raise Failure(trouble)
    options.torch = options.torch and (options.toy or pytorch_has_gpu(options))

    figures: dict[str, Any] = {"machine": machine(options), "games": {}}
    text = ""
    for game in GAMES:
        figures["games"][game] = found = play(options, game)
        if not text:
            abouts = dict.fromkeys(one["about"] for one in found.values())
            text = f"{'; '.join(abouts)}; {figures['machine']['CPU']}. "
            text += f"Medians of {options.rounds} rounds.\n"
        with redirect_stdout(io.StringIO()) as tables:
            report(game + ", a toy" * options.toy, found)
        text += tables.getvalue()
        # written after each game, so that a failure in the next one loses nothing
        options.out.write_text(text)
        if options.json:
            options.json.write_text(json.dumps(figures, indent=1) + "\n")
    print(f"\n{text}", end="")
    everything = [one for found in figures["games"].values() for one in found.values()]
    return 0 if all(one["same"] for one in everything) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        sys.exit(f"gpu_step: {failure}")
