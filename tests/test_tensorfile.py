"""Tensor files equal the safetensors library's, and are written one piece at a time."""

import contextlib
import errno
import json
import os
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path

import hostile
import numpy as np
import pytest
import tiny
from safetensors import safe_open
from safetensors.numpy import save

from minigan import files, tensorfile
from minigan.training import checkpoint
from minigan.training.run import Run

rng = np.random.default_rng(0)
ARRAYS = {
    "a float": np.float32(rng.standard_normal((3, 4, 5))),
    "transposed": np.float32(rng.standard_normal((2, 3, 4, 5))).transpose(3, 2, 0, 1),
    "reversed": np.arange(7.0)[::-1],
    "broadcast": np.broadcast_to(np.float32([1, 2]), (3, 2)),
    "scalar": np.asarray(5),
    "empty": np.zeros((0, 3), "f"),
    'quotes " \\ and \n\t\b\f\r\x01\x7f': np.float16([0.1]),
    "Ünicode 雪 \U0001f600": np.arange(6, dtype="i4").reshape(2, 3),
    "truth": np.array([True, False, True]),
    **{f"{t} small": np.array([0, 1, 2], t) for t in ("u1", "i1", "u2", "i2", "u4", "u8")},
    **{f"{i}.weight": np.full((2, 2), i, "f") for i in (10, 9, 1)},
}


def as_bytes(arrays):
    return {k: (str(a.dtype), a.shape, np.asarray(a).tobytes()) for k, a in arrays.items()}


def bits(arrays):
    """The arrays in C order, which the library assumes."""
    return {k: np.asarray(a, order="C") for k, a in arrays.items()}


@pytest.mark.parametrize("text", ["", 'lines\nand "quotes" and snow 雪', "x" * 6, "x" * 7])
@pytest.mark.parametrize("names", [list(ARRAYS), list(ARRAYS)[::-1], []])
def test_the_file_is_what_the_library_writes_and_reads(tmp_path, names, text):
    arrays = {name: ARRAYS[name] for name in names}
    tensorfile.write(tmp_path / "f", arrays, text)
    assert (tmp_path / "f").read_bytes() == save(bits(arrays), {tensorfile.KEY: text})
    assert tensorfile.read_text(tmp_path / "f") == {tensorfile.KEY: text}
    assert as_bytes(tensorfile.read(tmp_path / "f")) == as_bytes(arrays)
    with safe_open(tmp_path / "f", "numpy") as file:
        assert file.metadata() == {tensorfile.KEY: text}
        assert as_bytes({k: file.get_tensor(k) for k in arrays}) == as_bytes(arrays)


def test_what_was_read_can_be_changed_and_is_its_own(tmp_path):
    tensorfile.write(tmp_path / "f", ARRAYS, "")
    found = tensorfile.read(tmp_path / "f")
    assert all(a.flags.writeable and a.flags.c_contiguous for a in found.values())
    assert all(a.dtype.isnative and a.flags.aligned for a in found.values())


@pytest.mark.parametrize(
    ("arrays", "error", "message"),
    [
        ({"x": np.array([1j])}, TypeError, "x: a tensor file cannot hold complex128; convert it"),
        ({"x": np.array(["a"])}, TypeError, "x: a tensor file cannot hold <U1"),
        ({"x": np.array([None])}, TypeError, "x: a tensor file cannot hold object"),
        ({"x": np.array([1], ">i4")}, TypeError, "x: a tensor file cannot hold >i4"),
        ({"__metadata__": np.zeros(1)}, ValueError, "__metadata__: this name is reserved"),
    ],
)
def test_what_the_format_cannot_hold_is_refused_and_nothing_is_written(
    tmp_path, arrays, error, message
):
    with pytest.raises(error, match=message):
        tensorfile.write(tmp_path / "f", {"good": np.ones(3), **arrays}, "")
    assert os.listdir(tmp_path) == []


def entry(dtype="F32", shape=(2,), offsets=(0, 8), **more):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets), **more}


def described(header, data=bytes(8)):
    return hostile.safetensors(header, data)


