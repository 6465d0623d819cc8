"""A step's draws are functions of a key, so exact resuming needs no saved generator state."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigan import backend
from minigan.data import Dataset
from minigan.data.cache import Images
from minigan.data.images import ImageSet
from minigan.data.mixture import Mixture
from minigan.errors import UserError
from minigan.keys import generator, noise
from minigan.training.draw import Draw, check_batch


def numbered(count: int) -> ImageSet:
    """Images of 2 x 2 pixels that are told apart by their value; the left column is 100 higher."""
    pixels = np.zeros((count, 2, 2, 3), np.uint8)
    pixels += np.arange(count, dtype=np.uint8)[:, None, None, None]
    pixels[:, :, 0] += 100
    pixels.flags.writeable = False  # like a cache
    return ImageSet(Images(pixels, [str(i) for i in range(count)], [], {}, "digest"), 3, "numbered")


def draw(data: Dataset, batch_size: int, seed: int = 0, flip: bool = False, **options) -> Draw:
    return Draw(data, batch_size, 3, seed, flip=flip, **options)


def pixels(batch) -> np.ndarray:
    """The bytes from which a batch was made, (N, 3, H, W)."""
    return np.rint((batch.numpy() + 1) * 127.5).astype(int)


def numbers(batch) -> list[int]:
    return pixels(batch).min(axis=(1, 2, 3)).tolist()


# -- keys ---------------------------------------------------------------------------------------------


def test_the_same_key_gives_the_same_numbers_and_another_key_others():
    first = generator(1, "noise", 0, 5).random(8)
    np.testing.assert_array_equal(generator(1, "noise", 0, 5).random(8), first)
    assert (generator(1, "noise", 0, 6).random(8) != first).all()


parts = st.integers(0, 2**64 - 1) | st.sampled_from(["a", "b", "ab", "", "1", "a1", "', '", "\0"])
keys = st.lists(parts, max_size=4).map(tuple)


@given(keys, keys)
def test_different_keys_give_different_numbers(one, other):
    same = generator(*one).integers(2**64, dtype=np.uint64) == generator(*other).integers(
        2**64, dtype=np.uint64
    )
    assert same == (one == other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a", 1), ("a", 1, 0)),
        (("a", 1), ("a", "1")),
        (("a", 12), ("a1", 2)),
        (("a", 1, 2), ("a", 12)),
        (("ab",), ("a", "b")),
        ((), ("",)),
        ((0,), (2**64,)),
    ],
)
def test_keys_that_look_alike_are_different(one, other):
    assert (generator(*one).random(8) != generator(*other).random(8)).all()


def test_the_numbers_of_a_key_are_the_same_on_every_machine():
    """Resuming on another machine relies on it. NumPy promises that a generator's bits never change."""
    found = generator(999, "order", 0).integers(0, 1000, 5).tolist()
    assert found == EXPECTED


EXPECTED = [378, 534, 852, 768, 836]


@pytest.mark.parametrize(
    ("kind", "mean", "std", "bound"), [("normal", 0, 1, np.inf), ("uniform", 0, 3**-0.5, 1)]
)
def test_noise_is_of_its_distribution(kind, mean, std, bound):
    z = noise(generator("z"), (500, 100), kind)
    assert (z.shape, z.dtype) == ((500, 100), np.float32)
    assert abs(z.mean() - mean) < 0.02
    assert abs(z.std() - std) < 0.02
    assert np.abs(z).max() <= bound


# -- batches ------------------------------------------------------------------------------------------


def test_an_epoch_gives_every_sample_at_most_once_and_only_full_batches():
    of = draw(numbered(23), 5)
    assert of.per_epoch == 4
    epochs = []
    for epoch in range(3):
        given = []
        for _ in range(4):
            batch = of.reals()
            assert batch.shape == (5, 3, 2, 2)
            assert of.epoch == epoch
            given += numbers(batch)
        assert len(set(given)) == 20
        assert set(given) <= set(range(23))
        epochs.append(given)
    assert sorted(epochs[0]) != sorted(epochs[1])  # other images are left out
    assert epochs[0] != sorted(epochs[0])


def domains(labels, batch_size: int, **options) -> Draw:
    """A Draw of numbered images with these labels."""
    data = numbered(len(labels))
    data.labels, data.classes = np.array(labels), ("a", "b", "c")[: max(labels) + 1]
    return draw(data, batch_size, **options)


