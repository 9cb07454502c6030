"""Every function of the processes against float64 where classes are 60 to 110 nats apart, at all ends, with gradients.

float32 holds probabilities down to e^-103 and full precision down to e^-87: between, a guard that is missing shows.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gcdiff.processes import categorical, gaussian
from gcdiff.processes.absorbing import AbsorbingProcess
from gcdiff.processes.bits import BitsProcess
from gcdiff.processes.categorical import LOG_ZERO
from gcdiff.schedules import Schedule

GAPS = np.array([0.0, 2.0, *np.arange(60.0, 111.0, 5.0), 69.5, 69.8, 72.0, 75.9, 87.4, 88.1, 103.5, np.inf])
KEEPS = np.array([0.0, 1e-7, 0.3, 0.9, 1 - 2**-20, 1 - 2**-24, 1.0], np.float32)
PAIRS = np.array([(s, t) for s in KEEPS for t in KEEPS if s >= t])  # (keep_s, keep_t), equal ones too
sizes = pytest.mark.parametrize("classes", [2, 3, 171])


@functools.cache
def problem(classes):
    """Logits (N, K), y0, y_t, keep_s, keep_t (N,): y0, y_t, both or neither are a gap below the top class."""
    rows = []
    for gap in GAPS:
        for rest in (-3.0, -150.0):
            for y0, y_t, low in ((0, 1, (1,)), (0, 1, (0,)), (0, 0, (0,)), (0, 0, (1,)), (0, 1, (0, 1))):
                logits = np.full(classes, rest)
                logits[: 3 if classes > 2 else 2] = 0.0
                logits[list(low)] = -gap
                if np.isfinite(logits.max()):
                    rows.append((logits, y0, y_t))
    logits, y0, y_t = (np.array(part) for part in zip(*rows, strict=True))
    pixels, pairs = (i.ravel() for i in np.indices((len(logits), len(PAIRS))))
    labels = (y[pixels].astype(np.int32) for y in (y0, y_t))
    return logits[pixels].astype(np.float32), *labels, *PAIRS[pairs].T


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


def law(log_p, y_t, keep_s, keep_t):
    """log q(y_s | y_t, p) by enumeration, in logarithms, float64 (N, K), where keep_s > keep_t."""
    n, classes = log_p.shape
    keep_s, keep_t = np.float64(keep_s)[:, None], np.float64(keep_t)[:, None]
    own = np.arange(classes) == y_t[:, None]
    log_u = np.logaddexp(np.log(keep_s) + log_p, np.log1p(-keep_s) - np.log(classes))
    jump = (keep_s - keep_t) / keep_s
    return log_softmax(log_u + np.log(own * (keep_t / keep_s) + jump / classes))


def exact(classes):
    """The posterior, its divergence and cross-entropy with their gradients, by enumeration in float64."""
    logits, y0, y_t, keep_s, keep_t = problem(classes)
    live = keep_s > keep_t
    safe_s, safe_t = np.where(live, keep_s, 0.5), np.where(live, keep_t, 0.25)
    log_p, clean = log_softmax(logits), np.arange(classes) == y0[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        actual = law(log_p, y_t, safe_s, safe_t)
        log_q = law(np.where(clean, 0.0, -np.inf), y_t, safe_s, safe_t)
        q = np.exp(log_q)
        divergence = np.where(q > 0, q * (log_q - actual), 0.0).sum(axis=-1)
        # d log(posterior)_k / d logit_j = share_k ([j = k] - p_j) minus its mean under the posterior.
        log_u = np.logaddexp(
            np.log(np.float64(safe_s))[:, None] + log_p, np.log1p(-np.float64(safe_s))[:, None] - np.log(classes)
        )
        share = np.exp(np.where(np.isneginf(log_u), 0.0, np.log(np.float64(safe_s))[:, None] + log_p - log_u))
    p = np.exp(log_p)

    def slope(weight):
        """The gradient of -sum_k weight_k log(posterior)_k in the logits."""
        pull = share * (np.exp(actual) - weight)
        return pull - p * pull.sum(axis=-1, keepdims=True)

    entropy = -np.where(clean, actual, 0.0).sum(axis=-1)
    return live, actual, (divergence, slope(q)), (entropy, slope(clean))


def close(actual, wanted, rtol=1e-4, atol=1e-5):
    """Equal, with what is beyond 1e20 taken for infinite."""
    actual, wanted = (np.clip(np.asarray(v, np.float64), -1e20, 1e20) for v in (actual, wanted))
    np.testing.assert_allclose(actual, wanted, rtol=rtol, atol=atol)


def value_and_slope(function, logits, *rest):
    """The values of a function of (logits, ...) and the gradient of their sum, one compilation."""

    @jax.jit
    def both(logits, *rest):
        value, back = jax.vjp(lambda x: function(x, *rest), logits)
        return value, back(jnp.ones_like(value))[0]

    return both(logits, *rest)


@sizes
def test_the_losses_are_the_enumerated_ones(classes):
    live, _, divergence, entropy = exact(classes)
    logits, y0, y_t, keep_s, keep_t = problem(classes)
    losses = (
        (categorical.posterior_kl, divergence, (y0, y_t, keep_s, keep_t)),
        (categorical.cross_entropy, entropy, (y0, y_t, keep_t, keep_s)),
    )
    for loss, (value, slope), rest in losses:
        actual, gradient = value_and_slope(loss, logits, *rest)
        assert np.asarray(actual).min() > -1e-6, loss.__name__
        close(actual, np.where(live, value, 0.0))
        close(gradient, np.where(live[:, None], slope, 0.0))


def test_a_certain_prediction_that_is_right_costs_nothing():
    """y_0 is the top class, y_t is so far below that its probability leaves float32, and s is clean."""
    gaps = np.linspace(60.0, 110.0, 201, dtype=np.float32)
    logits = np.stack([np.zeros_like(gaps), -gaps], axis=-1)
    actual = jax.jit(categorical.posterior_kl)(logits, np.zeros(201, int), np.ones(201, int), 1.0, 0.3)
    np.testing.assert_allclose(actual, 0, atol=1e-6)


@sizes
def test_the_laws_are_the_enumerated_ones(classes):
    live, wanted, *_ = exact(classes)
    logits, _, y_t, keep_s, keep_t = problem(classes)
    own = np.arange(classes) == y_t[:, None]
    actual, gradient = value_and_slope(categorical.posterior, logits, y_t, keep_s, keep_t)
    close(actual, np.where(live[:, None], wanted, np.where(own, 0.0, LOG_ZERO)), atol=1e-4)
    assert np.isfinite(gradient).all()
    clean = keep_s == 1
    close(jax.jit(categorical.loo_to_posterior)(logits[clean], y_t[clean], keep_t[clean]), actual[clean])


@sizes
def test_the_rate_is_the_enumerated_one(classes):
    logits, y0, y_t, keep, _ = problem(classes)
    inside = (keep > 0) & (keep < 1)
    logits, y0, y_t, keep = (v[inside] for v in (logits, y0, y_t, keep))
    a = np.float64(keep)[:, None]
    log_w, log_u = (
        np.logaddexp(np.log(a) + v, np.log1p(-a) - np.log(classes))
        for v in (np.where(np.arange(classes) == y0[:, None], 0.0, -np.inf), log_softmax(logits))
    )
    log_rho, log_r = (v - np.take_along_axis(v, y_t[:, None], axis=1) for v in (log_w, log_u))
    terms = np.exp(log_rho) * (log_rho - log_r) - np.exp(log_rho) + np.exp(log_r)
    close(jax.jit(categorical.kl_rate)(logits, y0, y_t, keep), terms.sum(axis=-1) / (a[:, 0] * classes), rtol=1e-3)


@sizes
def test_the_prior_term_is_the_enumerated_one(classes):
    keep = np.float64(KEEPS)[:, None]
    q = keep * (np.arange(classes) == 0) + (1 - keep) / classes
    wanted = np.where(q > 0, q * np.log(np.maximum(q * classes, 1e-300)), 0.0).sum(axis=-1)
    close(categorical.prior_kl(KEEPS, classes), wanted, atol=1e-6)


def test_draws_have_the_enumerated_law():
    """Classes far below the top are drawn where the noise allows them, and only there."""
    logits, _, y_t, keep_s, keep_t = problem(3)
    live, wanted, *_ = exact(3)
    draw = jax.jit(jax.vmap(lambda k: categorical.reverse(k, logits, y_t, keep_s, keep_t)))
    drawn = np.asarray(draw(jax.random.split(jax.random.key(0), 400)))
    wanted = np.where(live[:, None], np.exp(wanted), np.arange(3) == y_t[:, None])
    shares = (drawn[..., None] == np.arange(3)).mean(axis=0)
    assert not shares[wanted < 1e-12].any()
    assert np.abs(shares - wanted).max() < 5.5 * np.sqrt(0.25 / 400)


@sizes
def test_absorbing_noise_agrees_with_float64(classes):
    process = AbsorbingProcess(classes, Schedule("linear"))
    levels = np.array([0.0, 1e-3, 0.4, 0.9, 1.0], np.float32)
    pairs = np.array([(s, t) for s in levels for t in levels if s <= t])
    logits, y0 = (v[:: len(PAIRS)] for v in problem(classes)[:2])
    i, j, seen = (v.ravel() for v in np.indices((len(logits), len(pairs), 2)))
    logits, y0, (s, t) = logits[i], y0[i], pairs[j].T
    yt = np.where(seen == 1, y0, process.mask).astype(np.int32)
    hidden, log_p = yt == process.mask, log_softmax(logits)
    keep_s, keep_t = (np.asarray(process.keep(v), np.float64) for v in (s, t))
    moves, rest = s < t, np.where(keep_t < 1, 1 - keep_t, 1.0)
    reveal = np.where(moves, (keep_s - keep_t) / rest, 0.0)
    entropy = np.where(hidden, -log_p[np.arange(len(y0)), y0], 0.0)
    slope = np.where(hidden[:, None], np.exp(log_p) - (np.arange(classes) == y0[:, None]), 0.0)

    actual, gradient = value_and_slope(lambda x: process.loss(x, y0, yt, t), logits)
    close(actual, entropy)
    close(gradient, slope)
    actual, gradient = value_and_slope(lambda x: process.kl(x, y0, yt, s, t), logits)
    with np.errstate(invalid="ignore"):
        close(actual, np.where(reveal > 0, reveal * entropy, 0.0))
        rate = np.where(t > 0, entropy / np.asarray(jax.nn.sigmoid(-process.log_snr(np.where(t > 0, t, 1.0)))), 0.0)
    close(gradient, reveal[:, None] * slope)
    close(jax.jit(process.kl_rate)(logits, y0, yt, t), rate)
    with np.errstate(divide="ignore"):
        moved = np.concatenate([log_p + np.log(reveal)[:, None], np.log(1 - reveal)[:, None]], axis=-1)
    one = np.where(np.arange(classes + 1) == yt[:, None], 0.0, LOG_ZERO)
    actual, gradient = value_and_slope(lambda x: process.posterior(x, yt, s, t), logits)
    certain = (reveal > 1 - 1e-6)[:, None] & (np.arange(classes + 1) == classes)  # log(1 - reveal) has no digits left
    wanted = np.where(hidden[:, None], moved, one)
    close(np.where(certain, 0.0, actual), np.where(certain, 0.0, wanted))
    assert np.isfinite(gradient).all()
    close(jax.jit(process.loo_to_posterior)(logits, yt, t), np.where(hidden[:, None], log_p, one[:, :-1]))


@sizes
def test_certain_bits_agree_with_float64(classes):
    process = BitsProcess(classes, Schedule("cosine"))
    rng = np.random.default_rng(0)
    bits = rng.choice([-1.0, -0.999999, -0.3, 0.0, 0.5, 0.999, 1.0], (300, process.state_channels)).astype(np.float32)
    clipped = np.clip(np.float64(bits), -1 + 1e-6, 1 - 1e-6)
    wanted = log_softmax(np.log((1 + process.codes * clipped[:, None]) / 2).sum(axis=-1))
    close(jax.jit(process.loo_to_posterior)(bits, bits, np.full(300, 0.5, np.float32)), wanted, atol=0.1)


def test_gaussian_steps_agree_with_float64():
    ends = np.array([np.inf, 110, 90, 60, 13, 0, -13, -60, -90, -110, -np.inf], np.float32)
    l_s, l_t = np.array([(s, t) for s in ends for t in ends if s > t]).T[:, :, None]
    x0, x_t = np.random.default_rng(0).normal(size=(2, len(l_s), 5)).astype(np.float32)
    a_s, a_t, v_s, v_t = (1 / (1 + np.exp(np.float64(v))) for v in (-l_s, -l_t, l_s, l_t))  # alpha^2 and sigma^2
    with np.errstate(over="ignore", invalid="ignore"):
        fresh = -np.expm1(np.float64(l_t) - l_s)
        mean = np.sqrt(a_t / a_s) * (v_s / v_t) * x_t + np.sqrt(a_s) * fresh * x0
    actual, variance = jax.jit(gaussian.posterior)(x0, x_t, l_s, l_t)
    close(actual, mean)
    close(variance, v_s * fresh)
    close(jax.jit(gaussian.ddim)(x0, x_t, l_s, l_t), np.sqrt(v_s / v_t) * x_t + (
        np.sqrt(a_s) - np.sqrt(v_s / v_t) * np.sqrt(a_t)) * x0)  # fmt: skip
    d = gaussian.DATA_STD
    skip, out = a_t * d**2, np.sqrt(v_t) * d
    spread = a_t * d**2 + v_t
    f = gaussian.DETAIL * d
    small = a_t * f**2 + v_t
    with np.errstate(divide="ignore", invalid="ignore"):
        means = {
            "skip": np.sqrt(a_t) * f**2 / small * x_t + np.sqrt(v_t / small) * x0,
            "x0": x0,
            "eps": np.where(a_t > 0, (x_t - np.sqrt(v_t) * x0) / np.sqrt(a_t), 0.0),
            "v": np.sqrt(a_t) * x_t - np.sqrt(v_t) * x0,
            "preconditioned": skip / np.sqrt(a_t) / spread * x_t + out / np.sqrt(spread) * x0,
        }
        means["preconditioned"] = np.where(a_t > 0, means["preconditioned"], d * x0)
        targets = {
            "skip": (x0 - np.sqrt(a_t) * f**2 / small * x_t) * np.sqrt(small / v_t),
            "x0": x0,
            "eps": (x_t - np.sqrt(a_t) * x0) / np.sqrt(v_t),
            "v": (np.sqrt(a_t) * x_t - x0) / np.sqrt(v_t),
            "preconditioned": (x0 - np.sqrt(a_t) * d**2 / spread * x_t) * np.sqrt(spread) / out,
        }
    for kind in gaussian.KINDS:
        close(gaussian.to_clean(kind, x0, x_t, l_t), means[kind])
        close(gaussian.from_clean(kind, x0, x_t, l_t), targets[kind], rtol=1e-3)
