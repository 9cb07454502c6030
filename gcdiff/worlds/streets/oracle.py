"""The street world's oracle: labels, weather and car colours of an image, from the pixel model alone.

What is computed. Every pixel's surface s is taken to be drawn on its own from the surfaces' shares pi(s) among all
training pixels, the same in every row; the light l is drawn once per image from its 63 equally likely values; and a
pixel may be an outlier, of uniform colour, with probability OUTLIER. The posteriors of light and surfaces are equations
(1) to (3) of `gcdiff.worlds.pixels` with the pixel model of `appearance`, equation (1).

The label is the class with the largest sum of probabilities over its surfaces, or UNSURE where being an outlier is more
probable than every class. Given the light that is a threshold on the distance to the nearest surface: 6.4 TEXTURE for
the most common one, 5.7 for the rarest. The light is marginalised exactly, and a few wrong pixels cannot change it.

What is not computed. The scene's grammar: neighbours, rows and shapes tell nothing. A wrong pixel is therefore
reported as it looks, whatever stands around it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gcdiff.worlds.pixels import OUTLIER, UNSURE, check_images, connected, density, most_probable, posterior
from gcdiff.worlds.streets.appearance import (
    CAR_COLORS,
    LABELS,
    LIGHT_WEATHER,
    MEANS,
    SURFACE_CLASS,
    SURFACE_ID,
    SURFACE_SHARE,
    TEXTURE,
    WEATHERS,
)

MIN_PIXELS = 4
"""A piece of a class counts as a thing from this many pixels on, connected through their sides."""

_LIGHTS, _SURFACES = MEANS.shape[:2]
_CLASS_SUM = np.eye(LABELS.num_classes, dtype=np.float32)[SURFACE_CLASS]  # (surfaces, classes)


class Reading(NamedTuple):
    """The oracle's reading of N images: labels and surfaces int32 (N, H, W), UNSURE included, and N weathers."""

    labels: np.ndarray
    surfaces: np.ndarray
    weather: tuple[str, ...]


class Oracle:
    """The oracle: `Oracle().labels(images)`. Images are uint8 (N, H, W, 3); anything else raises ValueError."""

    def read(self, images: np.ndarray) -> Reading:
        """Read images: all that the oracle can say, at once."""
        check_images(images)
        readings = (_read_one(image.reshape(-1, 3)) for image in images)
        labels, surfaces, weather = zip(*((most_probable(p), s, w) for p, s, w in readings), strict=True)
        shape = images.shape[:3]
        return Reading(np.stack(labels).reshape(shape), np.stack(surfaces).reshape(shape), weather)

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """The classes' probabilities and, last, that of none of them: float32 (N, H, W, K + 1)."""
        check_images(images)
        return np.stack([_read_one(image.reshape(-1, 3))[0] for image in images]).reshape(*images.shape[:3], -1)

    def labels(self, images: np.ndarray) -> np.ndarray:
        """The most probable classes int32 (N, H, W), or UNSURE."""
        return self.read(images).labels

    def weather(self, images: np.ndarray) -> tuple[str, ...]:
        """The most probable weather of each image: the lights' posteriors, summed over all lights of a weather."""
        return self.read(images).weather

    def car_colors(self, images: np.ndarray, labels: np.ndarray) -> tuple[dict[str, int], ...]:
        """How many cars of which colour each image shows, given labels int (N, H, W): see `count_car_colors`."""
        return tuple(map(count_car_colors, labels, self.read(images).surfaces))


def count_car_colors(labels: np.ndarray, surfaces: np.ndarray) -> dict[str, int]:
    """Cars by colour in one image: labels and surfaces int (H, W).

    A car is a piece of the class car; its colour is the commonest among the piece's car surfaces (the wheels, which
    are black, are outnumbered).
    """
    counts = dict.fromkeys(CAR_COLORS, 0)
    first = SURFACE_ID[CAR_COLORS[0]]
    for piece in pieces(labels == LABELS.names.index("car")):
        paint = surfaces[piece] - first
        votes = np.bincount(paint[(paint >= 0) & (paint < len(CAR_COLORS))], minlength=len(CAR_COLORS))
        counts[CAR_COLORS[votes.argmax()]] += bool(votes.any())
    return {color: count for color, count in counts.items() if count}


def pieces(mask: np.ndarray) -> list[np.ndarray]:
    """The pieces of a mask bool (H, W) with MIN_PIXELS or more pixels, as masks."""
    return connected(mask, MIN_PIXELS)


def one_pixel_bayes_accuracy(images: np.ndarray, layouts: np.ndarray) -> float:
    """The accuracy of the Bayes classifier that sees the colour of one pixel and neither the light nor its place.

    It knows the pixel model, the lights' odds and the surfaces' shares. images uint8 (N, H, W, 3), layouts (N, H, W).
    """
    check_images(images)
    right = 0
    for image, layout in zip(images, layouts, strict=True):
        joint = _joint(image.reshape(-1, 3))
        by_class = joint.reshape(len(joint), -1) @ np.tile(_CLASS_SUM, (_LIGHTS, 1))  # sums over the lights as well
        right += int((by_class.argmax(-1) == layout.ravel()).sum())
    return right / layouts.size


def _read_one(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    """Of the pixels uint8 (P, 3) of one image the probabilities (P, K + 1) of the classes and of none, the surfaces
    (P,) and the weather: equations (1) to (3)."""
    joint = _joint(pixels) * (1 - OUTLIER)
    pixel = joint.reshape(-1, _SURFACES) @ np.ones(_SURFACES, np.float32) + OUTLIER
    light, surface, p = posterior(joint, pixel.reshape(-1, _LIGHTS), _CLASS_SUM)
    weather = np.bincount(LIGHT_WEATHER, light, minlength=len(WEATHERS)).argmax()
    return p, np.where(most_probable(p) == UNSURE, UNSURE, surface.argmax(-1)).astype(np.int32), WEATHERS[weather]


def _joint(pixels: np.ndarray) -> np.ndarray:
    """pi(s) N(x; l, s) of pixels uint8 (P, 3), as a density on the unit cube: float32 (P, lights, surfaces)."""
    return density(pixels, MEANS, TEXTURE, SURFACE_SHARE)
