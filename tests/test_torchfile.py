"""Reading PyTorch's state dicts: both forms as PyTorch wrote them, and files that are hostile."""

import io
import math
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from minigan.evaluation import torchfile

FIXTURES = Path(__file__).parent / "fixtures"
FORMS = ("zip", "stream")


@pytest.fixture
def read(tmp_path):
    """Reads a file with these bytes."""

    def of(data):
        path = tmp_path / "state.pth"
        path.write_bytes(data)
        return torchfile.read(path)

    return of


def saved(form):
    return (FIXTURES / f"{form}.pth").read_bytes()


# -- what PyTorch wrote ---------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_a_state_dict_is_read_as_pytorch_wrote_it(form, read):
    found = read(saved(form))
    shapes = {"0.weight": (3, 2, 1, 3), "1.weight": (3,), "1.bias": (3,)}
    shapes |= {"1.running_mean": (3,), "1.running_var": (3,), "1.num_batches_tracked": ()}
    shapes |= {"2.weight": (2, 2), "2.bias": (2,)}
    assert {name: array.shape for name, array in found.items()} == shapes
    assert list(found) == list(shapes)
    start = 0
    for name, array in found.items():
        assert array.dtype == (np.int64 if "tracked" in name else np.float32)
        assert array.ravel().tolist() == list(range(start, start := start + array.size))
    assert found["0.weight"].strides[1] == 4  # channels last, as PyTorch kept them


# -- files made by hand ---------------------------------------------------------------------


def text(value):
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def whole(value):
    return b"\x8a\x0c" + value.to_bytes(12, "little", signed=True)  # LONG1


def items(*parts):
    return b"(" + b"".join(parts) + b"t"  # MARK ... TUPLE


def named(name):
    module, _, attribute = name.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()  # GLOBAL


def tensor(
    key="0", count=4, offset=0, shape=(4,), strides=(1,), kind="FloatStorage", function=None
):
    """The instructions that build a tensor."""
    storage = items(text("storage"), named(f"torch.{kind}"), text(key), text("cpu"), whole(count))
    sizes = [items(*map(whole, each)) for each in (shape, strides)]
    hooks = named("collections.OrderedDict") + b")R"
    arguments = items(storage + b"Q", whole(offset), *sizes, b"\x89", hooks)
    return named(function or "torch._utils._rebuild_tensor_v2") + arguments + b"R"


def state(**tensors):
    return b"}(" + b"".join(text(name) + each for name, each in tensors.items()) + b"u"


def pickled(body):
    return b"\x80\x02" + body + b"."


