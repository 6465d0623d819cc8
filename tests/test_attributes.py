"""The list of attributes: how it is read, what is refused, and what `--only` does with it."""

import json
import os
import sys
import tracemalloc
from contextlib import suppress
from functools import cache as once
from pathlib import Path

import celeba_factory as factory
import hostile
import numpy as np
import pytest
import tiny
from hostile import fuzz, sentence
from hypothesis import given
from hypothesis import strategies as st

from minigan.data import attributes, cache, celeba
from minigan.data.attributes import FILE, read_attributes
from minigan.errors import UserError
from minigan.training.run import Run

COUNT = 7
NAMES = [f"{i:06d}.jpg" for i in range(1, COUNT + 1)]
posix = pytest.mark.skipif(sys.platform == "win32", reason="has no pipes in folders")


@once
def table():
    return np.array([factory.attributes(i) for i in range(1, COUNT + 1)]) == 1


def whole(newline="\n"):
    return factory.attribute_list(COUNT, newline)


def read(folder, data):
    return read_attributes(hostile.write(folder, FILE, data))


def refused(folder, data, words):
    with pytest.raises(UserError, match=words) as caught:
        read(folder, data)
    assert str(folder / FILE) in sentence(caught.value)


def assert_whole(found):
    assert found.names == factory.ATTRIBUTES
    assert found.row == {name: i for i, name in enumerate(NAMES)}
    assert found.table.dtype == bool
    np.testing.assert_array_equal(found.table, table())


# -- what is read -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    {
        "as CelebA has it": whole("\r\n"),
        "line feeds": whole("\n"),
        "carriage returns": whole("\r"),
        "byte order mark": b"\xef\xbb\xbf" + whole(),
        "no last line end": whole().rstrip(),
        "tabs": whole().replace(b" ", b"\t"),
        "blank lines": b"\n \n" + whole("\n \n") + b"\n\n",
        "zeros before the count": b"00" + whole(),
    }.items(),
    ids=lambda case: case[0],
)
def test_every_copy_of_a_list_gives_the_same(tmp_path, data):
    assert_whole(read(tmp_path, data[1]))


def test_the_values_of_an_image_are_found_by_its_name_and_an_attributes(tmp_path):
    found = read(tmp_path, b"2\nBald Young\nb.jpg 1 -1\na.jpg -1 -1\n")
    assert found.table[found.row["b.jpg"]].tolist() == [True, False]
    assert found.table[found.row["a.jpg"]].tolist() == [False, False]
    assert found.table[:, found.names.index("Bald")].tolist() == [True, False]


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        ("Smiling", lambda i: i % 3 == 0),
        ("no-Smiling", lambda i: i % 3 != 0),
        ("Smiling,Male", lambda i: i % 3 == 0 and i % 2 == 1),
        ("no-Male,Smiling", lambda i: i % 6 == 0),
        ("no-Male,no-Smiling", lambda i: i % 2 == 0 and i % 3 != 0),
        ("Male,no-Male", lambda i: False),
    ],
)
def test_images_with_some_attributes_and_without_others(tmp_path, wanted, fits):
    expected = {name for i, name in enumerate(NAMES, 1) if fits(i)}
    assert read(tmp_path, whole()).having(wanted) == expected


def test_an_attribute_whose_name_begins_with_no_can_be_wanted(tmp_path):
    found = read(tmp_path, b"2\nno-Beard Young\na.jpg 1 1\nb.jpg -1 1\n")
    assert found.having("no-Beard,Young") == {"a.jpg"}
    assert found.having("no-no-Beard") == {"b.jpg"}


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("smiling", "has no attribute 'smiling', did you mean Smiling[?]; choose from 5_o_Clock_"),
        ("Eyeglases", "'Eyeglases', did you mean Eyeglasses[?]"),
        ("Male,no-smiling", "--only Male,no-smiling: .*'smiling', did you mean Smiling"),
        ("no Smiling", "'no Smiling', did you mean Smiling"),
        ("xyz", "'xyz'; choose from 5_o_Clock_Shadow, Arched_Eyebrows, .*, Young$"),
        ("", "no attribute ''; choose"),
        ("Male,", "no attribute ''; choose"),
        ("no-", "no attribute ''; choose"),
    ],
)
def test_an_unknown_attribute_is_told_with_all_there_are(tmp_path, wanted, words):
    with pytest.raises(UserError, match=words) as caught:
        read(tmp_path, whole()).having(wanted)
    assert str(tmp_path / FILE) in sentence(caught.value)


