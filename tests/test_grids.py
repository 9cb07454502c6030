"""Laws of the operators that make low-resolution pairs, against brute force and against the base's own resizing."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gcdiff.data.dataset import Example
from gcdiff.data.transforms import resize
from gcdiff.grids import all_known, area, blocks, majority, nearest, shares
from gcdiff.types import VOID

K = 4
RNG = np.random.default_rng(0)
LAYOUT = RNG.integers(VOID, K, (3, 12, 24)).astype(np.int32)
IMAGE = RNG.integers(0, 256, (3, 12, 24, 3)).astype(np.uint8)


def cell(array, factor, n, i, j):
    return array[n, factor * i : factor * (i + 1), factor * j : factor * (j + 1)]


def test_constants_stay_and_every_colour_is_the_mean_of_its_block():
    np.testing.assert_allclose(area(np.full((1, 4, 6, 3), 0.3, np.float32), 2), 0.3, rtol=1e-6)
    for factor in (2, 3):
        small = area(IMAGE.astype(np.float32), factor)
        means = [[[cell(IMAGE, factor, n, i, j).mean((0, 1)) for j in range(24 // factor)] for i in range(12 // factor)]
                 for n in range(3)]  # fmt: skip
        np.testing.assert_allclose(small, means, rtol=1e-5)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_a_label_is_that_of_most_pixels_as_the_bases_data_have_it(factor):
    small = majority(LAYOUT, factor)
    for (n, i, j), label in np.ndenumerate(small):
        labels, counts = np.unique(cell(LAYOUT, factor, n, i, j), return_counts=True)
        assert label == labels[counts.argmax()]  # unique sorts: the lowest of equals, void below all
    of_base = [resize(Example(x, y, ()), (12 // factor, 24 // factor)) for x, y in zip(IMAGE, LAYOUT, strict=True)]
    np.testing.assert_array_equal(small, [e.layout for e in of_base])
    # Theirs is rounded after each side.
    np.testing.assert_allclose(area(IMAGE.astype(np.float32), factor), [e.image for e in of_base], atol=1.01)


def test_shares_sum_to_one_and_their_largest_is_the_majority():
    void = LAYOUT == VOID
    p = shares(LAYOUT, 2, K)
    assert p.shape == (3, 6, 12, K) and p.dtype == np.float32 and (p >= 0).all()
    np.testing.assert_allclose(p.sum(-1), 1, rtol=1e-6)
    full = np.where(void, 0, LAYOUT)
    np.testing.assert_array_equal(shares(full, 2, K).argmax(-1), majority(full, 2))
    np.testing.assert_array_equal(shares(np.full((1, 2, 2), VOID), 2, K), np.full((1, 1, 1, K), 1 / K, np.float32))
    half = np.array([[[1, VOID], [VOID, VOID]]], np.int32)
    np.testing.assert_array_equal(shares(half, 2, K)[0, 0, 0], np.eye(K)[1])


def test_enlarging_is_undone_by_every_operator():
    large = LAYOUT.repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_array_equal(majority(large, 2), LAYOUT)
    np.testing.assert_array_equal(nearest(large, 2), LAYOUT)
    np.testing.assert_array_equal(nearest(LAYOUT, 2), LAYOUT[:, ::2, ::2])
    known = LAYOUT > 1
    np.testing.assert_array_equal(all_known(known.repeat(3, axis=1).repeat(3, axis=2), 3), known)
    assert not all_known(np.array([[[True, True], [True, False]]]), 2).any()


def test_traced_arrays_give_what_numpy_gives():
    image = IMAGE.astype(np.float32)
    small = jax.jit(lambda x, y: (area(x, 2), majority(y, 2), nearest(y, 2), shares(y, 2, K)))(image, LAYOUT)
    for a, b in zip(
        small, (area(image, 2), majority(LAYOUT, 2), nearest(LAYOUT, 2), shares(LAYOUT, 2, K)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-6)
        assert a.dtype == b.dtype and isinstance(a, jnp.ndarray)


def test_a_size_that_is_not_made_of_blocks_is_refused():
    with pytest.raises(ValueError, match="size 12x24 is not divisible by the factor 5"):
        blocks(LAYOUT, 5)
