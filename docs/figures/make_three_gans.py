"""Trains a DCGAN, a WGAN-GP and a conditional GAN on drawn digits, and measures all three.

    python docs/figures/make_three_gans.py --out runs-gallery    # some 15 minutes of CPU time

The runs are those of make_gallery.py, by their recipes; those that are already there are used. The
table replaces the one in docs/14-evaluation.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from make_figures import HERE
from make_gallery import trained

import minigan

PAGE = HERE.parent / "14-evaluation.md"
START, END = "<!-- table: make_three_gans.py -->\n", "<!-- end of table -->\n"
MEMBERS = ("dcgan", "wgan-gp", "conditional")
N = 2500  # fakes, and reals in each of two sets


def table(out: Path) -> str:
    """The table in Markdown: a row for each number, a column for each GAN and for other reals."""
    runs = {member: minigan.load(trained(member, "digits", out)) for member in MEMBERS}
    found = {member: run.evaluate(n=N, errors=True) for member, run in runs.items()}
    lines = [f"| N = {N:,} | {' | '.join(found)} | other reals |", "|---" * (2 + len(found)) + "|"]
    for name in dict.fromkeys(name for metrics in found.values() for name in metrics):
        entries = {member: metrics.get(name) for member, metrics in found.items()}
        some = next(entry for entry in entries.values() if entry)
        for key in some["values"]:
            cells = [
                entry and shown(entry["values"], entry["errors"], key) for entry in entries.values()
            ]
            reals = shown(some["reals"], {}, key) if key in some["reals"] else ""
            lines.append(f"| {name} {key} | {' | '.join(cell or '' for cell in cells)} | {reals} |")
    protocol = found["dcgan"]["frechet_digits"]["protocol"]
    lines += ["", f"Protocol: {', '.join(f'{key} {value}' for key, value in protocol.items())}."]
    return "\n".join(lines) + "\n"


def shown(values: dict[str, float], errors: dict[str, float], key: str) -> str:
    """A number to three digits, with its standard error if it was measured."""
    return f"{values[key]:.3g}" + (f" ± {errors[key]:.1g}" if key in errors else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs-gallery"), help="where the runs are")
    found = table(parser.parse_args().out)
    before, rest = PAGE.read_text(encoding="utf-8").split(START)
    PAGE.write_text(before + START + found + END + rest.split(END)[1], encoding="utf-8")
    print(found)


if __name__ == "__main__":
    main()
