"""The fields of a table of options define a command line, a JSON table and the checks of both."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass, fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigan.commands import main
from minigan.data.opening import DataOptions
from minigan.errors import UserError
from minigan.gans import MEMBERS
from minigan.options import Table, check_names, flag, help_of, option
from minigan.training.settings import RunOptions


@dataclass(frozen=True)
class Kinds(Table):
    """One field of each kind, with each kind of limit."""

    whole: int = option(3, "a number", least=1, most=10, flags=["-w", "--wholeNumber"])
    maybe: int | None = option(None, "a number, or none", least=0)
    real: float = option(0.5, "a real number", above=0, below=1)
    free: float = option(0.0, "any real number")
    text: str = option("x", "any text")
    word: str = option("a", "one of three", choices=("a", "b", "c"))
    sure: bool = option(True, "say yes", off="--unsure", off_help="say no")
    bold: bool = option(False, "be bold")


def parsed(*words: str) -> dict:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    Kinds.add_flags(parser)
    return vars(parser.parse_args(list(words)))


# -- flags --------------------------------------------------------------------------------------------


def test_what_is_not_given_is_not_in_the_result():
    assert parsed() == {}
    assert parsed("--real", "1e-3", "--bold") == {"real": 1e-3, "bold": True}


@pytest.mark.parametrize(
    ("words", "result"),
    [
        ("--whole 4", {"whole": 4}),
        ("-w 4", {"whole": 4}),
        ("--wholeNumber 4", {"whole": 4}),
        ("--maybe 0", {"maybe": 0}),
        ("--real 0.25 --free -2", {"real": 0.25, "free": -2.0}),
        ("--text= --word b", {"text": "", "word": "b"}),
        ("--sure", {"sure": True}),
        ("--unsure", {"sure": False}),
        ("--unsure --sure", {"sure": True}),
        ("--bold --no-bold", {"bold": False}),
    ],
)
def test_every_field_has_its_flags(words, result):
    found = parsed(*words.split())
    assert found == result
    assert [type(value) for value in found.values()] == [type(value) for value in result.values()]


def test_the_help_of_a_field_has_its_limits_and_its_default():
    texts = {field.name: help_of(field) for field in fields(Kinds)}
    assert texts["whole"] == "a number (at least 1 and at most 10; default: 3)"
    assert texts["maybe"] == "a number, or none (at least 0)"
    assert texts["real"] == "a real number (above 0 and below 1; default: 0.5)"
    assert texts["text"] == "any text (default: x)"


def test_annotations_may_be_types_as_in_a_script_that_does_not_defer_them():
    made = dataclass(frozen=True)(
        type(
            "Own",
            (Table,),
            {
                "__annotations__": {"n": int, "m": int | None, "on": bool},
                "n": option(2, "a number"),
                "m": option(None, "perhaps a number"),
                "on": option(False, "a switch"),
            },
        )
    )
    parser = argparse.ArgumentParser()
    made.add_flags(parser)
    assert vars(parser.parse_args(["--n", "3", "--m", "4", "--on"])) == {"n": 3, "m": 4, "on": True}
    assert made.read({"m": None}, "file").m is None
    with pytest.raises(UserError, match="--n x: expected int"):
        made(n="x")


# -- limits -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"whole": 0}, "--whole 0: must be at least 1 and at most 10"),
        ({"whole": 11}, "--whole 11: must be at least 1 and at most 10"),
        ({"whole": int("1" * 400)}, f"--whole {'1' * 60}...: must be at least 1 and at most 10"),
        ({"maybe": -1}, "--maybe -1: must be at least 0"),
        ({"real": 0.0}, "--real 0.0: must be above 0 and below 1"),
        ({"real": 1.0}, "--real 1.0: must be above 0 and below 1"),
        ({"real": float("nan")}, "--real nan: must be above 0 and below 1"),
        ({"free": float("nan")}, "--free nan: must be a finite number"),
        ({"free": float("-inf")}, "--free -inf: must be a finite number"),
        ({"free": 10**400}, f"--free 1{'0' * 59}...: must be a finite number"),
        ({"word": "d"}, "--word d: choose one of a, b, c"),
        ({"whole": "3"}, "--whole 3: expected int"),
        ({"whole": 3.0}, "--whole 3.0: expected int"),
        ({"whole": True}, "--whole True: expected int"),
        ({"whole": None}, "--whole None: expected int"),
        ({"maybe": "x"}, "--maybe x: expected int | None"),
        ({"sure": 1}, "--sure 1: expected bool"),
        ({"text": 1}, "--text 1: expected str"),
    ],
    ids=str,
)
def test_a_table_with_a_bad_value_cannot_be_made(given, message):
    with pytest.raises(UserError) as caught:
        Kinds(**given)
    assert str(caught.value) == message


def test_the_limits_themselves_are_allowed_or_not_as_they_say():
    assert Kinds(whole=1).whole == 1
    assert Kinds(whole=10, maybe=0, real=1e-300, free=1).free == 1  # a whole number is a float too
    assert Kinds(free=sys.float_info.max)


# -- JSON ---------------------------------------------------------------------------------------------


def test_what_was_written_as_json_is_read_back():
    for table in (Kinds(), Kinds(whole=7, maybe=2, real=1e-9, text="\u2028", sure=False)):
        assert Kinds.read(json.loads(json.dumps(asdict(table))), "file") == table


def test_an_option_that_is_missing_is_newer_than_the_file():
    saved = asdict(Kinds(whole=7))
    del saved["word"], saved["sure"]
    assert Kinds.read(saved, "file") == Kinds(whole=7)


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        (None, "FILE is not a table of options; restore it, or start a new run"),
        ([], "FILE is not a table of options; restore it, or start a new run"),
        (
            {"zeta": 1, "ema": 0.9},
            "FILE has unknown options ['ema', 'zeta']; restore it, or start a new run",
        ),
        (
            {"whole": "3"},
            "FILE has whole = '3', expected int; restore it, or start a new run",
        ),
        (
            {"whole": 99},
            "FILE: --whole 99: must be at least 1 and at most 10; restore it, or start a new run",
        ),
    ],
    ids=str,
)
def test_what_is_not_such_a_table_is_one_sentence_that_names_the_file(saved, message):
    with pytest.raises(UserError) as caught:
        Kinds.read(saved, "FILE")
    assert str(caught.value) == message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@given(st.sampled_from(Kinds.names()), JSON)
def test_any_value_is_taken_as_it_is_or_told_by_its_name(name, value):
    found, said = None, ""
    try:
        found = Kinds.read({name: value}, "file")
    except UserError as error:
        said = str(error)
    if found is None:
        assert name in said
        assert "\n" not in said
    else:
        assert getattr(found, name) == value
        assert type(getattr(found, name)) is type(value)


# -- several tables -----------------------------------------------------------------------------------


def test_a_table_picks_its_own_of_what_was_given():
    assert Kinds.pick({"whole": 4, "other": 1}) == Kinds(whole=4)


def test_an_option_of_no_table_is_named():
    check_names({"whole": 1, "keep": 2}, (Kinds, RunOptions), "it")
    with pytest.raises(UserError, match="it has no option zeta; see --help"):
        check_names({"whole": 1, "zeta": 2}, (Kinds, RunOptions), "it")


def test_changes_are_listed_as_they_would_be_typed():
    given = {"whole": 3, "real": 0.25, "sure": False, "other": 9}
    assert Kinds().changes(given) == ["--real 0.5 -> 0.25", "--sure True -> False"]
    assert Kinds().changes({}) == []


# -- the program's own tables -------------------------------------------------------------------------

TABLES = (*(member.Options for member in MEMBERS.values()), DataOptions, RunOptions)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__module__)
def test_the_largest_values_that_are_allowed_can_be_kept_and_no_larger_ones(table):
    """Each whole number has a largest value; anything larger is a typo or an attack."""
    limits = {}
    for field in fields(table):
        if field.type.startswith("int") and not field.metadata["choices"]:
            assert field.metadata["limits"]["most"] is not None, field.name
            limits[field.name] = int(field.metadata["limits"]["most"])
    needs = {}
    if "noise_steps" in limits:
        needs["instance_noise"] = 0.1
    if {"penalty", "d_labels"} & set(table.names()):
        limits.pop("pack", None)  # a D with a penalty or with classes judges samples one at a time
    made = table(**limits, **needs)
    assert table.read(json.loads(json.dumps(asdict(made))), "file") == made
    for name, most in limits.items():
        with pytest.raises(UserError, match=f"and at most {most}$"):
            table(**{name: most + 1}, **needs)


def test_no_two_tables_of_a_command_line_share_an_option():
    for member in MEMBERS.values():
        names = [n for table in (member.Options, DataOptions, RunOptions) for n in table.names()]
        assert len(names) == len(set(names))


def shown(capsys, *words) -> str:
    with pytest.raises(SystemExit) as stop:
        main([*words, "--help"])
    assert stop.value.code == 0
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("name", MEMBERS)
def test_the_help_of_a_member_shows_its_options_and_no_others(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")  # one line each, because argparse breaks words at hyphens
    text = shown(capsys, "train", name)
    own = [*fields(MEMBERS[name].Options), *fields(DataOptions), *fields(RunOptions)]
    for field in own:
        assert f"{flag(field.name)} " in text
        said = field.metadata["help"] if field.type == "bool" else help_of(field)
        assert said in text
        for limit in field.metadata["limits"].values():
            assert limit is None or str(limit) in said
        if field.type != "bool" and field.default is not None:
            assert f"default: {field.default})" in said
    for other in MEMBERS.values():
        for field in fields(other.Options):
            if field.name not in {f.name for f in own}:
                assert f"{flag(field.name)} " not in text


def test_the_help_of_resume_shows_what_may_change_and_nothing_else(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    text = shown(capsys, "resume")
    for table in TABLES:
        for name in table.names():
            assert (f"{flag(name)} " in text) == (table is RunOptions)


def test_the_help_of_train_names_every_member(capsys):
    text = shown(capsys, "train")
    assert all(f"{name} " in text for name in MEMBERS)
