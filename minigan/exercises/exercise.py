"""A page of the ladder as an exercise: its name, its text, and the file that a learner gets."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

Answer = Callable[..., Any]
WRONG = "wrong_"  # how the names of a page's wrong answers begin


@dataclass(frozen=True)
class Exercise:
    """An exercise, read from its page. `minigan.exercises` says what a page holds."""

    page: ModuleType

    @property
    def name(self) -> str:
        """The name on the command line: "chain-rule" for the page `chain_rule`."""
        return self.file[: -len(".py")].replace("_", "-")

    @property
    def file(self) -> str:
        """The name of the learner's file."""
        return self.page.__name__.rpartition(".")[2] + ".py"

    @property
    def text(self) -> str:
        """The task."""
        return inspect.getdoc(self.page) or ""

    @property
    def title(self) -> str:
        """The first line of the text."""
        return self.text.partition("\n")[0].rstrip(".")

    @property
    def hints(self) -> tuple[str, ...]:
        """The page's hints, and at last where the solution is."""
        return (*self.page.HINTS, f"The solution is in {self.page.__file__}.")

    @property
    def solution(self) -> Answer:
        return getattr(self.page, self.function)

    @property
    def function(self) -> str:
        """The name of the function that a learner writes."""
        return self._node.name

    @property
    def wrong_answers(self) -> dict[str, Answer]:
        """The typical wrong answers, by their hints."""
        found = {name: f for name, f in vars(self.page).items() if name.startswith(WRONG)}
        return {" ".join((f.__doc__ or name).split()): f for name, f in found.items()}

    @property
    def pictures(self) -> list[Path]:
        """The pictures that a learner gets beside the file."""
        folder = Path(self.page.__file__ or "").parent / "pictures"
        return [folder / name for name in getattr(self.page, "PICTURES", ())]

    def stub(self) -> str:
        """The learner's file: the text, the imports, and the function without its body."""
        return self._written(f'    raise NotImplementedError("write {self.function}")')

    def solved(self) -> str:
        """The learner's file with the solution in it; the tests check that it passes."""
        first, last = self._node.body[1], self._node.body[-1]
        return self._written("\n".join(self._lines[first.lineno - 1 : last.end_lineno]))

    def _written(self, body: str) -> str:
        head = self._lines[self._node.lineno - 1 : self._node.body[0].end_lineno]
        imports = "\n".join(self._imports())
        end = f"Check your answer with:  minigan learn check {self.name}"
        parts = [f'"""{self.text}\n\n{end}\n"""\n', f"{imports}\n\n" if imports else ""]
        return "\n".join([*parts, "\n".join(head), body, ""])

    def _imports(self) -> Iterator[str]:
        """The page's imports of names that the function uses, with absolute module names."""
        used = {node.id for node in ast.walk(self._node) if isinstance(node, ast.Name)}
        package = self.page.__name__.split(".")[:-1]
        for node in self._tree.body:
            if not isinstance(node, (ast.Import, ast.ImportFrom)):
                continue
            names = [alias for alias in node.names if (alias.asname or alias.name) in used]
            if names and isinstance(node, ast.ImportFrom) and node.level:
                base = package[: len(package) - node.level + 1]
                module = ".".join([*base, *([node.module] if node.module else [])])
                yield ast.unparse(ast.ImportFrom(module, names, 0))
            elif names:
                node.names = names
                yield ast.unparse(node)

    @cached_property
    def _source(self) -> str:
        return inspect.getsource(self.page)

    @cached_property
    def _lines(self) -> list[str]:
        return self._source.splitlines()

    @property
    def _tree(self) -> ast.Module:
        return ast.parse(self._source)

    @cached_property
    def _node(self) -> ast.FunctionDef:
        """The page's first function, the answer."""
        return next(node for node in self._tree.body if isinstance(node, ast.FunctionDef))
