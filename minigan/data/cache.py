"""A decode-once cache: the images of a source as one uint8 array on disk, read by memory map.

Every epoch needs every image, and decoding an image takes a hundred times as long as copying it, so
each image is decoded only once. A finished cache is two files:

    <key>.npy      the usable images, (N, S, S, 3), in the source's order, in NumPy's format
    <key>.json     the source's identity; the N names; what was skipped and why; `digest`, the SHA-256
                   of the pixels; and `check`, the SHA-256 of the rest of this file

The key is a hash of the source's identity, which is read without decoding. It finds a cache quickly,
and it changes when the source is replaced or changed. The digest identifies the contents: it is
computed while the pixels are written, compared whenever a cache is opened, and stored in every run.

A build writes `<key>.partial` and records in `<key>.partial.json` how much of it is safely on disk.
If the build is interrupted, the next one resumes from there. `<key>.lock` is empty and never deleted.
The building process holds a system lock on it while others wait, and the system releases the lock when
the process ends.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap  # noqa: F401, np.memmap would import it on first use, when no more files may be opened
import os
import stat
import struct
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..console import bar, plain
from ..errors import UserError
from ..files import hold, naming, sync, trouble
from .source import Changed, Source
from .workers import chunks, is_importing_main

FORMAT = 1  # part of the key: raise it when the layout of the files changes
HEADER = 128  # bytes before the pixels in the .npy file
BLOCK = 2**20  # bytes hashed at a time
DAMAGE = (  # errors that reading a damaged or foreign file can raise
    FileNotFoundError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RecursionError,
)


@dataclass(frozen=True)
class Images:
    """An opened cache."""

    pixels: np.ndarray  # (N, S, S, 3) uint8 RGB, a read-only memory map
    names: list[str]  # of the N images
    skipped: list[tuple[str, str]]  # (name, reason) of the other images
    identity: dict  # the source's, plus the cache's "key"
    digest: str  # SHA-256 of the pixels, in hexadecimal


def build(source: Source, folder: Path, workers: int = 1, progress: bool = True) -> Images:
    """Open the cache of `source` in `folder`; build it first if it is missing or damaged.

    With `workers` > 1, that many processes decode. They import the caller's script again, so it must
    be a file with `if __name__ == "__main__":`. The bytes do not depend on the number of workers.
    `progress` shows a bar, but only on a terminal. Opening reads all pixels to compare their digest,
    at about 1 GB/s.

    Raises UserError if the folder cannot be used, no image can be used, a worker dies, or the source
    changes during the build.
    """
    identity = json.loads(json.dumps(source.identity()))  # tuples become lists, as in the file
    text = json.dumps([FORMAT, identity], sort_keys=True)
    base = Path(folder) / hashlib.sha256(text.encode()).hexdigest()[:16]
    with _as_user_errors(base):
        images = _open(base, identity, progress)
        if images is None:
            _make_folder(base.parent)
            with _lock(base.with_suffix(".lock")):
                # another process may have built it while this one waited
                images = _open(base, identity, progress)
                if images is None:
                    _decode_all(source, identity, base, workers, progress)
                    images = _open(base, identity, progress)
        else:  # left by a build that was killed just before its end
            base.with_suffix(".partial.json").unlink(missing_ok=True)
    if images is None:
        raise UserError(f"{base}.npy was changed while it was being built; run again to rebuild it")
    return images


def _open(base: Path, identity: dict, progress: bool) -> Images | None:
    """The finished cache, or None if it is missing, damaged or foreign."""
    path = base.with_suffix(".npy")
    try:
        meta = _read_json(base.with_suffix(".json"))
        names, skipped = meta["names"], [(name, why) for name, why in meta["skipped"]]
        texts = isinstance(names, list) and [*names, *(text for pair in skipped for text in pair)]
        if not names or not texts or not all(isinstance(t, str) and t.isprintable() for t in texts):
            return None
        if not _is_shape(meta["shape"], identity) or meta["identity"] != identity:
            return None
        if not path.is_file():  # see _read_json
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
    """A SHA-256 object, updated with the next `size` bytes of the file."""
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
    """Whether `shape` is [S, S, 3], with the source's S if its identity gives one."""
    if not isinstance(shape, list) or len(shape) != 3 or {type(n) for n in shape} != {int}:
        return False
    side = identity.get("image_size", shape[0])
    return side > 0 and shape == [side, side, 3]


