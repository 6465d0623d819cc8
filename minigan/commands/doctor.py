"""`minigan doctor`: check this machine."""

from __future__ import annotations

import argparse
from typing import Any

from .. import doctor
from ..training.parallel import Group
from ..training.settings import DEVICE, LIMITED_THREADS, use_threads


def add(commands: Any) -> None:
    """Add the command."""
    about = "check the gradients and a training step on every device of this machine; time the step"
    parser = commands.add_parser("doctor", help=about, description=about)
    parser.add_argument("--device", help=f"{DEVICE} (default: every device)")
    parser.add_argument("--threads", type=int, help=LIMITED_THREADS)
    parser.add_argument("--report-tf32", action="store_true", help=argparse.SUPPRESS)
    parser.set_defaults(command=examine)


def examine(given: dict[str, Any], group: Group) -> int:
    """Check the machine and print a report. Returns the exit code."""
    use_threads(given["threads"])
    if given["report_tf32"]:
        return doctor.report_tf32(given["device"])
    return doctor.run(given["device"])
