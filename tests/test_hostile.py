"""Hostile input: zips, pictures, caches and checkpoints that are damaged, wrong or malicious.

The outcome must be a correct result or a documented exception. Memory and time stay in proportion to
the file, nothing in it is executed, and nothing is written outside the cache's folder.
"""

import ast
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from functools import cache as once
from pathlib import Path

import hostile
import numpy as np
import pytest
import tiny
from hostile import anything, fuzz, scalars, sentence
from hypothesis import given
from hypothesis import strategies as st

from minigan import tensorfile
from minigan.data import cache, celeba, decoding
from minigan.data.source import Unreadable
from minigan.errors import UserError
from minigan.training import checkpoint
from minigan.training.checkpoint import CheckpointError

SIZE = 8


def reason(error) -> str:
    text = str(error)
    assert text
    assert text.isprintable()
    return text


def loaded(path) -> dict:
    """{name: the picture or the reason why it is skipped} of a zip."""
    source = celeba.open_source(path, SIZE)
    found = {}
    for i in range(len(source)):
        try:
            found[source.name(i)] = source.load(i)
            assert found[source.name(i)].shape == (SIZE, SIZE, 3)
        except Unreadable as error:
            found[source.name(i)] = reason(error)
    return found


# -- the corpus ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", hostile.ZIPS)
def test_a_hostile_zip(tmp_path, name):
    case = hostile.ZIPS[name]
    path = hostile.write(tmp_path, "a.zip", case.data)
    if case.stopped:
        with pytest.raises(UserError, match=re.escape(case.stopped)) as caught:
            cache.build(celeba.open_source(path, SIZE), tmp_path / "cache", progress=False)
        sentence(caught.value)
        assert str(tmp_path) in str(caught.value)
        return
    images = cache.build(celeba.open_source(path, SIZE), tmp_path / "cache", progress=False)
    assert len(images.names) + len(images.skipped) == case.names
    assert hostile.GOOD in images.names
    assert all(text.isprintable() for text in images.names)
    if case.skipped:
        assert hostile.BAD in dict(images.skipped) or case.names > 2
        assert all(case.skipped in reason for _, reason in images.skipped)
        assert all(reason.isprintable() for _, reason in images.skipped)
    assert bool(images.skipped) == bool(case.skipped)


def test_names_and_suffixes_are_told_as_one_line(tmp_path):
    path = hostile.write(tmp_path, "a.zip", hostile.zip_of(hostile.Entry("a.\x1b[2J\n", b"")))
    with pytest.raises(UserError, match="no images") as caught:
        celeba.open_source(path)
    assert r"\x1b[2j\n" in sentence(caught.value)


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes only on Linux")
def test_a_name_that_is_no_text(tmp_path):
    hostile.write(tmp_path / "data", os.fsdecode(b"\xff.jpg"), hostile.picture())
    images = cache.build(celeba.open_source(tmp_path / "data", SIZE), tmp_path, progress=False)
    assert images.names == [r"\udcff.jpg"]
    images.names[0].encode()  # as for the run's fingerprint


@pytest.mark.parametrize("name", hostile.PICTURES)
def test_a_hostile_picture(name):
    case = hostile.PICTURES[name]
    data = case.data
    if not case.skipped:
        assert decoding.decode(data, SIZE).shape == (SIZE, SIZE, 3)
        return
    with pytest.raises(Unreadable, match=case.skipped) as caught:
        decoding.decode(data, SIZE)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", hostile.CHECKPOINTS)
def test_a_hostile_checkpoint(tmp_path, name):
    make, words = hostile.CHECKPOINTS[name]
    path = hostile.write(tmp_path, "c", make())
    with pytest.raises(CheckpointError, match=words) as caught:
        checkpoint.read_file(path)
    assert str(path) in sentence(caught.value)


@pytest.mark.skipif(sys.platform == "win32", reason="has no pipes in folders")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "c")
    with pytest.raises(CheckpointError, match="it is not a file"):
        checkpoint.read_file(tmp_path / "c")
    os.mkfifo(tmp_path / "a.zip")
    with pytest.raises(UserError, match="neither a zip nor a folder"):
        celeba.open_source(tmp_path / "a.zip")


