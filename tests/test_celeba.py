"""The CelebA source: what it finds, what it makes of a picture, what it skips, what stops it."""

import io
import os
import pickle
import re
import zipfile

import celeba_factory as factory
import numpy as np
import pytest
from PIL import Image

from minigan.data import celeba
from minigan.data.cache import DataError, Unreadable


def names(source):
    return [source.name(i) for i in range(len(source))]


def error_of(path, words):
    """The error that stops `path` is one sentence with the path and the given words."""
    with pytest.raises(DataError, match=re.escape(words)) as caught:
        celeba.open_source(path)
    text = str(caught.value)
    assert str(path) in text
    assert ". " not in text
    assert not text.endswith(".")
    assert "; " in text  # the remedy
    return text


# What is found


@pytest.mark.parametrize("as_zip", [False, True])
@pytest.mark.parametrize("nested", [False, True])
def test_every_layout_gives_the_same_pictures(tmp_path, as_zip, nested):
    source = celeba.open_source(factory.make(tmp_path / "root", 3, as_zip, nested), 16)
    flat = celeba.open_source(factory.make(tmp_path / "flat", 3), 16)
    assert names(source) == ["000001.jpg", "000002.jpg", "000003.jpg"]
    for i in range(3):
        np.testing.assert_array_equal(source.load(i), flat.load(i))


def test_a_zip_is_not_extracted(tmp_path):
    path = factory.make(tmp_path, 2, as_zip=True)
    celeba.open_source(path).load(0)
    assert list(tmp_path.iterdir()) == [path]


def test_only_pictures_are_listed_by_name_whatever_the_order_on_disk(tmp_path):
    wanted = ["1.JPG", "10.jpeg", "2.png", "a.webp", "sub/b.bmp"]
    rubbish = ["list.txt", "._1.jpg", ".cache/1.jpg", "__MACOSX/1.jpg", "jpg", "1.jpg.part"]
    files = dict.fromkeys([*reversed(wanted), *rubbish], b"x")
    factory.write_files(tmp_path / "files", files)
    factory.write_zip(tmp_path / "files.zip", files)
    assert names(celeba.open_source(tmp_path / "files")) == wanted
    assert names(celeba.open_source(tmp_path / "files.zip")) == wanted


def test_the_celeba_folder_comes_before_the_zip_before_all_pictures(tmp_path):
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
    # an archive that was unpacked into a folder of its own name
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
    picture = root if as_zip else root / "000002.jpg"
    status = picture.stat()
    with_later_time = (status.st_atime_ns, status.st_mtime_ns + 1_000_000)
    os.utime(picture, ns=with_later_time)
    assert identity(16) != longer


@pytest.mark.parametrize("as_zip", [False, True])
def test_a_pickled_copy_gives_the_same_pictures(tmp_path, as_zip):
    source = celeba.open_source(factory.make(tmp_path, 2, as_zip), 16)
    first = source.load(1)  # the zip is open now
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy.load(1), first)
    assert copy.identity() == source.identity()


def test_the_list_of_the_true_zip_is_read_only_when_needed(tmp_path, monkeypatch):
    path = factory.make(tmp_path, 2, as_zip=True)
    monkeypatch.setattr(celeba, "ZIP_BYTES", path.stat().st_size)
    source = celeba.open_source(path)
    source.identity()
    assert "members" not in vars(source)
    assert len(source) == 2


# What a picture becomes


