"""The flag --dataroot of the commands that read data."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

KINDS = (
    "img_align_celeba.zip, or any folder or zip of images (JPEG, PNG, WebP, BMP, GIF), or the files of "
    "the chosen --data; two folders or zips are the two classes of --data folder; by default looked "
    "for in the folder data/"
)
MOVED = "where the data's files are now; give it twice for data of two folders or zips"


class _Paths(argparse.Action):
    """One path as it is; several, or those of a flag that is given twice, as a tuple."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        found = [values] if isinstance(values, str) else list(values or ())
        if not found or "--" in found:  # Python's versions differ in what `--dataroot=--` is
            parser.error("argument --dataroot: '--' is not a value")
        before = getattr(namespace, self.dest, None) or ()
        paths = (*((before,) if isinstance(before, str) else before), *found)
        setattr(namespace, self.dest, paths[0] if len(paths) == 1 else paths)


def add(parser: Any, text: str, default: Any = None, several: bool = False) -> None:
    """Add the flag, with this help text.

    several  whether the flag takes several paths at once; not beside a positional argument, which it
             would swallow
    """
    parser.add_argument(
        "--dataroot",
        nargs="+" if several else None,
        action=_Paths,
        metavar="PATH",
        default=default,
        help=text,
    )
