"""The embedded worlds by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from gcdiff.evaluation.agreement import NamedSegmenter
from gcdiff.evaluation.readers import Reader
from gcdiff.types import VOID
from gcdiff.worlds.cells.reader import cell_reader
from gcdiff.worlds.faces.reader import face_reader
from gcdiff.worlds.streets.reader import street_reader

WORLDS: Mapping[str, Callable[[], Reader]] = {"streets": street_reader, "faces": face_reader, "cells": cell_reader}
"""The oracles by the name of their data set."""


def oracle_segmenter(world: str) -> NamedSegmenter:
    """The oracle of a world, one of WORLDS, as a segmenter."""
    reader = WORLDS[world]()
    return NamedSegmenter(reader.name, lambda images: reader.labels(reader.read(images)))


class OracleFeatures:
    """The parameters that the oracle of an embedded world, one of `readers.WORLDS`, reads: of the image and its layout,
    or without one of the oracle's labels, where what no class explains is left out by taking the commonest."""

    size, resize, standardised = None, "none", True

    def __init__(self, world: str):
        self._reader = WORLDS[world]()
        self.name = self._reader.parameters_name

    def __call__(self, images: np.ndarray, layouts: np.ndarray | None = None) -> np.ndarray:
        reading = self._reader.read(images)
        if layouts is None:
            layouts = np.stack([_filled(labels) for labels in self._reader.labels(reading)])
        assert self._reader.parameters is not None, "every oracle has parameters"
        return self._reader.parameters(images, layouts, reading).astype(np.float32)


def _filled(labels: np.ndarray) -> np.ndarray:
    counts = np.bincount(labels[labels != VOID], minlength=1)
    return np.where(labels == VOID, counts.argmax(), labels)
