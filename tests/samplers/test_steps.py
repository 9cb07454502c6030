"""The order of the image's steps on its flow, what their dials mean, and that nothing moves that should not."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exact_world import MEANS, PRIOR, PROCESS, TAU, network

from gcdiff import paths
from gcdiff.processes.categorical import UniformProcess
from gcdiff.processes.gaussian import GaussianProcess
from gcdiff.processes.joint import JointProcess
from gcdiff.samplers.sample import Carry, Sampler, Settings, as_arrays, example_keys, given_values
from gcdiff.samplers.steps import LAYOUT_STEPS, Dials, ImageState, ancestral, correct, ddim, dpmpp, most_probable
from gcdiff.samplers.walk import Pace, run, walk
from gcdiff.schedules import Schedule
from gcdiff.types import Condition, Pair

HIGH, LOW = 0.85, 0.15
STARTS = np.linspace(-1.5, 1.5, 64).astype(np.float32)


def flow(step, steps):
    """Where the flow of the grey value between two finite log-SNRs leads from STARTS, the labels at level 1."""
    num = len(STARTS)
    values = Pair(np.zeros((num, 1, 1, 1), np.float32), np.zeros((num, 1, 2), np.int32))
    unknown = Pair(np.zeros((num, 1, 1), bool), np.zeros((num, 1, 2), bool))
    given = given_values(jax.random.split(jax.random.key(0), num), values, unknown)
    sampler, settings = Sampler(PROCESS, network, step, clip=False), as_arrays(Settings())
    path = np.stack([np.linspace(HIGH, LOW, steps + 1), np.ones(steps + 1)], 1).astype(np.float32)
    carry = Carry(
        Pair(jnp.asarray(STARTS)[:, None, None, None], jnp.asarray(values.layout)), jnp.zeros((num, 1, 1, 1)), 0
    )
    carry = carry._replace(step=jnp.zeros((), jnp.int32))
    for first in range(0, steps, 10):
        rows = path[np.clip(np.arange(first - 1, first + 11), 0, steps)]
        count = jnp.int32(min(10, steps - first))
        carry = sampler.piece(None, carry, given, jnp.asarray(rows), count, Condition(), settings)
    return np.asarray(carry.state.image, np.float64)[:, 0, 0, 0]


def exact_flow():
    """The same in float64, by Runge-Kutta steps in the log-SNR."""
    schedule = PROCESS.image.schedule
    l_high, l_low = (float(schedule.log_snr(t)) for t in (HIGH, LOW))

    def slope(snr, x):
        alpha2, sigma2 = 1 / (1 + np.exp(-snr)), 1 / (1 + np.exp(snr))
        alpha, variance = np.sqrt(alpha2), alpha2 * TAU**2 + sigma2
        gauss = PRIOR * np.exp(-0.5 * (x[:, None] - alpha * MEANS) ** 2 / variance)
        clean = MEANS + alpha * TAU**2 / variance * (x[:, None] - alpha * MEANS)
        clean = (gauss * clean).sum(1) / gauss.sum(1)
        # d alpha/dl = alpha sigma^2 / 2, d sigma/dl = -sigma alpha^2 / 2, and x = alpha x0 + sigma eps.
        return 0.5 * alpha * sigma2 * clean - 0.5 * alpha2 * (x - alpha * clean)

    x, h = STARTS.astype(np.float64), (l_low - l_high) / 2000
    for snr in l_high + h * np.arange(2000):
        k1 = slope(snr, x)
        k2 = slope(snr + h / 2, x + h / 2 * k1)
        k3 = slope(snr + h / 2, x + h / 2 * k2)
        k4 = slope(snr + h, x + h * k3)
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return x


@pytest.mark.parametrize(("step", "order"), [("ddim", 1), ("dpm++", 2)])
def test_order_on_the_flow(step, order):
    right = exact_flow()
    errors = [np.abs(flow(step, n) - right).mean() for n in (10, 20, 40)]
    slopes = np.log2(np.array(errors[:-1]) / errors[1:])
    assert abs(slopes[-1] - order) < 0.15, (errors, slopes)


def test_a_second_order_step_falls_back_where_the_first_order_one_ends():
    """On a path of two steps both touch an end of the levels, and the image has not moved before the first."""
    process = GaussianProcess(Schedule("cosine"), "x0")
    at = ImageState(*jax.random.normal(jax.random.key(0), (3, 4, 5, 1)))

    def full(t):
        return jnp.full((4, 5), t)

    for before, t, s in ((1.0, 1.0, 0.5), (0.9, 0.5, 0.0), (1.0, 0.5, 0.3), (0.5, 0.5, 0.3), (0.4, 0.3, 0.3)):
        second = dpmpp(process, jax.random.key(1), at, full(s), full(t), full(before), Dials())
        first = process.ddim(at.clean, at.noisy, full(s), full(t))
        np.testing.assert_array_equal(second, first)
    second = dpmpp(process, jax.random.key(1), at, full(0.3), full(0.5), full(0.7), Dials())
    assert np.abs(second - process.ddim(at.clean, at.noisy, full(0.3), full(0.5))).max() > 0.01


def test_eta_goes_from_the_deterministic_to_the_ancestral_step():
    process = GaussianProcess(Schedule("cosine"), "x0")
    many = (20_000, 1, 1)
    at = ImageState(jnp.full(many, 0.3), jnp.zeros(many), jnp.full(many, -0.8))
    s, t = jnp.full(many[:2], 0.4), jnp.full(many[:2], 0.6)
    exact = process.posterior(at.clean, at.noisy, s, t)
    none, half, whole = (ddim(process, jax.random.key(2), at, s, t, t, Dials(eta)) for eta in (0.0, 0.5, 1.0))
    np.testing.assert_allclose(none, process.ddim(at.clean, at.noisy, s, t), atol=1e-6)
    np.testing.assert_allclose(whole.mean(), exact[0].mean(), atol=0.01)
    np.testing.assert_allclose([half.var(), whole.var()], [exact[1].mean() / 4, exact[1].mean()], rtol=0.05)
    np.testing.assert_allclose(
        ancestral(process, jax.random.key(2), at, s, t, t, Dials()).var(), exact[1].mean(), rtol=0.05
    )


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_labels_that_do_not_move_stay_whatever_the_dials(level):
    process, num = UniformProcess(4, Schedule("cosine")), 8
    keys = jax.random.split(jax.random.key(3), num)
    clean = jax.nn.log_softmax(jax.random.normal(jax.random.key(4), (num, 6, 6, 4)))
    noisy = jax.random.randint(jax.random.key(5), (num, 6, 6), 0, 4)
    t = jnp.full((num, 6, 6), level)
    for step in LAYOUT_STEPS.values():
        np.testing.assert_array_equal(step(process, keys, clean, noisy, t, t, Dials(psi=jnp.inf)), noisy)


def test_the_most_probable_label_knows_the_own_noisy_label():
    process = UniformProcess(3, Schedule("cosine"))
    clean = jnp.log(jnp.array([[[[0.5, 0.3, 0.2]] * 2]]))
    noisy = jnp.array([[[2, 2]]])
    t = jnp.array([[[0.1, 1.0]]])  # at a low level the own label decides, at level 1 it says nothing
    np.testing.assert_array_equal(most_probable(process, clean, noisy, t), [[[2, 0]]])


NUM_LABELS, LAW = 30_000, np.array([0.6, 0.3, 0.1])
THREE, S, T = UniformProcess(3, Schedule("cosine")), 0.3, 0.6


def moved(step, s=S, t=T, **dials):
    """Shares of the classes after a layout step from t to s of labels that are all 2, with the prediction LAW."""
    maps = (jnp.full((2, 1, NUM_LABELS // 2), level) for level in (s, t))
    clean = jnp.broadcast_to(jnp.log(LAW), (2, 1, NUM_LABELS // 2, 3))
    noisy = jnp.full(clean.shape[:-1], 2)
    keys = jax.random.split(jax.random.key(6), 2)
    labels = jax.jit(step, static_argnums=0)(THREE, keys, clean, noisy, *maps, Dials(**dials))
    return np.bincount(np.ravel(labels), minlength=3) / NUM_LABELS


def kept(level):
    """q(y at a level | y_0) of one label, (3, 3)."""
    keep = float(THREE.keep(level))
    return keep * np.eye(3) + (1 - keep) / 3


def posterior_of_2(s, t):
    """q(y_s | y_t = 2, LAW) with dense matrices."""
    step = float(THREE.keep(t) / THREE.keep(s))
    law = (LAW @ kept(s)) * (step * np.eye(3) + (1 - step) / 3)[:, 2]
    return law / law.sum()


@pytest.mark.parametrize("rate", [2.0, np.inf])
def test_psi_draws_labels_anew_from_their_posterior_at_a_rate(rate):
    """With probability 1 - exp(-psi (t - s)) a label is drawn clean and noised to s, else it is an ancestral draw."""
    anew = 1 - np.exp(-rate * (T - S))
    want = (1 - anew) * posterior_of_2(S, T) + anew * posterior_of_2(0.0, T) @ kept(S)
    np.testing.assert_allclose(moved(LAYOUT_STEPS["psi"], psi=rate), want, atol=0.012)


@pytest.mark.parametrize("rate", [2.0, np.inf])
def test_a_corrector_draws_labels_from_their_leave_one_out_law_at_a_rate(rate):
    """With probability 1 - exp(-rate (t - s)), whatever the label was, and noised to s; at level 0 all is done."""
    anew = 1 - np.exp(-rate * (T - S))
    np.testing.assert_allclose(
        moved(correct, corrector=rate), (1 - anew) * np.eye(3)[2] + anew * LAW @ kept(S), atol=0.012
    )
    np.testing.assert_array_equal(moved(correct, s=0.0, corrector=rate), [0, 0, 1])


def test_a_walk_knows_the_estimate_before_whatever_its_pieces():
    """A second-order step is one of second order at the beginning of a piece too: pieces of one step and of ten give
    the same bits, which are not those of first-order steps."""
    num = 64
    values = Pair(np.zeros((num, 1, 1, 1), np.float32), np.zeros((num, 1, 2), np.int32))
    unknown = Pair(np.zeros((num, 1, 1), bool), np.zeros((num, 1, 2), bool))
    given = given_values(jax.random.split(jax.random.key(0), num), values, unknown)
    first, second = (Sampler(PROCESS, network, step, clip=False) for step in ("ddim", "dpm++"))
    path = paths.image_only(13)
    tens, ones = (list(walk(second, None, path, given, Condition(), pace=p)) for p in (None, Pace(seconds=1e-12)))
    assert [w.count for w in tens] == [0, 10, 3] and [w.count for w in ones] == [0] + 13 * [1]
    np.testing.assert_array_equal([w.row for w in tens], path[[0, 10, 13]])
    np.testing.assert_array_equal(tens[-1].carry.state.image, ones[-1].carry.state.image)
    plain = run(first, None, path, given, Condition()).image
    assert np.abs(tens[-1].carry.state.image - plain).max() > 1e-3


def test_every_step_has_noise_of_its_own():
    """What two ancestral steps add to an image, less what the posterior says of it, has nothing in common."""
    num, levels = 4000, np.array([0.9, 0.6, 0.3], np.float32)
    process = JointProcess(GaussianProcess(Schedule("cosine"), "x0"), None)
    sampler = Sampler(process, lambda variables, noisy, *rest: Pair(0.0 * noisy.image), "ancestral")
    given = given_values(
        example_keys(0, np.arange(num)), Pair(np.zeros((num, 1, 1, 1), np.float32)), Pair(np.zeros((num, 1, 1), bool))
    )
    path = np.stack([levels, np.ones(3, np.float32)], axis=1)
    states = [w.carry.state.image for w in walk(sampler, None, path, given, Condition(), pace=Pace(seconds=1e-12))]
    added = []
    for x_t, x_s, t, s in zip(states, states[1:], levels, levels[1:], strict=False):
        mean, variance = process.image.posterior(0.0 * x_t, x_t, s, t)
        added.append(np.ravel((x_s - mean) / np.sqrt(variance)))
    np.testing.assert_allclose(np.cov(added), np.eye(2), atol=0.1)


def test_paths_share_their_steps_unevenly():
    assert (paths.layout_first(10, 0.2)[:, 1] > 0).sum() == 2
    assert (paths.layout_first(10, 0.8)[:, 0] == 1).sum() == 9
