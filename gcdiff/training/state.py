"""The state of training and the pure step from one state to the next. No key is stored: keys come from the step."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.sharding import Mesh
from jaxtyping import Array

from gcdiff import parallel, rng
from gcdiff.training.averages import take_in
from gcdiff.training.groups import check_groups, frozen_names, join, split
from gcdiff.training.optim import Optim, average, descend, learning_rates, transformation
from gcdiff.training.task import Task


@struct.dataclass
class TrainState:
    """The whole state of training. `step` int32 () counts finished updates, in this one place.

    `profiles` are the averages of `optim.ema_profiles`, each a tree like `params`.

    `params`, its averages and the moments in `opt_state` hold the parameters that are trained, `frozen` those of rate 0
    in `optim.groups` (None where there are none): two parts of one tree (`gcdiff.training.groups`)."""

    step: Array
    params: Any
    ema: Any
    opt_state: Any
    profiles: tuple = ()
    frozen: Any = None

    @property
    def averaged(self) -> Any:
        """The averaged parameters with the frozen ones: a tree as `Task.init` gives it."""
        return join(self.ema, self.frozen)


def gradient(
    task: Task, params: Any, drawn: Any, parts: int, mesh: Mesh | None = None, frozen: Any = None
) -> tuple[tuple[Array, Any], Any]:
    """((loss, metrics), gradient by `params`) of what `Task.draw` returned, as means over its examples.

    To the parameters in `frozen` nothing is propagated back, nor through what depends on them alone.

    On a mesh each device takes its own rows, with parameters that are put together from the parts of all; gradients
    come back cut as the parameters are. Rows go through the network in equal parts, one after the other; a part takes
    every n-th of them. Gradients are exchanged once, whatever the number of parts.
    """
    if mesh is None:
        return _in_parts(task, params, frozen, drawn, parts)
    cuts = jax.tree.map(lambda p: parallel.cut(p.shape, mesh.shape["fsdp"]), (params, frozen))

    def on_one(held: tuple[Any, Any], drawn: Any) -> Any:
        whole, still = jax.tree.map(parallel.put_together, held, cuts)
        value, grads = _in_parts(task, whole, still, drawn, parts)
        grads = jax.tree.map(parallel.mean_of_part, grads, cuts[0])
        return jax.lax.pmean(value, parallel.AXES), grads

    results = (parallel.WHOLE, cuts[0])
    return parallel.on_each(mesh, on_one, (cuts, parallel.BATCH), results)((params, frozen), drawn)


def _in_parts(task: Task, params: Any, frozen: Any, drawn: Any, parts: int) -> tuple[tuple[Array, Any], Any]:
    whole = jax.value_and_grad(lambda params, drawn: task.loss_of(join(params, frozen), drawn), has_aux=True)
    if parts == 1:
        return whole(params, drawn)
    cut = jax.tree.map(lambda a: jnp.moveaxis(a.reshape(-1, parts, *a.shape[1:]), 1, 0), drawn)

    def add(total: Any, part: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, whole(params, part)), None

    shapes = jax.eval_shape(whole, params, jax.tree.map(lambda a: a[0], cut))
    total, _ = jax.lax.scan(add, jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes), cut)
    return jax.tree.map(lambda a: a / parts, total)


def create_state(task: Task, optim: Optim, seed: int | Array) -> TrainState:
    """Make the state at step 0. Call it under jit: there every tree gets buffers of its own, which donation needs.

    Raises ValueError, naming the pattern, for `optim.groups` that do not fit the task's parameters.
    """
    params = task.init(rng.stream(seed, "init"))
    check_groups(optim.groups, params)
    params, frozen = split(params, frozen_names(optim.groups, params))
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        ema=params,
        opt_state=transformation(optim).init(params),
        profiles=(params,) * len(optim.ema_profiles),
        frozen=frozen,
    )


def train_step(
    task: Task, optim: Optim, seed: int | Array, state: TrainState, batch: Any, progress: Array, accumulate: int = 1,
    mesh: Mesh | None = None,
) -> tuple[TrainState, dict[str, Array]]:  # fmt: skip
    """One update of the training state: (the new state, metrics as f32 scalars by name).

    The metrics are the task's, loss, grad_norm, learning_rate (of the parameters of rate 1) and skipped.
    The batch goes through the network in `accumulate` parts; what is drawn for it depends neither on their number nor
    on the devices. Where loss or gradient are not finite, the step is skipped: it is counted, and nothing else changes.
    """
    drawn = task.draw(batch, rng.stream(seed, "train", state.step))
    (loss, metrics), grads = gradient(task, state.params, drawn, accumulate, mesh, state.frozen)
    with jax.numpy_dtype_promotion("standard"):  # optax's bias correction raises a float to an int
        updates, opt_state = transformation(optim).update(grads, state.opt_state, state.params)
    rates, norm = learning_rates(optim, state.step, progress), optax.tree.norm(grads)
    params = descend(optim, rates, state.params, updates)
    ema = average(optim, state.step, state.ema, params)
    profiles = take_in(optim.ema_profiles, state.step, state.profiles, params)
    new = TrainState(state.step, params, ema, opt_state, profiles, state.frozen)
    good = jnp.isfinite(loss) & jnp.isfinite(norm)
    state = jax.tree.map(lambda new, old: jnp.where(good, new, old), new, state)
    skipped = 1.0 - good.astype(jnp.float32)
    metrics = {"loss": loss, **metrics, "grad_norm": norm, "learning_rate": rates[1.0], "skipped": skipped}
    return dataclasses.replace(state, step=state.step + 1), metrics
