"""The bound in worlds whose law is known: the entropy for the true reverse, never below it, and tight on all paths.

The small worlds are labels alone, enumerated with dense matrices in float64, independently of the code under test; the
large one is one grey value and two labels, with the exact denoiser, by Monte Carlo.
"""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from gcdiff import paths
from gcdiff.likelihood import (
    LEGS,
    PATHS,
    Bound,
    Chunk,
    Likelihood,
    Parts,
    along,
    bound,
    gap,
    grid_bound,
    summary,
    total,
)
from gcdiff.likelihood.legs import least_level
from gcdiff.likelihood.terms import grey_log_prob, levels_at, priors, rates, steps, term
from gcdiff.processes.absorbing import AbsorbingProcess
from gcdiff.processes.bits import BitsProcess
from gcdiff.processes.categorical import UniformProcess, kl_rate
from gcdiff.processes.gaussian import GaussianProcess, from_clean
from gcdiff.processes.joint import JointProcess
from gcdiff.samplers.sample import example_keys
from gcdiff.schedules import Schedule
from gcdiff.types import VOID, Condition, Pair

ENDS = np.array([0.0, 1e-6, 0.5, 1 - 1e-6, 1.0], np.float32)
STEPS = jax.jit(steps, static_argnums=0)
RATES = jax.jit(rates, static_argnums=0)
LEVELS = jax.jit(levels_at, static_argnums=0)
LABEL_RATE, GREY_LOG_PROB = jax.jit(kl_rate), jax.jit(grey_log_prob)


# ---- labels alone, enumerated --------------------------------------------------------------------

SCHEDULE = Schedule("cosine", 1.0)


def keep_at(t):
    """keep of SCHEDULE in float64, from its definition."""
    if t in (0, 1):
        return 1.0 - t
    return 1 / (1 + np.exp(-1.0) * np.tan((t + 0.008) / 1.008 * np.pi / 2) ** 2)


def transition(keep, classes):
    return keep * np.eye(classes) + (1 - keep) / classes


def reverse_law(p0, y_t, keep_s, keep_t):
    """q(y_s | y_t, p0) of one pixel with dense matrices."""
    law = (p0 @ transition(keep_s, len(p0))) * transition(keep_t / keep_s, len(p0))[:, y_t]
    return law / law.sum()


def labels_only(classes):
    return JointProcess(None, UniformProcess(classes, SCHEDULE))


def call(function, process, log_p0, y0, y_t, s, t):
    """Nats of rows of pixels: log_p0 (N, pixels, K), labels (N, pixels), levels (N,)."""
    s, t = (
        Pair(None, np.broadcast_to(np.asarray(x, np.float32)[:, None, None], (len(y0), 1, y0.shape[1]))) for x in (s, t)
    )
    predicted, clean, noisy = (Pair(None, np.asarray(x)[:, None]) for x in (log_p0.astype(np.float32), y0, y_t))
    return np.asarray(function(process, predicted, clean, noisy, s, t).layout, np.float64)


def enumerated(law, classes, predict, grids):
    """The exact bound of each grid (levels from 1 to 0): law (configs,), predict(y_t, t) -> log_p0 (pixels, K)."""
    pixels = round(np.log(len(law)) / np.log(classes))
    configs = np.array(list(itertools.product(range(classes), repeat=pixels)), np.int32)
    rows = []
    for number, grid in enumerate(grids):
        for t, s in itertools.pairwise(grid):
            per_pixel = transition(keep_at(t), classes)
            for y_t in configs:
                log_p0 = predict(tuple(y_t), t)
                for y0, p in zip(configs, law, strict=True):
                    rows.append((number, p * per_pixel[y0, y_t].prod(), log_p0, y0, y_t, s, t))
    number, weight, log_p0, y0, y_t, s, t = (np.array(column) for column in zip(*rows, strict=True))
    nats = weight * call(STEPS, labels_only(classes), log_p0, y0, y_t, s, t)
    return np.bincount(number, nats)


def grid(steps):
    return [i / steps for i in range(steps, -1, -1)]


def entropy(law):
    return -np.sum(law * np.log(law))


def exact_loo(law, classes):
    """The leave-one-out predictor of two labels of a known law (K, K)."""
    table = np.reshape(law, (classes, classes))

    def predict(y_t, t):
        q = transition(keep_at(t), classes)
        loo = np.stack([table @ q[:, y_t[1]], q[:, y_t[0]] @ table])
        return np.log(loo / loo.sum(axis=1, keepdims=True))

    return predict


def test_with_the_true_reverse_the_bound_is_the_entropy_on_any_grid():
    """Of one pixel the plug-in with the prior is the true reverse."""
    law = np.array([0.7, 0.05, 0.25])
    values = enumerated(law, 3, lambda y_t, t: np.log(law)[None], [grid(1), grid(3), grid(10), [1, 0.9, 0.2, 0.19, 0]])
    np.testing.assert_allclose(values, entropy(law), atol=1e-6)