# -- what stops it ------------------------------------------------------------------------------------


def edited(old: bytes, new: bytes) -> bytes:
    assert whole().count(old) == 1
    return whole().replace(old, new)


ROW = whole().splitlines()[2]
BROKEN = {
    "empty": (b"", "begins with ''"),
    "blanks": (b" \n\n", "begins with ''"),
    "web page": (
        b"<!DOCTYPE html>\n<html>",
        "begins with '<!DOCTYPE html>', not the number of images",
    ),
    "no count": (whole().partition(b"\n")[2], "begins with '5_o_Clock_Shadow Arched"),
    "negative count": (b"-" + whole(), "begins with '-7'"),
    "count in other digits": ("٧".encode() + whole()[1:], "begins with '٧'"),
    "count and more": (b"7 7" + whole()[1:], "begins with '7 7'"),
    "count too low": (b"6" + whole()[1:], "announces '6' rows but has 7"),
    "count too high": (b"202599" + whole()[1:], "announces '202599' rows but has 7"),
    "huge count": (b"9" * 3000 + whole()[1:], f"announces '{'9' * 40}' rows"),
    "cut after a row": (b"\n".join(whole().splitlines()[:5]), "announces '7' rows but has 3"),
    "cut in a row": (whole()[:-40], "000007.jpg' does not have 40 values"),
    "count alone": (b"7\n", "'' are not names"),
    "no names": (
        edited(" ".join(factory.ATTRIBUTES).encode(), b""),
        "'000001.jpg -1.* are not names",
    ),
    "a name twice": (edited(b" Young", b" Male"), "are not names of attributes"),
    "a name of control codes": (edited(b" Young", b" \x1b[2J"), "are not names of attributes"),
    "a name less": (edited(b" Young", b""), "'000001.jpg' does not have 39 values"),
    "a value less": (edited(ROW, ROW[:-4]), "'000001.jpg' does not have 40 values of 1 or -1"),
    "a value more": (edited(ROW, ROW + b" 1"), "'000001.jpg' does not have 40 values of 1 or -1"),
    "a value of 0": (
        edited(ROW, ROW[:-3] + b"0"),
        "'000001.jpg' does not have 40 values of 1 or -1",
    ),
    "a value of 2": (
        edited(ROW, ROW[:-3] + b"2"),
        "'000001.jpg' does not have 40 values of 1 or -1",
    ),
    "a value of text": (edited(ROW, ROW[:-3] + b"yes"), "000001.jpg' does not have 40 values"),
    "a value of 1.0": (edited(ROW, ROW[:-3] + b"1.0"), "000001.jpg' does not have 40 values"),
    "commas": (whole().replace(b" ", b","), "'5_o_Clock_Shadow.*not names|does not have 1 values"),
    "a NUL in a value": (edited(ROW, ROW[:-3] + b"1\0"), "000001.jpg' does not have 40 values"),
    "NULs at the end": (whole() + bytes(100), "x00.* does not have 40 values"),
    "an image twice": (edited(b"000002.jpg", b"000001.jpg"), "it lists '000001.jpg' twice"),
    "not UTF-8": (edited(b"000002.jpg", b"\xff\xfe.jpg"), "it is not text in UTF-8"),
    "UTF-16": (whole().decode().encode("utf-16"), "it is not text in UTF-8"),
    "a long line": (edited(b"000002.jpg", b"x" * 10_000), "a line of 4,000 characters or more"),
    "a long line of words": (whole() + b"1 " * 10**6, "a line of 4,000 characters or more"),
    "a long count": (b"9" * 10**6, "a line of 4,000 characters or more"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_list_that_is_not_whole_is_one_sentence(tmp_path, name):
    refused(tmp_path, *BROKEN[name])


def test_a_list_of_too_many_rows_is_not_read_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(attributes, "MAX_ROWS", COUNT)
    assert_whole(read(tmp_path, whole()))
    monkeypatch.setattr(attributes, "MAX_ROWS", COUNT - 1)
    refused(tmp_path, whole() + b"and what follows is not looked at", "more than 6 rows")


def test_a_file_of_gigabytes_is_refused_by_its_size(tmp_path):
    path = hostile.write(tmp_path, FILE, b"")
    os.truncate(path, 8 * 2**30)  # takes no space on disk
    with pytest.raises(UserError, match="it has 8,589,934,592 bytes") as caught:
        read_attributes(path)
    sentence(caught.value)


@posix
def test_a_pipe_or_a_device_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / FILE)
    for path in (tmp_path / FILE, Path("/dev/zero")):
        with pytest.raises(UserError, match="it is not a file") as caught:
            read_attributes(path)
        sentence(caught.value)


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()])
def test_what_is_no_file_is_one_sentence(tmp_path, make):
    make(tmp_path / FILE)
    with pytest.raises(UserError, match=r"cannot be read|is not a file") as caught:
        read_attributes(tmp_path / FILE)
    assert str(tmp_path / FILE) in sentence(caught.value)


