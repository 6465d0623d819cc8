"""The pictures of CelebA (Liu et al., 2015), or any others, from a zip or a folder.

A picture becomes (S, S, 3) as torchvision's Resize(S) and CenterCrop(S) make it: the short side
is scaled to S by Pillow's bilinear filter, which averages over all source pixels when it shrinks
(antialiasing), and the middle is cut out. A small picture is enlarged. Flips and the scaling to
[-1, 1] are left to the training loop.
"""

import errno
import hashlib
import io
import os
import re
import stat
import warnings
import zipfile
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from minigan.data.attributes import find_attributes, read_attributes
from minigan.data.cache import Changed, DataError, Source, Unreadable, contents, plain

FOLDER = "img_align_celeba"
ZIP = "img_align_celeba.zip"
ZIP_BYTES = 1_443_490_838  # of the zip as published: 202,599 JPEGs of 178x218
# Pillow decodes these in memory in proportion to the size that the header announces. TIFF and AVIF
# are left out, because a small picture may be one tile or frame of gigabytes in them.
FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jfif", ".jpe"),
    "PNG": (".png",),
    "WebP": (".webp",),
    "BMP": (".bmp",),
    "GIF": (".gif",),  # the first image of it, as of a WebP that moves
}
SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
MAX_PIXELS = 64_000_000  # of a picture, and
MAX_BYTES = 64 * 2**20  # of its file: anything larger is taken for a decompression bomb, as is
MAX_PIXELS_PER_BYTE = 250  # more than that (a JPEG of one colour has 60 to 160), unless it has
FEW_PIXELS = 2_000_000  # no more than these, which need little memory whatever the file
MAX_ASPECT = 16  # long side to short: enlarged to a short side of S, a thin strip grows huge
MAX_SCANS = 100  # of a progressive JPEG, each a pass over all pixels for some bytes; 10 are usual
# Of one file: it is skipped. Any other error, such as EIO of a dying disk, stops the build.
UNREADABLE = {errno.EACCES, errno.EPERM, errno.ENOENT, errno.ELOOP, errno.ENOTDIR}
VERSION = ("bytes", "mtime_ns", "ctime_ns")  # of a file, as `_version` has it
RECIPE = {"decode": 2, "resize": "bilinear", "crop": "centre"}  # raise "decode" if bytes change
READ = ", ".join(SUFFIXES)
REMEDY = f"give the path of {ZIP}, or of a folder or zip of pictures ({READ})"


def open_source(
    root: str | Path,
    image_size: int = 64,
    max_images: int | None = None,
    only: str | None = None,
    leave_out: str | Path | None = None,
) -> Source:
    """The first `max_images` pictures, by name, of a zip (never extracted) or below a folder.

    only  attributes that they must have, as "Male,no-Eyeglasses"; the list of them lies beside
    leave_out  a folder that is not looked into, as that of the runs, which hold pictures of their own

    In a folder, the first of these that is there: a folder `img_align_celeba` with pictures (the
    folder itself or one below it), a file `img_align_celeba.zip`, all pictures below the folder.
    Pictures are known by their suffixes, SUFFIXES, in upper or lower case; `left_out` of the source
    counts the other files. Hidden files and `__MACOSX` are ignored. Raises DataError if there is
    nothing to use.
    """
    if image_size < 1 or (max_images is not None and max_images < 1):
        raise ValueError(f"image_size {image_size} and max_images {max_images} must be positive")
    path = Path(os.path.abspath(root))
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return _open_folder(path, image_size, max_images, only, leave_out)
        if stat.S_ISREG(mode):
            return _open_zip(path, image_size, max_images, only)
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{path} does not exist; {REMEDY}") from None
    except OSError as error:
        raise _cannot_read(error.filename or path, error) from error
    raise DataError(f"{path} is neither a zip nor a folder; {REMEDY}")


