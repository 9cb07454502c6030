"""Semantic recall, precision and F1: whether images show the classes that were asked for.

With A the classes asked for and S those that a segmenter sees in the image, in at least `min_area` pixels,

    recall = mean of |A & S| / |A|    precision = mean of |A & S| / |S|    F1 = mean of 2 |A & S| / (|A| + |S|)   (1)

over the samples whose denominator is not 0. Recall at a minimum of one pixel is that of Park et al. (2023, section
4.3): a model that paints a speck of every class everywhere has a recall of 1, so that precision and a larger minimum
belong beside it. A is read from the caption (`gcdiff.data.captions.named_classes`), as their text says, or from a
layout, as their formula. Per class, hits and misses are counted over all samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gcdiff.evaluation.measure import Measure, Sums, grouped_sums
from gcdiff.evaluation.ratios import Ratios, column
from gcdiff.types import VOID


class Retrieval(NamedTuple):
    """Recall, precision and F1, of samples or of one class."""

    recall: Measure
    precision: Measure
    f1: Measure


def present(layouts: np.ndarray, num_classes: int, min_area: int = 1) -> np.ndarray:
    """The classes that have at least `min_area` pixels: bool (N, K), for layouts int (N, H, W); VOID is no class.

    Raises ValueError for a label that is neither and for an area below 1.
    """
    if min_area < 1:
        raise ValueError(f"min_area is {min_area} pixels, expected at least 1")
    return areas(layouts, num_classes) >= min_area


def areas(layouts: np.ndarray, num_classes: int) -> np.ndarray:
    """The number of pixels of each class: int64 (N, K), for layouts int (N, H, W) with VOID.

    Raises ValueError for a label that is neither VOID nor a class.
    """
    flat = np.asarray(layouts).reshape(len(layouts), -1)
    wrong = flat[((flat < 0) & (flat != VOID)) | (flat >= num_classes)]
    if wrong.size:
        raise ValueError(f"label {wrong[0]} is no class, expected 0 to {num_classes - 1} or {VOID} for void")
    counts = [np.bincount(row[row != VOID], minlength=num_classes) for row in flat]
    return np.array(counts, np.int64).reshape(-1, num_classes)


def semantic_sums(
    wanted: np.ndarray,
    seen: np.ndarray,
    ids: np.ndarray,
    *,
    source: str,
    segmenter: str,
    min_area: int = 1,
) -> Sums:
    """The sums for `semantic_scores` of the classes asked for, bool (N, K), and those seen, int (N, H, W) with VOID.

    `source` says where the former are from ("captions", "layouts"), and `segmenter` names what saw the latter.
    """
    n, k = wanted.shape
    shown = present(seen, k, min_area)
    hits, extra, missed = wanted & shown, ~wanted & shown, wanted & ~shown
    both = hits.sum(1)
    pairs = ((both, wanted.sum(1)), (both, shown.sum(1)), (2 * both, wanted.sum(1) + shown.sum(1)))
    samples = np.array([[part / np.maximum(whole, 1), whole > 0] for part, whole in pairs], float)
    values = np.concatenate([samples.reshape(6, n).T, np.stack([hits, extra, missed], -1).reshape(n, -1)], axis=1)
    convention = {
        "classes asked for": source,
        "segmenter": segmenter,
        "resolution": f"{seen.shape[1]}x{seen.shape[2]}",
        "min_area": f"{min_area} pixels",
        "void": "no class, on neither side",
    }
    return grouped_sums(ids, values, convention)


def semantic_scores(sums: Sums) -> Retrieval:
    """Recall, precision and F1 of equation (1); their count `counted` is the number of samples in the mean."""
    means = [sums.measure(column(2 * i, 2 * i + 1, counts=True), mean="over samples") for i in range(3)]
    counted = sums.total[1:6:2].astype(int).tolist()
    return Retrieval(*(m._replace(counts={**m.counts, "counted": c}) for m, c in zip(means, counted, strict=True)))


def class_scores(sums: Sums, names: Sequence[str]) -> dict[str, Retrieval]:
    """Recall, precision and F1 of each class, from its hits, false alarms and misses over all samples; nan for none."""

    def of(k: int, hits: int, weights: tuple[int, int, int]) -> Measure:
        def whole(sums: np.ndarray) -> np.ndarray:
            return (sums[..., 6 + 3 * k : 9 + 3 * k] @ np.array(weights))[..., None]

        rate = Ratios(lambda sums: hits * sums[..., [6 + 3 * k]], whole)
        measure = sums.measure(rate, mean="counts over all samples")
        asked = sums.total[6 + 3 * k] + sums.total[8 + 3 * k]
        return measure._replace(counts={**measure.counts, "asked for": int(asked)})

    return {
        name: Retrieval(of(k, 1, (1, 0, 1)), of(k, 1, (1, 1, 0)), of(k, 2, (2, 1, 1))) for k, name in enumerate(names)
    }
