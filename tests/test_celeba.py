"""Images from a folder or a zip: which are found, decoded and skipped, and what stops a build."""

import errno
import io
import json
import os
import pickle
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import celeba_factory as factory
import numpy as np
import pytest
from PIL import Image

from minigan.commands.dataroot import KINDS
from minigan.data import archive, cache, celeba, decoding, folder
from minigan.data.source import Changed, Unreadable
from minigan.errors import UserError


def names(source):
    return [source.name(i) for i in range(len(source))]


def error_of(path, words):
    """The error that stops `path` is one sentence with the path and the given words."""
    with pytest.raises(UserError, match=re.escape(words)) as caught:
        celeba.open_source(path)
    text = str(caught.value)
    assert str(path) in text
    assert ". " not in text
    assert not text.endswith(".")
    assert "; " in text  # the remedy
    return text


# Which files are found


@pytest.mark.parametrize("as_zip", [False, True])
@pytest.mark.parametrize("nested", [False, True])
def test_every_layout_gives_the_same_images(tmp_path, as_zip, nested):
    source = celeba.open_source(factory.make(tmp_path / "root", 3, as_zip, nested), 16)
    flat = celeba.open_source(factory.make(tmp_path / "flat", 3), 16)
    assert names(source) == ["000001.jpg", "000002.jpg", "000003.jpg"]
    for i in range(3):
        np.testing.assert_array_equal(source.load(i), flat.load(i))


def test_a_zip_is_not_extracted(tmp_path):
    path = factory.make(tmp_path, 2, as_zip=True)
    celeba.open_source(path).load(0)
    assert list(tmp_path.iterdir()) == [path]


def test_only_images_are_listed_by_name_whatever_the_order_on_disk(tmp_path):
    wanted = ["1.JPG", "10.jpeg", "2.png", "3.GIF", "4.jfif", "5.jpe", "a.webp", "sub/b.bmp"]
    rubbish = ["list.txt", "._1.jpg", ".cache/1.jpg", "__MACOSX/1.jpg", "jpg", "1.jpg.part"]
    files = dict.fromkeys([*reversed(wanted), *rubbish], b"x")
    factory.write_files(tmp_path / "files", files)
    factory.write_zip(tmp_path / "files.zip", files)
    assert names(celeba.open_source(tmp_path / "files")) == wanted
    assert names(celeba.open_source(tmp_path / "files.zip")) == wanted


@pytest.mark.parametrize("as_zip", [False, True])
def test_files_that_are_no_images_by_suffix_are_counted(tmp_path, as_zip):
    others = ["a.heic", "b.HEIC", "c.tif", "d.avif", "readme", "sub/list.txt"]
    ignored = [".hidden.txt", "__MACOSX/._1.jpg", "__MACOSX/a.txt"]
    files = dict.fromkeys(["1.jpg", *others, *ignored], b"x")
    path = tmp_path / ("data.zip" if as_zip else "data")
    (factory.write_zip if as_zip else factory.write_files)(path, files)
    assert celeba.open_source(path).left_out == (
        f"ignored 6 files in {path} with other suffixes (.avif, .heic, .tif, .txt, no suffix); "
        "images are read from .jpg, .jpeg, .jfif, .jpe, .png, .webp, .bmp, .gif"
    )
    # CelebA's own other files, next to its images
    files = {"img_align_celeba/1.jpg": b"x", "img_align_celeba/2.tif": b"x", "list.txt": b"x"}
    path = tmp_path / ("celeba.zip" if as_zip else "celeba")
    (factory.write_zip if as_zip else factory.write_files)(path, files)
    assert celeba.open_source(path).left_out.startswith(f"ignored 1 file in {path} with other")
    path = factory.make(tmp_path / "images", 2, as_zip)
    assert celeba.open_source(path).left_out == ""


