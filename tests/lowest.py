"""Prints the package's requirements, each at the lowest release that pyproject.toml allows.

pip install $(python tests/lowest.py)
"""

import tomllib  # noqa: I001, from Python 3.11 on; it is CI that runs this
from pathlib import Path

PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]

for requirement in PROJECT["dependencies"]:
    name, _, rest = requirement.partition(">=")
    version, _, marker = rest.partition(";")
    print(f"{name}=={version.strip()}" + f";{marker}".replace(" ", "") * bool(marker))
