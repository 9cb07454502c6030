"""Paths start and end where their question says, and never rise."""

from __future__ import annotations

import numpy as np
import pytest

from gcdiff import paths


@pytest.mark.parametrize("name", paths.PATHS)
@pytest.mark.parametrize("steps", [2, 7, 50])
def test_paths_have_their_length_and_never_rise(name, steps):
    path = paths.PATHS[name](steps)
    assert path.shape == (steps + 1, 2) and path.dtype == np.float32
    assert np.all(np.diff(path, axis=0) <= 0)
    assert np.all(np.any(np.diff(path, axis=0) < 0, axis=1))


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("joint", (1, 1), (0, 0)),
        ("layout_first", (1, 1), (0, 0)),
        ("layout_given_image", (0, 1), (0, 0)),
        ("image_given_layout", (1, 0), (0, 0)),
        ("image_only", (1, 1), (0, 1)),
        ("layout_only", (1, 1), (1, 0)),
    ],
)
def test_ends(name, first, last):
    path = paths.PATHS[name](5)
    assert tuple(path[0]) == first and tuple(path[-1]) == last


@pytest.mark.parametrize("name", paths.PATHS)
@pytest.mark.parametrize("spacing", [0.5, 1.5])
def test_spaced_paths_have_the_same_ends_and_never_rise(name, spacing):
    path = paths.PATHS[name](9)
    spaced = paths.spaced(path, spacing)
    np.testing.assert_array_equal(spaced[[0, -1]], path[[0, -1]])
    assert spaced.shape == path.shape and spaced.dtype == np.float32
    assert np.all(np.diff(spaced, axis=0) <= 0) and np.all((spaced == path) | ((spaced < path) == (spacing > 1)))
    np.testing.assert_array_equal(paths.spaced(path, 1.0), path)


def test_spacing_holds_for_a_path_from_the_middle():
    np.testing.assert_allclose(paths.spaced(paths.partial(4, 0.5, 0.0), 2.0)[:, 0], [0.5, 0.28125, 0.125, 0.03125, 0])
    with pytest.raises(ValueError, match="spacing is 0, expected a number above 0"):
        paths.spaced(paths.joint(2), 0)


def test_the_layout_comes_first():
    path = paths.layout_first(10, share=0.3)
    assert np.all(path[:4, 0] == 1) and np.all(path[3:, 1] == 0)


@pytest.mark.parametrize("start", [(0.5, 0.5), (0.25, 1.0), (0.0, 0.5), (0.5, 0.0)])
def test_a_start_from_the_middle(start):
    path = paths.partial(4, *start)
    assert path.shape == (5, 2) and path.dtype == np.float32
    assert tuple(path[0]) == start and tuple(path[-1]) == (0, 0)
    np.testing.assert_allclose(np.diff(path, axis=0), -np.tile(start, (4, 1)) / 4)
    np.testing.assert_array_equal(paths.partial(4), paths.joint(4))


def test_numbers_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="steps is 0, expected at least 1"):
        paths.joint(0)
    with pytest.raises(ValueError, match="steps is 1, expected at least 2"):
        paths.layout_first(1)
    with pytest.raises(ValueError, match="layout starts at level 1.5"):
        paths.partial(4, layout=1.5)
    with pytest.raises(ValueError, match="nothing would change"):
        paths.partial(4, 0, 0)


def test_the_image_may_come_first():
    np.testing.assert_array_equal(paths.image_first(6, 0.5), paths.layout_first(6, 0.5)[:, ::-1])
    path = paths.image_first(10, share=0.3)  # three steps are the image's
    assert np.all(path[:4, 1] == 1) and np.all(path[3:, 0] == 0) and path[2, 0] > 0 and path[4, 1] < 1


def test_a_floor_keeps_the_layout_above_it_until_the_last_step():
    path = paths.above(paths.joint(10), 0.35)
    np.testing.assert_array_equal(path[:, 0], paths.joint(10)[:, 0])
    assert path[-1, 1] == 0 and path[-2, 1] == np.float32(0.35) and (np.diff(path[:, 1]) <= 0).all()
    np.testing.assert_array_equal(paths.above(paths.layout_first(6), 0.35)[3:6, 1], np.float32(0.35))
    np.testing.assert_array_equal(paths.above(paths.image_only(6), 0.35), paths.image_only(6))
    np.testing.assert_array_equal(paths.above(paths.joint(6), 0.0), paths.joint(6))
