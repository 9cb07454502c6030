"""Losses of the uniform categorical process: one pass over the classes, nothing of the logits' size kept.

With the names of `gcdiff.processes.categorical`, and q(y_s = k | y_t, y_0) = w_k f_k / Z_q where w is u of the one-hot
of y_0, the divergence of the posterior is a sum of log-ratios in which f cancels,

    (1)  KL = sum_k q_k log(w_k / u_k) + log(Z / Z_q)
    (2)  dKL/dlogit_j = h_j - p_j sum_k h_k,   h_k = -q_k a_s p_k / u_k + [k = y_t] a_t p_k / Z

q is constant outside {y_0, y_t}, and there log(w_k / u_k) = -log1p(a_s K p_k / (1 - a_s)). Two pairs of terms of order
1 cancel when s is close to t; they are joined before the logarithm is taken:

    (3)  Z w / (Z_q u)  at y_0 = y_t    is  1 + (1 - p)(a_s - a_t) / (K Z_q u)
    (4)  Z w / (Z_q u)  at y_0 != y_t   is  1 - p (a_s - a_t) / (K Z_q u)
    (5)  -a_s p / u + a_t p / Z         is  -(1 - r)/(K Z) a_s p / u

The cross-entropy is (1) and (2) with q the one-hot of the label, up to what does not depend on the logits.

Logits may be -inf, as long as one of a pixel's is finite. The log of a probability 0 is the finite `LOG_ZERO`, so that
a divergence that is infinite comes out as about 1e30; its gradient is at most 1 all the same.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import xlog1py
from jaxtyping import Array, ArrayLike

from gcdiff.processes.blocks import map_pixels
from gcdiff.types import VOID

LOG_ZERO = -1e30
"""The log of a probability that is 0: exp(LOG_ZERO) is exactly 0, and 0 * LOG_ZERO is 0 and not NaN."""

_TINY = 1e-30  # below it a probability is handled by its logarithm


def posterior_kl(logits: Array, y0: Array, y_t: Array, keep_s: ArrayLike, keep_t: ArrayLike) -> Array:
    """KL(q(y_s | y_t, y_0) || q(y_s | y_t, softmax(logits))) in nats, float32 of y0's shape.

    keep_s = 1 makes it the cross-entropy on softmax(logits + offset). Value and gradient are exactly 0 where
    keep_s == keep_t and where y0 is VOID. Differentiable (reverse mode) in `logits` (..., K) alone.
    """
    return _loss(_kl, logits, y0, y_t, keep_s, keep_t)


def cross_entropy(logits: Array, label: Array, y_t: Array, keep_t: ArrayLike, kappa: ArrayLike = 1.0) -> Array:
    """-log q(y_kappa = label | y_t, softmax(logits)) in nats, float32 of label's shape.

    `kappa` is the label's own precision, broadcastable to it: the label is right with probability kappa and uniform
    otherwise, and y_t is drawn from it by renoise(label, kappa, keep_t). The optimum is the law of the clean label for
    every kappa. kappa = 1 is the cross-entropy on softmax(logits + offset). Value and gradient are exactly 0 where
    keep_t >= kappa (the noisy label is the label: nothing is asked; so for kappa = 0, which is void) and where the
    label is VOID. Differentiable (reverse mode) in `logits` (..., K) alone.
    """
    return _loss(_ce, logits, label, y_t, kappa, keep_t)


def prior_kl(keep_1: ArrayLike, num_classes: int) -> Array:
    """KL(q(y_1 | y_0) || uniform) in nats per pixel, of keep_1's shape; 0 for keep_1 = 0, log K for keep_1 = 1."""
    keep = jnp.asarray(keep_1, jnp.float32)
    below = jnp.where(keep < 1, keep, 0.5)
    kept = (below + (1.0 - below) / num_classes) * jnp.log1p((num_classes - 1) * below)
    moved = (num_classes - 1) / num_classes * xlog1py(1.0 - below, -below)
    return jnp.where(keep < 1, kept + moved, jnp.log(num_classes))


