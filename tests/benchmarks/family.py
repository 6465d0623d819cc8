"""The family's networks and its smallest operations: minigan beside PyTorch, on the same cores.

    python tests/benchmarks/family.py --nets             # a training step of each network
    python tests/benchmarks/family.py --layers           # each layer, forward and backward
    python tests/benchmarks/family.py --tiny             # single operations on 4 x 4 numbers
    python tests/benchmarks/family.py --floor            # steps and layers without an engine
    python tests/benchmarks/family.py --ablate           # steps with one part replaced
    python tests/benchmarks/family.py --nets --only ring --threads 1 --rounds 9
    python tests/benchmarks/family.py --nets --pytorch ../torch/bin/python    # which has PyTorch

The engines (`family_engines.py`) have processes of their own and take turns, as in dcgan_step.py. A
ratio is PyTorch's time divided by minigan's in the same round: above 1, minigan is faster. The tables
show the median over the rounds. PyTorch runs eagerly, with D frozen in G's half, as minigan skips D's
gradients there; networks with convolutions are also measured in `channels_last`. Each network starts
from the same weights in both, and its losses after the first step must agree, else the exit code is 1.

A step is one update of D and one of G, Adam or RMSprop included, in float32. No time is judged here.
"""

from __future__ import annotations

import argparse
import json
import sys
from statistics import median
from typing import Any

from dcgan_step import (
    EAGER,
    MINIGAN,
    SAME_LOSS,
    Failure,
    by_round,
    in_turns,
    machine,
    parsed,
    ratios,
    table,
    values,
)

# The rows of `NETS` in family_engines.py, which is not imported because it would bring in NumPy.
RING = ("non-saturating", "minimax", "relativistic", "least squares", "hinge", "WGAN", "WGAN-GP")
NETS = ["fully connected GAN, 28 x 28", *[f"ring, {name}" for name in RING]]
IMAGES = ["DCGAN, 28 x 28", "WGAN-GP, 28 x 28", "WGAN-GP, 64 x 64"]
IMAGES += ["CycleGAN, 64 x 64, batch 1", "CycleGAN, 64 x 64, batch 4"]
IMAGES += ["progressive, 32 x 32", "StyleGAN, 32 x 32", "StyleGAN, 32 x 32, R1"]
# Several updates by Adam in a step, with a first beta of 0, enlarge rounding: see GAMES in gpu_step.py.
ALLOWED = {"WGAN-GP, 64 x 64": 1e-2, "progressive, 32 x 32": 2e-2}
FLOOR = "array calls"
BY_HAND = [NETS[0], NETS[1]]  # the steps that family_floor.py plays
ABLATED = [*BY_HAND, "DCGAN, 28 x 28", "CycleGAN, 64 x 64, batch 4"]
# Their kinds in family_engines.py.
PARTS = ["no filtering of kernel 3", "nothing turned round", "columns of single pixels"]
PARTS += ["norms by the reference", "linear as three operations", "every product in `share`"]
PARTS += ["every product on one thread", "reference convolutions"]
PARTS += ["backward rule by rule, nothing fused", "one thread"]
STEPS = {True: 20, False: 3}  # in a turn, of networks for points and for images


def kinds(options: argparse.Namespace, convolutions: bool) -> list[str]:
    """The engines to be measured."""
    others = EAGER[: 1 + convolutions] if options.torch else []
    return [MINIGAN, *others]


def deviation(losses: list[float], ours: list[float]) -> float:
    """The largest relative difference; of losses below 0.01, a hundredth of it is the absolute one."""
    return max(abs(a - b) / max(abs(b), 1e-2) for a, b in zip(losses, ours, strict=True))


def nets(options: argparse.Namespace) -> dict[str, Any]:
    """A training step of each network."""
    rows, found = [], {}
    for name in [*NETS, *IMAGES]:
        if options.only not in name:
            continue
        options.steps_per_round = 1 if "64 x 64" in name else STEPS[name.startswith("ring")]
        members = {kind: (kind, 0) for kind in kinds(options, name in IMAGES)}
        found[name] = one = in_turns(options, name, members)
        ours = one[MINIGAN]["first"][0]["result"]
        for kind, other in one.items():
            other["deviation"] = deviation(other["first"][0]["result"], ours)
            other["same"] = other["deviation"] <= ALLOWED.get(name, SAME_LOSS)
            row = [name, kind, other["peak"], 1e3 * median(values(other)), 1e3 * min(values(other))]
            if kind != MINIGAN:
                r = ratios(other, one[MINIGAN])
                row += [median(r), min(r), max(r)]
                row += ["same" if other["same"] else "OTHER WORK"]
            rows.append(row + [""] * (9 - len(row)))
    title = f"Training steps, {options.threads} threads, {options.rounds} rounds"
    table(
        title, "network | engine | peak MB | ms a step | least | ratio | min | max | losses", rows
    )
    return found


