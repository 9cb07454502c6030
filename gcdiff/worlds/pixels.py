"""The mathematics of all oracles: posteriors under normal pixel models, and the connected pieces of a mask.

A pixel has a surface s, of which each belongs to a class; one light l shines on the whole image. With N(x; l, s) a
normal density of means MEANS[l, s] and a deviation sigma(s), rounding to 8 bits included as its variance and clipping
exactly, shares pi(s) of the surfaces, equally likely lights, and a probability OUTLIER of any other colour,

    p(x_i | l)    = (1 - OUTLIER) sum_s pi(s) N(x_i; l, s) + OUTLIER                                             (1)
    p(l | x)      = prod_i p(x_i | l) / sum_l' prod_i p(x_i | l')                                                (2)
    p(s_i | x)    = sum_l p(l | x) (1 - OUTLIER) pi(s) N(x_i; l, s) / p(x_i | l)                                 (3)
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.special import log_ndtr, logsumexp

from gcdiff.types import VOID

UNSURE = VOID
"""The label of a pixel that no class explains."""

OUTLIER = 1e-6
"""The probability that a pixel is none of the world's. Colours lie in the unit cube, so its density is 1."""

_ROUNDING = 1 / (12 * 255**2)  # the variance of rounding to 8 bits


def check_images(images: np.ndarray) -> None:
    """Raise ValueError, in one line, unless images are uint8 (N, H, W, 3)."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(f"images of the oracle are {images.dtype} {images.shape}, expected uint8 (N, H, W, 3)")


def density(
    pixels: np.ndarray, means: np.ndarray, sigma: float | np.ndarray, share: float | np.ndarray = 1.0
) -> np.ndarray:
    """The density pi(s) N(x; l, s) on the unit cube: float32 (P, lights, surfaces), of pixels uint8 (P, 3).

    means: float32 (lights, surfaces, 3); sigma: one for all surfaces, or float64 (surfaces,); share: pi, of shape
    (surfaces,), or 1 for N alone.
    """
    lights, surfaces = means.shape[:2]
    means, sigma = means.reshape(-1, 3), sigma if isinstance(sigma, float) else np.tile(sigma, lights)
    variance, x = sigma**2 + _ROUNDING, pixels.astype(np.float32) / 255
    # -|x - m|^2 / (2 v) and the constants as one matrix product over (x, |x|^2, 1).
    inputs = np.concatenate([x, (x**2).sum(-1, keepdims=True), np.ones((len(x), 1), np.float32)], -1)
    constant = np.log(np.broadcast_to(share, (lights, surfaces)).ravel()) - 1.5 * np.log(2 * np.pi * variance)
    constant -= (means**2).sum(-1) / (2 * variance)
    weights = np.stack([*means.T / variance, np.broadcast_to(-0.5 / variance, len(means)), constant])
    log_density = inputs @ weights.astype(np.float32)
    clipped = np.flatnonzero(((pixels == 0) | (pixels == 255)).any(-1))
    log_density[clipped] += _clipping(x[clipped], means, np.expand_dims(sigma, -1), np.expand_dims(variance, -1))
    return np.exp(log_density, out=log_density).reshape(-1, lights, surfaces)


def _clipping(x: np.ndarray, means: np.ndarray, sigma: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """The correction of the log density of x (P, 3) at means (M, 3) for clipping: 0 and 255 have the whole tail."""
    gap = np.where(x == 1, 1, -1)[:, None] * (means - x[:, None])  # from the end outwards
    tail = log_ndtr((gap + 0.5 / 255) / sigma) + np.log(255)
    inside = -0.5 * gap**2 / variance - 0.5 * np.log(2 * np.pi * variance)
    return np.where(((x == 0) | (x == 1))[:, None], tail - inside, 0).sum(-1)


def posterior(
    joint: np.ndarray, pixel: np.ndarray, class_sum: np.ndarray, negligible: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Equations (2) and (3) for the P pixels of an image: probabilities of lights, of surfaces, of classes.

    They are (lights,), (P, surfaces), and (P, K + 1), the last for none of the K classes.

    joint: (1 - OUTLIER) pi(s) N(x; l, s), (P, lights, surfaces); pixel: equation (1), (P, lights); class_sum: 1 where a
    surface belongs to a class, (surfaces, K). Lights of a probability of `negligible` or less are left out.
    """
    log_light = np.log(pixel).sum(0, dtype=np.float64)
    light = np.exp(log_light - logsumexp(log_light))
    used = np.flatnonzero(light > negligible)
    weights = light[used].astype(np.float32) / pixel[:, used]
    surface = np.einsum("pl,pls->ps", weights, joint[:, used])
    return light, surface, np.concatenate([surface @ class_sum, OUTLIER * weights.sum(-1, keepdims=True)], -1)


def most_probable(probabilities: np.ndarray) -> np.ndarray:
    """The most probable of K classes, or UNSURE where none of them is: int32 (...,), of probabilities (..., K + 1)."""
    label = probabilities.argmax(-1)
    return np.where(label == probabilities.shape[-1] - 1, UNSURE, label).astype(np.int32)


def connected(mask: np.ndarray, least: float, corners: bool = False) -> list[np.ndarray]:
    """The connected pieces of a mask bool (H, W) that have `least` pixels or more, as masks.

    Pixels are connected through their sides, with `corners` through sides and corners.
    """
    numbered = np.zeros(mask.shape, np.int32)
    ndimage.label(mask, np.ones((3, 3), int) if corners else None, output=numbered)
    sizes = np.bincount(numbered.ravel())
    return [numbered == i for i in range(1, len(sizes)) if sizes[i] >= least]