def stream(body, storages=None, magic=torchfile.MAGIC, little=b"\x88", keys=None):
    """The older form; `storages` are {key: bytes of numbers in float32}."""
    storages = {"0": bytes(16)} if storages is None else storages
    listed = b"](" + b"".join(map(text, storages if keys is None else keys)) + b"e"
    system = b"}(" + text("little_endian") + little + b"u"
    parts = [whole(magic), whole(1001), system, body, listed]
    numbers = [struct.pack("<q", len(raw) // 4) + raw for raw in storages.values()]
    return b"".join(map(pickled, parts)) + b"".join(numbers)


def zipped(body, more=(), method=zipfile.ZIP_STORED):
    """The newer form, with other entries instead of the usual ones, or besides them."""
    entries = {"a/data.pkl": pickled(body), "a/data/0": bytes(16), "a/byteorder": b"little"}
    entries |= dict(more)
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", method) as archive:
        for name, data in entries.items():
            if data is not None:
                archive.writestr(name, data)
    return memory.getvalue()


GOOD = state(x=tensor())


def test_the_files_made_by_hand_are_read(read):
    numbers = np.arange(4, dtype="<f4").tobytes()
    for data in (stream(GOOD, {"0": numbers}), zipped(GOOD, {"a/data/0": numbers})):
        assert read(data)["x"].tolist() == [0, 1, 2, 3]
    turned = state(x=tensor(shape=(2, 1), strides=(2, 7), offset=1), y=tensor(shape=(0, 9)[:1]))
    found = read(stream(turned, {"0": numbers}))
    assert found["x"].tolist() == [[1], [3]]
    assert found["y"].shape == (0,)


# -- hostile files --------------------------------------------------------------------------

DEEP = b")" + 9000 * b"\x85"  # a tuple in a tuple in a tuple ...
WIDE = b")" + 60 * b"q\x00h\x00\x86"  # of 2^60 parts, each of two equal ones

OBJECTS = {  # what the pickle builds: a word of the refusal
    "another function": (state(x=named("os.system") + items(text("echo")) + b"R"), "os.system"),
    "a module's name that is long": (named("a" * 5000 + ".b"), "which no state dict"),
    "a module's name that rings": (named("a\x07.b"), r"mentions 'a\\x07\.b', which"),
    "text that is none": (b"X\x01\x00\x00\x00\xff", "pickle is damaged: 'utf-8' codec can't"),
    "a long number that is none": (b"F" + 5000 * b"x" + b"\n", "pickle is damaged: could not"),
    "half precision": (state(x=tensor(kind="HalfStorage")), "torch.HalfStorage"),
    "a parameter": (state(x=tensor(function="torch._utils._rebuild_parameter")), "_parameter"),
    "a class made": (b"c__builtin__\nobject\n)\x81", "__builtin__.object"),
    "STACK_GLOBAL": (b"\x8c\x02os\x8c\x06system\x93", "SHORT_BINUNICODE"),
    "INST": (b"(ios\nsystem\n", "INST"),
    "EXT1": (b"\x82\x01", "EXT1"),
    "NEWOBJ": (named("collections.OrderedDict") + b")\x81", "NEWOBJ"),
    "FLOAT": (b"F1.0\n", "FLOAT"),
    "an unknown instruction": (b"\xff", "unknown"),
    "an end without anything": (b"", "builds no"),
    "a mark that is missing": (b"t", "builds no"),
    "a memory that is empty": (b"h\x05", "builds no"),
    "items of no dict": (b"](" + text("x") + tensor() + b"u", "builds no"),
    "a name that is a number": (b"}" + whole(1) + tensor() + b"s", "builds no"),
    "a name that is deep": (b"}" + DEEP + tensor() + b"s", "builds no"),
    "a name that is wide": (b"}" + WIDE + tensor() + b"s", "builds no"),
    "a name without a value": (b"}(" + text("x") + b"u", "builds no"),
    "a call of text": (text("os.system") + b")R", "builds no"),
    "a call of a type": (named("torch.FloatStorage") + b")R", "builds no"),
    "a dict from arguments": (named("collections.OrderedDict") + b"]\x85R", "builds no"),
    "state for a tensor": (tensor() + b"}b", "builds no"),
    "a storage that is text": (text("storage") + b"Q", "builds no"),
    "a storage of 2^90 numbers": (state(x=tensor(count=2**90)), "builds no"),
    "a negative count": (state(x=tensor(count=-4)), "builds no"),
    "a negative offset": (state(x=tensor(offset=-1)), "builds no"),
    "a negative stride": (state(x=tensor(strides=(-1,))), "builds no"),
    "two forms of a storage": (state(x=tensor(), y=tensor(count=3)), "builds no"),
    "shape and strides of two lengths": (state(x=tensor(shape=(2, 2))), "builds no"),
    "a shape beyond the storage": (state(x=tensor(shape=(5,))), "'x' does not lie within"),
    "an offset beyond the storage": (state(x=tensor(offset=1)), "'x' does not lie within"),
    "strides beyond the storage": (state(x=tensor(strides=(2,))), "'x' does not lie within"),
    "a small number repeated": (state(x=tensor(shape=(2**30,), strides=(0,))), "not lie within"),
    "33 dimensions": (state(x=tensor(shape=33 * (1,), strides=33 * (1,))), "33 dimensions"),
    "something else": (text("x"), "something other than a state dict"),
    "a number in the state dict": (state(x=whole(1)), "'x' in it is not a tensor"),
    "a state dict in a state dict": (state(x=GOOD), "'x' in it is not a tensor"),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", OBJECTS)
def test_any_other_object_is_refused_without_executing_anything(case, form, read, monkeypatch):
    body, word = OBJECTS[case]
    monkeypatch.setattr("os.system", lambda command: pytest.fail(f"it ran {command}"))
    monkeypatch.setattr("pickle.Unpickler", None)
    monkeypatch.setattr("pickle.loads", None)
    with pytest.raises(ValueError, match=word) as caught:
        read(stream(body) if form == "stream" else zipped(body))
    assert len(str(caught.value)) < 200
    assert str(caught.value).isprintable()


ENTRY = b"PK\x03\x04"
FILES = {
    "nothing": (b"", "exhausted"),
    "noise": (b"\x93NUMPY\x01\x00", "."),
    "another magic number": (stream(GOOD, magic=1), "does not begin like"),
    "big-endian": (stream(GOOD, little=b"\x89"), "not little-endian"),
    "too few storages": (stream(GOOD, {}), "list of storages is not that"),
    "too many storages": (stream(GOOD, {"0": bytes(16), "1": b""}), "list of storages is not"),
    "a storage listed twice": (stream(GOOD, keys=["0", "0"]), "list of storages is not"),
    "a storage that is too short": (stream(GOOD, {"0": bytes(12)}), "take 24 bytes, and there are"),
    "a storage of another count": (
        stream(GOOD)[:-24] + struct.pack("<q", 5) + bytes(16), "has another size"),
    "a storage of 1 GB": (stream(state(x=tensor(count=2**27))), "take 536,870,920 bytes"),
    "more after the end": (stream(GOOD) + b"x", "there are 25"),
    "a zip of nothing": (zipped(GOOD, {"a/data.pkl": None}), "has 0 data.pkl, not 1"),
    "two objects": (zipped(GOOD, {"b/data.pkl": b""}), "has 2 data.pkl, not 1"),
    "a zip without the numbers": (zipped(GOOD, {"a/data/0": None}), "is missing in its zip"),
    "too few numbers": (zipped(GOOD, {"a/data/0": bytes(15)}), "has 15 bytes, too few"),
    "too many numbers": (zipped(GOOD, {"a/data/0": bytes(17)}), "17 bytes, more than 16"),
    "a big-endian zip": (zipped(GOOD, {"a/byteorder": b"big"}), "not little-endian"),
    "a zip bomb": (zipped(GOOD, {"a/data/0": bytes(2**24)}, zipfile.ZIP_DEFLATED), "compressed"),
    "a compressed object": (zipped(GOOD, method=zipfile.ZIP_LZMA), "compressed"),
    "a large object": (
        zipped(GOOD, {"a/data.pkl": bytes(torchfile.MOST_PICKLE + 1)}), "more than 4,194,304"),
    "storages of more bytes than the file": (
        zipped(state(**{f"x{i}": tensor(key=f"{i}", count=99) for i in range(50)})),
        "19,800 bytes, more than the file has"),
    "a path in the key": (zipped(state(x=tensor(key="../../etc/passwd"))), "is missing"),
    "a zip of its first bytes": (ENTRY, "damaged"),
    "a changed number": (
        zipped(GOOD, {"a/data/0": b"abcdefghijklmnop"}).replace(b"abcd", b"abce"), "damaged"),
    "an entry before the beginning": (
        zipped(GOOD)[:20] + zipped(GOOD)[40:], "not begin within its zip|damaged"),
    "an encrypted zip": (
        zipped(GOOD).replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"),
        "damaged"),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_is_not_whole_is_refused(case, read):
    data, word = FILES[case]
    with pytest.raises(ValueError, match=word):
        read(data)


@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_ends_early_or_is_changed_anywhere_is_refused_or_read(form, read):
    """No other error, and no array of another shape than the bytes can fill."""
    data, rng = saved(form), np.random.default_rng(0)
    for at in rng.permutation(len(data))[:100].tolist():
        with pytest.raises(ValueError, match=r"\w"):
            read(data[:at])
        changed = bytearray(data)
        changed[at] ^= int(rng.integers(1, 256))
        try:
            found = read(bytes(changed))
        except ValueError:
            continue
        assert sum(math.prod(array.shape) for array in found.values()) <= len(data)


def test_what_is_not_a_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not a file"):
        torchfile.read(tmp_path)
    with pytest.raises(FileNotFoundError):
        torchfile.read(tmp_path / "nothing")
