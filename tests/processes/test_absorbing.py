"""The absorbing process alone: what is seen is certain, what is hidden is a class of its own."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gcdiff.processes import blocks
from gcdiff.processes.absorbing import AbsorbingProcess
from gcdiff.processes.categorical import cross_entropy
from gcdiff.schedules import Schedule
from gcdiff.types import VOID

K = 19
PROCESS = AbsorbingProcess(K, Schedule("cosine"))
KEY = jax.random.key(0)
SHAPE = (3, 4, 5)
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(*SHAPE, K)).astype(np.float32)
LABEL = RNG.integers(0, K, SHAPE).astype(np.int32)
HIDDEN = RNG.random(SHAPE) < 0.5
NOISY = np.where(HIDDEN, K, LABEL).astype(np.int32)


def test_sizes():
    assert (PROCESS.state_size, PROCESS.embedding_size, PROCESS.head_size, PROCESS.mask) == (K + 1, K + 1, K, K)
    assert (PROCESS.state_channels, PROCESS.has_likelihood) == (0, True)


def test_noise_hides_and_never_changes_a_label():
    t = np.linspace(0, 1, 3, dtype=np.float32)[:, None, None]
    noisy = np.asarray(jax.jit(PROCESS.corrupt)(KEY, LABEL, t))
    assert np.isin(noisy, [K]).any() and ((noisy == LABEL) | (noisy == K)).all()
    np.testing.assert_array_equal(noisy[0], LABEL[0])
    np.testing.assert_array_equal(noisy[2], K)
    np.testing.assert_array_equal(PROCESS.corrupt(KEY, np.full(SHAPE, VOID), 0.0), K)


def test_what_is_seen_stays_whatever_is_predicted():
    """Also where the label that is seen has probability 0, and down to level 0, where nothing hidden is left."""
    against = np.where(np.arange(K) == LABEL[..., None], -np.inf, LOGITS).astype(np.float32)
    drawn = np.asarray(jax.jit(PROCESS.reverse)(KEY, against, NOISY, 0.0, 0.6))
    np.testing.assert_array_equal(drawn[~HIDDEN], LABEL[~HIDDEN])
    assert (drawn[HIDDEN] != LABEL[HIDDEN]).all() and (drawn < K).all()
    law = np.asarray(PROCESS.loo_to_posterior(against, NOISY, 0.6))
    np.testing.assert_array_equal(np.exp(law)[~HIDDEN], np.eye(K)[LABEL[~HIDDEN]])


def test_the_share_that_is_revealed_is_the_schedules():
    """(a_s - a_t)/(1 - a_t) of what is hidden, whatever is predicted."""
    shape, s, t = (1, 100, 200), 0.4, 0.7
    logits = np.zeros((*shape, K), np.float32)
    drawn = jax.jit(PROCESS.reverse)(KEY, logits, np.full(shape, K), s, t)
    keep_s, keep_t = float(PROCESS.keep(s)), float(PROCESS.keep(t))
    share = (keep_s - keep_t) / (1 - keep_t)
    assert abs((np.asarray(drawn) < K).mean() - share) < 5 * np.sqrt(share * (1 - share) / 20000)


def test_the_loss_is_the_plain_cross_entropy_where_hidden():
    def loss(logits):
        return PROCESS.loss(logits, LABEL, NOISY, 0.5)

    def plain(logits):
        nats = -jnp.take_along_axis(jax.nn.log_softmax(logits), LABEL[..., None], axis=-1)[..., 0]
        return jnp.where(HIDDEN, nats, 0.0)

    np.testing.assert_allclose(loss(LOGITS), plain(LOGITS), rtol=1e-5, atol=1e-6)
    slopes = [jax.grad(lambda v, f=f: f(v).sum())(LOGITS) for f in (loss, plain)]
    np.testing.assert_allclose(*slopes, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kappa", [0.7, 0.0])
def test_doubt_means_what_it_means_for_uniform_noise_at_level_1(kappa):
    hidden = np.full(SHAPE, K)
    got = PROCESS.loss(LOGITS, LABEL, hidden, 1.0, kappa)
    np.testing.assert_allclose(got, cross_entropy(LOGITS, LABEL, np.zeros(SHAPE, np.int32), 0.0, kappa), rtol=1e-6)
    p = np.exp(jax.nn.log_softmax(LOGITS))[np.arange(K) == LABEL[..., None]].reshape(SHAPE)
    np.testing.assert_allclose(got, -np.log(kappa * p + (1 - kappa) / K) if kappa else 0 * p, rtol=1e-5)


def test_the_divergence_is_the_cross_entropy_times_what_is_revealed():
    """Over any grid the shares times the masked pixels' mass sum to 1: the closed form of the bound."""
    nats, total = np.asarray(PROCESS.loss(LOGITS, LABEL, np.full(SHAPE, K), 1.0)), 0.0
    levels = np.sort(np.append(RNG.random(6), (0, 1)))[::-1].astype(np.float32)
    kl, rate = jax.jit(PROCESS.kl), jax.jit(PROCESS.kl_rate)
    for t, s in zip(levels[:-1], levels[1:], strict=True):
        keep_s, keep_t = (float(PROCESS.keep(level)) for level in (s, t))
        step = np.asarray(kl(LOGITS, LABEL, np.full(SHAPE, K), s, t))
        np.testing.assert_allclose(
            step, (keep_s - keep_t) * np.asarray(rate(LOGITS, LABEL, np.full(SHAPE, K), t)), 1e-4
        )
        assert (
            not np.asarray(kl(LOGITS, LABEL, LABEL, s, t)).any() and not np.asarray(rate(LOGITS, LABEL, LABEL, t)).any()
        )
        total = total + (1 - keep_t) * step
    np.testing.assert_allclose(total, nats, rtol=1e-5)
    assert PROCESS.prior_kl() == 0


def test_a_mask_that_is_left_is_void():
    np.testing.assert_array_equal(PROCESS.decode(NOISY), np.where(HIDDEN, VOID, LABEL))


def test_blocks_change_no_draw(monkeypatch):
    keys = jax.random.split(KEY, len(SHAPE))
    whole = jax.jit(lambda: PROCESS.reverse(keys, LOGITS, NOISY, 0.2, 0.8))()
    monkeypatch.setattr(blocks, "BLOCK_ELEMENTS", K * len(LOGITS) * 7)  # 7 of the 20 pixels of each example
    np.testing.assert_array_equal(jax.jit(lambda: PROCESS.reverse(keys, LOGITS, NOISY, 0.2, 0.8))(), whole)