def _npy_header(shape: tuple[int, ...]) -> bytes:
    """The header of a .npy file: magic, version 1.0, length, a dict as text; HEADER bytes in all."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(HEADER - 11)
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", HEADER - 10) + text.encode() + b"\n"


def _decode_all(source: Source, identity: dict, base: Path, workers: int, progress: bool) -> None:
    """Write the files of the cache, resuming an interrupted build."""
    partial, journal = base.with_suffix(".partial"), base.with_suffix(".partial.json")
    total = len(source)
    try:
        state, digest = _resume(partial, journal, identity, total, progress)
        with bar(
            progress, total=total, unit="img", desc="preparing the images", initial=state["done"]
        ) as shown:
            for stop, pixels, skipped in chunks(source, state["done"], workers):
                kept = state["done"] - len(state["skipped"])
                shape = state["shape"] if pixels is None else pixels.shape[1:]
                size = math.prod(shape)
                shown.update(stop - state["done"])
                state = {"done": stop, "shape": shape, "skipped": state["skipped"] + skipped}
                with _as_user_errors(base, f" ({HEADER + total * size:,} bytes)"):
                    if pixels is not None:
                        digest.update(pixels)
                        _write(partial, HEADER + kept * size, pixels)
                    # only after the pixels, so that it never claims more than the file holds
                    _write_json(journal, {**state, "digest": digest.hexdigest()})
        source.check()
        _finish(source, identity, base, state, digest.hexdigest())
    except Changed:  # the pixels may be a mixture of old and new
        partial.unlink(missing_ok=True)
        journal.unlink(missing_ok=True)
        raise


def _finish(source: Source, identity: dict, base: Path, state: dict, digest: str) -> None:
    """Turn the partial file into the finished cache. UserError: it has no images."""
    partial, journal = base.with_suffix(".partial"), base.with_suffix(".partial.json")
    total, shape, reasons = len(source), state["shape"], dict(state["skipped"])
    names = [plain(source.name(i)) for i in range(total) if i not in reasons]
    skipped = [(plain(source.name(i)), plain(why)[:200]) for i, why in reasons.items()]
    if not names:
        partial.unlink()
        journal.unlink(missing_ok=True)
        first = ", ".join(f"{name[-80:]}: {why}" for name, why in skipped[:3])
        raise UserError(
            f"none of the {total:,} images in {identity.get('path', 'the source')} can be used "
            f"({first}); give a folder or zip of intact images"
        )
    meta = {"identity": identity, "shape": shape, "names": names, "skipped": skipped}
    _write(partial, 0, _npy_header((len(names), *shape)))
    _write_json(base.with_suffix(".json"), {**meta, "digest": digest})
    with naming(base.with_suffix(".npy")):
        os.replace(partial, base.with_suffix(".npy"))  # the cache exists only from here on
    journal.unlink(missing_ok=True)  # another process may have opened the cache meanwhile


def _resume(
    partial: Path, journal: Path, identity: dict, total: int, progress: bool
) -> tuple[dict, Any]:
    """The state of the partial file, and the SHA-256 object of its pixels.

    The state comes from the journal if it matches the file; otherwise the build starts over.
    """
    _drop_link(partial)
    try:
        state = _read_json(journal)
        done, shape = state["done"], state["shape"]
        skipped = [(i, why) for i, why in state["skipped"]]
        indices = [i for i, _ in skipped]
        kept = done - len(skipped)
        good = {type(n) for n in (done, *indices)} == {int} and 0 <= done <= total
        good = good and indices == sorted({i for i in indices if 0 <= i < done})
        good = good and (_is_shape(shape, identity) if kept else shape == [])
        size = kept * math.prod(shape)
        if good and partial.stat().st_size >= HEADER + size:
            os.truncate(partial, HEADER + size)  # drops a partly written chunk
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
    """What `_write_json` wrote. Raises one of DAMAGE if it is missing or damaged."""
    if not path.is_file():  # reading a device or a pipe may never end
        raise FileNotFoundError(path)
    with naming(path):
        value = json.loads(path.read_text())
    if value.pop("check") != _digest_of(value):
        raise ValueError("its contents do not match its digest")
    return value


def _digest_of(value: dict) -> str:
    """SHA-256 of its JSON, which is the same after the value is written and read back."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _drop_link(path: Path) -> None:
    """Remove the path if it is a link or not a file: writing through it would change another file."""
    status = os.lstat(path) if os.path.lexists(path) else None
    if status and (not stat.S_ISREG(status.st_mode) or status.st_nlink > 1):
        path.unlink()


def _write(path: Path, offset: int, data: bytes | np.ndarray) -> None:
    """Overwrite the file from `offset`, and flush to disk, so that a power cut cannot lose it."""
    with naming(path), open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)
        sync(file)


def _write_json(path: Path, value: dict) -> None:
    """Replace the file in one step.

    It is not flushed to disk, because it is checked when it is read, and if it is lost, the pixels are
    decoded again.
    """
    new = path.with_name(path.name + ".new")
    _drop_link(new)
    with naming(path):
        new.write_text(json.dumps({**value, "check": _digest_of(value)}))
        os.replace(new, path)


@contextmanager
def _as_user_errors(base: Path, size: str = "") -> Iterator[None]:
    """Turn errors raised inside into UserErrors. `size`, such as " (9 bytes)", is the space needed."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{trouble(error, base)}, or choose another folder for the cache{size}; "
            "the next build resumes where this one stopped"
        ) from error
    except BrokenProcessPool as error:
        raise UserError(
            f"a worker process died while {base}.npy was being built: it was killed, ran out of "
            'memory, or imported a script that lacks `if __name__ == "__main__":`; put that line '
            "before the script's work, or run again with workers=1"
        ) from error


def _make_folder(folder: Path) -> None:
    """Make the folder and those above it. UserError: a file, which the message names, is in the way."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        for path in (folder, *folder.parents):
            if os.path.lexists(path) and not path.is_dir():
                raise UserError(
                    f"{path} is not a folder; move it away, or choose another folder"
                ) from error
        raise


def _lock(path: Path) -> IO[bytes]:
    """Wait until this process alone holds the lock; closing the file unlocks.

    Each worker imports the caller's script. If the script lacks `if __name__ == "__main__":`, the
    worker arrives here too. It would wait for the lock of its parent, which waits for the worker. So
    such a worker exits silently, and the parent reports why.
    """
    try:
        lock = hold(path, wait=not is_importing_main())
    except OSError as error:
        raise UserError(
            f"{trouble(error, path)}, or choose another folder for the cache, "
            "or wait if another process is building it"
        ) from error
    if lock is None:
        raise SystemExit(1)
    return lock
