"""A Fréchet distance between sets of street scenes, in parameters that the street world's oracle reads.

A scene, an image with its layout, is 24 numbers (`PARAMETERS`):

    10  the share of each class among the layout's pixels
     6  how many pieces of each optional class the image shows, 4 connected pixels of the oracle's labels or more
     2  whether the oracle reads night, and fog (day is neither)
     6  the mean colour, R, G and B in [0, 1], of the image over the layout's sky and over its road; the whole image's
        where the layout has none. A light shifts all colours together: more of them would count it more often

each divided by its standard deviation among the reference's scenes; their distance is d^2 of equation (1) in
`gcdiff.evaluation.moments`. A finite set of scenes is at a distance from the world it is drawn from, of the order of
one over their number: a distance is to be read beside that of as many real scenes, and compared at one number of
scenes alone.
"""

from __future__ import annotations

import numpy as np

from gcdiff.data.synthetic.streets_appearance import LABELS, OPTIONAL, WEATHERS
from gcdiff.data.synthetic.streets_oracle import Reading, pieces
from gcdiff.evaluation.moments import frechet_distance, symmetric_root
from gcdiff.evaluation.segmentation import Score

COLORED = ("sky", "road")
"""The classes whose colour is read: the two that nearly every scene holds in one colour."""

PARAMETERS = (
    *(f"share of {name}" for name in LABELS.names),
    *(f"pieces of {name}" for name in OPTIONAL),
    *WEATHERS[1:],
    *(f"{channel} of {name}" for name in COLORED for channel in ("red", "green", "blue")),
)
"""What the numbers of a scene are, in their order."""


def scene_parameters(images: np.ndarray, layouts: np.ndarray, reading: Reading) -> np.ndarray:
    """The `PARAMETERS` of scenes, float64 (N, 24): images uint8 (N, H, W, 3), layouts int (N, H, W) without void, and
    what the oracle reads in the images. Raises ValueError for different numbers or sizes of them."""
    if not images.shape[:3] == layouts.shape == reading.labels.shape:
        shapes = f"{images.shape}, {layouts.shape} and {reading.labels.shape}"
        raise ValueError(f"images, layouts and readings have shapes {shapes}, expected the same scenes and pixels")
    rows = zip(images, layouts, reading.labels, reading.weather, strict=True)
    return np.array([_parameters(*row) for row in rows]).reshape(-1, len(PARAMETERS))


def _parameters(image: np.ndarray, layout: np.ndarray, seen: np.ndarray, weather: str) -> list[float]:
    names = LABELS.names
    shares = np.bincount(layout.ravel(), minlength=len(names)) / layout.size
    things = [len(pieces(seen == names.index(name))) for name in OPTIONAL]
    places = [layout == names.index(name) for name in COLORED]
    colors = [image[place if place.any() else ...].reshape(-1, 3).mean(0) / 255 for place in places]
    return [*shares, *things, *(weather == name for name in WEATHERS[1:]), *np.concatenate(colors)]


def frechet_score(parameters: np.ndarray, reference: np.ndarray, seed: int, samples: int = 1000) -> Score:
    """d^2 of scenes (N, D) from reference scenes (M, D), in units of the reference's standard deviations.

    The interval is that of N other scenes of the same kind, the reference held: the percentiles of `samples` bootstrap
    sets (Efron 1979), moved so that their mean lies on the value. Unmoved they would lie above it: a bootstrap set is
    as far again from its scenes as these are from their law.

    Raises ValueError for fewer than 2 scenes of either and for a parameter that does not vary in the reference.
    """
    if min(len(parameters), len(reference)) < 2:
        raise ValueError(f"{len(parameters)} scenes against {len(reference)}, expected 2 or more of both")
    scale = reference.std(0, ddof=1)
    if (scale == 0).any():
        raise ValueError(f"parameter {int(np.argmin(scale))} of {len(reference)} reference scenes does not vary")
    center, num, dims = reference.mean(0), len(parameters), parameters.shape[1]
    root = symmetric_root(np.cov((reference - center) / scale, rowvar=False).reshape(dims, dims))
    x = (parameters - center) / scale
    moments = np.concatenate([x, (x[:, :, None] * x[:, None]).reshape(num, -1)], axis=1)

    def distance(sums: np.ndarray) -> float:
        gap, squares = sums[:dims] / num, sums[dims:].reshape(dims, dims)
        return frechet_distance(gap, (squares - num * np.outer(gap, gap)) / (num - 1), root)

    value = distance(moments.sum(0))
    counts = np.random.default_rng(seed).multinomial(num, np.full(num, 1 / num), samples)
    others = np.array([distance(sums) for sums in counts @ moments])
    low, high = value + np.percentile(others, [2.5, 97.5]) - others.mean()
    return Score(value, max(float(low), 0.0), float(high), num)
