"""The optimiser and the state: schedules, averaging, what is decayed and clipped, buffers."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gcdiff.training.optim import Optim, average, ema_decay, learning_rate, orthogonal
from gcdiff.training.state import create_state, train_step


class Quadratic:
    """Half the squared distance of every parameter from the batch's value."""

    def init(self, key):
        return {"kernel": jnp.full((2, 2), 3.0), "bias": jnp.full((2,), 3.0)}

    def draw(self, batch, key):
        return batch, key

    def loss_of(self, params, drawn):
        return 0.5 * sum(jnp.sum((leaf - drawn[0]) ** 2) for leaf in jax.tree.leaves(params)), {}


def rate(optim, step, progress):
    return float(learning_rate(optim, jnp.int32(step), jnp.float32(progress)))


def step_once(optim, batch, state=None):
    task = Quadratic()
    state = jax.jit(functools.partial(create_state, task, optim, 0))() if state is None else state
    return state, train_step(task, optim, 0, state, jnp.float32(batch), jnp.float32(0))


@pytest.mark.parametrize(
    "schedule, middle, end",
    [("cosine", 0.55, 0.1), ("linear", 0.55, 0.1), ("constant", 1, 1), ("stable", 0.8875, 0.1)],
)
def test_learning_rate(schedule, middle, end):
    optim = Optim(learning_rate=2e-3, warmup=10, schedule=schedule, final=0.1, decay=4 / 7)
    np.testing.assert_allclose([rate(optim, s, 0) for s in (0, 4, 9, 500)], [2e-4, 1e-3, 2e-3, 2e-3], rtol=1e-6)
    shares = [rate(optim, 500, p) / 2e-3 for p in (0.5, 1, 7)]
    np.testing.assert_allclose(shares, [middle, end, end], rtol=1e-5)
    rates = [rate(optim, 500, p) for p in np.linspace(0, 1, 21)]
    assert all(a >= b for a, b in zip(rates, rates[1:], strict=False))


def test_a_stable_rate_stays_until_it_decays():
    optim = Optim(learning_rate=1.0, warmup=0, schedule="stable", final=0.0, decay=0.25)
    np.testing.assert_allclose([rate(optim, 9, p) for p in (0, 0.75, 0.875, 1)], [1, 1, 0.5, 0], atol=1e-6)


class Product:
    """Half the squared distance of x A B from the batch's values; `head_` and biases are no hidden matrices."""

    def init(self, key):
        a, b = (
            0.3 * jax.random.normal(k, shape)
            for k, shape in zip(jax.random.split(key), ((8, 24), (24, 6)), strict=False)
        )
        return {"network": {"hidden": {"kernel": a, "bias": jnp.zeros(24)}, "head_image": {"kernel": b}}}

    def draw(self, batch, key):
        return batch

    def loss_of(self, params, y):
        net = params["network"]
        h = jnp.eye(8) @ net["hidden"]["kernel"] + net["hidden"]["bias"]
        return 0.5 * jnp.sum((h @ net["head_image"]["kernel"] - y) ** 2), {}


def test_muon_moves_hidden_matrices_alike_in_all_directions_and_the_rest_by_adam():
    y, after = np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32), {}
    for kind in ("adamw", "muon"):
        optim = Optim(kind=kind, learning_rate=0.1, muon_rate=2.0, warmup=0, weight_decay=0.0)
        state = jax.jit(functools.partial(create_state, Product(), optim, 0))()
        step = jax.jit(functools.partial(train_step, Product(), optim, 0))
        new, _ = step(state, y, jnp.float32(0))
        after[kind] = jax.tree.map(lambda a, b: np.asarray(a - b), new.params, state.params)["network"]
        losses = []
        for _ in range(60):
            state, metrics = step(state, y, jnp.float32(0))
            losses.append(float(metrics["loss"]))
        assert losses[-1] < 0.2 * losses[0]
    for part in (("hidden", "bias"), ("head_image", "kernel")):
        adam, muon = (after[kind][part[0]][part[1]] for kind in ("adamw", "muon"))
        np.testing.assert_allclose(adam, muon, rtol=1e-4, atol=1e-7)
    moved = np.linalg.svd(after["muon"]["hidden"]["kernel"])[1]
    # The gradient has rank 6; a step is 0.1 (rate) x 2 (muon_rate) x 0.2 sqrt(24) long in each of those directions.
    assert np.abs(moved[:6] / (0.04 * np.sqrt(24)) - 1).max() < 0.27
    assert moved[6:].max() < 1e-3


@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (6, 6)])
def test_orthogonal_keeps_singular_vectors_and_brings_values_near_1(shape):
    u, _, v = np.linalg.svd(np.random.default_rng(1).normal(size=shape), full_matrices=False)
    values = np.array([1.0, 0.5, 0.2, 0.05, 0.012, 1e-4])  # of a norm of 1.14; the last is below what is promised
    result = np.asarray(orthogonal((3e-4 * (u * values) @ v).astype(np.float32)), np.float64)
    inside = u.T @ result @ v.T
    np.testing.assert_allclose(inside, np.diag(np.diag(inside)), atol=1e-3)
    assert np.abs(np.diag(inside)[:5] - 1).max() < 0.27
    assert 0 < inside[5, 5] < 0.01
    assert not np.asarray(orthogonal(np.zeros(shape, np.float32))).any()