@pytest.mark.parametrize("as_zip", [False, True])
def test_celeba_is_known_by_its_name(tmp_path, as_zip):
    write = factory.write_zip if as_zip else factory.write_files
    celebas = ["img_align_celeba/1.jpg", "celeba/img_align_celeba/1.jpg"]
    for i, (name, kind) in enumerate(
        [*((c, "celeba") for c in celebas), ("cats/1.jpg", "pictures")]
    ):
        path = tmp_path / f"{i}.zip"
        write(path, {name: b"x"})
        assert celeba.open_source(path).identity()["kind"] == kind
    path = factory.make(tmp_path / "img_align_celeba", 1, as_zip)  # the folder or the zip itself
    assert celeba.open_source(path).identity()["kind"] == "celeba"


def test_backslashes_in_a_zip_part_folders(tmp_path):
    """Some Windows programs write such names."""
    files = {"a\\img_align_celeba\\1.jpg": factory.jpeg(1), "a\\2.jpg": b"x"}
    path = factory.write_zip(tmp_path / "a.zip", files)
    source = celeba.open_source(path, 8)
    assert names(source) == ["1.jpg"]
    assert source.load(0).shape == (8, 8, 3)
    files = {"cats\\1.jpg": b"x", "__MACOSX\\cats\\1.jpg": b"x", "cats\\.hidden\\2.jpg": b"x"}
    assert names(celeba.open_source(factory.write_zip(tmp_path / "b.zip", files))) == ["cats/1.jpg"]


def test_the_celeba_folder_comes_before_the_zip_before_all_images(tmp_path):
    factory.write_files(tmp_path, {"other/1.jpg": b"x", "img_align_celeba/text.txt": b"x"})
    assert names(celeba.open_source(tmp_path)) == ["other/1.jpg"]
    factory.write_zip(tmp_path / "img_align_celeba.zip", {"img_align_celeba/zipped.jpg": b"x"})
    assert names(celeba.open_source(tmp_path)) == ["zipped.jpg"]
    inner = tmp_path / "a" / "img_align_celeba"
    factory.write_files(inner, {"2.jpg": b"x", "thumbs/2.jpg": b"x"})
    assert names(celeba.open_source(tmp_path)) == ["2.jpg"]
    assert names(celeba.open_source(inner)) == ["2.jpg"]
    factory.write_files(tmp_path / "a" / "a" / "img_align_celeba", {"deeper.jpg": b"x"})
    assert names(celeba.open_source(tmp_path)) == ["2.jpg"]
    # an archive that was unpacked into a folder with its name
    doubled = tmp_path / "b" / "img_align_celeba"
    factory.write_files(doubled / "img_align_celeba", {"3.jpg": b"x"})
    assert names(celeba.open_source(doubled)) == ["3.jpg"]


def test_names_in_a_zip_are_only_names(tmp_path):
    path = factory.write_zip(tmp_path / "a.zip", {"../../up.jpg": factory.jpeg(1)})
    source = celeba.open_source(path, 8)
    assert source.load(0).shape == (8, 8, 3)
    assert not list(tmp_path.parent.glob("**/up.jpg"))


