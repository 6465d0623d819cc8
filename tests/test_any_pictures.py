"""The public commands on pictures other than CelebA's, and on data that changes."""

import os
import sys
from pathlib import Path

import celeba_factory as factory
import pytest
import tiny
from PIL import Image


@pytest.fixture(autouse=True)
def somewhere_empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "cupy", None)
    tiny.hurry(monkeypatch)


def cats(count: int, folder: str = "cats") -> Path:
    """Pictures that all have the same number of bytes."""
    image = [Image.new("RGB", (16, 16), (i, 2 * i % 256, 0)) for i in range(count)]
    data = {f"{i:03d}.bmp": factory.encoded(image[i], "BMP") for i in range(count)}
    return factory.write_files(Path(folder), data)


def test_any_folder_of_pictures_will_do_and_what_is_left_out_is_said(capsys):
    factory.write_files(cats(8), {"a.heic": b"x", "b.txt": b"x"})
    run = tiny.train("runs", "--dataroot", "cats", "--steps", 1)
    out, err = capsys.readouterr()
    assert run.folder.name == "00000-dcgan-pictures16"
    assert out.splitlines()[0] == (
        f"ignored 2 files in {Path.cwd() / 'cats'} with other suffixes (.heic, .txt); "
        "images are read from .jpg, .jpeg, .jfif, .jpe, .png, .webp, .bmp, .gif"
    )
    assert err == ""


def test_none_that_can_be_used_names_the_folder_and_not_the_cache(capsys):
    factory.write_files(Path("broken"), {f"{i}.jpg": b"x" for i in range(9)})
    assert tiny.train_celeba.main([*tiny.TINY, "--dataroot", "broken"]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"error: none of the 9 images in {Path.cwd() / 'broken'} can be used (")
    assert ".npy" not in err


def test_too_few_pictures_name_no_option_that_was_not_given(capsys):
    cats(3)
    assert tiny.train_celeba.main([*tiny.TINY, "--dataroot", "cats"]) == 1
    assert capsys.readouterr().err == (
        "error: --batch-size 4: pictures16 has 3 samples; lower it, or use more data\n"
    )


@pytest.mark.parametrize("out", ["file", "file/runs"])
def test_an_out_that_is_a_file_is_named_and_nothing_else(capsys, out):
    Path("file").touch()
    assert tiny.train_celeba.main([*tiny.TINY, "--dataroot", str(cats(8)), "--out", out]) == 1
    said = f"error: --out {out}: file is not a folder; give another path\n"
    assert capsys.readouterr() == ("", said)


@pytest.mark.parametrize("number", [0, 37])
def test_a_run_goes_on_only_with_the_very_same_pictures(capsys, number):
    """One of 130 is replaced by another of the same size and modification time."""
    root = cats(130)
    run = tiny.train("runs", "--dataroot", root, "--max-images", 130, "--steps", 1)
    replaced = root / f"{number:03d}.bmp"
    before = replaced.stat()
    data = replaced.read_bytes()
    replaced.write_bytes(data[:-1] + bytes([data[-1] ^ 255]))  # one value of one pixel
    os.utime(replaced, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert replaced.stat().st_size == before.st_size
    flags = ["--resume", str(run.folder), "--steps", "2"]
    assert tiny.train_celeba.main(flags) == 1
    assert (
        f"these 130 samples are not the 130 with which {run.folder} was started"
        in capsys.readouterr().err
    )
    replaced.write_bytes(data)  # a new file by its times, but the same pictures
    assert tiny.train_celeba.main(flags) == 0


def test_a_bit_that_the_disk_flips_in_the_cache_is_mended():
    run = tiny.train("runs", "--steps", 1)
    (cache,) = Path("runs/cache").glob("*.npy")
    whole = cache.read_bytes()
    spoiled = bytearray(whole)
    spoiled[len(whole) // 2] ^= 16
    cache.write_bytes(spoiled)
    tiny.train("runs", "--resume", run.folder, "--steps", 2)
    assert cache.read_bytes() == whole


@pytest.mark.parametrize(
    "spoil", [lambda path: os.truncate(path, 60), Path.unlink], ids=["cut", "gone"]
)
def test_a_damaged_sample_does_not_keep_a_run_from_going_on(capsys, spoil):
    run = tiny.train("runs", "--steps", 2, "--sample-every", 1)
    spoil(run.samples / "step-00000001.png")
    capsys.readouterr()
    assert tiny.train_celeba.main(["--resume", str(run.folder), "--steps", "3"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lacks = "progress.gif lacks 1 of 4 frames; " in out
    assert lacks == (run.samples / "step-00000001.png").exists()
    with Image.open(run.folder / "progress.gif") as film:
        assert film.n_frames >= 2
