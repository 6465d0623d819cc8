"""InceptionV3 for FID: the network against PyTorch, its input, the file of its weights, the command."""

import hashlib
import json
import shutil
from pathlib import Path

import inception_numbers as numbers
import numpy as np
import pytest
from hostile import sentence
from PIL import Image

from minigan import tensorfile
from minigan.errors import UserError
from minigan.evaluation import inception_file, inception_input
from minigan.evaluation.inception import BATCH, InceptionV3
from minigan.evaluation.inception_input import RESIZES, prepared
from minigan.nn import BatchNorm2d, Conv2d, Linear, Module, Sequential
from minigan.tensor import Tensor, no_grad

FIXTURES = Path(__file__).parent / "fixtures"


# -- the network ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def frozen():
    return dict(np.load(FIXTURES / "inception.npz"))


@pytest.fixture(scope="module")
def shapes(frozen):
    """The shape of each weight that PyTorch's network has, by name."""
    return {name: tuple(each) for name, each in json.loads(frozen["shapes"].tobytes()).items()}


@pytest.fixture(scope="module")
def net(shapes):
    """The network with the weights of the frozen one."""
    net = InceptionV3()
    net.load_state_dict({name: numbers.weight(name, shapes[name]) for name in shapes}, strict=False)
    return net


def test_the_state_dict_is_that_of_the_standard_weights(net, shapes):
    """The numbers are known: 94 convolutions, and 95,541,568 bytes in the file of 95,628,359."""
    state = net.state_dict_numpy()
    found = {name: array.shape for name, array in state.items() if "num_batches" not in name}
    assert found == shapes
    assert sum(name.endswith("conv.weight") for name in found) == 94
    assert 4 * sum(state[name].size for name in found) == 95_541_568
    assert sum(p.numel() for p in net.parameters()) == 23_850_960
    assert not any(module.training for module in net.modules())


class Kept:
    """In place of a part: it remembers what the part computes."""

    def __init__(self, name, part, found):
        self.name, self.part, self.found = name, part, found

    def __call__(self, x):
        self.found[self.name] = self.part(x)
        return self.found[self.name]


def test_each_block_computes_what_pytorch_does(net, frozen, monkeypatch):
    """PyTorch computed in float64. Our float32 is off by 1e-6 of the largest number after 48 layers."""
    found = {}
    for name, part in [*vars(net).items()]:
        if isinstance(part, Module) and name != "fc":
            monkeypatch.setitem(vars(net), name, Kept(name, part, found))
    with no_grad():
        found["pool3"] = net(Tensor(numbers.images(1)))
    found["logits_unbiased"] = Tensor(net.logits_unbiased(found["pool3"].numpy()))
    assert {*found, "shapes"} == set(frozen)
    for name, y in found.items():
        error = np.abs(numbers.cut(y.numpy()) - frozen[name]).max() / np.abs(frozen[name]).max()
        assert error < 1e-5, name


def test_features_do_not_depend_on_how_many_images_there_are(net, monkeypatch):
    monkeypatch.setattr(inception_input, "SIDE", numbers.SIDE)
    images = np.random.default_rng(1).integers(0, 256, (BATCH + 1, 3, 20, 30), np.uint8)
    found = net.describe(images)
    assert (found.shape, found.dtype) == ((BATCH + 1, 2048), np.float32)
    assert net.describe(images[:1]).tobytes() == found[:1].tobytes()
    with no_grad():
        one = net(Tensor(prepared(images[:1], "tensorflow"))).numpy()
    np.testing.assert_allclose(found[:1], one, rtol=0, atol=1e-5 * np.abs(one).max())  # float32
    grey = images[:2, :1]
    assert (prepared(grey, "tensorflow") == prepared(np.repeat(grey, 3, 1), "tensorflow")).all()


# -- its input ------------------------------------------------------------------------------


