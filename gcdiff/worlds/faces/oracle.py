"""The face world's oracle: class probabilities, labels and attributes of an image, from the pixel model.

What is computed. Every pixel's surface s is taken to be drawn on its own from the surfaces' shares pi_h(s) in its half
h of the picture: those of the whole world, but that the person's left eye and brow are in the right half alone and the
right ones in the left half alone. The light l is drawn once per image from its 15 equally likely values, and a pixel
may be an outlier, of uniform colour, with probability OUTLIER. With N(x; l, s) the pixel model of `faces_appearance`
equation (1), rounding included as its variance and clipping exactly,

    p(x_i | l)    = (1 - OUTLIER) sum_s pi_h(i)(s) N(x_i; l, s) + OUTLIER                                        (1)
    p(l | x)      = prod_i p(x_i | l) / sum_l' prod_i p(x_i | l')                                                (2)
    p(s_i | x)    = sum_l p(l | x) (1 - OUTLIER) pi_h(i)(s) N(x_i; l, s) / p(x_i | l)                            (3)

A class has the sum of (3) over its surfaces. The label is the most probable class, or UNSURE where being an outlier is
more probable than every class. Attributes are read from the most probable surfaces (`faces_attributes`), outliers set
aside: an image with more noise than the world's has none that are certain, and still shows a hat.

What is not computed. The grammar of faces: that one skin, one hair and one wall are in a picture, where a nose belongs,
what stands beside what. A wrong pixel is reported as it looks.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import log_ndtr, logsumexp

from gcdiff.types import VOID
from gcdiff.worlds.faces.appearance import LABELS, MEANS, SURFACE_CLASS, SURFACE_SHARE, SURFACE_SIGMA, SURFACES
from gcdiff.worlds.faces.attributes import read_attributes

UNSURE = VOID
"""The label of a pixel that no class explains."""

OUTLIER = 1e-6
"""The probability that a pixel is none of the world's. Colours lie in the unit cube, so its density is 1."""

_LIGHTS, _SURFACES = MEANS.shape[:2]
_VARIANCE = SURFACE_SIGMA.astype(np.float64) ** 2 + 1 / (12 * 255**2)
_CLASS_SUM = np.eye(LABELS.num_classes, dtype=np.float32)[SURFACE_CLASS]  # (surfaces, classes)

# A side's surfaces have their whole share in one half of the picture: twice in it, and none in the other.
_ABSENT = [[surface.label.startswith(side) for surface in SURFACES] for side in ("left", "right")]
_SIDED = np.any(_ABSENT, 0)
HALF_SHARE = np.where(_ABSENT, 0, SURFACE_SHARE * (1 + _SIDED))
"""pi_h(s): float (2, surfaces), of the left half of the picture and of its right half."""


class Reading(NamedTuple):
    """What the oracle reads in N images.

    probabilities: float32 (N, H, W, K + 1), the classes and, last, being none of them; they sum to 1.
    labels: int32 (N, H, W), UNSURE included. surfaces: int32 (N, H, W). attributes: bool (N, 13), as ATTRIBUTES.
    """

    probabilities: np.ndarray
    labels: np.ndarray
    surfaces: np.ndarray
    attributes: np.ndarray


class Oracle:
    """The oracle: `Oracle().labels(images)`. Images are uint8 (N, H, W, 3) of even width, else ValueError."""

    def read(self, images: np.ndarray) -> Reading:
        """Everything at once."""
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or images.shape[2] % 2:
            said = f"images of the oracle are {images.dtype} {images.shape}"
            raise ValueError(f"{said}, expected uint8 (N, H, W, 3) of even width")
        probabilities, surfaces = zip(*map(_read_one, images), strict=True)
        probabilities, surfaces = np.stack(probabilities), np.stack(surfaces)
        labels = probabilities.argmax(-1).astype(np.int32)
        labels[labels == LABELS.num_classes] = UNSURE
        return Reading(probabilities, labels, surfaces, np.stack([read_attributes(one) for one in surfaces]))

    def labels(self, images: np.ndarray) -> np.ndarray:
        """The most probable classes int32 (N, H, W), or UNSURE."""
        return self.read(images).labels

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """The classes' probabilities and, last, that of none of them: float32 (N, H, W, K + 1)."""
        return self.read(images).probabilities

    def attributes(self, images: np.ndarray) -> np.ndarray:
        """Which attributes each image shows: bool (N, 13), in the order of ATTRIBUTES."""
        return self.read(images).attributes


def _read_one(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (H, W, K + 1) and surfaces (H, W) of one image uint8 (H, W, 3): equations (1) to (3)."""
    height, width = image.shape[:2]
    half = np.tile(np.arange(width) >= width // 2, height).astype(int)
    joint = (1 - OUTLIER) * _density(image.reshape(-1, 3)) * HALF_SHARE.astype(np.float32)[half][:, None]
    pixel = joint.sum(-1) + OUTLIER
    log_light = np.log(pixel).sum(0, dtype=np.float64)
    light = np.exp(log_light - logsumexp(log_light))
    used = np.flatnonzero(light > 1e-12)  # the others change nothing that float32 holds
    weights = light[used].astype(np.float32) / pixel[:, used]
    surface = np.einsum("pl,pls->ps", weights, joint[:, used])
    none = OUTLIER * weights.sum(-1, keepdims=True)
    probabilities = np.concatenate([surface @ _CLASS_SUM, none], -1)
    shape = (height, width)
    return probabilities.reshape(*shape, -1), surface.argmax(-1).astype(np.int32).reshape(shape)


def _density(pixels: np.ndarray) -> np.ndarray:
    """N(x; l, s) of pixels uint8 (P, 3), as a density on the unit cube: float32 (P, lights, surfaces)."""
    x = pixels.astype(np.float32) / 255
    means, variance = MEANS.reshape(-1, 3), np.tile(_VARIANCE, _LIGHTS)
    # -|x - m|^2 / (2 v) and the constants as one matrix product over (x, |x|^2, 1).
    inputs = np.concatenate([x, (x**2).sum(-1, keepdims=True), np.ones((len(x), 1), np.float32)], -1)
    constant = -1.5 * np.log(2 * np.pi * variance) - (means**2).sum(-1) / (2 * variance)
    weights = np.stack([*(means.T / variance), -0.5 / variance, constant])
    log_density = inputs @ weights.astype(np.float32)
    clipped = np.flatnonzero(((pixels == 0) | (pixels == 255)).any(-1))
    log_density[clipped] += _clipping(x[clipped], means, variance)
    return np.exp(log_density, out=log_density).reshape(-1, _LIGHTS, _SURFACES)


def _clipping(x: np.ndarray, means: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """What clipping adds to the log density of x (P, 3) at means (M, 3): the end's whole tail for its density."""
    gap = np.where(x == 1, 1, -1)[:, None] * (means - x[:, None])  # from the end outwards
    variance = variance[:, None]
    tail = log_ndtr((gap + 0.5 / 255) / np.sqrt(variance - 1 / (12 * 255**2))) + np.log(255)
    inside = -0.5 * gap**2 / variance - 0.5 * np.log(2 * np.pi * variance)
    return np.where(((x == 0) | (x == 1))[:, None], tail - inside, 0).sum(-1)
