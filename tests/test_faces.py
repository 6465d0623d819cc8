"""The drawn faces: the same bytes everywhere, every attribute visible where it belongs."""

import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from minigan.data import faces
from minigan.data.faces import CATEGORIES, RANGES, Faces, draw, render, sample_attributes

# A digest of what each VERSION draws. If this fails, the bytes have changed, so raise VERSION.
DIGESTS = {1: "fe724205f81da413"}


RECITAL = """
import hashlib
from minigan.data.faces import draw
images = [draw(3, i)[0] for i in range(64)] + [draw(3, 0, size)[0] for size in (17, 200)]
print(hashlib.sha256(b"".join(p.tobytes() for p in images)).hexdigest()[:16])
"""


def somebody(**changes):
    """A person with every attribute mid-range, looking straight ahead."""
    who = {name: values[0] for name, values in CATEGORIES.items()}
    who |= {name: (low + high) / 2 for name, (low, high) in RANGES.items()}
    return {**who, "skin": "fair", "hair_style": "short", "light": "front", **changes}


def change(name, *values):
    """How much each pixel (64, 64) of a person changes with the value of one attribute."""
    one, other = (render(somebody(**{name: value})).astype(int) for value in values)
    return np.abs(one - other).sum(axis=2)


def test_every_process_draws_the_same_bytes_and_they_belong_to_the_version():
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", RECITAL],
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("1", "2")
    ]
    said = [run.communicate()[0].strip() for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert said == [DIGESTS[faces.VERSION]] * 2


def test_a_face_depends_on_its_seed_and_index_alone():
    backwards = [Faces(9).load(i) for i in reversed(range(9))][::-1]
    for i, pixels in enumerate(backwards):
        assert np.array_equal(pixels, Faces(1000, 0, 64).load(i))
        assert np.array_equal(pixels, draw(0, i)[0])


def test_all_faces_differ():
    images = {draw(seed, index, 16)[0].tobytes() for seed in range(8) for index in range(8)}
    assert len(images) == 64


@pytest.mark.parametrize("size", [16, 17, 63, 64, 100, 128, 256])
def test_every_size_shows_the_same_image(size):
    pixels, who = draw(5, 1, size)
    assert pixels.shape == (size, size, 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert who == draw(5, 1)[1]
    quarters = lambda p: np.array([p[rows][:, cols].mean((0, 1)) for rows, cols in corners(len(p))])
    assert np.abs(quarters(pixels) - quarters(draw(5, 1, 128)[0])).max() < 5


def corners(n):
    halves = slice(0, n // 2), slice(n - n // 2, n)
    return [(rows, cols) for rows in halves for cols in halves]


def test_a_small_image_is_the_mean_of_a_large_one():
    large = draw(5, 2, 128)[0].reshape(64, 2, 64, 2, 3).mean((1, 3))
    assert np.abs(draw(5, 2, 64)[0] - large).max() <= 1


def people(count):
    return [Faces(count).attributes(i) for i in range(count)]


def test_every_value_of_every_attribute_occurs():
    crowd = people(300)
    for name, values in CATEGORIES.items():
        assert {who[name] for who in crowd} == set(values), name
    for name, (low, high) in RANGES.items():
        drawn = np.array([who[name] for who in crowd])
        assert low <= drawn.min() < low + 0.25 * (high - low), name
        assert high - 0.25 * (high - low) < drawn.max() <= high, name


def test_attributes_are_plain_values_with_a_name_each():
    who = draw(1, 1)[1]
    assert list(who) == [*CATEGORIES, *RANGES]
    assert {type(who[name]) for name in CATEGORIES} == {str}
    assert {type(who[name]) for name in RANGES} == {float}
    assert json.loads(json.dumps(who)) == who


def test_beards_only_where_they_do_not_look_like_a_mistake():
    crowd = people(600)
    assert {who["hair_style"] for who in crowd if who["beard"] == "yes"} == set(faces.BEARDED)


def test_neither_side_is_preferred():
    crowd = people(2000)
    for name, middle in {"turn": 0, "tilt": 0, "part": 0, "x": 0.5}.items():
        low, high = RANGES[name]
        away = np.mean([who[name] for who in crowd]) - middle
        sigma = (high - low) / 6 / 2000**0.5  # a mean of three uniform numbers has deviation 1/6
        assert abs(away) < 4 * sigma, name


@pytest.mark.parametrize("style", faces.STYLES)
def test_the_mirror_image_is_the_image_lit_from_the_other_side(style):
    left = render(somebody(hair_style=style, light="left", glasses="yes", turn=0.2, part=0.0))
    right = render(somebody(hair_style=style, light="right", glasses="yes", turn=-0.2, part=0.0))
    assert left[:, :32].mean() > left[:, 32:].mean()
    if style in ("bald", "short", "fringe", "bob", "long"):  # waves and curls are asymmetric
        assert np.abs(left[:, ::-1].astype(int) - right).max() <= 1


# Where each attribute must show, as (rows, columns) of the 64 x 64 image, ...
PLACES = {
    "skin": (slice(22, 50), slice(20, 44)),
    "hair_style": (slice(4, 18), slice(16, 48)),
    "hair_colour": (slice(8, 16), slice(24, 40)),
    "eye_colour": (slice(27, 34), slice(20, 44)),
    "mouth": (slice(38, 50), slice(24, 40)),
    "beard": (slice(38, 52), slice(20, 44)),
    "glasses": (slice(24, 36), slice(16, 48)),
    "clothes": (slice(58, 64), slice(8, 56)),
    "background": (slice(0, 8), slice(0, 64)),
    "light": (slice(22, 50), slice(18, 46)),
}
CONFINED = ("eye_colour", "glasses", "mouth", "beard", "clothes")  # ... and these nowhere far away


@pytest.mark.parametrize("name", CATEGORIES)
def test_every_value_is_visible_in_its_place(name):
    values = sorted(set(CATEGORIES[name]))
    for one in values:
        for other in values[: values.index(one)]:
            difference = change(name, one, other)
            assert difference[PLACES[name]].max() > 60, (one, other)
            if name in CONFINED:
                rows, _ = PLACES[name]
                difference[max(0, rows.start - 10) : rows.stop + 5] = 0
                assert difference.max() == 0, (one, other)


@pytest.mark.parametrize("skin", faces.SKIN)
def test_a_beard_shows_on_every_skin_and_in_every_colour(skin):
    for colour in faces.HAIR:
        who = somebody(skin=skin, hair_colour=colour, beard="no")
        chins = (render(w)[PLACES["beard"]].astype(int) for w in (who, {**who, "beard": "yes"}))
        assert np.abs(np.subtract(*chins)).max() > 30, colour


@pytest.mark.parametrize("name", RANGES)
def test_every_range_is_visible(name):
    assert change(name, *RANGES[name]).max() > 30


def test_the_eyes_are_where_the_crops_of_celeba_have_them():
    for index in range(20):
        who = {**draw(2, index)[1], "hair_style": "bald", "glasses": "no"}
        brown, blue = (render({**who, "eye_colour": c}).astype(int) for c in ("brown", "blue"))
        rows, columns = np.nonzero(np.abs(brown - blue).sum(axis=2) > 60)
        assert 0.42 < (rows.mean() + 0.5) / 64 < 0.52
        assert 0.36 < (columns.mean() + 0.5) / 64 < 0.64


def test_the_source_says_what_determines_its_bytes():
    source = Faces(12, seed=3, image_size=32)
    assert len(source) == 12
    assert source.name(7) == "face-000007"
    pixels, who = draw(3, 7, 32)
    assert np.array_equal(source.load(7), pixels)
    assert source.attributes(7) == who
    identity = source.identity()
    assert json.loads(json.dumps(identity)) == identity
    others = Faces(13, 3, 32), Faces(12, 4, 32), Faces(12, 3, 33)
    assert all(other.identity() != identity for other in others)
    copy = pickle.loads(pickle.dumps(source))
    assert copy == source
    assert np.array_equal(copy.load(7), pixels)


def test_a_new_recipe_is_a_new_identity(monkeypatch):
    before = Faces(1).identity()
    monkeypatch.setattr(faces, "VERSION", faces.VERSION + 1)
    assert Faces(1).identity() != before


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        (lambda: draw(0, 0, 15), ValueError, "15 pixels .* from 16 to 256"),
        (lambda: draw(0, 0, 257), ValueError, "257 pixels .* from 16 to 256"),
        (lambda: draw(0, 0, 64.5), ValueError, "64.5 pixels .* from 16 to 256"),
        (lambda: draw(-1, 0), ValueError, "seed -1 .* from 0"),
        (lambda: draw(0, -2), ValueError, "index -2 .* from 0"),
        (lambda: render(somebody(skin="plaid")), ValueError, "skin is 'plaid'.*'tan'"),
        (lambda: render(somebody(), 8), ValueError, "8 pixels .* from 16 to 256"),
        (lambda: Faces(0), ValueError, "count 0 .* from 1"),
        (lambda: Faces(1, seed=-5), ValueError, "seed -5.* from 0"),
        (lambda: Faces(1, image_size=300), ValueError, "300 pixels .* from 16 to 256"),
        (lambda: Faces(4).load(4), IndexError, "face 4; .* 0 to 3"),
        (lambda: Faces(4).name(-1), IndexError, "face -1; .* 0 to 3"),
        (lambda: Faces(4).attributes(9), IndexError, "face 9; .* 0 to 3"),
    ],
)
def test_wrong_arguments_are_named_with_the_remedy(wrong, error, words):
    with pytest.raises(error, match=words) as caught:
        wrong()
    assert "\n" not in str(caught.value)


def test_sampling_reads_nothing_but_its_generator():
    one, other = (sample_attributes(np.random.default_rng(6)) for _ in range(2))
    assert one == other
