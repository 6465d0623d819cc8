"""A decode-once cache: the pictures of a source as one uint8 array on disk, read by memory map.

Every epoch needs every picture, and decoding one costs a hundred times more than copying it, so
each is decoded once. A finished cache is two files:

    <key>.npy      the usable pictures, (N, S, S, 3), in the source's order, in NumPy's format
    <key>.json     the source's identity, the N names, what was skipped and why, `digest`, the
                   SHA-256 of the pixels, and `check`, that of all the rest of this file

The key hashes the source's identity, which is read without decoding: it finds a cache fast, and
changes when a source is replaced or changed. The digest tells what is in the cache: it is computed
while the pixels are written, compared whenever a cache is opened, and kept by every run.

A build writes `<key>.partial` and notes in `<key>.partial.json` how far that is safely on disk;
if it is cut short, the next one goes on from there. `<key>.lock` is empty and stays: the process
that builds holds a system lock on it while others wait, and a lock dies with its process.
"""

import hashlib
import json
import math
import mmap  # noqa: F401, what np.memmap imports at its first call, when no file may be left to open
import multiprocessing
import os
import signal
import stat
import struct
import sys
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from ..console import bar, plain
from ..errors import UserError
from ..files import hold, naming, reason, sync, trouble

FORMAT = 1  # part of the key: raise it when the layout of the files changes
CHUNK = 512  # pictures decoded and written at a time
HEADER = 128  # bytes before the pixels in the .npy file
BLOCK = 2**20  # bytes hashed at a time
MOST_PROCESSES = 61 if sys.platform == "win32" else 4096  # Windows waits for no more at once
DAMAGE = (
    FileNotFoundError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RecursionError,
)  # as by strange JSON

Chunk = tuple[int, np.ndarray | None, list[tuple[int, str]]]


class DataError(UserError):
    """The data cannot be used; the message is one sentence with the path, the fault, the remedy."""


class Changed(DataError):
    """The source was changed or replaced after its identity was read."""


class Unreadable(Exception):
    """One picture cannot be used; the message is the reason. The build skips it."""


