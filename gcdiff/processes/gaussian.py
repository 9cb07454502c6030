"""The variance-preserving Gaussian process, in log-SNRs l with alpha^2 = sigmoid(l) and sigma^2 = sigmoid(-l).

With s <= t (so l_s >= l_t) and e = exp(l_t - l_s):

    (1)  x_t | x_0       = alpha_t x_0 + sigma_t eps
    (2)  x_t | x_s       = (alpha_t/alpha_s) x_s + sigma_t sqrt(1 - e) eps
    (3)  x_s | x_t, x_0  : mean (alpha_t/alpha_s)(sigma_s^2/sigma_t^2) x_t + alpha_s (1 - e) x_0,
                           variance sigma_s^2 (1 - e)
    (4)  DDIM            : c x_t + (alpha_s - c alpha_t) x_0, plus noise of variance v,
                           v = eta^2 sigma_s^2 (1 - e),  c = sqrt(sigma_s^2 - v) / sigma_t

(Kingma et al. 2021, VDM; Song et al. 2021, DDIM.) What a network puts out is read as

    'x0'              x_0
    'eps'             x_0 = (x_t - sigma output) / alpha
    'v'               x_0 = alpha x_t - sigma output                         (Salimans and Ho 2022)
    'preconditioned'  x_0 = c_skip x_t + c_out output                        (Karras et al. 2022, in the scaling of (1))
                      c_skip = alpha d^2 / (alpha^2 d^2 + sigma^2),  c_out = sigma d / sqrt(alpha^2 d^2 + sigma^2)

    'skip'            x_0 = c_skip x_t + c_out output
                      c_skip = alpha f^2 / (alpha^2 f^2 + sigma^2),  c_out = sigma / sqrt(alpha^2 f^2 + sigma^2)

with d the standard deviation of the data: the codec's `std`, .5 by default. 'preconditioned' is made for pixels that
say nothing of each other. What neighbours do not say of a pixel is far smaller than d: 'skip' counts on f = d / 5 and
is 'x0' until the noise is as small as that, from where on the noisy image is kept and the output is what to change.

Conventions: x is float32 of any shape, `log_snr_*` broadcast to it as in numpy. +inf ("given") and -inf ("unknown")
are exact ends, l_s == l_t is the identity, and every value and gradient is finite.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import log_sigmoid
from jaxtyping import Array, ArrayLike

from gcdiff.schedules import Schedule, alpha_of, sigma_of

KINDS = ("eps", "x0", "v", "preconditioned", "skip")
DATA_STD = 0.5
DETAIL = 0.2
"""The standard deviation f of what a pixel's neighbours do not say of it, over that of the data."""
LEAST_EPS_LOG_SNR = -10.0


def corrupt(key: Array, x0: Array, log_snr_t: ArrayLike) -> Array:
    """Draw x_t of (1), of x0's shape."""
    log_snr_t = jnp.asarray(log_snr_t, jnp.float32)
    return alpha_of(log_snr_t) * x0 + sigma_of(log_snr_t) * jax.random.normal(key, x0.shape)


def renoise(key: Array, x_s: Array, log_snr_s: ArrayLike, log_snr_t: ArrayLike) -> Array:
    """Draw x_t of (2), of x_s's shape; log_snr_s == log_snr_t returns x_s."""
    log_snr_s, log_snr_t, stay = _safe_levels(log_snr_s, log_snr_t)
    std = sigma_of(log_snr_t) * jnp.sqrt(-jnp.expm1(log_snr_t - log_snr_s))
    drawn = _alpha_ratio(log_snr_s, log_snr_t) * x_s + std * jax.random.normal(key, x_s.shape)
    return jnp.where(stay, x_s, drawn)


def posterior(x0: Array, x_t: Array, log_snr_s: ArrayLike, log_snr_t: ArrayLike) -> tuple[Array, Array]:
    """Mean (of x_t's shape) and variance (of the levels' shape) of x_s given x_t and x_0, (3)."""
    log_snr_s, log_snr_t, stay = _safe_levels(log_snr_s, log_snr_t)
    fresh = -jnp.expm1(log_snr_t - log_snr_s)
    shrink = _alpha_ratio(log_snr_s, log_snr_t) * jnp.square(_sigma_ratio(log_snr_s, log_snr_t))
    mean = shrink * x_t + alpha_of(log_snr_s) * fresh * x0
    return jnp.where(stay, x_t, mean), jnp.where(stay, 0.0, jnp.square(sigma_of(log_snr_s)) * fresh)


