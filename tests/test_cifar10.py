"""CIFAR-10 from its binary files: read whole and exactly, or refused with the reason."""

import gzip
import hashlib
import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

from minigan.data import cifar10
from minigan.data.cifar10 import ARCHIVE, FOLDER, SHA256, open_cifar10
from minigan.data.opening import DataOptions, open_data
from minigan.errors import UserError

NAMES = tuple(SHA256)
FEW = 3  # samples per file


def contents() -> dict[str, bytes]:
    """{name: bytes} of the five files, of random pixels; the labels count up."""
    rng, files = np.random.default_rng(0), {}
    for number, name in enumerate(NAMES):
        labels = (FEW * number + np.arange(FEW)) % 10
        planes = rng.integers(0, 256, (FEW, 3072))
        files[name] = np.column_stack([labels, planes]).astype(np.uint8).tobytes()
    return files


FILES = contents()


def folder(path: Path, files: dict[str, bytes] = FILES) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (path / name).write_bytes(data)
    return path


def member(name: str, data: bytes = b"", **fields) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def members(files: dict[str, bytes] = FILES) -> list[tuple[tarfile.TarInfo, bytes]]:
    return [member(f"{FOLDER}/{name}", data) for name, data in files.items()]


def archive(path: Path, *parts: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for info, data in parts:
            tar.addfile(info, io.BytesIO(data))
    return path


def test_one_red_pixel_lands_in_the_corner_of_the_red_plane(tmp_path):
    sample = bytearray(3073)
    sample[0], sample[1] = 6, 255  # a frog, and the first byte of the red plane
    sample[2], sample[1 + 1024 + 32] = 7, 8  # to the right of it, red; below it, green
    source = open_cifar10(folder(tmp_path, dict.fromkeys(NAMES, bytes(sample))), 32, None)
    (red, green), where = (source.pixels[0, :, :, channel] for channel in (0, 1)), source.label(0)
    assert (red[0, 0], red[0, 1], green[1, 0]) == (255, 7, 8)
    assert source.pixels[0].astype(int).sum() == 255 + 7 + 8
    assert source.classes[where] == "frog"


@pytest.mark.parametrize("place", ["archive", "above the archive", "folder", "above the folder"])
def test_archive_and_folder_give_the_same_samples(tmp_path, place):
    if "archive" in place:
        extra = [member("readme.html", b"<html>"), member(FOLDER, type=tarfile.DIRTYPE)]
        path = archive(tmp_path / ARCHIVE, *extra, *members())
    else:
        path = folder(tmp_path / FOLDER)
    source = open_cifar10(tmp_path if "above" in place else path, 32, None)
    raw = np.frombuffer(b"".join(FILES.values()), np.uint8).reshape(-1, 3073)
    np.testing.assert_array_equal(source.labels, raw[:, 0])
    np.testing.assert_array_equal(source.pixels[:, :, :, 2].reshape(-1, 1024), raw[:, 2049:])
    assert (source.labels.dtype, len(source)) == (np.int64, 5 * FEW)


def test_max_images_takes_the_first_and_another_size_is_reached(tmp_path):
    source = open_cifar10(folder(tmp_path), 64, 4)
    assert len(source) == 4
    assert source.load(3).shape == (64, 64, 3)
    assert abs(source.load(3).mean() - source.pixels[3].mean()) < 2  # enlarging keeps the mean


def test_only_files_with_other_digests_are_told(tmp_path, monkeypatch):
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}
    folder(tmp_path)
    monkeypatch.setattr(cifar10, "SHA256", digests)
    assert open_cifar10(tmp_path, 32, None).notes == []
    monkeypatch.setattr(cifar10, "SHA256", {**digests, NAMES[2]: "0"})
    (note,) = open_cifar10(tmp_path, 32, None).notes
    assert note == f"not the published CIFAR-10: data_batch_3.bin in {tmp_path}."


def label_ten(files: dict[str, bytes]) -> dict[str, bytes]:
    sample = bytearray(files[NAMES[4]])
    sample[3073] = 10
    return {**files, NAMES[4]: bytes(sample)}


BAD_FOLDERS = {
    "one is missing": (
        {k: v for k, v in FILES.items() if k != NAMES[3]},
        "lacks data_batch_4.bin; give cifar-10-binary.tar.gz",
    ),
    "none is there": ({}, "lacks data_batch_1.bin, data_batch_2.bin, data_batch_3.bin, "),
    "cut off": ({**FILES, NAMES[1]: FILES[NAMES[1]][:-1]}, "data_batch_2.bin has 9218 bytes, not a"),
    "over-long": ({**FILES, NAMES[1]: FILES[NAMES[1]] + b"x"}, "data_batch_2.bin has 9220 bytes, "),
    "empty": ({**FILES, NAMES[1]: b""}, "data_batch_2.bin has 0 bytes, not a multiple of"),
    "label 10": (label_ten(FILES), "data_batch_5.bin has the label 10 at sample 1, but there are 10 "),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_FOLDERS)
def test_a_bad_file_is_told_from_the_folder_and_from_the_archive(tmp_path, name):
    files, words = BAD_FOLDERS[name]
    with pytest.raises(UserError, match=words):
        open_cifar10(folder(tmp_path / FOLDER, files), 32, None)
    with pytest.raises(UserError, match=words):
        open_cifar10(archive(tmp_path / ARCHIVE, *members(files)), 32, None)


