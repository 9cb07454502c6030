"""Readers label the images of an evaluation: a world's oracle where the data set has one, or any segmenter.

An oracle knows the pixel model of its world: it reads labels, scene parameters for Fréchet distances and what captions
ask for. Each image is read once, and everything else is computed from that reading.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gcdiff.data.captions import named_classes
from gcdiff.evaluation.agreement import Segmenter
from gcdiff.evaluation.segmentation import Score


class Reader(NamedTuple):
    """A reader of images uint8 (N, H, W, 3), as functions.

    read: images -> a reading, from which the following are computed
    labels: reading -> int (N, H, W), VOID where it sees no class
    parameters: (images, layouts, reading) -> float (N, D), each of a unit of its own; None for a mere segmenter
    scores: (reading, captions) -> scores by name; None where only classes can be looked for
    asked: captions -> bool (N, K), the classes that they name
    classes: bool (K,), those that captions name whenever they are there; the others are not counted
    truth: whether it is an oracle, which the model's segmentations can be compared with
    """

    name: str
    read: Callable[[np.ndarray], Any]
    labels: Callable[[Any], np.ndarray]
    parameters: Callable[[np.ndarray, np.ndarray, Any], np.ndarray] | None
    parameters_name: str
    scores: Callable[[Any, Sequence[str]], Mapping[str, Score]] | None
    asked: Callable[[Sequence[str]], np.ndarray]
    classes: np.ndarray
    truth: bool


def plain_reader(
    segmenter: Segmenter, names: Sequence[str], truth: bool = False, nouns: Sequence[str | None] = ()
) -> Reader:
    """The reader that a segmenter makes, without an oracle's scene parameters and scores.

    Captions are searched for the names of the classes, and for the `nouns` (K) that the data set's own captions use for
    them. A class whose noun is None is not counted.
    """

    def asked(captions: Sequence[str]) -> np.ndarray:
        return named_classes(captions, names, nouns)

    counted = np.array([noun is not None for noun in nouns or names])
    return Reader(segmenter.name, segmenter, lambda labels: labels, None, "", None, asked, counted, truth)
