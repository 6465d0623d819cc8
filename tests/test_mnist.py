"""MNIST and Fashion-MNIST from idx files: read whole and exactly, or refused with the reason."""

import gzip
import hashlib
import os
import re
import struct
from pathlib import Path

import numpy as np
import pytest

from minigan.data import mnist, workers
from minigan.data.mnist import open_mnist
from minigan.data.opening import DataOptions, open_data
from minigan.errors import UserError

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
COUNT = 20
PIXELS = np.random.default_rng(0).integers(0, 256, (COUNT, 28, 28), np.uint8)
DIGITS = np.arange(COUNT, dtype=np.uint8) % 10


def idx(array: np.ndarray) -> bytes:
    """The contents of an idx file, byte by byte."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def written(
    folder: Path, images: bytes = idx(PIXELS), labels: bytes = idx(DIGITS), suffix=""
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{IMAGES}{suffix}").write_bytes(images)
    (folder / f"{LABELS}{suffix}").write_bytes(labels)
    return folder


def test_the_first_and_last_pixel_and_label_are_those_of_the_file(tmp_path):
    source = open_mnist(written(tmp_path), "mnist", 28, None)
    np.testing.assert_array_equal(source.pixels, PIXELS)
    np.testing.assert_array_equal(source.labels, DIGITS)
    assert source.labels.dtype == np.int64
    np.testing.assert_array_equal(source.load(7), np.stack([PIXELS[7]] * 3, axis=2))
    assert (source.name(7), source.label(7), len(source)) == ("mnist-00007", 7, COUNT)


@pytest.mark.parametrize("layout", ["", "MNIST/raw"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dot", [False, True])
def test_plain_and_gzipped_files_of_every_usual_name_give_equal_bytes(
    tmp_path, layout, packed, dot
):
    pack, suffix = (gzip.compress, ".gz") if packed else (bytes, "")
    folder = written(tmp_path / layout, pack(idx(PIXELS)), pack(idx(DIGITS)), suffix)
    if dot:
        for path in list(folder.iterdir()):
            path.rename(folder / path.name.replace("-idx", ".idx"))
    source = open_mnist(tmp_path, "mnist", 28, None)
    np.testing.assert_array_equal(source.pixels, PIXELS)
    np.testing.assert_array_equal(source.labels, DIGITS)


def test_what_a_file_is_does_not_depend_on_its_suffix(tmp_path):
    """Browsers unpack a file and keep the suffix; some programs drop it and do not unpack."""
    written(tmp_path / "a", suffix=".gz")
    written(tmp_path / "b", gzip.compress(idx(PIXELS)), gzip.compress(idx(DIGITS)))
    for folder in "ab":
        source = open_mnist(tmp_path / folder, "mnist", 28, None)
        np.testing.assert_array_equal(source.pixels, PIXELS)


@pytest.mark.parametrize("size", [32, 64])
def test_another_size_is_reached_by_bilinear_filtering(tmp_path, size):
    pixels = np.full((2, 28, 28), 200, np.uint8)
    pixels[1, :, 14:] = 0
    source = open_mnist(written(tmp_path, idx(pixels), idx(DIGITS[:2])), "mnist", size, None)
    assert (source.load(0) == np.full((size, size, 3), 200)).all()
    row = source.load(1)[0, :, 0].astype(int)
    assert (row[0], row[-1]) == (200, 0)
    assert (np.diff(row) <= 0).all()
    assert 0 < row[size // 2] < row[size // 2 - 1] < 200  # the step is spread over two pixels


def test_max_images_takes_the_first(tmp_path):
    source = open_mnist(written(tmp_path), "mnist", 28, 3)
    np.testing.assert_array_equal(source.pixels, PIXELS[:3])
    np.testing.assert_array_equal(source.labels, DIGITS[:3])


def spoil(folder: Path) -> Path:
    """The place of the file of images, which was removed."""
    (written(folder) / IMAGES).unlink()
    return folder / IMAGES


def spoiled(image: bytes | None = None, label: bytes | None = None):
    return {k: v for k, v in {"images": image, "labels": label}.items() if v is not None}


I, L = idx(PIXELS), idx(DIGITS)
PACKED = gzip.compress(I)
BAD = {
    "empty": (spoiled(b""), "it starts with nothing instead of 00000803"),
    "a web page": (
        spoiled(b"<!DOCTYPE html>" + b" " * 712),
        "it is a web page, probably the server's",
    ),
    "another file of 727 bytes": (
        spoiled(b"x" * 727),
        "it starts with 78787878 instead of 00000803",
    ),
    "byte-swapped": (spoiled(b"\x03\x08\0\0" + I[4:]), "bytes of its header are in reverse order"),
    "floats": (spoiled(b"\0\0\x0d\x03" + I[4:]), "it starts with 00000d03 instead of 00000803"),
    "swapped files": (spoiled(L, I), "it holds labels"),
    "swapped labels": (spoiled(label=I), "it holds images"),
    "only a header": (spoiled(I[:9]), "it ends within its header, after 9 bytes"),
    "other pixels": (spoiled(idx(PIXELS[:, :27])), "images have 27 x 28 pixels instead of 28 x 28"),
    "no samples": (spoiled(idx(PIXELS[:0])), "it announces 0 samples instead of 60000"),
    "a bomb": (
        spoiled(I[:4] + b"\xff" * 4 + I[8:]),
        "announces 4294967295 samples instead of 60000",
    ),
    "cut off": (spoiled(I[:-1]), "it is cut off after 15679 of 15680 values"),
    "over-long": (spoiled(I + b"x"), "it continues after the 15680 values that its header"),
    "gzip cut off": (spoiled(PACKED[:-20]), "its gzip data is damaged or cut off"),
    "gzip damaged": (spoiled(PACKED[:50] + b"\0\0\0" + PACKED[53:]), "its gzip data is damaged"),
    "gzip with more": (spoiled(PACKED + b"more"), "its gzip data is damaged or cut off"),
    "two gzips": (spoiled(PACKED + gzip.compress(b"x")), "it continues after the 15680 values"),
    "gzip of a page": (spoiled(gzip.compress(b"<html>")), "it is a web page"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_is_not_whole_is_told_with_its_name_the_reason_and_the_remedy(tmp_path, name):
    files, reason = BAD[name]
    written(tmp_path, **files)
    part, file = ("images", IMAGES) if "images" in files else ("labels", LABELS)
    before = sorted((p.name, p.read_bytes()) for p in tmp_path.iterdir())
    with pytest.raises(UserError) as caught:
        open_mnist(tmp_path, "mnist", 28, None)
    said = str(caught.value)
    assert said.startswith(f"{tmp_path / file} is not MNIST's file of {part}: ")
    assert reason in said
    assert said.endswith("; download it again")
    assert "\n" not in said
    assert sorted((p.name, p.read_bytes()) for p in tmp_path.iterdir()) == before


@pytest.mark.parametrize("packed", [False, True])
def test_damage_anywhere_is_told_or_does_no_harm(tmp_path, packed):
    rng, whole = np.random.default_rng(5), PACKED if packed else I
    for _ in range(50):
        data = np.frombuffer(whole, np.uint8).copy()
        data[rng.integers(20 if rng.random() < 0.5 else len(data), size=3)] = rng.integers(
            256, size=3
        )
        written(tmp_path, data.tobytes())
        said, shape = "", PIXELS.shape
        try:
            shape = open_mnist(tmp_path, "mnist", 28, None).pixels.shape
        except UserError as error:
            said = str(error)
        assert (shape, said.count("\n")) == (PIXELS.shape, 0)


@pytest.mark.parametrize("label", [10, 26, 255])
def test_a_label_that_is_no_class_is_told_with_its_place(tmp_path, label):
    labels = DIGITS.copy()
    labels[5] = label
    written(tmp_path, labels=idx(labels))
    with pytest.raises(UserError, match=f"has the label {label} at sample 5, .*EMNIST.*transposed"):
        open_mnist(tmp_path, "mnist", 28, None)


def test_unequal_counts_are_told(tmp_path):
    written(tmp_path, labels=idx(DIGITS[:-1]))
    with pytest.raises(
        UserError, match="has 20 images but 19 labels; get both files of MNIST again"
    ):
        open_mnist(tmp_path, "mnist", 28, None)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "does not exist; give the folder of MNIST's train-images"),
        (Path.touch, "is not a folder; give the folder of MNIST's"),
        (Path.mkdir, f"has no {IMAGES} or {IMAGES}.gz; give the folder of MNIST's"),
        (lambda path: (written(path) / LABELS).unlink(), f"has no {LABELS} or {LABELS}.gz; give"),
        (
            lambda path: path.mkdir() or (path / "emnist-letters-train-images-idx3-ubyte").touch(),
            r"\(EMNIST is another set, whose images are transposed\); give the folder",
        ),
        (lambda path: os.mkfifo(spoil(path)), "it is not a regular file; download it again"),
        (lambda path: spoil(path).symlink_to("nowhere"), "cannot be read .*; check that it exists"),
    ],
    ids=["nothing", "a file", "empty", "half", "emnist", "a pipe", "a broken link"],
)
def test_what_is_missing_is_named_with_the_remedy(tmp_path, make, words):
    make(tmp_path / "data")
    with pytest.raises(UserError, match=words):
        open_mnist(tmp_path / "data", "mnist", 28, None)


def test_the_digest_tells_which_of_the_two_sets_a_file_is_of(tmp_path, monkeypatch):
    written(tmp_path)
    known = {
        hashlib.md5(I).hexdigest(): "fashion-mnist",
        hashlib.md5(L).hexdigest(): "fashion-mnist",
    }
    monkeypatch.setattr(mnist, "MD5", known)
    source = open_mnist(tmp_path, "fashion-mnist", 28, None)
    assert (source.notes, source.classes[9]) == ([], "ankle boot")
    with pytest.raises(
        UserError, match=f"{IMAGES} is a file of Fashion-MNIST, not of MNIST; give --data"
    ):
        open_mnist(tmp_path, "mnist", 28, None)


def test_files_that_are_not_the_published_ones_are_used_and_told(tmp_path):
    (note,) = open_mnist(written(tmp_path), "mnist", 28, None).notes
    assert note == f"not the published MNIST: {tmp_path / IMAGES}, {tmp_path / LABELS}."


def test_the_whole_way_from_files_to_a_batch(tmp_path, monkeypatch):
    # in which each process would get a copy of all pixels
    monkeypatch.setattr(
        workers, "ProcessPoolExecutor", lambda *options: pytest.fail("it has workers")
    )
    labels = DIGITS.copy()
    labels[labels == 3] = 4
    written(tmp_path / "files", labels=idx(labels))
    options = DataOptions(data="mnist")
    data = open_data(
        options, str(tmp_path / "files"), 0, tmp_path / "runs", workers=4, progress=False
    )
    assert (data.name, data.shape, len(data)) == ("mnist28", (1, 28, 28), COUNT)
    np.testing.assert_array_equal(data.labels, labels)
    assert data.identity["classes"] == list("0123456789")
    assert re.search("^classes without an image: 3.$", data.notes[-1])
    batch = data.batch(np.array([4, 0]), "cpu").numpy()
    expected = PIXELS[[4, 0], None] / 127.5 - 1
    np.testing.assert_allclose(batch, expected, atol=1e-6)  # float32, and a sum of three weights


def test_the_fingerprint_covers_the_labels(tmp_path):
    def identity(labels: np.ndarray) -> dict:
        written(tmp_path / "files", labels=idx(labels))
        options = DataOptions(data="mnist")
        return open_data(options, str(tmp_path / "files"), 0, tmp_path, progress=False).identity

    one, again, other = identity(DIGITS), identity(DIGITS), identity(DIGITS[::-1])
    assert one == again
    assert one["key"] == other["key"]  # the same pixels, decoded once
    assert one["fingerprint"] != other["fingerprint"]


def test_one_class_is_none(tmp_path):
    written(tmp_path, labels=idx(0 * DIGITS + 7))
    with pytest.raises(
        UserError, match="all 20 images of --data mnist are of class 7, so there are no"
    ):
        open_data(DataOptions(data="mnist"), str(tmp_path), 0, tmp_path, progress=False)
