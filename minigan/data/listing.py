"""Decide by their paths which files of a folder or zip are images to use.

If a folder `img_align_celeba` contains images, only those are used, because that is CelebA's folder.
Otherwise all images are used. folder.py and archive.py list the files and call this file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from ..console import plain
from ..errors import UserError
from .decoding import SUFFIXES

FOLDER = "img_align_celeba"
ZIP = "img_align_celeba.zip"
READ = ", ".join(SUFFIXES)
REMEDY = f"give the path of {ZIP}, or of a folder or zip of images ({READ})"


def choose(where: Path, files: Collection[str]) -> dict[str, str]:
    """{name: path} of the images to use among the paths below `where`. UserError: there are none."""
    images = images_among(files)
    if not images:
        only = f"only {_suffixes(files)}" if files else "it is empty"
        raise UserError(f"{where} contains no images ({only}); {REMEDY}")
    return celeba_among(images, where.name) or {path: path for path in images}


def images_among(paths: Iterable[str]) -> list[str]:
    """The paths of images, sorted: those with one of the SUFFIXES that are not hidden."""
    return sorted(path for path in paths if path.lower().endswith(SUFFIXES) and not _hidden(path))


def celeba_among(images: list[str], top: str = "") -> dict[str, str]:
    """{name: path} of the images directly in the outermost folder `img_align_celeba`, if there is one.

    `top` is the name of the folder that the paths are relative to.
    """
    folders: dict[str, dict[str, str]] = {}
    for path in images:
        folder, _, name = path.rpartition("/")
        folders.setdefault(folder, {})[name] = path
    found = [folder for folder in folders if Path(top, folder).name == FOLDER]
    return folders[min(found, key=depth)] if found else {}


def kind_of(image: Path) -> str:
    """The kind of data that a chosen image is: "celeba" if its folder is CelebA's, else "pictures".

    Both words are part of the keys of caches and of the names of runs.
    """
    return "celeba" if image.parent.name == FOLDER else "pictures"


def left_out(where: Path, files: Iterable[str], chosen: dict[str, str]) -> str:
    """A sentence about the files that are ignored because of their suffixes, or "" if none are."""
    first = next(iter(chosen.values()))
    folder = first.rpartition("/")[0] if kind_of(where / first) == "celeba" else None
    others = [
        file
        for file in files
        if not file.lower().endswith((*SUFFIXES, "/"))
        and not _hidden(file)
        and folder in (None, file.rpartition("/")[0])
    ]
    count = "1 file" if len(others) == 1 else f"{len(others):,} files"
    ignored = f"ignored {count} in {where} with other suffixes ({_suffixes(others)})"
    return f"{ignored}; images are read from {READ}" if others else ""


def depth(path: str) -> tuple[int, str]:
    """A key that sorts the outermost path first."""
    return path.count("/"), path


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is ignored."""
    return name == "__MACOSX" or (name.startswith(".") and name not in (".", ".."))


def _hidden(path: str) -> bool:
    return any(map(is_hidden, path.split("/")))


def _suffixes(paths: Iterable[str]) -> str:
    suffixes = sorted({Path(path).suffix.lower() or "no suffix" for path in paths})
    more = ", ..." if len(suffixes) > 8 else ""
    return plain(", ".join(suffixes[:8]))[:200] + more
