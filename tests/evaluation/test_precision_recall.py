"""Captions that are compared with others' images need others."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from gcdiff.evaluation.precision_recall import derangement, detection_counts, f1, precision, recall
from gcdiff.worlds.cells import scores as cells
from gcdiff.worlds.faces import scores as faces
from gcdiff.worlds.streets import scores as streets

READINGS = {
    streets: SimpleNamespace(labels=np.zeros((1, 8, 8), int)),
    faces: np.zeros((1, 13), bool),
    cells: [None],
}


def test_rates_worked_out_by_hand():
    """Asked for 5, shown 4, of which 3 were asked for."""
    wanted = np.array([[1, 1, 0, 0], [1, 1, 1, 0]], bool)
    shown = np.array([[1, 0, 1, 0], [1, 1, 0, 0]], bool)
    counts = detection_counts(wanted, shown)
    np.testing.assert_array_equal(counts, [[1, 1, 1], [2, 0, 1]])
    total = counts.sum(0)
    assert (precision(total), recall(total), f1(total)) == (3 / 4, 3 / 5, 6 / 9)
    assert np.isnan([rate(np.zeros(3)) for rate in (precision, recall, f1)]).all()


def test_every_image_has_anothers_caption():
    for num in range(2, 12):
        others = derangement(num, num)
        assert sorted(others) == list(range(num)) and np.all(others != np.arange(num))


@pytest.mark.parametrize("num", [0, 1])
def test_one_alone_has_no_other(num):
    with pytest.raises(ValueError, match=f"{num} captions, expected 2 or more"):
        derangement(num, 0)


@pytest.mark.parametrize("world", READINGS, ids=lambda world: world.__name__)
def test_scores_of_readings_ask_for_what_scores_of_images_ask_for(world):
    for captions in (["a"], ["a", "b"]):
        said = f"1 examples and {len(captions)} captions, expected as many of both and 2 or more"
        with pytest.raises(ValueError, match=said):
            world.scores_of(READINGS[world], captions)
        with pytest.raises(ValueError, match=said):
            world.caption_scores(np.zeros((1, 8, 8, 3), np.uint8), captions)
