import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chi2

from gcdiff.processes import blocks
from gcdiff.processes.categorical import (
    LOG_ZERO,
    UniformProcess,
    corrupt,
    cross_entropy,
    loo_to_posterior,
    posterior,
    posterior_kl,
    prior_kl,
    renoise,
    reverse,
)
from gcdiff.schedules import Schedule
from gcdiff.types import VOID

KEY = jax.random.key(0)
ENDS = np.array([0.0, 1e-6, 0.5, 1 - 1e-6, 1.0], np.float32)
END_PAIRS = np.array([(s, t) for s in ENDS for t in ENDS if s >= t])  # (keep_s, keep_t)
KL = jax.jit(posterior_kl)
POSTERIOR, LOO_TO_POSTERIOR, REVERSE = map(jax.jit, (posterior, loo_to_posterior, reverse))
CORRUPT, RENOISE = (jax.jit(noise, static_argnames="num_classes") for noise in (corrupt, renoise))
SUM_AND_GRADIENT = {
    loss: jax.jit(jax.value_and_grad(lambda *a, loss=loss: ((v := loss(*a)).sum(), v), has_aux=True))
    for loss in (posterior_kl, cross_entropy)
}


def value_and_gradient(loss, *arguments):
    (_, value), gradient = SUM_AND_GRADIENT[loss](*arguments)
    return np.asarray(value), np.asarray(gradient)


def random_keeps(rng, n):
    """(keep_s, keep_t) of n pixels: random, and every pair of the ends."""
    pairs = np.sort(rng.uniform(size=(n, 2)).astype(np.float32), axis=1)[:, ::-1]
    return np.concatenate([pairs, END_PAIRS]).T


def softmax(logits):
    exp = np.exp(np.asarray(logits, np.float64) - np.max(logits, -1, keepdims=True))
    return exp / exp.sum(-1, keepdims=True)


def transition(keep, classes):
    """The dense matrix q(later | earlier) for one keep, float64."""
    return keep * np.eye(classes) + (1 - keep) / classes


def bayes(p0, y_t, keep_s, keep_t):
    """q(y_s | y_t, p0) of one pixel by enumeration with dense matrices; keep_s = keep_t is the identity."""
    classes = len(p0)
    if keep_s == keep_t:
        return np.eye(classes)[y_t]
    keep_s, keep_t = float(keep_s), float(keep_t)
    joint = (p0 @ transition(keep_s, classes))[:, None] * transition(keep_t / keep_s, classes)  # (y_s, y_t)
    return joint[:, y_t] / joint[:, y_t].sum()


def dense_kl(logits, y0, y_t, keep_s, keep_t):
    """The divergence of one pixel in float64, by sums over classes."""
    p, q = (bayes(v, y_t, keep_s, keep_t) for v in (softmax(logits), np.eye(len(logits))[y0]))
    return np.sum(q[q > 0] * np.log(q[q > 0] / p[q > 0]))


def problem(classes, seed=0, n=40, scale=3.0):
    """Logits, y0, y_t (half of them equal) and levels of n + 15 pixels."""
    rng = np.random.default_rng(seed)
    keep_s, keep_t = random_keeps(rng, n)
    y0, y_t = rng.integers(classes, size=(2, len(keep_s))).astype(np.int32)
    y_t = np.where(rng.uniform(size=len(y_t)) < 0.5, y0, y_t)
    return rng.normal(size=(len(y0), classes)).astype(np.float32) * scale, y0, y_t, keep_s, keep_t


# ---- the posterior -------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_posterior_is_enumeration(classes):
    logits, y0, y_t, keep_s, keep_t = problem(classes)
    one_hot = np.where(np.arange(classes) == y0[:, None], 0, -np.inf).astype(np.float32)
    for log_p0, p0 in ((logits, softmax(logits)), (one_hot, np.eye(classes)[y0])):
        got = np.exp(POSTERIOR(log_p0, y_t, keep_s, keep_t))
        want = [bayes(*pixel) for pixel in zip(p0, y_t, keep_s, keep_t, strict=True)]
        np.testing.assert_allclose(got, want, atol=2e-6)