def test_average():
    optim = Optim(ema_decay=0.9)
    np.testing.assert_allclose([ema_decay(optim, jnp.int32(s)) for s in (0, 8, 1000)], [0.1, 0.5, 0.9], rtol=1e-6)
    ema = average(optim, jnp.int32(2), {"w": jnp.array([1.0])}, {"w": jnp.array([3.0])})  # d = 1/4
    np.testing.assert_allclose(ema["w"], 2.5, rtol=1e-6)
    state, (after, _) = step_once(Optim(learning_rate=0.5, warmup=0), 0.0)
    assert np.abs(after.params["kernel"] - state.ema["kernel"]).min() > 0.4
    expected = jax.tree.map(lambda e, p: 0.1 * e + 0.9 * p, state.ema, after.params)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), after.ema, expected)


def test_decay_acts_on_kernels_alone():
    _, (after, metrics) = step_once(Optim(learning_rate=0.1, warmup=0, weight_decay=0.5), 3.0)  # no gradient
    np.testing.assert_allclose(after.params["kernel"], 3.0 - 0.1 * 0.5 * 3.0, rtol=1e-6)
    np.testing.assert_array_equal(after.params["bias"], 3.0)
    assert metrics["grad_norm"] == 0 and int(after.step) == 1


def test_clipping_bounds_what_the_moments_see():
    _, (after, metrics) = step_once(Optim(clip=1.0, b1=0.5), -1e4)
    first_moment = after.opt_state[1].mu
    np.testing.assert_allclose(np.sqrt(sum(np.sum(m**2) for m in jax.tree.leaves(first_moment))), 0.5, rtol=1e-5)
    assert metrics["grad_norm"] > 1e4


def test_every_step_has_its_own_key():
    class Keys(Quadratic):
        def loss_of(self, params, drawn):
            return super().loss_of(params, drawn)[0], {"draw": jax.random.uniform(drawn[1])}

    create = functools.partial(create_state, Keys(), Optim(), 0)
    state, draws = create(), []
    for _ in range(3):
        state, metrics = train_step(Keys(), Optim(), 0, state, jnp.float32(0), jnp.float32(0))
        draws.append(float(metrics["draw"]))
    again = train_step(Keys(), Optim(), 0, create(), jnp.float32(0), jnp.float32(0))[1]["draw"]
    assert len(set(draws)) == 3 and float(again) == draws[0]


def test_no_buffer_is_shared_at_the_start():
    state = jax.jit(functools.partial(create_state, Quadratic(), Optim(), 0))()
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state)]
    assert len(set(pointers)) == len(pointers)


def test_bad_settings_name_the_field():
    with pytest.raises(
        ValueError, match="^optim.schedule is 'cosin', expected one of cosine, linear, constant, stable$"
    ):
        Optim(schedule="cosin")
    with pytest.raises(ValueError, match="^optim.kind is 'sgd', expected one of adamw, muon$"):
        Optim(kind="sgd")
    with pytest.raises(ValueError, match="^optim.decay is 0, expected more than 0"):
        Optim(decay=0)
    with pytest.raises(ValueError, match="^optim.b2 is 1.5"):
        Optim(b2=1.5)


def test_a_step_that_is_not_finite_changes_nothing_but_is_counted():
    state, _ = step_once(Optim(ema_profiles=(0.1,)), 0.0)
    _, (before, _) = step_once(Optim(ema_profiles=(0.1,)), 1.0, state)
    for bad in (np.nan, np.inf):
        _, (after, metrics) = step_once(Optim(ema_profiles=(0.1,)), bad, before)
        jax.tree.map(np.testing.assert_array_equal, after, before.replace(step=before.step + 1))
        assert metrics["skipped"] == 1
    assert step_once(Optim(ema_profiles=(0.1,)), 1.0, before)[1][1]["skipped"] == 0


def test_a_gradient_that_is_not_finite_is_not_taken_though_the_loss_is_finite():
    class Kink(Quadratic):
        def loss_of(self, params, drawn):
            return super().loss_of(params, drawn)[0] + jnp.sqrt(jnp.sum(0.0 * params["bias"])), {}

    state = create_state(Kink(), Optim(), 0)
    after, metrics = train_step(Kink(), Optim(), 0, state, jnp.float32(1.0), jnp.float32(0))
    assert np.isfinite(metrics["loss"]) and not np.isfinite(metrics["grad_norm"]) and metrics["skipped"] == 1
    jax.tree.map(np.testing.assert_array_equal, after, state.replace(step=state.step + 1))