@pytest.mark.skipif(sys.platform == "win32", reason="has no pipes in folders")
@pytest.mark.parametrize("suffix", ["json", "npy", "lock", "partial", "partial.json"])
def test_a_pipe_in_the_folder_of_the_cache_is_not_waited_for(tmp_path, suffix):
    key = built(tmp_path).identity["key"]
    if suffix not in ("json", "npy"):
        (tmp_path / f"{key}.npy").unlink()  # so that a new build starts
    (tmp_path / f"{key}.{suffix}").unlink(missing_ok=True)
    os.mkfifo(tmp_path / f"{key}.{suffix}")
    assert built(tmp_path).names == KEPT


# -- every header field -------------------------------------------------------------------------------


@once
def originals() -> list[bytes]:
    return [decoding.decode(hostile.picture(i), SIZE).tobytes() for i in (1, 2)]


def only_right_pictures(path):
    """Check a zip of the two pictures of `hostile.with_bad`, whatever was changed in it."""
    try:
        found = loaded(path)
    except UserError as error:
        sentence(error)
    else:
        pictures = [x for x in found.values() if isinstance(x, np.ndarray)]
        assert all(x.tobytes() in originals() for x in pictures)


def values(kind: str):
    return st.sampled_from([0, 1, 2, 8, 12, 255]) | st.integers(
        0, 256 ** (4 if kind == "I" else 2) - 1
    )


FIELDS = [
    (header, key)
    for header, fields in hostile.FIELDS.items()
    for key in fields
    if fields[key] != "4s"
]