def test_published_posteriors():
    """K = 3, y_t = 1, p0 = (.7, .2, .1): steps of the released schedules."""
    log_p0 = jnp.log(jnp.array([0.7, 0.2, 0.1]))
    for step, keep_s, of_p0, of_class_0, kl in (
        (0.99685411, 0.49540207, (0.002019, 0.997128, 0.000854), (0.004124, 0.994830, 0.001045), 8.6364e-4),
        (0.96940688, 0.50942860, (0.019829, 0.971994, 0.008176), (0.040675, 0.949442, 0.009884), 8.80787e-3),
        (0.90574271, 0.09062728, (0.035724, 0.933851, 0.030425), (0.040433, 0.928440, 0.031127), 3.21249e-4),
    ):
        y_t, keep_t = jnp.int32(1), step * keep_s
        np.testing.assert_allclose(jnp.exp(POSTERIOR(log_p0, y_t, keep_s, keep_t)), of_p0, atol=1e-6)
        one_hot = jnp.array([0.0, -jnp.inf, -jnp.inf])
        np.testing.assert_allclose(jnp.exp(POSTERIOR(one_hot, y_t, keep_s, keep_t)), of_class_0, atol=1e-6)
        np.testing.assert_allclose(KL(log_p0, jnp.int32(0), y_t, keep_s, keep_t), kl, rtol=1e-4)


def all_clean_and_noisy(classes):
    """log one-hots of y_0 = i and labels y_t = j, as (i, j) grids."""
    log_y0 = jnp.where(jnp.eye(classes, dtype=bool), 0.0, -jnp.inf)[:, None].repeat(classes, 1)
    return log_y0, jnp.broadcast_to(jnp.arange(classes), (classes, classes))


def test_total_probability_and_chapman_kolmogorov():
    classes, keeps = 4, (0.8, 0.5, 0.15)
    for keep_s, keep_u, keep_t in (keeps, (1.0, 0.5, 0.0), (1.0, 1 - 1e-6, 1e-6)):
        log_y0, y_t = all_clean_and_noisy(classes)
        to_s, to_u = (np.exp(POSTERIOR(log_y0, y_t, k, keep_t)) for k in (keep_s, keep_u))  # (y_0, y_t, y_s or y_u)
        s_from_u = np.exp(POSTERIOR(log_y0, y_t, keep_s, keep_u))  # (y_0, y_u, y_s)
        marginal = np.einsum("ij,ijk->ik", transition(keep_t, classes), to_s)
        np.testing.assert_allclose(marginal, transition(keep_s, classes), atol=2e-6)
        np.testing.assert_allclose(np.einsum("iju,iuk->ijk", to_u, s_from_u), to_s, atol=2e-6)


def test_plugging_in_the_leave_one_out_law_is_exact():
    """Two pixels with a joint law: plug-in of p(y_1 | y_t2) is the one-step law of pixel 1 given both."""
    classes, keep_s, keep_t, keep_other = 3, 0.8, 0.55, 0.4
    joint = np.random.default_rng(1).dirichlet(np.ones(classes**2)).reshape(classes, classes)
    given_other = joint @ transition(keep_other, classes)  # p(y_1, y_t2)
    loo = jnp.log(jnp.asarray(given_other / given_other.sum(0), jnp.float32)).T  # (y_t2, y_1)
    y_t = jnp.arange(classes)[:, None].repeat(classes, 1)  # (y_t1, y_t2)
    loo = jnp.broadcast_to(loo, (classes, classes, classes))
    clean = np.einsum("kb,kt->tbk", given_other, transition(keep_t, classes))
    clean /= clean.sum(-1, keepdims=True)  # p(y_1 | y_t1, y_t2)
    np.testing.assert_allclose(np.exp(LOO_TO_POSTERIOR(loo, y_t, keep_t)), clean, atol=2e-6)
    steps = np.array(
        [[bayes(e, t, keep_s, keep_t) for e in np.eye(classes)] for t in range(classes)]
    )  # (y_t1, y_0, y_s)
    np.testing.assert_allclose(
        np.exp(POSTERIOR(loo, y_t, keep_s, keep_t)), np.einsum("tbk,tks->tbs", clean, steps), atol=2e-6
    )


# ---- draws ---------------------------------------------------------------------------------------


def assert_follows(draws, law):
    """Chi-square of draws (C, N) against laws (C, K); what has probability 0 is never drawn."""
    for row, probabilities in zip(np.asarray(draws), np.asarray(law, np.float64), strict=True):
        counts, expected = np.bincount(row, minlength=len(probabilities)), probabilities * len(row)
        assert counts[probabilities == 0].sum() == 0
        often = expected > 5
        observed = np.append(counts[often], counts[~often].sum())
        wanted = np.append(expected[often], max(expected[~often].sum(), 1e-9))
        if wanted[-1] < 5:  # too few to count
            observed, wanted = observed[:-1], wanted[:-1]
        statistic = np.sum((observed - wanted) ** 2 / wanted)
        assert statistic <= chi2.ppf(1 - 1e-5, max(1, len(wanted) - 1)), (observed, wanted)


