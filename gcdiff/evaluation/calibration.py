"""Calibration errors, negative log-likelihood, entropy and majority votes of class probabilities.

Void pixels are left out of every number. A `Reliability` is a sum over pixels: `+` joins those of disjoint batches.

The calibration errors are sums of absolute values |g| of gaps between accuracy and confidence, each with a standard
error s over groups of examples, and lie above the truth: for a normal gap of mean d

    E|g| = s sqrt(2 / pi) exp(-d^2 / 2 s^2) + d (1 - 2 Phi(-d / s)) >= |d|                                        (1)

The low end of their intervals is the jackknife's less the sum of E|g| - |d| at |d| = max(|g| - 2 s, 0), where the bias
is no smaller than at the truth in 97 of 100 cases. The value itself is not corrected.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

from gcdiff.evaluation.measure import GROUPS, Measure, Sums, grouped_sums
from gcdiff.types import VOID

BINS = 15
LEAST_PROBABILITY = float(np.finfo(np.float32).tiny)
"""The smallest probability of float32, 1.2e-38 or 87.3 nats. One below it counts as this one: the likelihood of what is
said to be impossible is not finite."""
EXPECTED_INTERVAL = f"95 %, delete-a-group jackknife over {GROUPS} groups of examples, less the largest bias"
TOP_LABEL_INTERVAL = "not of 95 %: the same jackknife and bias; classes that are rarely predicted move the number more"
"""Of the error of predicted classes, each of which weighs the same, though it may be predicted in one example alone."""


class Reliability(NamedTuple):
    """Sums over labelled pixels, from which calibration errors are computed.

    table: (K, BINS, 3), the number of pixels, of correct predictions, and the summed confidence, by predicted (most
    probable) class and bin of its probability. nats: the summed -log probability of the true label, at
    most 87.3 for a pixel (`LEAST_PROBABILITY`).
    """

    table: np.ndarray
    nats: float

    def __add__(self, other: Reliability) -> Reliability:  # type: ignore[override]
        return Reliability(self.table + other.table, self.nats + other.nats)


def reliability(probabilities: np.ndarray, labels: np.ndarray) -> Reliability:
    """The reliability of probabilities float (..., K), which sum to 1, for labels int (...) with VOID."""
    k = probabilities.shape[-1]
    labelled = labels != VOID
    p, y = np.asarray(probabilities, np.float64)[labelled], labels[labelled]
    confidence, prediction = p.max(axis=-1), p.argmax(axis=-1)
    cell = prediction * BINS + np.minimum((confidence * BINS).astype(int), BINS - 1)
    columns = [np.bincount(cell, weights, k * BINS) for weights in (None, prediction == y, confidence)]
    likelihood = np.take_along_axis(p, y[:, None], axis=-1)[:, 0]
    nats = float(-np.log(np.maximum(likelihood, LEAST_PROBABILITY)).sum())
    return Reliability(np.stack(columns, axis=-1).reshape(k, BINS, 3).astype(np.float64), nats)


class Calibration(NamedTuple):
    """Calibration errors as shares of 1, and the negative log-likelihood in nats per labelled pixel."""

    expected: Measure
    top_label: Measure
    negative_log_likelihood: Measure


def reliability_sums(probabilities: np.ndarray, labels: np.ndarray, ids: np.ndarray) -> Sums:
    """The summed `reliability` of N examples, probabilities (N, H, W, K) and labels (N, H, W), for `calibration`."""
    examples = [reliability(*pair) for pair in zip(probabilities, labels, strict=True)]
    size = probabilities.shape[-1] * BINS * 3 + 1
    rows = np.array([[*one.table.ravel(), one.nats] for one in examples]).reshape(-1, size)
    resolution = f"{labels.shape[1]}x{labels.shape[2]}"
    return grouped_sums(ids, rows, {"resolution": resolution, "void": "void pixels are left out", "bins": BINS})


def calibration(sums: Sums) -> Calibration:
    """The calibration errors and the negative log-likelihood of `reliability_sums`, with intervals over examples."""
    tables = sums.sums[sums.counts > 0, :-1].reshape(np.count_nonzero(sums.counts), -1, BINS, 3)

    def measure(statistic: Callable[[Reliability], float], high: float) -> Measure:
        return sums.measure(lambda total: statistic(_reliability(total)), (0.0, high))

    def error(statistic: Callable[[Reliability], float], bias: float, interval: str) -> Measure:
        measured = measure(statistic, 1.0)
        convention = {**measured.convention, "interval": interval}
        return measured._replace(low=float(np.maximum(measured.low - bias, 0.0)), convention=convention)

    return Calibration(
        error(expected_calibration_error, _bias(tables.sum(axis=1, keepdims=True)), EXPECTED_INTERVAL),
        error(top_label_calibration_error, _bias(tables), TOP_LABEL_INTERVAL),
        measure(negative_log_likelihood, np.inf),
    )


def _bias(tables: np.ndarray) -> float:
    """The bound of equation (1) on the bias of the mean over classes of `_error`, of tables (J, K, BINS, 3)."""
    pixels = tables[..., 0].sum(axis=(0, 2))
    tables, pixels = tables[:, pixels > 0], pixels[pixels > 0]
    if len(tables) < 2 or not len(pixels):
        return float("nan")
    gaps = (tables[..., 1] - tables[..., 2]) / pixels[:, None]  # (J, K, BINS)
    sizes = tables[..., 0].sum(axis=2, keepdims=True) / pixels[:, None]
    gap = gaps.sum(axis=0)
    held = (sizes > 0).sum(axis=0)  # by how many groups; where by one alone, its gaps are all that tells of chance
    residuals = gaps - np.where(held > 1, gap * sizes, 0)
    s = np.maximum(np.sqrt(held / np.maximum(held - 1, 1) * (residuals**2).sum(axis=0)), 1e-30)
    d = np.maximum(np.abs(gap) - 2 * s, 0)
    return float((s * np.sqrt(2 / np.pi) * np.exp(-((d / s) ** 2) / 2) - 2 * d * ndtr(-d / s)).sum() / len(pixels))


def _reliability(total: np.ndarray) -> Reliability:
    return Reliability(total[:-1].reshape(-1, BINS, 3), float(total[-1]))


def expected_calibration_error(sums: Reliability) -> float:
    """The mean over pixels of |accuracy - confidence| in the pixel's bin, of BINS equal bins (Guo et al. 2017)."""
    return float(_error(sums.table.sum(axis=0)))


