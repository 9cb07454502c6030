"""The oracle of any world as a segmenter and as an extractor of features, and scores that all worlds share."""

from __future__ import annotations

import numpy as np

from gcdiff.evaluation.agreement import NamedSegmenter
from gcdiff.evaluation.segmentation import Score, confusion, mean_iou, score
from gcdiff.evaluation.semantic import areas
from gcdiff.types import VOID
from gcdiff.worlds.table import WORLDS


def oracle_segmenter(world: str) -> NamedSegmenter:
    """The oracle of a world, by its name in WORLDS, as a segmenter.

    >>> from gcdiff.worlds.oracles import oracle_segmenter
    >>> oracle_segmenter("streets")(images).shape
    (2, 32, 64)
    """
    reader = WORLDS[world].oracle()
    return NamedSegmenter(reader.name, lambda images: reader.labels(reader.read(images)))


class OracleFeatures:
    """The parameters of scenes that the oracle of a world reads, by the world's name in WORLDS: float32 (N, D) of
    images uint8 (N, H, W, 3) and their layouts int (N, H, W). Where layouts are None they are the oracle's labels, and
    pixels that no class explains have the commonest of them. Raises ValueError for an oracle that reads none.

    >>> from gcdiff.worlds.oracles import OracleFeatures
    >>> features = OracleFeatures("streets")(images, layouts)
    >>> len(features), features.dtype
    (2, dtype('float32'))
    """

    size, resize, standardised = None, "none", True

    def __init__(self, world: str):
        self._reader = reader = WORLDS[world].oracle()
        if reader.parameters is None:
            raise ValueError(f"the oracle of {world} reads no parameters of scenes, expected a reader that has them")
        self.name, self._parameters = reader.parameters_name, reader.parameters

    def __call__(self, images: np.ndarray, layouts: np.ndarray | None = None) -> np.ndarray:
        reading = self._reader.read(images)
        if layouts is None:
            layouts = np.stack([_filled(labels) for labels in self._reader.labels(reading)])
        return self._parameters(images, layouts, reading).astype(np.float32)


def _filled(labels: np.ndarray) -> np.ndarray:
    """Labels int (H, W) with VOID replaced by the most frequent class."""
    counts = np.bincount(labels[labels != VOID], minlength=1)
    return np.where(labels == VOID, counts.argmax(), labels)


def label_agreement(labels: np.ndarray, layouts: np.ndarray, num_classes: int) -> Score:
    """The mIoU of an oracle's labels of N images with their layouts, both int (N, H, W), from one confusion matrix.

    Pixels that are void in the layout are left out, and labels that are void are wrong.
    """
    pairs = zip(layouts, labels, strict=True)
    return score(np.stack([confusion(*pair, num_classes) for pair in pairs]), mean_iou)


def class_shares(layouts: np.ndarray, num_classes: int) -> np.ndarray:
    """The share of each class among a layout's pixels, float64 (N, K), of layouts int (N, H, W) with VOID."""
    return areas(layouts, num_classes) / np.prod(layouts.shape[1:])