@pytest.mark.parametrize("classes", [5, 40])
def test_reverse_follows_the_posterior(classes):
    rng = np.random.default_rng(classes)
    keeps = np.array([(0.8, 0.3), (1.0, 0.6), (1.0, 0.0), (0.4, 0.0), (0.6, 0.55), (1 - 1e-6, 1e-6), (1.0, 0.7)])
    log_p0 = np.log(rng.dirichlet(0.3 * np.ones(classes), size=len(keeps))).astype(np.float32)
    log_p0[-1] = np.where(np.arange(classes) == 3, 0, -np.inf)  # exact x_0 in
    y_t = np.array([0, 1, 2, 3, 4, 1, 4], np.int32)
    shape = (len(keeps), 20000)
    keep_s, keep_t = keeps.T[..., None].astype(np.float32)
    draws = REVERSE(
        KEY, jnp.broadcast_to(log_p0[:, None], (*shape, classes)), jnp.broadcast_to(y_t[:, None], shape), keep_s, keep_t
    )
    law = np.array([bayes(*row) for row in zip(softmax(log_p0), y_t, keep_s[:, 0], keep_t[:, 0], strict=True)])
    assert_follows(draws, law)
    np.testing.assert_array_equal(draws[-1], 3)


def test_reverse_of_the_exact_labels_is_the_chain():
    """Fed the clean labels, a chain of reverse steps has the forward marginals and ends in the clean labels."""
    classes, shape = 3, (1, 30000)
    y0 = jnp.full(shape, 2)
    log_p0 = jnp.where(jnp.arange(classes) == 2, 0.0, -jnp.inf) * jnp.ones((*shape, 1))
    y = jax.random.randint(jax.random.key(1), shape, 0, classes)
    levels = (0.0, 0.2, 0.7, 1.0)
    for i, (keep_t, keep_s) in enumerate(zip(levels, levels[1:], strict=False)):
        y = REVERSE(jax.random.key(10 + i), log_p0, y, keep_s, keep_t)
        assert_follows(y, transition(keep_s, classes)[2:])
    np.testing.assert_array_equal(y, y0)


def test_corrupt_and_renoise_keep_the_marginal():
    classes, n = 4, 30000
    keeps = np.array([(0.7, 0.4), (1.0, 0.5), (0.6, 0.0), (1.0, 1.0), (0.5, 0.5), (0.0, 0.0)], np.float32)
    keep_s, keep_t = keeps.T[..., None]
    y_s = CORRUPT(KEY, jnp.full((len(keeps), n), 1), keep_s, classes)
    y_t = RENOISE(jax.random.key(1), y_s, keep_s, keep_t, classes)
    assert_follows(y_s, [transition(s, classes)[1] for s, _ in keeps])
    assert_follows(y_t, [transition(t, classes)[1] for _, t in keeps])
    np.testing.assert_array_equal(y_t[3:], y_s[3:])
    void = jnp.full((3, n), VOID)
    for draws in (CORRUPT(KEY, void, jnp.array([[1.0], [0.5], [0.0]]), classes), RENOISE(KEY, void, 1.0, 1.0, classes)):
        assert_follows(draws, np.full((3, classes), 1 / classes))


@pytest.mark.parametrize(("classes", "width"), [(2, 8), (19, 1)])
def test_known_pixels_stay_whatever_the_prediction(classes, width):
    """s == t is the identity at every level, a map or constant rows, also where p[y_t] underflows."""
    y = np.arange(5 * 8, dtype=np.int32).reshape(5, 8) % classes
    log_p0 = np.where(np.arange(classes) == (y[..., None] + 1) % classes, np.float32(110.0), np.float32(-110.0))
    keep, own = np.broadcast_to(ENDS[:, None], (5, width)), np.eye(classes)[y]
    np.testing.assert_array_equal(REVERSE(KEY, log_p0, y, keep, keep), y)
    np.testing.assert_array_equal(RENOISE(KEY, y, keep, keep, classes), y)
    np.testing.assert_array_equal(np.exp(POSTERIOR(log_p0, y, keep, keep)), own)
    np.testing.assert_array_equal(np.exp(LOO_TO_POSTERIOR(log_p0, y, 1.0)), own)


