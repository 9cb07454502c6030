"""Calibration of probabilities whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from gcdiff.evaluation.calibration import (
    calibration,
    entropy,
    expected_calibration_error,
    frequencies,
    negative_log_likelihood,
    reliability,
    reliability_sums,
    top_label_calibration_error,
    vote,
)
from gcdiff.types import VOID

K, N = 4, 200_000
RNG = np.random.default_rng(0)


def world(sharpness=1.0):
    """Probabilities (N, K), labels drawn from them, and the same probabilities made sharper."""
    p = RNG.dirichlet([0.5, 0.7, 1.0, 0.1], N)
    labels = (RNG.random((N, 1)) > p.cumsum(axis=1)).sum(axis=1).clip(0, K - 1)
    probabilities = p**sharpness
    return probabilities / probabilities.sum(axis=1, keepdims=True), labels, p


def test_the_likelihood_of_an_improbable_label_is_what_float32_holds():
    """A confident mistake costs its nats down to the smallest probability of float32, and one of 0 that of this one."""
    for nats in (20.0, 40.0, 80.0):
        p = np.array([[1.0, np.exp(-nats)]], np.float32)
        assert negative_log_likelihood(reliability(p, np.array([1]))) == pytest.approx(nats, rel=1e-5)
    impossible = reliability(np.array([[1.0, 0.0]], np.float32), np.array([1]))
    assert negative_log_likelihood(impossible) == pytest.approx(87.34, abs=0.01)


def test_true_probabilities_are_calibrated_and_sharper_ones_are_not():
    probabilities, labels, _ = world()
    sums = reliability(probabilities, labels)
    assert expected_calibration_error(sums) < 0.01 and top_label_calibration_error(sums) < 0.02
    probabilities, labels, p = world(sharpness=2.0)
    sums = reliability(probabilities, labels)
    top = np.take_along_axis(p, probabilities.argmax(axis=1)[:, None], axis=1)[:, 0]
    # Sharpening only raises confidence, so the error is the mean excess, bin by bin and in all.
    assert expected_calibration_error(sums) == pytest.approx((probabilities.max(axis=1) - top).mean(), abs=0.01)
    assert top_label_calibration_error(sums) > 0.05


def test_a_rare_class_counts_as_much_as_a_common_one():
    """99 % of the pixels are called class 0 and are right; those called class 1 never are."""
    p = np.zeros((1000, 2))
    p[:990, 0] = p[990:, 1] = 1.0
    sums = reliability(p, np.zeros(1000, int))
    assert expected_calibration_error(sums) == pytest.approx(0.01)
    assert top_label_calibration_error(sums) == pytest.approx(0.5)


def test_bins_do_not_make_up_for_each_other():
    """Told .9 and right in 8 of 10, told .6 and right in 7 of 10: wrong by .1 in each bin, by 0 in all."""
    p = np.repeat([[0.9, 0.1], [0.6, 0.4]], 10, axis=0)
    sums = reliability(p, np.repeat([0, 1, 0, 1], [8, 2, 7, 3]))
    assert expected_calibration_error(sums) == pytest.approx(0.1) == top_label_calibration_error(sums)


def test_it_is_top_label_calibration_with_equal_classes():
    """By loops; weighted by how often each class is predicted, these errors are at least that over all pixels."""
    probabilities, labels, _ = world(sharpness=1.5)
    answer, top = probabilities.argmax(1), probabilities.max(1)
    errors, weights = [], []
    for k in range(K):
        mine, whole = answer == k, 0.0
        for b in range(15):
            of = mine & (top >= b / 15) & (top < (b + 1) / 15 if b < 14 else top <= 1)
            whole += abs((labels[of] == k).sum() - top[of].sum())
        errors.append(whole / mine.sum())
        weights.append(mine.mean())
    assert top_label_calibration_error(reliability(probabilities, labels)) == pytest.approx(np.mean(errors))
    assert expected_calibration_error(reliability(probabilities, labels)) <= np.dot(weights, errors) + 1e-9


def test_the_likelihood_of_true_probabilities_is_their_entropy():
    p, labels, _ = world()
    mean = entropy(p).mean() * np.log(2)
    assert negative_log_likelihood(reliability(p, labels)) == pytest.approx(mean, rel=0.02)


def test_parts_add_up_and_void_is_left_out():
    p, labels, _ = world()
    whole = reliability(p, labels)
    parts = reliability(p[:70], labels[:70]) + reliability(p[70:], labels[70:])
    np.testing.assert_allclose(parts.table, whole.table)
    hidden = labels.copy()
    hidden[70:] = VOID
    np.testing.assert_allclose(reliability(p, hidden).table, reliability(p[:70], labels[:70]).table)


def test_shares_of_examples_add_up_and_their_interval_holds_zero():
    """Images of true probabilities: the error is 0 within what so few pixels tell, and merged shares are the whole."""
    p, labels, _ = world()
    p, labels, ids = p.reshape(200, 20, 50, K), labels.reshape(200, 20, 50), np.arange(200)
    whole = calibration(reliability_sums(p, labels, ids))
    parts = [reliability_sums(p[i::3], labels[i::3], ids[i::3]) for i in (2, 0, 1)]
    for one, other in zip(calibration(parts[0] + parts[1] + parts[2]), whole, strict=True):
        np.testing.assert_allclose(one[:3], other[:3], rtol=1e-9, atol=1e-12)
    sums = reliability(p, labels)
    assert whole.expected.value == pytest.approx(expected_calibration_error(sums)) and whole.expected.low < 0.002
    assert whole.top_label.value == pytest.approx(top_label_calibration_error(sums))
    nats = whole.negative_log_likelihood
    assert nats.value == pytest.approx(negative_log_likelihood(sums))
    assert nats.low < entropy(p).mean() * np.log(2) < nats.high


def test_samples_vote():
    samples = np.array([[[[0, 2]], [[1, 2]], [[1, 3]]]])
    np.testing.assert_array_equal(vote(samples, K), [[[1, 2]]])
    np.testing.assert_array_equal(vote(samples[:, 1:, :, 1:], K), [[[2]]])  # one vote each: the lower class
    np.testing.assert_allclose(frequencies(samples, K)[0, 0], [[1 / 3, 2 / 3, 0, 0], [0, 0, 2 / 3, 1 / 3]], rtol=1e-6)
