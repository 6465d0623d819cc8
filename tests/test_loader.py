"""Batches: every picture at most once per epoch, in an order that a state can bring back."""

import json

import numpy as np
import pytest
from minigan.data.loader import Loader

from minigan.data.cache import DataError


def numbered(count, size=2):
    """Pictures that are recognised by their value; the left column has it plus one hundred."""
    images = np.zeros((count, size, size, 3), np.uint8)
    images += np.arange(count, dtype=np.uint8)[:, None, None, None]
    images[:, :, 0] += 100
    return images


def loader(images, batch_size, seed=0, flip=True):
    order, flips = np.random.default_rng(seed).spawn(2)
    return Loader(images, batch_size, order, flips if flip else None)


def numbers(batch):
    return batch.min(axis=(1, 2, 3)).tolist()


def test_an_epoch_gives_every_picture_at_most_once_and_only_full_batches():
    batches = loader(numbered(23), 5)
    assert batches.batches_per_epoch == 4
    epochs = []
    for epoch in range(3):
        given = []
        for position in range(1, 5):
            batch = batches.next_batch()
            assert batch.shape == (5, 3, 2, 2)
            assert (batches.epoch, batches.position) == (epoch, position)
            given += numbers(batch)
        assert len(set(given)) == 20
        assert set(given) <= set(range(23))
        epochs.append(given)
    assert sorted(epochs[0]) != sorted(epochs[1])  # others are left out
    assert epochs[0] != sorted(epochs[0])


def test_the_layout_is_nchw_in_channels_last_memory():
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 5, 3), dtype=np.uint8)
    batches = loader(images, 6, flip=False)
    batch = batches.next_batch()
    assert batch.dtype == np.uint8
    assert batch.transpose(0, 2, 3, 1).flags.c_contiguous
    order = np.random.default_rng(0).spawn(2)[0].permutation(6)
    np.testing.assert_array_equal(batch, images[order].transpose(0, 3, 1, 2))


def test_the_seed_decides_the_order():
    images = numbered(40)
    same, again, other = (loader(images, 8, seed).next_batch() for seed in (1, 1, 2))
    np.testing.assert_array_equal(same, again)
    assert numbers(same) != numbers(other)


def test_flips_mirror_single_pictures_left_to_right_and_leave_the_source_alone():
    images = numbered(100)
    images.flags.writeable = False  # as a cache is
    batches = loader(images, 100)
    batch = batches.next_batch()
    left, right = batch[:, 0, :, 0].astype(int), batch[:, 0, :, 1].astype(int)
    assert np.all(np.abs(left - right) == 100)
    assert 30 < np.sum(left[:, 0] < right[:, 0]) < 70
    assert np.all(left[:, 0] == left[:, 1])
    plain = loader(images, 100, flip=False).next_batch()
    assert np.all(plain[:, :, :, 0] > plain[:, :, :, 1])


@pytest.mark.parametrize("given", [0, 1, 4, 5, 8, 11])
@pytest.mark.parametrize("flip", [True, False])
def test_a_restored_loader_goes_on_exactly(given, flip):
    images = numbered(22)
    first = loader(images, 5, flip=flip)
    for _ in range(given):
        first.next_batch()
    state = json.loads(json.dumps(first.state_dict()))
    second = loader(images, 5, seed=99, flip=flip)
    second.next_batch()
    second.load_state_dict(state)
    assert (second.epoch, second.position) == (first.epoch, first.position)
    for _ in range(10):
        np.testing.assert_array_equal(first.next_batch(), second.next_batch())


def test_a_state_does_not_change_with_the_loader():
    batches = loader(numbered(9), 3)
    state = batches.state_dict()
    before = json.dumps(state)
    for _ in range(5):
        batches.next_batch()
    assert json.dumps(state) == before


def test_a_state_of_another_set_up_is_refused():
    state = loader(numbered(20), 5).state_dict()
    with pytest.raises(DataError, match="images = 20, this run 21"):
        loader(numbered(21), 5).load_state_dict(state)
    with pytest.raises(DataError, match="batch_size = 5, this run 4"):
        loader(numbered(20), 4).load_state_dict(state)
    with pytest.raises(DataError, match="flip"):
        loader(numbered(20), 5, flip=False).load_state_dict(state)


@pytest.mark.parametrize("batch_size", [0, 8])
def test_fewer_pictures_than_a_batch(batch_size):
    with pytest.raises(DataError, match=f"batch of {batch_size} .* 7 pictures; lower --batch-size"):
        loader(numbered(7), batch_size)
    assert loader(numbered(7), 7).batches_per_epoch == 1
