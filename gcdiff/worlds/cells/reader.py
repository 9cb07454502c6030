"""The cell world's oracle as a reader of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gcdiff.evaluation.readers import Reader
from gcdiff.evaluation.segmentation import Score
from gcdiff.worlds.cells.appearance import LABELS, STAINS
from gcdiff.worlds.cells.attributes import attributes_of, read_twice
from gcdiff.worlds.cells.scene import COUNTS, SIZES
from gcdiff.worlds.cells.scores import scores_of
from gcdiff.worlds.oracles import class_shares


class CellReading(NamedTuple):
    """The oracle's labels int32 (N, H, W), and what each of N images shows."""

    labels: np.ndarray
    shown: Sequence[Any]


def cell_reader() -> Reader:
    """The oracle of the world of cells. A micrograph's parameters are the share of each class in the layout, what the
    image shows, as yes and no, and the image's mean grey; its captions name no classes."""

    def read(images: np.ndarray) -> CellReading:
        reading, smooth = read_twice(images)
        return CellReading(reading.labels, attributes_of(reading, smooth))

    def parameters(images: np.ndarray, layouts: np.ndarray, reading: CellReading) -> np.ndarray:
        shares = class_shares(layouts, LABELS.num_classes)
        facts = [
            [*(s.count == count for count in COUNTS), s.size == SIZES[1], s.stain == STAINS[1], bool(s.dividing)]
            for s in reading.shown
        ]
        return np.concatenate([shares, np.array(facts, float), images.mean(axis=(1, 2, 3))[:, None] / 255], axis=1)

    def scores(reading: CellReading, captions: Sequence[str]) -> dict[str, Score]:
        parts = scores_of(reading.shown, captions)._asdict()
        every = parts.pop("all")
        whole = {"f1": every.f1, "f1_shuffled": every.shuffled, "precision": every.precision, "recall": every.recall}
        return whole | {name: part.f1 for name, part in parts.items()}

    return Reader(
        "oracle of the world of cells",
        read,
        lambda reading: reading.labels,
        parameters,
        f"oracle of the world of cells: {LABELS.num_classes} class shares, 7 facts, the mean grey",
        scores,
        lambda captions: np.zeros((len(captions), LABELS.num_classes), bool),
        np.zeros(LABELS.num_classes, bool),
        True,
    )