def test_the_first_jump_of_a_curve_that_stops_short_of_level_1_costs_what_the_step_does():
    """The rate at level 1 times the v that the curve leaves out is the step from level 1 to the curve's end."""
    process = JointProcess(GaussianProcess(Schedule("linear", 6.0), "x0"), None)
    last = np.float32(1 - 2**-24)
    left_out = float(np.log1p(np.exp(float(process.image.log_snr(last)))))
    share = np.float32([0.5 * left_out / float(jax.nn.softplus(process.image.log_snr(0.2)))])
    assert float(LEVELS(process, share, np.float32(0.2)).image[0]) == 1.0
    clean, actual = (Pair(np.full((1, 1, 1, 1), x, np.float32), None) for x in (0.5, -0.3))
    zero, end, one = (Pair(np.full((1, 1, 1), x, np.float32), None) for x in (0.0, last, 1.0))
    rate = float(rates(process, actual, clean, clean, zero, one).image[0])
    step = float(steps(process, actual, clean, clean, end, one).image[0])
    assert left_out > 0.01 and rate * left_out == pytest.approx(step, rel=1e-5)


def test_in_continuous_time_the_bound_is_the_entropy():
    """The integral of the rate in v = -log(1 - keep), by quadrature, and the last step."""
    law, process = np.array([0.7, 0.05, 0.25]), labels_only(3)
    t_min = least_level(process)
    assert abs(SCHEDULE.log_snr(t_min) - 9.77) < 0.01  # where the curve ends
    reach = -np.log(1 - keep_at(t_min))
    nodes, weights = np.polynomial.legendre.leggauss(40)
    t = np.asarray(LEVELS(process, jnp.asarray((nodes + 1) / 2, jnp.float32), t_min).layout)
    rows = [(n, y0, y_t) for n in range(41) for y0 in range(3) for y_t in range(3)]
    at, y0, y_t = np.array(rows, np.int32).T
    t, weights = np.append(t, t_min)[at], np.append(weights / 2 * reach, 1.0)[at]
    keep = np.array([keep_at(x) for x in t])
    weights = weights * law[y0] * (keep * (y0 == y_t) + (1 - keep) / 3)
    log_p0 = np.broadcast_to(np.log(law), (len(rows), 1, 3))
    rate, last = (call(f, process, log_p0, y0[:, None], y_t[:, None], 0 * t, t) for f in (RATES, STEPS))
    np.testing.assert_allclose(np.sum(weights * np.where(at < 40, rate, last)), entropy(law), atol=2e-6)


def random_model(rng, classes):
    table = {}
    return lambda y_t, t: table.setdefault((y_t, t), np.log(rng.dirichlet(np.full(classes, 0.7), size=2)))


def test_the_bound_is_the_sum_over_all_chains_and_never_below_the_entropy():
    """Two labels, a random predictor for each state and level: sum over chains of q log(q / p)."""
    rng, classes, levels = np.random.default_rng(0), 2, [1, 0.6, 0.3, 0]
    configs = list(itertools.product(range(classes), repeat=2))
    for _ in range(4):
        law, model = rng.dirichlet(np.ones(4)), random_model(rng, classes)
        want = 0.0
        for p, y0 in zip(law, configs, strict=True):
            for chain in itertools.product(configs, repeat=3):  # y at levels[:3]
                q, log_p, before = 1.0, np.log(0.25), y0
                for earlier, later in zip([0, *levels[2::-1]], levels[2::-1], strict=False):
                    y = chain[levels.index(later)]
                    step = transition(keep_at(later) / keep_at(earlier), classes)
                    q *= np.prod([step[a, b] for a, b in zip(before, y, strict=True)])
                    before = y
                for i, t in enumerate(levels[:3]):
                    below = chain[i + 1] if i < 2 else y0
                    for pixel in range(2):
                        p0 = np.exp(model(chain[i], t)[pixel])
                        at = reverse_law(p0, chain[i][pixel], keep_at(levels[i + 1]), keep_at(t))
                        log_p += np.log(at[below[pixel]])
                want += p * q * (np.log(q) - log_p)
        (got,) = enumerated(law, classes, model, [levels])
        np.testing.assert_allclose(got, want, rtol=1e-6)
        assert got > entropy(law)


def test_the_excess_of_a_grid_falls_as_one_over_its_steps():
    law = np.random.default_rng(3).dirichlet(np.full(9, 0.4)) + 1e-3
    law /= law.sum()
    excess = enumerated(law, 3, exact_loo(law, 3), [grid(n) for n in (8, 16, 32, 64)]) - entropy(law)
    assert (excess > 0).all() and excess[0] > 0.02
    ratios = excess[:-1] / excess[1:]
    assert abs(ratios[-1] - 2) < 0.15 and (np.abs(np.diff(ratios)) < 0.5).all(), ratios


# ---- the rate of the labels ----------------------------------------------------------------------


