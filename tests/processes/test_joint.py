"""Two processes side by side: each by its own rule, at its own level, with random numbers of its own."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from gcdiff.processes.bits import BitsProcess
from gcdiff.processes.gaussian import GaussianProcess
from gcdiff.processes.joint import JointProcess
from gcdiff.schedules import Schedule
from gcdiff.types import Condition, Pair

IMAGE, LAYOUT = Schedule("cosine"), Schedule("linear", 1.0)
PROCESS = JointProcess(GaussianProcess(IMAGE, "x0"), BitsProcess(2, LAYOUT))
CLEAN = Pair(np.full((1, 50, 80, 1), -1.0, np.float32), np.zeros((1, 50, 80), np.int32))  # class 0 is the bit -1


def test_each_side_is_noised_on_its_own_schedule_at_its_own_level():
    image, bits = PROCESS.corrupt(jax.random.key(0), CLEAN, Pair(*(np.full((1, 1, 1), t) for t in (0.3, 0.7))))
    for x, schedule, t in ((image, IMAGE, 0.3), (bits, LAYOUT, 0.7)):
        np.testing.assert_allclose([x.mean(), x.std()], [-schedule.alpha(t), schedule.sigma(t)], atol=0.05)


def test_the_noise_of_one_side_says_nothing_of_the_other():
    """Of bits and grey values, whose noise is of one kind: in the prior, noised once and again, and in a step."""
    key, half, most = jax.random.key(0), *(Pair(*[np.full((1, 1, 1), t)] * 2) for t in (0.5, 0.9))
    at_half = PROCESS.corrupt(key, CLEAN, half)
    clean = Pair(CLEAN.image, CLEAN.image)
    for pair in (
        PROCESS.prior(key, Pair(CLEAN.image.shape, CLEAN.layout.shape)),
        at_half,
        PROCESS.renoise(key, jax.tree.map(jnp.zeros_like, at_half), half, most),
        PROCESS.reverse(key, clean, jax.tree.map(jnp.zeros_like, at_half), half, most),
    ):
        assert abs(np.corrcoef(np.ravel(pair.image), np.ravel(pair.layout))[0, 1]) < 0.06


def test_a_network_reads_the_log_snr_of_each_side():
    denoise = PROCESS.denoiser(lambda variables, noisy, log_snr, condition: (variables, log_snr), {"w": 1})
    levels = Pair(np.full((1, 1, 1), 0.2, np.float32), np.array([[[0.0, 0.6, 1.0]]], np.float32))
    variables, log_snr = denoise(CLEAN, levels, Condition())
    assert variables == {"params": {"w": 1}}
    np.testing.assert_array_equal(log_snr.image, IMAGE.log_snr(levels.image))
    np.testing.assert_array_equal(log_snr.layout, LAYOUT.log_snr(levels.layout))
