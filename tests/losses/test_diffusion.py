"""Laws of the losses: weights as in their papers, constant normalisation, nothing from known or void pixels."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gcdiff.losses.diffusion import (
    EPS_WEIGHTS,
    image_loss,
    image_weight,
    layout_loss,
    layout_weight,
    rarity,
)
from gcdiff.processes.absorbing import AbsorbingProcess
from gcdiff.processes.categorical import UniformProcess
from gcdiff.processes.gaussian import KINDS, GaussianProcess
from gcdiff.schedules import Schedule
from gcdiff.types import VOID

B, H, W, K = 3, 4, 5, 6
RNG = np.random.default_rng(0)
CLEAN = RNG.uniform(-1, 1, (B, H, W, 3)).astype(np.float32)
NOISY = RNG.normal(size=(B, H, W, 3)).astype(np.float32)
OUTPUT = RNG.normal(size=(B, H, W, 3)).astype(np.float32)
NONE = np.zeros((B, H, W), bool)
SCHEDULE = Schedule("cosine")


@pytest.mark.parametrize("weight", EPS_WEIGHTS)
def test_a_named_weight_means_the_same_for_every_output(weight):
    """The same clean prediction costs the same, whatever the head's output."""
    level = np.full((B, H, W), 0.4, np.float32)
    guess = CLEAN + 0.1
    values = []
    for kind in KINDS:
        process = GaussianProcess(SCHEDULE, kind)
        output = process.from_clean(guess, NOISY, level)
        values.append(image_loss(process, output, CLEAN, NOISY, level, NONE, weight))
    for value in values[1:]:
        np.testing.assert_allclose(value, values[0], rtol=1e-4)


def test_weights_are_those_of_the_papers():
    snr = np.array([-2.0, 0.5, 3.0], np.float32)
    np.testing.assert_allclose(image_weight("p2", "eps", snr), (1 + np.exp(snr)) ** -0.5, rtol=1e-5)
    np.testing.assert_allclose(image_weight("min_snr", "eps", snr), np.minimum(1, 5 / np.exp(snr)), rtol=1e-5)
    np.testing.assert_allclose(image_weight("min_snr", "x0", snr), np.minimum(np.exp(snr), 5), rtol=1e-5)
    np.testing.assert_allclose(image_weight("capped", "x0", snr), np.minimum(1 + np.exp(snr), 5), rtol=1e-5)
    np.testing.assert_allclose(image_weight("sigmoid", "eps", snr), 1 / (1 + np.exp(1 + snr)), rtol=1e-5)
    assert np.all(image_weight("none", "v", snr) == 1)


@pytest.mark.parametrize("weight", ("none", *EPS_WEIGHTS))
@pytest.mark.parametrize("kind", KINDS)
def test_values_and_gradients_are_finite_at_every_level(kind, weight):
    level = np.resize(np.array([0, 1e-6, 0.5, 1 - 1e-6, 1], np.float32), (B, H, W))

    def loss(output):
        return image_loss(GaussianProcess(SCHEDULE, kind), output, CLEAN, NOISY, level, level == 0, weight).sum()

    value, gradient = jax.value_and_grad(loss)(OUTPUT)
    assert np.isfinite(value) and np.all(np.isfinite(gradient))


def test_known_pixels_carry_no_loss_and_the_divisor_is_constant():
    process = GaussianProcess(SCHEDULE, "v")
    level = np.full((B, H, W), 0.3, np.float32)
    half = np.broadcast_to(np.arange(W) < 2, (B, H, W))
    whole = image_loss(process, OUTPUT, CLEAN, NOISY, level, NONE)
    parts = image_loss(process, OUTPUT, CLEAN, NOISY, level, half) + image_loss(
        process, OUTPUT, CLEAN, NOISY, level, ~half
    )
    np.testing.assert_allclose(parts, whole, rtol=1e-6)
    uniform = UniformProcess(K, SCHEDULE)
    logits = RNG.normal(size=(B, H, W, K)).astype(np.float32)
    label, noisy = RNG.integers(0, K, (2, B, H, W)).astype(np.int32)
    whole = layout_loss(uniform, logits, label, noisy, level, NONE)
    void = layout_loss(uniform, logits, np.where(half, VOID, label), noisy, np.where(half, 1, level), NONE)
    known = layout_loss(uniform, logits, label, noisy, np.where(half, 0, level), half)
    np.testing.assert_allclose(void, known, rtol=1e-6)
    assert np.all(void < whole)


def test_rare_labels_weigh_more_and_all_pixels_together_as_before():
    labels = np.zeros((2, 4, 6), np.int32)
    labels[0, 0, :3], labels[0, 1] = 1, 4
    for power in (0.0, 0.5, 1.0):
        weights = np.asarray(rarity(labels, K, power))
        np.testing.assert_allclose(weights.mean((1, 2)), 1, rtol=1e-6)
        np.testing.assert_allclose(weights[1], 1, rtol=1e-6)  # one label alone
        counts = np.array([(labels[0] == k).sum() for k in (0, 1, 4)])
        each = np.array([weights[0][labels[0] == k].mean() for k in (0, 1, 4)])
        np.testing.assert_allclose(each / each[0], (counts / counts[0]) ** -power, rtol=1e-6)
    level = np.full((B, H, W), 0.3, np.float32)
    weights = RNG.uniform(0, 2, (B, H, W)).astype(np.float32)
    parts = [
        image_loss(GaussianProcess(SCHEDULE, "v"), OUTPUT, CLEAN, NOISY, level, weights < bound, pixels=w)
        for bound, w in ((-1, weights), (9, weights), (-1, 2 * weights))
    ]
    np.testing.assert_allclose(parts[2], 2 * parts[0], rtol=1e-6)
    assert not np.asarray(parts[1]).any()  # known


