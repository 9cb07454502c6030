"""The learned log-variance: where it is least, what it is at first, and which pixels it hears of."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gcdiff.training import balance
from gcdiff.training.optim import Optim, transformation
from gcdiff.training.state import create_state, train_step

GRID = (3, 4)


def expected(level):
    """A loss that falls to a hundredth where there is little noise, with a question of its own at level 1."""
    return jnp.where(level >= 1, 0.05, jnp.exp(-4.5 * (1 - level) ** 2 + jnp.sin(3 * level)))


class Synthetic:
    """Losses with `expected` as their mean, in examples of which only some pixels are counted."""

    def init(self, key):
        return balance.init()

    def draw(self, batch, key):
        return key

    def loss_of(self, params, key):
        k_level, k_one, k_counted, k_loss = jax.random.split(key, 4)
        level = jax.random.uniform(k_level, (32,))
        level = jnp.where(jax.random.bernoulli(k_one, 0.1, (32,)), 1.0, level)[:, None, None]
        counted = jax.random.bernoulli(k_counted, 0.6, (32, *GRID)).at[0].set(False)
        loss = expected(level) * jax.random.exponential(k_loss, counted.shape)
        loss = jnp.where(counted, loss, 0.0).mean(axis=(1, 2))
        levels = jnp.where(counted, level, 0.3)  # the level of other pixels is of no account
        return balance.balanced(loss, params["layout"], levels, counted).mean(), {}


def test_at_the_optimum_it_is_the_log_of_the_expected_loss():
    """With the optimiser of training and its default learning rate."""
    task, optim = Synthetic(), Optim(warmup=0)

    @jax.jit
    def fit(state):
        def body(i, s):
            return train_step(task, optim, 0, s, None, i / 1000.0)[0]

        return jax.lax.fori_loop(0, 1000, body, state)

    weights = fit(create_state(task, optim, 0)).params
    level = jnp.append(jnp.linspace(0.02, 0.98, 25), 1.0)
    np.testing.assert_allclose(jnp.exp(balance.log_variance(weights["layout"], level)) / expected(level), 1.0, atol=0.2)
    assert not np.any(weights["image"])


def test_at_zero_the_loss_is_the_unbalanced_one():
    loss, counted = jnp.array([0.5, 2.0]), jnp.ones((2, *GRID), bool)
    for level in (0.0, 0.4, 1.0):
        out = balance.balanced(loss, balance.init()["image"], jnp.full((2, *GRID), level), counted)
        np.testing.assert_array_equal(out, loss)


def test_examples_without_a_counted_pixel_ask_nothing():
    weights = jnp.full((balance.COSINES + 1,), 0.1)

    def value(weights, counted):
        return balance.balanced(jnp.zeros(2), weights, jnp.full((2, *GRID), 0.3), counted).sum()

    nothing = jnp.zeros((2, *GRID), bool)
    assert value(weights, nothing) == 0 and value(weights, ~nothing) != 0
    assert not np.any(jax.grad(value)(weights, nothing))
    assert np.isfinite(jax.grad(value)(weights, ~nothing)).all()


@pytest.mark.parametrize("loss", [1e-3, 1e3])
def test_clipping_does_not_see_it(loss):
    counted, level = jnp.ones((1, *GRID), bool), jnp.zeros((1, *GRID))
    slope = jax.grad(lambda w: balance.balanced(jnp.array([loss]), w, level, counted).sum())(balance.init()["image"])
    assert 0 < optax.tree.norm(slope) < 0.03 * max(1.0, loss)
    adam = transformation(Optim())
    with jax.numpy_dtype_promotion("standard"):
        step = adam.update(slope, adam.init(slope), jnp.zeros_like(slope))[0]
    np.testing.assert_allclose(jnp.abs(step[:-1]), 1.0, rtol=0.1)  # Adam's own step, however small the slope