def dense_kl(p, y0, y_t, keep_s, keep_t):
    q, p = (reverse_law(law, y_t, keep_s, keep_t) for law in (np.eye(len(p))[y0], p))
    return np.sum(q * np.log(q / p))


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_the_rate_is_the_limit_of_the_divergence(classes):
    """The divergence over the step, extrapolated from two steps in float64."""
    rng = np.random.default_rng(classes)
    keep = np.array([*rng.uniform(size=40), 1e-4, 1e-2, 0.99, 0.9999, *np.full(20, 0.3)], np.float32)
    y0, y_t = rng.integers(classes, size=(2, len(keep)))
    logits = rng.normal(size=(len(keep), classes)) * 3
    got = LABEL_RATE(jnp.asarray(logits, jnp.float32), jnp.asarray(y0), jnp.asarray(y_t), keep)
    for i, a in enumerate(keep.astype(np.float64)):
        p, h = np.exp(logits[i]) / np.exp(logits[i]).sum(), 1e-4 * a * (1 - a)
        one, two = (dense_kl(p, y0[i], y_t[i], a + n * h, a) / (n * h) for n in (1, 2))
        np.testing.assert_allclose(got[i], 2 * one - two, rtol=2e-4, atol=1e-7)


def test_the_rate_vanishes_with_keep_and_with_a_perfect_prediction():
    logits, y_t = jnp.array([[3.0, -1.0, 0.5]] * 3), jnp.arange(3)
    tiny = np.float32(1e-6)
    low, lower = (np.asarray(LABEL_RATE(logits, jnp.zeros(3, jnp.int32), y_t, k)) for k in (tiny, tiny / 2))
    np.testing.assert_allclose(low / lower, 2, rtol=1e-4)
    assert (LABEL_RATE(logits, jnp.zeros(3, jnp.int32), y_t, 0.0) == 0).all()
    perfect = jnp.array([[110.0, -110.0, -110.0]] * 3)
    assert np.abs(LABEL_RATE(perfect, jnp.zeros(3, jnp.int32), y_t, 0.7)).max() < 1e-6


def test_no_value_and_no_gradient_is_infinite_at_the_ends():
    """Levels at their ends, logits of 110, any label, any image estimate: of the rates and of the steps."""
    process = JointProcess(GaussianProcess(SCHEDULE, "x0"), UniformProcess(3, SCHEDULE))
    logits = [np.array(v) for v in ((110, -110, 0), (-110, 110, 0), (0, 0, 0), (0, -np.inf, -np.inf))]
    rows = [
        (s, t, *row)
        for s, t in itertools.product(ENDS, ENDS)
        if s <= t
        for row in itertools.product(logits, (VOID, 0, 1), (0, 1, 2), (-1.0, 1.0))
    ]
    s, t, log_p0, y0, y_t, x = (np.array(c) for c in zip(*rows, strict=True))
    s, t = (Pair(*[v[:, None, None].astype(np.float32)] * 2) for v in (s, t))
    clean, noisy = (
        Pair(x[:, None, None, None].astype(np.float32), y[:, None, None].astype(np.int32)) for y in (y0, y_t)
    )
    predicted = Pair(-clean.image, log_p0[:, None, None].astype(np.float32))
    predicted = predicted._replace(layout=jax.nn.log_softmax(predicted.layout))
    for function in (steps, rates):

        def loss(predicted, function=function):
            nats = function(process, predicted, clean, noisy, s, t)
            return sum(side.sum() for side in nats), nats

        gradient, nats = jax.jit(jax.grad(loss, has_aux=True))(predicted)
        for side in (*nats, *gradient):
            assert np.isfinite(side).all()
        still = (s.image == t.image)[:, 0, 0]
        assert all((np.asarray(side)[still] == 0).all() for side in nats)
        assert (np.asarray(nats.layout)[y0 == VOID] == 0).all()
        assert all((np.asarray(side) >= -1e-6).all() for side in nats)


# ---- the image's terms ---------------------------------------------------------------------------


def test_the_grey_values_are_a_law():
    greys = np.arange(256, dtype=np.float32) / 127.5 - 1
    means, stds = np.meshgrid([-1.0, -0.4, 0.001, 0.7, 1.0, 1.5], [1.3e-3, 0.0125, 0.5])
    log_p = np.asarray(GREY_LOG_PROB(jnp.asarray(means[..., None]), greys, jnp.asarray(stds[..., None])))
    assert np.isfinite(log_p).all()
    np.testing.assert_allclose(np.exp(log_p.astype(np.float64)).sum(-1), 1, atol=2e-5)
    edges = np.concatenate([[-np.inf], (greys[:-1] + greys[1:]).astype(np.float64) / 2, [np.inf]])
    want = np.diff(norm.cdf((edges - means[..., None]) / stds[..., None]))
    np.testing.assert_allclose(np.exp(log_p), want, atol=5e-5)
    # Far off, the exact logarithm goes on where the probability is 0: to leading order the square of the distance.
    far = GREY_LOG_PROB(jnp.float32(1.0), jnp.float32(greys[64]), jnp.float32(1.3e-3))
    np.testing.assert_allclose(far, -0.5 * ((1 - greys[64] - 1 / 255) / 1.3e-3) ** 2, rtol=1e-3)


