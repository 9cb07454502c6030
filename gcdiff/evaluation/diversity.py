"""Diversity: the mean distance between two samples drawn under one condition.

    diversity = mean over conditions of the mean over i < j of d(x_i, x_j)                                        (1)

for S samples x_1..x_S of each condition (a caption, a layout, an image) and any distance of
`gcdiff.evaluation.distances`. Compare it with the diversity of real pairs, or of samples of different conditions: noise
is diverse too.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from gcdiff.evaluation.distances import Distance, euclidean, iou_distance
from gcdiff.evaluation.measure import Measure, Sums, grouped_sums, ratio


def diversity_sums(
    samples: np.ndarray, ids: np.ndarray, convention: Mapping[str, Any], distance: Distance = euclidean
) -> Sums:
    """The sums for `diversity` of samples (C, S, ...), S for each of C conditions with ids int (C,).

    Raises ValueError for S below 2.
    """
    size = samples.shape[1]
    if size < 2:
        raise ValueError(f"{size} sample of each condition, expected 2 or more")
    pairs = np.triu_indices(size, 1)
    means = [float(distance(group, group)[pairs].mean()) for group in samples]
    values = np.stack([means, np.ones(len(means))], -1)
    return grouped_sums(ids, values, {"samples of a condition": size, **convention})


def layout_diversity_sums(layouts: np.ndarray, ids: np.ndarray, num_classes: int) -> Sums:
    """`diversity_sums` of layouts int (C, S, H, W) with VOID, with 1 - mIoU as the distance."""
    convention = {
        "distance": "1 - mIoU over the classes of the two layouts",
        "resolution": f"{layouts.shape[2]}x{layouts.shape[3]}",
        "void": "pixels void in one of the two are left out",
    }
    return diversity_sums(layouts, ids, convention, partial(iou_distance, num_classes=num_classes))


def diversity(sums: Sums) -> Measure:
    """The diversity of equation (1) from its sums; its count is the number of conditions."""
    mean = sums.measure(ratio, (0.0, np.inf))
    return mean._replace(counts={"conditions": sums.examples})
