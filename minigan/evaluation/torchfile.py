"""Read a state dict that PyTorch saved, without PyTorch and without executing anything in the file.

`torch.save` writes a pickle, which is a program: a list of instructions that build an object, and that
may call any function on the way. So loading a stranger's pickle runs a stranger's code. Here only the
instructions that build a dict of tensors are interpreted, about thirty. They call nothing: the few
names that such a file mentions become marks, and any other name or instruction is refused.

The file has one of two forms:

    a zip     since PyTorch 1.6; stored, not compressed: `*/data.pkl` is the pickle, and `*/data/KEY`
              holds the numbers of the storage KEY
    a stream  before: pickles of a magic number, the version 1001, the system, the object, and the keys
              of the storages; then for each key an int64 count and the numbers

A tensor is a storage, an offset, a shape and strides. Nothing in the file is trusted: every size is
compared with that of the file, so reading takes little more memory than the file is long.
"""

from __future__ import annotations

import io
import math
import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from ..options import short
from ..tensorfile import DIMENSIONS

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001  # of the stream
MOST_PICKLE = 2**22  # bytes of the pickles; those of the InceptionV3 of 472 tensors take 0.1 MB
MOST_FILE = 2**30  # bytes
MOST_ENTRIES = 10_000  # of a zip
TYPES = {"torch FloatStorage": np.dtype("<f4"), "torch LongStorage": np.dtype("<i8")}
ORDERED_DICT, REBUILD = "collections OrderedDict", "torch._utils _rebuild_tensor_v2"
GLOBALS = (ORDERED_DICT, REBUILD, *TYPES)  # the only names that a file may mention


class _Global(NamedTuple):
    """A mark for a name that the file mentions; never the object of that name."""

    name: str


class _Storage(NamedTuple):
    """A mention of a storage: where its numbers are, their type, and how many there are."""

    key: str
    dtype: np.dtype
    count: int

    @property
    def size(self) -> int:
        """In bytes."""
        return self.count * self.dtype.itemsize


class _Tensor(NamedTuple):
    """A tensor that is still to be cut from its storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in numbers


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a state dict, by name. Raises ValueError or OSError if it is not exactly that."""
    if path.exists() and not path.is_file():
        raise ValueError("it is not a file")  # opening a pipe would wait for a writer
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        if size > MOST_FILE:
            raise ValueError(f"its {size:,} bytes exceed {MOST_FILE:,}")
        file.seek(0)
        if file.read(4) == b"PK\x03\x04":
            found, storages = _read_zip(file, size)
        else:
            found, storages = _read_stream(file, size)
    return {name: _array(name, tensor, storages) for name, tensor in found.items()}


# -- the two forms --------------------------------------------------------------------------------

Found = tuple[
    dict[str, _Tensor], dict[str, np.ndarray]
]  # the tensors, and the storages by their keys


def _read_zip(file: IO[bytes], size: int) -> Found:
    try:
        with zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
            entries = {info.filename: info for info in infos}
            if len(infos) > MOST_ENTRIES or len(entries) < len(infos):
                raise ValueError("its zip has too many entries, or two of one name")
            folders = [name[: -len("data.pkl")] for name in entries if name.endswith("/data.pkl")]
            if len(folders) != 1:
                raise ValueError(f"its zip has {len(folders)} data.pkl, not 1")

            def content(name: str, most: int) -> bytes:
                info = entries.get(folders[0] + name)
                if info is None or info.compress_type != zipfile.ZIP_STORED:
                    raise ValueError(f"{short(repr(name))} is missing in its zip, or is compressed")
                if not 0 <= info.header_offset < size:
                    raise ValueError(f"{short(repr(name))} does not begin within its zip")
                if info.file_size > most:
                    raise ValueError(
                        f"{short(repr(name))} has {info.file_size:,} bytes, more than {most:,}"
                    )
                return archive.read(info)

            if folders[0] + "byteorder" in entries and content("byteorder", 10) != b"little":
                raise ValueError("its numbers are not little-endian")
            top, mentioned = _interpret(io.BytesIO(content("data.pkl", MOST_PICKLE)))
            tensors, length = _state_dict(top), sum(each.size for each in mentioned.values())
            if length > size:  # several names may share the bytes of one entry
                raise ValueError(f"its storages take {length:,} bytes, more than the file has")
            return tensors, {
                key: _numbers(storage, content(f"data/{key}", storage.size))
                for key, storage in mentioned.items()
            }
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise ValueError(f"its zip is damaged: {error}") from error


