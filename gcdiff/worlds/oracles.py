"""The oracle of any world as a segmenter and as an extractor of features, for metrics that take one."""

from __future__ import annotations

import numpy as np

from gcdiff.evaluation.agreement import NamedSegmenter
from gcdiff.types import VOID
from gcdiff.worlds.table import WORLDS


def oracle_segmenter(world: str) -> NamedSegmenter:
    """The oracle of a world, by its name in WORLDS, as a segmenter."""
    reader = WORLDS[world].oracle()
    return NamedSegmenter(reader.name, lambda images: reader.labels(reader.read(images)))


class OracleFeatures:
    """The parameters of scenes that the oracle of a world reads, by the world's name in WORLDS: float32 (N, D) of
    images uint8 (N, H, W, 3) and their layouts int (N, H, W). Where layouts are None they are the oracle's labels, and
    pixels that no class explains have the commonest of them. Raises ValueError for an oracle that reads none."""

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
    """Labels int (H, W) with the commonest in the place of VOID."""
    counts = np.bincount(labels[labels != VOID], minlength=1)
    return np.where(labels == VOID, counts.argmax(), labels)