def test_of_two_entries_with_one_name_the_first_counts(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("1.jpg", factory.jpeg(1))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("1.jpg", b"")
    source = celeba.open_source(path, 8)
    assert len(source) == 1
    source.load(0)


def test_folders_that_link_to_each_other_are_walked_once(tmp_path):
    factory.write_files(tmp_path / "real", {"1.jpg": b"x"})
    (tmp_path / "real" / "back").symlink_to(tmp_path)
    root = tmp_path / "root"
    root.mkdir()
    (root / "data").symlink_to(tmp_path / "real")
    assert [name.rpartition("/")[2] for name in names(celeba.open_source(root))] == ["1.jpg"]


@pytest.mark.parametrize("as_zip", [False, True])
def test_max_images_takes_the_first(tmp_path, as_zip):
    root = factory.make(tmp_path, 4, as_zip)
    assert names(celeba.open_source(root, max_images=2)) == ["000001.jpg", "000002.jpg"]
    assert len(celeba.open_source(root, max_images=9)) == 4


@pytest.mark.parametrize(("image_size", "max_images"), [(0, None), (64, 0), (64, -1)])
def test_sizes_must_be_positive(tmp_path, image_size, max_images):
    with pytest.raises(ValueError, match="must be positive"):
        celeba.open_source(factory.make(tmp_path, 1), image_size, max_images)


@pytest.mark.parametrize("as_zip", [False, True])
def test_the_identity_changes_with_whatever_changes_the_bytes(tmp_path, as_zip):
    def identity(*arguments):
        return celeba.open_source(root, *arguments).identity()

    root = factory.make(tmp_path, 3, as_zip)
    first = identity(16)
    assert identity(16) == first
    assert identity(32) != first
    assert identity(16, 2) != first
    factory.make(tmp_path, 4, as_zip)
    longer = identity(16)
    assert longer != first
    image = root if as_zip else root / "000002.jpg"
    status = image.stat()
    with_later_time = (status.st_atime_ns, status.st_mtime_ns + 1_000_000)
    os.utime(image, ns=with_later_time)
    assert identity(16) != longer


@pytest.mark.skipif(sys.platform == "win32", reason="has no time of the last change")
@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize("as_zip", [False, True])
def test_a_file_of_equal_size_and_time_is_another(tmp_path, as_zip, replaced):
    root = factory.make(tmp_path / "data", 3, as_zip)
    source = celeba.open_source(root, 16)
    path = root if as_zip else root / "000002.jpg"
    retouch(path, replaced)
    assert celeba.open_source(root, 16).identity() != source.identity()
    with pytest.raises(Changed, match="was changed or replaced while it was being read"):
        source.check()


def retouch(path, replaced):
    """Give the file new contents of the same size and time, in place or by replacing it."""
    before, other = path.stat(), path.with_name("other")
    while path.stat().st_ctime_ns == before.st_ctime_ns:  # the clock may not have ticked yet
        target = other if replaced else path
        data = bytearray(path.read_bytes())
        data[300] ^= 1
        target.write_bytes(data)
        os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))
        os.replace(target, path)
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


@pytest.mark.parametrize("as_zip", [False, True])
def test_a_source_that_is_gone_has_changed(tmp_path, as_zip):
    root = factory.make(tmp_path / "data", 3, as_zip)
    source = celeba.open_source(root, 16)
    source.check()
    (root if as_zip else root / "000002.jpg").unlink()
    with pytest.raises(Changed):
        source.check()


def test_a_worker_refuses_an_archive_that_was_replaced(tmp_path):
    path = factory.make(tmp_path, 3, as_zip=True)
    source = celeba.open_source(path, 16)
    before = source.load(0)
    for data in (factory.make(tmp_path / "b", 4, as_zip=True).read_bytes(), b"PK of a download"):
        other = tmp_path / "other"
        other.write_bytes(data)
        os.replace(other, path)
        with pytest.raises(Changed, match="run again"):
            pickle.loads(pickle.dumps(source)).load(0)
    np.testing.assert_array_equal(source.load(0), before)  # this source has the old file open


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("kind", ["folder", "zip", "growing zip"])
def test_a_source_that_is_changed_while_it_is_decoded_leaves_no_cache(
    tmp_path, monkeypatch, kind, workers
):
    """For example because a download finishes meanwhile. The next build uses the new files."""
    root = factory.make(tmp_path / "data", 3, as_zip=kind != "folder")
    source = celeba.open_source(root, 16)
    source.load(0)  # opens a zip, so that this process keeps the old one
    new = factory.make(tmp_path / "new", 4, as_zip=kind != "folder")
    chunks = cache.chunks

    def meanwhile(*arguments):
        yield from chunks(*arguments)
        if kind == "growing zip":
            root.write_bytes(new.read_bytes())
        else:
            name = "" if kind == "zip" else "000002.jpg"
            os.replace(new / name, root / name)

    monkeypatch.setattr(cache, "chunks", meanwhile)
    with pytest.raises(Changed):
        cache.build(source, tmp_path / "cache", workers, progress=False)
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]
    monkeypatch.undo()
    images = cache.build(celeba.open_source(root, 16), tmp_path / "cache", 1, progress=False)
    assert len(images.names) == (3 if kind == "folder" else 4)