@pytest.mark.parametrize(("header", "key"), FIELDS)
def test_each_field_of_a_zip(tmp_path, header, key):
    top = 256 ** (4 if hostile.FIELDS[header][key] == "I" else 2) - 1
    for value in (0, 1, 8, 255, top // 2, top - 1, top):
        change = {key: value}
        data = (
            hostile.zip_of(hostile.good(), end=change)
            if header == "end"
            else hostile.with_bad(**{header: change})
        )
        only_right_pictures(hostile.write(tmp_path, "a.zip", data))


@fuzz
@given(st.data())
def test_fields_of_a_zip_together(tmp_path, data):
    changes = {header: {} for header in hostile.FIELDS}
    for header, key in data.draw(st.lists(st.sampled_from(FIELDS), min_size=1, max_size=4)):
        changes[header][key] = data.draw(values(hostile.FIELDS[header][key]))
    bad = hostile.Entry(
        hostile.BAD, hostile.picture(), local=changes["local"], central=changes["central"],
        extra=data.draw(st.binary(max_size=40)),
    )  # fmt: skip
    made = hostile.zip_of(bad, hostile.good(), end=changes["end"])
    only_right_pictures(hostile.write(tmp_path, "a.zip", made))


KEPT = ["first", "third"]


class Three:
    """A source of three pictures, the second of which cannot be used."""

    def __len__(self):
        return 3

    def identity(self):
        return {"three": 3, "image_size": 4}

    def check(self):
        pass

    def name(self, i):
        return ("first", "second", "third")[i]

    def load(self, i):
        if i == 1:
            raise Unreadable("it is the second")
        assert i in (0, 2)
        return np.full((4, 4, 3), 10 * i, np.uint8)


def built(folder):
    """Open the cache of Three, which must have its form; pixels and names may be any."""
    images = cache.build(Three(), folder, progress=False)
    assert images.pixels.shape == (2, 4, 4, 3)
    assert all(isinstance(n, str) and n.isprintable() for n in images.names)
    assert all(isinstance(t, str) and t.isprintable() for pair in images.skipped for t in pair)
    assert len(images.names) == 2
    return images


def built_or_told(folder):
    try:
        return built(folder)
    except UserError as error:
        sentence(error)


def with_digest(value):
    """As JSON with a matching digest, so that the planted error itself is found."""
    if isinstance(value, dict):
        value = {key: part for key, part in value.items() if key != "check"}
        value["check"] = cache._digest_of(value)
    return json.dumps(value).encode()


@once
def finished() -> tuple[str, bytes, dict]:
    """Key, pixels and JSON of the cache of Three."""
    with tempfile.TemporaryDirectory() as folder:
        key = built(Path(folder)).identity["key"]
        npy, text = (Path(folder, f"{key}.{suffix}") for suffix in ("npy", "json"))
        return key, npy.read_bytes(), json.loads(text.read_text())


shapes = st.lists(st.sampled_from([0, 1, 3, 4, -4, 48, 2**40, 4.0, True]), max_size=4)
cache_fields = st.fixed_dictionaries(
    {},
    optional={
        "names": st.lists(anything, max_size=3) | anything,
        "shape": shapes | anything,
        "skipped": st.lists(st.tuples(anything, anything), max_size=2) | anything,
        "identity": anything,
    },
)


@fuzz
@given(cache_fields, st.booleans())
def test_fields_of_a_cache(tmp_path, changes, header_too):
    """The .npy agrees with the JSON, so only the check of the JSON can refuse it."""
    key, npy, meta = finished()
    meta = {**meta, **changes}
    try:
        header = cache._npy_header((len(meta["names"]), *meta["shape"]))
    except TypeError:
        header = b""
    if header_too and len(header) == cache.HEADER:
        npy = header + npy[cache.HEADER :]
    hostile.write(tmp_path, f"{key}.npy", npy)
    hostile.write(tmp_path, f"{key}.json", with_digest(meta))
    images = built(tmp_path)
    if not {"names", "skipped"} & changes.keys():
        assert images.names == KEPT
        assert images.skipped == [("second", "it is the second")]
        assert images.pixels[:, 0, 0, 0].tolist() == [0, 20]


indices = st.sampled_from([-1, 0, 1, 2, 3, 10**9, 1.0, True])
journals = st.fixed_dictionaries(
    {
        "done": st.integers(-4, 5) | anything,
        "shape": st.just([4, 4, 3]) | shapes | anything,
        "skipped": st.lists(st.tuples(indices, st.text(max_size=3)), max_size=4) | anything,
        "digest": st.sampled_from([hashlib.sha256(bytes(n)).hexdigest() for n in (0, 48, 96, 144)])
        | anything,
    }
)


@fuzz
@given(journals, st.integers(0, 200))
def test_fields_of_the_journal_of_a_build(tmp_path, journal, length):
    """Only the pixels of an unfinished build are trusted, and only if their digest is correct."""
    key, _, _ = finished()
    for suffix in ("npy", "json"):
        (tmp_path / f"{key}.{suffix}").unlink(missing_ok=True)
    hostile.write(tmp_path, f"{key}.partial", bytes(cache.HEADER + length))
    hostile.write(tmp_path, f"{key}.partial.json", with_digest(journal))
    try:
        images = cache.build(Three(), tmp_path, progress=False)
    except UserError as error:
        sentence(error)
    else:
        assert images.pixels.shape == (len(images.names), 4, 4, 3)
        names = images.names + [name for name, _ in images.skipped]
        assert sorted(names) == ["first", "second", "third"]


@pytest.mark.parametrize(
    "changes",
    [
        {"names": "ab"},
        {"names": {"a": 1, "b": 2}},
        {"names": [1, 2]},
        {"names": ["a", "\ud800"]},
        {"names": ["a", "b\x1b[2J"]},
        {"names": []},
        {"shape": [48]},
        {"shape": [2, 8, 3]},
        {"shape": [4.0, 4, 3]},
        {"shape": [-4, -4, 3]},
        {"shape": [2**40, 2**40, 3]},
        {"skipped": ["ab"]},
        {"skipped": [["a", 1]]},
    ],
)
def test_a_cache_that_agrees_with_itself_and_is_wrong_is_built_anew(tmp_path, changes):
    key, npy, meta = finished()
    meta = {**meta, **changes}
    header = cache._npy_header((len(meta["names"]), *meta["shape"]))
    data = b"" if not meta["names"] else npy[cache.HEADER :]
    hostile.write(tmp_path, f"{key}.npy", header + data)
    hostile.write(tmp_path, f"{key}.json", with_digest(meta))
    images = built(tmp_path)
    expected = ["a", "b"] if changes == {"skipped": ["ab"]} else KEPT
    assert images.names in (expected, KEPT)


def test_json_that_is_too_deep_is_built_anew(tmp_path):
    key, npy, _ = finished()
    hostile.write(tmp_path, f"{key}.npy", npy)
    hostile.write(tmp_path, f"{key}.json", b"[" * 100_000)
    hostile.write(tmp_path, f"{key}.partial.json", b"[" * 100_000)
    assert built(tmp_path).names == KEPT


def test_a_journal_that_counts_from_the_end_is_not_followed(tmp_path):
    key, _, _ = finished()
    hostile.write(tmp_path, f"{key}.partial", bytes(cache.HEADER))
    journal = {"done": -2, "shape": [0], "skipped": []}
    hostile.write(tmp_path, f"{key}.partial.json", with_digest(journal))
    assert built(tmp_path).names == KEPT


numbers = st.sampled_from([-1, 0, 1, 2, 4, 8, 24, 40, 2**31, 2**53, 2**63, 2**64, 1.5, "1"])
dtypes = st.sampled_from(
    ["F32", "F64", "F16", "BF16", "F8_E4M3", "F8_E5M2", "F4", "BOOL", "I64", "U8", "C64", "O", ""]
)
entries = st.fixed_dictionaries(
    {},
    optional={
        "dtype": dtypes | scalars,
        "shape": st.lists(numbers, max_size=5) | anything,
        "data_offsets": st.lists(numbers, min_size=2, max_size=2) | anything,
        "more": anything,
    },
)
texts = st.lists(st.sampled_from([checkpoint.FORMAT, "0" * 64, "{}"]) | st.text(max_size=9))
metadata = st.dictionaries(
    st.sampled_from([tensorfile.KEY, "more"]), texts.map("\n".join) | anything
)


@fuzz
@given(st.data())
def test_fields_of_a_checkpoint(tmp_path, data):
    made = hostile.saved()
    end = 8 + int.from_bytes(made[:8], "little")
    header = json.loads(made[8:end])
    for name in data.draw(st.sets(st.sampled_from([*header, "more", "G.w\0"]), min_size=1)):
        change = data.draw(metadata if name == "__metadata__" else entries)
        header[name] = {**header.get(name, {}), **change}
        if data.draw(st.integers(0, 9)) == 0:
            header[name] = data.draw(anything)
    length = data.draw(st.none() | st.integers(0, 2**64 - 1))
    right_or_told(tmp_path, hostile.safetensors(header, made[end:], length))


def right_or_told(tmp_path, data):
    """Reading a checkpoint gives what was written, or a CheckpointError."""
    path = hostile.write(tmp_path, "c", data)
    try:
        arrays, table = checkpoint.read_file(path)
    except CheckpointError as error:
        sentence(error)
        return
    expected, right = checkpoint.read_file(hostile.write(tmp_path, "right", hostile.saved()))
    assert table == right
    assert {k: (a.dtype, a.shape, a.tobytes()) for k, a in arrays.items()} == {
        k: (a.dtype, a.shape, a.tobytes()) for k, a in expected.items()
    }


@fuzz
@given(st.text(max_size=20) | st.recursive(anything, st.lists).map(json.dumps) | st.dictionaries(
    st.sampled_from(["game", "numbers", "more"]), anything).map(json.dumps))  # fmt: skip
def test_tables_of_a_checkpoint_with_a_checksum_that_fits(tmp_path, text):
    try:
        _, found = checkpoint.read_file(hostile.write(tmp_path, "c", signed(text)))
    except CheckpointError as error:
        sentence(error)
    else:
        assert isinstance(found, dict)


def signed(text):
    return hostile.signed(text.encode("utf-8", "replace").decode())


# -- any byte -----------------------------------------------------------------------------------------

places = st.integers(0, 10**6) | st.integers(-200, -1) | st.integers(0, 64)
edits = st.one_of(
    st.tuples(st.just("flip"), places, st.integers(0, 7)),
    st.tuples(st.just("set"), places, st.sampled_from([b"\0", b"\xff", b"\xff" * 4, b"\xff" * 8])),
    st.tuples(st.just("cut"), places, st.none()),
    st.tuples(st.just("insert"), places, st.binary(min_size=1, max_size=20)),
    st.tuples(st.just("splice"), places, st.tuples(places, st.integers(1, 300))),
    st.tuples(st.just("drop"), places, st.integers(1, 50)),
)
mutations = st.lists(edits, min_size=1, max_size=4)


def mutated(data: bytes, edits) -> bytes:
    data = bytearray(data)
    for kind, place, what in edits:
        if not data:
            break
        at = place % len(data)
        if kind == "flip":
            data[at] ^= 1 << what
        elif kind == "set":
            data[at : at + len(what)] = what
        elif kind == "cut":
            del data[at:]
        elif kind == "insert":
            data[at:at] = what
        elif kind == "splice":
            start = what[0] % len(data)
            data[at:at] = data[start : start + what[1]]
        else:
            del data[at : at + what]
    return bytes(data)


@once
def two_zips() -> list[bytes]:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(hostile.BAD, hostile.picture())
        archive.writestr(hostile.GOOD, hostile.picture(2))
    return [file.getvalue(), hostile.zip64_whole()]


@fuzz
@given(st.integers(0, 1), mutations)
def test_any_bytes_of_a_zip(tmp_path, which, edits):
    only_right_pictures(hostile.write(tmp_path, "a.zip", mutated(two_zips()[which], edits)))


@once
def kinds() -> list[bytes]:
    flat = [hostile.flat("RGB", kind, 40, 50) for kind in ("PNG", "WEBP", "BMP", "GIF")]
    return [hostile.picture(), hostile.progressive(), hostile.turned(), hostile.bad_exif(), *flat]


@fuzz
@given(st.integers(0, 7), mutations)
def test_any_bytes_of_a_picture(which, edits):
    try:
        assert decoding.decode(mutated(kinds()[which], edits), SIZE).shape == (SIZE, SIZE, 3)
    except Unreadable as error:
        reason(error)


@fuzz
@given(st.sampled_from(["npy", "json"]), mutations)
def test_any_bytes_of_a_cache(tmp_path, suffix, edits):
    key, npy, meta = finished()
    contents = {"npy": npy, "json": with_digest(meta)}
    contents[suffix] = mutated(contents[suffix], edits)
    for name, data in contents.items():
        hostile.write(tmp_path, f"{key}.{name}", data)
    images = built(tmp_path)
    if suffix == "npy":
        assert images.names == KEPT


@fuzz
@given(mutations)
def test_any_bytes_of_a_checkpoint(tmp_path, edits):
    right_or_told(tmp_path, mutated(hostile.saved(), edits))


# -- memory and time ----------------------------------------------------------------------------------

MEASURE = """
import json, os, resource, sys
from pathlib import Path
from minigan import errors, tensorfile
from minigan.data import cache, celeba, decoding, source
from minigan.training import checkpoint
decoding.Image.init()

def use(path):
    try:
        if path.suffix == ".zip":
            images = celeba.open_source(path, 64)
            for i in range(len(images)):
                try: images.load(i)
                except source.Unreadable: pass
        elif path.suffix == ".picture":
            decoding.decode(path.read_bytes(), 64)
        elif path.suffix == ".checkpoint":
            checkpoint.read_file(path)
        else:
            identity = json.loads((path.parent / "identity").read_text())
            cache._open(path.with_suffix(""), identity, progress=False)
    except (errors.UserError, source.Unreadable, checkpoint.CheckpointError):
        pass

def peak():
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

for path in sorted(Path(sys.argv[1]).iterdir()):
    if path.name == "identity" or path.suffix == ".npy": continue
    sys.stdout.flush()
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_CPU, (20, 20))  # ends a hang, even in C code
        start = peak()
        use(path)
        seconds = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        print(json.dumps([path.name, path.stat().st_size, peak() - start, seconds]), flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, path
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="measures in forked processes")
def test_memory_and_time_are_in_proportion(tmp_path):
    """Each file has its own process, whose peak memory the system counts. tracemalloc would not see the
    memory of Pillow, zlib and safetensors, which is what a bomb fills."""
    for suffix, cases in (("zip", hostile.ZIPS), ("picture", hostile.PICTURES)):
        for name, case in cases.items():
            hostile.write(tmp_path, f"{name}.{suffix}", case.data)
    for name, (make, _) in hostile.CHECKPOINTS.items():
        hostile.write(tmp_path, f"{name}.checkpoint", make())
    _, _, meta = finished()
    shape = [30_000, 30_000, 3]
    meta = {**meta, "shape": shape, "identity": {}}
    hostile.write(tmp_path, "gigabytes.json", with_digest(meta))
    hostile.write(tmp_path, "gigabytes.npy", cache._npy_header((2, *shape)) + bytes(96))
    hostile.write(tmp_path, "deep.json", b"[" * 10_000)
    hostile.write(tmp_path, "identity", b"{}")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", MEASURE, tmp_path],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(figures) == sum(map(len, (hostile.ZIPS, hostile.PICTURES, hostile.CHECKPOINTS))) + 2
    for name, size, grown, seconds in figures:
        assert grown < 2**26 + 30 * size, f"{name}: {size:,} bytes took {grown:,}"
        assert seconds < 5, f"{name} took {seconds} s"
    if "HOSTILE_FIGURES" in os.environ:
        Path(os.environ["HOSTILE_FIGURES"]).write_text(done.stdout)


# -- where the program writes -------------------------------------------------------------------------

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
written: list[str] = []
watching = False


def watch(event, arguments):
    """Records every path that Python writes, makes, renames or removes, and every unpickling."""
    if not watching:
        return
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES:
        written.append(os.path.realpath(arguments[0]))
    elif event in ("os.mkdir", "os.remove", "os.rename", "os.truncate", "os.symlink", "os.link"):
        written.extend(os.path.realpath(a) for a in arguments[:2] if isinstance(a, (str, Path)))
    elif event in ("pickle.find_class", "os.system", "subprocess.Popen", "os.exec"):
        written.append(event)


@pytest.fixture
def watched():
    global watching
    if watch not in installed:
        sys.addaudithook(watch)  # cannot be removed, so added only once
        installed.append(watch)
    written.clear()
    watching = True
    yield written
    watching = False


installed: list = []


def test_the_watch_sees_what_is_written(tmp_path, watched):
    (tmp_path / "a").write_bytes(b"x")
    os.replace(tmp_path / "a", tmp_path / "b")
    os.truncate(tmp_path / "b", 0)
    assert {Path(p).name for p in watched} == {"a", "b"}


def test_only_the_folder_of_the_cache_is_written(tmp_path, watched):
    for i, case in enumerate(hostile.ZIPS.values()):
        path = hostile.write(tmp_path / "data", f"{i}.zip", case.data)
        watched.clear()
        try:
            cache.build(celeba.open_source(path, SIZE), tmp_path / "out" / "cache", progress=False)
        except UserError:
            assert case.stopped
        below = os.path.realpath(tmp_path / "out")
        assert all(p.startswith(below) for p in watched), watched
    watched.clear()
    for make, _ in hostile.CHECKPOINTS.values():
        path = hostile.write(tmp_path / "data", "c", make())
        watched.clear()
        with pytest.raises(CheckpointError):
            checkpoint.read_file(path)
        assert watched == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "out"]


@pytest.mark.parametrize("link", [os.symlink, os.link])
@pytest.mark.parametrize("name", ["{}.partial", "{}.lock", "{}.json.new", "{}.partial.json.new"])
def test_a_link_in_the_folder_of_the_cache_is_not_written_through(tmp_path, name, link):
    key, _, _ = finished()
    outside = hostile.write(tmp_path, "outside", b"precious" * 100)
    folder = tmp_path / "cache"
    folder.mkdir()
    link(outside, folder / name.format(key))
    assert built(folder).names == KEPT
    assert outside.read_bytes() == b"precious" * 100
    outside.unlink()


@pytest.mark.parametrize("name", ["{}.partial", "{}.lock", "{}.json", "{}.npy", "{}.json.new"])
def test_a_link_to_nothing_makes_no_file_elsewhere(tmp_path, name):
    key, _, _ = finished()
    folder = tmp_path / "cache"
    folder.mkdir()
    os.symlink(tmp_path / "outside", folder / name.format(key))
    assert built(folder).names == KEPT
    assert not (tmp_path / "outside").exists()


# -- nothing is executed ------------------------------------------------------------------------------

UNPICKLERS = {
    "pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal", "joblib", "yaml",
    "jsonpickle", "runpy", "code", "imp", "torch",
}  # fmt: skip
EXECUTORS = {"eval", "exec", "compile", "__import__", "execfile"}
METHODS = {("os", "system"), ("os", "popen"), ("np", "load"), ("numpy", "load"),
           ("np", "fromregex"), ("importlib", "import_module")}  # fmt: skip


def faults(source: str) -> list[str]:
    """The calls in a module that could turn data into code. (Methods named eval cannot.)"""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.split(".")[0] in UNPICKLERS]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            found += [module] if module.split(".")[0] in UNPICKLERS and not node.level else []
            found += [a.name for a in node.names if (module, a.name) in METHODS]
            found += [a.name for a in node.names if module in ("numpy", "builtins")
                      and a.name in EXECUTORS | {"load"}]  # fmt: skip
        elif isinstance(node, ast.Name) and node.id in EXECUTORS:
            found.append(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found += [node.attr] if (node.value.id, node.attr) in METHODS else []
            found += [node.attr] if node.value.id == "builtins" and node.attr in EXECUTORS else []
        elif isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "shell"):
            found.append(node.arg)
    return found


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import dill.source as d",
        "from pickle import loads",
        "def f():\n    from marshal import loads",
        "eval(text)",
        "run = exec",
        "builtins.eval(text)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "from numpy import load",
        "read_array(file, allow_pickle=True)",
        "os.system(text)",
        "importlib.import_module(name)",
        "subprocess.run(text, shell=True)",
    ],
)
def test_the_search_finds(source):
    assert faults(source)


def test_nothing_in_the_package_or_the_examples_executes_data():
    paths = [*tiny.ROOT.glob("minigan/**/*.py"), *tiny.ROOT.glob("examples/**/*.py")]
    assert len(paths) > 20
    assert {str(p): found for p in paths if (found := faults(p.read_text()))} == {}


def test_processes_exchange_objects_in_one_place_only():
    """mpi4py pickles messages between its processes. No file is read that way."""
    using = [
        path.relative_to(tiny.ROOT).as_posix()
        for path in tiny.ROOT.glob("minigan/**/*.py")
        if any(
            isinstance(node, (ast.Import, ast.ImportFrom)) and "mpi4py" in ast.unparse(node)
            for node in ast.walk(ast.parse(path.read_text()))
        )
    ]
    assert set(using) <= {"minigan/training/parallel.py"}


def test_an_array_of_objects_is_refused_by_its_type(tmp_path):
    """Tested for the cache; "unknown type" above tests the same for safetensors."""
    key, npy, meta = finished()
    hostile.write(tmp_path, f"{key}.npy", npy.replace(b"'|u1'", b"'|O8'"))
    hostile.write(tmp_path, f"{key}.json", with_digest(meta))
    assert built(tmp_path).pixels.dtype == np.uint8
