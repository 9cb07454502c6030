"""The street world's oracle: labels, weather and car colours of an image, from the pixel model alone.

What is computed. Every pixel's surface s is taken to be drawn on its own from the surfaces' shares pi(s) among all
training pixels, the same in every row; the light l is drawn once per image from its 63 equally likely values; and a
pixel may be an outlier, of uniform colour, with probability OUTLIER. With N(x; l, s) the pixel model of
`streets_appearance` equation (1), rounding included as its variance and clipping exactly,

    p(x_i | l)    = (1 - OUTLIER) sum_s pi(s) N(x_i; l, s) + OUTLIER                                             (1)
    p(l | x)      = prod_i p(x_i | l) / sum_l' prod_i p(x_i | l')                                                (2)
    p(s_i | x)    = sum_l p(l | x) (1 - OUTLIER) pi(s) N(x_i; l, s) / p(x_i | l)                                 (3)

and the label is the class with the largest sum of (3) over its surfaces, or UNSURE where being an outlier is more
probable than every class. Given the light that is a threshold on the distance to the nearest surface: 6.4 TEXTURE for
the most common one, 5.7 for the rarest. The light is marginalised exactly, and a few wrong pixels cannot change it.

What is not computed. The scene's grammar: neighbours, rows and shapes tell nothing. A wrong pixel is therefore
reported as it looks, whatever stands around it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy.special import log_ndtr, logsumexp

from gcdiff.types import VOID
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

UNSURE = VOID
"""The label of a pixel that no class explains."""

OUTLIER = 1e-6
"""The probability that a pixel is none of the world's. Colours lie in the unit cube, so its density is 1."""

MIN_PIXELS = 4
"""A piece of a class counts as a thing from this many pixels on, connected through their sides."""

_VARIANCE = TEXTURE**2 + 1 / (12 * 255**2)
_LIGHTS, _SURFACES = MEANS.shape[:2]
_CLASS_SUM = np.eye(LABELS.num_classes, dtype=np.float32)[SURFACE_CLASS]  # (surfaces, classes)


class Reading(NamedTuple):
    """What the oracle reads in N images: labels and surfaces int32 (N, H, W), UNSURE included, and N weathers."""

    labels: np.ndarray
    surfaces: np.ndarray
    weather: tuple[str, ...]


class Oracle:
    """The oracle: `Oracle().labels(images)`. Images are uint8 (N, H, W, 3); anything else raises ValueError."""

    def read(self, images: np.ndarray) -> Reading:
        """Everything at once."""
        images = _checked(images)
        found = (_read_one(image.reshape(-1, 3)) for image in images)
        labels, surfaces, weather = zip(*((_label(p), s, w) for p, s, w in found), strict=True)
        shape = images.shape[:3]
        return Reading(np.stack(labels).reshape(shape), np.stack(surfaces).reshape(shape), weather)

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """The classes' probabilities and, last, that of none of them: float32 (N, H, W, K + 1)."""
        images = _checked(images)
        found = [_read_one(image.reshape(-1, 3))[0] for image in images]
        return np.stack(found).reshape(*images.shape[:3], -1)

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
    numbered = np.zeros(mask.shape, np.int32)
    ndimage.label(mask, output=numbered)
    sizes = np.bincount(numbered.ravel())
    return [numbered == i for i in range(1, len(sizes)) if sizes[i] >= MIN_PIXELS]


def one_pixel_bayes_accuracy(images: np.ndarray, layouts: np.ndarray) -> float:
    """The accuracy of the Bayes classifier that sees the colour of one pixel and neither the light nor its place.

    It knows the pixel model, the lights' odds and the surfaces' shares. images uint8 (N, H, W, 3), layouts (N, H, W).
    """
    right = 0
    for image, layout in zip(_checked(images), layouts, strict=True):
        joint = _joint(image.reshape(-1, 3))
        by_class = joint.reshape(len(joint), -1) @ np.tile(_CLASS_SUM, (_LIGHTS, 1))  # sums over the lights as well
        right += int((by_class.argmax(-1) == layout.ravel()).sum())
    return right / layouts.size


def _checked(images: np.ndarray) -> np.ndarray:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(f"images of the oracle are {images.dtype} {images.shape}, expected uint8 (N, H, W, 3)")
    return images


def _read_one(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    """Of the pixels uint8 (P, 3) of one image the probabilities (P, K + 1) of the classes and of none, the surfaces
    (P,) and the weather: equations (1) to (3)."""
    joint = _joint(pixels) * (1 - OUTLIER)
    pixel = joint.reshape(-1, _SURFACES) @ np.ones(_SURFACES, np.float32) + OUTLIER
    pixel = pixel.reshape(-1, _LIGHTS)
    log_light = np.log(pixel).sum(0, dtype=np.float64)
    light = np.exp(log_light - logsumexp(log_light))
    used = np.flatnonzero(light > 0)
    weights = light[used].astype(np.float32) / pixel[:, used]
    surface = np.einsum("pl,pls->ps", weights, joint[:, used])
    p = np.concatenate([surface @ _CLASS_SUM, OUTLIER * weights.sum(-1, keepdims=True)], -1)
    weather = np.bincount(LIGHT_WEATHER, light, minlength=len(WEATHERS)).argmax()
    return p, np.where(_label(p) == UNSURE, UNSURE, surface.argmax(-1)).astype(np.int32), WEATHERS[weather]


def _label(p: np.ndarray) -> np.ndarray:
    """The most probable of K classes, or UNSURE where none of them is: int32 (P,), from probabilities (P, K + 1)."""
    label = p.argmax(-1)
    return np.where(label == LABELS.num_classes, UNSURE, label).astype(np.int32)


def _joint(pixels: np.ndarray) -> np.ndarray:
    """pi(s) N(x; l, s) of pixels uint8 (P, 3), as a density on the unit cube: float32 (P, lights, surfaces)."""
    x = pixels.astype(np.float32) / 255
    means = MEANS.reshape(-1, 3)
    # -|x - m|^2 / (2 v) and the constants as one matrix product over (x, |x|^2, 1).
    inputs = np.concatenate([x, (x**2).sum(-1, keepdims=True), np.ones((len(x), 1), np.float32)], -1)
    constant = np.log(np.tile(SURFACE_SHARE, _LIGHTS)) - 1.5 * np.log(2 * np.pi * _VARIANCE)
    constant -= (means**2).sum(-1) / (2 * _VARIANCE)
    weights = np.stack([*means.T / _VARIANCE, np.full(len(means), -0.5 / _VARIANCE), constant])
    log_joint = inputs @ weights.astype(np.float32)
    clipped = np.flatnonzero(((pixels == 0) | (pixels == 255)).any(-1))
    log_joint[clipped] += _clipping(x[clipped], means)
    return np.exp(log_joint, out=log_joint).reshape(-1, _LIGHTS, _SURFACES)


def _clipping(x: np.ndarray, means: np.ndarray) -> np.ndarray:
    """What clipping adds to the log density of x (P, 3) at means (M, 3): the end's whole tail for its density."""
    gap = np.where(x == 1, 1, -1)[:, None] * (means - x[:, None])  # from the end outwards
    tail = log_ndtr((gap + 0.5 / 255) / TEXTURE) + np.log(255)
    inside = -0.5 * gap**2 / _VARIANCE - 0.5 * np.log(2 * np.pi * _VARIANCE)
    return np.where(((x == 0) | (x == 1))[:, None], tail - inside, 0).sum(-1)
