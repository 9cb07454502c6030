"""mIoU and pixel accuracy of predicted layouts against true ones, with confidence intervals over examples.

The agreement of images with their layouts is the mIoU (`gcdiff.evaluation.segmentation`, equation 1) of what a
segmenter predicts from the images, with the layouts taken as the truth. A segmenter errs on real pairs too: its
agreement there is the ceiling, and belongs beside the number of generated pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from gcdiff.evaluation.measure import Measure, Sums, grouped_sums
from gcdiff.evaluation.ratios import Ratios
from gcdiff.evaluation.segmentation import class_hits, class_unions, confusion, mean_iou, pixel_accuracy


class Segmenter(Protocol):
    """The protocol of a segmenter: images uint8 (N, H, W, 3) -> labels int (N, H, W).

    Pixels for which it predicts no class are VOID. `name` identifies it in conventions.
    """

    name: str

    def __call__(self, images: np.ndarray) -> np.ndarray: ...


class NamedSegmenter(NamedTuple):
    """A segmenter made of a name and any function of images, such as the model's own `segment`."""

    name: str
    function: Callable[[np.ndarray], np.ndarray]

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return np.asarray(self.function(images))


def confusion_sums(
    labels: np.ndarray, predictions: np.ndarray, ids: np.ndarray, num_classes: int, **convention: Any
) -> Sums:
    """The summed confusion matrices (K, K + 1) of true and predicted layouts int (N, H, W) with VOID.

    See `segmentation.confusion`. Raises ValueError where the shapes differ.
    """
    if labels.shape != predictions.shape:
        raise ValueError(f"predictions have shape {predictions.shape}, expected the labels' shape {labels.shape}")
    matrices = [confusion(*pair, num_classes) for pair in zip(labels, predictions, strict=True)]
    layout_convention = {
        "resolution": f"{labels.shape[1]}x{labels.shape[2]}",
        "void": "pixels void in the layout are left out",
    }
    empty = np.zeros((0, num_classes, num_classes + 1), int)
    return grouped_sums(ids, np.stack(matrices) if matrices else empty, {**convention, **layout_convention})


def agreement_sums(
    images: np.ndarray, layouts: np.ndarray, ids: np.ndarray, segmenter: Segmenter, num_classes: int
) -> Sums:
    """`confusion_sums` of layouts int (N, H, W) and a segmenter's predictions from images uint8 (N, H, W, 3)."""
    return confusion_sums(layouts, segmenter(images), ids, num_classes, segmenter=segmenter.name)


def miou(sums: Sums) -> Measure:
    """The mean IoU of the classes, from one confusion matrix of all examples.

    Classes absent from both sides are left out of the value, and count from 0 to 1 in the interval.
    """
    classes = "mean over those present on either side, of all examples at once; in the interval others are 0 to 1"
    return sums.measure(mean_iou, classes=classes)


def accuracy(sums: Sums) -> Measure:
    """The share of labelled pixels that are predicted correctly."""
    return sums.measure(pixel_accuracy)


def ious(sums: Sums, names: Sequence[str]) -> dict[str, Measure]:
    """The IoU of each class; nan for a class absent from truth and predictions."""
    return {
        name: sums.measure(Ratios(lambda m, k=k: class_hits(m)[..., [k]], lambda m, k=k: class_unions(m)[..., [k]]))
        for k, name in enumerate(names)
    }
