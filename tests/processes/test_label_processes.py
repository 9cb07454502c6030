"""Laws that every layout process obeys, against enumeration of the forward chain with dense matrices."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chi2

from gcdiff.processes.categorical import UniformProcess
from gcdiff.processes.joint import LAYOUT_PROCESSES
from gcdiff.schedules import Schedule
from gcdiff.types import VOID

K = 3
KEY = jax.random.key(0)
SCHEDULE = Schedule("cosine")
PROCESSES = {name: process(K, SCHEDULE) for name, process in LAYOUT_PROCESSES.items()}
ENDS = np.array([0.0, 1e-6, 0.5, 1 - 1e-6, 1.0], np.float32)
PAIRS = np.array([(s, t) for s in ENDS for t in ENDS if s <= t])
STEPS = np.array([(0.2, 0.6), (0.0, 0.3), (0.0, 1.0), (0.7, 1.0), (0.45, 0.5), (0.5, 0.5), (1.0, 1.0)], np.float32)
P0 = np.array([0.6, 0.3, 0.1])

every = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
LIKELIHOODS = {name: process for name, process in PROCESSES.items() if process.has_likelihood}
discrete = pytest.mark.parametrize("process", LIKELIHOODS.values(), ids=LIKELIHOODS)


@functools.cache
def jitted(process, method):
    return jax.jit(getattr(process, method))


def transition(process, keep):
    """q(later | earlier) for one keep, float64 (state, state): rows are the earlier state."""
    size = process.state_size
    if isinstance(process, UniformProcess):
        return keep * np.eye(size) + (1 - keep) / size
    absorbed = np.zeros((size, size))
    absorbed[:, -1] = 1
    return keep * np.eye(size) + (1 - keep) * absorbed


def between(process, s, t):
    """The chain from level 0 to s and from s to t; s = t is the identity."""
    keep_s, keep_t = (float(process.keep(level)) for level in (s, t))
    return transition(process, keep_s), transition(process, 1.0 if s == t else keep_t / keep_s)


def embed(process, law):
    """A law of classes as one of states."""
    return np.pad(law, (0, process.state_size - K))


def grid(process, count):
    """All states, as a map (1, state_size, count)."""
    return jnp.broadcast_to(jnp.arange(process.state_size)[None, :, None], (1, process.state_size, count))


def tiled(law, like):
    return jnp.broadcast_to(jnp.log(jnp.asarray(law, jnp.float32)), (*like.shape, len(law)))


def assert_follows(draws, law):
    """Chi-square of draws (N,) against a law; what has probability 0 is never drawn."""
    counts, expected = np.bincount(np.ravel(draws), minlength=len(law)), law * np.size(draws)
    assert counts[law < 1e-12].sum() == 0
    often = expected > 5
    statistic = np.sum((counts[often] - expected[often]) ** 2 / expected[often])
    assert statistic <= chi2.ppf(1 - 1e-5, max(1, often.sum() - 1)), (counts, expected)


def assert_normal(draws, mean, variance):
    """Mean and variance of draws (..., b) over all but the last axis, within five standard errors."""
    draws = np.asarray(draws, np.float64).reshape(-1, np.shape(draws)[-1])
    error = np.sqrt(np.maximum(variance, 1e-12) / len(draws))
    assert np.all(np.abs(draws.mean(axis=0) - mean) < 5 * error + 1e-6)
    assert np.all(np.abs(draws.var(axis=0) - variance) < 5 * variance * np.sqrt(2 / len(draws)) + 1e-6)


# ---- laws of the chain ---------------------------------------------------------------------------


@discrete
def test_posterior_and_divergence_are_enumeration(process):
    log_p0, yt = (f(process) for f in (lambda p: tiled(P0, grid(p, K)), lambda p: grid(p, K)))
    y0 = jnp.broadcast_to(jnp.arange(K), yt.shape)
    one_hot = jnp.where(jax.nn.one_hot(y0, K, dtype=bool), 0.0, -jnp.inf)
    law, kl = jitted(process, "posterior"), jitted(process, "kl")
    for s, t in STEPS:
        s_map, t_map = (jnp.full((1, 1, 1), level) for level in (s, t))
        to_s, to_t = between(process, s, t)
        for log_law, prior in ((log_p0, np.tile(P0, (K, 1))), (one_hot, np.eye(K))):
            joint = np.stack([(embed(process, p) @ to_s)[:, None] * to_t for p in prior])  # (y_0, y_s, y_t)
            got = np.exp(np.asarray(law(log_law, yt, s_map, t_map), np.float64))[0]  # (y_t, y_0, y_s)
            seen = joint.sum(axis=1).T > 0  # what cannot be seen may have any posterior
            with np.errstate(invalid="ignore", divide="ignore"):
                want = np.moveaxis(joint / joint.sum(axis=1, keepdims=True), (2, 0, 1), (0, 1, 2))
            np.testing.assert_allclose(got[seen], want[seen], atol=2e-6)
            np.testing.assert_allclose(got.sum(axis=-1), 1, atol=1e-6)
        p, q = (np.exp(np.asarray(law(v, yt, s_map, t_map), np.float64))[0] for v in (log_p0, one_hot))
        want = np.sum(q * (np.log(np.maximum(q, 1e-300)) - np.log(np.maximum(p, 1e-300))), axis=-1)
        np.testing.assert_allclose(kl(log_p0, y0, yt, s_map, t_map)[0][seen], want[seen], rtol=1e-4, atol=2e-6)


@every
def test_reverse_follows_the_posterior(process):
    count = 20000
    clean = jnp.log(jnp.asarray(P0, jnp.float32)) if process.has_likelihood else jnp.array([0.3, -0.8])
    draw, law_of = jitted(process, "reverse"), jitted(process, "posterior")
    for number, (s, t) in enumerate(STEPS):
        keys, levels = jax.random.fold_in(KEY, number), [jnp.full((1, 1, 1), level) for level in (s, t)]
        if process.state_channels:
            yt = jnp.broadcast_to(jnp.array([0.5, -1.2]), (1, 1, count, 2))
            mean, variance = (a[0, 0, 0] for a in law_of(clean[None, None, None], yt[:, :, :1], *levels))
            got = draw(keys, jnp.broadcast_to(clean, yt.shape), yt, *levels)
            assert_normal(got, np.asarray(mean, np.float64), np.broadcast_to(variance, (2,)))
        else:
            yt = grid(process, count)
            got = draw(keys, jnp.broadcast_to(clean, (*yt.shape, K)), yt, *levels)[0]
            law = np.exp(np.asarray(law_of(tiled(P0, yt[:, :, :1]), yt[:, :, :1], *levels), np.float64))
            for row, expected in zip(got, law[0, :, 0], strict=True):
                assert_follows(row, expected)


@every
def test_renoise_composes_and_keeps_the_marginal(process):
    """y_0 -> y_s -> y_u -> y_t has the law of y_0 -> y_t (Chapman-Kolmogorov)."""
    y0 = jnp.full((1, 1, 30000), 2)
    corrupt, renoise = jitted(process, "corrupt"), jitted(process, "renoise")
    for levels in ((0.2, 0.4, 0.7), (0.0, 0.5, 1.0), (0.3, 0.3, 0.9)):
        s, u, t = (jnp.full((1, 1, 1), level) for level in levels)
        keys = jax.random.split(KEY, 3)
        y = renoise(keys[2], renoise(keys[1], corrupt(keys[0], y0, s), s, u), u, t)
        keep = float(process.keep(levels[-1]))
        if process.state_channels:
            assert_normal(y, np.sqrt(keep) * np.array([-1, 1]), np.full(2, 1 - keep))  # 2 is 10, the last digit first
        else:
            assert_follows(y, transition(process, keep)[2])


@every
def test_equal_levels_are_the_identity_bit_for_bit(process):
    """Whatever is predicted, at every level, with one key and with a key for each example."""
    shape = (len(ENDS), 4, 5)
    rng = np.random.default_rng(0)
    yt = jitted(process, "corrupt")(KEY, rng.integers(0, K, shape), np.full(shape, 0.5, np.float32))
    output = rng.choice(np.array([110, -110], np.float32), (*shape, process.head_size))
    reverse, renoise = jitted(process, "reverse"), jitted(process, "renoise")
    level = ENDS[:, None, None]
    clean = jitted(process, "clean")(output, yt, level)
    for key in (KEY, jax.random.split(KEY, len(ENDS))):
        np.testing.assert_array_equal(reverse(key, clean, yt, level, level), yt)
    np.testing.assert_array_equal(renoise(KEY, yt, level, level), yt)


@every
def test_an_example_is_a_function_of_its_own_key(process):
    """Whatever stands beside it, and where."""
    keys, shape, t = jax.random.split(KEY, len(ENDS)), (len(ENDS), 4, 5), np.ones((len(ENDS), 1, 1), np.float32)
    yt = process.prior(KEY, shape)
    output = np.random.default_rng(0).normal(size=(*shape, process.head_size)).astype(np.float32)
    clean = np.asarray(jitted(process, "clean")(output, yt, t))
    drawn = jitted(process, "reverse")(keys, clean, yt, 0.4 * t, t)
    assert jnp.any(drawn != yt)
    order = np.array([3, 3, 0, 1, 4])
    again = jitted(process, "reverse")(keys[order], clean[order], yt[order], 0.4 * t, t)
    np.testing.assert_array_equal(again, drawn[order])


@discrete
def test_plugging_in_the_leave_one_out_law_is_exact(process):
    """Two pixels with a joint law: plug-in of p(y_1 | y_t2) is the one-step law of pixel 1 given both."""
    joint = np.random.default_rng(1).dirichlet(np.ones(K**2)).reshape(K, K)
    joint = np.pad(joint, ((0, 0), (0, process.state_size - K)))
    s, t = 0.35, 0.6
    given_other = joint @ transition(process, float(process.keep(0.8)))  # p(y_1, y_t2)
    to_s, to_t = between(process, s, t)
    to_s = to_s[:K]
    yt = grid(process, process.state_size)  # (y_t1, y_t2)
    loo = jnp.log(jnp.asarray((given_other / given_other.sum(axis=0)).T, jnp.float32))
    loo = jnp.broadcast_to(loo, (*yt.shape, K))
    everything = np.einsum("kb,ks,st->tbks", given_other, to_s, to_t)  # (y_t1, y_t2, y_1, y_s1)
    everything /= everything.sum(axis=(-1, -2), keepdims=True)
    step, clean = jitted(process, "posterior")(loo, yt, s, t), jitted(process, "loo_to_posterior")(loo, yt, t)
    np.testing.assert_allclose(np.exp(step)[0], everything.sum(axis=-2), atol=2e-6)
    np.testing.assert_allclose(np.exp(clean)[0], everything.sum(axis=-1), atol=2e-6)


# ---- likelihood ----------------------------------------------------------------------------------


@discrete
@pytest.mark.parametrize("levels", [(1.0, 0.0), (1.0, 0.7, 0.2, 0.0), tuple(np.linspace(1, 0, 21))], ids=len)
def test_the_bound_of_the_true_law_is_the_entropy_on_every_grid(process, levels):
    """One pixel: its leave-one-out law is p0, and the plug-in is the exact reverse."""
    yt, total = grid(process, K), float(process.prior_kl())
    y0, kl = jnp.broadcast_to(jnp.arange(K), yt.shape), jitted(process, "kl")
    for t, s in zip(levels[:-1], levels[1:], strict=True):
        forward = transition(process, float(process.keep(np.float32(t))))[:K]  # (y_0, y_t)
        nats = np.asarray(kl(tiled(P0, yt), y0, yt, jnp.full((1, 1, 1), s), jnp.full((1, 1, 1), t)), np.float64)
        total += np.einsum("k,kt,tk->", P0, forward, nats[0])
    np.testing.assert_allclose(total, -np.sum(P0 * np.log(P0)), rtol=2e-5)


@discrete
def test_the_rate_is_the_limit_of_the_divergence(process):
    yt = grid(process, K)
    y0, log_p0 = jnp.broadcast_to(jnp.arange(K), yt.shape), tiled(P0, yt)
    for t in (0.3, 0.6, 0.8):
        s = t - 2e-3
        step = float(process.keep(s)) - float(process.keep(t))
        middle = jitted(process, "kl_rate")(log_p0, y0, yt, (s + t) / 2)
        np.testing.assert_allclose(jitted(process, "kl")(log_p0, y0, yt, s, t) / step, middle, rtol=0.02, atol=1e-4)


# ---- the loss ------------------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnums=0)
def loss_and_gradient(process, output, label, yt, t, kappa=1.0):
    return jax.value_and_grad(lambda o: process.loss(o, label, yt, t, kappa).sum())(output)


def optimum(process):
    """The head's output that means P0."""
    return jnp.log(jnp.asarray(P0, jnp.float32)) if process.has_likelihood else jnp.asarray(P0 @ process.codes)


