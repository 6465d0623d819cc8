"""Files: written wholly or not at all, locked between processes, and what goes wrong in words.

A folder may come from a stranger, with links or pipes where the program expects its own files.
`is_own` recognises them, and no function here writes through a link.
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
    errno.EFBIG: "raise the limit of file sizes (ulimit -f)",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "close other programs",
    errno.EROFS: WRITABLE,
    errno.EACCES: WRITABLE,
    errno.EPERM: WRITABLE,
    errno.EEXIST: "move it away",
    errno.EISDIR: "move it away",
    errno.ENOTDIR: "move away the file that stands for a folder",
    errno.ENOMEM: "end what else runs, or raise the limit of memory (ulimit -v)",
    errno.EPIPE: "let run what reads the output",
    errno.ELOOP: "put what it links to in its place",
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
JUNCTION = 0xA0000003  # a link to a folder on Windows, which lstat shows as a folder
# Of os.open: where a link or a pipe takes a file's place at the last moment, fail and do not wait.
CAUTIOUS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def trouble(error: OSError, where: Path | str = "a file or pipe") -> str:
    """Path, reason and remedy. `where` stands for the path if the error, say of a read, has none."""
    return f"{error.filename or where}: {reason(error)}"


def reason(error: OSError) -> str:
    """Reason and remedy."""
    remedy = REMEDIES.get(error.errno, "see that the folder is there and its disk is sound")
    path = error.filename
    if error.errno == errno.EACCES and path and not os.access(path, os.R_OK):
        remedy = READABLE if os.path.exists(path) else remedy
    return f"{error.strerror or error}; {remedy}"


def no_memory(error: MemoryError) -> str:
    """What did not fit, where the error says it: Python's own are mostly empty."""
    return f"no memory left: {error}" if str(error) else "no memory left"


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """An OSError inside names this path: that of a write or a flush names none."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


def is_own(path: Path, kind: str = FILE) -> bool:
    """Whether there is a file, or a folder if `kind` is FOLDER. OSError if there is anything else.

    A link is something else, whatever it points to: who writes through one writes in another folder.
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
    """Make this folder unless it is there. OSError if a link or anything else is there."""
    if not is_own(folder, FOLDER):
        with suppress(FileExistsError):  # another process may have made it since
            folder.mkdir()
        is_own(folder, FOLDER)


def cautiously(path: str, flags: int) -> int:
    """The `opener` for files that are not replaced as a whole; see CAUTIOUS."""
    return os.open(path, flags | CAUTIOUS, 0o666)


def write_atomically(path: Path, content: bytes | Iterable[Buffer]) -> None:
    """Write a whole file or nothing: under another name, flushed to the disk, then renamed.

    A link at either name is replaced, not followed. What is too large to be held at once comes in
    pieces, each a buffer such as an array.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with naming(path):
            with _create(partial) as file:
                file.writelines([content] if isinstance(content, bytes) else content)
                sync(file)
            os.replace(partial, path)
    finally:
        with suppress(OSError):  # no more than tidying: the first error is the one to tell
            partial.unlink()
    sync_names(path.parent)


def _create(path: Path) -> IO[bytes]:
    """A new file, in place of a link or of what a killed process with the same number has left."""
    try:
        return open(path, "xb", buffering=2**20)
    except FileExistsError:
        path.unlink()
        return open(path, "xb", buffering=2**20)


def sync(file: IO[bytes]) -> None:
    """Have what was written on the disk, not just under way."""
    file.flush()
    os.fsync(file.fileno())


def sync_names(folder: Path) -> None:
    """Have the names in a folder on the disk: after a power cut a rename may be undone otherwise."""
    if sys.platform == "win32":
        return
    with suppress(OSError):  # not every file system can, and the files themselves are whole
        names = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(names)
        finally:
            os.close(names)


def hold(path: Path, wait: bool = True) -> IO[bytes] | None:
    """The file, open, and locked until it is closed; None if another holds it and `wait` is off.

    The system keeps the lock, so it ends with the process that holds it. The file is made if need be,
    and stays: to remove a lock is to race with whoever waits for it. (On Windows waiting ends after
    ten seconds.) Raises OSError where it cannot be made or locked.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(path) and not stat.S_ISREG(os.lstat(path).st_mode):
        path.unlink()  # a link would make a file elsewhere; a hard link is still the same lock
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
    except PermissionError:  # what Windows raises for a lock that another holds
        file.close()
        if wait:
            raise
        return None
    except BaseException:
        file.close()
        raise
    return file
