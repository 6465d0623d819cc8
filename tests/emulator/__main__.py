"""python -m emulator [--guard] [--reverse] [--no-poison] script.py | -m module, and its arguments."""

import runpy
import sys
from pathlib import Path

import emulator

USAGE = f"usage: {__doc__}"


def main() -> None:
    arguments, options = sys.argv[1:], {}
    known = {"--guard": ("guard", True), "--reverse": ("reverse", True)}
    known["--no-poison"] = ("poison", False)
    while arguments and arguments[0] in known:
        name, value = known[arguments.pop(0)]
        options[name] = value
    is_module = arguments[:1] == ["-m"]
    sys.argv = arguments[is_module:]
    if not sys.argv or sys.argv[0].startswith("-"):
        sys.exit(USAGE)
    emulator.install(**options)
    if is_module:
        sys.path.insert(0, "")  # as python -m does
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, str(Path(sys.argv[0]).resolve().parent))
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
