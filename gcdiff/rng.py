"""Random numbers: root seed -> stream name -> step -> example. No key is ever stored in a state.

`stream` names what the numbers are for, so that two uses never share a key; `per_example` gives every example a key
that depends on its own id alone, so that a sample does not depend on its batch, its position or the devices.
"""

from __future__ import annotations

import zlib

import jax
import jax.numpy as jnp
from jaxtyping import Array


def stream(seed: int | Array, name: str, step: int | Array = 0) -> Array:
    """The key of stream `name` at `step`. `seed` and `step` may be traced."""
    key = jax.random.key(jnp.asarray(seed, jnp.uint32))
    return jax.random.fold_in(jax.random.fold_in(key, zlib.crc32(name.encode())), step)


def per_example(key: Array, ids: Array) -> Array:
    """Keys (B,) of examples `ids` (B,), each a function of `key` and its own id."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.asarray(ids, jnp.uint32))
