"""Keep freed memory for the next array.

The C library gives a large array's memory back to the system as soon as it is freed, and the next
array of the same size gets fresh pages: a page fault for every 4 KB, which costs more than filling
it. A training frees and asks for the same sizes at every step, so here the library is told to keep
them. (glibc only; elsewhere nothing happens. `man mallopt` describes the two settings.)
"""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Tell malloc to reuse freed memory; whether it understood."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # No array in a mapping of its own, and none of the heap handed back below 2 GB - 1.
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
