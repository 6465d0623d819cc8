"""`python -m minigan <command>`; the one command there is: doctor."""

from __future__ import annotations

import argparse

from . import console, doctor
from .backend import DeviceError
from .console import INTERRUPTED, STDERR, say
from .training.config import DEVICE, THREADS, ConfigError, Parser, use_threads


def main(argv: list[str] | None = None) -> int:
    parser = Parser(prog="python -m minigan")
    commands = parser.add_subparsers(required=True, metavar="command")
    about = "check the gradients and a training step on every device of this machine, and time it"
    command = commands.add_parser("doctor", help=about, description=about)
    command.add_argument("--device", help=f"{DEVICE} (default: all there are)")
    command.add_argument("--threads", type=int, help=THREADS)
    command.add_argument("--report-tf32", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    try:
        use_threads(options.threads)
        if options.report_tf32:
            return doctor.report_tf32(options.device)
        return doctor.run(options.device)
    except (ConfigError, DeviceError) as error:
        say(f"error: {error}", STDERR)
        return 1
    except KeyboardInterrupt:
        say("interrupted", STDERR)
        return INTERRUPTED


if __name__ == "__main__":
    console.run(main)
