"""The parameters of street scenes that the street world's oracle reads, for Fréchet distances and KID.

A scene, an image with its layout, is 24 numbers (`PARAMETERS`):

    10  the share of each class among the layout's pixels
     6  how many pieces of each optional class the image shows, 4 connected pixels of the oracle's labels or more
     2  whether the oracle reads night, and fog (day is neither)
     6  the mean colour, R, G and B in [0, 1], of the image over the layout's sky and over its road; the whole image's
        where the layout has none. A light shifts all colours together: more of them would count it more often

They have several units: distances between them are `standardised`. A finite set of scenes is at a distance from the
world it is drawn from, of the order of one over their number: a distance is to be read beside that of as many real
scenes, and compared at one number of scenes alone.
"""

from __future__ import annotations

import numpy as np

from gcdiff.data.synthetic.streets_appearance import LABELS, OPTIONAL, WEATHERS
from gcdiff.data.synthetic.streets_oracle import Reading, pieces

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
