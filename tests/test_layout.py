"""The layout of the code: imports run one way, and no file holds more than one idea.

Imports are read from the source, including those inside functions and those for types.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "minigan"

# From the lowest floor up. A module imports only from its own floor and those above it in this list.
FLOORS = [
    ("version", "errors", "console", "files"),
    ("backend",),
    (  # the engine
        *("arguments", "arrays", "conv", "create", "cuda", "dropout", "functional", "gradcheck"),
        *(
            "image_norm",
            "init",
            "labels",
            "methods",
            "nn",
            "normalize",
            "operands",
            "ops",
            "optim",
            "pieces",
        ),
        *("probabilities", "recording", "reductions", "resizing", "shapes", "tensor"),
        *("tensorfile", "values", "walk"),
    ),
    ("keys", "options"),
    ("models",),
    ("gans",),
    ("doctor",),
    ("data",),
    ("evaluation", "exercises"),
    ("training",),
    ("api", "commands"),
    ("__main__",),
]

# Imports inside functions, made only when used. `minigan.train` needs Pillow, so the package's face
# loads it on first use; nothing below it imports the face.
LATE = {"minigan": {"minigan.api"}}

LONG = 400  # lines, beyond which a file has to be listed here with its one idea
ONE_IDEA = {
    "minigan/backend/filtering.py": "minimal filtering, forwards and backwards",
    "minigan/data/faces.py": "how a face is drawn",
}


def name_of(path: Path) -> str:
    """The dotted name of a module."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(name: str) -> list[tuple[str, bool]]:
    """The package's modules that this one imports, and whether each import is inside a function."""
    path, found = MODULES[name], []
    tree = ast.parse(path.read_text())
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for node in ast.walk(function)
    }
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            # "from . import x" imports the module x, or a name of the package itself
            targets = [
                f"{module}.{alias.name}" if f"{module}.{alias.name}" in MODULES else module
                for alias in node.names
            ]
        else:
            continue
        found += [(t, id(node) in inside) for t in dict.fromkeys(targets) if t in MODULES]
    return found


GRAPH = {name: [target for target, _ in imports(name) if target != name] for name in MODULES}


def floor_of(name: str) -> int:
    part = name.split(".")[1]
    floors = [i for i, parts in enumerate(FLOORS) if part in parts]
    assert floors, f"{name} is on no floor: add {part} to FLOORS"
    return floors[0]


def test_there_is_no_circle():
    done, way = set(), []

    def visit(name):
        assert name not in way, " -> ".join([*way[way.index(name) :], name])
        if name not in done:
            way.append(name)
            for target in GRAPH[name]:
                visit(target)
            way.pop()
            done.add(name)

    for name in GRAPH:
        visit(name)
    assert done == set(MODULES)


@pytest.mark.parametrize("name", [name for name in MODULES if name != "minigan"])
def test_imports_run_down_the_floors(name):
    above = [t for t in GRAPH[name] if t == "minigan" or floor_of(t) > floor_of(name)]
    assert not above, f"{name} imports {above}"


@pytest.mark.parametrize("name", MODULES)
def test_imports_inside_of_functions_are_listed(name):
    late = {target for target, inside in imports(name) if inside}
    assert late == LATE.get(name, set())


def test_the_members_know_neither_data_nor_training():
    for name in MODULES:
        if name.startswith(("minigan.gans", "minigan.models", "minigan.doctor")):
            reached, todo = set(), [name]
            while todo:
                reached.add(one := todo.pop())
                todo += [target for target in GRAPH[one] if target not in reached]
            assert not [r for r in reached if r.startswith(("minigan.data", "minigan.training"))]


def test_the_metrics_know_only_arrays():
    reached, todo = set(), ["minigan.evaluation.metrics"]
    while todo:
        reached.add(one := todo.pop())
        todo += [target for target in GRAPH[one] if target not in reached]
    assert "minigan.evaluation.frechet" in reached
    assert {r for r in reached if not r.startswith("minigan.evaluation.")} == {"minigan.errors"}


def test_the_doctor_loads_neither_data_nor_training():
    code = (
        "import sys, minigan.doctor; print(*[m for m in sys.modules if m.startswith('minigan.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    loaded = done.stdout.split()
    assert "minigan.doctor" in loaded
    assert not [m for m in loaded if m.startswith(("minigan.data", "minigan.training"))]


@pytest.mark.parametrize("path", MODULES.values(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_long_file_has_one_idea(path):
    name, lines = str(path.relative_to(ROOT)), len(path.read_text().splitlines())
    assert lines <= LONG or name in ONE_IDEA, (
        f"{name} has {lines} lines: divide it, or list its idea"
    )
