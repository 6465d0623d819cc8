"""Two ways from a value to the result: gradients add up.

Backpropagation walks a list of operations from its end to its beginning. Each operation passes its
gradient on to its inputs. If a value is used twice, it gets a gradient from each use.

A tape is a list of operations in the order in which they were computed:

    [("y", "mul", "x", "x"),     y = x * x
     ("z", "add", "y", "x")]     z = y + x
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..differences import differences

Tape = list[tuple[str, str, str, str]]  # (result, "add" or "mul", first input, second input)


def gradients(tape: list, values: dict) -> dict:
    """d (the last result) / d (each value), by name, for all values of the tape.

    tape    the operations: (result, "add" or "mul", first input, second input)
    values  the number of each name, inputs and results
    """
    found = dict.fromkeys(values, 0.0)
    found[tape[-1][0]] = 1.0
    for result, operation, a, b in reversed(tape):
        g = found[result]
        found[a] += g if operation == "add" else g * values[b]
        found[b] += g if operation == "add" else g * values[a]
    return found


CASES: dict[str, tuple[Tape, dict[str, float]]] = {
    "z = a * b": ([("z", "mul", "a", "b")], {"a": 3.0, "b": 5.0}),
    "z = a * b + a": ([("y", "mul", "a", "b"), ("z", "add", "y", "a")], {"a": 3.0, "b": 5.0}),
    "z = x * x": ([("z", "mul", "x", "x")], {"x": 3.0}),
    "z = x + x": ([("z", "add", "x", "x")], {"x": 3.0}),
    "y = x + b, z = y * y, w = z * y": (
        [("y", "add", "x", "b"), ("z", "mul", "y", "y"), ("w", "mul", "z", "y")],
        {"x": 2.0, "b": -0.5},
    ),
}


def _run(tape: Tape, inputs: dict[str, float]) -> dict[str, float]:
    """All values of the tape."""
    values = dict(inputs)
    for result, operation, a, b in tape:
        values[result] = values[a] + values[b] if operation == "add" else values[a] * values[b]
    return values


def measure(gradients: Any) -> Iterator[tuple[str, Any, Any]]:
    for case, (tape, inputs) in CASES.items():
        last = tape[-1][0]
        found = gradients(list(tape), _run(tape, inputs))
        for name, value in inputs.items():
            truth = differences(lambda v: _run(tape, inputs | {name: v})[last], value)
            yield f"{case}: d{last}/d{name}", found[name], truth


def wrong_overwrites(tape: list, values: dict) -> dict:
    """A value that is used twice gets a gradient from each use. Add the second one to the first:
    `+=`.
    """
    found = dict.fromkeys(values, 0.0)
    found[tape[-1][0]] = 1.0
    for result, operation, a, b in reversed(tape):
        g = found[result]
        found[a] = g if operation == "add" else g * values[b]
        found[b] = g if operation == "add" else g * values[a]
    return found


def wrong_own_value(tape: list, values: dict) -> dict:
    """The slope of a * b in a is b, the value of the other factor."""
    found = dict.fromkeys(values, 0.0)
    found[tape[-1][0]] = 1.0
    for result, operation, a, b in reversed(tape):
        g = found[result]
        found[a] += g if operation == "add" else g * values[a]
        found[b] += g if operation == "add" else g * values[b]
    return found


def wrong_direction(tape: list, values: dict) -> dict:
    """Walk from the last operation to the first: an operation can pass on only a gradient that it
    has.
    """
    found = dict.fromkeys(values, 0.0)
    found[tape[-1][0]] = 1.0
    for result, operation, a, b in tape:
        g = found[result]
        found[a] += g if operation == "add" else g * values[b]
        found[b] += g if operation == "add" else g * values[a]
    return found


def wrong_without_upstream(tape: list, values: dict) -> dict:
    """Each operation multiplies its slope by the gradient of its own result."""
    found = dict.fromkeys(values, 0.0)
    for _, operation, a, b in reversed(tape):
        found[a] += 1.0 if operation == "add" else values[b]
        found[b] += 1.0 if operation == "add" else values[a]
    return found


HINTS = (
    "Begin with a gradient of 1 for the last result and 0 for all others.",
    "An addition passes its gradient on unchanged. A product multiplies it by the other factor.",
    "Go through `reversed(tape)`, and use += for both inputs.",
)
OFF_LIMITS = ("minigan",)