# ---- losses --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("classes", "scale"), [(2, 3.0), (7, 1.0), (19, 10.0)])
def test_posterior_kl_is_the_dense_one(classes, scale):
    arguments = problem(classes, scale=scale)
    value, gradient = value_and_gradient(posterior_kl, *arguments)
    pixels = list(zip(*arguments, strict=True))
    np.testing.assert_allclose(value, [dense_kl(*pixel) for pixel in pixels], rtol=2e-5, atol=1e-6)
    for i in range(0, len(pixels), 3):
        logits, *rest = pixels[i]
        steps = 1e-5 * np.eye(classes)
        slopes = [(dense_kl(logits + d, *rest) - dense_kl(logits - d, *rest)) / 2e-5 for d in steps]
        np.testing.assert_allclose(gradient[i], slopes, rtol=1e-4, atol=2e-6, err_msg=str(rest))


def test_posterior_kl_of_small_steps():
    """A thousand steps: each divergence is right to a part in a thousand although all are tiny."""
    keep = np.asarray(Schedule("cosine").keep(np.linspace(0, 1, 1001)[1::37]))
    keep_s, keep_t = keep[:-1], np.asarray(Schedule("cosine").keep(np.linspace(0, 1, 1001)[2::37]))[: len(keep) - 1]
    for y_t in (0, 1):
        logits = np.tile(np.float32([2.0, 0.5, -1.0, 0.0, -3.0]), (len(keep_s), 1))
        y0, y_t = np.zeros(len(keep_s), np.int32), np.full(len(keep_s), y_t, np.int32)
        want = np.array([dense_kl(*pixel) for pixel in zip(logits, y0, y_t, keep_s, keep_t, strict=True)])
        value, _ = value_and_gradient(posterior_kl, logits, y0, y_t, keep_s, keep_t)
        assert (value > 0).all()
        np.testing.assert_allclose(value, want, rtol=1e-3)