def layers(options: argparse.Namespace) -> dict[str, Any]:
    """Each layer of the family, forward and backward."""
    options.steps_per_round = 1
    members = {kind: (kind, 0) for kind in kinds(options, True)}
    found = in_turns(options, "layers", members)
    rows = []
    for name in found[MINIGAN]["rounds"][0][0]:
        if options.only not in name:
            continue
        seconds = {k: [turn[0][name] for turn in one["rounds"]] for k, one in found.items()}
        row = [name, *[1e3 * median(column) for column in seconds.values()]]
        if options.torch:
            others = [column for kind, column in seconds.items() if kind != MINIGAN]
            better = [min(both) for both in zip(*others, strict=True)]
            r = [b / a for a, b in zip(seconds[MINIGAN], better, strict=True)]
            row += [median(r), min(r), max(r)]
        rows.append(row)
    title = (
        f"Layers, forward and backward, milliseconds, {options.threads} threads, {options.rounds} "
        "rounds; the ratio is to PyTorch's better layout"
    )
    columns = [*found, *["ratio", "min", "max"] * options.torch]
    table(title, " | ".join(["layer", *columns]), rows)
    return found


def tiny(options: argparse.Namespace) -> dict[str, Any]:
    """Single operations on 4 x 4 numbers."""
    options.steps_per_round = 1
    members = {kind: (kind, 0) for kind in kinds(options, False)}
    found = in_turns(options, "tiny", members)
    rows, every = [], {"forward": [], "both": []}
    for name in found[MINIGAN]["rounds"][0][0]:
        row: list[Any] = [name]
        for what, collected in every.items():
            by_kind = [[turn[0][name][what] for turn in one["rounds"]] for one in found.values()]
            row += [median(column) for column in by_kind]
            if options.torch:
                ratio = median(b / a for a, b in zip(*by_kind, strict=True))
                collected.append(ratio)
                row.append(ratio)
        rows.append(row)
    columns = " | ".join([*found, *["ratio"] * options.torch])
    if options.torch:
        row = ["median"]
        for collected in every.values():
            row += [*[None] * len(found), median(collected)]
        rows.append(row)
    title = (
        f"Operations on 4 x 4 numbers, microseconds a call, {options.rounds} rounds:\n"
        "forward alone, then forward and backward"
    )
    table(title, f"operation | {columns} | {columns}", rows)
    return found


def floor(options: argparse.Namespace) -> dict[str, Any]:
    """minigan beside the array calls of the same steps and layers, without an engine."""
    kinds = {MINIGAN: (MINIGAN, 0), FLOOR: (FLOOR, 0)}
    found, seconds = {}, {}
    for name in BY_HAND:
        options.steps_per_round = STEPS[name.startswith("ring")]
        found[name] = one = in_turns(options, name, kinds)
        losses = [each["first"][0]["result"] for each in one.values()]
        if deviation(*losses) > SAME_LOSS:
            raise Failure(f"{name}: by hand the losses are {losses[1]}, minigan's {losses[0]}")
        seconds[name] = [by_round(each) for each in one.values()]
    options.steps_per_round = 1
    found["layers"] = one = in_turns(options, "layers", kinds)
    for name in one[FLOOR]["rounds"][0][0]:
        seconds[name] = [[turn[0][name] for turn in each["rounds"]] for each in one.values()]
    rows = []
    for name, (ours, least) in seconds.items():
        ratio = median(b / a for a, b in zip(ours, least, strict=True))
        rows.append([name, 1e3 * median(ours), 1e3 * median(least), ratio])
    title = f"Array calls alone, milliseconds, {options.threads} threads, {options.rounds} rounds"
    table(title, f"step or layer | {MINIGAN} | {FLOOR} | {FLOOR} / {MINIGAN}", rows)
    return found


def ablate(options: argparse.Namespace) -> dict[str, Any]:
    """Steps of minigan with one part replaced, in units of minigan's step."""
    found, rows = {}, {part: [part] for part in PARTS}
    for name in ABLATED:
        options.steps_per_round = 1 if "64 x 64" in name else STEPS[name.startswith("ring")]
        members = {kind: (kind, 0) for kind in (MINIGAN, *PARTS)}
        found[name] = one = in_turns(options, name, members)
        for part in PARTS:
            known = part in one  # else it is left out, and that has been said
            rows[part].append(median(ratios(one[part], one[MINIGAN])) if known else None)
    title = f"A step with one part replaced / minigan's, {options.threads} threads"
    table(title, " | ".join(["minigan with", *ABLATED]), list(rows.values()))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--nets", action="store_true", help="a training step of each network")
    add("--layers", action="store_true", help="each layer, forward and backward")
    add("--tiny", action="store_true", help="operations on 4 x 4 numbers")
    add("--floor", action="store_true", help="minigan beside array calls without an engine")
    add("--ablate", action="store_true", help="steps with one part of minigan replaced")
    add(
        "--only",
        default="",
        metavar="WORD",
        help="networks or layers with this word in their names",
    )
    add("--rounds", type=int, default=7)
    options = parsed(parser, "family_engines.py")
    options.before = None

    figures: dict[str, Any] = {"machine": machine(options)}
    if options.tiny:
        figures["tiny"] = tiny(options)
    if options.layers:
        figures["layers"] = layers(options)
    if options.nets:
        figures["nets"] = nets(options)
    if options.floor:
        figures["floor"] = floor(options)
    if options.ablate:
        figures["ablations"] = ablate(options)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    engines = [one for found in figures.get("nets", {}).values() for one in found.values()]
    return 0 if all(one["same"] for one in engines) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        sys.exit(f"family: {failure}")
