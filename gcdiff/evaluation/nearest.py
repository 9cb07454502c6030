"""The nearest neighbours of images and of layouts, in blocks: memory is bounded by the block, not by the data.

The distance of two images is the root mean square difference of their values, 0 to 255:

    d(x, x')^2 = mean over pixels and channels of (x - x')^2                                                    (1)

and that of two layouts the share of the pixels labelled on both sides that differ, where at least half are labelled
on both; others are no neighbours. Both are exact: integers below 2^53 are added up in float64.

A distance to the training set says something beside that to held-out examples alone (Meehan et al., A Non-Parametric
Test to Detect Data-Copying in Generative Models, 2020): where pictures are plain or alike all distances are small.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array

from gcdiff.data.dataset import Example
from gcdiff.types import VOID, Pair

BLOCK_BYTES = 2**26
"""How much is compared at a time, as float64."""
NONE = np.uint8(255)
"""Void in stored layouts: VOID in 8 bits."""


class Nearest(NamedTuple):
    """The nearest neighbour of each of N queries: its distance float64 (N,) and its number int (N,); inf and -1 where
    there is none."""

    distance: np.ndarray
    index: np.ndarray


def nearest_images(queries: np.ndarray, blocks: Iterable[np.ndarray], own: np.ndarray | None = None) -> Nearest:
    """Equation (1): queries uint8 (N, h, w, C), blocks uint8 (B, h, w, C), numbered through. `own` int (N,) are the
    numbers of the queries themselves among them, which are left out."""
    x = queries.reshape(len(queries), -1).astype(np.float64)
    found, first = _nothing(len(x)), 0
    for block in blocks:
        y = block.reshape(len(block), -1).astype(np.float64)
        squares = (x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * (x @ y.T)
        found, first = _closer(found, np.sqrt(squares / x.shape[1]), first, own), first + len(block)
    return found


def nearest_layouts(queries: np.ndarray, blocks: Iterable[np.ndarray], own: np.ndarray | None = None) -> Nearest:
    """Shares of differing pixels: queries int (N, H, W) with VOID, blocks uint8 (B, H, W) with void as NONE; `own` as
    for images."""
    y = queries.reshape(len(queries), -1).astype(np.uint8)
    found, first = _nothing(len(y)), 0
    for block in blocks:
        flat = jax.device_put(block.reshape(len(block), -1))
        counts = [np.asarray(jax.device_get(_differing(flat, row)), np.float64) for row in y]
        wrong, labelled = np.stack(counts, axis=1) if counts else np.zeros((2, 0, len(block)))
        share = np.where(2 * labelled >= y.shape[1], wrong / np.maximum(labelled, 1), np.inf)
        found, first = _closer(found, share, first, own), first + len(block)
    return found


@jax.jit
def _differing(block: Array, row: Array) -> tuple[Array, Array]:
    both = (block != NONE) & (row != NONE)
    return ((block != row) & both).sum(-1), both.sum(-1)


def _nothing(num: int) -> Nearest:
    return Nearest(np.full(num, np.inf), np.full(num, -1))


def _closer(found: Nearest, distances: np.ndarray, first: int, own: np.ndarray | None) -> Nearest:
    """What is nearer: that which was found, or one of a block (N, B) whose numbers begin at `first`."""
    if own is not None:
        distances = np.where(np.arange(first, first + distances.shape[1]) == own[:, None], np.inf, distances)
    best = distances.argmin(axis=1)
    here = distances[np.arange(len(best)), best]
    nearer = here < found.distance
    return Nearest(np.where(nearer, here, found.distance), np.where(nearer, first + best, found.index))


class Neighbours:
    """Examples of one size to look among, kept in temporary files (below TMPDIR) that vanish with the process: a byte a
    value, so that a data set of any size takes no memory."""

    def __init__(self, examples: Iterable[Example]):
        files = Pair(tempfile.TemporaryFile(), tempfile.TemporaryFile())  # noqa: SIM115  the maps below keep them
        counts, shapes = [0, 0], [(), ()]
        for example in examples:
            sides = example.image, example.layout.astype(np.uint8)
            there = example.has_image, bool((example.layout != VOID).any())
            for side in (0, 1):
                if there[side]:
                    files[side].write(sides[side].tobytes())
                    counts[side], shapes[side] = counts[side] + 1, sides[side].shape
        self.counts = Pair(*counts)
        self._arrays = [
            np.memmap(file, np.uint8, "r", shape=(count, *shape)) if count else None
            for file, count, shape in zip(files, counts, shapes, strict=True)
            if file.flush() is None
        ]

    def images(self) -> Iterator[np.ndarray]:
        return _blocks(self._arrays[0])

    def layouts(self) -> Iterator[np.ndarray]:
        return _blocks(self._arrays[1])

    def distances(self, pair: Pair, own: np.ndarray | None = None) -> Pair:
        """The distances float64 (N,) to the nearest image and to the nearest layout of N pairs; `own` as in
        `nearest_images`."""
        images = nearest_images(pair.image, self.images(), own).distance
        return Pair(images, nearest_layouts(pair.layout, self.layouts(), own).distance)


def _blocks(array: np.ndarray | None) -> Iterator[np.ndarray]:
    if array is not None:
        rows = max(1, BLOCK_BYTES // (8 * array[0].size))
        for first in range(0, len(array), rows):
            yield np.asarray(array[first : first + rows])
