"""The oracle of the world of cells: light, stain, classes and attributes of an image, from the pixel model alone.

What is computed. Every pixel's class k is taken to be drawn on its own from the classes' shares pi(k) among all
training pixels; a pixel may be an outlier, of any grey, with probability OUTLIER. With b and m of `appearance`,
equations (1) and (2), c ~ N(0, BIAS_SPREAD^2) and both stains s equally likely,

    p(x_i | c, s) = (1 - OUTLIER) sum_k pi(k) N(x_i; b_i m_s(k), noise^2) + OUTLIER                              (1)
    c_s           = argmax_c p(c) prod_i p(x_i | c, s)                                                           (2)
    p(x | s)      ~ (2 pi)^3 |A_s|^(-1/2) p(c_s) prod_i p(x_i | c_s, s)                                          (3)
    p(k_i | x)    = (1 - OUTLIER) pi(k) N(x_i; b_i m_s(k), noise^2) / p(x_i | c_s, s)                            (4)

(2) is solved by expectation maximisation (Wells et al., Adaptive Segmentation of MRI Data, 1996): the field is linear
in c and the noise normal, so that given the classes' probabilities c is the solution of a linear system of matrix A_s,
exactly. It begins with wide noise, which narrows, so as not to begin with wrong classes; (3), Laplace's approximation,
is computed for the last of the wide ones, since the errors of images that are not true renders are not independent.
s is the stain for which it is larger. (4) is exact given light, stain and noise. The light has six numbers for all the
pixels of an image, so that what is left of its uncertainty is small beside the noise.

The noise is the world's or more: an image with more than that, as of a generator that is not perfect, is read with the
noise it has, which is estimated along with its light. It is looked for from the world's upwards, so that a patch of
outliers remains one. The label is the most probable class, or UNSURE where being an
outlier is more probable than each. The scene's grammar tells labels nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gcdiff.worlds.cells.appearance import BIAS_SPREAD, CLASS_SHARE, MEANS, NOISE, bias_basis
from gcdiff.worlds.pixels import OUTLIER, UNSURE, check_images

_LEAST = NOISE**2 + 1 / (12 * 255**2)  # rounding is noise as well
_WIDE, _STEPS, _CHUNK = (0.10, 0.08, 0.06), 8, 16


class Reading(NamedTuple):
    """The oracle's reading of N images.

    labels: int32 (N, H, W), UNSURE included; probabilities: equation (4), float32 (N, H, W, 4), what is missing to 1
    is an outlier's; stain: int (N,), an index into STAINS; bias: b, float (N, H, W); noise: float (N,).
    """

    labels: np.ndarray
    probabilities: np.ndarray
    stain: np.ndarray
    bias: np.ndarray
    noise: np.ndarray


class _Fit(NamedTuple):
    """The current estimate for N images of P pixels: b (N, P) and noise^2 (N,)."""

    field: np.ndarray
    variance: np.ndarray


def read(images: np.ndarray, stain: np.ndarray | None = None) -> Reading:
    """Read images uint8 (N, H, W, 3), N at least 1: all that the oracle can say; others raise ValueError.

    stain int (N,), an index into STAINS, takes the place of the one that equation (3) finds.
    """
    check_images(images)
    if not len(images):
        raise ValueError(f"images of the oracle are {images.dtype} {images.shape}, expected 1 or more")
    size = images.shape[1:3]
    basis = bias_basis(size).reshape(-1, 6)
    grey = images.mean(axis=-1).reshape(len(images), -1) / 255
    chunks = [slice(i, i + _CHUNK) for i in range(0, len(grey), _CHUNK)]
    parts = [_read(grey[i], basis, None if stain is None else stain[i]) for i in chunks]
    joined = [np.concatenate(field) for field in zip(*parts, strict=True)]
    return Reading(*(a.reshape(len(images), *size, *a.shape[2:]) if a.ndim > 1 else a for a in joined))


def _read(grey: np.ndarray, basis: np.ndarray, stain: np.ndarray | None) -> Reading:
    """The reading of greys (N, P), its fields flat over pixels."""
    coarse = [_coarse(grey, basis, means) for means in MEANS]
    stain = np.argmax([evidence for _, evidence in coarse], axis=0) if stain is None else stain
    field = np.stack([field for field, _ in coarse])[stain, np.arange(len(grey))]
    fit = _fine(grey, basis, MEANS[stain].T, field)
    share = _shares(grey, fit, MEANS[stain].T)
    unsure = 1 - share.sum(0) > share.max(0)
    labels = np.where(unsure, UNSURE, share.argmax(0)).astype(np.int32)
    return Reading(labels, np.moveaxis(share, 0, -1).astype(np.float32), stain, fit.field, np.sqrt(fit.variance))


def _coarse(grey: np.ndarray, basis: np.ndarray, means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Equations (2) and (3) for greys (N, P) under a stain of greys `means` (4,): b (N, P) and log p(x | s) (N,)."""
    means = np.repeat(means[:, None], len(grey), axis=1)
    fit = _Fit(np.ones_like(grey), np.empty(len(grey)))
    for noise in _WIDE:
        fit = fit._replace(variance=np.full(len(grey), noise**2))
        bias, system = _solve(grey, basis, means, fit)
        fit = fit._replace(field=1 + bias @ basis.T)
    density = _joint(grey, fit, means).sum(0) + OUTLIER
    prior = -0.5 * ((bias / BIAS_SPREAD) ** 2).sum(-1)
    return fit.field, np.log(density).sum(-1) + prior - 0.5 * np.linalg.slogdet(system)[1]


