"""Guidance is an extrapolation whose weights sum to 1, and a dropped text stays dropped."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gcdiff.guidance import text_guidance
from gcdiff.processes.categorical import loo_to_posterior
from gcdiff.types import Condition, Pair, Text

B, H, W, C, K = 3, 2, 4, 3, 5
KEYS = jax.random.split(jax.random.key(0), 6)
NOISY = Pair(jax.random.normal(KEYS[0], (B, H, W, C)), jax.random.randint(KEYS[1], (B, H, W), 0, K))
LEVELS = Pair(jnp.full((B, H, W), 0.4), jnp.full((B, H, W), 0.6))
WITH = Pair(jax.random.normal(KEYS[2], (H, W, C)), jax.nn.log_softmax(jax.random.normal(KEYS[3], (H, W, K))))
WITHOUT = Pair(jax.random.normal(KEYS[4], (H, W, C)), jax.nn.log_softmax(jax.random.normal(KEYS[5], (H, W, K))))
DROPPED = np.array([False, True, False])


def predict(noisy, levels, condition):
    """One answer with text and another without."""
    drop = condition.drop_text[:, None, None, None]
    return Pair(*(jnp.where(drop, b, a) for a, b in zip(WITH, WITHOUT, strict=True)))


def guided(image, layout, drop=DROPPED):
    text = Text(jnp.zeros((B, 2, 4)), jnp.ones((B, 2), bool))
    condition = Condition(text=text, drop_text=None if drop is None else jnp.asarray(drop))
    return text_guidance(predict, Pair(image, layout))(NOISY, LEVELS, condition)


def test_scale_one_is_the_branch_with_text():
    image, layout = guided(1.0, 1.0, drop=None)
    for i in range(B):
        np.testing.assert_array_equal(image[i], WITH.image)
        np.testing.assert_allclose(layout[i], WITH.layout, atol=1e-6)


@pytest.mark.parametrize("scale", [0.0, 2.5, 7.0])
def test_the_scales_are_the_papers(scale):
    """(1 - s) without + s with, each side by its own scale; the layout a law."""
    image, layout = guided(scale, 2.0 * scale)
    np.testing.assert_allclose(image[0], scale * WITH.image + (1 - scale) * WITHOUT.image, atol=1e-5)
    mixed = 2 * scale * WITH.layout + (1 - 2 * scale) * WITHOUT.layout
    np.testing.assert_allclose(layout[0], jax.nn.log_softmax(mixed), atol=1e-5)
    np.testing.assert_allclose(jnp.exp(layout).sum(-1), 1, rtol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 7.0])
def test_a_dropped_text_stays_dropped(scale):
    """Both branches are then the one without text: as the weights sum to 1, no scale changes it."""
    image, layout = guided(scale, scale)
    np.testing.assert_array_equal(image[1], WITHOUT.image)
    np.testing.assert_allclose(layout[1], WITHOUT.layout, atol=1e-6)


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.99])
def test_guidance_commutes_with_the_offset(keep):
    """Guided leave-one-out law, then the own label by Bayes' rule = the guided posterior, by enumeration."""
    scale, y_t = 2.5, np.asarray(NOISY.layout[0])
    likelihood = keep * np.eye(K)[y_t] + (1 - keep) / K  # of the own noisy label, for every clean one
    powers = 1.0
    for law, weight in ((WITH.layout, scale), (WITHOUT.layout, 1 - scale)):
        own = np.exp(np.asarray(law, np.float64)) * likelihood
        powers = powers * (own / own.sum(-1, keepdims=True)) ** weight
    _, layout = guided(1.0, scale)
    np.testing.assert_allclose(
        jnp.exp(loo_to_posterior(layout[0], NOISY.layout[0], keep)), powers / powers.sum(-1, keepdims=True), atol=2e-6
    )


def test_impossible_classes_stay_finite():
    certain = Pair(None, jnp.where(jnp.arange(K) == 2, 0.0, -jnp.inf) * jnp.ones((2 * B, H, W, 1)))
    condition = Condition(text=Text(jnp.zeros((B, 2, 4)), jnp.ones((B, 2), bool)))
    image, layout = text_guidance(lambda *a: certain, Pair(1.0, 3.0))(NOISY, LEVELS, condition)
    assert image is None and np.isfinite(layout).all()
    np.testing.assert_allclose(layout[..., 2], 0, atol=1e-6)


def test_guidance_without_a_text_is_refused():
    with pytest.raises(ValueError, match="needs a text"):
        text_guidance(predict, Pair(2.0, 2.0))(NOISY, LEVELS, Condition())
