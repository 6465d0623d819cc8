"""From the bytes of an image file to an array (S, S, 3).

The result equals that of torchvision's Resize(S) and CenterCrop(S). Pillow's bilinear filter scales the
short side to S; when it shrinks the image, it averages over all source pixels (antialiasing). Then the
middle is cut out. A small image is enlarged.

The files may come from a stranger, so the size in the header is checked before anything is decoded, and
memory and time stay in proportion to the size of the file.
"""

from __future__ import annotations

import io
import re
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..console import plain
from .source import Unreadable

# For these formats Pillow's memory is in proportion to the size in the header. TIFF and AVIF are left
# out, because in them a small image may consist of a tile or frame that takes gigabytes.
FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jfif", ".jpe"),
    "PNG": (".png",),
    "WebP": (".webp",),  # the first frame, if it is animated
    "BMP": (".bmp",),
    "GIF": (".gif",),  # the first frame
}
SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
# Part of the identity of a source, and so of the cache's key: raise "decode" if the bytes change.
RECIPE = {"decode": 2, "resize": "bilinear", "crop": "centre"}

# Anything beyond these limits is treated as a decompression bomb.
MAX_PIXELS = 64_000_000
MAX_BYTES = 64 * 2**20
MAX_PIXELS_PER_BYTE = 250  # a JPEG of a single colour has 60 to 160
FEW_PIXELS = 2_000_000  # exempt from MAX_PIXELS_PER_BYTE, because they need little memory
MAX_ASPECT = 16  # long side to short side: enlarging a strip's short side to S makes it huge
MAX_SCANS = 100  # of a progressive JPEG, usually 10: each costs a pass over all pixels


def decode(data: bytes, size: int) -> np.ndarray:
    """The image in the file contents `data`, as uint8 RGB (size, size, 3). Raises Unreadable."""
    if not data:
        raise Unreadable("empty file")
    if len(data) > MAX_BYTES:
        raise Unreadable(f"more than {MAX_BYTES:,} bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata, and sizes, which `_check` checks
            # reads only the header
            with Image.open(io.BytesIO(data), formats=tuple(FORMATS)) as image:
                _check(*image.size, size, data)
                return _resize_and_crop(_to_rgb(image), size)
    except (Unreadable, MemoryError):
        raise
    except Image.DecompressionBombError:  # Pillow's own limit, which is higher than ours
        raise Unreadable(f"more than {MAX_PIXELS:,} pixels") from None
    except UnidentifiedImageError:
        *most, last = FORMATS
        raise Unreadable(f"not a {', '.join(most)} or {last} image") from None
    except Exception as error:  # on damaged data, decoders raise nearly anything
        raise Unreadable(f"broken image: {plain(error)}") from error


def _check(width: int, height: int, size: int, data: bytes) -> None:
    """Raise Unreadable unless decoding takes memory and time in proportion to the file and `size`."""
    pixels, short, long = width * height, min(width, height), max(width, height)
    if max(pixels, size * (long * size // short)) > MAX_PIXELS:
        raise Unreadable(f"more than {MAX_PIXELS:,} pixels")
    if long > MAX_ASPECT * short:
        raise Unreadable(f"{width} x {height} pixels are a strip, not an image")
    if pixels > max(FEW_PIXELS, MAX_PIXELS_PER_BYTE * len(data)):
        raise Unreadable(f"{pixels:,} pixels in {len(data):,} bytes")
    if data.startswith(b"\xff\xd8") and _scans(data) > MAX_SCANS:
        raise Unreadable(f"more than {MAX_SCANS} scans")


def _scans(jpeg: bytes) -> int:
    """The number of "start of scan" markers, each with one of its four possible lengths."""
    return sum(1 for _ in re.finditer(rb"\xff\xda\x00[\x08\x0a\x0c\x0e]", jpeg))


def _to_rgb(image: Image.Image) -> Image.Image:
    """The image as RGB: upright by its EXIF tag, transparency on white, 16 bits to 8 by v / 257."""
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I"):  # 16-bit grey, which convert() would clip
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