@every
@pytest.mark.parametrize("kappa", [1.0, 0.7, 0.3, 0.0])
def test_the_optimum_of_the_loss_is_the_clean_law(process, kappa):
    """At level 1, where nothing else is known, for labels that are right with probability kappa."""
    label, weights = jnp.arange(K).reshape(1, 1, K), kappa * P0 + (1 - kappa) / K
    yt, best = process.prior(KEY, label.shape), optimum(process)
    for shift in (0.0, 0.4):
        output = jnp.broadcast_to(best.at[0].add(shift), (*label.shape, process.head_size))
        slope = weights @ np.asarray(loss_and_gradient(process, output, label, yt, 1.0, kappa)[1], np.float64)[0, 0]
        assert (np.abs(slope).max() > 0.005) == (shift > 0 and kappa > 0)
        assert shift > 0 or np.abs(slope).max() < 1e-6


@discrete
def test_the_optimum_is_the_leave_one_out_law_whatever_the_own_label_says(process):
    t = 0.4
    forward = transition(process, float(process.keep(t)))[:K]
    given = P0[:, None] * forward / (P0 @ forward)  # p(y_0 | y_t)
    yt = grid(process, K)
    _, slopes = loss_and_gradient(process, tiled(P0, yt), jnp.broadcast_to(jnp.arange(K), yt.shape), yt, t)
    np.testing.assert_allclose(np.einsum("kt,tkj->tj", given, slopes[0]), 0, atol=1e-6)


