"""Where sampling starts, what it is given on the way, and that no sample depends on another."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gcdiff import paths
from gcdiff.guidance import Guidance
from gcdiff.processes import blocks
from gcdiff.processes.categorical import UniformProcess
from gcdiff.processes.gaussian import GaussianProcess, from_clean
from gcdiff.processes.joint import JointProcess
from gcdiff.samplers.sample import Sampler, Settings, as_arrays, capped, example_keys, given_values
from gcdiff.samplers.steps import Dials
from gcdiff.samplers.walk import run
from gcdiff.schedules import Schedule
from gcdiff.types import VOID, Condition, Pair

B, H, W, K = 4, 40, 50, 3
IMAGE, LAYOUT = Schedule("cosine"), Schedule("cosine", 1.0)
MEAN, STD = 0.8, 0.3  # of a world of independent grey values


def process(kind="x0"):
    return JointProcess(GaussianProcess(IMAGE, kind), UniformProcess(K, LAYOUT))


def network(variables, noisy, log_snr, condition, kind="x0"):
    """The exact denoiser of grey values N(MEAN, STD^2) and of labels that are 2 or 1, with odds 3 to 1."""
    l_x = jnp.broadcast_to(log_snr.image, noisy.image.shape[:-1])[..., None]
    alpha, variance = jnp.sqrt(jax.nn.sigmoid(l_x)), jax.nn.sigmoid(l_x) * STD**2 + jax.nn.sigmoid(-l_x)
    clean = MEAN + alpha * STD**2 / variance * (noisy.image - alpha * MEAN)
    law = jnp.log(jnp.array([1e-12, 0.25, 0.75]))
    return Pair(from_clean(kind, clean, noisy.image, l_x), jnp.broadcast_to(law, (*noisy.layout.shape, K)))


def given(seed=0, ids=range(B), image=0.5, layout=1, known=(False, False)):
    """Constant values, all known or all unknown."""
    num = len(ids)
    values = Pair(np.full((num, H, W, 1), image, np.float32), np.full((num, H, W), layout, np.int32))
    masks = Pair(*(np.full((num, H, W), k) for k in known))
    return given_values(example_keys(seed, np.array(ids)), values, masks)


def shares(labels):
    return np.bincount(np.asarray(labels).ravel(), minlength=K) / np.size(labels)


SAMPLER = Sampler(process(), network, clip=False)


@pytest.mark.parametrize("row", [(0.3, 0.8), (0.6, 0.2), (1.0, 0.5), (0.0, 1.0)])
def test_a_path_starts_from_the_noised_values(row):
    """q(x_t | x_0) and q(y_t | y_0) at the levels of the first row."""
    state = SAMPLER.begin(given(), jnp.array(row)).state
    np.testing.assert_allclose(state.image.mean(), 0.5 * IMAGE.alpha(row[0]), atol=0.04)
    np.testing.assert_allclose(state.image.std(), IMAGE.sigma(row[0]), rtol=0.03, atol=1e-7)
    keep = LAYOUT.keep(row[1])
    np.testing.assert_allclose(shares(state.layout), keep * np.eye(K)[1] + (1 - keep) / K, atol=0.02)


def test_known_values_are_exact_and_unknown_ones_leave_no_trace():
    known = SAMPLER.begin(given(image=0.3, layout=2, known=(True, True)), jnp.ones(2)).state
    np.testing.assert_array_equal(known.image, np.float32(0.3))
    np.testing.assert_array_equal(known.layout, 2)
    one, other = (
        SAMPLER.begin(given(image=image, layout=layout), jnp.ones(2)).state
        for image, layout in ((-1.0, 0), (1e6, VOID))
    )
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_known_pixels_come_back_bit_for_bit_whatever_the_steps_and_a_corrector_do():
    """Masks of either side; void in a known mask is unknown, as if the mask were not there."""
    rng = np.random.default_rng(0)
    image, known = rng.uniform(-1, 1, (B, H, W, 1)).astype(np.float32), Pair(*rng.random((2, B, H, W)) < 0.5)
    layout = rng.integers(VOID, K, (B, H, W)).astype(np.int32)
    sampler = Sampler(process(), network, "dpm++", "psi", corrects=True)
    settings = Settings(dials=Dials(psi=3.0, corrector=3.0))

    def filled(layout, known):
        fixed = given_values(example_keys(0, np.arange(B)), Pair(image, layout), known)
        return run(sampler, None, paths.joint(12), fixed, Condition(), settings)

    out, held = filled(layout, known), known.layout & (layout != VOID)
    np.testing.assert_array_equal(out.image[known.image], image[known.image])
    np.testing.assert_array_equal(out.layout[held], layout[held])
    assert (out.image != image)[~known.image].all() and out.layout.min() >= 0
    assert (np.asarray(out.layout) != layout)[~held & (layout != VOID)].mean() > 0.1
    other = filled(np.where(held, layout, 0), known._replace(layout=held))
    jax.tree.map(np.testing.assert_array_equal, out, other)


def test_void_is_unknown_wherever_a_path_starts():
    """Void labels start uniform and at level 1: after one step all the labels follow the model's law at its level."""
    fixed = given(layout=VOID, known=(True, True))
    assert (fixed.caps.layout == 1).all()
    path = paths.partial(4, image=0.0, layout=0.5)
    np.testing.assert_allclose(shares(SAMPLER.begin(fixed, jnp.asarray(path[0])).state.layout), 1 / 3, atol=0.02)
    for stop in (1, 4):
        keep = LAYOUT.keep(path[stop, 1])
        law = keep * np.array([0, 0.25, 0.75]) + (1 - keep) / K
        state = run(SAMPLER, None, path[: stop + 1], fixed, Condition())
        np.testing.assert_allclose(shares(state.layout), law, atol=0.02)


