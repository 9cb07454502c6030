"""The training losses of images and layouts, per example.

Sums over pixels are divided by the constant number of pixels of the grid, never by a count: known, void and missing
pixels carry no loss, and a large batch is the mean of small ones.

Image: squared error of the network's own output (eps, x0, v, preconditioned or skip), times a weight of the log-SNR
clipped to +-15. The named weights are given, as in their papers, as factors of the eps error:
  p2        (1 + SNR)^(-1/2)                  Choi et al. 2022, with gamma 1/2; Park et al. 2023
  min_snr   min(SNR, 5) / SNR                 Hang et al. 2023
  sigmoid   sigmoid(-1 - log SNR)             Kingma and Gao 2023; Hoogeboom et al. 2024
  capped    min(1 + SNR, 5) / SNR             the SNR+1 of Salimans and Ho 2022, capped: 1 to 5 on the clean image
  none      whatever makes the weight of the network's own output 1
and, with a power above 0, times a weight of the pixel's noisy label (`rarity`).

Layout: the loss of its process, times a weight of the level:
  root      min((1 - keep)^(-1/2), 10), which makes the gradient's variance of the cross-entropy flat over levels
  one       1
  elbo      the weight of the process's own likelihood bound, at most 100: keep |d log_snr/dt| for absorbing noise,
            which is |d keep/dt| / (1 - keep) (Shi et al. 2024), and keep^2 |d log_snr/dt| for uniform noise
or, for uniform noise, in its place
  kl        1000 times the divergence of the step from t to max(t - 1/1000, 0): the bound of Austin et al. (2021) with
            1000 steps, in nats a pixel, as Park et al. (2023) train. It takes no labels of lower precision.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from gcdiff.processes.categorical import posterior_kl
from gcdiff.processes.gaussian import DATA_STD, GaussianProcess, from_clean, to_clean
from gcdiff.processes.layout import LayoutLikelihood, LayoutProcess
from gcdiff.types import VOID

EPS_WEIGHTS: dict[str, Callable[[Array], Array]] = {
    "p2": lambda log_snr: jax.nn.sigmoid(-log_snr) ** 0.5,
    "min_snr": lambda log_snr: jnp.minimum(1.0, 5.0 * jnp.exp(-log_snr)),
    "capped": lambda log_snr: jnp.minimum(1.0 + jnp.exp(-log_snr), 5.0 * jnp.exp(-log_snr)),
    "sigmoid": lambda log_snr: jax.nn.sigmoid(-1.0 - log_snr),
}
"""Weights of the squared error of eps at a log-SNR, by name."""


LAYOUT_WEIGHTS = ("root", "one", "elbo", "kl")
KL_STEPS = 1000
_CLIP = 15.0
_MOST_ELBO = 100.0


def image_weight(name: str, kind: str, log_snr: Array, std: float = DATA_STD) -> Array:
    """The weight of the squared error of an output of `kind`, at a log-SNR (any shape). `std` is that of the data."""
    if name == "none":
        return jnp.ones_like(log_snr)
    snr = jnp.clip(log_snr, -_CLIP, _CLIP)
    of_eps = EPS_WEIGHTS[name](snr)
    scale = to_clean(kind, jnp.ones_like(snr), jnp.zeros_like(snr), snr, std)  # clean error = scale * output error
    return of_eps * jnp.exp(snr) * scale**2


def image_loss(
    process: GaussianProcess,
    output: Array,
    clean: Array,
    noisy: Array,
    levels: Array,
    known: Array,
    weight: str = "none",
    channels: np.ndarray | None = None,
    pixels: Array | None = None,
) -> Array:
    """The image loss (B,), in squared units of the output: output, clean, noisy (B, h, w, C), levels, known (B, h, w).

    `channels` (C,) and `pixels` (B, h, w) are further weights. Known pixels are masked before anything is computed from
    them: at level 0 the targets of eps and v are noise.
    """
    levels = jnp.where(known, 0.5, levels)
    log_snr = process.log_snr(levels)
    error = jnp.square(output - from_clean(process.kind, clean, noisy, log_snr[..., None], process.std))
    if channels is not None:
        error = error * channels
    per_pixel = jnp.where(known, 0.0, error.mean(axis=-1) * image_weight(weight, process.kind, log_snr, process.std))
    if pixels is not None:
        per_pixel = per_pixel * pixels
    return per_pixel.mean(axis=(1, 2))


def rarity(labels: Array, classes: int, power: float) -> Array:
    """Weights of pixels by how rare their label is in their layout, of mean 1: labels int (B, H, W) -> float32.

    A label's weight is its share of the layout to the power -`power`: with 1 all classes that are there weigh alike,
    with 0 all pixels do. Of noisy labels, which the network reads, such weights move no optimum: given all that it
    reads they are constant, and the best prediction is the mean with any of them.

    >>> import numpy as np
    >>> from gcdiff.losses.diffusion import rarity
    >>> np.asarray(rarity(np.int32([[[0, 0, 0, 1]]]), classes=2, power=1.0)).round(2).astype(str).tolist()
    [[['0.67', '0.67', '0.67', '2.0']]]
    """
    one_hot = jax.nn.one_hot(labels, classes)
    shares = one_hot.mean(axis=(1, 2), keepdims=True)
    weights = jnp.where(shares > 0, shares, 1.0) ** -power
    return (one_hot * weights / (weights * shares).sum(axis=-1, keepdims=True)).sum(axis=-1)


def layout_weight(name: str, process: LayoutLikelihood, levels: Array) -> Array:
    """The weight of a pixel's loss at a level (any shape). 'elbo' alone asks for a likelihood of the process."""
    if name == "one":
        return jnp.ones_like(levels)
    if name == "root":
        return jnp.minimum(jax.lax.rsqrt(jnp.maximum(1.0 - process.keep(levels), 1e-2)), 10.0)
    _, slope = jax.jvp(process.log_snr, (levels,), (jnp.ones_like(levels),))
    return jnp.minimum(process.bound_weight(levels) * jnp.abs(slope), _MOST_ELBO)


def layout_loss(
    process: LayoutProcess,
    output: Array,
    label: Array,
    noisy: Array,
    levels: Array,
    known: Array,
    weight: str = "root",
    kappa: Array | float = 1.0,
) -> Array:
    """The layout loss (B,), in units of the process's loss per pixel: nats, or squared bits.

    output: (B, H, W, .) of the head; label: (B, H, W), with VOID; noisy: the state; levels, known: (B, H, W).
    `kappa` is the label's own precision: 1 for a true label, 0 for none (no gradient).
    """
    if weight == "kl":
        label = jnp.where(jnp.asarray(kappa) < 1, VOID, label)
        keep_s, keep_t = process.keep(jnp.maximum(levels - 1.0 / KL_STEPS, 0.0)), process.keep(levels)
        loss = KL_STEPS * posterior_kl(output, label, noisy, keep_s, keep_t)
    else:
        loss = process.loss(output, label, noisy, levels, kappa) * layout_weight(weight, process, levels)
    return jnp.where(known, 0.0, loss).mean(axis=(1, 2))