@pytest.mark.parametrize("as_zip", [False, True])
def test_a_pickled_copy_gives_the_same_images(tmp_path, as_zip):
    source = celeba.open_source(factory.make(tmp_path, 2, as_zip), 16)
    first = source.load(1)  # the zip is open now
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy.load(1), first)
    assert copy.identity() == source.identity()


def test_the_list_of_the_true_zip_is_read_only_when_needed(tmp_path, monkeypatch):
    path = factory.make(tmp_path, 2, as_zip=True)
    monkeypatch.setattr(archive, "ZIP_BYTES", path.stat().st_size)
    source = celeba.open_source(path)
    source.identity()
    assert "members" not in vars(source)
    assert len(source) == 2


# What an image becomes


@pytest.mark.parametrize("size", [(178, 218), (218, 178), (64, 64), (30, 20), (7, 100)])
def test_resize_and_crop_against_the_definition(size):
    """Antialiased bilinear: a triangle filter as wide as the scale, along both axes."""

    def weights(n, m):
        scale = max(n / m, 1)
        centre = (np.arange(m)[:, None] + 0.5) * n / m
        w = np.maximum(0, 1 - np.abs(np.arange(n) + 0.5 - centre) / scale)
        return w / w.sum(1, keepdims=True)

    image = factory.image(3, size)
    width, height = (64 * side // min(size) for side in size)
    pixels = np.asarray(image, float)
    scaled = weights(size[1], height) @ pixels.transpose(2, 0, 1) @ weights(size[0], width).T
    scaled = scaled.transpose(1, 2, 0)
    top, left = round((height - 64) / 2), round((width - 64) / 2)
    expected = scaled[top : top + 64, left : left + 64]
    got = decoding.decode(factory.encoded(image, "PNG"), 64)
    assert got.shape == (64, 64, 3)
    assert got.dtype == np.uint8
    assert np.abs(got - expected).max() <= 1.01  # Pillow rounds after each axis


def plain(mode, colour):
    return Image.new(mode, (20, 20), colour)


def palette(transparent):
    image = plain("P", 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    index = 1 if transparent == 1 else bytes([255, 0])  # GIF's, or the alpha of each colour
    image.info = {"transparency": index} if transparent else {}
    return image


@pytest.mark.parametrize(
    ("image", "kind", "colour"),
    [
        (plain("L", 100), "PNG", (100, 100, 100)),
        (plain("1", 1), "PNG", (255, 255, 255)),
        (plain("I;16", 257 * 100), "PNG", (100, 100, 100)),
        (plain("I;16", 257 * 200 + 128), "PNG", (200, 200, 200)),
        (plain("I;16", 65535), "PNG", (255, 255, 255)),
        (plain("CMYK", (0, 255, 255, 0)), "JPEG", (255, 0, 0)),
        (palette(None), "PNG", (0, 0, 255)),
        (palette("by alpha"), "PNG", (255, 255, 255)),
        (plain("RGBA", (0, 0, 0, 0)), "PNG", (255, 255, 255)),
        (plain("RGBA", (255, 0, 0, 255)), "PNG", (255, 0, 0)),
        (plain("LA", (0, 51)), "PNG", (204, 204, 204)),
        (plain("RGBA", (0, 0, 0, 0)), "WEBP", (255, 255, 255)),
        (plain("RGB", (1, 2, 3)), "BMP", (1, 2, 3)),
        (palette(None), "GIF", (0, 0, 255)),
        (palette(1), "GIF", (255, 255, 255)),
    ],
)
def test_every_kind_of_pixel_becomes_rgb(image, kind, colour):
    got = decoding.decode(factory.encoded(image, kind), 8)
    assert np.abs(got.astype(int) - colour).max() <= (2 if kind == "JPEG" else 0)


def test_of_a_gif_that_moves_the_first_image_counts():
    images = [plain("RGB", (255, 0, 0)), plain("RGB", (0, 255, 0))]
    data = factory.encoded(images[0], "GIF", save_all=True, append_images=images[1:])
    assert (decoding.decode(data, 8) == (255, 0, 0)).all()


def test_the_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side: turn it clockwise
    image = factory.image(5, (60, 40))
    got = decoding.decode(factory.encoded(image, "PNG", exif=exif), 16)
    turned = image.transpose(Image.Transpose.ROTATE_270)
    np.testing.assert_array_equal(got, decoding.decode(factory.encoded(turned, "PNG"), 16))


# What is skipped


@pytest.mark.parametrize("name", factory.broken())
def test_a_broken_image_is_skipped_with_a_reason(name):
    data, reason = factory.broken()[name]
    with pytest.raises(Unreadable, match=reason):
        decoding.decode(data, 64)


def test_no_global_state_of_pillow_is_changed():
    before = Image.MAX_IMAGE_PIXELS
    factory.broken()
    with pytest.raises(Unreadable):
        decoding.decode(factory.png_header(10_000, 10_000), 64)
    assert before == Image.MAX_IMAGE_PIXELS
    with pytest.raises(Image.DecompressionBombWarning):
        Image.open(io.BytesIO(factory.png_header(10_000, 10_000)))


@pytest.mark.parametrize("as_zip", [False, True])
def test_a_file_of_too_many_bytes_is_skipped(tmp_path, monkeypatch, as_zip):
    source = celeba.open_source(factory.make(tmp_path, 1, as_zip))
    monkeypatch.setattr(archive if as_zip else folder, "MAX_BYTES", 1000)
    monkeypatch.setattr(zipfile.ZipFile, "read", None)  # must not even be called
    with pytest.raises(Unreadable, match="more than 1,000 bytes"):
        source.load(0)


def test_bad_zip_entries_are_skipped(tmp_path):
    path = factory.make(tmp_path, 3, as_zip=True)
    factory.encrypt(path, "img_align_celeba/000001.jpg")
    data = bytearray(path.read_bytes())
    data[data.index(factory.jpeg(2)) + 500] ^= 1
    path.write_bytes(data)
    source = celeba.open_source(path)
    with pytest.raises(Unreadable, match="encrypted"):
        source.load(0)
    with pytest.raises(Unreadable, match="cannot be unpacked: Bad CRC"):
        source.load(1)
    source.load(2)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no pipes in folders")
def test_a_pipe_is_not_waited_for(tmp_path):
    source = celeba.open_source(factory.make(tmp_path, 2))
    (tmp_path / "000001.jpg").unlink()
    os.mkfifo(tmp_path / "000001.jpg")
    with pytest.raises(Unreadable, match="not a regular file"):
        source.load(0)
    assert names(celeba.open_source(tmp_path)) == ["000001.jpg", "000002.jpg"]  # skipped and listed


def built_as_anybody(root, target):
    """(names, skipped) of a cache built by a process without root's rights."""
    script = (
        "import json, os, sys\n"
        "from minigan.data import cache, celeba\n"
        "root, target = sys.argv[1:]\n"
        "cache.build(celeba.open_source(root, 16), target + '-first', progress=False)  # imports\n"
        "if os.getuid() == 0:\n"
        "    os.setgid(65534), os.setuid(65534)\n"
        "images = cache.build(celeba.open_source(root, 16), target, progress=False)\n"
        "print(json.dumps([images.names, images.skipped]))\n"
    )
    root.parent.chmod(0o755)
    target.mkdir()
    target.chmod(0o777)
    done = subprocess.run(
        [sys.executable, "-c", script, root, target], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


@pytest.mark.skipif(sys.platform == "win32", reason="has no permissions of this kind")
def test_files_and_folders_that_cannot_be_read_are_skipped_and_listed(monkeypatch):
    # a folder that any user can reach, unlike tmp_path
    with tempfile.TemporaryDirectory() as folder:
        root = factory.make(Path(folder) / "data", 3)
        (root / "000002.jpg").chmod(0)
        (root / "note").symlink_to("note")
        (root / "loop.jpg").symlink_to("loop.jpg")
        (root / "nothing.jpg").symlink_to("missing")
        (root / "through.jpg").symlink_to("000001.jpg/x")
        os.mkfifo(root / "pipe.jpg")
        closed = root / "closed"
        closed.mkdir(0)
        names, skipped = built_as_anybody(root, Path(folder) / "cache")
        assert names == ["000001.jpg", "000003.jpg"]
        assert skipped == [
            ["000002.jpg", "cannot be read: Permission denied"],
            ["loop.jpg", f"cannot be read: {os.strerror(errno.ELOOP)}"],
            ["nothing.jpg", "cannot be read: No such file or directory"],
            ["pipe.jpg", "not a regular file"],
            ["through.jpg", "cannot be read: Not a directory"],
            ["closed/", "cannot be read: Permission denied"],
        ]


def test_a_folder_that_is_left_out_is_not_looked_into(tmp_path):
    root = factory.make(tmp_path, 2)
    factory.make(tmp_path / "runs" / "00000-x", 1)
    found = celeba.open_source(root, leave_out=tmp_path / "00000-x" / ".." / "runs")
    assert names(found) == ["000001.jpg", "000002.jpg"]
    assert len(celeba.open_source(root, leave_out=tmp_path / "elsewhere")) == 3


# What stops


@pytest.mark.parametrize("words", ["img_align_celeba.zip", "folder or zip", *decoding.FORMATS])
def test_the_help_names_the_formats(words):
    assert words in KINDS


def test_a_path_that_does_not_exist(tmp_path):
    error_of(tmp_path / "nowhere", "does not exist")
    (tmp_path / "file").touch()
    error_of(tmp_path / "file" / "below", "does not exist")


@pytest.mark.parametrize("as_zip", [False, True])
def test_a_path_that_may_not_be_read(tmp_path, monkeypatch, as_zip):
    def denied(*arguments):
        raise PermissionError(13, "Permission denied")

    def broken(*arguments):
        raise OSError(5, "Input/output error")

    root = factory.make(tmp_path, 1, as_zip)
    source = celeba.open_source(root)
    monkeypatch.setattr(celeba.os, "scandir", denied)
    monkeypatch.setattr("builtins.open", denied)
    error_of(root, "cannot be read (Permission denied)")
    if not as_zip:
        monkeypatch.setattr("builtins.open", broken)
        with pytest.raises(UserError, match=r"000001.jpg cannot be read \(Input/output error\)"):
            source.load(0)  # not the image's fault, so it must not just be skipped


@pytest.mark.parametrize("page", [b"<!DOCTYPE html><html>", b"\xef\xbb\xbf\n<HTML><head>"])
def test_a_web_page_instead_of_the_zip(tmp_path, page):
    (tmp_path / "img_align_celeba.zip").write_bytes(page + b"Quota exceeded")
    text = error_of(tmp_path / "img_align_celeba.zip", "is a web page")
    assert "1,443,490,838" in text
    with pytest.raises(UserError, match="is a web page"):
        celeba.open_source(tmp_path)


@pytest.mark.parametrize("cut", ["empty", "half", "last byte", "directory", "nothing like it"])
def test_a_damaged_zip(tmp_path, cut):
    path = factory.make(tmp_path, 3, as_zip=True)
    data = path.read_bytes()
    directory = data.index(b"PK\x01\x02")
    damaged = {
        "empty": b"",
        "half": data[: len(data) // 2],
        "last byte": data[:-1],
        "directory": data[:directory] + b"xx" + data[directory + 2 :],
        "nothing like it": b"nothing like it",
    }[cut]
    path.write_bytes(damaged)
    text = error_of(path, f"damaged or incomplete zip of {len(damaged):,} bytes")
    assert "1,443,490,838" in text


def test_nothing_to_use(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    error_of(empty, "is an empty folder")
    texts = factory.write_files(tmp_path / "texts", {"list.txt": b"x", "readme": b"x", "a.7Z": b""})
    text = error_of(texts, "contains no images (only .7z, .txt, no suffix)")
    assert "or of a folder or zip of images (.jpg, .jpeg, " in text
    error_of(factory.write_zip(tmp_path / "a.zip", {"a.txt": b"x"}), "no images (only .txt)")
    error_of(factory.write_zip(tmp_path / "b.zip", {}), "no images (it is empty)")
    error_of(texts / "list.txt", "is neither a zip nor a folder")
