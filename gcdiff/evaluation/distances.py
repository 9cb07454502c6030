"""Distances between examples, in blocks of bounded size: features, pixels, layouts.

euclidean(a, b)             |a - b|                                                       features or pixels
disagreement(a, b)          the share of pixels, labelled in both, whose classes differ   layouts
iou_distance(a, b, k)       1 - mIoU                                                      layouts
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from gcdiff.evaluation.segmentation import confusion, mean_iou
from gcdiff.types import VOID

Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Examples (A, ...) and (B, ...) -> their distances float64 (A, B)."""

ELEMENTS = 2**22
"""What a block of examples holds at most: 32 MiB in float64."""


def euclidean(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of features (A, ...) and (B, ...), each taken as one vector; exactly 0 for equal ones."""
    a, b = (np.asarray(x, np.float64).reshape(len(x), -1) for x in (a, b))
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    # The difference of large numbers is good for choosing the near ones, which are then taken by subtraction.
    near = np.argwhere(squares < 1e-6 * (1e-300 + (a**2).sum(1)[:, None] + (b**2).sum(1)))
    for i, j in near:
        squares[i, j] = ((a[i] - b[j]) ** 2).sum()
    return np.sqrt(np.maximum(squares, 0))


def disagreement(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of layouts int (A, H, W) and (B, H, W) with VOID; 1 where no pixel is labelled in both."""
    a, b = (np.asarray(x).reshape(len(x), -1) for x in (a, b))
    both = (a != VOID).astype(np.float32) @ (b != VOID).astype(np.float32).T
    equal = np.zeros_like(both)
    for k in np.intersect1d(a, b):
        if k != VOID:
            equal += (a == k).astype(np.float32) @ (b == k).astype(np.float32).T
    return np.where(both > 0, 1 - equal.astype(np.float64) / np.maximum(both, 1), 1.0)


def iou_distance(a: np.ndarray, b: np.ndarray, num_classes: int) -> np.ndarray:
    """1 - mIoU of layouts int (A, H, W) and (B, H, W), over the classes present in either; pixels that are VOID in one
    of the two are left out, and it is 1 where that is all of them."""
    found = np.ones((len(a), len(b)))
    for i, one in enumerate(a):
        for j, other in enumerate(b):
            told = (one != VOID) & (other != VOID)
            if told.any():
                found[i, j] = 1 - mean_iou(confusion(one[told], other[told], num_classes))
    return found


class Nearest(NamedTuple):
    """The nearest reference of each of N queries: its distance float64 (N,), inf if there is none, and its id (N,).

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
    """Of queries (N, ...) among references (M, ...) with their ids int (M,).

    `own`, int (N,), are the queries' ids where they are references themselves: none is its own neighbour.
    """
    order = np.argsort(ids)  # argmin takes the first of equals: that with the lowest id
    ids, references = np.asarray(ids, np.int64)[order], references[order]
    far = np.iinfo(np.int64).max
    found = [Nearest(np.zeros(0), np.zeros(0, np.int64))]
    for rows in blocks(queries):
        size = len(queries[rows])
        best = Nearest(np.full(size, np.inf), np.full(size, far))
        for columns in blocks(references):
            away = distance(queries[rows], references[columns])
            if own is not None:
                away = np.where(np.asarray(own)[rows, None] == ids[columns], np.inf, away)
            best += Nearest(away.min(axis=1), ids[columns][away.argmin(axis=1)])
        found.append(best)
    return Nearest(*(np.concatenate(part) for part in zip(*found, strict=True)))


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


def blocks(examples: np.ndarray) -> list[slice]:
    """Slices of examples (N, ...) that hold ELEMENTS at most, at least one example and at most 2048."""
    step = int(min(max(ELEMENTS // max(np.size(examples) // max(len(examples), 1), 1), 1), 2048))
    return [slice(i, i + step) for i in range(0, len(examples), step)]