def test_too_large_a_file_is_not_read_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar10, "MOST_BYTES", FEW * 3073 - 1)
    with pytest.raises(UserError, match=r"data_batch_1\.bin cannot be used: more than 9,218 bytes"):
        open_cifar10(folder(tmp_path / FOLDER), 32, None)
    with pytest.raises(UserError, match=r"data_batch_1\.bin is not one file of at most 9218 bytes"):
        open_cifar10(archive(tmp_path / ARCHIVE, *members()), 32, None)


LINK = {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}
BAD_ARCHIVES = {
    "a link for a file": ([member(f"{FOLDER}/{NAMES[0]}", **LINK), *members()], "is not one file of"),
    "a file twice": ([*members(), members()[0]], "data_batch_1.bin is not one file of at most"),
    "paths that climb": ([member(f"../{FOLDER}/{n}", FILES[n]) for n in NAMES], "lacks data_batch_1"),
    "a folder more": ([member(f"x/{FOLDER}/{n}", FILES[n]) for n in NAMES], "lacks data_batch_1.bin"),
    "pickles": ([member("cifar-10-batches-py/data_batch_1", b"x")], "holds pickles, and loading a"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_ARCHIVES)
def test_an_archive_is_read_by_exact_names_and_nothing_is_extracted(tmp_path, name):
    parts, words = BAD_ARCHIVES[name]
    path = archive(tmp_path / ARCHIVE, *parts)
    with pytest.raises(UserError, match=words):
        open_cifar10(path, 32, None)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda data: data[:-100], "is a damaged or incomplete archive"),
        (lambda data: data[:40] + b"\0\0\0\0" + data[44:], "is a damaged or incomplete archive"),
        (
            lambda data: b"<!DOCTYPE html>",
            "is a web page, probably the server's notice of an error",
        ),
        (lambda data: b"", "is not gzipped, as cifar-10-binary.tar.gz is"),
        (gzip.decompress, "is not gzipped, as cifar-10-binary.tar.gz is"),
        (lambda data: gzip.compress(b"no tar" * 200), "is a damaged or incomplete archive"),
        (lambda data: gzip.compress(bytes(10**6)), "lacks data_batch_1.bin, "),
    ],
    ids=["cut off", "damaged", "a web page", "empty", "unpacked", "no tar", "zeros"],
)
def test_an_archive_that_is_not_whole_is_told(tmp_path, spoil, words):
    path = archive(tmp_path / ARCHIVE, *members())
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(UserError, match=words) as caught:
        open_cifar10(path, 32, None)
    assert "give cifar-10-binary.tar.gz, from https://" in str(caught.value)


def test_damage_anywhere_is_told_or_does_no_harm(tmp_path):
    whole = gzip.decompress(archive(tmp_path / ARCHIVE, *members()).read_bytes())
    starts = [at for at in range(0, len(whole), 512) if whole[at:].startswith(FOLDER.encode())]
    assert len(starts) == len(NAMES)
    rng = np.random.default_rng(5)
    for _ in range(50):
        data = np.frombuffer(whole, np.uint8).copy()
        data[rng.choice(starts) + rng.integers(512, size=3)] = rng.integers(256, size=3)
        (tmp_path / ARCHIVE).write_bytes(gzip.compress(data.tobytes(), 1))
        said, count = "", 5 * FEW
        try:
            count = len(open_cifar10(tmp_path, 32, None))
        except UserError as error:
            said = str(error)
        assert (count, said.count("\n")) == (5 * FEW, 0)


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar10, "MOST_UNPACKED", 10**6)
    path = archive(tmp_path / ARCHIVE, member("zeros", bytes(10**7)), *members())
    with pytest.raises(
        UserError, match=r"damaged or incomplete archive \(more than 1000000 bytes when"
    ):
        open_cifar10(path, 32, None)


@pytest.mark.parametrize("name", ["cifar-10-python.tar.gz", "cifar-10-batches-py"])
def test_the_pickles_are_refused_with_the_name_of_the_right_file(tmp_path, name):
    (tmp_path / name).mkdir()
    for root in (tmp_path, tmp_path / name):
        with pytest.raises(
            UserError, match=f"{name} holds pickles, .* give cifar-10-binary.tar.gz"
        ):
            open_cifar10(root, 32, None)


def test_where_there_is_nothing_the_file_to_get_is_named(tmp_path):
    with pytest.raises(
        UserError, match=r"none does not exist; give cifar-10-binary\.tar\.gz, from"
    ):
        open_cifar10(tmp_path / "none", 32, None)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="pipe is neither a file nor a folder; give"):
        open_cifar10(tmp_path / "pipe", 32, None)


def test_the_whole_way_from_the_archive_to_a_batch(tmp_path):
    path = archive(tmp_path / ARCHIVE, *members())
    data = open_data(DataOptions(data="cifar10"), str(path), 0, tmp_path, workers=2, progress=False)
    assert (data.name, data.shape, len(data)) == ("cifar10-32", (3, 32, 32), 15)
    assert data.classes[data.labels[9]] == "truck"
    raw = np.frombuffer(FILES[NAMES[3]], np.uint8).reshape(-1, 3073)[0, 1:].reshape(3, 32, 32)
    batch = data.batch(np.array([9]), "cpu").numpy()
    np.testing.assert_allclose(batch[0], raw / 127.5 - 1, atol=1e-6)  # float32
