"""Distances between examples, and the nearest ones, in blocks: memory is bounded by the block, not by the data.

euclidean(a, b)             |a - b|                                                       features or pixels
root_mean_square(a, b)      |a - b| / sqrt(D), of D values                                pixels
disagreement(a, b)          the share of pixels, labelled in both, whose classes differ   layouts
iou_distance(a, b, k)       1 - mIoU                                                      layouts

Layouts with fewer than half of their pixels labelled in both are infinitely far by `disagreement`: a few pixels are
often equal by chance, and an example with no more would be the neighbour of most others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array

from gcdiff.evaluation.segmentation import confusion, mean_iou
from gcdiff.types import VOID

Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Examples (A, ...) and (B, ...) -> their distances float64 (A, B)."""

ELEMENTS = 2**22
"""What a block of examples holds at most: 32 MiB in float64."""


def euclidean(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of features (A, ...) and (B, ...), each taken as one vector; exactly 0 for equal ones."""
    return np.sqrt(_squares(a, b))


def root_mean_square(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The root of the mean over values of (a - b)^2, of examples (A, ...) and (B, ...); in their units."""
    return np.sqrt(_squares(a, b) / max(np.size(a[:1]), 1))


def _squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    whole = a.dtype == b.dtype == np.uint8  # then all sums are whole numbers below 2^53, and exact
    a, b = (np.asarray(x, np.float64).reshape(len(x), -1) for x in (a, b))
    scale = (a**2).sum(1)[:, None] + (b**2).sum(1)
    squares = scale - 2 * a @ b.T
    if not whole:
        # The difference of large numbers is good for choosing the near ones, which are then taken by subtraction.
        near = np.argwhere(squares < 1e-6 * (1e-300 + scale))
        for some in blocks(near, a.shape[1]):
            i, j = near[some].T
            squares[i, j] = ((a[i] - b[j]) ** 2).sum(1)
    return np.maximum(squares, 0)


def disagreement(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of layouts int (A, H, W) and (B, H, W) with VOID; inf where fewer than half the pixels are labelled in both."""
    a, b = (np.asarray(x, np.int16).reshape(len(x), -1) for x in (a, b))
    there = jax.device_put(b)
    counts = [np.asarray(jax.device_get(_differing(there, row)), np.float64) for row in a]
    wrong, labelled = np.stack(counts, axis=1) if counts else np.zeros((2, 0, len(b)))
    return np.where(2 * labelled >= a.shape[1], wrong / np.maximum(labelled, 1), np.inf)


@jax.jit
def _differing(layouts: Array, row: Array) -> tuple[Array, Array]:
    """How many pixels of layouts (B, P) and one (P,) are labelled in both and differ, and are labelled in both."""
    both = (layouts != VOID) & (row != VOID)
    return ((layouts != row) & both).sum(-1), both.sum(-1)


def iou_distance(a: np.ndarray, b: np.ndarray, num_classes: int) -> np.ndarray:
    """1 - mIoU of layouts int (A, H, W) and (B, H, W), over the classes present in either; pixels that are VOID in one
    of the two are left out, and it is 1 where that is all of them. Always finite, so that it has a mean: to look for
    copies among layouts with much VOID take `disagreement`."""
    found = np.ones((len(a), len(b)))
    for i, one in enumerate(a):
        for j, other in enumerate(b):
            told = (one != VOID) & (other != VOID)
            if told.any():
                found[i, j] = 1 - mean_iou(confusion(one[told], other[told], num_classes))
    return found


class Nearest(NamedTuple):
    """The nearest reference of each of N queries: its distance float64 (N,) and its id int64 (N,); inf and -1 where
    there is none.

    `+` is that of the same queries against another share of the references, exact in any order: of equally near ones
    the lowest id counts.
    """

    distances: np.ndarray
    ids: np.ndarray

    def __add__(self, other: Nearest) -> Nearest:  # type: ignore[override]
        closer = other.distances < self.distances
        closer |= (other.distances == self.distances) & (other.ids < self.ids)
        return Nearest(*(np.where(closer, theirs, ours) for ours, theirs in zip(self, other, strict=True)))


def nearest(
    queries: np.ndarray,
    references: np.ndarray,
    ids: np.ndarray,
    distance: Distance = euclidean,
    own: np.ndarray | None = None,
) -> Nearest:
    """Of queries (N, ...) among references (M, ...) with their ids int (M,), 0 or above; the references are read once,
    block by block, and may lie in a file (np.memmap).

    `own`, int (N,), are the queries' ids where they are references themselves: none is its own neighbour.
    """
    order, ids = np.argsort(ids), np.asarray(ids, np.int64)  # argmin takes the first of equals: that of the lowest id
    found = Nearest(np.full(len(queries), np.inf), np.full(len(queries), -1))
    for columns in blocks(references):
        there, numbers = references[order[columns]], ids[order[columns]]
        for rows in blocks(queries):
            away = distance(queries[rows], there)
            if own is not None:
                away = np.where(np.asarray(own)[rows, None] == numbers, np.inf, away)
            least = away.min(axis=1)
            new = Nearest(least, np.where(np.isinf(least), -1, numbers[away.argmin(axis=1)]))
            closest = Nearest(found.distances[rows], found.ids[rows]) + new
            found.distances[rows], found.ids[rows] = closest
    return found


def smallest(queries: np.ndarray, references: np.ndarray, k: int, distance: Distance = euclidean) -> np.ndarray:
    """The k smallest distances of queries (N, ...) to references (M, ...), M >= k, ascending: float64 (N, k)."""
    found = []
    for rows in blocks(queries):
        best = np.zeros((len(queries[rows]), 0))
        for columns in blocks(references):
            best = np.concatenate([best, distance(queries[rows], references[columns])], axis=1)
            best = np.partition(best, min(k, best.shape[1]) - 1, axis=1)[:, :k]
        found.append(np.sort(best, axis=1))
    return np.concatenate(found)


def blocks(examples: np.ndarray, size: int | None = None) -> list[slice]:
    """Slices of examples (N, ...) that hold ELEMENTS at most, at least one example and at most 2048; `size` is what an
    example takes if that is not its own number of values."""
    size = np.size(examples) // max(len(examples), 1) if size is None else size
    step = int(min(max(ELEMENTS // max(size, 1), 1), 2048))
    return [slice(i, i + step) for i in range(0, len(examples), step)]