def short_rows(count):
    rows = b"".join(b"%d 1\n" % i for i in range(count))
    return b"%d\nYoung\n%s" % (count, rows)


LARGE = {
    "as CelebA's": lambda: factory.attribute_list(2_000),
    "short rows": lambda: short_rows(20_000),
    "short rows, cut": lambda: short_rows(20_000)[:-2],
    "a line of words": lambda: b"7\n" + b"a " * 10**6,
    "a line": lambda: b"7" * 10**7,
    "blank lines": lambda: b"\n" * 10**6,
    "zeros": lambda: bytes(10**7),
}


@pytest.mark.parametrize("name", LARGE)
def test_memory_is_in_proportion_to_the_file(tmp_path, name):
    path = hostile.write(tmp_path, FILE, LARGE[name]())
    tracemalloc.start()
    with suppress(UserError):
        read_attributes(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**18 + 20 * min(path.stat().st_size, 2**20)


words = st.sampled_from([b"1", b"-1", b"0", b"7", b"8", b"000001.jpg", b"Male", b"\xff", b"\0"])
edits = st.lists(
    st.tuples(st.integers(0, COUNT + 1), st.integers(0, 41), words | st.binary(max_size=6)),
    min_size=1,
    max_size=4,
)


@fuzz
@given(edits, st.sampled_from([b"\n", b"\r\n", b"\r"]), st.booleans())
def test_words_of_a_list(tmp_path, changes, newline, whole_lines):
    """An accepted list has the announced form, and its intact rows keep their values."""
    lines = [line.split() for line in whole().splitlines()]
    for i, at, word in changes:
        if whole_lines:
            lines[i] = [word] * at
        else:
            lines[i][at : at + 1] = [word]
    data = newline.join(b" ".join(line) for line in lines)
    try:
        found = read(tmp_path, data)
    except UserError as error:
        sentence(error)
        return
    assert found.table.shape == (len(found.row), len(found.names))
    assert len(found.row) == int(data.split()[0])
    assert len(set(found.names)) == len(found.names) > 0
    for row in {tuple(line) for line in lines[2:] if len(line) == 41}:
        name = row[0].decode("utf-8", "replace")
        if name in found.row and found.names == factory.ATTRIBUTES:
            assert found.table[found.row[name]].tolist() == [value == b"1" for value in row[1:]]


@fuzz
@given(st.data())
def test_any_bytes_of_a_list(tmp_path, data):
    made = bytearray(whole("\r\n"))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(made)))
        end = start + data.draw(st.integers(0, 60))
        made[start:end] = data.draw(st.binary(max_size=60))
    try:
        found = read(tmp_path, bytes(made))
    except UserError as error:
        sentence(error)
    else:
        assert found.table.shape == (len(found.row), len(found.names))


