"""Locks between processes. The system keeps them, so they end with the process that holds them."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import IO

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


def hold(path: Path, wait: bool = True) -> IO[bytes] | None:
    """The file, open, and locked until it is closed; None if another holds it and `wait` is off.

    The file is made if need be, and stays: to remove a lock is to race with whoever waits for it.
    (On Windows waiting ends after ten seconds.) Raises OSError where it cannot be made or locked.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(path) and not stat.S_ISREG(os.lstat(path).st_mode):
        path.unlink()  # a link would make a file elsewhere; a hard link is still the same lock
    file = open(path, "ab")  # noqa: SIM115, the caller closes it
    try:
        if sys.platform == "win32":
            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    except PermissionError:  # what Windows raises for a lock that another holds
        file.close()
        if wait:
            raise
        return None
    except BaseException:
        file.close()
        raise
    return file