def contents(path: str | Path, most: int) -> bytes:
    """The bytes of a file. Unreadable: it has more than `most`, or is not a regular file."""
    if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would be waited for
        raise Unreadable("not a regular file")
    with naming(path), open(path, "rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise Unreadable(f"more than {most:,} bytes")
    return data


class Source(Protocol):
    """Pictures that can be decoded one by one; picklable, because workers get copies."""

    def __len__(self) -> int: ...

    def identity(self) -> dict:
        """Everything that determines the bytes, as JSON-able values; quick, decodes nothing."""

    def check(self) -> None:
        """Raise Changed unless the files are still those that `identity` describes."""

    def name(self, i: int) -> str: ...

    def load(self, i: int) -> np.ndarray:
        """Picture i, uint8 RGB (S, S, 3). Raises Unreadable if it cannot be used."""


@dataclass(frozen=True)
class Images:
    """An opened cache."""

    pixels: np.ndarray  # (N, S, S, 3) uint8 RGB, a read-only memory map
    names: list[str]  # of the N pictures
    skipped: list[tuple[str, str]]  # (name, reason) of the others
    identity: dict  # the source's, and the cache's "key"
    digest: str  # SHA-256 of the pixels, in hexadecimal


def build(source: Source, folder: Path, workers: int = 1, progress: bool = True) -> Images:
    """Open the cache of `source` in `folder`, after decoding it there if that was not yet done.

    With `workers` > 1 that many processes decode. They import the caller's script again, so it
    must be a file and needs `if __name__ == "__main__":`. The bytes do not depend on their number.
    `progress` shows a bar, on a terminal only. Raises DataError.

    Opening reads all pixels to compare their digest, at about 1 GB/s; if it differs, they are decoded
    anew.
    """
    identity = json.loads(json.dumps(source.identity()))  # as it will be read back: no tuples
    text = json.dumps([FORMAT, identity], sort_keys=True)
    base = Path(folder) / hashlib.sha256(text.encode()).hexdigest()[:16]
    with _told(base):
        images = _open(base, identity, progress)
        if images is None:
            _make_folder(base.parent)
            with _lock(base.with_suffix(".lock")):
                # built by another process while this one waited?
                images = _open(base, identity, progress)
                if images is None:
                    _decode_all(source, identity, base, workers, progress)
                    images = _open(base, identity, progress)
    if images is None:
        raise DataError(f"{base}.npy was changed while it was built; run again to build it anew")
    return images


def _open(base: Path, identity: dict, progress: bool) -> Images | None:
    """The finished cache, or None if it is missing, damaged or foreign."""
    path = base.with_suffix(".npy")
    try:
        meta = _read_json(base.with_suffix(".json"))
        names, skipped = meta["names"], [(name, reason) for name, reason in meta["skipped"]]
        texts = isinstance(names, list) and [*names, *(text for pair in skipped for text in pair)]
        if not names or not texts or not all(isinstance(t, str) and t.isprintable() for t in texts):
            return None
        if not _is_shape(meta["shape"], identity) or meta["identity"] != identity:
            return None
        if not path.is_file():  # as with the JSON
            return None
        shape = (len(names), *meta["shape"])
        size, digest = math.prod(shape), meta["digest"]
        with naming(path), open(path, "rb") as file:
            fits = file.read(HEADER) == _npy_header(shape)
            if not fits or os.fstat(file.fileno()).st_size != HEADER + size:
                return None
            if _hash(file, size, progress).hexdigest() != digest:
                return None
            pixels = np.memmap(file, np.uint8, "r", HEADER, shape)
        return Images(pixels, names, skipped, {**identity, "key": base.name}, digest)
    except DAMAGE:
        return None


def _hash(file: IO[bytes], size: int, progress: bool) -> Any:
    """The SHA-256 object that has taken in the next `size` bytes of the file."""
    digest = hashlib.sha256()
    with bar(
        progress, total=size, unit="B", desc="checking the cache", unit_scale=True, delay=1
    ) as shown:
        while size and (block := file.read(min(size, BLOCK))):
            digest.update(block)
            size -= len(block)
            shown.update(len(block))
    return digest


def _is_shape(shape: object, identity: dict) -> bool:
    """Of a picture, (S, S, 3), with the S that the source names, if it names one."""
    if not isinstance(shape, list) or len(shape) != 3 or {type(n) for n in shape} != {int}:
        return False
    side = identity.get("image_size", shape[0])
    return side > 0 and shape == [side, side, 3]


def _npy_header(shape: tuple[int, ...]) -> bytes:
    """Magic, version 1.0, length and a dict in text, padded to HEADER bytes whatever the shape."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(HEADER - 11)
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", HEADER - 10) + text.encode() + b"\n"


def _decode_all(source: Source, identity: dict, base: Path, workers: int, progress: bool) -> None:
    partial, journal = base.with_suffix(".partial"), base.with_suffix(".partial.json")
    total = len(source)
    try:
        state, digest = _resume(partial, journal, identity, total, progress)
        with bar(
            progress, total=total, unit="img", desc="preparing the images", initial=state["done"]
        ) as shown:
            for stop, pixels, skipped in _chunks(source, state["done"], workers):
                kept = state["done"] - len(state["skipped"])
                shape = state["shape"] if pixels is None else pixels.shape[1:]
                size = math.prod(shape)
                shown.update(stop - state["done"])
                state = {"done": stop, "shape": shape, "skipped": state["skipped"] + skipped}
                with _told(base, f" ({HEADER + total * size:,} bytes)"):
                    if pixels is not None:
                        digest.update(pixels)
                        _write(partial, HEADER + kept * size, pixels)
                    # after the pixels, never ahead of them
                    _write_json(journal, {**state, "digest": digest.hexdigest()})
        source.check()
        _finish(source, identity, base, state, digest.hexdigest())
    except Changed:  # what was decoded may be a mixture of old and new
        partial.unlink(missing_ok=True)
        journal.unlink(missing_ok=True)
        raise


def _finish(source: Source, identity: dict, base: Path, state: dict, digest: str) -> None:
    partial, journal = base.with_suffix(".partial"), base.with_suffix(".partial.json")
    total, shape, reasons = len(source), state["shape"], dict(state["skipped"])
    names = [plain(source.name(i)) for i in range(total) if i not in reasons]
    skipped = [(plain(source.name(i)), plain(reason)[:200]) for i, reason in reasons.items()]
    if not names:
        partial.unlink()
        journal.unlink(missing_ok=True)
        first = ", ".join(f"{name[-80:]}: {reason}" for name, reason in skipped[:3])
        raise DataError(
            f"none of the {total:,} pictures in {identity.get('path', 'the source')} can be used "
            f"({first}); give a folder or zip with whole pictures"
        )
    meta = {"identity": identity, "shape": shape, "names": names, "skipped": skipped}
    _write(partial, 0, _npy_header((len(names), *shape)))
    _write_json(base.with_suffix(".json"), {**meta, "digest": digest})
    with naming(base.with_suffix(".npy")):
        os.replace(partial, base.with_suffix(".npy"))  # the last step that makes it a cache
    journal.unlink()


def _resume(
    partial: Path, journal: Path, identity: dict, total: int, progress: bool
) -> tuple[dict, Any]:
    """How far the partial file got, and the SHA-256 object of its pixels.

    That is what the journal says if the two fit together, else a new start.
    """
    _drop_link(partial)
    try:
        state = _read_json(journal)
        done, shape = state["done"], state["shape"]
        skipped = [(i, reason) for i, reason in state["skipped"]]
        indices = [i for i, _ in skipped]
        kept = done - len(skipped)
        good = {type(n) for n in (done, *indices)} == {int} and 0 <= done <= total
        good = good and indices == sorted({i for i in indices if 0 <= i < done})
        good = good and (_is_shape(shape, identity) if kept else shape == [])
        size = kept * math.prod(shape)
        if good and partial.stat().st_size >= HEADER + size:
            os.truncate(partial, HEADER + size)  # drops a chunk that was cut short
            with naming(partial), open(partial, "rb") as file:
                file.seek(HEADER)
                digest = _hash(file, size, progress)
            if digest.hexdigest() == state["digest"]:
                return {"done": done, "shape": shape, "skipped": skipped}, digest
    except DAMAGE:
        pass
    journal.unlink(missing_ok=True)
    with naming(partial):
        partial.write_bytes(bytes(HEADER))
    return {"done": 0, "shape": [], "skipped": []}, hashlib.sha256()


def _read_json(path: Path) -> dict:
    """What `_write_json` wrote. ValueError if it is damaged."""
    if not path.is_file():  # a device or a pipe may never end
        raise FileNotFoundError(path)
    with naming(path):
        value = json.loads(path.read_text())
    if value.pop("check") != _digest_of(value):
        raise ValueError("its contents do not fit its digest")
    return value


def _digest_of(value: dict) -> str:
    """SHA-256 of its JSON, which is the same for what is read back."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _drop_link(path: Path) -> None:
    """Remove it unless it is a file of this folder alone: writing would change another one."""
    status = os.lstat(path) if os.path.lexists(path) else None
    if status and (not stat.S_ISREG(status.st_mode) or status.st_nlink > 1):
        path.unlink()


def _write(path: Path, offset: int, data: bytes | np.ndarray) -> None:
    """Overwrite from `offset`; the data is on the disk, not just under way, at return."""
    with naming(path), open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)
        sync(file)


