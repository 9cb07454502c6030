"""Noise schedules: the log signal-to-noise ratio of a level t in [0, 1], for images and for labels.

With l = log_snr(t), an image has alpha^2 = sigmoid(l) and sigma^2 = sigmoid(-l), and a label is kept with
probability keep = sigmoid(l), so that a log-SNR means the same for both. Inside (0, 1) the curves are the
published ones,

    linear    l = -log(expm1(1e-4 + 10 t^2))                              (Saharia et al. 2022, Imagen)
    cosine    l = -log(cos(u)^-2 - 1),   u = (t + .008)/1.008 pi/2        (Nichol and Dhariwal 2021)
    cosine_p  l = -log(max(cos(u)^(-2p) - 1, 1e-5))                       (keep = cos(u)^(2p))

and the ends are exact by definition: log_snr(0) = +inf ("given"), log_snr(1) = -inf ("unknown"). A published
curve stops short of its ends, and what then leaks at t = 1 is visible (alpha = .007 shifts the brightness).
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike

_COSINE_OFFSET = 0.008
_LEAST_NSR = 1e-5  # the released cosine_p curve is clipped here
_KEEP_MISS = 1e-3  # by which a level's keep may miss the one that was asked for


def linear(t: Array) -> Array:
    """The log-SNR of the linear schedule, t in [0, 1]; finite at both ends (9.21 and -10)."""
    return -_log_expm1(1e-4 + 10.0 * jnp.square(t))


def cosine(t: Array) -> Array:
    """The log-SNR of the cosine schedule, t in [0, 1); 8.77 at t = 0. The released clip at 1e-5 is never reached."""
    return -2.0 * _log_tan(t)


def cosine_p(t: Array, power: float = 1.0) -> Array:
    """The log-SNR of the cosine schedule for labels, keep = cos(u)^(2 power), t in [0, 1)."""
    log_inverse_keep = power * jax.nn.softplus(2.0 * _log_tan(t))  # cos^-2 = 1 + tan^2
    return -jnp.maximum(_log_expm1(log_inverse_keep), math.log(_LEAST_NSR))


def _log_tan(t: Array) -> Array:
    """log tan(u), with the cosine as the sine of the complement: tan itself loses every digit near t = 1."""
    scale = 0.5 * math.pi / (1.0 + _COSINE_OFFSET)
    return jnp.log(jnp.sin(scale * (t + _COSINE_OFFSET))) - jnp.log(jnp.sin(scale * (1.0 - t)))


def _log_expm1(x: Array) -> Array:
    """log(exp(x) - 1) for x > 0, without overflow."""
    return x + jnp.log(-jnp.expm1(-x))


def alpha_of(log_snr: Array) -> Array:
    """alpha, the signal's scale sqrt(sigmoid(log_snr)); exact at +-inf, with a finite gradient everywhere."""
    return jnp.exp(0.5 * jax.nn.log_sigmoid(log_snr))


def sigma_of(log_snr: Array) -> Array:
    """sigma, the noise's scale sqrt(sigmoid(-log_snr)); exact at +-inf, with a finite gradient everywhere."""
    return alpha_of(-log_snr)


