"""Distances between examples and exact nearest neighbours, computed in blocks that bound the memory.

euclidean(a, b)             |a - b|                                                       features or pixels
root_mean_square(a, b)      |a - b| / sqrt(D), of D values                                pixels
disagreement(a, b)          the share of pixels, labelled in both, whose classes differ   layouts
iou_distance(a, b, k)       1 - mIoU                                                      layouts

The `disagreement` of two layouts with fewer than half of their pixels labelled in both is infinite: a few pixels are
often equal by chance, and an example with only a few labels would be the neighbour of most others.
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
"""Examples (A, ...) and (B, ...) -> the distances of all pairs, float64 (A, B)."""

ELEMENTS = 2**22
"""The most values in a block of examples: 32 MiB in float64."""


def euclidean(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The Euclidean distance |a - b| of examples (A, ...) and (B, ...), as vectors: float64 (A, B).

    It is exactly 0 for equal examples.
    """
    return np.sqrt(_squares(a, b))


def root_mean_square(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The root mean square difference |a - b| / sqrt(D) of examples (A, ...) and (B, ...): float64 (A, B).

    D is the number of values of an example; the distance is in their units.
    """
    return np.sqrt(_squares(a, b) / max(np.size(a[:1]), 1))


def _squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The squared distances |a - b|^2 as |a|^2 + |b|^2 - 2 a.b: float64 (A, B)."""
    exact = a.dtype == b.dtype == np.uint8  # then all sums are whole numbers below 2^53
    a, b = (np.asarray(x, np.float64).reshape(len(x), -1) for x in (a, b))
    scale = (a**2).sum(1)[:, None] + (b**2).sum(1)
    squares = scale - 2 * a @ b.T
    if not exact:  # cancellation makes small distances inexact: compute those by subtraction
        near = np.argwhere(squares < 1e-6 * (1e-300 + scale))
        for some in blocks(near, a.shape[1]):
            i, j = near[some].T
            squares[i, j] = ((a[i] - b[j]) ** 2).sum(1)
    return np.maximum(squares, 0)


def disagreement(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The share of pixels whose classes differ in layouts int (A, H, W) and (B, H, W) with VOID: float64 (A, B).

    Only pixels that are labelled in both count; inf where those are fewer than half of the pixels.
    """
    a, b = (np.asarray(x, np.int16).reshape(len(x), -1) for x in (a, b))
    on_device = jax.device_put(b)
    counts = [np.asarray(jax.device_get(_differing(on_device, row)), np.float64) for row in a]
    differing, labelled = np.stack(counts, axis=1) if counts else np.zeros((2, 0, len(b)))
    return np.where(2 * labelled >= a.shape[1], differing / np.maximum(labelled, 1), np.inf)


@jax.jit
def _differing(layouts: Array, row: Array) -> tuple[Array, Array]:
    """Count the pixels labelled in both that differ, and all labelled in both, of layouts (B, P) and a row (P,).

    Returns int (B,) each.
    """
    both = (layouts != VOID) & (row != VOID)
    return ((layouts != row) & both).sum(-1), both.sum(-1)


def iou_distance(a: np.ndarray, b: np.ndarray, num_classes: int) -> np.ndarray:
    """1 - mIoU of layouts int (A, H, W) and (B, H, W), over the classes present in either: float64 (A, B).

    Pixels that are VOID in one of the two are left out; the distance is 1 where no others remain. It is always finite,
    so that it has a mean. To look for copies among layouts with much VOID use `disagreement`.
    """
    distances = np.ones((len(a), len(b)))
    for i, one in enumerate(a):
        for j, other in enumerate(b):
            labelled = (one != VOID) & (other != VOID)
            if labelled.any():
                distances[i, j] = 1 - mean_iou(confusion(one[labelled], other[labelled], num_classes))
    return distances


class Nearest(NamedTuple):
    """The nearest reference of each of N queries: its distance float64 (N,) and its id int64 (N,); inf and -1 for none.

    `+` joins the results of the same queries against two shares of the references, exactly and in any order: of equally
    near references the one with the lowest id counts.
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
    """The nearest neighbours of queries (N, ...) among references (M, ...) with ids int (M,), 0 or above.

    The references are read once, block by block, and may be a file (np.memmap). `own`, int (N,), are the queries' ids
    where they are references themselves: no query is its own neighbour.
    """
    order, ids = np.argsort(ids), np.asarray(ids, np.int64)  # argmin takes the first of equals: the lowest id
    best = Nearest(np.full(len(queries), np.inf), np.full(len(queries), -1))
    for columns in blocks(references):
        block, block_ids = references[order[columns]], ids[order[columns]]
        for rows in blocks(queries):
            distances = distance(queries[rows], block)
            if own is not None:
                distances = np.where(np.asarray(own)[rows, None] == block_ids, np.inf, distances)
            least = distances.min(axis=1)
            new = Nearest(least, np.where(np.isinf(least), -1, block_ids[distances.argmin(axis=1)]))
            best.distances[rows], best.ids[rows] = Nearest(best.distances[rows], best.ids[rows]) + new
    return best


def k_smallest(queries: np.ndarray, references: np.ndarray, k: int, distance: Distance = euclidean) -> np.ndarray:
    """The k smallest distances of queries (N, ...) to references (M, ...), M >= k, ascending: float64 (N, k)."""
    smallest_of_rows = []
    for rows in blocks(queries):
        best = np.zeros((len(queries[rows]), 0))
        for columns in blocks(references):
            best = np.concatenate([best, distance(queries[rows], references[columns])], axis=1)
            best = np.partition(best, min(k, best.shape[1]) - 1, axis=1)[:, :k]
        smallest_of_rows.append(np.sort(best, axis=1))
    return np.concatenate(smallest_of_rows)


def blocks(examples: np.ndarray, size: int | None = None) -> list[slice]:
    """Cut examples (N, ...) into slices of 1 to 2048 examples with at most ELEMENTS values each.

    `size` is the number of values per example that counts, by default its own.
    """
    size = np.size(examples) // max(len(examples), 1) if size is None else size
    step = int(min(max(ELEMENTS // max(size, 1), 1), 2048))
    return [slice(i, i + step) for i in range(0, len(examples), step)]
