"""The face world's oracle: class probabilities, labels and attributes of an image, from the pixel model.

What is computed. Every pixel's surface s is taken to be drawn on its own from the surfaces' shares pi_h(s) in its half
h of the picture: those of the whole world, but that the person's left eye and brow are in the right half alone and the
right ones in the left half alone. The light l is drawn once per image from its 15 equally likely values, and a pixel
may be an outlier, of uniform colour, with probability OUTLIER. The posteriors of light and surfaces are equations (1)
to (3) of `gcdiff.worlds.pixels`, with pi_h(i)(s) for pi(s) and the pixel model of `appearance`, equation (1).

The label is the class with the largest sum of probabilities over its surfaces, or UNSURE where being an outlier is more
probable than every class. Attributes are read from the most probable surfaces (`attributes`), outliers set aside: an
image with more noise than the world's has none that are certain, and still shows a hat.

What is not computed. The grammar of faces: that one skin, one hair and one wall are in a picture, where a nose belongs,
what stands beside what. A wrong pixel is reported as it looks.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gcdiff.worlds.faces.appearance import LABELS, MEANS, SURFACE_CLASS, SURFACE_SHARE, SURFACE_SIGMA, SURFACES
from gcdiff.worlds.faces.attributes import read_attributes
from gcdiff.worlds.pixels import OUTLIER, check_images, density, most_probable, posterior

_SIGMA = SURFACE_SIGMA.astype(np.float64)
_CLASS_SUM = np.eye(LABELS.num_classes, dtype=np.float32)[SURFACE_CLASS]  # (surfaces, classes)

# A side's surfaces have their whole share in one half of the picture: twice in it, and none in the other.
_ABSENT = [[surface.label.startswith(side) for surface in SURFACES] for side in ("left", "right")]
_SIDED = np.any(_ABSENT, 0)
HALF_SHARE = np.where(_ABSENT, 0, SURFACE_SHARE * (1 + _SIDED))
"""pi_h(s): float (2, surfaces), of the left half of the picture and of its right half."""


class Reading(NamedTuple):
    """The oracle's reading of N images.

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
        """Read images: all that the oracle can say, at once."""
        check_images(images)
        if images.shape[2] % 2:
            raise ValueError(f"images of the oracle are {images.dtype} {images.shape}, expected an even width")
        probabilities, surfaces = zip(*map(_read_one, images), strict=True)
        probabilities, surfaces = np.stack(probabilities), np.stack(surfaces)
        attributes = np.stack([read_attributes(one) for one in surfaces])
        return Reading(probabilities, most_probable(probabilities), surfaces, attributes)

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
    joint = (1 - OUTLIER) * density(image.reshape(-1, 3), MEANS, _SIGMA) * HALF_SHARE.astype(np.float32)[half][:, None]
    pixel = joint.sum(-1) + OUTLIER
    # Lights of less probability change nothing that float32 holds.
    _, surface, probabilities = posterior(joint, pixel, _CLASS_SUM, negligible=1e-12)
    shape = (height, width)
    return probabilities.reshape(*shape, -1), surface.argmax(-1).astype(np.int32).reshape(shape)