def gaussian_kl(x0, other, alphas, sigmas):
    """KL between q(x_s | x_t, x_0) and the same with another clean image, from its mean and variance in float64."""
    (alpha_s, alpha_t), (sigma_s, sigma_t) = alphas, sigmas
    ratio = alpha_t / alpha_s
    left = sigma_t**2 - ratio**2 * sigma_s**2  # the variance of x_t given x_s
    return (alpha_s * left / sigma_t**2 * (x0 - other)) ** 2 / (2 * sigma_s**2 * left / sigma_t**2)


def test_image_steps_are_gaussian_divergences_and_rates_their_limit():
    schedule, x0, other = Schedule("linear", 1.0), 0.3, -0.2
    process = JointProcess(GaussianProcess(schedule, "x0"), None)
    s, t = np.array([0.1, 0.5, 0.2], np.float32), np.array([0.2, 1.0, 0.201], np.float32)
    clean, predicted = (Pair(np.full((3, 1, 1, 1), v, np.float32)) for v in (x0, other))
    levels = [Pair(v[:, None, None]) for v in (s, t)]
    snr = [np.exp(np.asarray(schedule.log_snr(v), np.float64)) for v in (s, t)]
    alphas, sigmas = ([np.sqrt(v / (1 + v)) for v in snr], [np.sqrt(1 / (1 + v)) for v in snr])
    step = STEPS(process, predicted, clean, clean, *levels).image
    np.testing.assert_allclose(step, gaussian_kl(x0, other, alphas, sigmas), rtol=2e-4)
    rate = RATES(process, predicted, clean, clean, *levels).image
    v_s, v_t = (np.log1p(v[2]) for v in snr)
    np.testing.assert_allclose(rate[2], step[2] / (v_s - v_t), rtol=0.02)


def test_levels_are_uniform_in_v_and_what_a_curve_leaves_out_is_level_one():
    image, layout = Schedule("linear", -4.0), Schedule("cosine", 5.0)
    process = JointProcess(GaussianProcess(image, "x0"), UniformProcess(2, layout))
    t_min, share = least_level(process), np.linspace(0, 1, 21, dtype=np.float32)
    assert max(float(image.log_snr(t_min)), float(layout.log_snr(t_min))) == pytest.approx(13.3, abs=1e-2)
    levels = LEVELS(process, jnp.asarray(share), t_min)
    for side, schedule in zip(levels, (image, layout), strict=True):
        v = np.logaddexp(0, np.asarray(schedule.log_snr(side), np.float64))
        np.testing.assert_allclose(v, share * np.logaddexp(0, float(schedule.log_snr(t_min))), rtol=2e-4, atol=2e-4)
    assert levels.image[0] == 1 and levels.layout[0] == 1
    top = np.logaddexp(0, float(image.log_snr(1 - 1e-7))) / np.logaddexp(0, float(image.log_snr(t_min)))
    below = LEVELS(process, jnp.asarray([0.5 * top], jnp.float32), t_min).image
    assert below[0] == 1


# ---- one grey value and two labels, exactly ------------------------------------------------------

K, NUM, DRAWS = 2, 12_000, 6
GREYS = np.array([0, 10, 60, 95, 130, 180, 215, 255]) / 127.5 - 1
CONFIGS = np.array([(a, b) for a in range(K) for b in range(K)])
_TABLE = np.exp(-0.5 * ((GREYS[:, None] - np.array([-0.9, 0.2, 0.6, 0.95])) / 0.4) ** 2)
LAW = _TABLE / _TABLE.sum(0) * np.array([0.45, 0.05, 0.15, 0.35])  # (grey, config)
IMAGE, LAYOUT = Schedule("cosine", 5.0), Schedule("cosine", 1.0)


