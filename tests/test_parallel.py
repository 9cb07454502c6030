"""The mesh, the rule by which a state is cut, and batches."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from gcdiff import parallel


def test_the_rule():
    cut = {shape: parallel.cut(shape, 8) for shape in ((3, 3, 64, 128), (3, 3, 128, 128), (4096,), (12, 4, 999), (64,))}
    assert cut == {
        (3, 3, 64, 128): PartitionSpec(None, None, None, "fsdp"),
        (3, 3, 128, 128): PartitionSpec(None, None, None, "fsdp"),  # the last of the longest
        (4096,): PartitionSpec("fsdp"),
        (12, 4, 999): parallel.WHOLE,  # nothing divides
        (64,): parallel.WHOLE,  # small
    }
    assert parallel.cut((512, 512), 1) == parallel.WHOLE
    assert parallel.cut((1000, 24), 8) == PartitionSpec("fsdp")


def test_sizes_of_the_mesh():
    assert dict(parallel.device_mesh(devices=jax.devices()[:1]).shape) == {"data": 1, "fsdp": 1}
    said = (
        r"^mesh.data is 0 and mesh.fsdp 2, expected a product of 1, the number of devices \(0: what the other leaves\)$"
    )
    with pytest.raises(ValueError, match=said):
        parallel.device_mesh(fsdp=2, devices=jax.devices()[:1])


def test_a_batch_must_be_divisible():
    mesh = jax.sharding.AbstractMesh((4, 2), parallel.AXES)
    with pytest.raises(ValueError, match="^batch 30 is not divisible by 8 devices; the mesh is data 4 x fsdp 2$"):
        parallel.check_divisible(30, mesh)
    with pytest.raises(ValueError, match="^batch 24 is not divisible by 8 devices x 2 parts .train.accumulate.;"):
        parallel.check_divisible(24, mesh, accumulate=2)
    parallel.check_divisible(32, mesh, accumulate=2)
    here = parallel.device_mesh()
    whole = parallel.shard_batch({"x": np.arange(8 * here.size)}, here)["x"]
    np.testing.assert_array_equal(whole, np.arange(8 * here.size))
    assert whole.sharding.shard_shape(whole.shape) == (8,)
