"""RePaint: the right noise on the way back, known pixels exact, and a bias that resampling shrinks."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from exact_world import EDGES, NUM, Steps, binned, chain_law, truth

from gcdiff import paths
from gcdiff.processes.gaussian import renoise as gaussian_renoise
from gcdiff.samplers.repaint import run_repaint
from gcdiff.samplers.sample import example_keys, given_values
from gcdiff.schedules import Schedule
from gcdiff.types import Condition, Pair

COSINE = Schedule("cosine")


@pytest.mark.parametrize("t", [0.2, 0.5, 0.8])
def test_noising_back_has_the_right_variance(t):
    """One of 100 steps; the difference of the standard deviations, which is easily taken for it, is a fraction."""
    s = t - 0.01
    log_snr = COSINE.log_snr(np.array([s, t]))
    noise = np.asarray(gaussian_renoise(jax.random.key(0), np.zeros(100_000, np.float32), *log_snr))
    sigma, alpha = np.asarray(COSINE.sigma([s, t])), np.asarray(COSINE.alpha([s, t]))
    right = sigma[1] ** 2 - (alpha[1] / alpha[0] * sigma[0]) ** 2
    np.testing.assert_allclose(noise.var(), right, rtol=0.03)
    wrong = sigma[1] - alpha[1] / alpha[0] * sigma[0]
    assert 0.1 < wrong / np.sqrt(right) < 0.25


def draws(n, steps=8):
    """Shares of (value bin, labels) with the labels (1, 0) known."""
    values = Pair(np.zeros((NUM, 1, 1, 1), np.float32), np.broadcast_to(np.array([1, 0], np.int32), (NUM, 1, 2)))
    known = Pair(np.zeros((NUM, 1, 1), bool), np.ones((NUM, 1, 2), bool))
    given = given_values(example_keys(1, np.arange(NUM)), values, known)
    told = []
    state = run_repaint(
        Steps().sampler(), None, paths.joint(steps), given, Condition(), Steps().settings(), n, told.append
    )
    assert sum(told) == steps
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
