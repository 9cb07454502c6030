"""Whether class probabilities mean what they say: calibration, likelihood, entropy, votes.

Void pixels are left out of every number. A `Reliability` is a sum over pixels: those of two batches add up, and `+` of
all of them is that of the data set.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from gcdiff.evaluation.measure import Measure, Sums, summed
from gcdiff.types import VOID

BINS = 15


class Reliability(NamedTuple):
    """Sums over labelled pixels, from which calibration is read.

    table: (K, BINS, 3) pixels, right answers and summed confidence, by the most probable class and its probability;
    nats: the summed -log probability of the label.
    """

    table: np.ndarray
    nats: float

    def __add__(self, other: Reliability) -> Reliability:  # type: ignore[override]
        return Reliability(self.table + other.table, self.nats + other.nats)


def reliability(probabilities: np.ndarray, labels: np.ndarray) -> Reliability:
    """From probabilities float (..., K) that sum to 1 and labels int (...) with VOID."""
    k = probabilities.shape[-1]
    told = labels != VOID
    p, y = np.asarray(probabilities, np.float64)[told], labels[told]
    confidence, answer = p.max(axis=-1), p.argmax(axis=-1)
    cell = answer * BINS + np.minimum((confidence * BINS).astype(int), BINS - 1)
    parts = [np.bincount(cell, weights, k * BINS) for weights in (None, answer == y, confidence)]
    own = np.take_along_axis(p, y[:, None], axis=-1)[:, 0]
    nats = float(-np.log(np.maximum(own, 1e-12)).sum())
    return Reliability(np.stack(parts, axis=-1).reshape(k, BINS, 3).astype(np.float64), nats)


class Calibration(NamedTuple):
    """Calibration errors as shares of 1, and the negative log-likelihood in nats per labelled pixel."""

    expected: Measure
    top_label: Measure
    negative_log_likelihood: Measure


def reliability_sums(probabilities: np.ndarray, labels: np.ndarray, ids: np.ndarray) -> Sums:
    """The `reliability` of each of N examples, (N, H, W, K) and (N, H, W), with their ids, for `calibration`."""
    each = [reliability(*pair) for pair in zip(probabilities, labels, strict=True)]
    size = probabilities.shape[-1] * BINS * 3 + 1
    rows = np.array([[*one.table.ravel(), one.nats] for one in each]).reshape(-1, size)
    told = {"resolution": f"{labels.shape[1]}x{labels.shape[2]}", "void": "void pixels are left out", "bins": BINS}
    return summed(ids, rows, told)


def calibration(sums: Sums) -> Calibration:
    """The numbers below, of `reliability_sums`, with intervals over examples."""

    def measured(statistic: Callable[[Reliability], float], high: float) -> Measure:
        return sums.measure(lambda total: statistic(_reliability(total)), (0.0, high))

    return Calibration(
        measured(expected_calibration_error, 1.0),
        measured(top_label_calibration_error, 1.0),
        measured(negative_log_likelihood, np.inf),
    )


def _reliability(total: np.ndarray) -> Reliability:
    return Reliability(total[:-1].reshape(-1, BINS, 3), float(total[-1]))


def expected_calibration_error(sums: Reliability) -> float:
    """The mean over pixels of |accuracy - confidence| of a pixel's bin (Guo et al. 2017), 15 bins of equal width."""
    return float(_error(sums.table.sum(axis=0)))


def top_label_calibration_error(sums: Reliability) -> float:
    """The mean over predicted classes k of the error given that k is predicted,

        sum over bins b of n_kb / n_k |accuracy_kb - confidence_kb|

    of the n_kb pixels whose most probable class is k with a probability in bin b. This is top-label calibration (Gupta
    and Ramdas 2022), where the classes are weighted by n_k; here a rare class weighs as much as a common one. Classes
    that are never predicted are left out. (Class-wise calibration, Kull et al. 2019, bins p_k of all pixels instead.)
    """
    errors = [_error(table) for table in sums.table if table[:, 0].sum() > 0]
    return float(np.mean(errors)) if errors else float("nan")


def _error(table: np.ndarray) -> float:
    pixels = table[:, 0].sum()
    return np.abs(table[:, 1] - table[:, 2]).sum() / pixels if pixels else float("nan")


def negative_log_likelihood(sums: Reliability) -> float:
    """Nats per labelled pixel of the labels under the pixels' marginals."""
    pixels = sums.table[..., 0].sum()
    return sums.nats / pixels if pixels else float("nan")


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """The entropy of each pixel's class, in bits: float32 (...) for probabilities (..., K)."""
    p = np.asarray(probabilities, np.float32)
    return -(p * np.log2(np.maximum(p, 1e-30))).sum(axis=-1)


def frequencies(samples: np.ndarray, num_classes: int) -> np.ndarray:
    """How often each class was drawn: float32 (N, H, W, K) from samples int (N, S, H, W)."""
    counts = [(samples == k).mean(axis=1) for k in range(num_classes)]
    return np.stack(counts, axis=-1).astype(np.float32)


def vote(samples: np.ndarray, num_classes: int) -> np.ndarray:
    """The class drawn most often, int32 (N, H, W), from samples int (N, S, H, W); the lowest of equals."""
    return frequencies(samples, num_classes).argmax(axis=-1).astype(np.int32)
