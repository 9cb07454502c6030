import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gcdiff.schedules import Schedule, cosine, linear, resolution_shift

LEVELS = jnp.array([0.0, 1e-6, 0.5, 1 - 1e-6, 1.0])
SCHEDULES = (Schedule("linear"), Schedule("cosine"), Schedule("cosine_p", 1.5, 0.5), Schedule("cosine_p", power=4.0))

# t, then log-SNR and alpha^2 of the published linear and cosine curves (computed in float64).
PUBLISHED = np.array(
    [
        (0.01, 6.812, 0.998901, 7.147, 0.999213),
        (0.1, 2.251, 0.904747, 3.545, 0.971942),
        (0.25, 0.141, 0.535208, 1.710, 0.846881),
        (0.5, -2.414, 0.0820768, -0.025, 0.493767),
        (0.75, -5.621, 0.0036062, -1.780, 0.144250),
        (0.9, -8.100, 0.00030351, -3.702, 0.024088),
        (0.999, -9.980, 4.6312e-5, -12.928, 2.428e-6),
    ]
)


@pytest.mark.parametrize(("name", "column"), [("linear", 1), ("cosine", 3), ("cosine_p", 3)])
def test_published_table(name, column):
    schedule = Schedule(name)
    t = PUBLISHED[:, 0]
    np.testing.assert_allclose(schedule.log_snr(t), PUBLISHED[:, column], atol=6e-4)
    np.testing.assert_allclose(schedule.keep(t), PUBLISHED[:, column + 1], rtol=2e-4, atol=6e-7)
    np.testing.assert_allclose(schedule.alpha(t) ** 2, schedule.keep(t), rtol=1e-5)


@pytest.mark.parametrize("name", ["linear", "cosine", "cosine_p"])
def test_float32_agrees_with_float64(name):
    t = np.concatenate([np.linspace(0.001, 0.999, 333), [1e-6, 1 - 1e-6]]).astype(np.float32).astype(np.float64)
    if name == "linear":
        want = -np.log(np.expm1(1e-4 + 10 * t**2))
    else:
        want = -np.log(np.maximum(np.cos((t + 0.008) / 1.008 * np.pi / 2) ** -2 - 1, 1e-5))
    schedule = Schedule(name)
    np.testing.assert_allclose(schedule.log_snr(t), want, rtol=3e-6, atol=3e-6)
    np.testing.assert_allclose(schedule.keep(t), 1 / (1 + np.exp(-want)), rtol=1e-5)
    np.testing.assert_allclose(schedule.sigma(t), np.sqrt(1 / (1 + np.exp(want))), rtol=1e-5)


def test_published_curves_stop_short_of_the_ends():
    np.testing.assert_allclose([linear(jnp.float32(0)), cosine(jnp.float32(0))], [9.210, 8.769], atol=6e-4)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ends_are_exact_and_everything_is_finite_between(schedule):
    assert list(schedule.log_snr(jnp.array([0.0, 1.0]))) == [jnp.inf, -jnp.inf]
    for quantity, ends in ((schedule.alpha, (1, 0)), (schedule.sigma, (0, 1)), (schedule.keep, (1, 0))):
        value, slope = jax.vmap(jax.value_and_grad(quantity))(LEVELS)
        assert (value[0], value[-1]) == ends
        assert jnp.isfinite(value).all() and jnp.isfinite(slope).all()
    assert jnp.isfinite(jax.vmap(jax.grad(schedule.log_snr))(LEVELS)).all()
    assert jnp.isfinite(schedule.log_snr(LEVELS[1:-1])).all()


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_monotone(schedule):
    t = jnp.linspace(0, 1, 2001)
    assert (jnp.diff(schedule.log_snr(t)) < 0).all()
    assert (jnp.diff(schedule.keep(t)) <= 0).all()
    assert (jnp.diff(schedule.sigma(t)) >= 0).all()


def test_power_and_shift():
    t = np.linspace(0.01, 0.99, 9)
    np.testing.assert_allclose(
        Schedule("cosine_p", power=0.5).keep(t), np.cos((t + 0.008) / 1.008 * np.pi / 2), rtol=1e-4
    )
    shift = resolution_shift(128, 64)
    np.testing.assert_allclose(shift, -2 * np.log(2))
    np.testing.assert_allclose(Schedule("cosine", shift).log_snr(t), Schedule("cosine").log_snr(t) + shift, rtol=1e-6)
    snr = Schedule("cosine", resolution_shift(32, 64)).log_snr(0.5) - Schedule("cosine").log_snr(0.5)
    np.testing.assert_allclose(jnp.exp(snr), 4.0, rtol=1e-5)  # half the side: four times the signal per pixel


def test_a_schedule_is_a_value():
    assert hash(Schedule("cosine")) == hash(Schedule("cosine")) and Schedule("cosine") != Schedule("linear")
    assert Schedule("cosine").log_snr(jnp.zeros((2, 1, 1))).shape == (2, 1, 1)


@pytest.mark.parametrize("fields", [("sine",), ("cosine", 0.0, 0.5), ("cosine_p", 0.0, 0.0), ("linear", float("nan"))])
def test_bad_fields(fields):
    with pytest.raises(ValueError, match=r"^schedule [^\n]*expected[^\n]*$"):
        Schedule(*fields)


@pytest.mark.parametrize("name", ["linear", "cosine", "cosine_p"])
def test_the_level_of_a_keep_is_found_again(name):
    schedule = Schedule(name, shift=0.7)
    t = np.linspace(0.01, 0.99, 50, dtype=np.float32)
    np.testing.assert_allclose(schedule.level(np.asarray(schedule.keep(t))), t, atol=1e-4)
    np.testing.assert_array_equal(schedule.level([0.0, 1.0]), [1.0, 0.0])


@pytest.mark.parametrize("schedule", [Schedule("cosine", resolution_shift(512)), Schedule("linear", 6.0)])
def test_a_keep_has_its_level_or_none(schedule):
    """A keep beyond the end of the curve is refused, and never answered with the curve's end."""
    lowest, highest = (float(schedule.keep(t)) for t in (1 - 1e-7, 1e-9))
    asked = np.array([0.0, 1e-6, *np.linspace(lowest + 1e-4, highest, 20), 1.0])
    given = np.asarray(schedule.keep(schedule.level(asked)))
    np.testing.assert_allclose(given, asked, atol=1e-3)
    np.testing.assert_allclose(1 - given, 1 - asked, rtol=0.011, atol=1e-6)
    for keep in (highest + 0.5 * (1 - highest), lowest / 2):
        if 1e-3 < keep < 1 - 1e-5:
            with pytest.raises(ValueError, match=f"keep is {keep:g}, which no level of the schedule"):
                schedule.level(keep)
    with pytest.raises(ValueError, match="keep lies in -0.1 to 1.5, expected 0 to 1"):
        schedule.level([-0.1, 1.5])


def test_a_keep_above_the_curves_end_is_named():
    said = r"keep is 0.999, .* cosine with shift -4.15888 has: expected .* to 0.99\d+, or exactly"
    with pytest.raises(ValueError, match=said):
        Schedule("cosine", resolution_shift(512)).level([0.5, 0.999])
