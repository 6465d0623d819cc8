"""Makes small data sets shaped like CelebA, intact or damaged, and sources that misbehave.

python tests/celeba_factory.py FOLDER --count 64 [--zip] [--nested]
"""

import argparse
import io
import os
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from minigan.data.source import Unreadable

SIZE = (178, 218)
# In CelebA's order
ATTRIBUTES = """5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose
Black_Hair Blond_Hair Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair
Heavy_Makeup High_Cheekbones Male Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin
Pointy_Nose Receding_Hairline Rosy_Cheeks Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings
Wearing_Hat Wearing_Lipstick Wearing_Necklace Wearing_Necktie Young""".split()  # noqa: SIM905, a list takes a page


def image(index: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """Smooth blobs of colour, different for every index."""
    blobs = np.random.default_rng(index).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    return Image.fromarray(blobs).resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "JPEG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def jpeg(index: int) -> bytes:
    return encoded(image(index), quality=90)


def make(folder: Path, count: int = 64, as_zip: bool = False, nested: bool = False) -> Path:
    """Write 000001.jpg... and return the zip or the folder to open."""
    folder = Path(folder)
    images = {f"{i:06d}.jpg": jpeg(i) for i in range(1, count + 1)}
    if as_zip:
        inner = "celeba/" if nested else ""
        path = folder / inner / "img_align_celeba.zip"
        write_zip(path, {f"img_align_celeba/{name}": data for name, data in images.items()})
        return folder if nested else path
    write_files(folder / ("celeba/img_align_celeba" if nested else ""), images)
    return folder


def attributes(index: int) -> list[int]:
    """40 values of 1 or -1 for image `index`. Male alternates, every third is Smiling."""
    values = np.random.default_rng(index).choice([-1, 1], len(ATTRIBUTES)).tolist()
    values[ATTRIBUTES.index("Male")] = 1 if index % 2 else -1
    values[ATTRIBUTES.index("Smiling")] = -1 if index % 3 else 1
    return values


def attribute_list(count: int, newline: str = "\r\n") -> bytes:
    """list_attr_celeba.txt for the first `count` images, with white space as in CelebA's own file."""
    rows = ["".join(f"{value:3d}" for value in attributes(i)) for i in range(1, count + 1)]
    images = [f"{i:06d}.jpg{row} " for i, row in enumerate(rows, 1)]
    lines = [str(count), " ".join(ATTRIBUTES) + " ", *images, ""]
    return newline.join(lines).encode()


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def encrypt(path: Path, name: str) -> None:
    """Set an entry's flag "encrypted", in its local header and in the zip's directory."""
    data = bytearray(path.read_bytes())
    for magic, flags, text in ((b"PK\x03\x04", 6, 30), (b"PK\x01\x02", 8, 46)):
        at = data.find(magic)
        while data[at + text : at + text + len(name)] != name.encode():
            at = data.index(magic, at + 1)
        data[at + flags] |= 1
    path.write_bytes(data)


def png_header(width: int, height: int) -> bytes:
    """A PNG whose header gives a size, and which ends before its pixels."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    tail = struct.pack(">I", zlib.crc32(body))
    rows = b"IDAT" + zlib.compress(b"")
    rows = struct.pack(">I", len(rows) - 4) + rows + struct.pack(">I", zlib.crc32(rows))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + tail + rows


def broken() -> dict[str, tuple[bytes, str]]:
    """{name: (contents, a word from the reason for skipping it)}."""
    whole = jpeg(1)
    damaged = bytearray(encoded(image(1), "PNG"))
    damaged[200:300] = bytes(100)
    return {
        "empty.jpg": (b"", "empty"),
        "truncated.jpg": (whole[: len(whole) // 2], "truncated"),
        "header.jpg": (whole[:300], "broken"),
        "text.jpg": (b"not an image", "not a JPEG"),
        "tiff.png": (encoded(image(1), "TIFF"), "not a JPEG"),
        "cut.png": (encoded(image(1), "PNG")[:3000], "broken"),
        "damaged.png": (damaged, "broken"),
        "over_ours.png": (png_header(9000, 9000), "64,000,000 pixels"),
        "over_warning.png": (png_header(10_000, 10_000), "64,000,000 pixels"),
        "over_error.png": (png_header(30_000, 30_000), "64,000,000 pixels"),
        "strip.png": (encoded(Image.new("L", (1, 40_000)), "PNG"), "64,000,000 pixels"),
    }


@dataclass
class Squares:
    """A source of `count` small images; image i is filled with i mod 251.

    Each load appends its index to the file `log`. Images in `bad` are unreadable, and loading the image
    `fatal` kills the process (kill -9) unless the file `log` + ".survive" exists.
    """

    count: int
    log: str
    bad: tuple[int, ...] = ()
    fatal: int = -1
    size: int = 4

    def __len__(self) -> int:
        return self.count

    def identity(self) -> dict:
        return {"squares": self.count, "size": self.size, "bad": self.bad}

    def check(self) -> None:
        pass

    def name(self, i: int) -> str:
        return f"{i:06d}"

    def load(self, i: int) -> np.ndarray:
        if i == self.fatal and not os.path.exists(self.log + ".survive"):
            os.kill(os.getpid(), 9)
        with open(self.log, "a") as file:
            file.write(f"{i}\n")
        if i in self.bad:
            raise Unreadable(f"bad number {i}")
        return np.full((self.size, self.size, 3), i % 251, np.uint8)

    def loaded(self) -> list[int]:
        """The indices decoded so far, in the order of decoding."""
        path = Path(self.log)
        return [int(line) for line in path.read_text().split()] if path.exists() else []


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--zip", action="store_true", help="write img_align_celeba.zip")
    parser.add_argument("--nested", action="store_true", help="write into folders below FOLDER")
    options = parser.parse_args()
    print(make(options.folder, options.count, options.zip, options.nested))