def test_cross_entropy_is_the_posterior_and_the_kl_at_s_0():
    logits, y0, y_t, _, keep_t = problem(7)
    value, gradient = value_and_gradient(cross_entropy, logits, y0, y_t, keep_t, np.float32(1.0))
    kl, kl_gradient = value_and_gradient(posterior_kl, logits, y0, y_t, np.ones_like(keep_t), keep_t)
    np.testing.assert_allclose(value, kl, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradient, kl_gradient, rtol=1e-5, atol=1e-6)
    known = keep_t == 1
    own = -np.take_along_axis(np.asarray(LOO_TO_POSTERIOR(logits, y_t, keep_t)), y0[:, None], -1)[:, 0]
    np.testing.assert_allclose(value[~known], own[~known], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(value[known], 0)


def test_cross_entropy_at_any_kappa():
    logits, label, y_t, kappa, keep_t = problem(5, seed=3)

    def direct(logits):
        log_q = posterior(logits, y_t, kappa, keep_t)
        own = -jnp.take_along_axis(log_q, label[:, None], -1)[:, 0]
        return jnp.where(kappa > keep_t, own, 0.0).sum()

    value, gradient = value_and_gradient(cross_entropy, logits, label, y_t, keep_t, kappa)
    total, slope = jax.jit(jax.value_and_grad(direct))(logits)
    np.testing.assert_allclose(value.sum(), total, rtol=1e-5)
    np.testing.assert_allclose(gradient, slope, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("kappa", [1.0, 0.7, 0.3, 0.0])
def test_the_optimum_is_the_clean_law_for_every_precision(kappa):
    """Labels right with probability kappa, noised on: the expected gradient is 0 at the clean leave-one-out law."""
    classes, clean = 4, np.array([0.5, 0.3, 0.15, 0.05])
    keep_t = 0.6 * kappa
    label, y_t = (v.ravel().astype(np.int32) for v in np.indices((classes, classes)))
    weight = (clean @ transition(kappa, classes))[label] * transition(0.6 * (kappa > 0), classes)[label, y_t]
    maps = (label, y_t, np.full(16, keep_t, np.float32), np.full(16, kappa, np.float32))
    at_clean, elsewhere = (
        weight @ value_and_gradient(cross_entropy, np.tile(np.float32(logits), (16, 1)), *maps)[1]
        for logits in (np.log(clean), np.zeros(classes))
    )
    np.testing.assert_allclose(at_clean, 0, atol=2e-7)
    assert (np.abs(elsewhere).max() > 0.01) == (kappa > 0)


def test_cross_entropy_on_the_raw_logits_is_wrong():
    """Its optimum is the posterior, not the leave-one-out law; plugged in, that counts the pixel's own label twice."""
    clean, keep_t, classes = np.array([0.6, 0.3, 0.1]), 0.8, 3
    for y_t in range(classes):
        given = bayes(clean, y_t, 1.0, keep_t)  # p(y_0 | y_t)
        loo, raw = (np.tile(np.log(p).astype(np.float32), (classes, 1)) for p in (clean, given))
        maps = (
            np.arange(classes, dtype=np.int32),
            np.full(classes, y_t, np.int32),
            np.full(classes, np.float32(keep_t)),
        )
        right, wrong = (
            given @ value_and_gradient(cross_entropy, logits, *maps, np.float32(1.0))[1] for logits in (loo, raw)
        )
        np.testing.assert_allclose(right, 0, atol=1e-6)
        assert np.abs(wrong).max() > 0.02
        np.testing.assert_allclose(given @ (softmax(raw) - np.eye(classes)), 0, atol=1e-6)  # what raw training seeks
    sampled = np.exp(POSTERIOR(raw, maps[1], 1.0, keep_t))[0]
    assert 0.5 * np.abs(sampled - given).sum() > 0.1


@pytest.mark.parametrize("classes", [2, 19])
def test_table_of_ends(classes):
    """Every pair of levels x labels (equal, other, void) x logits up to +-110 or one-hot, mixed in one batch."""
    rng = np.random.default_rng(0)
    extreme = np.full(classes, -110.0)
    extreme[0] = 110.0
    rows = np.stack([rng.normal(size=classes), extreme, -extreme, np.zeros(classes), np.roll(extreme, 1)])
    pair, label, row = (v.ravel() for v in np.indices((len(END_PAIRS), 4, len(rows))))
    logits, (keep_s, keep_t) = rows[row].astype(np.float32), END_PAIRS[pair].T
    y_t = np.array([0, 0, 1, 1], np.int32)[label]
    y0 = np.array([0, 1, 0, VOID], np.int32)[label]
    silent = (keep_s == keep_t) | (y0 == VOID)
    one_hot = np.where(logits == logits.max(-1, keepdims=True), 0, -np.inf).astype(np.float32)

    for log_p0, loss in ((v, loss) for v in (logits, one_hot) for loss in (posterior_kl, cross_entropy)):
        levels = (keep_s, keep_t) if loss is posterior_kl else (keep_t, keep_s)
        value, gradient = value_and_gradient(loss, log_p0, y0, y_t, *levels)
        assert np.isfinite(value).all() and np.isfinite(gradient).all()
        assert (value >= -1e-6).all() and np.abs(gradient).max() <= 1.0 + 1e-5
        assert not value[silent].any() and not gradient[silent].any()

    for law in (posterior, lambda p, y, s, t: loo_to_posterior(p, y, t)):

        def total(log_p0, law=law):
            log_q = law(log_p0, y_t, keep_s, keep_t)
            return jnp.exp(log_q).sum(), log_q

        total_and_gradient = jax.jit(jax.value_and_grad(total, has_aux=True))
        for log_p0 in (logits, one_hot):
            (value, log_q), gradient = total_and_gradient(log_p0)
            assert np.isfinite(gradient).all()
            np.testing.assert_allclose(value, len(pair), rtol=1e-5)
            assert np.isfinite(log_q).all() and (log_q >= LOG_ZERO).all()

    for log_p0 in (logits, one_hot):
        y_s = REVERSE(KEY, log_p0, y_t, keep_s, keep_t)
        assert ((y_s >= 0) & (y_s < classes)).all()
        np.testing.assert_array_equal(y_s[keep_s == keep_t], y_t[keep_s == keep_t])

    given, unknown = keep_s == 1, (keep_t == 0) & (keep_s > 0)
    np.testing.assert_array_equal(
        POSTERIOR(logits, y_t, keep_s, keep_t)[given], LOO_TO_POSTERIOR(logits, y_t, keep_t)[given]
    )
    mixed = keep_s[:, None] * softmax(logits) + (1 - keep_s[:, None]) / classes
    np.testing.assert_allclose(np.exp(POSTERIOR(logits, y_t, keep_s, keep_t))[unknown], mixed[unknown], atol=1e-6)


def test_losses_of_a_certain_prediction():
    """One-hot logits at s = 0: 0 nats where right; where wrong a number that is finite, and its full slope."""
    for wrong, y_t, keep_t in ((w, y, k) for w in (0, 1) for y in (0, 1) for k in (0.0, 0.5, 1 - 1e-6)):
        logits = np.where(np.arange(2) == 1 - wrong, 0, -np.inf).astype(np.float32)[None]
        y0, y_t = np.ones(1, np.int32), np.full(1, y_t, np.int32)
        for loss, levels in ((posterior_kl, (1.0, keep_t)), (cross_entropy, (keep_t, 1.0))):
            value, gradient = value_and_gradient(loss, logits, y0, y_t, *(np.full(1, k, np.float32) for k in levels))
            np.testing.assert_allclose(value, -wrong * LOG_ZERO, rtol=1e-5)
            np.testing.assert_allclose(gradient, [[wrong, -wrong]], atol=1e-6)


def test_void_pixels_are_never_read():
    logits, y0, y_t, keep_s, keep_t = problem(5)
    y0 = np.where(np.arange(len(y0)) % 2, y0, VOID)
    poisoned = logits + 100 * (np.arange(5) == 4) * (y0 == VOID)[:, None]
    for loss, levels in ((posterior_kl, (keep_s, keep_t)), (cross_entropy, (keep_t, keep_s))):
        clean, dirty = (value_and_gradient(loss, v.astype(np.float32), y0, y_t, *levels) for v in (logits, poisoned))
        for a, b in zip(clean, dirty, strict=True):
            np.testing.assert_array_equal(a, b)
            assert not a[y0 == VOID].any()


def test_prior_kl():
    keep = np.array([0.0, 1e-6, 0.1, 0.5, 1 - 1e-6, 1.0], np.float32)
    for classes in (2, 19):
        laws = np.array([transition(float(k), classes)[0] for k in keep])
        with np.errstate(divide="ignore", invalid="ignore"):
            want = np.nansum(laws * np.log(laws * classes), axis=1)
        value, slope = jax.jit(jax.vmap(jax.value_and_grad(lambda k, c=classes: prior_kl(k, c))))(keep)
        np.testing.assert_allclose(value, want, rtol=1e-5, atol=1e-7)
        assert np.isfinite(slope).all()
    assert prior_kl(0.0, 7) == 0


# ---- shapes, blocks, and the process -------------------------------------------------------------


def layouts(classes=4, shape=(2, 5, 7)):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(*shape, classes)).astype(np.float32)
    y0, y_t = rng.integers(classes, size=(2, *shape)).astype(np.int32)
    return logits, y0, y_t, *np.float32([[0.9, 0.6], [0.5, 0.6]]).reshape(2, 2, 1, 1)


def everything(logits, y0, y_t, keep_s, keep_t):
    """Both losses, the gradient of a mixture of them, and a draw."""

    def losses(logits):
        kl = posterior_kl(logits, y0, y_t, keep_s, keep_t)
        ce = cross_entropy(logits, y0, y_t, keep_t, keep_s)
        return (kl - 3.0 * ce).sum(), (kl, ce)

    (_, values), gradient = jax.value_and_grad(losses, has_aux=True)(logits)
    return *values, gradient, reverse(KEY, logits, y_t, keep_s, keep_t)


def test_blocks_change_nothing_and_vmap_works(monkeypatch):
    """35 pixels per example: whole, in blocks of 9 with a rest, and each example by itself."""
    arguments = layouts()
    whole = jax.jit(everything)(*arguments)
    for size, split in ((72, lambda f: f), (36, jax.vmap)):
        monkeypatch.setattr(blocks, "BLOCK_ELEMENTS", size)
        cut = jax.jit(split(lambda *a: everything(*a)))(*arguments)
        for name, a, b in zip(("kl", "ce", "gradient", "draws"), whole, cut, strict=True):
            if name != "draws" or split is not jax.vmap:  # one key for all is another draw than a key for each
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6, err_msg=name)


