import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gcdiff.processes import gaussian
from gcdiff.processes.gaussian import KINDS, GaussianProcess
from gcdiff.schedules import Schedule

LEVELS = np.array([0.0, 1e-6, 0.5, 1 - 1e-6, 1.0], np.float32)
PAIRS = np.array([(s, t) for s in LEVELS for t in LEVELS if s <= t])
KEY = jax.random.key(0)


def pair_levels(name="cosine"):
    """Log-SNRs (pairs, 1) of every s <= t among the levels, in one batch."""
    return (Schedule(name).log_snr(PAIRS[:, i : i + 1]) for i in (0, 1))


def images(seed, n=15, pixels=6):
    return jax.random.normal(jax.random.key(seed), (n, pixels))


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_published_step(name):
    """The coefficients of the step .5 -> .49 of the published schedules."""
    coefficients = {"cosine": (0.95427768, 0.04313017, 0.029651424), "linear": (0.94284938, 0.03091124, 0.093380212)}
    l_s, l_t = Schedule(name).log_snr(0.49), Schedule(name).log_snr(0.5)
    of_xt, variance = gaussian.posterior(jnp.zeros(1), jnp.ones(1), l_s, l_t)
    of_x0, _ = gaussian.posterior(jnp.ones(1), jnp.zeros(1), l_s, l_t)
    np.testing.assert_allclose([of_xt[0], of_x0[0], variance], coefficients[name], rtol=2e-5)


