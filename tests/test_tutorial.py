"""PyTorch's DCGAN tutorial runs, and the documentation lists each of its lines that had to change."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "tests/dcgan_tutorial.py"


def test_the_documentation_lists_each_line_that_had_to_change():
    script = SCRIPT.read_text(encoding="utf-8")
    changed = re.findall(r"^ *# PyTorch: (.+)\n *(.+)$", script, re.M)
    left_out = re.findall(r"^ *# PyTorch also: (.+)$", script, re.M)
    assert (len(changed), len(left_out)) == (6, 6)
    page = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    section = page.partition("## Coming from PyTorch")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(.+?)` \| (?:`(.+)` )?\|$", section, re.M)
    assert rows == changed + [(line, "") for line in left_out]