def test_a_draw_is_a_function_of_its_examples_key(monkeypatch):
    """With a key per example: the draw of that example alone, whatever stands beside it and however blocks are cut."""
    logits, _, y_t, keep_s, keep_t = layouts(classes=19, shape=(4, 5, 7))
    keep_s, keep_t = (np.concatenate([k, k]) for k in (keep_s, keep_t))
    keys = jax.random.split(KEY, 4)
    draw = jax.jit(reverse)
    together = draw(keys, logits, y_t, keep_s, keep_t)
    assert (together != y_t).any()
    for i in range(4):
        for one in (i, slice(i, i + 1)):
            alone = draw(keys[one], logits[one], y_t[one], keep_s[one], keep_t[one])
            np.testing.assert_array_equal(alone.reshape(5, 7), together[i])
    monkeypatch.setattr(blocks, "BLOCK_ELEMENTS", 19 * 4 * 9)  # 9 pixels of each of the 4 examples
    np.testing.assert_array_equal(jax.jit(lambda *a: reverse(*a))(keys, logits, y_t, keep_s, keep_t), together)


@pytest.mark.usefixtures("strict")
def test_scalar_levels_are_constant_maps_and_bfloat16_is_welcome():
    logits, y0, y_t, *_ = layouts()
    of, maps = jax.jit(everything), (np.full(y0.shape, np.float32(k)) for k in (0.9, 0.3))
    for a, b in zip(of(logits, y0, y_t, 0.9, 0.3), of(logits, y0, y_t, *maps), strict=True):
        np.testing.assert_array_equal(a, b)
    half = logits.astype(jnp.bfloat16)
    value, gradient = jax.eval_shape(jax.value_and_grad(lambda v: posterior_kl(v, y0, y_t, 0.9, 0.3).sum()), half)
    assert (value.dtype, gradient.dtype) == (jnp.float32, jnp.bfloat16)