@every
def test_void_is_pure_noise_and_has_no_loss(process):
    shape = (1, 20, 2000)
    void = jnp.full(shape, VOID)
    level = jnp.broadcast_to(jnp.resize(ENDS, (20, 1)), shape)
    yt = jitted(process, "corrupt")(KEY, void, level)
    if process.state_channels:
        assert_normal(yt, np.zeros(2), np.ones(2))
    else:
        assert_follows(yt, transition(process, 0.0)[0])
    few, most = (slice(None), slice(None), slice(2)), jnp.full((1, 20, 2, process.head_size), 1e4)
    total, slope = loss_and_gradient(process, most, void[few], yt[few], level[few])
    assert total == 0 and not slope.any()


@every
@pytest.mark.parametrize("classes", [2, 3, 19])
def test_at_level_0_the_state_says_the_label(process, classes):
    process = dataclasses.replace(process, num_classes=classes)
    y0 = jnp.arange(classes).reshape(1, 1, -1)
    state = jitted(process, "corrupt")(KEY, y0, 0.0)
    np.testing.assert_array_equal(process.decode(state), y0)
    nothing = jnp.zeros((1, 1, classes, process.head_size))
    np.testing.assert_array_equal(jitted(process, "loo_to_posterior")(nothing, state, 0.0).argmax(axis=-1), y0)
    assert process.decode(state).dtype == jnp.int32


