"""The state of training and the pure step from one state to the next. No key is stored: keys come from the step."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array

from gcdiff import rng
from gcdiff.training.averages import take_in
from gcdiff.training.optim import Optim, average, learning_rate, transformation
from gcdiff.training.task import Task


@struct.dataclass
class TrainState:
    """Everything that training carries: `step` int32 () counts finished updates, in this one place. `profiles` are the
    averages of `optim.ema_profiles`, each a tree like `params`."""

    step: Array
    params: Any
    ema: Any
    opt_state: Any
    profiles: tuple = ()


def create_state(task: Task, optim: Optim, seed: int) -> TrainState:
    """The state at step 0. Call it under jit: there every tree gets buffers of its own, which donation needs."""
    params = task.init(rng.stream(seed, "init"))
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        ema=params,
        opt_state=transformation(optim).init(params),
        profiles=(params,) * len(optim.ema_profiles),
    )


def train_step(
    task: Task, optim: Optim, seed: int, state: TrainState, batch: Any, progress: Array
) -> tuple[TrainState, dict[str, Array]]:
    """One update. Returns the new state and f32 scalars: the task's metrics, loss, grad_norm and learning_rate."""
    key = rng.stream(seed, "train", state.step)
    (loss, metrics), grads = jax.value_and_grad(task.step, has_aux=True)(state.params, batch, key)
    with jax.numpy_dtype_promotion("standard"):  # optax's bias correction raises a float to an int
        updates, opt_state = transformation(optim).update(grads, state.opt_state, state.params)
    rate = learning_rate(optim, state.step, progress)
    params = jax.tree.map(lambda p, u: p - rate.astype(p.dtype) * u, state.params, updates)
    ema = average(optim, state.step, state.ema, params)
    profiles = take_in(optim.ema_profiles, state.step, state.profiles, params)
    metrics = {"loss": loss, **metrics, "grad_norm": optax.tree.norm(grads), "learning_rate": rate}
    return TrainState(state.step + 1, params, ema, opt_state, profiles), metrics