def _fine(grey: np.ndarray, basis: np.ndarray, means: np.ndarray, field: np.ndarray) -> _Fit:
    """Equation (2) for greys (N, P) under the stains of greys `means` (4, N), noise included, from a field on."""
    fit = _Fit(field, np.full(len(grey), _LEAST))
    for _ in range(_STEPS):
        bias, _ = _solve(grey, basis, means, fit)
        fit = fit._replace(field=1 + bias @ basis.T)
        share = _shares(grey, fit, means)
        error = (share * (grey - fit.field * means[..., None]) ** 2).sum((0, 2))
        fit = fit._replace(variance=np.maximum(error / np.maximum(share.sum((0, 2)), 1), _LEAST))
    return fit


def _solve(grey: np.ndarray, basis: np.ndarray, means: np.ndarray, fit: _Fit) -> tuple[np.ndarray, np.ndarray]:
    """One step of expectation maximisation: c (N, 6) and the matrix A of its system (N, 6, 6)."""
    share = _shares(grey, fit, means)
    first, second = (np.einsum("knp,kn->np", share, means**power) for power in (1, 2))
    squares = (basis[:, :, None] * basis[:, None]).reshape(len(basis), -1)
    system = (second @ squares).reshape(-1, 6, 6) / fit.variance[:, None, None] + np.diag(BIAS_SPREAD**-2.0)
    pull = (grey * first - second) @ basis / fit.variance[:, None]
    return np.linalg.solve(system, pull[..., None])[..., 0], system


def _joint(grey: np.ndarray, fit: _Fit, means: np.ndarray) -> np.ndarray:
    """(1 - OUTLIER) pi(k) N(x; b m(k), noise^2) as a density on [0, 1], (4, N, P)."""
    precision = 1 / fit.variance
    scale = (1 - OUTLIER) * CLASS_SHARE[:, None] * np.sqrt(precision / (2 * np.pi))
    error = grey - fit.field * means[..., None]
    return scale[..., None] * np.exp(-0.5 * precision[:, None] * error**2)


def _shares(grey: np.ndarray, fit: _Fit, means: np.ndarray) -> np.ndarray:
    """The probabilities (4) of the classes, (4, N, P)."""
    joint = _joint(grey, fit, means)
    return joint / (joint.sum(0) + OUTLIER)
