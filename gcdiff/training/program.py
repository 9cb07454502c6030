"""The compiled program of a training step on a mesh: the update, and the votes of the processes."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from gcdiff import parallel
from gcdiff.training.settings import TrainConfig
from gcdiff.training.state import TrainState, train_step
from gcdiff.training.task import Task

GO, PAUSE, SIGNAL = 0.0, 0.5, 1.0
"""What a process votes for: to go on, to stop because the time of this start is over, or because of a signal."""


def update_program(task: Task, settings: TrainConfig, mesh: Mesh, places: Any) -> Any:
    """The jitted function (state, batch, votes, seed) -> (state, metrics), to which the state is donated.

    `votes` float32 (devices, 2) are of each device's process (the share of training that is done, whether it is to
    stop, and why); their maxima come back as the metrics `share` and `stop`, so that all processes decide alike.
    `places` are the shardings of the state.
    """
    one = None if mesh.size == 1 else mesh

    def update(state: TrainState, batch: Any, votes: jax.Array, seed: jax.Array) -> tuple[TrainState, dict]:
        share, stop = votes.max(axis=0)
        state, metrics = train_step(task, settings.optim, seed, state, batch, share, settings.accumulate, one)
        return state, metrics | {"share": share, "stop": stop}

    return jax.jit(update, donate_argnums=0, out_shardings=(places, NamedSharding(mesh, parallel.WHOLE)))


def votes_of(mesh: Mesh, share: float, stop: float) -> jax.Array:
    """This process's part in the common decision, on its devices: the share that is done, and GO, PAUSE or SIGNAL."""
    return parallel.shard_batch(np.full((len(mesh.local_devices), 2), (share, stop), np.float32), mesh)