def test_the_weight_of_the_bound_vanishes_as_the_bound_does():
    """Per unit of the log-SNR the divergence is the rate per keep times keep (1 - keep): of keep^2 at keep near 0."""
    process, keep = UniformProcess(3, Schedule("linear")), np.array([1e-2, 1e-3], np.float32)
    levels = np.asarray(process.schedule.level(keep))
    logits, y0, y_t = jnp.array([[2.0, 0.0, -1.0]] * 2), jnp.array([1, 1]), jnp.array([0, 0])
    rate = np.asarray(process.kl_rate(logits, y0, y_t, levels)) * keep * (1 - keep)
    ratio = rate / np.asarray(process.bound_weight(levels))
    np.testing.assert_allclose(ratio[0], ratio[1], rtol=0.05)
    np.testing.assert_allclose(process.bound_weight(np.array([0.0, 1.0])), [1.0, 0.0])


def test_process_is_the_functions_on_a_schedule():
    process = UniformProcess(4, Schedule("cosine_p"))
    assert hash(process) == hash(UniformProcess(4, Schedule("cosine_p")))
    assert (process.state_size, process.embedding_size, process.head_size) == (4, 4, 4)
    logits, y0, y_t, *_ = layouts()
    s, t = np.float32([[0.2, 0.7], [0.6, 0.7]]).reshape(2, 2, 1, 1)

    @jax.jit
    def both_ways(logits, y0, y_t, s, t):
        keep_s, keep_t = process.keep(s), process.keep(t)
        return (
            (jax.nn.sigmoid(process.log_snr(t)), keep_t),
            (process.corrupt(KEY, y0, t), corrupt(KEY, y0, keep_t, 4)),
            (process.renoise(KEY, y_t, s, t), renoise(KEY, y_t, keep_s, keep_t, 4)),
            (process.posterior(logits, y_t, s, t), posterior(logits, y_t, keep_s, keep_t)),
            (process.reverse(KEY, logits, y_t, s, t), reverse(KEY, logits, y_t, keep_s, keep_t)),
            (process.loo_to_posterior(logits, y_t, t), loo_to_posterior(logits, y_t, keep_t)),
        )

    levels, *others = both_ways(logits, y0, y_t, s, t)
    np.testing.assert_allclose(*levels, rtol=1e-6)
    for got, want in others:
        np.testing.assert_array_equal(got, want)
    assert_follows(process.prior(KEY, (1, 4000)), np.full((1, 4), 0.25))
    noise = jax.jit(process.corrupt)
    for level in (0.0, 0.5, 1.0):
        assert_follows(noise(KEY, np.full((1, 4000), VOID, np.int32), level), np.full((1, 4), 0.25))
    with pytest.raises(ValueError, match="^num_classes is 1, expected at least 2$"):
        UniformProcess(1, Schedule("cosine"))
