"""Options: the fields of a frozen dataclass define command-line flags, a JSON table and the checks.

    @dataclass(frozen=True)
    class Options(Table):
        d_steps: int = option(5, "updates of D per step", least=1, most=1000)

The tables of a member and of the data determine the weights; the table of a run does not. Nothing here
knows an option by name.
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
REMEDY = "restore it, or start a new run"  # for a file whose table is wrong


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
    images: bool = False,
) -> Any:
    """A field of a Table.

    help          a phrase for --help, which adds the limits and the default
    least, most   inclusive limits of a number
    above, below  exclusive limits of a number
    choices       all legal values, if they can be listed
    flags         other spellings of the flag
    off           the flag that sets a bool to False; by default --no-NAME
    off_help      what that flag does; by default "the opposite of --NAME"
    images        whether the option is only for images; it is refused for other data
    """
    limits = {"least": least, "most": most, "above": above, "below": below}
    metadata = {"help": help, "limits": limits, "choices": tuple(choices), "flags": tuple(flags)}
    metadata |= {"off": off, "off_help": off_help, "images": images}
    return dataclasses.field(default=default, metadata=metadata)


def with_default(default: Any, table: type[Table], name: str) -> Any:
    """A field with the help and the limits of another table's option, but its own default."""
    (field,) = (f for f in dataclasses.fields(table) if f.name == name)
    return dataclasses.field(default=default, metadata=field.metadata)


@dataclasses.dataclass(frozen=True)
class Table:
    """The base of all tables of options. `option` makes each field. A new table checks its values."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check(field, getattr(self, field.name))

    @classmethod
    def names(cls) -> list[str]:
        """The names of the options."""
        return [field.name for field in dataclasses.fields(cls)]

    @classmethod
    def add_flags(cls, parser: argparse._ActionsContainer) -> None:
        """Add a flag for each field. The parser's result holds only the flags that the user gives."""
        for field in dataclasses.fields(cls):
            _add_flag(parser, field)

    @classmethod
    def pick(cls: type[T], given: Mapping[str, Any]) -> T:
        """A table made from the given options that belong to it; others are ignored."""
        return cls(**{name: given[name] for name in cls.names() if name in given})

    @classmethod
    def read(cls: type[T], saved: Any, where: str) -> T:
        """The table from which `dataclasses.asdict` made `saved`. Raises UserError if `saved` is wrong.

        An option that is missing in `saved` is newer than the file, and takes its default.

        where  what `saved` was read from, for the message
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
            table = cls(**saved)
        except UserError as error:
            raise UserError(f"{where}: {error}; {REMEDY}") from None
        for name, value in saved.items():
            if getattr(table, name) != value:  # None stands for a default that depends on the data
                raise UserError(
                    f"{where} has {name} = {value}, but a run saves its value; {REMEDY}"
                )
        return table

    def changes(self, given: Mapping[str, Any]) -> list[str]:
        """The given options that differ from this table's, as "--lr 0.0002 -> 0.1"."""
        own = [name for name in self.names() if name in given]
        return [
            f"{flag(name)} {short(getattr(self, name))} -> {short(given[name])}"
            for name in own
            if given[name] != getattr(self, name)
        ]


def check_names(given: Iterable[str], tables: Iterable[type[Table]], what: str) -> None:
    """Raise UserError if a given option is in none of the tables."""
    known = [name for table in tables for name in table.names()]
    if unknown := sorted(set(given) - set(known)):
        raise UserError(f"{what} has no option {short(', '.join(unknown))}; see --help")


def check_images(given: Iterable[str], tables: Iterable[type[Table]], data: str) -> None:
    """Raise UserError if an option that is only for images was given for other data."""
    for table in tables:
        for field in dataclasses.fields(table):
            if field.name in given and field.metadata["images"]:
                raise UserError(f"{flag(field.name)}: a {data} has no images; leave it out")


def flag(name: str) -> str:
    """The flag of a field: "--d-steps" for "d_steps"."""
    return "--" + name.replace("_", "-")


def short(value: Any) -> str:
    """The value as text for a sentence; a long one is cut."""
    text = str(value)
    return text if len(text) <= 80 else f"{text[:60]}..."


def _check(field: dataclasses.Field, value: Any) -> None:
    """Raise UserError unless the value has the field's type and is within its limits."""
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
    # This refuses infinity, NaN, and integers that are too large for a float.
    if not abs(value) <= sys.float_info.max:
        raise UserError(f"{said}: must be a finite number")


def _limits(field: dataclasses.Field) -> str:
    """The limits as text, such as "at least 0 and below 1"."""
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
    """What --help says about an option: its meaning, limits and default."""
    notes = [_limits(field)] if _limits(field) else []
    notes += [] if field.default is None else [f"default: {field.default}"]
    return field.metadata["help"] + (f" ({'; '.join(notes)})" if notes else "")


def _annotation(field: dataclasses.Field) -> str:
    """The type as text, such as "int | None", even if the module's annotations are not strings."""
    kind = field.type
    return kind.__name__ if isinstance(kind, type) else str(kind)


def _fits(value: Any, field: dataclasses.Field) -> bool:
    """Whether a value has the annotated type; a bool is not an int here."""
    return any(
        isinstance(value, KINDS[kind]) and (kind == "bool" or not isinstance(value, bool))
        for kind in _annotation(field).split(" | ")
    )


class Parser(argparse.ArgumentParser):
    """An argparse parser that takes no abbreviations and prints through `console`'s streams."""

    def __init__(self, **options: Any):
        super().__init__(allow_abbrev=False, **options)

    def parse_args(self, *arguments: Any, **options: Any) -> argparse.Namespace:
        """Parse, but refuse `--name=--`, whose value is a list in some versions of Python."""
        found = super().parse_args(*arguments, **options)
        for name, value in vars(found).items():
            if isinstance(value, list):
                self.error(f"argument {flag(name)}: '--' is not a value")
        return found

    def error(self, message: str) -> NoReturn:
        super().error(plain(message))  # the message quotes the command line

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        STDERR.write(message or "")
        sys.exit(status)

    def print_help(self, file: Any = None) -> None:
        STDOUT.write(self.format_help())

    def print_usage(self, file: Any = None) -> None:
        STDERR.write(self.format_usage())
