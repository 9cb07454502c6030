"""Who reads images when a model is measured: a world's oracle where the data set has one, or any segmenter.

An oracle knows the pixel model of its world: it reads labels, scene parameters for Fréchet distances and what captions
ask for. It reads an image once; all that is made of it is made of that reading.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gcdiff.data.captions import named_classes
from gcdiff.evaluation.agreement import NamedSegmenter, Segmenter
from gcdiff.evaluation.segmentation import Score
from gcdiff.evaluation.semantic import areas


class Reader(NamedTuple):
    """What a reader sees in images uint8 (N, H, W, 3).

    read: images -> a reading, of which are made
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
    """A segmenter alone; captions are searched for the names of the classes, and for the `nouns` (K) by which the data
    set's own captions call them. A class whose noun is None is not counted."""

    def asked(captions: Sequence[str]) -> np.ndarray:
        return named_classes(captions, names, nouns)

    told = np.array([noun is not None for noun in nouns or names])
    return Reader(segmenter.name, segmenter, lambda labels: labels, None, "", None, asked, told, truth)


def street_reader() -> Reader:
    """The street world's oracle."""
    from gcdiff.data.synthetic.streets_appearance import LABELS, OPTIONAL
    from gcdiff.data.synthetic.streets_captions import parse_caption
    from gcdiff.data.synthetic.streets_oracle import Oracle
    from gcdiff.evaluation.street_parameters import PARAMETERS, scene_parameters
    from gcdiff.evaluation.streets import scores_of

    def asked(captions: Sequence[str]) -> np.ndarray:
        named = [parse_caption(caption).classes for caption in captions]
        return np.array([[name in classes for name in LABELS.names] for classes in named])

    return Reader(
        "street world's oracle",
        Oracle().read,
        lambda reading: reading.labels,
        scene_parameters,
        f"street world's oracle: {len(PARAMETERS)} scene parameters",
        lambda reading, captions: scores_of(reading, captions)._asdict(),
        asked,
        np.isin(LABELS.names, OPTIONAL),
        True,
    )


def face_reader() -> Reader:
    """The face world's oracle. A face's parameters are the share of each class in the layout, and the attributes that
    the image shows; its captions name attributes and no classes."""
    from gcdiff.data.synthetic.faces_appearance import ATTRIBUTES, LABELS
    from gcdiff.data.synthetic.faces_oracle import Oracle, Reading
    from gcdiff.evaluation.faces import scores_of

    def parameters(images: np.ndarray, layouts: np.ndarray, reading: Reading) -> np.ndarray:
        shares = areas(layouts, LABELS.num_classes) / np.prod(layouts.shape[1:])
        return np.concatenate([shares, reading.attributes], axis=1)

    def scores(reading: Reading, captions: Sequence[str]) -> dict[str, Score]:
        found = scores_of(reading.attributes, captions)._asdict()
        return {name: value for name, value in found.items() if isinstance(value, Score)}

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


class CellReading(NamedTuple):
    """The oracle's labels int32 (N, H, W), and what each of N images shows."""

    labels: np.ndarray
    shown: Sequence[Any]


def cell_reader() -> Reader:
    """The oracle of the world of cells. A micrograph's parameters are the share of each class in the layout, what the
    image shows, as yes and no, and the image's mean grey; its captions name no classes."""
    from gcdiff.data.synthetic.cells_appearance import LABELS, STAINS
    from gcdiff.data.synthetic.cells_attributes import attributes_of, read_twice
    from gcdiff.data.synthetic.cells_scene import COUNTS, SIZES
    from gcdiff.evaluation.cells import scores_of

    def read(images: np.ndarray) -> CellReading:
        reading, smooth = read_twice(images)
        return CellReading(reading.labels, attributes_of(reading, smooth))

    def parameters(images: np.ndarray, layouts: np.ndarray, reading: CellReading) -> np.ndarray:
        shares = areas(layouts, LABELS.num_classes) / np.prod(layouts.shape[1:])
        facts = [
            [*(s.count == count for count in COUNTS), s.size == SIZES[1], s.stain == STAINS[1], bool(s.dividing)]
            for s in reading.shown
        ]
        return np.concatenate([shares, np.array(facts, float), images.mean(axis=(1, 2, 3))[:, None] / 255], axis=1)

    def scores(reading: CellReading, captions: Sequence[str]) -> dict[str, Score]:
        found = scores_of(reading.shown, captions)._asdict()
        every = found.pop("all")
        whole = {"f1": every.f1, "f1_shuffled": every.shuffled, "precision": every.precision, "recall": every.recall}
        return whole | {name: of.f1 for name, of in found.items()}

    nothing = np.zeros(LABELS.num_classes, bool)
    return Reader(
        "oracle of the world of cells",
        read,
        lambda reading: reading.labels,
        parameters,
        f"oracle of the world of cells: {LABELS.num_classes} class shares, 7 facts, the mean grey",
        scores,
        lambda captions: np.zeros((len(captions), LABELS.num_classes), bool),
        nothing,
        True,
    )


WORLDS: Mapping[str, Callable[[], Reader]] = {"streets": street_reader, "faces": face_reader, "cells": cell_reader}
"""The oracles by the name of their data set."""


def oracle_segmenter(world: str) -> NamedSegmenter:
    """The oracle of a world, one of WORLDS, as a segmenter."""
    reader = WORLDS[world]()
    return NamedSegmenter(reader.name, lambda images: reader.labels(reader.read(images)))
