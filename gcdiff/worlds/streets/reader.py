"""The street world's oracle as a reader of images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gcdiff.evaluation.readers import Reader
from gcdiff.worlds.streets.appearance import LABELS, OPTIONAL
from gcdiff.worlds.streets.captions import parse_caption
from gcdiff.worlds.streets.oracle import Oracle
from gcdiff.worlds.streets.scores import PARAMETERS, scene_parameters, scores_of


def street_reader() -> Reader:
    """The street world's oracle."""

    def named(captions: Sequence[str]) -> np.ndarray:
        parsed = [parse_caption(caption).classes for caption in captions]
        return np.array([[name in classes for name in LABELS.names] for classes in parsed])

    return Reader(
        "street world's oracle",
        Oracle().read,
        lambda reading: reading.labels,
        scene_parameters,
        f"street world's oracle: {len(PARAMETERS)} scene parameters",
        lambda reading, captions: scores_of(reading, captions)._asdict(),
        named,
        np.isin(LABELS.names, OPTIONAL),
        True,
    )
