"""Options: a frozen dataclass is a command line, a table in JSON and a check, all from its fields.

    @dataclass(frozen=True)
    class Options(Table):
        d_steps: int = option(5, "updates of D a step", least=1, most=1000)

Where an option stands says what it does: a member's options and the data's determine the weights, a
run's do not. So nothing here knows which options there are.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from .console import STDERR, STDOUT, plain
from .errors import UserError

T = TypeVar("T", bound="Table")
KINDS = {"int": int, "float": (int, float), "str": str, "bool": bool, "None": type(None)}
MOST_SEED = 2**64 - 1
REMEDY = "restore it, or start a new run"  # where a file holds no such table


def option(
    default: Any,
    help: str,
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: Sequence[Any] = (),
    flags: Sequence[str] = (),
    off: str | None = None,
    off_help: str | None = None,
) -> Any:
    """A field of a Table.

    help          one sentence for --help, which adds the limits and the default
    least, most   limits of a number that are themselves allowed; above and below are not
    choices       the values there are, if they can be listed
    flags         further spellings of the flag
    off           the flag that says no to a bool; by default --no-NAME
    off_help      what that flag does; by default "the opposite of --NAME"
    """
    limits = {"least": least, "most": most, "above": above, "below": below}
    metadata = {"help": help, "limits": limits, "choices": tuple(choices), "flags": tuple(flags)}
    metadata |= {"off": off, "off_help": off_help}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Table:
    """The base of a table of options. Every field is made by `option`; making a table checks it."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check(field, getattr(self, field.name))

    @classmethod
    def names(cls) -> list[str]:
        """The names of the options."""
        return [field.name for field in dataclasses.fields(cls)]

    @classmethod
    def add_flags(cls, parser: argparse._ActionsContainer) -> None:
        """Give the parser a flag for each field; what the user leaves out stays out of the result."""
        for field in dataclasses.fields(cls):
            _add_flag(parser, field)

    @classmethod
    def pick(cls: type[T], given: Mapping[str, Any]) -> T:
        """The table with those of the given options that are its own."""
        return cls(**{name: given[name] for name in cls.names() if name in given})

    @classmethod
    def read(cls: type[T], saved: Any, where: str) -> T:
        """The table that `dataclasses.asdict` made. An option missing there is newer than the file.

        where  what it was read from, for the message
        Raises UserError.
        """
        fields = {f.name: f for f in dataclasses.fields(cls)}
        if not isinstance(saved, dict):
            raise UserError(f"{where} is not a table of options; {REMEDY}")
        if unknown := sorted(set(saved) - set(fields)):
            raise UserError(f"{where} has unknown options {short(unknown)}; {REMEDY}")
        for name, value in saved.items():
            if not _fits(value, fields[name]):
                kind = _annotation(fields[name])
                raise UserError(
                    f"{where} has {name} = {short(repr(value))}, expected {kind}; {REMEDY}"
                )
        try:
            return cls(**saved)
        except UserError as error:
            raise UserError(f"{where}: {error}; {REMEDY}") from None

    def changes(self, given: Mapping[str, Any]) -> list[str]:
        """Those of the given options that differ from these, as "--lr 0.0002 -> 0.1"."""
        own = [name for name in self.names() if name in given]
        return [
            f"{flag(name)} {short(getattr(self, name))} -> {short(given[name])}"
            for name in own
            if given[name] != getattr(self, name)
        ]


def check_names(given: Iterable[str], tables: Iterable[type[Table]], what: str) -> None:
    """Raise UserError if one of the given options is in none of the tables."""
    known = [name for table in tables for name in table.names()]
    if unknown := sorted(set(given) - set(known)):
        raise UserError(f"{what} has no option {short(', '.join(unknown))}; see --help")


def flag(name: str) -> str:
    """The flag of a field."""
    return "--" + name.replace("_", "-")


def short(value: Any) -> str:
    """As text for a sentence, however long it is."""
    text = str(value)
    return text if len(text) <= 80 else f"{text[:60]}..."


