"""The drawn faces in two seasons: the same bytes everywhere, unpaired, with a known translation."""

import hashlib
import json
import pickle

import numpy as np
import pytest

from minigan.data import faces, seasons
from minigan.data.drawn import generator
from minigan.data.opening import DataOptions, open_data
from minigan.data.seasons import Seasons
from minigan.errors import UserError
from minigan.evaluation.translation import translation_errors

# A digest of what VERSION draws. If this fails, the bytes have changed, so raise VERSION.
DIGESTS = {1: "23099f8a49935909"}


def test_the_bytes_belong_to_the_version():
    images = [*seasons.pair(3, 0), *seasons.pair(3, 1, 17), *seasons.pair(4, 2, 100)]
    digest = hashlib.sha256(b"".join(image.tobytes() for image in images)).hexdigest()[:16]
    assert digest == DIGESTS[seasons.VERSION]


def test_a_face_is_the_same_person_in_another_light():
    for i in range(6):
        person = faces.sample_attributes(generator(2, i))
        summer, winter = seasons.pair(2, i, 32)
        np.testing.assert_array_equal(summer, faces.render({**person, "light": "left"}, 32))
        lit = faces.render({**person, "light": "right"}, 32).astype(float)
        grey = lit @ seasons.GREY
        cold = (0.45 * grey[..., None] + 0.55 * lit) * seasons.COLD
        assert np.abs(winter - cold).max() <= 0.501  # rounded to 8 bits


def test_each_face_of_the_set_is_in_one_season_only():
    source = Seasons(12, seed=5, image_size=20)
    assert [source.label(i) for i in range(12)] == [0, 1] * 6
    for i in range(12):
        np.testing.assert_array_equal(source.load(i), seasons.pair(5, i, 20)[i % 2])
    assert not np.array_equal(source.load(0), seasons.pair(5, 1, 20)[0])


def test_the_source_says_what_determines_its_bytes(monkeypatch):
    source = Seasons(12, seed=3, image_size=32)
    identity = source.identity()
    assert json.loads(json.dumps(identity)) == identity
    others = Seasons(13, 3, 32), Seasons(12, 4, 32), Seasons(12, 3, 33)
    assert all(other.identity() != identity for other in others)
    assert pickle.loads(pickle.dumps(source)) == source
    for module in (seasons, faces):
        with monkeypatch.context() as patch:
            patch.setattr(module, "VERSION", 99)
            assert source.identity() != identity


def test_a_map_of_colours_is_not_the_translation():
    """What a GAN has to beat, although the maps have even learnt from these pairs."""
    pairs = seasons.pairs(1, range(20), 32)
    for x, y in (pairs, pairs[::-1]):
        errors = translation_errors(y, x, y)
        assert errors.pop("translation") == 0
        assert list(errors) == sorted(errors, key=errors.get, reverse=True)
        assert errors["affine"] > 0.15  # the light on faces and walls, which has moved


def test_pairs_are_the_same_faces_as_data(tmp_path):
    for nc in (1, 3):
        options = DataOptions(data="seasons", max_images=6, image_size=16, nc=nc)
        data = open_data(options, None, 7, tmp_path, progress=False)
        pairs = seasons.pairs(7, range(2, 6), 16, nc)
        assert pairs.shape == (2, 4, nc, 16, 16)
        for i in range(2, 6):
            drawn = data.batch(np.array([i]), "cpu").numpy()[0]
            np.testing.assert_array_equal(drawn, pairs[data.labels[i], i - 2])


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        (lambda: seasons.pair(0, 0, 15), ValueError, "face of 15 pixels .* from 16 to 256"),
        (lambda: seasons.pair(-1, 0), ValueError, "seed -1 .* from 0"),
        (lambda: seasons.pair(0, -2), ValueError, "index -2 .* from 0"),
        (lambda: Seasons(0), ValueError, "count 0 .* from 1"),
        (lambda: Seasons(4).load(4), IndexError, "face 4; .* 0 to 3"),
        (
            lambda: DataOptions(data="seasons", flip=True),
            UserError,
            "^--flip: a mirrored face has the sun of the other season; leave it out",
        ),
    ],
)
def test_wrong_arguments_are_named_with_the_remedy(wrong, error, words):
    with pytest.raises(error, match=words):
        wrong()


def test_the_data_set_has_the_seasons_as_classes(tmp_path):
    options = DataOptions(data="seasons", max_images=7, image_size=16)
    data = open_data(options, None, 7, tmp_path, progress=False)
    assert data.classes == ("summer", "winter")
    assert data.labels.tolist() == [0, 1, 0, 1, 0, 1, 0]
    np.testing.assert_array_equal(data.pixels[3], seasons.pair(7, 3, 16)[1])