def decode(data: bytes, size: int) -> np.ndarray:
    """The picture in the file contents `data` as uint8 RGB (size, size, 3). Raises Unreadable."""
    if not data:
        raise Unreadable("empty file")
    if len(data) > MAX_BYTES:
        raise Unreadable(f"more than {MAX_BYTES:,} bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on metadata, and on sizes that are checked here
            # reads the header only
            with Image.open(io.BytesIO(data), formats=tuple(FORMATS)) as image:
                _check(*image.size, size, data)
                return _resize_and_crop(_to_rgb(image), size)
    except (Unreadable, MemoryError):
        raise
    except Image.DecompressionBombError:  # Pillow's own limit lies higher
        raise Unreadable(f"more than {MAX_PIXELS:,} pixels") from None
    except UnidentifiedImageError:
        *most, last = FORMATS
        raise Unreadable(f"not a {', '.join(most)} or {last} picture") from None
    except Exception as error:  # decoders raise nearly anything when the data is damaged
        raise Unreadable(f"broken picture: {plain(error)}") from error


def _check(width: int, height: int, size: int, data: bytes) -> None:
    """That decoding takes memory and time in proportion to the file and the size wanted."""
    pixels, short, long = width * height, min(width, height), max(width, height)
    if max(pixels, size * (long * size // short)) > MAX_PIXELS:
        raise Unreadable(f"more than {MAX_PIXELS:,} pixels")
    if long > MAX_ASPECT * short:
        raise Unreadable(f"{width} x {height} pixels are a strip, not a picture")
    if pixels > max(FEW_PIXELS, MAX_PIXELS_PER_BYTE * len(data)):
        raise Unreadable(f"{pixels:,} pixels in {len(data):,} bytes")
    if data.startswith(b"\xff\xd8") and _scans(data) > MAX_SCANS:
        raise Unreadable(f"more than {MAX_SCANS} scans")


def _scans(jpeg: bytes) -> int:
    """How often the marker "start of scan" is in it, with one of its four possible lengths."""
    return sum(1 for _ in re.finditer(rb"\xff\xda\x00[\x08\x0a\x0c\x0e]", jpeg))


def _to_rgb(image: Image.Image) -> Image.Image:
    """Upright by its EXIF tag, transparency on white, 16 bits to 8 by v / 257."""
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I"):  # 16-bit grey: convert() would clip it
        grey = (np.asarray(image).astype(np.int32) + 128) // 257
        image = Image.fromarray(grey.clip(0, 255).astype(np.uint8))
    elif image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")


def _resize_and_crop(image: Image.Image, size: int) -> np.ndarray:
    width, height = (side * size // min(image.size) for side in image.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.array(image.crop((left, top, left + size, top + size)))


@dataclass
class _Pictures:
    """What both kinds of source share; `members` lists (name, where to find it)."""

    path: Path
    stamp: dict  # with the path it tells which files these are; "kind": "celeba" or "pictures"
    image_size: int
    max_images: int | None
    kept: frozenset[str] | None  # by --only, the file names; None: all are
    left_out: str  # a sentence on the files that are not pictures by their suffix, or ""

    def __len__(self) -> int:
        return len(self.members)

    def identity(self) -> dict:
        limits = {"image_size": self.image_size, "max_images": self.max_images}
        return {"path": str(self.path), **self.stamp, **limits, **RECIPE}

    def name(self, i: int) -> str:
        return self.members[i][0]

    def load(self, i: int) -> np.ndarray:
        """Picture i. Raises Unreadable if it is at fault, DataError if the disk is."""
        return decode(self.read(self.members[i][1]), self.image_size)


@dataclass
class FolderPictures(_Pictures):
    members: list[tuple[str, str]]

    def read(self, inner: str) -> bytes:
        try:
            if inner.endswith("/"):  # could not be read, and raises the same again
                os.scandir(self.path / inner).close()
                raise _changed(self.path)
            return contents(self.path / inner, MAX_BYTES)
        except OSError as error:
            if error.errno in UNREADABLE:
                raise Unreadable(f"cannot be read: {error.strerror}") from error
            raise _cannot_read(self.path / inner, error) from error

    def check(self) -> None:
        try:
            paths = ((inner, os.path.join(self.path, inner)) for _, inner in self.members)
            digest = _digest((inner, _version(_status(path))) for inner, path in paths)
        except OSError as error:
            raise _cannot_read(error.filename or self.path, error) from error
        if digest != self.stamp["digest"]:
            raise _changed(self.path)


class ZipPictures(_Pictures):
    def __reduce__(self):
        """A process that gets a copy opens the zip for itself, at its first picture."""
        fields = (self.path, self.stamp, self.image_size, self.max_images, self.kept, "")
        return ZipPictures, fields

    def check(self) -> None:
        try:
            self._check(os.stat(self.path))
        except FileNotFoundError:
            raise _changed(self.path) from None
        except OSError as error:
            raise _cannot_read(self.path, error) from error

    def _check(self, status: os.stat_result) -> None:
        if _version(status) != tuple(self.stamp[key] for key in VERSION):
            raise _changed(self.path)

    @cached_property
    def archive(self) -> zipfile.ZipFile:
        """The zip, open: no other than the one that `stamp` is of, whichever process this is."""
        try:
            archive = zipfile.ZipFile(self.path)
            self._check(os.fstat(archive.fp.fileno()))
            return archive
        except Changed:
            raise
        except OSError as error:
            raise _cannot_read(self.path, error) from error
        except Exception as error:  # a damaged directory: BadZipFile, but struct.error and others
            self.check()
            raise _broken_zip(self.path) from error

    @cached_property
    def members(self) -> list[tuple[str, tuple[zipfile.ZipInfo, int]]]:
        return _first(self.pictures, self.kept, self.max_images)

    @cached_property
    def pictures(self) -> dict[str, tuple[zipfile.ZipInfo, int]]:
        """Each with the place where the next one starts."""
        starts = sorted({info.header_offset for info in self.archive.infolist()})
        ends = dict(pairwise([*starts, self.stamp["bytes"]]))
        entries = {}
        for info in self.archive.infolist():  # of two with one name the first counts
            info.filename = info.filename.replace("\\", "/")  # as some programs of Windows write it
            entries.setdefault(info.filename, (info, ends[info.header_offset]))
        chosen = _choose(self.path, entries)
        self.left_out = _left_out(self.path, entries, chosen)
        return {name: entries[path] for name, path in chosen.items()}

    def read(self, place: tuple[zipfile.ZipInfo, int]) -> bytes:
        info, end = place
        if info.file_size > MAX_BYTES:
            raise Unreadable(f"more than {MAX_BYTES:,} bytes")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Unreadable(  # zipfile cannot stop the others, which shrink a million times
                f"packed by method {info.compress_type} of zip; only 0 (stored) and 8 (deflated) do"
            )
        if not 0 <= info.header_offset <= end - info.compress_size:  # else a bomb could share data
            raise Unreadable("overlaps the next file or lies outside of the zip")
        try:
            with self.archive.open(info) as file:
                return file.read(info.file_size)  # without a number, a bomb's size is ignored
        except OSError as error:
            raise _cannot_read(self.path, error) from error
        except Exception as error:  # damaged or encrypted: zipfile, zlib, struct have their own
            raise Unreadable(f"cannot be unpacked: {plain(error)}") from error


def _open_folder(
    path: Path,
    image_size: int,
    max_images: int | None,
    only: str | None,
    leave_out: str | Path | None,
) -> Source:
    files, closed = _walk(path, leave_out)
    if closed and not _pictures(files):
        inner, error = next(iter(closed.items()))
        raise _cannot_read(path / inner, error)
    if not files:
        raise DataError(f"{path} is an empty folder; {REMEDY}")
    zips = [inner for inner in files if inner.rpartition("/")[2] == ZIP]
    if zips and not _celeba(_pictures(files), path.name):
        return _open_zip(path / min(zips, key=_depth), image_size, max_images, only)
    chosen = _choose(path, files)
    first = next(iter(chosen.values()))
    kind = _kind(path / first)
    beside = (path / first).parent if kind == "celeba" else path
    kept, stamp = _keep(only, beside, chosen)
    members = _first(chosen, kept, max_images)
    if kind == "pictures":  # CelebA's lie in one folder
        members += [(inner, inner) for inner in closed]
    versions = {**files, **{inner: _version(_status(path / inner)) for inner in closed}}
    digest = _digest((inner, versions[inner]) for _, inner in members)
    stamp |= {"kind": kind, "count": len(members), "digest": digest}
    left_out = _left_out(path, files, chosen)
    return FolderPictures(path, stamp, image_size, max_images, kept, left_out, members)


def _open_zip(path: Path, image_size: int, max_images: int | None, only: str | None) -> Source:
    with open(path, "rb") as file:
        head = file.read(1024).lstrip(b"\xef\xbb\xbf \t\r\n")
        status = os.fstat(file.fileno())
    if head.lower().startswith((b"<!doctype html", b"<html")):
        raise DataError(
            f"{path} is a web page, probably the download site's notice that its quota is used up; "
            f"download {ZIP} ({ZIP_BYTES:,} bytes) again later"
        )
    if not head.startswith(b"PK") and path.suffix.lower() != ".zip":
        raise DataError(f"{path} is neither a zip nor a folder; {REMEDY}")
    stamp = dict(zip(VERSION, _version(status), strict=True))
    source = ZipPictures(path, stamp, image_size, max_images, None, "")
    if only is not None:
        source.kept, which = _keep(only, path.parent, source.pictures)
        stamp |= which
    if path.name == ZIP or status.st_size == ZIP_BYTES:
        stamp["kind"] = "celeba"
    else:
        info, _ = next(iter(source.pictures.values()))
        stamp["kind"] = _kind(Path(info.filename))
    if status.st_size != ZIP_BYTES:
        len(source)  # lists it, to fail early; CelebA's own takes a second, so only when needed
    return source


def _keep(
    only: str | None, folder: Path, pictures: Iterable[str]
) -> tuple[frozenset[str] | None, dict]:
    """The file names that --only keeps, by the list that lies by `folder`, and what it changes."""
    if only is None:
        return None, {}
    attributes = read_attributes(find_attributes(folder))
    having = attributes.having(only)
    files = [_file(name) for name in pictures]
    kept = [file for file in files if file in having]
    unlisted = sum(file not in attributes.row for file in files)
    if not kept:
        raise DataError(
            f"--only {only}: none of the {len(files):,} pictures fits, and {unlisted:,} are not in "
            f"{attributes.path}; choose other attributes"
        )
    digest = hashlib.sha256("\n".join(kept).encode("utf-8", "surrogateescape")).hexdigest()
    return frozenset(kept), {"only": digest, "unlisted": unlisted}


def _first(
    pictures: dict[str, Any], kept: frozenset[str] | None, max_images: int | None
) -> list[tuple[str, Any]]:
    """Of those that are kept: name, and where to find it."""
    members = [pair for pair in pictures.items() if kept is None or _file(pair[0]) in kept]
    return members[:max_images]


def _file(name: str) -> str:
    """The list of attributes knows pictures by this, wherever they lie."""
    return name.rpartition("/")[2]


def _status(entry: str | os.DirEntry) -> os.stat_result | None:
    """What the system says of a file, or None if it cannot be reached."""
    try:
        return entry.stat() if isinstance(entry, os.DirEntry) else os.stat(entry)
    except OSError as error:
        if error.errno not in UNREADABLE:
            raise
        return None


def _version(status: os.stat_result | None) -> tuple[int, int, int]:
    """Which contents a file has, without reading them; zeros for one that cannot be reached.

    The time of the last change of state (ctime) cannot be set, so a file that is replaced, or is
    changed and given its old time, differs. (On Windows it is the time of creation.)
    """
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns) if status else (0, 0, 0)


def _digest(versions: Iterable[tuple[str, tuple[int, int, int]]]) -> str:
    """Of files, each with its path below the folder."""
    digest = hashlib.sha256()
    for inner, version in versions:
        digest.update(os.fsencode(f"{inner}\0{version}\n"))
    return digest.hexdigest()


def _walk(
    root: Path, leave_out: str | Path | None
) -> tuple[dict[str, tuple[int, int, int]], dict[str, OSError]]:
    """{path below root: its version} of every file, and {path: why} of folders that cannot be read.

    Hidden files are left out. What has a picture's suffix and is no file or folder counts as a picture:
    so a link to nothing is skipped with a reason.
    """
    found, closed, folders = {}, {}, [""]
    seen = set() if leave_out is None else {os.path.realpath(leave_out)}
    while folders:
        inner = folders.pop()
        real = os.path.realpath(root / inner)
        if real in seen:  # a link that leads back
            continue
        seen.add(real)
        below = []
        try:
            with os.scandir(real) as entries:
                for entry in entries:
                    if _ignored(entry.name):
                        continue
                    status = _status(entry)
                    kind = stat.S_IFMT(status.st_mode) if status else 0
                    if kind == stat.S_IFDIR:
                        below.append(f"{inner}{entry.name}/")
                    elif kind == stat.S_IFREG or entry.name.lower().endswith(SUFFIXES):
                        found[inner + entry.name] = _version(status)
        except OSError as error:
            if inner == "" or error.errno not in UNREADABLE:
                raise
            closed[inner] = error
        folders += sorted(below)
    return found, closed


def _pictures(paths: Iterable[str]) -> list[str]:
    return sorted(
        path
        for path in paths
        if path.lower().endswith(SUFFIXES) and not any(map(_ignored, path.split("/")))
    )


def _celeba(pictures: list[str], top: str = "") -> dict[str, str]:
    """{name: path} of those right in a folder `img_align_celeba`, the outermost if several.

    `top` is the name of the folder that the paths start from.
    """
    folders = {}
    for path in pictures:
        folder, _, name = path.rpartition("/")
        folders.setdefault(folder, {})[name] = path
    found = [folder for folder in folders if Path(top, folder).name == FOLDER]
    return folders[min(found, key=_depth)] if found else {}


def _choose(where: Path, files: Collection[str]) -> dict[str, str]:
    """{name: path} of the pictures to use."""
    pictures = _pictures(files)
    if not pictures:
        only = f"only {_suffixes(files)}" if files else "it is empty"
        raise DataError(f"{where} holds no pictures ({only}); {REMEDY}")
    return _celeba(pictures, where.name) or {path: path for path in pictures}


def _kind(picture: Path) -> str:
    """What `picture`, one of those that were chosen, is of: CelebA's lie in a folder of this name."""
    return "celeba" if picture.parent.name == FOLDER else "pictures"


def _left_out(where: Path, files: Iterable[str], chosen: dict[str, str]) -> str:
    """What is left out beside the pictures because of its suffix, as a sentence, or ""."""
    first = next(iter(chosen.values()))
    folder = first.rpartition("/")[0] if _kind(where / first) == "celeba" else None
    others = [
        file
        for file in files
        if not file.lower().endswith((*SUFFIXES, "/"))
        and not any(map(_ignored, file.split("/")))
        and folder in (None, file.rpartition("/")[0])
    ]
    count = "1 file" if len(others) == 1 else f"{len(others):,} files"
    left = f"{count} with other suffixes ({_suffixes(others)}) left out of {where}"
    return f"{left}; pictures are {READ}" if others else ""


def _depth(path: str) -> tuple[int, str]:
    return path.count("/"), path


def _ignored(part: str) -> bool:
    return part == "__MACOSX" or (part.startswith(".") and part not in (".", ".."))


def _suffixes(paths: Iterable[str]) -> str:
    suffixes = sorted({Path(path).suffix.lower() or "no suffix" for path in paths})
    more = ", ..." if len(suffixes) > 8 else ""
    return plain(", ".join(suffixes[:8]))[:200] + more


def _changed(path: Path) -> Changed:
    return Changed(f"{path} was changed or replaced while it was read; run again")


def _cannot_read(path: str | Path, error: OSError) -> DataError:
    reason = error.strerror or error
    return DataError(f"{path} cannot be read ({reason}); check that it is there and may be read")


def _broken_zip(path: Path) -> DataError:
    return DataError(
        f"{path} is a damaged or incomplete zip of {path.stat().st_size:,} bytes "
        f"(CelebA's has {ZIP_BYTES:,}); download it again"
    )