x = json.dumps(entry())
FILES = {
    "nothing": (b"", "its header"),
    "half of a length": (bytes(7), "its header"),
    "no header": (bytes(8), "Expecting value"),
    "header beyond the file": (described({}, b"")[:-1], "its header of 2 bytes does not fit"),
    "header of bytes": (described(b"\xff\xfe"), "codec can't decode"),
    "header of a list": (described([]), "not a JSON object"),
    "name twice": (described(f'{{"x": {x}, "x": {x}}}'.encode()), "twice"),
    "field twice": (described(b'{"x": {"dtype": "F32", "dtype": "F64"}}'), "twice"),
    "metadata that is a list": (described({"__metadata__": [], "x": entry()}), "not text"),
    "metadata of numbers": (described({"__metadata__": {"a": 1}, "x": entry()}), "not text"),
    "entry that is a list": (described({"x": []}), "not described by"),
    "field missing": (described({"x": {"dtype": "F32", "shape": [2]}}), "not described by"),
    "field too many": (described({"x": entry(more=1)}), "not described by"),
    "type that is a list": (described({"x": entry(["F32"])}), "unknown type"),
    "type of the library's alone": (described({"x": entry("BF16", (4,))}), "unknown type 'BF16'"),
    "shape of floats": (described({"x": entry(shape=(2.0,))}), "impossible shape"),
    "shape of truth": (described({"x": entry(shape=(2, True))}), "impossible shape"),
    "shape of a million": (described({"x": entry(shape=(2**62,) * 10**6)}), "impossible shape"),
    "three offsets": (described({"x": entry(offsets=(0, 8, 8))}), "impossible shape or place"),
    "negative offset": (described({"x": entry(offsets=(-8, 0))}), "impossible shape or place"),
    "shape beyond the data": (described({"x": entry(shape=(3,))}), "does not lie at 0 to 8"),
    "two in one place": (described({"x": entry(), "y": entry()}), "'y' of shape .2. does not lie"),
    "a hole": (described({"x": entry(offsets=(8, 16))}, bytes(16)), "does not lie at 8 to 16"),
    "data at the end": (described({"x": entry()}, bytes(9)), "9 bytes of data, not 8"),
    "data missing": (described({"x": entry()}, bytes(7)), "7 bytes of data, not 8"),
    "empty, but beyond NumPy": (described({"x": entry(shape=(0, 2**62, 2**62), offsets=(0, 0))}, b""),
                                "too big"),
    "truth of two": (described({"x": entry("BOOL", (8,))}, bytes([2] * 8)), "truth values"),
    "deep": (described(b'{"x":' * 50_000), "nested too deeply"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_header_that_lies_is_refused(tmp_path, name):
    content, message = FILES[name]
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        tensorfile.read(tmp_path / "f")


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path, monkeypatch):
    tensorfile.write(tmp_path / "f", {"x": np.zeros(2**19)}, "")  # more than the buffer
    header = tensorfile._header

    def header_then_cut(file):
        found = header(file)
        os.truncate(tmp_path / "f", 2**21)
        return found

    monkeypatch.setattr(tensorfile, "_header", header_then_cut)
    with pytest.raises(ValueError, match="it ends within 'x'"):
        tensorfile.read(tmp_path / "f")


# -- memory -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def peak():
    """A list that receives the peak number of allocated bytes."""
    found = []
    tracemalloc.start()
    try:
        yield found
        found.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()


def test_no_more_than_a_piece_is_held(tmp_path):
    kernel = np.zeros((4, 4, 256, 256), "f").transpose(3, 2, 0, 1)  # 4 MB, as in a convolution
    arrays = {f"{i}": kernel for i in range(8)}
    with peak() as written:
        checkpoint.write_file(tmp_path / "f", arrays, {"game": {}, "numbers": {}})
    assert written[0] < 4 * 2**20
    with peak() as read:
        checkpoint.read_file(tmp_path / "f")
    assert read[0] < 8 * kernel.nbytes + 4 * 2**20


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="limits memory as Linux does")
def test_where_memory_is_limited_a_training_ends_in_one_sentence_and_goes_on(tmp_path):
    """At a checkpoint, under the limit that clusters set. (The timeout: safetensors hung here.)"""
    script = Path(__file__).with_name("starved.py")
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    ended, code, err, code_after, size = json.loads(done.stdout)
    assert ended == errno.ENOMEM  # before matplotlib is loaded, because that would hang or abort
    assert code == 1
    assert re.fullmatch(r"error: no memory left(: [^;]+)?; lower --batch-size.*\n", err)
    assert code_after == 0  # the run is unlocked, and its first checkpoint is whole
    run = Run(tmp_path / "runs" / tiny.FIRST)
    assert [e["step"] for e in tiny.events(run) if e["event"] == "resume"] == [1]
    assert tiny.saved(run) == [1, 2, 3]
    assert not list(run.folder.rglob("*.partial"))
    assert size > 4 * 2**24


@pytest.mark.parametrize(("text", "said"), [("", ""), ("8 bytes", ": 8 bytes")])
def test_what_did_not_fit_is_said_where_the_error_says_it(text, said):
    assert files.no_memory(MemoryError(text)) == "no memory left" + said


def test_a_checkpoint_that_does_not_fit_into_memory_is_not_taken_for_a_bad_one(
    tmp_path, monkeypatch
):
    (tmp_path / "c").write_bytes(hostile.saved())

    def full(*arguments):
        raise MemoryError

    monkeypatch.setattr(np, "empty", full)
    with pytest.raises(MemoryError):  # otherwise a run would go back to an older checkpoint
        checkpoint.read_file(tmp_path / "c")


@pytest.mark.parametrize(
    ("arrays", "text", "message"),
    [
        ({}, 5, "the text of a tensor file must be a str, is int"),
        ({}, None, "must be a str, is NoneType"),
        ({5: np.ones(3)}, "", "5: the name of an array must be a str; rename it"),
        ({None: np.ones(3), "x": np.ones(3)}, "", "None: the name"),
        ({"x": np.ones((1,) * 33)}, "", "x: it has 33 dimensions; reshape it to 32"),
    ],
)
def test_what_could_not_be_read_again_is_not_written(tmp_path, arrays, text, message):
    with pytest.raises((TypeError, ValueError), match=message):
        tensorfile.write(tmp_path / "f", arrays, text)
    assert os.listdir(tmp_path) == []


def test_an_array_of_as_many_dimensions_as_there_may_be_comes_back(tmp_path):
    tensorfile.write(tmp_path / "f", {"x": np.ones((1,) * 32)}, "")
    assert tensorfile.read(tmp_path / "f")["x"].shape == (1,) * 32
