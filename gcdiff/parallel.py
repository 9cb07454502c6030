"""Data parallelism on the devices of this process: parameters on every device, the batch cut along its first axis."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def data_mesh() -> Mesh:
    """A mesh over all local devices with the one axis 'data'."""
    devices = jax.local_devices()
    return jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device: parameters, optimiser state, metrics."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The first axis cut into equal parts, one per device."""
    return NamedSharding(mesh, PartitionSpec("data"))


def check_divisible(batch: int, devices: int) -> None:
    """Raise ValueError if `batch` examples cannot be cut into equal parts for `devices` devices."""
    if batch % devices:
        raise ValueError(f"batch {batch} is not divisible by {devices} devices")


def shard_batch(batch: Any, mesh: Mesh) -> Any:
    """Put a pytree of numpy arrays, batch first, on the devices; the copy runs while the host goes on."""
    for size in {np.shape(leaf)[0] for leaf in jax.tree.leaves(batch)}:
        check_divisible(size, mesh.size)
    return jax.device_put(batch, batch_sharding(mesh))