def test_labels_that_are_fed_are_taken_as_they_are():
    """At their cap, unlike those that are noised to it once; at level 1 all are noise."""
    caps = np.where(np.arange(W) < 30, 0.4, 1.0) * np.ones((B, H, 1))
    values = Pair(np.zeros((B, H, W, 1), np.float32), np.full((B, H, W), 2, np.int32))
    keys, there = example_keys(0, np.arange(B)), caps < 1
    fed, noised = (
        np.asarray(SAMPLER.begin(capped(keys, values, Pair(np.ones((B, H, W)), caps), f), jnp.ones(2)).state.layout)
        for f in (np.ones((B, H, W), bool), np.zeros((B, H, W), bool))
    )
    np.testing.assert_array_equal(fed[there], 2)
    keep = float(LAYOUT.keep(0.4))
    np.testing.assert_allclose((noised[there] == 2).mean(), keep + (1 - keep) / K, atol=0.03)
    np.testing.assert_allclose(shares(fed[~there]), 1 / K, atol=0.03)


def test_probabilities_and_previews_of_a_state_are_the_posterior():
    """Probabilities and the preview hear of the noisy label, by Bayes' rule; the image estimate is the network's."""
    half_known, row = given(layout=1), jnp.array([0.5, 0.4])
    state = SAMPLER.begin(half_known, row).state
    arguments = None, state, half_known, row, Condition(), as_arrays(Settings())
    keep, seen = float(LAYOUT.keep(0.4)), np.asarray(state.layout)
    own = np.array([0, 0.25, 0.75]) * (keep * np.eye(K)[seen] + (1 - keep) / K)
    np.testing.assert_allclose(SAMPLER.probabilities(*arguments), own / own.sum(-1, keepdims=True), atol=1e-5)
    image, layout = SAMPLER.preview(*arguments)
    np.testing.assert_array_equal(layout, own.argmax(-1))
    assert set(np.unique(layout)) == {1, 2}  # the prediction alone is 2 everywhere
    log_snr = Pair(IMAGE.log_snr(row[0]), LAYOUT.log_snr(row[1]))
    np.testing.assert_allclose(image, network(None, state, log_snr, None).image, atol=1e-5)


def test_labels_are_decided_in_their_last_step_alone():
    """On the way they are drawn; a class that is less probable is then no more."""
    sampler, path = Sampler(process(), network, clip=False, decides=True), paths.layout_only(4)
    between = run(sampler, None, path[:4], given(), Condition()).layout
    keep = LAYOUT.keep(path[3, 1])
    np.testing.assert_allclose(shares(between), keep * np.array([0, 0.25, 0.75]) + (1 - keep) / K, atol=0.03)
    decided = np.asarray(run(sampler, None, path, given(), Condition()).layout)
    likelihood = float(keep) * np.eye(K)[np.asarray(between)] + (1 - float(keep)) / K
    np.testing.assert_array_equal(decided, (np.array([0, 0.25, 0.75]) * likelihood).argmax(-1))