# -- where it is looked for ---------------------------------------------------------------------------

LAYOUTS = {  # where the images are, and where the list is
    "beside the zip": ("img_align_celeba.zip", "."),
    "CelebA's own, zip": ("Img/img_align_celeba.zip", "Anno"),
    "CelebA's own, folder": ("Img/img_align_celeba", "Anno"),
    "above the folder": ("img_align_celeba", "."),
    "in the folder": ("img_align_celeba", "img_align_celeba"),
    "in Anno beside the folder": ("img_align_celeba", "Anno"),
    "beside other images": ("faces", "faces"),
}


def laid_out(root: Path, layout: str, count: int = COUNT, listed: int = COUNT) -> Path:
    """The path of the images, zip or folder."""
    data, folder = LAYOUTS[layout]
    files = {f"{i:06d}.jpg": factory.jpeg(i) for i in range(1, count + 1)}
    if data.endswith(".zip"):
        factory.write_zip(root / data, {f"img_align_celeba/{n}": d for n, d in files.items()})
    else:
        factory.write_files(root / data, files)
    hostile.write(root / folder, FILE, factory.attribute_list(listed))
    return root / data


def names(source):
    return [source.name(i) for i in range(len(source))]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_list_is_found_where_it_may_lie(tmp_path, layout):
    path = laid_out(tmp_path / "data", layout)
    found = celeba.open_source(path, 16, only="Smiling")
    assert names(found) == ["000003.jpg", "000006.jpg"]
    every = celeba.open_source(path, 16)
    np.testing.assert_array_equal(found.load(1), every.load(5))


@pytest.mark.parametrize("layout", ["CelebA's own, zip", "CelebA's own, folder"])
def test_from_a_folder_above_it_is_found_too(tmp_path, layout):
    laid_out(tmp_path / "data", layout)
    for above in (tmp_path / "data", tmp_path):
        assert len(celeba.open_source(above, 16, only="no-Male")) == 3


def test_images_in_folders_of_other_names_are_known_by_their_file_names(tmp_path):
    files = {f"{i}/{i:06d}.jpg": b"x" for i in range(1, COUNT + 1)}
    factory.write_files(tmp_path, files)
    hostile.write(tmp_path, FILE, whole())
    assert names(celeba.open_source(tmp_path, only="Smiling")) == ["3/000003.jpg", "6/000006.jpg"]


def test_a_list_that_is_missing_is_named_with_where_it_was_looked_for(tmp_path):
    path = laid_out(tmp_path / "data", "CelebA's own, zip")
    (tmp_path / "data" / "Anno" / FILE).unlink()
    with pytest.raises(UserError, match=f"--only needs {FILE}, which is not in") as caught:
        celeba.open_source(path, only="Male")
    said = sentence(caught.value)
    assert f"{path.parent}, {path.parent.parent}, {path.parent.parent.parent} or a" in said


def test_the_first_of_those_wanted_are_taken(tmp_path):
    path = laid_out(tmp_path, "above the folder")
    assert names(celeba.open_source(path, 16, 2, "no-Smiling")) == ["000001.jpg", "000002.jpg"]


@pytest.mark.parametrize("layout", ["above the folder", "beside the zip"])
def test_images_without_a_row_are_left_out_and_counted(tmp_path, layout):
    path = laid_out(tmp_path, layout, count=9, listed=4)
    source = celeba.open_source(path, 16, only="no-Smiling")
    assert names(source) == ["000001.jpg", "000002.jpg", "000004.jpg"]
    assert source.identity()["unlisted"] == 5


def test_rows_without_an_image_do_not_matter(tmp_path):
    path = laid_out(tmp_path, "above the folder", count=3, listed=9)
    source = celeba.open_source(path, 16, only="Male")
    assert names(source) == ["000001.jpg", "000003.jpg"]
    assert source.identity()["unlisted"] == 0