def test_each_class_has_epochs_of_its_own():
    """Classes of 4 and 7 samples in batches of 2: epochs of 2 and of 3 batches."""
    labels = [0, 1, 1, 0, 1, 1, 0, 1, 0, 1, 1]
    of = domains(labels, 2)
    given = [[numbers(x) for x in of.each_class()] for _ in range(6)]
    assert of.counts["batches"] == 12
    for k, length in enumerate((2, 3)):
        mine = [batch[k] for batch in given]
        assert {labels[i] for batch in mine for i in batch} == {k}
        epochs = [[n for x in mine[i : i + length] for n in x] for i in range(0, 6, length)]
        assert all(len(set(epoch)) == 2 * length for epoch in epochs)
        assert len({tuple(epoch) for epoch in epochs}) > 1


def test_the_batches_of_two_classes_do_not_belong_together():
    """Classes of the same size are not shuffled alike, so no step sees the pairs of a paired set."""
    of = domains([0, 1] * 20, 20)
    a, b = (numbers(x) for x in of.each_class())
    assert sorted(a) == [i - 1 for i in sorted(b)] == [*range(0, 40, 2)]
    assert [i + 1 for i in a] != b


def test_batches_of_each_class_go_on_exactly_and_are_shared():
    labels = [0, 1, 2] * 8
    whole, later = domains(labels, 4, flip=True), domains(labels, 4, flip=True)
    expected = [[pixels(x) for x in whole.each_class()] for _ in range(5)]
    for _ in range(2):
        later.each_class()
    again = domains(labels, 4, flip=True)
    again.counts |= later.counts
    for batches in expected[2:]:
        for found, x in zip(again.each_class(), batches, strict=True):
            np.testing.assert_array_equal(pixels(found), x)
    for part, x in zip(
        domains(labels, 4, flip=True, group=Share()).each_class(), expected[0], strict=True
    ):
        np.testing.assert_array_equal(pixels(part), x[2:])


def test_batches_of_each_class_need_classes_that_fill_them():
    with pytest.raises(UserError, match="has no labels; use labelled data"):
        draw(numbered(5), 2).each_class()
    data = numbered(5)
    data.labels, data.classes = np.array([0, 0, 0, 0, 1]), ("cats", "dogs")
    check_batch(data, 2)
    with pytest.raises(
        UserError, match=r"--batch-size 2: class dogs of .* has 1 samples; lower it"
    ):
        check_batch(data, 2, each_class=True)


def test_the_layout_is_nchw_in_channels_last_memory():
    raw = np.random.default_rng(0).integers(0, 256, (6, 4, 5, 3), dtype=np.uint8)
    data = ImageSet(Images(raw, list("abcdef"), [], {}, "digest"), 3, "random")
    batch = draw(data, 6).reals()
    assert batch.dtype == np.float32
    assert batch.data.transpose(0, 2, 3, 1).flags.c_contiguous
    order = generator(0, "order", 0).permutation(6)
    np.testing.assert_array_equal(pixels(batch), raw[order].transpose(0, 3, 1, 2))


def test_the_seed_decides_the_order():
    same, again, other = (numbers(draw(numbered(40), 8, seed).reals()) for seed in (1, 1, 2))
    assert same == again
    assert same != other


def test_flips_mirror_single_images_left_to_right_and_leave_the_source_alone():
    data = numbered(100)
    batch = pixels(draw(data, 100, flip=True).reals())
    left, right = batch[:, 0, :, 0], batch[:, 0, :, 1]
    assert np.all(np.abs(left - right) == 100)
    assert 30 < np.sum(left[:, 0] < right[:, 0]) < 70
    assert np.all(left[:, 0] == left[:, 1])
    plain = pixels(draw(data, 100).reals())
    assert np.all(plain[:, :, :, 0] > plain[:, :, :, 1])
    assert np.all(data.pixels[:, :, 0] > data.pixels[:, :, 1])


def test_points_are_not_flipped():
    with pytest.raises(UserError, match="--flip: points of a ring have no left and right"):
        draw(Mixture("ring", 8), 4, flip=True).reals()


