"""Tensor files: named arrays and one text, in the safetensors format.

    8 bytes    the length of the header, little-endian
    header     JSON: {"__metadata__": {key: text}, name: {"dtype", "shape", "data_offsets"}, ...},
               padded with spaces to a multiple of 8 bytes
    data       the arrays in C order, one after another, without gaps

The safetensors library reads these files and would write the same bytes. It is not used here, because
it hangs forever and ignores signals when memory runs out. When this module writes, it copies at most
one piece of an array at a time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from .files import write_atomically

METADATA = "__metadata__"
KEY = "minigan"  # under which the metadata holds the text
HEADER_LIMIT = 100_000_000  # bytes; the library's limit too
DIMENSIONS = 32  # more than any array needs; bounds the product of a hostile shape
PIECE = 2**18  # elements

# In the order in which the library stores arrays: by type, then by name.
DTYPES = {
    "U64": "<u8", "I64": "<i8", "F64": "<f8", "F32": "<f4", "U32": "<u4", "I32": "<i4",
    "F16": "<f2", "U16": "<u2", "I16": "<i2", "I8": "|i1", "U8": "|u1", "BOOL": "|b1",
}  # fmt: skip
NAMES = {form: name for name, form in DTYPES.items()}
RANK = {name: i for i, name in enumerate(DTYPES)}


def write(path: Path, arrays: Mapping[str, np.ndarray], text: str) -> None:
    """Write the arrays and the text, completely or not at all.

    Raises TypeError or ValueError for what `read` would refuse.
    """
    write_atomically(path, _pieces(arrays, text))


def pieces(array: np.ndarray) -> Iterator[np.ndarray]:
    """The elements in C order, as flat arrays; copied only if the memory order is another.

    A piece is valid until the next one is requested.
    """
    flags = ["external_loop", "buffered", "zerosize_ok"]
    return iter(np.nditer(array, flags, [["readonly", "contig"]], order="C", buffersize=PIECE))


def _pieces(arrays: Mapping[str, np.ndarray], text: str) -> Iterator[bytes | np.ndarray]:
    """The contents of the file from the first byte to the last. Refuses what `read` would refuse."""
    if not isinstance(text, str):
        raise TypeError(f"the text of a tensor file must be a str, is {type(text).__name__}")
    types = {}
    for name, array in arrays.items():
        if not isinstance(name, str):
            raise TypeError(f"{name!r}: the name of an array must be a str; rename it")
        if name == METADATA:
            raise ValueError(f"{name}: this name is reserved for the text; rename the array")
        if array.dtype.str not in NAMES:
            raise TypeError(f"{name}: a tensor file cannot hold {array.dtype}; convert it")
        if array.ndim > DIMENSIONS:
            raise ValueError(f"{name}: it has {array.ndim} dimensions; reshape it to {DIMENSIONS}")
        types[name] = NAMES[array.dtype.str]
    order = sorted(arrays, key=lambda name: (RANK[types[name]], name))
    header: dict[str, Any] = {METADATA: {KEY: text}}
    end = 0
    for name in order:
        start, end = end, end + arrays[name].nbytes
        shape = list(arrays[name].shape)
        header[name] = {"dtype": types[name], "shape": shape, "data_offsets": [start, end]}
    content = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    content += b" " * (-len(content) % 8)
    if len(content) > HEADER_LIMIT:
        raise ValueError(f"the header of {len(content):,} bytes exceeds {HEADER_LIMIT:,}")
    yield len(content).to_bytes(8, "little")
    yield content
    for name in order:
        yield from pieces(arrays[name])


def read_text(path: Path) -> dict[str, str]:
    """The texts in the metadata. Raises ValueError or OSError if this is not a tensor file."""
    with _open(path) as file:
        return _header(file)[0]


def read_forms(path: Path) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
    """dtype and shape of each array. Raises ValueError or OSError if this is not a tensor file."""
    with _open(path) as file:
        return {name: (dtype, tuple(shape)) for name, (dtype, shape) in _header(file)[1].items()}


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays. Raises ValueError or OSError if this is not a tensor file."""
    with _open(path) as file:
        _, entries = _header(file)
        return {name: _array(file, name, *entry) for name, entry in entries.items()}


def _open(path: Path) -> IO[bytes]:
    if path.exists() and not path.is_file():
        raise ValueError("it is not a file")  # opening a pipe would wait for a writer
    return open(path, "rb", buffering=2**20)


def _header(file: IO[bytes]) -> tuple[dict[str, str], dict[str, tuple[np.dtype, list[int]]]]:
    """The metadata, and each array's dtype and shape in the order of the file.

    Nothing in the file is trusted. The sizes must add up and fill the file exactly, so reading takes no
    more memory than the file is long.
    """
    size = file.seek(0, 2)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > min(size - 8, HEADER_LIMIT):
        raise ValueError(f"its header of {length:,} bytes does not fit into it")
    try:
        header = json.loads(file.read(length).decode(), object_pairs_hook=_without_duplicates)
    except RecursionError:
        raise ValueError("its header is nested too deeply") from None
    if not isinstance(header, dict):
        raise ValueError("its header is not a JSON object")
    metadata = header.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(t, str) for t in metadata.values()):
        raise ValueError("its metadata is not text")
    entries = [(name, *_entry(name, entry)) for name, entry in header.items()]
    entries.sort(key=lambda entry: entry[3])
    end = 0
    for name, dtype, shape, (start, stop) in entries:
        if start != end or stop - start != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{name!r} of shape {shape} does not lie at {start} to {stop}")
        end = stop
    if end != size - 8 - length:
        raise ValueError(f"it has {size - 8 - length:,} bytes of data, not {end:,}")
    return metadata, {name: (dtype, shape) for name, dtype, shape, _ in entries}


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name in its header occurs twice")
    return result


def _entry(name: str, entry: Any) -> tuple[np.dtype, list[int], tuple[int, int]]:
    """One array's dtype, shape and place, checked to be of the right types."""
    keys = ("dtype", "shape", "data_offsets")
    if not isinstance(entry, dict) or set(entry) != set(keys):
        raise ValueError(f"{name!r} is not described by {', '.join(keys)}")
    dtype, shape, offsets = (entry[key] for key in keys)
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(f"{name!r} has the unknown type {dtype!r}")
    if not (_are_sizes(shape) and _are_sizes(offsets) and len(offsets) == 2):
        raise ValueError(f"{name!r} has an impossible shape or place")
    return np.dtype(DTYPES[dtype]), shape, tuple(offsets)


def _are_sizes(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= DIMENSIONS
        and all(type(n) is int and n >= 0 for n in value)
    )


def _array(file: IO[bytes], name: str, dtype: np.dtype, shape: list[int]) -> np.ndarray:
    """The next array of the file."""
    array = np.empty(shape, dtype)
    raw = array.reshape(-1).view(np.uint8)
    if file.readinto(raw) != raw.size:
        raise ValueError(f"it ends within {name!r}")
    if dtype.kind == "b" and (raw > 1).any():
        raise ValueError(f"{name!r} holds truth values other than 0 and 1")
    return array
