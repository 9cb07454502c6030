"""Confusions, mIoU and intervals against numbers worked out by hand and by laws."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import stdtrit

from gcdiff.evaluation.ratios import share_interval
from gcdiff.evaluation.segmentation import class_ious, confusion, mean_iou, pixel_accuracy, score


def test_worked_example():
    """Class 0: 2 hits, 1 unsure, 1 taken for 1. Class 1: 2 hits. Class 3 predicted only. Class 2 on neither side."""
    labels = np.array([[0, 0, 0, 0, 1], [1, 1, -1, -1, -1]])
    predictions = np.array([[0, 0, -1, 1, 1], [1, 3, 2, 0, -1]])
    matrix = confusion(labels, predictions, 4)
    np.testing.assert_array_equal(matrix, [[2, 1, 0, 0, 1], [0, 2, 0, 1, 0], [0] * 5, [0] * 5])
    np.testing.assert_allclose(class_ious(matrix), [2 / 4, 2 / 4, np.nan, 0])
    assert mean_iou(matrix) == pytest.approx(1 / 3)
    assert pixel_accuracy(matrix) == pytest.approx(4 / 7)


def test_confusions_add_up_over_examples():
    rng = np.random.default_rng(0)
    labels, predictions = rng.integers(-1, 5, (2, 6, 4, 7))
    parts = sum(confusion(a, b, 5) for a, b in zip(labels, predictions, strict=True))
    np.testing.assert_array_equal(confusion(labels, predictions, 5), parts)
    assert parts.sum() == (labels >= 0).sum()


def test_perfect_and_empty():
    labels = np.arange(6) % 3
    assert mean_iou(confusion(labels, labels, 5)) == pixel_accuracy(confusion(labels, labels, 5)) == 1
    nothing = confusion(np.full(6, -1), labels, 5)
    assert np.isnan(mean_iou(nothing)) and np.isnan(pixel_accuracy(nothing))
    assert np.isnan(score(np.stack([nothing] * 3), mean_iou)[:3]).all()


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="label 7"):
        confusion(np.array([0, 7]), np.array([0, 0]), 3)
    with pytest.raises(ValueError, match="shape"):
        confusion(np.zeros(3, int), np.zeros(4, int), 3)


def test_the_interval_of_any_statistic_is_the_jackknifes():
    """Of a mean: Student's t with the standard error."""
    x = np.random.default_rng(1).normal(3, 1, 12)
    off = stdtrit(11, 0.975) * x.std(ddof=1) / np.sqrt(12)
    values = np.stack([x, np.ones(12)], -1)
    np.testing.assert_allclose(score(values, lambda s: s[0] / s[1])[:3], x.mean() + off * np.array([0, -1, 1]))


def test_a_score_is_of_its_values_alone():
    matrices = np.stack([confusion(*np.random.default_rng(i).integers(0, 3, (2, 50)), 3) for i in range(20)])
    first = score(matrices, mean_iou)
    np.testing.assert_allclose(score(matrices[::-1], mean_iou), first)
    assert first.low < first.value < first.high and first.examples == 20
    assert np.isnan(score(matrices[:0], mean_iou).value)


def test_absent_classes_count_from_zero_to_one_in_the_interval():
    """Two of four classes are there, in every example alike: the ends of their IoU, and 0 and 1 for the others."""
    matrix = confusion(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1]), 4)
    low, high = share_interval(1.0, 6)
    alone = mean_iou.interval(np.stack([matrix] * 6)[:, :2, [0, 1, 4]])
    both = mean_iou.interval(np.stack([matrix] * 6))
    assert alone == (pytest.approx(1 - (1 - low) / np.sqrt(2)), high)
    assert both == (pytest.approx(alone[0] / 2), 1)
    assert mean_iou(6 * matrix) == 1


def test_one_example_says_nothing_of_others():
    measured = score(np.array([[3, 4]]), lambda s: s[0] / s[1])
    assert measured.value == 0.75 and measured.examples == 1 and np.isnan([measured.low, measured.high]).all()