def test_a_corrector_is_asked_at_the_level_it_corrects_and_is_guided():
    """The network says one law of labels above level .5 and another below, and is surer where it sees the image."""

    def says(variables, noisy, log_snr, condition):
        below = jnp.broadcast_to(log_snr.layout > LAYOUT.log_snr(0.5), noisy.layout.shape)[..., None]
        sees = jnp.broadcast_to(jnp.isfinite(log_snr.image), noisy.layout.shape)[..., None]
        logits = jnp.where(below, jnp.array([0.0, 0.0, 1.0]), jnp.array([1.0, 0.0, 0.0]))
        return Pair(noisy.image, jnp.where(sees, logits, 0.0))

    sampler = Sampler(process(), says, branches=("image",), corrects=True)
    settings = Settings(Guidance(image=2.0), Dials(corrector=np.inf))
    path = np.array([[0.5, 0.7], [0.5, 0.3]], np.float32)
    labels = run(sampler, None, path, given(layout=1), Condition(), settings).layout
    law, keep = np.exp([0.0, 0.0, 2.0]), float(LAYOUT.keep(0.3))
    np.testing.assert_allclose(shares(labels), keep * law / law.sum() + (1 - keep) / K, atol=0.02)


def test_an_edit_that_barely_starts_changes_little():
    edited = run(SAMPLER, None, paths.partial(3, 0.05, 0.0), given(image=0.5, layout=1), Condition())
    np.testing.assert_array_equal(edited.layout, 1)
    distance = np.abs(np.asarray(edited.image) - 0.5).mean()
    assert 0 < distance < 0.2


@pytest.mark.parametrize("step", ["ddim", "ancestral"])
def test_an_eps_network_samples_as_an_x0_network_does(step):
    """It is never asked at level 1, where it says nothing: a first step from there would lose the mean."""

    x0, eps = (
        np.asarray(run(sampler, None, paths.joint(2), given(), Condition()).image)
        for kind in ("x0", "eps")
        for sampler in [Sampler(process(kind), functools.partial(network, kind=kind), step, clip=False)]
    )
    np.testing.assert_allclose(eps, x0, atol=0.02)
    np.testing.assert_allclose(eps.mean(), MEAN, atol=0.02)


def test_a_sample_is_the_same_whatever_is_drawn_with_it(monkeypatch):
    """Bit for bit, for chunks of one size, also where the pixels are cut into blocks."""

    for elements, step in ((blocks.BLOCK_ELEMENTS, "ancestral"), (999, "ddim")):  # two samplers: compiled each
        monkeypatch.setattr(blocks, "BLOCK_ELEMENTS", elements)
        sampler = Sampler(process(), network, step)
        one, other = (
            run(sampler, None, paths.joint(12), given(3, ids), Condition()) for ids in ([5, 6, 7, 8], [9, 8, 5, 5])
        )
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a[0], b[2])
            np.testing.assert_array_equal(a[0], b[3])
            np.testing.assert_array_equal(a[3], b[1])
            assert (a[0] != a[1]).any()


def test_dynamic_thresholding_scales_by_a_quantile_and_leaves_images_within_bounds_alone():
    process = JointProcess(GaussianProcess(Schedule("cosine")), None)
    bounded = Sampler(process, None, threshold=0.75)._bounded
    inside = np.linspace(-1, 1, 12, dtype=np.float32).reshape(1, 2, 2, 3)
    np.testing.assert_array_equal(bounded(inside), inside)
    for scale in (2.0, 5.0):  # examples are scaled apart, the largest quarter is clipped
        both = np.concatenate([inside, scale * inside])
        largest = np.quantile(np.abs(scale * inside), 0.75)
        expected = np.concatenate([inside, np.clip(scale * inside, -largest, largest) / largest])
        np.testing.assert_allclose(bounded(both), expected, rtol=1e-6)
        assert largest > 1 and np.abs(expected).max() == 1
    plain = Sampler(process, None)._bounded
    np.testing.assert_array_equal(plain(3 * inside), np.clip(3 * inside, -1, 1))