def top_label_calibration_error(sums: Reliability) -> float:
    """The calibration error of the pixels of each predicted class k, averaged over the classes:

        sum over bins b of n_kb / n_k |accuracy_kb - confidence_kb|

    for the n_kb pixels whose most probable class is k with a probability in bin b. This is top-label calibration (Gupta
    and Ramdas 2022), where the classes are weighted by n_k; here a rare class weighs as much as a common one. Classes
    that are never predicted are left out. (Class-wise calibration, Kull et al. 2019, bins p_k of all pixels instead.)
    """
    errors = [_error(table) for table in sums.table if table[:, 0].sum() > 0]
    return float(np.mean(errors)) if errors else float("nan")


def _error(table: np.ndarray) -> float:
    pixels = table[:, 0].sum()
    return np.abs(table[:, 1] - table[:, 2]).sum() / pixels if pixels else float("nan")


def negative_log_likelihood(sums: Reliability) -> float:
    """The negative log-likelihood of the labels under the marginals of the pixels, in nats per labelled pixel,
    at most 87.3 for a pixel (`LEAST_PROBABILITY`)."""
    pixels = sums.table[..., 0].sum()
    return sums.nats / pixels if pixels else float("nan")


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """The entropy of each pixel's class, in bits: float32 (...) for probabilities (..., K)."""
    p = np.asarray(probabilities, np.float32)
    return -(p * np.log2(np.maximum(p, 1e-30))).sum(axis=-1)


def frequencies(samples: np.ndarray, num_classes: int) -> np.ndarray:
    """The relative frequency of each class among samples int (N, S, H, W): float32 (N, H, W, K)."""
    counts = [(samples == k).mean(axis=1) for k in range(num_classes)]
    return np.stack(counts, axis=-1).astype(np.float32)


def vote(samples: np.ndarray, num_classes: int) -> np.ndarray:
    """The most frequent class among samples int (N, S, H, W): int32 (N, H, W); the lowest class number wins a tie."""
    return frequencies(samples, num_classes).argmax(axis=-1).astype(np.int32)
