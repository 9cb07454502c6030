"""Analog bits alone: the codes of the classes, and what grey values say of them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gcdiff.processes.bits import BitsProcess
from gcdiff.schedules import Schedule

SCHEDULE = Schedule("cosine")
KEY = jax.random.key(0)
RNG = np.random.default_rng(0)


def process(classes):
    return BitsProcess(classes, SCHEDULE)


def test_every_class_has_a_code_of_its_own():
    for classes in range(2, 301):
        codes = process(classes).codes
        assert codes.shape == (classes, int(np.ceil(np.log2(classes)))) and set(np.unique(codes)) == {-1, 1}
        assert len(np.unique(codes, axis=0)) == classes


@pytest.mark.parametrize("classes", [2, 3, 5, 8, 19, 150, 257, 300])
def test_the_nearest_class_is_found_and_no_other_code(classes):
    bits = process(classes)
    assert (bits.head_size, bits.state_channels, bits.embedding_size, bits.has_likelihood) == (
        *[bits.codes.shape[1]] * 2, 0, False,
    )  # fmt: skip
    unused = np.ones(bits.state_channels, np.float32)  # the last code: no class unless K is a power of 2
    state = np.concatenate([RNG.normal(size=(200, bits.state_channels)).astype(np.float32), unused[None], bits.codes])
    decoded = np.asarray(bits.decode(state))
    distance = np.square(state[:, None] - bits.codes).sum(axis=-1)
    np.testing.assert_allclose(distance[np.arange(len(state)), decoded], distance.min(axis=1), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(decoded[-classes:], np.arange(classes))
    assert decoded.min() >= 0 and decoded.max() < classes


def test_probabilities_are_products_over_the_codes_that_are_classes():
    bits, x = process(5), RNG.uniform(-0.95, 0.95, (2, 3, 4, 3)).astype(np.float32)
    product = ((1 + bits.codes * x[..., None, :]) / 2).prod(axis=-1)
    want = product / product.sum(axis=-1, keepdims=True)
    got = np.exp(bits.loo_to_posterior(x, np.zeros_like(x), 0.7))
    np.testing.assert_allclose(got, want, rtol=1e-5)
    whole = process(8)  # all codes are classes, and a law whose bits are independent is found again
    codes_mean = np.exp(whole.loo_to_posterior(x, np.zeros_like(x), 0.7)) @ whole.codes
    np.testing.assert_allclose(codes_mean, x, atol=1e-5)


def test_a_certain_prediction_is_a_certain_class():
    bits, y = process(19), np.arange(19)[None, None]
    for scale in (1.0, 3.0):  # guidance may overshoot
        law = np.exp(bits.loo_to_posterior(scale * bits.codes[y], np.zeros((1, 1, 19, 5), np.float32), 0.5))
        np.testing.assert_allclose(law, np.eye(19)[y], atol=1e-5)
    np.testing.assert_array_equal(bits.clean(3 * bits.codes[y], None, 0.5), bits.codes[y])


def test_the_posterior_is_the_gaussian_conditional():
    """From the covariance of (y_s, y_t) given y_0, in float64."""
    bits, s, t = process(4), 0.3, 0.6
    keep_s, keep_t = float(bits.keep(s)), float(bits.keep(t))
    ratio = np.sqrt(keep_t / keep_s)
    clean, yt = np.array([1.0, -1.0]), np.array([0.4, 0.9])
    gain = ratio * (1 - keep_s) / (1 - keep_t)
    mean, variance = bits.posterior(jnp.float32(clean), jnp.float32(yt), s, t)
    np.testing.assert_allclose(mean, np.sqrt(keep_s) * clean + gain * (yt - np.sqrt(keep_t) * clean), rtol=1e-5)
    np.testing.assert_allclose(variance, (1 - keep_s) - gain * ratio * (1 - keep_s), rtol=1e-4)


def test_the_exact_labels_lead_back_to_them():
    """Fed the clean bits, reverse steps from pure noise end in the codes themselves."""
    bits, shape = process(19), (2, 6, 7)
    y0 = RNG.integers(0, 19, shape)
    state, reverse = bits.prior(KEY, shape), jax.jit(bits.reverse)
    for t, s in ((1.0, 0.6), (0.6, 0.2), (0.2, 0.0)):
        state = reverse(jax.random.fold_in(KEY, int(10 * t)), bits.codes[y0], state, s, t)
    np.testing.assert_array_equal(state, bits.codes[y0])


def test_a_head_that_says_nothing_costs_1():
    label = RNG.integers(0, 19, (2, 3, 4))
    nothing = np.zeros((2, 3, 4, 5), np.float32)
    np.testing.assert_array_equal(process(19).loss(nothing, label, nothing, 0.5), 1.0)
