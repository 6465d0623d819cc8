"""Imports run one way: each page can be read after those it imports, and no circle is needed."""

import ast
import graphlib
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "minigan"


def name_of(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path, pages):
    """The pages that a page imports when it is loaded. Its own package is only the way to them."""
    name = name_of(path)
    parts = name.split(".") if path.stem == "__init__" else name.split(".")[:-1]
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.level:
            base = parts[: len(parts) - node.level + 1] + (node.module or "").split(".")
            base = ".".join(filter(None, base))
            for found in (base, *(f"{base}.{alias.name}" for alias in node.names)):
                if found in pages and not f"{name}.".startswith(f"{found}."):
                    yield found


def test_no_page_imports_one_that_imports_it():
    paths = {name_of(path): path for path in PACKAGE.rglob("*.py")}
    graph = {name: set(imported(path, paths)) for name, path in paths.items()}
    assert graph["minigan.ops"] > {"minigan.tensor", "minigan.backend"}
    order = list(graphlib.TopologicalSorter(graph).static_order())  # CycleError names the circle
    assert order.index("minigan.walk") < order.index("minigan.tensor") < order.index("minigan.nn")