def test_a_batch_is_the_mean_of_its_examples():
    process = GaussianProcess(SCHEDULE, "v")
    level = np.full((B, H, W), 0.3, np.float32)
    known = RNG.random((B, H, W)) < 0.5
    whole = image_loss(process, OUTPUT, CLEAN, NOISY, level, known)
    alone = [
        image_loss(process, OUTPUT[i, None], CLEAN[i, None], NOISY[i, None], level[i, None], known[i, None])[0]
        for i in range(B)
    ]
    np.testing.assert_allclose(whole, jnp.stack(alone), rtol=1e-6)


LABEL, SEEN = RNG.integers(0, K, (2, B, H, W)).astype(np.int32)
LOGITS = RNG.normal(size=(B, H, W, K)).astype(np.float32)
LEVELS = RNG.uniform(0.1, 0.95, (B, H, W)).astype(np.float32)


def test_the_elbo_weight_makes_the_loss_the_bounds_integrand():
    """Per unit of t: the rate per unit of keep, times |d keep/dt|. The weight is finite at the ends, 0 at level 1."""
    process = AbsorbingProcess(K, SCHEDULE)
    noisy = np.where(RNG.random((B, H, W)) < 0.7, K, LABEL)
    slope = (process.keep(LEVELS - 1e-3) - process.keep(LEVELS + 1e-3)) / 2e-3
    want = (process.kl_rate(LOGITS, LABEL, noisy, LEVELS) * slope).mean(axis=(1, 2))
    np.testing.assert_allclose(layout_loss(process, LOGITS, LABEL, noisy, LEVELS, NONE, "elbo"), want, rtol=1e-3)
    ends = layout_weight("elbo", process, np.array([0, 1e-6, 1 - 1e-6, 1], np.float32))
    assert np.all(np.isfinite(ends)) and np.all(ends <= 100) and ends[-1] == 0


def test_the_kl_loss_is_the_bound_with_a_thousand_steps():
    """It takes only labels that are certain."""
    process, levels = UniformProcess(K, SCHEDULE), np.maximum(LEVELS, 0.4)
    got = layout_loss(process, LOGITS, LABEL, SEEN, levels, NONE, "kl")
    rate = process.kl_rate(LOGITS, LABEL, SEEN, levels - 5e-4)
    want = rate * (process.keep(levels - 1e-3) - process.keep(levels)) * 1000
    np.testing.assert_allclose(got, want.mean(axis=(1, 2)), rtol=2e-3)
    half = np.where(np.arange(W) < 2, 1.0, 0.5)
    uncertain = layout_loss(process, LOGITS, LABEL, SEEN, levels, NONE, "kl", half)
    void = layout_loss(process, LOGITS, np.where(half < 1, VOID, LABEL), SEEN, levels, NONE, "kl")
    np.testing.assert_array_equal(uncertain, void)
    assert np.all(void < got)


def test_the_layout_weights_are_what_they_are_called():
    """root is (1 - keep)^(-1/2), at most 10, and one is 1, at every level; a loss is times its weight."""
    process, levels = UniformProcess(K, SCHEDULE), np.array([0.0, 0.02, 0.3, 0.6, 0.9, 1.0], np.float32)
    rest = 1 - np.asarray(process.keep(levels), np.float64)
    root = np.minimum(np.maximum(rest, 1e-9) ** -0.5, 10)
    np.testing.assert_allclose(layout_weight("root", process, levels), root, rtol=1e-4)
    np.testing.assert_array_equal(layout_weight("one", process, levels), 1)
    want = (process.loss(LOGITS, LABEL, SEEN, LEVELS) * layout_weight("root", process, LEVELS)).mean(axis=(1, 2))
    np.testing.assert_allclose(layout_loss(process, LOGITS, LABEL, SEEN, LEVELS, NONE), want, rtol=1e-5)


def test_known_labels_carry_no_loss_at_any_level():
    """Also where the noisy label of a known pixel says something else than its level does."""
    process, known = UniformProcess(K, SCHEDULE), np.broadcast_to(np.arange(W) < 2, (B, H, W))
    some = layout_loss(process, LOGITS, LABEL, SEEN, LEVELS, known, "one")
    void = layout_loss(process, LOGITS, np.where(known, VOID, LABEL), SEEN, LEVELS, NONE, "one")
    np.testing.assert_array_equal(some, void)
    assert np.all(layout_loss(process, LOGITS, LABEL, SEEN, LEVELS, ~NONE) == 0)


def test_channels_have_the_weights_that_are_given():
    process, weights = GaussianProcess(SCHEDULE, "v"), np.array([2.0, 0.0, 0.5], np.float32)
    apart = [
        image_loss(process, OUTPUT[..., [c]], CLEAN[..., [c]], NOISY[..., [c]], LEVELS, NONE, "p2") for c in range(3)
    ]
    got = image_loss(process, OUTPUT, CLEAN, NOISY, LEVELS, NONE, "p2", weights)
    np.testing.assert_allclose(got, weights @ np.stack(apart) / 3, rtol=1e-5)
