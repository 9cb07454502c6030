"""Row-wise functions of (..., K) arrays, block of pixels by block of pixels.

A formula over K classes leaves temporaries the size of the logits behind for every step that XLA does not fuse. Over
blocks that fit a cache they cost next to nothing, and the arithmetic is several times faster.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

BLOCK_ELEMENTS = 2**18
"""Numbers per block, counted over the whole batch: a megabyte, which stays in a CPU's cache."""


def map_pixels(kernel: Callable, logits: Array, *maps: Array) -> tuple[Array, ...]:
    """Apply `kernel` to blocks of pixels; the result is what one call on everything would return.

    Args:
      kernel: (logits (b, n, K) float32, *maps (b, n)) -> tuple of (b, n) arrays, each pixel by itself.
      logits: (..., K), any float dtype.
      maps: one number per pixel, broadcastable to logits.shape[:-1].

    Returns:
      The kernel's outputs, each of shape logits.shape[:-1].
    """
    shape = logits.shape[:-1]
    # Blocks cut the pixels of all examples at once: cutting the batch would gather it where devices share it.
    grid = (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, math.prod(shape))
    arrays = (logits.reshape(*grid, logits.shape[-1]), *(jnp.broadcast_to(m, shape).reshape(grid) for m in maps))
    length = max(1, BLOCK_ELEMENTS // max(1, grid[0] * logits.shape[-1]))
    outputs = _whole(kernel, arrays) if grid[1] <= length else _blocks(kernel, arrays, grid, length)
    return tuple(out.reshape(shape) for out in outputs)


def _whole(kernel: Callable, arrays: tuple[Array, ...]) -> tuple[Array, ...]:
    return kernel(arrays[0].astype(jnp.float32), *arrays[1:])


def _blocks(kernel: Callable, arrays: tuple[Array, ...], grid: tuple[int, int], length: int) -> tuple[Array, ...]:
    def block(start):
        return _whole(kernel, tuple(lax.dynamic_slice_in_dim(a, start, length, axis=1) for a in arrays))

    def body(index, outputs):
        start = jnp.minimum(index * length, grid[1] - length)  # the last block overlaps: padding would copy the logits
        return tuple(
            lax.dynamic_update_slice_in_dim(whole, part, start, axis=1)
            for whole, part in zip(outputs, block(start), strict=True)
        )

    empty = tuple(jnp.zeros(grid, out.dtype) for out in jax.eval_shape(block, 0))
    return lax.fori_loop(0, -(-grid[1] // length), body, empty)