# ---- the ends ------------------------------------------------------------------------------------


def corners(process):
    """Every pair of levels x label (all classes, void) x head's output up to +-110, as pixels of one example."""
    size = process.head_size
    extreme = np.full(size, -110.0)
    extreme[0] = 110.0
    rows = np.stack([np.linspace(-1, 1, size), extreme, -extreme, np.zeros(size)])
    pair, label, row = (v.ravel()[None, None] for v in np.indices((len(PAIRS), K + 1, len(rows))))
    s, t = (jnp.asarray(PAIRS[pair][..., i]) for i in (0, 1))
    label = jnp.where(jnp.asarray(label) == K, VOID, jnp.asarray(label, jnp.int32))
    return jnp.asarray(rows[row], jnp.float32), label, jitted(process, "corrupt")(KEY, label, t), s, t


@every
def test_values_and_gradients_are_finite_at_the_ends(process):
    output, label, yt, s, t = corners(process)

    def everything(output):
        clean = process.clean(output, yt, t)
        outputs = {"loss": process.loss(output, label, yt, t), "doubt": process.loss(output, label, yt, t, 0.5)}
        law = process.posterior(clean, yt, s, t)
        outputs["posterior"] = law[0] if process.state_channels else jnp.exp(law)
        outputs["clean law"] = jnp.exp(process.loo_to_posterior(clean, yt, t))
        if process.has_likelihood:
            outputs["kl"] = process.kl(output, label, yt, s, t)
            outputs["rate"] = process.kl_rate(jax.lax.stop_gradient(output), label, yt, t)  # it is never differentiated
        return sum(v.sum() for v in outputs.values()), outputs

    (_, outputs), slope = jax.jit(jax.value_and_grad(everything, has_aux=True))(output)
    for name, value in outputs.items():
        assert np.isfinite(value).all(), name
    assert np.isfinite(slope).all()
    np.testing.assert_allclose(outputs["clean law"].sum(axis=-1), 1, rtol=1e-5)
    assert all((np.asarray(outputs[name]) >= -1e-5).all() for name in ("loss", "kl") if name in outputs)
    if process.has_likelihood:
        np.testing.assert_array_equal(np.asarray(outputs["kl"])[(s == t) | (label == VOID)], 0)
    drawn = jitted(process, "reverse")(KEY, jitted(process, "clean")(output, yt, t), yt, s, t)
    assert np.isfinite(drawn).all() and drawn.dtype == yt.dtype
    labels = np.asarray(process.decode(drawn))[np.asarray((s == 0) & (label != VOID))]
    assert ((labels >= 0) & (labels < K)).all()


