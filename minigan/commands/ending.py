"""How every command begins and ends: it joins its group of processes, and errors become messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..console import INTERRUPTED, plain
from ..errors import UserError
from ..files import no_memory, trouble
from ..training import parallel

FAILED = 1
Command = Callable[[dict[str, Any], parallel.Group], int]


def run(command: Command, given: dict[str, Any]) -> int:
    """Call a command with the given options. Returns its exit code.

    Errors that the user can correct are printed as one sentence, without a traceback.
    """
    group = parallel.ALONE  # in case joining fails
    try:
        group = parallel.join()
        return command(given, group)
    except UserError as error:
        return group.fail(f"error: {plain(error)}", FAILED)
    except OSError as error:  # outside a run; inside one, `Run.in_use` turns it into a RunError
        text = f"error: {plain(trouble(error))}, then start again, or use another --out"
        return group.fail(text, FAILED)
    except MemoryError as error:  # CuPy's error for a full GPU is a subclass
        text = f"error: {no_memory(error)}; lower --batch-size, --ngf or --ndf, or close other programs"
        return group.fail(text, FAILED)
    except KeyboardInterrupt:
        return group.fail("interrupted", INTERRUPTED)
