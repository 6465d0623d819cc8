"""`python -m minigan <command>`; the one command there is: doctor."""

from __future__ import annotations

import argparse
import sys

from . import doctor
from .backend import DeviceError
from .training.config import THREADS, ConfigError, use_threads
from .training.terminal import INTERRUPTED


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m minigan", allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="command")
    about = "check the gradients and a training step on every device of this machine, and time it"
    command = commands.add_parser("doctor", help=about, description=about, allow_abbrev=False)
    command.add_argument("--device", help="auto, cpu, cuda or cuda:N (default: all there are)")
    command.add_argument("--threads", type=int, help=THREADS)
    command.add_argument("--report-tf32", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    try:
        use_threads(options.threads)
        if options.report_tf32:
            return doctor.report_tf32(options.device)
        return doctor.run(options.device)
    except (ConfigError, DeviceError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