def network(variables, noisy, log_snr, condition, kind="x0"):
    """The exact denoiser, with params (distortion, poison): a wrong model, and logits of the second pixel off."""
    distortion, poison = variables["params"]
    x, y = noisy.image[:, 0, 0, 0], noisy.layout[:, 0]
    l_x, keep = log_snr.image[:, 0, 0], jax.nn.sigmoid(log_snr.layout[:, 0])[..., None]
    alpha, variance = jnp.sqrt(jax.nn.sigmoid(l_x))[:, None], jax.nn.sigmoid(-l_x)[:, None]
    gauss = -0.5 * (x[:, None] - alpha * GREYS) ** 2 / jnp.maximum(variance, 1e-9)
    of_grey = jnp.exp(gauss - gauss.max(axis=-1, keepdims=True))[..., None] * LAW.astype(np.float32)
    # A state of K is the mask; of the uniform process it never is one, and of both a redrawn label says nothing.
    like = jnp.where(y[..., None] == K, 1.0, jnp.where(y[..., None] == CONFIGS.T, keep, 0.0) + (1 - keep) / K)
    joint = of_grey * like.prod(axis=1)[:, None]
    clean = (joint * GREYS[:, None]).sum(axis=(1, 2)) / joint.sum(axis=(1, 2))
    weight = of_grey.sum(axis=1)[:, None] * like[:, ::-1]  # (B, pixel, config): the other pixel's alone
    loo = jnp.stack([jnp.where(k == CONFIGS.T, weight, 0.0).sum(axis=-1) for k in range(K)], axis=-1)
    logits = jnp.log(loo) + distortion * jnp.sin(7 * x[:, None, None] + 3 * y[..., None] + jnp.array([0.0, 2.0]))
    logits = logits + poison * jnp.array([[0.0, 0.0], [1.0, -1.0]])
    clean = (clean + distortion * 0.2 * jnp.cos(5 * x))[:, None, None, None]
    return Pair(from_clean(kind, clean, noisy.image, log_snr.image[..., None]), logits[:, None])


def absorbed(variables, noisy, log_snr, condition):
    """Labels that are masked, or seen and then certain."""
    seen = jnp.where(noisy.layout == K, -jnp.inf, jnp.inf)
    return network(variables, noisy, log_snr._replace(layout=seen), condition)


def eps_of_image(variables, noisy, log_snr, condition):
    """The noise of the image, of a model without a layout."""
    layout = jnp.zeros((len(noisy.image), 1, 2), jnp.int32)
    levels = log_snr._replace(layout=jnp.full(layout.shape, -jnp.inf))
    prediction = network(variables, noisy._replace(layout=layout), levels, condition, kind="eps")
    return prediction._replace(layout=None)


UNIFORM = Likelihood(JointProcess(GaussianProcess(IMAGE, "x0"), UniformProcess(K, LAYOUT)), network)
ABSORBING = Likelihood(JointProcess(GaussianProcess(IMAGE, "x0"), AbsorbingProcess(K, IMAGE)), absorbed)
EXACT = jnp.array([0.0, 0.0])


def drawn(void=False):
    """A chunk of pairs from LAW, and -log p of each leg; the second label void or not."""
    flat = np.random.default_rng(0).choice(LAW.size, NUM, p=LAW.ravel())
    grey, config = np.unravel_index(flat, LAW.shape)
    labels = CONFIGS[config].astype(np.int32)
    seen = (CONFIGS[:, None, :1] == labels[:, :1]).all(-1) if void else np.arange(4)[:, None] == config
    pair, y, x = (LAW[grey].T * seen).sum(0), (LAW.sum(0) @ seen), LAW.sum(1)[grey]
    truth = dict(zip(LEGS, (-np.log(v) for v in (pair, x, pair / y, y, pair / x)), strict=True))
    if void:
        labels[:, 1] = VOID
    clean = Pair(GREYS[grey].astype(np.float32)[:, None, None, None], labels[:, None])
    return Chunk(clean, example_keys(0, np.arange(NUM)), Condition(), NUM), truth


def excess(nats, truth):
    """Mean and standard error of what lies above the truth, in nats per example."""
    rest = nats.mean(axis=1) - truth
    return rest.mean(), rest.std(ddof=1) / np.sqrt(len(rest))


@pytest.mark.parametrize("void", [False, True])
@pytest.mark.parametrize("model", [UNIFORM, ABSORBING], ids=["uniform, two schedules", "absorbing, one schedule"])
def test_in_continuous_time_every_leg_and_path_is_the_truth(model, void):
    chunk, truth = drawn(void)
    done = []
    bounds = bound(model, EXACT, [chunk], draws=DRAWS, progress=done.append)
    assert sum(done) == DRAWS * len(LEGS)
    nats = {leg: b.nats for leg, b in bounds.items()} | {path: along(bounds, path).nats for path in PATHS}
    for name, values in nats.items():
        mean, error = excess(values, truth.get(name, truth["joint"]))
        assert error < 0.04
        # The last step sees grey values through a Gaussian of a sixth of their distance, which costs at most .003 nats.
        assert abs(mean) < 3 * error + 0.003, name
    for path in ("diagonal", "image_first"):
        value, error = gap(bounds, path)
        assert abs(value) < 3 * error + 0.005, path
        apart = np.hypot(total(along(bounds, path)).error, total(along(bounds, "layout_first")).error)
        assert error < 0.8 * apart  # common levels and noise