def kl_rate(logits: Array, y0: Array, y_t: Array, keep: ArrayLike) -> Array:
    """The limit of posterior_kl / (keep_s - keep_t) as both go to `keep`: nats per unit of keep, float32 of y0's shape.

    It is the divergence of the two reverse jump rates out of y_t (Campbell et al. 2022, proposition 2),

        1/(a K) sum over k != y_t of  rho log(rho / r) - rho + r,    rho = w_k / w[y_t],    r = u_k / u[y_t]

    and vanishes linearly in a = keep. Exactly 0 at keep = 1, where no step is left, and where y0 is VOID.
    """
    y0, y_t = (jnp.broadcast_to(y, logits.shape[:-1]) for y in (y0, y_t))
    return map_pixels(_rate, logits, y0, y_t, jnp.asarray(keep, jnp.float32))[0]


class _Slope(NamedTuple):
    """The gradient (2) in numbers per pixel: h at y_0 (where it is not y_t), h at y_t, sum of h, log of the sum of exp.

    At the other classes h is -others * odds p / (1 + odds p); `others` is None where that is 0.
    """

    at_clean: Array
    at_own: Array
    total: Array
    log_sum: Array
    others: Array | None
    odds: Array | None


def _loss(kernel: Callable, logits: Array, y0: Array, y_t: Array, keep_s: ArrayLike, keep_t: ArrayLike) -> Array:
    shape = logits.shape[:-1]
    y0, y_t = (jnp.broadcast_to(y, shape) for y in (y0, y_t))
    keep_s, keep_t = (jnp.broadcast_to(jnp.asarray(k, jnp.float32), shape) for k in (keep_s, keep_t))
    return _streamed(kernel, logits, y0, y_t, keep_s, keep_t)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _streamed(kernel, logits, y0, y_t, keep_s, keep_t):
    return map_pixels(lambda *block: kernel(*block)[:1], logits, y0, y_t, keep_s, keep_t)[0]


def _streamed_fwd(kernel, logits, y0, y_t, keep_s, keep_t):
    value, *slope = map_pixels(kernel, logits, y0, y_t, keep_s, keep_t)
    return value, (logits, y0, y_t, slope)


def _streamed_bwd(kernel, residuals, cotangent):
    logits, y0, y_t, slope = residuals
    gradient = _gradient(logits, y0, y_t, _Slope(*slope, *[None] * (6 - len(slope))), cotangent)
    return gradient, None, None, None, None


_streamed.defvjp(_streamed_fwd, _streamed_bwd)


@jax.jit
def _gradient(logits: Array, y0: Array, y_t: Array, slope: _Slope, cotangent: Array) -> Array:
    """The gradient (2) times the cotangent, elementwise in the logits: XLA makes one loop of it, no temporaries."""
    classes = jnp.arange(logits.shape[-1]).reshape((1,) * y0.ndim + (-1,))
    column = functools.partial(jnp.expand_dims, axis=-1)
    p = jnp.exp(logits.astype(jnp.float32) - column(slope.log_sum))
    h = 0.0
    if slope.others is not None:
        x = column(slope.odds) * p
        h = -column(cotangent * slope.others) * (x / (1.0 + x))
    h = jnp.where(classes == column(y0), column(cotangent * slope.at_clean), h)
    h = jnp.where(classes == column(y_t), column(cotangent * slope.at_own), h)
    return (h - p * column(cotangent * slope.total)).astype(logits.dtype)


class _Pixel(NamedTuple):
    """Levels made safe and what softmax(logits) says at y_0 and y_t, per pixel."""

    live: Array  # False: an identity step or a void label, whose value and gradient are 0
    same: Array  # y_0 = y_t
    keep_s: Array
    keep_t: Array
    base: Array  # (1 - a_s)/K, the part of u that does not depend on p
    jump: Array  # (1 - r)/K, f outside y_t
    log_sum: Array
    log_p: Array  # of y_0, floored
    p: Array
    rest: Array  # 1 - p, summed and not subtracted
    u: Array
    p_own: Array  # of y_t
    u_own: Array
    z: Array
    masses: Array  # (b, n, K): exp(logits) up to a factor, 0 at y_0 and y_t
    total: Array  # what makes probabilities of them