def line(values, resize):
    """One row of pixels, resized and back in 0..255."""
    image = np.broadcast_to(np.array(values, np.uint8), (1, 1, len(values), len(values)))
    found = prepared(image, resize)
    np.testing.assert_allclose(found, np.broadcast_to(found[:, :1, :1], found.shape), atol=1e-6)
    return found[0, 0, 0] * 128 + 128 if resize != "pytorch-fid" else (found[0, 0, 0] + 1) * 127.5


def test_two_pixels_become_three_as_by_hand(monkeypatch):
    monkeypatch.setattr(inception_input, "SIDE", 3)
    # corners agree: the places are 0, 2/3 and 4/3, and beyond the last pixel is the last pixel
    np.testing.assert_allclose(line([0, 90], "tensorflow"), [0, 60, 90], atol=1e-4)
    # centres agree: the places are -1/6, 1/2 and 7/6
    np.testing.assert_allclose(line([0, 90], "pytorch-fid"), [0, 45, 90], atol=1e-4)


def test_a_ramp_of_32_pixels_becomes_299_as_by_hand():
    """Pixel j is 8 j. TensorFlow's pixel i is at 32 i / 299, PyTorch's at 32 (i + 1/2) / 299 - 1/2."""
    by_hand = {  # float32 numbers of about 128: a few times 2^-17
        "tensorflow": {0: 0, 1: 0.856187, 150: 128.428094, 289: 247.438127, 290: 248, 298: 248},
        "pytorch-fid": {0: 0, 4: 0, 5: 0.709030, 149: 124, 294: 248, 298: 248},
    }
    for resize, table in by_hand.items():
        found = line(8 * np.arange(32), resize)
        assert len(found) == 299
        np.testing.assert_allclose(found[[*table]], [*table.values()], atol=1e-4)


def test_shrinking_without_a_filter_skips_pixels_and_clean_fid_does_not():
    """Of 598 black and white columns, TensorFlow sees each second one: all black."""
    columns = 255 * (np.arange(598) % 2)
    assert set(line(columns, "tensorflow")) == {0}
    assert np.ptp(line(columns, "clean-fid")[5:-5]) < 1e-3
    assert abs(line(columns, "clean-fid")[100] - 127.5) < 1e-3


def test_clean_fid_is_pillows_bicubic_in_floats_clipped_and_not_rounded():
    image = np.random.default_rng(0).integers(0, 256, (1, 3, 40, 50), np.uint8)
    found = prepared(image, "clean-fid")
    for plane, own in zip(image[0], found[0], strict=True):
        picture = Image.fromarray(plane.astype(np.float32)).resize((299, 299), Image.BICUBIC)
        expected = np.asarray(picture)
        assert expected.max() > 260  # overshoots at edges
        np.testing.assert_array_equal(own, (expected.clip(0, 255) - 128) / np.float32(128))
    assert (found.min(), found.max()) == (-1, 127 / 128)


@pytest.mark.parametrize("resize", RESIZES)
def test_an_image_of_299_pixels_is_only_scaled(resize):
    image = np.random.default_rng(0).integers(0, 256, (2, 3, 299, 299), np.uint8)
    x = image.astype(np.float64)
    expected = x / 127.5 - 1 if resize == "pytorch-fid" else (x - 128) / 128
    np.testing.assert_allclose(prepared(image, resize), expected, atol=1e-6)


# -- the file of its weights ----------------------------------------------------------------


class Small(Sequential):
    """In place of InceptionV3: the network of the small files."""

    def __init__(self, resize, digest):
        super().__init__(Conv2d(2, 3, (1, 3), bias=False), BatchNorm2d(3), Linear(2, 2))
        self.resize, self.digest = resize, digest


@pytest.fixture(params=["zip", "stream"])
def weights(request, monkeypatch, tmp_path):
    """A small file that counts as the standard one."""
    path = tmp_path / "standard.pth"
    shutil.copy(FIXTURES / f"{request.param}.pth", path)
    monkeypatch.setattr(inception_file, "InceptionV3", Small)
    monkeypatch.setattr(inception_file, "SIZE", path.stat().st_size)
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(inception_file, "SHA256", sha)
    return path