@pytest.mark.parametrize("model, calls", [(UNIFORM, 3), (ABSORBING, 2)], ids=["two schedules", "one schedule"])
def test_on_the_diagonal_both_sides_are_at_one_level_and_legs_share_levels(model, calls, monkeypatch):
    seen = []

    def record(likelihood, params, chunk, number, s, t, rate):
        seen.append((np.broadcast_to(t.image, 4), np.broadcast_to(t.layout, 4)))
        return Pair(np.zeros(4), np.zeros(4))

    monkeypatch.setattr("gcdiff.likelihood.legs.nats_of", record)
    clean = Pair(np.zeros((4, 1, 1, 1), np.float32), np.zeros((4, 1, 2), np.int32))
    chunk = Chunk(clean, example_keys(0, np.arange(4)), Condition(), 4)
    levels = {}
    for leg in LEGS:
        seen.clear()
        bound(model, EXACT, [chunk], legs=[leg], draws=2)
        assert len(seen) == 2 * (calls if leg == "joint" else 2)
        levels[leg] = np.array(seen)  # (calls, side, B)
    np.testing.assert_array_equal(levels["joint"][:, 0], levels["joint"][:, 1])
    for leg, side in (("image_only", 0), ("image_given_layout", 0), ("layout_only", 1), ("layout_given_image", 1)):
        assert set(levels[leg][:, side].ravel()) <= set(levels["joint"].ravel())
        assert (levels[leg][:, 1 - side] == LEGS[leg][1 - side]).all()
        assert len(set(levels[leg][:, side].ravel())) == 9  # of 2 draws and 4 examples, and t_min


@pytest.mark.parametrize("distortion", [0.2, 1.0])
def test_no_wrong_model_is_below_the_truth(distortion):
    chunk, truth = drawn()
    for leg, b in bound(UNIFORM, jnp.array([distortion, 0.0]), [chunk], draws=2).items():
        mean, error = excess(b.nats, truth[leg])
        assert mean > -3 * error, leg
        if distortion == 1:
            assert mean > 5 * error, leg


def test_a_sampler_s_bound_falls_to_the_truth_and_steps_may_be_drawn():
    chunk, truth = drawn()
    for path, leg in ((paths.joint, "joint"), (paths.layout_first, "joint"), (paths.image_only, "image_only")):
        done = []
        coarse, middle, fine = (
            excess(grid_bound(UNIFORM, EXACT, [chunk], path(n), progress=done.append).nats, truth[leg])
            for n in (4, 12, 36)
        )
        assert sum(done) == 4 + 12 + 36
        assert coarse[0] > middle[0] + 0.1 > fine[0] + 0.15
        assert -3 * fine[1] < fine[0] < 0.25 * coarse[0]
        some = grid_bound(UNIFORM, EXACT, [chunk], path(12), draws=3, steps=4, progress=done.append)
        last = 2 if path is paths.layout_first else 1
        assert sum(done) == 52 + 3 * (4 + last)
        value, error = excess(some.nats, truth[leg])
        assert abs(value - middle[0]) < 3 * np.hypot(error, middle[1])


def test_the_draws_of_a_grid_share_its_steps_out(monkeypatch):
    """As many draws of one step as there are steps before the last: every example sees each step once."""
    seen = []

    def record(likelihood, params, chunk, number, s, t, rate):
        seen.append(np.broadcast_to(t.image, 4))
        return Pair(np.ones(4), np.ones(4))

    monkeypatch.setattr("gcdiff.likelihood.legs.nats_of", record)
    clean = Pair(np.zeros((4, 1, 1, 1), np.float32), np.zeros((4, 1, 2), np.int32))
    chunk, path = Chunk(clean, example_keys(0, np.arange(4)), Condition(), 4), paths.joint(6)
    computed = grid_bound(UNIFORM, EXACT, [chunk], path, draws=5, steps=1)
    np.testing.assert_array_equal(np.array(seen[::2]), np.broadcast_to(path[:5, :1], (5, 4)))
    np.testing.assert_array_equal(np.array(seen[1::2]), path[5, 0])
    np.testing.assert_array_equal(computed.nats, 2 * (5 + 1))  # two sides; a step weighs five, the last one


def test_one_program_serves_every_leg_path_and_number_of_draws():
    """Continues the tests above, whose compiled programs it counts."""
    chunk, _ = drawn()
    bound(UNIFORM, EXACT, [chunk], legs=["joint"], draws=1, log_snr_max=8.0)
    grid_bound(UNIFORM, EXACT, [chunk], paths.layout_given_image(3))
    before = [f._cache_size() for f in (Likelihood.term, Likelihood.levels, Likelihood.jitter)]
    bound(UNIFORM, EXACT + 0.1, [chunk, chunk], draws=3, log_snr_max=9.0)
    grid_bound(UNIFORM, EXACT, [chunk], paths.joint(5), draws=2, steps=2)
    assert before == [f._cache_size() for f in (Likelihood.term, Likelihood.levels, Likelihood.jitter)]


def test_void_pixels_change_nothing():
    """What a network says of a void pixel is not read, whichever state it is in, and the pixel is not counted."""
    chunk, _ = drawn(void=True)
    good, bad = (bound(UNIFORM, jnp.array([0.0, p]), [chunk], draws=1) for p in (0.0, 50.0))
    for leg in LEGS:
        np.testing.assert_array_equal(good[leg].nats, bad[leg].nats)
        np.testing.assert_array_equal(good[leg].sizes.layout, 1)
    clear, _ = drawn()
    good, bad = (bound(UNIFORM, jnp.array([0.0, p]), [clear], legs=["layout_only"], draws=1) for p in (0.0, 50.0))
    assert total(bad["layout_only"]).value > 5 * total(good["layout_only"]).value  # where it is labelled it is read


