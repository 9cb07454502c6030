"""Scores of segmentations from one confusion matrix, and bootstrap intervals over examples.

For a confusion matrix n (true class, predicted class),

    IoU_k = n_kk / (sum_j n_kj + sum_j n_jk - n_kk)        mIoU = mean of IoU_k                                (1)

over the classes present on either side (Everingham et al., The Pascal Visual Object Classes Challenge, 2010). A
prediction that is no class ("unsure") has a column of its own: it is wrong, and counts in the union of the true class.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from gcdiff.types import VOID


class Score(NamedTuple):
    """A number with its 95 % interval and number of examples; nan for none, and for the interval of one."""

    value: float
    low: float
    high: float
    examples: int


def confusion(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """How often class i was predicted as j: int64 (K, K + 1); the last column is "unsure or no class".

    labels and predictions are int arrays of one shape. Pixels whose label is VOID are left out; a prediction outside
    0..K-1 is no class. Raises ValueError for different shapes or a label that is neither VOID nor a class.
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if labels.shape != predictions.shape:
        raise ValueError(f"predictions have shape {predictions.shape}, expected the labels' shape {labels.shape}")
    known = labels != VOID
    labels, predictions = labels[known], predictions[known]
    wrong = labels[(labels < 0) | (labels >= num_classes)]
    if wrong.size:
        raise ValueError(f"label {wrong[0]} is no class, expected 0 to {num_classes - 1} or {VOID} for void")
    predictions = np.where((predictions < 0) | (predictions >= num_classes), num_classes, predictions)
    cells = np.bincount(labels * (num_classes + 1) + predictions, minlength=num_classes * (num_classes + 1))
    return cells.reshape(num_classes, num_classes + 1)


def class_ious(matrix: np.ndarray) -> np.ndarray:
    """IoU_k of equation (1) for a confusion (K, K + 1): float (K,), nan for a class absent from both sides."""
    classes = matrix[:, :-1]
    hits = np.diagonal(classes)
    union = matrix.sum(1) + classes.sum(0) - hits
    return np.where(union > 0, hits / np.maximum(union, 1), np.nan)


def mean_iou(matrix: np.ndarray) -> float:
    """mIoU of equation (1) for a confusion (K, K + 1); nan if no class is present."""
    ious = class_ious(matrix)
    present = ~np.isnan(ious)
    return float(ious[present].mean()) if present.any() else float("nan")


def pixel_accuracy(matrix: np.ndarray) -> float:
    """The share of right pixels for a confusion (K, K + 1); nan if it is empty."""
    total = matrix.sum()
    return float(np.trace(matrix[:, :-1]) / total) if total else float("nan")


def bootstrap_interval(
    values: np.ndarray, statistic: Callable[[np.ndarray], float], seed: int, samples: int = 1000
) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of `statistic` over examples.

    values (N, ...) are per-example quantities whose *sum* is what the statistic takes: confusion matrices for
    `mean_iou`, counts of hits and misses for a rate. Examples are drawn N at a time with replacement
    (Efron, Bootstrap Methods, 1979). Samples whose statistic is nan are left out; (nan, nan) where all are, and
    for a single example, which says nothing of others. Raises ValueError for no examples.
    """
    values = np.asarray(values)
    if not len(values):
        raise ValueError("a bootstrap interval of 0 examples was asked for, expected 1 or more")
    if len(values) == 1:
        return float("nan"), float("nan")
    counts = np.random.default_rng(seed).multinomial(len(values), np.full(len(values), 1 / len(values)), samples)
    sums = np.tensordot(counts, values, 1)
    statistics = np.array([statistic(total) for total in sums])
    if np.isnan(statistics).all():
        return float("nan"), float("nan")
    low, high = np.nanpercentile(statistics, [2.5, 97.5])
    return float(low), float(high)


def score(values: np.ndarray, statistic: Callable[[np.ndarray], float], seed: int) -> Score:
    """`statistic` of the sum of per-example values (N, ...), with its `bootstrap_interval`; nan for no examples."""
    if not len(values):
        return Score(float("nan"), float("nan"), float("nan"), 0)
    return Score(float(statistic(np.sum(values, 0))), *bootstrap_interval(values, statistic, seed), len(values))
