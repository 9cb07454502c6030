"""Windows cover, overlap, and their average is what each of them says."""

from __future__ import annotations

import numpy as np
import pytest

from gcdiff.api.windows import average, cover, windows


@pytest.mark.parametrize("size", [(8, 16), (8, 17), (9, 16), (30, 50), (8, 200)])
def test_windows_cover_and_overlap_by_half(size):
    places = windows(size, (8, 16))
    hits = np.zeros(size, int)
    for rows, columns in places:
        assert rows.stop - rows.start == 8 and columns.stop - columns.start == 16
        assert rows.stop <= size[0] and columns.stop <= size[1]
        hits[rows, columns] += 1
    assert hits.min() >= 1
    for starts, length in (
        (sorted({p.rows.start for p in places}), 8),
        (sorted({p.columns.start for p in places}), 16),
    ):
        assert all(b - a <= length / 2 for a, b in zip(starts[:-1], starts[1:], strict=True))
    assert len(places) == 1 or size != (8, 16)


def test_an_average_of_what_a_pixel_shows_is_what_it_shows():
    """A classifier that looks at one pixel alone gives the same through windows and without them."""

    def classify(images):
        for image in images:
            yield np.stack([image[..., 0] / 255, 1 - image[..., 0] / 255], axis=-1).astype(np.float32)

    image = np.random.default_rng(0).integers(0, 256, (21, 40, 3)).astype(np.uint8)
    direct = next(classify([image]))
    np.testing.assert_allclose(average(classify, image, (8, 16), 2), direct, atol=1e-5)


def test_the_middle_of_a_window_weighs_more_than_its_border():
    def by_window(images):
        for i in range(len(images)):
            yield np.full((8, 16, 1), float(i), np.float32)

    averaged = average(by_window, np.zeros((8, 24, 3), np.uint8), (8, 16), 1)[0, :, 0]
    assert averaged[0] == 0 and averaged[-1] == 1
    assert (np.diff(averaged[8:16]) > 0).all()


def test_a_small_image_is_enlarged_first():
    size, places = cover((4, 100), (8, 16))
    assert size == (8, 200) and len(places) > 1
    averaged = average(
        lambda images: iter([np.ones((8, 16, 1), np.float32)] * len(images)), np.zeros((4, 30, 3), np.uint8), (8, 16), 1
    )
    assert averaged.shape == (4, 30, 1)


def test_what_cannot_be_covered_is_refused():
    with pytest.raises(ValueError, match="a canvas of 7x16 is smaller than the model's 8x16"):
        windows((7, 16), (8, 16))
