"""Layouts alone: how much of each class there is, and the Fréchet distance of class areas (FSD).

FSD is the squared Fréchet distance (`gcdiff.evaluation.moments`, equation 1) of per-image vectors of class areas (Bau
et al., Seeing What a GAN Cannot Generate, 2019; Park et al. 2023). In pixels, as there, it grows with the square of the
number of pixels: numbers of two resolutions cannot be compared. In shares they can; both are of layouts alone, and see
no place and no shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gcdiff.evaluation.measure import SHARE, Measure, Sums, ratio, summed
from gcdiff.evaluation.moments import GroupedMoments, frechet, grouped_moments
from gcdiff.evaluation.semantic import areas

UNITS = {"pixels": "pixels", "shares": "shares of the labelled pixels"}


def area_moments(layouts: np.ndarray, ids: np.ndarray, num_classes: int, unit: str = "pixels") -> GroupedMoments:
    """The moments of the classes' areas in layouts int (N, H, W) with VOID, which has none.

    `unit` is 'pixels', or 'shares' of an image's labelled pixels (0 where there are none).
    """
    if unit not in UNITS:
        raise ValueError(f"unit is {unit!r}, expected {' or '.join(UNITS)}")
    counts = areas(layouts, num_classes).astype(np.float64)
    if unit == "shares":
        counts /= np.maximum(counts.sum(axis=1, keepdims=True), 1)
    told = {"features": "class areas", "area": UNITS[unit], "void": "has no area"}
    if unit == "pixels":
        told["resolution"] = f"{layouts.shape[1]}x{layouts.shape[2]}"
    return grouped_moments(ids, counts, told)


def fsd(generated: GroupedMoments, reference: GroupedMoments) -> Measure:
    """The squared Fréchet distance of `area_moments`."""
    return frechet(generated, reference)


class Frequency(NamedTuple):
    """pixels: a class's share of all labelled pixels; images: the share of images in which it is, with any pixel."""

    pixels: Measure
    images: Measure


def frequency_sums(layouts: np.ndarray, ids: np.ndarray, num_classes: int) -> Sums:
    """Pixels and images of each class, summed over layouts int (N, H, W) with VOID."""
    counts = areas(layouts, num_classes)
    values = np.concatenate([counts, counts > 0, np.ones((len(counts), 1), int)], axis=1)
    return summed(ids, values, {"resolution": f"{layouts.shape[1]}x{layouts.shape[2]}", "void": "left out"})


def frequencies(sums: Sums, names: Sequence[str]) -> dict[str, Frequency]:
    """How frequent each class is."""
    k = len(names)

    def of(place: int) -> Measure:
        def share(total: np.ndarray) -> float:
            return ratio(np.array([total[place], total[:k].sum() if place < k else total[-1]]))

        return sums.measure(share, SHARE)

    return {name: Frequency(of(i), of(k + i)) for i, name in enumerate(names)}