def ddim(
    x0: Array, x_t: Array, log_snr_s: ArrayLike, log_snr_t: ArrayLike, key: Array | None = None, eta: ArrayLike = 0.0
) -> Array:
    """The step (4) from t to s, of x_t's shape: deterministic without a key, the ancestral step at eta = 1."""
    log_snr_s, log_snr_t, stay = _safe_levels(log_snr_s, log_snr_t)
    if key is None:
        pull = -alpha_of(log_snr_s) * jnp.expm1(0.5 * (log_snr_t - log_snr_s))
        return jnp.where(stay, x_t, _sigma_ratio(log_snr_s, log_snr_t) * x_t + pull * x0)
    noise = jnp.square(eta) * -jnp.expm1(log_snr_t - log_snr_s)  # v / sigma_s^2
    left = jnp.sqrt(jnp.maximum(1.0 - noise, 0.0))
    pull = alpha_of(log_snr_s) * (1.0 - left * jnp.exp(0.5 * (log_snr_t - log_snr_s)))
    drawn = sigma_of(log_snr_s) * jnp.sqrt(noise) * jax.random.normal(key, x_t.shape)
    return jnp.where(stay, x_t, left * _sigma_ratio(log_snr_s, log_snr_t) * x_t + pull * x0 + drawn)


def to_clean(kind: str, output: Array, x_t: Array, log_snr_t: ArrayLike, std: float = DATA_STD) -> Array:
    """The clean image, of x_t's shape, from a network's output of `kind`.

    'eps' says nothing about the clean image at alpha = 0: it is undefined there, and 0 is returned
    (`GaussianProcess.highest_level` keeps away from it). float32, whatever the network's own type.
    """
    output = jnp.asarray(output, jnp.float32)
    if kind == "x0":
        return output
    if kind == "eps":
        alpha, sigma, _ = _scales(log_snr_t)
        return jnp.where(alpha > 0, (x_t - sigma * output) / jnp.where(alpha > 0, alpha, 1.0), 0.0)
    c_skip, c_out = _mixing(kind, log_snr_t, std)
    return c_skip * x_t + c_out * output


def from_clean(kind: str, x0: Array, x_t: Array, log_snr_t: ArrayLike, std: float = DATA_STD) -> Array:
    """The output of `kind` for the clean image x0, the inverse of `to_clean`: the training target of a network.

    Every kind but 'x0' is undefined at sigma = 0, where x_t is the clean image whatever the output; 0 is returned.
    """
    if kind == "x0":
        return x0
    if kind == "eps":
        alpha, sigma, safe = _scales(log_snr_t)
        return jnp.where(sigma > 0, (x_t - alpha * x0) / safe, 0.0)
    c_skip, c_out = _mixing(kind, log_snr_t, std)
    return jnp.where(c_out != 0, (x0 - c_skip * x_t) / jnp.where(c_out != 0, c_out, 1.0), 0.0)


def _scales(log_snr: ArrayLike) -> tuple[Array, Array, Array]:
    """alpha, sigma, and sigma made safe to divide by."""
    log_snr = jnp.asarray(log_snr, jnp.float32)
    sigma = sigma_of(log_snr)
    return alpha_of(log_snr), sigma, jnp.where(sigma > 0, sigma, 1.0)


def _mixing(kind: str, log_snr: ArrayLike, std: float) -> tuple[Array, Array]:
    """c_skip and c_out of x_0 = c_skip x_t + c_out output."""
    alpha, sigma, _ = _scales(log_snr)
    if kind == "v":
        return alpha, -sigma
    if kind == "preconditioned":
        variance = jnp.square(alpha * std) + jnp.square(sigma)
        return alpha * std**2 / variance, sigma * std / jnp.sqrt(variance)
    if kind == "skip":
        variance = jnp.square(alpha * DETAIL * std) + jnp.square(sigma)
        return alpha * (DETAIL * std) ** 2 / variance, sigma / jnp.sqrt(variance)
    raise ValueError(f"image output kind is {kind!r}, expected one of {', '.join(KINDS)}")


def _safe_levels(log_snr_s: ArrayLike, log_snr_t: ArrayLike) -> tuple[Array, Array, Array]:
    """Log-SNRs with log_snr_s > log_snr_t everywhere, and where they were replaced: the identity steps."""
    log_snr_s, log_snr_t = jnp.asarray(log_snr_s, jnp.float32), jnp.asarray(log_snr_t, jnp.float32)
    stay = log_snr_s <= log_snr_t
    return jnp.where(stay, 1.0, log_snr_s), jnp.where(stay, -1.0, log_snr_t), stay


