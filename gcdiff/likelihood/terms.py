"""The terms of a variational bound on -log p(x, y), in nats per example: pure functions of a process and a predictor.

With D = ||x_0 - clean estimate||^2 and SNR = exp(l), a step from t to s < t costs

    (1)  image   (SNR_s - SNR_t) D / 2                          (Kingma et al. 2021, VDM, eq. 13)
    (2)  layout  sum over pixels of KL(q(y_s | y_t, y_0) || plug-in)

and a last step to s = 0, where the SNR is infinite, instead

    (3)  image   -log of a Gaussian around the clean estimate, discretised to the 256 grey values of [-1, 1], of which
                 the outermost two are open; its standard deviation is d / sqrt(1 + d^2 SNR_t), what the
                 noise leaves open of Gaussian data of deviation d (sigma/alpha at a high SNR)
    (4)  layout  the cross-entropy of p(y_0 | everything), which is (2) at s = 0.

An infinitesimal step is measured in v = -log(sigma^2) = softplus(l) of the image and v = -log(1 - keep) of the layout,
both 0 at level 1. As dSNR = SNR dl and dv = alpha^2 dl, and as dkeep = (1 - keep) dv,

    (5)  image   D / (2 sigma^2) dv
    (6)  layout  (1 - keep) sum over pixels of the rate per keep dv       (`kl_rate` of the layout's process)

Both are bounded in v where they are not in t. The sum of the steps, or the integral of the rates down to a level t_min
and one last step from there, plus the prior term, is at least -log p(x, y) on any path of levels that never rises;
an exact predictor attains it in the limit of small steps. Each modality's step is charged with the other at its own
level. Void pixels are at level 1 on the whole path and cost nothing: the bound is that of the labelled pixels.
"""

from __future__ import annotations

from typing import cast

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.special import log_ndtr
from jaxtyping import Array, ArrayLike

from gcdiff.processes.joint import JointProcess, Predictor
from gcdiff.processes.layout import LayoutLikelihood
from gcdiff.types import VOID, Condition, Pair, pair_map

_GREY_STEPS = 255.0
_BISECTIONS = 40
_LAST_LEVEL = 1.0 - 2.0**-24  # in float32 the last below 1


def term(
    process: JointProcess,
    predict: Predictor,
    clean: Pair,
    keys: Array,
    s: Pair,
    t: Pair,
    rate: ArrayLike,
    condition: Condition,
) -> Pair:
    """One term of the bound at one noisy draw, Pair of float32 (B,) nats: one call of the predictor.

    Args:
      process, predict: the process and the clean prediction (image estimate, leave-one-out log-probabilities).
      clean: image float32 (B, h, w, C) in [-1, 1], layout int32 (B, H, W) with VOID; None where a model has none.
      keys: (B,), the noise of each example.
      s, t: levels, Pair of float32 (B,), s <= t; a side with s = t costs nothing. Void pixels are at level 1.
      rate: bool scalar, may be traced. False is the step from t to s, (1) to (4); True is the rate at t of the sides
        with s < t, (5) and (6).
      condition: the other inputs of the predictor, such as text.
    """
    s, t = maps(clean, s), maps(clean, t)
    asked = process.clip_levels(t)
    noisy = jax.vmap(process.corrupt)(keys, clean, asked)
    predicted = predict(noisy, asked, condition)
    return lax.cond(
        jnp.asarray(rate),
        lambda: rates(process, predicted, clean, noisy, s, t),
        lambda: steps(process, predicted, clean, noisy, s, t),
    )


def maps(clean: Pair, levels: Pair) -> Pair:
    """Levels (B,) as maps (B, h, w) of each side; void pixels are at level 1."""
    image = layout = None
    if clean.image is not None and levels.image is not None:
        image = jnp.broadcast_to(levels.image[:, None, None], clean.image.shape[:3])
    if clean.layout is not None and levels.layout is not None:
        layout = jnp.where(clean.layout == VOID, 1.0, levels.layout[:, None, None])
    return Pair(image, layout)


def steps(process: JointProcess, predicted: Pair, clean: Pair, noisy: Pair, s: Pair, t: Pair) -> Pair:
    """The step (1) to (4) from the level maps t to s <= t, Pair of (B,) nats. `noisy` is at t."""
    s, t = process.clip_levels(s), process.clip_levels(t)
    image = layout = None
    if predicted.image is not None:
        # A level of 0 is replaced where its SNR is infinite, in the formula that is not used.
        last = s.image <= 0
        error = jnp.square(predicted.image - clean.image).sum(axis=-1)
        snr_s, snr_t = (jnp.exp(process.image.log_snr(jnp.where(at > 0, at, 1.0))) for at in (s.image, t.image))
        step = 0.5 * (snr_s - snr_t) * error
        std = process.image.std / jnp.sqrt(1.0 + process.image.std**2 * snr_t)
        decoded = -grey_log_prob(predicted.image, clean.image, std[..., None]).sum(axis=-1)
        image = jnp.where(s.image < t.image, jnp.where(last, decoded, step), 0.0).sum(axis=(1, 2))
    if predicted.layout is not None:
        nats = _labels(process).kl(predicted.layout, clean.layout, noisy.layout, s.layout, t.layout)
        layout = nats.sum(axis=(1, 2))
    return Pair(image, layout)