def _check(field: dataclasses.Field, value: Any) -> None:
    """Raise UserError unless the value is of the field's kind and within its limits."""
    said, choices = f"{flag(field.name)} {short(value)}", field.metadata["choices"]
    if not _fits(value, field):
        raise UserError(f"{said}: expected {_annotation(field)}")
    if value is None:
        return
    if choices and value not in choices:
        raise UserError(f"{said}: choose one of {', '.join(map(str, choices))}")
    if isinstance(value, (bool, str)):
        return
    limits = field.metadata["limits"]
    legal = (
        (limits["least"] is None or value >= limits["least"])
        and (limits["most"] is None or value <= limits["most"])
        and (limits["above"] is None or value > limits["above"])
        and (limits["below"] is None or value < limits["below"])
    )
    if not legal:
        raise UserError(f"{said}: must be {_limits(field)}")
    # Neither infinite, NaN nor a whole number beyond floats.
    if not abs(value) <= sys.float_info.max:
        raise UserError(f"{said}: must be a finite number")


def _limits(field: dataclasses.Field) -> str:
    """As in "at least 0 and below 1"."""
    words = {"least": "at least", "above": "above", "most": "at most", "below": "below"}
    limits = field.metadata["limits"]
    return " and ".join(f"{w} {limits[k]}" for k, w in words.items() if limits[k] is not None)


def _add_flag(parser: argparse._ActionsContainer, field: dataclasses.Field) -> None:
    m = field.metadata
    shared = {"dest": field.name, "default": argparse.SUPPRESS}
    flags = [flag(field.name), *m["flags"]]
    if _annotation(field) == "bool":
        off = m["off"] or "--no-" + flags[0][2:]
        off_help = m["off_help"] or f"the opposite of {flags[0]}"
        yes, no = (
            ("default", "not the default") if field.default else ("not the default", "default")
        )
        parser.add_argument(*flags, action="store_true", help=f"{m['help']} ({yes})", **shared)
        parser.add_argument(off, action="store_false", help=f"{off_help} ({no})", **shared)
    else:
        kind = {"int": int, "float": float, "str": str}[_annotation(field).split(" | ")[0]]
        choices = list(m["choices"]) or None
        parser.add_argument(*flags, type=kind, choices=choices, help=help_of(field), **shared)


def help_of(field: dataclasses.Field) -> str:
    """What --help says of an option: its meaning, limits and default."""
    notes = [_limits(field)] if _limits(field) else []
    notes += [] if field.default is None else [f"default: {field.default}"]
    return field.metadata["help"] + (f" ({'; '.join(notes)})" if notes else "")


def _annotation(field: dataclasses.Field) -> str:
    """As in "int | None", whether or not annotations are strings in the table's module."""
    kind = field.type
    return kind.__name__ if isinstance(kind, type) else str(kind)


def _fits(value: Any, field: dataclasses.Field) -> bool:
    """Whether a value is of the kind that the annotation names; a bool is not an int here."""
    return any(
        isinstance(value, KINDS[kind]) and (kind == "bool" or not isinstance(value, bool))
        for kind in _annotation(field).split(" | ")
    )


class Parser(argparse.ArgumentParser):
    """A command line that takes no abbreviations, and prints its messages as all others are printed."""

    def __init__(self, **options: Any):
        super().__init__(allow_abbrev=False, **options)

    def parse_args(self, *arguments: Any, **options: Any) -> argparse.Namespace:
        """Some Pythons make a list of the value in `--name=--`; it is refused."""
        found = super().parse_args(*arguments, **options)
        for name, value in vars(found).items():
            if isinstance(value, list):
                self.error(f"argument {flag(name)}: '--' is not a value")
        return found

    def error(self, message: str) -> NoReturn:
        super().error(plain(message))  # it quotes words of the command line

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        STDERR.write(message or "")
        sys.exit(status)

    def print_help(self, file: Any = None) -> None:
        STDOUT.write(self.format_help())

    def print_usage(self, file: Any = None) -> None:
        STDERR.write(self.format_usage())