@pytest.mark.parametrize("batch_size", [8, 10**9])
def test_fewer_samples_than_a_batch(batch_size):
    message = f"--batch-size {batch_size}: numbered has 7 samples; lower it, or use more data"
    with pytest.raises(UserError, match=message):
        draw(numbered(7), batch_size)
    assert draw(numbered(7), 7).per_epoch == 1


# -- within a step ------------------------------------------------------------------------------------


def test_each_call_and_each_step_gives_something_new():
    of = draw(numbered(20), 4)
    given = []
    for _ in range(3):
        given += [of.noise(), of.noise(), of.uniform("u", 3), of.uniform("v", 3)]
        of.next_step()
    values = [each.numpy() for each in given]
    assert all(value.shape == (4, 3) and value.dtype == np.float32 for value in values)
    firsts = [value.ravel()[0] for value in values]
    assert len(set(firsts)) == len(firsts)


def test_what_one_name_draws_does_not_shift_what_another_draws():
    """So a member that draws more, for a new loss term, still gets the same batches and noise."""
    few, many = draw(numbered(20), 4, flip=True), draw(numbered(20), 4, flip=True)
    for _ in range(7):
        many.uniform("more", 2)
        np.testing.assert_array_equal(few.reals().numpy(), many.reals().numpy())
        many.uniform("more")
        np.testing.assert_array_equal(few.noise().numpy(), many.noise().numpy())
        np.testing.assert_array_equal(few.uniform("u", 1).numpy(), many.uniform("u", 1).numpy())
        few.next_step(), many.next_step()


def test_after_going_back_other_noise_is_drawn_and_the_same_data():
    of, again = draw(numbered(20), 4), draw(numbered(20), 4)
    again.counts["again"] = 1
    np.testing.assert_array_equal(of.reals().numpy(), again.reals().numpy())
    assert (of.noise().numpy() != again.noise().numpy()).all()
    assert (of.uniform("u", 2).numpy() != again.uniform("u", 2).numpy()).all()


class Share:
    """The second of two processes."""

    size = 2

    def share(self, whole):
        return whole[len(whole) // 2 :]


def test_a_process_of_a_group_takes_its_share_of_what_one_alone_would_draw():
    one, second = draw(numbered(23), 6, flip=True), draw(numbered(23), 6, flip=True, group=Share())
    for _ in range(5):
        for whole, part in (
            (one.reals(), second.reals()),
            (one.noise(), second.noise()),
            (one.uniform("u", 2), second.uniform("u", 2)),
        ):
            np.testing.assert_array_equal(part.numpy(), whole.numpy()[3:])
        one.next_step(), second.next_step()


def test_what_is_drawn_is_on_the_device():
    of = draw(numbered(8), 4)
    assert {backend.device_of(t.data) for t in (of.reals(), of.noise(), of.uniform("u"))} == {"cpu"}


# -- resuming -----------------------------------------------------------------------------------------


def played(of: Draw, batches: int) -> list[np.ndarray]:
    """Everything that a step draws for a member that takes this number of batches."""
    found = [of.reals() for _ in range(batches)]
    found += [of.noise(), of.noise(), of.uniform("between", 1)]
    of.next_step()
    return [each.numpy() for each in found]


@given(
    steps=st.integers(0, 9),
    batches=st.integers(1, 3),
    count=st.integers(5, 23),
    flip=st.booleans(),
    seed=st.integers(0, 2**64 - 1),
    again=st.integers(0, 3),
)
def test_a_draw_with_saved_counts_goes_on_exactly(steps, batches, count, flip, seed, again):
    """`counts` is the whole state: a Draw with the same counts and another past draws the same."""
    first = draw(numbered(count), 5, seed, flip)
    first.counts["again"] = again
    for _ in range(steps):
        played(first, batches)
    counts = json.loads(json.dumps(first.counts))
    assert counts == {"step": steps, "batches": steps * batches, "again": again}
    second = draw(numbered(count), 5, seed, flip)
    played(second, 2)
    second.counts.update(counts)
    assert (second.step, second.epoch) == (first.step, first.epoch)
    for _ in range(3):
        for one, other in zip(played(first, batches), played(second, batches), strict=True):
            np.testing.assert_array_equal(one, other)


def test_counts_belong_to_one_draw():
    one, other = draw(numbered(9), 3), draw(numbered(9), 3)
    before = dict(Draw.START)
    played(one, 2)
    assert other.counts == before == Draw.START