def test_a_network_reads_that_void_pixels_are_unknown():
    levels = []

    def predict(noisy, t, condition):
        levels.append(t)
        return Pair(noisy.image, jnp.zeros((*noisy.layout.shape, K)))

    clean = Pair(np.zeros((1, 1, 2, 1), np.float32), np.array([[[1, VOID]]], np.int32))
    s, t = (Pair(*[np.full(1, at, np.float32)] * 2) for at in (0.2, 0.4))
    term(UNIFORM.process, predict, clean, example_keys(0, np.arange(1)), s, t, False, Condition())
    np.testing.assert_allclose(levels[0].layout, [[[0.4, 1.0]]])
    np.testing.assert_allclose(levels[0].image, 0.4)


def test_an_example_depends_on_its_own_key_alone():
    """Whatever its place in a chunk, the other examples and the padding."""
    chunk, _ = drawn()
    order = np.random.default_rng(1).permutation(NUM)
    moved = jax.tree.map(lambda a: a[order], chunk[:3])
    here = bound(UNIFORM, EXACT, [chunk], legs=["joint"], draws=2)["joint"]
    there = bound(UNIFORM, EXACT, [chunk, Chunk(*moved, 50)], legs=["joint"], draws=2)["joint"]
    assert there.nats.shape == (NUM + 50, 2)
    np.testing.assert_array_equal(there.nats[NUM:], here.nats[order[:50]])


def test_an_eps_model_starts_below_level_one_and_pays_for_it():
    model = Likelihood(JointProcess(GaussianProcess(IMAGE, "eps"), None), eps_of_image)
    chunk, truth = drawn()
    computed = bound(model, EXACT, [chunk], legs=["image_only"], draws=DRAWS)["image_only"]
    log_snr = float(IMAGE.log_snr(model.process.image.highest_level))
    variance = 1 / (1 + np.exp(log_snr))
    x2 = np.square(chunk.clean.image[:, 0, 0, 0])
    want = 0.5 * (variance + (1 - variance) * x2 - 1 - np.log(variance))
    np.testing.assert_allclose(computed.parts.image.prior[:, 0], want, rtol=1e-3, atol=1e-9)
    assert log_snr < -9.5 and want.max() > 1e-6
    mean, error = excess(computed.nats, truth["image_only"])
    assert abs(mean) < 3 * error + 0.003
    at_one = priors(UNIFORM.process, chunk.clean)
    assert (at_one.image == 0).all() and (at_one.layout == 0).all()


# ---- the summary ---------------------------------------------------------------------------------


def made(nats, pixels):
    """A bound whose layout has these nats (N, draws), in three parts, and whose image stands still."""
    parts = Parts(0 * nats, 0.75 * nats, 0.25 * nats)
    return Bound(Pair(None, parts), Pair(np.full(len(nats), 12.0), np.asarray(pixels, np.float64)))


def test_the_summary_pools_bits_over_labelled_pixels():
    nats = np.log(2) * np.array([[30.0, 10.0], [5.0, 7.0], [0.0, 0.0]])
    summed = summary(made(nats, [10, 2, 0]))
    assert summed.image is None
    np.testing.assert_allclose([part.value for part in summed.layout], [0, 1.625, 26 / 12 * 0.25, 26 / 12])


