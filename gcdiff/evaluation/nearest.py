"""Nearest neighbours of images and layouts in a data set of any size, which is kept in temporary files.

The distance of two images is the root mean square difference of their values, 0 to 255, and that of two layouts their
`disagreement`, both exact (`gcdiff.evaluation.distances`).

A distance to the training set says something beside that to held-out examples alone (Meehan et al., A Non-Parametric
Test to Detect Data-Copying in Generative Models, 2020): where pictures are plain or alike all distances are small.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable

import numpy as np

from gcdiff.data.dataset import Example
from gcdiff.evaluation.distances import disagreement, nearest, root_mean_square
from gcdiff.types import VOID, Pair

KINDS = Pair(np.uint8, np.int16)
"""The number types in which images and layouts, with VOID, are kept."""


class Neighbours:
    """A set of examples of one size, searched for the nearest image and the nearest layout.

    It lies in temporary files (below TMPDIR) that vanish with the process, with one byte for a value of an image and
    two for a pixel of a layout, so that a data set of any size takes no memory.
    """

    def __init__(self, examples: Iterable[Example]):
        files = Pair(tempfile.TemporaryFile(), tempfile.TemporaryFile())  # noqa: SIM115  the maps below keep them
        counts, shapes = [0, 0], [(), ()]
        for example in examples:
            there = example.has_image, bool((example.layout != VOID).any())
            for side in (0, 1):
                if there[side]:
                    values = (example.image, example.layout)[side].astype(KINDS[side])
                    files[side].write(values.tobytes())
                    counts[side], shapes[side] = counts[side] + 1, values.shape
        self.counts = Pair(*counts)
        self._sides = [
            np.memmap(file, kind, "r", shape=(count, *shape)) if count else np.zeros(0, kind)
            for file, kind, count, shape in zip(files, KINDS, counts, shapes, strict=True)
            if file.flush() is None
        ]

    def nearest(self, pair: Pair, own: np.ndarray | None = None) -> Pair:
        """The `Nearest` image and layout of each of N pairs, uint8 (N, H, W, C) and int (N, H, W).

        Examples are numbered in the order they were given. `own` int (N,) are the numbers of the pairs themselves among
        them, which are left out.
        """
        searched = zip(pair, self._sides, (root_mean_square, disagreement), strict=True)
        return Pair(*(nearest(queries, of, np.arange(len(of)), by, own) for queries, of, by in searched))

    def distances(self, pair: Pair, own: np.ndarray | None = None) -> Pair:
        """The distances float64 (N,) to the nearest image and the nearest layout; see `nearest`."""
        return Pair(*(side.distances for side in self.nearest(pair, own)))