@pytest.mark.parametrize("layout", ["above the folder", "beside the zip"])
def test_without_an_image_left_it_is_one_sentence(tmp_path, layout):
    path = laid_out(tmp_path, layout, count=9, listed=4)
    with pytest.raises(UserError, match="none of the 9 images matches, and 5 are not in") as caught:
        celeba.open_source(path, 16, only="Smiling,no-Smiling")
    assert str(tmp_path / FILE) in sentence(caught.value)


@pytest.mark.parametrize("layout", ["above the folder", "beside the zip"])
def test_what_is_wanted_is_part_of_the_identity(tmp_path, layout):
    path = laid_out(tmp_path, layout)
    open_ = lambda only: celeba.open_source(path, 16, only=only).identity()
    everything, smiling = open_(None), open_("Smiling")
    assert len({json.dumps(i) for i in (everything, smiling, open_("Male"), open_("no-Male"))}) == 4
    assert open_("Smiling") == smiling
    assert "only" not in everything  # so that existing caches stay valid
    data = (tmp_path / FILE).read_bytes()
    hostile.write(tmp_path, FILE, data.replace(b"000003.jpg", b"000030.jpg"))
    assert open_("Smiling") != smiling  # another list makes another cache


@pytest.mark.parametrize("layout", ["above the folder", "beside the zip"])
def test_workers_decode_those_wanted(tmp_path, layout):
    path = laid_out(tmp_path, layout)
    sources = celeba.open_source(path, 8, only="Smiling"), celeba.open_source(path, 8)
    some, every = (
        cache.build(source, tmp_path / "cache", workers, progress=False)
        for source, workers in zip(sources, (2, 1), strict=True)
    )
    assert some.names == ["000003.jpg", "000006.jpg"]
    np.testing.assert_array_equal(some.pixels, every.pixels[[2, 5]])


# -- the option ---------------------------------------------------------------------------------------


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A function that trains on 12 images, 10 of them listed, and returns the run."""
    monkeypatch.chdir(tmp_path)
    tiny.hurry(monkeypatch)
    path = laid_out(tmp_path / "data", "CelebA's own, zip", 12, 10)

    def train(*flags):
        return tiny.train("runs", "--dataroot", path, "--steps", 1, *flags)

    return train


def test_a_training_sees_only_what_is_wanted(trained, capsys):
    run = trained("--only", "no-Smiling,Male", "--batch-size", 2)
    assert run.config["identity"]["count"] == 3  # of 1 to 10: 1, 5 and 7
    assert run.config["data"]["only"] == "no-Smiling,Male"
    assert "2 files that are not in the list of attributes" in capsys.readouterr().out
    assert trained("--batch-size", 2).config["identity"]["count"] == 12
    assert "list of attributes" not in capsys.readouterr().out


def test_what_is_wanted_cannot_change_when_a_run_goes_on(trained, capsys):
    run = trained("--only", "no-Smiling")
    flags = ["--resume", str(run.folder), "--steps", "2"]
    assert tiny.train_celeba.main([*flags, "--only", "Male"]) == 1
    assert "with other options: --only no-Smiling -> Male\n" in capsys.readouterr().err
    assert tiny.train_celeba.main(flags) == 0
    assert tiny.saved(Run(run.folder))[-1] == 2


@pytest.mark.parametrize(
    ("only", "said"),
    [
        ("smiling", "has no attribute 'smiling', did you mean Smiling"),
        ("Male,no-Male", "none of the 12 images matches, and 2 are not in"),
    ],
)
def test_what_cannot_be_wanted_is_one_sentence_and_leaves_no_run(trained, capsys, only, said):
    flags = [*tiny.TINY, "--dataroot", "data", "--out", "runs", "--only", only]
    assert tiny.train_celeba.main(flags) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert said in err
    assert not Path("runs").exists()


def test_drawn_faces_have_no_attributes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert tiny.train_celeba.main(["--only", "Smiling", "--dry-run"]) == 1
    assert capsys.readouterr() == (
        "",
        "error: --only Smiling: --data faces has no list of attributes; give --dataroot\n",
    )
