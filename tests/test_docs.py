"""The documentation: its examples run, and its quotations and links are correct.

A block ```python is run. The blocks of one page run in order, in one namespace; if a block has `>>>`
prompts, its output is compared too. A comment `<!-- source: minigan/ops.py -->` before a block (of any
language) makes it a quotation instead. That file must contain it, apart from white space and from lines
left out where it says `...`.
"""

from __future__ import annotations

import argparse
import dataclasses
import doctest
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from minigan.commands.train import add_flags
from minigan.data.kinds import KINDS
from minigan.errors import UserError
from minigan.gans import MEMBERS
from minigan.tensor import OPERATIONS
from minigan.training.plan import choose

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(
    r"(?:^ *<!-- source: (?P<source>\S+) -->\n+)?"
    r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$",
    re.M | re.S,
)
LINK = re.compile(r"(?<!`)\[[^\]]*\]\(([^)\s]+)\)")

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


class Block(NamedTuple):
    source: str | None
    language: str
    text: str
    line: int  # of the page at which the text begins


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("text")) + 1
        yield Block(match["source"], match["language"], textwrap.dedent(match["text"]), line)


def prose(page: Path) -> str:
    return BLOCK.sub("", page.read_text(encoding="utf-8"))


@pytest.fixture
def untouched_registries() -> Iterator[None]:
    """The pages define their own operations and members; remove them afterwards."""
    before = dict(OPERATIONS), dict(MEMBERS)
    yield
    for registry, entries in zip((OPERATIONS, MEMBERS), before, strict=True):
        registry.clear()
        registry.update(entries)


@every_page
def test_the_examples_run(page, untouched_registries, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": page.stem}
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    for block in blocks(page):
        if block.language != "python" or block.source:
            continue
        if ">>>" in block.text:
            example = doctest.DocTestParser().get_doctest(
                block.text, {}, page.name, str(page), block.line - 1
            )
            example.globs = namespace
            runner.run(example, out=report.append, clear_globs=False)
            assert not report, "".join(report)
        else:
            code = compile("\n" * (block.line - 1) + block.text, page, "exec", dont_inherit=True)
            exec(code, namespace)


@every_page
def test_quotations_are_true(page):
    for block in blocks(page):
        if not block.source:
            continue
        original = " ".join((ROOT / block.source).read_text(encoding="utf-8").split())
        position = 0
        for piece in re.split(r"^\s*(?:# )?\.\.\.$", block.text, flags=re.M):
            found = original.find(" ".join(piece.split()), position)
            assert found >= 0, (
                f"{page.name}, line {block.line}: missing or misplaced in {block.source}:\n{piece}"
            )
            position = found + 1


@every_page
def test_links_and_figures_exist(page):
    for target in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name} links to {target}"
        assert file.is_relative_to(ROOT), f"{page.name} links out of the repository: {target}"
        assert not anchor or anchor in anchors(file), f"{page.name}: {target} has no such heading"


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def test_every_figure_is_shown_and_every_drawing_is_there():
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    figures = {path.name for path in (ROOT / "docs/figures").glob("*.png")}
    for name in figures:
        assert f"figures/{name})" in text, f"{name} is on no page"
    scripts = (ROOT / "docs/figures").glob("make_*.py")
    code = "".join(path.read_text(encoding="utf-8") for path in scripts)
    drawn = {f"{name}.png" for name in re.findall(r"^def (\w+)\(.*\) -> Figure:", code, re.M)}
    assert drawn <= figures, f"to be drawn in docs/figures: {sorted(drawn - figures)}"


def test_options_of_the_training_chapter_exist():
    known = set()
    for member in MEMBERS:
        parser = argparse.ArgumentParser()
        add_flags(parser, member)
        known |= {flag for action in parser._actions for flag in action.option_strings}
    for script in (*(ROOT / "examples").glob("*.py"), *(ROOT / "minigan/commands").glob("*.py")):
        known |= set(re.findall(r'"(--[\w-]+)"', script.read_text(encoding="utf-8")))
    text = (ROOT / "docs/05-training.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w-])--[a-zA-Z][\w-]*", text))
    assert named <= known, f"no such options: {sorted(named - known)}"


