"""One step of a sampler, from levels t to levels s <= t, given the clean prediction at t.

An image step is `step(process, key, at, s, t, before, dials)`, with `at` an `ImageState` and `before` the levels that
the step before started from; a layout step is `step(process, keys, clean, noisy, s, t, dials)`. All are the identity
where s = t, and any image step goes with any layout step. Image steps take one example, layout steps a batch with a
key each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from gcdiff.processes.gaussian import GaussianProcess


class Dials(NamedTuple):
    """The numbers that steps depend on; all may be traced.

    eta: the noise of DDIM; 0 is none, 1 the ancestral step's (Song et al. 2021, eq. 16).
    psi: how often, on average, the layout step 'psi' draws a label anew from its posterior between level 1 and 0; 0 is
      the ancestral step, infinity draws every label anew in every step.
    corrector: how often, on average, a label is redrawn from its leave-one-out law between level 1 and 0.

    They are rates, not shares of a step: with more steps fewer labels are redrawn together, and what redrawing many at
    once does to their joint law vanishes.
    """

    eta: Any = 0.0
    psi: Any = 0.0
    corrector: Any = 0.0


class ImageState(NamedTuple):
    """The image at t: clean estimate, that of the step before, and noisy image, float32 (h, w, C) each."""

    clean: Array
    previous: Array
    noisy: Array


def ddim(process: GaussianProcess, key: Array, at: ImageState, s: Array, t: Array, before: Array, dials: Dials):
    """The step of DDIM with noise `eta` (Song et al. 2021, eq. 12)."""
    return process.ddim(at.clean, at.noisy, s, t, key, dials.eta)


def ancestral(process: GaussianProcess, key: Array, at: ImageState, s: Array, t: Array, before: Array, dials: Dials):
    """The ancestral step of an image: a draw from the posterior given the clean prediction (Ho et al. 2020)."""
    return process.reverse(key, at.clean, at.noisy, s, t)


def dpmpp(process: GaussianProcess, key: Array, at: ImageState, s: Array, t: Array, before: Array, dials: Dials):
    """The step of DPM-Solver++(2M) (Lu et al. 2022, alg. 2): DDIM with the clean estimate extrapolated in the log-SNR.

    First order (DDIM) where a step or the one before touches level 0 or 1, and where the image did not move in the one
    before: the extrapolation has no bound there.
    """
    l_s, l_t, l_r = (process.log_snr(level)[..., None] for level in (s, t, before))
    finite = jnp.isfinite(l_s) & jnp.isfinite(l_t) & jnp.isfinite(l_r) & (l_t > l_r)
    l_s, l_t, l_r = (jnp.where(finite, snr, safe) for snr, safe in ((l_s, 0.0), (l_t, 0.0), (l_r, -1.0)))
    ratio = (l_s - l_t) / (2.0 * (l_t - l_r))
    return process.ddim(at.clean + jnp.where(finite, ratio, 0.0) * (at.clean - at.previous), at.noisy, s, t)


IMAGE_STEPS: dict[str, Callable] = {"ddim": ddim, "ancestral": ancestral, "dpm++": dpmpp}


def ancestral_labels(process, keys: Array, clean: Array, noisy: Array, s: Array, t: Array, dials: Dials) -> Array:
    """The ancestral step of labels: a draw from the posterior given the clean prediction (Austin et al. 2021)."""
    return process.reverse(keys, clean, noisy, s, t)


def psi(process, keys: Array, clean: Array, noisy: Array, s: Array, t: Array, dials: Dials) -> Array:
    """The ancestral step, but for labels at rate `psi`: these are drawn clean, from their posterior, and noised to s.

    Both keep every label's marginal, and with it their mixture (Deschenaux et al. 2026, Psi-samplers; Wang et al. 2025,
    ReMDM, for absorbing noise). A label that is drawn anew may leave what it was: mistakes are repaired.
    """
    k_step, k_which, k_noise = jnp.moveaxis(jax.vmap(lambda k: jax.random.split(k, 3))(keys), 1, 0)
    anew = _choose(k_which, dials.psi, s, t)
    drawn = process.reverse(k_step, clean, noisy, jnp.where(anew, 0.0, s), t)
    noised = jax.vmap(process.renoise)(k_noise, drawn, jnp.zeros_like(s), s)
    return _where(anew, noised, drawn)


def correct(process, keys: Array, clean: Array, noisy: Array, s: Array, t: Array, dials: Dials) -> Array:
    """Correct labels at s after a step from t: redraw some from their leave-one-out law, and noise them to s again.

    Each redrawn label keeps the joint law of the labels at that level if the others stand still, as in Gibbs sampling
    (Zhao et al. 2024, correctors for discrete diffusion). `clean` is the prediction at s. Labels at 0 are done. A label
    that absorbing noise has left alone is certain: it stays, or is masked again.
    """
    k_draw, k_which, k_noise = jnp.moveaxis(jax.vmap(lambda k: jax.random.split(k, 3))(keys), 1, 0)
    chosen = _choose(k_which, dials.corrector, s, t) & (s > 0)
    # At level 1 the own label says nothing: a reverse step from there draws from the leave-one-out law.
    drawn = process.reverse(k_draw, clean, noisy, jnp.zeros_like(s), jnp.ones_like(s))
    noised = jax.vmap(process.renoise)(k_noise, drawn, jnp.zeros_like(s), s)
    return _where(chosen, noised, noisy)


LAYOUT_STEPS: dict[str, Callable] = {"ancestral": ancestral_labels, "psi": psi}


def most_probable(process, clean: Array, noisy: Array, t: Array) -> Array:
    """The most probable clean label of each pixel, int32 (B, H, W): the argmax of p(y0_i | everything)."""
    return jnp.argmax(process.loo_to_posterior(clean, noisy, t), axis=-1).astype(jnp.int32)


def _choose(keys: Array, rate: Array, s: Array, t: Array) -> Array:
    """Draw the labels, bool (B, H, W), to which an event of a rate happens between t and s."""
    happens = jnp.where(s < t, -jnp.expm1(-rate * (t - s)), 0.0)
    return jax.vmap(lambda k: jax.random.uniform(k, t.shape[1:]))(keys) < happens


def _where(chosen: Array, a: Array, b: Array) -> Array:
    """Choose between states a and b by `chosen`, bool (B, H, W); the states may have channels."""
    return jnp.where(chosen.reshape(chosen.shape + (1,) * (a.ndim - chosen.ndim)), a, b)