@pytest.mark.parametrize("process", [PROCESSES["absorbing"], PROCESSES["bits"]], ids=["absorbing", "bits"])
@pytest.mark.usefixtures("strict")
def test_levels_may_be_numbers_or_maps_and_outputs_bfloat16(process):
    shape = (2, 3, 4)
    yt, y0 = process.prior(KEY, shape), jnp.zeros(shape, jnp.int32)
    output = jnp.asarray(np.random.default_rng(0).normal(size=(*shape, process.head_size)), jnp.bfloat16)

    @jax.jit
    def everything(s, t):
        clean = process.clean(output, yt, t)
        drawn = process.reverse(KEY, clean, yt, s, t)
        return process.loss(output, y0, yt, t), clean, drawn, process.corrupt(KEY, y0, t)

    numbers, maps = everything(0.3, 0.6), everything(jnp.full(shape, 0.3), jnp.full(shape, 0.6))
    for a, b in zip(numbers, maps, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert numbers[0].dtype == numbers[1].dtype == jnp.float32


@every
def test_a_process_is_a_value(process):
    assert process == dataclasses.replace(process) and hash(process) == hash(dataclasses.replace(process))
    with pytest.raises(ValueError, match="^num_classes is 1, expected at least 2$"):
        dataclasses.replace(process, num_classes=1)