@every_page
def test_tests_that_a_page_names_are_there(page):
    files = (ROOT / "tests").rglob("test_*.py")
    defined = set(
        re.findall(r"^def (test_\w+)", "".join(f.read_text("utf-8") for f in files), re.M)
    )
    named = set(re.findall(r"`(test_\w+)`", prose(page)))
    assert named <= defined, (
        f"{page.name} names tests that are not there: {sorted(named - defined)}"
    )


@every_page
def test_runs_that_a_page_names_can_be_started(page):
    """`minigan train MEMBER ...`: the options are legal, and such networks can be made."""
    for words in re.findall(r"\bminigan train ([^`\n#]+)", page.read_text(encoding="utf-8")):
        member, *flags = words.split()
        if "--help" in flags:
            continue
        parser = argparse.ArgumentParser(argument_default=argparse.SUPPRESS)
        add_flags(parser, member)
        given = vars(parser.parse_args(flags))
        plan = choose(member, given)
        classes = ("a", "b") if MEMBERS[member].conditional else ()
        assert dataclasses.replace(plan, classes=classes).game.outline()


def test_the_table_of_pairs_is_true():
    text = (ROOT / "docs/pairs.md").read_text(encoding="utf-8")
    head, _, *rows = re.search(r"^\| member \|.*?\n\n", text, re.M | re.S)[0].splitlines()[:-1]
    cells = lambda row: [cell.strip() for cell in row.split("|")[1:-1]]
    data = [name.strip("`") for name in cells(head)[1:]]
    assert data == list(KINDS)
    found = {cells(row)[0].strip("`"): cells(row)[1:] for row in rows}
    assert list(found) == list(MEMBERS)
    for member, said in found.items():
        for kind, cell in zip(data, said, strict=True):
            assert can_start(member, data=kind) == (cell == "yes"), (member, kind)
            if cell == "with `--condition`":
                assert can_start(member, data=kind, condition="Male")


def test_the_gallery_has_every_member_with_its_picture_and_its_row():
    text = (ROOT / "docs/gallery.md").read_text(encoding="utf-8")
    for member in MEMBERS:
        assert f"## `{member}`" in text
        assert f"(figures/gallery-{member}.png)" in text  # that it exists is tested with all links
        data = r"[\w-]+" if MEMBERS[member].only_images else "ring"
        assert re.search(rf"^\| `{member}` \| `{data}` \|", text, re.M)


def can_start(member: str, **given: str) -> bool:
    try:
        choose(member, given)
    except UserError:
        return False
    return True


def test_the_reading_plan_is_not_far_off():
    """Its rows `| minutes | [file](path) | lines | ...` are within a fifth, and add up to an hour."""
    page = ROOT / "docs/README.md"
    rows = re.findall(
        r"^\| (\d+) \| \[[^\]]+\]\(([^)]+)\) \| (\d+) \|", page.read_text("utf-8"), re.M
    )
    for _, path, lines in rows:
        length = len((page.parent / path).read_text(encoding="utf-8").splitlines())
        assert abs(length - int(lines)) <= 0.2 * length, f"{path} has {length} lines now"
    assert sum(int(minutes) for minutes, _, _ in rows) == 60


def test_the_readme_counts_the_members_and_their_files():
    numbers = {9: "nine", 10: "ten", 11: "eleven", 12: "twelve", 13: "thirteen", 14: "fourteen"}
    files = {member.__module__ for member in MEMBERS.values()}
    counted = (
        f"[{numbers[len(MEMBERS)]} members](#the-family) fill {numbers[len(files)]} short files"
    )
    assert counted in (ROOT / "README.md").read_text(encoding="utf-8")