def _write_json(path: Path, value: dict) -> None:
    """Replace the file in one step. Unlike the pixels it may be lost in a power cut: it is checked
    when it is read, and pixels without their JSON are decoded anew."""
    new = path.with_name(path.name + ".new")
    _drop_link(new)
    with naming(path):
        new.write_text(json.dumps({**value, "check": _digest_of(value)}))
        os.replace(new, path)


@contextmanager
def _told(base: Path, size: str = "") -> Iterator[None]:
    """What happens inside becomes a DataError: to files, in particular to one of this `size`."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{trouble(error, base)}, or choose another folder for the cache{size}, "
            "and a build goes on where it stopped"
        ) from error
    except BrokenProcessPool as error:
        raise DataError(
            f"a worker process died while {base}.npy was built: it was killed, ran out of memory, "
            'or imported a script that lacks `if __name__ == "__main__":`; put that line before the '
            "script's work, or run again with workers=1"
        ) from error


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        for path in (folder, *folder.parents):
            if os.path.lexists(path) and not path.is_dir():
                raise DataError(
                    f"{path} is not a folder; move it away, or choose another folder"
                ) from error
        raise


def _lock(path: Path) -> IO[bytes]:
    """Wait until this process alone holds the lock; closing the file unlocks.

    A script without `if __name__ == "__main__":` is imported again by each of its workers, which
    come here and would wait for the lock of their parent, while it waits for them. Such a worker
    ends silently instead, and the parent says why.
    """
    importing = getattr(multiprocessing.current_process(), "_inheriting", False)
    try:
        lock = hold(path, wait=not importing)
    except OSError as error:
        raise DataError(
            f"{path} cannot be created or locked: {trouble(error)}, "
            "or choose another folder for the cache, or wait if another process builds it"
        ) from error
    if lock is None:
        raise SystemExit(1)
    return lock


def _decode(source: Source, start: int, stop: int) -> Chunk:
    """(stop, the usable pictures of start..stop-1 or None, [(index, reason)] of the others)."""
    kept, skipped = [], []
    for i in range(start, stop):
        try:
            kept.append(source.load(i))
        except Unreadable as error:
            skipped.append((i, str(error)))
    return stop, np.stack(kept) if kept else None, skipped


def _chunks(source: Source, start: int, workers: int) -> Iterator[Chunk]:
    """Decode from picture `start` on; the chunks come in order, however many workers there are."""
    total = len(source)
    bounds = [(i, min(i + CHUNK, total)) for i in range(start, total, CHUNK)]
    workers = min(workers, MOST_PROCESSES)
    if workers <= 1:
        yield from (_decode(source, *pair) for pair in bounds)
        return
    main = sys.modules["__main__"]
    script = getattr(main, "__file__", None)
    if script and not getattr(main, "__spec__", None) and not os.path.isfile(script):
        raise DataError(
            f"the script {script} is not a file, so workers cannot import it; "
            "save it to a file, or run with workers=1"
        )
    spawn = multiprocessing.get_context("spawn")  # the one way that works on every system
    with _starting(workers):
        executor = ProcessPoolExecutor(workers, spawn, _start_worker, (source,))
    with executor as pool:
        pending = deque()  # bounded, so that slow writing does not fill the memory
        for pair in bounds:
            with _starting(workers), _deaf_to_ctrl_c():  # a worker may start here
                pending.append(pool.submit(_decode_in_worker, *pair))
            if len(pending) > 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


@contextmanager
def _starting(workers: int) -> Iterator[None]:
    """An OSError inside is told of the workers: their locks and pipes are no files of the cache."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{workers} worker processes cannot be started: {reason(error)}, or run with --workers 1"
        ) from error


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Processes started meanwhile never hear Ctrl-C; this one hears it afterwards. (Not on Windows.)"""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker(source: Source) -> None:
    global _worker_source
    _worker_source = source
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends the pool
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()  # a killed parent cannot end the pool
    os._exit(1)


def _decode_in_worker(start: int, stop: int) -> Chunk:
    return _decode(_worker_source, start, stop)