def refused(path):
    with pytest.raises(UserError) as caught:
        inception_file.load(path, say=print)
    return sentence(caught.value)


def test_the_standard_file_is_read_and_copied_once(weights):
    said = []
    first = inception_file.load(weights, "clean-fid", said.append)
    copy = weights.with_suffix(".safetensors")
    assert [f"{copy} is a copy" in line for line in said] == [True]
    assert (first.resize, first.digest) == ("clean-fid", inception_file.SHA256[:12])
    values = np.concatenate([array.ravel() for array in first.state_dict_numpy().values()])
    assert values.tolist() == [*range(len(values))]
    before = copy.read_bytes()
    copied = inception_file.load(copy, say=said.append)
    again = inception_file.load(weights, say=said.append)
    assert copy.read_bytes() == before
    assert len(said) == 1
    for net in (copied, again):
        assert net.digest == first.digest
        for name, array in net.state_dict_numpy().items():
            np.testing.assert_array_equal(array, first.state_dict_numpy()[name])


def test_weights_from_before_batches_were_counted_are_read(weights, monkeypatch):
    arrays = inception_file.torchfile.read(weights)
    arrays.pop("1.num_batches_tracked")
    monkeypatch.setattr(inception_file.torchfile, "read", lambda path: arrays)
    net = inception_file.load(weights, say=print)
    assert net.state_dict_numpy()["1.num_batches_tracked"] == 0


def test_a_copy_that_cannot_be_written_is_no_reason_to_stop(weights):
    said, copy = [], weights.with_suffix(".safetensors")
    copy.mkdir()
    assert inception_file.load(weights, say=said.append).digest
    assert said == [
        f"the weights were not copied to {copy}: it is a folder, not a file; move it away"
    ]


def test_any_other_file_is_refused(weights, monkeypatch):
    data = weights.read_bytes()
    size = f"{len(data):,}"
    weights.write_bytes(data[:-1])
    assert f"has {len(data) - 1:,} bytes, and the standard weights have {size}" in refused(weights)
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert "its SHA-256 begins with" in refused(weights)
    assert not weights.with_suffix(".safetensors").exists()
    assert "No such file" in refused(weights.with_name("nothing.pth"))
    assert "No such file" in refused(weights.with_name("nothing.safetensors"))
    assert "it is not a file" in refused(weights.parent)
    with pytest.raises(UserError, match="--inception-resize cubic: is not known; choose one of te"):
        inception_file.load(weights, "cubic")


def test_standard_bytes_that_are_no_such_network_are_refused(weights, monkeypatch):
    """This cannot happen unless the constants are wrong. It must not end in a traceback."""
    monkeypatch.setattr(inception_file, "InceptionV3", lambda *given: Sequential(Linear(2, 2)))
    assert "Sequential: the state dict does not match: missing keys" in refused(weights)
    for data in (
        b"\x80\x02X\x01\x00\x00\x00\xff.",
        b"\x80\x02F" + 10**6 * b"x" + b"\n.",
        b"PK\3\4",
    ):
        weights.write_bytes(data)
        monkeypatch.setattr(inception_file, "SIZE", len(data))
        monkeypatch.setattr(inception_file, "SHA256", hashlib.sha256(data).hexdigest())
        assert "damaged: " in refused(weights)


def test_a_copy_that_is_damaged_or_of_something_else_is_refused(weights, monkeypatch):
    inception_file.load(weights, say=print)
    copy = weights.with_suffix(".safetensors")
    data = copy.read_bytes()
    copy.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert "not an intact copy of the standard weights; give pt_inception-2015" in refused(copy)
    copy.write_bytes(data[:-1])
    refused(copy)
    copy.write_bytes(data.replace(inception_file.SHA256.encode(), b"0" * 64))
    assert "not an intact copy" in refused(copy)
    tensorfile.write(copy, {"x": np.zeros(2)}, "another text")
    assert "not an intact copy" in refused(copy)