def rates(process: JointProcess, predicted: Pair, clean: Pair, noisy: Pair, s: Pair, t: Pair) -> Pair:
    """The rates in v, (5) and (6), at the level maps t of the sides with s < t, Pair of (B,) nats. `noisy` is at t."""
    image = layout = None
    if predicted.image is not None:
        # Above the highest level that the network is asked at the image stands still.
        moves = (s.image < t.image) & (t.image <= process.image.highest_level)
        variance = jax.nn.sigmoid(-process.image.log_snr(jnp.where(moves, t.image, 1.0)))
        error = jnp.square(predicted.image - clean.image).sum(axis=-1)
        # At level 1 stand the v below the curve's end, log(1 + SNR) of them, and a jump to that end costs SNR D / 2.
        snr = jnp.exp(process.image.log_snr(_LAST_LEVEL))
        jump = jnp.where(snr > 0, snr / jnp.log1p(jnp.where(snr > 0, snr, 1.0)), 1.0)
        rate = 0.5 * error / variance * jnp.where(t.image >= 1, jump, 1.0)
        image = jnp.where(moves, rate, 0.0).sum(axis=(1, 2))
    if predicted.layout is not None:
        nats = _labels(process).kl_rate(predicted.layout, clean.layout, noisy.layout, t.layout)
        nats = nats * jax.nn.sigmoid(-process.layout.log_snr(t.layout))
        layout = jnp.where(s.layout < t.layout, nats, 0.0).sum(axis=(1, 2))
    return Pair(image, layout)


def priors(process: JointProcess, clean: Pair) -> Pair:
    """The prior term KL(q(x_1 | x_0) || prior) of each side, Pair of (B,) nats.

    It is exactly 0 where the path starts at level 1. An 'eps' image starts below it (`highest_level`), at alpha = .007.
    """
    image = layout = None
    if process.image is not None and clean.image is not None:
        log_snr = process.image.log_snr(process.image.highest_level)
        nats = 0.5 * (jax.nn.sigmoid(log_snr) * (jnp.square(clean.image) - 1.0) + jax.nn.softplus(log_snr))
        image = nats.sum(axis=(1, 2, 3))
    if process.layout is not None and clean.layout is not None:
        layout = _labels(process).prior_kl() * (clean.layout != VOID).sum(axis=(1, 2))
    return Pair(image, layout)


def grey_log_prob(mean: Array, x: Array, std: Array) -> Array:
    """log P(the grey value of x) under a Gaussian, (3): float32 of x's shape, finite however far the mean is.

    x in [-1, 1] is brought to the nearest of 256 grey values. The arrays broadcast.
    """
    grey = jnp.round((x + 1.0) * (0.5 * _GREY_STEPS))
    centre = grey * (2.0 / _GREY_STEPS) - 1.0
    low, high = ((centre - mean + half) / std for half in (-1.0 / _GREY_STEPS, 1.0 / _GREY_STEPS))
    flipped = low + high > 0  # to the left tail, whose logarithm is exact
    low, high = jnp.where(flipped, -high, low), jnp.where(flipped, -low, high)
    log_high, log_low = log_ndtr(high), log_ndtr(low)
    inside = log_high + jnp.log(-jnp.expm1(log_low - log_high))
    left, right = grey <= 0, grey >= _GREY_STEPS
    # Of an outermost value the one edge stands; which one it is now depends on the flip.
    below, above = jnp.where(flipped, right, left), jnp.where(flipped, left, right)
    return jnp.where(below, log_high, jnp.where(above, jnp.log1p(-jnp.exp(log_low)), inside))


def noise_amount(log_snr: ArrayLike) -> Array:
    """The amount of noise v = softplus(log_snr), of log_snr's shape: 0 at level 1."""
    return jax.nn.softplus(jnp.asarray(log_snr, jnp.float32))


def levels_at(process: JointProcess, share: Array, t_min: ArrayLike) -> Pair:
    """The levels at which v is `share` (B,) of its value at t_min, Pair of (B,), by bisection.

    Where a schedule's curve stops short of level 1, the v that it leaves out belong to level 1, whose rate is that of
    this first jump: exactly for an image (`rates`), for labels up to K keep^2 (1e-9 K nats on the linear curve).
    """

    def invert(side) -> Array:
        v = share * noise_amount(side.log_snr(t_min))
        target = v + jnp.log(-jnp.expm1(-v))

        def halve(_, bracket):
            low, high = bracket
            middle = 0.5 * (low + high)
            noisier = side.log_snr(middle) < target
            return jnp.where(noisier, low, middle), jnp.where(noisier, middle, high)

        start = jnp.full_like(share, t_min), jnp.ones_like(share)
        return lax.fori_loop(0, _BISECTIONS, halve, start)[1]

    return pair_map(invert, Pair(process.image, process.layout))


def _labels(process: JointProcess) -> LayoutLikelihood:
    return cast(LayoutLikelihood, process.layout)