def test_posterior_is_bayes_rule():
    """p(x_s | x_t, x_0) from the joint Gaussian of x_s and x_t given x_0, in float64."""
    rng = np.random.default_rng(0)
    l_s, l_t = np.sort(rng.uniform(-8, 8, (2, 40)), axis=0)[::-1]
    x0, x_t = rng.normal(size=(2, 40))
    var_s, var_t = 1 / (1 + np.exp(l_s)), 1 / (1 + np.exp(l_t))
    a_s, a_t = np.sqrt(1 - var_s), np.sqrt(1 - var_t)
    covariance = a_t / a_s * var_s
    mean, variance = gaussian.posterior(*(jnp.asarray(v, jnp.float32) for v in (x0, x_t, l_s, l_t)))
    np.testing.assert_allclose(mean, a_s * x0 + covariance / var_t * (x_t - a_t * x0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(variance, var_s - covariance**2 / var_t, rtol=1e-4, atol=1e-7)


def test_table_of_ends():
    """Every s <= t among the levels, both ends included, mixed in one batch."""
    l_s, l_t = pair_levels()
    x0, x_t = images(1), images(2)
    mean, variance = gaussian.posterior(x0, x_t, l_s, l_t)
    same, given, unknown = (PAIRS[:, 0] == PAIRS[:, 1]), (PAIRS[:, 0] == 0), (PAIRS[:, 1] == 1)
    np.testing.assert_array_equal(mean[same], x_t[same])
    np.testing.assert_array_equal(variance[same], 0)
    np.testing.assert_array_equal(gaussian.ddim(x0, x_t, l_s, l_t)[same], x_t[same])
    np.testing.assert_array_equal(gaussian.renoise(KEY, x_t, l_s, l_t)[same], x_t[same])
    np.testing.assert_array_equal(mean[given & ~same], x0[given & ~same])
    np.testing.assert_array_equal(gaussian.ddim(x0, x_t, l_s, l_t)[given & ~same], x0[given & ~same])
    np.testing.assert_array_equal(variance[given], 0)
    rows = unknown & ~same
    schedule = Schedule("cosine")
    np.testing.assert_allclose(mean[rows], schedule.alpha(PAIRS[rows, :1]) * x0[rows], rtol=1e-6)
    np.testing.assert_allclose(variance[rows], schedule.sigma(PAIRS[rows, :1]) ** 2, rtol=1e-6)
    np.testing.assert_array_equal(gaussian.corrupt(KEY, x0, jnp.inf), x0)
    noise = gaussian.corrupt(KEY, x0, -jnp.inf)
    np.testing.assert_array_equal(noise, gaussian.corrupt(KEY, 0 * x0, -jnp.inf))


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_every_value_and_gradient_is_finite(name):
    process = GaussianProcess(Schedule(name))

    def outputs(x0, x_t, s, t):
        l_s, l_t = process.log_snr(s), process.log_snr(t)
        yield from gaussian.posterior(x0, x_t, l_s, l_t)
        yield gaussian.ddim(x0, x_t, l_s, l_t)
        yield gaussian.renoise(KEY, x_t, l_s, l_t)
        yield gaussian.corrupt(KEY, x0, l_t)
        yield process.reverse(KEY, x0[:, None, None], x_t[:, None, None], s[:, None], t[:, None])
        for kind in KINDS:
            yield gaussian.to_clean(kind, x0, x_t, l_t)
            yield gaussian.from_clean(kind, x0, x_t, l_t)

    arguments = (images(1), images(2), *(jnp.asarray(PAIRS[:, i : i + 1]) for i in (0, 1)))
    for values in jax.tree.leaves(list(outputs(*arguments))):
        assert jnp.isfinite(values).all()
    total = jax.jit(jax.grad(lambda *a: sum(jnp.sum(v) for v in outputs(*a)), (0, 1, 2, 3)))
    for gradient in total(*arguments):
        assert jnp.isfinite(gradient).all()


def test_renoise_keeps_the_marginal():
    """Variances add up exactly, and the draws have them."""
    t = np.array([[0.2, 0.5], [0.0, 0.3], [0.6, 1.0], [0.5, 0.5]], np.float32)
    l_s, l_t = (Schedule("cosine").log_snr(t[:, i : i + 1]) for i in (0, 1))
    x0 = jnp.full((4, 40000), 0.7)
    x_t = gaussian.renoise(jax.random.key(1), gaussian.corrupt(KEY, x0, l_s), l_s, l_t)
    schedule = Schedule("cosine")
    np.testing.assert_allclose(x_t.mean(1), 0.7 * schedule.alpha(t[:, 1]), atol=0.025)
    np.testing.assert_allclose(x_t.std(1), schedule.sigma(t[:, 1]), rtol=0.02)


def test_exact_clean_image_gives_exact_steps():
    """With the true x_0, DDIM keeps the noise that x_t was made with, and the ancestral step its law."""
    process = GaussianProcess(Schedule("linear"))
    s, t = (jnp.asarray(PAIRS[:, i]).reshape(-1, 1, 1) for i in (0, 1))
    x0 = jax.random.normal(KEY, (len(PAIRS), 2, 2, 3))
    at_s, at_t = (process.corrupt(jax.random.key(1), x0, level) for level in (s, t))
    starts = PAIRS[:, 1] > 0  # at level 0 nothing is known of the noise
    np.testing.assert_allclose(process.ddim(x0, at_t, s, t)[starts], at_s[starts], atol=2e-6)
    drawn = process.reverse(jax.random.key(2), x0, at_t, s, t)
    np.testing.assert_array_equal(drawn[PAIRS[:, 0] == 0], x0[PAIRS[:, 0] == 0])
    np.testing.assert_array_equal(drawn[PAIRS[:, 0] == PAIRS[:, 1]], at_t[PAIRS[:, 0] == PAIRS[:, 1]])


@pytest.mark.parametrize("kind", KINDS)
def test_to_clean_and_from_clean_are_inverse(kind):
    l_t = jnp.linspace(-6, 6, 13)[:, None]
    x0, x_t = images(1, 13), images(2, 13)
    output = gaussian.from_clean(kind, x0, x_t, l_t)
    np.testing.assert_allclose(gaussian.to_clean(kind, output, x_t, l_t), x0, atol=2e-4)
    if kind != "eps":  # which means nothing at alpha = 0
        output = gaussian.from_clean(kind, x0, x_t, -jnp.inf)
        np.testing.assert_allclose(gaussian.to_clean(kind, output, x_t, -jnp.inf), x0, atol=1e-6)


def test_what_the_kinds_mean():
    eps, x0 = images(1, 13), images(2, 13)
    l_t = jnp.linspace(-6, 6, 13)[:, None]
    alpha, sigma = jnp.sqrt(jax.nn.sigmoid(l_t)), jnp.sqrt(jax.nn.sigmoid(-l_t))
    x_t = alpha * x0 + sigma * eps
    np.testing.assert_allclose(gaussian.from_clean("eps", x0, x_t, l_t), eps, atol=1e-4)
    np.testing.assert_allclose(gaussian.from_clean("v", x0, x_t, l_t), alpha * eps - sigma * x0, atol=1e-4)
    np.testing.assert_array_equal(gaussian.to_clean("preconditioned", eps, x0, jnp.inf), x0)
    np.testing.assert_array_equal(gaussian.to_clean("preconditioned", eps, x0, -jnp.inf), 0.5 * eps)


@pytest.mark.parametrize("std", [0.5, 1.5])
def test_preconditioned_target_has_unit_variance(std):
    """c_skip and c_out are the best linear guess and the size of its error, for data of this standard deviation."""
    process = GaussianProcess(Schedule("linear"), "preconditioned", std)
    t = jnp.linspace(0.05, 0.95, 9)[:, None, None]
    x0 = std * images(1, 9, 20000).reshape(9, 50, 100, 4)
    x_t = process.corrupt(KEY, x0, t)
    target = process.from_clean(x0, x_t, t)
    np.testing.assert_allclose(target.std((1, 2, 3)), 1, rtol=0.03)
    np.testing.assert_allclose(process.to_clean(target, x_t, t), x0, atol=1e-5)


def test_skip_is_x0_where_noise_is_large_and_keeps_the_noisy_image_where_it_is_small():
    """Its error is never larger than that of x0 alone or of the noisy image alone, of the same output."""
    x0, output = images(2, 13), images(2, 13) + gaussian.DETAIL * gaussian.DATA_STD * images(5, 13)
    for l_t, like in ((-6.0, output), (16.0, x0)):
        x_t = gaussian.corrupt(KEY, x0, l_t)
        np.testing.assert_allclose(gaussian.to_clean("skip", output, x_t, l_t), like, atol=0.02)


@pytest.mark.usefixtures("strict")
def test_levels_gain_a_channel_axis():
    process = GaussianProcess(Schedule("cosine"), "x0")
    x0 = process.prior(KEY, (2, 3, 4, 3))
    per_pixel = jnp.broadcast_to(jnp.array([0.2, 0.9]).reshape(2, 1, 1), (2, 3, 4))
    constant = process.corrupt(KEY, x0, per_pixel[:, :1, :1])
    np.testing.assert_array_equal(process.corrupt(KEY, x0, per_pixel), constant)
    np.testing.assert_array_equal(process.corrupt(KEY, x0, 0.2)[0], constant[0])
    assert hash(process) == hash(GaussianProcess(Schedule("cosine"), "x0"))


@pytest.mark.parametrize("schedule", [Schedule("linear"), Schedule("cosine"), Schedule("cosine", -4.0)])
def test_an_eps_network_is_never_asked_at_level_one(schedule):
    highest = GaussianProcess(schedule, "eps").highest_level
    assert -10 <= schedule.log_snr(highest) < -9.8 and highest < 1
    assert jax.jit(lambda t: jnp.minimum(t, GaussianProcess(schedule, "eps").highest_level))(1.0) == np.float32(highest)
    assert GaussianProcess(schedule, "v").highest_level == 1


def test_bad_kind():
    for make in (lambda: GaussianProcess(Schedule("cosine"), "noise"), lambda: gaussian.to_clean("noise", 0, 0, 0.0)):
        with pytest.raises(ValueError, match="^image output kind is 'noise', expected one of eps, x0, v, precond"):
            make()


def test_bad_std():
    with pytest.raises(ValueError, match="^the standard deviation of clean images is 0, expected more than 0$"):
        GaussianProcess(Schedule("cosine"), std=0)