def _pixel(logits, y0, y_t, keep_s, keep_t) -> _Pixel:
    classes = logits.shape[-1]
    live = (keep_s > keep_t) & (y0 != VOID)
    keep_s, keep_t = jnp.where(live, keep_s, 0.5), jnp.where(live, keep_t, 0.25)
    y0 = jnp.where(y0 == VOID, 0, y0)
    base = (1.0 - keep_s) / classes
    top = jnp.max(logits, axis=-1)
    at_clean, at_own = (jnp.take_along_axis(logits, y[..., None], axis=-1)[..., 0] for y in (y0, y_t))
    k = jnp.arange(classes)[None, None]
    masses = jnp.where(k == y0[..., None], 0.0, jnp.exp(logits - top[..., None]))
    rest = jnp.sum(masses, axis=-1)
    total = rest + jnp.exp(at_clean - top)
    log_sum = top + jnp.log(total)
    p, p_own = jnp.exp(at_clean - log_sum), jnp.exp(at_own - log_sum)
    return _Pixel(
        live, y0 == y_t, keep_s, keep_t, base, (keep_s - keep_t) / (keep_s * classes), log_sum,
        jnp.maximum(at_clean - log_sum, LOG_ZERO), p, rest / total, keep_s * p + base, p_own, keep_s * p_own + base,
        keep_t * p_own + (1.0 - keep_t) / classes, jnp.where(k == y_t[..., None], 0.0, masses), total,
    )  # fmt: skip


def _kl(logits, y0, y_t, keep_s, keep_t):
    """The divergence (1) and its slope on a block."""
    classes, px = logits.shape[-1], _pixel(logits, y0, y_t, keep_s, keep_t)
    odds = jnp.where(px.base > 0, px.keep_s / jnp.where(px.base > 0, px.base, 1.0), 0.0)
    x = (odds / px.total)[..., None] * px.masses
    log_sum, share_sum = jnp.sum(jnp.log1p(x), axis=-1), jnp.sum(x / (1.0 + x), axis=-1)

    start = (1.0 - px.keep_t) / classes
    z_q = start + jnp.where(px.same, px.keep_t, 0.0)
    q_other = px.base * (px.jump / z_q)
    q_clean = (px.keep_s + px.base) * (px.jump / z_q)
    leave = jnp.where(px.same, (classes - 1) * q_other, q_clean + (classes - 2) * q_other)  # 1 - q at y_t

    ratio = jnp.where(  # log(w / u) at y_0
        px.p > 0.5, -jnp.log1p(-px.keep_s * px.rest / (px.keep_s + px.base)), jnp.log(px.keep_s + px.base) - _log_u(px)
    )
    joined = jnp.log1p(px.rest * px.jump * px.keep_s / (z_q * jnp.maximum(px.u, _TINY)))  # (3)
    joined = jnp.where(px.u > _TINY, joined, ratio + jnp.log(px.z / z_q))
    value_same = joined - q_other * ((classes - 1) * ratio + log_sum)
    log_own = jnp.log1p(odds * px.p_own)
    joined = -px.p_own * px.jump * px.keep_s / (start * jnp.maximum(px.u_own, _TINY))  # (4)
    # The floor under u is reached at a_s = 1 alone, where u = p: (4) with the floor is then wrong, and is not used.
    near = (joined > -0.5) & (px.u_own > _TINY)
    joined = jnp.where(near, jnp.log1p(joined), jnp.log1p(px.keep_t * px.p_own / start) - log_own)
    value_other = q_clean * ratio + joined + leave * log_own - q_other * log_sum

    slope = _slope(px, q_clean, leave, q_other * share_sum)
    zeroed = jnp.where(px.live, q_other, 0.0)
    return jnp.where(px.live, jnp.where(px.same, value_same, value_other), 0.0), *slope, zeroed, odds