def _alpha_ratio(log_snr_s: Array, log_snr_t: Array) -> Array:
    """alpha_t / alpha_s."""
    return jnp.exp(0.5 * (log_sigmoid(log_snr_t) - log_sigmoid(log_snr_s)))


def _sigma_ratio(log_snr_s: Array, log_snr_t: Array) -> Array:
    """sigma_s / sigma_t."""
    return jnp.exp(0.5 * (log_sigmoid(-log_snr_s) - log_sigmoid(-log_snr_t)))


@dataclasses.dataclass(frozen=True)
class GaussianProcess:
    """The Gaussian process on a schedule. Images are (B, h, w, C), levels (B, 1, 1) or (B, h, w).

    `kind` is what the network puts out, one of KINDS; `std` is the standard deviation of clean images, above 0.
    """

    schedule: Schedule
    kind: str = "v"
    std: float = DATA_STD

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"image output kind is {self.kind!r}, expected one of {', '.join(KINDS)}")
        if not self.std > 0:
            raise ValueError(f"the standard deviation of clean images is {self.std}, expected more than 0")

    @functools.cached_property
    def highest_level(self) -> float:
        """The highest level at which the network is trained and called: 1, or for 'eps' where the log-SNR is -10.

        An output of 'eps' says nothing about the clean image at level 1. Noise of level 1 is taken for noise of this
        level instead, from which it differs by alpha = .007.
        """
        if self.kind != "eps":
            return 1.0
        levels = np.linspace(0.0, 1.0, 10_001)[1:-1]
        with jax.ensure_compile_time_eval():
            log_snr = np.asarray(self.log_snr(levels))
        return float(np.max(levels, where=log_snr >= LEAST_EPS_LOG_SNR, initial=levels[0]))

    def log_snr(self, t: ArrayLike) -> Array:
        """The log-SNR at level t, of t's shape."""
        return self.schedule.log_snr(t)

    def prior(self, key: Array, shape: tuple[int, ...]) -> Array:
        """Draw images at level 1: standard normal, of `shape`."""
        return jax.random.normal(key, shape)

    def corrupt(self, key: Array, x0: Array, t: ArrayLike) -> Array:
        """Draw x_t given x_0."""
        return corrupt(key, x0, self._levels(t))

    def renoise(self, key: Array, xs: Array, s: ArrayLike, t: ArrayLike) -> Array:
        """Draw x_t given x_s."""
        return renoise(key, xs, self._levels(s), self._levels(t))

    def posterior(self, x0: Array, xt: Array, s: ArrayLike, t: ArrayLike) -> tuple[Array, Array]:
        """Mean and variance of x_s given x_t and x_0."""
        return posterior(x0, xt, self._levels(s), self._levels(t))

    def reverse(self, key: Array, x0hat: Array, xt: Array, s: ArrayLike, t: ArrayLike) -> Array:
        """The ancestral step: draw x_s given x_t and a clean prediction."""
        mean, variance = self.posterior(x0hat, xt, s, t)
        std = jnp.where(variance > 0, jnp.sqrt(jnp.where(variance > 0, variance, 1.0)), 0.0)
        return mean + std * jax.random.normal(key, xt.shape)

    def ddim(
        self, x0hat: Array, xt: Array, s: ArrayLike, t: ArrayLike, key: Array | None = None, eta: ArrayLike = 0.0
    ) -> Array:
        """The step from t to s that is deterministic without a key, and ancestral at eta = 1."""
        return ddim(x0hat, xt, self._levels(s), self._levels(t), key, eta)

    def to_clean(self, output: Array, xt: Array, t: ArrayLike) -> Array:
        """The clean image from a network's output."""
        return to_clean(self.kind, output, xt, self._levels(t), self.std)

    def from_clean(self, x0: Array, xt: Array, t: ArrayLike) -> Array:
        """The network's output for the clean image x0."""
        return from_clean(self.kind, x0, xt, self._levels(t), self.std)

    def _levels(self, t: ArrayLike) -> Array:
        """Log-SNRs with the channels' axis added; a number stays a number."""
        log_snr = self.log_snr(t)
        return log_snr[..., None] if log_snr.ndim else log_snr
