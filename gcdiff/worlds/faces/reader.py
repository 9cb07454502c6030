"""The face world's oracle as a reader of images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gcdiff.evaluation.readers import Reader
from gcdiff.evaluation.segmentation import Score
from gcdiff.worlds.faces.appearance import ATTRIBUTES, LABELS
from gcdiff.worlds.faces.oracle import Oracle, Reading
from gcdiff.worlds.faces.scores import scores_of
from gcdiff.worlds.oracles import class_shares


def face_reader() -> Reader:
    """The face world's oracle. A face's parameters are the share of each class in the layout, and the attributes that
    the image shows; its captions name attributes and no classes."""

    def parameters(images: np.ndarray, layouts: np.ndarray, reading: Reading) -> np.ndarray:
        shares = class_shares(layouts, LABELS.num_classes)
        return np.concatenate([shares, reading.attributes], axis=1)

    def scores(reading: Reading, captions: Sequence[str]) -> dict[str, Score]:
        values = scores_of(reading.attributes, captions)._asdict()
        return {name: value for name, value in values.items() if isinstance(value, Score)}

    return Reader(
        "face world's oracle",
        Oracle().read,
        lambda reading: reading.labels,
        parameters,
        f"face world's oracle: {LABELS.num_classes} class shares and {len(ATTRIBUTES)} attributes",
        scores,
        lambda captions: np.zeros((len(captions), LABELS.num_classes), bool),
        np.zeros(LABELS.num_classes, bool),
        True,
    )
