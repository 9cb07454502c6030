"""Class frequencies of layouts, and the Fréchet distance of their class areas (FSD).

FSD is the squared Fréchet distance (`gcdiff.evaluation.moments`, equation 1) of per-image vectors of class areas (Bau
et al., Seeing What a GAN Cannot Generate, 2019; Park et al. 2023). In pixels, as there, it grows with the square of the
number of pixels, so that two resolutions cannot be compared; in shares they can. Neither depends on where a class is,
or in what shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gcdiff.evaluation.measure import Measure, Sums, grouped_sums
from gcdiff.evaluation.moments import GroupedMoments, frechet, grouped_moments
from gcdiff.evaluation.ratios import Ratios, column
from gcdiff.evaluation.semantic import areas

UNITS = {"pixels": "pixels", "shares": "shares of the labelled pixels"}


def area_moments(layouts: np.ndarray, ids: np.ndarray, num_classes: int, unit: str = "pixels") -> GroupedMoments:
    """The moments of the class areas (K,) of layouts int (N, H, W) with VOID, which has no area.

    `unit` is 'pixels', or 'shares' of an image's labelled pixels (0 where it has none). Raises ValueError for another.
    """
    if unit not in UNITS:
        raise ValueError(f"unit is {unit!r}, expected {' or '.join(UNITS)}")
    counts = areas(layouts, num_classes).astype(np.float64)
    if unit == "shares":
        counts /= np.maximum(counts.sum(axis=1, keepdims=True), 1)
    convention = {"features": "class areas", "area": UNITS[unit], "void": "has no area"}
    if unit == "pixels":
        convention["resolution"] = f"{layouts.shape[1]}x{layouts.shape[2]}"
    return grouped_moments(ids, counts, convention)


def fsd(generated: GroupedMoments, reference: GroupedMoments) -> Measure:
    """FSD: the squared Fréchet distance between two `area_moments`."""
    return frechet(generated, reference)


class Frequency(NamedTuple):
    """The frequency of one class among layouts.

    pixels: its share of all labelled pixels. images: the share of images with at least one pixel of it.
    """

    pixels: Measure
    images: Measure


def frequency_sums(layouts: np.ndarray, ids: np.ndarray, num_classes: int) -> Sums:
    """The numbers of pixels and of images of each class, summed over layouts int (N, H, W) with VOID."""
    counts = areas(layouts, num_classes)
    values = np.concatenate([counts, counts > 0, np.ones((len(counts), 1), int)], axis=1)
    return grouped_sums(ids, values, {"resolution": f"{layouts.shape[1]}x{layouts.shape[2]}", "void": "left out"})


def frequencies(sums: Sums, names: Sequence[str]) -> dict[str, Frequency]:
    """The frequency of each class, from `frequency_sums`."""
    k = len(names)

    def pixels(i: int) -> Ratios:
        return Ratios(lambda s: s[..., [i]], lambda s: s[..., :k].sum(axis=-1, keepdims=True))

    return {
        name: Frequency(sums.measure(pixels(i)), sums.measure(column(k + i, -1, counts=True)))
        for i, name in enumerate(names)
    }