def _read_stream(file: IO[bytes], size: int) -> Found:
    file.seek(0)
    pickles = io.BytesIO(file.read(MOST_PICKLE))
    if (_interpret(pickles)[0], _interpret(pickles)[0]) != (MAGIC, VERSION):
        raise ValueError("it does not begin like a file of torch.save")
    system, _ = _interpret(pickles)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("its numbers are not little-endian")
    top, mentioned = _interpret(pickles)
    tensors, (keys, _) = _state_dict(top), _interpret(pickles)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ValueError("its list of storages is damaged")
    if sorted(keys) != sorted(mentioned):
        raise ValueError("its list of storages is not that of its tensors")
    file.seek(pickles.tell())
    storages = {}
    length = sum(8 + storage.size for storage in mentioned.values())
    if file.tell() + length != size:
        raise ValueError(
            f"its storages take {length:,} bytes, and there are {size - file.tell():,}"
        )
    for key in keys:
        storage = mentioned[key]
        if int.from_bytes(file.read(8), "little") != storage.count:
            raise ValueError(f"storage {short(repr(key))} has another size than its tensors say")
        storages[key] = _numbers(storage, file.read(storage.size))
    return tensors, storages


def _numbers(storage: _Storage, raw: bytes) -> np.ndarray:
    if len(raw) != storage.size:
        raise ValueError(f"storage {short(repr(storage.key))} has {len(raw):,} bytes, too few")
    return np.frombuffer(raw, storage.dtype)


def _array(name: str, tensor: _Tensor, storages: dict[str, np.ndarray]) -> np.ndarray:
    """A view of the storage, which need not lie in C order."""
    numbers, (storage, offset, shape, strides) = storages[tensor.storage.key], tensor
    size = math.prod(shape)
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if size > storage.count or (size and last >= storage.count) or offset > storage.count:
        raise ValueError(f"{short(repr(name))} does not lie within its storage")
    in_bytes = [step * storage.dtype.itemsize for step in strides] if size else None
    return np.lib.stride_tricks.as_strided(numbers[offset:], shape, in_bytes, writeable=False)


# -- the pickle -----------------------------------------------------------------------------------


