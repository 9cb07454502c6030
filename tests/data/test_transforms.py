"""Image and layout stay together; a cell has the label that most of its pixels have."""

import numpy as np
import pytest

from gcdiff.data.dataset import Example
from gcdiff.data.transforms import flip, mirror, random_crop_scale, resize
from gcdiff.types import VOID

COLORS = np.array([[250, 10, 10], [10, 250, 10], [10, 10, 250], [240, 240, 20], [20, 20, 20]], np.uint8)


def blocks(rng, size=(60, 80), block=20, classes=4) -> Example:
    """An example in flat blocks whose colours tell their labels, void included."""
    layout = rng.integers(VOID, classes, (size[0] // block, size[1] // block)).repeat(block, 0).repeat(block, 1)
    return Example(COLORS[layout], layout.astype(np.int32), ("a caption",))


def decoded(image: np.ndarray) -> np.ndarray:
    """The labels that the colours of an image tell; the last colour is void's."""
    distance = np.abs(image[..., None, :].astype(int) - COLORS).sum(-1)
    labels = distance.argmin(-1)
    return np.where(labels == len(COLORS) - 1, VOID, labels)


def inner(layout: np.ndarray) -> np.ndarray:
    """Pixels whose eight neighbours all have their own label."""
    padded = np.pad(layout, 1, mode="edge")
    rows, columns = layout.shape
    shifts = [padded[i : i + rows, j : j + columns] for i in range(3) for j in range(3)]
    return np.all([s == layout for s in shifts], axis=0)


@pytest.mark.parametrize("size", [(30, 40), (20, 20), (17, 23), (60, 80), (90, 130), (120, 40)])
def test_resize_keeps_image_and_layout_together(size):
    example = blocks(np.random.default_rng(0))
    out = resize(example, size)
    assert out.image.shape == (*size, 3) and out.image.dtype == np.uint8
    assert out.layout.shape == size and out.layout.dtype == np.int32
    sure = inner(out.layout)
    assert sure.mean() > 0.2
    np.testing.assert_array_equal(decoded(out.image)[sure], out.layout[sure])


def test_majority_by_enumeration():
    rng = np.random.default_rng(1)
    layout = rng.integers(VOID, 3, (12, 18)).astype(np.int32)
    image = rng.integers(0, 256, (12, 18, 3)).astype(np.uint8)
    out = resize(Example(image, layout, ()), (3, 6))
    for row in range(3):
        for column in range(6):
            cell = (slice(4 * row, 4 * row + 4), slice(3 * column, 3 * column + 3))
            votes = [(layout[cell] == label).sum() for label in range(VOID, 3)]
            assert out.layout[row, column] == int(np.argmax(votes)) + VOID  # ties: the lowest label, void below all
            np.testing.assert_allclose(out.image[row, column], image[cell].mean((0, 1)), atol=1.01)


def test_every_pixel_votes_once_at_sizes_that_do_not_divide():
    """Cells of 11 x 13 pixels in 4 x 5 cells: the pixels with their centre in the cell, and the image's mean agrees."""
    rng = np.random.default_rng(2)
    layout = rng.integers(0, 2, (11, 13)).astype(np.int32)
    image = np.repeat((255 * layout[..., None]).astype(np.uint8), 3, axis=-1)
    out = resize(Example(image, layout, ()), (4, 5))
    sure = np.abs(out.image[..., 0].astype(int) - 127.5) > 2
    assert sure.sum() > 10
    np.testing.assert_array_equal(out.layout[sure], (out.image[..., 0] > 127)[sure])


def test_void_wins_a_tie_and_survives_where_it_is_the_most():
    layout = np.array([[VOID, VOID, VOID, 2], [2, 2, 1, 1]], np.int32)
    out = resize(Example(np.zeros((2, 4, 3), np.uint8), layout, ()), (1, 2)).layout
    np.testing.assert_array_equal(out, [[VOID, 1]])


def test_resize_to_its_own_size_changes_nothing():
    example = blocks(np.random.default_rng(3))
    assert resize(example, (60, 80)) is example


@pytest.mark.parametrize("scale", [(1.0, 1.0), (0.4, 1.0), (0.2, 0.2)])
def test_a_crop_keeps_image_and_layout_together(scale):
    rng = np.random.default_rng(4)
    for _ in range(10):
        example = blocks(rng)
        out = random_crop_scale(example, rng, (24, 32), scale)
        sure = inner(out.layout)
        np.testing.assert_array_equal(decoded(out.image)[sure], out.layout[sure])


def test_a_crop_has_the_scale_the_shape_and_the_places_asked_for():
    """A ramp tells where a window starts and how far it reaches."""
    ramp = np.stack(np.broadcast_arrays(np.arange(100)[:, None], np.arange(200)[None], 0), -1).astype(np.uint8)
    example = Example(ramp, np.zeros((100, 200), np.int32), ())
    rng = np.random.default_rng(5)
    heights, tops, lefts = [], [], []
    for _ in range(300):
        image = random_crop_scale(example, rng, (20, 20), (0.5, 1.0)).image.astype(float)
        height = (image[-1, 0, 0] - image[0, 0, 0]) * 20 / 19
        width = (image[0, -1, 1] - image[0, 0, 1]) * 20 / 19
        assert abs(height - width) < 2.5 and 48 < height < 102
        heights.append(height)
        tops.append(image[0, 0, 0])
        lefts.append(image[0, 0, 1])
    assert abs(np.mean(heights) - 75) < 3
    assert max(lefts) > 130 and min(lefts) < 8 and max(tops) > 30


def test_a_crop_has_the_aspect_asked_for():
    """A window of half the picture has room to be squeezed and stretched evenly."""
    ramp = np.stack(np.broadcast_arrays(np.arange(200)[:, None], np.arange(200)[None], 0), -1).astype(np.uint8)
    example, rng = Example(ramp, np.zeros((200, 200), np.int32), ()), np.random.default_rng(6)
    ratios = []
    for _ in range(300):
        image = random_crop_scale(example, rng, (20, 20), (0.5, 0.5), aspect=0.8).image.astype(float)
        ratios.append(np.log((image[-1, 0, 0] - image[0, 0, 0]) / (image[0, -1, 1] - image[0, 0, 1])))
    assert np.max(np.abs(ratios)) < 0.85 and abs(np.mean(ratios)) < 0.1
    assert abs(np.std(ratios) - 0.8 / np.sqrt(3)) < 0.06


@pytest.mark.parametrize("scale", [(0.0, 1.0), (0.9, 0.5), (0.5, 1.5)])
def test_a_bad_scale_is_named(scale):
    with pytest.raises(ValueError, match="scale is .* expected 0 < low <= high <= 1"):
        random_crop_scale(blocks(np.random.default_rng(0)), np.random.default_rng(0), (6, 8), scale)


def test_mirror_is_an_involution_that_swaps_sides():
    example = blocks(np.random.default_rng(6), block=1)
    swaps = ((0, 3), (1, 2))
    once = mirror(example, swaps)
    np.testing.assert_array_equal(once.image, example.image[:, ::-1])
    for left, right in swaps:
        np.testing.assert_array_equal(once.layout == left, (example.layout == right)[:, ::-1])
    np.testing.assert_array_equal(once.layout == VOID, (example.layout == VOID)[:, ::-1])
    twice = mirror(once, swaps)
    np.testing.assert_array_equal(twice.image, example.image)
    np.testing.assert_array_equal(twice.layout, example.layout)
    assert once.layout.dtype == np.int32


def test_flip_mirrors_half_of_the_time():
    example = blocks(np.random.default_rng(7), block=1)
    rng = np.random.default_rng(8)
    flipped = [not np.array_equal(flip(example, rng, ()).layout, example.layout) for _ in range(400)]
    assert 160 < sum(flipped) < 240


def test_the_same_generator_gives_the_same_example():
    example = blocks(np.random.default_rng(9))

    def draw():
        rng = np.random.default_rng(10)
        return flip(random_crop_scale(example, rng, (24, 32), (0.4, 1.0)), rng, ((0, 1),))

    np.testing.assert_array_equal(draw().image, draw().image)
    np.testing.assert_array_equal(draw().layout, draw().layout)
