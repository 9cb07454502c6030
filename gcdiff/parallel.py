"""Several devices: the mesh with the axes data and fsdp, and how batches and states are cut over it.

A batch is cut along its first axis over all devices. Parameters, optimiser state and averages are whole on every device
along `data` and cut along `fsdp`, each array along one axis (`cut_axis`: the one rule). Devices stand in the order of
their processes, so that a process's devices hold the rows that it has read, in their order.

In training a step works on its device's part of the batch and adds up gradients (`gcdiff.training.state`). In sampling
each device works on a chunk of its own: the program of one chunk, whatever their number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXES = ("data", "fsdp")
BATCH, WHOLE = PartitionSpec(AXES), PartitionSpec()
"""What is cut along its first axis over all devices, and what every device has in whole."""
GROUP = 4
"""How many examples a CPU computes at a time in sampling; see `on_each_in_groups`."""
SMALL = 4096
"""Arrays of fewer elements are never cut: biases and norms are not worth the exchange."""


def device_mesh(data: int = 0, fsdp: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
    """The mesh of `data` x `fsdp` devices, by default of all; one size may be 0 and follows from the other.

    Raises ValueError, with the numbers, unless the product is the number of devices.
    """
    devices = sorted(jax.devices() if devices is None else devices, key=lambda d: (d.process_index, d.id))
    count = len(devices)
    sizes = (data or count // (fsdp or 1), fsdp or count // (data or count))
    if math.prod(sizes) != count:
        said = f"mesh.data is {data} and mesh.fsdp {fsdp}"
        raise ValueError(f"{said}, expected a product of {count}, the number of devices (0: what the other leaves)")
    return Mesh(np.array(devices).reshape(sizes), AXES, axis_types=(AxisType.Auto,) * 2)


def chunk_mesh(devices: Sequence[Any] | None = None) -> Mesh | None:
    """The mesh for sampling and evaluation, by default of all devices; None for a single one, where nothing is cut."""
    mesh = device_mesh(devices=devices)
    return mesh if mesh.size > 1 else None


def cut_axis(shape: Sequence[int], parts: int) -> int | None:
    """The axis along which an array is cut into `parts`; None for an array that is `SMALL` or has no such axis.

    It is the longest axis that `parts` divides, and the last of equally long ones.

    >>> from gcdiff.parallel import cut_axis
    >>> cut_axis((3, 3, 128, 256), parts=8), cut_axis((128,), parts=8)
    (3, None)
    """
    fitting = [axis for axis, size in enumerate(shape) if size % parts == 0]
    if parts == 1 or math.prod(shape) < SMALL or not fitting:
        return None
    return max(fitting, key=lambda axis: (shape[axis], axis))


def cut(shape: Sequence[int], parts: int) -> PartitionSpec:
    """The PartitionSpec over the axis fsdp of an array that is cut along its `cut_axis`."""
    axis = cut_axis(shape, parts)
    return WHOLE if axis is None else PartitionSpec(*[None] * axis, AXES[1])


def state_shardings(tree: Any, mesh: Mesh) -> Any:
    """The shardings of a training state, a pytree whose leaves have a shape: cut along fsdp by `cut_axis`."""
    return jax.tree.map(lambda leaf: NamedSharding(mesh, cut(leaf.shape, mesh.shape[AXES[1]])), tree)


def put_together(part: jax.Array, spec: PartitionSpec) -> jax.Array:
    """Within `on_each`: gather the whole array from the parts on the devices along fsdp."""
    return part if spec == WHOLE else jax.lax.all_gather(part, AXES[1], axis=len(spec) - 1, tiled=True)


def mean_of_part(array: jax.Array, spec: PartitionSpec) -> jax.Array:
    """Within `on_each`: the mean over all devices of arrays that each has in whole, cut along fsdp as `spec` says."""
    if spec == WHOLE:
        return jax.lax.pmean(array, AXES)
    part = jax.lax.psum_scatter(array, AXES[1], scatter_dimension=len(spec) - 1, tiled=True)
    return jax.lax.pmean(part, AXES[0]) / jax.lax.axis_size(AXES[1])


def check_divisible(batch: int, mesh: Mesh, accumulate: int = 1) -> None:
    """Raise ValueError, with the numbers, unless devices x `accumulate` equal parts make up `batch` examples."""
    if batch % (mesh.size * accumulate):
        cut_into = f"{mesh.size} devices" + (f" x {accumulate} parts (train.accumulate)" if accumulate > 1 else "")
        shape = " x ".join(f"{name} {size}" for name, size in mesh.shape.items())
        raise ValueError(f"batch {batch} is not divisible by {cut_into}; the mesh is {shape}")


def shard_batch(batch: Any, mesh: Mesh) -> Any:
    """Put a batch on the devices: every process gives its own share, a pytree of numpy arrays, batch first.

    The copy to the devices runs while the host goes on.
    """
    for size in {np.shape(leaf)[0] for leaf in jax.tree.leaves(batch)}:
        check_divisible(size * jax.process_count(), mesh)
    sharding = NamedSharding(mesh, BATCH)
    if jax.process_count() == 1:
        return jax.device_put(batch, sharding)
    return jax.tree.map(lambda a: jax.make_array_from_process_local_data(sharding, a), batch)


def place(tree: Any, mesh: Mesh | None, spec: PartitionSpec) -> Any:
    """Put arrays that every process holds alike on the devices, cut (`BATCH`) or whole (`WHOLE`).

    Random keys may be among them. Without a mesh they are left where they are.
    """
    if mesh is None:
        return tree
    sharding = NamedSharding(mesh, spec)
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)

    def one(array: Any) -> jax.Array:
        if isinstance(array, jax.Array) and jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(one(jax.random.key_data(array)), impl=jax.random.key_impl(array))
        host = np.asarray(array)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    return jax.tree.map(one, tree)


def to_host(tree: Any) -> Any:
    """Gather whole arrays as numpy arrays on every process. All processes must call it."""

    def one(array: Any) -> np.ndarray:
        if isinstance(array, jax.Array) and not (array.is_fully_addressable or array.is_fully_replicated):
            return np.asarray(multihost_utils.process_allgather(array, tiled=True))
        return np.asarray(array)

    return jax.tree.map(one, tree)


def on_each(mesh: Mesh | None, function: Callable, arguments: Any, results: Any) -> Callable:
    """The function that runs `function` on every device with the device's own rows; `function` itself without a mesh.

    `arguments` is a tuple with a PartitionSpec, or a pytree prefix of them, for each argument, `results` the same for
    the result: `BATCH` for arrays that are cut, `WHOLE` for those that every device has or makes alike.
    """
    if mesh is None:
        return function
    return jax.shard_map(function, mesh=mesh, in_specs=arguments, out_specs=results, check_vma=False)


def on_each_in_groups(mesh: Mesh | None, function: Callable, arguments: Any, results: Any) -> Callable:
    """`on_each` for a function of independent examples, with results that do not depend on the size of the chunk.

    An example's result is the same bit for bit in a chunk of any multiple of GROUP.

    The kernels of a CPU add up in an order that depends on how many rows there are: it computes GROUP examples at a
    time. Accelerators take a chunk at once, and promise no such equality.
    """

    def grouped(*values: Any) -> Any:
        rows = max(leaf.shape[0] for spec, leaf in _with_specs(arguments, values) if spec == BATCH)
        if rows <= GROUP or rows % GROUP:
            return function(*values)
        return jax.lax.platform_dependent(*values, cpu=mapped, default=function)

    def mapped(*values: Any) -> Any:
        leaves, tree = jax.tree.flatten(values)
        cut = [spec == BATCH for spec, _ in _with_specs(arguments, values)]

        def group(part: list) -> Any:
            rest = iter(part)
            return function(*tree.unflatten([next(rest) if c else leaf for c, leaf in zip(cut, leaves, strict=True)]))

        parts = [leaf.reshape(-1, GROUP, *leaf.shape[1:]) for c, leaf in zip(cut, leaves, strict=True) if c]
        out = jax.lax.map(group, parts)
        joined = [a.reshape(-1, *a.shape[2:]) if spec == BATCH else a[0] for spec, a in _with_specs(results, out)]
        return jax.tree.unflatten(jax.tree.structure(out), joined)

    return on_each(mesh, grouped, arguments, results)


def _with_specs(specs: Any, tree: Any) -> list[tuple[PartitionSpec, Any]]:
    """The leaves of a tree with their specs, of which `specs` is a pytree prefix."""
    pairs: list[tuple[PartitionSpec, Any]] = []

    def enter(spec: PartitionSpec, part: Any) -> None:
        pairs.extend((spec, leaf) for leaf in jax.tree.leaves(part))

    jax.tree.map(enter, specs, tree, is_leaf=lambda x: isinstance(x, PartitionSpec))
    return pairs