def _interpret(data: io.BytesIO) -> tuple[Any, dict[str, _Storage]]:
    """The object of the next pickle, and the storages that it mentions.

    The rules are those of Python's pickle: objects are pushed on a stack, MARK begins a new stack, and
    an instruction that takes "all since the mark" goes back to the stack below. PUT numbers the top
    object, and GET pushes it again.
    """
    stack: list[Any] = []
    below: list[list[Any]] = []
    memo: dict[int, Any] = {}
    storages: dict[str, _Storage] = {}

    def since_mark() -> list[Any]:
        nonlocal stack
        found, stack = stack, below.pop()
        return found

    try:
        for instruction, argument, _ in _instructions(data):
            match instruction.name:
                case "PROTO":
                    pass
                case "STOP":
                    break
                case "MARK":
                    below.append(stack)
                    stack = []
                case "NONE" | "NEWTRUE" | "NEWFALSE" as name:
                    stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
                case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINUNICODE":
                    stack.append(argument)
                case "GLOBAL":
                    stack.append(_global(argument))
                case "EMPTY_DICT":
                    stack.append({})
                case "EMPTY_LIST":
                    stack.append([])
                case "EMPTY_TUPLE":
                    stack.append(())
                case "TUPLE":
                    items = since_mark()
                    stack.append(tuple(items))
                case "TUPLE1" | "TUPLE2" | "TUPLE3" as name:
                    count = int(name[-1])
                    _check(len(stack) >= count)
                    stack[-count:] = [tuple(stack[-count:])]
                case "BINPUT" | "LONG_BINPUT":
                    memo[argument] = stack[-1]
                case "BINGET" | "LONG_BINGET":
                    stack.append(memo[argument])
                case "APPEND":
                    item = stack.pop()
                    list.append(stack[-1], item)
                case "APPENDS":
                    items = since_mark()
                    list.extend(stack[-1], items)
                case "SETITEM":
                    value, key = stack.pop(), stack.pop()
                    _set(stack[-1], key, value)
                case "SETITEMS":
                    items = since_mark()
                    _check(len(items) % 2 == 0)
                    for key, value in zip(items[::2], items[1::2], strict=True):
                        _set(stack[-1], key, value)
                case "BINPERSID":
                    storage = _storage(stack.pop())
                    _check(storages.setdefault(storage.key, storage) == storage)
                    stack.append(storage)
                case "REDUCE":
                    arguments, function = stack.pop(), stack.pop()
                    stack.append(_reduced(function, arguments))
                case "BUILD":  # PyTorch's _metadata, an attribute of the dict
                    state = stack.pop()
                    _check(type(state) is type(stack[-1]) is dict)
                case name:
                    raise ValueError(
                        f"its pickle has the instruction {name}, which no state dict needs"
                    )
        return stack.pop(), storages
    except (IndexError, KeyError, TypeError) as error:
        raise ValueError("its pickle builds no state dict of float32 tensors") from error


def _instructions(data: io.BytesIO) -> Iterator[tuple[pickletools.OpcodeInfo, Any, int | None]]:
    """The instructions of the next pickle, decoded but not executed."""
    try:
        yield from pickletools.genops(data)
    except ValueError as error:
        raise ValueError(f"its pickle is damaged: {short(error)}") from error


def _global(name: str) -> _Global:
    if name not in GLOBALS:
        shown = short(repr(name.replace(" ", ".")))
        raise ValueError(f"it mentions {shown}, which no state dict of float32 tensors needs")
    return _Global(name)


def _set(target: Any, key: Any, value: Any) -> None:
    _check(type(key) is str)  # hashing nested tuples could take for ever
    dict.__setitem__(target, key, value)


def _storage(mention: Any) -> _Storage:
    """The storage of ("storage", type, key, device, count), which a stream ends with a None."""
    _check(type(mention) is tuple and len(mention) in (5, 6) and mention[5:] in ((), (None,)))
    kind, type_, key, device, count = mention[:5]
    _check(type(kind) is type(key) is type(device) is str and kind == "storage")
    _check(type(type_) is _Global and type_.name in TYPES)
    dtype = TYPES[type_.name]
    _check(_is_size(count) and count * dtype.itemsize <= MOST_FILE)
    return _Storage(key, dtype, count)


def _reduced(function: Any, arguments: Any) -> Any:
    """The dict or the tensor that the call of a function would make."""
    _check(type(function) is _Global and type(arguments) is tuple)
    if function.name == ORDERED_DICT:
        _check(not arguments)
        return {}
    _check(function.name == REBUILD and len(arguments) == 6)
    storage, offset, shape, strides, _, _ = arguments  # requires_grad and hooks do not matter
    _check(type(storage) is _Storage and type(shape) is type(strides) is tuple)
    _check(len(shape) == len(strides) and all(map(_is_size, (offset, *shape, *strides))))
    return _Tensor(storage, offset, shape, strides)


def _check(fits: bool) -> None:
    if not fits:
        raise TypeError


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MOST_FILE


def _state_dict(top: Any) -> dict[str, _Tensor]:
    if not isinstance(top, dict):
        raise ValueError("it holds something other than a state dict")
    for name, value in top.items():
        if not isinstance(value, _Tensor):
            raise ValueError(f"{short(repr(name))} in it is not a tensor")
        if len(value.shape) > DIMENSIONS:
            raise ValueError(f"{short(repr(name))} has {len(value.shape)} dimensions")
    return top