def resolution_shift(size: int, reference: int = 64) -> float:
    """The shift of the log-SNR, 2 log(reference / size), that keeps a picture equally hidden at another resolution.

    Averaging (size / reference)^2 pixels reveals what noise hides in each, so a larger picture needs more noise at
    the same t (Hoogeboom et al. 2023, simple diffusion, section 3.1). Labels need it too: a region of M pixels of one
    class gives its class away once M keep^2 is of order 1. `size` and `reference` are side lengths in pixels.
    """
    if size <= 0 or reference <= 0:
        raise ValueError(f"resolution_shift: size {size} and reference {reference}, expected positive side lengths")
    return 2.0 * math.log(reference / size)


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A noise schedule with exact ends: `name` is 'linear', 'cosine' or 'cosine_p', `shift` is added to its log-SNR.

    `power` is the p of cosine_p. Every method takes levels t of any shape and returns float32 of that shape, monotone
    in t; gradients with respect to t are finite, and 0 at the two ends. Raises ValueError on a bad field.
    """

    name: str
    shift: float = 0.0
    power: float = 1.0

    def __post_init__(self):
        if self.name not in CURVES:
            raise ValueError(f"schedule name is {self.name!r}, expected one of {', '.join(CURVES)}")
        if not math.isfinite(self.shift):
            raise ValueError(f"schedule shift is {self.shift}, expected a finite number")
        if not 0 < self.power < math.inf or (self.power != 1 and self.name != "cosine_p"):
            raise ValueError(f"schedule power is {self.power} for {self.name!r}, expected 1, or > 0 for 'cosine_p'")

    def log_snr(self, t: ArrayLike) -> Array:
        """The log-SNR at level t: log(alpha^2 / sigma^2), of a label log(keep / (1 - keep)); +inf at 0, -inf at 1."""
        t = jnp.asarray(t, jnp.float32)
        inside = (t > 0) & (t < 1)
        curve = CURVES[self.name](jnp.where(inside, t, 0.5), self.power) + self.shift
        return jnp.where(inside, curve, jnp.where(t <= 0, jnp.inf, -jnp.inf))

    def alpha(self, t: ArrayLike) -> Array:
        """The share of the signal, sqrt(sigmoid(log_snr)): 1 at t = 0, 0 at t = 1."""
        return alpha_of(self.log_snr(t))

    def sigma(self, t: ArrayLike) -> Array:
        """The standard deviation of the noise, sqrt(sigmoid(-log_snr)): 0 at t = 0, 1 at t = 1."""
        return sigma_of(self.log_snr(t))

    def level(self, keep: ArrayLike) -> np.ndarray:
        """The level at which a label is kept with probability `keep` in [0, 1], float32, by bisection on the host.

        0 and 1 have the two ends. Between its ends and these a curve has no level: below 1e-3 a keep that no level has
        is taken for 0. Raises ValueError for any other keep that is missed by more than .001, or by more than 1 % of
        1 - keep, and for what is no probability.
        """
        keep = np.asarray(keep, np.float64)
        if not ((keep >= 0) & (keep <= 1)).all():
            raise ValueError(f"keep lies in {keep.min():g} to {keep.max():g}, expected 0 to 1")
        low, high = np.zeros(keep.shape), np.ones(keep.shape)
        with jax.ensure_compile_time_eval():  # also where it is asked for within a traced function
            for _ in range(40):
                middle = (low + high) / 2
                above = np.asarray(self.keep(middle)) > keep
                low, high = np.where(above, middle, low), np.where(above, high, middle)
            level = np.where(keep <= 0, 1.0, np.where(keep >= 1, 0.0, high)).astype(np.float32)
            keep_there = np.asarray(self.keep(level), np.float64)
            ends = [float(self.keep(at)) for at in (np.float32(1 - 2**-24), np.finfo(np.float32).tiny)]
        missed = np.abs(keep_there - keep) > np.minimum(_KEEP_MISS, 0.01 * (1 - keep)) + 1e-6
        if missed.any():
            raise ValueError(
                f"keep is {keep[missed].flat[0]:g}, which no level of the schedule {self.name} with shift "
                f"{self.shift:g} has: expected {ends[0]:.3g} to {ends[1]:.6g}, or exactly 0 or 1"
            )
        return level

    def keep(self, t: ArrayLike) -> Array:
        """The probability that a label has not been redrawn, sigmoid(log_snr): 1 at t = 0, 0 at t = 1."""
        return jax.nn.sigmoid(self.log_snr(t))


CURVES = {
    "linear": lambda t, power: linear(t),
    "cosine": lambda t, power: cosine(t),
    "cosine_p": cosine_p,
}
"""The log-SNR of a level and a power, by the name of the schedule."""
