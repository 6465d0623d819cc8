"""Makes hostile files: zips, pictures, caches and checkpoints.

A zip is written field by field, so that each field can lie. `ZIPS` and `PICTURES` say what must happen
to each file: `skipped` is a word from the reason for skipping the picture `BAD`, `stopped` a word from
the error. Without either, the file must be accepted.
"""

import io
import json
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import celeba_factory as factory
import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import save

from minigan import tensorfile
from minigan.training import checkpoint

BAD, GOOD = "bad.jpg", "good.jpg"

DEEP = settings.default.max_examples >= 50
fuzz = settings(  # for each of 17 tests, 80 cases in `ci` and 13,000 in `deep` (221,000 in all)
    max_examples=settings.default.max_examples * 13 // 2 if DEEP else 80,
    deadline=10_000,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def sentence(error: object) -> str:
    """The message, which must be one line with a remedy after a semicolon."""
    text = str(error)
    assert text.isprintable(), text
    assert len(text) < 1000, text
    assert "; " in text, text
    assert not text.endswith("."), text
    return text


# -- zips -------------------------------------------------------------------------------------------

LOCAL = {
    "magic": "4s", "version": "H", "flags": "H", "method": "H", "time": "H", "date": "H",
    "crc": "I", "packed": "I", "size": "I", "name_length": "H", "extra_length": "H",
}  # fmt: skip
CENTRAL = {
    "magic": "4s", "made_by": "H", "version": "H", "flags": "H", "method": "H", "time": "H",
    "date": "H", "crc": "I", "packed": "I", "size": "I", "name_length": "H", "extra_length": "H",
    "comment_length": "H", "disk": "H", "internal": "H", "external": "I", "offset": "I",
}  # fmt: skip
END = {
    "magic": "4s", "disk": "H", "first_disk": "H", "count_here": "H", "count": "H",
    "bytes": "I", "offset": "I", "comment_length": "H",
}  # fmt: skip
FIELDS = {"local": LOCAL, "central": CENTRAL, "end": END}


def packed(fields: dict[str, str], values: dict) -> bytes:
    return struct.pack("<" + "".join(fields.values()), *(values.get(key, 0) for key in fields))


@dataclass
class Entry:
    """A file of a zip; `both`, `local` and `central` replace header fields."""

    name: str
    data: bytes
    both: dict | None = None
    local: dict | None = None
    central: dict | None = None
    extra: bytes = b""  # in the central directory only


def zip_of(*entries: Entry, end: dict | None = None) -> bytes:
    out, directory = b"", b""
    for entry in entries:
        name = entry.name.encode()
        common = {
            "version": 20, "flags": 0x800, "crc": zlib.crc32(entry.data),
            "packed": len(entry.data), "size": len(entry.data),
            "name_length": len(name), **(entry.both or {}),
        }  # fmt: skip
        extra = {"extra_length": len(entry.extra), "offset": len(out)}
        central = {"magic": b"PK\x01\x02", **common, **extra, **(entry.central or {})}
        local = {"magic": b"PK\x03\x04", **common, **(entry.local or {})}
        out += packed(LOCAL, local) + name + entry.data
        directory += packed(CENTRAL, central) + name + entry.extra
    count, size = len(entries), len(directory)
    last = {"magic": b"PK\x05\x06", "count_here": count, "count": count, "bytes": size}
    return out + directory + packed(END, {**last, "offset": len(out), **(end or {})})


@cache
def picture(index: int = 1) -> bytes:
    return factory.encoded(factory.image(index, (40, 50)), quality=90)


def good() -> Entry:
    return Entry(GOOD, picture(2))


def with_bad(data: bytes | None = None, **options) -> bytes:
    """A zip of a bad file and a good one."""
    return zip_of(Entry(BAD, picture() if data is None else data, **options), good())


def deflated(data: bytes) -> bytes:
    return zlib.compress(data)[2:-4]


def squeezed(method: int, size: int) -> bytes:
    """A zip of `size` zeros, compressed by a method of zipfile, whose header claims a hundred bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive, archive.open(BAD, "w") as member:
        for _ in range(size // 2**20):
            member.write(bytes(2**20))
    with zipfile.ZipFile(file) as archive:
        (info,) = archive.infolist()
    data = file.getvalue()[30 + len(BAD) :][: info.compress_size]
    return with_bad(data, both={"method": method, "size": 100, "crc": info.CRC})


def named(name: str) -> bytes:
    return zip_of(Entry(name, picture()), good())


def twins(name: str) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w") as archive:
        warnings.simplefilter("ignore")  # "Duplicate name"
        for data in (b"the first counts", picture(), picture(2)):
            archive.writestr(name, data)
        archive.writestr(GOOD, picture(2))
    return file.getvalue()


def overlapping(count: int = 300) -> bytes:
    """Entries whose data are the following entries: reading all takes time quadratic in the size."""
    names = [f"{i:04d}.jpg" for i in range(count)]
    length = 30 + len(names[0])
    size = count * length
    entries = [
        Entry(name, b"", both={"packed": size - (i + 1) * length + 100, "size": 2**20})
        for i, name in enumerate(names)
    ]
    return zip_of(*entries, good())


def zip64(value: int) -> bytes:
    """An entry whose sizes and offset are in the zip64 field."""
    huge = {"packed": 2**32 - 1, "size": 2**32 - 1, "offset": 2**32 - 1}
    return with_bad(central=huge, extra=struct.pack("<HHQQQ", 1, 24, value, value, value))


def zip64_whole() -> bytes:
    """Two pictures in a zip with all sizes in zip64 fields, and correct."""
    data = picture()
    huge = {"packed": 2**32 - 1, "size": 2**32 - 1}
    extra = struct.pack("<HHQQ", 1, 16, len(data), len(data))
    return with_bad(central=huge, extra=extra)


@dataclass
class Case:
    make: Callable[[], bytes]
    skipped: str = ""
    stopped: str = ""
    names: int = 2  # pictures listed

    @cached_property
    def data(self) -> bytes:
        return self.make()


def links() -> bytes:
    mode = 0o120777 << 16
    return with_bad(b"../../../../etc/passwd", central={"made_by": 3 << 8, "external": mode})


ZIPS = {
    "whole": Case(with_bad),
    "traversal": Case(lambda: named("../../../" + BAD)),
    "absolute": Case(lambda: named("/" + BAD)),
    "windows": Case(lambda: named("C:\\..\\..\\" + BAD)),
    "control codes": Case(lambda: named("a\n\x1b[2J\t" + BAD)),
    "long name": Case(lambda: named("a" * 60_000 + BAD)),
    "long names only": Case(
        lambda: zip_of(*(Entry(f"{i}{'a' * 60_000}.jpg", b"x") for i in range(3))), stopped="none of"
    ),
    "long suffix": Case(
        lambda: zip_of(Entry("a." + "a" * 60_000, b"x")), stopped="contains no images"
    ),
    "duplicate names": Case(lambda: twins(BAD), skipped="not a JPEG"),
    "symlink": Case(links, skipped="not a JPEG"),
    "encrypted": Case(lambda: with_bad(both={"flags": 0x801}), skipped="encrypted"),
    "strongly encrypted": Case(lambda: with_bad(both={"flags": 0x840}), skipped="encryption"),
    "patch data": Case(lambda: with_bad(both={"flags": 0x820}), skipped="patch"),
    "nested": Case(
        lambda: zip_of(Entry("in.zip", with_bad())), stopped="no images (only .zip)"
    ),
    "nested as a picture": Case(lambda: with_bad(with_bad()), skipped="not a JPEG"),
    "unknown method": Case(lambda: with_bad(both={"method": 99}), skipped="zip method 99"),
    "bzip2 bomb": Case(lambda: squeezed(zipfile.ZIP_BZIP2, 2**27), skipped="zip method 12"),
    "lzma bomb": Case(lambda: squeezed(zipfile.ZIP_LZMA, 2**26), skipped="zip method 14"),
    "deflate bomb": Case(
        lambda: with_bad(
            deflated(bytes(2**27)), both={"method": 8, "size": 100, "crc": zlib.crc32(bytes(100))}
        ),
        skipped="not a JPEG",
    ),
    "announces 4 GB": Case(
        lambda: with_bad(central={"size": 2**32 - 2}), skipped="67,108,864 bytes"
    ),
    "announces 64 MB": Case(lambda: with_bad(central={"size": 2**26})),
    "packed in 4 GB": Case(lambda: with_bad(central={"packed": 2**32 - 2}), skipped="overlaps"),
    "empty deflated": Case(
        lambda: with_bad(b"", both={"method": 8, "size": 9}), skipped="empty"
    ),
    "data beyond the end": Case(
        lambda: with_bad(local={"extra_length": 60_000}), skipped="cannot be unpacked: "
    ),
    "overlapping": Case(overlapping, names=301, skipped="overlaps"),
    "offset beyond": Case(lambda: with_bad(central={"offset": 2**31}), skipped="overlaps"),
    "zip64": Case(zip64_whole),
    "zip64 of 2^62 bytes": Case(lambda: zip64(2**62), skipped="67,108,864 bytes"),
    "zip64 cut": Case(
        lambda: with_bad(central={"size": 2**32 - 1}, extra=b"\x01\x00\x08\x00abc"),
        stopped="damaged",
    ),
    "directory cut": Case(lambda: with_bad()[:-60], stopped="damaged"),
    "directory of 4 GB": Case(lambda: zip_of(good(), end={"bytes": 2**32 - 2}), stopped="damaged"),
    "directory elsewhere": Case(
        lambda: zip_of(good(), end={"offset": 2**31}), stopped="outside"
    ),
    "count of 65534": Case(lambda: zip_of(good(), end={"count": 65534}), names=1),
    "5,000 entries": Case(
        lambda: zip_of(*(Entry(f"{i}.txt", b"") for i in range(5_000)), good()), names=1
    ),
    "names not UTF-8": Case(
        lambda: with_bad().replace(BAD.encode(), b"\xff\xfe\xfd.jpg"), stopped="damaged"
    ),
    "nothing": Case(lambda: b"", stopped="damaged"),
}  # fmt: skip


# -- pictures ---------------------------------------------------------------------------------------


def resized(jpeg: bytes, width: int, height: int) -> bytes:
    """The JPEG with a different size in its header."""
    for marker in (b"\xff\xc0", b"\xff\xc2"):
        at = jpeg.find(marker)
        if at >= 0:
            return jpeg[: at + 5] + struct.pack(">HH", height, width) + jpeg[at + 9 :]
    raise ValueError("no frame header")


def progressive(scans: int = 0) -> bytes:
    """A progressive JPEG whose last scan is repeated `scans` more times."""
    data = factory.encoded(factory.image(1, (40, 50)), progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * scans + data[-2:]


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return factory.encoded(factory.image(1, (40, 50)), exif=exif)


def bad_exif() -> bytes:
    """An EXIF block that claims to hold 65,535 tags of 4 GB."""
    body = b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + struct.pack("<HHII", 0x112, 5, 2**32 - 1, 8) * 40
    data = picture()
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]


def png_with(kind: bytes, body: bytes) -> bytes:
    """A PNG with an extra chunk after its header."""
    data = factory.encoded(factory.image(1, (40, 50)), "PNG")
    chunk = struct.pack(">I", len(body)) + kind + body
    return data[:33] + chunk + struct.pack(">I", zlib.crc32(kind + body)) + data[33:]


def flat(mode: str, kind: str, width: int, height: int, **options) -> bytes:
    return factory.encoded(Image.new(mode, (width, height)), kind, **options)


def rle_bmp(width: int, height: int) -> bytes:
    """A BMP whose run-length data jump over all rows."""
    data = b"\x00\x02\xff\xff" * 400 + b"\x00\x01"
    head = struct.pack("<IiiHHIIIIII", 40, width, height, 1, 8, 1, len(data), 0, 0, 256, 0)
    offset = 14 + len(head) + 1024
    return b"BM" + struct.pack("<IHHI", offset, 0, 0, offset) + head + bytes(1024) + data


def largest_webp() -> bytes:
    """A small WebP that claims to have 16,383 x 16,383 pixels."""
    data = flat("RGB", "WEBP", 40, 50, lossless=True)
    at = data.index(b"VP8L") + 9
    (bits,) = struct.unpack_from("<I", data, at)
    bits = bits >> 28 << 28 | 16382 << 14 | 16382
    return data[:at] + struct.pack("<I", bits) + data[at + 4 :]


def gif(frame: tuple[int, int] = (40, 50), comments: int = 0) -> bytes:
    """A GIF of 40 x 50 pixels with a frame of another size, preceded by comments."""
    data = flat("P", "GIF", 40, 50)
    at = data.index(b",")
    head = data[:at] + b"\x21\xfe\x01a\0" * comments
    return head + data[at : at + 5] + struct.pack("<HH", *frame) + data[at + 9 :]


EPS = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 40 50
%%EndComments
showpage
%%EOF
"""  # Pillow passes it to Ghostscript, an external program

PICTURES = {
    "whole": Case(picture),
    "progressive": Case(progressive),
    "turned by EXIF": Case(turned),
    "EXIF of gigabytes": Case(bad_exif),
    "CMYK": Case(lambda: flat("CMYK", "JPEG", 40, 50)),
    "cut": Case(lambda: picture()[:700], skipped="truncated"),
    "no end": Case(lambda: picture()[:-300], skipped="truncated"),
    "larger in the header": Case(lambda: resized(picture(), 400, 500)),
    "smaller in the header": Case(lambda: resized(picture(), 10, 10)),
    "no width": Case(lambda: resized(picture(), 0, 50), skipped="not a JPEG"),
    "no height": Case(lambda: resized(picture(), 40, 0), skipped="not a JPEG"),
    "60 megapixels": Case(lambda: resized(picture(), 7900, 7900), skipped="pixels in"),
    "60 megapixels in scans": Case(
        lambda: resized(progressive(), 7900, 7900), skipped="pixels in"
    ),
    "gigapixels": Case(lambda: resized(picture(), 65_500, 65_500), skipped="64,000,000 pixels"),
    "1,000 scans": Case(lambda: progressive(1000), skipped="100 scans"),
    "strip": Case(lambda: flat("L", "PNG", 1, 15_000), skipped="a strip"),
    "flat PNG of 1 bit": Case(lambda: flat("1", "PNG", 7900, 7900), skipped="pixels in"),
    "flat WebP": Case(
        lambda: flat("RGB", "WEBP", 5000, 5000, lossless=True, method=0), skipped="pixels in"
    ),
    "largest WebP": Case(largest_webp, skipped="64,000,000 pixels"),
    "BMP of jumps": Case(lambda: rle_bmp(1400, 1400)),
    "wide BMP of jumps": Case(lambda: rle_bmp(60_000_000, 1), skipped="64,000,000 pixels"),
    "largest GIF": Case(lambda: gif(frame=(65_535, 65_535)), skipped="64,000,000 pixels"),
    "GIF of 60 megapixels": Case(lambda: gif(frame=(7900, 7900)), skipped="pixels in"),
    "flat GIF": Case(lambda: flat("P", "GIF", 5000, 5000), skipped="pixels in"),
    "GIF with 200,000 comments": Case(lambda: gif(comments=200_000)),
    "TIFF": Case(lambda: flat("RGB", "TIFF", 40, 50), skipped="not a JPEG, PNG, WebP, BMP or GIF"),
    "AVIF": Case(lambda: flat("RGB", "AVIF", 40, 50), skipped="not a JPEG, PNG, WebP, BMP or GIF"),
    "EPS": Case(lambda: EPS, skipped="not a JPEG, PNG, WebP, BMP or GIF"),
    "PNG with a text of 32 MB": Case(
        lambda: png_with(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**25))), skipped="broken"
    ),
    "PNG with a profile of 32 MB": Case(
        lambda: png_with(b"iCCP", b"a\0\0" + zlib.compress(bytes(2**25))), skipped="broken"
    ),
}  # fmt: skip


