"""The drawn data sets with classes: the same bytes everywhere, known classes, legible images."""

import hashlib
import json
import pickle

import numpy as np
import pytest

from minigan.data import digits, shapes
from minigan.data.digits import Digits
from minigan.data.opening import DataOptions, open_data
from minigan.data.shapes import SHAPES, Shapes
from minigan.errors import UserError

SETS = {"digits": (digits, Digits), "shapes": (shapes, Shapes)}
# A digest of what each VERSION draws. If this fails, the bytes have changed, so raise VERSION.
DIGESTS = {("digits", 1): "a2746aa9e2b8b91e", ("shapes", 1): "7393c06b42cb8de0"}

each = pytest.mark.parametrize("name", SETS)


@each
def test_the_bytes_belong_to_the_version(name):
    module, _ = SETS[name]
    images = [module.draw(3, i)[0] for i in range(30)] + [
        module.draw(3, 0, s)[0] for s in (17, 100)
    ]
    digest = hashlib.sha256(b"".join(image.tobytes() for image in images)).hexdigest()[:16]
    assert digest == DIGESTS[name, module.VERSION]


@each
def test_an_image_depends_on_its_seed_and_index_alone(name):
    module, kind = SETS[name]
    some, more = kind(12, 5, 20), kind(99, 5, 20)
    for i in reversed(range(12)):
        pixels, label = module.draw(5, i, 20)
        for source in (some, more):
            np.testing.assert_array_equal(source.load(i), pixels)
            assert source.label(i) == label
    assert not np.array_equal(kind(1, 6, 20).load(0), some.load(0))
    assert not np.array_equal(some.load(10), some.load(0))  # the same class


@each
def test_the_source_says_what_determines_its_bytes(name, monkeypatch):
    module, kind = SETS[name]
    source = kind(12, seed=3, image_size=32)
    assert len(source) == 12
    identity = source.identity()
    assert json.loads(json.dumps(identity)) == identity
    others = kind(13, 3, 32), kind(12, 4, 32), kind(12, 3, 33)
    assert all(other.identity() != identity for other in others)
    assert pickle.loads(pickle.dumps(source)) == source
    monkeypatch.setattr(module, "VERSION", module.VERSION + 1)
    assert source.identity() != identity


@each
def test_the_classes_are_equally_common_and_in_order(name):
    _, kind = SETS[name]
    labels = [kind(20).label(i) for i in range(20)]
    assert labels == [*range(10)] * 2
    assert len(set(kind.classes)) == 10


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        (lambda: digits.draw(0, 0, 15), ValueError, "digit of 15 pixels .* from 16 to 256"),
        (lambda: shapes.draw(0, 0, 257), ValueError, "shape of 257 pixels .* from 16 to 256"),
        (lambda: digits.draw(-1, 0), ValueError, "seed -1 .* from 0"),
        (lambda: digits.draw(0, -2), ValueError, "index -2 .* from 0"),
        (lambda: Digits(0), ValueError, "count 0 .* from 1"),
        (lambda: Digits(4).load(4), IndexError, "digit 4; .* 0 to 3"),
        (lambda: Digits(4).label(-1), IndexError, "digit -1; .* 0 to 3"),
    ],
)
def test_wrong_arguments_are_named_with_the_remedy(wrong, error, words):
    with pytest.raises(error, match=words):
        wrong()


def test_a_digit_is_grey_and_differs_more_from_other_classes_than_from_its_own():
    images = np.stack([digits.draw(1, i)[0] for i in range(200)]).astype(float)  # (200, 28, 28, 3)
    assert (images == images[..., :1]).all()
    ink = images[..., 0].reshape(20, 10, -1)  # [example, class, pixel]
    mean = ink[:10].mean(0)
    nearest = ((ink[10:, :, None] - mean) ** 2).sum(-1).argmin(-1)  # (10, 10)
    assert (nearest == np.arange(10)).mean() > 0.8  # by chance 0.1; for 200 other images, 0.975


@each
def test_the_data_set_has_labels_that_belong_to_its_images(name, tmp_path):
    module, kind = SETS[name]
    options = DataOptions(data=name, max_images=23)
    assert options.has_classes
    data = open_data(options, None, 7, tmp_path, progress=False)
    assert data.shape == options.shape
    assert (data.labels.dtype, data.labels.shape) == (np.int64, (23,))
    assert data.classes == kind.classes
    assert data.identity["classes"] == list(kind.classes)
    for i in range(23):
        pixels, label = module.draw(7, i)
        np.testing.assert_array_equal(data.pixels[i], pixels)
        assert data.labels[i] == label


def corners(side: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """x and y (side^2,) of a grid from -1.1 to 1.1."""
    ticks = np.linspace(-1.1, 1.1, side, dtype=np.float32)
    return np.tile(ticks, side), np.repeat(ticks, side)


def test_a_signed_distance_agrees_with_the_distance_to_the_nearest_point_on_the_edge():
    """For a square it is max(|x|, |y|) - 0.8 inside, and outside next to an edge."""
    x, y = corners()
    expected = np.maximum(abs(x), abs(y)) - 0.8
    beside = (np.minimum(abs(x), abs(y)) < 0.8) | (expected < 0)
    found = SHAPES["square"](x, y)
    np.testing.assert_allclose(found[beside], expected[beside], atol=1e-6)  # float32


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_has_an_inside_and_stays_within_its_radius(name):
    x, y = corners()
    inside = SHAPES[name](x, y) < 0
    assert 0.1 < inside.mean() < 0.7
    assert (np.maximum(abs(x), abs(y))[inside] <= 1.03).all()


def test_the_colours_of_a_shape_and_behind_it_differ_enough():
    assert len(shapes.PAIRS) > 30
    for i in range(100):
        pixels, _ = shapes.draw(2, i)
        luma = pixels @ np.array([0.299, 0.587, 0.114])
        assert luma.max() - luma.min() > 255 * 0.25  # CONTRAST, less what the light changes


@each
def test_mirrored_images_are_refused_only_where_they_would_be_wrong(name):
    if name == "shapes":
        assert DataOptions(data=name, flip=True).flip
    else:
        with pytest.raises(UserError, match=r"^--flip: a mirrored 2 is not a 2; leave it out"):
            DataOptions(data=name, flip=True)
