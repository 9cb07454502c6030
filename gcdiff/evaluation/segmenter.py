"""The numbers of a segmenter on labelled examples: scores, calibration, likelihood."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from gcdiff.evaluation.calibration import (
    expected_calibration_error,
    negative_log_likelihood,
    reliability,
    top_label_calibration_error,
)
from gcdiff.evaluation.segmentation import class_ious, confusion, mean_iou, pixel_accuracy, score
from gcdiff.pictures import void_left_out
from gcdiff.types import LabelSpec


def segmentation(pairs: Iterable[tuple[np.ndarray, np.ndarray]], spec: LabelSpec) -> dict:
    """Score (probabilities float (H, W, K), labels int (H, W) with VOID) of each example, one by one.

    mIoU and pixel accuracy are `Score`s with intervals over examples; calibration errors are shares of 1, the negative
    log-likelihood is in nats per labelled pixel. Void pixels are left out of all, whether void is missing or a class.
    """
    each, sums, names = [], None, spec.labelled.names
    for p, layout in pairs:
        labels = void_left_out(layout, spec)
        each.append(confusion(labels, p.argmax(axis=-1), len(names)))
        one = reliability(p, labels)
        sums = one if sums is None else sums + one
    if sums is None:
        raise ValueError("there are no examples to measure on, expected at least one")
    matrices = np.stack(each)
    return {
        "miou": score(matrices, mean_iou),
        "pixel_accuracy": score(matrices, pixel_accuracy),
        "iou": dict(zip(names, class_ious(matrices.sum(axis=0)).round(4).tolist(), strict=True)),
        "calibration_error": expected_calibration_error(sums),
        "top_label_calibration_error": top_label_calibration_error(sums),
        "negative_log_likelihood": negative_log_likelihood(sums),
    }