def test_the_standard_error_is_the_spread_of_the_pooled_value():
    """Over 2000 repetitions, with unequal sizes; and of one example the spread over its draws."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 40, size=(2000, 60)).astype(np.float64)
    nats = sizes[..., None] * (1 + 0.1 * sizes[..., None] ** 0.5) + rng.normal(size=(2000, 60, 4)) * 10
    layouts = [summary(made(n, k)).layout.total for n, k in zip(nats, sizes, strict=True)]
    np.testing.assert_allclose(np.mean([e.error for e in layouts]), np.std([e.value for e in layouts]), rtol=0.06)
    one = summary(made(nats[:, 0].reshape(1, -1), [3.0])).layout.total
    np.testing.assert_allclose(one.error, nats[:, 0].std(ddof=1) / np.sqrt(8000) / 3 / np.log(2))
    assert np.isnan(summary(made(nats[:1, 0, :1], [3.0])).layout.total.error)
    with pytest.raises(ValueError, match="3 examples counts 0"):
        summary(made(nats[0, :3], [0, 0, 0]))


def test_a_gap_is_what_a_path_has_above_the_reference():
    """Draw by draw, of all the legs of both paths."""
    rng = np.random.default_rng(0)
    sides = rng.exponential(size=(len(LEGS), 2, 5, 3))  # (leg, side, example, draw)
    sizes, moves = Pair(np.full(5, 12.0), np.full(5, 4.0)), dict(zip(LEGS, sides, strict=True))
    bounds = {}
    for leg, nats_of_leg in moves.items():
        parts = (Parts(0 * n, n, 0 * n) if at == "t" else None for n, at in zip(nats_of_leg, LEGS[leg], strict=True))
        bounds[leg] = Bound(Pair(*parts), sizes)
    nats = {
        "diagonal": moves["joint"].sum(0),
        "layout_first": moves["layout_only"][1] + moves["image_given_layout"][0],
        "image_first": moves["image_only"][0] + moves["layout_given_image"][1],
    }
    for path, reference in itertools.permutations(nats, 2):
        actual = gap(bounds, path, reference)
        np.testing.assert_allclose(actual.value, (nats[path] - nats[reference]).mean() / np.log(2))
        of_each = (nats[path] - nats[reference]).mean(axis=1) / np.log(2)
        np.testing.assert_allclose(actual.error, of_each.std(ddof=1) / np.sqrt(5))
        np.testing.assert_allclose(total(along(bounds, path)).value, nats[path].mean() / np.log(2))


def test_every_draw_has_a_stratum_of_its_own(monkeypatch):
    """Of n draws the i-th is where v is between i/n and (i + 1)/n of its reach; no two examples are at one level."""
    seen = []

    def record(likelihood, params, chunk, number, s, t, rate):
        seen.append(np.broadcast_to(t.image, 4))
        return Pair(np.zeros(4), np.zeros(4))

    monkeypatch.setattr("gcdiff.likelihood.legs.nats_of", record)
    clean = Pair(np.zeros((4, 1, 1, 1), np.float32), np.zeros((4, 1, 2), np.int32))
    bound(UNIFORM, EXACT, [Chunk(clean, example_keys(0, np.arange(4)), Condition(), 4)], legs=["image_only"], draws=5)
    levels = np.array([t for t in seen if len(set(t)) > 1])
    v = np.logaddexp(0, np.asarray(IMAGE.log_snr(np.append(levels, least_level(UNIFORM.process)))))
    share = (v[:-1] / v[-1]).reshape(5, 4) * 5 - np.arange(5)[:, None]
    assert np.all((share > -1e-3) & (share < 1 + 1e-3)) and len(np.unique(np.round(share, 4))) == 20


def test_the_last_step_of_an_image_decodes_with_the_spread_that_noise_leaves():
    """Of data of deviation 1/2: the variance of x_0 given x_t is 1 / (4 + SNR), whatever the SNR."""
    t, greys = np.array([0.05, 0.4, 0.9], np.float32), np.array([0, 100, 255], np.float32) / 127.5 - 1
    process = JointProcess(GaussianProcess(SCHEDULE, "x0"), None)
    clean, predicted = (Pair(np.asarray(v, np.float32)[:, None, None, None]) for v in (greys, greys * 0.9 + 0.02))
    actual = STEPS(
        process, predicted, clean, clean, Pair(np.zeros((3, 1, 1), np.float32)), Pair(t[:, None, None])
    ).image
    std = (4 + np.exp(np.asarray(SCHEDULE.log_snr(t), np.float64))) ** -0.5
    low, high = (greys + half for half in (np.array([-np.inf, -1, -1]) / 255, np.array([1, 1, np.inf]) / 255))
    mean = predicted.image[:, 0, 0, 0]
    np.testing.assert_allclose(actual, -np.log(norm.cdf((high - mean) / std) - norm.cdf((low - mean) / std)), rtol=1e-3)


def test_what_cannot_be_asked_is_refused():
    chunk, labels = drawn()[0], Likelihood(labels_only(2), network)
    for message, ask in (
        ("leg is 'x'", lambda: bound(UNIFORM, EXACT, [chunk], legs=["x"])),
        ("the image stands still: the process has none", lambda: bound(labels, EXACT, [chunk], legs=["joint"])),
        ("draws is 0", lambda: bound(UNIFORM, EXACT, [chunk], draws=0)),
        ("log_snr_max is -90", lambda: bound(UNIFORM, EXACT, [chunk], log_snr_max=-90)),
        ("log_snr_max is 16", lambda: bound(UNIFORM, EXACT, [chunk], log_snr_max=16)),
        ("chunks is empty", lambda: bound(UNIFORM, EXACT, [])),
        ("steps is 0", lambda: grid_bound(UNIFORM, EXACT, [chunk], paths.joint(4), steps=0)),
        ("expected 1 falling to 0", lambda: grid_bound(UNIFORM, EXACT, [chunk], paths.partial(4, 0.5))),
        ("expected 1 falling to 0", lambda: grid_bound(UNIFORM, EXACT, [chunk], paths.joint(4)[::-1])),
        (
            "BitsProcess, expected one with a likelihood",
            lambda: Likelihood(JointProcess(None, BitsProcess(K, LAYOUT)), network),
        ),
    ):
        with pytest.raises(ValueError, match=message):
            ask()