def _ce(logits, y0, y_t, keep_s, keep_t):
    """The cross-entropy and its slope on a block."""
    classes, px = logits.shape[-1], _pixel(logits, y0, y_t, keep_s, keep_t)
    log_u = _log_u(px)
    below = px.keep_s * px.rest + (classes - 1) * px.base  # 1 - u
    log_u = jnp.where(px.u > 0.5, jnp.log1p(-below), log_u)
    f_own = px.keep_t / px.keep_s + px.jump
    small = jnp.log1p(below * px.jump / (jnp.maximum(px.u, _TINY) * f_own))
    value_same = jnp.where(px.u > _TINY, small, jnp.log(px.z / f_own) - log_u)
    value = jnp.where(px.same, value_same, jnp.log(px.z / px.jump) - log_u)
    return jnp.where(px.live, value, 0.0), *_slope(px, 1.0, jnp.where(px.same, 0.0, 1.0), 0.0)


def _log_u(px: _Pixel) -> Array:
    """log u at y_0 from the log-probability: a_s = 1 and an underflow of p must leave it finite."""
    return jnp.logaddexp(jnp.log(px.keep_s) + px.log_p, jnp.log(px.base))


def _slope(px: _Pixel, q_clean, leave, others) -> tuple[Array, Array, Array, Array]:
    """The `_Slope` of a pixel; `leave` is 1 - q at y_t, `others` the sum of the other -h."""
    # a_s p / u is 1 at a_s = 1, also where p underflows: the worst mistakes must not lose their gradient.
    share, share_own = (
        jnp.where(u > 0, px.keep_s * p / jnp.where(u > 0, u, 1.0), 1.0) for p, u in ((px.p, px.u), (px.p_own, px.u_own))
    )
    at_own = jnp.where(px.live, share_own * (leave - px.jump / px.z), 0.0)  # (5)
    at_clean = jnp.where(px.live & ~px.same, -q_clean * share, 0.0)
    return at_clean, at_own, at_clean + at_own - jnp.where(px.live, others, 0.0), px.log_sum


def _rate(logits, y0, y_t, keep):
    """`kl_rate` on a block, as r g(1 + d) / (a K) with g(x) = x log x - x + 1 and 1 + d = rho / r.

    d is a times `slope`, a difference that is written out, so that nothing is divided by a where a is small.
    """
    classes = logits.shape[-1]
    live = (keep < 1) & (y0 != VOID)
    keep = jnp.where(live, keep, 0.5)[..., None]
    base = (1.0 - keep) / classes
    k, y0, y_t = jnp.arange(classes)[None, None], jnp.where(y0 == VOID, 0, y0)[..., None], y_t[..., None]
    clean, own, same = k == y0, k == y_t, y0 == y_t
    p = jax.nn.softmax(logits, axis=-1)
    p_own, rest_own, rest_clean = (
        jnp.sum(jnp.where(where, p, 0.0), axis=-1, keepdims=True) for where in (own, ~own, ~clean)
    )
    w, w_own = (jnp.where(where, keep + base, base) for where in (clean, same))
    u, u_own = keep * p + base, keep * p_own + base
    from_clean, to_clean = keep * p + base * (rest_own + p), keep * p_own + base * (p_own + rest_clean)
    slope = jnp.where(same, -from_clean, jnp.where(clean, to_clean, base * (p_own - p))) / (w_own * u)
    d, rho, r = keep * slope, w / w_own, u / u_own
    small = jnp.abs(d) < 0.25
    x = jnp.where(small, d, 0.0)
    series = jnp.polyval(jnp.array([(-1.0) ** n / ((n + 1) * (n + 2)) for n in range(7, -1, -1)]), x)  # g / d^2
    log_ratio = jnp.where(d > -0.5, jnp.log1p(jnp.maximum(d, -0.5)), jnp.log(rho / r))
    large = (rho * log_ratio - rho + r) / jnp.where(small, 1.0, keep)
    terms = jnp.where(own, 0.0, jnp.where(small, r * slope * x * series, large))
    return (jnp.where(live, jnp.sum(terms, axis=-1) / classes, 0.0),)
