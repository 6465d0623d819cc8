"""Files: atomic writes, locks between processes, and what to do about an OSError.

A folder may come from a stranger, with links or pipes where the program expects its own files.
`is_own` detects these, and no function here writes through a link.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

Buffer = Any  # bytes or a contiguous array

ROOM, WRITABLE, READABLE = "make room there", "make it writable", "make it readable"
REMEDIES = {
    errno.ENOSPC: ROOM,
    errno.EDQUOT: ROOM,
    errno.EFBIG: "raise the limit on file sizes (ulimit -f)",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENFILE: "close other programs",
    errno.EROFS: WRITABLE,
    errno.EACCES: WRITABLE,
    errno.EPERM: WRITABLE,
    errno.EEXIST: "move it away",
    errno.EISDIR: "move it away",
    errno.ENOTDIR: "move away the file that is where a folder must be",
    errno.ENOMEM: "stop other programs, or raise the limit on memory (ulimit -v)",
    errno.EPIPE: "keep the reading program running",
    errno.ELOOP: "replace the link with what it points to",
    errno.EMLINK: "replace it with a copy",
}

FILE, FOLDER = "a file", "a folder"
KINDS = {
    stat.S_IFREG: FILE,
    stat.S_IFDIR: FOLDER,
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
JUNCTION = 0xA0000003  # a link to a folder on Windows, which lstat reports as a folder
# Flags of os.open: fail if a link replaces a file at the last moment, and never wait for a pipe.
CAUTIOUS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def trouble(error: OSError, where: Path | str = "a file or pipe") -> str:
    """Path, reason and remedy. `where` replaces a missing path, as in an error of `read`."""
    return f"{error.filename or where}: {reason(error)}"


def reason(error: OSError) -> str:
    """The reason of an OSError, and a remedy."""
    remedy = REMEDIES.get(error.errno, "check that the folder exists and that its disk works")
    path = error.filename
    if error.errno == errno.EACCES and path and not os.access(path, os.R_OK):
        remedy = READABLE if os.path.exists(path) else remedy
    return f"{error.strerror or error}; {remedy}"


def no_memory(error: MemoryError) -> str:
    """A message for a MemoryError, with its text if it has any; Python's own mostly have none."""
    return f"no memory left: {error}" if str(error) else "no memory left"


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add this path to an OSError raised inside, because those of write and flush name none."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


def is_own(path: Path, kind: str = FILE) -> bool:
    """Whether this file (or folder, by `kind`) exists. Raises OSError if something else is there.

    A link always counts as something else, because writing through it would change another folder.
    """
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return False
    found = KINDS.get(stat.S_IFMT(status.st_mode), "something unknown")
    if getattr(status, "st_reparse_tag", 0) == JUNCTION:
        found = KINDS[stat.S_IFLNK]
    if found != kind:
        number = errno.ELOOP if found == KINDS[stat.S_IFLNK] else errno.EEXIST
        raise OSError(number, f"it is {found}, not {kind}", str(path))
    return True


def make_own(folder: Path) -> None:
    """Make this folder unless it exists. Raises OSError if something else is in its place."""
    if not is_own(folder, FOLDER):
        with suppress(FileExistsError):  # another process may have just made it
            folder.mkdir()
        is_own(folder, FOLDER)


def cautiously(path: str, flags: int) -> int:
    """The `opener` of `open` for files that are changed in place; see CAUTIOUS."""
    return os.open(path, flags | CAUTIOUS, 0o666)


def write_atomically(path: Path, content: bytes | Iterable[Buffer]) -> None:
    """Write a whole file or nothing. It is written under another name, flushed to disk, then renamed.

    A link under either name is replaced, not followed. Content that is too large for memory can be
    given in pieces, each a buffer such as an array. Raises OSError if it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with naming(path):
            with _create(partial) as file:
                file.writelines([content] if isinstance(content, bytes) else content)
                sync(file)
            os.replace(partial, path)
    finally:
        with suppress(OSError):  # this only cleans up, and an earlier error must be reported
            partial.unlink()
    sync_names(path.parent)


def _create(path: Path) -> IO[bytes]:
    """Open a new file. It replaces a link, or a file that a killed process with the same id left."""
    try:
        return open(path, "xb", buffering=2**20)
    except FileExistsError:
        path.unlink()
        return open(path, "xb", buffering=2**20)


def sync(file: IO[bytes]) -> None:
    """Flush the file to disk, so that a power cut cannot lose it."""
    file.flush()
    os.fsync(file.fileno())


def sync_names(folder: Path) -> None:
    """Flush a folder's names to disk, so that a power cut cannot undo a rename."""
    if sys.platform == "win32":
        return
    with suppress(OSError):  # some file systems cannot, but the files themselves are complete
        names = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(names)
        finally:
            os.close(names)


def hold(path: Path, wait: bool = True) -> IO[bytes] | None:
    """Open and lock a file until it is closed; None if another process holds it and `wait` is False.

    The system holds the lock, so it ends with the process. The file is created if necessary, and never
    removed, because that would race with a process that waits for it. (On Windows, waiting ends after
    ten seconds.) Raises OSError if the file cannot be created or locked.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(path) and not stat.S_ISREG(os.lstat(path).st_mode):
        path.unlink()  # a link would create a file elsewhere; a hard link is harmless
    file = open(path, "ab", opener=cautiously)  # noqa: SIM115, the caller closes it
    try:
        with naming(path):
            if sys.platform == "win32":
                msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    except PermissionError:  # Windows raises this if another process holds the lock
        file.close()
        if wait:
            raise
        return None
    except BaseException:
        file.close()
        raise
    return file
