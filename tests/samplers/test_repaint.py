"""RePaint: the right noise on the way back, known pixels exact, and a bias that resampling shrinks."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exact_world import EDGES, NUM, PROCESS, Steps, binned, chain_law, truth

from gcdiff import paths
from gcdiff.samplers.repaint import put_known, renoise, run_repaint
from gcdiff.samplers.sample import example_keys, given_values
from gcdiff.schedules import Schedule
from gcdiff.types import Condition, Pair

COSINE = Schedule("cosine")


@pytest.mark.parametrize("t", [0.2, 0.5, 0.8])
def test_noising_back_has_the_right_variance(t):
    """One of 100 steps: known values noised to s and back to t have the law q(x_t | x_0), and what is added on the way
    has its variance. The difference of the standard deviations, which is easily taken for it, is a fraction."""
    s, num = t - 0.01, NUM
    values = Pair(np.full((num, 1, 1, 1), 0.7, np.float32), np.zeros((num, 1, 2), np.int32))
    known = Pair(np.ones((num, 1, 1), bool), np.zeros((num, 1, 2), bool))
    keys = jax.random.split(jax.random.key(0), (2, num))
    given, (row_s, row_t) = given_values(keys[0], values, known), jnp.array([[s, 1.0], [t, 1.0]])
    at_s = put_known(PROCESS, keys[0], Pair(jnp.zeros((num, 1, 1, 1)), jnp.asarray(values.layout)), given, row_s)
    at_t = np.asarray(renoise(PROCESS, keys[1], at_s, given, row_s, row_t).image)
    sigma, alpha = np.asarray(COSINE.sigma([s, t])), np.asarray(COSINE.alpha([s, t]))
    np.testing.assert_allclose(at_t.mean(), 0.7 * alpha[1], atol=4 * sigma[1] / np.sqrt(num))
    np.testing.assert_allclose(at_t.var(), sigma[1] ** 2, rtol=0.05)
    right = sigma[1] ** 2 - (alpha[1] / alpha[0] * sigma[0]) ** 2
    added = at_t - alpha[1] / alpha[0] * np.asarray(at_s.image)
    np.testing.assert_allclose(added.var(), right, rtol=0.05)
    wrong = sigma[1] - alpha[1] / alpha[0] * sigma[0]
    assert 0.1 < wrong / np.sqrt(right) < 0.25


def draws(n, steps=8):
    """Shares of (value bin, labels) with the labels (1, 0) known."""
    values = Pair(np.zeros((NUM, 1, 1, 1), np.float32), np.broadcast_to(np.array([1, 0], np.int32), (NUM, 1, 2)))
    known = Pair(np.zeros((NUM, 1, 1), bool), np.ones((NUM, 1, 2), bool))
    given = given_values(example_keys(1, np.arange(NUM)), values, known)
    arguments = Steps().sampler(), None, paths.joint(steps), given, Condition(), Steps().settings()
    state = run_repaint(*arguments, n)
    np.testing.assert_array_equal(state.layout, values.layout)
    image = np.asarray(state.image)[:, 0, 0, 0]
    return np.bincount(np.searchsorted(EDGES, image), minlength=len(EDGES) + 1) / NUM


def test_resampling_shrinks_the_bias_and_levels_have_less():
    right = binned(truth(y=(1, 0))).sum(1)
    once, often = (0.5 * np.abs(draws(n) - right).sum() for n in (1, 10))
    # As many calls of the network as the second has: ten for each of eight steps.
    levels = 0.5 * np.abs(binned(chain_law(paths.joint(80), Steps(), y=(1, 0))).sum(1) - right).sum()
    assert often < 0.8 * once
    assert levels < 0.5 * often


def test_at_least_one_sample_of_a_step():
    with pytest.raises(ValueError, match="resamples is 0, expected at least 1"):
        draws(0)
