"""Which examples do without their text in training."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from gcdiff.conditions.conditioning import TrainBatch
from gcdiff.conditions.text import TextInput
from gcdiff.types import Pair

N = 600
TOKENS = np.ones((N, 3), np.int32)


def dropped(known, **probabilities):
    """Who goes without, bool (N,), where the masks of known image pixels are `known` (N, 2, 2)."""
    batch = TrainBatch(np.zeros((N, 2, 2, 3)), np.zeros((N, 2, 2), int), {"text": TOKENS})
    tokens, without = TextInput(None, **probabilities).draw(jax.random.key(0), batch, Pair(known, ~known))
    assert tokens is TOKENS
    return np.asarray(without)


@pytest.mark.parametrize(("drop", "drop_given_image"), [(0.0, 1.0), (1.0, 0.0)])
def test_a_text_is_dropped_by_whether_the_whole_image_is_given(drop, drop_given_image):
    known = np.zeros((N, 2, 2), bool)
    known[::3], known[1::3, 0, 1] = True, True  # whole, one pixel, nothing
    without = dropped(known, drop=drop, drop_given_image=drop_given_image)
    np.testing.assert_array_equal(without, (np.arange(N) % 3 == 0) == bool(drop_given_image))


def test_every_example_has_a_chance_of_its_own():
    known = np.zeros((N, 2, 2), bool)
    known[::2] = True
    without = dropped(known, drop=0.2, drop_given_image=0.7)
    np.testing.assert_allclose([without[::2].mean(), without[1::2].mean()], [0.7, 0.2], atol=0.08)