@pytest.mark.parametrize("size", [(178, 218), (218, 178), (64, 64), (30, 20), (7, 100)])
def test_resize_and_crop_against_the_definition(size):
    """Antialiased bilinear: a triangle filter as wide as the scale, along both axes."""

    def weights(n, m):
        scale = max(n / m, 1)
        centre = (np.arange(m)[:, None] + 0.5) * n / m
        w = np.maximum(0, 1 - np.abs(np.arange(n) + 0.5 - centre) / scale)
        return w / w.sum(1, keepdims=True)

    image = factory.picture(3, size)
    width, height = (64 * side // min(size) for side in size)
    pixels = np.asarray(image, float)
    scaled = weights(size[1], height) @ pixels.transpose(2, 0, 1) @ weights(size[0], width).T
    scaled = scaled.transpose(1, 2, 0)
    top, left = round((height - 64) / 2), round((width - 64) / 2)
    expected = scaled[top : top + 64, left : left + 64]
    got = celeba.decode(factory.encoded(image, "PNG"), 64)
    assert got.shape == (64, 64, 3)
    assert got.dtype == np.uint8
    assert np.abs(got - expected).max() <= 1.01  # Pillow rounds after each axis


def plain(mode, colour):
    return Image.new(mode, (20, 20), colour)


def palette(transparent):
    image = plain("P", 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.info = {"transparency": bytes([255, 0])} if transparent else {}
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
        (palette(False), "PNG", (0, 0, 255)),
        (palette(True), "PNG", (255, 255, 255)),
        (plain("RGBA", (0, 0, 0, 0)), "PNG", (255, 255, 255)),
        (plain("RGBA", (255, 0, 0, 255)), "PNG", (255, 0, 0)),
        (plain("LA", (0, 51)), "PNG", (204, 204, 204)),
        (plain("RGBA", (0, 0, 0, 0)), "WEBP", (255, 255, 255)),
        (plain("RGB", (1, 2, 3)), "BMP", (1, 2, 3)),
    ],
)
def test_every_kind_of_pixel_becomes_rgb(image, kind, colour):
    got = celeba.decode(factory.encoded(image, kind), 8)
    assert np.abs(got.astype(int) - colour).max() <= (2 if kind == "JPEG" else 0)


def test_the_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side: turn it clockwise
    image = factory.picture(5, (60, 40))
    got = celeba.decode(factory.encoded(image, "PNG", exif=exif), 16)
    turned = image.transpose(Image.Transpose.ROTATE_270)
    np.testing.assert_array_equal(got, celeba.decode(factory.encoded(turned, "PNG"), 16))


# What is skipped


@pytest.mark.parametrize("name", factory.broken())
def test_a_broken_picture_is_skipped_with_a_reason(name):
    data, reason = factory.broken()[name]
    with pytest.raises(Unreadable, match=reason):
        celeba.decode(data, 64)


def test_no_global_state_of_pillow_is_changed():
    before = Image.MAX_IMAGE_PIXELS
    factory.broken()
    with pytest.raises(Unreadable):
        celeba.decode(factory.png_header(10_000, 10_000), 64)
    assert before == Image.MAX_IMAGE_PIXELS
    with pytest.raises(Image.DecompressionBombWarning):
        Image.open(io.BytesIO(factory.png_header(10_000, 10_000)))


@pytest.mark.parametrize("as_zip", [False, True])
def test_a_file_of_too_many_bytes_is_skipped(tmp_path, monkeypatch, as_zip):
    source = celeba.open_source(factory.make(tmp_path, 1, as_zip))
    monkeypatch.setattr(celeba, "MAX_BYTES", 1000)
    monkeypatch.setattr(zipfile.ZipFile, "read", None)  # not even tried
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


# What stops


def test_a_path_that_does_not_exist(tmp_path):
    error_of(tmp_path / "nowhere", "does not exist")
    (tmp_path / "file").touch()
    error_of(tmp_path / "file" / "below", "does not exist")


@pytest.mark.parametrize("as_zip", [False, True])
def test_a_path_that_may_not_be_read(tmp_path, monkeypatch, as_zip):
    def denied(*arguments):
        raise PermissionError(13, "Permission denied")

    root = factory.make(tmp_path, 1, as_zip)
    source = celeba.open_source(root)
    monkeypatch.setattr(celeba.os, "scandir", denied)
    monkeypatch.setattr("builtins.open", denied)
    error_of(root, "cannot be read (Permission denied)")
    if not as_zip:
        with pytest.raises(DataError, match=r"000001.jpg cannot be read \(Permission denied\)"):
            source.load(0)  # not the picture's fault, so it must not become a smaller data set


@pytest.mark.parametrize("page", [b"<!DOCTYPE html><html>", b"\xef\xbb\xbf\n<HTML><head>"])
def test_a_web_page_instead_of_the_zip(tmp_path, page):
    (tmp_path / "img_align_celeba.zip").write_bytes(page + b"Quota exceeded")
    text = error_of(tmp_path / "img_align_celeba.zip", "is a web page")
    assert "1,443,490,838" in text
    with pytest.raises(DataError, match="is a web page"):
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
    error_of(texts, "holds no pictures (only .7z, .txt, no suffix)")
    error_of(factory.write_zip(tmp_path / "a.zip", {"a.txt": b"x"}), "no pictures (only .txt)")
    error_of(factory.write_zip(tmp_path / "b.zip", {}), "no pictures (it is empty)")
    error_of(texts / "list.txt", "is neither a zip nor a folder")
