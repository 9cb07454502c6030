"""Batch n is a function of the seed and n; the background thread ends and tells what went wrong."""

import itertools
import threading

import numpy as np
import pytest

from gcdiff.data import pipeline
from gcdiff.data.dataset import Example
from gcdiff.types import ImageSpec, LabelSpec


class Numbers:
    """Example i is filled with i and has two captions."""

    name = "numbers"
    size = (2, 3)
    image = ImageSpec()
    labels = LabelSpec(("a",), ((0, 0, 0),))
    licence = ""

    def __init__(self, num=10, broken=None):
        self.num, self.broken = num, broken

    def __len__(self):
        return self.num

    def __getitem__(self, index):
        if index == self.broken:
            raise ValueError(f"example {index} is broken")
        return Example(
            np.full((2, 3, 3), index, np.uint8), np.full((2, 3), index, np.int32), (f"{index} a", f"{index} b")
        )


def jitter(example, rng):
    return example._replace(image=example.image + rng.integers(0, 100, example.image.shape).astype(np.uint8))


def take(num, *args, **kwargs):
    stream = pipeline.batches(*args, **kwargs)
    out = list(itertools.islice(stream, num))
    stream.close()
    return out


def assert_equal(a, b):
    np.testing.assert_array_equal(a.image, b.image)
    np.testing.assert_array_equal(a.layout, b.layout)
    assert a.captions == b.captions


def threading_left():
    return [t for t in threading.enumerate() if t.name.startswith("batches")]


def test_a_batch():
    batch = take(1, Numbers(), 4, 0)[0]
    assert batch.image.shape == (4, 2, 3, 3) and batch.image.dtype == np.uint8
    assert batch.layout.shape == (4, 2, 3) and batch.layout.dtype == np.int32
    assert batch.has_image.all()
    for image, layout, caption in zip(*batch[:3], strict=True):
        index = layout[0, 0]
        np.testing.assert_array_equal(image, index)
        assert caption in (f"{index} a", f"{index} b")


@pytest.mark.parametrize("start", [0, 1, 5, 17])
def test_a_restart_goes_on_as_if_nothing_had_happened(start):
    whole_run = take(20, Numbers(), 4, 7, jitter)
    for a, b in zip(take(20 - start, Numbers(), 4, 7, jitter, start=start), whole_run[start:], strict=True):
        assert_equal(a, b)


@pytest.mark.parametrize(("parts", "threads"), [(2, 1), (4, 1), (1, 3), (2, 2)])
def test_processes_read_the_rows_of_one(parts, threads):
    shares = [take(6, Numbers(), 8, 7, jitter, share=(i, parts), threads=threads) for i in range(parts)]
    for n, one in enumerate(take(6, Numbers(), 8, 7, jitter)):
        for side in ("image", "layout", "captions"):
            joined = np.concatenate([getattr(share[n], side) for share in shares])
            np.testing.assert_array_equal(joined, getattr(one, side))
    assert not threading_left()


def test_every_epoch_has_every_example_once_in_another_order():
    order = np.concatenate([b.layout[:, 0, 0] for b in take(15, Numbers(), 4, 3)])
    epochs = order.reshape(6, 10)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(10), (6, 1)))
    assert len({tuple(e) for e in epochs}) == 6


def test_seeds_epochs_and_captions_differ():
    first, second = take(30, Numbers(), 10, 0, jitter), take(30, Numbers(), 10, 1, jitter)
    assert any(not np.array_equal(a.layout, b.layout) for a, b in zip(first, second, strict=True))
    images = {b.image[list(b.layout[:, 0, 0]).index(4)].tobytes() for b in first}
    assert len(images) == 30
    letters = [caption[-1] for b in first for caption in b.captions]
    assert 100 < letters.count("a") < 200


def test_what_is_yielded_may_be_finished_behind_the_scenes():
    def name(batch):
        return threading.current_thread().name, batch.captions

    for (thread, captions), batch in zip(take(3, Numbers(), 4, 0, finish=name), take(3, Numbers(), 4, 0), strict=True):
        assert thread.startswith("batches") and captions == batch.captions


def test_a_batch_larger_than_the_data_set():
    assert np.bincount(take(1, Numbers(3), 9, 0)[0].layout[:, 0, 0]).tolist() == [3, 3, 3]


def test_an_exception_arrives_with_its_batch_and_ends_the_thread():
    stream = pipeline.batches(Numbers(broken=4), 1, 0)
    with pytest.raises(ValueError, match="example 4 is broken"):
        for _ in range(10):
            next(stream)
    assert not threading_left()


def test_closing_ends_the_thread():
    stream = pipeline.batches(Numbers(), 2, 0)
    next(stream)
    assert threading_left()
    stream.close()
    assert not threading_left()


def test_no_more_than_the_depth_is_made_ahead():
    made = []
    stream = pipeline._ahead(lambda n: made.append(n) or n, 5)
    assert next(stream) == 5
    stream.close()
    assert max(made) <= 5 + pipeline.DEPTH


@pytest.mark.parametrize(
    ("field", "kwargs"),
    [("batch_size", {"batch_size": 0}), ("start", {"start": -1}), ("batch_size", {"batch_size": 2, "share": (0, 3)})],
)
def test_bad_numbers_are_named_at_once(field, kwargs):
    with pytest.raises(ValueError, match=f"{field} is"):
        pipeline.batches(Numbers(), **{"batch_size": 2, "seed": 0, **kwargs})


def test_what_is_missing_is_said():
    class Incomplete(Numbers):
        def __getitem__(self, index):
            return super().__getitem__(index)._replace(captions=(), has_image=index % 2 == 0)

    batch = take(1, Incomplete(), 10, 0)[0]
    np.testing.assert_array_equal(batch.has_image, batch.layout[:, 0, 0] % 2 == 0)
    assert batch.captions == ("",) * 10


def test_whole_keeps_the_order_and_repeats_itself():
    batch = pipeline.whole(Numbers(), [3, 1, 3], jitter)
    assert batch.layout[:, 0, 0].tolist() == [3, 1, 3] and batch.captions == ("3 a", "1 a", "3 a")
    np.testing.assert_array_equal(batch.image[0], batch.image[2])
    assert_equal(batch, pipeline.whole(Numbers(), np.array([3, 1, 3]), jitter))
