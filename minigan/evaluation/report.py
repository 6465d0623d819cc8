"""evaluation.json: what an evaluation found, with its protocol; and whether two may be compared.

    {"format": "minigan evaluation 1", "step": 2000, "metrics": {
        "swd": {"values": {"28": 21.0, "mean": 21.0},      of the fakes
                "reals": {"28": 2.5, "mean": 2.5},         of as many other reals
                "errors": {},                              standard errors of the values, if measured
                "protocol": {"n": 500, "seed": 0, ...}}}}

A number depends on how many samples there were, on the features, on the data and on more. All this is
the protocol, and only numbers of equal protocols are compared.
"""

from __future__ import annotations

from typing import Any

from ..errors import UserError
from ..options import short

FILE = "evaluation.json"
FORMAT = "minigan evaluation 1"
MOST = 1e300  # larger numbers are damage
REMEDY = "move it away, and evaluate again"

Entry = dict[str, Any]  # "values", "reals", "errors" and "protocol" of a metric


def table(step: int, metrics: dict[str, Entry]) -> dict[str, Any]:
    """The content of evaluation.json, as JSON values."""
    return {"format": FORMAT, "step": step, "metrics": metrics}


def read(found: Any, where: object) -> tuple[int, dict[str, Entry]]:
    """The step and the metrics of an evaluation.json, which may come from a stranger.

    found  its JSON value
    where  the file, for the message

    Raises UserError unless it has exactly the form above.
    """
    keys = {"format", "step", "metrics"}
    if not isinstance(found, dict) or set(found) != keys or found["format"] != FORMAT:
        raise UserError(f"{where} is not {FORMAT!r}; {REMEDY}")
    step, metrics = found["step"], found["metrics"]
    if type(step) is not int or not 0 <= step < 10**8:
        raise UserError(f"{where}: step {short(repr(step))} is not one; {REMEDY}")
    if not isinstance(metrics, dict) or not all(map(_is_entry, metrics.values())):
        raise UserError(f"{where}: metrics is not a table of numbers with protocols; {REMEDY}")
    return step, metrics


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and set(entry) == {"values", "reals", "errors", "protocol"}
        and all(isinstance(table, dict) for table in entry.values())
        and all(
            _is_number(number)
            for name in ("values", "reals", "errors")
            for number in entry[name].values()
        )
    )


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= MOST  # false for nan too


def differences(before: Entry, now: Entry) -> list[str]:
    """How two protocols differ, such as "n was 500 and is 1000"; empty if they are equal."""
    a, b = before["protocol"], now["protocol"]
    absent = "not given"
    return [
        f"{short(key)} was {short(a.get(key, absent))} and is {short(b.get(key, absent))}"
        for key in dict.fromkeys([*b, *a])
        if a.get(key, absent) != b.get(key, absent)
    ]
