"""Scores of segmentations from one confusion matrix, and scores of any sums with intervals over examples.

For a confusion matrix n (true class, predicted class),

    IoU_k = n_kk / (sum_j n_kj + sum_j n_jk - n_kk)        mIoU = mean of IoU_k                                (1)

over the classes present on either side (Everingham et al., The Pascal Visual Object Classes Challenge, 2010). A
prediction that is no class ("unsure") has a column of its own: it is wrong, and counts in the union of the true class.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from gcdiff.evaluation.measure import jackknife_interval
from gcdiff.evaluation.ratios import Ratios
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
    union = class_unions(matrix)
    return np.where(union > 0, class_hits(matrix) / np.maximum(union, 1), np.nan)


def class_hits(matrices: np.ndarray) -> np.ndarray:
    """n_kk (..., K) of confusions (..., K, K + 1)."""
    return np.diagonal(matrices[..., :-1], axis1=-2, axis2=-1)


def class_unions(matrices: np.ndarray) -> np.ndarray:
    """The denominators (..., K) of IoU_k of equation (1), of confusions (..., K, K + 1)."""
    return matrices.sum(axis=-1) + matrices[..., :-1].sum(axis=-2) - class_hits(matrices)


mean_iou = Ratios(class_hits, class_unions)
"""mIoU of equation (1) for a confusion (K, K + 1); nan if no class is present."""

pixel_accuracy = Ratios(
    lambda matrices: class_hits(matrices).sum(axis=-1, keepdims=True),
    lambda matrices: matrices.sum(axis=(-2, -1))[..., None],
)
"""The share of right pixels for a confusion (K, K + 1); nan if it is empty."""


def score(values: np.ndarray, statistic: Callable[[np.ndarray], float], seed: int = 0) -> Score:
    """`statistic` of the sum of per-example values (N, ...), with its 95 % interval; nan for no examples.

    values: what the statistic takes the sum of: confusion matrices for `mean_iou`, counts of hits and misses for a
    rate. `Ratios` have their own interval; that of any other statistic is the jackknife's with one example left out at
    a time, nan where that leaves a sum without a statistic. `seed` is not used: the interval is not drawn.
    """
    values = np.asarray(values)
    if not len(values):
        return Score(float("nan"), float("nan"), float("nan"), 0)
    total = values.sum(axis=0)
    if isinstance(statistic, Ratios):
        low, high = statistic.interval(values)
    else:
        without = [statistic(total - one) for one in values] if len(values) > 1 else []
        low, high = jackknife_interval(statistic(total), np.array(without), np.ones(len(without)))
    return Score(float(statistic(total)), low, high, len(values))
