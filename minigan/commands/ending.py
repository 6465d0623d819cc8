"""How every command begins and ends: who takes part, and what becomes of an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..backend import DeviceError
from ..console import INTERRUPTED, plain
from ..errors import UserError
from ..files import no_memory, trouble
from ..training import parallel

FAILED = 1
Command = Callable[[dict[str, Any], parallel.Group], int]


def run(command: Command, given: dict[str, Any]) -> int:
    """Call a command with what the user gave; its exit code. What the user can mend is one sentence."""
    group = parallel.ALONE  # of this process, until it is known to have others
    try:
        group = parallel.join()
        return command(given, group)
    except (UserError, DeviceError) as error:
        return group.fail(f"error: {plain(error)}", FAILED)
    except OSError as error:  # before there is a run, which has its own words
        text = f"error: {plain(trouble(error))}, then start again, or with another --out"
        return group.fail(text, FAILED)
    except MemoryError as error:  # CuPy's, of a GPU, is one too
        text = (
            f"error: {no_memory(error)}; lower --batch-size, --ngf or --ndf, or end what else runs"
        )
        return group.fail(text, FAILED)
    except KeyboardInterrupt:
        return group.fail("interrupted", INTERRUPTED)
