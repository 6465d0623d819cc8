"""Keep freed memory for the next array.

The C library returns a large array's memory to the system as soon as it is freed. The next array of the
same size gets fresh pages, with a page fault for every 4 KB, which costs more than filling them.
Training frees and allocates the same sizes at every step, so this file tells the library to keep freed
memory. (glibc only; elsewhere nothing happens. `man mallopt` describes the two settings.)
"""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Tell malloc to reuse freed memory. Returns whether it accepted both settings."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # No array gets a mapping of its own, and up to 2 GB of free memory stays at the top of the heap.
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
