"""File system faults: the n-th operation on files below a folder fails, and so do all later ones.

Python reaches files through a few functions of `os` and through `open`; these are replaced. A file
opened below the folder is a FileIO that counts its operations. Python's own buffers lie on top of it,
so they behave as on a full disk. For example, they write the rest when the file is closed. (C code that
opens files itself is not covered; in this project none writes.)
"""

import builtins
import errno
import fcntl
import io
import os
import pathlib
from dataclasses import dataclass
from pathlib import Path

import pytest

# Operations on a path, and operations on an open file.
NAMES = {"look", "list", "open", "create", "mkdir", "rename", "unlink", "cut"}
HANDLES = {"read", "write", "fsync", "lock", "close"}


@dataclass(frozen=True)
class Kind:
    """Which operations fail, and how."""

    errno: int
    operations: set[str]
    half: bool = False  # the first failing write still writes half of its data


ROOM = {"write", "fsync", "mkdir", "rename"}
KINDS = {
    "full": Kind(errno.ENOSPC, ROOM),
    "full after a half": Kind(errno.ENOSPC, ROOM, half=True),
    "read-only": Kind(errno.EROFS, {"create", "write", "mkdir", "rename", "unlink", "cut"}),
    "forbidden": Kind(errno.EACCES, {"create", "mkdir", "rename", "unlink"}),
    "broken": Kind(errno.EIO, NAMES | HANDLES),
    "stale": Kind(errno.ESTALE, NAMES | HANDLES),
    "gone": Kind(errno.ENOENT, NAMES),
    "no handles": Kind(errno.EMFILE, {"open", "create", "list"}),
}
NOTHING = Kind(0, NAMES | HANDLES)  # for counting

PATCHED = {
    "stat": "look", "lstat": "look", "scandir": "list", "listdir": "list", "mkdir": "mkdir",
    "rename": "rename", "replace": "rename", "unlink": "unlink", "remove": "unlink",
    "rmdir": "unlink", "truncate": "cut",
}  # fmt: skip


class Faults:
    """A context in which the operation with index `first` fails, and all later ones unless `once`.

    Only operations of the kind on files below `folder` count. `log` lists them and `failed` lists those
    that failed, each as (operation, path).
    """

    def __init__(self, folder, kind: Kind = NOTHING, first: int | None = None, once: bool = False):
        self.folder = os.path.abspath(folder) + os.sep
        self.kind, self.first, self.once = kind, first, once
        self.log: list[tuple[str, str]] = []
        self.failed: list[tuple[str, str]] = []
        self.handles: dict[int, str] = {}  # the path of each descriptor
        self._open, self._os_open, self._fsync = open, os.open, os.fsync
        self._close, self._flock = os.close, fcntl.flock

    def __enter__(self) -> "Faults":
        self._patch = patch = pytest.MonkeyPatch()
        for module in (builtins, io):
            patch.setattr(module, "open", self.open)
        for name in ("open", "fsync", "close"):
            patch.setattr(os, name, getattr(self, f"os_{name}"))
        patch.setattr(fcntl, "flock", self.flock)
        for name, operation in PATCHED.items():
            patch.setattr(os, name, self.checked(operation, getattr(os, name)))
        if accessor := getattr(pathlib, "_normal_accessor", None):  # Python 3.10 keeps its own
            for name in ("open", *PATCHED):
                if hasattr(accessor, name):
                    patch.setattr(accessor, name, getattr(io if name == "open" else os, name))
        return self

    def __exit__(self, *exception: object) -> None:
        self._patch.undo()

    def path(self, file) -> str | None:
        """The path as it was given if it is below the folder, else None."""
        if not isinstance(file, (str, Path)):
            return None
        return str(file) if (os.path.abspath(file) + os.sep).startswith(self.folder) else None

    def fails(self, operation: str, path: str) -> bool:
        if operation not in self.kind.operations:
            return False
        index = len(self.log)
        self.log.append((operation, path))
        if self.first is None or index < self.first or (self.once and index > self.first):
            return False
        self.failed.append((operation, path))
        return True

    def check(self, operation: str, path: str | None) -> None:
        if path is not None and self.fails(operation, path):
            named = [path] if operation in NAMES else []  # as the system does
            raise OSError(self.kind.errno, os.strerror(self.kind.errno), *named)

    def checked(self, operation, real):
        def call(file, *arguments, **options):
            self.check(operation, self.path(file))
            return real(file, *arguments, **options)

        return call

    def open(
        self, file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, **options
    ):
        path = self.path(file)
        if path is None:
            return self._open(file, mode, buffering, encoding, errors, newline, **options)
        self.check("open" if mode.strip("bt") == "r" else "create", path)
        raw = Raw(path, mode.replace("b", "").replace("t", ""))
        raw.faults, raw.path = self, path
        self.handles[raw.fileno()] = path
        reads, both = "r" in mode, "+" in mode
        buffered = io.BufferedRandom if both else io.BufferedReader if reads else io.BufferedWriter
        file = buffered(raw, io.DEFAULT_BUFFER_SIZE if buffering == -1 else buffering)
        return file if "b" in mode else io.TextIOWrapper(file, encoding, errors, newline)

    def os_open(self, file, flags, *arguments, **options):
        path = self.path(file)
        changes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        self.check("create" if changes else "open", path)
        handle = self._os_open(file, flags, *arguments, **options)
        if path is not None:
            self.handles[handle] = path
        return handle

    def os_close(self, handle):
        self.handles.pop(handle, None)
        self._close(handle)

    def os_fsync(self, handle):
        """Skip the real fsync, which only matters in a power cut, to save time."""
        if handle in self.handles:
            self.check("fsync", self.handles[handle])
        else:
            self._fsync(handle)

    def flock(self, file, how):
        handle = file if isinstance(file, int) else file.fileno()
        self.check("lock", self.handles.get(handle))
        self._flock(file, how)


class Raw(io.FileIO):
    """The operations of an open file."""

    faults: Faults
    path: str
    written = False

    def readinto(self, buffer):
        self.faults.check("read", self.path)
        return super().readinto(buffer)

    def readall(self):
        self.faults.check("read", self.path)
        return super().readall()

    def write(self, data):
        if self.faults.kind.half and not self.faults.failed and len(data) > 1:
            if self.faults.fails("write", self.path):
                return super().write(memoryview(data).cast("B")[: len(data) // 2])
        else:
            self.faults.check("write", self.path)
        self.written = True
        return super().write(data)

    def truncate(self, size=None):
        self.faults.check("cut", self.path)
        return super().truncate(size)

    def close(self):
        if not self.closed:
            self.faults.handles.pop(self.fileno(), None)
            super().close()
            if self.written:  # some systems write only now
                self.faults.check("close", self.path)
