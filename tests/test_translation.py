"""The errors of translations: by hand, against the maps they must beat, and with a hidden message."""

import numpy as np
import pytest

from minigan.evaluation.translation import NOISE, cycle_errors, l1, translation_errors

RNG = np.random.default_rng(0)
X, Y = RNG.uniform(-1, 1, (2, 5, 3, 4, 4)).astype(np.float32)


def test_the_errors_by_hand():
    found = 0.5 * X
    errors = translation_errors(found, X, Y)
    shift = (Y - X).mean((0, 2, 3), dtype=np.float64).reshape(3, 1, 1)
    assert errors["translation"] == pytest.approx(np.abs(found - Y).mean(), rel=1e-6)  # float32
    assert errors["identity"] == pytest.approx(np.abs(X - Y).mean(), rel=1e-6)
    assert errors["mean colour"] == pytest.approx(np.abs(X + shift - Y).mean(), rel=1e-6)


def test_each_map_is_exact_for_the_translations_that_it_can_make():
    """To within float64 of float32 images; the maps before it are not."""
    shifted = X + np.array([0.1, -0.2, 0.3]).reshape(3, 1, 1)
    mixed = np.einsum("dc,nchw->ndhw", RNG.normal(size=(3, 3)), shifted)
    assert translation_errors(X, X, shifted)["mean colour"] < 1e-12
    errors = translation_errors(X, X, mixed)
    assert errors["affine"] < 1e-12 < 0.1 < errors["mean colour"]


def test_no_affine_map_has_smaller_squares():
    """Moved a little in any direction, the fit gets worse; L1 need not, but hardly improves."""
    errors = translation_errors(X, X, Y)
    assert errors["affine"] < errors["mean colour"] < errors["identity"]


def test_a_hidden_message_is_exposed():
    """A translation to one grey, in whose last digits the original hides, and one that mirrors."""
    hide, read = lambda x: 0.001 * x, lambda x: 1000 * x
    errors = cycle_errors(hide, read, X)
    assert errors["as it is"] < 1e-6  # float32
    assert errors["8 bits"] > 0.3  # as bad as without any message
    assert errors["noise"] > 50

    mirror = lambda x: x[..., ::-1]
    errors = cycle_errors(mirror, mirror, 0.5 * X)
    assert errors["as it is"] == 0
    assert 0 < errors["8 bits"] <= 1 / 255
    # mean |N(0, 1)| = 0.8; of 240 numbers, to within a tenth
    assert errors["noise"] == pytest.approx(0.798 * NOISE, rel=0.1)


def test_the_noise_is_the_same_at_each_call():
    same = lambda x: x
    assert cycle_errors(same, same, X) == cycle_errors(same, same, X)
    assert l1(X, X) == 0
