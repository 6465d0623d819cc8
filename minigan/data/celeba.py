"""The images of CelebA (Liu et al., 2015), or any other images, from a zip or a folder.

archive.py, folder.py     the two types of source, built on imagefiles.py
listing.py                which files are images to use
attributes.py             CelebA's list of attributes, for --only and --condition
decoding.py               from a file's bytes to an array of values 0 to 255, scaled and cropped;
                          images.py flips them and scales the values to [-1, 1]
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..errors import UserError
from .archive import open_zip
from .folder import open_folder
from .imagefiles import ImageFiles
from .listing import REMEDY
from .source import cannot_read


def open_source(
    root: str | Path,
    image_size: int = 64,
    max_images: int | None = None,
    only: str | None = None,
    leave_out: str | Path | None = None,
    condition: str | None = None,
) -> ImageFiles:
    """The first `max_images` images, by name, in a zip or in a folder and the folders below it.

    only       attributes that the images must have, such as "Male,no-Eyeglasses", according to
               CelebA's list of attributes, which must be next to the images or in a folder above
    leave_out  a folder that is not searched, such as the folder of the runs, which contain images too
    condition  attributes that divide the images into classes, such as "Male,Smiling", according to the
               same list; images that are not in the list are left out

    In a folder, the first of these that exists is used: a folder `img_align_celeba` with images (the
    folder itself or one below it), a file `img_align_celeba.zip`, or all images below the folder.
    Images are recognised by their suffixes (decoding.SUFFIXES), in upper or lower case; the source's
    `left_out` counts the other files. Hidden files and `__MACOSX` are ignored.

    Raises UserError if there is nothing to use, and ValueError if a number is not positive.
    """
    if image_size < 1 or (max_images is not None and max_images < 1):
        raise ValueError(f"image_size {image_size} and max_images {max_images} must be positive")
    path = Path(os.path.abspath(root))
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return open_folder(path, image_size, max_images, only, condition, leave_out)
        if stat.S_ISREG(mode):
            return open_zip(path, image_size, max_images, only, condition)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path} does not exist; {REMEDY}") from None
    except OSError as error:
        raise cannot_read(error.filename or path, error) from error
    raise UserError(f"{path} is neither a zip nor a folder; {REMEDY}")