# -- checkpoints ------------------------------------------------------------------------------------


def safetensors(header: object, body: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def signed(table: str, arrays: dict[str, np.ndarray] | None = None) -> bytes:
    """A checkpoint with this table and a valid checksum, which anyone can compute."""
    arrays = {"w": np.arange(6, dtype="f").reshape(2, 3)} if arrays is None else arrays
    text = "\n".join((checkpoint.FORMAT, checkpoint._digest(arrays, table), table))
    return save({k: np.asarray(a, order="C") for k, a in arrays.items()}, {tensorfile.KEY: text})


TABLE = {
    "game": {
        "member": "dcgan",
        "options": {"nz": 8, "ngf": 4, "ndf": 4, "batch_size": 4},
        "data": {"data": "faces", "image_size": 16},
    },
    "numbers": {"draw.step": 3, "draw.batches": 3, "draw.again": 0},
}


def saved() -> bytes:
    return signed(json.dumps(TABLE), {"players.G.net.w": np.arange(6, dtype="f").reshape(2, 3),
                                      "players.G.optimizer.0.exp_avg": np.ones(4, "f")})  # fmt: skip


def tensor(dtype: str = "F32", shape: tuple = (2,), offsets: tuple = (0, 8)) -> dict:
    metadata = {tensorfile.KEY: checkpoint.FORMAT + "\n0\n{}"}
    entry = {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}
    return {"__metadata__": metadata, "x": entry}


CHECKPOINTS = {
    "header of 2^60 bytes": (lambda: safetensors(tensor(), bytes(8), 2**60), "cannot be read"),
    "header of 90 MB": (lambda: safetensors(tensor(), bytes(8), 90_000_000), "cannot be read"),
    "tensor of 8 GB": (
        lambda: safetensors(tensor(shape=(2**31,), offsets=(0, 2**33)), bytes(8)), "cannot be read",
    ),
    "shape that overflows": (lambda: safetensors(tensor(shape=(2**63, 4)), bytes(8)), "does not lie"),
    "shape beyond NumPy": (
        lambda: safetensors(tensor(shape=(0, 2**62, 2**62), offsets=(0, 0))), "too big",
    ),
    "70 dimensions": (lambda: safetensors(tensor("F64", (1,) * 70), bytes(8)), "cannot be read"),
    "bfloat16": (lambda: safetensors(tensor("BF16", (4,)), bytes(8)), "cannot be read"),
    "float8": (lambda: safetensors(tensor("F8_E4M3", (8,)), bytes(8)), "cannot be read"),
    "unknown type": (lambda: safetensors(tensor("O", (1,)), bytes(8)), "cannot be read"),
    "offsets swapped": (lambda: safetensors(tensor(offsets=(8, 0)), bytes(8)), "cannot be read"),
    "offsets beyond": (lambda: safetensors(tensor(offsets=(8, 16)), bytes(8)), "cannot be read"),
    "name of control codes": (
        lambda: safetensors({"\n\x1b[2J": tensor(offsets=(8, 0))["x"]}, bytes(8)),
        r"(\\x1b|\\u{1b})\[2J",  # as our repr or safetensors prints it
    ),
    "negative shape": (lambda: safetensors(tensor(shape=(-2,)), bytes(8)), "cannot be read"),
    "deep header": (lambda: safetensors(b'{"a":' * 50_000), "cannot be read"),
    "list": (lambda: safetensors([]), "cannot be read"),
    "wrong checksum": (lambda: safetensors(tensor(), bytes(8)), "does not|do not match"),
    "pickle": (lambda: b"\x80\x04cos\nsystem\n(S'touch executed'\ntR.", "cannot be read"),
    "table that is no JSON": (lambda: signed("{"), "its state is not a table"),
    "table that is a list": (lambda: signed("[]"), "its state is not a table"),
    "deep table": (lambda: signed("[" * 100_000), "its state is not a table"),
    "table of digits": (lambda: signed("9" * 10_000), "its state is not a table"),
}  # fmt: skip


def write(folder: Path, name: str, data: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    return folder / name
